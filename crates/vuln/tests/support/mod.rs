//! What the tests of exposure share: small inventories, small catalogues, and the test data beside the checkout.
#![allow(dead_code, unreachable_pub)]

use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::{Inventory, Kernel, Origin, Os, Package, StaleProcess, Upgrade};
use fettle_core::{Digest, HostId, Shared};
use fettle_vuln::exposure::{Catalogue, CatalogueInput, Exception, HostView, Judgement, Verdict};
use fettle_vuln::snapshot::{Feeds, Loaded, Manifest, load};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The test data beside the checkout, or `None` (with a message) where there is none.
pub fn shared(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(file);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no test data beside the checkout: ../shared/data/{file}");
    None
}

/// Decompresses a file.
pub fn unzstd(path: &Path) -> Vec<u8> {
    let file = std::fs::File::open(path).unwrap();
    let mut bytes = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(file).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Decompresses with a program of the system.
pub fn unpacked(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || drop(std::io::Write::write_all(&mut input, &bytes)));
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    writer.join().unwrap();
    child.wait().unwrap();
    out
}

/// Decompresses a text of the shared data.
pub fn shared_text(file: &str) -> Option<String> {
    Some(String::from_utf8(unzstd(&shared(file)?)).unwrap())
}

/// Names and contents of the files in a tar archive.
pub fn tar(bytes: &[u8]) -> Vec<(String, &[u8])> {
    let text =
        |field: &[u8]| std::str::from_utf8(field).unwrap().trim_end_matches('\0').trim().to_owned();
    let mut files = Vec::new();
    let mut at = 0;
    let mut long_name = None;
    while let Some(header) = bytes.get(at..at + 512).filter(|h| h[0] != 0) {
        let size = usize::from_str_radix(text(&header[124..136]).trim_matches('\0'), 8).unwrap();
        let content = &bytes[at + 512..at + 512 + size];
        let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
        match header[156] {
            b'0' => {
                let plain = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                files.push((long_name.take().unwrap_or(plain), content));
            }
            // GNU's and POSIX's ways to write a name that is too long for its field.
            b'L' => long_name = Some(text(content)),
            b'x' => {
                let records = String::from_utf8_lossy(content).into_owned();
                let path =
                    records.lines().find_map(|l| l.split_once(" path=").map(|(_, p)| p.to_owned()));
                long_name = path;
            }
            _ => long_name = None,
        }
        at += 512 + size.div_ceil(512) * 512;
    }
    files
}

/// The snapshot of the repository.
pub fn snapshot() -> (Manifest, Loaded) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let manifest =
        Manifest::parse(&std::fs::read_to_string(directory.join("SNAPSHOT.toml")).unwrap())
            .unwrap();
    let read = |name: &str| unzstd(&directory.join(name));
    let bytes: Vec<_> = manifest.file.iter().map(|f| (f.feed, read(&f.name))).collect();
    for file in &manifest.file {
        file.verify(&std::fs::read(directory.join(&file.name)).unwrap()).unwrap();
    }
    let bytes = bytes.iter().map(|(feed, bytes)| (*feed, bytes.as_slice())).collect();
    let loaded = load(&Feeds { bytes, as_of: manifest.as_of() }).unwrap();
    (manifest, loaded)
}

/// A bookworm host with nothing on it, in a container.
pub fn bookworm() -> Inventory {
    Inventory {
        schema: 1,
        os: os("debian", "12", "bookworm"),
        architecture: "amd64".into(),
        kernel: Kernel { running: "6.12.0-cloud".into(), ..Kernel::default() },
        boot_id: "b".into(),
        packages: vec![].into(),
        languages: vec![],
        upgrades: vec![],
        services: vec![],
        listeners: vec![],
        stale: vec![],
        in_use: vec![],
        exposed: vec![],
        reboot_needed: vec![],
        configuration: BTreeMap::new(),
        held: vec![],
        ..Inventory::default()
    }
}

pub fn os(id: &str, version: &str, codename: &str) -> Os {
    Os {
        id: id.into(),
        version: version.into(),
        codename: codename.into(),
        pretty: format!("{id} {version}"),
    }
}

/// A package of a source with another name or version.
pub fn built(name: &str, version: &str, source: &str, source_version: &str) -> Shared<Package> {
    Shared::from(Package {
        name: name.into(),
        architecture: "amd64".into(),
        version: version.into(),
        source: source.into(),
        source_version: source_version.into(),
        healthy: true,
        module: String::new(),
    })
}

/// A package of a source with its name and version.
pub fn package(name: &str, version: &str) -> Shared<Package> {
    built(name, version, name, version)
}

