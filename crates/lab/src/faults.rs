//! The fault battery: faults done to real hosts in the middle of real transactions, and what becomes of them.
//!
//! A row is one kind of fault (the numbers are those of the fault matrix in the documentation); a run is one
//! transaction that the fault was done to. Each run says whether the fault *fired*, and is judged from outside: by the
//! package database, by a hash of every file, and by the service's own answer; never by what the agent says of itself.

mod around;
mod boot_loader;
mod clocks;
mod configurations;
mod errors;
mod journal;
mod kernels;
mod kills;
mod lines;
mod machines;
mod memory;
mod room;
mod rows;
mod servers;
mod stand;

pub use rows::battery;
pub use servers::{Hall, ServerReport, ServerRow, run_servers, server_battery};
pub use stand::{End, Stand};

use serde::Serialize;
use std::path::Path;

use crate::{Lab, LabError, RootFs, Say};

/// One kind of fault.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// `H3`, or `H3a` where a row of the matrix has several.
    pub id: &'static str,
    /// What is done to the host.
    pub what: &'static str,
    /// Part of the short set, which every test run goes through.
    pub short: bool,
    /// What a run may end as. Anything else counts as unknown.
    pub good: &'static [End],
    /// What the host's root is.
    pub root: RootFs,
    /// Does it, again and again.
    pub run: fn(&mut Stand<'_>, Extent) -> Result<(), LabError>,
}

/// How many points of a row are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A few, spread over the whole.
    Short,
    /// All of them, or as many as tell.
    Full,
}

impl Extent {
    /// `points`, thinned to at most `few` when short; the first and the last are always among them.
    pub fn of<T: Clone>(self, points: &[T], few: usize) -> Vec<T> {
        let most = if self == Self::Short { few } else { points.len() };
        spread(points, most)
    }
}

/// At most `most` of them, evenly spread.
pub(crate) fn spread<T: Clone>(points: &[T], most: usize) -> Vec<T> {
    if points.len() <= most {
        return points.to_vec();
    }
    let last = points.len() - 1;
    (0..most).map(|n| points[n * last / most.saturating_sub(1).max(1)].clone()).collect()
}

/// What came of a row.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Its id and what was done.
    pub row: String,
    /// Transactions.
    pub runs: u32,
    /// Of those, how many the fault was really done to.
    pub fired: u32,
    /// Ended patched, verified from outside.
    pub patched_verified: u32,
    /// Ended as before, byte for byte, after the host had been touched.
    pub rolled_back_verified: u32,
    /// Refused before the host was touched: as before, byte for byte.
    pub refused_untouched: u32,
    /// Ended in quarantine, and says so.
    pub quarantined: u32,
    /// Anything else. Must be 0.
    pub unknown: u32,
    /// Files that differed after an undo, over all runs. Must be 0.
    pub differing: u32,
    /// As often the fault must have been done at least; 0: nothing is promised.
    pub promised: u32,
    /// Points that a transaction did not come to: they are no runs.
    pub unreached: u32,
    /// Seconds for all runs.
    pub seconds: f64,
    /// What was unknown or differed, one line each.
    pub details: Vec<String>,
}

impl Report {
    /// Did every fault fire, as often as is promised, and every run end well?
    pub fn holds(&self) -> bool {
        self.runs > 0
            && self.fired == self.runs
            && self.fired >= self.promised
            && self.unknown == 0
            && self.differing == 0
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<58} {:>4} runs {:>4} fired {:>4} patched {:>4} undone {:>4} refused {:>3} quarantined {:>3} unknown {:>3} differ {:>7.1} s",
            self.row,
            self.runs,
            self.fired,
            self.patched_verified,
            self.rolled_back_verified,
            self.refused_untouched,
            self.quarantined,
            self.unknown,
            self.differing,
            self.seconds
        )?;
        if self.unreached > 0 {
            write!(f, "; {} points not reached", self.unreached)?;
        }
        match self.fired < self.promised {
            true => write!(f, "; {} faults were promised", self.promised),
            false => Ok(()),
        }
    }
}

/// Runs the rows, one after the other, each on a host that is as good as new. `programs` holds `fettle-agent`.
///
/// # Errors
/// When the lab itself fails. What a fault does to a host is no error but part of the report.
pub fn run(
    lab: &Lab,
    programs: &Path,
    rows: &[Row],
    extent: Extent,
    points: &[String],
    say: Say<'_>,
) -> Result<Vec<Report>, LabError> {
    let first = rows.first().map_or_else(RootFs::default, |row| row.root);
    let mut stand = Stand::new(lab, programs, first, say)?;
    stand.only(points);
    let mut reports = Vec::new();
    for row in rows {
        stand.begin(row)?;
        (row.run)(&mut stand, extent)?;
        let report = stand.end();
        say(&report.to_string());
        for detail in &report.details {
            say(&format!("    {detail}"));
        }
        reports.push(report);
    }
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_thinned_evenly_and_the_ends_stay() {
        let all: Vec<u32> = (1..=100).collect();
        assert_eq!(spread(&all, 4), [1, 34, 67, 100]);
        assert_eq!(spread(&all[..3], 4), [1, 2, 3]);
        assert_eq!(Extent::Full.of(&all, 4).len(), 100);
        assert_eq!(Extent::Short.of(&all, 2), [1, 100]);
    }

    #[test]
    fn a_row_whose_faults_fired_less_often_than_promised_does_not_hold() {
        let report =
            Report { runs: 59, fired: 59, promised: 60, unreached: 3, ..Report::default() };
        assert!(!report.holds());
        assert!(report.to_string().ends_with("3 points not reached; 60 faults were promised"));
        let enough = Report { runs: 60, fired: 60, ..report };
        assert!(enough.holds());
        assert!(!Report { runs: 61, ..enough }.holds(), "one did not fire");
    }

    #[test]
    fn ids_are_unique_and_every_row_says_what_it_does() {
        let rows = battery();
        let ids: std::collections::BTreeSet<&str> = rows.iter().map(|r| r.id).collect();
        assert_eq!(ids.len(), rows.len());
        assert!(rows.iter().all(|r| !r.what.is_empty() && !r.good.is_empty()));
        assert!(rows.iter().any(|r| r.short) && rows.iter().any(|r| !r.short));
    }
}
