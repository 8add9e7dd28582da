//! The hash-chained record of every decision and outcome.

use crate::view::{int, to_digest, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::ledger::{BrokenLedger, LedgerEntry, LedgerVerifier};
use fettle_core::{Digest, Timestamp};
use rusqlite::{Row, params};

const COLUMNS: &str = "idx, at, actor, kind, subject, body, previous, hash";

/// Appends an entry; called only when a transaction is sealed.
pub(crate) fn append(
    tx: &mut Tx<'_>,
    kind: &str,
    subject: &str,
    body: serde_json::Value,
) -> Result<(), StoreError> {
    let last =
        tx.one(&format!("SELECT {COLUMNS} FROM ledger ORDER BY idx DESC LIMIT 1"), [], entry)?;
    // The hash must hold for whoever reads the text back: sorted keys, and numbers as they are parsed.
    let text = to_json("ledger body", &sorted(body))?;
    let body = crate::view::from_json("ledger body", &text)?;
    let entry = LedgerEntry::after(last.as_ref(), tx.now(), tx.actor(), kind, subject, body);
    tx.execute_unrecorded(
        "INSERT INTO ledger (idx, at, actor, kind, subject, body, previous, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            int(entry.index),
            entry.at.to_string(),
            entry.actor,
            entry.kind,
            entry.subject,
            text,
            entry.previous.to_string(),
            entry.hash.to_string()
        ],
    )?;
    Ok(())
}

fn sorted(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let ordered: std::collections::BTreeMap<String, Value> = map.into_iter().collect();
            Value::Object(ordered.into_iter().map(|(k, v)| (k, sorted(v))).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn entry(row: &Row<'_>) -> Result<LedgerEntry, StoreError> {
    let at: String = row.get(1)?;
    let body: String = row.get(5)?;
    let broken = |detail: String| StoreError::Document { what: "ledger entry", detail };
    Ok(LedgerEntry {
        index: row.get::<_, i64>(0)? as u64,
        at: at.parse::<Timestamp>().map_err(|e| broken(e.to_string()))?,
        actor: row.get(2)?,
        kind: row.get(3)?,
        subject: row.get(4)?,
        body: serde_json::from_str(&body).map_err(|e| broken(e.to_string()))?,
        previous: to_digest("ledger entry", &row.get::<_, String>(6)?)?,
        hash: to_digest("ledger entry", &row.get::<_, String>(7)?)?,
    })
}

/// Entries after index `after`, oldest first, at most `limit`.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn after(view: &View<'_>, after: u64, limit: u64) -> Result<Vec<LedgerEntry>, StoreError> {
    view.all(
        &format!("SELECT {COLUMNS} FROM ledger WHERE idx > $1 ORDER BY idx LIMIT $2"),
        params![int(after), int(limit)],
        entry,
    )
}

/// The last `limit` entries, newest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn latest(view: &View<'_>, limit: u64) -> Result<Vec<LedgerEntry>, StoreError> {
    view.all(
        &format!("SELECT {COLUMNS} FROM ledger ORDER BY idx DESC LIMIT $1"),
        params![int(limit)],
        entry,
    )
}

/// Entries in which a text stands (who, what, about what, content; in any case), newest first, at most `limit`, of the
/// `depth` entries before index `before`.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn search(
    view: &View<'_>,
    text: &str,
    before: u64,
    depth: u64,
    limit: u64,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let text = text.to_lowercase();
    view.all(
        &format!(
            "SELECT {COLUMNS} FROM ledger WHERE idx < $1 AND idx >= $2 AND (instr(lower(actor), $3) \
             OR instr(lower(kind), $3) OR instr(lower(subject), $3) OR instr(lower(body), $3)) \
             ORDER BY idx DESC LIMIT $4"
        ),
        params![int(before), int(before.saturating_sub(depth)), text, int(limit)],
        entry,
    )
}

