//! Agents: check in, begin, go on after a crash, ask before they change the host.

use super::{Happening, Reply, Request, World};
use crate::agent::{Agent, Doing, Work, fault, led_to};
use crate::fleet::after;
use crate::gates::{self, Mood, Told, TrulyMeasured, TrulyRan};
use crate::packages::{Health, number, place};
use crate::{Sabotage, check};
use fettle_core::assignment::Order;
use fettle_core::rollout::{Came, HostAsk, HostState};
use fettle_core::transaction::{Next, Outcome, Step, StepFacts, TxEvent, UndoFacts};
use fettle_core::{HostId, RolloutId};

impl World {
    fn agent(&mut self, host: &HostId) -> Option<&mut Agent> {
        self.agents.get_mut(host).filter(|a| a.up)
    }

    pub(super) fn check_in(&mut self, host: &HostId) {
        let Some(agent) = self.agents.get(host) else { return };
        let busy = agent.next() != Next::Nothing;
        let asked = !agent.ran.is_empty() || !agent.looked.is_empty();
        let pause =
            if busy || asked { self.random.between(30, 90) } else { self.random.between(120, 240) };
        self.due(pause, Happening::CheckIn { host: host.clone() });
        self.speak(host);
    }

    fn speak(&mut self, host: &HostId) {
        let Some(agent) = self.agents.get(host).filter(|a| a.up) else { return };
        let holding = agent.holding(self.upstream.newest, self.upstream.mirror);
        let (reports, said) = (agent.unacknowledged(), agent.says(self.now));
        let told = self.tell_measured(host);
        let request = Request::CheckIn { host: host.clone(), holding, reports, said, told };
        self.send(|| Happening::ToServer(Box::new(request.clone())));
    }

    /// An answer arrives: perhaps late, doubled, or from before a crash.
    pub(super) fn hear(&mut self, host: &HostId, reply: Reply) {
        let now = self.now;
        let lax = self.sabotaged(Sabotage::IgnoreGenerations);
        let Some(agent) = self.agent(host) else { return };
        match reply {
            Reply::CheckedIn { acknowledged, assignment, asks, looked } => {
                let news = agent.looked != looked;
                agent.looked = looked;
                if news {
                    self.speak(host);
                }
                self.run_asked(host, &asks);
                let Some(agent) = self.agent(host) else { return };
                for (id, count) in acknowledged {
                    if let Some(tx) = agent.transactions.get_mut(&id) {
                        tx.acknowledged = tx.acknowledged.max(count);
                    }
                }
                let Some(assignment) = assignment else { return };
                let Some(agent) = self.agent(host) else { return };
                if agent.accepts(&assignment, now, lax) {
                    let earlier = agent.generation;
                    agent.begin(&assignment, now);
                    self.tell(|_| format!("{host} begins {}", assignment.id));
                    if assignment.generation <= earlier {
                        let detail = format!(
                            "{host} took generation {} after {earlier}",
                            assignment.generation
                        );
                        self.checker.violated(now, "12 generation", detail);
                    }
                    self.kick_soon(host);
                } else if agent.generation > assignment.generation {
                    self.checker.sometimes("older assignment refused");
                }
            }
            Reply::Redeemed { assignment, answer } => {
                let Doing::Asking(step) = agent.doing else { return };
                if agent.current.as_ref() != Some(&assignment) {
                    return;
                }
                agent.doing = Doing::Nothing;
                match answer {
                    Ok(()) => agent.granted = Some(step),
                    Err(hold) => return self.not_let_begin(host, step, hold.code()),
                }
                self.kick(host);
            }
        }
    }

