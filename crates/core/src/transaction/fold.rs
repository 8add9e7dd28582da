//! Journal records → state. One table says which record may follow which.

use super::{Entry, IllegalEntry, Next, Outcome, Progress, Step, TxEvent};
use crate::assignment::Order;

/// Where a transaction stands between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// This step comes next; nothing of it has begun.
    Before(Step),
    /// The step was started.
    Running(Step),
    /// A step failed.
    Failed,
    /// The commit finished.
    Committed,
    /// An undo order that has not begun.
    BeforeUndo,
    /// The undo was started.
    Undoing,
    /// The undo finished.
    Undid,
    /// It has ended.
    Ended,
}

impl Progress {
    /// Folds a journal. `None`: an empty journal, nothing was begun.
    ///
    /// # Errors
    /// [`IllegalEntry`] at the first record that does not fit: the journal was not written by this table.
    pub fn fold(entries: &[Entry]) -> Result<Option<Self>, IllegalEntry> {
        let Some((first, rest)) = entries.split_first() else { return Ok(None) };
        let TxEvent::Begun { assignment } = &first.event else {
            return Err(IllegalEntry::Begin { sequence: first.sequence });
        };
        if first.sequence != 0 {
            return Err(IllegalEntry::Gap { expected: 0, found: first.sequence });
        }
        let mut progress = Self {
            id: assignment.transaction(),
            assignment: assignment.clone(),
            begun_at: first.at,
            finished: Default::default(),
            running: None,
            attempts: 0,
            touched: false,
            failed: None,
            undo: None,
            undo_attempts: 0,
            outcome: None,
            ended_at: None,
            last: 0,
        };
        rest.iter().try_for_each(|entry| progress.push(entry))?;
        Ok(Some(progress))
    }

    /// Takes the next record.
    ///
    /// An apply order goes `begun`, then each step as `started`, `finished`, then `ended`. A step that fails
    /// (or is not let begin) ends it as refused before [`Step::Apply`] was started, and leads to
    /// `undo-started`, `undo-finished`, `ended` afterwards. Steps before [`Step::Drain`] and the undo may be
    /// started again after a crash.
    ///
    /// An undo order goes `begun`, `undo-started`, `undo-finished`, `ended`; where the host has nothing to undo
    /// with (no such transaction, preimage gone): `begun`, `failed` at preflight, `ended` as refused.
    ///
    /// An order about traffic goes `begun`, its one step, `ended`.
    ///
    /// # Errors
    /// [`IllegalEntry`] when the record does not fit; `self` is then unchanged.
    pub fn push(&mut self, entry: &Entry) -> Result<(), IllegalEntry> {
        let sequence = entry.sequence;
        if sequence != self.last + 1 {
            return Err(IllegalEntry::Gap { expected: self.last + 1, found: sequence });
        }
        match (self.state(), &entry.event) {
            (_, TxEvent::Begun { .. }) => return Err(IllegalEntry::Begin { sequence }),

            (State::Before(next), TxEvent::Started { step }) if next == *step => {
                self.running = Some(*step);
                self.attempts = 1;
                // From here on the host may have changed, even if the crash came right after this record.
                self.touched |= *step == Step::Apply;
            }
            (State::Running(now), TxEvent::Started { step })
                if now == *step && (now.can_run_again() || self.traffic_step().is_some()) =>
            {
                self.attempts += 1;
            }
            (State::Running(now), TxEvent::Finished { step, facts }) if now == *step => {
                self.running = None;
                self.attempts = 0;
                self.finished.insert(*step, facts.clone());
            }
            (State::Running(now) | State::Before(now), TxEvent::Failed { step, fault })
                if now == *step =>
            {
                self.running = None;
                self.failed = Some((*step, fault.clone()));
            }
            (State::BeforeUndo, TxEvent::Failed { step: Step::Preflight, fault }) => {
                self.failed = Some((Step::Preflight, fault.clone()));
            }
            (State::BeforeUndo, TxEvent::UndoStarted { reason }) => {
                self.undo = Some((reason.clone(), None));
                self.undo_attempts = 1;
            }
            (State::Failed, TxEvent::UndoStarted { reason }) if self.touched => {
                self.undo = Some((reason.clone(), None));
                self.undo_attempts = 1;
            }
            (State::Undoing, TxEvent::UndoStarted { .. }) => self.undo_attempts += 1,
            (State::Undoing, TxEvent::UndoFinished { facts }) => {
                if let Some((_, found)) = &mut self.undo {
                    *found = Some(facts.clone());
                }
            }
            (state, TxEvent::Ended { outcome })
                if state != State::Ended && self.may_end_as(outcome) =>
            {
                self.outcome = Some(outcome.clone());
                self.ended_at = Some(entry.at);
            }
            (_, event) => {
                return Err(IllegalEntry::Order { sequence, event: event.word().to_owned() });
            }
        }
        self.last = sequence;
        Ok(())
    }

    fn state(&self) -> State {
        if self.outcome.is_some() {
            return State::Ended;
        }
        match &self.undo {
            Some((_, None)) => return State::Undoing,
            Some((_, Some(_))) => return State::Undid,
            None => {}
        }
        if self.failed.is_some() {
            return State::Failed;
        }
        if let Some(step) = self.running {
            return State::Running(step);
        }
        if let Some(step) = self.traffic_step() {
            let done = self.finished.contains_key(&step);
            return if done { State::Committed } else { State::Before(step) };
        }
        match (&self.assignment.order, self.finished.last_key_value()) {
            (Order::Undo { .. }, _) => State::BeforeUndo,
            (_, None) => State::Before(Step::Preflight),
            (_, Some((last, _))) => last.next().map_or(State::Committed, State::Before),
        }
    }

    /// The end must be the one that follows; only quarantine may be declared at any time after the host was
    /// touched, since it claims nothing.
    fn may_end_as(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Quarantined { .. } if self.touched || self.undo.is_some() => true,
            _ => matches!(self.next(), Next::End(due) if due.word() == outcome.word()),
        }
    }
}

impl Step {
    /// May the step be started again after it was interrupted? Later steps have to be recovered: what they
    /// did is seen from outside.
    pub fn can_run_again(self) -> bool {
        self < Self::Drain
    }
}

impl TxEvent {
    /// The word, as the journal prints it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Begun { .. } => "begun",
            Self::Started { .. } => "started",
            Self::Finished { .. } => "finished",
            Self::Failed { .. } => "failed",
            Self::UndoStarted { .. } => "undo-started",
            Self::UndoFinished { .. } => "undo-finished",
            Self::Ended { .. } => "ended",
        }
    }
}
