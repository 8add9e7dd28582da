//! Statements against facts: one source package at a time, once for all hosts that share them.

use super::carry::{Carried, Known, carry};
use super::catalogue::{Catalogue, Statement};
use super::facts::{Group, HostFacts, Keyed, SourceFacts, SystemFacts};
use super::roots::{systems, together};
use super::vendor::release_name;
use super::{Coverage, Doubt, Exception, HostView, Judgement, Verdict};
use fettle_core::HostId;
use fettle_core::advisory::{AdvisoryStatus, Ranking};
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::{Inventory, Os};
use fettle_core::language::Ecosystem;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One vulnerability of one source package, as it stands for every host with these facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    /// Place of the statement in the catalogue.
    pub(super) statement: u32,
    /// `Open`, `NoFixYet` or `PendingReboot`.
    pub(super) state: FindingState,
    /// How many of the lowest installed versions are affected.
    pub(super) groups: u32,
    /// Is the running kernel affected?
    pub(super) kernel: bool,
    /// Do the host's own sources offer a fixed version?
    pub(super) offered: bool,
    /// Does something of what is affected run?
    pub(super) in_use: bool,
    /// Does it listen beyond loopback?
    pub(super) exposed: bool,
}

/// Judges the statements of a release against the facts about one source package. By vulnerability.
pub(super) fn hits(catalogue: &Catalogue, release: &str, facts: &SourceFacts) -> Vec<Hit> {
    let range = catalogue.range(release, &facts.source);
    let first = range.start as u32;
    let statements = catalogue.slice(range).iter().enumerate();
    statements.filter_map(|(i, statement)| hit(statement, first + i as u32, facts)).collect()
}

pub(super) fn hit(statement: &Statement, place: u32, facts: &SourceFacts) -> Option<Hit> {
    let all = facts.groups.len() as u32;
    let (groups, kernel, state) = match &statement.status {
        AdvisoryStatus::NotAffected | AdvisoryStatus::Undetermined => return None,
        AdvisoryStatus::Open { elsewhere: None, .. } => {
            (all, facts.kernel.is_some(), FindingState::NoFixYet)
        }
        AdvisoryStatus::Ranges { .. } => {
            let groups = affected(statement, facts, all).count() as u32;
            let running = facts.kernel.as_ref().filter(|k| statement.holds(&k.version.key));
            let fixed_image = running
                .and_then(|k| k.newest.as_ref())
                .is_some_and(|newest| !statement.holds(&newest.key));
            let lowest = affected(statement, facts, all).map(|g| &g.version).next();
            let has_fix = |version: &Keyed| statement.fix_for(&version.key).is_some();
            let state = if groups == 0 && fixed_image {
                FindingState::PendingReboot
            } else if lowest.or(running.map(|k| &k.version)).is_some_and(has_fix) {
                FindingState::Open
            } else {
                FindingState::NoFixYet
            };
            (groups, running.is_some(), state)
        }
        AdvisoryStatus::Fixed { .. } | AdvisoryStatus::Open { elsewhere: Some(_), .. } => {
            let fixed = &statement.fixed_key;
            let groups = facts.groups.partition_point(|g| g.version.key < *fixed) as u32;
            let running = facts.kernel.as_ref().filter(|k| k.version.key < *fixed);
            let fixed_image =
                running.and_then(|k| k.newest.as_ref()).is_some_and(|newest| newest.key >= *fixed);
            let state = if groups == 0 && fixed_image {
                FindingState::PendingReboot
            } else if statement.fixed_version().is_some() || is_offered(statement, facts) {
                FindingState::Open
            } else {
                // Fixed in another release, and not offered to these hosts.
                FindingState::NoFixYet
            };
            (groups, running.is_some(), state)
        }
    };
    if groups == 0 && !kernel {
        return None;
    }
    let its = || affected(statement, facts, groups);
    Some(Hit {
        statement: place,
        state,
        groups,
        kernel,
        offered: is_offered(statement, facts),
        in_use: kernel || its().any(|g| g.in_use),
        exposed: its().any(|g| g.exposed),
    })
}

/// The installed versions that a statement is about, of which there are so many: the lowest ones, or those in its ranges.
pub(super) fn affected<'a>(
    statement: &'a Statement,
    facts: &'a SourceFacts,
    groups: u32,
) -> impl Iterator<Item = &'a Group> {
    let ranges = !statement.ranges.is_empty();
    let listed = if ranges { &facts.groups[..] } else { &facts.groups[..groups as usize] };
    listed.iter().filter(move |g| !ranges || statement.holds(&g.version.key))
}

