//! What stands at a path: kind, content, owner, mode, times, extended attributes.

use super::content::hash;
use super::held::Held;
use crate::host_path::HostPath;
use fettle_core::Digest;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, CWD, IFlags, Timespec, Timestamps};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// What kind of thing stands at a path, and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Of the content, as `content.rs` beside this says.
        sha256: Digest,
    },
    /// A symbolic link.
    Symlink {
        /// What it says, byte for byte.
        target: HostPath,
    },
    /// A directory.
    Directory,
    /// A device node.
    Device {
        /// Character device, else block device.
        character: bool,
        /// Device number.
        number: u64,
    },
    /// A named pipe.
    Fifo,
    /// A socket: never restored, whoever listens makes it anew.
    Socket,
}

/// Owner, mode, time of change, extended attributes (which hold ACLs and capabilities).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Seconds of the time of change of the content.
    pub mtime: i64,
    /// Nanoseconds of it.
    pub mtime_nanoseconds: u32,
    /// Name → value: bytes in text, like paths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<HostPath, HostPath>,
    /// Inode flags of `FLAGS`, where the file system has them: `chattr(1)`.
    #[serde(default, skip_serializing_if = "no_flags")]
    pub flags: u32,
}

/// Inode flags that are kept: those that people set. The others are the file system's own business.
pub(super) const FLAGS: IFlags = IFlags::IMMUTABLE
    .union(IFlags::APPEND)
    .union(IFlags::NODUMP)
    .union(IFlags::NOATIME)
    .union(IFlags::SYNC)
    .union(IFlags::DIRSYNC);
/// Of these, those that forbid a change.
const FORBIDDING: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

