//! One's own account, and the list of everybody's.

use super::layout::{View, command, encoded, scroll, section, title};
use super::words;
use fettle_core::login::{PASSWORD_SHORTEST, Way};
use fettle_core::operator::{Role, listed};
use fettle_wire::api::{AccountRow, OwnAccount, SessionRow};
use maud::{Markup, html};

/// What the page of one's own account has to say beside what is on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccountNotes<'a> {
    /// Why something was not done.
    pub wrong: Option<&'a str>,
    /// A token that was just made: it is shown this once.
    pub token: Option<&'a str>,
}

/// Who is logged in, how they come, and where.
pub fn account(view: &View<'_>, it: &OwnAccount, notes: &AccountNotes<'_>) -> Markup {
    let has_password = it.account.as_ref().is_some_and(|it| it.password_set_at.is_some());
    let changed = view.path.ends_with("?changed");
    view.page(
        "Your account",
        html! {
            (title("Your account", html! { b { (it.name) } ", who may: " (listed(&it.roles)) "." }))
            @if let Some(wrong) = notes.wrong { div.notice.bad role="alert" { p { (wrong) } } }
            @if changed && notes.wrong.is_none() { div.notice.good role="status" { p { "The password is changed. All other sessions of yours have ended." } } }
            @if let Some(token) = notes.token {
                div.notice.good role="status" {
                    h2 { "Your new token, shown this once" }
                    p { "Put it into a file that only you can read, and name that with " code { "--token-file" } ". The one before is worth nothing any more." }
                    (command(token))
                }
            }
            @match &it.account {
                None => (section("Password", None, html! {
                    p { "You hold the server's own token: it is nobody's account, and has no password. For daily work, add an account of your own:" }
                    (command("fettle account add NAME --role admin"))
                })),
                Some(_) if !has_password => (section("Password", None, html! {
                    p { "You come by a token only. An admin gives you a first password:" }
                    (command(&format!("fettle account password {}", it.name)))
                })),
                Some(row) => (password(view, row)),
            }
            (sessions(view, &it.sessions))
            @if let Some(row) = &it.account { (token(view, row, has_password)) }
        },
    )
}

