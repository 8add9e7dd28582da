//! The fleet: which hosts have which findings, kept in step by deltas.
//!
//! Everything a host says about one source package is one *subject* (release, installed versions, running kernel,
//! offered version, in use, exposed, stale). Hosts with the same facts share it, so each distinct package version is
//! judged once however many hosts have it, and a subject's hosts are a bitmap. A host is then a list of subjects and
//! the few findings that only its own history explains: `pending-restart` and `fixed`.

use super::Exception;
use super::carry::Carried;
use super::catalogue::Catalogue;
use super::facts::HostFacts;
use fettle_core::HostId;
use fettle_core::inventory::Os;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::Arc;

mod change;
mod query;
mod risk;
mod roots;
mod subjects;

pub use change::{CatalogueChange, FindingDelta, HostChange};
pub use query::{Totals, Worst};
pub use risk::Risk;

use subjects::Subjects;

/// Who is exposed to what, over all hosts. Values in, values out: the store keeps hosts and findings, and this is
/// rebuilt from it at start.
#[derive(Debug, Clone)]
pub struct FleetIndex {
    catalogue: Arc<Catalogue>,
    /// By slot; bitmaps hold slots.
    hosts: Vec<Option<HostRecord>>,
    slots: BTreeMap<HostId, u32>,
    /// Slots of the other roots on hosts.
    root_slots: BTreeMap<(HostId, Arc<str>), u32>,
    /// The same slots: what is counted by hosts goes by [`HostRecord::owner`].
    roots: RoaringBitmap,
    free: Vec<u32>,
    subjects: Subjects,
    /// Slots of hosts with exceptions.
    excepted: RoaringBitmap,
    totals: Totals,
}

/// Is a system where it was?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// It says what it has.
    Here,
    /// A root of a host that could not look for all of its roots: what was found in it stays as it was.
    Unseen,
    /// A root that is gone, and what was found in it with it.
    Gone,
}

/// One host, or a root on one, as the index keeps it.
#[derive(Debug, Clone)]
struct HostRecord {
    id: HostId,
    /// Which root on the host ([`fettle_core::root::Root::id`]); `None`: the host itself.
    root: Option<Arc<str>>,
    /// Slot of the host itself.
    owner: u32,
    presence: Presence,
    os: Os,
    /// What decides about it; shared with its subjects.
    facts: HostFacts,
    /// One for each of `facts.sources`.
    subjects: Vec<u32>,
    /// Sorted by source and vulnerability. Never a hit of one of the subjects.
    carried: Vec<Carried>,
    accepted: Vec<Exception>,
    /// [`FleetIndex::risk_of`] it.
    risk: Risk,
}
