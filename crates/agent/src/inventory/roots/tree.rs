//! Opening files in a root whose owner is not trusted.
//!
//! Every path is resolved by the kernel with openat2(2): never above the root, never over a mount inside of it, never through
//! the links of `/proc`. What is opened is looked at first, without its being opened: a device or a pipe stays shut. What a
//! process serves (FUSE) or a network is not touched at all, because it may make us wait for ever.

use crate::inventory::distant;
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// More layers than an image has.
const MOST_LAYERS: usize = 512;
/// Names of one directory that are looked at.
const MOST_NAMES: usize = 20_000;

/// A root as it is read: one directory, or layers of which the upper hide the lower, as overlayfs has them.
pub(super) struct Tree {
    layers: Vec<OwnedFd>,
}

/// What stands at a path of one layer.
enum Place {
    /// This.
    Found(OwnedFd),
    /// Nothing, and lower layers may have something.
    Below,
    /// Nothing, and whatever lower layers have is hidden.
    Hidden,
}

impl Tree {
    /// The root that a process has.
    pub(super) fn of_process(pid: u32) -> io::Result<Self> {
        let root = directory(Path::new(&format!("/proc/{pid}/root")))?;
        // Which file system that is, the kernel says without asking it; of this very directory, because the process may
        // move to another root meanwhile.
        let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let mount = rustix::fs::statx(&root, "", how, StatxFlags::MNT_ID)?.stx_mnt_id;
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        let kind =
            file_system(&mounts, mount).ok_or_else(|| other("its root is no mount of its"))?;
        if distant::is_name(kind) {
            return Err(other(&format!("its root is on {kind}, which is not looked at")));
        }
        Ok(Self { layers: vec![root] })
    }

    /// What is stored in these directories, topmost first.
    pub(super) fn of_layers(places: &[PathBuf]) -> io::Result<Self> {
        if places.len() > MOST_LAYERS {
            return Err(other("it has more layers than any"));
        }
        let open = |place: &PathBuf| {
            let layer = directory(place)?;
            match distant::is_type(&rustix::fs::fstatfs(&layer)?) {
                true => Err(other("it is on a distant file system")),
                false => Ok(layer),
            }
        };
        Ok(Self { layers: places.iter().map(open).collect::<io::Result<_>>()? })
    }

    /// Opens a plain file; `None` where there is none.
    pub(super) fn file(&self, path: &str) -> io::Result<Option<File>> {
        for layer in &self.layers {
            match self.place(layer, path)? {
                Place::Found(there) => return plain(&there),
                Place::Below => {}
                Place::Hidden => break,
            }
        }
        Ok(None)
    }

    /// The whole of a plain file; `None` where there is none.
    ///
    /// # Errors
    /// Where it is longer than `most`, too.
    pub(super) fn bytes(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 <= most {
            true => Ok(Some(bytes)),
            false => Err(other(&format!("{path} is longer than {} MiB", most >> 20))),
        }
    }

    /// Names in a directory, sorted; none where there is no directory.
    pub(super) fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = BTreeSet::new();
        for layer in &self.layers {
            match self.place(layer, path)? {
                Place::Found(there) if kind(&there)? == FileType::Directory => {
                    for name in entries(&there)? {
                        names.insert(name);
                        if names.len() > MOST_NAMES {
                            return Err(other(&format!("{path} has more names than any")));
                        }
                    }
                    if is_opaque(&there) {
                        break;
                    }
                }
                Place::Below => {}
                Place::Found(_) | Place::Hidden => break,
            }
        }
        Ok(names.into_iter().collect())
    }

    fn place(&self, layer: &OwnedFd, path: &str) -> io::Result<Place> {
        if let [only] = &self.layers[..] {
            // Links are followed within the root, as its own processes follow them.
            return match within(only, path, ResolveFlags::IN_ROOT) {
                Ok(there) => Ok(Place::Found(there)),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(Place::Below),
                Err(Errno::XDEV) => Err(other(&format!("{path} is on another mount"))),
                Err(e) => Err(e.into()),
            };
        }
        // Where a link leads may be in another layer, so none is followed.
        let alone = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mut at: Option<OwnedFd> = None;
        let mut hides = false;
        for part in path.split('/') {
            let from = at.as_ref().unwrap_or(layer);
            let below = match within(from, part, alone) {
                Ok(below) => below,
                Err(Errno::NOENT) if hides => return Ok(Place::Hidden),
                Err(Errno::NOENT) => return Ok(Place::Below),
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Place::Hidden),
                Err(e) => return Err(e.into()),
            };
            if is_whiteout(&below)? {
                return Ok(Place::Hidden);
            }
            hides |= is_opaque(&below);
            at = Some(below);
        }
        at.map(Place::Found).ok_or_else(|| other("an empty path"))
    }
}

