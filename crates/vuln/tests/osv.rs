//! Real OSV records over real hosts, against a slow and obvious evaluator that shares no code with ours.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::inventory::{Inventory, Os};
use fettle_core::version::Scheme;
use fettle_vuln::exposure::{Catalogue, CatalogueInput, Coverage};
use fettle_vuln::feed::osv::{self, OsvRecord};
use fettle_vuln::feed::{Parsed, Publisher};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use support::*;

const ALMA: [&str; 3] = [
    "almalinux-osv/almalinux8.jsonl.zst",
    "almalinux-osv/almalinux9.jsonl.zst",
    "almalinux-osv/almalinux10.jsonl.zst",
];
const ROLLING: [&str; 4] = [
    "osv-rolling/rocky.osv.jsonl.zst",
    "osv-rolling/alpine.osv.jsonl.zst",
    "osv-rolling/ubuntu.osv.jsonl.zst",
    "osv-rolling/debian.osv.jsonl.zst",
];

/// A host of the inventories, and how vendors speak of it.
struct Host {
    file: &'static str,
    id: &'static str,
    version: &'static str,
    codename: &'static str,
    ecosystem: &'static str,
    /// Do statements name installed packages?
    binaries: bool,
    scheme: Scheme,
}

const fn host(
    file: &'static str,
    (id, version, codename): (&'static str, &'static str, &'static str),
    ecosystem: &'static str,
    binaries: bool,
    scheme: Scheme,
) -> Host {
    Host { file, id, version, codename, ecosystem, binaries, scheme }
}

const HOSTS: [Host; 10] = [
    host("alma_9", ("almalinux", "9.0", ""), "AlmaLinux:9", true, Scheme::Rpm),
    host("alma_10", ("almalinux", "10.0", ""), "AlmaLinux:10", true, Scheme::Rpm),
    host("rocky_8", ("rocky", "8.4", ""), "Rocky Linux:8", false, Scheme::Rpm),
    host("rocky_10", ("rocky", "10.1", ""), "Rocky Linux:10", false, Scheme::Rpm),
    host("alpine_319", ("alpine", "3.19.0", ""), "Alpine:v3.19", false, Scheme::Apk),
    host("ubuntu_1804", ("ubuntu", "18.04", "bionic"), "Ubuntu:18.04:LTS", false, Scheme::Deb),
    host("ubuntu_2004", ("ubuntu", "20.04", "focal"), "Ubuntu:20.04:LTS", false, Scheme::Deb),
    host("ubuntu_2204", ("ubuntu", "22.04", "jammy"), "Ubuntu:22.04:LTS", false, Scheme::Deb),
    host("debian_10", ("debian", "10", "buster"), "Debian:10", false, Scheme::Deb),
    host("debian_12", ("debian", "12", "bookworm"), "Debian:12", false, Scheme::Deb),
];

impl Host {
    fn inventory(&self) -> Option<Inventory> {
        let file = format!("inventories/hosts/{}.tsv", self.file);
        let text = std::fs::read_to_string(shared(&file)?).unwrap();
        let packages: Vec<_> = text
            .lines()
            .skip(1)
            .map(|line| {
                let f: Vec<&str> = line.split('\t').collect();
                let or = |field: &str, other: &str| {
                    if field.is_empty() { other.to_owned() } else { field.to_owned() }
                };
                built(f[0], f[1], &or(f[3], f[0]), &or(f[4], f[1]))
            })
            .collect();
        let os = Os {
            id: self.id.into(),
            version: self.version.into(),
            codename: self.codename.into(),
            pretty: String::new(),
        };
        Some(Inventory { os, ..with(&packages) })
    }
}

fn text_of(files: &[&str]) -> Option<String> {
    files.iter().map(|f| shared_text(f)).collect()
}

/// Each record read in its own publisher's feed.
fn parsed(text: &str) -> Parsed<OsvRecord> {
    let mut feeds: BTreeMap<Publisher, String> = BTreeMap::new();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let ecosystem = record["affected"][0]["package"]["ecosystem"].as_str().unwrap();
        let vendor = ecosystem.split(':').next().unwrap();
        let its = Publisher::ALL.into_iter().find(|p| p.ecosystems().contains(&vendor));
        let Some(its) = its else { continue };
        feeds.entry(its).or_default().push_str(&format!("{line}\n"));
    }
    let mut all = Parsed { records: Vec::new(), errors: Vec::new(), errors_not_kept: 0 };
    for (publisher, text) in feeds {
        let parsed = osv::parse(publisher, text.as_bytes()).unwrap();
        all.records.extend(parsed.records);
        all.errors.extend(parsed.errors);
        all.errors_not_kept += parsed.errors_not_kept;
    }
    all
}

