//! Putting back what a preimage holds. Can be killed at any point and run again.

use super::content::{copy_sparse, hash, write_sparse};
use super::held::{Held, Walk};
use super::look::{Look, THREADS, observe_each, side_by_side};
use super::set_aside::{self, Doubtful, Known};
use super::state::{Attributes, attributes, permit, set_attributes, set_flags, set_time};
use super::{
    Content, Kind, Manifest, PreimageError, Record, Scope, State, list_trees, read_manifest,
};
use crate::host_path::HostPath;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

/// Files that dpkg leaves beside a file when it is killed in the middle (dpkg, "unpacking").
const DPKG_LEFTOVERS: [&str; 2] = [".dpkg-new", ".dpkg-tmp"];

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Files put back or removed.
    pub files: u64,
    /// Paths that are not as they were, and why.
    pub differing: Vec<String>,
    /// Paths that somebody else changed since; left as they are.
    pub kept: Vec<String>,
    /// Files that were removed or overwritten and that no rehearsal had shown: kept in the preimage's `set-aside`.
    pub set_aside: Vec<String>,
}

/// Puts back every path of the preimage in `directory` below `root`, removes what is new, and looks again at
/// each of them. `known` says what is known of the change's own work: what somebody changed after it is kept and told, and
/// what may be somebody's work in the middle of it is set aside.
///
/// # Errors
/// When the preimage cannot be read. A path that cannot be put back is no error here but in
/// [`Restored::differing`]: the others are put back all the same.
pub fn restore<'s>(
    root: &Path,
    directory: &Path,
    scope: impl Into<Scope<'s>>,
    known: Known<'_>,
) -> Result<Restored, PreimageError> {
    restore_and(root, directory, scope, known, || ())
}

