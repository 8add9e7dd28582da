//! The model: what there is, what may happen next, and what must not.

use fettle_core::assignment::{ApplyOrder, PackageChange};
use fettle_core::plan::{Budget, HostPlan, Plan, SCHEMA, Wave, Work};
use fettle_core::policy::{GateRule, UndoRule};
use fettle_core::rollout::{
    HostObservation, HostRun, HostState, Observations, Phase, Rollout, RolloutEvent, Sight,
};
use fettle_core::transaction::{Entry, Outcome, TxEvent};
use fettle_core::{AssignmentId, Digest, HostId, RolloutId, Timestamp};
use stateright::{Model, Property};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

const HOSTS: usize = 3;
/// The canary, then the others.
const WAVES: [&[usize]; 2] = [&[0], &[1, 2]];
/// A grant outlives one of them and dies in the second, and so long a host may be mute.
const TICK_SECONDS: i64 = 1800;
const SILENT_AFTER_SECONDS: u64 = 3000;
/// Hosts that may be disrupted at once.
const AT_ONCE: usize = 1;

/// How far the model goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// So often the clock moves on.
    pub(crate) ticks: u8,
    /// So many words operators say: pause, resume, abort.
    pub(crate) words: u8,
    /// So many changes come out badly.
    pub(crate) bad: u8,
}

/// A guard outside the core, to be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// The plan's budget.
    Budget,
    /// The agent asks right before it changes the host.
    Asking,
    /// The server looks before it says yes.
    Answering,
    /// The agent carries out a generation once.
    Ledger,
}

impl Guard {
    /// Each, with the invariant that is broken without it.
    pub(crate) const ALL: [(Self, Broken); 4] = [
        (Self::Budget, Broken::Budget),
        (Self::Asking, Broken::Halt),
        (Self::Answering, Broken::Halt),
        (Self::Ledger, Broken::Once),
    ];
}

/// An invariant that did not hold; numbers as in ARCHITECTURE.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    Budget,
    Order,
    Gate,
    Once,
    Halt,
    Resume,
    Terminal,
    Generation,
    Barred,
    Log,
    Conservation,
    Truth,
}

impl Broken {
    pub(crate) const ALL: [Self; 12] = [
        Self::Budget,
        Self::Order,
        Self::Gate,
        Self::Once,
        Self::Halt,
        Self::Resume,
        Self::Terminal,
        Self::Generation,
        Self::Barred,
        Self::Log,
        Self::Conservation,
        Self::Truth,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Budget => "1 budget",
            Self::Order => "2 order",
            Self::Gate => "3 gate",
            Self::Once => "4 at most once",
            Self::Halt => "6 halt",
            Self::Resume => "7 resume",
            Self::Terminal => "9 terminal",
            Self::Generation => "12 generation",
            Self::Barred => "16 barred",
            Self::Log => "17 log",
            Self::Conservation => "19 conservation",
            Self::Truth => "14, 15 truth",
        }
    }
}

/// A message on its way. It may arrive often, late, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    Order(usize, u64),
    Ask(usize, u64),
    Yes(usize, u64),
    Ended(usize, u64, bool),
}

/// What a server process has decided and not yet written.
#[derive(Debug, Clone, Default, PartialEq)]
enum Decided {
    #[default]
    Nothing,
    On(u64, Vec<RolloutEvent>),
    /// Something that will be refused, whatever it is.
    Stale,
}

/// An agent, and its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Agent {
    /// The highest generation it has begun: its ledger.
    begun: u64,
    /// It has begun that one, and has neither ended nor left it.
    at_work: bool,
    /// The server said yes, so the host is being changed.
    changing: bool,
    /// How often the package manager was started for the generation at work.
    applied: u8,
    patched: bool,
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    rollout: Rollout,
    servers: [Decided; 2],
    agents: [Agent; HOSTS],
    /// When each host last spoke, in ticks.
    heard: [u8; HOSTS],
    tick: u8,
    words_left: u8,
    bad_left: u8,
    net: BTreeSet<Message>,
    broken: Option<Broken>,
}

