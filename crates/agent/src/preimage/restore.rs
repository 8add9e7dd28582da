//! Putting back what a preimage holds. Can be killed at any point and run again.

use super::capture::copy_sparse;
use super::state::{
    metadata, observe_own, own_metadata, permit, set_attributes, set_flags, through_link,
};
use super::{
    Content, Kind, Manifest, PreimageError, Record, State, excluded, list_trees, read_manifest,
};
use crate::host_path::HostPath;
use rustix::fs::{CWD, FileType, Mode};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Files that dpkg leaves beside a file when it is killed in the middle (dpkg, "unpacking").
const DPKG_LEFTOVERS: [&str; 2] = [".dpkg-new", ".dpkg-tmp"];
/// A file on its way back, before it takes its name.
const TEMPORARY: &str = ".fettle-undo";

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Files put back or removed.
    pub files: u64,
    /// Paths that are not as they were, and why.
    pub differing: Vec<String>,
    /// Paths that somebody else changed since; left as they are.
    pub kept: Vec<String>,
    /// Files that nobody foresaw, new since the preimage: removed, and kept in its `set-aside`, since they may
    /// be somebody else's.
    pub set_aside: Vec<String>,
}

/// Puts back every path of the preimage in `directory` below `root`, removes what is new, and looks again at
/// each of them. `after`, where there is one, says what the change itself made of each path: what differs from
/// that as well was changed by somebody else, and is kept and told.
///
/// # Errors
/// When the preimage cannot be read. A path that cannot be put back is no error here but in
/// [`Restored::differing`]: the others are put back all the same.
pub fn restore(
    root: &Path,
    directory: &Path,
    trees: &[&str],
    after: Option<&Manifest>,
) -> Result<Restored, PreimageError> {
    let mut manifest = read_manifest(&directory.join("manifest"))?;
    let unforeseen = add_new_paths(root, trees, after, &mut manifest)?;
    let mut out = Restored::default();
    let mut work: Vec<&Record> = Vec::new();
    for record in manifest.values() {
        match differs(root, record, &manifest) {
            Ok(false) => {}
            Ok(true) => match changed_since(root, record, after) {
                Ok(true) => out.kept.push(record.path.to_string()),
                _ => work.push(record),
            },
            // What cannot be looked at may still be replaced.
            Err(_) => work.push(record),
        }
    }
    let source = Source { root, directory, pack: File::open(directory.join("pack")).ok() };
    let mut failed: Vec<(HostPath, io::Error)> = Vec::new();
    let mut put = |record: &Record, result: io::Result<bool>, files: &mut u64| match result {
        Ok(true) => *files += 1,
        Ok(false) => {}
        Err(e) => failed.push((record.path.clone(), e)),
    };
    for record in &work {
        put(record, permit_change(root, &record.path).map(|()| false), &mut out.files);
    }
    // Deepest first: away with what is new, and with what has become another kind of thing.
    for record in work.iter().rev() {
        if unforeseen.contains(&record.path) {
            match set_aside(root, directory, &record.path) {
                Ok(false) => {}
                Ok(true) => out.set_aside.push(record.path.to_string()),
                Err(e) => {
                    put(record, Err(e), &mut out.files);
                    continue;
                }
            }
        }
        put(record, clear(root, record), &mut out.files);
    }
    // Parents first: directories, then what stands in them.
    for record in &work {
        put(record, source.put(record), &mut out.files);
    }
    // Every directory last and deepest first: what was put into it changed its time.
    for record in manifest.values().rev() {
        if let Some(State { kind: Kind::Directory, attributes }) = &record.was
            && !out.kept.contains(&record.path.to_string())
        {
            let path = record.path.below(root);
            let result = match own_metadata(root, &record.path) {
                Ok(Some(found)) if found.is_dir() => permit(&path)
                    .and_then(|()| set_attributes(&path, attributes, false))
                    .map(|()| false),
                _ => Ok(false), // told below
            };
            put(record, result, &mut out.files);
        }
    }
    // Flags when nothing has to be changed any more: an immutable file can be given no other name.
    for record in manifest.values().rev() {
        if let Some(State { kind: Kind::Directory | Kind::File { .. }, attributes }) = &record.was
            && !out.kept.contains(&record.path.to_string())
        {
            let result = match through_link(root, &record.path) {
                Ok(false) => set_flags(&record.path.below(root), attributes.flags),
                other => other.map(|_| ()),
            };
            put(record, result.map(|()| false), &mut out.files);
        }
    }
    sync(root, &manifest).map_err(PreimageError::io("sync", root))?;
    for record in manifest.values().filter(|r| !out.kept.contains(&r.path.to_string())) {
        let why = failed.iter().find(|(path, _)| *path == record.path).map(|(_, e)| e.to_string());
        match (differs(root, record, &manifest), why) {
            (Ok(false), _) => {}
            (Ok(true), why) => {
                out.differing.push(format!(
                    "{}: {}",
                    record.path,
                    why.unwrap_or_else(|| "not as it was".into())
                ));
            }
            (Err(e), why) => out.differing.push(format!(
                "{}: {}",
                record.path,
                why.unwrap_or_else(|| e.to_string())
            )),
        }
    }
    Ok(out)
}

