//! What this host did: status, history, show.

use super::{Words, usage};
use crate::settings::Settings;
use crate::{identity, journal, orders};
use fettle_core::transaction::{Outcome, Progress};
use fettle_core::{Problem, ProblemKind};
use serde_json::json;

/// Every transaction of this host, oldest first.
pub(super) fn transactions(settings: &Settings) -> Result<Vec<Progress>, Problem> {
    let unreadable = |what: &dyn std::fmt::Display| {
        Problem::new(ProblemKind::Environment, "journal-unreadable", what, "run as root")
    };
    let found = match std::fs::read_dir(settings.transactions_dir()) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut all = Vec::new();
    for entry in found.flatten() {
        let contents = journal::read(&entry.path()).map_err(|e| unreadable(&e))?;
        if let Some(progress) = Progress::fold(&contents.entries).map_err(|e| unreadable(&e))? {
            all.push(progress);
        }
    }
    all.sort_by_key(|p| p.begun_at);
    Ok(all)
}

/// `history`.
pub(super) fn history(settings: &Settings, json: bool) -> Result<(), Problem> {
    let all = transactions(settings)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&all).unwrap_or_default());
        return Ok(());
    }
    for p in &all {
        println!("{}  {}  {}", p.begun_at.strftime("%F %T"), end(p), p.id);
    }
    println!(
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
        println!("{}", serde_json::to_string_pretty(&progress).unwrap_or_default());
        return Ok(());
    }
    println!(
        "{}  {}  begun {}",
        progress.id,
        end(&progress),
        progress.begun_at.strftime("%F %T %Z")
    );
    for (step, facts) in &progress.finished {
        println!("  {:<10} {:>8.1} s", step.word(), facts.milliseconds as f64 / 1000.0);
        for note in &facts.notes {
            println!("             {note}");
        }
    }
    if let Some((step, fault)) = &progress.failed {
        println!("  {:<10} failed: {}\n             → {}", step.word(), fault.message, fault.hint);
    }
    if let Some((reason, facts)) = &progress.undo {
        println!("  undone because {reason}");
        for facts in facts.iter() {
            println!(
                "             {} files restored, {} differ, {} kept",
                facts.files_restored,
                facts.differing.len(),
                facts.kept.len()
            );
        }
    }
    Ok(())
}

/// `status`.
pub(super) fn status(settings: &Settings, json: bool) -> Result<(), Problem> {
    let identity = identity::load(settings)?;
    let all = transactions(settings)?;
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
            "now": now,
        });
        println!("{value:#}");
        return Ok(());
    }
    match &identity {
        Some(identity) => println!("host {} of {}", identity.host, identity.server),
        None => println!("not enrolled: this host is on its own"),
    }
    println!(
        "{} transactions; the last: {}",
        all.len(),
        last.map_or("none".into(), |p| format!("{} {}", p.id, end(p)))
    );
    if let Some(now) = now {
        println!("now: {:.0} %  {}", now.percent, now.what);
    }
    for p in &stuck {
        match &p.outcome {
            Some(Outcome::Quarantined { reason }) => println!("QUARANTINED by {}: {reason}", p.id),
            _ => println!("interrupted: {}\n→ fettle-agent resume", p.id),
        }
    }
    Ok(())
}