/// First and last index of the entries written in a span of time: `from` inclusive, `to` exclusive.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn between(
    view: &View<'_>,
    from: Timestamp,
    to: Timestamp,
) -> Result<Option<(u64, u64)>, StoreError> {
    let mut found: Option<(u64, u64)> = None;
    // Times are kept as they are hashed, as text: they are read, for as text they do not sort.
    view.all("SELECT idx, at FROM ledger ORDER BY idx", [], |row| {
        let (index, at) = (row.get::<_, i64>(0)? as u64, row.get::<_, String>(1)?);
        let at: Timestamp = at.parse().map_err(|e: jiff::Error| StoreError::Document {
            what: "ledger entry",
            detail: e.to_string(),
        })?;
        if from <= at && at < to {
            found = Some((found.map_or(index, |(first, _)| first), index));
        }
        Ok(())
    })?;
    Ok(found)
}

/// How many entries there are.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn len(view: &View<'_>) -> Result<u64, StoreError> {
    view.count("SELECT coalesce(max(idx), 0) FROM ledger", [])
}

/// What a look through the whole ledger found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Entries that hold, from the first on.
    pub entries: u64,
    /// Hash of the last of them.
    pub head: Digest,
    /// The first thing that does not hold.
    pub broken: Option<String>,
}

/// Verifies the whole chain, in pieces, so that its length needs no memory.
///
/// # Errors
/// [`StoreError`] of the database. A ledger that does not hold is no error but an answer.
pub fn verify(view: &View<'_>) -> Result<Verified, StoreError> {
    verify_on(view, LedgerVerifier::default())
}

/// Verifies what came after an entry that was found whole before: that it still stands as it was, and all that follows
/// it. What stands before it is not looked at.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn verify_after(view: &View<'_>, entries: u64, head: Digest) -> Result<Verified, StoreError> {
    let Some(before) = entries.checked_sub(1) else { return verify(view) };
    let stands = match after(view, before, 1) {
        Ok(found) => {
            let found = found.first();
            found
                .is_some_and(|it| it.index == entries && it.hash == head && it.chain_hash() == head)
        }
        Err(StoreError::Document { .. }) => false,
        Err(other) => return Err(other),
    };
    if !stands {
        let broken = match len(view)? {
            len if len < entries => format!("entry {entries} was there and is gone"),
            _ => BrokenLedger::Changed { index: entries }.to_string(),
        };
        return Ok(Verified { entries: before, head, broken: Some(broken) });
    }
    verify_on(view, LedgerVerifier::following(entries, head))
}

fn verify_on(view: &View<'_>, mut verifier: LedgerVerifier) -> Result<Verified, StoreError> {
    const PIECE: u64 = 1000;
    let done = |verifier: &LedgerVerifier, broken: Option<String>| {
        let (entries, head) = verifier.head();
        Ok(Verified { entries, head, broken })
    };
    loop {
        let from = verifier.head().0;
        let piece = match after(view, from, PIECE) {
            Ok(piece) => piece,
            // An entry that cannot even be read was tampered with; say which by reading one by one.
            Err(StoreError::Document { .. }) => {
                let mut position = from;
                loop {
                    match after(view, position, 1) {
                        Ok(one) => match one.first() {
                            Some(entry) => match verifier.take(entry) {
                                Ok(()) => position = entry.index,
                                Err(broken) => return done(&verifier, Some(broken.to_string())),
                            },
                            None => return done(&verifier, None),
                        },
                        Err(StoreError::Document { .. }) => {
                            let broken = BrokenLedger::Changed { index: position + 1 };
                            return done(&verifier, Some(broken.to_string()));
                        }
                        Err(other) => return Err(other),
                    }
                }
            }
            Err(other) => return Err(other),
        };
        for entry in &piece {
            if let Err(broken) = verifier.take(entry) {
                return done(&verifier, Some(broken.to_string()));
            }
        }
        if (piece.len() as u64) < PIECE {
            return done(&verifier, None);
        }
    }
}
