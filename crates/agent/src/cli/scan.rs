//! Looking at this host: inventory, and where it is exposed.

use super::{Words, usage};
use crate::inventory;
use crate::settings::Settings;
use fettle_core::finding::FindingState;
use fettle_core::inventory::Inventory;
use fettle_core::{HostId, Problem, ProblemKind};
use fettle_vuln::exposure::{Catalogue, HostView, Judgement};
use fettle_vuln::feed::Feed;
use fettle_vuln::snapshot::{self, Feeds};
use std::collections::BTreeMap;
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
    words.rest()?;
    let inventory = inventory::collect(settings);
    let (mut judgement, catalogue) = judge(&inventory, Path::new(&directory))?;
    judgement.findings.sort_by_key(|f| std::cmp::Reverse(f.rank()));
    if json {
        out!("{}", serde_json::to_string_pretty(&judgement.findings).unwrap_or_default());
        return Ok(());
    }
    for gap in &inventory.gaps {
        out!("not known: {gap}");
    }
    let count = |state| judgement.findings.iter().filter(|f| f.state == state).count();
    for finding in judgement.findings.iter().filter(|f| f.state != FindingState::NoFixYet) {
        out!(
            "{:<9} {:<16} {:<24} {:<15} {}",
            finding.severity().word(),
            finding.id,
            finding.source,
            finding.state.word(),
            catalogue.explain(finding, &inventory).headline
        );
    }
    out!("{} open, {} without a fix", count(FindingState::Open), count(FindingState::NoFixYet));
    out!("→ fettle-agent rehearse, then fettle-agent patch");
    Ok(())
}

/// Judges this host by the feeds of a directory.
///
/// # Errors
/// When they cannot be used, or know nothing of this host's release.
pub(super) fn judge(
    inventory: &Inventory,
    directory: &Path,
) -> Result<(Judgement, Catalogue), Problem> {
    let catalogue = load(directory)?;
    let host = HostId::new(super::LOCAL);
    let (previous, ran_before) = (Vec::new(), BTreeMap::new());
    let view = HostView {
        host: &host,
        inventory,
        previous: &previous,
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
