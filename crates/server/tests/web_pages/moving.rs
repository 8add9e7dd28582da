//! The plan that never was, and its rollouts.

use super::*;

fn gate() -> GateRule {
    GateRule { bake_seconds: 300, ..GateRule::default() }
}

pub(crate) fn plan() -> PlanDetail {
    let mut hosts = BTreeMap::new();
    for (n, (name, ring, _)) in NAMES.iter().enumerate().take(7) {
        let order = order(3 + n % 4);
        hosts.insert(
            id(name),
            HostPlan {
                name: (*name).into(),
                cohort: Digest::of(name.as_bytes()),
                ring: (*ring).into(),
                wave: if n == 0 {
                    0
                } else if n < 3 {
                    1
                } else {
                    2
                },
                work: Arc::new(Work {
                    why: order
                        .changes
                        .iter()
                        .zip(&order.fixes)
                        .map(|(c, f)| (c.name.clone().into(), vec![f.clone()].into()))
                        .collect(),
                    order,
                    restarts: vec!["nginx.service".into(), "ssh.service".into()],
                    reboot_likely: *name == "db-2",
                    due: Some(ago(-86_400 * 2)),
                    ignore_windows: false,
                }),
            },
        );
    }
    let held = |name: &str, package: &str, findings: &[&str], reasons: Vec<Hold>| HeldHosts {
        hosts: BTreeMap::from([(id(name), name.to_owned())]),
        what: vec![Arc::new(NotDone {
            package: package.into(),
            findings: findings.iter().map(|f| (*f).to_owned()).collect(),
            reasons,
        })],
    };
    let barred = || {
        vec![Hold::VersionBarred {
            package: "acme-web".into(),
            version: "1.2".into(),
            reason: "undone on web-1 in rollout ro-6".into(),
        }]
    };
    let plan = Plan {
        schema: SCHEMA,
        number: 12,
        parent: None,
        policy: "production".into(),
        policy_digest: Digest::of(b"policy"),
        made_at: ago(900),
        seed: 7,
        hosts,
        waves: waves(),
        budgets: vec![Budget {
            name: "role=web".into(),
            hosts: vec![id("web-1"), id("web-2"), id("web-3"), id("web-4")],
            max_unavailable: 1,
            ..Budget::default()
        }],
        pools: None,
        testbed: None,
        approvals_needed: 0,
        held: vec![
            held("web-1", "acme-web", &[], barred()),
            held("web-2", "acme-web", &[], barred()),
            held(
                "db-1",
                "",
                &["CVE-2024-5535"],
                vec![Hold::Quarantined { reason: "3 files differ after the undo".into() }],
            ),
            held(
                "mail-1",
                "exim4",
                &["CVE-2023-51766"],
                vec![
                    Hold::PackageHeld { package: "exim4".into() },
                    Hold::WindowClosed { opens_at: Some(ago(-40_000)) },
                ],
            ),
            held(
                "cache-1",
                "redis",
                &["CVE-2023-41056"],
                vec![Hold::NoFix { finding: "CVE-2023-41056".into() }],
            ),
        ],
    };
    let approvals = judged(&plan, "operator", &[]);
    let report = report(ReportInput {
        plan: &plan,
        policy: None,
        roles: &BTreeMap::new(),
        needs: &BTreeMap::new(),
        filesystems: &BTreeMap::new(),
        spent: &[],
        now: now(),
    });
    PlanDetail {
        signing: None,
        number: 12,
        digest: plan.digest(),
        made_by: "operator".into(),
        approvals,
        plan,
        report: Some(report),
        tests: None,
    }
}

fn judged(plan: &Plan, made_by: &str, approvals: &[Approval]) -> ApprovalVerdict {
    let roles = [("bob", Role::Approver), ("olga", Role::Operator)];
    let operators = roles.map(|(name, role)| {
        let roles = [role].into();
        (name.to_owned(), Operator { name: name.into(), roles, ..Operator::bootstrap() })
    });
    judge(&ApprovalInput {
        digest: plan.digest(),
        made_by,
        needed: plan.approvals_needed,
        stage: Stage::Open,
        approvals,
        operators: &operators.into(),
        now: now(),
    })
}

/// Needs two approvals: one counts, one does not.
pub(crate) fn plan_to_approve() -> PlanDetail {
    let plan = Plan { number: 13, approvals_needed: 2, ..plan().plan };
    let digest = plan.digest();
    let approval = |by: &str, seconds, comment: &str| Approval {
        by: by.into(),
        digest,
        at: ago(seconds),
        comment: comment.into(),
    };
    let given = [approval("bob", 600, "looked at the waves"), approval("olga", 300, "")];
    let approvals = judged(&plan, "alice", &given);
    PlanDetail {
        signing: Some(signing()),
        number: 13,
        digest,
        made_by: "alice".into(),
        approvals,
        plan,
        report: None,
        tests: None,
    }
}