/// What may happen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// A server looks at everything and decides.
    Look(usize),
    /// It writes what it decided, perhaps much later.
    Write(usize),
    /// A host checks in, and is handed what stands for it.
    CheckIn(usize),
    Arrives(Message),
    /// The change of a host comes to its end, and the host says so.
    Ends {
        host: usize,
        bad: bool,
    },
    Tick,
    Pause,
    Resume,
    Abort,
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct World {
    bounds: Bounds,
    without: Option<Guard>,
}

fn id(host: usize) -> HostId {
    HostId(format!("h{host}"))
}

fn at(tick: u8) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + i64::from(tick) * TICK_SECONDS)
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn rollout_id() -> RolloutId {
    RolloutId("ro-1".into())
}

fn cohort() -> Digest {
    Digest([7; 32])
}

fn assignment(host: usize, generation: u64) -> AssignmentId {
    AssignmentId(format!("{}/{}/{generation}", rollout_id(), id(host)))
}

fn plan(without: Option<Guard>) -> Plan {
    let gate = GateRule {
        bake_seconds: 0,
        silent_after_seconds: SILENT_AFTER_SECONDS,
        undo: Some(UndoRule::None),
        ..GateRule::default()
    };
    let change = PackageChange {
        name: "nginx".into(),
        architecture: "amd64".into(),
        from: "1".into(),
        to: "2".into(),
        sha256: Digest([1; 32]),
        size: 1,
    };
    let work = Arc::new(Work {
        order: ApplyOrder { changes: vec![change.into()], ..ApplyOrder::default() },
        why: BTreeMap::new(),
        restarts: Vec::new(),
        reboot_likely: false,
        due: None,
        ignore_windows: false,
    });
    let of_wave = |wave: usize| {
        let work = &work;
        WAVES[wave].iter().map(move |&host| {
            let plan = HostPlan {
                name: id(host).to_string(),
                cohort: cohort(),
                ring: format!("ring {wave}"),
                wave: wave as u32,
                work: work.clone(),
            };
            (id(host), plan)
        })
    };
    let wave = |number: usize| Wave {
        ring: format!("ring {number}"),
        hosts: WAVES[number].iter().map(|host| id(*host)).collect(),
        why: String::new(),
        gate: gate.clone(),
        soak_seconds: 0,
        after_seconds: 0,
        rolling: false,
        traffic: None,
    };
    let budget = Budget {
        name: "all".into(),
        hosts: (0..HOSTS).map(id).collect(),
        max_unavailable: AT_ONCE as u32,
        ..Budget::default()
    };
    Plan {
        schema: SCHEMA,
        number: 1,
        parent: None,
        policy: "all".into(),
        policy_digest: Digest([2; 32]),
        made_at: at(0),
        seed: 0,
        hosts: of_wave(0).chain(of_wave(1)).collect(),
        waves: vec![wave(0), wave(1)],
        budgets: if without == Some(Guard::Budget) { vec![] } else { vec![budget] },
        pools: None,
        testbed: None,
        approvals_needed: 0,
        held: Vec::new(),
    }
}

impl State {
    fn now(&self) -> Timestamp {
        at(self.tick)
    }

    fn observed(&self) -> Observations {
        let host = |host: usize| {
            let seen = HostObservation {
                last_seen: Some(at(self.heard[host])),
                cohort: Some(cohort()),
                generation: self.rollout.hosts[&id(host)].generation.unwrap_or(0),
                ..HostObservation::default()
            };
            (id(host), seen)
        };
        Observations { hosts: (0..HOSTS).map(host).collect(), ..Observations::default() }
    }

    fn run(&self, host: usize) -> &HostRun {
        &self.rollout.hosts[&id(host)]
    }

    fn must(&mut self, holds: bool, broken: Broken) {
        if !holds && self.broken.is_none() {
            self.broken = Some(broken);
        }
    }

    /// Persists events on top of each other; what does not fit is refused, as the store does it: all or nothing.
    fn persist(&mut self, events: &[RolloutEvent]) {
        let mut next = self.rollout.clone();
        let mut steps = Vec::new();
        for event in events {
            let before = next.clone();
            if next.apply(self.now(), event).is_err() {
                return;
            }
            steps.push((before, event));
        }
        for (number, (before, event)) in steps.iter().enumerate() {
            let after = steps.get(number + 1).map_or(&next, |(after, _)| after).clone();
            self.judge(before, &after, event);
        }
        self.rollout = next;
        for run in (0..HOSTS).map(|host| self.run(host).clone()).collect::<Vec<_>>() {
            let barred = !self.rollout.barred.is_empty();
            self.must(!matches!(run.state, HostState::Undone { .. }) || barred, Broken::Barred);
        }
    }

