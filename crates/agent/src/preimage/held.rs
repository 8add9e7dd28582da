//! Things of the host, held open: whatever takes their names meanwhile, it is they that are read and changed.
//!
//! An undo is done by root in directories that belong to others: configuration of a service that its user may write, for
//! one. Between a look at a path and a change of it, whoever owns a directory on the way can put a link in its place, to a
//! file that is none of their business (`symlink(7)`, `openat(2)`, "Rationale for openat() and other directory file
//! descriptor APIs"). So each directory is opened from the one above it, never through a link; what stands in it is opened
//! by its name there; and from then on it is spoken of by its descriptor alone.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

/// Neither read nor waited for: a pipe, or a device, does not even notice.
const HOLD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What stood at a path when it was opened.
#[derive(Debug)]
pub(crate) struct Held {
    file: File,
    metadata: Metadata,
}

impl Held {
    /// What stands at a path, a link itself and not what it says. `None`: nothing does. Links among its parents are
    /// followed: that is for paths nobody else can change.
    ///
    /// # Errors
    /// Any other than that nothing is there.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        Self::at(CWD, path.as_os_str())
    }

    /// The same of a name in a directory.
    ///
    /// # Errors
    /// Any other than that nothing is there.
    pub(crate) fn at(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Self>> {
        match rustix::fs::openat(directory, name, HOLD, Mode::empty()) {
            Ok(held) => {
                let file = File::from(held);
                let metadata = file.metadata()?;
                Ok(Some(Self { file, metadata }))
            }
            Err(e) if is_nothing(e) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// A file that was opened already.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub(super) fn from(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { file, metadata })
    }

    /// As it was when it was opened.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// As it is now.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub(crate) fn metadata_now(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// A path by which programming interfaces that take no descriptor find it, whatever it is (`proc(5)`,
    /// `/proc/pid/fd`): it is to be followed.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// For reading, where it is a file or a directory.
    ///
    /// # Errors
    /// When it is something else, or cannot be opened.
    pub(crate) fn open(&self) -> io::Result<File> {
        if !self.metadata.is_file() && !self.metadata.is_dir() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::open(self.path(), how, Mode::empty())?.into())
    }

    /// What a link says.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn target(&self) -> io::Result<PathBuf> {
        let said = rustix::fs::readlinkat(&self.file, "", Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(said.into_bytes())))
    }
}

fn is_nothing(error: Errno) -> bool {
    // A parent that became a file, or a name too long to be one: nothing is there either.
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG)
}

/// A way down through directories below a root, never through a link. Those of the last path are kept open, so that
/// paths in their order open each directory once.
#[derive(Debug)]
pub(super) struct Walk<'r> {
    root: &'r Path,
    /// The root itself, once it was needed; then one below the other.
    open: Vec<(OsString, OwnedFd)>,
}

impl<'r> Walk<'r> {
    pub(super) fn below(root: &'r Path) -> Self {
        Self { root, open: Vec::new() }
    }

    /// The directory that a path stands in, and its name there. `None`: there is no such directory, or it is reached only
    /// through a link, and what is there is somewhere else.
    ///
    /// # Errors
    /// When a directory cannot be opened, other than for not being there.
    pub(super) fn to<'a>(
        &'a mut self,
        path: &'a Path,
    ) -> io::Result<Option<(BorrowedFd<'a>, &'a OsStr)>> {
        let name = path.file_name().unwrap_or(OsStr::new("."));
        let mut above = vec![OsStr::new("/")];
        for component in path.parent().unwrap_or(path).components() {
            match component {
                Component::RootDir => {}
                Component::Normal(name) => above.push(name),
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            }
        }
        let known = self.open.iter().zip(&above).take_while(|((open, _), name)| open == *name);
        self.open.truncate(known.count());
        for name in &above[self.open.len()..] {
            let how = HOLD | OFlags::DIRECTORY;
            let opened = match self.open.last() {
                Some((_, directory)) => rustix::fs::openat(directory, *name, how, Mode::empty()),
                // The way to the root is the caller's, and nobody else's.
                None => rustix::fs::open(self.root, how - OFlags::NOFOLLOW, Mode::empty()),
            };
            match opened {
                Ok(directory) => self.open.push(((*name).to_owned(), directory)),
                Err(e) if is_nothing(e) || e == Errno::LOOP => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(self.open.last().map(|(_, directory)| (directory.as_fd(), name)))
    }

    /// What stands at a path below the root. `None`: nothing does, or only through a link.
    ///
    /// # Errors
    /// As [`Walk::to`].
    pub(super) fn hold(&mut self, path: &Path) -> io::Result<Option<Held>> {
        match self.to(path)? {
            Some((directory, name)) => Held::at(directory, name),
            None => Ok(None),
        }
    }
}