fn no_flags(flags: &u32) -> bool {
    *flags == 0
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Flat")]
pub struct State {
    /// Kind and content.
    #[serde(flatten)]
    pub kind: Kind,
    /// The rest.
    #[serde(flatten)]
    pub attributes: Attributes,
}

/// A [`State`] as it is written: a manifest has thousands, and read as what it is, each would be taken apart and put
/// together again in memory.
#[derive(Deserialize)]
struct Flat {
    kind: KindName,
    size: Option<u64>,
    sha256: Option<Digest>,
    target: Option<HostPath>,
    character: Option<bool>,
    number: Option<u64>,
    uid: u32,
    gid: u32,
    mode: u32,
    mtime: i64,
    mtime_nanoseconds: u32,
    #[serde(default)]
    xattrs: BTreeMap<HostPath, HostPath>,
    #[serde(default)]
    flags: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KindName {
    File,
    Symlink,
    Directory,
    Device,
    Fifo,
    Socket,
}

impl TryFrom<Flat> for State {
    type Error = String;

    fn try_from(flat: Flat) -> Result<Self, String> {
        fn needs<T>(value: Option<T>, name: &str) -> Result<T, String> {
            value.ok_or_else(|| format!("`{name}` is missing"))
        }
        let kind = match flat.kind {
            KindName::File => Kind::File {
                size: needs(flat.size, "size")?,
                sha256: needs(flat.sha256, "sha256")?,
            },
            KindName::Symlink => Kind::Symlink { target: needs(flat.target, "target")? },
            KindName::Directory => Kind::Directory,
            KindName::Device => Kind::Device {
                character: needs(flat.character, "character")?,
                number: needs(flat.number, "number")?,
            },
            KindName::Fifo => Kind::Fifo,
            KindName::Socket => Kind::Socket,
        };
        let Flat { uid, gid, mode, mtime, mtime_nanoseconds, xattrs, flags, .. } = flat;
        let attributes = Attributes { uid, gid, mode, mtime, mtime_nanoseconds, xattrs, flags };
        Ok(Self { kind, attributes })
    }
}

impl State {
    /// What is held, with its content.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn of(held: &Held) -> io::Result<Self> {
        // There are thousands: opened once, a file tells both its content and its flags.
        let file = held.metadata().is_file().then(|| held.open()).transpose()?;
        let kind = kind_of(held, || match &file {
            Some(file) => {
                hash(file, |_, _| Ok(())).map(|(size, sha256)| Kind::File { size, sha256 })
            }
            None => Err(io::ErrorKind::InvalidInput.into()),
        })?;
        let flags = match &file {
            Some(file) => flags_of(file),
            None => flags(held)?,
        };
        Ok(Self { kind, attributes: attributes_with(held, flags)? })
    }
    /// Do its flags forbid a change?
    pub(super) fn forbids(&self) -> bool {
        IFlags::from_bits_retain(self.attributes.flags).intersects(FORBIDDING)
    }
    /// Is it the same thing, as far as anybody else can be said to have changed it? Times do not count:
    /// a directory's time changes with every entry, and a file touched holds what it held.
    pub fn same(&self, other: &Self) -> bool {
        let plain =
            |s: &Self| Attributes { mtime: 0, mtime_nanoseconds: 0, ..s.attributes.clone() };
        let (mut a, mut b) = (plain(self), plain(other));
        if matches!(self.kind, Kind::Symlink { .. }) {
            (a.mode, b.mode) = (0, 0); // not settable, meaningless
        }
        self.kind == other.kind && a == b
    }
}

/// Looks at a path without following a link at its end. `None`: nothing is there.
///
/// # Errors
/// When it cannot be read, other than for not being there.
pub fn observe(path: &Path) -> io::Result<Option<State>> {
    Held::of(path)?.map(|held| State::of(&held)).transpose()
}

/// A path with the links among its parents followed, below `root`: where the host's files really are.
pub fn physical(root: &Path, path: &HostPath) -> HostPath {
    let resolved = || {
        let (parent, name) = (path.0.parent()?, path.0.file_name()?);
        let parent = HostPath::from(parent).below(root).canonicalize().ok()?;
        let parent = parent.strip_prefix(root.canonicalize().ok()?).ok()?.to_owned();
        Some(HostPath(Path::new("/").join(parent).join(name)))
    };
    resolved().unwrap_or_else(|| path.clone())
}

/// Inode flags. None where the file system, or this kind of file, has no such thing.
fn flags(held: &Held) -> io::Result<IFlags> {
    Ok(open_for_flags(held)?.map_or(IFlags::empty(), flags_of))
}

/// None where the file system has none.
fn flags_of(file: impl AsFd) -> IFlags {
    rustix::fs::ioctl_getflags(file).unwrap_or(IFlags::empty()) & FLAGS
}

fn open_for_flags(held: &Held) -> io::Result<Option<File>> {
    if !held.metadata().is_file() && !held.metadata().is_dir() {
        return Ok(None);
    }
    match held.open() {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(e) => Err(e),
    }
}

/// Takes away the flags that forbid a change of this file or directory.
///
/// # Errors
/// When they stand there and cannot be taken away.
pub(super) fn permit(held: &Held) -> io::Result<()> {
    if let Some(file) = open_for_flags(held)?
        && flags_of(&file).intersects(FORBIDDING)
    {
        let now = rustix::fs::ioctl_getflags(&file)?;
        rustix::fs::ioctl_setflags(&file, now - FORBIDDING)?;
    }
    Ok(())
}

/// Gives a file or directory exactly these of `FLAGS`.
///
/// # Errors
/// When the file system refuses.
pub(super) fn set_flags(held: &Held, wanted: u32) -> io::Result<()> {
    let wanted = IFlags::from_bits_retain(wanted) & FLAGS;
    let Some(file) = open_for_flags(held)? else { return Ok(()) };
    if flags_of(&file) == wanted {
        return Ok(());
    }
    let now = rustix::fs::ioctl_getflags(&file)?;
    Ok(rustix::fs::ioctl_setflags(&file, (now - FLAGS) | wanted)?)
}

/// What kind of thing is held; `file` says what is in a regular one.
pub(super) fn kind_of(held: &Held, file: impl FnOnce() -> io::Result<Kind>) -> io::Result<Kind> {
    let t = held.metadata().file_type();
    Ok(if t.is_file() {
        file()?
    } else if t.is_symlink() {
        Kind::Symlink { target: HostPath(held.target()?) }
    } else if t.is_dir() {
        Kind::Directory
    } else if t.is_fifo() {
        Kind::Fifo
    } else if t.is_socket() {
        Kind::Socket
    } else {
        Kind::Device { character: t.is_char_device(), number: held.metadata().rdev() }
    })
}

/// Owner, mode, times, extended attributes.
///
/// # Errors
/// When the extended attributes cannot be read.
pub(super) fn attributes(held: &Held) -> io::Result<Attributes> {
    attributes_with(held, flags(held)?)
}

fn attributes_with(held: &Held, flags: IFlags) -> io::Result<Attributes> {
    let metadata = held.metadata();
    Ok(Attributes {
        uid: metadata.uid(),
        gid: metadata.gid(),
        mode: metadata.mode() & 0o7777,
        mtime: metadata.mtime(),
        mtime_nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
        xattrs: xattrs(held)?,
        flags: flags.bits(),
    })
}

fn xattrs(held: &Held) -> io::Result<BTreeMap<HostPath, HostPath>> {
    use rustix::io::Errno;
    let path = held.path();
    // Hardly any file has one.
    if rustix::fs::listxattr(&path, [0u8; 1024].as_mut_slice()) == Ok(0) {
        return Ok(BTreeMap::new());
    }
    let mut names = vec![0u8; 1024];
    let length = loop {
        match rustix::fs::listxattr(&path, names.as_mut_slice()) {
            Ok(n) => break n,
            Err(Errno::RANGE) if names.len() < 1 << 17 => names.resize(names.len() * 4, 0),
            Err(Errno::NOTSUP | Errno::NOENT) => return Ok(BTreeMap::new()),
            Err(e) => return Err(e.into()),
        }
    };
    let mut out = BTreeMap::new();
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        // What overlayfs notes for itself is no attribute of the file.
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        // xfs lists each access control list twice: as `system.posix_acl_…`, and as what it keeps it in.
        if name.starts_with(b"trusted.SGI_ACL_") {
            continue;
        }
        let mut value = vec![0u8; 1024];
        let length = loop {
            match rustix::fs::getxattr(&path, name, value.as_mut_slice()) {
                Ok(n) => break Some(n),
                Err(Errno::RANGE) if value.len() < 1 << 17 => value.resize(value.len() * 4, 0),
                Err(Errno::NODATA) => break None,
                Err(e) => return Err(e.into()),
            }
        };
        if let Some(length) = length {
            value.truncate(length);
            let text = |bytes| HostPath(PathBuf::from(std::ffi::OsString::from_vec(bytes)));
            out.insert(text(name.to_vec()), text(value));
        }
    }
    Ok(out)
}

