//! Fills a store with a fleet that never was: `big_fleet DIR HOSTS [STATUS]`. What `cargo xtask bench web` measures pages on.
//!
//! With a dpkg status file, hosts have most of the packages in it and no finding yet: what `cargo xtask bench judge` has
//! judged.
//!
//! Every host has 300 packages of 400 cohorts and 20 findings of 2,000 vulnerabilities, in the shares that a fleet
//! half-way through its patching has. The same numbers give the same fleet.

use fettle_core::advisory::{Kev, Ranking};
use fettle_core::finding::{Finding, FindingState};
use fettle_core::host::Labels;
use fettle_core::inventory::{Inventory, Kernel, Origin, Os, Package, Upgrade};
use fettle_core::{Digest, HostId, Shared, Timestamp};
use fettle_store::{Store, StoreError, findings, hosts};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

const COHORTS: usize = 400;
const PACKAGES: usize = 300;
const VULNERABILITIES: usize = 2_000;
const FINDINGS: usize = 20;
/// Hosts in one transaction.
const BATCH: usize = 500;

/// A number that looks drawn: the same for the same two.
fn drawn(a: usize, b: usize) -> usize {
    let mut x = (a as u64) << 32 ^ b as u64 ^ 0x9e37_79b9_7f4a_7c15;
    for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        x = (x ^ x >> 30).wrapping_mul(factor);
    }
    (x >> 33) as usize
}

fn package_name(n: usize) -> String {
    format!("{}-{n}", ["lib", "tool", "server", "python3", "perl"][n % 5])
}

fn version(n: usize, step: usize) -> String {
    format!("{}.{}-1+deb12u{step}", 1 + n % 9, n % 30)
}

