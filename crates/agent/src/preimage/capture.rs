//! Taking a preimage.

use super::content::{self, copy_sparse, hash};
use super::look::{Look, observe_each};
use super::state::{attributes, kind_of, physical};
use super::{
    Content, Kind, Manifest, PreimageError, Record, Scope, State, excluded, read_manifest,
    write_manifest,
};
use crate::durable;
use crate::host_path::HostPath;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Files of this size and more get a file of their own, so that they can be reflinks.
const LARGE: u64 = 256 << 10;
/// A file with more data than this is no configuration, and no book of the package manager: it is told, and not kept only
/// because of where it stands.
const MOST: u64 = 4 << 30;

/// What was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// Paths in the manifest.
    pub paths: u64,
    /// Bytes of content kept (reflinks count as if copied).
    pub bytes: u64,
}

/// Every path in the trees of `scope` below `root`, and the trees themselves. What it leaves alone is left out.
///
/// # Errors
/// When a directory cannot be read.
pub fn list_trees<'s>(
    root: &Path,
    scope: impl Into<Scope<'s>>,
) -> Result<BTreeSet<HostPath>, PreimageError> {
    let scope = scope.into();
    let mut out = BTreeSet::new();
    let mut open: Vec<HostPath> =
        scope.trees.iter().map(|t| physical(root, &(*t).into())).collect();
    let mut look = Look::below(root);
    while let Some(path) = open.pop() {
        if scope.excludes(path.as_path()) {
            continue;
        }
        let below = path.below(root);
        let found = look.hold(&path).map_err(PreimageError::io("look at", &below))?;
        let Some(found) = found else {
            continue;
        };
        if found.metadata().is_dir() {
            for entry in fs::read_dir(found.path()).map_err(PreimageError::io("read", &below))? {
                let entry = entry.map_err(PreimageError::io("read", &below))?;
                open.push(HostPath(path.0.join(entry.file_name())));
            }
        }
        out.insert(path);
    }
    Ok(out)
}

/// Takes the preimage of `paths` (with their parent directories) and of the whole trees of `scope` below `root` into
/// `directory`, replacing one that was begun there. Durable when it returns: the manifest is written last, so
/// that a preimage with a manifest is whole.
///
/// # Errors
/// [`PreimageError`]; the host is untouched in any case.
pub fn capture<'s>(
    root: &Path,
    directory: &Path,
    paths: &BTreeSet<HostPath>,
    scope: impl Into<Scope<'s>>,
) -> Result<Captured, PreimageError> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(PreimageError::io("clear", directory)(e));
        }
        _ => {}
    }
    durable::create_directory(directory).map_err(PreimageError::io("create", directory))?;
    let all = all_paths(root, paths, scope.into())?;
    check_space(root, directory, paths, &all)?;

    let pack = directory.join("pack");
    let file = File::create(&pack).map_err(PreimageError::io("create", &pack))?;
    let mut taker = Taker {
        look: Look::below(root),
        directory,
        pack: BufWriter::with_capacity(1 << 20, file),
        packed: 0,
        own: 0,
        own_bytes: 0,
        links: BTreeMap::new(),
    };
    let mut manifest = Manifest::new();
    for path in all {
        let record = taker.take(root, &path)?;
        manifest.insert(path, record);
    }
    taker.pack.flush().map_err(PreimageError::io("write", &pack))?;
    let bytes = taker.packed + taker.own_bytes;
    let whole = File::open(directory).map_err(PreimageError::io("open", directory))?;
    rustix::fs::syncfs(&whole).map_err(|e| PreimageError::io("sync", directory)(e.into()))?;
    write_manifest(&directory.join("manifest"), &manifest)?;
    Ok(Captured { paths: manifest.len() as u64, bytes })
}

