//! `fettle cycle` and `fettle emergency`: what policies do by themselves.

use crate::args::planning::{Cycle, Emergency};
use crate::client::escape;
use crate::commands::{Ask, seconds};
use crate::output::line;
use crate::show;
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::{Because, CycleRow, DeclareEmergency, Emergencies, Page};

pub(crate) fn cycle(ask: &Ask<'_>, cycle: &Cycle) -> Result<(), Problem> {
    match cycle {
        Cycle::List => ask.get("/cycles?limit=100000", |page: &Page<CycleRow>| {
            show::planning::cycles(&page.items);
        }),
        Cycle::Show { policy } => {
            let row = of_policy(ask, policy)?.ok_or_else(|| {
                Problem::new(
                    ProblemKind::NotFound,
                    "no-cycle",
                    format!("no policy `{policy}` with a [cycle] is in force"),
                    "see those that are: fettle cycle list",
                )
            })?;
            ask.print(&row, show::planning::cycle)
        }
        Cycle::Resume { policy, reason } => {
            let body = Because { reason: reason.clone(), hosts: Vec::new(), wave: None };
            let path = format!("/cycles/{}/resume", escape(policy));
            let row: CycleRow = ask.client()?.post(&path, &body)?;
            ask.print(&row, show::planning::cycle)
        }
        Cycle::Release { reason } => {
            let body = Because { reason: reason.clone(), hosts: Vec::new(), wave: None };
            let page: Page<CycleRow> = ask.client()?.post("/cycles/release", &body)?;
            ask.print(&page, |page| {
                line("the server starts by itself again what is approved and due");
                show::planning::cycles(&page.items);
            })
        }
    }
}

/// The cycle of a policy, if it has one.
pub(crate) fn of_policy(ask: &Ask<'_>, policy: &str) -> Result<Option<CycleRow>, Problem> {
    let page: Page<CycleRow> = ask.client()?.get("/cycles?limit=100000")?;
    Ok(page.items.into_iter().find(|row| row.policy == policy))
}

pub(crate) fn emergency(ask: &Ask<'_>, emergency: &Emergency) -> Result<(), Problem> {
    match emergency {
        Emergency::List => ask.get("/emergencies", show::planning::emergencies),
        Emergency::Declare { finding, reason, time } => {
            let seconds = seconds(time).ok_or_else(|| {
                let message = format!("`{time}` is no duration");
                Problem::new(ProblemKind::Usage, "duration", message, "write --for 12h or 3d")
            })?;
            let body =
                DeclareEmergency { finding: finding.clone(), reason: reason.clone(), seconds };
            let all: Emergencies = ask.client()?.post("/emergencies", &body)?;
            ask.print(&all, show::planning::emergencies)
        }
        Emergency::End { finding, reason } => {
            let path = format!("/emergencies/{}?reason={}", escape(finding), escape(reason));
            let all: Emergencies = ask.client()?.delete_for(&path)?;
            ask.print(&all, show::planning::emergencies)
        }
    }
}
