//! Accounts. A password is typed where nobody sees it, or comes by standard input; never as an argument, which everybody on
//! the machine could read.

use crate::args::account::{Account, SetUp};
use crate::client::escape;
use crate::commands::Ask;
use crate::output::{hint, line};
use crate::show;
use console::Term;
use fettle_core::operator::Role;
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::{
    self, AccountRow, AddAccount, ChangePassword, OwnAccount, Page, Secret, SetPassword,
};
use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::path::Path;

/// Runs it.
pub(crate) fn run(ask: &Ask<'_>, it: &Account) -> Result<(), Problem> {
    match it {
        Account::Add { name, roles, password_stdin } => {
            add(ask, name, roles.all(), *password_stdin)
        }
        Account::Password { name: Some(name), password_stdin } => set(ask, name, *password_stdin),
        Account::Password { name: None, password_stdin } => change(ask, *password_stdin),
        Account::List => {
            ask.get("/accounts?limit=100000", |page: &Page<AccountRow>| show::account::list(page))
        }
        Account::Show => ask.get("/account", |it: &OwnAccount| show::account::own(it)),
        Account::LogOut => {
            ask.client()?.delete("/account/sessions")?;
            ask.print(&serde_json::json!({ "sessions": "ended" }), |_| {
                line("all your sessions of the web pages have ended");
            })
        }
        Account::Disable { name } => {
            let path = format!("/accounts/{}/disable", escape(name));
            let row: AccountRow = ask.client()?.post(&path, &())?;
            ask.print(&row, |row| {
                line(&format!("{} may do nothing from now on", row.name));
                hint(&format!("fettle account enable {}", row.name));
            })
        }
        Account::Enable { name } => {
            let path = format!("/accounts/{}/enable", escape(name));
            let row: AccountRow = ask.client()?.post(&path, &())?;
            ask.print(&row, |row| line(&format!("{} may come again", row.name)))
        }
    }
}

/// Makes the first account. Nobody has a token for that: the secret stands for it.
pub(crate) fn set_up(ask: &Ask<'_>, it: &SetUp) -> Result<(), Problem> {
    let SetUp { name, secret_file, password_stdin } = it;
    let from_stdin = secret_file.as_os_str() == "-";
    let (secret, password) = match (from_stdin, password_stdin) {
        (true, true) => {
            let [secret, password] = lines()?;
            (secret, Secret(password))
        }
        (true, false) => {
            let [secret] = lines()?;
            (secret, new_password(name, false)?)
        }
        (false, stdin) => (secret_in(secret_file)?, new_password(name, *stdin)?),
    };
    let client = ask.stranger();
    let asked =
        api::SetUp { secret: Secret(secret.trim().to_owned()), name: name.clone(), password };
    let row: AccountRow = client.post("/setup", &asked)?;
    ask.print(&row, |row| {
        line(&format!("{} is the first admin, and comes by name and password", row.name));
        hint(&format!("{}/login", client.base()));
    })
}

fn secret_in(file: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(file).map_err(|error| {
        let message = format!("the set-up secret cannot be read from {}: {error}", file.display());
        let hint = "run it on the server's machine, as root; where an account is there already, there is no such file any more";
        Problem::new(ProblemKind::Forbidden, "secret-file", message, hint)
    })
}

fn add(ask: &Ask<'_>, name: &str, roles: BTreeSet<Role>, stdin: bool) -> Result<(), Problem> {
    let client = ask.client()?;
    let password = new_password(name, stdin)?;
    let asked = AddAccount { name: name.to_owned(), roles, password };
    let row: AccountRow = client.post("/accounts", &asked)?;
    ask.print(&row, |row| {
        line(&format!("{} comes by name and password", row.name));
        hint(&format!("{}/login", client.base()));
    })
}

fn set(ask: &Ask<'_>, name: &str, stdin: bool) -> Result<(), Problem> {
    let client = ask.client()?;
    let asked = SetPassword { password: new_password(name, stdin)? };
    let path = format!("/accounts/{}/password", escape(name));
    let row: AccountRow = client.put(&path, &asked)?;
    ask.print(&row, |row| {
        line(&format!("{} has another password, and their sessions have ended", row.name));
    })
}

fn change(ask: &Ask<'_>, stdin: bool) -> Result<(), Problem> {
    let client = ask.client()?;
    let own: OwnAccount = client.get("/account")?;
    let asked = if stdin {
        let [current, new] = lines()?;
        ChangePassword { current: Secret(current), new: Secret(new) }
    } else {
        let current = hidden("your password until now: ")?;
        ChangePassword { current: Secret(current), new: new_password(&own.name, false)? }
    };
    client.put_for_nothing("/account/password", &asked)?;
    ask.print(&serde_json::json!({ "changed": own.name }), |_| {
        line("your password is changed, and your sessions of the web pages have ended");
    })
}

/// A new password: from standard input, or typed twice.
fn new_password(name: &str, stdin: bool) -> Result<Secret, Problem> {
    if stdin {
        let [password] = lines()?;
        return Ok(Secret(password));
    }
    let password = hidden(&format!("a password for {name}: "))?;
    if hidden("the same again: ")? != password {
        let hint = "type it twice, the same";
        let message = "the two passwords are not the same";
        return Err(Problem::new(ProblemKind::Usage, "bad-password", message, hint));
    }
    Ok(Secret(password))
}

/// Asks for something that is not shown.
fn hidden(what: &str) -> Result<String, Problem> {
    let term = Term::stderr();
    let cannot = |why: String| {
        let hint = "run it in a terminal, or give it by standard input with --password-stdin";
        Problem::new(ProblemKind::Usage, "bad-password", why, hint)
    };
    if !term.is_term() {
        return Err(cannot("nobody is there to type a password".to_owned()));
    }
    let typed = term.write_str(what).and_then(|()| term.read_secure_line());
    typed.map_err(|e| cannot(format!("a password cannot be typed here: {e}")))
}

/// The first lines of standard input, without their ends.
fn lines<const N: usize>() -> Result<[String; N], Problem> {
    let read = std::io::stdin().lock().lines().take(N).collect::<Result<Vec<_>, _>>();
    read.ok().and_then(|lines| <[String; N]>::try_from(lines).ok()).ok_or_else(|| {
        let message = format!("standard input has fewer than {N} lines of text");
        let hint = "for example: fettle account add alice --role viewer --password-stdin";
        Problem::new(ProblemKind::Usage, "bad-password", message, hint)
    })
}
