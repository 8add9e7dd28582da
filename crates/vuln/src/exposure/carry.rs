//! What becomes of the findings of before that the packages on disk do not show any more.

use super::catalogue::{Catalogue, Statement};
use super::facts::{SourceFacts, SystemFacts, is_kernel_image};
use super::roots::without_exception;
use super::vendor::{release_of, scheme_for};
use super::{Withdrawal, Withdrawn};
use fettle_core::advisory::AdvisoryStatus;
use fettle_core::finding::{Finding, FindingState};
use fettle_core::language::Ecosystem;
use fettle_core::version::Scheme;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A finding as it was known before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Known {
    pub(super) source: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) state: FindingState,
    pub(super) installed: Arc<str>,
    pub(super) fixed_version: Option<Arc<str>>,
    pub(super) binaries: Vec<Arc<str>>,
    pub(super) in_use: bool,
    pub(super) exposed: bool,
}

impl From<&Finding> for Known {
    fn from(finding: &Finding) -> Self {
        Self {
            source: finding.source.as_str().into(),
            id: finding.id.as_str().into(),
            state: finding.state,
            installed: finding.installed.as_str().into(),
            fixed_version: finding.fixed_version.as_deref().map(Into::into),
            binaries: finding.binaries.iter().map(|b| b.as_str().into()).collect(),
            in_use: finding.in_use,
            exposed: finding.exposed,
        }
    }
}

impl From<&Carried> for Known {
    fn from(carried: &Carried) -> Self {
        Self {
            source: carried.source.clone(),
            id: carried.id.clone(),
            state: carried.state,
            installed: carried.installed.clone(),
            fixed_version: carried.fixed_version.clone(),
            binaries: carried.binaries.clone(),
            in_use: carried.in_use,
            exposed: carried.exposed,
        }
    }
}

/// A finding that no package on disk shows: `pending-restart` or `fixed`; or, where the host could not say what it
/// has installed, as it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Carried {
    pub(super) source: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) state: FindingState,
    /// The version that was judged: the fixed one that is installed (empty: the package was removed).
    pub(super) installed: Arc<str>,
    pub(super) fixed_version: Option<Arc<str>>,
    pub(super) binaries: Vec<Arc<str>>,
    pub(super) in_use: bool,
    pub(super) exposed: bool,
}

/// Decides about every known finding that is no hit now, and about what ran before. Sorted by source and id.
pub(super) fn carry<'f>(
    catalogue: &Catalogue,
    release: &str,
    system: &SystemFacts,
    source: impl Fn(&str) -> Option<&'f SourceFacts>,
    known: Vec<Known>,
    ran_before: &BTreeMap<String, String>,
    is_hit: impl Fn(&str, &str) -> bool,
) -> (Vec<Carried>, Vec<Withdrawn>) {
    let (mut carried, mut withdrawn) = (Vec::new(), Vec::new());
    let mut decided = BTreeSet::new();
    for known in known {
        if is_hit(&known.source, &known.id)
            || !decided.insert((known.source.clone(), known.id.clone()))
        {
            continue;
        }
        let said = Said::of(catalogue, release, &known);
        match decide(said, system, source(&known.source), &known) {
            Ok(found) => carried.push(found),
            Err(why) => withdrawn.extend(withdraw(&known, why)),
        }
    }
    for (name, ran) in ran_before {
        let here = source(name);
        carried.extend(still_running(catalogue, release, system.scheme, here, ran, &decided));
    }
    carried.sort();
    withdrawn.sort_by(|a, b| (&a.source, &a.id).cmp(&(&b.source, &b.id)));
    (carried, withdrawn)
}

/// What is told of a finding that went. What was proved fixed needs no withdrawal: it was no exposure any more.
pub(super) fn withdraw(known: &Known, why: Withdrawal) -> Option<Withdrawn> {
    (known.state != FindingState::Fixed).then(|| Withdrawn {
        id: known.id.to_string(),
        source: known.source.to_string(),
        before: known.state,
        why,
    })
}

/// What a catalogue says of a finding.
#[derive(Clone, Copy)]
pub(super) struct Said<'c> {
    /// Is there data for the release?
    pub(super) covered: bool,
    pub(super) statement: Option<&'c Statement>,
}

impl<'c> Said<'c> {
    pub(super) fn of(catalogue: &'c Catalogue, release: &str, known: &Known) -> Self {
        Self {
            covered: catalogue.covers(release_of(release, &known.source)),
            statement: catalogue.statement(release, &known.source, &known.id),
        }
    }
}

