//! Checking a pack, offline: a function of its bytes and of the key that is trusted.
//!
//! What is checked, in this order; the first thing that does not hold is named:
//! 1. the manifest's signature, by the trusted key;
//! 2. every file it names is there with that hash, and no other file is;
//! 3. the part of the ledger is one chain, from the entry before it to the head that was signed;
//! 4. each rollout's events follow from one another by the very rules that the server decides by, and those that fell into
//!    the part of the ledger stand there with the same words;
//! 5. each order is signed by the server's order key, and belongs to the rollout that it is filed under;
//! 6. each host's journal folds, and says the same end as the rollout.

use super::{Gone, Kept, LEDGER, MANIFEST, Told};
use fettle_core::ledger::{LedgerEntry, LedgerVerifier};
use fettle_core::rollout::{Rollout, RolloutEvent};
use fettle_core::transaction::{Outcome, Progress};
use fettle_core::{AssignmentId, Digest, HostId, Problem, ProblemKind, RolloutId, Timestamp};
use fettle_wire::evidence::{EvidenceManifest, LedgerPart, SignedEvidence};
use fettle_wire::sign::SignedAssignment;
use flate2::read::GzDecoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::Read;

/// Largest manifest, in bytes: a million files.
const MAX_MANIFEST: u64 = 256 << 20;

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
    /// Rollouts whose events follow from one another.
    pub rollouts: u64,
    /// Events of rollouts that stand in the ledger with the same words.
    pub events_in_ledger: u64,
    /// Orders whose signature holds.
    pub orders: u64,
    /// Journals of hosts that fold and agree with their rollout.
    pub transactions: u64,
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
    let ledger = ledger(&manifest.ledger, &files)?;
    let mut out = Verified {
        made_at: manifest.made_at,
        from: manifest.from,
        to: manifest.to,
        ledger_entries: manifest.ledger.last - manifest.ledger.after,
        ledger: manifest.ledger,
        rollouts: 0,
        events_in_ledger: 0,
        orders: 0,
        transactions: 0,
        fixed: 0,
    };
    let mut ends: BTreeMap<AssignmentId, Given> = BTreeMap::new();
    for (name, told) in all::<Told>(&files, "rollouts/")? {
        out.events_in_ledger += rollout(&told, &ledger, &mut ends)
            .map_err(|why| broken("evidence-rollout", format!("{name}: {why}")))?;
        out.rollouts += 1;
    }
    for (name, signed) in all::<SignedAssignment>(&files, "orders/")? {
        let wrong = |why: String| broken("evidence-order", format!("{name}: {why}"));
        let order = signed.open(&manifest.order_key).map_err(|e| wrong(e.to_string()))?;
        let given = ends.get(&order.id);
        if given.is_none_or(|it| it.rollout != order.rollout || it.host != order.host) {
            return Err(wrong(format!("no rollout gave {} to {}", order.id, order.host)));
        }
        out.orders += 1;
    }
    for (name, kept) in all::<Kept>(&files, "transactions/")? {
        journal(&kept, &ends)
            .map_err(|why| broken("evidence-transaction", format!("{name}: {why}")))?;
        out.transactions += 1;
    }
    out.fixed = lines::<Gone>("fixed.jsonl", &files)?.len() as u64;
    Ok(out)
}

type Files = BTreeMap<String, Vec<u8>>;

/// The files, once signature and hashes have held. Nothing is kept of a file that the manifest does not name.
fn read(pack: impl Read, key: &str) -> Result<(EvidenceManifest, Files), Problem> {
    let mut tar = tar::Archive::new(GzDecoder::new(pack));
    let mut entries = tar.entries().map_err(damaged)?;
    let mut first = entries.next().ok_or_else(|| damaged("it is empty"))?.map_err(damaged)?;
    if first.path().map_err(damaged)?.to_str() != Some(MANIFEST) {
        return Err(damaged(format!("it does not begin with {MANIFEST}")));
    }
    let mut signed = Vec::new();
    first.by_ref().take(MAX_MANIFEST).read_to_end(&mut signed).map_err(damaged)?;
    let signed: SignedEvidence = serde_json::from_slice(&signed).map_err(damaged)?;
    let manifest = signed.open(key).map_err(|e| broken("evidence-signature", e))?;
    let mut named: BTreeMap<&str, (&Digest, u64)> =
        manifest.files.iter().map(|f| (f.name.as_str(), (&f.sha256, f.bytes))).collect();
    let mut files = Files::new();
    for entry in entries {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.to_string_lossy().into_owned();
        let wrong = |why: &str| broken("evidence-files", format!("{name} {why}"));
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(wrong("is no plain file"));
        }
        let Some((sha256, length)) = named.remove(name.as_str()) else {
            return Err(wrong("is not among the files that were signed, or is there twice"));
        };
        let mut bytes = Vec::new();
        entry.by_ref().take(length.saturating_add(1)).read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 != length || Digest::of(&bytes) != *sha256 {
            return Err(wrong("is not as it was signed"));
        }
        files.insert(name, bytes);
    }
    if let Some(missing) = named.keys().next() {
        return Err(broken("evidence-files", format!("{missing} was signed and is not there")));
    }
    Ok((manifest, files))
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