    fn judge(&mut self, before: &Rollout, after: &Rollout, event: &RolloutEvent) {
        self.must(after.version == before.version + 1, Broken::Log);
        self.must(after.hosts.len() == HOSTS, Broken::Conservation);
        self.must(after.counts().values().sum::<u32>() == HOSTS as u32, Broken::Conservation);
        for (id, run) in &after.hosts {
            let was = &before.hosts[id];
            let late = was.silent && matches!(event, RolloutEvent::Ended { .. });
            let stays = !was.state.is_terminal() || was.state == run.state;
            self.must(stays || late, Broken::Terminal);
        }
        if matches!(before.phase, Phase::Halted { .. }) && after.phase == Phase::Running {
            self.must(matches!(event, RolloutEvent::Resumed { .. }), Broken::Resume);
        }
        match event {
            RolloutEvent::Granted { host, generation, .. } => {
                self.must(before.phase == Phase::Running, Broken::Halt);
                let run = &before.hosts[host];
                let mut earlier = before.hosts.values().filter(|other| other.wave < run.wave);
                let ended = earlier.all(|other| other.state.is_terminal());
                let passed = (0..run.wave).all(|wave| before.gates.contains_key(&wave));
                self.must(ended && passed, Broken::Order);
                self.must(
                    run.generation.is_none_or(|known| *generation > known),
                    Broken::Generation,
                );
                let disrupted = |(id, run): &(&HostId, &HostRun)| {
                    *id != host
                        && (run.at_work() || matches!(run.state, HostState::Quarantined { .. }))
                };
                let others = before.hosts.iter().filter(disrupted).count();
                self.must(others < AT_ONCE, Broken::Budget);
            }
            RolloutEvent::Redeemed { .. } => {
                self.must(before.phase == Phase::Running, Broken::Halt);
            }
            RolloutEvent::GatePassed { wave, .. } => {
                let excused = before.excused_wave == Some(*wave);
                for &host in WAVES[*wave as usize] {
                    let run = before.hosts[&id(host)].clone();
                    self.must(run.state.is_terminal(), Broken::Order);
                    let patched = run.state == HostState::Patched;
                    let spoke = Some(at(self.heard[host])) > run.ended_at;
                    self.must(excused || patched && spoke, Broken::Gate);
                }
            }
            _ => {}
        }
    }

    /// The agent is told to begin.
    fn begins(&mut self, host: usize, generation: u64, ledger: bool) {
        let agent = &mut self.agents[host];
        if agent.changing || ledger && generation <= agent.begun {
            return;
        }
        // Without a ledger the count goes on: it is the same generation.
        let again = generation == agent.begun;
        let applied = if again { agent.applied } else { 0 };
        *agent =
            Agent { begun: generation, at_work: true, changing: false, applied, ..agent.clone() };
    }

    /// The package manager is started.
    fn applies(&mut self, host: usize) {
        let agent = &mut self.agents[host];
        agent.changing = true;
        agent.applied += 1;
        let applied = agent.applied;
        self.must(applied <= 1, Broken::Once);
        let redeemed = self.run(host).state == HostState::Redeemed || self.run(host).silent;
        self.must(redeemed, Broken::Halt);
        let changing = self.agents.iter().filter(|agent| agent.changing).count();
        self.must(changing <= AT_ONCE, Broken::Budget);
    }
}

impl World {
    pub(crate) fn new(bounds: Bounds, without: Option<Guard>) -> Self {
        Self { bounds, without }
    }

    fn lacks(&self, guard: Guard) -> bool {
        self.without == Some(guard)
    }

