//! A signed archive, and how hosts come to know it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Deb;
use super::serve::Server;
use crate::base::write;
use crate::tool::Tool;
use crate::{Lab, LabError, LabHost};

/// How hosts get at the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serve {
    /// Over HTTP on the lab's bridge, as from a real archive, for as long as the [`Vendor`] value
    /// lives.
    Http,
    /// As files copied into each host; works without this process.
    Files,
}

/// A vendor with a package archive of its own.
#[derive(Debug)]
pub struct Vendor {
    name: String,
    dir: PathBuf,
    group: PathBuf,
    server: Option<Server>,
    hosts: Vec<LabHost>,
    /// How long an index is good after it was made, in seconds; `None`: for ever.
    good_for: Option<u32>,
}

impl Vendor {
    /// A new vendor called `name` (`a-z`, `0-9`), with a new key and an empty archive. Its release
    /// says `Origin: Acme`, `Label: Acme-Security` for the name `acme`.
    pub fn new(lab: &Lab, name: &str, serve: Serve) -> Result<Self, LabError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(LabError::Setting {
                setting: "vendor name",
                value: name.to_owned(),
                why: "write only a-z and 0-9".to_owned(),
            });
        }
        lab.inner.owned("making a vendor")?;
        lab.ensure_network()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{name}-{}-{number}", std::process::id());
        let dir = lab.config().vendors().join(unique);
        for part in ["pool", "dists/stable/main/binary-all"] {
            let part = dir.join("archive").join(part);
            fs::create_dir_all(&part).map_err(LabError::io("make", &part))?;
        }
        let group = lab.inner.groups.create("vendor")?;
        let mut vendor = Self {
            name: name.to_owned(),
            dir,
            group,
            server: None,
            hosts: Vec::new(),
            good_for: None,
        };
        vendor.make_key()?;
        vendor.index()?;
        if serve == Serve::Http {
            vendor.server = Some(Server::start(&vendor.archive(), lab.gateway_ip())?);
        }
        Ok(vendor)
    }

    /// The vendor's `Origin`, as hosts see it.
    pub fn origin(&self) -> String {
        let mut letters = self.name.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect()
    }

    /// The vendor's `Label`, as hosts see it.
    pub fn label(&self) -> String {
        format!("{}-Security", self.origin())
    }

    /// Builds packages, adds them to the archive and signs it anew. Earlier versions stay on offer.
    pub fn publish(&mut self, packages: &[Deb]) -> Result<(), LabError> {
        for package in packages {
            package.build(&self.dir, &self.archive().join("pool"))?;
        }
        self.refresh()
    }

    /// Takes a version out of the archive, as a vendor does that noticed.
    pub fn withdraw(&mut self, package: &Deb) -> Result<(), LabError> {
        let file = self.archive().join("pool").join(package.file_name());
        if file.exists() {
            fs::remove_file(&file).map_err(LabError::io("remove", &file))?;
        }
        self.refresh()
    }

    /// From now on an index is good for so many seconds after it was made (`Valid-Until`); `None`: for ever. It is made
    /// anew at once.
    pub fn good_for(&mut self, seconds: Option<u32>) -> Result<(), LabError> {
        self.good_for = seconds;
        self.refresh()
    }

    /// From now on contents are sent with so many bytes a second to each connection; `None`: as fast as it goes. Means
    /// nothing for [`Serve::Files`].
    pub fn limit_rate(&self, bytes_a_second: Option<u64>) {
        if let Some(server) = &self.server {
            server.gauge().rate.store(bytes_a_second.unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// How many bytes of contents were sent to hosts, ever. 0 for [`Serve::Files`].
    pub fn bytes_sent(&self) -> u64 {
        self.server.as_ref().map_or(0, |server| server.gauge().sent.load(Ordering::Relaxed))
    }

    /// Takes the archive from the package sources of `host`.
    pub fn remove_from(&mut self, host: &LabHost) -> Result<(), LabError> {
        let name = &self.name;
        let files =
            format!("rm -f /etc/apt/sources.list.d/{name}.sources /etc/apt/keyrings/{name}.asc");
        self.hosts.retain(|known| known.name() != host.name());
        host.sh(&files)?.ok().map(drop)
    }

    /// Makes the archive a package source of `host`. The host's package lists are not fetched yet:
    /// that is `apt-get update` on it.
    pub fn install_on(&mut self, host: &LabHost) -> Result<(), LabError> {
        let name = &self.name;
        let key = format!("/etc/apt/keyrings/{name}.asc");
        let uri = match &self.server {
            Some(server) => format!("http://{}", server.address()),
            None => format!("file:{}", self.inside()),
        };
        let source = format!(
            "Types: deb\nURIs: {uri}\nSuites: stable\nComponents: main\nSigned-By: {key}\n"
        );
        host.copy_in(self.key_file(), &key)?;
        host.write_file(format!("/etc/apt/sources.list.d/{name}.sources"), source)?;
        if self.server.is_none() {
            host.copy_in(self.archive(), self.inside())?;
        }
        if !self.hosts.iter().any(|known| known.name() == host.name()) {
            self.hosts.push(host.clone());
        }
        Ok(())
    }

    /// The archive's directory on this machine.
    pub fn archive(&self) -> PathBuf {
        self.dir.join("archive")
    }

    fn inside(&self) -> String {
        format!("/srv/vendor-{}", self.name)
    }

    fn key_file(&self) -> PathBuf {
        self.dir.join("key.asc")
    }

    fn refresh(&mut self) -> Result<(), LabError> {
        self.index()?;
        self.spread()
    }

    /// Hosts that have the archive as files get it anew.
    fn spread(&self) -> Result<(), LabError> {
        if self.server.is_none() {
            for host in &self.hosts {
                host.copy_in(self.archive(), self.inside())?;
            }
        }
        Ok(())
    }

    fn index(&self) -> Result<(), LabError> {
        let archive = self.archive();
        let packages = Tool::new("apt-ftparchive", "indexing the vendor's archive")
            .args(["packages", "pool"])
            .in_dir(&archive)
            .run()?;
        // What is of all architectures is listed for each; hosts have this machine's.
        let own =
            Tool::new("dpkg", "asking for the architecture").arg("--print-architecture").run()?;
        let own = own.trim();
        for architecture in [own, "all"] {
            let list = archive.join(format!("dists/stable/main/binary-{architecture}/Packages"));
            write(&list, &packages)?;
        }
        let (origin, label) = (self.origin(), self.label());
        let settings = [
            ("Origin", origin.as_str()),
            ("Label", &label),
            ("Suite", "stable"),
            ("Codename", "stable"),
            ("Architectures", &format!("{own} all")),
            ("Components", "main"),
        ]
        .map(|(key, value)| format!("APT::FTPArchive::Release::{key}={value}"));
        let valid = self.good_for.map(|s| format!("APT::FTPArchive::Release::ValidTime={s}"));
        let dist = archive.join("dists/stable");
        for old in ["Release", "InRelease"] {
            let old = dist.join(old);
            if old.exists() {
                fs::remove_file(&old).map_err(LabError::io("remove", &old))?;
            }
        }
        let release = settings
            .iter()
            .chain(&valid)
            .fold(
                Tool::new("apt-ftparchive", "describing the vendor's archive"),
                |tool, setting| tool.arg("-o").arg(setting),
            )
            .args(["release", "dists/stable"])
            .in_dir(&archive)
            .run()?;
        write(&dist.join("Release"), &release)?;
        let sign = |tool: Tool, out: &str| {
            tool.arg("--output").arg(dist.join(out)).arg(dist.join("Release"))
        };
        sign(self.gpg("signing the vendor's archive").arg("--clearsign"), "InRelease").run()?;
        Ok(())
    }

    fn home(&self) -> PathBuf {
        self.dir.join("gnupg")
    }

    fn gpg(&self, doing: &str) -> Tool {
        Tool::new("gpg", doing)
            .args(["--batch", "--yes", "--quiet", "--homedir"])
            .arg(self.home())
            .in_group(&self.group)
    }

    fn make_key(&self) -> Result<(), LabError> {
        use std::os::unix::fs::PermissionsExt as _;
        let home = self.home();
        fs::create_dir_all(&home).map_err(LabError::io("make", &home))?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))
            .map_err(LabError::io("set the mode of", &home))?;
        self.gpg("making the vendor's key")
            .args(["--passphrase", "", "--quick-generate-key"])
            .arg(format!("{} <packages@{}.example>", self.label(), self.name))
            .args(["ed25519", "sign", "never"])
            .run()?;
        let key = self.gpg("reading the vendor's key").args(["--armor", "--export"]).run()?;
        write(&self.key_file(), &key)
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        // The key's agent would wait for its home to vanish.
        let stopped = Tool::new("gpgconf", "stopping the vendor's key agent")
            .arg("--homedir")
            .arg(self.home())
            .args(["--kill", "all"])
            .run();
        // One that is not stopped here is killed by `down`, being in the lab's control group.
        drop(stopped);
        remove(&self.dir);
    }
}

fn remove(dir: &Path) {
    // A second copy is in no one's way; `down` removes what is left.
    let _ = fs::remove_dir_all(dir);
}