/// Two are needed: one counts, one does not any more.
fn signing() -> PlanSigning {
    let signature = |name: &str, hours, not: Option<&str>| PlanSignatureRow {
        name: name.into(),
        key: "MCowBQYDK2VwAyEA".into(),
        signed_at: ago(3600),
        expires_at: now() + jiff::SignedDuration::from_hours(hours),
        not: not.map(Into::into),
    };
    PlanSigning {
        version: 2,
        label: "2 of 3".into(),
        given: 1,
        needed: 2,
        signatures: vec![
            signature("alice", 24, None),
            signature("carol", -1, Some("it has expired")),
        ],
    }
}

fn waves() -> Vec<Wave> {
    let wave = |ring: &str, names: &[&str], why: &str, soak_seconds| Wave {
        ring: ring.into(),
        hosts: names.iter().map(|n| id(n)).collect(),
        why: why.into(),
        gate: gate(),
        soak_seconds,
        after_seconds: 0,
        rolling: false,
        traffic: None,
    };
    vec![
        wave("canary", &["web-1"], "stands for 3 cohorts of the waves behind it", 3600),
        wave("early", &["web-2", "web-3"], "every host of the ring", 0),
        wave("broad", &["web-4", "db-1", "db-2", "mail-1"], "half of the ring at a time", 0),
    ]
}

fn row(phase: Phase, wave: u32, states: &[(&str, u64)]) -> RolloutRow {
    RolloutRow {
        id: RolloutId::new("ro-7"),
        policy: "production".into(),
        plan: 12,
        phase,
        wave,
        waves: 3,
        hosts_by_state: counts(states),
        created_at: ago(660),
        created_by: "operator:alice".into(),
        ended_at: None,
    }
}

pub(crate) fn halted() -> RolloutRow {
    let mut it = row(
        Phase::Halted {
            hold: Hold::GateFailed {
                wave: 0,
                reason: "web-1 was undone: acme-web.service did not come back".into(),
            },
        },
        0,
        &[("undone", 1), ("pending", 3)],
    );
    it.id = RolloutId::new("ro-6");
    it.plan = 11;
    it.created_at = ago(8_000);
    it
}

pub(crate) fn running_row() -> RolloutRow {
    row(Phase::Running, 1, &[("patched", 1), ("redeemed", 1), ("granted", 1), ("pending", 4)])
}

pub(crate) fn rollouts() -> Page<RolloutRow> {
    let mut done = row(Phase::Done, 2, &[("patched", 9)]);
    done.id = RolloutId::new("ro-5");
    done.created_at = ago(90_000);
    done.ended_at = Some(ago(86_000));
    Page { total: 3, items: vec![running_row(), halted(), done] }
}

pub(super) fn run_host(
    name: &str,
    wave: u32,
    state: HostState,
    transaction: Option<Progress>,
) -> RolloutHost {
    let started = transaction.is_some();
    RolloutHost {
        id: id(name),
        name: name.into(),
        run: HostRun {
            wave,
            assignment: started.then(|| AssignmentId(format!("ro-7/{name}/3"))),
            generation: started.then_some(3),
            granted_at: started.then(|| ago(240)),
            expires_at: started.then(|| ago(-3600)),
            grants: u32::from(started),
            foretold: None,
            silent: false,
            undo: None,
            step: transaction.as_ref().and_then(|t| t.running),
            reported_at: started.then(|| ago(2)),
            ended_at: state.is_terminal().then(|| ago(150)),
            undo_asked: None,
            state,
        },
        steps: transaction
            .as_ref()
            .map(|t| t.finished.clone())
            .unwrap_or_default()
            .into_iter()
            .map(|(s, f)| (s.word().to_owned(), f))
            .collect(),
        transaction,
    }
}

pub(super) fn event(version: u64, seconds: i64, event: RolloutEvent) -> RolloutEventRow {
    RolloutEventRow { version, at: ago(seconds), event }
}