fn inventory(cohort: usize) -> Inventory {
    let step = |n: usize| 1 + drawn(cohort, n) % 3;
    let package = |n: usize| {
        Shared::from(Package {
            name: package_name(n),
            architecture: "amd64".into(),
            version: version(n, step(n)),
            source: format!("source-{}", n / 2),
            source_version: version(n, step(n)),
            healthy: true,
            module: String::new(),
        })
    };
    let upgrade = |n: usize| {
        Shared::from(Upgrade {
            name: package_name(n),
            architecture: "amd64".into(),
            from: version(n, step(n)),
            to: version(n, 4),
            origin: Origin {
                origin: "Debian".into(),
                label: "Debian-Security".into(),
                suite: "stable-security".into(),
                codename: "bookworm-security".into(),
            },
            sha256: Digest::of(package_name(n).as_bytes()),
            size: 100_000,
            source_version: version(n, 4),
            brings: vec![],
            removes: vec![],
        })
    };
    Inventory {
        schema: 1,
        os: Os {
            id: "debian".into(),
            version: "12".into(),
            codename: "bookworm".into(),
            pretty: "Debian GNU/Linux 12 (bookworm)".into(),
        },
        architecture: "amd64".into(),
        kernel: Kernel { running: "6.1.0-28-amd64".into(), ..Kernel::default() },
        boot_id: String::new(),
        packages: (0..PACKAGES).map(package).collect(),
        languages: vec![],
        upgrades: (0..PACKAGES)
            .filter(|n| drawn(cohort, n + 1000).is_multiple_of(10))
            .map(upgrade)
            .collect(),
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

fn finding(host: &HostId, n: usize, nth: usize) -> Finding {
    // Each of a host's findings is of another part of the vulnerabilities: none comes twice.
    let part = VULNERABILITIES / FINDINGS;
    let v = nth * part + drawn(n % COHORTS, nth) % part;
    let patched = n.is_multiple_of(3);
    let state = match drawn(n, nth + 50) % 20 {
        0..8 if !patched => FindingState::Open,
        8..10 if !patched => FindingState::PendingRestart,
        10..14 => FindingState::NoFixYet,
        _ => FindingState::Fixed,
    };
    let kev = v.is_multiple_of(97);
    Finding {
        host: host.clone(),
        id: format!("CVE-2026-{}", 10_000 + v),
        source: format!("source-{}", v % (PACKAGES / 2)),
        installed: version(v, 1),
        binaries: vec![package_name(v % PACKAGES)],
        state,
        fixed_version: (state != FindingState::NoFixYet).then(|| version(v, 4)),
        offered: state == FindingState::Open,
        in_use: v.is_multiple_of(3),
        exposed: v.is_multiple_of(7),
        urgency: "not yet assigned".into(),
        ranking: Ranking {
            cvss: Some((v % 100) as f32 / 10.0),
            cvss_vector: Some("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:H".into()),
            epss: Some((v * 7 % 1000) as f32 / 1000.0),
            kev: kev.then(|| Kev {
                date_added: jiff::civil::date(2026, 4, 2),
                due_date: jiff::civil::date(2026, 4, 23),
                ransomware: false,
            }),
            published: Some(jiff::civil::date(2026, 3, 27)),
        },
        class: if kev { "urgent" } else { "standard" }.into(),
        deadline: None,
    }
}

/// The packages of a dpkg status file, in its plain form.
fn packages(status: &str) -> Vec<Shared<Package>> {
    let package = |record: &str| {
        let field = |name: &str| {
            let mut lines = record.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let (name, version) = (field("Package")?, field("Version")?);
        let source = field("Source").unwrap_or(name);
        let (source, source_version) = match source.split_once(" (") {
            Some((source, version)) => (source, version.trim_end_matches(')')),
            None => (source, version),
        };
        Some(Shared::from(Package {
            name: name.into(),
            architecture: field("Architecture")?.into(),
            version: version.into(),
            source: source.into(),
            source_version: source_version.into(),
            healthy: true,
            module: String::new(),
        }))
    };
    status.split("\n\n").filter_map(package).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (dir, count, status) = match arguments.as_slice() {
        [dir, count] => (dir, count, None),
        [dir, count, status] => (dir, count, Some(packages(&std::fs::read_to_string(status)?))),
        _ => return Err("big_fleet DIR HOSTS [STATUS]".into()),
    };
    let count: usize = count.parse()?;
    let store = Store::open(&Path::new(dir).join("fettle.db"))?;
    let now = Timestamp::now();
    let kind = |cohort: usize| match &status {
        None => inventory(cohort),
        // Each cohort lacks a tenth of them.
        Some(packages) => {
            let here = (0..packages.len()).filter(|n| !drawn(cohort, *n).is_multiple_of(10));
            let packages = here.map(|n| packages[n].clone()).collect();
            Inventory { packages, upgrades: vec![], ..inventory(cohort) }
        }
    };
    let kinds: Vec<Inventory> = (0..COHORTS).map(kind).collect();
    let all: Vec<usize> = (0..count).collect();
    for batch in all.chunks(BATCH) {
        store.write::<_, StoreError>("bench", now, |tx| {
            for &n in batch {
                let id = HostId::new(format!("h-{n:08}"));
                let role = ["web", "db", "mail", "cache", "build"][n % 5];
                let ring = ["canary", "early", "broad", "broad", "broad"][drawn(n, 9) % 5];
                let labels: Labels = [("env", "prod"), ("role", role), ("ring", ring)]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into();
                let name = format!("{role}-{n}");
                let new = hosts::NewHost {
                    id: &id,
                    name: &name,
                    labels: &labels,
                    agent_version: "0.1.0",
                };
                hosts::enrol(tx, &new)?;
                let mut inventory = kinds[n % COHORTS].clone();
                inventory.boot_id = format!("boot-{n}");
                hosts::set_inventory(tx, &id, &inventory)?;
                hosts::heard(tx, [(&id, now, "0.1.0")])?;
                if status.is_some() {
                    continue;
                }
                // What was fixed was open before.
                let judged: Vec<_> = (0..FINDINGS).map(|nth| finding(&id, n, nth)).collect();
                let before =
                    judged.iter().cloned().map(|f| Finding { state: FindingState::Open, ..f });
                let rate = |f: &mut Finding, first: Timestamp| {
                    let hours = (drawn(n, 3) % 200) as i64 - 20;
                    f.deadline = Some(first + jiff::SignedDuration::from_hours(hours));
                };
                let fixed = judged.iter().any(|f| f.state == FindingState::Fixed);
                if fixed {
                    findings::update(tx, &id, before.collect(), rate)?;
                }
                findings::update(tx, &id, judged, rate)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
