//! What all parts of the server share.

use crate::ServerOptions;
use crate::events::Hub;
use crate::exposed::Exposed;
use crate::feeds::InForce;
use crate::fleet::{Fleet, Memory};
use crate::gates::Found;
use crate::judging::JudgedBy;
use crate::kept::Kept;
use crate::login::Throttle;
use crate::metrics::Counters;
use crate::policies::Policies;
use crate::rollouts::Known;
use crate::session::Tries;
use crate::sessions::Sessions;
use crate::trust::Trust;
use crate::views::RolloutStanding;
use fettle_core::host::Host;
use fettle_core::{HostId, Problem, ProblemKind, RolloutId, Timestamp};
use fettle_store::Store;
use fettle_vuln::exposure::Catalogue;
use fettle_wire::agent::RefusedOrder;
use fettle_wire::api::{PlanDetail, Report};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};

/// For how long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30);

/// Passwords that are hashed at once, for strangers and for all others: 19 MiB and a processor each.
const HASHED_AT_ONCE: usize = 1;
/// Strangers that wait for it.
const MOST_STRANGERS: usize = 16;
/// For how long one waits for its turn.
const HASHING_PATIENCE: Duration = Duration::from_secs(10);

/// Rollouts of which is kept how they stand, and for how long: windows open and hosts fall silent by the clock alone.
const ROLLOUTS_KEPT: usize = 64;
const ROLLOUTS_LAST: Duration = Duration::from_secs(1);
/// Plans that are kept with their reports: each may be of the whole fleet. What of a report the clock alone changes are the
/// times at which waves may begin, to the minute.
const PLANS_KEPT: usize = 2;
const PLANS_LAST: Duration = Duration::from_secs(5);
/// Reports that are kept: each goes through all findings of the fleet. What the clock alone changes is what fell due meanwhile.
const REPORTS_KEPT: usize = 8;
const REPORTS_LAST: Duration = Duration::from_secs(60);

/// What a host last said of an order that it does not carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) order: RefusedOrder,
    /// It says so still.
    pub(crate) stands: bool,
}

