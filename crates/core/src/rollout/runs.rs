//! The hosts of a rollout, each in one state: a sorted map that is cheap to copy and knows who is unfinished.
//!
//! A state is copied before events are applied to it, so that a look at the old one goes on undisturbed: copies share
//! the hosts that did not change. Sets of who is pending, at work or at fault are kept beside, so that nobody goes
//! through the finished hosts to find the others.

use super::bits::Bits;
use super::{HostRun, HostState, MAX_GRANTS};
use crate::{HostId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut, Index};
use std::sync::{Arc, OnceLock};

/// Hosts that are copied together when one of them changes.
const CHUNK: usize = 32;

/// Each host of the plan, and where it stands.
#[derive(Clone, Default)]
pub struct Runs {
    ids: Arc<[HostId]>,
    chunks: Vec<Arc<[HostRun]>>,
    marks: Marks,
}

/// Who is where, by place among the sorted ids. Follows from the runs alone.
#[derive(Clone, Default)]
pub(super) struct Marks {
    /// Not over.
    pub(super) open: Bits,
    /// Not started.
    pub(super) pending: Bits,
    /// Holds a grant, or is being undone.
    pub(super) at_work: Bits,
    /// Counts as disrupted, whatever is observed.
    pub(super) disrupted: Bits,
    /// As `disrupted`, leaving out grants that nobody has redeemed.
    pub(super) changing: Bits,
    /// Pending, and was given as many grants as it gets.
    pub(super) spent: Bits,
    /// Patched.
    pub(super) patched: Bits,
    /// Its end says that the change is bad.
    pub(super) at_fault: Bits,
    /// Cancelled.
    cancelled: Bits,
    /// By wave.
    waves: Vec<OfWave>,
}

/// What is counted of a wave.
#[derive(Clone, Default)]
struct OfWave {
    /// Hosts that are not over.
    unfinished: u32,
    patched: u32,
    cancelled: u32,
    /// When the last of the patched ended. Not known: one of them changed, or nobody has asked.
    last_end: OnceLock<Option<Timestamp>>,
}

impl Marks {
    fn put(&mut self, place: usize, run: &HostRun) {
        let wave = run.wave as usize;
        if self.waves.len() <= wave {
            self.waves.resize(wave + 1, OfWave::default());
        }
        let of = &mut self.waves[wave];
        let count =
            |count: &mut u32, was: bool, is: bool| *count = *count + u32::from(is) - u32::from(was);
        let is_open = !run.is_over();
        count(&mut of.unfinished, self.open.has(place), is_open);
        let is_cancelled = matches!(run.state, HostState::Cancelled { .. });
        count(&mut of.cancelled, self.cancelled.has(place), is_cancelled);
        let (was_patched, is_patched) = (self.patched.has(place), run.state == HostState::Patched);
        count(&mut of.patched, was_patched, is_patched);
        let known = if was_patched || is_patched { of.last_end.take() } else { None };
        if let Some(last) = known.filter(|_| !was_patched) {
            of.last_end = last.max(run.ended_at).into();
        }
        self.open.put(place, is_open);
        self.pending.put(place, run.state == HostState::Pending);
        self.at_work.put(place, run.at_work() || run.undo_at_work());
        self.disrupted.put(place, run.is_disrupted());
        self.changing.put(place, run.may_be_changing());
        self.spent.put(place, run.state == HostState::Pending && run.grants >= MAX_GRANTS);
        self.patched.put(place, is_patched);
        self.cancelled.put(place, is_cancelled);
        self.at_fault.put(place, run.fault().is_some());
    }
}

