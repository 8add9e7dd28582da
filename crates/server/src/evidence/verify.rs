//! Checking a pack, offline: a function of its bytes and of the key that is trusted.
//!
//! What is checked, in this order; the first thing that does not hold is named:
//! 1. the manifest's signature, by the trusted key; before it holds, little is read and nothing is kept;
//! 2. every file it names is there with that hash, and no other file is;
//! 3. the part of the ledger is one chain, from the entry before it to the head that was signed;
//! 4. each rollout's events are possible one after the other, from the plan on; each event of the period stands in the
//!    ledger, at its time and with its words, approvals included; and each event that the ledger has is told;
//! 5. each order is signed by the server's order key, and is the very order that the rollout's event gives;
//! 6. each host's journal carries out that order, folds, and says the same end as the rollout.

use super::{Gone, Kept, LEDGER, MANIFEST, Told};
use crate::plain::{self, NotTaken};
use fettle_core::assignment::Assignment;
use fettle_core::ledger::{LedgerEntry, LedgerVerifier};
use fettle_core::report::Period;
use fettle_core::rollout::{Effect, Rollout, RolloutEvent, effects};
use fettle_core::transaction::{Outcome, Progress};
use fettle_core::{AssignmentId, Digest, HostId, Problem, ProblemKind, Timestamp};
use fettle_wire::evidence::{EvidenceManifest, LedgerPart, SignedEvidence};
use fettle_wire::sign::SignedAssignment;
use flate2::read::GzDecoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;
use std::rc::Rc;

/// Largest manifest, in bytes: some hundred thousand files.
const MAX_MANIFEST: u64 = 64 << 20;
/// Bytes of a block of tar(5).
const BLOCK: u64 = 512;

/// What a pack was found to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// When it was made.
    pub made_at: Timestamp,
    /// First moment of the period.
    pub from: Timestamp,
    /// The moment after its last.
    pub to: Timestamp,
    /// Entries of the ledger that hold.
    pub ledger_entries: u64,
    /// The part of the ledger: its head is what a witness compares.
    pub ledger: LedgerPart,
    /// Rollouts whose events are possible one after the other.
    pub rollouts: u64,
    /// Their events that stand in the ledger with the same words and times.
    pub events_in_ledger: u64,
    /// Their events of before and after the period: another part of the ledger has them.
    pub events_elsewhere: u64,
    /// Orders that are signed and are what the rollout's events give.
    pub orders: u64,
    /// Orders that were given and are not here: their host was retired.
    pub orders_missing: u64,
    /// Journals of hosts that agree with their rollout.
    pub transactions: u64,
    /// Ends that a host told and that no journal here tells: the host was retired.
    pub transactions_missing: u64,
    /// Findings that were proved gone.
    pub fixed: u64,
}

/// Why a pack is not believed.
fn broken(code: &str, message: impl std::fmt::Display) -> Problem {
    let hint = match code {
        "evidence-damaged" => "copy it once more from whoever made it",
        "evidence-signature" => {
            "the server that made it prints its key: `fettle evidence key`; have it told to you by another way"
        }
        _ => {
            "whoever gave you the pack has to explain this; the server's own ledger says what was written"
        }
    };
    let message = format!("the evidence pack does not hold: {message}");
    Problem::new(ProblemKind::BadInput, code, message, hint)
}

fn damaged(why: impl std::fmt::Display) -> Problem {
    broken("evidence-damaged", why)
}

