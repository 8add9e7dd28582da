//! The short set of the fault battery, as part of every test run. `cargo xtask faults --full` is all of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use fettle_lab::faults::{Extent, battery, run};
use fettle_lab::{Lab, LabConfig};
use std::path::PathBuf;

fn say(line: &str) {
    println!("{line}");
}

#[test]
fn every_fault_of_the_short_set_fires_and_no_host_ends_in_an_unknown_state() {
    let bins = std::env::var_os("FETTLE_BIN_DIR").map(PathBuf::from);
    let (None, Some(bins)) = (fettle_lab::why_not(), bins) else {
        println!(
            "skipped: {}",
            fettle_lab::why_not().unwrap_or_else(|| "FETTLE_BIN_DIR is not set".into())
        );
        return;
    };
    let lab = Lab::open(LabConfig::for_tests().unwrap()).unwrap();
    lab.down(&say).unwrap();
    let rows: Vec<_> = battery().into_iter().filter(|row| row.short).collect();
    let reports = run(&lab, &bins, &rows, Extent::Short, &say);
    lab.down(&say).unwrap();
    let left: Vec<String> = lab.leftovers().unwrap().iter().map(ToString::to_string).collect();
    let reports = reports.unwrap();
    let bad: Vec<_> = reports.iter().filter(|report| !report.holds()).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(reports.len(), rows.len());
    assert_eq!(left, Vec::<String>::new(), "left behind");
}
