//! What this host did: status, history, show.

use super::{Words, usage};
use crate::journal::JournalError;
use crate::settings::Settings;
use crate::{identity, journal, orders};
use fettle_core::transaction::{Outcome, Progress};
use fettle_core::{Problem, ProblemKind, TransactionId};
use serde::Serialize;
use serde_json::json;
use std::io::ErrorKind;
use std::path::Path;

/// A transaction whose journal does not say what became of it.
#[derive(Debug, Serialize)]
struct Lost {
    transaction: String,
    why: String,
}

/// Every transaction of this host whose journal reads, oldest first.
pub(super) fn transactions(settings: &Settings) -> Result<Vec<Progress>, Problem> {
    Ok(all(settings)?.0)
}

/// One transaction, if its journal reads.
pub(super) fn transaction(settings: &Settings, id: &TransactionId) -> Option<Progress> {
    told(&settings.transactions_dir().join(id.as_str())).ok().flatten()
}

/// Every transaction of this host, oldest first, and those that cannot be told: one bad journal hides no other.
fn all(settings: &Settings) -> Result<(Vec<Progress>, Vec<Lost>), Problem> {
    let found = match std::fs::read_dir(settings.transactions_dir()) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => {
            let kind = ProblemKind::Environment;
            return Err(Problem::new(kind, "journal-unreadable", error, "run as root"));
        }
    };
    let (mut all, mut lost) = (Vec::new(), Vec::new());
    for entry in found.flatten() {
        match told(&entry.path()) {
            Ok(progress) => all.extend(progress),
            Err(why) => lost
                .push(Lost { transaction: entry.file_name().to_string_lossy().into_owned(), why }),
        }
    }
    all.sort_by_key(|p| p.begun_at);
    lost.sort_by(|a, b| a.transaction.cmp(&b.transaction));
    Ok((all, lost))
}

/// What a transaction's journal says. `None`: it was created and nothing was begun.
fn told(directory: &Path) -> Result<Option<Progress>, String> {
    let contents = match journal::read(directory) {
        Err(JournalError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Ok(None);
        }
        read => read.map_err(|e| e.to_string())?,
    };
    let progress = Progress::fold(&contents.entries).map_err(|e| e.to_string())?;
    match (&progress, contents.damage) {
        (None, Some(damage)) => Err(format!(
            "its journal does not read from its beginning on; {} records after byte {} do",
            damage.after.len(),
            damage.offset
        )),
        _ => Ok(progress),
    }
}

/// `history`.
pub(super) fn history(settings: &Settings, json: bool) -> Result<(), Problem> {
    let all = transactions(settings)?;
    if json {
        out!("{}", serde_json::to_string_pretty(&all).unwrap_or_default());
        return Ok(());
    }
    for p in &all {
        out!("{}  {}  {}", p.begun_at.strftime("%F %T"), end(p), p.id);
    }
    out!(
        "{}",
        if all.is_empty() {
            "nothing was ever changed by Fettle here"
        } else {
            "→ fettle-agent show TRANSACTION"
        }
    );
    Ok(())
}

fn end(progress: &Progress) -> &'static str {
    progress.outcome.as_ref().map_or("interrupted", Outcome::word)
}

/// `show TRANSACTION`.
pub(super) fn show(settings: &Settings, words: Words) -> Result<(), Problem> {
    let json = words.json;
    let name = words
        .at_most_one("transaction")?
        .ok_or_else(|| usage("show wants a transaction".into()))?;
    let progress =
        transactions(settings)?.into_iter().find(|p| p.id.as_str() == name).ok_or_else(|| {
            Problem::new(
                ProblemKind::NotFound,
                "transaction-unknown",
                format!("there is no transaction {name}"),
                "fettle-agent history",
            )
        })?;
    if json {
        out!("{}", serde_json::to_string_pretty(&progress).unwrap_or_default());
        return Ok(());
    }
    out!("{}  {}  begun {}", progress.id, end(&progress), progress.begun_at.strftime("%F %T %Z"));
    for (step, facts) in &progress.finished {
        out!("  {:<10} {:>8.1} s", step.word(), facts.milliseconds as f64 / 1000.0);
        for note in &facts.notes {
            out!("             {note}");
        }
    }
    if let Some((step, fault)) = &progress.failed {
        out!("  {:<10} failed: {}\n             → {}", step.word(), fault.message, fault.hint);
    }
    if let Some((reason, facts)) = &progress.undo {
        out!("  undone because {reason}");
        for facts in facts.iter() {
            out!(
                "             {} files restored, {} differ, {} kept",
                facts.files_restored,
                facts.differing.len(),
                facts.kept.len()
            );
        }
    }
    Ok(())
}