/// Adds to the preimage in `directory` what stands at `paths` below `root`, a copy of the host's root as it was. Paths
/// that it has already stay as they are. Gives how many were added.
///
/// Killed in the middle, it leaves the preimage as it was: what its files hold beyond the manifest belongs to nobody.
///
/// # Errors
/// When one of them cannot be read, or the preimage cannot be written.
pub fn extend(
    root: &Path,
    directory: &Path,
    paths: &BTreeSet<HostPath>,
) -> Result<u64, PreimageError> {
    let at = directory.join("manifest");
    let mut manifest = read_manifest(&at)?;
    let numbers = manifest.values().filter_map(|record| match record.content {
        Some(Content::Own(number)) => Some(number + 1),
        _ => None,
    });
    let own = numbers.max().unwrap_or(0);
    let pack = directory.join("pack");
    let mut file =
        File::options().append(true).open(&pack).map_err(PreimageError::io("open", &pack))?;
    let packed = file.seek(io::SeekFrom::End(0)).map_err(PreimageError::io("read", &pack))?;
    let mut taker = Taker {
        look: Look::below(root),
        directory,
        pack: BufWriter::new(file),
        packed,
        own,
        own_bytes: 0,
        links: BTreeMap::new(),
    };
    let mut added = 0;
    for path in paths.iter().filter(|path| !excluded(path.as_path())) {
        if !manifest.contains_key(path) {
            let record = taker.take(root, path)?;
            manifest.insert(path.clone(), record);
            added += 1;
        }
    }
    taker.pack.flush().map_err(PreimageError::io("write", &pack))?;
    let whole = File::open(directory).map_err(PreimageError::io("open", directory))?;
    rustix::fs::syncfs(&whole).map_err(|e| PreimageError::io("sync", directory)(e.into()))?;
    write_manifest(&at, &manifest)?;
    Ok(added)
}

/// What stands at `paths` and in the trees of `scope` now, without content: what the change itself made of them.
///
/// # Errors
/// When one of them cannot be read.
pub fn observe_all<'s>(
    root: &Path,
    paths: &BTreeSet<HostPath>,
    scope: impl Into<Scope<'s>>,
) -> Result<Manifest, PreimageError> {
    let mut all = list_trees(root, scope)?;
    all.extend(paths.iter().cloned());
    let found = observe_each(root, &all.iter().collect::<Vec<_>>());
    all.into_iter()
        .zip(found)
        .map(|(path, found)| {
            let was = found.map_err(PreimageError::io("look at", &path.below(root)))?;
            Ok((path.clone(), Record { path, was, content: None }))
        })
        .collect()
}

/// `paths` with their parent directories, and the whole trees of `scope`, without what it leaves alone.
pub(super) fn all_paths(
    root: &Path,
    paths: &BTreeSet<HostPath>,
    scope: Scope<'_>,
) -> Result<BTreeSet<HostPath>, PreimageError> {
    let mut all = list_trees(root, scope)?;
    all.extend(paths.iter().filter(|p| !scope.excludes(p.as_path())).cloned());
    let parents: BTreeSet<HostPath> =
        all.iter().flat_map(|p| p.0.ancestors().skip(1)).map(HostPath::from).collect();
    all.extend(parents);
    Ok(all)
}

/// Bytes and inodes that a preimage of these needs. Reflinks may need less; nobody can promise that.
///
/// # Errors
/// When one of them cannot be looked at.
pub fn needs<'s>(
    root: &Path,
    paths: &BTreeSet<HostPath>,
    scope: impl Into<Scope<'s>>,
) -> Result<(u64, u64), PreimageError> {
    measure(root, paths, &all_paths(root, paths, scope.into())?, MOST)
}

/// `paths`: those of `all` that are kept because the change touches them, however much they hold; others may hold `most`
/// bytes each.
pub(super) fn measure(
    root: &Path,
    paths: &BTreeSet<HostPath>,
    all: &BTreeSet<HostPath>,
    most: u64,
) -> Result<(u64, u64), PreimageError> {
    let (mut bytes, mut inodes) = (all.len() as u64 * 300, 16);
    let mut look = Look::below(root);
    for path in all {
        let below = path.below(root);
        let held = look.hold(path).map_err(PreimageError::io("look at", &below))?;
        if let Some(held) = &held
            && held.metadata().is_file()
        {
            let found = held.metadata();
            if found.len() > most && !paths.contains(path) {
                let data = held.open().and_then(|file| content::held(&file, most));
                if data.map_err(PreimageError::io("look at", &below))? > most {
                    return Err(PreimageError::Vast { path: path.clone(), most });
                }
            }
            bytes += found.blocks().saturating_mul(512).max(found.len().min(LARGE));
            inodes += u64::from(found.len() >= LARGE);
        }
    }
    Ok((bytes, inodes))
}

