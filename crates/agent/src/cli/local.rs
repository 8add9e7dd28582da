//! One host and no server: rehearse, patch, undo.

use super::plan::{self, Beside, Ordered};
use super::proof::{self, Exposed};
use super::{LOCAL, Words, need_root, print};
use crate::executor::{self, ExecutorError, Grant, Standalone};
use crate::settings::Settings;
use crate::transaction::confirm;
use crate::transaction::forecast::{self, Forecast};
use crate::transaction::preflight::NOT_REPAIRED;
use crate::transaction::progress::{self, Now};
use crate::transaction::read_kept;
use crate::transaction::undo::undone;
use fettle_core::assignment::{Assignment, Order};
use fettle_core::transaction::{Entry, Outcome, Step, TxEvent};
use fettle_core::{Digest, Hold, Problem, ProblemKind, Timestamp, TransactionId};
use jiff::SignedDuration;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Why something is undone that was well.
const BY_HAND: &str = "asked for on the host";

/// Lets nothing be changed: the transaction ends refused after its rehearsal.
struct OnlyRehearse;
impl Grant for OnlyRehearse {
    fn redeem(&self, _: &Assignment, _: Option<u64>) -> Result<(), Hold> {
        Err(Hold::OnlyRehearsed)
    }
    /// It never comes to that.
    fn reachable(&self, _: Duration) -> Option<Result<(), String>> {
        None
    }
}

/// `patch [PACKAGE...] [--only security]`.
pub(super) fn patch(settings: &Settings, mut words: Words) -> Result<(), Problem> {
    if words.flag("--dry-run") {
        return plan::plan(settings, words);
    }
    need_root("patch")?;
    let json = words.json;
    let Ordered { order, exposed, beside } = plan::order(settings, words)?;
    if let Some(seconds) = order.confirm_seconds.filter(|_| !json) {
        out!(
            "it will be undone unless you type `fettle-agent confirm`, best from a new log-in, within {seconds} s after its checks"
        );
    }
    let _live = (!json).then(|| Live::start(settings));
    carry_out(settings, json, Order::Apply(order), Some(&exposed), beside)
}

/// Carries out an order that was typed here, and tells what became of it: line by line, or, for programs, as `show`
/// tells it at the end, with what stands `beside` it.
fn carry_out(
    settings: &Settings,
    json: bool,
    order: Order,
    exposed: Option<&Exposed>,
    beside: Beside,
) -> Result<(), Problem> {
    let mut transaction = None;
    let outcome =
        executor::run(settings, assignment(order), &Standalone::of(settings), &mut |entry| {
            if let TxEvent::Begun { assignment } = &entry.event {
                let id = assignment.transaction();
                if let Some(exposed) = exposed {
                    exposed.keep(settings, &id);
                }
                transaction = Some(id);
            }
            say(entry, json);
        });
    end(settings, json, transaction, outcome, beside)
}

/// What became of a transaction, and which vulnerabilities it has proved gone.
fn end(
    settings: &Settings,
    json: bool,
    transaction: Option<TransactionId>,
    outcome: Result<Outcome, ExecutorError>,
    mut beside: Beside,
) -> Result<(), Problem> {
    let patched = transaction.as_ref().filter(|_| matches!(outcome, Ok(Outcome::Patched)));
    let proof = patched.and_then(|id| proof::judge(settings, id));
    if let Some(id) = transaction.filter(|_| json) {
        let told = proof.as_ref().and_then(|proof| proof.as_ref().ok());
        beside.insert("proof".into(), serde_json::json!(told));
        print_transaction(settings, &id, beside);
    }
    let mut next = None;
    match proof.filter(|_| !json) {
        Some(Ok(proof)) => {
            for line in proof.lines() {
                out!("{line}");
            }
            next = proof.next();
        }
        Some(Err(problem)) => out!("what it proves gone is not known: {}", problem.message),
        None => {}
    }
    finish(outcome, json, next)
}

/// A transaction as `show -o json` prints it, and what stands `beside` it.
fn print_transaction(settings: &Settings, id: &TransactionId, beside: Beside) {
    let told = print::transaction(settings, id);
    let mut value = serde_json::to_value(told).unwrap_or_default();
    if let Some(value) = value.as_object_mut() {
        value.extend(beside);
    }
    out!("{value:#}");
}

/// Back to the beginning of the line, and away with what stands there.
const CLEAR: &str = "\r\x1b[K";

/// Shows what the package manager is doing: on one line that is written over while a person looks; and that it makes
/// no progress, on lines of their own, also where nobody does.
struct Live(Arc<AtomicBool>);