/// Events of rollouts as the ledger has them, by rollout and version.
type InLedger = BTreeMap<(String, u64), serde_json::Value>;

fn ledger(part: &LedgerPart, files: &Files) -> Result<InLedger, Problem> {
    let wrong = |why: String| broken("evidence-ledger", why);
    let mut verifier = LedgerVerifier::following(part.after, part.previous);
    let mut out = InLedger::new();
    for entry in lines::<LedgerEntry>(LEDGER, files)? {
        verifier.take(&entry).map_err(|e| wrong(e.to_string()))?;
        if entry.kind == "rollout.event"
            && let Some(version) = entry.body.get("version").and_then(serde_json::Value::as_u64)
        {
            let event = entry.body.get("event").cloned().unwrap_or_default();
            out.insert((entry.subject, version), event);
        }
    }
    if verifier.head() != (part.last, part.head) {
        let (last, head) = verifier.head();
        let signed = format!("{} {}", part.last, part.head.short());
        return Err(wrong(format!("it ends at {last} {}, signed was {signed}", head.short())));
    }
    Ok(out)
}

/// To whom an order was given, and what became of the host.
struct Given {
    rollout: RolloutId,
    host: HostId,
    end: Option<&'static str>,
}

/// Goes through a rollout's events by the server's own rules. Gives how many of them the ledger has.
fn rollout(
    told: &Told,
    ledger: &InLedger,
    ends: &mut BTreeMap<AssignmentId, Given>,
) -> Result<u64, String> {
    let Some(((at, first), rest)) = told.events.split_first() else {
        return Err("it has no events".to_owned());
    };
    let mut state = Rollout::begin(&told.id, *at, first).map_err(|e| e.to_string())?;
    for (at, event) in rest {
        state.apply(*at, event).map_err(|e| format!("event {}: {e}", state.version + 1))?;
    }
    let mut found = 0;
    let mut last: BTreeMap<&HostId, &AssignmentId> = BTreeMap::new();
    for (version, (_, event)) in (1..).zip(&told.events) {
        if let Some(written) = ledger.get(&(told.id.to_string(), version)) {
            if !same(written, event) {
                return Err(format!("event {version} is not what the ledger says"));
            }
            found += 1;
        }
        match event {
            RolloutEvent::Granted { host, assignment, .. }
            | RolloutEvent::UndoAsked { host, assignment, .. }
            | RolloutEvent::TrafficAsked { host, assignment, .. } => {
                let (rollout, host) = (told.id.clone(), host.clone());
                ends.insert(assignment.clone(), Given { rollout, host, end: None });
            }
            _ => {}
        }
        match event {
            RolloutEvent::Granted { host, assignment, .. }
            | RolloutEvent::UndoAsked { host, assignment, .. } => {
                last.insert(host, assignment);
            }
            RolloutEvent::Ended { host, outcome } => {
                let given = last.get(host).and_then(|id| ends.get_mut(*id));
                given.ok_or("a host ended that was given no order")?.end = Some(outcome.word());
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Does the ledger say the same? The plan stands there by its digest.
fn same(written: &serde_json::Value, event: &RolloutEvent) -> bool {
    match event {
        RolloutEvent::Created { by, plan, principal, .. } => {
            let has = |key: &str, value: serde_json::Value| written.get(key) == Some(&value);
            has("by", by.clone().into())
                && has("principal", principal.clone().into())
                && has("plan", plan.number.into())
                && has("digest", plan.digest().to_string().into())
        }
        other => serde_json::to_value(other).is_ok_and(|it| it == *written),
    }
}

/// The host's own record of an order: it must fold, and its end must be the one that the rollout knows.
fn journal(kept: &Kept, ends: &BTreeMap<AssignmentId, Given>) -> Result<(), String> {
    let progress = Progress::fold(&kept.entries).map_err(|e| e.to_string())?;
    let progress = progress.ok_or("the journal is empty")?;
    let order = &progress.assignment;
    if order.id != kept.assignment || order.host != kept.host {
        return Err(format!("it carries out {} of {}", order.id, order.host));
    }
    let given = ends.get(&kept.assignment).ok_or("no rollout gave its order")?;
    let end = progress.outcome.as_ref().map(Outcome::word);
    match (given.end, end) {
        (Some(known), Some(said)) if known != said => {
            Err(format!("the host says {said}, the rollout {known}"))
        }
        _ => Ok(()),
    }
}
