//! The one thread that runs a transaction, so that the agent goes on speaking meanwhile.

use crate::executor::{self, Grant};
use crate::link::{Link, LinkError};
use crate::settings::Settings;
use fettle_core::assignment::Assignment;
use fettle_core::{AssignmentId, Hold, Timestamp};
use fettle_wire::agent::{Redeem, RedeemReply};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// The assignment that was started last: the server hands it out until it has heard the end.
    last: Option<AssignmentId>,
}

impl Worker {
    pub(super) fn new(settings: &Settings, link: Link, news: Arc<Notify>) -> Self {
        Self { settings: settings.clone(), link, news, busy: Arc::default(), last: None }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// For what is started from now on.
    pub(super) fn use_link(&mut self, link: Link) {
        self.link = link;
    }

    /// Takes up what a crash or a reboot interrupted.
    pub(super) fn resume(&self) {
        self.spawn(|settings, grant, news| {
            executor::resume(settings, grant, &mut |_| news.notify_one()).map(|_| ())
        });
    }

    /// Starts a transaction. The same assignment again is harmless: its journal knows how far it came.
    pub(super) fn start(&mut self, assignment: Assignment) {
        if self.last.as_ref() == Some(&assignment.id) {
            return;
        }
        self.last = Some(assignment.id.clone());
        self.spawn(move |settings, grant, news| {
            executor::run(settings, assignment, grant, &mut |_| news.notify_one()).map(|_| ())
        });
    }

    fn spawn<F>(&self, work: F)
    where
        F: FnOnce(&Settings, &dyn Grant, &Notify) -> Result<(), executor::ExecutorError>
            + Send
            + 'static,
    {
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (settings, news, busy) = (self.settings.clone(), self.news.clone(), self.busy.clone());
        let grant = AskServer { link: self.link.clone() };
        let run = move || {
            let _free = Free(busy, news.clone());
            if let Err(error) = work(&settings, &grant, &news) {
                eprintln!("<3>transaction: {error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("transaction".into()).spawn(run) {
            self.busy.store(false, Ordering::Release);
            eprintln!("<3>no thread for the transaction, it is tried again: {error}");
        }
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

/// Asks the server right before the host is changed.
struct AskServer {
    link: Link,
}

impl Grant for AskServer {
    fn redeem(&self, assignment: &Assignment) -> Result<(), Hold> {
        let no_data = |what: String| Hold::NoData { what };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|e| no_data(format!("the server could not be asked: {e}")))?;
        let question =
            Redeem { assignment: assignment.id.clone(), generation: assignment.generation };
        loop {
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
}
