//! Counts over all findings, and the vulnerabilities as a list.

use super::{Fleet, STATES, Tallied};
use crate::views::SOON;
use fettle_core::Timestamp;
use fettle_core::finding::{FindingState, Severity};
use fettle_store::findings::Rank;
use fettle_wire::api::{CveRow, Page};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// Counts are made anew after so many seconds even if nothing changed: deadlines pass.
const COUNTED_FOR: i64 = 5;

/// Counts over the fleet at one time.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By [`FindingState`].
    by_state: [u64; STATES],
    /// Open ones by [`Severity`].
    by_severity: [u64; 5],
    /// Open ones past their deadline.
    pub(crate) overdue: u64,
    /// Open ones due within a day.
    pub(crate) due_soon: u64,
    /// Distinct vulnerabilities open somewhere.
    pub(crate) open_ids: u64,
    /// Open ones known to be exploited.
    pub(crate) open_kev: u64,
    /// Overdue and due within a day, by ring of a policy: `production · canary`.
    pub(crate) late_by_ring: BTreeMap<(String, String), (u64, u64)>,
    /// Open ones by class word.
    pub(crate) open_by_class: BTreeMap<String, u64>,
    /// By number of the vulnerability.
    cves: Vec<CveTally>,
    /// By number of the source package: hosts with something open in it.
    exposed: Vec<u64>,
}

/// One vulnerability over the fleet.
#[derive(Debug, Clone)]
pub(crate) struct CveTally {
    by_state: [u32; STATES],
    /// Hosts that still run vulnerable code.
    hosts: u32,
    /// Of those, hosts where a process that listens beyond loopback runs it.
    reachable: u32,
    overdue: u32,
    due_soon: u32,
    rank: Option<Rank>,
    severity: Severity,
    /// A bit for each class number, up to 63.
    classes: u64,
    /// Numbers of source packages.
    sources: Vec<u32>,
    first_fixed: u32,
    last_fixed: u32,
}

impl Default for CveTally {
    fn default() -> Self {
        Self {
            by_state: [0; STATES],
            hosts: 0,
            reachable: 0,
            overdue: 0,
            due_soon: 0,
            rank: None,
            severity: Severity::Negligible,
            classes: 0,
            sources: Vec::new(),
            first_fixed: 0,
            last_fixed: 0,
        }
    }
}

impl CveTally {
    /// How many findings are in the state.
    pub(crate) fn count(&self, state: FindingState) -> u64 {
        u64::from(self.by_state[state as usize])
    }
    /// How many findings there are or were.
    pub(crate) fn all(&self) -> u64 {
        self.by_state.iter().map(|n| u64::from(*n)).sum()
    }
    /// When it was first and when it was last proved gone from a host.
    pub(crate) fn fixed_between(&self) -> Option<(Timestamp, Timestamp)> {
        let at = |second: u32| Timestamp::from_second(i64::from(second)).ok();
        (self.first_fixed > 0).then(|| Some((at(self.first_fixed)?, at(self.last_fixed)?)))?
    }
}

impl Tally {
    /// By state word; states that nothing is in are left out.
    pub(crate) fn by_state(&self) -> BTreeMap<String, u64> {
        let all = FindingState::ALL.map(|s| (s.word().to_owned(), self.by_state[s as usize]));
        all.into_iter().filter(|(_, n)| *n > 0).collect()
    }
    /// Open ones by severity word; severities without any are left out.
    pub(crate) fn open_by_severity(&self) -> BTreeMap<String, u64> {
        let all = Severity::ALL.map(|s| (s.word().to_owned(), self.by_severity[s as usize]));
        all.into_iter().filter(|(_, n)| *n > 0).collect()
    }
    /// Hosts with something open in a source package.
    pub(super) fn exposed_by(&self, source: u32) -> u64 {
        self.exposed.get(source as usize).copied().unwrap_or(0)
    }
    /// Numbers of the vulnerabilities of a source package.
    pub(super) fn of_source(&self, source: u32) -> impl Iterator<Item = u32> {
        let all = (0..).zip(&self.cves);
        all.filter(move |(_, cve)| cve.sources.contains(&source)).map(|(id, _)| id)
    }
}

/// Which vulnerabilities.
#[derive(Debug, Clone, Default)]
pub(crate) struct CveFilter {
    /// Text in the id or a source package.
    pub(crate) q: String,
    /// Class word of a policy.
    pub(crate) class: Option<String>,
    pub(crate) severity: Option<Severity>,
    /// Some host's finding of it is in this state.
    pub(crate) state: Option<FindingState>,
    pub(crate) kev: bool,
    /// A fix exists that some host lacks.
    pub(crate) fixable: bool,
    pub(crate) overdue: bool,
}