    /// What it has measured since, for every gate that looks at it.
    fn tell_measured(&mut self, host: &HostId) -> Vec<Told> {
        let now = self.now;
        let Some(agent) = self.agents.get(host) else { return Vec::new() };
        let (mut out, mut truly) = (Vec::new(), Vec::new());
        for (rollout, began) in &agent.looked {
            let mood = self.moods.get(&(rollout.clone(), "speed".to_owned()));
            let mut mood = gates::mood_of(host, mood.copied().unwrap_or(Mood::Good));
            // What is not patched is as it was.
            let patched =
                self.store.rollouts.get(rollout).and_then(|row| row.state.hosts.get(host));
            if mood == Mood::Bad && patched.is_none_or(|run| run.state != HostState::Patched) {
                mood = Mood::Good;
            }
            let Some(samples) = gates::samples(mood, *began, now) else { continue };
            let slow = samples.last().and_then(|s| s.microseconds).is_none_or(|took| took > 20_000);
            let lies = matches!(mood, Mood::Old | Mood::Elsewhere | Mood::Tomorrow);
            truly.push(TrulyMeasured { host: host.clone(), at: now, good: !lies && !slow });
            out.push(Told { rollout: rollout.clone(), samples });
        }
        for one in truly {
            self.checker.sometimes(if one.good {
                "host measured well"
            } else {
                "host measured badly"
            });
            self.store.truly_measured.push(one);
        }
        out
    }