/// Do the hosts' own sources offer a version that is not affected?
fn is_offered(statement: &Statement, facts: &SourceFacts) -> bool {
    let Some(offered) = &facts.offered else { return false };
    match statement.unaffected_from() {
        Some(_) => offered.key >= statement.fixed_key,
        None => !statement.ranges.is_empty() && !statement.holds(&offered.key),
    }
}

/// Is there a hit for this vulnerability among the hits of one source package?
pub(super) fn has_hit(catalogue: &Catalogue, hits: &[Hit], id: &str) -> bool {
    hits.binary_search_by(|h| catalogue.at(h.statement).id.as_ref().cmp(id)).is_ok()
}

/// How many of the installed versions a statement is about.
pub(super) fn groups_of(statement: &Statement, facts: &SourceFacts) -> u32 {
    match &statement.status {
        AdvisoryStatus::NotAffected | AdvisoryStatus::Undetermined => 0,
        AdvisoryStatus::Open { elsewhere: None, .. } => facts.groups.len() as u32,
        AdvisoryStatus::Ranges { .. } => affected(statement, facts, 0).count() as u32,
        AdvisoryStatus::Fixed { .. } | AdvisoryStatus::Open { elsewhere: Some(_), .. } => {
            facts.groups.partition_point(|g| g.version.key < statement.fixed_key) as u32
        }
    }
}

/// What is known of a hit on a host later, when it is none any more.
pub(super) fn known(
    statement: &Statement,
    facts: &SourceFacts,
    hit: &Hit,
    accepted: &[Exception],
) -> Known {
    let groups: Vec<&Group> = affected(statement, facts, hit.groups).collect();
    let kernel = facts.kernel.as_ref().filter(|_| hit.kernel);
    let installed = kernel.map(|k| &k.version).or(groups.first().map(|g| &g.version));
    let mut binaries: Vec<Arc<str>> = groups.iter().flat_map(|g| &g.binaries).cloned().collect();
    binaries.sort();
    binaries.dedup();
    if let Some(kernel) = kernel {
        binaries.insert(0, kernel.binary.clone());
    }
    Known {
        source: statement.source.clone(),
        id: statement.id.clone(),
        state: state_with(hit.state, &statement.id, &statement.source, accepted),
        installed: installed.map(|v| v.text.clone()).unwrap_or_default(),
        // A version that cannot be had in this release is no fix.
        fixed_version: installed
            .and_then(|version| statement.fix_for(&version.key))
            .filter(|_| hit.state != FindingState::NoFixYet)
            .map(Into::into),
        binaries,
        in_use: hit.in_use,
        exposed: hit.exposed,
    }
}

/// The finding that a hit is on one host.
pub(super) fn finding(
    catalogue: &Catalogue,
    host: &HostId,
    facts: &SourceFacts,
    hit: &Hit,
    accepted: &[Exception],
) -> Finding {
    let statement = catalogue.at(hit.statement);
    let known = known(statement, facts, hit, accepted);
    Finding {
        host: host.clone(),
        id: known.id.to_string(),
        source: known.source.to_string(),
        installed: known.installed.to_string(),
        binaries: known.binaries.iter().map(|b| b.to_string()).collect(),
        state: known.state,
        fixed_version: known.fixed_version.map(|v| v.to_string()),
        offered: hit.offered,
        in_use: hit.in_use,
        exposed: hit.exposed,
        urgency: statement.urgency.to_string(),
        ranking: catalogue.ranking(statement),
        class: String::new(),
        deadline: None,
    }
}

/// The finding that something carried over from before is.
pub(super) fn carried_finding(
    catalogue: &Catalogue,
    release: &str,
    host: &HostId,
    carried: &Carried,
    accepted: &[Exception],
) -> Finding {
    let statement = catalogue.statement(release, &carried.source, &carried.id);
    Finding {
        host: host.clone(),
        id: carried.id.to_string(),
        source: carried.source.to_string(),
        installed: carried.installed.to_string(),
        binaries: carried.binaries.iter().map(|b| b.to_string()).collect(),
        state: state_with(carried.state, &carried.id, &carried.source, accepted),
        fixed_version: carried.fixed_version.as_ref().map(|v| v.to_string()),
        offered: false,
        in_use: carried.in_use,
        exposed: carried.exposed,
        urgency: statement.map(|s| s.urgency.to_string()).unwrap_or_default(),
        ranking: statement.map_or_else(Ranking::default, |s| catalogue.ranking(s)),
        class: String::new(),
        deadline: None,
    }
}