/// Refuses before anything is written if it cannot fit.
fn check_space(
    root: &Path,
    directory: &Path,
    paths: &BTreeSet<HostPath>,
    all: &BTreeSet<HostPath>,
) -> Result<(), PreimageError> {
    let (bytes, inodes) = measure(root, paths, all, MOST)?;
    let fs = rustix::fs::statvfs(directory)
        .map_err(|e| PreimageError::io("look at", directory)(e.into()))?;
    let (free, directory) = (fs.f_bavail * fs.f_frsize, directory.to_owned());
    if bytes > free {
        return Err(PreimageError::NoSpace { directory, needs: bytes, free });
    }
    // btrfs counts no inodes: it says 0 of 0.
    if fs.f_files > 0 && inodes > fs.f_ffree {
        return Err(PreimageError::NoInodes { directory, needs: inodes, free: fs.f_ffree });
    }
    Ok(())
}

struct Taker<'a> {
    look: Look<'a>,
    directory: &'a Path,
    pack: BufWriter<File>,
    packed: u64,
    own: u64,
    /// Bytes of data in files of their own.
    own_bytes: u64,
    /// Inodes with several names → the first path they were met at.
    links: BTreeMap<(u64, u64), (HostPath, State)>,
}

impl Taker<'_> {
    fn take(&mut self, root: &Path, path: &HostPath) -> Result<Record, PreimageError> {
        let below = path.below(root);
        let record = |was, content| Record { path: path.clone(), was, content };
        let held = self.look.hold(path).map_err(PreimageError::io("look at", &below))?;
        let Some(held) = held else {
            return Ok(record(None, None));
        };
        let found = held.metadata();
        if !found.is_file() {
            let was = State::of(&held).map_err(PreimageError::io("look at", &below))?;
            return Ok(record(Some(was), None));
        }
        let inode = (found.dev(), found.ino());
        if found.nlink() > 1
            && let Some((first, state)) = self.links.get(&inode)
        {
            return Ok(record(Some(state.clone()), Some(Content::HardLink(first.clone()))));
        }
        let mut content = None;
        let kind = kind_of(&held, || {
            let (size, sha256, kept) = self.keep(&held.open()?, found.len())?;
            content = Some(kept);
            Ok(Kind::File { size, sha256 })
        });
        let kind = kind.map_err(PreimageError::io("copy", &below))?;
        let attributes =
            attributes(&held).map_err(PreimageError::io("read attributes of", &below))?;
        let state = State { kind, attributes };
        if found.nlink() > 1 {
            self.links.insert(inode, (path.clone(), state.clone()));
        }
        Ok(record(Some(state), content))
    }

    fn keep(
        &mut self,
        source: &File,
        length: u64,
    ) -> io::Result<(u64, fettle_core::Digest, Content)> {
        if length < LARGE {
            let (start, mut next) = (self.packed, 0);
            let (size, sha256) = hash(source, |at, piece| {
                // Only what has become vast since comes in pieces that do not follow each other.
                if at != next {
                    return Err(io::Error::other("it grows while it is read"));
                }
                next += piece.len() as u64;
                self.pack.write_all(piece)
            })?;
            self.packed += size;
            return Ok((size, sha256, Content::Packed(start)));
        }
        let number = self.own;
        self.own += 1;
        let target = File::create(self.directory.join(number.to_string()))?;
        let (size, sha256) = match rustix::fs::ioctl_ficlone(&target, source) {
            // The reflink is what is kept: it is what the hash must be of.
            Ok(()) => hash(&File::open(self.directory.join(number.to_string()))?, |_, _| Ok(()))?,
            Err(_) => copy_sparse(source, &target)?,
        };
        self.own_bytes += content::held(&target, u64::MAX)?;
        Ok((size, sha256, Content::Own(number)))
    }
}
