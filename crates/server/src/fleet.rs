//! The fleet in memory: what lists, counts and searches are made from, whatever the fleet's size.
//!
//! The store stays the truth. After each commit it says which hosts were touched; whoever looks first has those read
//! again, so that a look sees every change that was committed before it. Texts are kept once and numbered; a finding
//! is 32 bytes, and hosts with the same packages share one list of them.

mod findings;
mod hosts;
mod owed;
mod packages;
mod tally;
mod words;

pub(crate) use hosts::{HostFilter, HostSort};
pub(crate) use owed::Owed;
pub(crate) use packages::PackageSort;
pub(crate) use tally::{CveFilter, CveSort, CveTally, Tally};

use crate::app::App;
use crate::policies::Policies;
use fettle_core::finding::{FindingState, Severity};
use fettle_core::version::Scheme;
use fettle_core::{Digest, HostId, Problem, Timestamp};
use fettle_store::View;
use fettle_store::findings::{self as stored, Rank};
use fettle_store::hosts::{self as stored_hosts, HostRecord, InventoryBrief};
use fettle_vuln::exposure::Catalogue;
use packages::{Held, Software};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use words::Words;

/// The fleet, and when it was last looked through.
#[derive(Debug, Default)]
pub(crate) struct Memory(RwLock<Fleet>);

/// Every host with its findings and packages.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    loaded: bool,
    /// Grows with every change.
    version: u64,
    hosts: Vec<Option<Known>>,
    free: Vec<u32>,
    by_id: HashMap<HostId, u32>,
    by_name: BTreeMap<String, u32>,
    ids: Words,
    sources: Words,
    classes: Words,
    software: Software,
    /// What the routes of all hosts were found by.
    routed_by: Option<(Arc<Policies>, Arc<Catalogue>)>,
    tally: Mutex<Option<Tallied>>,
}

/// Counts, and what they were counted at: version and second.
#[derive(Debug)]
struct Tallied {
    version: u64,
    second: i64,
    tally: Arc<Tally>,
}

/// One host.
#[derive(Debug)]
struct Known {
    record: HostRecord,
    /// Its findings, by number of the vulnerability.
    marks: Box<[Mark]>,
    /// How many of them are in each state.
    counts: [u32; STATES],
    /// Its packages, and the inventory they were read from.
    held: Option<(Option<Digest>, Held)>,
    route: Route,
}

/// How many states a finding can be in.
const STATES: usize = FindingState::ALL.len();

/// What the policies make of a host.
#[derive(Debug, Default)]
struct Route {
    policy: Option<Box<str>>,
    ring: Option<Box<str>>,
    /// There is vulnerability data for what it runs.
    judged: bool,
}

/// A finding.
#[derive(Debug, Clone, Copy)]
struct Mark {
    rank: Rank,
    /// Number of the vulnerability.
    id: u32,
    /// Number of the source package.
    source: u32,
    /// Seconds since 1970; 0 without.
    deadline: u32,
    /// Seconds since 1970; 0 without.
    fixed_at: u32,
    /// Number of the class; 0 without.
    class: u16,
    state: FindingState,
    severity: Severity,
}

/// Whole seconds since 1970 in 32 bits, which last until 2106. 0 means none.
fn seconds(at: Option<Timestamp>) -> u32 {
    at.map_or(0, |at| u32::try_from(at.as_second().max(1)).unwrap_or(u32::MAX))
}

impl Memory {
    /// Looks at the fleet as it is: with every change that was committed before the call.
    pub(crate) fn look<T>(&self, app: &App, look: impl FnOnce(&Fleet) -> T) -> Result<T, Problem> {
        {
            let fleet = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if fleet.is_current(app) {
                return Ok(look(&fleet));
            }
        }
        let mut fleet = self.0.write().unwrap_or_else(PoisonError::into_inner);
        fleet.catch_up(app)?;
        Ok(look(&fleet))
    }
}