/// The server's shared state. Everything that must survive is in `store`; the rest can be made again from it.
pub(crate) struct App {
    pub(crate) options: ServerOptions,
    pub(crate) store: Store,
    pub(crate) trust: Trust,
    pub(crate) started_at: Timestamp,
    /// Where agents are served, once they are.
    pub(crate) agents_addr: OnceLock<SocketAddr>,
    /// Names the time since the last restore.
    pub(crate) epoch: OnceLock<String>,
    pub(crate) events: Hub,
    pub(crate) counters: Counters,
    pub(crate) rollouts: Known,
    /// What plans' reports have read of the fleet.
    pub(crate) read: crate::views::reach::Read,
    /// How rollouts stand.
    pub(crate) standing: Kept<RolloutId, RolloutStanding>,
    /// Plans with their reports.
    pub(crate) plans: Kept<u64, PlanDetail>,
    /// Reports, by period and policy.
    pub(crate) reports: Kept<crate::reports::Wanted, Report>,
    /// How far the ledger was verified.
    pub(crate) chain: crate::chain::Chain,
    /// What evaluators found for gates.
    pub(crate) gates: Found,
    /// Exposure over the last weeks.
    pub(crate) trend: crate::trend::Trend,
    /// What hosts are shown of plans is cut from these.
    pub(crate) trees: crate::plan_keys::Trees,
    /// The orders that hosts do not carry out.
    pub(crate) refused: Mutex<HashMap<HostId, Refusal>>,
    /// Tries to log in that failed lately.
    pub(crate) throttle: Throttle,
    /// What opens the first set-up, as long as that is open.
    pub(crate) setup_secret: Mutex<Option<String>>,
    /// Refusals that are written down.
    pub(crate) refusals: Tries,
    /// Log-ins to accounts that are there and were refused, which are written down.
    pub(crate) refused_log_ins: Tries,
    /// Moves when somebody is revoked: what they have open ends, and whoever may comes back.
    pub(crate) revoked: watch::Sender<u64>,
    /// Held while feeds are taken in.
    pub(crate) importing: Mutex<()>,
    /// Feeds that are fetched.
    pub(crate) watched: crate::feeds::Watched,
    /// Wakes the loop that drives rollouts.
    pub(crate) drive: Notify,
    /// Wakes the loop that has twins tested.
    pub(crate) test: Notify,
    /// Wakes the loop that plans by itself: something was judged, approved, started, ended or declared.
    pub(crate) planning: Notify,
    /// Wakes the loop that makes reports on a schedule.
    pub(crate) schedules: Notify,
    /// Held while the files of one are written.
    pub(crate) making: Mutex<()>,
    /// Wakes the loop that sends to webhooks.
    pub(crate) deliver: Notify,
    /// Wakes the loop that judges hosts anew.
    pub(crate) judge: Notify,
    /// The last request to judge all hosts anew that was carried out.
    pub(crate) judged: watch::Sender<u64>,
    asked: AtomicU64,
    /// The loops are up and what the store holds is loaded.
    pub(crate) ready: watch::Sender<bool>,
    /// Another server has taken the database: this one ends.
    pub(crate) superseded: watch::Sender<bool>,
    /// Says when to end what would go on for ever.
    pub(crate) stopped: watch::Receiver<bool>,
    in_force: RwLock<InForce>,
    policies: RwLock<Arc<Policies>>,
    /// By what all hosts were last judged, as far as this server did it or found it done.
    pub(crate) judged_by: Mutex<Option<JudgedBy>>,
    /// What hosts are exposed to.
    exposed: RwLock<Exposed>,
    /// The fleet in memory.
    fleet: Memory,
    presence: Mutex<HashMap<HostId, Heard>>,
    /// Which agents speak as which host.
    pub(crate) sessions: Sessions,
    /// Most of the work: check-ins, questions, decisions.
    blocking: Lane,
    /// Reports, which look at all findings of the fleet: one at a time, so that no agent waits for them.
    reporting: Lane,
    /// Passwords, each of which takes memory and a processor on purpose: so few at once that the rest goes on.
    hashing: Lane,
    /// The same of those who are not known here, beside it: whoever is known does not wait for them.
    hashing_for_strangers: Lane,
}

/// Blocking work that may go on at once: more waits, so that a herd of agents does not become a herd of threads.
struct Lane {
    places: Arc<Semaphore>,
    /// Where not everybody may wait: how many more may.
    queue: Option<Arc<Semaphore>>,
    /// For how long it waits.
    patience: Duration,
}

impl Lane {
    fn new(places: usize, patience: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), queue: None, patience }
    }

    /// The same, where at most so many wait.
    fn short(self, most: usize) -> Self {
        Self { queue: Some(Arc::new(Semaphore::new(most))), ..self }
    }

    /// Runs `work` on a blocking thread as soon as there is a place.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let waits = match &self.queue {
            Some(queue) => Some(queue.clone().try_acquire_owned().map_err(|_| {
                Problem::new(
                    ProblemKind::Unavailable,
                    "too-many-tries",
                    "too many log in at once from where they are not known",
                    "try again in a few seconds; a browser in which you logged in before does not wait for strangers",
                )
            })?),
            None => None,
        };
        let asked = self.places.clone().acquire_owned();
        let asked = tokio::time::timeout(self.patience, asked).await;
        drop(waits);
        let Ok(Ok(place)) = asked else {
            return Err(Problem::new(
                ProblemKind::Unavailable,
                "overloaded",
                "the server has more to do than it can",
                "try again in a minute; if it stays so, give it more processors",
            ));
        };
        // What is traced on the other thread is part of what asks for it.
        let span = tracing::Span::current();
        let work = move || {
            // Taken until the work is done: whoever asked for it may be gone before that.
            let _place = place;
            span.in_scope(work)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(out) => out,
            Err(panic) => {
                tracing::error!(%panic, "a request died");
                Err(Problem::new(
                    ProblemKind::Internal,
                    "internal",
                    "the request could not be carried out",
                    "this is a defect of Fettle: please report it with the server's log",
                ))
            }
        }
    }
}

