//! What a package installs, on its way to `dpkg-deb`: each file with its mode, whatever the umask here is.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A directory that is made anew, and packed.
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(super) fn new(root: PathBuf) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
        }
        fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A directory to be installed, also where nothing is in it.
    pub(super) fn directory(&self, at: &str) -> Result<()> {
        let path = self.root.join(at);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))
    }

    pub(super) fn file(&self, at: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.root.join(at);
        self.directory(at.rsplit_once('/').map_or("", |(directory, _)| directory))?;
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    pub(super) fn copy(&self, from: &Path, at: &str, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        self.file(at, &content, mode)
    }

    /// A program, without its symbols.
    pub(super) fn program(&self, from: &Path, at: &str) -> Result<()> {
        self.copy(from, at, 0o755)?;
        output(Command::new("strip").arg("--strip-all").arg(self.root.join(at)))?;
        fs::set_permissions(self.root.join(at), fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// A file as it is read by `zcat`: manual pages and changes.
    pub(super) fn compressed(&self, content: &[u8], at: &str) -> Result<()> {
        self.file(at, content, 0o644)?;
        // -n: neither name nor time, which would be of this build.
        output(Command::new("gzip").args(["-9", "-n", "-f"]).arg(self.root.join(at)))?;
        Ok(())
    }

    /// Every file, by its path below the root, in order.
    pub(super) fn files(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        self.walk(&self.root, &mut |path, is_directory| {
            if !is_directory {
                found.push(path.to_owned());
            }
        })?;
        found.sort();
        Ok(found)
    }

    /// KiB on a file system, as `dpkg-gencontrol(1)` counts: each file in whole ones, and one for each directory.
    pub(super) fn installed_kib(&self) -> Result<u64> {
        let mut kib = 0;
        let root = self.root.clone();
        self.walk(&self.root, &mut |path, is_directory| {
            let bytes = fs::metadata(root.join(path)).map_or(0, |meta| meta.len());
            kib += if is_directory { 1 } else { bytes.div_ceil(1024) };
        })?;
        Ok(kib)
    }

    /// Directories become 0755, and everything is as old as the commit.
    pub(super) fn settle(&self, epoch: u64) -> Result<()> {
        let mut all = Vec::new();
        self.walk(&self.root, &mut |path, is_directory| all.push((path.to_owned(), is_directory)))?;
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch);
        for (path, is_directory) in all.into_iter().chain([(String::new(), true)]).rev() {
            let path = self.root.join(path);
            if is_directory {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            }
            fs::File::open(&path)?.set_modified(then)?;
        }
        Ok(())
    }

    fn walk(&self, directory: &Path, visit: &mut dyn FnMut(&str, bool)) -> Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let below = path.strip_prefix(&self.root)?;
            let Some(below) = below.to_str() else { bail!("{} is no UTF-8", path.display()) };
            visit(below, path.is_dir());
            if path.is_dir() {
                self.walk(&path, visit)?;
            }
        }
        Ok(())
    }
}

/// What a program prints; an error when it fails.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let said = command.output().with_context(|| format!("starting {shown}"))?;
    if !said.status.success() {
        bail!("{shown} ended with {}: {}", said.status, String::from_utf8_lossy(&said.stderr));
    }
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}
