//! Findings by table, trend and sums by an oracle that counts each moment anew.

use super::*;
use crate::plan::tests::fleet::policy;
use crate::rollout::{Rollout, RolloutEvent};
use crate::transaction::Outcome;
use crate::{Hold, HostId, RolloutId};
use proptest::prelude::*;

const T0: i64 = 1_795_000_000;

fn at(day: i64) -> Timestamp {
    Timestamp::from_second(T0 + day * DAY).unwrap()
}

/// Days 0 to 30.
fn period() -> Period {
    Period { from: at(0), to: at(30) }
}

fn seen(state: FindingState) -> Seen<'static> {
    Seen {
        policy: "web",
        class: "high",
        host: "a",
        id: "CVE-2026-1",
        source: "nginx",
        severity: Severity::High,
        state,
        first_seen: at(1),
        deadline: Some(at(10)),
        fixed_at: None,
        offered: true,
    }
}

fn fixed(first: i64, deadline: Option<i64>, fixed: i64) -> Seen<'static> {
    Seen {
        first_seen: at(first),
        deadline: deadline.map(at),
        fixed_at: Some(at(fixed)),
        ..seen(FindingState::Fixed)
    }
}

fn count(all: &[Seen<'_>]) -> Owed {
    let mut count = Count::new(period());
    for seen in all {
        count.take(seen, || "no plan has it".to_owned());
    }
    count.finish()
}

#[test]
fn each_finding_is_counted_once_by_what_became_of_it_in_the_period() {
    use FindingState::*;
    type Of = fn(&Compliance) -> u64;
    let open = |deadline: Option<i64>| Seen { deadline: deadline.map(at), ..seen(Open) };
    let table: [(&str, Seen<'_>, Option<Of>); 14] = [
        ("fixed by its deadline", fixed(1, Some(10), 10), Some(|c| c.in_time)),
        ("fixed after its deadline", fixed(1, Some(10), 11), Some(|c| c.late)),
        ("fixed, nothing owed", fixed(1, None, 11), Some(|c| c.fixed_undated)),
        ("fixed before the period", fixed(-9, Some(10), -1), None),
        ("fixed after the period, late then", fixed(1, Some(10), 31), Some(|c| c.overdue)),
        ("fixed after the period, due then", fixed(1, Some(40), 31), Some(|c| c.due)),
        ("open and past its deadline", open(Some(29)), Some(|c| c.overdue)),
        ("open and due when the period ends", open(Some(30)), Some(|c| c.due)),
        ("open, nothing owed", open(None), Some(|c| c.open_undated)),
        ("on disk only, and late", seen(PendingRestart), Some(|c| c.overdue)),
        ("no fix yet, whatever the deadline", seen(NoFixYet), Some(|c| c.no_fix_yet)),
        ("accepted, whatever the deadline", seen(Accepted), Some(|c| c.accepted)),
        ("not affected", seen(NotAffected), None),
        ("seen only after the period", Seen { first_seen: at(30), ..seen(Open) }, None),
    ];
    for (what, finding, of) in table {
        let total = count(&[finding]).total;
        let all = total.in_time
            + total.late
            + total.overdue
            + total.due
            + total.fixed_undated
            + total.open_undated
            + total.no_fix_yet
            + total.accepted;
        assert_eq!(all, u64::from(of.is_some()), "{what}: {total:?}");
        if let Some(of) = of {
            assert_eq!(of(&total), 1, "{what}: {total:?}");
        }
    }
}

#[test]
fn the_share_in_time_is_of_what_was_owed_and_never_rounded_up_to_all() {
    let mut all = vec![fixed(1, Some(10), 5); 2999];
    assert_eq!(count(&all).total.in_time_permille, Some(1000));
    all.push(seen(FindingState::Open));
    assert_eq!(count(&all).total.in_time_permille, Some(999));
    let due = Seen { deadline: Some(at(40)), ..seen(FindingState::Open) };
    assert_eq!(count(&[due]).total.in_time_permille, None, "nothing was owed yet");
}

/// The worked examples of the nearest-rank method: Wikipedia, "Percentile", section "The nearest-rank method".
#[test]
fn times_are_percentiles_by_nearest_rank() {
    let first = TimeToPatch::of(vec![50, 15, 40, 20, 35]);
    assert_eq!((first.median_seconds, first.worst_seconds), (35, 50));
    let second = TimeToPatch::of(vec![3, 6, 7, 8, 8, 10, 13, 15, 16, 20]);
    assert_eq!((second.median_seconds, second.p90_seconds, second.worst_seconds), (8, 16, 20));
    assert_eq!(TimeToPatch::of(vec![]), TimeToPatch::default());
    assert_eq!(TimeToPatch::of(vec![7]).p90_seconds, 7);
}

#[test]
fn a_host_with_several_late_findings_is_late_once_and_what_is_late_says_why() {
    let other = Seen { id: "CVE-2026-2", deadline: Some(at(3)), ..seen(FindingState::Open) };
    let restart = Seen { host: "b", ..seen(FindingState::PendingRestart) };
    let owed = count(&[seen(FindingState::Open), other, Seen { host: "b", ..other }, restart]);
    assert_eq!((owed.total.hosts, owed.total.hosts_late, owed.total.overdue), (2, 2, 4));
    let lines = owed.overdue.iter().map(|l| (l.id.as_str(), l.hosts, l.example.as_str()));
    let lines: Vec<_> = lines.zip(owed.overdue.iter().map(|l| l.why.as_str())).collect();
    let restart = "fixed on disk; a process still runs the old code: restart it";
    assert_eq!(
        lines,
        [
            (("CVE-2026-2", 2, "a"), "no plan has it"),
            (("CVE-2026-1", 1, "b"), restart),
            (("CVE-2026-1", 1, "a"), "no plan has it"),
        ]
    );
}

#[test]
fn what_was_fixed_after_the_period_is_one_line_whenever_each_host_was_done() {
    let hosts: Vec<String> = (0..40).map(|n| format!("web-{n:02}")).collect();
    let done =
        |(n, host): (usize, &'static String)| Seen { host, ..fixed(1, Some(10), 31 + n as i64) };
    let hosts: &'static Vec<String> = Box::leak(Box::new(hosts));
    let owed = count(&hosts.iter().enumerate().map(done).collect::<Vec<_>>());
    let lines: Vec<_> =
        owed.overdue.iter().map(|l| (l.hosts, l.example.as_str(), l.why.as_str())).collect();
    assert_eq!(lines, [(40, "web-00", "was proved gone after the period")]);
}

#[test]
fn a_long_list_of_what_is_late_is_cut_and_says_how_much_was_left_out() {
    let ids: Vec<String> = (0..MAX_OVERDUE + 7).map(|n| format!("CVE-2026-{n}")).collect();
    let all: Vec<_> = ids.iter().map(|id| Seen { id, ..seen(FindingState::Open) }).collect();
    let owed = count(&all);
    assert_eq!((owed.overdue.len(), owed.overdue_left_out), (MAX_OVERDUE, 7));
}

fn any_seen() -> impl Strategy<Value = Seen<'static>> {
    let state = prop::sample::select(FindingState::ALL.to_vec());
    let text = |all: &'static [&'static str]| prop::sample::select(all);
    (
        state,
        -20..40_i64,
        prop::option::of(-20..40_i64),
        0..40_i64,
        text(&["", "web", "db"]),
        text(&["", "high", "kev"]),
        text(&["a", "b", "c", "d"]),
    )
        .prop_map(|(state, first, deadline, took, policy, class, host)| Seen {
            policy,
            class,
            host,
            state,
            first_seen: at(first),
            deadline: deadline.map(at),
            fixed_at: (state == FindingState::Fixed).then(|| at(first + took)),
            ..seen(state)
        })
}

proptest! {
    #[test]
    fn trend_and_sums_are_those_of_counting_each_moment_anew(
        all in prop::collection::vec(any_seen(), 0..60)
    ) {
        let owed = count(&all);
        let known = |s: &&Seen<'_>, t: Timestamp| {
            s.first_seen <= t
                // What is seen only when the period is over is no part of it.
                && s.first_seen < period().to
                && s.fixed_at.is_none_or(|f| f > t)
                && !matches!(s.state, FindingState::NotAffected | FindingState::Accepted)
        };
        for point in &owed.trend {
            let open: u64 = point.open.values().sum();
            prop_assert_eq!(open, all.iter().filter(|s| known(s, point.at)).count() as u64);
            let late = all.iter().filter(|s| {
                known(s, point.at)
                    && s.state != FindingState::NoFixYet
                    && s.deadline.is_some_and(|d| d <= point.at)
            });
            let late: Vec<_> = late.collect();
            prop_assert_eq!(point.overdue, late.len() as u64, "{}", point.at);
            for class in point.open.keys().chain(point.overdue_by_class.keys()) {
                let of = late.iter().filter(|s| s.class == class.as_str()).count() as u64;
                let told = point.overdue_by_class.get(class).copied().unwrap_or(0);
                prop_assert_eq!(told, of, "{} of `{}`", point.at, class);
            }
        }
        prop_assert_eq!(owed.trend.first().map(|p| p.at), Some(period().from));
        prop_assert_eq!(owed.trend.last().map(|p| p.at), Some(period().to));
        let sum = |of: fn(&Compliance) -> u64| owed.lines.iter().map(of).sum::<u64>();
        prop_assert_eq!(sum(|c| c.overdue), owed.total.overdue);
        prop_assert_eq!(sum(|c| c.in_time) + sum(|c| c.late) + sum(|c| c.fixed_undated), owed.total.time_to_patch.fixed);
        prop_assert_eq!(owed.overdue.iter().map(|l| l.hosts).sum::<u64>(), owed.total.overdue);
        let mut backwards = all.clone();
        backwards.reverse();
        prop_assert_eq!(count(&backwards), owed, "the order does not matter");
    }
}

