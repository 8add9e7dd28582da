//! Programs of the host's own that root runs: hooks, probes, tests. Whoever can write one, or a directory or a link on the
//! way to it, would be root; so nobody but root may, or it is not run.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows (`path_resolution(7)`).
const MOST_LINKS: usize = 40;
const WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Why root does not run a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {what}: `{mend}`", .path.display())]
pub struct Untrusted {
    /// What is wrong: the program itself, or what stands on the way to it.
    pub path: PathBuf,
    /// What is wrong with it.
    what: String,
    /// What to type.
    pub mend: String,
}

impl Untrusted {
    fn new(path: &Path, what: impl Into<String>, mend: &str) -> Self {
        let mend = format!("{mend} {}", path.display());
        Self { path: path.to_owned(), what: what.into(), mend }
    }

    /// What is wrong with what, without what to do.
    pub fn reason(&self) -> String {
        format!("{} {}", self.path.display(), self.what)
    }
}

/// May root run this program?
///
/// # Errors
/// What stands against it: it cannot be run, or somebody else has, or could take, a hand in it.
pub fn program(path: &Path) -> Result<(), Untrusted> {
    if let Some(parent) = path.parent() {
        directory(parent)?;
    }
    let found = walk(path)?;
    if !found.is_file() || found.mode() & 0o100 == 0 {
        return Err(Untrusted::new(path, "is no program", "chmod 755"));
    }
    Ok(())
}

/// Can nobody but root put a program into this directory, or take one away? One that is not there has none.
///
/// # Errors
/// What stands against it.
pub fn directory(path: &Path) -> Result<(), Untrusted> {
    if fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(());
    }
    let found = walk(path)?;
    // Where all may write, and each only their own, a name can be taken before root takes it.
    owned(path, &found, false)
}

/// Follows a path one name after the other, as the kernel would, and judges all that it comes through.
fn walk(path: &Path) -> Result<Metadata, Untrusted> {
    let unseen = |at: &Path, e: std::io::Error| {
        Untrusted::new(at, format!("cannot be looked at ({e})"), "ls -ld")
    };
    let mut rest: Vec<OsString> = names(&std::path::absolute(path).map_err(|e| unseen(path, e))?);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    let mut found = fs::symlink_metadata(&at).map_err(|e| unseen(&at, e))?;
    owned(&at, &found, true)?;
    while let Some(name) = rest.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        found = fs::symlink_metadata(&next).map_err(|e| unseen(&next, e))?;
        if !found.is_symlink() {
            owned(&next, &found, found.is_dir())?;
            at = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(Untrusted::new(&next, "is a link that leads nowhere", "ls -l"));
        }
        // A link has no mode, and no other owner than who made it.
        by_root(&next, &found, "chown -h root")?;
        let target = fs::read_link(&next).map_err(|e| unseen(&next, e))?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        rest.extend(names(&target));
    }
    // After a last `..` what was looked at is not where it ended.
    fs::symlink_metadata(&at).map_err(|e| unseen(&at, e))
}

/// The names of a path, last one first.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

/// `shared`: a directory such as `/tmp`, in which all may write and each can take away only their own, will do.
fn owned(path: &Path, found: &Metadata, shared: bool) -> Result<(), Untrusted> {
    by_root(path, found, "chown root")?;
    let shared = shared && found.mode() & STICKY != 0;
    if found.mode() & WRITE != 0 && !shared {
        return Err(Untrusted::new(path, "can be written by others", "chmod go-w"));
    }
    Ok(())
}