    fn arrives(&self, state: &mut State, message: Message) {
        match message {
            Message::Order(host, generation) => {
                state.begins(host, generation, !self.lacks(Guard::Ledger));
                let agent = &state.agents[host];
                if !agent.at_work || agent.changing || agent.begun != generation {
                    return;
                }
                if self.lacks(Guard::Asking) {
                    state.applies(host);
                } else {
                    state.net.insert(Message::Ask(host, generation));
                }
            }
            Message::Ask(host, generation) => {
                state.heard[host] = state.tick;
                let order = assignment(host, generation);
                let seen = state.observed();
                let answer =
                    state.rollout.redeem(state.now(), &id(host), &order, generation, &seen);
                let event = match answer {
                    Ok(event) => event,
                    Err(_) if self.lacks(Guard::Answering) => None,
                    Err(_) => return,
                };
                state.persist(event.as_slice());
                state.net.insert(Message::Yes(host, generation));
            }
            Message::Yes(host, generation) => {
                let agent = &state.agents[host];
                if agent.at_work && !agent.changing && agent.begun == generation {
                    state.applies(host);
                }
            }
            Message::Ended(host, generation, bad) => {
                state.heard[host] = state.tick;
                let outcome = if bad {
                    Outcome::Undone { reason: "it came out badly".into() }
                } else {
                    Outcome::Patched
                };
                let entry =
                    Entry { sequence: 1, at: state.now(), event: TxEvent::Ended { outcome } };
                let order = assignment(host, generation);
                let events = state.rollout.report(&id(host), &order, &[entry]);
                state.persist(&events);
                let (run, agent) = (state.run(host).clone(), state.agents[host].clone());
                let is_true = match run.state {
                    HostState::Patched => agent.patched,
                    HostState::Undone { .. } => !agent.patched,
                    _ => true,
                };
                state.must(is_true, Broken::Truth);
            }
        }
    }