impl Runs {
    fn of(map: BTreeMap<HostId, HostRun>) -> Self {
        let (ids, runs): (Vec<HostId>, Vec<HostRun>) = map.into_iter().unzip();
        let mut marks = Marks::default();
        runs.iter().enumerate().for_each(|(place, run)| marks.put(place, run));
        let mut left = runs.into_iter().peekable();
        let mut chunks = Vec::new();
        while left.peek().is_some() {
            chunks.push(left.by_ref().take(CHUNK).collect());
        }
        Self { ids: ids.into(), chunks, marks }
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Hosts of the wave that are not over.
    pub(super) fn unfinished(&self, wave: u32) -> u32 {
        self.marks.waves.get(wave as usize).map_or(0, |of| of.unfinished)
    }

    /// Hosts of the wave that are patched.
    pub(super) fn patched(&self, wave: u32) -> u32 {
        self.marks.waves.get(wave as usize).map_or(0, |of| of.patched)
    }

    /// Hosts of the wave that were cancelled.
    pub(super) fn cancelled(&self, wave: u32) -> u32 {
        self.marks.waves.get(wave as usize).map_or(0, |of| of.cancelled)
    }

    /// When the last of the wave's patched hosts ended.
    pub(super) fn last_end(&self, wave: u32) -> Option<Timestamp> {
        let of = self.marks.waves.get(wave as usize)?;
        let patched = || self.marks.patched.iter().map(|place| self.at(place));
        let find = || patched().filter(|run| run.wave == wave).filter_map(|run| run.ended_at).max();
        *of.last_end.get_or_init(find)
    }

    pub(super) fn ids(&self) -> &Arc<[HostId]> {
        &self.ids
    }

    pub(super) fn place(&self, id: &HostId) -> Option<usize> {
        self.ids.binary_search(id).ok()
    }

    pub(super) fn at(&self, place: usize) -> &HostRun {
        &self.chunks[place / CHUNK][place % CHUNK]
    }

    /// The host in its place. Whatever is done to it is marked when it is let go of.
    pub(super) fn at_mut(&mut self, place: usize) -> RunMut<'_> {
        RunMut { runs: self, place }
    }

    pub(super) fn get_mut(&mut self, id: &HostId) -> Option<RunMut<'_>> {
        let place = self.place(id)?;
        Some(self.at_mut(place))
    }

    /// Changes every host.
    pub fn change_each(&mut self, mut change: impl FnMut(&mut HostRun)) {
        for place in 0..self.len() {
            change(&mut self.at_mut(place));
        }
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }
    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
    /// Where the host stands.
    pub fn get(&self, id: &HostId) -> Option<&HostRun> {
        self.place(id).map(|place| self.at(place))
    }
    /// Is the host one of them?
    pub fn contains_key(&self, id: &HostId) -> bool {
        self.place(id).is_some()
    }
    /// Every host, by id.
    pub fn keys(&self) -> impl Iterator<Item = &HostId> {
        self.ids.iter()
    }
    /// Where each host stands, by id.
    pub fn values(&self) -> impl Iterator<Item = &HostRun> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
    /// Every host, and where it stands.
    pub fn iter(&self) -> impl Iterator<Item = (&HostId, &HostRun)> {
        self.keys().zip(self.values())
    }
    /// Places of those that are not over and of which `of` holds.
    pub(super) fn open_places(&self, of: impl Fn(&(usize, &HostRun)) -> bool) -> Vec<usize> {
        let open = self.marks.open.iter().map(|place| (place, self.at(place)));
        open.filter(of).map(|(place, _)| place).collect()
    }
    /// The change in this place is barred already: nobody need look at it again.
    pub(super) fn excuse(&mut self, place: usize) {
        self.marks.at_fault.put(place, false);
    }
    /// Those that are not over.
    pub fn open(&self) -> impl Iterator<Item = (&HostId, &HostRun)> {
        self.marks.open.iter().map(|place| (&self.ids[place], self.at(place)))
    }
}

/// A host that is about to change.
pub(super) struct RunMut<'a> {
    runs: &'a mut Runs,
    place: usize,
}

impl Deref for RunMut<'_> {
    type Target = HostRun;
    fn deref(&self) -> &HostRun {
        self.runs.at(self.place)
    }
}

impl DerefMut for RunMut<'_> {
    fn deref_mut(&mut self) -> &mut HostRun {
        let chunk = &mut self.runs.chunks[self.place / CHUNK];
        &mut Arc::make_mut(chunk)[self.place % CHUNK]
    }
}

impl Drop for RunMut<'_> {
    fn drop(&mut self) {
        let Runs { chunks, marks, .. } = &mut *self.runs;
        marks.put(self.place, &chunks[self.place / CHUNK][self.place % CHUNK]);
    }
}

impl Index<&HostId> for Runs {
    type Output = HostRun;
    /// # Panics
    /// When the host is none of them.
    fn index(&self, id: &HostId) -> &HostRun {
        match self.get(id) {
            Some(run) => run,
            None => panic!("host {id} is not in the rollout"),
        }
    }
}

impl<'a> IntoIterator for &'a Runs {
    type Item = (&'a HostId, &'a HostRun);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'a>;
    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl FromIterator<(HostId, HostRun)> for Runs {
    fn from_iter<I: IntoIterator<Item = (HostId, HostRun)>>(hosts: I) -> Self {
        Self::of(hosts.into_iter().collect())
    }
}

impl PartialEq for Runs {
    fn eq(&self, other: &Self) -> bool {
        self.ids == other.ids && self.chunks == other.chunks
    }
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Runs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Runs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::of)
    }
}
