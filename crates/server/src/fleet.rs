//! The fleet in memory: what lists, counts and searches are made from, whatever the fleet's size.
//!
//! The store stays the truth. After each commit it says which hosts were touched; whoever looks first has those read
//! again, so that a look sees every change that was committed before it. Texts are kept once and numbered; a finding
//! is 32 bytes, those of all hosts lie side by side, and hosts with the same packages share one list of them.

mod findings;
mod hosts;
mod kinds;
mod marks;
mod names;
mod numbered;
mod owed;
mod packages;
mod tally;
#[cfg(test)]
mod tests;
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
use fettle_store::findings::{self as stored, Rank};
use fettle_store::hosts::{self as stored_hosts, HostRecord, InventoryBrief};
use fettle_store::{Store, View};
use fettle_vuln::exposure::Catalogue;
use kinds::Kinds;
use marks::{Glance, Marks};
use names::Names;
use packages::{Held, Software};
use roaring::RoaringBitmap;
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
    /// By slot, and so are `glances` and `marks`.
    hosts: Vec<Option<Known>>,
    glances: Vec<Glance>,
    /// Of each host sorted by vulnerability and source.
    marks: Marks,
    free: Vec<u32>,
    by_id: HashMap<HostId, u32>,
    by_name: BTreeMap<String, u32>,
    /// Slots by the names of their hosts, and the place of each slot among them.
    order: Vec<u32>,
    places: Vec<u32>,
    /// The names in that order.
    names: Names,
    /// Hosts came, went, or have other names since that order was made.
    disordered: bool,
    /// By number of the vulnerability: slots of the hosts with a finding of it, in whatever state.
    with: Vec<RoaringBitmap>,
    /// Policies and their rings, by number.
    stages: Vec<Stage>,
    ids: Words,
    sources: Words,
    classes: Words,
    kinds: Kinds,
    software: Software,
    /// What the routes of all hosts were found by.
    routed_by: Option<RoutedBy>,
    tally: Mutex<Option<Tallied>>,
}

/// What policies and vulnerability data make of a host follows from these.
type RoutedBy = (Arc<Policies>, Arc<Catalogue>);

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
    /// Its packages, and the inventory they were read from.
    held: Option<(Option<Digest>, Held)>,
}

/// How many states a finding can be in.
const STATES: usize = FindingState::ALL.len();

/// What the policies make of a host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stage {
    policy: Option<Box<str>>,
    ring: Option<Box<str>>,
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
            if fleet.is_current(&app.store, &(app.policies(), app.catalogue())) {
                return Ok(look(&fleet));
            }
        }
        let mut fleet = self.0.write().unwrap_or_else(PoisonError::into_inner);
        fleet.catch_up(&app.store, (app.policies(), app.catalogue()))?;
        Ok(look(&fleet))
    }
}

impl Fleet {
    fn is_current(&self, store: &Store, by: &RoutedBy) -> bool {
        self.loaded && store.is_untouched() && self.is_routed(by)
    }

    fn is_routed(&self, by: &RoutedBy) -> bool {
        self.routed_by.as_ref().is_some_and(|(policies, catalogue)| {
            Arc::ptr_eq(policies, &by.0) && Arc::ptr_eq(catalogue, &by.1)
        })
    }