/// Where the agent is not root, nobody but root and it.
fn by_root(path: &Path, found: &Metadata, mend: &str) -> Result<(), Untrusted> {
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != 0 && found.uid() != own {
        return Err(Untrusted::new(path, "belongs to somebody else", mend));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    struct List(tempfile::TempDir);

    impl List {
        fn new() -> Self {
            let it = Self(tempfile::tempdir().unwrap());
            fs::create_dir(it.at("tests.d")).unwrap();
            it.mode("tests.d", 0o755);
            it.write("tests.d/shop");
            it
        }
        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }
        fn mode(&self, path: &str, mode: u32) {
            fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        fn write(&self, path: &str) {
            fs::write(self.at(path), "#!/bin/sh\n").unwrap();
            self.mode(path, 0o755);
        }
        fn said(&self, path: &str) -> String {
            let at = self.0.path().display().to_string() + "/";
            program(&self.at(path)).map_or_else(|e| e.to_string().replace(&at, ""), |()| "".into())
        }
    }

    #[test]
    fn a_program_is_run_only_where_nobody_but_root_can_write_it_or_its_directory() {
        let list = List::new();
        assert_eq!(list.said("tests.d/shop"), "");
        for (path, mode, said) in [
            ("tests.d/shop", 0o775, "tests.d/shop can be written by others: `chmod go-w "),
            ("tests.d/shop", 0o757, "tests.d/shop can be written by others"),
            ("tests.d/shop", 0o644, "tests.d/shop is no program: `chmod 755 tests.d/shop`"),
            ("tests.d", 0o777, "tests.d can be written by others: `chmod go-w tests.d`"),
            ("tests.d", 0o1777, "tests.d can be written by others"),
        ] {
            list.mode(path, mode);
            let found = list.said("tests.d/shop");
            assert!(found.starts_with(said), "{found}");
            list.mode(path, 0o755);
        }
        assert_eq!(list.said("tests.d/shop"), "");
        assert!(list.said("tests.d/gone").contains("cannot be looked at"));
        assert!(list.said("tests.d").contains("is no program"));
        assert_eq!(directory(&list.at("nowhere")), Ok(()), "what is not there has no programs");
        list.mode("tests.d", 0o775);
        assert!(directory(&list.at("tests.d")).is_err());
    }

    #[test]
    fn a_program_of_somebody_else_or_below_a_directory_of_somebody_else_is_not_run() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: giving files away needs root");
            return;
        }
        let list = List::new();
        for path in ["tests.d/shop", "tests.d", ""] {
            chown(list.at(path), Some(65534), None).unwrap();
            let found = list.said("tests.d/shop");
            assert!(found.contains("belongs to somebody else: `chown root "), "{path}: {found}");
            chown(list.at(path), Some(0), None).unwrap();
        }
        assert_eq!(list.said("tests.d/shop"), "");
    }

    #[test]
    fn a_link_is_judged_with_all_that_it_leads_through() {
        let list = List::new();
        for directory in ["safe", "open"] {
            fs::create_dir(list.at(directory)).unwrap();
            list.mode(directory, 0o755);
            list.write(&format!("{directory}/program"));
        }
        symlink("../safe/program", list.at("tests.d/near")).unwrap();
        symlink(list.at("safe/program"), list.at("tests.d/far")).unwrap();
        symlink(list.at("safe/program"), list.at("open/between")).unwrap();
        symlink("../open/between", list.at("tests.d/through")).unwrap();
        symlink("round", list.at("tests.d/round")).unwrap();
        for good in ["tests.d/near", "tests.d/far", "tests.d/through"] {
            assert_eq!(list.said(good), "", "{good}");
        }
        list.mode("open", 0o777);
        assert!(list.said("tests.d/through").starts_with("open can be written by others"));
        assert_eq!(list.said("tests.d/far"), "");
        list.mode("safe", 0o770);
        assert!(list.said("tests.d/far").starts_with("safe can be written by others"));
        assert!(list.said("tests.d/round").contains("leads nowhere"));
        if rustix::process::geteuid().is_root() {
            list.mode("safe", 0o755);
            lchown(list.at("tests.d/near"), Some(65534), None).unwrap();
            let found = list.said("tests.d/near");
            assert!(
                found.starts_with("tests.d/near belongs to somebody else: `chown -h"),
                "{found}"
            );
        }
    }
}
