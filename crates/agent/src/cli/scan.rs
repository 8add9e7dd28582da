//! Looking at this host: inventory, and where it is exposed.

use super::{Words, proof, usage};
use crate::inventory;
use crate::settings::Settings;
use fettle_core::finding::{Finding, FindingState, Severity};
use fettle_core::inventory::Inventory;
use fettle_core::{HostId, Problem, ProblemKind};
use fettle_vuln::exposure::{Catalogue, HostView, Judgement, Reason};
use fettle_vuln::feed::Feed;
use fettle_vuln::snapshot::{self, Feeds};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;

/// Where feeds are looked for unless a directory is named.
pub(super) const FEEDS: &str = "/var/lib/fettle-agent/feeds";

/// `inventory [--compact | --only packages|processes]`.
pub(super) fn inventory(settings: &Settings, mut words: Words) -> Result<(), Problem> {
    let compact = words.flag("--compact");
    let only = words.option("--only")?;
    words.rest()?;
    let io = |e: std::io::Error| {
        Problem::new(
            ProblemKind::Environment,
            "output",
            format!("cannot print: {e}"),
            "is the disk full?",
        )
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match only.as_deref() {
        Some("packages") => {
            let unreadable = |e: std::io::Error| {
                Problem::new(
                    ProblemKind::Environment,
                    "dpkg-database",
                    format!("cannot read dpkg's database: {e}"),
                    "ls -l /var/lib/dpkg",
                )
            };
            for p in inventory::dpkg::Database::read(settings).map_err(unreadable)?.packages {
                writeln!(out, "{}\t{}\t{}", p.name, p.version, p.architecture).map_err(io)?;
            }
        }
        // What still runs replaced code, as `needrestart -b` tells it.
        Some("processes") => {
            for p in inventory::processes::survey(settings).map_err(io)?.stale {
                writeln!(out, "{}\t{}\t{}\t{}", p.unit, p.process, p.pid, p.packages.join(","))
                    .map_err(io)?;
            }
        }
        Some(other) => {
            return Err(usage(format!("--only takes packages or processes, not `{other}`")));
        }
        None if compact => serde_json::to_writer(&mut out, &inventory::collect(settings))
            .map_err(|e| io(e.into()))?,
        None => {
            serde_json::to_writer_pretty(&mut out, &inventory::collect(settings))
                .map_err(|e| io(e.into()))?;
            writeln!(out).map_err(io)?;
        }
    }
    out.flush().map_err(io)
}

/// `scan [--feeds DIR]`: where this host is exposed, worst first.
pub(super) fn run(settings: &Settings, mut words: Words) -> Result<(), Problem> {
    let json = words.json;
    let directory = words.option("--feeds")?.unwrap_or_else(|| FEEDS.to_owned());
    words.nothing_more()?;
    let inventory = inventory::collect(settings);
    let before = proof::known_before(settings);
    let (mut judgement, catalogue) = judge(&inventory, Path::new(&directory), &before)?;
    judgement.findings.sort_by_key(|f| std::cmp::Reverse(f.rank()));
    if json {
        let explained: Vec<_> = judgement
            .findings
            .iter()
            .map(|finding| Explained {
                finding,
                severity: finding.severity(),
                reasons: catalogue.explain(finding, &inventory).reasons,
            })
            .collect();
        out!("{}", serde_json::to_string_pretty(&explained).unwrap_or_default());
        return Ok(());
    }
    for gap in &inventory.gaps {
        out!("not known: {gap}");
    }
    let count = |state| judgement.findings.iter().filter(|f| f.state == state).count();
    let is_told = |f: &&Finding| !matches!(f.state, FindingState::NoFixYet | FindingState::Fixed);
    for finding in judgement.findings.iter().filter(is_told) {
        out!(
            "{:<10} {:<16} {:<24} {:<15} {}",
            finding.severity().word(),
            finding.id,
            finding.source,
            finding.state.word(),
            why(finding, &inventory)
        );
    }
    let (open, restart, reboot) = (
        count(FindingState::Open),
        count(FindingState::PendingRestart),
        count(FindingState::PendingReboot),
    );
    let mut counts = vec![format!("{open} open")];
    for (count, what) in [
        (restart, "fixed on disk and not yet in memory"),
        (reboot, "fixed after a reboot"),
        (count(FindingState::NoFixYet), "without a fix"),
        (count(FindingState::Fixed), "proved gone by what Fettle changed here"),
    ] {
        if count > 0 {
            counts.push(format!("{count} {what}"));
        }
    }
    out!("{}", counts.join(", "));
    out!(
        "→ {}",
        match (open, restart, reboot) {
            (0, 0, 0) => "nothing is to be done here; fettle-agent scan again when feeds are newer",
            (0, 0, _) => "reboot when it suits",
            (0, ..) => "restart what still runs the old code",
            _ => "fettle-agent rehearse, then fettle-agent patch",
        }
    );
    Ok(())
}

/// A finding with its reasons, as `-o json` prints it.
#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    severity: Severity,
    reasons: Vec<Reason>,
}

