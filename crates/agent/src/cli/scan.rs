//! Looking at this host: inventory, and where it is exposed.

use super::{Format, Words, feeds, proof, usage, visible};
use crate::inventory;
use crate::settings::Settings;
use fettle_core::feed::STALE_AFTER_SECONDS;
use fettle_core::finding::{Finding, FindingState, Severity};
use fettle_core::inventory::Inventory;
use fettle_core::language::Ecosystem;
use fettle_core::{HostId, Problem, ProblemKind, Timestamp, root};
use fettle_vuln::export::{self, Subject};
use fettle_vuln::exposure::{Catalogue, Coverage, HostView, Judgement, Reason, is_packages_alone};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;

mod elsewhere;

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
            let database = inventory::dpkg::database(settings).map_err(unreadable)?;
            for p in &database.packages {
                for part in [&p.name, "\t", &p.version, "\t", &p.architecture, "\n"] {
                    out.write_all(part.as_bytes()).map_err(io)?;
                }
            }
            // The process ends here: nobody needs its thousands of small pieces of memory given back first.
            std::mem::forget(database);
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
        None if compact => {
            serde_json::to_writer(&mut out, &inventory::collect(settings, inventory::Age::Recent))
                .map_err(|e| io(e.into()))?
        }
        None => {
            serde_json::to_writer_pretty(
                &mut out,
                &inventory::collect(settings, inventory::Age::Now),
            )
            .map_err(|e| io(e.into()))?;
            writeln!(out).map_err(io)?;
        }
    }
    out.flush().map_err(io)
}

/// `scan [--feeds DIR] [--status FILE | --sbom FILE] [--release NAME]`: where this host is exposed, worst first.
pub(super) fn run(settings: &Settings, mut words: Words) -> Result<(), Problem> {
    let (json, format) = (words.json, words.format);
    let directory = words.option("--feeds")?.unwrap_or_else(|| FEEDS.to_owned());
    let status = words.option("--status")?;
    let (release, sbom) = (words.option("--release")?, words.option("--sbom")?);
    words.nothing_more()?;
    if status.is_some() && sbom.is_some() {
        return Err(usage("--status or --sbom, one at a time".into()));
    }
    let read_from = status.as_deref().or(sbom.as_deref());
    let elsewhere = read_from.is_some();
    let mut inventory = match (&status, &sbom) {
        (Some(file), _) => elsewhere::packages_alone(settings, Path::new(file), release)?,
        (None, Some(file)) => elsewhere::listed(Path::new(file), release)?,
        (None, None) if release.is_some() => {
            return Err(usage("--release goes with --status or --sbom".into()));
        }
        (None, None) => inventory::collect(settings, inventory::Age::Now),
    };
    // What was found here before says nothing of another system.
    let before = if elsewhere { Vec::new() } else { proof::known_before(settings) };
    // A file is of a system of which only the packages are known, and not the name.
    let name = if elsewhere { super::LOCAL.to_owned() } else { own_name() };
    let Judged { mut judgement, catalogue, mut warnings } =
        judge(&inventory, &name, Path::new(&directory), &before).map_err(|mut problem| {
            if elsewhere && problem.code == "release-unknown" {
                problem.hint = format!(
                    "{}, or say of which release it is: --release bookworm, --release almalinux:9",
                    problem.hint
                );
            }
            problem
        })?;
    warnings.extend(stale(&catalogue, Path::new(&directory), Timestamp::now()));
    for warning in &warnings {
        if json {
            err!("{}", serde_json::to_string(warning).unwrap_or_default());
        } else {
            err!("warning[{}]: {}", warning.code, visible(&warning.message));
            err!("→ {}", visible(&warning.hint));
        }
    }
    judgement.findings.sort_by_cached_key(|f| std::cmp::Reverse(f.rank()));
    let not_judged = judgement.languages.values().filter_map(Coverage::warning);
    inventory.gaps.extend(not_judged);
    let text = match (format, json) {
        (Some(format), _) => {
            // Such a document goes where nobody sees what is said beside it.
            inventory.gaps.extend(warnings.into_iter().map(|warning| warning.message));
            formatted(format, &name, read_from, &inventory, judgement, &catalogue)
        }
        (None, true) => {
            let unknown = export::not_looked_at(&inventory);
            let explain = |finding| {
                let explained = Explained {
                    finding,
                    severity: finding.severity(),
                    reasons: catalogue.explain_named(finding, &[&name], &inventory).reasons,
                };
                let mut told = serde_json::to_value(explained).unwrap_or_default();
                for what in unknown {
                    told[*what] = serde_json::Value::Null;
                }
                if !unknown.is_empty() {
                    told["not_looked_at"] = serde_json::json!(unknown);
                }
                told
            };
            let explained: Vec<_> = judgement.findings.iter().map(explain).collect();
            serde_json::to_string_pretty(&explained).unwrap_or_default()
        }
        (None, false) => table(&judgement, &inventory, elsewhere),
    };
    let mut out = std::io::stdout().lock();
    let told = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
    match told.and_then(|()| out.flush()) {
        // Whoever read may be gone.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Problem::new(
            ProblemKind::Environment,
            "output",
            format!("cannot print: {e}"),
            "is the disk full?",
        )),
        _ => Ok(()),
    }
}