/// An exception covers whatever is vulnerable. That a host is not affected outweighs that it is lived with.
pub(super) fn state_with(
    state: FindingState,
    id: &str,
    source: &str,
    accepted: &[Exception],
) -> FindingState {
    if !state.is_vulnerable() {
        return state;
    }
    let covering = accepted.iter().filter(|e| e.covers(id, source)).map(|e| e.verdict);
    match covering.max() {
        None => state,
        Some(Verdict::Accepted) => FindingState::Accepted,
        Some(Verdict::NotAffected) => FindingState::NotAffected,
    }
}

impl Catalogue {
    /// Is there data for this system's release? Without any, no findings are no health.
    pub fn knows(&self, os: &Os) -> bool {
        self.covers(&release_name(os))
    }

    /// What of a host this catalogue can judge.
    pub(super) fn coverage(&self, os: &Os, facts: &SystemFacts) -> Coverage {
        let release = release_name(os);
        if !self.covers(&release) {
            let is_system = |release: &&str| Ecosystem::from_word(release).is_none();
            let known = self.releases().filter(is_system).map(str::to_owned).collect();
            return Coverage::UnknownRelease { os: os.clone(), known };
        }
        if !facts.packages_known {
            return Coverage::NoPackages { release, gaps: facts.gaps.clone() };
        }
        Coverage::Release {
            release,
            kernel: facts.kernel.clone(),
            odd_versions: facts.odd_versions.clone(),
        }
    }

    /// Packages of languages that no data is loaded of.
    fn unknown_languages(&self, inventory: &Inventory) -> BTreeMap<Ecosystem, Coverage> {
        let mut counts: BTreeMap<Ecosystem, usize> = BTreeMap::new();
        for package in &inventory.languages {
            *counts.entry(package.ecosystem).or_default() += 1;
        }
        counts.retain(|ecosystem, _| !self.covers(ecosystem.word()));
        let coverage =
            |(ecosystem, packages)| (ecosystem, Coverage::UnknownEcosystem { ecosystem, packages });
        counts.into_iter().map(coverage).collect()
    }

    /// Judges one host and the roots on it. Deterministic: equal input, equal output.
    pub fn judge(&self, view: &HostView<'_>) -> Judgement {
        let nothing = BTreeMap::new();
        let judged = systems(view).into_iter().map(|system| {
            let view = system.view(view, &nothing);
            let judgement = self.judge_by(&HostFacts::read(view.inventory), &view);
            (system.root.map(Into::into), judgement)
        });
        // Invariant: the host itself is among its systems.
        together(view, judged.collect::<Vec<_>>())
            .unwrap_or_else(|| self.judge_by(&HostFacts::read(view.inventory), view))
    }

    /// Judges one system by facts that were read before.
    pub(super) fn judge_by(&self, facts: &HostFacts, view: &HostView<'_>) -> Judgement {
        let release = release_name(&view.inventory.os);
        let (mut findings, mut doubts, mut judged) = (Vec::new(), Vec::new(), Vec::new());
        for source in &facts.sources {
            let hits = hits(self, &release, source);
            findings
                .extend(hits.iter().map(|h| finding(self, view.host, source, h, view.accepted)));
            doubts.extend(self.doubts(&release, source));
            judged.push((source.source.clone(), hits));
        }
        let is_hit = |source: &str, id: &str| {
            let found = judged.binary_search_by(|(s, _)| s.as_ref().cmp(source));
            found.is_ok_and(|i| has_hit(self, &judged[i].1, id))
        };
        let known = view.previous.iter().map(Known::from).collect();
        let source = |name: &str| facts.source(name);
        let (carried, withdrawn) =
            carry(self, &release, &facts.system, source, known, view.ran_before, is_hit);
        findings.extend(
            carried.iter().map(|c| carried_finding(self, &release, view.host, c, view.accepted)),
        );
        findings.sort_by(|a, b| (&a.source, &a.id).cmp(&(&b.source, &b.id)));
        Judgement {
            coverage: self.coverage(&view.inventory.os, &facts.system),
            roots: BTreeMap::new(),
            languages: self.unknown_languages(view.inventory),
            findings,
            withdrawn,
            doubts,
        }
    }

    fn doubts<'a>(
        &'a self,
        release: &str,
        facts: &'a SourceFacts,
    ) -> impl Iterator<Item = Doubt> + use<'a> {
        let statements = self.slice(self.range(release, &facts.source));
        let installed = !facts.groups.is_empty() || facts.kernel.is_some();
        statements
            .iter()
            .filter(move |s| installed && s.status == AdvisoryStatus::Undetermined)
            .map(|s| Doubt { id: s.id.to_string(), source: s.source.to_string() })
    }
}
