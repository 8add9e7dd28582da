//! The way in, and what is shown when something is wrong.

use super::layout::{View, command};
use fettle_core::{Problem, ProblemKind};
use maud::{Markup, html};

/// The form that takes the operator's token. `wrong`: why the last try did not succeed.
pub fn login(view: &View<'_>, wrong: Option<&str>) -> Markup {
    view.page(
        "Log in",
        html! {
            div.login {
                h1 { "Log in" }
                @if let Some(wrong) = wrong { div.notice.bad role="alert" { p { (wrong) } } }
                form action="/login" method="post" {
                    label for="token" { "Your token" }
                    // Password managers keep a token under a name.
                    input type="text" name="username" value="operator" autocomplete="username" hidden;
                    input #token type="password" name="token" required autocomplete="current-password" autofocus;
                    button.primary { "Log in" }
                }
                p { "An admin makes one for you, with what you may do:" }
                (command("fettle operator add NAME --role viewer"))
                p { "The first admin's is on the server's machine. There, as root:" }
                (command("cat /var/lib/fettle/operator.token"))
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