impl Fleet {
    fn is_current(&self, app: &App) -> bool {
        self.loaded && app.store.is_untouched() && self.is_routed(app)
    }

    fn is_routed(&self, app: &App) -> bool {
        self.routed_by.as_ref().is_some_and(|(policies, catalogue)| {
            Arc::ptr_eq(policies, &app.policies()) && Arc::ptr_eq(catalogue, &app.catalogue())
        })
    }

    fn catch_up(&mut self, app: &App) -> Result<(), Problem> {
        // Taken before the look, so that the look sees what made them so.
        let touched = app.store.take_touched();
        let read = app.store.read::<_, Problem>(|view| {
            if !self.loaded {
                *self = Self::default();
                return self.load(view);
            }
            for id in &touched {
                self.read(view, id)?;
            }
            Ok(())
        });
        if let Err(problem) = read {
            app.store.touch(touched);
            return Err(problem);
        }
        let by = (app.policies(), app.catalogue());
        if self.is_routed(app) {
            for id in &touched {
                if let Some(known) = self.by_id.get(id).copied().and_then(|at| self.known_mut(at)) {
                    known.route = route(&by.0, &by.1, &known.record);
                }
            }
        } else {
            for known in self.hosts.iter_mut().flatten() {
                known.route = route(&by.0, &by.1, &known.record);
            }
            self.routed_by = Some(by);
        }
        self.loaded = true;
        self.version += 1;
        Ok(())
    }

    /// Everything, at the start.
    fn load(&mut self, view: &View<'_>) -> Result<(), Problem> {
        let mut marks: HashMap<HostId, Vec<Mark>> = HashMap::new();
        let mut last: Option<(HostId, Vec<Mark>)> = None;
        stored::each_mark(view, None, |mark| {
            let new = self.mark(&mark);
            match &mut last {
                Some((host, marks)) if host.as_str() == mark.host => marks.push(new),
                _ => {
                    let before = last.replace((HostId::new(mark.host), vec![new]));
                    marks.extend(before);
                }
            }
        })?;
        marks.extend(last);
        for record in stored_hosts::all(view)? {
            let marks = marks.remove(&record.host.id).unwrap_or_default();
            self.put(view, record, marks)?;
        }
        Ok(())
    }

    /// One host anew, or no more.
    fn read(&mut self, view: &View<'_>, id: &HostId) -> Result<(), Problem> {
        let Some(record) = stored_hosts::get(view, id)? else {
            self.take_away(id);
            return Ok(());
        };
        let mut marks = Vec::new();
        stored::each_mark(view, Some(id), |mark| marks.push(self.mark(&mark)))?;
        self.put(view, record, marks)
    }

    fn mark(&mut self, mark: &stored::Mark<'_>) -> Mark {
        let class = match mark.class {
            "" => 0,
            class => self.classes.number(class) + 1,
        };
        Mark {
            rank: mark.rank,
            id: self.ids.number(mark.id),
            source: self.sources.number(mark.source),
            deadline: seconds(mark.deadline),
            fixed_at: seconds(mark.fixed_at),
            class: u16::try_from(class).unwrap_or(u16::MAX),
            state: mark.state,
            severity: mark.severity,
        }
    }

