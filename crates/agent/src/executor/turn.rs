//! Whose turn it is: one process at a time carries out transactions on a host, be it the agent that runs or a command
//! that was typed.

use super::ExecutorError;
use crate::durable;
use crate::settings::Settings;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

/// Whoever only asks who is at work is waited for so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Held for as long as this lives; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: File,
}

impl Turn {
    /// Takes it, and says in the file who has it.
    ///
    /// # Errors
    /// [`ExecutorError::Busy`] when another process has it.
    pub(super) fn take(settings: &Settings) -> Result<Self, ExecutorError> {
        let path = settings.turn_path();
        let opened = durable::create_directory(&settings.state_dir)
            .and_then(|()| File::options().create(true).truncate(false).write(true).open(&path));
        let state = |source| ExecutorError::State { path: settings.turn_path(), source };
        let mut lock = opened.map_err(state)?;
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(e) => return Err(state(e.into())),
            }
            // Whoever only asks who has it holds it for that moment ([`holder`]): that is nobody at work.
            if let Some(process) = holder(settings) {
                return Err(ExecutorError::Busy { process });
            }
            // One that asks, and was stopped in the middle of it, holds it for as long as somebody likes.
            if begun.elapsed() >= PATIENCE {
                return Err(ExecutorError::Busy { process: 0 });
            }
            std::thread::yield_now();
        }
        // For people only: without the number they are told less.
        let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
        Ok(Self { _lock: lock })
    }
}

/// The process that carries out a transaction now; 0 where it does not say, and where it cannot be seen whether there is
/// one. `None`: nobody does.
pub fn holder(settings: &Settings) -> Option<u32> {
    let mut file = match File::open(settings.turn_path()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        // Not known: whoever wants to work waits for it, and does not ask for ever.
        Err(_) => return Some(0),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Err(_) => return Some(0),
        Ok(()) => return None,
    }
    let mut text = String::new();
    let read: io::Result<usize> = file.read_to_string(&mut text);
    Some(read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or_default())
}

/// Was a transaction begun that has not ended and that nobody carries on?
pub fn is_left_alone(settings: &Settings) -> bool {
    holder(settings).is_none() && super::unfinished(settings).is_ok_and(|left| !left.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use fettle_core::Timestamp;
    use fettle_core::transaction::{Outcome, Step, TxEvent};

    fn settings(state: &tempfile::TempDir) -> Settings {
        Settings { state_dir: state.path().join("state"), ..Settings::default() }
    }

    #[test]
    fn a_second_one_is_told_who_is_at_work_and_the_next_may_when_it_is_done() {
        let state = tempfile::tempdir().unwrap();
        let settings = settings(&state);
        assert_eq!(holder(&settings), None);
        let turn = Turn::take(&settings).unwrap();
        let own = std::process::id();
        assert_eq!(holder(&settings), Some(own));
        let second = Turn::take(&settings).unwrap_err();
        assert!(matches!(second, ExecutorError::Busy { process } if process == own), "{second}");
        assert!(second.to_string().contains(&own.to_string()), "{second}");
        drop(turn);
        assert_eq!(holder(&settings), None);
        Turn::take(&settings).unwrap();
    }

    #[test]
    fn whoever_asks_who_is_at_work_keeps_nobody_from_work() {
        let state = tempfile::tempdir().unwrap();
        let settings = settings(&state);
        drop(Turn::take(&settings).unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        let asks = || {
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                holder(&settings);
            }
        };
        std::thread::scope(|threads| {
            threads.spawn(asks);
            threads.spawn(asks);
            let taken: Vec<_> = (0..200).map(|_| Turn::take(&settings).map(drop)).collect();
            done.store(true, std::sync::atomic::Ordering::Release);
            assert!(taken.iter().all(Result::is_ok), "{:?}", taken.iter().find(|t| t.is_err()));
        });
    }

    #[test]
    fn where_nobody_can_say_who_is_at_work_somebody_may_be() {
        let state = tempfile::tempdir().unwrap();
        let settings = settings(&state);
        drop(Turn::take(&settings).unwrap());
        // One that asks, and does not go on.
        let asks = File::open(settings.turn_path()).unwrap();
        rustix::fs::flock(&asks, FlockOperation::NonBlockingLockShared).unwrap();
        let busy = Turn::take(&settings).unwrap_err();
        assert!(matches!(busy, ExecutorError::Busy { process: 0 }), "{busy}");
        drop(asks);
        drop(Turn::take(&settings).unwrap());
        // It cannot be looked at.
        std::fs::remove_dir_all(&settings.state_dir).unwrap();
        assert_eq!(holder(&settings), None, "nobody ever was");
        std::fs::write(&settings.state_dir, "").unwrap();
        assert_eq!(holder(&settings), Some(0));
    }

    #[test]
    fn only_a_transaction_that_was_begun_and_that_nobody_carries_on_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let settings = settings(&state);
        assert!(!is_left_alone(&settings));
        let directory = settings.transactions_dir().join("tx-1");
        let (mut journal, _) = Journal::create(&directory).unwrap();
        assert!(!is_left_alone(&settings), "nothing was begun");
        let now = Timestamp::UNIX_EPOCH;
        journal.append(now, TxEvent::Started { step: Step::Apply }).unwrap();
        assert!(is_left_alone(&settings));
        let turn = Turn::take(&settings).unwrap();
        assert!(!is_left_alone(&settings), "this process carries it on");
        drop(turn);
        journal.append(now, TxEvent::Ended { outcome: Outcome::Patched }).unwrap();
        assert!(!is_left_alone(&settings));
    }
}
