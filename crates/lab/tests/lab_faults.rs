//! The short set of the fault battery, as part of every test run. `cargo xtask faults --full` is all of it.

#![allow(clippy::unwrap_used)]

mod support;

use fettle_lab::faults::{Extent, battery, run};
use support::{in_a_lab, say};

#[test]
fn every_fault_of_the_short_set_fires_and_no_host_ends_in_an_unknown_state() {
    in_a_lab(|lab, bins| {
        let rows: Vec<_> = battery().into_iter().filter(|row| row.short).collect();
        let reports = run(lab, bins, &rows, Extent::Short, &[], &say).unwrap();
        let bad: Vec<_> = reports.iter().filter(|report| !report.holds()).collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert_eq!(reports.len(), rows.len());
    });
}
