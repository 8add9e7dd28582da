//! The executor makes no choices: fold the journal, ask what is next, do that, write it down.

mod guard;
mod problem;
mod turn;

pub(crate) use guard::{guard_boot, is_own as is_guard};
pub use turn::{holder, is_left_alone};

use crate::journal::{Journal, JournalError};
use crate::packages::{Apt, Driver};
use crate::preimage::subvolume;
use crate::reach::Reach;
use crate::settings::Settings;
use crate::transaction::{
    Transaction, activate, apply, commit, deadman, drain, fault, forecast, preflight, read_kept,
    recover, rehearse, reserve, snapshot, stage, undo, verify,
};
use fettle_core::assignment::{ApplyOrder, Assignment, Order};
use fettle_core::transaction::{
    Entry, Fault, IllegalEntry, Next, Outcome, Progress, Step, StepFacts, TxEvent,
};
use fettle_core::{Hold, Timestamp, TransactionId};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Asked right before the host is changed: does the grant still stand?
pub trait Grant {
    /// `Ok`: go on. `needs_seconds`: how long the host will be at work, its way back included, where a rehearsal has
    /// foretold it.
    ///
    /// # Errors
    /// The hold that stops it. No answer is a hold as well: a grant that was not redeemed dies.
    fn redeem(&self, assignment: &Assignment, needs_seconds: Option<u64>) -> Result<(), Hold>;

    /// Can what the host must reach be reached now? It is asked for at most `patience`. `None`: there is nothing to
    /// reach. `Err`: nothing answered, and why.
    fn reachable(&self, patience: Duration) -> Option<Result<(), String>>;
}

/// Whoever typed it on the host has granted it.
pub struct Standalone {
    reach: Reach,
}

impl Standalone {
    /// For this host.
    pub fn of(settings: &Settings) -> Self {
        Self { reach: Reach::of(settings) }
    }
}

impl Grant for Standalone {
    /// A dead-man's switch whose other end does not answer before the change would take back a good one.
    fn redeem(&self, assignment: &Assignment, _: Option<u64>) -> Result<(), Hold> {
        let Order::Apply(ApplyOrder { deadman_seconds: Some(_), .. }) = &assignment.order else {
            return Ok(());
        };
        match self.reach.ask(deadman::ANSWER) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(why)) => Err(Hold::NoData {
                what: format!(
                    "what the dead-man's switch must reach does not answer before the change: {why}"
                ),
            }),
        }
    }

    fn reachable(&self, patience: Duration) -> Option<Result<(), String>> {
        self.reach.ask(patience)
    }
}

