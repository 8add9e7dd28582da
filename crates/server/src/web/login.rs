//! The way in, and what is shown when something is wrong.

use super::layout::{View, command};
use fettle_core::login::PASSWORD_SHORTEST;
use fettle_core::{Problem, ProblemKind};
use maud::{Markup, html};

/// The forms that take name and password, or a token. `wrong`: why the last try did not succeed; `set_up`: the first account
/// is still to be made.
pub fn login(view: &View<'_>, wrong: Option<&str>, set_up: bool) -> Markup {
    view.page(
        "Log in",
        html! {
            div.login {
                h1 { "Log in" }
                @if let Some(wrong) = wrong { div.notice.bad role="alert" { p { (wrong) } } }
                @if set_up {
                    div.notice.work { h2 { "Nobody has an account here yet" } p { a href="/setup" { "Set up the first one" } ". Or log in with a token." } }
                }
                form action="/login" method="post" {
                    label for="name" { "Name" }
                    input #name type="text" name="name" required autocomplete="username" autocapitalize="none" spellcheck="false" autofocus[!set_up];
                    label for="password" { "Password" }
                    input #password type="password" name="password" required autocomplete="current-password";
                    button.primary { "Log in" }
                }
                h2 { "Or with a token" }
                form action="/login" method="post" {
                    label for="token" { "Your token" }
                    // Password managers keep a token under a name.
                    input type="text" name="username" value="operator" autocomplete="username" hidden;
                    input #token type="password" name="token" required autocomplete="current-password";
                    button { "Log in with the token" }
                }
                p { "An admin makes either for you, with what you may do:" }
                (command("fettle account add NAME --role viewer\nfettle operator add NAME --role viewer"))
                p { "The server's own token is on its machine. There, as root:" }
                (command("cat /var/lib/fettle/operator.token"))
            }
        },
    )
}

/// The form that makes the first admin. `name`: as it was typed before.
pub fn setup(view: &View<'_>, name: &str, wrong: Option<&str>) -> Markup {
    view.page(
        "Set up",
        html! {
            div.login {
                h1 { "The first account" }
                p { "It may do everything, and adds the others. This page closes for good once it is made." }
                @if let Some(wrong) = wrong { div.notice.bad role="alert" { p { (wrong) } } }
                form action="/setup" method="post" {
                    label for="secret" { "Set-up secret" }
                    input #secret type="text" name="secret" required autocomplete="off" spellcheck="false" autofocus aria-describedby="where";
                    p.quiet #where { "It is on the server's machine. There, as root:" }
                    (command("cat /var/lib/fettle/setup.secret"))
                    label for="name" { "Your name" }
                    input #name type="text" name="name" value=(name) required maxlength="64" autocomplete="username" autocapitalize="none" spellcheck="false" aria-describedby="names";
                    p.quiet #names { "Lower-case letters, digits, " code { "." } " " code { "_" } " " code { "@" } " " code { "-" } ". The ledger knows you by it for ever." }
                    label for="password" { "Password" }
                    input #password type="password" name="password" required minlength=(PASSWORD_SHORTEST) autocomplete="new-password" aria-describedby="rule";
                    label for="again" { "Password, again" }
                    input #again type="password" name="again" required minlength=(PASSWORD_SHORTEST) autocomplete="new-password";
                    p.quiet #rule { "At least " (PASSWORD_SHORTEST) " characters, without your name in them." }
                    button.primary { "Make the first account" }
                }
            }
        },
    )
}

/// A problem: what is wrong, and what to do next.
pub fn problem(view: &View<'_>, it: &Problem) -> Markup {
    let heading = match it.kind {
        ProblemKind::NotFound => "Not here",
        ProblemKind::Forbidden => "Not allowed",
        ProblemKind::Conflict | ProblemKind::Refused => "Not now",
        ProblemKind::Unavailable => "Not reachable",
        ProblemKind::NoData => "Not known",
        ProblemKind::Usage | ProblemKind::BadInput => "Not understood",
        ProblemKind::Internal | ProblemKind::Environment => "Something is wrong",
    };
    view.page(
        heading,
        html! {
            div.title { h1 { (heading) } p.lead { (it.message) "." } }
            p.todo { "→ " (it.hint) }
            p.quiet { "Code " a href={ "/errors/" (it.code) } { code { (it.code) } } ". " a href="/" { "To the overview" } }
        },
    )
}