/// What becomes of a finding that is no hit any more, by what is on the system now of its source package.
///
/// What it came to comes to the same again while nothing changes: who knows that nothing did need not ask.
pub(super) fn decide(
    said: Said<'_>,
    system: &SystemFacts,
    now: Option<&SourceFacts>,
    known: &Known,
) -> Result<Carried, Withdrawal> {
    if !said.covered {
        return Err(Withdrawal::NotCovered);
    }
    let listed = match Ecosystem::of_subject(&known.source) {
        Some(_) => system.languages_known,
        None => system.packages_known,
    };
    if !listed && now.is_none_or(|n| n.groups.is_empty()) {
        return Ok(kept(known));
    }
    if known.binaries.iter().any(|b| is_kernel_image(b)) && now.is_none_or(|n| n.kernel.is_none()) {
        return Err(Withdrawal::KernelNotJudged);
    }
    let carried = |state: FindingState, installed: &str, fixed_version: Option<&str>| Carried {
        source: known.source.clone(),
        id: known.id.clone(),
        state,
        installed: installed.into(),
        fixed_version: fixed_version.map(Into::into).or_else(|| known.fixed_version.clone()),
        binaries: known.binaries.clone(),
        in_use: state.is_vulnerable(),
        exposed: known.exposed && state.is_vulnerable(),
    };
    let in_memory = |now: Option<&SourceFacts>| {
        let current = now.into_iter().flat_map(SourceFacts::binaries);
        system.may_be_in_memory(known.binaries.iter().chain(current))
    };
    let proved = |now: Option<&SourceFacts>| {
        // A kernel is proved by what runs, and what was proved once stays so until it is a hit again.
        let by_running = now.and_then(|n| n.kernel.as_ref()).is_some()
            && now.is_some_and(|n| n.groups.is_empty());
        if known.state == FindingState::Fixed || by_running || !in_memory(now) {
            FindingState::Fixed
        } else {
            FindingState::PendingRestart
        }
    };
    let Some(here) = now.filter(|n| !n.groups.is_empty() || n.kernel.is_some()) else {
        // Nothing of the source package is installed any more.
        return Ok(carried(proved(now), "", None));
    };
    let statement = said.statement.ok_or(Withdrawal::StatementGone)?;
    let changed = || Withdrawal::StatementChanged { now: statement.status.clone() };
    let scheme = scheme_for(system.scheme, &known.source);
    // What waits for a restart was judged by the version that is installed already.
    let by_affected = !matches!(known.state, FindingState::Fixed | FindingState::PendingRestart);
    // And so was what has its own fix, whatever an exception makes of its state.
    let is_below = |fixed: &Arc<str>| scheme.compare_lenient(&known.installed, fixed).is_lt();
    let was_in_range = by_affected && known.fixed_version.as_ref().is_none_or(is_below);
    let version = match (&statement.status, &known.fixed_version) {
        // The very version that was in one of the ranges is in none any more.
        (AdvisoryStatus::Ranges { .. }, _)
            if was_in_range && here.has_version(system.scheme, &known.installed) =>
        {
            return Err(changed());
        }
        (AdvisoryStatus::Ranges { .. }, fixed) => fixed.as_deref().unwrap_or_default(),
        _ => statement.unaffected_from().ok_or_else(changed)?,
    };
    // Still the very version that was vulnerable by another statement: the vendor moved the fix, nobody patched.
    let was_below = known
        .fixed_version
        .as_ref()
        .is_none_or(|f| is_below(f) && scheme.compare_lenient(f, version).is_ne());
    if was_below && by_affected && here.has_version(system.scheme, &known.installed) {
        return Err(changed());
    }
    let lowest =
        here.kernel.iter().map(|k| &k.version).chain(here.groups.iter().map(|g| &g.version)).min();
    let version = Some(version).filter(|v| !v.is_empty());
    Ok(carried(proved(now), lowest.map_or("", |v| v.text.as_ref()), version))
}

/// A finding of a host that could not say what it has installed.
pub(super) fn kept(known: &Known) -> Carried {
    let state = without_exception(known.state, known.fixed_version.is_some());
    Carried {
        source: known.source.clone(),
        id: known.id.clone(),
        state,
        installed: known.installed.clone(),
        fixed_version: known.fixed_version.clone(),
        binaries: known.binaries.clone(),
        in_use: known.in_use,
        exposed: known.exposed,
    }
}

/// What a version that ran before was affected by, while a process still maps its files.
fn still_running(
    catalogue: &Catalogue,
    release: &str,
    scheme: Scheme,
    here: Option<&SourceFacts>,
    ran: &str,
    decided: &BTreeSet<(Arc<str>, Arc<str>)>,
) -> Vec<Carried> {
    let Some(here) = here.filter(|s| s.stale) else { return Vec::new() };
    let Some(lowest) = here.groups.first() else { return Vec::new() };
    let ran = scheme.key(ran);
    let statements = catalogue.slice(catalogue.range(release, &here.source)).iter();
    statements
        .filter(|s| {
            s.unaffected_from().is_some()
                && *ran < *s.fixed_key
                && lowest.version.key >= s.fixed_key
        })
        .filter(|s| !decided.contains(&(s.source.clone(), s.id.clone())))
        .map(|s| Carried {
            source: s.source.clone(),
            id: s.id.clone(),
            state: FindingState::PendingRestart,
            installed: lowest.version.text.clone(),
            fixed_version: s.unaffected_from().map(Into::into),
            binaries: here.binaries().cloned().collect(),
            in_use: true,
            exposed: here.groups.iter().any(|g| g.exposed),
        })
        .collect()
}