/// When a host was last heard.
#[derive(Debug, Clone)]
struct Heard {
    at: Timestamp,
    agent_version: String,
    /// The store has it.
    kept: bool,
}

/// Who was heard when.
pub(crate) struct Presence<'a> {
    heard: MutexGuard<'a, HashMap<HostId, Heard>>,
    pub(crate) now: Timestamp,
    started_at: Timestamp,
    silent_after: i64,
}

impl Presence<'_> {
    /// When the host was last heard, by memory or store.
    pub(crate) fn last_seen(&self, host: &Host) -> Option<Timestamp> {
        self.heard.get(&host.id).map(|h| h.at).max(host.last_seen)
    }

    /// Has this server listened for long enough to tell who is silent?
    pub(crate) fn tells(&self) -> bool {
        self.is_late(self.started_at)
    }

    fn is_late(&self, heard: Timestamp) -> bool {
        self.now.duration_since(heard).as_secs() > self.silent_after
    }

    /// Unheard for longer than the options allow, by a server that listened all that time.
    pub(crate) fn is_silent(&self, host: &Host) -> bool {
        if host.listed.is_some() {
            // Nobody is there who could speak.
            return false;
        }
        self.tells() && self.is_late(self.last_seen(host).unwrap_or(host.enrolled_at))
    }
}

