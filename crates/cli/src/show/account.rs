//! Accounts.

use crate::output::{ago, hint, line, now, print, state, table};
use fettle_core::Timestamp;
use fettle_core::operator::listed;
use fettle_wire::api::{AccountRow, OwnAccount, Page};

fn when(at: Option<Timestamp>, never: &str) -> String {
    at.map_or_else(|| never.to_owned(), |at| ago(at, now()))
}

/// How somebody may come.
fn ways(row: &AccountRow) -> String {
    let password = row.password_set_at.map(|_| "password");
    let token = row.has_token.then_some("token");
    let ways: Vec<&str> = password.into_iter().chain(token).collect();
    if ways.is_empty() { "nothing".to_owned() } else { ways.join(", ") }
}

/// All accounts, with how they come and when they last did.
pub(crate) fn list(page: &Page<AccountRow>) {
    if page.items.is_empty() {
        line("there is only the server's own token, and its holder may do everything");
        hint("fettle account add NAME --role admin");
        return;
    }
    let mut out = table(&[
        "ACCOUNT",
        "ROLES",
        "STATE",
        "COMES BY",
        "LAST LOG-IN",
        "SESSIONS",
        "PASSWORD SET",
    ]);
    for row in &page.items {
        out.add_row(vec![
            row.name.clone().into(),
            listed(&row.roles).into(),
            state(&row.state),
            ways(row).into(),
            when(row.last_log_in_at, "never").into(),
            row.sessions.into(),
            comfy_table::Cell::new(when(row.password_set_at, "never")),
        ]);
    }
    print(&out);
}

/// Who asks, and where they are logged in.
pub(crate) fn own(it: &OwnAccount) {
    line(&format!("{}: {}", it.name, listed(&it.roles)));
    match &it.account {
        None => {
            line("the server's own token");
            hint("fettle account add NAME --role admin");
        }
        Some(row) => line(&format!(
            "comes by {}; password set {}, token expires {}",
            ways(row),
            when(row.password_set_at, "never"),
            when(row.token_expires_at, "never")
        )),
    }
    if it.sessions.is_empty() {
        return;
    }
    let mut out = table(&["SESSION BEGAN", "BY", "FROM", "LAST USED", "BROWSER"]);
    for row in &it.sessions {
        out.add_row(vec![
            ago(row.began_at, now()),
            row.way.to_string(),
            row.address.clone(),
            ago(row.seen_at, now()),
            row.browser.clone(),
        ]);
    }
    print(&out);
    hint("fettle account log-out ends all of them");
}
