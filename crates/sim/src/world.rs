//! The virtual clock and everything that happens on it.

mod agents;
mod cycles;
mod fleet;
mod operator;
mod plans;
mod servers;

use crate::agent::{Agent, Work};
use crate::check::Checker;
use crate::fleet::{self as draws, Faults, Image, Vendor, after};
use crate::gates::{self, Mood};
use crate::packages::Holding;
use crate::policies;
use crate::random::Random;
use crate::server::{RolloutRow, Store};
use crate::upstream::{Feed, Upstream};
use crate::{Options, Report, Sabotage, twins};
use fettle_core::assignment::Assignment;
use fettle_core::rollout::{HostAsk, Phase, RolloutEvent};
use fettle_core::testbed::Work as TestWork;
use fettle_core::transaction::{Entry, Next};
use fettle_core::{AssignmentId, Hold, HostId, RolloutId, Timestamp};
use std::collections::BTreeMap;

/// Something due at a point of time.
#[derive(Debug)]
enum Happening {
    /// A server process looks at all rollouts.
    Look {
        process: usize,
        token: u64,
    },
    /// It persists what it decided, perhaps much later.
    Write {
        process: usize,
        boot: u64,
        rollout: RolloutId,
        version: u64,
        events: Vec<RolloutEvent>,
    },
    StartProcess {
        process: usize,
    },
    CheckIn {
        host: HostId,
    },
    /// An agent begins whatever comes next.
    Kick {
        host: HostId,
        boot: u64,
    },
    Finish {
        host: HostId,
        boot: u64,
        work: Work,
    },
    /// No answer came to a request to redeem.
    Unanswered {
        host: HostId,
        boot: u64,
        asked: u32,
    },
    StartAgent {
        host: HostId,
    },
    ToServer(Box<Request>),
    ToAgent {
        host: HostId,
        reply: Box<Reply>,
    },
    /// Evaluators are asked what gates want to know.
    Ask,
    /// Chances for operators and faults.
    Tick,
    /// Somebody makes a plan by this policy.
    MakePlan {
        policy: String,
    },
    /// Somebody starts a plan.
    StartPlan {
        plan: u64,
    },
    /// A worker reports.
    Test {
        work: TestWork,
    },
}

#[derive(Debug, Clone)]
enum Request {
    CheckIn {
        host: HostId,
        holding: Holding,
        reports: Vec<(AssignmentId, Vec<Entry>)>,
        said: Vec<gates::Said>,
        told: Vec<gates::Told>,
    },
    Redeem {
        host: HostId,
        assignment: AssignmentId,
        generation: u64,
        needs_seconds: u64,
    },
}

#[derive(Debug, Clone)]
enum Reply {
    CheckedIn {
        acknowledged: Vec<(AssignmentId, u64)>,
        assignment: Option<Assignment>,
        asks: Vec<HostAsk>,
        looked: Vec<(RolloutId, Timestamp)>,
    },
    Redeemed {
        assignment: AssignmentId,
        answer: Result<(), Hold>,
    },
}

/// A server process: two of them share the store.
#[derive(Debug)]
struct Process {
    up: bool,
    boot: u64,
    started_at: Timestamp,
    token: u64,
    look_at: Timestamp,
}

pub(crate) use plans::SILENT_AFTER_SECONDS;

pub(crate) struct World {
    options: Options,
    random: Random,
    now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    queued: u64,
    store: Store,
    agents: BTreeMap<HostId, Agent>,
    processes: [Process; 2],
    vendor: Vendor,
    faults: Faults,
    checker: Checker,
    report: Report,
    healed: bool,
    drifts: u16,
    images: Vec<Image>,
    upstream: Upstream,
    enrolled: usize,
    cycles_wake: Timestamp,
    moods: BTreeMap<(RolloutId, String), Mood>,
}

/// Virtual time the epilogue may take; a rollout that a full budget stops is aborted after a third of it.
const EPILOGUE_SECONDS: u64 = 3 * 86_400;

