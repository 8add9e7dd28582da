//! The agent as a service: look at the host, check in, obey.
//!
//! One thread and one loop. What costs memory or time is elsewhere: the inventory is taken by a short-lived child
//! (`fettle-agent inventory`), a transaction runs on a thread of its own and wakes the loop with each journal record.

mod asked;
mod inventory;
mod measured;
mod reports;
mod twins;
mod worker;

use crate::identity::{self, Identity};
use crate::link::{Link, LinkError};
use crate::orders;
use crate::plan_keys;
use crate::settings::Settings;
use fettle_core::assignment::Order;
use fettle_core::{Problem, ProblemKind, Timestamp};
use fettle_wire::agent::{CheckInReply, RefusedOrder, Renew, Renewed};
use fettle_wire::plan_key::{PlanProof, SignedKeySet};
use fettle_wire::sign::SignedAssignment;
use ring::rand::SecureRandom as _;
use serde::Serialize;
use serde_json::value::RawValue;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// After an unanswered check-in the agent waits at least and at most so long, doubling.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How often the host is looked at for a change between check-ins that are far apart.
const GLANCE: Duration = Duration::from_secs(60);

/// What is sent: [`fettle_wire::agent::CheckIn`], with the inventory as the text the child wrote.
#[derive(Serialize)]
struct CheckInText<'a> {
    agent_version: &'static str,
    inventory_digest: Option<fettle_core::Digest>,
    inventory: Option<&'a RawValue>,
    reports: Vec<fettle_core::transaction::TransactionReport>,
    generation: u64,
    session: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ran: Vec<fettle_wire::agent::RanReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    measured: Vec<fettle_wire::agent::MeasuredReport>,
    clock: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_keys: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a RefusedOrder>,
}

/// Runs until SIGTERM or SIGINT. A transaction under way is left to its own unit and journal; the next start
/// takes it up again.
///
/// # Errors
/// When the host is not enrolled, another agent runs, or the state directory cannot be used.
pub fn run(settings: &Settings) -> Result<(), Problem> {
    let _lock = lock(settings)?;
    let identity = identity::load(settings)?.ok_or_else(|| {
        Problem::new(
            ProblemKind::Refused,
            "not-enrolled",
            "this host is not enrolled",
            "fettle-agent enroll --server https://NAME:8441 --token TOKEN (make one with `fettle token create`)",
        )
    })?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
            Problem::new(
                ProblemKind::Environment,
                "no-runtime",
                error,
                "are there file descriptors and memory left?",
            )
        })?;
    runtime.block_on(Agent::new(settings, identity)?.live())
}

/// One agent at a time: two would both obey.
fn lock(settings: &Settings) -> Result<File, Problem> {
    let path = settings.lock_path();
    let unusable = |error: std::io::Error| {
        Problem::new(
            ProblemKind::Environment,
            "state-unusable",
            format!("{} cannot be used: {error}", path.display()),
            "run as root, with space on that file system",
        )
    };
    crate::durable::create_directory(&settings.state_dir).map_err(unusable)?;
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(unusable)?;
    file.try_lock().map_err(|_| {
        Problem::new(
            ProblemKind::Conflict,
            "agent-running",
            "another agent runs on this host",
            "systemctl status fettle-agent",
        )
    })?;
    Ok(file)
}

/// 128 random bits, in hexadecimal digits.
fn session() -> Result<String, String> {
    let mut random = [0_u8; 16];
    let filled = ring::rand::SystemRandom::new().fill(&mut random);
    filled.map_err(|_| "the system gives no random bytes".to_owned())?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

struct Agent<'s> {
    settings: &'s Settings,
    identity: Identity,
    link: Link,
    /// Set whenever there is news: a journal record, an inventory, the end of a transaction.
    news: Arc<Notify>,
    inventory: inventory::Watch,
    worker: worker::Worker,
    twins: twins::Twins,
    asked: asked::Asked,
    measured: measured::Measured,
    /// Names this run of the agent among all that speak with its identity.
    session: String,
    /// Does the server say that it takes compressed bodies?
    takes_packed: bool,
    /// Refusals already said, so that the log holds each once.
    said: Option<String>,
    /// The order that is not carried out as it stands.
    refused: Option<RefusedOrder>,
}

impl<'s> Agent<'s> {
    fn new(settings: &'s Settings, identity: Identity) -> Result<Self, Problem> {
        let link = Link::enrolled(&identity).map_err(LinkError::problem)?;
        let news = Arc::new(Notify::new());
        let worker = worker::Worker::new(settings, link.clone(), news.clone());
        let twins = twins::Twins::new(settings, news.clone());
        let asked = asked::Asked::new(settings, news.clone());
        let measured = measured::Measured::new(settings);
        let inventory = inventory::Watch::new(settings);
        let session = session().map_err(|e| LinkError::Identity(e).problem())?;
        let (takes_packed, said, refused) = (false, None, None);
        Ok(Self {
            settings,
            identity,
            link,
            news,
            inventory,
            worker,
            twins,
            asked,
            measured,
            session,
            takes_packed,
            said,
            refused,
        })
    }

