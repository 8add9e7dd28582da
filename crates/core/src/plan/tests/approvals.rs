//! Approvals: a table of who counts, and properties over arbitrary ones.

use crate::operator::{BOOTSTRAP, Operator, Role};
use crate::plan::approval::{
    Approval, ApprovalInput, ApprovalVerdict, Discount, NotTaken, Stage, judge,
};
use crate::{Digest, Hold, Timestamp};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const DAY: i64 = 86_400;
const NOW: i64 = 1_790_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn plan() -> Digest {
    Digest::of(b"the plan")
}

fn operator(name: &str, roles: &[Role]) -> Operator {
    Operator {
        name: name.to_owned(),
        roles: roles.iter().copied().collect(),
        ..Operator::bootstrap()
    }
}

fn operators() -> BTreeMap<String, Operator> {
    let mut all = vec![
        Operator::bootstrap(),
        operator("alice", &[Role::Operator, Role::Approver]),
        operator("bob", &[Role::Approver]),
        operator("carol", &[Role::Admin]),
        operator("olga", &[Role::Operator]),
        operator("vera", &[Role::Viewer]),
        operator("nobody", &[]),
    ];
    all.push(Operator { revoked_at: Some(at(NOW - 5)), ..operator("rita", &[Role::Approver]) });
    all.push(Operator { expires_at: Some(at(NOW - 5)), ..operator("emil", &[Role::Approver]) });
    all.push(Operator { disabled_at: Some(at(NOW - 5)), ..operator("dora", &[Role::Approver]) });
    all.into_iter().map(|o| (o.name.clone(), o)).collect()
}

fn approval(by: &str, second: i64) -> Approval {
    Approval { by: by.into(), digest: plan(), at: at(second), comment: String::new() }
}

fn verdict(needed: u32, approvals: &[Approval]) -> ApprovalVerdict {
    let operators = operators();
    judge(&ApprovalInput {
        digest: plan(),
        made_by: "alice",
        needed,
        stage: Stage::Open,
        approvals,
        operators: &operators,
        now: at(NOW),
    })
}

#[test]
fn each_approval_counts_or_says_why_not() {
    let since = at(NOW - 5);
    for (by, digest, second, discount) in [
        ("bob", plan(), NOW - 10, None),
        ("carol", plan(), NOW - 10, None),
        (BOOTSTRAP, plan(), NOW - 10, None),
        ("bob", plan(), NOW - DAY + 1, None),
        ("bob", plan(), NOW - DAY, Some(Discount::TooOld { since: at(NOW) })),
        ("alice", plan(), NOW - 10, Some(Discount::OwnPlan)),
        ("bob", Digest::of(b"edited"), NOW - 10, Some(Discount::OtherDigest)),
        ("olga", plan(), NOW - 10, Some(Discount::NotApprover)),
        ("vera", plan(), NOW - 10, Some(Discount::NotApprover)),
        ("nobody", plan(), NOW - 10, Some(Discount::NotApprover)),
        ("mallory", plan(), NOW - 10, Some(Discount::Unknown)),
        ("rita", plan(), NOW - 10, Some(Discount::Revoked { since })),
        ("emil", plan(), NOW - 10, Some(Discount::Expired { since })),
        ("dora", plan(), NOW - 10, Some(Discount::Disabled { since })),
    ] {
        let given = Approval { digest, ..approval(by, second) };
        let verdict = verdict(1, std::slice::from_ref(&given));
        let why = verdict.discounted.first().map(|d| d.discount.clone());
        assert_eq!(why, discount, "{by}");
        assert_eq!(verdict.is_enough(), discount.is_none(), "{by}");
        assert_eq!(verdict.given, u32::from(discount.is_none()), "{by}");
    }
}

#[test]
fn too_few_are_a_hold_that_says_how_many() {
    let one = [approval("bob", NOW - 10), approval("alice", NOW - 10)];
    assert_eq!(verdict(2, &one).hold(), Some(Hold::NotApproved { given: 1, needed: 2 }));
    let two = [approval("bob", NOW - 10), approval("carol", NOW - 9)];
    assert_eq!(verdict(2, &two).hold(), None);
    assert_eq!(verdict(0, &[]).hold(), None, "a plan that needs none is free");
}

#[test]
fn one_principal_that_approves_twice_counts_once() {
    let twice = [approval("bob", NOW - 20), approval("bob", NOW - 10)];
    let verdict = verdict(2, &twice);
    assert_eq!((verdict.given, verdict.is_enough()), (1, false));
    assert_eq!(verdict.discounted[0].discount, Discount::Again);
}

