//! The first admin: made once, by who can read a file of the server, and then never again.

use crate::app::{App, now};
use crate::login::{Counted, Denied};
use crate::passwords;
use crate::session::{self, Came};
use crate::trust::{hex, random, read_or_make, same_secret};
use fettle_core::login::Way;
use fettle_core::operator::Role;
use fettle_core::{Problem, ProblemKind};
use fettle_store::{Tx, accounts};
use fettle_wire::api::{AccountRow, Secret, SetUp};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

/// Where the secret is, below the data directory.
pub(crate) const FILE: &str = "setup.secret";

/// The secret that opens the set-up; `None`: it is closed.
pub(crate) fn secret(app: &App) -> Option<String> {
    app.setup_secret.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// As long as nobody has an account, a file holds the secret that makes the first one; else there is none.
pub(crate) fn prepare(app: &App) -> Result<(), Problem> {
    if !app.store.read::<_, Problem>(|view| Ok(accounts::set_up_is_open(view)?))? {
        close(app);
        return Ok(());
    }
    let path = app.options.data_dir.join(FILE);
    let bytes = read_or_make(&path, || Ok(format!("{}\n", hex(&random::<32>()?)).into_bytes()))?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    if text.len() < 32 {
        let message =
            format!("{} cannot be used: it is shorter than 32 characters", path.display());
        let hint = "remove it: the server makes another at its next start";
        return Err(Problem::new(ProblemKind::Environment, "key-unusable", message, hint));
    }
    *app.setup_secret.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    Ok(())
}

/// Somebody has an account: the secret is worth nothing, and its file goes. What closes the set-up is in the store; this
/// only tidies up.
pub(crate) fn close(app: &App) {
    *app.setup_secret.lock().unwrap_or_else(PoisonError::into_inner) = None;
    let _ = std::fs::remove_file(app.options.data_dir.join(FILE));
}

/// The set-up is over.
pub(crate) fn closed() -> Problem {
    let message = "the first set-up is over: this server has, or had, an account";
    let hint = "ask an admin for one: `fettle account add NAME --role ROLE`";
    Problem::new(ProblemKind::NotFound, "setup-closed", message, hint)
}

/// Is it still open?
pub(crate) async fn is_open(app: &Arc<App>) -> Result<bool, Problem> {
    app.blocking(|app| app.store.read::<_, Problem>(|view| Ok(accounts::set_up_is_open(view)?)))
        .await
}

/// Makes the first admin, and logs them in: gives the cookie.
pub(crate) async fn with_session(
    app: &Arc<App>,
    came: &Came,
    asked: SetUp,
) -> Result<String, Denied> {
    let here = came.clone();
    make(app, came, asked, move |app, tx, name| {
        let set_at = accounts::password(tx, name)?.map(|it| session::mark_set(it.set_at));
        let (cookie, session) =
            session::fresh(&here, name, Way::Password, set_at.unwrap_or_default())?;
        session::begin(app, tx, &session)?;
        Ok(cookie)
    })
    .await
}

/// Makes the first admin, of whom nothing is open yet.
pub(crate) async fn by_call(
    app: &Arc<App>,
    came: &Came,
    asked: SetUp,
) -> Result<AccountRow, Denied> {
    make(app, came, asked, |_, tx, name| crate::accounts::one(tx, name, tx.now())).await
}

/// Makes the first admin, and what is to be there `with` them. Of two at once one is too late.
async fn make<T: Send + 'static>(
    app: &Arc<App>,
    came: &Came,
    asked: SetUp,
    with: impl FnOnce(&App, &mut Tx<'_>, &str) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Denied> {
    if !is_open(app).await? {
        return Err(closed().into());
    }
    let SetUp { secret: Secret(given), name, password: Secret(password) } = asked;
    let by = Counted::from_where(came);
    let at = now();
    app.throttle.begin(&by, at).map_err(Denied::Wait)?;
    let given = given.trim().as_bytes();
    let of_file = secret(app).is_some_and(|secret| same_secret(given, secret.as_bytes()));
    // Whoever is on this machine and holds the server's token may add accounts anyway.
    let of_token = came.local && same_secret(given, app.trust.operator_token.as_bytes());
    if !(of_file || of_token) {
        tracing::warn!(address = came.address, "a wrong set-up secret");
        let message = "this is not the set-up secret";
        let hint = "read it on the server's machine, as root: `cat DATA/setup.secret`";
        return Err(Problem::new(ProblemKind::Forbidden, "wrong-password", message, hint).into());
    }
    app.throttle.succeeded(&by, at);
    let name = name.trim().to_owned();
    crate::accounts::checked(&name, &password)?;
    let phc = app.hashing(move || passwords::hash(&password)).await?;
    let made = app
        .blocking(move |app| {
            let made = app.store.write::<_, Problem>("setup", now(), |tx| {
                if !accounts::set_up_is_open(tx)? {
                    return Err(closed());
                }
                accounts::add(tx, &name, &BTreeSet::from([Role::Admin]), &phc)?;
                with(app, tx, &name)
            })?;
            close(app);
            app.events.tell("operator", &name);
            Ok(made)
        })
        .await?;
    Ok(made)
}
