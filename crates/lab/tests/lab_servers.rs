//! Faults of the server in the middle of its rollouts. `cargo xtask faults --row S1` is the same.

#![allow(clippy::unwrap_used)]

mod support;

use fettle_lab::faults::{Extent, run_servers, server_battery};
use support::{in_a_lab, say};

fn row(id: &str) {
    in_a_lab(|lab, bins| {
        let rows: Vec<_> = server_battery().into_iter().filter(|row| row.id == id).collect();
        let reports = run_servers(lab, bins, &rows, Extent::Short, &say).unwrap();
        assert!(reports.len() == 1 && reports[0].holds(), "{reports:#?}");
    });
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn a_server_killed_thirty_times_ends_each_rollout_and_undo_as_if_it_had_not_been() {
    row("S1");
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn a_host_lost_in_the_middle_of_a_wave_holds_it_harms_nobody_and_comes_to_its_end_when_it_is_back()
{
    row("S24");
}
