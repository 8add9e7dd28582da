//! A server on a data directory of its own, and scripted agents that speak the real protocol.

use crate::http::{Answer, Identity, ask, tcp, tls};
use fettle_core::assignment::{Assignment, Order};
use fettle_core::inventory::{Inventory, Kernel, Origin, Os, Package, Upgrade};
use fettle_core::operator::Role;
use fettle_core::rollout::Phase;
use fettle_core::transaction::{
    Entry, Fault, Outcome, Step, StepFacts, TransactionReport, TxEvent, UndoFacts,
};
use fettle_core::{Digest, HostId, Problem, Shared, Timestamp};
use fettle_server::feeds::FeedFetching;
use fettle_server::{Running, Server, ServerOptions};
use fettle_wire::agent::{
    CheckIn, CheckInReply, Enroll, Enrolled, MeasuredReport, RanReport, Redeem, RedeemReply,
};
use fettle_wire::api::{
    AddOperator, ApiProblem, MakePlan, MakeToken, OperatorAdded, PlanDetail, RolloutDetail,
    StartRollout, TokenMade,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const OLD: &str = "3.0.14-1~deb12u1";
pub(crate) const NEW: &str = "3.0.15-1~deb12u1";
pub(crate) const CVE: &str = "CVE-2024-5535";

/// A tracker that knows one vulnerability with a fix and one without.
pub(crate) const TRACKER: &str = r#"{
  "openssl": {
    "CVE-2024-5535": {"releases": {"bookworm": {"status": "resolved", "repositories": {"bookworm": "3.0.15-1~deb12u1"},
      "urgency": "not yet assigned", "fixed_version": "3.0.15-1~deb12u1"}}},
    "CVE-2024-0001": {"releases": {"bookworm": {"status": "open", "repositories": {"bookworm": "3.0.15-1~deb12u1"},
      "urgency": "low"}}}
  }
}"#;

/// Two rings, no bake: as quick as a rollout can be.
pub(crate) const POLICY: &str = r#"
[policy]
name = "web"
select = "all"
description = "Web servers"

[[class]]
name = "all"
deadline = "7d"

[[ring]]
name = "canary"
select = "ring=canary"

[[ring]]
name = "broad"

[gate]
bake = "1s"
max-failures = 0
silent-after = "1h"
"#;

pub(crate) fn quick(data: &Path) -> ServerOptions {
    ServerOptions {
        data_dir: data.to_owned(),
        operator: SocketAddr::from(([127, 0, 0, 1], 0)),
        agents: SocketAddr::from(([127, 0, 0, 1], 0)),
        checkin_idle_seconds: 1,
        checkin_busy_seconds: 1,
        bundled_feeds: false,
        // Nobody here is as slow as the internet, unless it is meant.
        feeds: FeedFetching {
            head: Duration::from_secs(2),
            silent: Duration::from_secs(2),
            whole: Duration::from_secs(20),
            grace: Duration::from_millis(500),
            proxies: BTreeMap::new(),
            ..FeedFetching::default()
        },
        announce: false,
        ..ServerOptions::default()
    }
}

pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) running: Option<Running>,
    pub(crate) operator: SocketAddr,
    pub(crate) agents: SocketAddr,
    pub(crate) token: String,
    pub(crate) ca: String,
}