fn other(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

/// A directory that this host itself names.
fn directory(path: &Path) -> io::Result<OwnedFd> {
    let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, how, Mode::empty())?)
}

/// What stands at a path below a directory, not opened.
fn within(from: &OwnedFd, path: &str, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    let how = how | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let flags = match how.contains(ResolveFlags::NO_SYMLINKS) {
        true => flags,
        false => flags - OFlags::NOFOLLOW,
    };
    // Somebody who renames directories all the while makes the kernel give up.
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(from, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) if tries < 16 => tries += 1,
            done => return done,
        }
    }
}

fn kind(there: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(there)?.st_mode))
}

/// overlayfs writes a device of no number where something of a lower layer was removed.
fn is_whiteout(there: &OwnedFd) -> io::Result<bool> {
    let stat = rustix::fs::fstat(there)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
}

/// Does a directory hide the one below it?
fn is_opaque(there: &OwnedFd) -> bool {
    let place = own_link(there);
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0; 4];
        rustix::fs::getxattr(place.as_str(), *name, &mut value[..])
            .is_ok_and(|length| value.get(..length) == Some(b"y"))
    })
}

/// The name under which the kernel knows what we hold: it leads to that very thing, and nowhere else.
fn own_link(there: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", there.as_raw_fd())
}

/// Opens what was found, where it is a plain file.
fn plain(there: &OwnedFd) -> io::Result<Option<File>> {
    if kind(there)? != FileType::RegularFile {
        return Ok(None);
    }
    let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(Some(File::from(rustix::fs::open(own_link(there).as_str(), how, Mode::empty())?)))
}

fn entries(there: &OwnedFd) -> io::Result<Vec<String>> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(own_link(there).as_str(), how, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(opened)?.take(MOST_NAMES) {
        if let Ok(name) = entry?.file_name().to_owned().into_string()
            && !matches!(name.as_str(), "." | "..")
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// The type of the file system of a mount, by its number (proc_pid_mountinfo(5)).
fn file_system(mountinfo: &str, mount: u64) -> Option<&str> {
    let mount = mount.to_string();
    let line = mountinfo.lines().find(|line| line.split(' ').next() == Some(&mount))?;
    line.split_once(" - ")?.1.split(' ').next()
}

/// Device (major, minor) and inode.
pub(super) type Identity = (u32, u32, u64);

/// Which directory the root is that a process has, as the kernel knows them without asking whoever serves it.
pub(super) fn identity(path: &Path) -> Option<Identity> {
    let how = AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(rustix::fs::CWD, path, how, StatxFlags::INO).ok()?;
    Some((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}

/// When it last changed, in seconds since 1970.
pub(super) fn changed(file: &File) -> i64 {
    rustix::fs::fstat(file.as_fd()).map_or(0, |stat| stat.st_ctime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_number() {
        let mounts = "1 2 0:3 / / rw - ext4 /dev/sda rw\n15 1 0:9 / /proc rw - proc proc rw\n\
                      7 1 0:8 / / rw shared:1 - fuse.overlay x rw\n";
        assert_eq!(file_system(mounts, 7), Some("fuse.overlay"));
        assert_eq!(file_system(mounts, 1), Some("ext4"));
        assert_eq!(file_system(mounts, 5), None);
    }
}
