//! What this host did: status, history, show.

use super::{Words, usage};
use crate::journal::JournalError;
use crate::settings::Settings;
use crate::transaction::{confirm, undo::undone};
use crate::{executor, identity, journal, orders};
use fettle_core::assignment::Order;
use fettle_core::transaction::{Outcome, Progress, Step, StepFacts, UndoFacts};
use fettle_core::{Hold, Problem, ProblemKind, Timestamp, TransactionId};
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
pub(super) fn history(settings: &Settings, words: Words) -> Result<(), Problem> {
    let json = words.json;
    words.nothing_more()?;
    let all = transactions(settings)?;
    if json {
        out!("{}", serde_json::to_string_pretty(&all).unwrap_or_default());
        return Ok(());
    }
    for p in &all {
        out!("{}  {:<11}  {}  {}", time(p.begun_at), end(settings, p), p.id, what(p));
    }
    out!(
        "{}",
        if all.is_empty() {
            "nothing was ever changed by Fettle here\n→ fettle-agent plan"
        } else {
            "→ fettle-agent show TRANSACTION"
        }
    );
    Ok(())
}

/// By the clock of the world: those who read it may sit elsewhere.
fn time(at: Timestamp) -> impl std::fmt::Display {
    at.strftime("%F %T UTC")
}

/// How it ended, in a word.
fn end(settings: &Settings, progress: &Progress) -> &'static str {
    match &progress.outcome {
        None if is_under_way(settings) => "under way",
        None => "interrupted",
        Some(Outcome::Patched) if undone(settings, &progress.id) => "taken back",
        Some(Outcome::Refused { fault }) if fault.code == Hold::ONLY_REHEARSED => "rehearsed",
        Some(outcome) => outcome.word(),
    }
}

/// What it was about, in a few words.
fn what(progress: &Progress) -> String {
    const TOLD: usize = 4;
    match &progress.assignment.order {
        Order::Apply(order) => {
            let names: Vec<&str> = order.changes.iter().map(|c| c.name.as_str()).collect();
            let told = names.iter().take(TOLD).copied().collect::<Vec<_>>().join(", ");
            match names.len().saturating_sub(TOLD) {
                0 => told,
                more => format!("{told} and {more} more"),
            }
        }
        Order::Undo { assignment, .. } => {
            let mut named = progress.assignment.clone();
            named.id = assignment.clone();
            format!("undo of {}", named.transaction())
        }
        Order::Traffic { share } => format!("traffic: {share} %"),
        Order::Test(_) => "a change tried for another host".to_owned(),
    }
}

/// Was what an undo in quarantine could not put back put back by a later one?
fn is_settled(settings: &Settings, progress: &Progress) -> bool {
    let Order::Undo { assignment, .. } = &progress.assignment.order else { return false };
    let mut named = progress.assignment.clone();
    named.id = assignment.clone();
    undone(settings, &named.transaction())
}

/// Is somebody carrying on the transaction that has not ended?
fn is_under_way(settings: &Settings) -> bool {
    executor::holder(settings).is_some()
}

/// What a step found, for people, a line each.
pub(super) fn lines(facts: &StepFacts) -> Vec<String> {
    const TOLD: usize = 20;
    let mut lines = facts.notes.clone();
    if !facts.restarted.is_empty() {
        lines.push(format!("restarted: {}", facts.restarted.join(", ")));
    }
    let more = facts.unforeseen.len().saturating_sub(TOLD);
    for path in facts.unforeseen.iter().take(TOLD) {
        lines.push(format!("changed, and foreseen by no rehearsal: {path}"));
    }
    if more > 0 {
        lines.push(format!("and {more} more paths that no rehearsal foresaw"));
    }
    lines
}

/// What an undo found, for people, a line each.
pub(super) fn undo_lines(facts: &UndoFacts) -> Vec<String> {
    let mut lines = facts.notes.clone();
    for path in &facts.kept {
        lines.push(format!("changed by somebody else since, and kept as it is: {path}"));
    }
    for path in &facts.set_aside {
        lines.push(format!("as no rehearsal had shown it; put back, a copy is set aside: {path}"));
    }
    for what in &facts.differing {
        lines.push(format!("NOT as it was: {what}"));
    }
    lines.push(format!(
        "{} files restored, {} differ, {} kept",
        facts.files_restored,
        facts.differing.len(),
        facts.kept.len()
    ));
    lines
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
    let ended = end(settings, &progress);
    out!("{}  {ended}  begun {}  {}", progress.id, time(progress.begun_at), what(&progress));
    if let Order::Apply(order) = &progress.assignment.order {
        for c in &order.changes {
            out!("  {}:{} {} → {}", c.name, c.architecture, c.from, c.to);
        }
    }
    for (step, facts) in &progress.finished {
        out!("  {:<10} {:>8.1} s", step.word(), facts.milliseconds as f64 / 1000.0);
        for line in lines(facts) {
            out!("             {line}");
        }
    }
    if let Some((step, fault)) = &progress.failed {
        let failed = if fault.code == Hold::ONLY_REHEARSED { "not begun" } else { "failed" };
        out!("  {:<10} {failed}: {}\n             → {}", step.word(), fault.message, fault.hint);
    }
    if let Some((reason, facts)) = &progress.undo {
        out!("  undone because {reason}");
        for line in facts.iter().flat_map(undo_lines) {
            out!("             {line}");
        }
    }
    let next = match ended {
        "patched" => format!("fettle-agent undo {name}"),
        "rehearsed" => "fettle-agent patch".to_owned(),
        "interrupted" => "fettle-agent resume".to_owned(),
        "quarantined" => {
            format!(
                "docs/quarantine.md; everything that is known lies in {}",
                directory(settings, &name)
            )
        }
        _ => "fettle-agent history".to_owned(),
    };
    out!("→ {next}");
    Ok(())
}

