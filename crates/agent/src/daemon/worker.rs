//! The one thread that runs a transaction, so that the agent goes on speaking meanwhile.

use crate::executor::{self, Grant};
use crate::link::{Link, LinkError};
use crate::orders::Disobeyed;
use crate::reach::Reach;
use crate::settings::Settings;
use fettle_core::assignment::Assignment;
use fettle_core::{AssignmentId, Hold, Timestamp};
use fettle_wire::agent::{Redeem, RedeemReply};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long between two questions whether the grant still stands, while the server is away.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Runs at most one transaction at a time.
pub(super) struct Worker {
    settings: Settings,
    link: Link,
    news: Arc<Notify>,
    busy: Arc<AtomicBool>,
    /// The assignment that was carried out last: the server hands it out until it has heard the end.
    last: Arc<Mutex<Option<AssignmentId>>>,
    /// Why the last one could not be carried out.
    said: Arc<Mutex<Option<String>>>,
}

impl Worker {
    pub(super) fn new(settings: &Settings, link: Link, news: Arc<Notify>) -> Self {
        let settings = settings.clone();
        let (busy, last, said) = (Arc::default(), Arc::default(), Arc::default());
        Self { settings, link, news, busy, last, said }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// For what is started from now on.
    pub(super) fn use_link(&mut self, link: Link) {
        self.link = link;
    }

    /// Takes up what a command that was typed here began and left alone: its terminal may be gone.
    pub(super) fn take_up(&self) {
        if !self.is_busy() && executor::is_left_alone(&self.settings) {
            self.resume();
        }
    }

    /// Takes up what a crash or a reboot interrupted.
    pub(super) fn resume(&self) {
        // Where it cannot be begun now, the next check-in finds it left alone.
        let _ = self.spawn(|settings, grant, news| {
            executor::resume(settings, grant, &mut |_| news.notify_one()).map(|_| ())
        });
    }

    /// Starts a transaction. The same assignment again is harmless: its journal knows how far it came. One that could
    /// not be begun, since somebody changes the host by hand, is begun when the server hands it out again.
    pub(super) fn start(&mut self, assignment: Assignment) {
        let id = Some(assignment.id.clone());
        let last = self.last.clone();
        if *known(&last) == id {
            return;
        }
        known(&self.last).clone_from(&id);
        let is_begun = self.spawn(move |settings, grant, news| {
            executor::run(settings, assignment, grant, &mut |_| news.notify_one())
                .map(|_| ())
                .inspect_err(|_| *known(&last) = None)
        });
        if !is_begun {
            *known(&self.last) = None;
        }
    }

    /// `false`: it was not begun.
    fn spawn<F>(&self, work: F) -> bool
    where
        F: FnOnce(&Settings, &dyn Grant, &Notify) -> Result<(), executor::ExecutorError>
            + Send
            + 'static,
    {
        if self.busy.swap(true, Ordering::AcqRel) {
            return false;
        }
        let (settings, news, busy) = (self.settings.clone(), self.news.clone(), self.busy.clone());
        let (link, stop) = (self.link.clone(), self.settings.stop_path());
        let grant = AskServer { link, stop };
        let said_before = self.said.clone();
        let run = move || {
            let _free = Free(busy, news.clone());
            let said = work(&settings, &grant, &news).err().map(|error| error.to_string());
            let mut before = said_before.lock().unwrap_or_else(PoisonError::into_inner);
            // It is tried again with every check-in: the log holds it once.
            if let Some(error) = said.as_ref().filter(|_| said != *before) {
                eprintln!("<4>transaction: {error}");
            }
            *before = said;
        };
        if let Err(error) = std::thread::Builder::new().name("transaction".into()).spawn(run) {
            self.busy.store(false, Ordering::Release);
            eprintln!("<3>no thread for the transaction, it is tried again: {error}");
            return false;
        }
        true
    }
}

/// Ends the work whatever happens in it.
pub(super) struct Free(pub(super) Arc<AtomicBool>, pub(super) Arc<Notify>);

impl Drop for Free {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
        self.1.notify_one();
    }
}

/// A panic while it was held has spoilt nothing: it is set as a whole.
fn known(last: &Mutex<Option<AssignmentId>>) -> MutexGuard<'_, Option<AssignmentId>> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks the server right before the host is changed.
struct AskServer {
    link: Link,
    stop: PathBuf,
}

impl Grant for AskServer {
    fn redeem(&self, assignment: &Assignment, needs_seconds: Option<u64>) -> Result<(), Hold> {
        let no_data = |what: String| Hold::NoData { what };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|e| no_data(format!("the server could not be asked: {e}")))?;
        let (id, generation) = (assignment.id.clone(), assignment.generation);
        let question = Redeem { assignment: id, generation, needs_seconds };
        loop {
            // The last look before the host is changed: whoever is root here is asked before any server.
            if self.stop.exists() {
                return Err(Hold::OrderRefused { why: Disobeyed::Stopped.to_string() });
            }
            match runtime.block_on(self.link.post::<RedeemReply>("/agent/v1/redeem", &question)) {
                Ok(RedeemReply::Go) => return Ok(()),
                Ok(RedeemReply::Stop { hold }) => return Err(hold),
                Err(LinkError::Refused(problem)) => return Err(no_data(problem.message)),
                Err(error) if Timestamp::now() >= assignment.expires_at => {
                    return Err(no_data(format!(
                        "the server could not be asked before the assignment expired: {error}"
                    )));
                }
                Err(_) => std::thread::sleep(ASK_AGAIN),
            }
        }
    }

    fn reachable(&self, patience: Duration) -> Option<Result<(), String>> {
        Reach::Server(self.link.clone()).ask(patience)
    }
}