/// Why a transaction could not be carried on. Its journal stands; `resume` takes it up again.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal holds what its table does not allow.
    #[error("the journal of {id} does not make sense: {source}")]
    Illegal {
        /// Which transaction.
        id: TransactionId,
        /// What is out of place.
        source: IllegalEntry,
    },
    /// Another process carries out a transaction on this host.
    #[error(
        "another fettle-agent (process {process}) is at work on this host: wait for it, or look with `fettle-agent status`"
    )]
    Busy {
        /// Its number; 0 where that is not known.
        process: u32,
    },
    /// Another transaction has not ended.
    #[error("transaction {0} has not ended: run `fettle-agent resume` first")]
    Unfinished(TransactionId),
    /// The same assignment came with other content.
    #[error(
        "transaction {0} was begun with another order under the same name: the server has broken the protocol"
    )]
    OtherContent(TransactionId),
    /// The journal lost its first record, and the copy of the order with it.
    #[error(
        "the journal of {0} lost its beginning, and what was ordered with it: the host may be half changed; see `dpkg --audit`, and docs/quarantine.md for what lies in its directory"
    )]
    Lost(TransactionId),
    /// The state directory cannot be read or written.
    #[error("cannot use {}: {source}", .path.display())]
    State {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Carries out an assignment to its end. The same assignment again gives the same end without doing anything
/// twice; one that was interrupted is taken up where it stands. `seen` gets each record when it is durable.
///
/// # Errors
/// [`ExecutorError`]. A change that did not succeed is no error here but an [`Outcome`].
pub fn run(
    settings: &Settings,
    assignment: Assignment,
    grant: &dyn Grant,
    seen: &mut dyn FnMut(&Entry),
) -> Result<Outcome, ExecutorError> {
    let id = assignment.transaction();
    let _turn = turn::Turn::take(settings)?;
    if let Some(other) = unfinished(settings)?.into_iter().find(|other| *other != id) {
        return Err(ExecutorError::Unfinished(other));
    }
    let directory = settings.transactions_dir().join(id.as_str());
    let mut engine = Engine::open(settings, &directory, &id, seen)?;
    match &engine.progress {
        None => engine.begin(assignment)?,
        Some(progress) if progress.assignment != assignment => {
            return Err(ExecutorError::OtherContent(id));
        }
        Some(_) => {}
    }
    engine.carry_on(grant)
}

/// Takes up the transaction that was interrupted, if there is one. `None`: there is none.
///
/// # Errors
/// [`ExecutorError`].
pub fn resume(
    settings: &Settings,
    grant: &dyn Grant,
    seen: &mut dyn FnMut(&Entry),
) -> Result<Option<(TransactionId, Outcome)>, ExecutorError> {
    let mut last = None;
    let _turn = turn::Turn::take(settings)?;
    let left = unfinished(settings)?;
    if left.is_empty() {
        // Whoever ended it may have died before it could say so.
        guard::away();
    } else {
        guard::stand(settings);
        // After a power cut, what is not there yet may only be late.
        guard::wait_started();
    }
    for id in left {
        let directory = settings.transactions_dir().join(id.as_str());
        let mut engine = Engine::open(settings, &directory, &id, seen)?;
        if engine.progress.is_none() {
            // Its first record does not read back, later ones do.
            let order = read_kept(&directory, ORDER).ok_or(ExecutorError::Lost(id.clone()))?;
            engine.begin(order)?;
        }
        last = Some((id, engine.carry_on(grant)?));
    }
    Ok(last)
}

/// Transactions that were begun and have not ended, by name.
///
/// # Errors
/// When the state directory or a journal in it cannot be read.
pub fn unfinished(settings: &Settings) -> Result<Vec<TransactionId>, ExecutorError> {
    let path = settings.transactions_dir();
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(ExecutorError::State { path, source }),
    };
    let mut out = Vec::new();
    for entry in entries.flatten().filter(|e| e.path().join("journal").exists()) {
        let contents = crate::journal::read(&entry.path())?;
        let later = contents.damage.iter().flat_map(|d| &d.after);
        let mut all = contents.entries.iter().chain(later).peekable();
        let begun = all.peek().is_some();
        if begun && !all.any(|e| matches!(e.event, TxEvent::Ended { .. })) {
            out.push(TransactionId::new(entry.file_name().to_string_lossy()));
        }
    }
    out.sort();
    Ok(out)
}

/// Name of the file that keeps the order.
const ORDER: &str = "assignment.json";
struct Engine<'a> {
    settings: &'a Settings,
    directory: PathBuf,
    id: TransactionId,
    journal: Journal,
    progress: Option<Progress>,
    /// Part of the journal was lost.
    damaged: bool,
    failpoint: Failpoint,
    seen: &'a mut dyn FnMut(&Entry),
}

impl<'a> Engine<'a> {
    fn open(
        settings: &'a Settings,
        directory: &Path,
        id: &TransactionId,
        seen: &'a mut dyn FnMut(&Entry),
    ) -> Result<Self, ExecutorError> {
        let (journal, contents) = Journal::create(directory)?;
        let illegal = |source| ExecutorError::Illegal { id: id.clone(), source };
        Ok(Self {
            settings,
            directory: directory.to_owned(),
            id: id.clone(),
            progress: Progress::fold(&contents.entries).map_err(illegal)?,
            damaged: contents.damage.is_some(),
            failpoint: Failpoint::from_environment(settings),
            journal,
            seen,
        })
    }

    /// Writes the first record. The order is kept beside the journal as well: without it nobody could say what a
    /// journal that lost its beginning was about.
    fn begin(&mut self, assignment: Assignment) -> Result<(), ExecutorError> {
        let path = self.directory.join(ORDER);
        let kept = serde_json::to_vec(&assignment)
            .map_err(std::io::Error::from)
            .and_then(|text| crate::durable::replace(&path, &text));
        kept.map_err(|source| ExecutorError::State { path, source })?;
        self.write(TxEvent::Begun { assignment })
    }

