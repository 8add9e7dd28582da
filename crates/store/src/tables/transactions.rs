//! Journals of hosts, as far as reported.

use crate::view::{from_json, int, micros, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::assignment::{Order, transaction_of};
use fettle_core::plan::spent::{Spent, work_key};
use fettle_core::transaction::{Entry, Outcome, TransactionReport, TxEvent};
use fettle_core::{AssignmentId, HostId, TransactionId};
use rusqlite::params;
use serde_json::json;

/// A host's journal of one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal {
    /// The transaction.
    pub id: TransactionId,
    /// The assignment it carries out.
    pub assignment: AssignmentId,
    /// Its records.
    pub entries: Vec<Entry>,
}

/// Keeps the records of a report that are new and without a gap; gives the first sequence number that is not
/// here yet, and whether anything was new. What is here already is not written again, whatever it says.
///
/// # Errors
/// [`StoreError::Conflict`] when the transaction was reported before under another assignment.
pub fn report(
    tx: &mut Tx<'_>,
    host: &HostId,
    report: &TransactionReport,
) -> Result<(u64, Vec<Entry>), StoreError> {
    let key = params![host.as_str(), report.id.as_str()];
    let known: Option<(String, i64)> = tx.one(
        "SELECT assignment, next FROM transactions WHERE host = $1 AND id = $2",
        key,
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let from = match &known {
        Some((assignment, _)) if assignment != report.assignment.as_str() => {
            return Err(StoreError::Conflict(format!(
                "transaction {} carries out {assignment}, not {}",
                report.id, report.assignment
            )));
        }
        Some((_, next)) => *next as u64,
        None => 0,
    };
    let mut next = from;
    let mut new = Vec::new();
    for entry in &report.entries {
        if entry.sequence == next {
            new.push(entry.clone());
            next += 1;
        }
    }
    if new.is_empty() {
        return Ok((next, new));
    }
    let now = micros(tx.now());
    tx.execute(
        "INSERT INTO transactions (host, id, assignment, generation, next, begun_at) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (host, id) DO UPDATE SET next = excluded.next",
        params![
            host.as_str(),
            report.id.as_str(),
            report.assignment.as_str(),
            int(report.generation),
            int(next),
            now
        ],
    )?;
    for entry in &new {
        let text = to_json("journal entry", entry)?;
        tx.execute(
            "INSERT INTO transaction_entries (host, id, sequence, entry) VALUES ($1, $2, $3, $4)",
            params![host.as_str(), report.id.as_str(), int(entry.sequence), text],
        )?;
    }
    let digest = fettle_core::Digest::of_json(&new);
    tx.record(
        "transaction.reported",
        report.id.as_str(),
        json!({ "host": host, "from": from, "to": next - 1, "entries": digest }),
    );
    Ok((next, new))
}

/// Does it carry out an order of this server? An order has one transaction, by its own name; whatever else a host tells of
/// is its own.
pub fn is_ordered(report: &TransactionReport, known: bool) -> bool {
    known && report.id == transaction_of(&report.assignment)
}

/// How much is kept of a transaction, in bytes.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn bytes(view: &View<'_>, host: &HostId, id: &TransactionId) -> Result<u64, StoreError> {
    view.count(
        "SELECT coalesce(sum(octet_length(entry)), 0) FROM transaction_entries WHERE host = $1 AND id = $2",
        params![host.as_str(), id.as_str()],
    )
}

/// How much is kept of what a host tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Transactions.
    pub transactions: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