impl Live {
    fn start(settings: &Settings) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (settings, told) = (settings.clone(), over.clone());
        let show = move || {
            let (mut shown, mut quiet) = (None, 0);
            while !told.load(Ordering::Acquire) {
                let now = progress::current(&settings);
                if now != shown {
                    if std::io::stdout().is_terminal() {
                        let line = now.as_ref().map(|now| format!("    {now}"));
                        let mut out = std::io::stdout();
                        let _ = write!(out, "{CLEAR}{}", line.unwrap_or_default());
                        let _ = out.flush();
                    } else if let Some(line) = now.as_ref().and_then(|n| still(n, &mut quiet)) {
                        out!("{line}");
                    }
                    shown = now;
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        };
        // Without a thread for it, it is not shown; the change itself needs none.
        let _ = std::thread::Builder::new().name("progress".into()).spawn(show);
        Self(over)
    }
}

/// The line that says that there is no progress, ever more rarely: `told` is how many minutes were told last.
fn still(now: &Now, told: &mut u64) -> Option<String> {
    let Some(minutes) = now.quiet_minutes else {
        *told = 0;
        return None;
    };
    let is_due = *told == 0 || minutes >= 2 * *told;
    is_due.then(|| {
        *told = minutes.max(1);
        format!("    {now}; --hung-after SECONDS would end it")
    })
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// `rehearse [PACKAGE...]`: the first three steps and nothing more.
pub(super) fn rehearse(settings: &Settings, words: Words) -> Result<(), Problem> {
    need_root("rehearse")?;
    let json = words.json;
    let Ordered { order, beside, .. } = plan::order(settings, words)?;
    let mut facts = None;
    let mut directory = None;
    let outcome =
        executor::run(settings, assignment(Order::Apply(order)), &OnlyRehearse, &mut |entry| {
            match &entry.event {
                TxEvent::Begun { assignment } => {
                    let id = assignment.transaction();
                    directory = Some(settings.transactions_dir().join(id.as_str()));
                }
                TxEvent::Finished { step: Step::Rehearse, facts: found } => {
                    facts = Some(found.clone());
                }
                _ => {}
            }
            let end = matches!(
                entry.event,
                TxEvent::Ended { .. } | TxEvent::Failed { step: Step::Snapshot, .. }
            );
            say(entry, json || end);
        });
    let Some(facts) = facts else { return finish(outcome, json, None) };
    let forecast = directory.and_then(|d| read_kept::<Forecast>(&d, forecast::FILE));
    if json {
        let mut value = Beside::new();
        value.insert("facts".into(), serde_json::json!(facts));
        value.insert("forecast".into(), serde_json::json!(forecast));
        value.extend(beside);
        out!("{:#}", serde_json::Value::from(value));
        return Ok(());
    }
    for (package, files) in forecast.into_iter().flat_map(|f| f.packages) {
        out!(
            "{:<32} {:>5} files change, {:>4} are new, {:>4} go, {:>8.1} MB",
            if package.is_empty() { "(listed by no package)" } else { &package },
            files.changed,
            files.new,
            files.gone,
            files.bytes as f64 / 1e6
        );
    }
    out!(
        "would touch {} files, {:.1} MB, and passed its tests",
        facts.delta_files.unwrap_or(0),
        facts.delta_bytes.unwrap_or(0) as f64 / 1e6
    );
    out!("→ fettle-agent patch");
    Ok(())
}

/// `undo [TRANSACTION]`.
pub(super) fn undo(settings: &Settings, words: Words) -> Result<(), Problem> {
    need_root("undo")?;
    let json = words.json;
    let wanted = words.at_most_one("transaction")?;
    let all = print::transactions(settings)?;
    if let Some(wanted) = &wanted
        && let Some(taken_back) = all.iter().find(|p| p.id.as_str() == wanted)
        && undone(settings, &taken_back.id)
    {
        return Err(Problem::new(
            ProblemKind::Conflict,
            "already-undone",
            format!("{wanted} was taken back already"),
            "nothing is to be done; fettle-agent history tells what stands",
        ));
    }
    let any = all.len();
    let patched = all.into_iter().rev().find(|p| {
        matches!(p.assignment.order, Order::Apply(_))
            && p.outcome == Some(Outcome::Patched)
            && match &wanted {
                Some(wanted) => wanted == p.id.as_str(),
                // The last one that still stands.
                None => !undone(settings, &p.id),
            }
    });
    let Some(patched) = patched else {
        return Err(Problem::new(
            ProblemKind::NotFound,
            "nothing-to-undo",
            match wanted {
                Some(wanted) => format!("{wanted} is no change that was made here and stands"),
                None if any == 0 => "nothing was ever changed by Fettle here".to_owned(),
                None => {
                    "no change that Fettle made here stands: there is nothing to take back".into()
                }
            },
            "fettle-agent history",
        ));
    };
    let order = Order::Undo { assignment: patched.assignment.id.clone(), reason: BY_HAND.into() };
    carry_out(settings, json, order, None, Beside::new())
}

/// `confirm`.
pub(super) fn confirm(settings: &Settings, words: Words) -> Result<(), Problem> {
    need_root("confirm")?;
    let json = words.json;
    words.nothing_more()?;
    let failed = |e| Problem::new(ProblemKind::Environment, "confirm", e, "fettle-agent status");
    match confirm::confirm(settings).map_err(failed)? {
        Some(id) if json => {
            print_transaction(settings, &id, Beside::new());
            Ok(())
        }
        Some(id) => {
            out!("{id} stands\n→ fettle-agent undo takes it back all the same");
            Ok(())
        }
        None => Err(Problem::new(
            ProblemKind::NotFound,
            "nothing-to-confirm",
            "no change waits to be confirmed",
            "fettle-agent status",
        )),
    }
}

/// `resume`.
pub(super) fn resume(settings: &Settings, words: Words) -> Result<(), Problem> {
    need_root("resume")?;
    let json = words.json;
    words.nothing_more()?;
    match executor::resume(settings, &Standalone::of(settings), &mut |e| say(e, json)) {
        Ok(None) => {
            out!("{}", if json { "null" } else { "nothing was interrupted" });
            Ok(())
        }
        Ok(Some((id, outcome))) => end(settings, json, Some(id), Ok(outcome), Beside::new()),
        Err(ExecutorError::Busy { .. }) if json => {
            // It has no outcome yet.
            let under_way = print::transactions(settings)?;
            let under_way = under_way.into_iter().rfind(|p| p.outcome.is_none());
            out!("{}", serde_json::to_string_pretty(&under_way).unwrap_or_default());
            Ok(())
        }
        Err(ExecutorError::Busy { process }) => {
            out!("another fettle-agent (process {process}) carries it on\n→ fettle-agent status");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn assignment(order: Order) -> Assignment {
    let now = Timestamp::now();
    let name = jiff::fmt::strtime::format("%Y%m%dT%H%M%S", now).unwrap_or_default();
    Assignment {
        schema: 1,
        id: format!("{LOCAL}/{name}-{}", std::process::id()).as_str().into(),
        host: LOCAL.into(),
        generation: 0,
        rollout: LOCAL.into(),
        plan: Digest::of_json(&order),
        issued_at: now,
        not_before: now,
        expires_at: now + SignedDuration::from_hours(24),
        order,
    }
}

fn say(entry: &Entry, quiet: bool) {
    if quiet {
        return;
    }
    if std::io::stdout().is_terminal() {
        let _ = write!(std::io::stdout(), "{CLEAR}"); // what Live shows
    }
    match &entry.event {
        TxEvent::Begun { assignment } => out!("{}", assignment.transaction()),
        TxEvent::Started { step } => out!("  {}", step.word()),
        TxEvent::Finished { facts, .. } => {
            for line in print::lines(facts) {
                out!("    {line}");
            }
            out!("    done in {:.1} s", facts.milliseconds as f64 / 1000.0);
        }
        TxEvent::Failed { fault, .. } => {
            out!("    failed: {}\n    → {}", fault.message, fault.hint)
        }
        TxEvent::UndoStarted { reason } => out!("  undo: {reason}"),
        TxEvent::UndoFinished { facts } => {
            for line in print::undo_lines(facts) {
                out!("    {line}");
            }
            out!("    done in {:.1} s", facts.milliseconds as f64 / 1000.0);
        }
        TxEvent::Ended { outcome } => out!("  {}", outcome.word()),
    }
}

/// What a command ends with: on `json` the outcome was printed already, and only a problem is left to tell.
fn finish(
    outcome: Result<Outcome, ExecutorError>,
    json: bool,
    next: Option<&str>,
) -> Result<(), Problem> {
    let well = |line: &str| {
        if !json {
            out!("{line}");
        }
        Ok(())
    };
    let refused = |code: &str, message: String, hint: &str| {
        Err(Problem::new(ProblemKind::Refused, code, message, hint))
    };
    match outcome? {
        Outcome::Patched => well(&format!(
            "patched and verified\n→ {}fettle-agent undo takes it back",
            next.map_or(String::new(), |next| format!("{next}; "))
        )),
        Outcome::Switched => well("the balancers send this host what was ordered"),
        Outcome::Undone { reason } if reason == BY_HAND => {
            well("undone, every file verified to be as it was")
        }
        Outcome::Undone { reason } => {
            refused("undone", format!("undone and verified: {reason}"), "fettle-agent history")
        }
        Outcome::Refused { fault } => {
            let touched = match fault.code == NOT_REPAIRED {
                true => "only the repair was tried",
                false => "nothing was touched",
            };
            refused(&fault.code, format!("refused, {touched}: {}", fault.message), &fault.hint)
        }
        Outcome::Quarantined { reason } => refused(
            "quarantined",
            format!("neither patched nor as it was: {reason}"),
            "fettle-agent status says what is left to do",
        ),
    }
}
