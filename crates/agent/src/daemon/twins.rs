//! Tests on twins beside the agent's loop: one at a time, and the word about each until the server has it.

use crate::link::{Link, LinkError};
use crate::settings::Settings;
use crate::testbed;
use fettle_core::assignment::{Assignment, Order};
use fettle_wire::agent::TestedReply;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Builds and tests at most one twin at a time.
pub(super) struct Twins {
    settings: Settings,
    news: Arc<Notify>,
    busy: Arc<AtomicBool>,
}

impl Twins {
    pub(super) fn new(settings: &Settings, news: Arc<Notify>) -> Self {
        // Whatever a killed agent left of one.
        testbed::clear(settings);
        Self { settings: settings.clone(), news, busy: Arc::default() }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Starts a test, if none is under way. The same one again is harmless: its report is kept until the server has it.
    pub(super) fn start(&self, assignment: Assignment) {
        let Order::Test(order) = &assignment.order else { return };
        let order = order.clone();
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (settings, news, busy) = (self.settings.clone(), self.news.clone(), self.busy.clone());
        let work = move || {
            let _free = super::worker::Free(busy, news);
            if let Err(error) = testbed::run(&settings, &assignment, &order) {
                eprintln!("<3>the report of a test cannot be kept: {error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("twin".into()).spawn(work) {
            self.busy.store(false, Ordering::Release);
            eprintln!("<3>no thread for the test, it is tried again: {error}");
        }
    }

    /// Tells the server what it has not acknowledged.
    pub(super) async fn report(&self, link: &Link) -> Result<(), LinkError> {
        for (file, tested) in testbed::reports(&self.settings) {
            let kept = match link.post::<TestedReply>("/agent/v1/tested", &tested).await {
                Ok(reply) => reply.kept,
                // It is asked again the next time; meanwhile the host goes on speaking.
                Err(LinkError::Refused(problem)) => {
                    eprintln!("<4>the report of a test was refused: {}", problem.message);
                    false
                }
                Err(error) => return Err(error),
            };
            if kept && let Err(error) = testbed::acknowledged(&file) {
                eprintln!("<4>{} stays: {error}", file.display());
            }
        }
        Ok(())
    }
}
