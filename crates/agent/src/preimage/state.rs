//! What stands at a path: kind, content, owner, mode, times, extended attributes.

use crate::host_path::HostPath;
use fettle_core::Digest;
use rustix::fs::{AtFlags, CWD, IFlags, Timespec, Timestamps};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
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
        /// Of the content.
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
pub struct State {
    /// Kind and content.
    #[serde(flatten)]
    pub kind: Kind,
    /// The rest.
    #[serde(flatten)]
    pub attributes: Attributes,
}

impl State {
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
    let Some(metadata) = metadata(path)? else { return Ok(None) };
    let kind = kind_of(path, &metadata, |path| {
        hash(&mut File::open(path)?, |_| Ok(())).map(|(size, sha256)| Kind::File { size, sha256 })
    })?;
    Ok(Some(State { kind, attributes: attributes(path, &metadata)? }))
}

/// `lstat`. `None`: nothing is there.
///
/// # Errors
/// Any other than that nothing is there.
pub(super) fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        // A parent that became a file, or a name too long to be one: nothing is there either.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::InvalidFilename
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(e),
    }
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
fn flags(path: &Path, metadata: &Metadata) -> io::Result<IFlags> {
    if !metadata.is_file() && !metadata.is_dir() {
        return Ok(IFlags::empty());
    }
    let Some(file) = open_for_flags(path)? else { return Ok(IFlags::empty()) };
    Ok(rustix::fs::ioctl_getflags(&file).unwrap_or(IFlags::empty()) & FLAGS)
}

fn open_for_flags(path: &Path) -> io::Result<Option<rustix::fd::OwnedFd>> {
    use rustix::fs::{Mode, OFlags};
    let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, how, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::ACCESS) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Takes away the flags that forbid a change of this file or directory. Nothing there: nothing to do.
///
/// # Errors
/// When they stand there and cannot be taken away.
pub(super) fn permit(path: &Path) -> io::Result<()> {
    let Some(found) = metadata(path)? else { return Ok(()) };
    if flags(path, &found)?.intersects(FORBIDDING)
        && let Some(file) = open_for_flags(path)?
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
pub(super) fn set_flags(path: &Path, wanted: u32) -> io::Result<()> {
    let Some(found) = metadata(path)? else { return Ok(()) };
    let wanted = IFlags::from_bits_retain(wanted) & FLAGS;
    if flags(path, &found)? == wanted {
        return Ok(());
    }
    let Some(file) = open_for_flags(path)? else { return Ok(()) };
    let now = rustix::fs::ioctl_getflags(&file)?;
    Ok(rustix::fs::ioctl_setflags(&file, (now - FLAGS) | wanted)?)
}

pub(super) fn kind_of(
    path: &Path,
    metadata: &Metadata,
    file: impl FnOnce(&Path) -> io::Result<Kind>,
) -> io::Result<Kind> {
    let t = metadata.file_type();
    Ok(if t.is_file() {
        file(path)?
    } else if t.is_symlink() {
        Kind::Symlink { target: HostPath(fs::read_link(path)?) }
    } else if t.is_dir() {
        Kind::Directory
    } else if t.is_fifo() {
        Kind::Fifo
    } else if t.is_socket() {
        Kind::Socket
    } else {
        Kind::Device { character: t.is_char_device(), number: metadata.rdev() }
    })
}

/// SHA-256 and length of all that is left in `source`; each piece goes to `sink` as well.
///
/// # Errors
/// Those of reading and of the sink.
pub(super) fn hash(
    source: &mut File,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<(u64, Digest)> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    // Small enough to come from the heap: most files are, and there are thousands.
    let mut buffer = vec![0; 32 << 10];
    let mut size = 0;
    loop {
        let n = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        context.update(&buffer[..n]);
        sink(&buffer[..n])?;
        size += n as u64;
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok((size, Digest(digest)))
}

/// Owner, mode, times, extended attributes.
///
/// # Errors
/// When the extended attributes cannot be read.
pub(super) fn attributes(path: &Path, metadata: &Metadata) -> io::Result<Attributes> {
    Ok(Attributes {
        uid: metadata.uid(),
        gid: metadata.gid(),
        mode: metadata.mode() & 0o7777,
        mtime: metadata.mtime(),
        mtime_nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
        xattrs: xattrs(path)?,
        flags: flags(path, metadata)?.bits(),
    })
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<HostPath, HostPath>> {
    use rustix::io::Errno;
    let mut names = vec![0u8; 1024];
    let length = loop {
        match rustix::fs::llistxattr(path, names.as_mut_slice()) {
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
            match rustix::fs::lgetxattr(path, name, value.as_mut_slice()) {
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

/// Gives a path these attributes, but for its flags. Order matters: a change of owner clears set-user-id and
/// capabilities.
///
/// # Errors
/// The first that cannot be set.
pub(super) fn set_attributes(
    path: &Path,
    attributes: &Attributes,
    symlink: bool,
) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let now = fs::symlink_metadata(path)?;
    let given = (now.uid(), now.gid()) != (attributes.uid, attributes.gid);
    if given {
        std::os::unix::fs::lchown(path, Some(attributes.uid), Some(attributes.gid))?;
    }
    if !symlink && (given || now.mode() & 0o7777 != attributes.mode) {
        fs::set_permissions(path, fs::Permissions::from_mode(attributes.mode))?;
    }
    let current = xattrs(path)?;
    for name in current.keys().filter(|name| !attributes.xattrs.contains_key(*name)) {
        rustix::fs::lremovexattr(path, name.as_path())?;
    }
    for (name, value) in
        attributes.xattrs.iter().filter(|(name, value)| current.get(*name) != Some(value))
    {
        rustix::fs::lsetxattr(
            path,
            name.as_path(),
            value.0.as_os_str().as_bytes(),
            rustix::fs::XattrFlags::empty(),
        )?;
    }
    let time = Timespec { tv_sec: attributes.mtime, tv_nsec: attributes.mtime_nanoseconds.into() };
    let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let times = Timestamps { last_access: keep, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
