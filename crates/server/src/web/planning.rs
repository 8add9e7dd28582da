//! What policies do by themselves: cycles and emergencies, as parts of the overview and of a policy's page.

use super::layout::{View, encoded, scroll};
use super::{mark, words};
use fettle_core::cycle::{CycleOutcome, CycleRun, CycleState};
use fettle_core::emergency::EmergencyState;
use fettle_core::operator::Role;
use fettle_core::policy::CycleStart;
use fettle_wire::api::{CycleRow, Emergencies, EmergencyPlanRow};
use maud::{Markup, html};

/// Cycles as a table.
pub(crate) fn cycles(view: &View<'_>, rows: &[CycleRow]) -> Markup {
    html! {
        @if rows.is_empty() {
            p.quiet { "No policy has a " code { "[cycle]" } ": plans are made when somebody asks for one." }
        } @else {
            (scroll(html! { table {
                thead { tr { th scope="col" { "Policy" } th scope="col" { "Next" } th scope="col" { "Starts" } th.wide scope="col" { "Now" } th.wide scope="col" { "Last" } } }
                tbody { @for row in rows { tr {
                    td.name { a href={ "/policies/" (encoded(&row.policy)) } { (row.policy) } }
                    td { (view.ago_or(row.next_due, "not within a year")) }
                    td { (starts(row.start)) }
                    td.wide {
                        @for hold in &row.holds { div { (hold) } }
                        @if row.holds.is_empty() { span.quiet { "waits for its time" } }
                        @if let Some(failed) = &row.failed { div.note { strong.bad { "Went wrong: " (failed) } } }
                    }
                    td.wide { @match row.runs.first() { Some(run) => (one(view, run)), None => { span.quiet { "has not come due yet" } } } }
                } } }
            } }))
        }
    }
}

/// One policy's cycle, with what it did.
pub(crate) fn cycle(view: &View<'_>, row: &CycleRow) -> Markup {
    html! {
        p { "Comes due " (view.ago_or(row.next_due, "not within a year")) "; " (starts(row.start)) "." }
        @for hold in &row.holds { p { "Now: " (hold) "." } }
        @if let Some(failed) = &row.failed {
            p { strong.bad { "Went wrong: " (failed) "." } " It goes on when somebody has looked after it." }
            @if view.may(Role::Operator) {
                form.start action={ "/policies/" (encoded(&row.policy)) "/cycle/resume" } method="post" {
                    label.hidden for="cycle-reason" { "Reason" }
                    input #cycle-reason type="text" name="reason" maxlength="500" required placeholder="What was found, for the ledger" autocomplete="off";
                    button { "Let it go on" }
                    span.note { code { "fettle cycle resume " (row.policy) } }
                }
            }
        }
        @if row.runs.is_empty() {
            p.quiet { "It has not come due yet." }
        } @else {
            (scroll(html! { table {
                thead { tr { th scope="col" { "Came due" } th.wide scope="col" { "What came of it" } } }
                tbody { @for run in &row.runs { tr { td { (view.ago(run.due)) } td.wide { (one(view, run)) } } } }
            } }))
        }
    }
}

fn starts(start: CycleStart) -> &'static str {
    match start {
        CycleStart::Propose => "a person starts",
        CycleStart::Automatic => "starts by itself once it is approved",
    }
}

/// How a run stands or ended, with links.
fn one(view: &View<'_>, run: &CycleRun) -> Markup {
    let look = match &run.state {
        CycleState::Held { .. } => mark::host_state("silent"),
        CycleState::Planned { .. } => mark::host_state("pending-restart"),
        CycleState::Started { .. } => mark::run_state("redeemed"),
        CycleState::Ended { outcome, .. } => match outcome {
            CycleOutcome::Done { .. } | CycleOutcome::NothingOwed => mark::host_state("up-to-date"),
            CycleOutcome::Failed { .. } => mark::host_state("quarantined"),
            CycleOutcome::Proposed { .. } => mark::host_state("pending-restart"),
            _ => mark::host_state("no-fix-yet"),
        },
    };
    html! {
        (look.shape()) (run.state)
        div.note {
            (view.ago(run.due))
            @if run.skipped > 0 { ", " (words::counted(u64::from(run.skipped), "time")) " before it passed over" }
            @if let Some(plan) = plan_of(&run.state) { " · " a href={ "/plans/" (plan) } { "plan " (plan) } }
            @if let Some(rollout) = rollout_of(&run.state) { " · " a href={ "/rollouts/" (encoded(rollout)) } { (rollout) } }
        }
    }
}

fn plan_of(state: &CycleState) -> Option<u64> {
    match state {
        CycleState::Planned { plan } | CycleState::Started { plan, .. } => Some(*plan),
        CycleState::Ended { outcome, .. } => match outcome {
            CycleOutcome::AllHeld { plan }
            | CycleOutcome::Proposed { plan }
            | CycleOutcome::Overtaken { plan }
            | CycleOutcome::NotApproved { plan } => Some(*plan),
            _ => None,
        },
        CycleState::Held { .. } => None,
    }
}

fn rollout_of(state: &CycleState) -> Option<&str> {
    match state {
        CycleState::Started { rollout, .. } => Some(rollout.as_str()),
        CycleState::Ended {
            outcome: CycleOutcome::Done { rollout } | CycleOutcome::Failed { rollout, .. },
            ..
        } => Some(rollout.as_str()),
        _ => None,
    }
}

/// What cannot wait, at the head of the overview. Nothing where nothing calls.
pub(crate) fn emergencies(view: &View<'_>, it: &Emergencies) -> Markup {
    let standing: Vec<&EmergencyPlanRow> =
        it.plans.iter().filter(|row| row.waiting.is_some()).collect();
    let is_open = |row: &EmergencyPlanRow| row.plan.state == EmergencyState::Open;
    html! {
        @if !it.calling.is_empty() || !it.declared.is_empty() {
            div.notice.bad {
                @for call in &it.calling {
                    p {
                        strong.bad { "Cannot wait: " }
                        @for (n, id) in call.findings.iter().take(5).enumerate() { @if n > 0 { ", " } a href={ "/cves/" (encoded(id)) } { (id) } }
                        @if call.findings.len() > 5 { " and " (call.findings.len() - 5) " more" }
                        " on " (words::counted(call.hosts, "host")) " of " a href={ "/policies/" (encoded(&call.policy)) } { (call.policy) } "."
                    }
                }
                @for it in &it.declared {
                    p { "Declared by " (it.by) " until " (words::utc(it.until)) ": " a href={ "/cves/" (encoded(&it.finding)) } { (it.finding) } ", " (it.reason) }
                }
                @for row in standing.iter().filter(|row| is_open(row)) {
                    p {
                        a href={ "/plans/" (row.plan.plan) } { "Emergency plan " (row.plan.plan) }
                        " for " (words::counted(row.plan.covers.len() as u64, "host")) " of " (row.plan.policy) ", made " (view.ago(row.plan.at))
                        @if let Some(hold) = &row.waiting { ": " (hold) }
                        "."
                    }
                }
                // Those that have ended are not what is to be looked at now.
                @for row in &standing { @if let EmergencyState::Started { rollout } = &row.plan.state {
                    p { a href={ "/rollouts/" (encoded(rollout.as_str())) } { (rollout) } " carries out emergency plan " (row.plan.plan) "." }
                } }
            }
        }
    }
}
