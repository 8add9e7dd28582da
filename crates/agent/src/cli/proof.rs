//! What a change that was typed here has proved gone: what was open before it is judged again after it, on disk and in
//! memory.

use super::print;
use super::scan;
use crate::settings::Settings;
use crate::transaction::{read_kept, undo::undone};
use crate::{durable, inventory};
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::Inventory;
use fettle_core::transaction::Outcome;
use fettle_core::{Problem, TransactionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Name of the file, in a transaction's directory.
const FILE: &str = "exposed.json";
/// So many vulnerabilities are told by name.
const TOLD: usize = 8;

/// Where the host was exposed before a change that mends it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Exposed {
    /// The feeds that say so.
    pub(super) feeds: PathBuf,
    /// The findings that the change fixes.
    pub(super) findings: Vec<Finding>,
}

/// What has become of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Proof {
    /// Proved gone, on disk and in memory.
    proved: Vec<String>,
    /// The rest.
    left: Vec<Left>,
}

/// A finding that is not proved gone.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Left {
    finding: String,
    source: String,
    state: FindingState,
    /// Units that go on with the old code.
    units: Vec<String>,
}

impl Exposed {
    /// Keeps it beside the journal, so that it can be judged whoever carries the transaction to its end.
    pub(super) fn keep(&self, settings: &Settings, id: &TransactionId) {
        let path = settings.transactions_dir().join(id.as_str()).join(FILE);
        // For people: the change itself needs none of it.
        let kept = serde_json::to_vec(self).map_err(std::io::Error::from);
        if let Err(error) = kept.and_then(|text| durable::replace(&path, &text)) {
            err!("what it proves gone will not be told: {error}");
        }
    }

    fn read(settings: &Settings, id: &str) -> Option<Self> {
        read_kept(&settings.transactions_dir().join(id), FILE)
    }
}

/// What the changes that still stand have found exposed before them: with it, `scan` tells what still runs old code.
pub(super) fn known_before(settings: &Settings) -> Vec<Finding> {
    let all = print::transactions(settings).unwrap_or_default();
    let standing =
        all.iter().filter(|p| p.outcome == Some(Outcome::Patched) && !undone(settings, &p.id));
    let mut seen = BTreeSet::new();
    // The newest word counts.
    standing
        .rev()
        .filter_map(|p| Exposed::read(settings, p.id.as_str()))
        .flat_map(|exposed| exposed.findings)
        .filter(|f| seen.insert((f.source.clone(), f.id.clone())))
        .collect()
}

/// Judges again, after a change. `None`: nothing was known that it could have fixed.
pub(super) fn judge(settings: &Settings, id: &TransactionId) -> Option<Result<Proof, Problem>> {
    let exposed = Exposed::read(settings, id.as_str()).filter(|e| !e.findings.is_empty())?;
    let inventory = inventory::collect(settings, inventory::Age::Recent);
    let judged = scan::judge(&inventory, &scan::own_name(), &exposed.feeds, &exposed.findings);
    Some(judged.map(|now| compare(&exposed.findings, &now.judgement.findings, &inventory)))
}

fn compare(before: &[Finding], now: &[Finding], inventory: &Inventory) -> Proof {
    let mut proof = Proof::default();
    for was in before {
        let is = now.iter().find(|is| (&is.source, &is.id) == (&was.source, &was.id));
        // One that nobody speaks of any more is not proved.
        match is.map_or(was.state, |is| is.state) {
            FindingState::Fixed => proof.proved.push(was.id.clone()),
            state => {
                let runs_it = |p: &&fettle_core::inventory::StaleProcess| {
                    p.packages.iter().any(|name| was.binaries.contains(name))
                };
                let stale = inventory.stale.iter().filter(runs_it);
                let name = |p: &fettle_core::inventory::StaleProcess| match p.unit.as_str() {
                    "" => format!("{} ({})", p.process, p.pid),
                    unit => unit.to_owned(),
                };
                let units: BTreeSet<String> = stale.map(name).collect();
                proof.left.push(Left {
                    finding: was.id.clone(),
                    source: was.source.clone(),
                    state,
                    units: units.into_iter().collect(),
                });
            }
        }
    }
    proof.proved.sort();
    proof.proved.dedup();
    proof
}