    fn writes(state: &mut State, server: usize) {
        if let Decided::On(version, events) = std::mem::take(&mut state.servers[server])
            && version == state.rollout.version
        {
            state.persist(&events);
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let first = Rollout::create(&rollout_id(), plan(self.without), "operator");
        let Ok(rollout) = Rollout::begin(&rollout_id(), at(0), &first) else { return Vec::new() };
        vec![State {
            rollout,
            servers: Default::default(),
            agents: Default::default(),
            heard: [0; HOSTS],
            tick: 0,
            words_left: self.bounds.words,
            bad_left: self.bounds.bad,
            net: BTreeSet::new(),
            broken: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (server, decided) in state.servers.iter().enumerate() {
            actions.push(Action::Look(server));
            if !matches!(decided, Decided::Nothing) {
                actions.push(Action::Write(server));
            }
        }
        for (host, agent) in state.agents.iter().enumerate() {
            actions.push(Action::CheckIn(host));
            if agent.changing {
                actions.push(Action::Ends { host, bad: false });
                if state.bad_left > 0 {
                    actions.push(Action::Ends { host, bad: true });
                }
            }
        }
        actions.extend(state.net.iter().map(|message| Action::Arrives(*message)));
        if state.tick < self.bounds.ticks {
            actions.push(Action::Tick);
        }
        if state.words_left > 0 {
            actions.extend([Action::Pause, Action::Resume, Action::Abort]);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        // Nothing is learnt from what comes after a breach.
        if before.broken.is_some() {
            return None;
        }
        let mut state = before.clone();
        match action {
            Action::Look(server) => {
                let sight = Sight::of(&state.rollout, state.observed());
                let decision = state.rollout.next(state.now(), &sight);
                if decision.events.is_empty() {
                    return None;
                }
                state.servers[server] = Decided::On(state.rollout.version, decision.events);
            }
            Action::Write(server) => Self::writes(&mut state, server),
            Action::CheckIn(host) => {
                state.heard[host] = state.tick;
                let stands = state.rollout.standing_assignment(&id(host)).is_some();
                if let Some(generation) = state.run(host).generation.filter(|_| stands) {
                    state.net.insert(Message::Order(host, generation));
                }
            }
            Action::Arrives(message) => self.arrives(&mut state, message),
            Action::Ends { host, bad } => {
                state.bad_left -= u8::from(bad);
                let agent = &mut state.agents[host];
                (agent.at_work, agent.changing, agent.patched) = (false, false, !bad);
                let ended = Message::Ended(host, agent.begun, bad);
                state.net.insert(ended);
            }
            Action::Tick => state.tick += 1,
            Action::Pause | Action::Resume | Action::Abort => {
                let rollout = &state.rollout;
                let event = match action {
                    Action::Pause => rollout.pause("operator", ""),
                    Action::Resume => rollout.resume("operator", ""),
                    _ => rollout.abort("operator", ""),
                };
                state.words_left -= 1;
                state.persist(&[event.ok()?]);
            }
        }
        let version = state.rollout.version;
        for decided in &mut state.servers {
            let stale = matches!(decided, Decided::On(on, _) if *on < version);
            if stale {
                *decided = Decided::Stale;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! holds {
            ($($broken:ident),*) => {
                vec![$(Property::always(Broken::$broken.word(), |_, state: &State| {
                    state.broken != Some(Broken::$broken)
                })),*]
            };
        }
        let mut out = holds!(
            Budget,
            Order,
            Gate,
            Once,
            Halt,
            Resume,
            Terminal,
            Generation,
            Barred,
            Log,
            Conservation,
            Truth
        );
        if self.without.is_none() {
            out.extend(sometimes());
        }
        out
    }
}

/// What has to come up, or that nothing was broken means nothing.
pub(crate) const SOMETIMES: [&str; 8] = [
    "every host is patched and it is done",
    "a bad change halts it in the middle of a wave",
    "a server has decided on what is no more",
    "a grant died and another was given",
    "a host fell silent at work",
    "the true end of a silent host came late",
    "a host ends after an abort",
    "an order comes again after its end",
];

fn sometimes() -> Vec<Property<World>> {
    fn runs(state: &State) -> impl Iterator<Item = &HostRun> {
        state.rollout.hosts.values()
    }
    vec![
        Property::sometimes("every host is patched and it is done", |_, state: &State| {
            state.rollout.phase == Phase::Done && runs(state).all(|r| r.state == HostState::Patched)
        }),
        Property::sometimes("a bad change halts it in the middle of a wave", |_, state: &State| {
            matches!(state.rollout.phase, Phase::Halted { .. })
                && state.rollout.wave == 1
                && runs(state).any(|run| matches!(run.state, HostState::Undone { .. }))
                && runs(state).any(|run| run.state == HostState::Pending)
        }),
        Property::sometimes("a server has decided on what is no more", |_, state: &State| {
            state.servers.iter().any(|it| matches!(it, Decided::Stale))
        }),
        Property::sometimes("a grant died and another was given", |_, state: &State| {
            runs(state).any(|run| run.grants > 1 && run.at_work())
        }),
        Property::sometimes("a host fell silent at work", |_, state: &State| {
            runs(state).any(|r| r.silent)
        }),
        Property::sometimes("the true end of a silent host came late", |_, state: &State| {
            state.rollout.failures > 0 && runs(state).all(|run| !run.state.is_failure())
        }),
        Property::sometimes("a host ends after an abort", |_, state: &State| {
            let aborted = matches!(state.rollout.phase, Phase::Aborted { .. });
            aborted && runs(state).any(|run| run.ended_at > Some(at(0)) && run.grants > 0)
        }),
        Property::sometimes("an order comes again after its end", |_, state: &State| {
            let again = |(host, agent): (usize, &Agent)| {
                !agent.at_work && state.net.contains(&Message::Order(host, agent.begun))
            };
            state.agents.iter().enumerate().any(again)
        }),
    ]
}

/// Two states that this writes alike go on alike: of the version only counts which servers have decided on it.
impl Hash for State {
    fn hash<H: Hasher>(&self, out: &mut H) {
        let it = &self.rollout;
        (it.phase.word(), it.wave, it.wave_ended_at, it.wave_not_before).hash(out);
        (it.failures, it.pardoned, it.excused_wave, it.barred.len(), it.ended_at).hash(out);
        (&it.gates, it.faulted.len()).hash(out);
        for run in it.hosts.values() {
            (run.state.word(), run.generation, run.expires_at, run.grants).hash(out);
            (run.silent, run.reported_at, run.ended_at).hash(out);
        }
        let mut decided: Vec<String> = self
            .servers
            .iter()
            .map(|decided| match decided {
                Decided::Nothing => String::new(),
                Decided::Stale => "stale".to_owned(),
                Decided::On(version, events) => format!("{} {events:?}", *version == it.version),
            })
            .collect();
        // One is as good as the other.
        decided.sort_unstable();
        decided.hash(out);
        (&self.agents, self.heard, self.tick, self.words_left, self.bad_left).hash(out);
        (&self.net, self.broken).hash(out);
    }
}
