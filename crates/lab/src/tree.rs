//! A whole file tree as hashes, and how two of them differ.
//!
//! [`snapshot`] of a host's root before and after a change, and [`diff`] of the two, say whether an
//! undo was exact: content, kind, mode, owner, extended attributes (which hold ACLs and
//! capabilities), link targets and hard links all count. Modification times are kept apart.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::LabError;

/// Left out of a snapshot of a host unless asked for: kernel file systems, what lives in memory,
/// and logs.
pub const NOT_STATE: &[&str] = &["/proc", "/sys", "/dev", "/run", "/tmp", "/var/log"];

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file, with the hash of its content.
    File {
        /// Bytes in it.
        size: u64,
        /// SHA-256 of them.
        sha256: [u8; 32],
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Link {
        /// Where it points.
        target: PathBuf,
    },
    /// A device, pipe or socket.
    Special {
        /// Its type as in `ls`: `b`, `c`, `p`, `s`.
        letter: char,
        /// Device number.
        device: u64,
    },
}

/// One path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permissions, with set-uid and the like.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// First path, in order, of the file this one is a hard link of; `None` for the only name.
    pub linked: Option<PathBuf>,
    /// When it was modified: seconds and nanoseconds since 1970. Not compared by [`diff`].
    pub modified: (i64, i64),
}

/// All paths under a root, relative to it with a leading `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// The entries by path.
    pub entries: BTreeMap<PathBuf, Entry>,
}

/// In what an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// It is of another kind.
    Kind,
    /// Content of a file, target of a link, number of a device.
    Content,
    /// Permissions.
    Mode,
    /// Owner or group.
    Owner,
    /// Extended attributes.
    Xattrs,
    /// Which other names the file has.
    HardLinks,
}

/// How a path differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only in the second.
    Added,
    /// Only in the first.
    Removed,
    /// In both, but not the same.
    Changed(Vec<Aspect>),
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which path.
    pub path: PathBuf,
    /// How.
    pub change: Change,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        match &self.change {
            Change::Added => write!(f, "{path}: new"),
            Change::Removed => write!(f, "{path}: gone"),
            Change::Changed(aspects) => write!(f, "{path}: other {aspects:?}"),
        }
    }
}