/// What a list of vulnerabilities is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CveSort {
    /// Worst first: exploited, severity, hosts.
    Rank,
    Id,
    Hosts,
    Overdue,
    Epss,
    Cvss,
}

/// Worst first.
pub(super) fn worst_first(rows: &mut [CveRow]) {
    rows.sort_by(|a, b| {
        let key = |r: &CveRow| {
            let alive = r.hosts > 0;
            (alive, r.open > 0, r.kev, r.severity, r.hosts)
        };
        key(b).cmp(&key(a)).then_with(|| a.id.cmp(&b.id))
    });
}

impl Fleet {
    /// Counts over all findings, at most five seconds old.
    pub(crate) fn tally(&self, now: Timestamp) -> Arc<Tally> {
        let mut kept = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let second = now.as_second();
        if let Some(it) = &*kept
            && it.version == self.version
            && (it.second..it.second + COUNTED_FOR).contains(&second)
        {
            return it.tally.clone();
        }
        let tally = Arc::new(self.count(now));
        *kept = Some(Tallied { version: self.version, second, tally: tally.clone() });
        tally
    }

    pub(super) fn count(&self, now: Timestamp) -> Tally {
        let mut out = Tally {
            cves: vec![CveTally::default(); self.ids.len()],
            exposed: vec![0; self.sources.len()],
            ..Tally::default()
        };
        let mut classes = vec![0_u64; self.classes.len() + 1];
        // Of which host a source was last counted: its marks are sorted by vulnerability, not by source.
        let mut seen = vec![u32::MAX; self.sources.len()];
        let (at, soon) = (super::seconds(Some(now)), super::seconds(Some(now + SOON)));
        let mut late = vec![(0, 0); self.stages.len()];
        // A slot without a host has no findings.
        for (host, glance) in (0..).zip(&self.glances) {
            let (mut overdue, mut due_soon) = (0, 0);
            // Several source packages may be hit by one vulnerability: the host counts once.
            let (mut last, mut reached) = (u32::MAX, u32::MAX);
            for mark in self.marks.of(host) {
                out.by_state[mark.state as usize] += 1;
                let cve = &mut out.cves[mark.id as usize];
                cve.by_state[mark.state as usize] += 1;
                cve.rank = cve.rank.max(Some(mark.rank));
                cve.severity = cve.severity.max(mark.severity);
                cve.classes |= 1 << mark.class.min(63);
                if !cve.sources.contains(&mark.source) {
                    cve.sources.push(mark.source);
                }
                if mark.state.is_vulnerable() {
                    if last != mark.id {
                        last = mark.id;
                        cve.hosts += 1;
                    }
                    if mark.rank.exposed() && reached != mark.id {
                        reached = mark.id;
                        cve.reachable += 1;
                    }
                } else if mark.fixed_at > 0 {
                    cve.last_fixed = cve.last_fixed.max(mark.fixed_at);
                    if cve.first_fixed == 0 || mark.fixed_at < cve.first_fixed {
                        cve.first_fixed = mark.fixed_at;
                    }
                }
                if mark.state != FindingState::Open {
                    continue;
                }
                out.by_severity[mark.severity as usize] += 1;
                out.open_kev += u64::from(mark.rank.kev());
                if let Some(class) = classes.get_mut(usize::from(mark.class)) {
                    *class += 1;
                }
                if seen[mark.source as usize] != host {
                    seen[mark.source as usize] = host;
                    out.exposed[mark.source as usize] += 1;
                }
                if mark.deadline > 0 && mark.deadline < at {
                    cve.overdue += 1;
                    overdue += 1;
                } else if mark.deadline > 0 && mark.deadline < soon {
                    cve.due_soon += 1;
                    due_soon += 1;
                }
            }
            if overdue + due_soon > 0 {
                out.overdue += overdue;
                out.due_soon += due_soon;
                if let Some(late) = late.get_mut(glance.stage as usize) {
                    *late = (late.0 + overdue, late.1 + due_soon);
                }
            }
        }
        let word = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
        let late = self.stages.iter().zip(late).filter(|(_, late)| *late != (0, 0));
        out.late_by_ring =
            late.map(|(stage, late)| ((word(&stage.policy), word(&stage.ring)), late)).collect();
        let open = FindingState::Open as usize;
        out.open_ids = out.cves.iter().filter(|c| c.by_state[open] > 0).count() as u64;
        let named = (0_usize..).zip(classes).filter(|(_, n)| *n > 0);
        out.open_by_class = named
            .map(|(number, n)| match number.checked_sub(1) {
                Some(class) => (self.classes.text(class as u32).to_owned(), n),
                None => (String::new(), n),
            })
            .collect();
        out
    }