fn directory(settings: &Settings, transaction: &str) -> impl std::fmt::Display {
    settings.transactions_dir().join(transaction).display().to_string()
}

/// Transactions that have not ended well: id, and whether it is in quarantine (else it was interrupted); and those whose
/// journals cannot be read.
pub(super) fn at_rest(settings: &Settings) -> (Vec<(String, bool)>, Vec<String>) {
    let Ok((all, lost)) = all(settings) else { return (Vec::new(), Vec::new()) };
    let under_way = is_under_way(settings);
    let stuck = all.iter().filter_map(|p| match &p.outcome {
        None if under_way => None,
        None => Some((p.id.to_string(), false)),
        Some(Outcome::Quarantined { .. }) if is_settled(settings, p) => None,
        Some(Outcome::Quarantined { .. }) => Some((p.id.to_string(), true)),
        Some(_) => None,
    });
    (stuck.collect(), lost.into_iter().map(|l| l.transaction).collect())
}

/// What is being done now, by whom.
#[derive(Debug, Serialize)]
struct UnderWay<'a> {
    /// `null`: it has not begun yet.
    transaction: Option<&'a TransactionId>,
    /// `null`: between two steps.
    step: Option<Step>,
    /// Number of the process; 0: not known.
    process: u32,
}

/// `status`.
pub(super) fn status(settings: &Settings, words: Words) -> Result<(), Problem> {
    let json = words.json;
    words.nothing_more()?;
    let identity = identity::load(settings)?;
    // First who is at work, then what is not done: else what just ended would be called interrupted.
    let process = executor::holder(settings);
    let (all, lost) = all(settings)?;
    let ledger = orders::read_ledger(settings).unwrap_or_default();
    let last = all.last();
    let open = all.iter().rfind(|p| p.outcome.is_none());
    let under_way = process.map(|process| UnderWay {
        transaction: open.map(|p| &p.id),
        step: open.and_then(|p| p.running),
        process,
    });
    let stuck: Vec<&Progress> = all
        .iter()
        .filter(|p| match p.outcome {
            None => under_way.is_none(),
            Some(Outcome::Quarantined { .. }) => !is_settled(settings, p),
            Some(_) => false,
        })
        .collect();
    let now = crate::transaction::progress::current(settings);
    let waits = confirm::is_awaited(settings);
    if json {
        let value = json!({
            "host": identity.as_ref().map(|i| &i.host),
            "server": identity.as_ref().map(|i| &i.server),
            "generation": ledger.generation,
            "transactions": all.len(),
            "last": last,
            "under_way": under_way,
            "needs_attention": stuck,
            "unreadable": lost,
            "now": now,
            "waits_for_confirm": waits,
        });
        out!("{value:#}");
        return Ok(());
    }
    match &identity {
        Some(identity) => out!("host {} of {}", identity.host, identity.server),
        None => out!("not enrolled: this host is on its own"),
    }
    match last {
        None => out!("nothing was ever changed by Fettle here"),
        Some(p) => {
            let (count, at) = (all.len(), time(p.begun_at));
            out!(
                "{count} transactions; the last: {at}  {}  {}  {}",
                end(settings, p),
                p.id,
                what(p)
            );
        }
    }
    if let Some(UnderWay { transaction, step, process }) = &under_way {
        let what = transaction.map_or("a transaction about to begin".into(), ToString::to_string);
        let step = step.map_or(String::new(), |step| format!(", {}", step.word()));
        out!("under way: {what}{step} (process {process})");
    }
    if let Some(now) = now {
        out!("now: {now}");
    }
    for p in &stuck {
        match &p.outcome {
            Some(Outcome::Quarantined { reason }) => out!("QUARANTINED by {}: {reason}", p.id),
            _ => out!("interrupted: {}", p.id),
        }
    }
    for Lost { transaction, why } in &lost {
        out!("UNREADABLE {transaction}: {why}");
    }
    let quarantined = stuck.iter().find(|p| p.outcome.is_some());
    let next = match (quarantined, stuck.is_empty(), lost.is_empty()) {
        (Some(p), ..) => format!("fettle-agent show {}", p.id),
        (None, false, _) => "fettle-agent resume".to_owned(),
        (None, true, false) => format!(
            "fettle-agent resume takes up what its kept order still tells; else look at {}",
            settings.transactions_dir().display()
        ),
        (None, true, true) if waits => "fettle-agent confirm, best from a new log-in".into(),
        (None, true, true) if under_way.is_some() => {
            "wait; fettle-agent status tells how far it is".into()
        }
        (None, true, true) if last.is_some() => "fettle-agent history".to_owned(),
        (None, true, true) => "fettle-agent scan, fettle-agent plan".to_owned(),
    };
    out!("→ {next}");
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
