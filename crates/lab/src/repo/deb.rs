//! Synthetic packages, built by `dpkg-deb`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::LabError;
use crate::base::write;
use crate::tool::Tool;

/// A file in a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFile {
    /// Where it is installed.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// A systemd service a package brings; enabled and started on installation, restarted on upgrade,
/// in the way of Debian's own packages (so `policy-rc.d` is respected).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Name, with `.service`.
    pub name: String,
    /// The unit file.
    pub content: String,
}

/// A synthetic package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deb {
    /// Name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Other control fields, such as `("Depends", "perl-base")`.
    pub fields: Vec<(String, String)>,
    /// The files it installs.
    pub files: Vec<PackedFile>,
    /// Which of them are configuration files.
    pub conffiles: Vec<String>,
    /// Services it brings.
    pub services: Vec<Unit>,
    /// Lines for the script run before unpacking.
    pub preinst: String,
    /// Lines for the script run after unpacking, before services are restarted.
    pub postinst: String,
    /// Lines for the script run before removal or upgrade.
    pub prerm: String,
    /// Lines for the script run after removal or upgrade.
    pub postrm: String,
    /// MiB of incompressible ballast to install.
    pub ballast_mib: u32,
}

impl Deb {
    /// An empty package.
    pub fn new(name: &str, version: &str) -> Self {
        Self { name: name.to_owned(), version: version.to_owned(), ..Self::default() }
    }

    /// Adds a control field.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.files.push(PackedFile { path: path.to_owned(), content: content.into(), mode });
        self
    }

    /// Adds a configuration file.
    #[must_use]
    pub fn conffile(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.conffiles.push(path.to_owned());
        self.file(path, 0o644, content)
    }

    /// Adds a service.
    #[must_use]
    pub fn service(mut self, name: &str, content: &str) -> Self {
        self.services.push(Unit { name: name.to_owned(), content: content.to_owned() });
        self
    }

    /// Sets the lines run after unpacking, before services are restarted.
    #[must_use]
    pub fn postinst(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.postinst);
        self
    }

    /// Sets the lines run before removal or upgrade.
    #[must_use]
    pub fn prerm(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.prerm);
        self
    }

    /// Makes it install this many MiB of incompressible data.
    #[must_use]
    pub fn ballast(mut self, mib: u32) -> Self {
        self.ballast_mib = mib;
        self
    }

    /// Name of its archive file.
    pub fn file_name(&self) -> String {
        let version = self.version.split_once(':').map_or(self.version.as_str(), |(_, rest)| rest);
        format!("{}_{version}_all.deb", self.name)
    }

    /// Builds it into `pool`, using `scratch`; the path of the archive.
    pub(crate) fn build(&self, scratch: &Path, pool: &Path) -> Result<PathBuf, LabError> {
        let tree = scratch.join("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree).map_err(LabError::io("remove", &tree))?;
        }
        let inside = |path: &str| tree.join(path.trim_start_matches('/'));
        for file in &self.files {
            put(&inside(&file.path), &file.content, file.mode)?;
        }
        for unit in &self.services {
            put(&inside("/lib/systemd/system").join(&unit.name), unit.content.as_bytes(), 0o644)?;
        }
        let ballast = inside("/usr/share").join(&self.name).join("ballast");
        write_ballast(&ballast, self.ballast_mib)?;

        let control = tree.join("DEBIAN");
        let mut text = format!(
            "Package: {}\nVersion: {}\nArchitecture: all\nMaintainer: Acme <packages@acme.example>\n\
             Section: web\nPriority: optional\n",
            self.name, self.version
        );
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text.push_str(&format!("Description: {} of the Acme test vendor\n", self.name));
        write(&control.join("control"), &text)?;
        if !self.conffiles.is_empty() {
            write(&control.join("conffiles"), &format!("{}\n", self.conffiles.join("\n")))?;
        }
        let scripts = [
            ("preinst", self.preinst.clone()),
            ("postinst", self.after_unpacking()),
            ("prerm", self.before_removal()),
            ("postrm", self.after_removal()),
        ];
        for (name, lines) in scripts.iter().filter(|(_, lines)| !lines.trim().is_empty()) {
            put(
                &control.join(name),
                format!("#!/bin/sh\nset -e\n{lines}\nexit 0\n").as_bytes(),
                0o755,
            )?;
        }
        let archive = pool.join(self.file_name());
        Tool::new("dpkg-deb", format!("building {} {}", self.name, self.version))
            .args(["--root-owner-group", "-Zgzip", "--build"])
            .args([&tree, &archive])
            .run()?;
        fs::remove_dir_all(&tree).map_err(LabError::io("remove", &tree))?;
        Ok(archive)
    }

    fn units(&self) -> String {
        self.services.iter().map(|unit| unit.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// As debhelper writes it: enable; restart on upgrade, start on installation.
    fn after_unpacking(&self) -> String {
        if self.services.is_empty() {
            return self.postinst.clone();
        }
        let units = self.units();
        format!(
            "{}\nif [ \"$1\" = configure ]; then\n\
             for unit in {units}; do deb-systemd-helper unmask $unit >/dev/null || true; \
             if deb-systemd-helper --quiet was-enabled $unit; then deb-systemd-helper enable $unit >/dev/null || true; \
             else deb-systemd-helper update-state $unit >/dev/null || true; fi; done\n\
             if [ -d /run/systemd/system ]; then\n  systemctl --system daemon-reload >/dev/null || true\n  \
             if [ -n \"$2\" ]; then action=restart; else action=start; fi\n  \
             deb-systemd-invoke $action {units} >/dev/null || true\nfi\nfi",
            self.postinst
        )
    }

    fn before_removal(&self) -> String {
        if self.services.is_empty() {
            return self.prerm.clone();
        }
        format!(
            "{}\nif [ -d /run/systemd/system ] && [ \"$1\" = remove ]; then deb-systemd-invoke stop {} >/dev/null || true; fi",
            self.prerm,
            self.units()
        )
    }

    fn after_removal(&self) -> String {
        if self.services.is_empty() {
            return self.postrm.clone();
        }
        let units = self.units();
        format!(
            "{}\nif [ \"$1\" = remove ] && [ -d /run/systemd/system ]; then systemctl --system daemon-reload >/dev/null || true; fi\n\
             if [ \"$1\" = purge ] && [ -x /usr/bin/deb-systemd-helper ]; then deb-systemd-helper purge {units} >/dev/null || true; \
             deb-systemd-helper unmask {units} >/dev/null || true; fi",
            self.postrm
        )
    }
}

fn put(path: &Path, content: &[u8], mode: u32) -> Result<(), LabError> {
    write(path, "")?;
    fs::write(path, content).map_err(LabError::io("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(LabError::io("set the mode of", path))
}

/// The same bytes each time, and no two blocks alike.
fn write_ballast(path: &Path, mib: u32) -> Result<(), LabError> {
    if mib == 0 {
        return Ok(());
    }
    write(path, "")?;
    let file = fs::File::create(path).map_err(LabError::io("write", path))?;
    let mut file = std::io::BufWriter::new(file);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..u64::from(mib) * 1024 * 1024 / 8 {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let word = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
        file.write_all(&word).map_err(LabError::io("write", path))?;
    }
    file.flush().map_err(LabError::io("write", path))
}
