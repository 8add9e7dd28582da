//! Confirmation: whoever patches a host over the very network that the change may cut off says, afterwards, that they
//! can still get in. Without that word the change is taken back.

use super::{Transaction, fault, io_fault, progress, read_kept};
use crate::durable;
use crate::executor;
use crate::inventory::kernel::uptime;
use crate::settings::Settings;
use fettle_core::TransactionId;
use fettle_core::transaction::{Fault, StepFacts};
use std::path::Path;
use std::time::Duration;

/// How long the host had been up when the word was first waited for: no step of the clock changes that, and an agent
/// that was killed goes on from there.
const ASKED: &str = "confirm-asked.json";
/// The word.
const CONFIRMED: &str = "confirmed";
const PAUSE: Duration = Duration::from_millis(300);

/// Waits for the word, if the order wants it.
///
/// # Errors
/// When it did not come in time: the change is taken back.
pub(super) fn wait(tx: &Transaction<'_>, facts: &mut StepFacts) -> Result<(), Fault> {
    let Some(seconds) = tx.order.confirm_seconds else { return Ok(()) };
    let limit = Duration::from_secs(seconds.into());
    let asked = first_asked(tx, ASKED)?;
    loop {
        let waited = up()?.saturating_sub(asked);
        if tx.directory.join(CONFIRMED).exists() {
            facts.notes.push(format!("confirmed after {} s", waited.as_secs()));
            return Ok(());
        }
        if waited > limit {
            return Err(fault(
                "not-confirmed",
                format!("nobody confirmed the change within {seconds} s"),
                "it is being undone; where all was well, patch again and type `fettle-agent confirm` in time",
            ));
        }
        let left = limit.saturating_sub(waited).as_secs();
        let what = format!("waiting for `fettle-agent confirm`, {left} s left");
        progress::announce(tx.settings, tx.id().as_str(), &what);
        std::thread::sleep(PAUSE);
    }
}

/// How long the host had been up when something was first asked for, kept under `name`. After a reboot it is asked anew.
pub(super) fn first_asked(tx: &Transaction<'_>, name: &str) -> Result<Duration, Fault> {
    match tx.kept::<Duration>(name) {
        Some(asked) if asked <= up()? => Ok(asked),
        _ => {
            let now = up()?;
            tx.keep(name, &now)?;
            Ok(now)
        }
    }
}

/// How long the host is up by now.
pub(super) fn up() -> Result<Duration, Fault> {
    uptime().map_err(io_fault("read the host's uptime"))
}

/// Gives the word to the transaction that waits for it, if one does; says which.
///
/// # Errors
/// When the journals cannot be read, or the word not be written.
pub fn confirm(settings: &Settings) -> std::io::Result<Option<TransactionId>> {
    let waiting = |id: &TransactionId| {
        let directory = settings.transactions_dir().join(id.as_str());
        waits(&directory).then_some(directory)
    };
    for id in executor::unfinished(settings).map_err(std::io::Error::other)? {
        if let Some(directory) = waiting(&id) {
            durable::replace(&directory.join(CONFIRMED), b"")?;
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Does a transaction wait for the word?
pub fn is_awaited(settings: &Settings) -> bool {
    let waiting = |id: &TransactionId| waits(&settings.transactions_dir().join(id.as_str()));
    executor::unfinished(settings).is_ok_and(|open| open.iter().any(waiting))
}

fn waits(directory: &Path) -> bool {
    read_kept::<Duration>(directory, ASKED).is_some() && !directory.join(CONFIRMED).exists()
}