impl App {
    /// The orders that hosts do not carry out, as they last said.
    pub(crate) fn refused(&self) -> MutexGuard<'_, HashMap<HostId, Refusal>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn new(
        options: ServerOptions,
        store: Store,
        trust: Trust,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self {
            options,
            store,
            trust,
            started_at: now(),
            agents_addr: OnceLock::new(),
            epoch: OnceLock::new(),
            events: Hub::new(now()),
            counters: Counters::default(),
            rollouts: Known::default(),
            read: crate::views::reach::Read::default(),
            standing: Kept::new(ROLLOUTS_KEPT, ROLLOUTS_LAST),
            plans: Kept::new(PLANS_KEPT, PLANS_LAST),
            reports: Kept::new(REPORTS_KEPT, REPORTS_LAST).standing(10),
            chain: crate::chain::Chain::default(),
            gates: Found::default(),
            trees: crate::plan_keys::Trees::default(),
            refused: Mutex::default(),
            trend: crate::trend::Trend::default(),
            throttle: Throttle::default(),
            setup_secret: Mutex::default(),
            refusals: Tries::new(120),
            refused_log_ins: Tries::new(120),
            revoked: watch::Sender::new(0),
            importing: Mutex::default(),
            watched: crate::feeds::Watched::default(),
            drive: Notify::new(),
            test: Notify::new(),
            planning: Notify::new(),
            schedules: Notify::new(),
            making: Mutex::default(),
            deliver: Notify::new(),
            judge: Notify::new(),
            judged: watch::Sender::new(0),
            asked: AtomicU64::new(1),
            ready: watch::Sender::new(false),
            superseded: watch::Sender::new(false),
            stopped,
            in_force: RwLock::default(),
            policies: RwLock::default(),
            judged_by: Mutex::default(),
            exposed: RwLock::default(),
            fleet: Memory::default(),
            presence: Mutex::default(),
            sessions: Sessions::default(),
            blocking: Lane::new(32, PATIENCE),
            reporting: Lane::new(1, PATIENCE),
            hashing: Lane::new(HASHED_AT_ONCE, HASHING_PATIENCE),
            hashing_for_strangers: Lane::new(HASHED_AT_ONCE, HASHING_PATIENCE)
                .short(MOST_STRANGERS),
        }
    }

    /// Vendors' data in force.
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.in_force().catalogue
    }

    /// The same, with the feeds it was made of.
    pub(crate) fn in_force(&self) -> InForce {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_in_force(&self, in_force: InForce) {
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = in_force;
    }

    /// What hosts are exposed to. Whoever writes to the store begins to write before they look here.
    pub(crate) fn exposed(&self) -> RwLockReadGuard<'_, Exposed> {
        self.exposed.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Likewise, to be changed.
    pub(crate) fn exposed_mut(&self) -> RwLockWriteGuard<'_, Exposed> {
        self.exposed.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Policies in force.
    pub(crate) fn policies(&self) -> Arc<Policies> {
        self.policies.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_policies(&self, policies: Arc<Policies>) {
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = policies;
    }

    /// Asks for all hosts to be judged anew. Gives the number of the request, to wait for.
    pub(crate) fn ask_judging(&self) -> u64 {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.judge.notify_one();
        number
    }

    /// The last request to judge all hosts.
    pub(crate) fn judging_asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Waits for a request to be carried out, but not for ever: a large fleet takes its time.
    pub(crate) async fn wait_judged(&self, number: u64) {
        let mut judged = self.judged.subscribe();
        let _ =
            tokio::time::timeout(Duration::from_secs(20), judged.wait_for(|done| *done >= number))
                .await;
    }

    /// Unheard for longer than the options allow, by a server that listened all that time.
    pub(crate) fn is_silent(&self, host: &Host) -> bool {
        self.heard_by_now().is_silent(host)
    }

    /// Who was heard when, for a look at many hosts: nobody is heard while it is held.
    pub(crate) fn heard_by_now(&self) -> Presence<'_> {
        Presence {
            heard: self.presence(),
            now: now(),
            started_at: self.started_at,
            silent_after: i64::try_from(self.options.silent_after_seconds).unwrap_or(i64::MAX),
        }
    }

    /// Looks at the fleet as it is, with every change that was committed before.
    pub(crate) fn fleet<T>(&self, look: impl FnOnce(&Fleet) -> T) -> Result<T, Problem> {
        self.fleet.look(self, look)
    }

    fn presence(&self) -> MutexGuard<'_, HashMap<HostId, Heard>> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host spoke. Kept in memory and written in batches: a check-in without news costs no write.
    pub(crate) fn heard(&self, host: &HostId, at: Timestamp, agent_version: &str) {
        let mut presence = self.presence();
        match presence.get_mut(host) {
            Some(heard) => {
                heard.at = at;
                heard.kept = false;
                if heard.agent_version != agent_version {
                    agent_version.clone_into(&mut heard.agent_version);
                }
            }
            None => {
                let heard = Heard { at, agent_version: agent_version.to_owned(), kept: false };
                presence.insert(host.clone(), heard);
            }
        }
    }

    /// When the host was heard since this server started.
    pub(crate) fn heard_since_start(&self, host: &HostId) -> Option<Timestamp> {
        self.presence().get(host).map(|h| h.at)
    }

    /// When the host was last heard, by memory or store.
    pub(crate) fn last_seen(&self, host: &HostId, stored: Option<Timestamp>) -> Option<Timestamp> {
        self.heard_since_start(host).max(stored)
    }

    /// Forgets that it heard a host that left.
    pub(crate) fn forget(&self, host: &HostId) {
        self.presence().remove(host);
        self.sessions.forget(host);
    }

    /// Writes down who was heard since the last time.
    pub(crate) fn keep_presence(&self) -> Result<(), Problem> {
        let fresh: Vec<(HostId, Timestamp, String)> = self
            .presence()
            .iter()
            .filter(|(_, heard)| !heard.kept)
            .map(|(id, heard)| (id.clone(), heard.at, heard.agent_version.clone()))
            .collect();
        if fresh.is_empty() {
            return Ok(());
        }
        self.store.write::<_, Problem>("server", now(), |tx| {
            let rows = fresh.iter().map(|(id, at, version)| (id, *at, version.as_str()));
            Ok(fettle_store::hosts::heard(tx, rows)?)
        })?;
        let mut presence = self.presence();
        for (id, at, _) in fresh {
            if let Some(heard) = presence.get_mut(&id).filter(|h| h.at == at) {
                heard.kept = true;
            }
        }
        Ok(())
    }

    /// Runs `work` on a blocking thread, at most so many at once.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&App) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let app = self.clone();
        self.blocking.run(move || work(&app)).await
    }

    /// Hashes or verifies a password on a blocking thread: few at once, however many ask.
    pub(crate) async fn hashing<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.hashing.run(work).await
    }

    /// The same for whom nobody knows here: one at a time beside the others, and few wait.
    pub(crate) async fn hashing_for_strangers<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.hashing_for_strangers.run(work).await
    }

    /// Runs `work` that looks at everything on a blocking thread: one at a time, beside all other work.
    pub(crate) async fn reporting<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&App) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let app = self.clone();
        self.reporting.run(move || work(&app)).await
    }
}

