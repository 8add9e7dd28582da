//! Figures of a fleet in memory, for `cargo xtask bench exposure`.
//!
//! ```text
//! cargo run --release -p fettle-vuln --example fleet -- HOSTS
//! ```
//!
//! The fleet is made up from a seed, the same each time: four distributions, 2,000 cohorts of 300 to 2,500 packages, hosts
//! spread over the cohorts by Zipf's law, and on every fifth host other processes than on the rest of its cohort. One line a
//! figure: name, value, unit, bar, with tabs between.

use fettle_core::HostId;
use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::inventory::{Inventory, Kernel, Os, Package};
use fettle_vuln::exposure::{Catalogue, CatalogueInput, FleetIndex, HostView};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Distribution: `ID`, `VERSION_ID`, codename, release, how a version of a number is written.
type Distribution = (&'static str, &'static str, &'static str, &'static str, fn(u64) -> String);

const DISTRIBUTIONS: [Distribution; 4] = [
    ("debian", "12", "bookworm", "bookworm", |n| format!("1:2.{n}.3-4+deb12u{}", n % 9)),
    ("ubuntu", "22.04", "jammy", "ubuntu:22.04", |n| format!("2.{n}.3-4ubuntu0.{}", n % 9)),
    ("almalinux", "9.4", "", "almalinux:9", |n| format!("2.{n}.3-4.el9_{}", n % 9)),
    ("alpine", "3.19.1", "", "alpine:3.19", |n| format!("2.{n}.3-r{}", n % 9)),
];
/// Source packages of one distribution.
const SOURCES: u64 = 3000;
/// Statements about one distribution.
const STATEMENTS: u64 = 60_000;
const COHORTS: u64 = 2000;
/// Versions of one source that are installed anywhere.
const VERSIONS: u64 = 12;

/// SplitMix64: the same numbers each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
    /// By Zipf's law with exponent 1, about: small numbers come often.
    fn zipf(&mut self, bound: u64) -> u64 {
        let share = self.next() as f64 / u64::MAX as f64;
        (((bound as f64 + 1.0).powf(share)) as u64).saturating_sub(1).min(bound - 1)
    }
}

fn statements(with: u64) -> Vec<Advisory> {
    let mut random = Random(7);
    let mut said = Vec::new();
    for (_, _, _, release, version) in DISTRIBUTIONS {
        for n in 0..STATEMENTS {
            let source = random.zipf(SOURCES);
            let status = match random.below(20) {
                0 => AdvisoryStatus::NotAffected,
                1..=3 => {
                    AdvisoryStatus::Open { reason: "<no-dsa> Minor issue".into(), elsewhere: None }
                }
                // Most are old, and fixed wherever anything is installed.
                4..=14 => AdvisoryStatus::Fixed { version: version(random.below(2)) },
                _ => AdvisoryStatus::Fixed { version: version(random.below(VERSIONS) + with) },
            };
            said.push(Advisory {
                id: format!("CVE-20{:02}-{}", 10 + n % 16, 1000 + n / 2),
                source: format!("source-{source}"),
                release: release.into(),
                status,
                urgency: ["", "low", "medium", "high"][random.below(4) as usize].into(),
                evidence: "made up".into(),
            });
        }
    }
    said
}

fn catalogue(advisories: Vec<Advisory>) -> Arc<Catalogue> {
    Arc::new(Catalogue::build(CatalogueInput { advisories, ..CatalogueInput::default() }))
}

/// The hosts of one cohort.
fn cohort(number: u64) -> Inventory {
    let mut random = Random(1_000_000 + number);
    let (id, version, codename, _, written) = DISTRIBUTIONS[(number % 4) as usize];
    let wanted = 300 + random.below(2200);
    let mut packages = BTreeMap::new();
    // Cohorts that were patched at the same time have the same versions.
    let age = random.below(VERSIONS);
    let mut source = 0;
    while (packages.len() as u64) < wanted {
        // What everybody has first, then what few have.
        let source_number = if source < wanted / 4 { source } else { random.below(SOURCES) };
        source += 1;
        let version = written(2 + (age + source_number) % VERSIONS);
        for binary in 0..1 + source_number % 4 {
            let name = format!("package-{source_number}-{binary}");
            packages.insert(
                name.clone(),
                Package {
                    name,
                    architecture: "amd64".into(),
                    version: version.clone(),
                    source: format!("source-{source_number}"),
                    source_version: version.clone(),
                    healthy: true,
                    module: String::new(),
                },
            );
        }
    }
    let in_use: Vec<String> = packages.keys().filter(|_| random.below(12) == 0).cloned().collect();
    Inventory {
        schema: 1,
        os: Os {
            id: id.into(),
            version: version.into(),
            codename: codename.into(),
            pretty: id.into(),
        },
        architecture: "amd64".into(),
        kernel: Kernel::default(),
        boot_id: String::new(),
        packages: packages.into_values().map(Into::into).collect(),
        languages: vec![],
        upgrades: vec![],
        services: vec![],
        listeners: vec![],
        stale: vec![],
        exposed: in_use.iter().step_by(9).cloned().collect(),
        in_use,
        reboot_needed: vec![],
        configuration: BTreeMap::new(),
        held: vec![],
        ..Inventory::default()
    }
}