/// Adds, as paths that were not there, what the change made without the rehearsal having foreseen it: in the
/// trees kept whole, and what a killed dpkg left beside the files of the preimage.
fn add_new_paths(
    root: &Path,
    trees: &[&str],
    after: Option<&Manifest>,
    manifest: &mut Manifest,
) -> Result<BTreeSet<HostPath>, PreimageError> {
    let mut new: BTreeSet<HostPath> = match after {
        Some(after) => after.values().filter(|r| r.was.is_some()).map(|r| r.path.clone()).collect(),
        None => list_trees(root, trees)?,
    };
    if after.is_none() {
        for path in manifest.keys() {
            for suffix in DPKG_LEFTOVERS {
                let mut name = path.0.clone().into_os_string();
                name.push(suffix);
                let path = HostPath(PathBuf::from(name));
                if own_metadata(root, &path).is_ok_and(|m| m.is_some()) {
                    new.insert(path);
                }
            }
        }
    }
    let mut unforeseen = BTreeSet::new();
    for path in new.into_iter().filter(|p| !excluded(p.as_path())) {
        if let std::collections::btree_map::Entry::Vacant(entry) = manifest.entry(path.clone()) {
            // The package manager's own litter is nobody else's.
            let name = path.0.to_string_lossy().into_owned();
            if !path.0.starts_with("/var/lib/dpkg") && !name.contains(".dpkg-") {
                unforeseen.insert(path.clone());
            }
            entry.insert(Record { path, was: None, content: None });
        }
    }
    Ok(unforeseen)
}

/// Copies a regular file into the preimage's `set-aside`, before it is removed. `false`: there is none.
fn set_aside(root: &Path, directory: &Path, path: &HostPath) -> io::Result<bool> {
    let from = path.below(root);
    if !own_metadata(root, path)?.is_some_and(|m| m.is_file()) {
        return Ok(false);
    }
    let to = path.below(&directory.join("set-aside"));
    fs::create_dir_all(to.parent().unwrap_or(directory))?;
    fs::copy(&from, &to)?;
    File::open(&to)?.sync_all()?;
    Ok(true)
}

/// Lets a path and the directory it stands in be changed. Their flags are set again at the end.
fn permit_change(root: &Path, path: &HostPath) -> io::Result<()> {
    if through_link(root, path)? {
        return Ok(());
    }
    if let Some(parent) = path.0.parent() {
        permit(&HostPath::from(parent).below(root))?;
    }
    permit(&path.below(root))
}

/// Is the path not as it was?
fn differs(root: &Path, record: &Record, manifest: &Manifest) -> io::Result<bool> {
    let same = match (&record.was, observe_own(root, &record.path)?) {
        (None, None) => true,
        (Some(was), Some(now)) if was.kind == Kind::Socket => now.kind == Kind::Socket,
        (Some(was), Some(now)) => {
            was.same(&now)
                && linked(root, record, manifest)?
                && (was.kind == Kind::Directory || same_time(was, &now))
        }
        // Whoever listens makes it anew, and as it likes.
        (Some(State { kind: Kind::Socket, .. }), None) => true,
        _ => false,
    };
    Ok(!same)
}

fn same_time(was: &State, now: &State) -> bool {
    let time = |s: &State| (s.attributes.mtime, s.attributes.mtime_nanoseconds);
    time(was) == time(now)
}

/// Is a path that was a hard link still one to the same file?
fn linked(root: &Path, record: &Record, manifest: &Manifest) -> io::Result<bool> {
    let Some(Content::HardLink(to)) = &record.content else { return Ok(true) };
    if !manifest.contains_key(to) {
        return Ok(true);
    }
    let inode = |path| own_metadata(root, path).map(|m| m.map(|m| (m.dev(), m.ino())));
    Ok(inode(&record.path)? == inode(to)?)
}

/// Did somebody change the path after the change itself had?
fn changed_since(root: &Path, record: &Record, after: Option<&Manifest>) -> io::Result<bool> {
    let Some(then) = after.and_then(|after| after.get(&record.path)) else { return Ok(false) };
    Ok(match (&then.was, observe_own(root, &record.path)?) {
        (None, None) => false,
        (Some(then), Some(now)) => !then.same(&now),
        _ => true,
    })
}

