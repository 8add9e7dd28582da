//! Makes the vulnerability data that goes with the sources: `data/` at the root of the repository.
//!
//! ```text
//! cargo run --release -p fettle-vuln --example snapshot -- SOURCE DESTINATION
//! ```
//!
//! SOURCE holds `debian-tracker/`, `debian-changelogs/`, `kev/`, `epss/` and `vulnrichment/` as downloaded (`*.zst`); what ranks is cut
//! down to the vulnerabilities that the tracker names. Everything is checked by parsing it before the manifest is
//! written. Needs the `zstd` program.

use fettle_core::Digest;
use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_vuln::feed;
use fettle_vuln::snapshot::{Feeds, Manifest, load};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Releases that hosts run; statements about older ones stay out of the dates.
const RELEASES: [&str; 3] = ["bullseye", "bookworm", "trixie"];

fn main() -> Outcome<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [source, destination] = &arguments[..] else {
        return Err("usage: snapshot SOURCE DESTINATION".into());
    };
    std::fs::create_dir_all(destination)?;
    let tracker = read(&source.join("debian-tracker/tracker-assembled.json.zst"))?;
    let advisories = feed::debian::parse(&tracker)?.records;
    let used: BTreeSet<&str> = advisories.iter().map(|a| a.id.as_str()).collect();

    let kev = read(&newest(&source.join("kev"), "known_exploited_vulnerabilities.")?)?;
    let epss = epss(&text(&newest(&source.join("epss"), "epss_scores-")?)?, &used);
    let cvss = cvss(&text(&source.join("vulnrichment/vulnrichment-cvss-ssvc.tsv.zst"))?, &used)?;
    let mut dates =
        debian_advisories(&text(&source.join("debian-tracker/advisories.jsonl.zst"))?, &used)?;
    let changelogs = text(&source.join("debian-changelogs/changelog-cves.jsonl.zst"))?;
    dates += &from_changelogs(&changelogs, &advisories, &dates)?;

    let mut manifest = String::from(MANIFEST_HEAD);
    for (entry, bytes) in [
        (TRACKER, tracker.as_slice()),
        (ADVISORIES, dates.as_bytes()),
        (KEV, kev.as_slice()),
        (EPSS, epss.as_bytes()),
        (CVSS, cvss.as_bytes()),
    ] {
        let [feed, name, as_of, origin, licence] = entry;
        let compressed = zstd(bytes)?;
        std::fs::write(destination.join(name), &compressed)?;
        println!("{name}: {} bytes, {} compressed", bytes.len(), compressed.len());
        write!(
            manifest,
            "\n[[file]]\nname = \"{name}\"\nfeed = \"{feed}\"\nas_of = \"{as_of}\"\norigin = \"\"\"\n{origin}\"\"\"\n\
             licence = \"{licence}\"\nsha256 = \"{}\"\n",
            Digest::of(&compressed)
        )?;
    }
    std::fs::write(destination.join("SNAPSHOT.toml"), &manifest)?;
    check(destination, &manifest)
}

const MANIFEST_HEAD: &str = "# Vulnerability data that goes with the sources, so that Fettle works without internet.\n\
    # Made by `cargo run --release -p fettle-vuln --example snapshot`.\n";

const TRACKER: [&str; 5] = [
    "debian-tracker",
    "debian-tracker.json.zst",
    "2026-11-20",
    "Debian security tracker, the layout of its data/json: 677 source packages of bullseye, bookworm and trixie.\n\
     Assembled from Debian's DSA and DLA lists (to 2026-08-21), changelogs of 142 sources (to 2026-11-20) and a\n\
     tracker export of 175 base packages (open and unimportant entries, 2026-02-18). Not the whole tracker.",
    "Debian security tracker data, by the Debian project",
];
const ADVISORIES: [&str; 5] = [
    "debian-advisories",
    "debian-advisories.jsonl.zst",
    "2026-11-20",
    "Debian's data/DSA/list and data/DLA/list to 2026-08-21: number, date, CVEs and fixed versions of the advisories\n\
     for bullseye, bookworm and trixie; and for fixes that none of them names, the day of the changelog entry.",
    "Debian security tracker data, by the Debian project",
];
const KEV: [&str; 5] = [
    "kev",
    "kev.json.zst",
    "2026-08-07",
    "CISA Known Exploited Vulnerabilities catalogue, complete.",
    "CC0-1.0",
];
const EPSS: [&str; 5] = [
    "epss",
    "epss.csv.zst",
    "2026-08-16",
    "EPSS scores of that day, cut down to the CVEs that the tracker data names.",
    "EPSS by FIRST.org, https://www.first.org/epss, free to use with attribution",
];
const CVSS: [&str; 5] = [
    "cvss",
    "cvss.jsonl.zst",
    "2024-10-31",
    "CVSS vectors and scores of the CVE List V5 and of CISA's vulnrichment, cut down to the CVEs that the tracker\n\
     data names. Nothing newer than October 2024.",
    "CVE records: CVE Program terms of use; vulnrichment: CC0-1.0",
];

fn epss(csv: &str, used: &BTreeSet<&str>) -> String {
    let keep = |line: &&str| match line.split_once(',') {
        Some((id, _)) => id == "cve" || used.contains(id),
        None => false,
    };
    // The comment holds a comma too.
    csv.lines()
        .filter(|l| l.starts_with('#') || keep(l))
        .fold(String::new(), |all, line| all + line + "\n")
}