/// With other processes than the rest of its cohort.
fn varied(cohort: &Inventory, host: u64) -> Inventory {
    let mut random = Random(host);
    let mut inventory = cohort.clone();
    inventory.in_use.retain(|_| random.below(20) != 0);
    inventory
}

/// With one package in so many as the other cohort has it.
fn upgraded(cohort: &Inventory, other: &Inventory, every: usize) -> Inventory {
    let newer: BTreeMap<&str, _> = other.packages.iter().map(|p| (p.name.as_str(), p)).collect();
    let mut inventory = cohort.clone();
    for package in inventory.packages.iter_mut().skip(1).step_by(every) {
        if let Some(newer) = newer.get(package.name.as_str()) {
            *package = (*newer).clone();
        }
    }
    inventory
}

fn set(fleet: &mut FleetIndex, id: &HostId, inventory: &Inventory) -> usize {
    let none = BTreeMap::new();
    let view = HostView { host: id, inventory, previous: &[], ran_before: &none, accepted: &[] };
    fleet.set_host(&view).deltas.len()
}

fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

fn figure(name: &str, value: f64, unit: &str, bar: f64) {
    println!("{name}\t{value:.4}\t{unit}\t{bar}");
}

/// The middle of several runs, in ms.
fn middle(runs: usize, mut what: impl FnMut(usize)) -> f64 {
    let mut samples: Vec<f64> = (0..runs)
        .map(|n| {
            let started = Instant::now();
            what(n);
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// What a server that starts does with what the one before wrote: the file is in memory, as after any restart.
fn start_from_file(fleet: &FleetIndex, catalogue: &Arc<Catalogue>) {
    let begun = Instant::now();
    let packed = fleet.pack(&[]);
    figure("writing its snapshot", begun.elapsed().as_secs_f64(), "s", f64::NAN);
    figure("its snapshot", packed.len() as f64 / 1024.0 / 1024.0, "MiB", f64::NAN);
    let file = std::env::temp_dir().join(format!("fettle-bench-{}.index", std::process::id()));
    if std::fs::write(&file, packed).is_err() {
        return;
    }
    let begun = Instant::now();
    let bytes = std::fs::read(&file).unwrap_or_default();
    let back = FleetIndex::unpack(&bytes, catalogue.clone());
    let took = begun.elapsed().as_secs_f64();
    let _ = std::fs::remove_file(&file);
    if back.is_ok_and(|(back, _)| back.totals() == fleet.totals()) {
        figure("start from its snapshot", took, "s", 2.0);
    }
}

fn main() {
    let hosts: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let advisories = statements(2);
    let first = catalogue(advisories.clone());
    let before = resident();
    let mut fleet = FleetIndex::new(first.clone());
    let mut random = Random(42);
    let of: Vec<u64> = (0..hosts).map(|_| random.zipf(COHORTS)).collect();
    let id = |n: u64| HostId::new(format!("host-{n}"));

    // By cohort, so that only one inventory is in memory at a time.
    let mut by_cohort: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    of.iter().enumerate().for_each(|(n, c)| by_cohort.entry(*c).or_default().push(n as u64));
    let started = Instant::now();
    for (number, members) in &by_cohort {
        let inventory = cohort(*number);
        for &n in members {
            match n % 5 {
                0 => set(&mut fleet, &id(n), &varied(&inventory, n)),
                _ => set(&mut fleet, &id(n), &inventory),
            };
        }
    }
    let filled = started.elapsed().as_secs_f64();
    figure("all inventories taken in", filled, "s", f64::NAN);
    figure("memory of the fleet", resident() - before, "MiB", 1024.0);
    figure("cohorts", by_cohort.len() as f64, "cohorts", f64::NAN);
    figure("subjects judged", fleet.subject_count() as f64, "subjects", f64::NAN);
    let findings: u64 = fleet.totals().iter().map(|(_, _, n)| n).sum();
    figure("findings", findings as f64, "findings", f64::NAN);

    // One host reports what another of its distribution has: the ordinary step from one state to the next.
    let numbers: Vec<u64> = by_cohort.keys().copied().collect();
    let step = |n: usize| {
        let host = (n as u64 * 7919) % hosts;
        let own = of[host as usize];
        let next = numbers.iter().find(|c| **c > own && *c % 4 == own % 4).copied().unwrap_or(own);
        (host, own, next)
    };
    let runs = 40.min(hosts as usize);
    // What it says is as fresh in memory as what was just read from the network.
    let mut changed = 0;
    let mut take = |fleet: &mut FleetIndex, every: usize, back: bool| {
        let mut samples = Vec::new();
        changed = 0;
        for n in 0..runs {
            let (host, own, next) = step(n);
            let told = upgraded(&cohort(own), &cohort(next), every);
            let text = serde_json::to_vec(&told).unwrap_or_default();
            let Ok(told) = serde_json::from_slice::<Inventory>(&text) else { continue };
            samples.push(middle(1, |_| changed += set(fleet, &id(host), &told)));
            if back {
                set(fleet, &id(host), &cohort(own));
            }
        }
        samples.sort_by(f64::total_cmp);
        (samples[samples.len() / 2], changed as f64 / runs as f64)
    };
    let (same, _) = take(&mut fleet, usize::MAX, false);
    figure("one host's inventory, unchanged", same * 1e3, "µs", f64::NAN);
    for (what, every, bar) in [
        ("one host's new inventory, a hundredth upgraded", 100, 200.0),
        ("one host's new inventory, a tenth upgraded", 10, f64::NAN),
    ] {
        let (taken, findings) = take(&mut fleet, every, true);
        figure(what, taken * 1e3, "µs", bar);
        figure("findings it changed", findings, "findings", f64::NAN);
    }

    start_from_file(&fleet, &first);

    // Who has it: the vulnerabilities that most hosts have, and others.
    let worst = fleet.worst(100);
    let ids: Vec<String> = worst.iter().map(|w| w.id.clone()).collect();
    let mut found = 0;
    let who = middle(ids.len().max(1), |n| {
        found += ids.get(n).map_or(0, |id| fleet.who_has(id).len());
    });
    figure("who has a CVE", who, "ms", 1.0);
    figure(
        "hosts that have one of these",
        found as f64 / ids.len().max(1) as f64,
        "hosts",
        f64::NAN,
    );
    figure("100 worst vulnerabilities", middle(5, |_| drop(fleet.worst(100))), "ms", 20.0);

    let top = middle(11, |_| drop(fleet.riskiest(100)));
    figure("100 hosts worst off", top, "ms", 20.0);

    // What is asked of one host, and of one finding.
    let asked: Vec<(HostId, Inventory)> =
        (0..runs).map(step).map(|(host, own, _)| (id(host), cohort(own))).collect();
    let mut of_host = Vec::new();
    let all = middle(runs, |n| of_host = fleet.findings_of(&asked[n].0).unwrap_or_default());
    figure("all findings of a host", all, "ms", f64::NAN);
    let mut lines = 0;
    let mut findings = asked.iter().map(|(host, inventory)| {
        (fleet.findings_of(host).unwrap_or_default().into_iter().next(), inventory)
    });
    let asked: Vec<_> = findings.by_ref().collect();
    let explained = middle(asked.len(), |n| {
        let (finding, inventory) = &asked[n];
        lines += finding.as_ref().map_or(0, |f| first.explain(f, inventory).reasons.len());
    });
    figure("explaining a finding", explained, "ms", 1.0);

    // A new advisory for a package that every host of a distribution has.
    let mut affected = 0;
    let mut samples = Vec::new();
    for n in 0..5u64 {
        let mut all = advisories.clone();
        all.push(Advisory {
            id: format!("CVE-2027-{n}"),
            source: format!("source-{n}"),
            release: "bookworm".into(),
            status: AdvisoryStatus::Fixed { version: "1:3.0-1".into() },
            urgency: "high".into(),
            evidence: "made up".into(),
        });
        let with_one_more = catalogue(all);
        let started = Instant::now();
        let (changes, _) = fleet.replace_catalogue(with_one_more);
        samples.push(started.elapsed().as_secs_f64() * 1e3);
        affected +=
            changes.iter().filter(|c| c.delta.after.is_some()).map(|c| c.hosts.len()).sum::<u64>();
        fleet.replace_catalogue(first.clone());
    }
    samples.sort_by(f64::total_cmp);
    figure("a new advisory, to the deltas", samples[2], "ms", 5.0);
    figure("hosts it affects", affected as f64 / 5.0, "hosts", f64::NAN);

    // The whole feed replaced, by one that moved some fixed versions.
    let moved = catalogue(statements(3));
    let started = Instant::now();
    let (changes, _) = fleet.replace_catalogue(moved);
    figure("the whole feed replaced", started.elapsed().as_secs_f64(), "s", 2.0);
    figure("changes of findings it made", changes.len() as f64, "changes", f64::NAN);
    let started = Instant::now();
    drop(catalogue(advisories));
    figure("building its catalogue", started.elapsed().as_secs_f64(), "s", f64::NAN);
}