/// Removes what stands at a path if nothing or another kind of thing stood there. `true`: something was removed.
fn clear(root: &Path, record: &Record) -> io::Result<bool> {
    let path = record.path.below(root);
    let Some(now) = own_metadata(root, &record.path)? else { return Ok(false) };
    let directory = matches!(&record.was, Some(State { kind: Kind::Directory, .. }));
    match (now.is_dir(), &record.was) {
        (true, _) if directory => Ok(false),
        (true, _) => fs::remove_dir(&path).map(|()| true),
        (false, None) => fs::remove_file(&path).map(|()| true),
        (false, Some(was)) if directory || was.kind == Kind::Socket => {
            fs::remove_file(&path).map(|()| true)
        }
        // Replaced in one step by `put`: there is never a moment without the file.
        (false, Some(_)) => Ok(false),
    }
}

struct Source<'a> {
    root: &'a Path,
    directory: &'a Path,
    pack: Option<File>,
}

impl Source<'_> {
    /// Puts one path back. `true`: something was put.
    fn put(&self, record: &Record) -> io::Result<bool> {
        let Some(was) = record.was.as_ref().filter(|was| was.kind != Kind::Socket) else {
            return Ok(false);
        };
        let path = record.path.below(self.root);
        if was.kind == Kind::Directory {
            if metadata(&path)?.is_none() {
                fs::create_dir(&path)?;
            }
            return set_attributes(&path, &was.attributes, false).map(|()| true);
        }
        let temporary = path.parent().unwrap_or(Path::new("/")).join(TEMPORARY);
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let made = self.make(record, was, &temporary).and_then(|()| fs::rename(&temporary, &path));
        // Left over after an error, and after a rename between two names of one file, which does nothing.
        let _ = fs::remove_file(&temporary);
        made.map(|()| true)
    }

    fn make(&self, record: &Record, was: &State, at: &Path) -> io::Result<()> {
        match (&was.kind, &record.content) {
            (Kind::File { .. }, Some(Content::HardLink(to))) => {
                fs::hard_link(to.below(self.root), at)?;
                return Ok(());
            }
            (Kind::File { size, sha256 }, Some(content)) => {
                let mut target =
                    File::options().read(true).write(true).create_new(true).open(at)?;
                let found = self.fill(content, *size, &mut target)?;
                if found != (*size, *sha256) {
                    return Err(io::Error::other("the preimage of this file is damaged"));
                }
                // `set_attributes` below needs the path only; the content must be safe before the name is taken.
            }
            (Kind::Symlink { target }, _) => std::os::unix::fs::symlink(target.as_path(), at)?,
            (Kind::Fifo, _) => {
                rustix::fs::mknodat(CWD, at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?
            }
            (Kind::Device { character, number }, _) => {
                let kind =
                    if *character { FileType::CharacterDevice } else { FileType::BlockDevice };
                rustix::fs::mknodat(CWD, at, kind, Mode::RUSR | Mode::WUSR, *number)?;
            }
            (Kind::File { .. }, None) => {
                return Err(io::Error::other("the manifest names no content for this file"));
            }
            (Kind::Directory | Kind::Socket, _) => return Ok(()),
        }
        set_attributes(at, &was.attributes, matches!(was.kind, Kind::Symlink { .. }))
    }

    fn fill(
        &self,
        content: &Content,
        size: u64,
        target: &mut File,
    ) -> io::Result<(u64, fettle_core::Digest)> {
        match content {
            // Blocks of zeros are left out: a sparse file stays one.
            Content::Packed(offset) => {
                let pack = self
                    .pack
                    .as_ref()
                    .ok_or_else(|| io::Error::other("the preimage lacks its pack"))?;
                // Packed files are small.
                let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(1 << 24)];
                pack.read_exact_at(&mut bytes, *offset)?;
                for (n, block) in bytes.chunks(4096).enumerate() {
                    if block.iter().any(|b| *b != 0) {
                        target.write_all_at(block, n as u64 * 4096)?;
                    }
                }
                target.set_len(bytes.len() as u64)?;
                Ok((bytes.len() as u64, fettle_core::Digest::of(&bytes)))
            }
            Content::Own(number) => {
                let mut source = File::open(self.directory.join(number.to_string()))?;
                if rustix::fs::ioctl_ficlone(&*target, &source).is_ok() {
                    target.seek(io::SeekFrom::Start(0))?;
                    return super::state::hash(&mut target.by_ref().try_clone()?, |_| Ok(()));
                }
                copy_sparse(&mut source, target)
            }
            Content::HardLink(_) => Err(io::Error::other("a hard link has no content of its own")),
        }
    }
}

/// Makes everything durable, each file system touched once.
fn sync(root: &Path, manifest: &Manifest) -> io::Result<()> {
    let mut seen = BTreeSet::new();
    for record in manifest.values() {
        let path = record.path.below(root);
        if let Some(found) = own_metadata(root, &record.path)?
            && found.is_dir()
            && seen.insert(found.dev())
        {
            rustix::fs::syncfs(File::open(&path)?)?;
        }
    }
    Ok(())
}
