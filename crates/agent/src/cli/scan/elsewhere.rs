//! Systems of which only a file is here: dpkg's status of an image or another host, or a bill of materials.

use super::super::feeds::read_bounded;
use crate::inventory::{self, dpkg};
use crate::settings::Settings;
use fettle_core::inventory::Inventory;
use fettle_core::{Problem, ProblemKind};
use fettle_vuln::exposure::ONLY_PACKAGES_GAP;
use fettle_vuln::installed::is_sound;
use fettle_vuln::sbom::{self, system};
use std::path::Path;

/// A larger status file is not read, in bytes. That of a host with 10,000 packages has 15 MB.
const MAX_STATUS: u64 = 256 << 20;

/// What is not known of another system.
fn only_packages() -> String {
    format!("{ONLY_PACKAGES_GAP}: only the packages of that file were looked at")
}

/// An inventory of what a file in the form of dpkg's `status` says is installed, and of nothing else: of another system, of
/// an image, or beside a tool that looks no further.
///
/// # Errors
/// Where it cannot be read, is none, or is not there as a whole.
pub(super) fn packages_alone(
    settings: &Settings,
    file: &Path,
    release: Option<String>,
) -> Result<Inventory, Problem> {
    let problem = |code: &str, what: String, hint: &str| {
        let message = format!("{}: {what}", file.display());
        Problem::new(ProblemKind::BadInput, code, message, hint)
    };
    let bytes = read_bounded(file, MAX_STATUS).map_err(|e| {
        problem(
            "status-unreadable",
            e.to_string(),
            "name dpkg's status file, as /var/lib/dpkg/status",
        )
    })?;
    let status = dpkg::Status::parse(&bytes);
    if status.packages.is_empty() {
        let (what, hint) = told(&bytes, status.records);
        return Err(problem("status-unusable", format!("not a dpkg status file: {what}"), hint));
    }
    let mut gaps = Vec::new();
    match &status.cut_at {
        // deb822(5) wants no empty line at the end: other tools leave it out.
        Some(package) if bytes.ends_with(b"\n") => gaps.push(format!(
            "no empty line ends the last record, of {package}, as dpkg writes it: if the file was cut there, what stood \
             behind was not judged"
        )),
        Some(package) => {
            let what = format!(
                "it ends within a line of the record of {package}: what stood behind that is missing, and would not be judged"
            );
            let hint = "copy it again as a whole; if it is whole, end its last line";
            return Err(problem("status-unusable", what, hint));
        }
        None => {}
    }
    let (packages, odd): (Vec<_>, Vec<_>) = status.packages.into_iter().partition(is_sound);
    let os = match release {
        Some(release) => system(&release),
        None => inventory::system(settings).unwrap_or_default(),
    };
    let mut inventory = inventory::of_packages(os, packages, &only_packages());
    if !odd.is_empty() {
        gaps.push(format!("{} records whose names or versions no package can have", odd.len()));
    }
    inventory.gaps.extend(gaps);
    Ok(inventory)
}

/// What a file is that lists no installed package, and what to do.
fn told(bytes: &[u8], records: usize) -> (String, &'static str) {
    const NAME: &str = "name dpkg's status file, as /var/lib/dpkg/status";
    let begins = bytes.trim_ascii_start();
    match begins {
        [] => ("it is empty".to_owned(), NAME),
        [b'{' | b'[', ..] => {
            ("it looks like JSON".to_owned(), "a bill of materials goes with --sbom FILE")
        }
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [b'B', b'Z', b'h', ..] => {
            ("it is packed".to_owned(), "unpack it first: zstdcat, zcat or bzcat")
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] | [b'P', b'K', 3, 4, ..] => {
            ("it is packed".to_owned(), "unpack it first")
        }
        _ if records > 0 => {
            (format!("none of its {records} records is of an installed package"), NAME)
        }
        _ => ("it has no record of a package".to_owned(), NAME),
    }
}

/// An inventory of what a bill of materials lists.
///
/// # Errors
/// Where it cannot be read, is none, or says of no system that it is of.
pub(super) fn listed(file: &Path, release: Option<String>) -> Result<Inventory, Problem> {
    let unusable = |what: String| {
        let message = format!("{}: {what}", file.display());
        let hint = "name a CycloneDX or SPDX 2 document in JSON, as syft and trivy write it";
        Problem::new(ProblemKind::BadInput, "sbom-unusable", message, hint)
    };
    let bytes =
        read_bounded(file, sbom::MAX_SBOM_BYTES as u64).map_err(|e| unusable(e.to_string()))?;
    let sbom = sbom::parse(&bytes).map_err(|e| unusable(e.to_string()))?;
    let gaps = sbom.gaps();
    let os = release.as_deref().map_or(sbom.os, system);
    if os.id.is_empty() {
        let what = "it does not say of which system its packages are";
        let hint = "say it: --release bookworm, --release almalinux:9";
        return Err(Problem::new(ProblemKind::BadInput, "sbom-without-system", what, hint));
    }
    let mut inventory = inventory::of_packages(os, sbom.packages, &only_packages());
    inventory.languages = sbom.languages;
    inventory.roots = sbom.roots;
    inventory.gaps.extend(gaps);
    Ok(inventory)
}