/// Reads the whole tree at `root`, without the paths in `excludes` (as seen in the tree, such as
/// `/var/log`) and all below them. What vanishes while it is read is left out.
pub fn snapshot<P: AsRef<Path>>(root: &Path, excludes: &[P]) -> Result<Tree, LabError> {
    let excludes: Vec<&Path> = excludes.iter().map(AsRef::as_ref).collect();
    let mut found: Vec<(PathBuf, fs::Metadata)> = Vec::new();
    walk(root, Path::new("/"), &excludes, &mut found)?;
    found.sort_by(|a, b| a.0.cmp(&b.0));

    let mut first: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let linked: Vec<Option<PathBuf>> = found
        .iter()
        .map(|(path, meta)| {
            let several = !meta.is_dir() && meta.nlink() > 1;
            several.then(|| {
                first.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone()).clone()
            })
        })
        .collect();

    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let part = found.len().div_ceil(threads).max(1);
    let read = |part: &[(PathBuf, fs::Metadata)]| -> Result<Vec<Option<Entry>>, LabError> {
        part.iter().map(|(path, meta)| entry(root, path, meta)).collect()
    };
    let parts: Vec<Vec<Option<Entry>>> = std::thread::scope(|scope| {
        let running: Vec<_> =
            found.chunks(part).map(|part| scope.spawn(move || read(part))).collect();
        let joined = running.into_iter().map(|thread| match thread.join() {
            Ok(entries) => entries,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect::<Result<_, LabError>>()
    })?;
    let entries = found
        .into_iter()
        .zip(linked)
        .zip(parts.into_iter().flatten())
        .filter_map(|(((path, _), linked), entry)| Some((path, Entry { linked, ..entry? })))
        .collect();
    Ok(Tree { entries })
}

/// How `after` differs from `before`, by path. Times and the sizes of directories do not count.
pub fn diff(before: &Tree, after: &Tree) -> Vec<Difference> {
    let mut found = Vec::new();
    for (path, old) in &before.entries {
        let change = match after.entries.get(path) {
            None => Change::Removed,
            Some(new) => match aspects(old, new) {
                aspects if aspects.is_empty() => continue,
                aspects => Change::Changed(aspects),
            },
        };
        found.push(Difference { path: path.clone(), change });
    }
    for path in after.entries.keys().filter(|path| !before.entries.contains_key(*path)) {
        found.push(Difference { path: path.clone(), change: Change::Added });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn aspects(old: &Entry, new: &Entry) -> Vec<Aspect> {
    let mut found = Vec::new();
    if std::mem::discriminant(&old.kind) != std::mem::discriminant(&new.kind) {
        found.push(Aspect::Kind);
    } else if old.kind != new.kind {
        found.push(Aspect::Content);
    }
    if old.mode != new.mode {
        found.push(Aspect::Mode);
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        found.push(Aspect::Owner);
    }
    if old.xattrs != new.xattrs {
        found.push(Aspect::Xattrs);
    }
    if old.linked != new.linked {
        found.push(Aspect::HardLinks);
    }
    found
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn walk(
    root: &Path,
    path: &Path,
    excludes: &[&Path],
    found: &mut Vec<(PathBuf, fs::Metadata)>,
) -> Result<(), LabError> {
    let real = inside(root, path);
    let meta = match fs::symlink_metadata(&real) {
        Ok(meta) => meta,
        Err(error) if gone(&error) && path != Path::new("/") => return Ok(()),
        Err(error) => return Err(LabError::io("read", &real)(error)),
    };
    let directory = meta.is_dir();
    found.push((path.to_path_buf(), meta));
    if !directory {
        return Ok(());
    }
    let entries = match fs::read_dir(&real) {
        Ok(entries) => entries,
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(LabError::io("list", &real)(error)),
    };
    for entry in entries {
        let path = path.join(entry.map_err(LabError::io("list", &real))?.file_name());
        if !excludes.contains(&path.as_path()) {
            walk(root, &path, excludes, found)?;
        }
    }
    Ok(())
}

/// Reads one entry; `None` when it vanished meanwhile.
fn entry(root: &Path, path: &Path, meta: &fs::Metadata) -> Result<Option<Entry>, LabError> {
    let real = inside(root, path);
    let read = || -> io::Result<Entry> {
        Ok(Entry {
            kind: kind(&real, meta)?,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            xattrs: xattrs(&real)?,
            linked: None,
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    };
    match read() {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(LabError::io("read", &real)(error)),
    }
}

fn kind(real: &Path, meta: &fs::Metadata) -> io::Result<Kind> {
    let kind = meta.file_type();
    if kind.is_file() {
        let mut file = fs::File::open(real)?;
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            size += count as u64;
        }
        return Ok(Kind::File { size, sha256: hash.finalize().into() });
    }
    if kind.is_dir() {
        return Ok(Kind::Directory);
    }
    if kind.is_symlink() {
        return Ok(Kind::Link { target: fs::read_link(real)? });
    }
    let letter = if kind.is_block_device() {
        'b'
    } else if kind.is_char_device() {
        'c'
    } else if kind.is_fifo() {
        'p'
    } else {
        's'
    };
    Ok(Kind::Special { letter, device: meta.rdev() })
}

fn xattrs(real: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let names = match growing(|buffer| rustix::fs::llistxattr(real, buffer)) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(found),
        names => names?,
    };
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let shown = std::ffi::OsStr::from_bytes(name);
        let value = growing(|buffer| rustix::fs::lgetxattr(real, shown, buffer))?;
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

/// Reads into a small buffer, and into one of the size the kernel allows at most if that was not
/// enough.
fn growing(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut small = [0; 512];
    match read(&mut small) {
        Ok(size) => Ok(small[..size].to_vec()),
        Err(rustix::io::Errno::RANGE) => {
            let mut large = vec![0; 64 * 1024];
            let size = read(&mut large)?;
            large.truncate(size);
            Ok(large)
        }
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("etc/app")).unwrap();
        fs::create_dir_all(root.join("var/log")).unwrap();
        fs::write(root.join("etc/app/conf"), "a=1\n").unwrap();
        fs::write(root.join("etc/app/one"), "same").unwrap();
        fs::hard_link(root.join("etc/app/one"), root.join("etc/app/two")).unwrap();
        symlink("conf", root.join("etc/app/link")).unwrap();
        fs::write(root.join("var/log/x"), "1").unwrap();
        dir
    }

    fn differences(change: impl FnOnce(&Path)) -> Vec<String> {
        let dir = sample();
        let before = snapshot(dir.path(), NOT_STATE).unwrap();
        change(dir.path());
        let after = snapshot(dir.path(), NOT_STATE).unwrap();
        diff(&before, &after).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_untouched_tree_does_not_differ() {
        assert!(differences(|_| {}).is_empty());
    }

    #[test]
    fn what_is_excluded_may_differ() {
        assert!(differences(|root| fs::write(root.join("var/log/y"), "2").unwrap()).is_empty());
    }

    #[test]
    fn a_rewritten_file_with_the_same_content_is_the_same() {
        assert!(
            differences(|root| fs::write(root.join("etc/app/conf"), "a=1\n").unwrap()).is_empty()
        );
    }

    #[test]
    fn each_aspect_of_a_change_is_seen() {
        let conf = |root: &Path| root.join("etc/app/conf");
        assert_eq!(
            differences(|root| fs::write(conf(root), "a=2\n").unwrap()),
            ["/etc/app/conf: other [Content]"]
        );
        assert_eq!(
            differences(
                |root| fs::set_permissions(conf(root), fs::Permissions::from_mode(0o600)).unwrap()
            ),
            ["/etc/app/conf: other [Mode]"]
        );
        assert_eq!(
            differences(|root| {
                fs::remove_file(conf(root)).unwrap();
                fs::write(root.join("etc/app/new"), "").unwrap();
            }),
            ["/etc/app/conf: gone", "/etc/app/new: new"]
        );
        assert_eq!(
            differences(|root| {
                fs::remove_file(root.join("etc/app/link")).unwrap();
                symlink("one", root.join("etc/app/link")).unwrap();
            }),
            ["/etc/app/link: other [Content]"]
        );
        assert_eq!(
            differences(|root| {
                fs::remove_file(root.join("etc/app/link")).unwrap();
                fs::write(root.join("etc/app/link"), "a=1\n").unwrap();
            }),
            ["/etc/app/link: other [Kind, Mode]"]
        );
    }

    #[test]
    fn a_hard_link_that_became_a_copy_is_seen() {
        let seen = differences(|root| {
            fs::remove_file(root.join("etc/app/two")).unwrap();
            fs::write(root.join("etc/app/two"), "same").unwrap();
        });
        assert_eq!(seen, ["/etc/app/one: other [HardLinks]", "/etc/app/two: other [HardLinks]"]);
    }

    #[test]
    fn extended_attributes_count() {
        let seen = differences(|root| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(root.join("etc/app/conf"), "user.note", &[7; 600], flags).unwrap();
        });
        assert_eq!(seen, ["/etc/app/conf: other [Xattrs]"]);
    }
}