    fn put(
        &mut self,
        view: &View<'_>,
        record: HostRecord,
        mut marks: Vec<Mark>,
    ) -> Result<(), Problem> {
        marks.sort_unstable_by_key(|m| (m.id, m.source));
        let mut counts = [0; STATES];
        for mark in &marks {
            counts[mark.state as usize] += 1;
        }
        let id = record.host.id.clone();
        let before = self.by_id.get(&id).copied();
        let digest = record.host.inventory_digest;
        let same = |known: &Known| known.held.as_ref().is_some_and(|(by, _)| *by == digest);
        let held = match before.and_then(|at| self.known_mut(at)) {
            // What it runs is what it ran.
            Some(known) if same(known) => known.held.take(),
            _ => {
                let scheme = record
                    .host
                    .inventory
                    .as_ref()
                    .and_then(|inventory| Scheme::of_os(&inventory.os.id));
                let software = &mut self.software;
                let take = |brief: InventoryBrief<'_>| software.take(&brief, scheme);
                stored_hosts::brief(view, &id, take)?.map(|held| (digest, held))
            }
        };
        self.take_away(&id);
        let known = Known { record, marks: marks.into(), counts, held, route: Route::default() };
        let name = known.record.host.name.clone();
        let at = match self.free.pop() {
            Some(at) => {
                self.hosts[at as usize] = Some(known);
                at
            }
            None => {
                self.hosts.push(Some(known));
                // A host takes more than a byte: memory ends first.
                u32::try_from(self.hosts.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.by_id.insert(id, at);
        self.by_name.insert(name, at);
        Ok(())
    }

    fn take_away(&mut self, id: &HostId) {
        let Some(at) = self.by_id.remove(id) else { return };
        let Some(known) = self.hosts.get_mut(at as usize).and_then(Option::take) else { return };
        self.by_name.remove(&known.record.host.name);
        if let Some((_, held)) = known.held {
            self.software.give_back(held);
        }
        self.free.push(at);
    }

    fn known(&self, at: u32) -> Option<&Known> {
        self.hosts.get(at as usize).and_then(Option::as_ref)
    }

    fn known_mut(&mut self, at: u32) -> Option<&mut Known> {
        self.hosts.get_mut(at as usize).and_then(Option::as_mut)
    }

    /// Hosts by name.
    fn by_name(&self) -> impl Iterator<Item = &Known> {
        self.by_name.values().filter_map(|at| self.known(*at))
    }

    /// The page of the host, package or vulnerability of this name.
    pub(crate) fn page_of(&self, tally: &Tally, name: &str) -> Option<String> {
        let id = name.to_uppercase();
        let (place, name) = if self.by_name.contains_key(name) {
            ("hosts", name)
        } else if self.has_package(name) {
            ("packages", name)
        } else if self.cve(tally, &id).is_some() {
            ("cves", id.as_str())
        } else {
            return None;
        };
        Some(format!("/{place}/{}", crate::web::encoded(name)))
    }

    /// How many hosts there are.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many hosts each policy selects.
    pub(crate) fn by_policy(&self) -> BTreeMap<&str, u64> {
        let mut out = BTreeMap::new();
        for known in self.hosts.iter().flatten() {
            if let Some(policy) = known.route.policy.as_deref() {
                *out.entry(policy).or_default() += 1;
            }
        }
        out
    }

    /// How many hosts each ring or pool of a policy has; those in none under the empty word.
    pub(crate) fn by_stage(&self, policy: &str) -> BTreeMap<String, u64> {
        let mut out: BTreeMap<&str, u64> = BTreeMap::new();
        for known in self.hosts.iter().flatten() {
            if known.route.policy.as_deref() == Some(policy) {
                *out.entry(known.route.ring.as_deref().unwrap_or_default()).or_default() += 1;
            }
        }
        out.into_iter().map(|(stage, n)| (stage.to_owned(), n)).collect()
    }

    /// Code names of the releases that hosts run.
    pub(crate) fn releases(&self) -> std::collections::BTreeSet<&str> {
        let hosts = self.hosts.iter().flatten();
        hosts
            .filter_map(|k| k.record.host.inventory.as_ref().map(|i| i.os.codename.as_str()))
            .collect()
    }
}

fn route(policies: &Policies, catalogue: &Catalogue, record: &HostRecord) -> Route {
    let host = &record.host;
    let policy = policies.of(host);
    Route {
        policy: policy.map(|p| p.name.as_str().into()),
        ring: policy.and_then(|p| p.stage_of(host)).map(Into::into),
        judged: host.inventory.as_ref().is_some_and(|i| catalogue.knows(&i.os)),
    }
}
