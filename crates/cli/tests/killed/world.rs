//! A server's process that dies again and again, its agents, and an operator who repeats what was not answered.

use crate::fleet::{Agent, Lab, OLD, POLICY, TRACKER, inventory, try_agent_call};
use crate::http::{Answer, ask, tcp};
use crate::watch::Watch;
use fettle_core::assignment::{Assignment, Order};
use fettle_core::ledger::LedgerEntry;
use fettle_core::rollout::RolloutEvent;
use fettle_core::transaction::{Fault, Outcome, TxEvent};
use fettle_core::{Digest, Hold};
use fettle_wire::agent::{Redeem, RedeemReply};
use fettle_wire::api::{
    HostDetail, LedgerVerified, MakePlan, Page, PlanDetail, RolloutDetail, StartRollout,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Something that does not come in so long does not come.
const PATIENCE: Duration = Duration::from_secs(120);
const SIGKILL: i32 = 9;

/// How one life of the server ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kill {
    /// Before the so-manieth call of this name that one of its threads makes.
    AtCall(&'static str, u32),
    /// After so many milliseconds.
    After(u64),
}

impl Kill {
    /// Many, spread by a seed: before parts of a commit are written, before they are on the disk, and at any instant.
    pub(crate) fn some(seed: u64) -> Vec<Self> {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let one = |_| match next(5) {
            0 | 1 => Self::AtCall("pwrite64", 4 + next(14) as u32),
            2 | 3 => Self::AtCall("fdatasync,fsync", 2 + next(4) as u32),
            _ => Self::After(80 + next(500)),
        };
        (0..24).map(one).collect()
    }

    fn word(&self) -> String {
        match self {
            Self::AtCall(call, _) => (*call).to_owned(),
            Self::After(_) => "instant".to_owned(),
        }
    }
}

pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) agents: Vec<Agent>,
    pub(crate) watch: Watch,
    server: Option<Life>,
    /// How the next lives end; when there are none left, the server lives.
    kills: Vec<Kill>,
    /// Those that fired.
    pub(crate) fired: Vec<String>,
    deadline: Instant,
}