#[test]
fn a_period_is_thirty_days_long_where_nobody_says_and_never_reaches_beyond_now() {
    let now = at(100);
    assert_eq!(Period::asked(None, None, now).unwrap(), Period { from: at(70), to: now });
    let asked = Period::asked(Some(at(90)), Some(at(200)), now).unwrap();
    assert_eq!(asked, Period { from: at(90), to: now });
    for (from, to) in [(at(100), None), (at(9), Some(at(9))), (at(9), Some(at(8)))] {
        let bad = Period::asked(Some(from), to, now).unwrap_err();
        assert_eq!((bad.kind, bad.code.as_str()), (ProblemKind::BadInput, "bad-period"));
    }
    for days in [1, 2, 59, 60, 3000] {
        let points = points(Period { from: at(0), to: at(days) });
        assert!((2..=60).contains(&points.len()), "{days} days: {}", points.len());
        assert!(points.is_sorted_by(|a, b| a < b), "{days} days");
    }
}

#[test]
fn exceptions_come_with_owner_and_end_the_ended_first_and_say_what_they_cover() {
    let policy = policy(
        r#"
        [[accept]]
        finding = "CVE-2026-1"
        reason = "behind the proxy"
        owner = "ops"
        until = 2030-01-01
        epss-below = 0.1
        [[exclude]]
        package = "linux-*"
        reason = "vendor's driver"
        owner = "eve"
        until = 2026-12-01
        "#,
    );
    let of =
        |policy: &str, id: &str, n| ((policy.to_owned(), id.to_owned(), "nginx".to_owned()), n);
    let name = policy.name.clone();
    let accepted =
        [of(&name, "CVE-2026-1", 3), of(&name, "CVE-2026-2", 5), of("other", "CVE-2026-1", 7)];
    let lines = |now: &str| {
        let lines = exceptions(&[&policy], &accepted.clone().into(), now.parse().unwrap());
        let brief = |l: ExceptionLine| (l.what, l.owner, l.standing.word(), l.findings);
        lines.into_iter().map(brief).collect::<Vec<_>>()
    };
    let brief = |what: &str, owner: &str, word, n| (what.to_owned(), owner.to_owned(), word, n);
    assert_eq!(
        lines("2026-11-29T00:00:00Z"),
        [brief("linux-*", "eve", "ending", None), brief("CVE-2026-1", "ops", "stands", Some(3)),]
    );
    assert_eq!(lines("2026-12-02T00:00:00Z")[0].2, "ended");
}