/// Checks all of a pack.
///
/// # Errors
/// `evidence-damaged`, `evidence-signature`, `evidence-files`, `evidence-ledger`, `evidence-rollout`, `evidence-order` or
/// `evidence-transaction`: what does not hold, and where.
pub fn verify(pack: impl Read, key: &str) -> Result<Verified, Problem> {
    let (manifest, files) = read(pack, key)?;
    let mut ledger = ledger(&manifest.ledger, &files)?;
    let mut out = Verified {
        made_at: manifest.made_at,
        from: manifest.from,
        to: manifest.to,
        ledger_entries: manifest.ledger.last - manifest.ledger.after,
        ledger: manifest.ledger,
        rollouts: 0,
        events_in_ledger: 0,
        events_elsewhere: 0,
        orders: 0,
        orders_missing: 0,
        transactions: 0,
        transactions_missing: 0,
        fixed: 0,
    };
    let period = Period { from: manifest.from, to: manifest.to };
    let mut given = Orders::new();
    for (name, told) in all::<Told>(&files, "rollouts/")? {
        let found = rollout(&told, period, &mut ledger, &mut given)
            .map_err(|why| broken("evidence-rollout", format!("{name}: {why}")))?;
        out.events_in_ledger += found;
        out.events_elsewhere += told.events.len() as u64 - found;
        out.rollouts += 1;
    }
    if let Some(((rollout, version), _)) = ledger.pop_first() {
        let why = format!("the ledger has event {version} of {rollout}, which is not told here");
        return Err(broken("evidence-rollout", why));
    }
    for (name, signed) in all::<SignedAssignment>(&files, "orders/")? {
        let wrong = |why: String| broken("evidence-order", format!("{name}: {why}"));
        let order = signed.open(&manifest.order_key).map_err(|e| wrong(e.to_string()))?;
        let known = given.get_mut(&order.id).filter(|it| same_order(&it.order, &order));
        known.ok_or_else(|| wrong(format!("no rollout gave {} so", order.id)))?.signed = true;
        out.orders += 1;
    }
    for (name, kept) in all::<Kept>(&files, "transactions/")? {
        journal(&kept, &mut given)
            .map_err(|why| broken("evidence-transaction", format!("{name}: {why}")))?;
        out.transactions += 1;
    }
    let count = |of: fn(&&Given) -> bool| given.values().filter(of).count() as u64;
    out.orders_missing = count(|it| !it.signed);
    out.transactions_missing = count(|it| it.end.is_some() && !it.told);
    out.fixed = lines::<Gone>("fixed.jsonl", &files)?.len() as u64;
    Ok(out)
}

type Files = BTreeMap<String, Vec<u8>>;

/// Reads no more than what is left, which grows when more is trusted.
struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(into.len());
        if most == 0 && !into.is_empty() {
            return Err(std::io::Error::other("it goes on beyond what its manifest says"));
        }
        let read = self.inner.read(&mut into[..most])?;
        self.left.set(self.left.get() - read as u64);
        Ok(read)
    }
}

/// What a file takes in a tar archive: its header, and its bytes in whole blocks.
fn in_tar(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).saturating_add(1).saturating_mul(BLOCK)
}

