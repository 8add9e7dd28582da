//! Workers and their twins, as the server hears of them: results that come late, say nothing, or are bad.

use crate::random::Random;
use fettle_core::Timestamp;
use fettle_core::testbed::{Mirror, Phase, TestReport, TestState, Tested, Verdict};

/// A test that ended so, on a twin that had so many of ten packages.
pub(crate) fn ended(at: Timestamp, verdict: Verdict, exact: u32) -> Tested {
    let mirror = Mirror { wanted: 10, exact, ..Mirror::default() };
    let report = Box::new(TestReport { verdict, mirror, ..TestReport::not_tested("", "", "") });
    Tested { test: "test".into(), state: TestState::Ended { at, report } }
}

/// Some test. `healed`: nothing goes wrong any more.
pub(crate) fn some(random: &mut Random, at: Timestamp, healed: bool) -> Tested {
    match random.between(0, 9) {
        0 if !healed => {
            let reason = "the service did not come back".to_owned();
            ended(at, Verdict::Failed { phase: Phase::Patch, reason }, 10)
        }
        1 if !healed => ended(at, TestReport::not_tested("not-booted", "no boot", "").verdict, 10),
        2 if !healed => ended(at, Verdict::Passed, 5),
        _ => ended(at, Verdict::Passed, 10),
    }
}

/// It passed, and the twin was whole.
pub(crate) fn is_proof(tested: &Tested) -> bool {
    matches!(&tested.state, TestState::Ended { report, .. }
        if report.verdict == Verdict::Passed && report.mirror.exact == report.mirror.wanted)
}
