//! The simulated agent: a journal, a ledger of generations, and the real `Progress::next` in between.

use crate::gates::{self, Mood, Said};
use crate::packages::{Holding, Installed, Offered, number, place};
use fettle_core::assignment::{ApplyOrder, Assignment, Order};
use fettle_core::rollout::Came;
use fettle_core::transaction::{Entry, Fault, Next, Progress, Step, TxEvent};
use fettle_core::{AssignmentId, HostId, RolloutId, Timestamp};
use jiff::SignedDuration;
use std::collections::BTreeMap;

/// One transaction of a host, on its disk.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) journal: Vec<Entry>,
    /// Records the server has acknowledged.
    pub(crate) acknowledged: u64,
    /// What was installed before: the preimage.
    pub(crate) before: Installed,
    /// How often the package manager was started: at most once, whatever crashes.
    pub(crate) applies: u32,
}

/// What the agent is doing, in memory only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doing {
    Nothing,
    /// Waits for the answer to a request to redeem, for this step.
    Asking(Step),
    /// A step, recovery or undo is running.
    Working,
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) host: HostId,
    // On disk.
    pub(crate) generation: u64,
    pub(crate) transactions: BTreeMap<AssignmentId, Transaction>,
    pub(crate) current: Option<AssignmentId>,
    /// What is really installed.
    pub(crate) installed: Installed,
    /// Packages that its administrator holds: a bit each.
    pub(crate) held: u8,
    /// Its clock is ahead by so many seconds.
    pub(crate) skew: i64,
    /// Its sources are a mirror that lags.
    pub(crate) lags: bool,
    /// What the balancer really gives it, in percent of its weight.
    pub(crate) share: u32,
    // In memory.
    pub(crate) up: bool,
    /// Counts starts: what an earlier process had begun is void.
    pub(crate) boot: u64,
    pub(crate) doing: Doing,
    /// The step the server said yes to.
    pub(crate) granted: Option<Step>,
    pub(crate) asked: u32,
    /// Tests that gates ask for: when each last ran, and what came of it.
    pub(crate) ran: BTreeMap<String, (Timestamp, Came, Mood)>,
    /// Rollouts whose gates want to know what it measures, each with when their wave began to be changed.
    pub(crate) looked: Vec<(RolloutId, Timestamp)>,
}

/// What a finished piece of work was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Step(Step),
    Recovery(Step),
    Undo,
}

impl Agent {
    pub(crate) fn new(host: HostId, installed: Installed) -> Self {
        Self {
            host,
            generation: 0,
            transactions: BTreeMap::new(),
            current: None,
            installed,
            held: 0,
            skew: 0,
            lags: false,
            share: 100,
            up: true,
            boot: 0,
            doing: Doing::Nothing,
            granted: None,
            asked: 0,
            ran: BTreeMap::new(),
            looked: Vec::new(),
        }
    }

    pub(crate) fn transaction(&self) -> Option<&Transaction> {
        self.transactions.get(self.current.as_ref()?)
    }

    pub(crate) fn progress(&self) -> Option<Progress> {
        Progress::fold(&self.transaction()?.journal).ok().flatten()
    }

    pub(crate) fn next(&self) -> Next {
        // Spares the fold, most of the time.
        let last = self.transaction().and_then(|tx| tx.journal.last());
        if last.is_none_or(|entry| matches!(entry.event, TxEvent::Ended { .. })) {
            return Next::Nothing;
        }
        self.progress().map_or(Next::Nothing, |p| p.next())
    }

    /// What its own clock says.
    pub(crate) fn clock(&self, now: Timestamp) -> Timestamp {
        now.checked_add(SignedDuration::from_secs(self.skew)).unwrap_or(now)
    }

