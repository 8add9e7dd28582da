//! How far the ledger was verified. It only grows, so what was verified once is kept in memory as an entry's number and
//! hash, and whoever looks again has only what came after it verified. An older entry that somebody changed in the
//! database is found by a look through the whole: `fettle audit verify`, the doctor's, and here once a day.

use crate::app::{App, now};
use crate::views;
use crate::web::pages::ChainSeen;
use fettle_core::Problem;
use fettle_store::ledger;
use fettle_wire::api::LedgerVerified;
use std::sync::{Mutex, PoisonError};

/// A longer ledger is not verified whole by whoever opens its page.
const WHOLE_ON_SIGHT: u64 = 50_000;
/// After so long the page has the whole verified again.
const WHOLE_AGAIN_HOURS: i64 = 24;

/// What was found last; `None`: nobody has looked since the server started.
#[derive(Default)]
pub(crate) struct Chain(Mutex<Option<ChainSeen>>);

impl Chain {
    /// Verifies the whole ledger.
    pub(crate) fn whole(&self, app: &App) -> Result<LedgerVerified, Problem> {
        let seen = look_through(app)?;
        let verified = seen.verified.clone();
        // Nobody waits for it: whoever looked meanwhile knew what came before.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(verified)
    }

    /// Verifies what came since the last look; the whole where that is due. `None`: the whole was not verified yet, and is
    /// too long for it.
    pub(crate) fn look(&self, app: &App) -> Result<Option<ChainSeen>, Problem> {
        // Held until it is done: the ledger is then never seen shorter than it was verified, unless it was cut.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old =
            |it: &ChainSeen| now().duration_since(it.whole_at).as_hours() >= WHOLE_AGAIN_HOURS;
        let wants_whole = last.as_ref().is_none_or(is_old);
        if wants_whole
            && app.store.read::<_, Problem>(|view| Ok(ledger::len(view)?))? <= WHOLE_ON_SIGHT
        {
            *last = Some(look_through(app)?);
        } else if let Some(it) = last.as_mut().filter(|it| it.verified.broken.is_none()) {
            let LedgerVerified { entries, head, .. } = it.verified;
            let since = app
                .store
                .read::<_, Problem>(|view| Ok(ledger::verify_after(view, entries, head)?))?;
            it.verified =
                LedgerVerified { entries: since.entries, head: since.head, broken: since.broken };
        }
        Ok(last.clone())
    }
}

fn look_through(app: &App) -> Result<ChainSeen, Problem> {
    let whole_at = now();
    let verified = app.store.read(views::ledger_verified)?;
    Ok(ChainSeen { whole_entries: verified.entries, whole_at, verified })
}
