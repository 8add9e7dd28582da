//! Many seeds.

use crate::{Options, Violation, run};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

/// What a campaign gave; the figures for machines.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Seeds run.
    pub seeds: u64,
    /// Things that happened, over all seeds.
    pub events: u64,
    /// Invariants that did not hold. Empty is the aim.
    pub violations: Vec<Violation>,
    /// Share of operators' and faults' chances that did not fit the moment and did nothing, 0 to 1.
    pub skipped_share: f64,
    /// Years of host life simulated per hour of computing.
    pub host_years_per_hour: f64,
    /// Seconds it took.
    pub seconds: f64,
    /// Interesting situation → how often it came up.
    pub sometimes: BTreeMap<&'static str, u64>,
    /// Situations of [`MUST_COME_UP`] that never did: the campaign proved less than it seems.
    pub never: Vec<&'static str>,
    /// What happened in the first seed that shows a violation, line by line.
    pub story: Vec<String>,
}

/// What a campaign has to have seen, or its silence means nothing.
pub const MUST_COME_UP: [&str; 83] = [
    "a twin failed",
    "aborted on a full budget",
    "agent restarted",
    "automatic undo",
    "budget reached",
    "full success",
    "gate failed",
    "generation taken",
    "grant expired",
    "halt in mid-wave",
    "halt resumed",
    "host changed",
    "host watched",
    "no data yet",
    "no good test yet",
    "quarantined host",
    "redeem refused",
    "recalled",
    "ring 0 passed",
    "server restarted",
    "pools busy",
    "silent host",
    "silent host came back",
    "stale executor refused",
    "step recovered",
    "traffic switched",
    "traffic turned back",
    "undone on request",
    "answer by turns",
    "answer to no question",
    "check failed",
    "check passed",
    "host lacks its test",
    "host lies about its test",
    "host's test badly",
    "host's test well",
    "hosts' test passed",
    "host measured badly",
    "host measured well",
    "measures passed",
    "check waited for",
    "no answer",
    "proof failed",
    "first wave let begin",
    "ring let begin",
    "word waited for",
    "soak",
    "ring not yet",
    "approved plan started",
    "canaries for several cohorts",
    "clock stepped",
    "cycle done",
    "cycle held",
    "cycle held in all",
    "cycle owed nothing",
    "cycle started",
    "emergency planned",
    "empty plan",
    "feed changed",
    "feed refused",
    "held: barred",
    "held: busy",
    "held: excluded",
    "held: fix not offered",
    "held: kept in step",
    "held: no fix",
    "held: no inventory",
    "held: no ring",
    "held: nothing to do",
    "held: on the host",
    "held: pinned",
    "held: quarantined",
    "held: recalled",
    "held: several policies",
    "held: silent",
    "host came back",
    "host cloned",
    "host joined",
    "host without policy shown",
    "hosts changed hands",
    "plan not approved",
    "plan overtaken",
    "scouts go ahead",
];

/// Runs all seeds, with all guards on.
pub fn campaign(seeds: Range<u64>) -> Summary {
    campaign_with(seeds, &Options::default())
}

/// Runs all seeds with these options.
pub fn campaign_with(seeds: Range<u64>, options: &Options) -> Summary {
    let begun = Instant::now();
    let mut summary = Summary::default();
    let (mut actions, mut skipped, mut host_seconds) = (0, 0, 0);
    for seed in seeds {
        let report = run(seed, options);
        summary.seeds += 1;
        summary.events += report.events;
        actions += report.actions;
        skipped += report.skipped;
        host_seconds += report.host_seconds;
        if !report.violations.is_empty() && summary.story.is_empty() {
            summary.story = run(seed, &Options { story: true, ..options.clone() }).story;
        }
        summary.violations.extend(report.violations);
        for (what, count) in report.sometimes {
            *summary.sometimes.entry(what).or_insert(0) += count;
        }
    }
    summary.never =
        MUST_COME_UP.into_iter().filter(|what| !summary.sometimes.contains_key(what)).collect();
    summary.seconds = begun.elapsed().as_secs_f64();
    summary.skipped_share = skipped as f64 / (actions as f64).max(1.0);
    let years = host_seconds as f64 / (365.25 * 86_400.0);
    summary.host_years_per_hour = years / (summary.seconds / 3600.0).max(1e-9);
    summary
}
