//! Tests on twins beside the agent's loop: one at a time, and the word about each until the server has it.
//!
//! A test never keeps the host from an order of its own, nor from another test that is wanted instead: it is ended, says so
//! in its report, and is asked for again.

use crate::link::{Link, LinkError};
use crate::settings::Settings;
use crate::testbed;
use fettle_core::AssignmentId;
use fettle_core::assignment::{Assignment, Order};
use fettle_wire::agent::{Tested, TestedReply};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Builds and tests at most one twin at a time.
pub(super) struct Twins {
    settings: Settings,
    news: Arc<Notify>,
    busy: Arc<AtomicBool>,
    /// The test that is or was under way, and the word that ends it.
    last: Option<(AssignmentId, Arc<AtomicBool>)>,
    /// What was said last of each report that the server has not taken.
    said: BTreeMap<PathBuf, String>,
    /// Ends what a test waits for ([`testbed::stop`]).
    stop: fn(),
}

impl Twins {
    pub(super) fn new(settings: &Settings, news: Arc<Notify>) -> Self {
        // Whatever a killed agent left of one.
        testbed::clear(settings);
        let (busy, last, said) = (Arc::default(), None, BTreeMap::new());
        Self { settings: settings.clone(), news, busy, last, said, stop: testbed::stop }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Starts a test, if none is under way. The same one again is harmless: its report is kept until the server has it.
    pub(super) fn start(&mut self, assignment: Assignment) {
        let Order::Test(order) = &assignment.order else { return };
        // Nothing is news here: the loop would be woken to be told the same again, and so on.
        if testbed::is_tested(&self.settings, &assignment) {
            return;
        }
        let order = order.clone();
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let end = Arc::new(AtomicBool::new(false));
        self.last = Some((assignment.id.clone(), end.clone()));
        let (settings, news, busy) = (self.settings.clone(), self.news.clone(), self.busy.clone());
        let work = move || {
            let _free = super::worker::Free(busy, news);
            if let Err(error) = testbed::run(&settings, &assignment, &order, &end) {
                eprintln!("<3>the report of a test cannot be kept: {error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("twin".into()).spawn(work) {
            self.busy.store(false, Ordering::Release);
            eprintln!("<3>no thread for the test, it is tried again: {error}");
        }
    }

    /// Makes room for what the server wants of this host now: a test of something else that is under way is ended. Whether
    /// there is room already.
    pub(super) fn give_way(&self, wanted: &Assignment) -> bool {
        if !self.is_busy() {
            return true;
        }
        let under_way = self.last.as_ref().filter(|(id, _)| *id != wanted.id);
        let Some((id, end)) = under_way else { return false };
        if !end.swap(true, Ordering::AcqRel) {
            eprintln!("<5>the test {id} is ended: the server wants {} of this host", wanted.id);
        }
        // Each time: between two units of a test there may have been nothing to stop. Not on the loop's own thread.
        let _ = std::thread::Builder::new().name("end-twin".into()).spawn(self.stop);
        false
    }

    /// Tells the server what it has not acknowledged. What it does not take is offered again with the next check-in, which
    /// is never kept from taking place.
    pub(super) async fn report(&mut self, link: &Link) {
        for (file, tested) in testbed::reports(&self.settings) {
            let answer = link.post::<TestedReply>("/agent/v1/tested", &tested).await;
            match judge(answer, &tested) {
                Ok(()) => {
                    self.said.remove(&file);
                    if let Err(error) = testbed::acknowledged(&file) {
                        eprintln!("<4>{} stays: {error}", file.display());
                    }
                }
                Err(why) => {
                    if self.said.get(&file) != Some(&why) {
                        eprintln!("<4>{why}");
                        self.said.insert(file, why);
                    }
                }
            }
        }
    }
}

/// Has the server the report? `Err`: not yet, and why.
fn judge(answer: Result<TestedReply, LinkError>, tested: &Tested) -> Result<(), String> {
    let of = &tested.assignment;
    match answer {
        Ok(reply) if reply.kept => Ok(()),
        Ok(_) => Err(format!("the server has not kept the report of the test {of} yet")),
        Err(LinkError::Refused(problem)) => {
            Err(format!("the report of the test {of} was refused: {}", problem.message))
        }
        Err(error) => Err(format!("the report of the test {of} was not taken: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::testbed::TestReport;
    use fettle_core::{Problem, ProblemKind, Timestamp};

    fn assignment(id: &str) -> Assignment {
        Assignment {
            schema: 1,
            id: id.into(),
            host: "h-1".into(),
            generation: 1,
            rollout: "testbed".into(),
            plan: fettle_core::Digest::of(b"plan"),
            issued_at: Timestamp::UNIX_EPOCH,
            not_before: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            order: Order::Traffic { share: 100 },
        }
    }

    fn twins(dir: &std::path::Path) -> Twins {
        let settings = Settings { state_dir: dir.join("state"), ..Settings::default() };
        Twins { stop: || (), ..Twins::new(&settings, Arc::default()) }
    }

    #[test]
    fn a_report_is_the_servers_only_when_it_says_so() {
        let tested = Tested {
            assignment: "testbed/h-1/1".into(),
            generation: 1,
            report: TestReport::not_tested("x", "y", "z"),
        };
        let kept = |answer| judge(answer, &tested);
        assert_eq!(kept(Ok(TestedReply { kept: true })), Ok(()));
        let nonsense = || LinkError::Nonsense {
            server: "s".into(),
            path: "/agent/v1/tested".into(),
            why: "no JSON".into(),
        };
        let away = || LinkError::Unreachable { server: "s".into(), why: "closed".into() };
        let refused = || Problem::new(ProblemKind::Conflict, "busy", "another's", "h");
        for (answer, said) in [
            (Ok(TestedReply { kept: false }), "not kept"),
            (Err(nonsense()), "no JSON"),
            (Err(away()), "closed"),
            (Err(LinkError::Refused(refused())), "another's"),
        ] {
            let why = kept(answer).unwrap_err();
            assert!(why.contains(said) && why.contains("testbed/h-1/1"), "{why}");
        }
    }

    #[test]
    fn a_test_gives_way_to_anything_else_that_is_wanted_and_not_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let mut twins = twins(dir.path());
        assert!(twins.give_way(&assignment("r/h-1/2")), "there is none");
        let end = Arc::new(AtomicBool::new(false));
        twins.last = Some(("testbed/h-1/1".into(), end.clone()));
        assert!(twins.give_way(&assignment("r/h-1/2")), "it has ended");
        twins.busy.store(true, Ordering::Release);
        assert!(!twins.give_way(&assignment("testbed/h-1/1")));
        assert!(!end.load(Ordering::Acquire));
        assert!(!twins.give_way(&assignment("r/h-1/2")));
        assert!(end.load(Ordering::Acquire));
        assert!(!twins.give_way(&assignment("r/h-1/2")), "until it has ended");
        twins.busy.store(false, Ordering::Release);
        assert!(twins.give_way(&assignment("r/h-1/2")));
    }
}
