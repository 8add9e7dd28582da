//! Rebuilding the archive of an installed version that no source has any more: same files, scripts and fields,
//! not the vendor's bytes. Configuration files are taken as they are on the host. Files that are one under several names
//! are so in the archive.
//!
//! No archive of dpkg's carries extended attributes, so none carries capabilities: a maintainer script sets those, or an undo
//! restores them from the preimage.

use super::PackagesError;
use super::tool::{self, words};
use crate::preimage::Held;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Fields of `status` that are dpkg's own and not of the archive.
const STATUS_ONLY: &[&str] =
    &["Status", "Conffiles", "Config-Version", "Triggers-Pending", "Triggers-Awaited"];
/// What `info/` holds beside an archive's own control files.
const NOT_CONTROL: &[&str] = &["list", "md5sums-new"];

/// Builds `target` from what is installed below `root`.
pub(super) fn rebuild(
    root: &Path,
    name: &str,
    architecture: &str,
    version: &str,
    target: &Path,
) -> Result<(), PackagesError> {
    let aside = target.with_extension("rebuild");
    let _ = fs::remove_dir_all(&aside);
    let built = assemble(root, name, architecture, version, &aside).and_then(|()| {
        let deb = target.with_extension("part");
        let mut arguments = words(&["--build", "-Zgzip", "-z1"]);
        arguments.extend([aside.display().to_string(), deb.display().to_string()]);
        tool::stdout("/usr/bin/dpkg-deb", &arguments, Path::new("/"))?;
        fs::rename(&deb, target).map_err(failed("keep", target))
    });
    let _ = fs::remove_dir_all(&aside);
    built
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PackagesError {
    let path = path.to_owned();
    move |source| PackagesError::File { what, path, source }
}

fn assemble(
    root: &Path,
    name: &str,
    architecture: &str,
    version: &str,
    aside: &Path,
) -> Result<(), PackagesError> {
    let control = aside.join("DEBIAN");
    fs::create_dir_all(&control).map_err(failed("make", &control))?;
    let status = root.join("var/lib/dpkg/status");
    let text = fs::read(&status).map_err(failed("read", &status))?;
    let text = String::from_utf8_lossy(&text);
    let wanted = |p: &&str| {
        let field = |key: &str| p.lines().find_map(|l| l.strip_prefix(key)).map(str::trim);
        field("Package:") == Some(name)
            && field("Architecture:") == Some(architecture)
            && field("Version:") == Some(version)
    };
    let paragraph = text.split("\n\n").find(wanted).ok_or_else(|| PackagesError::NoArchive {
        name: name.to_owned(),
        version: version.to_owned(),
        why: "this version is not installed".to_owned(),
    })?;
    let path = control.join("control");
    fs::write(&path, fields(paragraph)).map_err(failed("write", &path))?;

    let info = root.join("var/lib/dpkg/info");
    let prefixes = [format!("{name}:{architecture}."), format!("{name}.")];
    for entry in fs::read_dir(&info).map_err(failed("read", &info))?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(kind) = prefixes.iter().find_map(|p| file.strip_prefix(p.as_str())) else {
            continue;
        };
        // `libc6.list` must not match `libc`: what follows the prefix is one word.
        if kind.contains('.') || NOT_CONTROL.contains(&kind) {
            continue;
        }
        fs::copy(entry.path(), control.join(kind)).map_err(failed("copy", &entry.path()))?;
    }

    let list = prefixes.iter().map(|p| info.join(format!("{p}list"))).find(|p| p.exists());
    let list = list.unwrap_or_else(|| info.join(format!("{name}.list")));
    let files = fs::read_to_string(&list).map_err(failed("read", &list))?;
    let mut linked = Linked::new();
    for path in files.lines().filter(|l| l.starts_with('/') && *l != "/.") {
        copy_in(root, path, aside, &mut linked)?;
    }
    Ok(())
}