/// The files, once signature and hashes have held. Nothing is kept of a file that the manifest does not name.
fn read(pack: impl Read, key: &str) -> Result<(EvidenceManifest, Files), Problem> {
    let left = Rc::new(Cell::new(in_tar(MAX_MANIFEST)));
    let unpacked = Bounded { inner: GzDecoder::new(pack), left: left.clone() };
    let mut tar = tar::Archive::new(unpacked);
    // Raw: headers that would have a reader keep long names in memory are files of an odd kind then, and refused.
    let mut entries = tar.entries().map_err(damaged)?.raw(true);
    let first = entries.next().ok_or_else(|| damaged("it is empty"))?;
    let first = first.map_err(|e| damaged(format!("{MANIFEST}, its first file: {e}")))?;
    if first.path().map_err(damaged)?.to_str() != Some(MANIFEST) {
        return Err(damaged(format!("it does not begin with {MANIFEST}")));
    }
    let signed = taken(MANIFEST, first, MAX_MANIFEST)?;
    let signed: SignedEvidence =
        serde_json::from_slice(&signed).map_err(|e| damaged(format!("{MANIFEST}: {e}")))?;
    let manifest =
        signed.open(key).map_err(|e| broken("evidence-signature", format!("{MANIFEST}: {e}")))?;
    let mut named: BTreeMap<&str, (&Digest, u64)> =
        manifest.files.iter().map(|f| (f.name.as_str(), (&f.sha256, f.bytes))).collect();
    let all = manifest.files.iter().map(|f| in_tar(f.bytes));
    // Two empty blocks end an archive, and writers fill up to twenty.
    left.set(all.fold(20 * BLOCK, u64::saturating_add));
    let mut files = Files::new();
    let mut last = MANIFEST.to_owned();
    for entry in entries {
        // What cannot be read on is the rest of the file before, or the header of the next.
        let entry =
            entry.map_err(|e| damaged(format!("at the end of {last}, or right after it: {e}")))?;
        let name = entry.path().map_err(damaged)?.to_string_lossy().into_owned();
        let Some((sha256, length)) = named.remove(name.as_str()) else {
            let why = format!("{name} is not among the files that were signed, or is there twice");
            return Err(broken("evidence-files", why));
        };
        let bytes = taken(&name, entry, length)?;
        if bytes.len() as u64 != length || Digest::of(&bytes) != *sha256 {
            return Err(broken("evidence-files", format!("{name} is not as it was signed")));
        }
        last.clone_from(&name);
        files.insert(name, bytes);
    }
    if let Some(missing) = named.keys().next() {
        return Err(broken("evidence-files", format!("{missing} was signed and is not there")));
    }
    Ok((manifest, files))
}

fn taken(name: &str, entry: tar::Entry<'_, impl Read>, most: u64) -> Result<Vec<u8>, Problem> {
    plain::take(entry, most).map_err(|why| match why {
        NotTaken::Unreadable(error) => damaged(format!("{name}: {error}")),
        why => broken("evidence-files", format!("{name}: {why}")),
    })
}

fn document<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|e| {
        broken("evidence-files", format!("{name} cannot be read by this version of Fettle: {e}"))
    })
}

fn all<T: DeserializeOwned>(files: &Files, under: &str) -> Result<Vec<(String, T)>, Problem> {
    let of = files.range(under.to_owned()..).take_while(|(name, _)| name.starts_with(under));
    of.map(|(name, bytes)| Ok((name.clone(), document(name, bytes)?))).collect()
}

fn lines<T: DeserializeOwned>(name: &str, files: &Files) -> Result<Vec<T>, Problem> {
    let bytes = files.get(name).map(Vec::as_slice).unwrap_or_default();
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| document(name, line)).collect()
}

/// Events of rollouts as the ledger has them, with their time, by rollout and version.
type InLedger = BTreeMap<(String, u64), (Timestamp, serde_json::Value)>;

fn ledger(part: &LedgerPart, files: &Files) -> Result<InLedger, Problem> {
    let wrong = |why: String| broken("evidence-ledger", format!("{LEDGER}: {why}"));
    let mut verifier = LedgerVerifier::following(part.after, part.previous);
    let mut out = InLedger::new();
    for entry in lines::<LedgerEntry>(LEDGER, files)? {
        verifier.take(&entry).map_err(|e| wrong(e.to_string()))?;
        if entry.kind == "rollout.event"
            && let Some(version) = entry.body.get("version").and_then(serde_json::Value::as_u64)
        {
            let event = entry.body.get("event").cloned().unwrap_or_default();
            out.insert((entry.subject, version), (entry.at, event));
        }
    }
    if verifier.head() != (part.last, part.head) {
        let (last, head) = verifier.head();
        let signed = format!("{} {}", part.last, part.head.short());
        return Err(wrong(format!("it ends at {last} {}, signed was {signed}", head.short())));
    }
    Ok(out)
}

/// An order as the rollout's event gives it, and what became of it.
struct Given {
    order: Assignment,
    end: Option<&'static str>,
    /// The signed order is here.
    signed: bool,
    /// The host's journal of it is here.
    told: bool,
}

type Orders = BTreeMap<AssignmentId, Given>;