    fn write(&mut self, event: TxEvent) -> Result<(), ExecutorError> {
        self.failpoint.record(self.journal.next_sequence(), "before");
        let entry = self.journal.append(Timestamp::now(), event)?;
        self.failpoint.record(entry.sequence, "after");
        let illegal = |source| ExecutorError::Illegal { id: self.id.clone(), source };
        match &mut self.progress {
            Some(progress) => progress.push(&entry).map_err(illegal)?,
            None => {
                self.progress = Progress::fold(std::slice::from_ref(&entry)).map_err(illegal)?
            }
        }
        (self.seen)(&entry);
        Ok(())
    }

    fn carry_on(&mut self, grant: &dyn Grant) -> Result<Outcome, ExecutorError> {
        let driver = Apt::new(self.settings);
        if std::mem::take(&mut self.damaged) {
            self.after_damage()?;
        }
        loop {
            let Some(progress) = self.progress.clone() else {
                return Ok(Outcome::Refused {
                    fault: fault("journal-empty", "nothing was begun", "begin again"),
                });
            };
            let nothing = ApplyOrder::default();
            let order = match &progress.assignment.order {
                Order::Apply(order) => order,
                Order::Undo { .. } | Order::Traffic { .. } | Order::Test(_) => &nothing,
            };
            let tx = Transaction {
                settings: self.settings,
                driver: &driver as &dyn Driver,
                assignment: &progress.assignment,
                order,
                directory: self.directory.clone(),
            };
            match progress.next() {
                Next::Run(step) => {
                    // Asked before the record: a step that is not let begin has touched nothing.
                    let traffic = matches!(tx.assignment.order, Order::Traffic { .. });
                    if (traffic || matches!(step, Step::Snapshot | Step::Apply))
                        && let Err(hold) = grant.redeem(tx.assignment, forecast::needs(&tx))
                    {
                        self.write(TxEvent::Failed { step, fault: held(&hold) })?;
                        continue;
                    }
                    if traffic || step >= Step::Snapshot {
                        guard::stand(self.settings);
                    }
                    self.write(TxEvent::Started { step })?;
                    self.step(step, || run_step(&tx, step, grant))?;
                }
                Next::Recover(step) => self.step(step, || recover::run(&tx, step, grant))?,
                Next::Undo { reason } => match undo::target(&tx) {
                    Ok(target) => {
                        guard::stand(self.settings);
                        self.write(TxEvent::UndoStarted { reason })?;
                        self.failpoint.step("undo", "before");
                        let facts = undo::run(&tx, &target);
                        self.failpoint.step("undo", "after");
                        self.write(TxEvent::UndoFinished { facts })?;
                    }
                    Err(fault) => self.write(TxEvent::Failed { step: Step::Preflight, fault })?,
                },
                Next::End(outcome) => {
                    let traffic = matches!(tx.assignment.order, Order::Traffic { .. });
                    if !traffic && (progress.running.is_some() || progress.failed.is_some()) {
                        self.leave(&tx, &progress);
                    }
                    self.write(TxEvent::Ended { outcome })?;
                    guard::away();
                }
                Next::Nothing => {
                    return Ok(progress.outcome.unwrap_or(Outcome::Patched));
                }
            }
        }
    }

    /// Runs one step and writes down what came of it.
    fn step(
        &mut self,
        step: Step,
        work: impl FnOnce() -> Result<StepFacts, Fault>,
    ) -> Result<(), ExecutorError> {
        self.failpoint.step(step.word(), "before");
        let begun = Instant::now();
        let result = work();
        self.failpoint.step(step.word(), "after");
        self.write(match result {
            Ok(mut facts) => {
                facts.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                TxEvent::Finished { step, facts }
            }
            Err(fault) => TxEvent::Failed { step, fault },
        })
    }

    /// Before a refusal is written: back into the load balancer, away with what was staged.
    fn leave(&self, tx: &Transaction<'_>, progress: &Progress) {
        let drained = progress.finished.contains_key(&Step::Drain)
            || progress.failed.as_ref().is_some_and(|(step, _)| *step == Step::Drain);
        if drained && !progress.touched {
            // A hook that fails is told by the load balancer; the refusal stands.
            let _ = drain::undo(tx);
        }
        let _ = rehearse::clear(tx);
        reserve::release(&tx.directory);
        if !progress.touched {
            // One that stays takes space, and goes with the preimage.
            let _ = subvolume::remove(&tx.snapshot());
        }
    }