fn rollout(events: &[(i64, RolloutEvent)]) -> (Rollout, Vec<(Timestamp, RolloutEvent)>) {
    let created = Rollout::create(
        &RolloutId("ro-1".into()),
        crate::rollout::tests::plan(&[&["a", "b", "c"]], crate::rollout::tests::gate()),
        "ann",
    );
    let mut all = vec![(at(0), created.clone())];
    all.extend(events.iter().map(|(s, e)| (later(*s), e.clone())));
    (Rollout::begin(&RolloutId("ro-1".into()), at(0), &created).unwrap(), all)
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_second(T0 + seconds).unwrap()
}

#[test]
fn harm_is_dated_from_the_host_that_took_it_and_an_undo_that_was_asked_for_is_no_first_sign() {
    let host = |id: &str| HostId::from(id);
    let redeemed = |s, id| (s, RolloutEvent::Redeemed { host: host(id) });
    let undone = |s, id| {
        let outcome = Outcome::Undone { reason: "nginx does not start".into() };
        (s, RolloutEvent::Ended { host: host(id), outcome })
    };
    let hold = Hold::Paused { by: String::new(), reason: String::new() };
    let halted = |s| (s, RolloutEvent::Halted { hold: hold.clone(), judged: vec![] });
    let asked = |s, id| {
        let assignment = crate::AssignmentId("as".into());
        let reason = "slow since".to_owned();
        (s, RolloutEvent::UndoAsked { host: host(id), assignment, generation: 2, reason })
    };
    let times = |events: &[(i64, RolloutEvent)]| {
        let (state, events) = rollout(events);
        let line = summarise(period(), &state, &events).unwrap();
        (line.detected_seconds, line.halted_seconds, line.halts)
    };
    let bad = [redeemed(10, "a"), redeemed(20, "b"), undone(50, "b"), halted(53)];
    assert_eq!(times(&bad), (Some(30), Some(3), 1));
    assert_eq!(times(&bad[..3]), (Some(30), None, 0));
    let wanted = [redeemed(10, "a"), asked(70, "a"), undone(80, "a")];
    assert_eq!(times(&wanted), (None, None, 0));
    let silent = RolloutEvent::Silent { host: host("a"), last_seen: None };
    assert_eq!(times(&[redeemed(10, "a"), (910, silent)]), (Some(900), None, 0));
}

#[test]
fn a_rollout_belongs_to_every_period_that_it_was_under_way_in() {
    let (mut state, events) = rollout(&[]);
    let of = |state: &Rollout, from, to| {
        summarise(Period { from: at(from), to: at(to) }, state, &events).is_some()
    };
    assert!(of(&state, 5, 9), "it has not ended");
    assert!(!of(&state, -9, 0), "it began later");
    state.ended_at = Some(at(7));
    assert!(of(&state, 5, 9));
    assert!(!of(&state, 8, 9));
    let (state, events) = rollout(&[]);
    let line = summarise(period(), &state, &events).unwrap();
    assert_eq!((line.hosts, line.unfinished, line.phase.as_str()), (3, 3, "running"));
    let totals = RolloutTotals::of(&[line]);
    assert_eq!((totals.rollouts, totals.clean, totals.success_permille), (1, 0, None));
}