/// Goes through a rollout's events. Gives how many of them the ledger has; they are taken out of it.
fn rollout(
    told: &Told,
    period: Period,
    ledger: &mut InLedger,
    given: &mut Orders,
) -> Result<u64, String> {
    let mut state: Option<Rollout> = None;
    let mut found = 0;
    let mut last: BTreeMap<&HostId, AssignmentId> = BTreeMap::new();
    for (version, (at, event)) in (1..).zip(&told.events) {
        let wrong = |why: &dyn std::fmt::Display| format!("event {version}: {why}");
        match &mut state {
            None => state = Some(Rollout::begin(&told.id, *at, event).map_err(|e| wrong(&e))?),
            Some(state) => state.apply(*at, event).map_err(|e| wrong(&e))?,
        }
        match ledger.remove(&(told.id.to_string(), version)) {
            Some((written_at, written)) if written_at == *at && same(&written, event) => found += 1,
            Some(_) => return Err(wrong(&"it is not what the ledger says")),
            None if period.holds(*at) => return Err(wrong(&"the ledger does not have it")),
            None => {}
        }
        let follows = state.as_ref().map(|state| effects(state, *at, event)).unwrap_or_default();
        for effect in follows {
            let Effect::Assign(order) = effect else { continue };
            let is_traffic = matches!(event, RolloutEvent::TrafficAsked { .. });
            if let (false, Some((host, _))) = (is_traffic, told_of(event)) {
                last.insert(host, order.id.clone());
            }
            let it = Given { order: *order, end: None, signed: false, told: false };
            given.insert(it.order.id.clone(), it);
        }
        if let Some((host, Some(end))) = told_of(event) {
            let order = last.get(host).and_then(|id| given.get_mut(id));
            order.ok_or_else(|| wrong(&"a host ended that was given no order"))?.end = Some(end);
        }
    }
    if state.is_none() {
        return Err("it has no events".to_owned());
    }
    Ok(found)
}

/// The host that an event gives an order to, or whose order it ends, with the end.
fn told_of(event: &RolloutEvent) -> Option<(&HostId, Option<&'static str>)> {
    match event {
        RolloutEvent::Granted { host, .. } | RolloutEvent::UndoAsked { host, .. } => {
            Some((host, None))
        }
        RolloutEvent::Ended { host, outcome } => Some((host, Some(outcome.word()))),
        _ => None,
    }
}

/// Does the ledger say the same? The plan stands there by its digest.
fn same(written: &serde_json::Value, event: &RolloutEvent) -> bool {
    match event {
        RolloutEvent::Created { by, plan, principal, approvals } => {
            let told = serde_json::json!({
                "event": "created", "by": by, "principal": principal, "plan": plan.number,
                "digest": plan.digest(), "approvals": approvals,
            });
            told == *written
        }
        other => serde_json::to_value(other).is_ok_and(|it| it == *written),
    }
}

/// The same order to the same host. Not its times, which later versions may count otherwise.
fn same_order(a: &Assignment, b: &Assignment) -> bool {
    (&a.id, &a.host, a.generation, &a.rollout, a.plan)
        == (&b.id, &b.host, b.generation, &b.rollout, b.plan)
        && a.order == b.order
}

/// The host's own record of an order: that very order, folded, with the end that the rollout knows.
fn journal(kept: &Kept, given: &mut Orders) -> Result<(), String> {
    let progress = Progress::fold(&kept.entries).map_err(|e| e.to_string())?;
    let progress = progress.ok_or("the journal is empty")?;
    let order = &progress.assignment;
    let known = given.get_mut(&kept.assignment).ok_or("no rollout gave its order")?;
    if order.host != kept.host || !same_order(order, &known.order) {
        return Err(format!("it carries out another order than {}", kept.assignment));
    }
    let end = progress.outcome.as_ref().map(Outcome::word);
    if known.end.is_some() && known.end != end {
        let (said, known) = (end.unwrap_or("no end"), known.end.unwrap_or_default());
        return Err(format!("the host says {said}, the rollout {known}"));
    }
    known.told = true;
    Ok(())
}