/// The time, in whole microseconds as the store keeps it.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_full_lane_refuses_after_its_patience_and_is_nobody_elses_loss() {
        let reports = Arc::new(Lane::new(1, Duration::from_millis(20)));
        let rest = Lane::new(1, Duration::from_secs(60));
        let (begun, wait_begun) = tokio::sync::oneshot::channel();
        let (end, wait_end) = mpsc::channel::<()>();
        let lane = reports.clone();
        let asked = tokio::spawn(async move {
            let long = move || {
                begun.send(()).unwrap();
                wait_end.recv().unwrap();
                Ok(1)
            };
            lane.run(long).await
        });
        wait_begun.await.unwrap();
        let refused = reports.run(|| Ok(2)).await.unwrap_err();
        assert_eq!((refused.kind, refused.code.as_str()), (ProblemKind::Unavailable, "overloaded"));
        assert_eq!(rest.run(|| Ok(3)).await, Ok(3), "the others go on meanwhile");
        // Whoever asked goes away: the work goes on, and keeps its place until it is done.
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        assert!(reports.run(|| Ok(4)).await.is_err(), "it still runs");
        end.send(()).unwrap();
        let patient =
            Lane { places: reports.places.clone(), queue: None, patience: Duration::from_secs(60) };
        assert_eq!(patient.run(|| Ok(5)).await, Ok(5));
    }

    #[tokio::test]
    async fn of_a_crowd_of_strangers_few_wait_and_the_rest_is_told_at_once() {
        let lane = Arc::new(Lane::new(1, Duration::from_secs(60)).short(2));
        let (end, wait_end) = mpsc::channel::<()>();
        let (begun, wait_begun) = tokio::sync::oneshot::channel();
        let first = tokio::spawn({
            let lane = lane.clone();
            async move {
                let long = move || {
                    begun.send(()).unwrap();
                    wait_end.recv().unwrap();
                    Ok(0)
                };
                lane.run(long).await
            }
        });
        wait_begun.await.unwrap();
        let waiting: Vec<_> = (1..=2)
            .map(|n| {
                let lane = lane.clone();
                tokio::spawn(async move { lane.run(move || Ok(n)).await })
            })
            .collect();
        // As soon as both have asked, nobody else may wait.
        while lane.queue.as_ref().unwrap().available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = lane.run(|| Ok(9)).await.unwrap_err();
        assert_eq!(refused.code, "too-many-tries");
        end.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(0));
        for (n, waited) in (1..=2).zip(waiting) {
            assert_eq!(waited.await.unwrap(), Ok(n));
        }
    }
}