fn password(view: &View<'_>, row: &AccountRow) -> Markup {
    section(
        "Password",
        None,
        html! {
            p { "Set " (view.ago_or(row.password_set_at, "never")) ". Another one ends all your sessions but this." }
            div.control { form action="/account/password" method="post" {
                input type="text" name="username" value=(row.name) autocomplete="username" hidden;
                label { "Current password" input #current type="password" name="current" required autocomplete="current-password"; }
                (new_password("New password"))
                button.primary { "Change password" }
            } }
        },
    )
}

/// The fields of a new password, typed twice.
pub(super) fn new_password(name: &str) -> Markup {
    html! {
        label { (name) input #new type="password" name="new" required minlength=(PASSWORD_SHORTEST) autocomplete="new-password" aria-describedby="rule"; }
        label { (name) ", again" input #again type="password" name="again" required minlength=(PASSWORD_SHORTEST) autocomplete="new-password"; }
        p.quiet #rule { "At least " (PASSWORD_SHORTEST) " characters, without your name in them. A few words that have nothing to do with each other are easy to keep." }
    }
}

/// How somebody came, as people read it.
fn way(way: Way) -> &'static str {
    match way {
        Way::Password => "password",
        Way::Token => "token",
        Way::ServerToken => "the server's token",
    }
}

fn sessions(view: &View<'_>, rows: &[SessionRow]) -> Markup {
    section(
        "Sessions",
        None,
        html! {
            @if rows.is_empty() { p { "You have no page open." } }
            @else {
                @if rows.iter().any(|row| !row.this) {
                    form action="/account/sessions/end" method="post" { button { "End all others" } }
                }
                (scroll(html! { table {
                    thead { tr { th { "Began" } th { "By" } th { "From" } th.wide { "Browser" } th { "Last used" } th { "Ends unused" } } }
                    tbody { @for row in rows { tr {
                        td.name { (view.ago(row.began_at)) @if row.this { div.note { strong { "this one" } } } }
                        td { (way(row.way)) }
                        td { (row.address) }
                        td.wide { (browser(&row.browser)) }
                        td { (view.ago(row.seen_at)) }
                        td { (words::utc(row.ends_at)) }
                    } } }
                } }))
            }
        },
    )
}

/// What a browser says of itself, as far as it is worth reading.
fn browser(said: &str) -> &str {
    if said.is_empty() { "it does not say" } else { said }
}

fn token(view: &View<'_>, row: &AccountRow, has_password: bool) -> Markup {
    section(
        "Token",
        None,
        html! {
            p {
                @match (row.has_token, row.token_expires_at) {
                    (false, _) => "You have none. The command line and programs need one.",
                    (true, None) => "You have one, and it does not expire.",
                    (true, Some(at)) if at <= view.now => { "The one you had expired at " (words::utc(at)) "." }
                    (true, Some(at)) => { "You have one, which is good until " (words::utc(at)) "." }
                }
                @if row.has_token { " A new one takes its place, and sessions that were begun by it end." }
            }
            @if has_password {
                div.control { form action="/account/token" method="post" {
                    input type="text" name="username" value=(row.name) autocomplete="username" hidden;
                    label { "Current password" input type="password" name="current" required autocomplete="current-password"; }
                    label { "Good for" select name="days" {
                        option value="7" { "a week" } option value="30" { "30 days" } option value="90" selected { "90 days" } option value="365" { "a year" }
                    } }
                    button { "Make a new token" }
                } }
            } @else {
                p.quiet { "An admin makes another: " code { "fettle operator renew " (row.name) } "." }
            }
        },
    )
}

const EXAMPLE: &str = "fettle account add NAME --role viewer";

/// Everybody's accounts, on the page of settings.
pub(super) fn list(view: &View<'_>, rows: &[AccountRow]) -> Markup {
    html! {
        section #accounts {
            div.head { h2 { "Accounts" } a.more href="/account" { "Your own" } }
            @if rows.is_empty() { p { "There is only the server's own token, and its holder may do everything." } }
            @else {
                (scroll(html! { table {
                    thead { tr { th { "Name" } th { "May" } th { "State" } th { "Comes by" } th { "Last log-in" } th.n { "Sessions" } @if view.may(Role::Admin) { th { "By hand" } } } }
                    tbody { @for row in rows { tr {
                        td.name { (row.name) div.note { "added " (view.ago(row.created_at)) } }
                        td { (listed(&row.roles)) }
                        td { (state(view, row)) }
                        td { (ways(view, row)) }
                        td { (view.ago_or(row.last_log_in_at, "never")) }
                        td.n { (row.sessions) }
                        @if view.may(Role::Admin) { td { (by_hand(row)) } }
                    } } }
                } }))
            }
            @if view.may(Role::Admin) {
                p.quiet { "Another, or another password for one of these (" code { "fettle account password NAME" } "):" }
                (command(EXAMPLE))
            }
        }
    }
}

fn state(view: &View<'_>, row: &AccountRow) -> Markup {
    html! {
        @if row.state == "good" { "good" } @else { strong.bad { (row.state) } }
        @if let Some(at) = row.state_since { div.note { (view.ago(at)) } }
        @if let Some(by) = &row.state_by { div.note { "by " (by) } }
    }
}

fn ways(view: &View<'_>, row: &AccountRow) -> Markup {
    html! {
        @if let Some(at) = row.password_set_at { "password" div.note { "set " (view.ago(at)) } }
        @if row.has_token {
            div { "token" }
            @if let Some(at) = row.token_expires_at { div.note { "until " (words::utc(at)) } }
        }
        @if row.password_set_at.is_none() && !row.has_token { span.quiet { "nothing" } }
    }
}

fn by_hand(row: &AccountRow) -> Markup {
    let path = |wish: &str| format!("/settings/accounts/{}/{wish}", encoded(&row.name));
    html! {
        @match row.state.as_str() {
            "good" => form action=(path("disable")) method="post" { button { "Disable" } },
            "disabled" => form action=(path("enable")) method="post" { button { "Enable" } },
            _ => {}
        }
    }
}