    /// Runs what gates ask for, where that is due, and tells it at once.
    fn run_asked(&mut self, host: &HostId, asks: &[HostAsk]) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(host) else { return };
        agent.ran.retain(|ask, _| asks.iter().any(|asked| asked.ask == *ask));
        let mut news = false;
        for HostAsk { ask, .. } in asks {
            let last = agent.ran.get(ask).map(|(at, ..)| *at);
            if last.is_some_and(|at| after(at, 30) > now) {
                continue;
            }
            // Of which rollout, and which check: whoever is asked behaves alike over all of it.
            let mut parts = ask.splitn(4, '/');
            let key = parts.next().zip(parts.nth(2));
            let key = key.map(|(id, check)| (RolloutId(id.to_owned()), check.to_owned()));
            let mood = key.and_then(|key| self.moods.get(&key).copied()).unwrap_or(Mood::Good);
            let mood = gates::mood_of(host, mood);
            let Some(came) = gates::came(&mut self.random, mood) else { continue };
            let lies = matches!(mood, Mood::Old | Mood::Elsewhere | Mood::Tomorrow);
            self.checker.sometimes(match (&came, lies) {
                (_, true) => "host lies about its test",
                (Came::Well, _) => "host's test well",
                (Came::Badly { .. }, _) => "host's test badly",
                (Came::Lacks { .. }, _) => "host lacks its test",
            });
            let well = came == Came::Well && !lies;
            let truly = TrulyRan { host: host.clone(), ask: ask.clone(), at: now, well };
            self.store.ran.push(truly);
            agent.ran.insert(ask.clone(), (now, came, mood));
            news = true;
        }
        if news {
            self.speak(host);
        }
    }

    pub(super) fn unanswered(&mut self, host: &HostId, boot: u64, asked: u32) {
        let waits = |a: &&mut Agent| {
            a.boot == boot && a.asked == asked && matches!(a.doing, Doing::Asking(_))
        };
        if let Some(agent) = self.agent(host).filter(waits) {
            agent.doing = Doing::Nothing;
            self.kick(host);
        }
    }

    fn not_let_begin(&mut self, host: &HostId, step: Step, code: &str) {
        self.record(host, TxEvent::Failed { step, fault: fault(code) });
        self.kick(host);
    }

    /// Writes a journal record and checks what must hold then.
    fn record(&mut self, host: &HostId, event: TxEvent) {
        let now = self.now;
        self.tell(|_| format!("{host} writes {}", words(&event)));
        let Some(agent) = self.agents.get_mut(host) else { return };
        if let Err(error) = agent.write(now, event.clone()) {
            return self.checker.violated(
                now,
                "4 at most once",
                format!("{host} wrote {event:?}: {error}"),
            );
        }
        check::journal(&mut self.checker, now, agent, &event, &self.store);
    }

    fn kick_soon(&mut self, host: &HostId) {
        let Some(boot) = self.agents.get(host).map(|a| a.boot) else { return };
        let pause = self.random.between(0, 2);
        self.due(pause, Happening::Kick { host: host.clone(), boot });
    }

    fn crashes(&mut self, host: &HostId) -> bool {
        let crash = self.random.permille(self.faults.agent_crash);
        if crash {
            let seconds =
                if self.random.permille(200) { 1800 } else { self.random.between(5, 300) };
            self.take_down(host, seconds);
        }
        crash
    }

    /// Begins whatever the journal says comes next.
    pub(super) fn kick(&mut self, host: &HostId) {
        let now = self.now;
        let never_asks = self.sabotaged(Sabotage::NeverRedeem);
        let Some(agent) = self.agent(host).filter(|a| a.doing == Doing::Nothing) else { return };
        let next = agent.next();
        if next == Next::Nothing || self.crashes(host) {
            return;
        }
        let Some(agent) = self.agent(host) else { return };
        match next {
            Next::Run(step)
                if agent.asks_before(step) && agent.granted != Some(step) && !never_asks =>
            {
                let Some(progress) = agent.progress() else { return };
                if agent.asked > 40 || agent.clock(now) >= progress.assignment.expires_at {
                    return self.not_let_begin(host, step, "no-data");
                }
                agent.asked += 1;
                agent.doing = Doing::Asking(step);
                let (boot, asked) = (agent.boot, agent.asked);
                let (assignment, generation) =
                    (progress.assignment.id, progress.assignment.generation);
                let needs_seconds = self.random.between(30, 1800);
                self.send(|| {
                    let (host, assignment) = (host.clone(), assignment.clone());
                    Happening::ToServer(Box::new(Request::Redeem {
                        host,
                        assignment,
                        generation,
                        needs_seconds,
                    }))
                });
                self.due(30, Happening::Unanswered { host: host.clone(), boot, asked });
            }
            Next::Run(step) => {
                self.record(host, TxEvent::Started { step });
                let Some(agent) = self.agent(host) else { return };
                if step == Step::Apply {
                    agent.installed = agent.installed.is(Health::Half);
                }
                self.work(host, Work::Step(step));
            }
            Next::Recover(step) => {
                self.checker.sometimes("step recovered");
                if step == Step::Apply && self.sabotaged(Sabotage::ForgetJournal) {
                    let current = self.agents.get(host).and_then(|a| a.current.clone());
                    let agent = self.agents.get_mut(host);
                    if let Some(tx) =
                        agent.zip(current).and_then(|(a, id)| a.transactions.get_mut(&id))
                    {
                        tx.applies += 1;
                    }
                }
                self.work(host, Work::Recovery(step));
            }
            Next::Undo { reason } => {
                let possible = agent.preimage().is_some() && can_undo(agent);
                if possible {
                    self.record(host, TxEvent::UndoStarted { reason });
                    self.work(host, Work::Undo);
                } else {
                    self.not_let_begin(host, Step::Preflight, "preimage-gone");
                }
            }
            Next::End(outcome) => {
                self.checker.sometimes(match outcome {
                    Outcome::Patched => "patched",
                    Outcome::Switched => "traffic switched",
                    Outcome::Undone { .. } => "undone",
                    Outcome::Refused { .. } => "refused",
                    Outcome::Quarantined { .. } => "quarantine",
                });
                self.record(host, TxEvent::Ended { outcome });
                self.speak(host);
            }
            Next::Nothing => {}
        }
    }

    fn work(&mut self, host: &HostId, work: Work) {
        if self.crashes(host) {
            return;
        }
        let seconds = self.random.between(1, 120);
        let Some(agent) = self.agent(host) else { return };
        agent.doing = Doing::Working;
        let boot = agent.boot;
        self.due(seconds, Happening::Finish { host: host.clone(), boot, work });
    }

    /// A piece of work comes to its end, well or badly.
    pub(super) fn finish(&mut self, host: &HostId, work: Work) {
        if self.crashes(host) {
            return;
        }
        let (refused, apply, verify, undo) = (
            self.vendor.refused,
            self.vendor.apply_fails,
            self.vendor.verify_fails,
            self.vendor.undo_fails,
        );
        let roll = self.random.between(0, 999);
        let dies_later = self.random.permille(self.vendor.dies_later);
        let Some(agent) = self.agent(host) else { return };
        agent.doing = Doing::Nothing;
        agent.granted = None;
        let finished = |step| TxEvent::Finished { step, facts: StepFacts::default() };
        let failed = |step, code: &str| TxEvent::Failed { step, fault: fault(code) };
        let event = match work {
            Work::Step(step) if agent.traffic().is_some() => {
                if roll < apply.min(50) {
                    failed(step, "balancer")
                } else {
                    agent.share = agent.traffic().unwrap_or_default();
                    finished(step)
                }
            }
            Work::Step(Step::Preflight) if !starts_from_plan(agent) => {
                failed(Step::Preflight, "not-as-planned")
            }
            Work::Step(Step::Preflight) if roll < refused => failed(Step::Preflight, "lock-held"),
            Work::Step(step @ Step::Apply) | Work::Recovery(step @ Step::Apply) => {
                // An apply that was cut off may or may not be completed.
                let bad = if work == Work::Step(step) { apply } else { apply.max(300) };
                if roll < bad {
                    agent.installed = agent.installed.is(Health::Broken);
                    failed(step, "apply-failed")
                } else {
                    agent.installed = agent.target().unwrap_or(agent.installed);
                    finished(step)
                }
            }
            Work::Step(step @ Step::Verify) | Work::Recovery(step @ Step::Verify)
                if roll < verify =>
            {
                failed(step, "service-not-back")
            }
            Work::Step(step) | Work::Recovery(step) => finished(step),
            Work::Undo if roll < undo => {
                agent.installed = agent.installed.is(Health::Broken);
                let differing = vec!["/etc/nginx/nginx.conf".to_owned()];
                TxEvent::UndoFinished { facts: UndoFacts { differing, ..UndoFacts::default() } }
            }
            Work::Undo => {
                agent.installed = agent.preimage().unwrap_or(agent.installed);
                TxEvent::UndoFinished { facts: UndoFacts::default() }
            }
        };
        let committed = event == finished(Step::Commit) && agent.traffic().is_none();
        self.record(host, event);
        check::traffic(&mut self.checker, self.now, host, &self.agents, &self.store);
        if committed && dies_later {
            let seconds = self.random.between(3600, 14_400);
            return self.take_down(host, seconds);
        }
        self.kick(host);
    }

    /// The agent's process, or the whole host, is gone for so long.
    pub(super) fn take_down(&mut self, host: &HostId, seconds: u64) {
        self.tell(|_| format!("{host} goes down for {seconds} s"));
        if let Some(agent) = self.agents.get_mut(host) {
            agent.crash();
            self.due(seconds, Happening::StartAgent { host: host.clone() });
        }
    }

    pub(super) fn start_agent(&mut self, host: &HostId) {
        let Some(agent) = self.agents.get_mut(host).filter(|a| !a.up) else { return };
        agent.up = true;
        self.tell(|_| format!("{host} is up"));
        self.checker.sometimes("agent restarted");
        self.speak(host);
        self.kick_soon(host);
    }
}