    /// Part of the journal is lost. What is sure is done: nothing was started, so it is refused; or there is a
    /// whole preimage, so everything is put back and verified; else a person must come.
    fn after_damage(&mut self) -> Result<(), ExecutorError> {
        let Some(progress) = &self.progress else { return Ok(()) };
        if progress.outcome.is_some() || progress.undo.is_some() {
            return Ok(());
        }
        let reason = "part of the journal does not read back (kept as journal.damaged)";
        if !self.directory.join("apply.json").exists() {
            if let (None, Some(step)) =
                (&progress.failed, progress.running.or_else(|| next_step(progress)))
            {
                let fault = fault("journal-damaged", reason, "nothing was changed: plan it again");
                self.write(TxEvent::Failed { step, fault })?;
            }
            return Ok(());
        }
        // Apply was begun, whatever the journal still says: its own recovery finds out how far it came, if the
        // journal reaches so far. If not, the records that are missing are written again up to there.
        while let Some(step) =
            self.progress.as_ref().and_then(|p| p.running.or_else(|| next_step(p)))
        {
            let running = self.progress.as_ref().is_some_and(|p| p.running == Some(step));
            if !running {
                self.write(TxEvent::Started { step })?;
            }
            if step == Step::Apply {
                let fault = fault("journal-damaged", reason, "the change is being undone");
                return self.write(TxEvent::Failed { step, fault });
            }
            let facts = StepFacts { notes: vec![reason.into()], ..StepFacts::default() };
            self.write(TxEvent::Finished { step, facts })?;
        }
        Ok(())
    }
}

fn next_step(progress: &Progress) -> Option<Step> {
    match progress.next() {
        Next::Run(step) | Next::Recover(step) => Some(step),
        _ => None,
    }
}

fn held(hold: &Hold) -> Fault {
    let hint = match hold {
        Hold::OnlyRehearsed => "nothing was changed; fettle-agent patch makes the change",
        _ => "nothing was changed; the server plans it again",
    };
    fault(hold.code(), hold, hint)
}

fn run_step(tx: &Transaction<'_>, step: Step, grant: &dyn Grant) -> Result<StepFacts, Fault> {
    if let Order::Traffic { share } = tx.assignment.order {
        return drain::switch(tx, share);
    }
    match step {
        Step::Preflight => preflight::run(tx),
        Step::Stage => stage::run(tx),
        Step::Rehearse => rehearse::run(tx),
        Step::Snapshot => snapshot::run(tx),
        Step::Drain => drain::run(tx),
        Step::Apply => apply::run(tx),
        Step::Activate => activate::run(tx),
        Step::Verify => verify::run(tx, grant),
        Step::Commit => commit::run(tx),
    }
}

/// Where tests let the agent die (`FETTLE_CRASH_AT`) or stand still (`FETTLE_WAIT_AT`), honoured only where the
/// administrator has put a file `allow-failpoints` into the configuration directory.
///
/// - `7` or `7:after`: right after record 7 is durable; `7:before`: right before it is written.
/// - `apply:before`: the step is about to do something; `apply:after`: it has done everything, and that is not
///   written down yet. `undo:before` and `undo:after` likewise.
///
/// Standing still: a file `waiting` is made in the runtime directory, and it goes on when somebody removes that.
#[derive(Debug, Clone, Default)]
struct Failpoint {
    crash: Option<(String, String)>,
    wait: Option<(String, String)>,
    runtime: PathBuf,
}

impl Failpoint {
    fn from_environment(settings: &Settings) -> Self {
        if !settings.config_dir.join("allow-failpoints").exists() {
            return Self::default();
        }
        let place = |variable| {
            std::env::var(variable).ok().map(|text| match text.split_once(':') {
                Some((place, when)) => (place.to_owned(), when.to_owned()),
                None => (text, "after".to_owned()),
            })
        };
        Self {
            crash: place("FETTLE_CRASH_AT"),
            wait: place("FETTLE_WAIT_AT"),
            runtime: settings.runtime_dir.clone(),
        }
    }
    fn record(&self, sequence: u64, when: &str) {
        self.step(&sequence.to_string(), when);
    }
    fn step(&self, word: &str, when: &str) {
        let here = |point: &Option<(String, String)>| {
            point.as_ref().is_some_and(|(place, at)| place == word && at == when)
        };
        if here(&self.wait) && fs::create_dir_all(&self.runtime).is_ok() {
            let waiting = self.runtime.join("waiting");
            let made = fs::write(&waiting, word).is_ok();
            while made && waiting.exists() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        if here(&self.crash) {
            // As a kill would: no destructor, no flush. A refused kill must not go on.
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
            std::process::abort();
        }
    }
}