    /// The classes that some finding is in.
    pub(crate) fn classes(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.classes.all().map(|(_, text)| text).collect();
        all.sort_unstable();
        all
    }

    /// One vulnerability over the fleet, if any host has or had it.
    pub(crate) fn cve<'a>(&self, tally: &'a Tally, id: &str) -> Option<&'a CveTally> {
        tally.cves.get(self.ids.find(id)? as usize).filter(|cve| cve.all() > 0)
    }

    /// The vulnerability in a list.
    pub(crate) fn cve_row_of(&self, tally: &Tally, id: &str) -> Option<CveRow> {
        self.cve(tally, id)?;
        Some(self.cve_row(tally, self.ids.find(id)?))
    }

    pub(super) fn cve_row(&self, tally: &Tally, id: u32) -> CveRow {
        let none = CveTally::default();
        let it = tally.cves.get(id as usize).unwrap_or(&none);
        let scored =
            |thousandths: Option<u32>| thousandths.filter(|n| *n > 0).map(|n| n as f32 / 1000.0);
        let mut sources: Vec<String> =
            it.sources.iter().map(|s| self.sources.text(*s).to_owned()).collect();
        sources.sort_unstable();
        let classes = self.classes.all().filter(|(n, _)| it.classes >> (n + 1).min(63) & 1 == 1);
        CveRow {
            id: self.ids.text(id).to_owned(),
            severity: it.severity,
            kev: it.rank.is_some_and(Rank::kev),
            epss: scored(it.rank.map(Rank::epss)),
            cvss: scored(it.rank.map(Rank::cvss)),
            sources,
            classes: classes.map(|(_, text)| text.to_owned()).collect(),
            hosts: u64::from(it.hosts),
            reachable: u64::from(it.reachable),
            open: it.count(FindingState::Open),
            no_fix: it.count(FindingState::NoFixYet),
            pending: it.count(FindingState::PendingRestart) + it.count(FindingState::PendingReboot),
            accepted: it.count(FindingState::Accepted),
            fixed: it.count(FindingState::Fixed),
            overdue: u64::from(it.overdue),
        }
    }

    /// Vulnerabilities that some host has or had.
    pub(crate) fn cves(
        &self,
        tally: &Tally,
        filter: &CveFilter,
        (sort, down): (CveSort, bool),
        limit: u64,
        offset: u64,
    ) -> Page<CveRow> {
        // A class that nothing is in has no number, and no vulnerability.
        let class = filter.class.as_ref().map(|c| self.classes.find(c).map(|n| (n + 1).min(63)));
        let named = |id: u32, it: &CveTally| {
            let q = filter.q.as_str();
            q.is_empty()
                || self.ids.text(id).to_ascii_lowercase().contains(q)
                || it.sources.iter().any(|s| self.sources.text(*s).contains(q))
        };
        let passes = |id: u32, it: &CveTally| {
            let open = it.by_state[FindingState::Open as usize];
            it.all() > 0
                && filter.severity.is_none_or(|s| s == it.severity)
                && filter.state.is_none_or(|s| it.by_state[s as usize] > 0)
                && (!filter.kev || it.rank.is_some_and(Rank::kev))
                && (!filter.fixable || open > 0)
                && (!filter.overdue || it.overdue > 0)
                && class.is_none_or(|c| c.is_some_and(|c| it.classes >> c & 1 == 1))
                && named(id, it)
        };
        let all = (0..).zip(&tally.cves).filter(|(id, it)| passes(*id, it));
        let mut rows: Vec<CveRow> = all.map(|(id, _)| self.cve_row(tally, id)).collect();
        worst_first(&mut rows);
        let thousandths = |score: Option<f32>| (score.unwrap_or(0.0) * 1000.0) as u64;
        let number = |r: &CveRow| match sort {
            CveSort::Rank | CveSort::Id => 0,
            CveSort::Hosts => r.hosts,
            CveSort::Overdue => r.overdue,
            CveSort::Epss => thousandths(r.epss),
            CveSort::Cvss => thousandths(r.cvss),
        };
        match (sort, down) {
            (CveSort::Rank, true) => {}
            (CveSort::Rank, false) => rows.reverse(),
            (CveSort::Id, true) => rows.sort_by(|a, b| b.id.cmp(&a.id)),
            (CveSort::Id, false) => rows.sort_by(|a, b| a.id.cmp(&b.id)),
            (_, true) => rows.sort_by_key(|r| Reverse(number(r))),
            (_, false) => rows.sort_by_key(number),
        }
        let total = rows.len() as u64;
        let items = rows.into_iter().skip(offset as usize).take(limit as usize).collect();
        Page { total, items }
    }
}