/// Data that is older than what a server raises its alarm at.
fn stale(catalogue: &Catalogue, directory: &Path, now: Timestamp) -> Option<Problem> {
    let age = |day: jiff::civil::Date| {
        // It may be of that day's last minute.
        let end = day.tomorrow().ok()?.at(0, 0, 0, 0);
        let end = jiff::tz::TimeZone::UTC.to_timestamp(end).ok()?;
        u64::try_from(now.duration_since(end).as_secs()).ok()
    };
    let old = catalogue.as_of().iter().filter_map(|(feed, day)| {
        let age = age(*day).filter(|age| *age > STALE_AFTER_SECONDS)?;
        Some(format!("{} is of {day}, {} days old", feed.word(), age / 86_400))
    });
    let old: Vec<String> = old.collect();
    if old.is_empty() {
        return None;
    }
    let message = format!("vendors may have said more since: {}", old.join("; "));
    let hint = format!("put newer ones into {}", directory.display());
    Some(Problem::new(ProblemKind::BadInput, "feeds-stale", message, hint))
}

/// What is found, as other programs take it.
fn formatted(
    format: Format,
    name: &str,
    read_from: Option<&str>,
    inventory: &Inventory,
    judgement: Judgement,
    catalogue: &Catalogue,
) -> String {
    let explained = judgement.findings.into_iter().map(|finding| {
        let why = catalogue.explain_named(&finding, &[name], inventory).reasons;
        (finding, why)
    });
    let findings: Vec<(Finding, Vec<Reason>)> = explained.collect();
    let subject = Subject {
        name,
        inventory,
        findings: &findings,
        read_from,
        at: Timestamp::now(),
        tool: "fettle-agent",
        version: env!("CARGO_PKG_VERSION"),
    };
    let document = match format {
        Format::Sarif => export::sarif(&subject),
        Format::CycloneDx => export::cyclonedx(&subject),
    };
    format!("{document:#}")
}