    fn catch_up(&mut self, store: &Store, by: RoutedBy) -> Result<(), Problem> {
        // Taken before the look, so that the look sees what made them so.
        let touched = store.take_touched();
        let read = store.read::<_, Problem>(|view| {
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
            store.touch(touched);
            return Err(problem);
        }
        if self.is_routed(&by) {
            for at in
                touched.iter().filter_map(|id| self.by_id.get(id).copied()).collect::<Vec<_>>()
            {
                self.route(at, &by.0, &by.1);
            }
        } else {
            self.stages.clear();
            for at in 0..self.glances.len() {
                // As many as there are hosts, which are numbered so.
                self.route(at as u32, &by.0, &by.1);
            }
            self.routed_by = Some(by);
        }
        if std::mem::take(&mut self.disordered) {
            self.order = self.by_name.values().copied().collect();
            self.names = Names::of(self.by_name.keys());
            self.places = vec![0; self.hosts.len()];
            for (place, at) in (0..).zip(&self.order) {
                self.places[*at as usize] = place;
            }
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
        self.marks.close_up();
        Ok(())
    }

    /// One host anew, or no more.
    fn read(&mut self, view: &View<'_>, id: &HostId) -> Result<(), Problem> {
        let Some(record) = stored_hosts::get(view, id)? else {
            self.take_away(id);
            self.disordered = true;
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
        let open = marks.iter().filter(|m| m.state == FindingState::Open);
        let id = record.host.id.clone();
        let before = self.by_id.get(&id).copied();
        let name = record.host.name.clone();
        let stays = before.is_some() && self.by_name.get(&name) == before.as_ref();
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
        let glance = Glance {
            counts,
            worst: open.map(|m| m.rank).max().unwrap_or_default(),
            // Until it is routed.
            stage: Glance::NOBODY,
            kind: self.kinds.take(&record.host),
            list: held.as_ref().map_or(Glance::NOTHING, |(_, held)| held.number),
            governed: false,
            quarantined: record.host.quarantined.is_some(),
            reported: record.host.inventory.is_some(),
            judged: false,
        };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.hosts.push(None);
                self.glances.push(Glance::default());
                // A host takes more than a byte: memory ends first.
                u32::try_from(self.hosts.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.hosts[at as usize] = Some(Known { record, held });
        self.glances[at as usize] = glance;
        self.marks.set(at, &marks);
        for mark in &marks {
            if mark.id as usize >= self.with.len() {
                self.with.resize(mark.id as usize + 1, RoaringBitmap::new());
            }
            self.with[mark.id as usize].insert(at);
        }
        self.disordered |= !stays || before != Some(at);
        self.by_id.insert(id, at);
        self.by_name.insert(name, at);
        Ok(())
    }

    fn take_away(&mut self, id: &HostId) {
        let Some(at) = self.by_id.remove(id) else { return };
        let Some(known) = self.hosts.get_mut(at as usize).and_then(Option::take) else { return };
        // Another may have its name by now.
        if self.by_name.get(&known.record.host.name) == Some(&at) {
            self.by_name.remove(&known.record.host.name);
        }
        if let Some((_, held)) = known.held {
            self.software.give_back(held);
        }
        for mark in self.marks.of(at) {
            self.with[mark.id as usize].remove(at);
        }
        self.marks.set(at, &[]);
        let glance = std::mem::take(&mut self.glances[at as usize]);
        self.kinds.give_back(glance.kind);
        self.free.push(at);
    }

    /// Finds out what the policies make of the host in a slot.
    fn route(&mut self, at: u32, policies: &Policies, catalogue: &Catalogue) {
        let Some(known) = self.hosts.get(at as usize).and_then(Option::as_ref) else { return };
        let host = &known.record.host;
        let policy = policies.of(host);
        let (name, ring) = (policy.map(|p| p.name.as_str()), policy.and_then(|p| p.stage_of(host)));
        let same = |s: &Stage| s.policy.as_deref() == name && s.ring.as_deref() == ring;
        let stage = self.stages.iter().position(same).unwrap_or_else(|| {
            self.stages.push(Stage { policy: name.map(Into::into), ring: ring.map(Into::into) });
            self.stages.len() - 1
        });
        let glance = &mut self.glances[at as usize];
        glance.stage = u32::try_from(stage).unwrap_or(Glance::NOBODY);
        glance.governed = name.is_some();
        glance.judged = host.inventory.as_ref().is_some_and(|i| catalogue.knows(&i.os));
    }

    /// The policy and ring of the host in a slot.
    fn stage(&self, at: u32) -> &Stage {
        const NONE: &Stage = &Stage { policy: None, ring: None };
        let number = self.glances.get(at as usize).map_or(Glance::NOBODY, |glance| glance.stage);
        self.stages.get(number as usize).unwrap_or(NONE)
    }

    /// Slots with the hosts that are in them.
    fn each(&self) -> impl Iterator<Item = (u32, &Known)> {
        (0..).zip(&self.hosts).filter_map(|(at, known)| Some((at, known.as_ref()?)))
    }

    /// Slots of the hosts with a finding of a vulnerability, in whatever state.
    fn with(&self, id: u32) -> Option<&RoaringBitmap> {
        self.with.get(id as usize)
    }

    fn known(&self, at: u32) -> Option<&Known> {
        self.hosts.get(at as usize).and_then(Option::as_ref)
    }

    fn known_mut(&mut self, at: u32) -> Option<&mut Known> {
        self.hosts.get_mut(at as usize).and_then(Option::as_mut)
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

    /// How many hosts are in each stage.
    fn staged(&self) -> impl Iterator<Item = (&Stage, u64)> {
        let mut counts = vec![0; self.stages.len()];
        for glance in &self.glances {
            if let Some(count) = counts.get_mut(glance.stage as usize) {
                *count += 1;
            }
        }
        self.stages.iter().zip(counts).filter(|(_, count)| *count > 0)
    }

    /// How many hosts each policy selects.
    pub(crate) fn by_policy(&self) -> BTreeMap<&str, u64> {
        let mut out = BTreeMap::new();
        for (stage, count) in self.staged() {
            if let Some(policy) = stage.policy.as_deref() {
                *out.entry(policy).or_default() += count;
            }
        }
        out
    }

    /// How many hosts each ring or pool of a policy has; those in none under the empty word.
    pub(crate) fn by_stage(&self, policy: &str) -> BTreeMap<String, u64> {
        let of_policy = self.staged().filter(|(s, _)| s.policy.as_deref() == Some(policy));
        let named = |ring: &Option<Box<str>>| ring.as_deref().unwrap_or_default().to_owned();
        of_policy.map(|(stage, count)| (named(&stage.ring), count)).collect()
    }

    /// Code names of the releases that hosts run.
    pub(crate) fn releases(&self) -> std::collections::BTreeSet<&str> {
        let kinds = self.kinds.all().filter_map(|like| like.inventory.as_ref());
        kinds.map(|inventory| inventory.os.codename.as_str()).collect()
    }
}