/// Forgets, of the transactions of a host that nobody here ordered, the oldest beyond `room`. Those that stay are the newest
/// ones that fit together. The ledger says how many went.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn forget_foreign(tx: &mut Tx<'_>, host: &HostId, room: &Room) -> Result<(), StoreError> {
    let foreign = tx.all(
        "SELECT t.id, (SELECT coalesce(sum(octet_length(e.entry)), 0) FROM transaction_entries AS e \
                       WHERE e.host = t.host AND e.id = t.id) \
         FROM transactions AS t LEFT JOIN assignments AS a ON a.id = t.assignment \
         WHERE t.host = $1 AND (a.id IS NULL OR t.id <> 'tx-' || replace(a.id, '/', '-')) \
         ORDER BY t.begun_at DESC, t.rowid DESC",
        [host.as_str()],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)? as u64)),
    )?;
    let (mut kept, mut gone) = (Room { transactions: 0, bytes: 0 }, Vec::new());
    for (id, bytes) in foreign {
        kept = Room { transactions: kept.transactions + 1, bytes: kept.bytes + bytes };
        if kept.transactions > room.transactions || kept.bytes > room.bytes {
            gone.push((id, bytes));
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    for (id, _) in &gone {
        tx.execute(
            "DELETE FROM transactions WHERE host = $1 AND id = $2",
            params![host.as_str(), id],
        )?;
    }
    let bytes: u64 = gone.iter().map(|(_, bytes)| bytes).sum();
    let body = json!({ "transactions": gone.len(), "bytes": bytes, "last": gone[0].0 });
    tx.record("transaction.forgotten", host.as_str(), body);
    Ok(())
}

/// The journals of a host, newest first, at most `limit`.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of_host(view: &View<'_>, host: &HostId, limit: u64) -> Result<Vec<Journal>, StoreError> {
    let ids = view.all(
        "SELECT id, assignment FROM transactions WHERE host = $1 ORDER BY begun_at DESC, id DESC LIMIT $2",
        params![host.as_str(), int(limit)],
        |row| Ok((TransactionId(row.get(0)?), AssignmentId(row.get(1)?))),
    )?;
    ids.into_iter().map(|(id, assignment)| journal(view, host, id, assignment)).collect()
}

/// The journal of an assignment.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of_assignment(
    view: &View<'_>,
    host: &HostId,
    id: &AssignmentId,
) -> Result<Option<Journal>, StoreError> {
    view.one(
        "SELECT id FROM transactions WHERE host = $1 AND assignment = $2 ORDER BY begun_at DESC LIMIT 1",
        params![host.as_str(), id.as_str()],
        |row| Ok(TransactionId(row.get(0)?)),
    )?
    .map(|tx| journal(view, host, tx, id.clone()))
    .transpose()
}

/// How long the latest changes that ended well took, at most `limit` of the latest transactions looked at.
///
/// # Errors
/// [`StoreError`] of the database, or of a record that cannot be read.
pub fn spent(view: &View<'_>, limit: u64) -> Result<Vec<Spent>, StoreError> {
    let rows = view.all(
        "SELECT begun.entry, last.entry FROM transactions AS t \
         JOIN transaction_entries AS begun ON begun.host = t.host AND begun.id = t.id AND begun.sequence = 0 \
         JOIN transaction_entries AS last ON last.host = t.host AND last.id = t.id AND last.sequence = t.next - 1 \
         ORDER BY t.begun_at DESC, t.id DESC LIMIT $1",
        [int(limit)],
        |row| {
            let entry = |text: String| from_json::<Entry>("journal entry", &text);
            Ok((entry(row.get(0)?)?, entry(row.get(1)?)?))
        },
    )?;
    let of = |(begun, last): (Entry, Entry)| {
        let TxEvent::Begun { assignment } = begun.event else { return None };
        let Order::Apply(order) = assignment.order else { return None };
        let well = matches!(last.event, TxEvent::Ended { outcome: Outcome::Patched });
        let seconds = u64::try_from(last.at.duration_since(begun.at).as_secs()).ok()?;
        let (packages, work) = (order.changes.len() as u64, work_key(&order.changes));
        well.then_some(Spent { seconds, packages, work })
    };
    Ok(rows.into_iter().filter_map(of).collect())
}

fn journal(
    view: &View<'_>,
    host: &HostId,
    id: TransactionId,
    assignment: AssignmentId,
) -> Result<Journal, StoreError> {
    let entries = view.all(
        "SELECT entry FROM transaction_entries WHERE host = $1 AND id = $2 ORDER BY sequence",
        params![host.as_str(), id.as_str()],
        |row| from_json("journal entry", &row.get::<_, String>(0)?),
    )?;
    Ok(Journal { id, assignment, entries })
}
