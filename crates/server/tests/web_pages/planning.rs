//! What policies of the fleet that never was do by themselves.

use super::{HOSTILE, HOSTILE_ATTRIBUTE, ago};
use fettle_core::cycle::{CycleOutcome, CycleRun, CycleState};
use fettle_core::emergency::{Declared, EmergencyPlan, EmergencyState};
use fettle_core::policy::CycleStart;
use fettle_core::{Digest, Hold, HostId};
use fettle_wire::api::*;
use std::collections::BTreeSet;

pub(crate) fn cycles() -> Vec<CycleRow> {
    let run = |days: i64, state| CycleRun {
        due: ago(days * 86_400),
        seen_at: ago(days * 86_400),
        skipped: 2,
        state,
    };
    let ended =
        |days, outcome| run(days, CycleState::Ended { outcome, at: ago(days * 86_400 - 60) });
    let failed = CycleOutcome::Failed { rollout: "ro-6".into(), reason: HOSTILE.into() };
    vec![
        CycleRow {
            policy: "production".into(),
            start: CycleStart::Automatic,
            next_due: Some(ago(-86_400)),
            holds: vec![Hold::CycleFailed {
                rollout: "ro-6".into(),
                reason: HOSTILE_ATTRIBUTE.into(),
            }],
            failed: Some(format!("ro-6: {HOSTILE}")),
            runs: vec![
                run(
                    0,
                    CycleState::Held {
                        holds: vec![Hold::FeedsStale { feeds: vec!["kev".into()] }],
                    },
                ),
                ended(7, failed),
                ended(14, CycleOutcome::Done { rollout: "ro-5".into() }),
                ended(21, CycleOutcome::NothingOwed),
                ended(28, CycleOutcome::Proposed { plan: 3 }),
            ],
        },
        CycleRow {
            policy: HOSTILE_ATTRIBUTE.into(),
            start: CycleStart::Propose,
            next_due: None,
            holds: vec![],
            failed: None,
            runs: vec![],
        },
    ]
}

pub(crate) fn emergencies() -> Emergencies {
    let plan = |number, state| EmergencyPlan {
        plan: number,
        policy: "production".into(),
        at: ago(120),
        findings: ["CVE-2024-3094".to_owned()].into(),
        declared_by: BTreeSet::new(),
        covers: [(HostId::from("h-1"), Digest::of(b"x"))].into(),
        called_at: ago(130),
        replaces: None,
        state,
    };
    Emergencies {
        declared: vec![Declared {
            finding: HOSTILE_ATTRIBUTE.into(),
            reason: HOSTILE.into(),
            by: HOSTILE.into(),
            principal: HOSTILE.into(),
            at: ago(600),
            until: ago(-86_400),
        }],
        calling: vec![CallRow {
            policy: "production".into(),
            hosts: 4,
            findings: (0..7).map(|n| format!("CVE-2024-{n}")).collect(),
        }],
        plans: vec![
            EmergencyPlanRow {
                plan: plan(9, EmergencyState::Open),
                waiting: Some(Hold::NotApproved { given: 0, needed: 1 }),
            },
            EmergencyPlanRow {
                plan: plan(8, EmergencyState::Started { rollout: "ro-7".into() }),
                waiting: Some(Hold::PolicyBusy { rollout: "ro-7".into() }),
            },
        ],
    }
}
