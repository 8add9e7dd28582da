//! Hosts as lists show them: filtered, sorted, counted.

use super::{Fleet, Known};
use crate::app::App;
use fettle_core::finding::FindingState;
use fettle_core::host::Host;
use fettle_core::policy::Selector;
use fettle_core::{HostId, Problem, ProblemKind, Timestamp};
use fettle_wire::api::{HOST_STATES, HostRow, Page};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Which hosts. What is not given does not narrow.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostFilter {
    /// Text in the name, in small letters.
    pub(crate) q: Option<String>,
    /// State word.
    pub(crate) state: Option<String>,
    /// A selector, as policies have them.
    pub(crate) select: Option<Selector>,
    /// Label key and value.
    pub(crate) label: Option<(String, String)>,
    pub(crate) policy: Option<String>,
    pub(crate) ring: Option<String>,
    /// `NAME` or `NAME=VERSION` of an installed package.
    pub(crate) package: Option<String>,
    /// A vulnerability that the host still runs.
    pub(crate) cve: Option<String>,
}

/// What a list of hosts is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostSort {
    Name,
    State,
    Open,
    Overdue,
    Pending,
    NoFix,
    Fixed,
    Upgrades,
    Seen,
}

impl HostSort {
    /// The words, as URLs and command lines say them.
    pub(crate) const WORDS: [(&str, Self); 9] = [
        ("name", Self::Name),
        ("state", Self::State),
        ("open", Self::Open),
        ("overdue", Self::Overdue),
        ("pending", Self::Pending),
        ("no-fix", Self::NoFix),
        ("fixed", Self::Fixed),
        ("upgrades", Self::Upgrades),
        ("seen", Self::Seen),
    ];
}

/// What was found, and how many hosts of each state pass all but the filter by state.
#[derive(Debug)]
pub(crate) struct HostsFound {
    pub(crate) page: Page<HostRow>,
    pub(crate) by_state: BTreeMap<String, u64>,
}

/// One word for a host: what needs a person first.
fn state(known: &Known, silent: bool) -> &'static str {
    let host = &known.record.host;
    let n = |state: FindingState| known.counts[state as usize];
    match () {
        () if host.quarantined.is_some() => "quarantined",
        () if silent => "silent",
        () if host.inventory.is_none() => "no-inventory",
        () if !known.route.judged => "not-judged",
        () if n(FindingState::Open) > 0 => "exposed",
        () if n(FindingState::PendingReboot) > 0 => "pending-reboot",
        () if n(FindingState::PendingRestart) > 0 => "pending-restart",
        () if known.route.policy.is_none() => "no-policy",
        () if n(FindingState::NoFixYet) > 0 => "no-fix-yet",
        () => "up-to-date",
    }
}

fn pending(known: &Known) -> u32 {
    known.counts[FindingState::PendingRestart as usize]
        + known.counts[FindingState::PendingReboot as usize]
}

fn overdue(known: &Known, now: u32) -> u64 {
    let late =
        |m: &&super::Mark| m.state == FindingState::Open && m.deadline > 0 && m.deadline < now;
    known.marks.iter().filter(late).count() as u64
}

fn row(known: &Known, state: &str, last_seen: Option<Timestamp>, now: u32) -> HostRow {
    let host = &known.record.host;
    let inventory = host.inventory.as_ref();
    let n = |state: FindingState| u64::from(known.counts[state as usize]);
    HostRow {
        id: host.id.clone(),
        name: host.name.clone(),
        labels: host.labels.clone(),
        os: inventory.map(|i| i.os.pretty.clone()).unwrap_or_default(),
        kernel: inventory.map(|i| i.kernel.running.clone()).unwrap_or_default(),
        state: state.to_owned(),
        cohort: known.record.host.cohort.map(|c| c.short()).unwrap_or_default(),
        policy: known.route.policy.as_deref().map(str::to_owned),
        ring: known.route.ring.as_deref().map(str::to_owned),
        open: n(FindingState::Open),
        overdue: overdue(known, now),
        no_fix: n(FindingState::NoFixYet),
        pending: u64::from(pending(known)),
        fixed: n(FindingState::Fixed),
        upgrades: known.record.upgrades,
        last_seen,
        listed_at: host.listed.as_ref().map(|listed| listed.at),
    }
}

fn bad(message: String, hint: &str) -> Problem {
    Problem::new(ProblemKind::Usage, "bad-query", message, hint)
}

impl HostFilter {
    /// A state that is a word, a selector that parses: as they were typed.
    pub(crate) fn checked_state(word: String) -> Result<String, Problem> {
        if HOST_STATES.contains(&word.as_str()) {
            return Ok(word);
        }
        let hint = format!("write one of {}", HOST_STATES.join(", "));
        Err(bad(format!("`{word}` is no state of a host"), &hint))
    }

