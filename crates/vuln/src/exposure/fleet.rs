//! The fleet: which hosts have which findings, kept in step by deltas.
//!
//! Everything a host says about one source package is one *subject* (release, installed versions, running kernel,
//! offered version, in use, exposed, stale). Hosts with the same facts share it, so each distinct package version is
//! judged once however many hosts have it, and a subject's hosts are a bitmap. A host is then its *shape*, a list of subjects
//! that it shares with the hosts that say the same, and the few findings that only its own history explains:
//! `pending-restart` and `fixed`.
//!
//! What vendors say of one source package of one release is a *book*. A new catalogue is compared with the one before book by
//! book, and only the subjects of books that say something else are judged anew: what changes for a subject changes for all
//! of its hosts at once, but for those whose history or exceptions make them a case of their own.

use super::Exception;
use super::carry::Carried;
use super::catalogue::Catalogue;
use fettle_core::HostId;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::Arc;

mod again;
mod books;
mod carrying;
mod change;
mod concerned;
mod events;
mod host;
mod numbers;
mod packed;
mod query;
mod records;
mod risk;
mod roots;
mod shapes;
mod subjects;
mod worst;

pub use again::{CatalogueChange, CatalogueWithdrawal};
pub use change::{FindingDelta, Totals};
pub use concerned::Touched;
pub use host::HostChange;
pub use packed::Unusable;
pub use risk::Risk;
pub use worst::Worst;

use books::Books;
use carrying::Carrying;
use numbers::Secret;
use shapes::Shapes;
use subjects::Subjects;

/// Who is exposed to what, over all hosts. Values in, values out: the store keeps hosts and findings, and this is
/// rebuilt from it at start.
#[derive(Debug, Clone)]
pub struct FleetIndex {
    catalogue: Arc<Catalogue>,
    /// By slot; bitmaps hold slots.
    hosts: Vec<Option<HostRecord>>,
    /// By slot.
    risks: Vec<Risk>,
    slots: BTreeMap<HostId, u32>,
    /// Slots of the other roots on hosts.
    root_slots: BTreeMap<(HostId, Arc<str>), u32>,
    /// The same slots: what is counted by hosts goes by [`HostRecord::owner`].
    roots: RoaringBitmap,
    free: Vec<u32>,
    subjects: Subjects,
    books: Books,
    shapes: Shapes,
    carrying: Carrying,
    /// By vulnerability: slots of the systems with an exception for it.
    excepted: BTreeMap<String, RoaringBitmap>,
    /// Slots of the systems that could not list their packages.
    packages_unknown: RoaringBitmap,
    secret: Secret,
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
    /// Place of its shape.
    shape: u32,
    /// Sorted by source and vulnerability. Never a hit of one of the subjects.
    carried: Vec<Arc<Carried>>,
    accepted: Vec<Exception>,
}