/// Gives what is held these attributes, but for its flags. Order matters: a change of owner clears set-user-id and
/// capabilities.
///
/// # Errors
/// The first that cannot be set.
pub(super) fn set_attributes(held: &Held, attributes: &Attributes) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let (path, now) = (held.path(), held.metadata_now()?);
    let given = (now.uid(), now.gid()) != (attributes.uid, attributes.gid);
    if given {
        std::os::unix::fs::chown(&path, Some(attributes.uid), Some(attributes.gid))?;
    }
    if !now.is_symlink() && (given || now.mode() & 0o7777 != attributes.mode) {
        fs::set_permissions(&path, fs::Permissions::from_mode(attributes.mode))?;
    }
    let current = xattrs(held)?;
    for name in current.keys().filter(|name| !attributes.xattrs.contains_key(*name)) {
        rustix::fs::removexattr(&path, name.as_path())?;
    }
    for (name, value) in
        attributes.xattrs.iter().filter(|(name, value)| current.get(*name) != Some(value))
    {
        let value = value.0.as_os_str().as_bytes();
        rustix::fs::setxattr(&path, name.as_path(), value, rustix::fs::XattrFlags::empty())?;
    }
    set_time(held, attributes)
}

/// Gives what is held the time of change alone.
///
/// # Errors
/// When it cannot be set.
pub(super) fn set_time(held: &Held, attributes: &Attributes) -> io::Result<()> {
    let time = Timespec { tv_sec: attributes.mtime, tv_nsec: attributes.mtime_nanoseconds.into() };
    let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let times = Timestamps { last_access: keep, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, held.path(), &times, AtFlags::empty())?)
}