/// One life of the server's process.
pub(crate) struct Life {
    pub(crate) child: Child,
    kill: Option<Kill>,
    begun: Instant,
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on, and that nobody is given who asks for any: while the server is dead, another test or
/// the near end of another connection would have it, and the next life could not listen.
pub(crate) fn free() -> SocketAddr {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    loop {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(ASKED.fetch_add(1, Ordering::Relaxed));
        // Linux hands out those from 32768 on (ip(7), `ip_local_port_range`).
        let port = 12_000 + (hasher.finish() % 20_000) as u16;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// The program, on the data and the ports of a lab.
pub(crate) fn program(lab: &Lab, kill: Option<&Kill>) -> Command {
    let fettle = env!("CARGO_BIN_EXE_fettle");
    let mut command = match kill {
        Some(Kill::AtCall(call, when)) => {
            let mut strace = Command::new("strace");
            // `-D`: the server stays our own child, so its end is seen as it was.
            strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
            strace.args(["-e", &format!("inject={call}:signal=SIGKILL:when={when}"), fettle]);
            strace
        }
        _ => Command::new(fettle),
    };
    command
        .args(["server", "--checkin-idle", "1", "--data"])
        .arg(lab.data())
        .args(["--operator-listen", &lab.operator.to_string()])
        .args(["--agents-listen", &lab.agents.to_string()])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("FETTLE_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::options().create(true).append(true).open(words(lab)).unwrap());
    command
}

/// What all lives of the server of a lab said.
fn words(lab: &Lab) -> PathBuf {
    lab.data().join("words.log")
}

impl Life {
    pub(crate) fn begin(lab: &Lab, kill: Option<Kill>) -> Self {
        let child = program(lab, kill.as_ref()).spawn().expect("strace and fettle are there");
        Self { child, kill, begun: Instant::now() }
    }

    /// Waits until it has ended by itself, at most half a minute.
    pub(crate) fn end(mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has it ended? Gives how, where it did.
    fn look(&mut self) -> Option<ExitStatus> {
        if let Some(Kill::After(milliseconds)) = self.kill
            && self.begun.elapsed() >= Duration::from_millis(milliseconds)
        {
            self.child.kill().unwrap();
            return Some(self.child.wait().unwrap());
        }
        self.child.try_wait().unwrap()
    }
}

impl World {
    /// Three hosts in two rings, with a feed and a policy; the server's process is not there yet.
    pub(crate) fn new(kills: Vec<Kill>) -> Self {
        // Furnished without the data that the program brings with it, which are of no use here.
        let mut lab = Lab::start();
        lab.post_bytes("/feeds/debian-tracker", TRACKER.as_bytes());
        lab.post_bytes("/policies", POLICY.as_bytes());
        let agents = ["canary-1", "web-1", "web-2"];
        let agents = agents.map(|name| lab.host(name, name.split('-').next().unwrap()));
        lab.kill();
        (lab.operator, lab.agents) = (free(), free());
        Self {
            lab,
            agents: agents.into(),
            watch: Watch::default(),
            server: None,
            kills,
            fired: Vec::new(),
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// Every part does what it does by itself, once; a server that has died is started again.
    pub(crate) fn turn(&mut self) {
        assert!(Instant::now() < self.deadline, "it does not come: {}", self.story());
        self.mind_server();
        for agent in &mut self.agents {
            // What was not answered is said again.
            if act(agent, &self.lab, &mut self.watch).is_err() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn mind_server(&mut self) {
        if let Some(life) = &mut self.server
            && let Some(status) = life.look()
        {
            let kill = life.kill.take();
            self.server = None;
            match kill.filter(|_| status.signal() == Some(SIGKILL)) {
                Some(kill) => self.fired.push(kill.word()),
                None => self.watch.broken.push(format!("the server ended by itself: {status}")),
            }
        }
        if self.server.is_none() {
            let kill = self.kills.pop();
            self.server = Some(Life::begin(&self.lab, kill));
        }
    }

    /// What is known of how it came to this.
    fn story(&self) -> String {
        let words = std::fs::read_to_string(words(&self.lab)).unwrap_or_default();
        format!("{:#?}\nthe server said:\n{words}", self.watch)
    }

    /// A call of the API, repeated until there is an answer.
    fn insist(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        loop {
            match self.call(method, path, body) {
                Ok(answer) if answer.status != 503 => return answer,
                _ => self.turn(),
            }
        }
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let bearer = format!("Bearer {}", self.lab.token);
        let headers = [("authorization", bearer.as_str()), ("x-fettle-operator", "alice")];
        let path = format!("/api/v1{path}");
        let answer = ask(tcp(self.lab.operator)?, method, &path, &headers, body)?;
        // The server may have died in the middle of it.
        serde_json::from_slice::<serde_json::Value>(&answer.body)?;
        Ok(answer)
    }

    pub(crate) fn get<T: DeserializeOwned>(&mut self, path: &str) -> T {
        let answer = self.insist("GET", path, b"");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    fn post(&mut self, path: &str, body: &impl Serialize) -> Answer {
        self.insist("POST", path, &serde_json::to_vec(body).unwrap())
    }

    /// Each host is offered this version, and the server knows it.
    pub(crate) fn offer(&mut self, version: &str) {
        self.deadline = Instant::now() + PATIENCE;
        for at in 0..self.agents.len() {
            let mut offered = inventory(OLD);
            for upgrade in &mut offered.upgrades {
                upgrade.to = version.into();
                upgrade.source_version = version.into();
                upgrade.sha256 = Digest::of(format!("{}={version}", upgrade.name).as_bytes());
            }
            self.agents[at].inventory = offered;
            while let Err(error) = self.agents[at].try_checkin(&self.lab) {
                self.mind_server();
                std::thread::sleep(Duration::from_millis(20));
                let why = || format!("the server does not take the inventory: {error}");
                assert!(Instant::now() < self.deadline, "{}\n{}", why(), self.story());
            }
        }
    }

    /// A plan is made and started; an order that was not answered is looked for before it is given again.
    pub(crate) fn start(&mut self) -> String {
        let before = self.get::<Page<serde_json::Value>>("/rollouts").total;
        let plan = loop {
            let answer = self.post("/plans", &MakePlan { policy: "web".into(), hosts: vec![] });
            assert!(answer.status < 300, "{}", answer.text());
            let plan: PlanDetail = answer.json();
            if plan.plan.hosts.len() == 3 {
                break plan;
            }
            // A server that has just begun has not heard of everybody, and plans for nobody who is silent.
            let silent = |hold: &Hold| matches!(hold, Hold::HostSilent { .. });
            let reasons: Vec<_> = plan.plan.held().flat_map(|h| h.reasons.clone()).collect();
            assert!(reasons.iter().any(silent), "{reasons:?}");
            self.turn();
        };
        let id = format!("ro-{}", before + 1);
        let asked = StartRollout { plan: plan.number, digest: Some(plan.digest) };
        let body = serde_json::to_vec(&asked).unwrap();
        let deadline = self.deadline;
        loop {
            assert!(Instant::now() < deadline, "it cannot be started");
            if let Ok(answer) = self.call("POST", "/rollouts", &body)
                && answer.status != 503
            {
                assert_eq!(answer.status, 201, "{}", answer.text());
                self.watch.promised(&answer.json());
                break;
            }
            self.turn();
            if self.get::<Page<serde_json::Value>>("/rollouts").total > before {
                break;
            }
        }
        id
    }

    /// Everything is to be taken back.
    pub(crate) fn undo(&mut self, id: &str) {
        self.deadline = Instant::now() + PATIENCE;
        loop {
            let path = format!("/rollouts/{id}/undo");
            if let Ok(answer) = self.call("POST", &path, br#"{"reason":"customers complain"}"#)
                && answer.status != 503
            {
                assert_eq!(answer.status, 200, "{}", answer.text());
                self.watch.promised(&answer.json());
                return;
            }
            self.turn();
            let detail: RolloutDetail = self.get(&format!("/rollouts/{id}"));
            if detail.hosts.iter().all(|h| h.run.undo_asked.is_some()) {
                return;
            }
        }
    }

    /// Goes on until the rollout is as `is` says.
    pub(crate) fn until(&mut self, id: &str, is: impl Fn(&RolloutDetail) -> bool) {
        self.deadline = Instant::now() + PATIENCE;
        loop {
            self.turn();
            if let Ok(answer) = self.call("GET", &format!("/rollouts/{id}"), b"")
                && answer.status == 200
            {
                let detail: RolloutDetail = answer.json();
                self.watch.promised(&detail);
                if is(&detail) {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What does not hold, of what must hold whatever happens: nothing.
    pub(crate) fn broken(&mut self) -> Vec<String> {
        // Nobody is killed while accounts are taken.
        self.kills.clear();
        self.deadline = Instant::now() + PATIENCE;
        self.server = None;
        let mut broken = std::mem::take(&mut self.watch.broken);
        let ledger: LedgerVerified = self.get("/ledger/verify");
        broken.extend(ledger.broken.map(|at| format!("the ledger does not hold: {at:?}")));
        for id in self.watch.rollouts() {
            let detail: RolloutDetail = self.get(&format!("/rollouts/{id}"));
            self.watch.promised(&detail);
            let counted: u64 = detail.row.hosts_by_state.values().sum();
            if counted as usize != detail.hosts.len() {
                broken.push(format!("{id}: {counted} hosts are counted"));
            }
            for (version, record) in (1..).zip(&detail.events) {
                if record.version != version {
                    broken.push(format!("{id}: event {version} is missing"));
                }
            }
            broken.extend(self.watch.unfounded(&detail));
        }
        for at in 0..self.agents.len() {
            while !self.agents[at].journals.is_empty() {
                self.turn();
            }
            let host: HostDetail = self.get(&format!("/hosts/{}", self.agents[at].id));
            for (assignment, entries) in &self.agents[at].sent {
                let kept = host.transactions.iter().find(|t| t.id == assignment.transaction());
                if kept.is_none_or(|kept| kept.last + 1 != entries.len() as u64) {
                    broken.push(format!("the journal of {} is not whole", assignment.id));
                }
            }
        }
        broken.append(&mut self.watch.broken);
        broken
    }

    /// What happened, apart from times and from the order among hosts: the events of all rollouts, and the orders that
    /// were signed.
    pub(crate) fn account(&mut self) -> Vec<String> {
        self.kills.clear();
        let mut all = Vec::new();
        for id in self.watch.rollouts() {
            let detail: RolloutDetail = self.get(&format!("/rollouts/{id}"));
            for record in &detail.events {
                let mut event = match &record.event {
                    RolloutEvent::Created { by, .. } => serde_json::json!({ "created": by }),
                    other => serde_json::to_value(other).unwrap(),
                };
                if let Some(fields) = event.as_object_mut() {
                    fields.retain(|name, _| name != "expires_at" && name != "next_not_before");
                    // Whose end came first is chance.
                    if record.event.word() == "barred" {
                        fields.remove("reason");
                    }
                }
                all.push(format!("{id} {event}"));
            }
        }
        let ledger: Page<LedgerEntry> = self.get("/ledger?limit=10000");
        let signed = ledger.items.iter().filter(|e| e.kind == "assignment.signed");
        all.extend(signed.map(|e| format!("signed {}", e.subject)));
        for line in &mut all {
            for (at, agent) in self.agents.iter().enumerate() {
                *line = line.replace(agent.id.as_str(), &format!("host-{at}"));
            }
        }
        all.sort();
        all
    }

    /// The server's process, to do something to.
    pub(crate) fn life(&mut self) -> &mut Life {
        self.mind_server();
        self.server.as_mut().unwrap()
    }

    /// From now on the server is this process, at other ports. Gives the one it was.
    pub(crate) fn follow(&mut self, life: Life) -> Option<Life> {
        self.server.replace(life)
    }
}

/// One turn of an agent: it speaks, goes on with what it was told, and speaks again. A server that does not answer is
/// asked again next time.
fn act(agent: &mut Agent, lab: &Lab, watch: &mut Watch) -> io::Result<()> {
    speak(agent, lab, watch)?;
    let Some(assignment) = agent.at_work() else { return Ok(()) };
    watch.told(&assignment);
    match &assignment.order {
        Order::Apply(_) => {
            let fresh =
                agent.journals.iter().any(|(a, log)| a.id == assignment.id && log.len() == 1);
            if fresh {
                agent.prepare(&assignment);
                speak(agent, lab, watch)?;
            }
            let asked = Redeem {
                assignment: assignment.id.clone(),
                generation: assignment.generation,
                needs_seconds: None,
            };
            let reply = try_agent_call(lab, Some(&agent.identity), "redeem", &asked)?;
            match reply
                .map_err(|(status, problem)| io::Error::other(format!("{status} {problem}")))?
            {
                RedeemReply::Go => {
                    watch.went(&assignment);
                    agent.patch(&assignment);
                }
                RedeemReply::Stop { hold } => refuse(agent, &assignment, hold.code()),
            }
        }
        Order::Undo { reason, .. } => {
            watch.went(&assignment);
            agent.undo(&assignment, reason);
        }
        other => panic!("nobody ordered {other:?}"),
    }
    speak(agent, lab, watch)
}

fn refuse(agent: &mut Agent, assignment: &Assignment, code: &str) {
    let fault = Fault { code: code.into(), message: "told to stop".into(), hint: String::new() };
    agent.note(assignment, TxEvent::Ended { outcome: Outcome::Refused { fault } });
}

fn speak(agent: &mut Agent, lab: &Lab, watch: &mut Watch) -> io::Result<()> {
    let reply = agent.try_checkin(lab)?;
    watch.acknowledged(&reply.acknowledged);
    Ok(())
}