    pub(crate) fn checked_select(text: &str) -> Result<Selector, Problem> {
        Selector::parse(text).map_err(|e| {
            bad(
                format!("the selector does not read: character {}: {}", e.position, e.message),
                &e.hint,
            )
        })
    }
}

impl Fleet {
    /// Hosts that pass, sorted.
    pub(crate) fn hosts(
        &self,
        app: &App,
        filter: &HostFilter,
        (sort, down): (HostSort, bool),
        limit: u64,
        offset: u64,
    ) -> HostsFound {
        let presence = app.heard_by_now();
        let now = super::seconds(Some(presence.now));
        // What nobody has, nobody has.
        let package = filter.package.as_deref().map(|p| self.package_of(p));
        let cve = filter.cve.as_deref().map(|id| self.ids.find(id).ok_or(()));
        let passes = |known: &Known| {
            let host = &known.record.host;
            let runs = |id: u32| {
                let from = known.marks.partition_point(|m| m.id < id);
                let same = known.marks[from..].iter().take_while(|m| m.id == id);
                same.into_iter().any(|m| m.state.is_vulnerable())
            };
            let has = |of: Result<(u32, Option<u32>), ()>| {
                of.is_ok_and(|(package, version)| {
                    known.held.as_ref().is_some_and(|(_, held)| held.has(package, version))
                })
            };
            filter.q.as_ref().is_none_or(|q| host.name.to_lowercase().contains(q.as_str()))
                && filter.label.as_ref().is_none_or(|(k, v)| host.labels.get(k) == Some(v))
                && filter.policy.as_ref().is_none_or(|p| known.route.policy.as_deref() == Some(p))
                && filter.ring.as_ref().is_none_or(|r| known.route.ring.as_deref() == Some(r))
                && cve.is_none_or(|id| id.is_ok_and(runs))
                && package.is_none_or(has)
                && filter.select.as_ref().is_none_or(|s| s.matches(host))
        };
        let mut by_state: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut found: Vec<(&Known, &'static str)> = Vec::new();
        for known in self.by_name().filter(|known| passes(known)) {
            let state = state(known, presence.is_silent(&known.record.host));
            *by_state.entry(state).or_default() += 1;
            if filter.state.as_ref().is_none_or(|s| s == state) {
                found.push((known, state));
            }
        }
        let urgency = |word: &str| HOST_STATES.iter().position(|s| *s == word).unwrap_or(99) as u64;
        let count = |known: &Known, state: FindingState| u64::from(known.counts[state as usize]);
        let number = |(known, word): &(&Known, &'static str)| match sort {
            HostSort::Name => 0,
            HostSort::State => urgency(word),
            HostSort::Open => count(known, FindingState::Open),
            HostSort::Overdue => overdue(known, now),
            HostSort::Pending => u64::from(pending(known)),
            HostSort::NoFix => count(known, FindingState::NoFixYet),
            HostSort::Fixed => count(known, FindingState::Fixed),
            HostSort::Upgrades => known.record.upgrades,
            HostSort::Seen => presence
                .last_seen(&known.record.host)
                .map_or(0, |at| at.as_microsecond().unsigned_abs()),
        };
        match (sort, down) {
            (HostSort::Name, false) => {}
            (HostSort::Name, true) => found.reverse(),
            // Stable: equal ones stay in the order of names.
            (_, true) => found.sort_by_cached_key(|it| Reverse(number(it))),
            (_, false) => found.sort_by_cached_key(number),
        }
        let total = found.len() as u64;
        let items = found.into_iter().skip(offset as usize).take(limit as usize);
        let items = items
            .map(|(known, word)| row(known, word, presence.last_seen(&known.record.host), now))
            .collect();
        let by_state = by_state.into_iter().map(|(word, n)| (word.to_owned(), n)).collect();
        HostsFound { page: Page { total, items }, by_state }
    }

    /// Hosts that have not spoken for too long.
    pub(crate) fn silent(&self, app: &App) -> BTreeSet<HostId> {
        let presence = app.heard_by_now();
        let hosts = self.hosts.iter().flatten().map(|known| &known.record.host);
        hosts.filter(|host| presence.is_silent(host)).map(|host| host.id.clone()).collect()
    }

    /// Every host with the policy that governs it.
    pub(crate) fn routed(&self) -> impl Iterator<Item = (&Host, Option<&str>)> {
        let known = self.hosts.iter().flatten();
        known.map(|known| (&known.record.host, known.route.policy.as_deref()))
    }

    /// One host in a list.
    pub(crate) fn host(&self, app: &App, id: &HostId) -> Option<HostRow> {
        let known = self.known(*self.by_id.get(id)?)?;
        let presence = app.heard_by_now();
        let host = &known.record.host;
        let word = state(known, presence.is_silent(host));
        Some(row(known, word, presence.last_seen(host), super::seconds(Some(presence.now))))
    }
}