/// A run that has not ended after so many happenings is stuck in a loop.
const MOST_HAPPENINGS: u64 = 300_000;

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let mut random = Random::new(seed);
        let now = draws::start();
        let count = options.hosts.unwrap_or_else(|| random.between(3, 8) as usize);
        let upstream = Upstream::new(&mut random);
        let images = draws::images(&mut random, upstream.newest);
        let laws = policies::laws(&mut random, &upstream.words, count);
        let store = Store::new(laws, Feed::of(&upstream.words));
        let agents = BTreeMap::new();
        let process =
            || Process { up: true, boot: 0, started_at: now, token: 0, look_at: Timestamp::MAX };
        let vendor = draws::vendor(&mut random);
        let faults = draws::faults(&mut random);
        let report = Report { seed, ..Report::default() };
        let checker = Checker::new(seed);
        let mut world = Self {
            options,
            random,
            now,
            queue: BTreeMap::new(),
            queued: 0,
            store,
            agents,
            processes: [process(), process()],
            vendor,
            faults,
            checker,
            report,
            healed: false,
            drifts: 0,
            images,
            upstream,
            enrolled: 0,
            cycles_wake: now,
            moods: BTreeMap::new(),
        };
        world.tell(|w| format!("{count} hosts, {:?}, {:?}", w.vendor, w.faults));
        world.tell(|w| w.store.laws.iter().map(|law| format!("{law:?}\n")).collect());
        for _ in 0..count {
            world.enrol();
        }
        world.look_soon(0);
        world.look_soon(1);
        world.due(60, Happening::Tick);
        world.due(45, Happening::Ask);
        let policies: Vec<String> =
            world.store.laws.iter().map(|law| law.policy.name.clone()).collect();
        for policy in policies {
            // Everybody has spoken by then.
            let first = world.random.between(300, 900);
            world.due(first, Happening::MakePlan { policy });
        }
        world
    }

    pub(crate) fn run(mut self) -> Report {
        let hours = self.random.between(3, 12);
        let end = after(self.now, hours * 3600);
        self.until(end);
        self.heal();
        let patience = after(self.now, EPILOGUE_SECONDS / 3);
        self.until(patience);
        // A closed window hides a full budget: it is looked at over a whole period of windows.
        for _ in 0..4 {
            self.abort_what_a_full_budget_stops();
            let hour = after(self.now, 3600);
            self.until(hour);
        }
        let patience = after(self.now, EPILOGUE_SECONDS * 2 / 3);
        self.until(patience);
        self.judge_the_end();
        self.report.host_seconds = (self.now.as_second() - draws::start().as_second())
            .unsigned_abs()
            * self.agents.len() as u64;
        self.report.violations = self.checker.violations;
        for (what, count) in self.checker.sometimes {
            *self.report.sometimes.entry(what).or_insert(0) += count;
        }
        self.report
    }

    /// Goes on until `end`, or, once the faults have stopped, until everything has come to rest.
    fn until(&mut self, end: Timestamp) {
        while let Some(((at, order), happening)) = self.queue.pop_first() {
            if at > end
                || !self.checker.violations.is_empty()
                || self.report.events > MOST_HAPPENINGS
            {
                self.queue.insert((at, order), happening);
                break;
            }
            self.now = at;
            self.report.events += 1;
            let tick = matches!(happening, Happening::Tick);
            self.happen(happening);
            if tick && self.healed && self.at_rest() {
                break;
            }
        }
        if self.report.events > MOST_HAPPENINGS {
            self.checker.violated(self.now, "24 liveness", "it runs in a circle".to_owned());
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Look { process, token } if self.processes[process].token == token => {
                self.look(process)
            }
            Happening::Look { .. } => {}
            Happening::Write { process, boot, rollout, version, events } => {
                if self.processes[process].boot == boot && self.processes[process].up {
                    self.write_decision(process, &rollout, version, &events);
                }
            }
            Happening::StartProcess { process } => self.start_process(process),
            Happening::CheckIn { host } => self.check_in(&host),
            Happening::Kick { host, boot } => {
                if self.agents.get(&host).is_some_and(|a| a.boot == boot) {
                    self.kick(&host);
                }
            }
            Happening::Finish { host, boot, work } => {
                if self.agents.get(&host).is_some_and(|a| a.boot == boot) {
                    self.finish(&host, work);
                }
            }
            Happening::Unanswered { host, boot, asked } => self.unanswered(&host, boot, asked),
            Happening::StartAgent { host } => self.start_agent(&host),
            Happening::ToServer(request) => self.serve(*request),
            Happening::ToAgent { host, reply } => self.hear(&host, *reply),
            Happening::Ask => self.ask_evaluators(),
            Happening::Tick => self.tick(),
            Happening::MakePlan { policy } => self.somebody_plans(&policy),
            Happening::StartPlan { plan } => self.somebody_starts(plan),
            Happening::Test { work } => self.test(work),
        }
    }

    /// A twin was tested, if somebody still waits for it; and again later, as long as somebody does.
    fn test(&mut self, work: TestWork) {
        let waits = |row: &RolloutRow| {
            row.state.ended_at.is_none()
                && row.state.awaits_tests()
                && row.state.plan.hosts.values().any(|host| TestWork::of(host) == work)
        };
        if !self.store.rollouts.values().any(waits) {
            return;
        }
        // A twin is made after a host that is still what the plan was made for. Without one it waits.
        let hosts = self.store.rollouts.values().flat_map(|row| &row.state.plan.hosts);
        let like = |id: &HostId| self.store.hosts.get(id).and_then(|row| row.cohort);
        let mut like = hosts.filter(|(_, h)| TestWork::of(h) == work).map(|(id, _)| like(id));
        if !like.any(|cohort| cohort == Some(work.cohort)) {
            self.checker.sometimes("no host for a twin");
            return self.due(900, Happening::Test { work });
        }
        let tested = twins::some(&mut self.random, self.now, self.healed);
        self.tell(|_| format!("a twin of {} is {}", work.cohort, tested.state.word()));
        if twins::is_proof(&tested) {
            self.store.proved.insert(work);
        }
        self.store.tests.insert(work, tested);
        let again = self.random.between(900, 3600);
        self.due(again, Happening::Test { work });
        self.signal();
    }

    /// The faults stop.
    fn heal(&mut self) {
        self.tell(|_| "the faults stop".to_owned());
        self.healed = true;
        self.faults = Faults::default();
        self.vendor.dies_later = 0;
        self.store.hosts.values_mut().for_each(|row| row.unwell = false);
        self.agents.values_mut().for_each(|agent| agent.skew = 0);
        self.reopen();
        // Whoever could not answer can; what is bad stays bad.
        self.moods.values_mut().filter(|mood| **mood != Mood::Bad).for_each(|m| *m = Mood::Good);
        for process in 0..self.processes.len() {
            if !self.processes[process].up {
                self.start_process(process);
            }
        }
        let hosts: Vec<HostId> = self.agents.keys().cloned().collect();
        for host in hosts {
            self.start_agent(&host);
        }
        self.resume_paused();
    }

    fn at_rest(&self) -> bool {
        let member = |a: &&Agent| self.store.hosts.contains_key(&a.host);
        self.store.at_rest()
            && self
                .agents
                .values()
                .filter(member)
                .all(|a| a.next() == Next::Nothing && a.unacknowledged().is_empty())
    }

    /// What must be true in the end.
    fn judge_the_end(&mut self) {
        if !self.checker.violations.is_empty() {
            return;
        }
        if !self.at_rest() {
            let mut why = Vec::new();
            for (id, row) in &self.store.rollouts {
                let seen = self.store.observe(self.now, id, None, None);
                let holds: Vec<String> = row
                    .state
                    .decide(self.now, &seen)
                    .holds
                    .iter()
                    .map(|w| w.hold.to_string())
                    .collect();
                why.push(format!(
                    "{id} {} {:?}: {}",
                    row.state.phase.word(),
                    row.state.counts(),
                    holds.join("; ")
                ));
            }
            for agent in self.agents.values() {
                why.push(format!(
                    "{} {:?} unsent {}",
                    agent.host,
                    agent.next(),
                    agent.unacknowledged().len()
                ));
            }
            self.checker.violated(self.now, "24 liveness", why.join(" | "));
            return;
        }
        self.last_plans();
        self.checker.evidence_arrived(self.now, &self.store, &self.agents);
        self.checker.way_back(self.now, &self.store, &self.agents);
        self.checker.red_undone(self.now, &self.store);
        for row in self.store.rollouts.values() {
            if row.state.phase == Phase::Done
                && row.state.counts().keys().all(|word| *word == "patched")
            {
                self.checker.sometimes("full success");
            }
        }
    }

    fn due(&mut self, seconds: u64, happening: Happening) {
        self.queued += 1;
        self.queue.insert((after(self.now, seconds), self.queued), happening);
    }

    /// A line of the story.
    fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.options.story {
            let second = self.now.as_second() - draws::start().as_second();
            let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
            let line = format!("{h:03}:{m:02}:{s:02} {}", line(self));
            self.report.story.push(line);
        }
    }

    /// Sends over a network that loses, doubles and delays.
    fn send(&mut self, message: impl Fn() -> Happening) {
        let copies = 1 + u64::from(self.random.permille(self.faults.double));
        for _ in 0..copies {
            if self.random.permille(self.faults.lose) {
                self.checker.sometimes("message lost");
                continue;
            }
            let late = self.random.permille(self.faults.delay);
            let delay = if late { self.random.between(1, 600) } else { self.random.between(0, 1) };
            self.due(delay, message());
        }
    }

    fn sabotaged(&self, by: Sabotage) -> bool {
        self.options.sabotage == Some(by)
    }
}