    async fn live(mut self) -> Result<(), Problem> {
        let no_signals = |e: std::io::Error| {
            Problem::new(ProblemKind::Environment, "no-signals", e, "is this a Linux host?")
        };
        let mut term = signal(SignalKind::terminate()).map_err(no_signals)?;
        let mut int = signal(SignalKind::interrupt()).map_err(no_signals)?;
        crate::notify::tell("READY=1");
        // What a crash or a reboot interrupted comes before anything new.
        self.worker.resume();
        let mut failures = 0_u32;
        loop {
            let pause = tokio::select! {
                result = self.check_in() => match result {
                    Ok(pause) => {
                        failures = 0;
                        self.said = None;
                        pause
                    }
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        self.say(&error.to_string());
                        self.renew_where_ended(&error).await;
                        backoff(failures)
                    }
                },
                _ = term.recv() => break,
                _ = int.recv() => break,
            };
            self.execute_anew();
            // Long pauses are cut into glances, so that an administrator's own change is seen within a minute.
            tokio::select! {
                () = tokio::time::sleep(pause.min(GLANCE).max(Duration::from_millis(200))) => {}
                () = self.news.notified() => {}
                _ = term.recv() => break,
                _ = int.recv() => break,
            }
        }
        crate::notify::tell("STOPPING=1");
        Ok(())
    }

    /// One round: look, speak, listen, obey. Gives how long to wait for the next.
    async fn check_in(&mut self) -> Result<Duration, LinkError> {
        // First: a test whose report the server has is not ordered again.
        self.twins.report(&self.link).await;
        self.worker.take_up();
        let digest = self.inventory.refresh(self.worker.is_busy()).await;
        let mut reply = self.speak(digest, None).await?;
        if reply.want_inventory && digest.is_some() {
            let text = self.inventory.text();
            self.takes_packed = reply.takes_packed;
            reply = self.speak(digest, text.as_deref()).await?;
        }
        reports::acknowledge(self.settings, &reply.acknowledged);
        if let Err(error) = reports::keep_step(self.settings, reply.epoch.as_deref()) {
            self.say(&format!("what the server is to hear again is not known: {error}"));
        }
        if reply.renew {
            self.renew().await?;
        }
        self.learn(&reply.plan_keys);
        self.asked.take(&reply.asks);
        self.measured.take(&reply.watches);
        match &reply.assignment {
            Some(signed) => self.obey(signed, reply.plan_proof.as_ref()),
            None => self.refused = None,
        }
        if !self.worker.is_busy() {
            self.asked.run();
        }
        Ok(Duration::from_secs(reply.next_checkin_seconds.into()))
    }

    async fn speak(
        &self,
        inventory_digest: Option<fettle_core::Digest>,
        inventory: Option<&RawValue>,
    ) -> Result<CheckInReply, LinkError> {
        let generation = orders::read_ledger(self.settings).map_or(0, |l| l.generation);
        let body = CheckInText {
            agent_version: env!("CARGO_PKG_VERSION"),
            inventory_digest,
            inventory,
            reports: reports::unacknowledged(self.settings),
            generation,
            session: &self.session,
            ran: self.asked.reports(),
            measured: self.measured.reports(),
            clock: measured::clock(),
            // Where they cannot be read, nothing new is learnt, and no order to apply is obeyed.
            plan_keys: plan_keys::read(self.settings)
                .ok()
                .map(|it| it.map_or(0, |it| it.keys.version)),
            refused: self.refused.as_ref(),
        };
        const CALL: &str = "/agent/v1/checkin";
        match inventory.is_some() && self.takes_packed {
            true => self.link.post_packed(CALL, &body).await,
            false => self.link.post(CALL, &body).await,
        }
    }

    /// A host that was away for longer than its certificate lasts asks for a new one by the old one.
    async fn renew_where_ended(&mut self, error: &LinkError) {
        if !matches!(error, LinkError::Refused(problem) if problem.code == "certificate-ended") {
            return;
        }
        match self.renew().await {
            Ok(()) => eprintln!("<5>the certificate had ended, and is renewed"),
            Err(error) => self.say(&error.to_string()),
        }
    }

    /// A new key and certificate; the old ones serve until the new ones are on disk.
    async fn renew(&mut self) -> Result<(), LinkError> {
        let unusable = |e: &dyn std::fmt::Display| LinkError::Identity(e.to_string());
        let (key, csr) =
            identity::key_and_request(self.identity.host.as_str()).map_err(|e| unusable(&e))?;
        let renewed: Renewed = self.link.post("/agent/v1/renew", &Renew { csr }).await?;
        let next = Identity { key, certificate: renewed.certificate, ..self.identity.clone() };
        let link = Link::enrolled(&next)?;
        identity::save(self.settings, &next).map_err(|e| unusable(&e))?;
        self.worker.use_link(link.clone());
        (self.identity, self.link) = (next, link);
        Ok(())
    }

    /// Takes over the plan keys that follow those it knows.
    fn learn(&mut self, sets: &[SignedKeySet]) {
        if sets.is_empty() {
            return;
        }
        let Ok(known) = plan_keys::read(self.settings) else { return };
        let (learnt, followed) = plan_keys::learn(known.as_ref(), sets);
        if let Some(pinned) = learnt {
            match plan_keys::pin(self.settings, &pinned) {
                Ok(()) => eprintln!(
                    "<5>plan keys of version {}: {} must have signed a plan",
                    pinned.keys.version,
                    pinned.keys.label()
                ),
                Err(error) => self.say(&format!("the plan keys cannot be written: {error}")),
            }
        }
        if let Err(error) = followed {
            self.say(&format!("the server's plan keys are not followed: {error}"));
        }
    }

    fn judge(
        &self,
        signed: &SignedAssignment,
        proof: Option<&PlanProof>,
    ) -> Result<orders::Accepted, String> {
        let ledger = orders::read_ledger(self.settings)
            .map_err(|e| format!("the ledger cannot be read: {e}"))?;
        let pinned = plan_keys::read(self.settings)
            .map_err(|e| format!("the plan keys cannot be read, so nobody is obeyed: {e}"))?;
        let by = orders::Signed::here(self.settings, pinned.as_ref(), proof);
        let Identity { host, assignment_key, .. } = &self.identity;
        orders::judge(signed, host, assignment_key, by, ledger, Timestamp::now())
            .map_err(|e| e.to_string())
    }

    fn obey(&mut self, signed: &SignedAssignment, proof: Option<&PlanProof>) {
        if self.worker.is_busy() {
            return;
        }
        let judged = self.judge(signed, proof);
        self.refused = judged.as_ref().err().and_then(|why| {
            let assignment = signed.open(&self.identity.assignment_key).ok()?.id;
            Some(RefusedOrder { assignment, why: why.clone() })
        });
        match judged {
            // What is wanted instead of a test that is under way comes again when that has ended.
            Ok(accepted) if !self.twins.give_way(&accepted.assignment) => {}
            Ok(accepted) => {
                // Written before anything is done: after a crash here the same assignment comes `again`.
                if let Err(error) = orders::write_ledger(self.settings, accepted.ledger) {
                    self.say(&format!("the ledger cannot be written, nothing is started: {error}"));
                    return;
                }
                match &accepted.assignment.order {
                    // Beside the host's own transactions: nothing of the host is changed by it.
                    Order::Test(_) => self.twins.start(accepted.assignment),
                    _ => self.worker.start(accepted.assignment),
                }
            }
            Err(why) => self.say(&format!("assignment refused: {why}")),
        }
    }

    /// Where the agent's own program was replaced and this process still runs the one before, it becomes the new one, as
    /// soon as it has nothing to do: no change restarts the agent, which carries the change out. It does not come back
    /// from here, unless that cannot be done.
    fn execute_anew(&mut self) {
        let is_busy = self.worker.is_busy()
            || self.twins.is_busy()
            || self.asked.is_busy()
            || self.measured.is_busy();
        let Some(program) = crate::overlay::replaced_by().filter(|_| !is_busy) else { return };
        eprintln!("<5>{} was replaced: the agent starts anew", program.display());
        let arguments = std::env::args_os().skip(1);
        let error = std::process::Command::new(&program).args(arguments).exec();
        self.say(&format!("{} cannot be started: {error}", program.display()));
    }

    fn say(&mut self, text: &str) {
        if self.said.as_deref() != Some(text) {
            eprintln!("<4>{text}");
            self.said = Some(text.to_owned());
        }
    }
}

/// Full jitter: anywhere between nothing and the doubled delay, so that a thousand agents do not come back at once.
fn backoff(failures: u32) -> Duration {
    let ceiling = BACKOFF.0.saturating_mul(1 << failures.min(9)).min(BACKOFF.1);
    let mut random = [0; 4];
    let share = match ring::rand::SystemRandom::new().fill(&mut random) {
        Ok(()) => f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    ceiling.mul_f64(share).max(BACKOFF.0)
}
