//! What is installed in a root, by the database of whichever package manager it has.

use super::tree::{Tree, changed};
use super::{Contents, Limits};
use crate::inventory::{dpkg, os};
use fettle_core::inventory::Package;
use fettle_vuln::exposure::PACKAGES_GAP;
use fettle_vuln::installed::rpm::{self, Bytes};
use fettle_vuln::installed::{Installed, apk, is_sound};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

/// Longer ones are none.
const OS_RELEASE: u64 = 64 << 10;
/// A larger database of rpm is not looked through.
const RPM: u64 = 1 << 30;
/// What was written to it last.
const RPM_LOG: u64 = 16 << 20;

const DPKG: &str = "var/lib/dpkg/status";
/// Where images without a package manager have a file a package.
const DPKG_PARTS: &str = "var/lib/dpkg/status.d";
const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
const RPM_PLACES: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];
const RPM_FILES: [&str; 3] = ["rpmdb.sqlite", "Packages.db", "Packages"];

/// Reads a root; `None` where it says of no system that it is one.
pub(super) fn contents(
    tree: &Tree,
    limits: Limits,
    until: Instant,
) -> io::Result<Option<Contents>> {
    let mut release = None;
    for path in ["etc/os-release", "usr/lib/os-release"] {
        if release.is_none() {
            // Where one of the two is a link to what cannot be had, the other counts.
            release = tree.bytes(path, OS_RELEASE).unwrap_or_default();
        }
    }
    let Some(release) = release else { return Ok(None) };
    let mut os = os::parse(&String::from_utf8_lossy(&release));
    for text in [&mut os.id, &mut os.version, &mut os.codename, &mut os.pretty] {
        *text = text.chars().filter(|c| !c.is_control()).take(128).collect();
    }
    let mut contents = Contents { os, packages: Vec::new(), gaps: Vec::new(), changed: 0 };
    match packages(tree, limits, until, &mut contents.changed) {
        Ok(Some(installed)) => {
            let Installed { packages, left_out } = installed;
            contents.packages = packages;
            if left_out > 0 {
                contents.gaps.push(format!("{left_out} entries of its database name no package"));
            }
        }
        Ok(None) => {
            contents.gaps.push(format!("{PACKAGES_GAP}: no database of dpkg, apk or rpm is there"));
        }
        Err(e) => contents.gaps.push(format!("{PACKAGES_GAP}: {e}")),
    }
    Ok(Some(contents))
}

fn packages(
    tree: &Tree,
    limits: Limits,
    until: Instant,
    when: &mut i64,
) -> io::Result<Option<Installed>> {
    let mut found = None;
    for path in [DPKG].into_iter().chain(APK) {
        let Some(file) = tree.file(path)? else { continue };
        *when = changed(&file);
        let Some(bytes) = tree.bytes(path, limits.file)? else { continue };
        let installed = if path == DPKG { of_dpkg(&bytes) } else { apk::parse(&bytes) };
        // An image may have an empty one beside another that counts.
        if !installed.packages.is_empty() {
            return Ok(Some(installed));
        }
        found = found.or(Some(installed));
    }
    let parts = tree.names(DPKG_PARTS)?;
    let mut text = Vec::new();
    for name in parts.iter().filter(|name| !name.ends_with(".md5sums")) {
        let path = format!("{DPKG_PARTS}/{name}");
        if let Some(file) = tree.file(&path)? {
            *when = (*when).max(changed(&file));
        }
        let left = limits.file.saturating_sub(text.len() as u64);
        if let Some(mut part) = tree.bytes(&path, left)? {
            // Each is one package, and installed: no state is kept for it.
            part.retain(|b| *b != 0);
            text.extend(b"Status: install ok installed\n");
            text.append(&mut part);
            text.extend(b"\n\n");
        }
    }
    if !text.is_empty() {
        return Ok(Some(of_dpkg(&text)));
    }
    for place in RPM_PLACES {
        for name in RPM_FILES {
            let path = format!("{place}/{name}");
            let Some(file) = tree.file(&path)? else { continue };
            *when = changed(&file);
            let log = match name {
                "rpmdb.sqlite" => tree.bytes(&format!("{path}-wal"), RPM_LOG)?,
                _ => None,
            };
            return of_rpm(file, log.as_deref(), until).map(Some);
        }
    }
    Ok(found)
}

fn of_dpkg(bytes: &[u8]) -> Installed {
    let (packages, odd): (Vec<Package>, _) =
        dpkg::parse_status(bytes).into_iter().partition(is_sound);
    Installed { packages, left_out: odd.len() }
}

/// A file that is read where it lies.
struct Lying {
    file: File,
    length: u64,
}

impl Bytes for Lying {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }
}

fn of_rpm(file: File, log: Option<&[u8]>, until: Instant) -> io::Result<Installed> {
    let length = file.metadata()?.len();
    if length > RPM {
        return Err(io::Error::other("its database of rpm is larger than is looked through"));
    }
    let mut go_on = || Instant::now() < until;
    rpm::parse(&Lying { file, length }, log, &mut go_on)
        .map_err(|e| io::Error::other(format!("its database of rpm: {e}")))
}
