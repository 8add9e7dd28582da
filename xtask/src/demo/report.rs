//! What the demo came to, for people and as JSON.

use fettle_core::finding::FindingState;
use fettle_core::rollout::HostState;
use fettle_wire::api::{FindingRow, RolloutDetail, RolloutHost};
use serde::Serialize;
use std::collections::BTreeMap;

/// The whole report.
#[derive(Debug, Serialize)]
pub(crate) struct DemoReport {
    /// The hosts, in the order of their waves.
    pub(crate) hosts: Vec<HostReport>,
    /// What became of the bad patch.
    pub(crate) bad_patch: BadPatch,
    /// From the first boot to the end, in seconds.
    pub(crate) seconds: f64,
    /// Mounts, bridges, tables, containers, loop devices, processes still there. Must be empty.
    pub(crate) leftovers: Vec<String>,
}

/// One host of the good rollout.
#[derive(Debug, Serialize)]
pub(crate) struct HostReport {
    name: String,
    ring: String,
    outcome: String,
    packages_changed: usize,
    findings_open_before: usize,
    findings_open_after: usize,
    findings_no_fix_after: usize,
    /// Step → seconds.
    seconds: BTreeMap<String, f64>,
    delta_files: u64,
    preimage_bytes: u64,
}

/// What became of the bad patch.
#[derive(Debug, Serialize)]
pub(crate) struct BadPatch {
    pub(crate) package: String,
    pub(crate) version: String,
    /// Counted from 1.
    pub(crate) halted_at_wave: u32,
    pub(crate) hosts_touched: usize,
    pub(crate) outcome: String,
    pub(crate) files_differing_after_undo: Vec<String>,
    pub(crate) version_barred: bool,
    pub(crate) reason: String,
    pub(crate) undone_because: Option<String>,
}

impl HostReport {
    pub(crate) fn of(
        host: &RolloutHost,
        rollout: &RolloutDetail,
        before: &[FindingRow],
        after: &[FindingRow],
    ) -> Self {
        let count = |rows: &[FindingRow], state| {
            rows.iter().filter(|r| r.finding.host == host.id && r.finding.state == state).count()
        };
        let ring =
            rollout.waves.get(host.run.wave as usize).map_or_else(String::new, |w| w.ring.clone());
        let seconds = host
            .steps
            .iter()
            .map(|(step, facts)| (step.clone(), facts.milliseconds as f64 / 1000.0));
        let order = host.transaction.as_ref().map(|t| &t.assignment.order);
        let changed = match order {
            Some(fettle_core::assignment::Order::Apply(apply))
                if host.run.state == HostState::Patched =>
            {
                apply.changes.len()
            }
            _ => 0,
        };
        Self {
            name: host.name.clone(),
            ring,
            outcome: host.run.state.word().to_owned(),
            packages_changed: changed,
            findings_open_before: count(before, FindingState::Open),
            findings_open_after: count(after, FindingState::Open),
            findings_no_fix_after: count(after, FindingState::NoFixYet),
            seconds: seconds.collect(),
            delta_files: host.steps.values().find_map(|f| f.delta_files).unwrap_or(0),
            preimage_bytes: host.steps.values().find_map(|f| f.preimage_bytes).unwrap_or(0),
        }
    }
}

impl DemoReport {
    /// Prints the closing summary.
    pub(crate) fn print(&self, before: &[FindingRow], after: &[FindingRow]) {
        println!(
            "  host      ring     outcome   packages  open before  open after  no fix yet  rehearse  apply  files"
        );
        for h in &self.hosts {
            let step = |name: &str| h.seconds.get(name).copied().unwrap_or(0.0);
            println!(
                "  {:<9} {:<8} {:<9} {:>8}  {:>11}  {:>10}  {:>10}  {:>6.1} s {:>4.1} s  {:>5}",
                h.name,
                h.ring,
                h.outcome,
                h.packages_changed,
                h.findings_open_before,
                h.findings_open_after,
                h.findings_no_fix_after,
                step("rehearse"),
                step("apply"),
                h.delta_files
            );
        }
        let count =
            |rows: &[FindingRow], state| rows.iter().filter(|r| r.finding.state == state).count();
        println!(
            "  findings: {} open before, {} open after, {} proved gone, {} without a fix",
            count(before, FindingState::Open),
            count(after, FindingState::Open),
            count(after, FindingState::Fixed),
            count(after, FindingState::NoFixYet),
        );
        let bad = &self.bad_patch;
        println!(
            "  {} {}: {} host touched, {}, {} files differ after the undo, halted at wave {}, {}",
            bad.package,
            bad.version,
            bad.hosts_touched,
            bad.outcome,
            bad.files_differing_after_undo.len(),
            bad.halted_at_wave,
            if bad.version_barred { "version barred" } else { "VERSION NOT BARRED" },
        );
        for file in &bad.files_differing_after_undo {
            println!("    differs: {file}");
        }
        println!("  took {:.0} s after the build", self.seconds);
    }
}