fn cvss(tsv: &str, used: &BTreeSet<&str>) -> Outcome<String> {
    let mut lines = tsv.lines();
    let header: Vec<&str> = lines.next().ok_or("empty CVSS table")?.split('\t').collect();
    let column = |name: &str| {
        header.iter().position(|h| *h == name).ok_or_else(|| format!("no column {name}"))
    };
    let (id, issuer, vector, score) =
        (column("cve")?, column("source")?, column("vector")?, column("base_score")?);
    let mut out = BTreeSet::new();
    for line in lines {
        let field: Vec<&str> = line.split('\t').collect();
        if !used.contains(field[id]) || field[vector].is_empty() {
            continue;
        }
        let score: Option<f64> = field[score].parse().ok();
        out.insert(
            serde_json::json!({"id": field[id], "vector": field[vector], "score": score, "issuer": field[issuer]})
                .to_string(),
        );
    }
    Ok(out.into_iter().fold(String::new(), |all, line| all + &line + "\n"))
}

fn debian_advisories(jsonl: &str, used: &BTreeSet<&str>) -> Outcome<String> {
    let mut out = String::new();
    for line in jsonl.lines() {
        let all: serde_json::Value = serde_json::from_str(line)?;
        let list = |key: &str| all[key].as_array().cloned().unwrap_or_default();
        let cves: Vec<_> = list("cves")
            .into_iter()
            .filter(|c| c.as_str().is_some_and(|c| used.contains(c)))
            .collect();
        let releases: Vec<_> = list("releases")
            .into_iter()
            .filter(|r| r["release"].as_str().is_some_and(|r| RELEASES.contains(&r)))
            .map(|r| serde_json::json!({"release": r["release"], "package": r["package"], "fixed_version": r["fixed_version"]}))
            .collect();
        if !cves.is_empty() && !releases.is_empty() {
            let kept = serde_json::json!({"id": all["id"], "date": all["date"], "cves": cves, "releases": releases});
            writeln!(out, "{kept}")?;
        }
    }
    Ok(out)
}

/// Fixes that no advisory dates, by the day of the changelog entry of their version.
fn from_changelogs(jsonl: &str, advisories: &[Advisory], dated: &str) -> Outcome<String> {
    let mut known = BTreeSet::new();
    for advisory in feed::dsa::parse(dated.as_bytes())?.records {
        for fix in &advisory.releases {
            known.extend(
                advisory
                    .cves
                    .iter()
                    .map(|id| (fix.release.clone(), fix.package.clone(), id.clone())),
            );
        }
    }
    // Changelogs are written by hand: weekdays do not always fit.
    let date = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true);
    let mut days = BTreeMap::new();
    for line in jsonl.lines() {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        let field = |name: &str| {
            entry[name].as_str().ok_or(format!("changelog entry without {name}: {line}"))
        };
        let day = date.parse_zoned(field("date")?)?.date();
        days.insert((field("source")?.to_owned(), field("version")?.to_owned()), day);
    }
    let mut fixes: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for a in advisories {
        let AdvisoryStatus::Fixed { version } = &a.status else { continue };
        let Some(day) = days.get(&(a.source.clone(), version.clone())) else { continue };
        if !known.contains(&(a.release.clone(), a.source.clone(), a.id.clone())) {
            fixes.entry((day, &a.source, version, &a.release)).or_default().insert(&a.id);
        }
    }
    let mut out = String::new();
    for ((day, package, version, release), cves) in fixes.into_iter().rev() {
        let releases =
            [serde_json::json!({"release": release, "package": package, "fixed_version": version})];
        let line = serde_json::json!({"id": feed::dsa::CHANGELOG, "date": day, "cves": cves, "releases": releases});
        writeln!(out, "{line}")?;
    }
    Ok(out)
}

/// Reads everything back and says what it holds.
fn check(directory: &Path, manifest: &str) -> Outcome<()> {
    let manifest = Manifest::parse(manifest)?;
    let mut bytes = Vec::new();
    for file in &manifest.file {
        let path = directory.join(&file.name);
        file.verify(&std::fs::read(&path)?)?;
        bytes.push((file.feed, read(&path)?));
    }
    let bytes = bytes.iter().map(|(feed, bytes)| (*feed, bytes.as_slice())).collect();
    let loaded = load(&Feeds { bytes, as_of: manifest.as_of() })?;
    for feed in &loaded.feeds {
        println!("{}: {} records, {} rejected", feed.feed, feed.records, feed.rejected);
        for error in feed.errors.iter().take(5) {
            println!("  {error}");
        }
    }
    Ok(())
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut bytes = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(file)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(path: &Path) -> Outcome<String> {
    Ok(String::from_utf8(read(path)?)?)
}

/// The file whose name begins so and sorts last: names hold dates.
fn newest(directory: &Path, prefix: &str) -> Outcome<PathBuf> {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(directory)?.map(|e| Ok(e?.path())).collect::<Outcome<_>>()?;
    names.retain(|p| {
        p.file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|n| n.starts_with(prefix) && n.ends_with(".zst"))
    });
    names.sort();
    names.pop().ok_or_else(|| format!("{}: no {prefix}*.zst", directory.display()).into())
}

fn zstd(bytes: &[u8]) -> Outcome<Vec<u8>> {
    let mut child = Command::new("zstd")
        .args(["-19", "-q", "-c", "--no-progress"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("zstd: {e}: install it"))?;
    let mut stdin = child.stdin.take().ok_or("zstd has no stdin")?;
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes));
        child.wait_with_output()
    })?;
    if !output.status.success() {
        return Err("zstd failed".into());
    }
    Ok(output.stdout)
}
