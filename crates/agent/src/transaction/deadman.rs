//! Dead-man's switch: a host that lost what it must reach by the patch undoes it without being told.

use super::{Transaction, confirm, fault};
use crate::executor::Grant;
use fettle_core::transaction::{Fault, StepFacts};
use std::time::Duration;

/// One question is waited for so long: over a bad line, TLS alone takes some seconds.
pub(crate) const ANSWER: Duration = Duration::from_secs(20);
/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the host had been up when it was first asked: an agent that is killed over and over does not begin anew.
const ASKED: &str = "deadman-asked.json";

/// Asks until there is an answer, or the order's time is over.
///
/// # Errors
/// When it is over: the change is taken back.
pub(super) fn wait(
    tx: &Transaction<'_>,
    grant: &dyn Grant,
    facts: &mut StepFacts,
) -> Result<(), Fault> {
    let Some(seconds) = tx.order.deadman_seconds else { return Ok(()) };
    let limit = Duration::from_secs(seconds.into());
    let asked = confirm::first_asked(tx, ASKED)?;
    loop {
        let why = match grant.reachable(ANSWER.min(limit.max(PAUSE))) {
            None => {
                facts.notes.push(
                    "there is no server and no peer: the dead-man's switch has nothing to reach"
                        .into(),
                );
                return Ok(());
            }
            Some(Ok(())) => {
                let waited = confirm::up()?.saturating_sub(asked);
                facts.notes.push(format!(
                    "the host's server or peer was reached after {} ms",
                    waited.as_millis()
                ));
                return Ok(());
            }
            Some(Err(why)) => why,
        };
        let waited = confirm::up()?.saturating_sub(asked);
        if waited >= limit {
            return Err(fault(
                "unreachable",
                format!("nothing answered this host for {seconds} s after the change: {why}"),
                "it is being undone; see what changed in the network's services",
            ));
        }
        std::thread::sleep(PAUSE.min(limit.saturating_sub(waited)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Apt;
    use crate::settings::Settings;
    use crate::transaction::an_assignment;
    use fettle_core::Hold;
    use fettle_core::assignment::{ApplyOrder, Assignment};
    use std::cell::Cell;
    use std::time::Instant;

    /// Answers from the given question on; `None`: there is nothing to reach.
    struct From(Option<u32>, Cell<u32>);

    impl Grant for From {
        fn redeem(&self, _: &Assignment, _: Option<u64>) -> Result<(), Hold> {
            Ok(())
        }
        fn reachable(&self, _: Duration) -> Option<Result<(), String>> {
            self.1.set(self.1.get() + 1);
            let answers = self.1.get() >= self.0?;
            Some(answers.then_some(()).ok_or_else(|| "no route to host".to_owned()))
        }
    }

    fn waited(from: Option<u32>, directory: &std::path::Path) -> (Result<(), Fault>, StepFacts) {
        let order = ApplyOrder { deadman_seconds: Some(2), ..ApplyOrder::default() };
        let assignment = an_assignment(order.clone());
        let settings = Settings::default();
        let tx = Transaction {
            settings: &settings,
            driver: &Apt::new(&settings),
            assignment: &assignment,
            order: &order,
            directory: directory.to_owned(),
        };
        let mut facts = StepFacts::default();
        (wait(&tx, &From(from, Cell::new(0)), &mut facts), facts)
    }

    #[test]
    fn a_host_that_is_cut_off_for_longer_than_ordered_is_told_to_undo_and_a_slow_network_is_waited_for()
     {
        let dir = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let fault = waited(Some(u32::MAX), dir.path()).0.unwrap_err();
        assert_eq!(fault.code, "unreachable");
        assert!(fault.message.contains("for 2 s after the change: no route to host"), "{fault:?}");
        // The host tells its uptime in hundredths of a second.
        assert!(begun.elapsed() >= Duration::from_millis(1900));
        // It was asked for since long; an agent that was killed meanwhile does not begin anew, and asks once more.
        let begun = Instant::now();
        assert!(waited(Some(u32::MAX), dir.path()).0.is_err());
        assert!(begun.elapsed() < Duration::from_secs(1), "it began anew");
        assert!(waited(Some(1), dir.path()).0.is_ok());
        let other = tempfile::tempdir().unwrap();
        let (said, facts) = waited(Some(2), other.path());
        assert!(said.is_ok() && facts.notes[0].contains("was reached after"), "{facts:?}");
    }

    #[test]
    fn where_there_is_nothing_to_reach_that_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (said, facts) = waited(None, dir.path());
        assert!(said.is_ok() && facts.notes[0].contains("nothing to reach"), "{facts:?}");
    }
}
