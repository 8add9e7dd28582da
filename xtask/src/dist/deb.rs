//! A package in Debian's format (`deb(5)`), the same bytes for the same content.

use super::tree::{Tree, output};
use anyhow::{Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package: what it says of itself. What it installs is its tree.
pub(super) struct Deb<'a> {
    pub(super) name: &'static str,
    pub(super) version: &'a str,
    /// `amd64`: Debian's word.
    pub(super) architecture: &'a str,
    pub(super) depends: String,
    /// Other fields of the control file: `("Suggests", "systemd-container")`.
    pub(super) fields: &'a [(&'static str, &'static str)],
    /// The first line is the summary.
    pub(super) description: &'static str,
    /// Where its maintainer scripts are.
    pub(super) scripts: PathBuf,
}

impl Deb<'_> {
    /// `fettle_0.1.0_amd64.deb`.
    pub(super) fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version, self.architecture)
    }

    /// Packs a tree. Every file below `/etc` is a configuration file: what an administrator wrote stays. `fast` packs
    /// for a test.
    pub(super) fn build(&self, tree: &Tree, out: &Path, epoch: u64, fast: bool) -> Result<PathBuf> {
        let files = tree.files()?;
        let conffiles: String = files
            .iter()
            .filter(|file| file.starts_with("etc/"))
            .map(|file| format!("/{file}\n"))
            .collect();
        let sums = output(
            Command::new("md5sum")
                .arg("--")
                .args(files.iter().filter(|file| !file.starts_with("etc/")))
                .current_dir(tree.root()),
        )?;
        let control = self.control(tree.installed_kib()?);
        tree.file("DEBIAN/control", control.as_bytes(), 0o644)?;
        tree.file("DEBIAN/md5sums", sums.as_bytes(), 0o644)?;
        if !conffiles.is_empty() {
            tree.file("DEBIAN/conffiles", conffiles.as_bytes(), 0o644)?;
        }
        for script in ["preinst", "postinst", "prerm", "postrm"] {
            let from = self.scripts.join(script);
            if from.exists() {
                tree.copy(&from, &format!("DEBIAN/{script}"), 0o755)?;
            }
        }
        tree.settle(epoch)?;
        fs::create_dir_all(out)?;
        let archive = out.join(self.file_name());
        // xz is what every dpkg of the last ten years reads; one thread, because how many there are is this machine's.
        let packed = if fast { ["-Zgzip", "-z1"] } else { ["-Zxz", "-z6"] };
        output(
            Command::new("dpkg-deb")
                .args(["--root-owner-group", "--threads-max=1"])
                .args(packed)
                .arg("--build")
                .args([tree.root(), &archive])
                .env("SOURCE_DATE_EPOCH", epoch.to_string()),
        )?;
        Ok(archive)
    }

    fn control(&self, installed_kib: u64) -> String {
        let mut text = format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: The Fettle authors <fettle@localhost>\n\
             Installed-Size: {installed_kib}\nDepends: {}\nSection: admin\nPriority: optional\n",
            self.name, self.version, self.architecture, self.depends
        );
        for (name, value) in self.fields {
            text.push_str(&format!("{name}: {value}\n"));
        }
        let mut lines = self.description.lines();
        text.push_str(&format!("Description: {}\n", lines.next().unwrap_or_default()));
        for line in lines {
            text.push_str(&format!(" {}\n", if line.is_empty() { "." } else { line }));
        }
        text
    }
}

/// What a program needs of the C library: `libc6 (>= 2.34)`. An error when it needs a library that the package does
/// not know.
pub(super) fn libraries(program: &Path) -> Result<String> {
    let dynamic = output(Command::new("readelf").arg("--dynamic").arg(program))?;
    let versions = output(Command::new("readelf").arg("--version-info").arg(program))?;
    let mut depends = vec![match newest(&versions) {
        Some((major, minor)) => format!("libc6 (>= {major}.{minor})"),
        None => bail!("{} names no version of the C library", program.display()),
    }];
    for library in needed(&dynamic) {
        match library {
            "libgcc_s.so.1" => depends.push("libgcc-s1 (>= 4.2)".into()),
            "libc.so.6" | "libm.so.6" | "libdl.so.2" | "libpthread.so.0" | "librt.so.1" => {}
            loader if loader.starts_with("ld-linux") => {}
            other => bail!(
                "{} needs {other}: add the package that has it to xtask/src/dist/deb.rs",
                program.display()
            ),
        }
    }
    Ok(depends.join(", "))
}

/// The libraries of `readelf --dynamic`'s NEEDED lines.
fn needed(dynamic: &str) -> impl Iterator<Item = &str> {
    dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split_once('[')?.1.split_once(']').map(|(name, _)| name))
}

/// The newest `GLIBC_x.y` that is asked for.
fn newest(versions: &str) -> Option<(u32, u32)> {
    versions
        .split("GLIBC_")
        .skip(1)
        .filter_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let mut parts = rest[..end].split('.').map(str::parse::<u32>);
            Some((parts.next()?.ok()?, parts.next()?.ok()?))
        })
        .max()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_newest_version_of_the_c_library_counts_and_not_the_one_that_sorts_last() {
        let text = "Name: GLIBC_2.9  Flags: none\n Name: GLIBC_2.34\n Name: GLIBC_2.2.5  Version: 3\n GLIBC_PRIVATE";
        assert_eq!(newest(text), Some((2, 34)));
        assert_eq!(newest("nothing"), None);
    }

    #[test]
    fn a_program_that_needs_an_unknown_library_cannot_be_packed() {
        // `ls` of this machine needs libselinux; the shell does not.
        assert!(libraries(Path::new("/bin/sh")).unwrap().starts_with("libc6 (>= 2."));
        let refused = libraries(Path::new("/bin/ls")).unwrap_err().to_string();
        assert!(refused.contains("libselinux"), "{refused}");
    }
}