impl Proof {
    /// For people, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.proved.is_empty() {
            lines.push(format!(
                "proved gone, on disk and in memory: {}",
                some(&self.proved.iter().map(String::as_str).collect::<Vec<_>>())
            ));
        }
        let mut groups: Vec<(FindingState, &[String], Vec<&str>)> = Vec::new();
        for left in &self.left {
            let same = groups.iter_mut().find(|(s, u, _)| (*s, *u) == (left.state, &left.units));
            match same {
                Some((.., ids)) => ids.push(&left.finding),
                None => groups.push((left.state, &left.units, vec![&left.finding])),
            }
        }
        for (state, units, ids) in groups {
            let by = match (state, units.is_empty()) {
                (FindingState::PendingReboot, _) => ": the old kernel runs until a reboot".into(),
                (_, false) => format!(": the old code still runs in {}", units.join(", ")),
                (_, true) => String::new(),
            };
            lines.push(format!("not proved gone, {}{by}: {}", state.word(), some(&ids)));
        }
        lines
    }

    /// Is something still to be done for it?
    pub(super) fn next(&self) -> Option<&'static str> {
        let has = |state| self.left.iter().any(|left| left.state == state);
        match (has(FindingState::PendingRestart), has(FindingState::PendingReboot)) {
            (_, true) => Some("reboot when it suits, then fettle-agent scan"),
            (true, false) => Some("restart what still runs the old code, then fettle-agent scan"),
            (false, false) => None,
        }
    }
}

/// `14 (CVE-1, CVE-2 and 12 more)`.
fn some(ids: &[&str]) -> String {
    let told = ids.iter().take(TOLD).copied().collect::<Vec<_>>().join(", ");
    match ids.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// The directory as it is found from anywhere.
pub(super) fn absolute(feeds: &Path) -> PathBuf {
    std::path::absolute(feeds).unwrap_or_else(|_| feeds.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::advisory::Ranking;
    use fettle_core::inventory::StaleProcess;

    fn finding(id: &str, source: &str, state: FindingState) -> Finding {
        Finding {
            host: "local".into(),
            id: id.into(),
            source: source.into(),
            installed: "1".into(),
            binaries: vec![source.into()],
            state,
            fixed_version: Some("2".into()),
            offered: true,
            in_use: true,
            exposed: false,
            urgency: String::new(),
            ranking: Ranking::default(),
            class: String::new(),
            deadline: None,
        }
    }

    #[test]
    fn only_what_is_fixed_in_memory_too_is_proved_and_the_rest_says_who_runs_it() {
        use FindingState::{Fixed, Open, PendingReboot, PendingRestart};
        let root = tempfile::tempdir().unwrap();
        let settings = Settings { root: root.path().to_owned(), ..Settings::default() };
        let mut inventory = inventory::collect(&settings, inventory::Age::Recent);
        inventory.stale = vec![StaleProcess {
            unit: "db.service".into(),
            process: "db".into(),
            pid: 7,
            files: vec![],
            packages: vec!["openssl".into()],
        }];
        let before = [
            finding("CVE-1", "nginx", Open),
            finding("CVE-2", "openssl", Open),
            finding("CVE-3", "openssl", Open),
            finding("CVE-4", "linux", Open),
            finding("CVE-5", "zlib", Open),
        ];
        let now = [
            finding("CVE-1", "nginx", Fixed),
            finding("CVE-2", "openssl", PendingRestart),
            finding("CVE-3", "openssl", PendingRestart),
            finding("CVE-4", "linux", PendingReboot),
        ];
        let proof = compare(&before, &now, &inventory);
        assert_eq!(
            proof.lines(),
            [
                "proved gone, on disk and in memory: CVE-1",
                "not proved gone, pending-restart: the old code still runs in db.service: CVE-2, CVE-3",
                "not proved gone, pending-reboot: the old kernel runs until a reboot: CVE-4",
                "not proved gone, open: CVE-5",
            ]
        );
        assert_eq!(proof.next(), Some("reboot when it suits, then fettle-agent scan"));
        assert_eq!(compare(&before[..1], &now, &inventory).next(), None);
    }

    #[test]
    fn many_are_told_by_their_first_names_and_their_number() {
        let ids: Vec<String> = (1..=10).map(|n| format!("CVE-{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert!(some(&ids).ends_with("CVE-8 and 2 more"));
        assert_eq!(some(&ids[..1]), "CVE-1");
    }
}
