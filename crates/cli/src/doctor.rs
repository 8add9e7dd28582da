//! What is wrong with the server.

use crate::args::{Doctor, Output};
use crate::commands::Ask;
use crate::output::{json, line};
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::{Health, Level};

/// Prints what was found. An error, so that scripts see it, where something is not done until somebody acts.
pub(crate) fn run(ask: &Ask<'_>, it: &Doctor) -> Result<(), Problem> {
    let health = match &it.data {
        Some(data) => fettle_server::doctor::offline(data, &it.backups),
        None => ask.client()?.get::<Health>("/doctor").map_err(not_there)?,
    };
    match ask.output() {
        Output::Json => json(&health)?,
        Output::Table => print(&health),
    }
    let bad: Vec<_> = health.symptoms.iter().filter(|s| s.level == Level::Bad).collect();
    match bad.first() {
        None => Ok(()),
        Some(first) => Err(Problem::new(
            ProblemKind::Environment,
            "unwell",
            format!("{} of {} things looked at are wrong", bad.len(), health.symptoms.len()),
            &first.hint,
        )),
    }
}

/// A server that cannot be asked is looked at from beside it.
fn not_there(problem: Problem) -> Problem {
    match problem.kind {
        ProblemKind::Unavailable => Problem {
            hint: "on the server: sudo fettle doctor --data /var/lib/fettle".to_owned(),
            ..problem
        },
        _ => problem,
    }
}

fn print(health: &Health) {
    for symptom in &health.symptoms {
        let mark = match symptom.level {
            Level::Good => "✓",
            Level::Odd => "!",
            Level::Bad => "✗",
        };
        line(&format!("{mark} {:<13} {}", symptom.part, symptom.what));
        if !symptom.hint.is_empty() {
            line(&format!("  {:<13} → {}", "", symptom.hint));
        }
    }
}