/// As [`restore`]; `placed` is called once everything stands where it stood, while it is made durable and looked at again.
/// It is not called where something could not be put back.
///
/// # Errors
/// As [`restore`].
pub fn restore_and<'s>(
    root: &Path,
    directory: &Path,
    scope: impl Into<Scope<'s>>,
    known: Known<'_>,
    placed: impl FnOnce() + Send,
) -> Result<Restored, PreimageError> {
    let (scope, after) = (scope.into(), known.after);
    let mut manifest = read_manifest(&directory.join("manifest"))?;
    // It may have been declared since.
    manifest.retain(|path, _| !scope.is_data(path.as_path()));
    let unforeseen = add_new_paths(root, scope, after, &mut manifest)?;
    let doubtful = Doubtful { unforeseen, made: known.made };
    let records: Vec<&Record> = manifest.values().collect();
    let seen = observe_each(root, &records.iter().map(|r| &r.path).collect::<Vec<_>>());
    let (mut out, mut touched) = (Restored::default(), Touched::default());
    let mut work: Vec<Work<'_, '_>> = Vec::new();
    for (record, now) in records.iter().zip(&seen) {
        if now.as_ref().map_or(true, |now| now.as_ref().is_some_and(State::forbids)) {
            touched.forbidding.insert(record.path.as_path());
        }
        match now {
            Ok(now) => {
                let now = now.as_ref();
                // What cannot be looked at may still be replaced.
                if differs(root, record, now, &manifest).unwrap_or(true) {
                    match changed_since(record, now, after) {
                        true => {
                            touched.kept.insert(record.path.as_path());
                            out.kept.push(record.path.to_string());
                        }
                        false => work.push((record, now)),
                    }
                } else if !now.zip(record.was.as_ref()).is_none_or(|(now, was)| same_time(was, now))
                {
                    touched.directories.insert(record.path.as_path());
                }
            }
            Err(_) => work.push((record, None)),
        }
    }
    work.retain(|(record, now)| {
        if !doubtful.is(record, *now) {
            return true;
        }
        match set_aside::keep(root, directory, &record.path) {
            Ok(kept) => {
                out.set_aside.extend(kept.then(|| record.path.to_string()));
                true
            }
            // It is worth more than an undo that is whole.
            Err(e) => {
                let path = &record.path;
                out.differing
                    .push(format!("{path}: no copy of what stands there can be kept: {e}"));
                touched.kept.insert(path.as_path());
                false
            }
        }
    });
    touched.directories.extend(work.iter().map(|(record, _)| record.path.as_path()));
    touched.directories.extend(work.iter().filter_map(|(record, _)| record.path.0.parent()));

    let source = Source { root, directory, pack: File::open(directory.join("pack")).ok() };
    let mut failed: BTreeMap<&HostPath, io::Error> = BTreeMap::new();
    let mut walk = Walk::below(root);
    for (record, _) in &work {
        for path in [record.path.0.parent(), Some(record.path.as_path())].into_iter().flatten() {
            if touched.forbidding.contains(path)
                && let Err(e) = walk.hold(path).and_then(|held| held.map_or(Ok(()), |h| permit(&h)))
            {
                failed.insert(&record.path, e);
            }
        }
    }
    // Deepest first: away with what is new, and with what has become another kind of thing.
    for (record, now) in work.iter().rev().filter(|(record, now)| !replaceable(record, *now)) {
        match clear(&mut walk, record, *now) {
            Ok(removed) => out.files += u64::from(removed),
            Err(e) => drop(failed.insert(&record.path, e)),
        }
    }
    for (record, put) in source.put_all(&work) {
        match put {
            Ok(put) => out.files += u64::from(put),
            Err(e) => drop(failed.insert(&record.path, e)),
        }
    }
    // Directories last and deepest first: what was put into one changed its time.
    let mut look = Look::below(root);
    for (record, now) in records.iter().zip(&seen).rev().filter(|(r, _)| touched.directory(r)) {
        if let Some(State { kind: Kind::Directory, attributes }) = &record.was
            && let Ok(Some(held)) = look.hold(&record.path)
            && held.metadata().is_dir()
        {
            let now = now.as_ref().ok().and_then(Option::as_ref).map(|now| &now.attributes);
            let result = permit(&held).and_then(|()| own_again(&held, attributes, now));
            if let Err(e) = result {
                failed.insert(&record.path, e);
            }
        }
    }
    // What was found to be as it was, and was not touched, is not looked at a second time.
    let worked: BTreeSet<&Path> = work.iter().map(|(record, _)| record.path.as_path()).collect();
    let records: Vec<&Record> = records
        .into_iter()
        .filter(|r| worked.contains(r.path.as_path()) || touched.directory(r))
        .collect();
    let mut seen = std::thread::scope(|scope| {
        // What is written goes to the disk meanwhile; most of the waiting for `sync` below is over then.
        let early = || drop(sync(root, &manifest));
        let _ = std::thread::Builder::new().spawn_scoped(scope, early);
        if failed.is_empty() && out.differing.is_empty() {
            // Not called, it is as if something had failed.
            let _ = std::thread::Builder::new().spawn_scoped(scope, placed);
        }
        observe_each(root, &records.iter().map(|r| &r.path).collect::<Vec<_>>())
    });
    // Flags when nothing has to be changed any more: an immutable file can be given no other name.
    for (record, now) in records.iter().zip(&mut seen).rev() {
        let (Some(was), Ok(Some(is))) = (&record.was, &now) else { continue };
        if was.attributes.flags != is.attributes.flags
            && matches!(was.kind, Kind::Directory | Kind::File { .. })
        {
            let given = look
                .hold(&record.path)
                .and_then(|held| held.map_or(Ok(()), |h| set_flags(&h, was.attributes.flags)));
            if let Err(e) = given {
                failed.insert(&record.path, e);
            }
            *now = look.observe(&record.path);
        }
    }
    sync(root, &manifest).map_err(PreimageError::io("sync", root))?;
    for (record, now) in records.iter().zip(seen) {
        let now = now.and_then(|now| differs(root, record, now.as_ref(), &manifest));
        let why = match now {
            Ok(false) => continue,
            Ok(true) => "not as it was".to_owned(),
            Err(e) => e.to_string(),
        };
        let why = failed.get(&record.path).map_or(why, ToString::to_string);
        out.differing.push(format!("{}: {why}", record.path));
    }
    Ok(out)
}

/// What a restore finds and changes besides the paths it puts back.
#[derive(Default)]
struct Touched<'a> {
    /// Changed by somebody else, and left so.
    kept: BTreeSet<&'a Path>,
    /// Their flags forbid a change, or nobody can tell.
    forbidding: BTreeSet<&'a Path>,
    /// Directories whose attributes are set in the end.
    directories: BTreeSet<&'a Path>,
}

impl Touched<'_> {
    fn directory(&self, record: &Record) -> bool {
        let path = record.path.as_path();
        self.directories.contains(path) && !self.kept.contains(path)
    }
}

/// Is what stands there replaced in one step by `put`? There is never a moment without the file.
fn replaceable(record: &Record, now: Option<&State>) -> bool {
    let plain = |state: &State| !matches!(state.kind, Kind::Directory | Kind::Socket);
    record.was.as_ref().is_some_and(plain) && now.is_some_and(|now| now.kind != Kind::Directory)
}

