//! One host of the lab.

mod boot;
mod command;
mod files;

pub use boot::Booted;
pub use command::{HostCommand, Output, Running};

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::{copy_resolver, write};
use crate::lab::Inner;
use crate::tool::{Tool, last_lines};
use crate::{LabError, disk, network};

/// What a host's root file system is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootFs {
    /// A copy-on-write copy of the base: a btrfs subvolume (or a plain copy where that is not
    /// possible).
    #[default]
    CopyOnWrite,
    /// As `CopyOnWrite`, with `/usr`, `/var`, `/boot` and `/home` on file systems of their own.
    Separate,
    /// An ext4 file system of its own, as most servers have; it can be filled up.
    Ext4 {
        /// Its size in MiB; the base needs about 700.
        mib: u32,
    },
    /// An xfs of its own.
    Xfs {
        /// Its size in MiB.
        mib: u32,
    },
}

/// How a host is to be.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// Its root file system.
    pub root: RootFs,
    /// Keep the archives of all pending upgrades in apt's cache, as fetched with the base. Without,
    /// the host fetches them itself.
    pub prefetched: bool,
    /// Boot it.
    pub boot: bool,
    /// What its web page says, in place of "This is NAME."
    pub page: Option<String>,
}

impl Default for HostSpec {
    fn default() -> Self {
        Self { root: RootFs::default(), prefetched: true, boot: true, page: None }
    }
}

/// A host: a Debian with its own systemd, address, ssh keys and web server.
///
/// The value is a handle; clones mean the same host, and dropping it does nothing to the host.
#[derive(Debug, Clone)]
pub struct LabHost {
    inner: Arc<Inner>,
    name: String,
    address: Ipv4Addr,
}

impl LabHost {
    pub(crate) fn new(inner: Arc<Inner>, name: &str, address: Ipv4Addr) -> Self {
        Self { inner, name: name.to_owned(), address }
    }

    /// Its name, which is its host name too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the lab's bridge.
    pub fn ip(&self) -> Ipv4Addr {
        self.address
    }

    /// Its root directory as seen from this machine. File systems mounted *inside* the host (`/run`,
    /// `/tmp`) are not in it, and absolute symbolic links in it point out of it: read and write
    /// single files with [`LabHost::read_file`] and [`LabHost::write_file`].
    pub fn root(&self) -> PathBuf {
        self.inner.config.host_roots().join(&self.name)
    }

    /// Its root directory with everything that is mounted in the host; only while it runs.
    pub fn live_root(&self) -> Result<PathBuf, LabError> {
        match self.leader_pid() {
            Some(pid) => Ok(PathBuf::from(format!("/proc/{pid}/root"))),
            None => Err(LabError::NotRunning { host: self.name.clone(), console: self.console() }),
        }
    }

    /// What it last printed on its console.
    pub fn console(&self) -> String {
        let bytes = fs::read(self.console_file()).unwrap_or_default();
        plain(&last_lines(&bytes, 15))
    }

    fn console_file(&self) -> PathBuf {
        self.inner.config.consoles().join(format!("{}.log", self.name))
    }

    /// Kills the host if it runs, and removes it.
    pub fn destroy(&self) -> Result<(), LabError> {
        self.inner.owned("removing a host")?;
        self.kill()?;
        disk::remove_root(&self.inner.config, &self.root())?;
        let lock = self.inner.config.host_roots().join(format!(".#{}.lck", self.name));
        for file in [self.console_file(), lock] {
            if file.exists() {
                fs::remove_file(&file).map_err(LabError::io("remove", &file))?;
            }
        }
        self.inner.change(|state| {
            state.hosts.remove(&self.name);
            Ok(())
        })
    }

    /// Gives a fresh copy of the base its own identity.
    pub(crate) fn personalise(&self, spec: &HostSpec) -> Result<(), LabError> {
        let root = self.root();
        let etc = root.join("etc");
        let (name, address, subnet) = (&self.name, self.address, self.inner.config.subnet);
        let gateway = subnet.gateway();
        write(&etc.join("hostname"), &format!("{name}\n"))?;
        let hosts = format!(
            "127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost\n{gateway} gateway\n"
        );
        write(&etc.join("hosts"), &hosts)?;
        let random = Path::new("/proc/sys/kernel/random/uuid");
        let id = fs::read_to_string(random).map_err(LabError::io("read", random))?;
        write(&etc.join("machine-id"), &id.replace('-', ""))?;
        let network = format!(
            "[Match]\nName=host0\n\n[Link]\nMTUBytes={mtu}\n\n[Network]\nAddress={address}/24\nGateway={gateway}\n\
             DHCP=no\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
            mtu = network::uplink_mtu()
        );
        write(&etc.join("systemd/network/10-host0.network"), &network)?;
        copy_resolver(&root)?;
        Tool::new("chroot", "making the host's ssh keys")
            .arg(&root)
            .args(["ssh-keygen", "-A"])
            .run()?;
        let page = spec.page.clone().unwrap_or_else(|| format!("This is {name}."));
        let page =
            format!("<!DOCTYPE html>\n<title>{name}</title>\n<h1>{name}</h1>\n<p>{page}</p>\n");
        write(&root.join("var/www/html/index.html"), &page)?;
        if !spec.prefetched {
            let archives = root.join("var/cache/apt/archives");
            for entry in fs::read_dir(&archives).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|end| end == "deb") {
                    let path = entry.path();
                    fs::remove_file(&path).map_err(LabError::io("remove", &path))?;
                }
            }
        }
        Ok(())
    }
}

/// Text without the escape sequences that colour it.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('\u{1b}');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        // `[` parameters letter; anything else is one character long.
        let end = match part.strip_prefix('[') {
            Some(rest) => {
                rest.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 2)
            }
            None => part.chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&part[end..]);
    }
    out.replace('\r', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_reads_without_its_colours() {
        assert_eq!(
            plain("[\u{1b}[0;1;32m  OK  \u{1b}[0m] Up\r\n\u{1b}cend\u{1b}"),
            "[  OK  ] Up\nend"
        );
    }
}
