//! The ledger: an append-only, hash-chained record of every decision and outcome.
//!
//! Each entry's hash covers the hash before it, so that an edited, deleted, inserted or reordered entry
//! is found by anyone who has the entries, offline.

use crate::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// 1, 2, 3, ... without gaps.
    pub index: u64,
    /// When the server wrote it.
    pub at: Timestamp,
    /// Who: `operator:alice`, `host:web-1`, `server`.
    pub actor: String,
    /// What sort of thing: `host.enrolled`, `policy.applied`, `rollout.event`, ...
    pub kind: String,
    /// About what: a host id, a rollout id, a policy name.
    pub subject: String,
    /// The content, as JSON.
    pub body: serde_json::Value,
    /// Hash of the entry before; 32 zero bytes for the first.
    pub previous: Digest,
    /// Hash of this entry: [`LedgerEntry::chain_hash`].
    pub hash: Digest,
}

/// The hash before the first entry.
pub const GENESIS: Digest = Digest([0; 32]);

impl LedgerEntry {
    /// Makes the entry that follows `previous`.
    pub fn after(
        previous: Option<&LedgerEntry>,
        at: Timestamp,
        actor: &str,
        kind: &str,
        subject: &str,
        body: serde_json::Value,
    ) -> Self {
        let mut entry = Self {
            index: previous.map_or(1, |p| p.index + 1),
            at,
            actor: actor.to_owned(),
            kind: kind.to_owned(),
            subject: subject.to_owned(),
            body,
            previous: previous.map_or(GENESIS, |p| p.hash),
            hash: GENESIS,
        };
        entry.hash = entry.chain_hash();
        entry
    }

    /// SHA-256 over the JSON array `[index, at, actor, kind, subject, body, previous]`.
    pub fn chain_hash(&self) -> Digest {
        Digest::of_json(&(
            self.index,
            self.at,
            &self.actor,
            &self.kind,
            &self.subject,
            &self.body,
            self.previous,
        ))
    }
}

/// Where a ledger does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenLedger {
    /// An index is missing, doubled or out of order.
    #[error("entry {expected} is missing: found {found} in its place")]
    Gap {
        /// The index that should stand here.
        expected: u64,
        /// The index that stands here.
        found: u64,
    },
    /// An entry's content does not give its hash.
    #[error("entry {index} was changed after it was written")]
    Changed {
        /// Which entry.
        index: u64,
    },
    /// An entry does not name the hash of the one before.
    #[error("entry {index} does not follow the entry before it")]
    Fork {
        /// Which entry.
        index: u64,
    },
}

/// Verifies entries one by one, in order, so that a ledger of any length needs no memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerVerifier {
    next: u64,
    previous: Digest,
}

impl Default for LedgerVerifier {
    fn default() -> Self {
        Self { next: 1, previous: GENESIS }
    }
}

impl LedgerVerifier {
    /// For a part of a ledger: what follows the entry with this index and hash.
    pub fn following(index: u64, hash: Digest) -> Self {
        Self { next: index.saturating_add(1), previous: hash }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`BrokenLedger`] names the first entry that does not hold.
    pub fn take(&mut self, entry: &LedgerEntry) -> Result<(), BrokenLedger> {
        if entry.index != self.next {
            return Err(BrokenLedger::Gap { expected: self.next, found: entry.index });
        }
        if entry.previous != self.previous {
            return Err(BrokenLedger::Fork { index: entry.index });
        }
        if entry.chain_hash() != entry.hash {
            return Err(BrokenLedger::Changed { index: entry.index });
        }
        self.next += 1;
        self.previous = entry.hash;
        Ok(())
    }

    /// How many entries held so far, and the hash of the last: what a witness keeps.
    pub fn head(&self) -> (u64, Digest) {
        (self.next - 1, self.previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ledger(n: u64) -> Vec<LedgerEntry> {
        let mut all: Vec<LedgerEntry> = Vec::new();
        for i in 0..n {
            let at = Timestamp::from_second(1_700_000_000 + i as i64).unwrap();
            all.push(LedgerEntry::after(all.last(), at, "server", "test", "x", json!({ "n": i })));
        }
        all
    }

    fn verify(entries: &[LedgerEntry]) -> Result<(), BrokenLedger> {
        let mut v = LedgerVerifier::default();
        entries.iter().try_for_each(|e| v.take(e))
    }

    #[test]
    fn a_ledger_as_written_holds_also_after_a_trip_through_json() {
        let entries = ledger(5);
        let text = serde_json::to_string(&entries).unwrap();
        let back: Vec<LedgerEntry> = serde_json::from_str(&text).unwrap();
        assert_eq!(verify(&back), Ok(()));
    }

    #[test]
    fn every_edit_deletion_insertion_and_swap_is_found_at_its_place() {
        let good = ledger(5);
        let mut edited = good.clone();
        edited[2].body = json!({ "n": 99 });
        assert_eq!(verify(&edited), Err(BrokenLedger::Changed { index: 3 }));
        let mut deleted = good.clone();
        deleted.remove(2);
        assert_eq!(verify(&deleted), Err(BrokenLedger::Gap { expected: 3, found: 4 }));
        let mut swapped = good.clone();
        swapped.swap(1, 2);
        assert_eq!(verify(&swapped), Err(BrokenLedger::Gap { expected: 2, found: 3 }));
        let mut rewritten = good.clone();
        rewritten[2].body = json!({ "n": 99 });
        rewritten[2].hash = rewritten[2].chain_hash();
        assert_eq!(verify(&rewritten), Err(BrokenLedger::Fork { index: 4 }));
    }
}