/// Wave 1 patched, wave 2 at work.
pub(crate) fn rollout_running() -> RolloutDetail {
    let grant = |name: &str| RolloutEvent::Granted {
        host: id(name),
        assignment: AssignmentId(format!("ro-7/{name}/3")),
        generation: 3,
        expires_at: ago(-3600),
    };
    RolloutDetail {
        gate: vec![],
        approvals: vec![],
        row: running_row(),
        lanes: vec![],
        waves: waves(),
        hosts: vec![
            run_host(
                "web-1",
                0,
                HostState::Patched,
                Some(progress("web-1", 9, Some(Outcome::Patched))),
            ),
            run_host("web-2", 1, HostState::Redeemed, Some(progress("web-2", 5, None))),
            run_host("web-3", 1, HostState::Granted, Some(progress("web-3", 2, None))),
            run_host("web-4", 2, HostState::Pending, None),
            run_host(
                "db-1",
                2,
                HostState::Cancelled {
                    hold: Hold::Quarantined { reason: "3 files differ after the undo".into() },
                },
                None,
            ),
            run_host("db-2", 2, HostState::Pending, None),
            run_host("mail-1", 2, HostState::Pending, None),
        ],
        traffic: vec![],
        waiting: vec![
            Waiting { host: None, hold: Hold::WaveRunning { wave: 1, unfinished: 2 } },
            Waiting {
                host: Some(id("mail-1")),
                hold: Hold::WindowClosed { opens_at: Some(ago(-40_000)) },
            },
            Waiting {
                host: Some(id("web-4")),
                hold: Hold::BudgetUsed {
                    budget: "role=web".into(),
                    limit: 1,
                    disrupted: vec![id("web-2")],
                },
            },
        ],
        events: vec![
            event(
                1,
                660,
                RolloutEvent::Created {
                    by: "alice".into(),
                    plan: std::sync::Arc::new(plan().plan),
                    approvals: vec![],
                    principal: String::new(),
                },
            ),
            event(2, 658, grant("web-1")),
            event(3, 655, RolloutEvent::Redeemed { host: id("web-1") }),
            event(4, 610, RolloutEvent::Ended { host: id("web-1"), outcome: Outcome::Patched }),
            event(5, 610, RolloutEvent::WaveEnded { wave: 0 }),
            event(
                6,
                310,
                RolloutEvent::GatePassed { wave: 0, next_not_before: ago(310), judged: vec![] },
            ),
            event(7, 240, grant("web-2")),
            event(8, 238, grant("web-3")),
            event(9, 60, RolloutEvent::Redeemed { host: id("web-2") }),
            event(10, 40, RolloutEvent::Stepped { host: id("web-2"), step: Step::Apply }),
        ],
    }
}

/// The canary was undone.
pub(crate) fn rollout_halted() -> RolloutDetail {
    let mut it = rollout_running();
    it.row = halted();
    it.hosts = vec![
        run_host(
            "web-1",
            0,
            HostState::Undone { reason: "acme-web.service did not come back".into() },
            Some(progress("web-1", 6, Some(undone()))),
        ),
        run_host("web-2", 1, HostState::Pending, None),
        run_host("web-3", 1, HostState::Pending, None),
        run_host("web-4", 2, HostState::Pending, None),
    ];
    it.waves[2].hosts.truncate(1);
    it.waiting = vec![];
    it.events.truncate(3);
    it.events.push(event(4, 610, RolloutEvent::Ended { host: id("web-1"), outcome: undone() }));
    it.events.push(event(
        5,
        610,
        RolloutEvent::Barred {
            versions: vec![("acme-web".into(), "1.2".into())],
            cohorts: vec![Digest::of(b"web")],
            reason: "acme-web.service did not come back".into(),
        },
    ));
    let Phase::Halted { hold } = it.row.phase.clone() else { unreachable!() };
    it.events.push(event(6, 609, RolloutEvent::Halted { hold, judged: vec![] }));
    it
}

pub(crate) fn recall() -> RecallDetail {
    let host = |n: usize, rollout: Option<&str>, undoing| RecalledHost {
        host: id(NAMES[n].0),
        name: NAMES[n].0.into(),
        packages: vec!["libssl3".into(), "openssl".into()],
        rollout: rollout.map(RolloutId::from),
        undoing,
        not_undone: rollout.is_none().then(|| "no rollout has brought it there".to_owned()),
    };
    let recall = Recall {
        package: "openssl".into(),
        version: "3.0.15-1~deb12u2".into(),
        reason: "handshakes with old clients fail since this version".into(),
        by: "alice".into(),
        at: now() - jiff::SignedDuration::from_mins(12),
        undo: false,
    };
    let hold = recall.hold("openssl");
    RecallDetail {
        row: RecallRow { recall, hosts: 3, offered: 6 },
        hosts: vec![
            host(1, Some("ro-7"), true),
            host(2, Some("ro-7"), false),
            host(3, None, false),
        ],
        rollouts: vec![RecalledRollout {
            id: RolloutId::from("ro-7"),
            phase: Phase::Halted { hold },
            waiting: 6,
            at_work: 0,
        }],
    }
}
