//! Files of a host, resolved as inside the host: no link in it leads out of it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::LabHost;
use crate::LabError;

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT;

impl LabHost {
    /// Content of a file of the host, running or not.
    pub fn read_file(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, LabError> {
        let path = path.as_ref();
        let shown = self.shown(path);
        let file = self
            .open(path, OFlags::RDONLY | OFlags::CLOEXEC)
            .map_err(LabError::errno("read", &shown))?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).map_err(LabError::io("read", &shown))?;
        Ok(bytes)
    }

    /// Whether there is such a file in the host.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.open(path.as_ref(), OFlags::PATH | OFlags::CLOEXEC).is_ok()
    }

    /// Writes a file of the host (mode 0644), with the directories above it. What has the old file
    /// open, or runs it, keeps it.
    pub fn write_file(
        &self,
        path: impl AsRef<Path>,
        content: impl AsRef<[u8]>,
    ) -> Result<(), LabError> {
        self.write_with_mode(path.as_ref(), &mut content.as_ref(), 0o644)
    }

    /// Copies a file or directory of this machine to `to` in the host, with its modes, owned by root.
    pub fn copy_in(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), LabError> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let meta = fs::metadata(from).map_err(LabError::io("read", from))?;
        if meta.is_dir() {
            for entry in fs::read_dir(from).map_err(LabError::io("list", from))? {
                let entry = entry.map_err(LabError::io("list", from))?;
                self.copy_in(entry.path(), to.join(entry.file_name()))?;
            }
            return Ok(());
        }
        let mut file = File::open(from).map_err(LabError::io("read", from))?;
        self.write_with_mode(to, &mut file, meta.permissions().mode() & 0o7777)
    }

    fn write_with_mode(
        &self,
        path: &Path,
        content: &mut dyn Read,
        mode: u32,
    ) -> Result<(), LabError> {
        let shown = self.shown(path);
        let name =
            path.file_name().ok_or(Errno::ISDIR).map_err(LabError::errno("write", &shown))?;
        let parent = self
            .open_parents(path.parent().unwrap_or(Path::new("/")))
            .map_err(LabError::errno("make the directories of", &shown))?;
        let mut new = OsStr::new(".lab-new-").to_owned();
        new.push(name);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, &new, flags, Mode::from_raw_mode(0o600))
            .map_err(LabError::errno("write", &shown))?;
        let mut file = File::from(file);
        std::io::copy(content, &mut file)
            .and_then(|_| file.flush())
            .map_err(LabError::io("write", &shown))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
            .map_err(LabError::errno("write", &shown))?;
        rustix::fs::renameat(&parent, &new, &parent, name).map_err(LabError::errno("write", &shown))
    }

    /// The host's root: of the running system, so that what is mounted in it is seen, or on disk.
    fn root_handle(&self) -> Result<OwnedFd, Errno> {
        let root = match self.leader_pid() {
            Some(leader) => PathBuf::from(format!("/proc/{leader}/root")),
            None => self.root(),
        };
        rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat2(self.root_handle()?, path, flags, Mode::empty(), IN_ROOT)
    }

    /// Opens a directory of the host, and makes it and those above it where they are missing.
    fn open_parents(&self, dir: &Path) -> Result<OwnedFd, Errno> {
        let root = self.root_handle()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |dir: &Path| rustix::fs::openat2(&root, dir, flags, Mode::empty(), IN_ROOT);
        let mut path = PathBuf::from("/");
        let mut handle = open(&path)?;
        for part in dir.components().filter(|part| matches!(part, std::path::Component::Normal(_)))
        {
            path.push(part);
            handle = match open(&path) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&handle, part.as_os_str(), Mode::from_raw_mode(0o755))?;
                    open(&path)?
                }
                other => other?,
            };
        }
        Ok(handle)
    }

    fn shown(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("{}:{}", self.name, path.display()))
    }
}