/// Transactions that have not ended well: id, and whether it is in quarantine (else it was interrupted); and those whose
/// journals cannot be read.
pub(super) fn at_rest(settings: &Settings) -> (Vec<(String, bool)>, Vec<String>) {
    let Ok((all, lost)) = all(settings) else { return (Vec::new(), Vec::new()) };
    let stuck = all.iter().filter_map(|p| match &p.outcome {
        None => Some((p.id.to_string(), false)),
        Some(Outcome::Quarantined { .. }) => Some((p.id.to_string(), true)),
        Some(_) => None,
    });
    (stuck.collect(), lost.into_iter().map(|l| l.transaction).collect())
}

/// `status`.
pub(super) fn status(settings: &Settings, json: bool) -> Result<(), Problem> {
    let identity = identity::load(settings)?;
    let (all, lost) = all(settings)?;
    let ledger = orders::read_ledger(settings).unwrap_or_default();
    let last = all.last();
    let stuck: Vec<&Progress> = all
        .iter()
        .filter(|p| matches!(p.outcome, None | Some(Outcome::Quarantined { .. })))
        .collect();
    let now = crate::transaction::progress::current(settings);
    if json {
        let value = json!({
            "host": identity.as_ref().map(|i| &i.host),
            "server": identity.as_ref().map(|i| &i.server),
            "generation": ledger.generation,
            "transactions": all.len(),
            "last": last,
            "needs_attention": stuck,
            "unreadable": lost,
            "now": now,
        });
        out!("{value:#}");
        return Ok(());
    }
    match &identity {
        Some(identity) => out!("host {} of {}", identity.host, identity.server),
        None => out!("not enrolled: this host is on its own"),
    }
    out!(
        "{} transactions; the last: {}",
        all.len(),
        last.map_or("none".into(), |p| format!("{} {}", p.id, end(p)))
    );
    if let Some(now) = now {
        out!("now: {:.0} %  {}", now.percent, now.what);
    }
    for p in &stuck {
        match &p.outcome {
            Some(Outcome::Quarantined { reason }) => out!("QUARANTINED by {}: {reason}", p.id),
            _ => out!("interrupted: {}\n→ fettle-agent resume", p.id),
        }
    }
    for Lost { transaction, why } in &lost {
        out!("UNREADABLE {transaction}: {why}");
    }
    if !lost.is_empty() {
        out!(
            "→ fettle-agent resume takes up what its kept order still tells; else look at {}",
            settings.transactions_dir().display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_journal_that_cannot_be_read_is_told_and_hides_no_other() {
        let state = tempfile::tempdir().unwrap();
        let settings = Settings { state_dir: state.path().to_owned(), ..Settings::default() };
        let write = |name: &str, text: Option<&[u8]>| {
            let directory = settings.transactions_dir().join(name);
            std::fs::create_dir_all(&directory).unwrap();
            if let Some(text) = text {
                std::fs::write(directory.join("journal"), text).unwrap();
            }
        };
        write("tx-1-of-a-newer-agent", Some(b"fettle-journal 7\n"));
        write("tx-2-garbage", Some(b"fettle-journal 1\n0000 {}\nnothing\n0000 {}\n"));
        write("tx-3-torn-at-its-creation", Some(b"fettle-jo"));
        write("tx-4-without-one", None);
        let (read, lost) = all(&settings).unwrap();
        assert!(read.is_empty());
        let told: Vec<&str> = lost.iter().map(|l| l.transaction.as_str()).collect();
        assert_eq!(told, ["tx-1-of-a-newer-agent", "tx-2-garbage"]);
        assert!(lost[0].why.contains("run the newer"), "{}", lost[0].why);
        assert!(lost[1].why.contains("0 records after byte 17"), "{}", lost[1].why);
    }
}