/// Versions, what runs of it, and what is known of its use by others: what decides how soon somebody should act.
fn why(finding: &Finding, inventory: &Inventory) -> String {
    let fixed = finding.fixed_version.as_deref().unwrap_or("none");
    let mut why = vec![format!("{} → {fixed}", finding.installed)];
    match finding.state {
        FindingState::Open if !finding.offered => why.push("no source here offers it".into()),
        FindingState::PendingRestart => {
            let runs_it = |p: &&fettle_core::inventory::StaleProcess| {
                p.packages.iter().any(|name| finding.binaries.contains(name))
            };
            let units: BTreeSet<&str> =
                inventory.stale.iter().filter(runs_it).map(|p| p.unit.as_str()).collect();
            why.push(format!("still runs in {}", Vec::from_iter(units).join(", ")));
        }
        _ => {}
    }
    match (finding.exposed, finding.in_use) {
        (true, _) => why.push("listens beyond loopback".into()),
        (false, true) => why.push("in use".into()),
        (false, false) => {}
    }
    if finding.ranking.kev.is_some() {
        why.push("known to be exploited".into());
    }
    if let Some(score) = finding.ranking.cvss {
        why.push(format!("CVSS {score:.1}"));
    }
    why.join(", ")
}

/// Judges this host by the feeds of a directory. `before`: what was found earlier.
///
/// # Errors
/// When they cannot be used, or know nothing of this host's release.
pub(super) fn judge(
    inventory: &Inventory,
    directory: &Path,
    before: &[Finding],
) -> Result<(Judgement, Catalogue), Problem> {
    let catalogue = load(directory)?;
    let host = HostId::new(super::LOCAL);
    let ran_before = BTreeMap::new();
    let view = HostView {
        host: &host,
        inventory,
        previous: before,
        ran_before: &ran_before,
        accepted: &[],
    };
    let judgement = catalogue.judge(&view);
    if let Some(warning) = judgement.coverage.warning() {
        let hint = format!("put a feed for this release into {}", directory.display());
        return Err(Problem::new(ProblemKind::BadInput, "release-unknown", warning, hint));
    }
    Ok((judgement, catalogue))
}

/// Reads the feeds of a directory: `debian-tracker.json`, `debian-advisories.jsonl`, `kev.json`, `epss.csv`,
/// `cvss.jsonl`, `osv-almalinux.jsonl` and the like. One that says who is affected must be there.
fn load(directory: &Path) -> Result<Catalogue, Problem> {
    let mut kept = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(feed) = Feed::ALL.into_iter().find(|f| name.split('.').next() == Some(f.word()))
        else {
            continue;
        };
        let bytes = std::fs::read(entry.path()).map_err(|e| {
            Problem::new(
                ProblemKind::BadInput,
                "feed-unreadable",
                format!("{name}: {e}"),
                "may this user read it?",
            )
        })?;
        kept.insert(feed, bytes);
    }
    let bytes = kept.iter().map(|(feed, bytes)| (*feed, bytes.as_slice())).collect();
    let loaded = snapshot::load(&Feeds { bytes, as_of: BTreeMap::new() }).map_err(|error| {
        let hint = format!(
            "put the vendor's file into {}, uncompressed: debian-tracker.json, or OSV records as osv-ubuntu.jsonl",
            directory.display()
        );
        Problem::new(ProblemKind::BadInput, "feed-unusable", error, hint)
    })?;
    Ok(loaded.catalogue)
}
