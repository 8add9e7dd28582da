//! What the server does by itself beside patching: reports on a schedule, and what webhooks did not take; and who may come.

use super::account;
use super::layout::{PLACES, View, command, empty, encoded, scroll, section, title};
use super::words;
use fettle_core::operator::Role;
use fettle_wire::api::{AccountRow, DeliveryRow, ReportRun, SavedViewRow, ScheduleRow};
use maud::{Markup, html};

/// The page. `accounts`: of everybody, for who may see them.
pub fn settings(
    view: &View<'_>,
    schedules: &[ScheduleRow],
    deliveries: &[DeliveryRow],
    views: &[SavedViewRow],
    accounts: Option<&[AccountRow]>,
) -> Markup {
    view.page(
        "Settings",
        html! {
            (title("Settings", html! { "Reports that the server makes by itself, messages to webhooks that have not arrived, saved views, and accounts." }))
            (section("Reports on a schedule", Some(("/reports", "A report now")), html! {
                @if schedules.is_empty() {
                    (empty("No report is made by itself.", html! { p { "To have one of each month, in the server's directory:" } (command(EXAMPLE)) }))
                } @else {
                    (reports(view, schedules))
                    p.quiet { "Another, or one of these anew:" }
                    (command(EXAMPLE))
                }
            }))
            (section("Not delivered", None, html! {
                @if deliveries.is_empty() { p { "Whatever was sent to a webhook has arrived." } }
                @else { (undelivered(view, deliveries)) }
                p.quiet { "Messages are signed; the receiver verifies them with the secret in " code { "DATA/keys/webhook.secret" } " on the server." }
            }))
            (section("Saved views", Some(("/hosts", "Hosts")), html! {
                @if views.is_empty() { p { "Narrow down the list of hosts, and save it there under a name." } }
                @else { (saved(view, views)) }
            }))
            @if let Some(accounts) = accounts { (account::list(view, accounts)) }
            (keys())
        },
    )
}

/// What the keyboard does on every page, where scripts run.
fn keys() -> Markup {
    html! {
        section #keys {
            div.head { h2 { "Keys" } }
            dl.facts {
                dt { kbd { "/" } } dd { "goes to the box that searches everything; what is found stands below it while you type. " kbd { "↓" } " and " kbd { "↑" } " go through it, " kbd { "Esc" } " shuts it." }
                dt { kbd { "j" } " " kbd { "k" } } dd { "go down and up through the rows of a list; " kbd { "Enter" } " opens one." }
                dt { kbd { "n" } " " kbd { "p" } } dd { "show the next and the previous part of a long list." }
                dt { kbd { "g" } " then" } dd { @for (n, (_, name, key)) in PLACES.iter().enumerate() { @if n > 0 { ", " } kbd { (key) } " " (name) } "." }
                dt { kbd { "?" } } dd { "comes here." }
            }
            p.quiet { "Times are UTC unless another zone stands beside them. Where your own clock shows another, a time says on demand what it is by that, and the foot of every page says it openly." }
        }
    }
}

fn saved(view: &View<'_>, rows: &[SavedViewRow]) -> Markup {
    html! {
        (scroll(html! { table {
            thead { tr { th { "Name" } th { "Whose" } th { "Saved" } th.wide { "Query" } th { "By hand" } } }
            tbody { @for row in rows { tr {
                td.name { a href={ "/hosts?" (row.query) } { (row.name) } }
                td { (row.owner) @if row.shared { div.note { "for everybody" } } }
                td { (view.ago(row.saved_at)) }
                td.wide { code { (row.query) } }
                td { @if row.mine || view.may(Role::Admin) {
                    form action="/views/remove" method="post" {
                        input type="hidden" name="name" value=(row.name);
                        input type="hidden" name="owner" value=(row.owner);
                        button { "Take away" }
                    }
                } }
            } } }
        } }))
    }
}

const EXAMPLE: &str = "fettle schedule set monthly --recurrence 'FREQ=MONTHLY;BYMONTHDAY=1' --at 06:00 --time-zone Europe/Berlin --keep 24";

fn reports(view: &View<'_>, rows: &[ScheduleRow]) -> Markup {
    html! {
        (scroll(html! { table {
            thead { tr { th { "Name" } th { "When, and of what" } th { "As, and where to" } th.wide { "Next, and what stands in the way" } th { "Last" } @if view.may(Role::Operator) { th { "Now" } } } }
            tbody { @for row in rows { tr {
                td.name { (row.name) div.note { "set " (view.ago(row.set_at)) } div.note { "by " (row.set_by) } }
                td {
                    (row.schedule.recurrence)
                    div.note { (row.schedule.at.strftime("%H:%M")) " " (row.schedule.time_zone) ", " (row.schedule.covers) }
                    div.note { @match &row.schedule.policy { Some(policy) => { "policy " (policy) }, None => { "the whole fleet" } } }
                }
                td {
                    @for format in &row.schedule.formats { (format) " " }
                    @if let Some(directory) = &row.directory { div.note { code { (directory) } @if let Some(keep) = row.schedule.keep { ", the newest " (keep) } } }
                    @if let Some(webhook) = &row.schedule.webhook { div.note { (webhook) } }
                }
                td.wide {
                    @match row.next_at { Some(at) => { (words::utc(at)) }, None => { span.quiet { "not within a year" } } }
                    @for hold in row.holds.iter().filter(|hold| hold.code() != "not-due") { div { a.tag href={ "/errors/" (hold.code()) } { (hold.code()) } " " (hold) } }
                }
                td { @match &row.last { Some(run) => (last(view, run)), None => span.quiet { "none yet" } } }
                @if view.may(Role::Operator) {
                    td { form action={ "/settings/schedules/" (encoded(&row.name)) "/run" } method="post" { button { "Make one now" } } }
                }
            } } }
        } }))
    }
}

fn last(view: &View<'_>, run: &ReportRun) -> Markup {
    html! {
        (view.ago(run.made_at))
        div.note { (words::utc(run.from)) " to " (words::utc(run.to)) }
        @if run.missed > 0 { div.note { "stands for " (words::counted(u64::from(run.missed), "other")) " that no server was there for" } }
        @for file in &run.files { div.note { (file) } }
        @if run.arrived == Some(true) { div.note { "the webhook has it" } }
    }
}

fn undelivered(view: &View<'_>, rows: &[DeliveryRow]) -> Markup {
    html! {
        (scroll(html! { table {
            thead { tr { th { "Message" } th { "About" } th { "To" } th { "Made" } th.n { "Tries" } th { "Next try" } th.wide { "Why not" } @if view.may(Role::Operator) { th { "By hand" } } } }
            tbody { @for row in rows { tr {
                td.name { (row.id) div.note { (row.kind) ", " (words::bytes(row.bytes)) } }
                td { (row.subject) }
                td { (row.to) }
                td { (view.ago(row.made_at)) }
                td.n { (row.tries) }
                td { @match row.next_at { Some(at) => (view.ago(at)), None => strong.bad { "none: a dead letter" } } }
                td.wide { (row.error.as_deref().unwrap_or("not tried yet")) }
                @if view.may(Role::Operator) { td {
                    form action={ "/settings/deliveries/" (encoded(&row.id)) "/resend" } method="post" { button { "Send again" } }
                    form action={ "/settings/deliveries/" (encoded(&row.id)) "/drop" } method="post" { button { "Let it go" } }
                } }
            } } }
        } }))
    }
}