fn catalogue_from(parsed: &Parsed<OsvRecord>) -> Catalogue {
    let statements = parsed.records.iter().flat_map(|r| r.statements.iter().cloned());
    Catalogue::build(CatalogueInput {
        advisories: statements.collect(),
        ..CatalogueInput::default()
    })
}

/// Vulnerability, package as the vendor names it, does a fix exist?
type Pairs = BTreeSet<(String, String, bool)>;

fn found(catalogue: &Catalogue, inventory: &Inventory) -> Pairs {
    let judgement = judge(catalogue, inventory);
    assert!(matches!(judgement.coverage, Coverage::Release { .. }), "{:?}", judgement.coverage);
    judgement.findings.into_iter().map(|f| (f.id, f.source, f.fixed_version.is_some())).collect()
}

/// Which of these `installed fixed` pairs have installed below fixed: asked of the package manager itself where it is
/// here. The second is who was asked.
fn lower(
    scheme: Scheme,
    pairs: &BTreeSet<(String, String)>,
) -> (BTreeSet<(String, String)>, String) {
    let (program, arguments): (&str, &[&str]) = match scheme {
        Scheme::Rpm => (
            "rpm",
            &[
                "--eval",
                "%{lua: for line in io.lines() do local a, b = line:match('(%S+) (%S+)'); \
                 print(rpm.vercmp(a, b) .. '\\n') end}",
            ],
        ),
        _ => (
            "perl",
            &[
                "-MDpkg::Version",
                "-e",
                "while (<STDIN>) { my ($a, $b) = split; print version_compare($a, $b), \"\\n\" }",
            ],
        ),
    };
    let said = if scheme == Scheme::Apk { None } else { ask(program, arguments, pairs) };
    match said {
        Some(said) => {
            assert_eq!(said.trim_end().lines().count(), pairs.len());
            let both = pairs.iter().zip(said.lines());
            (
                both.filter(|(_, s)| s.trim() == "-1").map(|(p, _)| p.clone()).collect(),
                program.into(),
            )
        }
        None => {
            let is_lower = |p: &&(String, String)| scheme.compare_lenient(&p.0, &p.1).is_lt();
            (pairs.iter().filter(is_lower).cloned().collect(), "ourselves".into())
        }
    }
}