#[test]
fn once_the_rollout_has_begun_what_was_enough_stays_so() {
    let mut operators = operators();
    let given = [approval("bob", NOW), approval("rita", NOW - 10)];
    let judged = |operators: &BTreeMap<String, Operator>, days: i64| {
        judge(&ApprovalInput {
            digest: plan(),
            made_by: "alice",
            needed: 1,
            stage: Stage::Started { at: at(NOW + 60) },
            approvals: &given,
            operators,
            now: at(NOW + days * DAY),
        })
    };
    let before = judged(&operators, 0);
    assert_eq!((before.given, before.discounted.len()), (1, 1));
    // A month later, and bob has left the company.
    operators.get_mut("bob").unwrap().revoked_at = Some(at(NOW + 7 * DAY));
    assert_eq!(judged(&operators, 30), before);
}

#[test]
fn a_plan_is_approved_only_while_it_is_open_and_not_by_its_maker() {
    let takes = |needed, stage, who: &str| {
        ApprovalVerdict { stage, ..verdict(needed, &[]) }.takes("alice", who)
    };
    assert_eq!(takes(1, Stage::Open, "bob"), Ok(()));
    assert_eq!(takes(1, Stage::Open, "alice"), Err(NotTaken::OwnPlan));
    assert_eq!(takes(0, Stage::Open, "bob"), Err(NotTaken::NoneNeeded));
    assert_eq!(takes(1, Stage::Superseded, "bob"), Err(NotTaken::Superseded));
    assert_eq!(takes(1, Stage::Started { at: at(NOW) }, "bob"), Err(NotTaken::Started));
}

#[test]
fn a_plan_is_open_only_while_its_parent_is_in_force() {
    let plan = super::fleet::World::new(super::fleet::policy(""), vec![]).plan();
    let other = Some(Digest::of(b"another"));
    assert_eq!(Stage::of(&plan, plan.parent, None), Stage::Open);
    assert_eq!(Stage::of(&plan, other, None), Stage::Superseded);
    let started = Stage::Started { at: at(NOW) };
    assert_eq!(Stage::of(&plan, Some(plan.digest()), Some(at(NOW))), started);
    assert_eq!(Stage::of(&plan, other, Some(at(NOW))), started);
}

fn names() -> impl Strategy<Value = String> {
    let mut names: Vec<String> = operators().into_keys().collect();
    names.push("mallory".into());
    prop::sample::select(names)
}

fn approvals() -> impl Strategy<Value = Vec<Approval>> {
    let one = (names(), any::<bool>(), -2 * DAY..10).prop_map(|(by, same, second)| Approval {
        digest: if same { plan() } else { Digest::of(b"other") },
        ..approval(&by, NOW + second)
    });
    prop::collection::vec(one, 0..12)
}

proptest! {
    #[test]
    fn what_counts_is_distinct_of_this_digest_not_the_makers_and_of_someone_who_may(
        made_by in names(), needed in 0u32..5, approvals in approvals()
    ) {
        let operators = operators();
        let input = ApprovalInput {
            digest: plan(), made_by: &made_by, needed, stage: Stage::Open,
            approvals: &approvals, operators: &operators, now: at(NOW),
        };
        let verdict = judge(&input);
        let distinct: BTreeSet<&str> = verdict.counted.iter().map(|a| a.by.as_str()).collect();
        prop_assert_eq!(distinct.len(), verdict.counted.len());
        prop_assert_eq!(distinct.len(), verdict.given as usize);
        for approval in &verdict.counted {
            let who = &operators[&approval.by];
            prop_assert!(approval.by != made_by && approval.digest == plan());
            prop_assert!(approval.until() > at(NOW) && Role::Approver.is_given_by(&who.roles));
            prop_assert!(who.revoked_at.is_none() && who.expires_at.is_none());
        }
        // Every approval is accounted for, and the order in which they come does not matter.
        prop_assert_eq!(verdict.counted.len() + verdict.discounted.len(), approvals.len());
        prop_assert_eq!(verdict.hold().is_none(), verdict.given >= needed);
        let mut backwards = approvals.clone();
        backwards.reverse();
        prop_assert_eq!(judge(&ApprovalInput { approvals: &backwards, ..input }), verdict.clone());
        // Revoking whoever counts never makes more of them.
        for name in distinct {
            let mut fewer = operators.clone();
            fewer.get_mut(name).unwrap().revoked_at = Some(at(NOW));
            prop_assert_eq!(judge(&ApprovalInput { operators: &fewer, ..input }).given, verdict.given - 1);
        }
    }

    #[test]
    fn time_alone_never_adds_an_approval(approvals in approvals(), later in 0i64..3 * DAY) {
        let operators = operators();
        let input = ApprovalInput {
            digest: plan(), made_by: "alice", needed: 2, stage: Stage::Open,
            approvals: &approvals, operators: &operators, now: at(NOW),
        };
        let after = judge(&ApprovalInput { now: at(NOW + later), ..input });
        prop_assert!(after.given <= judge(&input).given);
    }
}
