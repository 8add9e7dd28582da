//! Evidence packs: what happened in a period, for somebody who does not trust this server's word and has no access to it.
//!
//! A gzip-compressed tar archive: first the signed manifest, then what it names. What a pack says can be checked offline,
//! with the server's public key and nothing else ([`verify`]).
//!
//! | file | what |
//! |---|---|
//! | `manifest.json` | the list of files with their hashes, the part of the ledger, signed |
//! | `report.json`, `report.html` | the report of the period |
//! | `ledger.jsonl` | the entries of the ledger, one a line, without gaps |
//! | `rollouts/ID.json` | every event of each rollout that was under way in the period; the first holds the plan |
//! | `orders/ID.json` | the signed orders that those rollouts gave |
//! | `transactions/ID.json` | what the host's journal says of the order |
//! | `fixed.jsonl` | findings that were proved gone in the period |

mod pack;
pub mod verify;

pub(crate) use pack::{export, own_key};

use fettle_core::finding::Severity;
use fettle_core::rollout::RolloutEvent;
use fettle_core::transaction::Entry;
use fettle_core::{AssignmentId, HostId, RolloutId, Timestamp, TransactionId};
use serde::{Deserialize, Serialize};

/// Name of the manifest in a pack.
const MANIFEST: &str = "manifest.json";
/// Name of the part of the ledger.
const LEDGER: &str = "ledger.jsonl";

/// A rollout with all of its events.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    id: RolloutId,
    events: Vec<(Timestamp, RolloutEvent)>,
}

/// What a host's journal says.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    host: HostId,
    id: TransactionId,
    assignment: AssignmentId,
    entries: Vec<Entry>,
}

/// A finding that was proved gone.
#[derive(Debug, Serialize, Deserialize)]
struct Gone {
    host: String,
    id: String,
    source: String,
    severity: Severity,
    first_seen: Timestamp,
    deadline: Option<Timestamp>,
    fixed_at: Timestamp,
}