/// What is found, one line each, how many, and what to do.
fn table(judgement: &Judgement, inventory: &Inventory, elsewhere: bool) -> String {
    let mut text = String::with_capacity(160 * judgement.findings.len());
    for gap in &inventory.gaps {
        line(&mut text, format_args!("not known: {gap}"));
    }
    for root in &inventory.roots {
        let warning = judgement.roots.get(&root.id()).and_then(Coverage::warning);
        for gap in root.gaps.iter().chain(&warning) {
            line(&mut text, format_args!("not known of {}: {gap}", root.called()));
        }
    }
    let count = |state| judgement.findings.iter().filter(|f| f.state == state).count();
    let is_told = |f: &&Finding| {
        let is_counted_alone = matches!(
            f.state,
            FindingState::NoFixYet | FindingState::Fixed | FindingState::NotAffected
        );
        !is_counted_alone
    };
    for finding in judgement.findings.iter().filter(is_told) {
        let row = format_args!(
            "{:<10} {:<16} {:<24} {:<15} {}",
            finding.severity().word(),
            finding.id,
            finding.source,
            finding.state.word(),
            why(finding, inventory)
        );
        line(&mut text, row);
    }
    let (open, restart, reboot) = (
        count(FindingState::Open),
        count(FindingState::PendingRestart),
        count(FindingState::PendingReboot),
    );
    let is_open_in_root = |f: &&Finding| f.state == FindingState::Open && f.root().is_some();
    let in_roots = judgement.findings.iter().filter(is_open_in_root).count();
    let mut counts = vec![format!("{open} open")];
    if in_roots > 0 {
        counts.push(format!("{in_roots} of them in other roots on this host"));
    }
    for (count, what) in [
        (restart, "fixed on disk and not yet in memory"),
        (reboot, "fixed after a reboot"),
        (count(FindingState::NoFixYet), "without a fix"),
        (count(FindingState::NotAffected), "ruled out by your own statements"),
        (count(FindingState::Fixed), "proved gone by what Fettle changed here"),
    ] {
        if count > 0 {
            counts.push(format!("{count} {what}"));
        }
    }
    line(&mut text, format_args!("{}", counts.join(", ")));
    text.push_str(match (open, restart, reboot) {
        (0, 0, 0) => "→ nothing is to be done here; fettle-agent scan again when feeds are newer",
        _ if elsewhere => {
            "→ upgrade what is open where these packages are installed: what is in use there, and what is offered, was not \
             looked at"
        }
        (0, 0, _) => "→ reboot when it suits",
        (0, ..) => "→ restart what still runs the old code",
        (open, ..) if open == in_roots => {
            "→ nothing is to be done on the host itself; rebuild or upgrade what is open in other roots"
        }
        _ => "→ fettle-agent rehearse, then fettle-agent patch",
    });
    text
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    use std::fmt::Write as _;
    // What goes into a text cannot fail.
    let _ = writeln!(text, "{}", visible(&what.to_string()));
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
    if let Some(id) = finding.root() {
        let image = inventory.root(id).map_or("", |root| root.image.as_str());
        why.push(format!("in {}: {}", root::called(id, image), root::remedy(id)));
    }
    match finding.state {
        _ if finding.root().is_some() => {}
        FindingState::Open if Ecosystem::of_subject(&finding.source).is_some() => {
            why.push(format!("in {}", finding.binaries.join(", ")));
        }
        FindingState::Open if is_packages_alone(inventory) => {}
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

/// What people call this host.
pub(super) fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What judging this host gave.
pub(super) struct Judged {
    pub(super) judgement: Judgement,
    /// It explains what was found, and holds nothing else.
    pub(super) catalogue: Catalogue,
    /// Feeds that could not be used.
    pub(super) warnings: Vec<Problem>,
}

/// Judges this host by the feeds of a directory. `name`: what one's own statements may call it; `before`: what was found
/// earlier.
///
/// # Errors
/// When they cannot be used, or know nothing of this host's release.
pub(super) fn judge(
    inventory: &Inventory,
    name: &str,
    directory: &Path,
    before: &[Finding],
) -> Result<Judged, Problem> {
    let feeds = feeds::open(directory)?;
    let host = HostId::new(super::LOCAL);
    let ran_before = BTreeMap::new();
    let view = HostView {
        host: &host,
        inventory,
        previous: before,
        ran_before: &ran_before,
        accepted: &[],
    };
    let (judgement, catalogue, warnings) = feeds.judge(&view, name, Timestamp::now())?;
    if let Some(warning) = judgement.coverage.warning() {
        let (code, hint) = match judgement.coverage {
            Coverage::NoPackages { .. } => {
                ("dpkg-database", "fettle-agent inventory, as root, says what is wrong".to_owned())
            }
            _ => (
                "release-unknown",
                format!("put a feed for this release into {}", directory.display()),
            ),
        };
        return Err(Problem::new(ProblemKind::BadInput, code, warning, hint));
    }
    Ok(Judged { judgement, catalogue, warnings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::inventory::Os;
    use fettle_core::root::{Root, RootKind};
    use fettle_vuln::exposure::KernelCoverage;

    fn finding(id: &str, source: &str, state: FindingState) -> Finding {
        Finding {
            host: HostId::new("local"),
            id: id.into(),
            source: source.into(),
            installed: "1".into(),
            binaries: vec![],
            state,
            fixed_version: Some("2".into()),
            offered: true,
            in_use: false,
            exposed: false,
            urgency: String::new(),
            ranking: Default::default(),
            class: String::new(),
            deadline: None,
        }
    }

    fn judged(findings: Vec<Finding>) -> Judgement {
        Judgement {
            coverage: Coverage::Release {
                release: "bookworm".into(),
                kernel: KernelCoverage::NotThisHosts,
                odd_versions: vec![],
            },
            roots: BTreeMap::new(),
            languages: BTreeMap::new(),
            findings,
            withdrawn: vec![],
            doubts: vec![],
        }
    }

    #[test]
    fn what_is_no_danger_is_counted_and_not_listed() {
        let judgement = judged(vec![
            finding("CVE-2024-1", "openssl", FindingState::Open),
            finding("CVE-2024-2", "openssl", FindingState::NotAffected),
            finding("CVE-2024-3", "openssl", FindingState::Fixed),
        ]);
        let inventory = inventory::of_packages(Default::default(), vec![], "nothing else");
        let text = table(&judgement, &inventory, false);
        assert!(text.contains("CVE-2024-1"), "{text}");
        assert!(!text.contains("CVE-2024-2") && !text.contains("CVE-2024-3"), "{text}");
        assert!(
            text.contains("1 open, 1 ruled out by your own statements, 1 proved gone"),
            "{text}"
        );
        assert!(text.ends_with("→ fettle-agent rehearse, then fettle-agent patch"), "{text}");
    }

    #[test]
    fn what_is_in_a_container_says_so_and_that_no_patch_of_the_host_mends_it() {
        let mut judgement =
            judged(vec![finding("CVE-2024-1", "docker:web//openssl", FindingState::Open)]);
        let known = vec!["bookworm".to_owned()];
        let os = Os { id: "gentoo".into(), ..Os::default() };
        judgement.roots.insert("docker:web".into(), Coverage::UnknownRelease { os, known });
        let mut inventory = inventory::of_packages(Default::default(), vec![], "nothing else");
        inventory.roots.push(Root {
            kind: RootKind::Docker,
            name: "web".into(),
            image: "example/web:1".into(),
            location: String::new(),
            running: true,
            os: Os::default(),
            architecture: String::new(),
            packages: vec![].into(),
            gaps: vec!["2 entries of its database name no package".into()],
        });
        let text = table(&judgement, &inventory, false);
        for expected in [
            "not known of container web of image example/web:1: 2 entries of its database name no package\n",
            "not known of container web of image example/web:1: no vulnerability data for a system without a name",
            "docker:web//openssl      open            1 → 2, in container web of image example/web:1: rebuild the image, and \
             start the container anew from it\n",
            "1 open, 1 of them in other roots on this host\n→ nothing is to be done on the host itself",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }
}