/// Adds, as paths that were not there, what the change made without the rehearsal having foreseen it: in the
/// trees kept whole, and what a killed dpkg left beside the files of the preimage.
fn add_new_paths(
    root: &Path,
    scope: Scope<'_>,
    after: Option<&Manifest>,
    manifest: &mut Manifest,
) -> Result<BTreeSet<HostPath>, PreimageError> {
    let mut new: BTreeSet<HostPath> = match after {
        Some(after) => after.values().filter(|r| r.was.is_some()).map(|r| r.path.clone()).collect(),
        None => list_trees(root, scope)?,
    };
    if after.is_none() {
        let mut look = Look::below(root);
        for path in manifest.keys() {
            for suffix in DPKG_LEFTOVERS {
                let mut name = path.0.clone().into_os_string();
                name.push(suffix);
                let path = HostPath(name.into());
                if look.hold(&path).is_ok_and(|held| held.is_some()) {
                    new.insert(path);
                }
            }
        }
    }
    let mut unforeseen = BTreeSet::new();
    for path in new.into_iter().filter(|p| !scope.excludes(p.as_path())) {
        if let std::collections::btree_map::Entry::Vacant(entry) = manifest.entry(path.clone()) {
            // The package manager's own litter is nobody else's.
            if !path.0.starts_with("/var/lib/dpkg") && !set_aside::is_litter(path.as_path()) {
                unforeseen.insert(path.clone());
            }
            entry.insert(Record { path, was: None, content: None });
        }
    }
    Ok(unforeseen)
}