/// Preflight refuses when the host is not what the plan was made for.
fn starts_from_plan(agent: &Agent) -> bool {
    let Some(progress) = agent.progress() else { return false };
    match &progress.assignment.order {
        Order::Apply(order) => {
            agent.installed.health == Health::Whole
                && order.changes.iter().all(|change| {
                    place(&change.name).is_some_and(|at| {
                        number(&change.from).unwrap_or(0) == agent.installed.versions[at]
                            && agent.held & (1 << at) == 0
                    })
                })
        }
        Order::Undo { .. } | Order::Traffic { .. } | Order::Test(_) => true,
    }
}

/// An undo order is refused when somebody else has changed the packages since.
fn can_undo(agent: &Agent) -> bool {
    let Some(progress) = agent.progress() else { return false };
    let Order::Undo { assignment, .. } = &progress.assignment.order else { return true };
    let installed_then =
        agent.transactions.get(assignment).and_then(|tx| match &tx.journal.first()?.event {
            TxEvent::Begun { assignment } => match &assignment.order {
                Order::Apply(order) => Some(led_to(tx.before, order)),
                Order::Undo { .. } | Order::Traffic { .. } | Order::Test(_) => None,
            },
            _ => None,
        });
    // Interrupted in its midst: it goes on.
    progress.undo.is_some() || installed_then.as_ref() == Some(&agent.installed)
}

fn words(event: &TxEvent) -> String {
    match event {
        TxEvent::Started { step } | TxEvent::Finished { step, .. } => {
            format!("{} {}", event.word(), step.word())
        }
        TxEvent::Failed { step, fault } => format!("failed {}: {}", step.word(), fault.code),
        TxEvent::Ended { outcome } => format!("ended {}", outcome.word()),
        other => other.word().to_owned(),
    }
}