    /// Process gone, disk kept.
    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.boot += 1;
        self.doing = Doing::Nothing;
        self.granted = None;
        self.asked = 0;
        self.ran.clear();
        self.looked.clear();
    }

    /// May the agent begin this assignment? An older generation is refused, the same again is harmless.
    pub(crate) fn accepts(
        &self,
        assignment: &Assignment,
        now: Timestamp,
        any_generation: bool,
    ) -> bool {
        let idle = self.next() == Next::Nothing;
        let fresh = !self.transactions.contains_key(&assignment.id);
        let newer = any_generation || assignment.generation > self.generation;
        let in_time = matches!(assignment.order, Order::Undo { .. })
            || self.clock(now) < assignment.expires_at;
        idle && fresh && newer && in_time && assignment.host == self.host
    }

    pub(crate) fn begin(&mut self, assignment: &Assignment, now: Timestamp) {
        self.generation = assignment.generation;
        let journal = vec![Entry {
            sequence: 0,
            at: self.clock(now),
            event: TxEvent::Begun { assignment: assignment.clone() },
        }];
        let before = self.installed;
        self.transactions.insert(
            assignment.id.clone(),
            Transaction { journal, acknowledged: 0, before, applies: 0 },
        );
        self.current = Some(assignment.id.clone());
        self.granted = None;
        self.asked = 0;
    }

    /// Writes a record, durably. The real fold judges it; gives its complaint.
    pub(crate) fn write(&mut self, now: Timestamp, event: TxEvent) -> Result<(), String> {
        let mut progress = self.progress().ok_or("no journal")?;
        let entry = Entry { sequence: progress.last + 1, at: self.clock(now), event };
        progress.push(&entry).map_err(|e| e.to_string())?;
        if let Some(tx) = self.current.as_ref().and_then(|id| self.transactions.get_mut(id)) {
            if entry.event == (TxEvent::Started { step: Step::Apply }) {
                tx.applies += 1;
            }
            tx.journal.push(entry);
        }
        Ok(())
    }

    /// What the order of the current transaction leads to.
    pub(crate) fn target(&self) -> Option<Installed> {
        match &self.progress()?.assignment.order {
            Order::Apply(order) => Some(led_to(self.transaction()?.before, order)),
            Order::Undo { .. } | Order::Traffic { .. } | Order::Test(_) => None,
        }
    }

    /// What an undo restores, and where from.
    pub(crate) fn preimage(&self) -> Option<Installed> {
        match &self.progress()?.assignment.order {
            Order::Apply(_) | Order::Traffic { .. } | Order::Test(_) => {
                self.transaction().map(|tx| tx.before)
            }
            Order::Undo { assignment, .. } => self.transactions.get(assignment).map(|tx| tx.before),
        }
    }

    /// What it says of its packages. `newest`, `mirror`: what is offered there now.
    pub(crate) fn holding(&self, newest: Offered, mirror: Offered) -> Holding {
        let offered = if self.lags { mirror } else { newest };
        Holding { installed: self.installed, offered, held: self.held }
    }

    /// What it says of the tests that it is asked to run.
    pub(crate) fn says(&self, now: Timestamp) -> Vec<Said> {
        let ago = |at: Timestamp| now.as_second() - at.as_second();
        let said = self.ran.iter();
        said.map(|(ask, (at, came, mood))| gates::said(*mood, ask, ago(*at), came.clone()))
            .collect()
    }

    /// Records the server lacks, a transaction each.
    pub(crate) fn unacknowledged(&self) -> Vec<(AssignmentId, Vec<Entry>)> {
        let lacking = |(id, tx): (&AssignmentId, &Transaction)| {
            let rest = tx.journal.get(tx.acknowledged as usize..)?;
            (!rest.is_empty()).then(|| (id.clone(), rest.to_vec()))
        };
        self.transactions.iter().filter_map(lacking).collect()
    }
}

/// What is installed once the order is carried out.
pub(crate) fn led_to(before: Installed, order: &ApplyOrder) -> Installed {
    let mut after = before;
    for change in &order.changes {
        if let Some((at, to)) = place(&change.name).zip(number(&change.to)) {
            after.versions[at] = to;
        }
    }
    after
}

pub(crate) fn fault(code: &str) -> Fault {
    Fault { code: code.to_owned(), message: format!("simulated {code}"), hint: String::new() }
}

impl Agent {
    /// The share of the traffic that the current order asks for.
    pub(crate) fn traffic(&self) -> Option<u32> {
        match self.progress()?.assignment.order {
            Order::Traffic { share } => Some(share),
            Order::Apply(_) | Order::Undo { .. } | Order::Test(_) => None,
        }
    }

    /// Is the server asked right before this step?
    pub(crate) fn asks_before(&self, step: Step) -> bool {
        matches!(step, Step::Snapshot | Step::Apply) || self.traffic().is_some()
    }
}
