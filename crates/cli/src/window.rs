//! `fettle window preview`: when hosts may be changed next, in the zone of the policy's windows.

use crate::args::Output;
use crate::output::{self, hint, json, line};
use fettle_core::policy::Policy;
use fettle_core::{Problem, Timestamp};
use jiff::tz::TimeZone;
use serde::Serialize;

#[derive(Serialize)]
struct Preview {
    policy: String,
    time_zone: String,
    openings: Vec<Opening>,
}

#[derive(Serialize)]
struct Opening {
    from: Timestamp,
    /// Exclusive; none: for more than a year.
    to: Option<Timestamp>,
}

/// Prints the next openings of a policy.
pub(crate) fn preview(
    policy: &Policy,
    from: Timestamp,
    count: usize,
    output: Output,
) -> Result<(), Problem> {
    // Windows in several zones are all shown in the first one's: one list has one clock.
    let first = policy.windows.first().and_then(|w| Some((w.time_zone.as_str(), w.zone()?)));
    let (name, zone) = first.unwrap_or(("UTC", TimeZone::UTC));
    let openings = policy.openings(from, count);
    let preview = Preview {
        policy: policy.name.clone(),
        time_zone: name.to_owned(),
        openings: openings.into_iter().map(|(from, to)| Opening { from, to }).collect(),
    };
    if output == Output::Json {
        return json(&preview);
    }
    show(&preview, &zone);
    Ok(())
}

fn show(preview: &Preview, zone: &TimeZone) {
    let local = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%a %F %H:%M").to_string();
    match preview.openings.as_slice() {
        [] => {
            line(&format!(
                "policy `{}`: its hosts may not be changed within a year",
                preview.policy
            ));
            hint("look at its [[window]] and [[blackout]] sections");
        }
        [Opening { to: None, .. }] => {
            line(&format!("policy `{}`: its hosts may be changed at any time", preview.policy));
        }
        openings => {
            let mut table = output::table(&["OPENS", "CLOSES", "FOR", "OPENS (UTC)"]);
            for Opening { from, to } in openings {
                let length = to.map_or("more than a year".to_owned(), |to| {
                    let minutes = to.duration_since(*from).as_mins();
                    format!("{} h {:02} min", minutes / 60, minutes % 60)
                });
                let closes = to.map_or("-".to_owned(), local);
                table.add_row([local(*from), closes, length, from.to_string()]);
            }
            line(&format!("policy `{}`, times of {}", preview.policy, preview.time_zone));
            output::print(&table);
        }
    }
}
