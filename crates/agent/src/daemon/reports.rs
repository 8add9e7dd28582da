//! Journal records that the server has not acknowledged. Sending one twice is harmless; losing one is not, so a
//! record counts as sent only once the server says that it is in its database.

use crate::settings::Settings;
use crate::{durable, journal};
use fettle_core::TransactionId;
use fettle_core::transaction::{TransactionReport, TxEvent};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file beside the journal that says how far the server is.
const ACKNOWLEDGED: &str = "acknowledged";
/// Name of the file that says which time of the server the acknowledgements are of.
const EPOCH: &str = "epoch";
/// Transactions of which records may be sent in one check-in; the rest follows with the next.
const AT_ONCE: usize = 8;

/// What there is to report, oldest transaction first. Transactions that were started on the host itself are its own.
pub(super) fn unacknowledged(settings: &Settings) -> Vec<TransactionReport> {
    let Ok(found) = std::fs::read_dir(settings.transactions_dir()) else { return Vec::new() };
    let mut directories: Vec<_> = found.flatten().map(|e| e.path()).collect();
    directories.sort();
    directories.iter().filter_map(|d| report(d)).take(AT_ONCE).collect()
}

fn report(directory: &Path) -> Option<TransactionReport> {
    let sent = acknowledged(directory);
    // A journal that has not grown since is not even parsed.
    let length = std::fs::metadata(directory.join("journal")).ok()?.len();
    if sent.is_some_and(|(_, at_length)| at_length == length) {
        return None;
    }
    let entries = journal::read(directory).ok()?.entries;
    let TxEvent::Begun { assignment } = &entries.first()?.event else { return None };
    if assignment.rollout.as_str() == crate::cli::LOCAL {
        return None;
    }
    let (id, generation, plan, name) =
        (assignment.transaction(), assignment.generation, assignment.plan, assignment.id.clone());
    let from = sent.map_or(0, |(sequence, _)| sequence);
    let entries: Vec<_> = entries.into_iter().filter(|e| e.sequence >= from).collect();
    if entries.is_empty() {
        return None;
    }
    Some(TransactionReport { id, assignment: name, generation, plan, entries })
}

/// Forgets what was acknowledged when the server names another time than before: it was restored from a backup. A crash
/// in the middle makes this run again.
pub(super) fn keep_step(settings: &Settings, epoch: Option<&str>) -> std::io::Result<()> {
    let Some(epoch) = epoch else { return Ok(()) };
    let file = settings.state_dir.join(EPOCH);
    let known = std::fs::read_to_string(&file).ok();
    if known.as_deref() == Some(epoch) {
        return Ok(());
    }
    // The first it ever heard is no other.
    if known.is_some() {
        for entry in std::fs::read_dir(settings.transactions_dir()).into_iter().flatten().flatten()
        {
            durable::remove(&entry.path().join(ACKNOWLEDGED))?;
        }
    }
    durable::replace(&file, epoch.as_bytes())
}

/// Keeps how far the server is. Not durable: after a crash some records are sent again.
pub(super) fn acknowledge(settings: &Settings, acknowledged: &BTreeMap<TransactionId, u64>) {
    for (id, next) in acknowledged {
        let directory = settings.transactions_dir().join(id.as_str());
        let Ok(contents) = journal::read(&directory) else { continue };
        let whole = contents.entries.last().is_some_and(|e| e.sequence < *next);
        let length = std::fs::metadata(directory.join("journal")).map_or(0, |m| m.len());
        // Only a journal that was sent whole may be skipped by its length.
        let text = format!("{next} {}", if whole { length } else { 0 });
        if let Err(error) = durable::replace(&directory.join(ACKNOWLEDGED), text.as_bytes()) {
            eprintln!("<4>{}: {error}: records will be sent again", directory.display());
        }
    }
}

fn acknowledged(directory: &Path) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(directory.join(ACKNOWLEDGED)).ok()?;
    let (next, length) = text.split_once(' ')?;
    Some((next.parse().ok()?, length.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_another_time_hears_everything_again() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { state_dir: dir.path().to_owned(), ..Settings::default() };
        let transaction = settings.transactions_dir().join("tx-ro-1-h-1-1");
        std::fs::create_dir_all(&transaction).unwrap();
        std::fs::write(transaction.join(ACKNOWLEDGED), "7 420").unwrap();
        let is_kept = |epoch| {
            keep_step(&settings, epoch).unwrap();
            acknowledged(&transaction) == Some((7, 420))
        };
        for epoch in [None, Some("first"), Some("first"), None] {
            assert!(is_kept(epoch), "{epoch:?}: nothing was restored");
        }
        assert!(!is_kept(Some("second")));
        std::fs::write(transaction.join(ACKNOWLEDGED), "7 420").unwrap();
        assert!(is_kept(Some("second")), "once");
    }
}