pub fn with(packages: &[Shared<Package>]) -> Inventory {
    Inventory { packages: packages.to_vec().into(), ..bookworm() }
}

/// A process that maps replaced files of a package.
pub fn stale(process: &str, package: &str) -> StaleProcess {
    StaleProcess {
        unit: format!("{process}.service"),
        process: process.into(),
        pid: 42,
        files: vec!["/usr/lib/x.so (deleted)".into()],
        packages: vec![package.into()],
    }
}

pub fn upgrade(name: &str, from: &str, to: &str, source_version: &str) -> Shared<Upgrade> {
    let origin = Origin {
        origin: "Debian".into(),
        label: "Debian-Security".into(),
        suite: "stable-security".into(),
        codename: "bookworm-security".into(),
    };
    Shared::from(Upgrade {
        name: name.into(),
        architecture: "amd64".into(),
        from: from.into(),
        to: to.into(),
        origin,
        sha256: Digest::of(to.as_bytes()),
        size: 1,
        source_version: source_version.into(),
        brings: vec![],
        removes: vec![],
    })
}

/// `(source, id, status, urgency)`: status `3.0-1` fixed there, `0` not affected, `?` undetermined, `` or
/// `<no-dsa> why` open, `^3.0-1` open and fixed there in another release.
pub fn advisory(
    release: &str,
    (source, id, status, urgency): (&str, &str, &str, &str),
) -> Advisory {
    let status = match status {
        "0" => AdvisoryStatus::NotAffected,
        "?" => AdvisoryStatus::Undetermined,
        open if open.is_empty() || open.starts_with('<') => {
            AdvisoryStatus::Open { reason: open.into(), elsewhere: None }
        }
        outside if outside.starts_with('^') => {
            AdvisoryStatus::Open { reason: String::new(), elsewhere: Some(outside[1..].into()) }
        }
        version => AdvisoryStatus::Fixed { version: version.into() },
    };
    Advisory {
        id: id.into(),
        source: source.into(),
        release: release.into(),
        status,
        urgency: urgency.into(),
        evidence: "test".into(),
    }
}

pub fn catalogue(statements: &[(&str, &str, &str, &str)]) -> Catalogue {
    catalogue_of(statements.iter().map(|s| advisory("bookworm", *s)).collect())
}

pub fn catalogue_of(advisories: Vec<Advisory>) -> Catalogue {
    Catalogue::build(CatalogueInput { advisories, ..CatalogueInput::default() })
}

pub fn judge(catalogue: &Catalogue, inventory: &Inventory) -> Judgement {
    judge_after(catalogue, inventory, &[])
}

pub fn judge_after(
    catalogue: &Catalogue,
    inventory: &Inventory,
    previous: &[Finding],
) -> Judgement {
    judge_with(catalogue, inventory, previous, &[])
}

pub fn judge_with(
    catalogue: &Catalogue,
    inventory: &Inventory,
    previous: &[Finding],
    accepted: &[Exception],
) -> Judgement {
    let host = HostId::new("h1");
    catalogue.judge(&HostView {
        host: &host,
        inventory,
        previous,
        ran_before: &BTreeMap::new(),
        accepted,
    })
}

/// `(id, state)` of each finding.
pub fn states(judgement: &Judgement) -> Vec<(&str, FindingState)> {
    judgement.findings.iter().map(|f| (f.id.as_str(), f.state)).collect()
}

pub fn exception(id: &str, source: Option<&str>) -> Exception {
    Exception {
        id: id.into(),
        source: source.map(Into::into),
        owner: "alice".into(),
        reason: "not reachable".into(),
        until: "2027-01-01T00:00:00Z".parse().unwrap(),
        verdict: Verdict::Accepted,
    }
}

/// Installed packages of a dpkg `status` file: `Package`, `Version`, `Architecture`, `Source: name (version)`.
pub fn dpkg_status(text: &str) -> Vec<Shared<Package>> {
    let mut packages = Vec::new();
    for paragraph in text.split("\n\n") {
        let field = |name: &str| {
            paragraph.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let Some(name) = field("Package") else { continue };
        if field("Status") != Some("install ok installed") {
            continue;
        }
        let version = field("Version").unwrap();
        let (source, source_version) = match field("Source") {
            None => (name, version),
            Some(source) => match source.split_once(" (") {
                None => (source, version),
                Some((source, rest)) => (source, rest.trim_end_matches(')')),
            },
        };
        let mut package = built(name, version, source, source_version);
        package.architecture = field("Architecture").unwrap().into();
        packages.push(package);
    }
    packages.sort();
    packages
}
