//! Faults of the server in the middle of its rollouts, and of what is between it and its hosts: real processes, real
//! agents on real hosts.
//!
//! Judged by what the hosts' own journals say, and by what the server shows afterwards.

mod cut_off;
mod hall;
mod killed;
mod lost;
mod own_package;

pub use hall::Hall;

use serde::Serialize;
use std::path::Path;
use std::time::Instant;

use super::Extent;
use crate::{Lab, LabError, Say};

/// One kind of fault.
#[derive(Debug, Clone, Copy)]
pub struct ServerRow {
    /// `S1`.
    pub id: &'static str,
    /// What is done.
    pub what: &'static str,
    /// How many hosts it takes.
    pub hosts: usize,
    /// What its policy says beside what they all say: tables of its own, and its dead-man's time.
    pub policy: &'static str,
    /// `10m`; `None`: no dead-man's switch.
    pub deadman: Option<&'static str>,
    /// Does it.
    pub run: fn(&mut Hall, Extent) -> Result<(), LabError>,
}

/// All of them.
pub fn server_battery() -> Vec<ServerRow> {
    let policy = "[gate]\nbake = \"1s\"\nsilent-after = \"120s\"\n";
    vec![
        ServerRow {
            id: "S1",
            what: "the server killed in the middle of rollouts and undos",
            hosts: 2,
            policy,
            deadman: None,
            run: killed::killed,
        },
        ServerRow {
            id: "S2",
            what: "a change cuts a host off from its server",
            hosts: 2,
            policy,
            deadman: Some("15s"),
            run: cut_off::cut_off,
        },
        ServerRow {
            id: "S3",
            what: "the agent's own package is part of the change",
            hosts: 2,
            policy,
            deadman: None,
            run: own_package::upgraded,
        },
        ServerRow {
            id: "S24",
            what: "a host lost while its wave changes it; aborts timed",
            hosts: 4,
            policy,
            deadman: None,
            run: lost::lost,
        },
    ]
}

/// What came of a row.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ServerReport {
    /// Its id and what was done.
    pub row: String,
    /// How often it was to be done.
    pub runs: u32,
    /// How often it was really done.
    pub fired: u32,
    /// Rollouts and undos that were begun.
    pub rollouts: u32,
    /// Those that ended as they should.
    pub ended_well: u32,
    /// Changes that a host made twice. Must be 0.
    pub applied_twice: u32,
    /// Journals that the server does not have to their end, and events that it forgot. Must be 0.
    pub lost: u32,
    /// Whatever else does not hold. Must be 0.
    pub broken: u32,
    /// Seconds for all of it.
    pub seconds: f64,
    /// What does not hold, and where the faults hit, one line each.
    pub details: Vec<String>,
}

impl ServerReport {
    /// Did every fault fire, every rollout end as it should, and nothing get lost or done twice?
    pub fn holds(&self) -> bool {
        self.fired > 0
            && self.fired == self.runs
            && self.ended_well == self.rollouts
            && self.applied_twice + self.lost + self.broken == 0
    }
}

impl std::fmt::Display for ServerReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<58} {:>4} runs {:>4} fired {:>3} of {:>3} rollouts ended well {:>3} applied twice {:>3} lost {:>3} broken {:>7.1} s",
            self.row,
            self.runs,
            self.fired,
            self.ended_well,
            self.rollouts,
            self.applied_twice,
            self.lost,
            self.broken,
            self.seconds
        )
    }
}

/// Runs the rows, each with a server and hosts of its own. `programs` holds `fettle` and `fettle-agent`.
///
/// # Errors
/// When the lab itself fails. What a fault does is no error but part of the report.
pub fn run_servers(
    lab: &Lab,
    programs: &Path,
    rows: &[ServerRow],
    extent: Extent,
    say: Say<'_>,
) -> Result<Vec<ServerReport>, LabError> {
    let mut reports = Vec::new();
    for row in rows {
        let begun = Instant::now();
        let mut hall = Hall::new(lab, programs, row, say)?;
        (row.run)(&mut hall, extent)?;
        let report = ServerReport { seconds: begun.elapsed().as_secs_f64(), ..hall.end()? };
        say(&report.to_string());
        for detail in &report.details {
            say(&format!("    {detail}"));
        }
        reports.push(report);
    }
    Ok(reports)
}
