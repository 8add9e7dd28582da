//! Hosts as lists show them: filtered, sorted, counted.

use super::marks::Glance;
use super::{Fleet, Known};
use crate::app::{App, Presence};
use fettle_core::finding::FindingState;
use fettle_core::host::Host;
use fettle_core::policy::Selector;
use fettle_core::{HostId, Problem, ProblemKind};
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
fn state(glance: &Glance, silent: bool) -> &'static str {
    let n = |state: FindingState| glance.counts[state as usize];
    match () {
        () if glance.quarantined => "quarantined",
        () if silent => "silent",
        () if !glance.reported => "no-inventory",
        () if !glance.judged => "not-judged",
        () if n(FindingState::Open) > 0 => "exposed",
        () if n(FindingState::PendingReboot) > 0 => "pending-reboot",
        () if n(FindingState::PendingRestart) > 0 => "pending-restart",
        () if !glance.governed => "no-policy",
        () if n(FindingState::NoFixYet) > 0 => "no-fix-yet",
        () => "up-to-date",
    }
}

fn pending(glance: &Glance) -> u32 {
    glance.counts[FindingState::PendingRestart as usize]
        + glance.counts[FindingState::PendingReboot as usize]
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
        let cve = filter.cve.as_deref().map(|id| self.ids.find(id).ok_or(()));
        // Of a policy and ring that pass: told once for all hosts that are in them.
        let stages: Vec<bool> = self
            .stages
            .iter()
            .map(|stage| {
                filter.policy.as_ref().is_none_or(|p| stage.policy.as_deref() == Some(p))
                    && filter.ring.as_ref().is_none_or(|r| stage.ring.as_deref() == Some(r))
            })
            .collect();
        // So is what all hosts of a kind have, and those with the same packages.
        let of_all = filter.select.as_ref().filter(|select| !select.asks_who());
        let of_one = filter.select.as_ref().filter(|select| select.asks_who());
        let kinds = (of_all.is_some() || filter.label.is_some()).then(|| {
            self.kinds.hold(|like| {
                filter.label.as_ref().is_none_or(|(k, v)| like.labels.get(k) == Some(v))
                    && of_all.is_none_or(|select| select.matches(like))
            })
        });
        let lists = filter.package.as_deref().map(|text| match self.package_of(text) {
            Ok((package, version)) => self.software.having(package, version),
            Err(()) => Vec::new(),
        });
        let told = |all: &Option<Vec<bool>>, number: u32| {
            all.as_ref().is_none_or(|all| all.get(number as usize).copied().unwrap_or(false))
        };
        let runs = |at: u32, id: u32| {
            self.with(id).is_some_and(|with| with.contains(at))
                && self.marks.about(at, id).iter().any(|m| m.state.is_vulnerable())
        };
        let named = filter.q.as_deref().map(|q| self.names.holding(q));
        let is_meant = |known: &Known| of_one.is_none_or(|s| s.matches(&known.record.host));
        // The host itself is only looked at where a glance does not tell.
        let passes = |at: u32, glance: &Glance| {
            stages.get(glance.stage as usize).copied().unwrap_or(false)
                && told(&kinds, glance.kind)
                && told(&lists, glance.list)
                && cve.is_none_or(|id| id.is_ok_and(|id| runs(at, id)))
                && (of_one.is_none() || self.known(at).is_some_and(is_meant))
        };
        let tells = presence.tells();
        let mut by_state: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut found: Vec<(u32, &'static str)> = Vec::new();
        for (place, &at) in (0..).zip(&self.order) {
            let glance = &self.glances[at as usize];
            if !told(&named, place) || !passes(at, glance) {
                continue;
            }
            let is_silent = |known: &Known| presence.is_silent(&known.record.host);
            let state = state(glance, tells && self.known(at).is_some_and(is_silent));
            *by_state.entry(state).or_default() += 1;
            if filter.state.as_ref().is_none_or(|s| s == state) {
                found.push((at, state));
            }
        }
        let urgency = |word: &str| HOST_STATES.iter().position(|s| *s == word).unwrap_or(99) as u64;
        let number = |(at, word): &(u32, &'static str)| {
            let glance = &self.glances[*at as usize];
            let count = |state: FindingState| u64::from(glance.counts[state as usize]);
            let seen = |known: &Known| presence.last_seen(&known.record.host);
            match sort {
                HostSort::Name => 0,
                HostSort::State => urgency(word),
                HostSort::Open => count(FindingState::Open),
                HostSort::Overdue => self.marks.overdue(*at, now),
                HostSort::Pending => u64::from(pending(glance)),
                HostSort::NoFix => count(FindingState::NoFixYet),
                HostSort::Fixed => count(FindingState::Fixed),
                HostSort::Upgrades => self.known(*at).map_or(0, |known| known.record.upgrades),
                HostSort::Seen => self
                    .known(*at)
                    .and_then(seen)
                    .map_or(0, |at| at.as_microsecond().unsigned_abs()),
            }
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
        let items = items.filter_map(|(at, word)| self.row(at, word, &presence)).collect();
        let by_state = by_state.into_iter().map(|(word, n)| (word.to_owned(), n)).collect();
        HostsFound { page: Page { total, items }, by_state }
    }

    fn row(&self, at: u32, state: &str, presence: &Presence<'_>) -> Option<HostRow> {
        let known = self.known(at)?;
        let (glance, stage) = (&self.glances[at as usize], self.stage(at));
        let host = &known.record.host;
        let inventory = host.inventory.as_ref();
        let n = |state: FindingState| u64::from(glance.counts[state as usize]);
        Some(HostRow {
            id: host.id.clone(),
            name: host.name.clone(),
            labels: host.labels.clone(),
            os: inventory.map(|i| i.os.pretty.clone()).unwrap_or_default(),
            kernel: inventory.map(|i| i.kernel.running.clone()).unwrap_or_default(),
            state: state.to_owned(),
            cohort: host.cohort.map(|c| c.short()).unwrap_or_default(),
            policy: stage.policy.as_deref().map(str::to_owned),
            ring: stage.ring.as_deref().map(str::to_owned),
            open: n(FindingState::Open),
            overdue: self.marks.overdue(at, super::seconds(Some(presence.now))),
            no_fix: n(FindingState::NoFixYet),
            pending: u64::from(pending(glance)),
            fixed: n(FindingState::Fixed),
            upgrades: known.record.upgrades,
            last_seen: presence.last_seen(host),
            listed_at: host.listed.as_ref().map(|listed| listed.at),
        })
    }

    /// Hosts that have not spoken for too long.
    pub(crate) fn silent(&self, app: &App) -> BTreeSet<HostId> {
        let presence = app.heard_by_now();
        let hosts = self.hosts.iter().flatten().map(|known| &known.record.host);
        hosts.filter(|host| presence.is_silent(host)).map(|host| host.id.clone()).collect()
    }

    /// Every host with the policy that governs it.
    pub(crate) fn routed(&self) -> impl Iterator<Item = (&Host, Option<&str>)> {
        self.each().map(|(at, known)| (&known.record.host, self.stage(at).policy.as_deref()))
    }

    /// One host in a list.
    pub(crate) fn host(&self, app: &App, id: &HostId) -> Option<HostRow> {
        let at = *self.by_id.get(id)?;
        let presence = app.heard_by_now();
        let silent = presence.is_silent(&self.known(at)?.record.host);
        self.row(at, state(&self.glances[at as usize], silent), &presence)
    }
}