/// The paragraph without dpkg's own fields and their continuation lines.
fn fields(paragraph: &str) -> String {
    let mut out = String::new();
    let mut skipping = false;
    for line in paragraph.lines() {
        if !line.starts_with([' ', '\t']) {
            let key = line.split(':').next().unwrap_or_default();
            skipping = STATUS_ONLY.contains(&key);
        }
        if !skipping {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Files that have several names, by device and inode, with the first name that was copied.
type Linked = BTreeMap<(u64, u64), PathBuf>;

/// Copies one path of the package; where another package diverted it, the diverted file is the package's own.
fn copy_in(
    root: &Path,
    path: &str,
    aside: &Path,
    linked: &mut Linked,
) -> Result<(), PackagesError> {
    let truename =
        tool::stdout("/usr/bin/dpkg-divert", &words(&["--truename", path]), Path::new("/"))
            .map_or_else(|_| path.to_owned(), |text| text.trim().to_owned());
    let relative = |p: &str| PathBuf::from(p.trim_start_matches('/'));
    let from = root.join(relative(&truename));
    let to = aside.join(relative(path));
    // An administrator may have removed documentation or translations: dpkg does not mind, nor do we.
    let Ok(Some(held)) = Held::of(&from) else { return Ok(()) };
    let meta = held.metadata();
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(failed("make", parent))?;
    }
    if meta.is_dir() {
        fs::create_dir_all(&to).map_err(failed("make", &to))?;
    } else if meta.is_symlink() {
        let target = held.target().map_err(failed("read", &from))?;
        // A directory of the package that is a link on the host (merged /usr) is the package's directory still.
        if from.is_dir() {
            fs::create_dir_all(&to).map_err(failed("make", &to))?;
            return Ok(());
        }
        std::os::unix::fs::symlink(target, &to).map_err(failed("write", &to))?;
        return Ok(());
    } else if meta.is_file() {
        if meta.nlink() > 1 {
            let inode = (meta.dev(), meta.ino());
            if let Some(first) = linked.get(&inode) {
                return fs::hard_link(first, &to).map_err(failed("write", &to));
            }
            linked.insert(inode, to.clone());
        }
        // What was looked at, whoever takes its name meanwhile.
        let copied = held.open().and_then(|mut from| io::copy(&mut from, &mut File::create(&to)?));
        copied.map_err(failed("copy", &from))?;
    } else {
        return Ok(());
    }
    std::os::unix::fs::chown(&to, Some(meta.uid()), Some(meta.gid()))
        .map_err(failed("write", &to))?;
    fs::set_permissions(&to, fs::Permissions::from_mode(meta.mode() & 0o7777))
        .map_err(failed("write", &to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_several_names_is_one_in_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let info = root.join("var/lib/dpkg/info");
        fs::create_dir_all(&info).unwrap();
        fs::create_dir_all(root.join("opt/x")).unwrap();
        let status = "Package: fettle-x\nStatus: install ok installed\nMaintainer: x <x@x.example>\n\
                      Architecture: all\nVersion: 1\nDescription: x\n\n";
        fs::write(root.join("var/lib/dpkg/status"), status).unwrap();
        fs::write(info.join("fettle-x.list"), "/.\n/opt\n/opt/x\n/opt/x/a\n/opt/x/b\n/opt/x/c\n")
            .unwrap();
        fs::write(root.join("opt/x/a"), "one").unwrap();
        fs::hard_link(root.join("opt/x/a"), root.join("opt/x/b")).unwrap();
        // A second name that is nobody's.
        fs::write(root.join("opt/x/c"), "two").unwrap();
        fs::hard_link(root.join("opt/x/c"), root.join("opt/x/d")).unwrap();
        let target = dir.path().join("x.deb");
        rebuild(&root, "fettle-x", "all", "1", &target).unwrap();
        let arguments = ["--contents".to_owned(), target.display().to_string()];
        let told = tool::stdout("/usr/bin/dpkg-deb", &arguments, Path::new("/")).unwrap();
        assert!(told.contains("./opt/x/b link to ./opt/x/a"), "{told}");
        assert_eq!(told.matches(" link to ").count(), 1, "{told}");
        assert!(told.contains("./opt/x/c") && !told.contains("./opt/x/d"), "{told}");
    }

    #[test]
    fn only_the_archive_s_own_fields_stay() {
        let paragraph = "Package: x\nStatus: install ok installed\nConffiles:\n /etc/x abc\n /etc/y def\nVersion: 1\nDescription: x\n more";
        assert_eq!(fields(paragraph), "Package: x\nVersion: 1\nDescription: x\n more\n");
    }
}