/// Is the path not as it was?
fn differs(
    root: &Path,
    record: &Record,
    now: Option<&State>,
    manifest: &Manifest,
) -> io::Result<bool> {
    let same = match (&record.was, now) {
        (None, None) => true,
        (Some(was), Some(now)) if was.kind == Kind::Socket => now.kind == Kind::Socket,
        (Some(was), Some(now)) => {
            was.same(now)
                && (was.kind == Kind::Directory || same_time(was, now))
                && linked(root, record, manifest)?
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
    let mut look = Look::below(root);
    let mut inode = |path| look.hold(path).map(|held| held.as_ref().map(inode));
    Ok(inode(&record.path)? == inode(to)?)
}

/// Did somebody change the path after the change itself had?
fn changed_since(record: &Record, now: Option<&State>, after: Option<&Manifest>) -> bool {
    let Some(then) = after.and_then(|after| after.get(&record.path)) else { return false };
    match (&then.was, now) {
        (None, None) => false,
        (Some(then), Some(now)) => !then.same(now),
        _ => true,
    }
}

fn inode(held: &Held) -> (u64, u64) {
    (held.metadata().dev(), held.metadata().ino())
}

/// Removes what stands at a path if nothing or another kind of thing stood there. `true`: something was removed.
fn clear(walk: &mut Walk<'_>, record: &Record, now: Option<&State>) -> io::Result<bool> {
    let Some((directory, name)) = walk.to(record.path.as_path())? else { return Ok(false) };
    // Nothing was seen: nothing is there, or it could not be looked at.
    let is_directory = match now {
        Some(now) => now.kind == Kind::Directory,
        None => match Held::at(directory, name)? {
            Some(found) => found.metadata().is_dir(),
            None => return Ok(false),
        },
    };
    let was_directory = matches!(&record.was, Some(State { kind: Kind::Directory, .. }));
    let how = match (is_directory, &record.was) {
        (true, _) if was_directory => return Ok(false),
        (true, _) => AtFlags::REMOVEDIR,
        (false, Some(was)) if !was_directory && was.kind != Kind::Socket => return Ok(false),
        (false, _) => AtFlags::empty(),
    };
    rustix::fs::unlinkat(directory, name, how)?;
    Ok(true)
}

/// Gives a directory its attributes again. Whoever may rename what is beside it could have put another in its place since
/// it was looked at: one that belongs neither to whom it belonged then (`now`) nor to whom it is to belong is left alone.
fn own_again(held: &Held, was: &Attributes, now: Option<&Attributes>) -> io::Result<()> {
    let found = held.metadata_now()?;
    let is_of = |a: &Attributes| (a.uid, a.gid) == (found.uid(), found.gid());
    if !is_of(was) && !now.is_some_and(is_of) {
        return Err(io::Error::other("another directory was put in its place meanwhile"));
    }
    set_attributes(held, was)
}

/// A file on its way back, before it takes its name.
fn temporary(thread: usize) -> OsString {
    format!(".fettle-undo.{thread}").into()
}

/// A file of which all but the time is as it was gets that back in place: an update brings many files again as they were,
/// with another time. `false`: that does not do, it must be put back whole.
fn only_time(walk: &mut Walk<'_>, record: &Record, now: Option<&State>) -> io::Result<bool> {
    let (Some(was), Some(now)) = (&record.was, now) else { return Ok(false) };
    if !matches!(was.kind, Kind::File { .. }) || was.kind != now.kind {
        return Ok(false);
    }
    let Some(held) = walk.hold(record.path.as_path())? else { return Ok(false) };
    let is = attributes(&held)?;
    let timeless = Attributes {
        mtime: is.mtime,
        mtime_nanoseconds: is.mtime_nanoseconds,
        ..was.attributes.clone()
    };
    // Another name of the same file would change with it.
    if !held.metadata().is_file() || held.metadata().nlink() != 1 || is != timeless {
        return Ok(false);
    }
    set_time(&held, &was.attributes).map(|()| true)
}

fn put_directory(walk: &mut Walk<'_>, record: &Record, now: Option<&State>) -> io::Result<bool> {
    let Some(was) = &record.was else { return Ok(false) };
    let Some((directory, name)) = walk.to(record.path.as_path())? else { return Err(no_parent()) };
    if let Some(held) = Held::at(directory, name)? {
        let now = now.map(|now| &now.attributes);
        return own_again(&held, &was.attributes, now).map(|()| true);
    }
    rustix::fs::mkdirat(directory, name, Mode::RWXU)?;
    let made = Held::at(directory, name)?;
    // What was made a moment ago has nothing in it.
    match made.filter(|made| made.metadata().is_dir()) {
        Some(made) if fs::read_dir(made.path())?.next().is_none() => {
            set_attributes(&made, &was.attributes).map(|()| true)
        }
        _ => Err(io::Error::other("something else was put in its place meanwhile")),
    }
}

fn no_parent() -> io::Error {
    io::Error::other("the directory it stood in is not there")
}

/// Kind of what is held and is no regular file.
fn kind_of_special(held: &Held) -> io::Result<Kind> {
    super::state::kind_of(held, || Err(io::ErrorKind::InvalidInput.into()))
}

/// What stood at a path, and what stands there now, as far as that was seen.
type Work<'r, 's> = (&'r Record, Option<&'s State>);

struct Source<'a> {
    root: &'a Path,
    directory: &'a Path,
    pack: Option<File>,
}

impl Source<'_> {
    /// Puts back what stood at these paths, parents before what stands in them. `true`: something was put.
    fn put_all<'r>(&self, work: &[Work<'r, '_>]) -> Vec<(&'r Record, io::Result<bool>)> {
        self.clear_temporaries(work);
        let (directories, others): (Vec<Work<'r, '_>>, Vec<_>) = work
            .iter()
            .filter(|(r, _)| r.was.as_ref().is_some_and(|was| was.kind != Kind::Socket))
            .partition(|(r, _)| r.was.as_ref().is_some_and(|was| was.kind == Kind::Directory));
        // A hard link needs the file it is another name of.
        let (links, files): (Vec<Work<'r, '_>>, Vec<_>) =
            others.into_iter().partition(|(r, _)| matches!(r.content, Some(Content::HardLink(_))));
        let mut walk = Walk::below(self.root);
        let mut done: Vec<_> =
            directories.into_iter().map(|(r, now)| (r, put_directory(&mut walk, r, now))).collect();
        done.extend(side_by_side(&files, |thread, some| {
            let mut walk = Walk::below(self.root);
            let put = |(r, now): &Work<'r, '_>| match only_time(&mut walk, r, *now) {
                Ok(false) => (*r, self.put(&mut walk, r, thread)),
                done => (*r, done),
            };
            some.iter().map(put).collect()
        }));
        done.extend(links.into_iter().map(|(r, _)| (r, self.put(&mut walk, r, 0))));
        done
    }

    /// Removes what one that was killed left half put back.
    fn clear_temporaries(&self, work: &[Work<'_, '_>]) {
        let parents: BTreeSet<&Path> = work.iter().filter_map(|(r, _)| r.path.0.parent()).collect();
        let mut walk = Walk::below(self.root);
        for parent in parents {
            // Nearly always there is none; one that cannot go is in the way of `put`, which tells.
            if let Ok(Some((directory, _))) = walk.to(&parent.join(temporary(0))) {
                for thread in 0..THREADS {
                    let _ = rustix::fs::unlinkat(directory, temporary(thread), AtFlags::empty());
                }
            }
        }
    }

    /// Puts one path back, in one step: there is never a moment without the file.
    fn put(&self, walk: &mut Walk<'_>, record: &Record, thread: usize) -> io::Result<bool> {
        let Some(was) = &record.was else { return Ok(false) };
        let Some((directory, name)) = walk.to(record.path.as_path())? else {
            return Err(no_parent());
        };
        let temporary = temporary(thread);
        let made = self
            .make(record, was, directory, &temporary)
            .and_then(|()| Ok(rustix::fs::renameat(directory, &temporary, directory, name)?));
        if made.is_err() || matches!(record.content, Some(Content::HardLink(_))) {
            // A rename between two names of one file does nothing.
            let _ = rustix::fs::unlinkat(directory, &temporary, AtFlags::empty());
        }
        made.map(|()| true)
    }

    /// Makes it under another name. Whoever owns the directory may put something else there at any moment: what is given
    /// owner and mode is what was made, and never that.
    fn make(
        &self,
        record: &Record,
        was: &State,
        directory: BorrowedFd<'_>,
        name: &OsStr,
    ) -> io::Result<()> {
        const MODE: Mode = Mode::RUSR.union(Mode::WUSR);
        match (&was.kind, &record.content) {
            (Kind::File { .. }, Some(Content::HardLink(to))) => {
                let mut other = Walk::below(self.root);
                let Some((from, to)) = other.to(to.as_path())? else { return Err(no_parent()) };
                return Ok(rustix::fs::linkat(from, to, directory, name, AtFlags::empty())?);
            }
            (Kind::File { size, sha256 }, Some(content)) => {
                let how = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let target = File::from(rustix::fs::openat(directory, name, how, MODE)?);
                let found = self.fill(content, *size, &target)?;
                if found != (*size, *sha256) {
                    return Err(io::Error::other("the preimage of this file is damaged"));
                }
                return set_attributes(&Held::from(target)?, &was.attributes);
            }
            (Kind::Symlink { target }, _) => {
                rustix::fs::symlinkat(target.as_path(), directory, name)?;
            }
            (Kind::Fifo, _) => rustix::fs::mknodat(directory, name, FileType::Fifo, MODE, 0)?,
            (Kind::Device { character, number }, _) => {
                let kind =
                    if *character { FileType::CharacterDevice } else { FileType::BlockDevice };
                rustix::fs::mknodat(directory, name, kind, MODE, *number)?;
            }
            (Kind::File { .. }, None) => {
                return Err(io::Error::other("the manifest names no content for this file"));
            }
            (Kind::Directory | Kind::Socket, _) => return Ok(()),
        }
        match Held::at(directory, name)? {
            Some(made) if kind_of_special(&made)? == was.kind => {
                set_attributes(&made, &was.attributes)
            }
            _ => Err(io::Error::other("something else was put in its place meanwhile")),
        }
    }

    fn fill(
        &self,
        content: &Content,
        size: u64,
        target: &File,
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
                if write_sparse(target, &bytes, 0)? < size {
                    target.set_len(size)?;
                }
                let mut sha256 = [0; 32];
                sha256
                    .copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref());
                Ok((bytes.len() as u64, fettle_core::Digest(sha256)))
            }
            Content::Own(number) => {
                let source = File::open(self.directory.join(number.to_string()))?;
                if rustix::fs::ioctl_ficlone(target, &source).is_ok() {
                    return hash(target, |_, _| Ok(()));
                }
                copy_sparse(&source, target)
            }
            Content::HardLink(_) => Err(io::Error::other("a hard link has no content of its own")),
        }
    }
}

/// Makes everything durable, each file system touched once.
///
/// # Errors
/// When one of them cannot be synced.
pub fn sync(root: &Path, manifest: &Manifest) -> io::Result<()> {
    let (mut seen, mut look) = (BTreeSet::new(), Look::below(root));
    for record in manifest.values() {
        let is_directory = record.was.as_ref().is_some_and(|was| was.kind == Kind::Directory);
        if is_directory
            && let Some(found) = look.hold(&record.path)?
            && found.metadata().is_dir()
            && seen.insert(found.metadata().dev())
        {
            rustix::fs::syncfs(found.open()?)?;
        }
    }
    Ok(())
}