impl Lab {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// With other options than the usual ones; a restart has the usual ones again.
    pub(crate) fn with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = quick(dir.path());
        change(&mut options);
        let running = Server::start(options).unwrap();
        let token =
            std::fs::read_to_string(dir.path().join("operator.token")).unwrap().trim().to_owned();
        let ca = std::fs::read_to_string(dir.path().join("keys/ca.pem")).unwrap();
        let (operator, agents) = (running.operator_addr, running.agents_addr);
        Self { dir, running: Some(running), operator, agents, token, ca }
    }

    /// With feed and policy.
    pub(crate) fn furnished() -> Self {
        let lab = Self::start();
        lab.furnish();
        lab
    }

    /// Loads feed and policy.
    pub(crate) fn furnish(&self) {
        self.post_bytes("/feeds/debian-tracker", TRACKER.as_bytes());
        self.post_bytes("/policies", POLICY.as_bytes());
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// As if the process had been killed: nothing is tidied up.
    pub(crate) fn kill(&mut self) {
        drop(self.running.take());
    }

    /// A new process on the same data directory.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + Duration::from_secs(20);
        // Threads of the dead process may hold the lock a moment longer; a real process would be gone.
        let running = loop {
            match Server::start(quick(self.dir.path())) {
                Ok(running) => break running,
                Err(problem) if Instant::now() > deadline => panic!("{problem}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        (self.operator, self.agents) = (running.operator_addr, running.agents_addr);
        self.running = Some(running);
    }

    /// A new process on another data directory; the old one is gone.
    pub(crate) fn move_to(&mut self, dir: tempfile::TempDir) {
        self.kill();
        self.dir = dir;
        self.restart();
    }

    /// One call of the API, with the token.
    pub(crate) fn call(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.call_as(&self.token, "alice", method, path, body)
    }

    /// One call of the API with somebody's token, under a name of one's choice.
    pub(crate) fn call_as(
        &self,
        token: &str,
        name: &str,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("x-fettle-operator", name)];
        ask(tcp(self.operator).unwrap(), method, &format!("/api/v1{path}"), &headers, body).unwrap()
    }

    /// Adds an operator; gives the token.
    pub(crate) fn add(&self, name: &str, roles: &[Role]) -> String {
        let roles = roles.iter().copied().collect();
        let asked = AddOperator { name: name.to_owned(), roles, expires_seconds: Some(3600) };
        self.post::<OperatorAdded>("/operators", &asked).token
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.call("GET", path, b"");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> T {
        let answer = self.call("POST", path, &serde_json::to_vec(body).unwrap());
        assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    pub(crate) fn post_bytes(&self, path: &str, body: &[u8]) -> Answer {
        let answer = self.call("POST", path, body);
        assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
        answer
    }

    /// A call that must fail, with its status and problem.
    pub(crate) fn refused(&self, method: &str, path: &str, body: &[u8]) -> (u16, ApiProblem) {
        let answer = self.call(method, path, body);
        assert!(answer.status >= 400, "{path}: {} {}", answer.status, answer.text());
        assert_eq!(
            answer.header("content-type").as_deref(),
            Some("application/problem+json"),
            "{path}"
        );
        (answer.status, answer.json())
    }

    /// A one-time token's secret.
    pub(crate) fn secret(&self, ring: &str) -> String {
        let labels = BTreeMap::from([("ring".to_owned(), ring.to_owned())]);
        let made: TokenMade = self.post("/tokens", &MakeToken { labels, ttl_seconds: 600 });
        made.token.parse::<fettle_wire::token::EnrolToken>().unwrap().secret
    }

    /// A new host, enrolled and known.
    pub(crate) fn host(&self, name: &str, ring: &str) -> Agent {
        let mut agent = Agent::enrol(self, name, &self.secret(ring)).unwrap();
        agent.checkin(self);
        agent
    }
}

/// Waits until `done` gives something, at most 30 s.
pub(crate) fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(out) = done() {
            return out;
        }
        assert!(Instant::now() < deadline, "it did not come: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn inventory(version: &str) -> Inventory {
    let package = |name: &str, source: &str| {
        Shared::from(Package {
            name: name.into(),
            architecture: "amd64".into(),
            version: version.into(),
            source: source.into(),
            source_version: version.into(),
            healthy: true,
            module: String::new(),
        })
    };
    let upgrade = |name: &str| {
        Shared::from(Upgrade {
            name: name.into(),
            architecture: "amd64".into(),
            from: version.into(),
            to: NEW.into(),
            origin: Origin {
                origin: "Debian".into(),
                label: "Debian-Security".into(),
                suite: "stable-security".into(),
                codename: "bookworm-security".into(),
            },
            sha256: Digest::of(name.as_bytes()),
            size: 1000,
            source_version: NEW.into(),
            brings: vec![],
            removes: vec![],
        })
    };
    Inventory {
        schema: 1,
        os: Os {
            id: "debian".into(),
            version: "12".into(),
            codename: "bookworm".into(),
            pretty: "Debian GNU/Linux 12 (bookworm)".into(),
        },
        architecture: "amd64".into(),
        kernel: Kernel { running: "6.1.0".into(), ..Kernel::default() },
        boot_id: "b".into(),
        packages: vec![package("libssl3", "openssl"), package("openssl", "openssl")].into(),
        languages: vec![],
        upgrades: if version == NEW {
            vec![]
        } else {
            vec![upgrade("libssl3"), upgrade("openssl")]
        },
        services: vec![],
        listeners: vec![],
        stale: vec![],
        in_use: vec!["libssl3".into()],
        exposed: vec!["libssl3".into()],
        reboot_needed: vec![],
        configuration: BTreeMap::new(),
        held: vec![],
        ..Inventory::default()
    }
}

/// A scripted agent.
pub(crate) struct Agent {
    pub(crate) id: HostId,
    pub(crate) identity: Identity,
    pub(crate) assignment_key: String,
    pub(crate) inventory: Inventory,
    pub(crate) generation: u64,
    /// Which run of the agent speaks.
    pub(crate) session: String,
    /// What it says of the tests that it was asked to run.
    pub(crate) ran: Vec<RanReport>,
    /// What it says that it measured.
    pub(crate) measured: Vec<MeasuredReport>,
    /// The journals the server has not acknowledged to their end, by transaction.
    pub(crate) journals: Vec<(Assignment, Vec<Entry>)>,
    /// Those it has acknowledged.
    pub(crate) sent: Vec<(Assignment, Vec<Entry>)>,
    /// The server's time that it last heard of.
    pub(crate) epoch: Option<String>,
}

pub(crate) fn key_and_csr() -> (Vec<u8>, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["wished-name".to_owned()]).unwrap();
    (key.serialize_der(), params.serialize_request(&key).unwrap().pem().unwrap())
}

/// What an agent's call gives.
pub(crate) fn agent_call<T: DeserializeOwned>(
    lab: &Lab,
    identity: Option<&Identity>,
    what: &str,
    body: &impl Serialize,
) -> Result<T, (u16, Problem)> {
    try_agent_call(lab, identity, what, body).unwrap()
}

/// The same of a server that may be gone before it has answered, or in the middle of it.
pub(crate) fn try_agent_call<T: DeserializeOwned>(
    lab: &Lab,
    identity: Option<&Identity>,
    what: &str,
    body: &impl Serialize,
) -> io::Result<Result<T, (u16, Problem)>> {
    let path = format!("/agent/v1/{what}");
    let stream = tls(lab.agents, &lab.ca, identity)?;
    let answer = ask(stream, "POST", &path, &[], &serde_json::to_vec(body).unwrap())?;
    Ok(if answer.status == 200 {
        Ok(serde_json::from_slice(&answer.body)?)
    } else {
        Err((answer.status, serde_json::from_slice(&answer.body)?))
    })
}

impl Agent {
    pub(crate) fn enrol(lab: &Lab, name: &str, secret: &str) -> Result<Self, (u16, Problem)> {
        let (key, csr) = key_and_csr();
        let asked = Enroll {
            token: secret.to_owned(),
            csr,
            name: name.to_owned(),
            agent_version: "0.1.0".to_owned(),
        };
        let enrolled: Enrolled = agent_call(lab, None, "enroll", &asked)?;
        Ok(Self {
            id: enrolled.host,
            identity: Identity { certificate: enrolled.certificate, key },
            assignment_key: enrolled.assignment_key,
            inventory: inventory(OLD),
            generation: 0,
            session: "first".into(),
            ran: Vec::new(),
            measured: Vec::new(),
            journals: vec![],
            sent: vec![],
            epoch: None,
        })
    }

    pub(crate) fn call<T: DeserializeOwned>(
        &self,
        lab: &Lab,
        what: &str,
        body: &impl Serialize,
    ) -> Result<T, (u16, Problem)> {
        agent_call(lab, Some(&self.identity), what, body)
    }

    /// What it would say now; the inventory only when the server asked for it.
    pub(crate) fn says(&self, whole: bool) -> CheckIn {
        let reports = self.journals.iter().map(|(assignment, entries)| TransactionReport {
            id: assignment.transaction(),
            assignment: assignment.id.clone(),
            generation: assignment.generation,
            plan: assignment.plan,
            entries: entries.clone(),
        });
        CheckIn {
            agent_version: "0.1.0".into(),
            inventory_digest: Some(self.inventory.digest()),
            inventory: whole.then(|| self.inventory.clone()),
            reports: reports.collect(),
            generation: self.generation,
            session: Some(self.session.clone()),
            ran: self.ran.clone(),
            measured: self.measured.clone(),
            clock: Some(Timestamp::now().as_millisecond()),
            plan_keys: None,
            refused: None,
        }
    }

    /// Speaks, sends its inventory if it is wanted, and takes an assignment as a real agent would.
    pub(crate) fn checkin(&mut self, lab: &Lab) -> CheckInReply {
        self.try_checkin(lab).unwrap()
    }

    /// The same with a server that may be gone before it has answered: then nothing has changed here.
    pub(crate) fn try_checkin(&mut self, lab: &Lab) -> io::Result<CheckInReply> {
        let call = |whole| {
            try_agent_call(lab, Some(&self.identity), "checkin", &self.says(whole))?
                .map_err(|(status, problem)| io::Error::other(format!("{status} {problem}")))
        };
        let mut reply: CheckInReply = call(false)?;
        if reply.want_inventory {
            reply = call(true)?;
            assert!(!reply.want_inventory);
        }
        for (assignment, entries) in std::mem::take(&mut self.journals) {
            let next = reply.acknowledged.get(&assignment.transaction()).copied().unwrap_or(0);
            let ended = matches!(entries.last().map(|e| &e.event), Some(TxEvent::Ended { .. }));
            let whole = ended && next as usize == entries.len();
            let kept = if whole { &mut self.sent } else { &mut self.journals };
            kept.push((assignment, entries));
        }
        // As a real agent: a server that was restored hears everything again.
        if self.epoch.is_some() && self.epoch != reply.epoch {
            self.journals.append(&mut self.sent);
        }
        self.epoch.clone_from(&reply.epoch);
        if let Some(signed) = &reply.assignment {
            let assignment = signed.open(&self.assignment_key).unwrap();
            assert_eq!(assignment.host, self.id, "an assignment of another host");
            if assignment.generation > self.generation {
                self.generation = assignment.generation;
                self.note(&assignment.clone(), TxEvent::Begun { assignment });
            }
        }
        Ok(reply)
    }

    /// The assignment it works on.
    pub(crate) fn at_work(&self) -> Option<Assignment> {
        let unfinished = |entries: &[Entry]| {
            !matches!(entries.last().map(|e| &e.event), Some(TxEvent::Ended { .. }))
        };
        self.journals.iter().find(|(_, entries)| unfinished(entries)).map(|(a, _)| a.clone())
    }

    pub(crate) fn note(&mut self, assignment: &Assignment, event: TxEvent) {
        let journal = match self.journals.iter_mut().find(|(a, _)| a.id == assignment.id) {
            Some((_, journal)) => journal,
            None => {
                self.journals.push((assignment.clone(), vec![]));
                &mut self.journals.last_mut().unwrap().1
            }
        };
        journal.push(Entry { sequence: journal.len() as u64, at: Timestamp::now(), event });
    }

    pub(crate) fn steps(&mut self, assignment: &Assignment, steps: &[Step]) {
        for step in steps {
            self.note(assignment, TxEvent::Started { step: *step });
            let facts = StepFacts { milliseconds: 5, ..StepFacts::default() };
            self.note(assignment, TxEvent::Finished { step: *step, facts });
        }
    }

    pub(crate) fn redeem(&self, lab: &Lab, assignment: &Assignment) -> RedeemReply {
        let asked = Redeem {
            assignment: assignment.id.clone(),
            generation: assignment.generation,
            needs_seconds: None,
        };
        self.call(lab, "redeem", &asked).unwrap()
    }

    /// Up to the point where the host is about to change.
    pub(crate) fn prepare(&mut self, assignment: &Assignment) {
        self.steps(assignment, &[Step::Preflight, Step::Stage, Step::Rehearse]);
    }

    /// From redeemed to the end.
    pub(crate) fn patch(&mut self, assignment: &Assignment) {
        self.steps(
            assignment,
            &[Step::Snapshot, Step::Drain, Step::Apply, Step::Activate, Step::Verify, Step::Commit],
        );
        self.note(assignment, TxEvent::Ended { outcome: Outcome::Patched });
        self.inventory = inventory(NEW);
    }

    /// The service does not come back: undone.
    pub(crate) fn fail(&mut self, assignment: &Assignment) {
        self.steps(assignment, &[Step::Snapshot, Step::Drain, Step::Apply]);
        self.note(assignment, TxEvent::Started { step: Step::Activate });
        let fault = Fault {
            code: "service-not-back".into(),
            message: "nginx.service did not come back".into(),
            hint: "look at its journal".into(),
        };
        let reason = fault.message.clone();
        self.note(assignment, TxEvent::Failed { step: Step::Activate, fault });
        self.undo(assignment, &reason);
    }

    pub(crate) fn undo(&mut self, assignment: &Assignment, reason: &str) {
        self.note(assignment, TxEvent::UndoStarted { reason: reason.into() });
        self.note(assignment, TxEvent::UndoFinished { facts: UndoFacts::default() });
        self.note(
            assignment,
            TxEvent::Ended { outcome: Outcome::Undone { reason: reason.into() } },
        );
        self.inventory = inventory(OLD);
    }

    /// Does what it was told, whole. `good`: the change works.
    pub(crate) fn work(&mut self, lab: &Lab, good: bool) {
        let Some(assignment) = self.at_work() else { return };
        match &assignment.order {
            Order::Undo { reason, .. } => {
                let reason = reason.clone();
                self.undo(&assignment, &reason);
            }
            Order::Traffic { share } => {
                let step = if *share == 0 { Step::Drain } else { Step::Commit };
                // One that was followed by another is told no, and its end changes nothing.
                if self.redeem(lab, &assignment) == RedeemReply::Go {
                    self.steps(&assignment, &[step]);
                    self.note(&assignment, TxEvent::Ended { outcome: Outcome::Switched });
                }
            }
            Order::Test(_) => panic!("{} is no worker", assignment.host),
            Order::Apply(_) => {
                self.prepare(&assignment);
                assert_eq!(self.redeem(lab, &assignment), RedeemReply::Go);
                if good { self.patch(&assignment) } else { self.fail(&assignment) }
            }
        }
        self.checkin(lab);
    }
}

pub(crate) fn plan(lab: &Lab) -> PlanDetail {
    lab.post("/plans", &MakePlan { policy: "web".into(), hosts: vec![] })
}

pub(crate) fn start(lab: &Lab) -> RolloutDetail {
    let plan = plan(lab);
    lab.post("/rollouts", &StartRollout { plan: plan.number, digest: Some(plan.digest) })
}

pub(crate) fn rollout(lab: &Lab) -> RolloutDetail {
    lab.get("/rollouts/ro-1")
}

pub(crate) fn finished(lab: &Lab, agents: &mut [Agent]) -> RolloutDetail {
    until("the rollout's end", || {
        for agent in agents.iter_mut() {
            agent.checkin(lab);
            agent.work(lab, true);
        }
        Some(rollout(lab)).filter(|r| r.row.phase == Phase::Done)
    })
}