fn ask(program: &str, arguments: &[&str], pairs: &BTreeSet<(String, String)>) -> Option<String> {
    let lines: String = pairs.iter().map(|(a, b)| format!("{a} {b}\n")).collect();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// The evaluator: every record by every package, by the format's own words.
fn reference(host: &Host, inventory: &Inventory, records: &[Value]) -> (Pairs, String) {
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    // (vulnerability, package name, installed version, fixed version or none, for subscribers only), each to be asked about.
    let mut questions: Vec<(String, String, String, Option<String>, bool)> = Vec::new();
    // What the release itself, and not only its Pro release, says something of.
    let mut own: BTreeSet<(String, String)> = BTreeSet::new();
    let for_subscribers = host.ecosystem.replace("Ubuntu:", "Ubuntu:Pro:");
    for record in records {
        let id = record["id"].as_str().unwrap();
        let kind = id.split('-').next().unwrap();
        if !record["withdrawn"].is_null() || ["ALBA", "ALEA", "LSN"].contains(&kind) {
            continue;
        }
        let mut cves = strings(&record["upstream"]);
        if ["ALSA", "RLSA", "RXSA"].contains(&kind) {
            cves.extend(strings(&record["related"]));
        }
        cves.retain(|c| c.starts_with("CVE-"));
        if cves.is_empty() {
            cves.push(id.split_once("-CVE-").map_or(id.to_owned(), |(_, n)| format!("CVE-{n}")));
        }
        for affected in record["affected"].as_array().unwrap() {
            let ecosystem = affected["package"]["ecosystem"].as_str().unwrap();
            let pro = ecosystem == for_subscribers && ecosystem != host.ecosystem;
            if ecosystem != host.ecosystem && !pro {
                continue;
            }
            let name = affected["package"]["name"].as_str().unwrap();
            let map = &affected["database_specific"]["cves_map"]["cves"];
            let about: Vec<String> = match map.as_array() {
                Some(list) => list.iter().map(|c| c["id"].as_str().unwrap().to_owned()).collect(),
                None => cves.clone(),
            };
            for package in &inventory.packages {
                let (its_name, its_version) = if host.binaries {
                    (&package.name, &package.version)
                } else {
                    (&package.source, &package.source_version)
                };
                // None of these hosts' kernels is known to run: images are not judged.
                let image = package.name.starts_with("linux-image-");
                if its_name != name || image || package.version.contains(".module") {
                    continue;
                }
                for range in affected["ranges"].as_array().unwrap() {
                    let events = range["events"].as_array().unwrap();
                    assert_eq!(events[0]["introduced"], "0");
                    let fixed = events.iter().find_map(|e| e["fixed"].as_str());
                    if fixed == Some("0") || fixed.is_some_and(|f| f.contains(".module")) {
                        continue;
                    }
                    for cve in &about {
                        let fixed = fixed.map(str::to_owned);
                        if !pro {
                            own.insert((cve.clone(), name.into()));
                        }
                        questions.push((cve.clone(), name.into(), its_version.clone(), fixed, pro));
                    }
                }
            }
        }
    }
    let pairs = questions.iter().filter_map(|q| Some((q.2.clone(), q.3.clone()?))).collect();
    let (lower, who) = lower(host.scheme, &pairs);
    let mut affected = Pairs::new();
    for (cve, name, installed, fixed, pro) in &questions {
        let hit = fixed.as_ref().is_none_or(|f| lower.contains(&(installed.clone(), f.clone())));
        // The release's own word first; what Pro alone fixes is none for a host that is not attached.
        if hit && (!pro || !own.contains(&(cve.clone(), name.clone()))) {
            affected.insert((cve.clone(), name.clone(), fixed.is_some() && !pro));
        }
    }
    // Of two statements the worse counts: one that is open hides the fix of another.
    let open: Vec<_> = affected.iter().filter(|p| !p.2).cloned().collect();
    for (cve, name, _) in open {
        affected.remove(&(cve, name, true));
    }
    (affected, who)
}

#[test]
fn findings_on_real_hosts_equal_those_of_the_slow_evaluator_pair_for_pair() {
    let files: Vec<&str> = ALMA.into_iter().chain(ROLLING).collect();
    let Some(text) = text_of(&files) else { return };
    let catalogue = catalogue_from(&parsed(&text));
    let records: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let mut counts = BTreeMap::new();
    for host in &HOSTS {
        let Some(inventory) = host.inventory() else { return };
        let ours = found(&catalogue, &inventory);
        let (theirs, who) = reference(host, &inventory, &records);
        let missed: Vec<_> = theirs.difference(&ours).collect();
        let extra: Vec<_> = ours.difference(&theirs).collect();
        println!(
            "{}: {} packages, {} pairs, {} missed, {} extra; versions compared by {who}",
            host.file,
            inventory.packages.len(),
            ours.len(),
            missed.len(),
            extra.len()
        );
        assert!(missed.is_empty(), "{}: missed {:?}", host.file, &missed[..missed.len().min(10)]);
        assert!(extra.is_empty(), "{}: extra {:?}", host.file, &extra[..extra.len().min(10)]);
        counts.insert(host.file, ours.len());
    }
    for (file, at_least) in
        [("alma_9", 5000), ("alma_10", 1000), ("rocky_8", 10), ("ubuntu_2204", 10)]
    {
        assert!(counts[file] >= at_least, "{counts:?}");
    }
}

#[test]
fn every_real_record_is_read_or_named_and_almost_all_are_read() {
    let files: Vec<&str> = ALMA.into_iter().chain(ROLLING).collect();
    for file in files {
        let Some(text) = shared_text(file) else { return };
        let parsed = parsed(&text);
        let statements: usize = parsed.records.iter().map(|r| r.statements.len()).sum();
        println!(
            "{file}: {} lines, {} records, {statements} statements, {} rejected",
            text.lines().count(),
            parsed.records.len(),
            parsed.rejected()
        );
        for error in parsed.errors.iter().take(5) {
            println!("  {error}");
        }
        assert!(parsed.rejected() * 100 <= statements, "{file}");
    }
}

#[test]
fn raw_records_of_nine_vendors_are_read_or_named() {
    let Some(path) = shared("golden/vuls-data-update-testdata.tar.zst") else { return };
    let archive = unzstd(&path);
    let mut text = String::new();
    for (_, file) in tar(&archive) {
        let Ok(json) = serde_json::from_slice::<Value>(file) else { continue };
        let is_osv = json["modified"].is_string() && json["affected"][0]["package"].is_object();
        if is_osv && json["id"].is_string() {
            text.push_str(&format!("{json}\n"));
        }
    }
    let parsed = parsed(&text);
    let mut releases: BTreeMap<&str, usize> = BTreeMap::new();
    for statement in parsed.records.iter().flat_map(|r| &r.statements) {
        *releases.entry(statement.release.as_str()).or_default() += 1;
    }
    println!("{} records of {}: {releases:?}", parsed.records.len(), text.lines().count());
    for error in &parsed.errors {
        println!("  {error}");
    }
    for vendor in [
        "almalinux:9",
        "rocky:9",
        "rhel-eus:9.2",
        "alpine:3.21",
        "wolfi",
        "chainguard",
        "sles:12.1",
        "squeeze",
    ] {
        assert!(releases.contains_key(vendor), "nothing of {vendor}: {releases:?}");
    }
    assert!(releases.keys().any(|r| r.starts_with("ubuntu:")), "{releases:?}");
}
