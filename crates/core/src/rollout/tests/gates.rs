//! What a gate asks of others: no data never passes, an old or foreign answer is no data, and each says why.

use super::*;
use crate::assignment::RestartRule;
use crate::finding::FindingState;
use crate::policy::{CheckKind, CheckRule, Expect, HostList, HostTest, UndoRule};

fn number(for_seconds: u64, fail_after_seconds: Option<u64>) -> CheckRule {
    let asks = CheckKind::Prometheus {
        url: "http://127.0.0.1:9090".into(),
        query: "errors".into(),
        expect: Expect::Below(0.5),
        for_seconds,
    };
    CheckRule { name: "errors".into(), asks, fail_after_seconds }
}

fn word() -> CheckRule {
    let asks = CheckKind::Webhook { url: "http://127.0.0.1:1/".into() };
    CheckRule { name: "suite".into(), asks, fail_after_seconds: None }
}

/// A canary that is patched, and its bake over: everything else is up to what was asked.
fn baked(gate: GateRule) -> World {
    let mut w = World::new(plan(&[&["a"], &["b"]], gate));
    w.look();
    w.runs("a", Outcome::Patched);
    assert_eq!(w.look(), ["wave-ended 0"]);
    w
}

fn say(w: &mut World, check: &str, wave: u32, asked_ago: i64, answer: Answer) {
    let asked_at = w.now - jiff::SignedDuration::from_secs(asked_ago);
    let evidence = GateEvidence { check: check.into(), wave, asked_at, answer };
    w.seen.gate.insert(check.into(), evidence);
}

fn readings(w: &World, values: &[(i64, f64)]) -> Answer {
    let at = |ago: i64| w.now - jiff::SignedDuration::from_secs(ago);
    let readings = values.iter().map(|(ago, value)| Reading { at: at(*ago), value: *value });
    Answer::Readings { step_seconds: 30, readings: readings.collect() }
}

fn waits(w: &World) -> String {
    w.waits_for().map(Hold::to_string).unwrap_or_default()
}

#[test]
fn a_gate_that_asks_and_gets_no_answer_waits_and_names_the_check_and_since_when() {
    let mut w = baked(GateRule { checks: vec![number(0, None)], ..gate() });
    assert_eq!(w.rollout.questions().len(), 1, "it is asked from the wave's end on");
    assert_eq!(w.pass(300), [""; 0]);
    let since = w.now;
    for hours in 0..3 {
        let hold = w.waits_for().cloned();
        assert!(
            matches!(&hold, Some(Hold::CheckWaits { wave: 0, check, since: s, .. }) if check == "errors" && *s == since),
            "{hours}: {hold:?}"
        );
        assert_eq!(w.pass(HOUR), [""; 0]);
    }
}

#[test]
fn an_answer_that_is_old_early_of_another_wave_or_of_the_future_is_none() {
    for (wave, asked_ago, passes) in [
        (0, 0, true),
        (0, 120, true),
        (0, 121, false),
        (1, 0, false),
        (0, -1, false),
        // Asked while it baked.
        (0, 201, false),
    ] {
        let mut w = baked(GateRule { checks: vec![word()], ..gate() });
        w.pass(300);
        w.pass(200);
        say(
            &mut w,
            "suite",
            wave,
            asked_ago,
            Answer::Word { word: Word::Pass, reason: "ok".into() },
        );
        let passed = w.look().contains(&"gate-passed 0".to_owned());
        assert_eq!(passed, passes, "wave {wave}, asked {asked_ago} s ago: {}", waits(&w));
    }
}

#[test]
fn a_number_has_to_be_good_now_and_without_a_break_for_as_long_as_the_policy_says() {
    let long: Vec<(i64, f64)> = (0..=10).rev().map(|n| (n * 30, 0.1)).collect();
    let spike: Vec<(i64, f64)> =
        (0..=10).rev().map(|n| (n * 30, if n == 4 { 0.9 } else { 0.1 })).collect();
    let gap: Vec<(i64, f64)> =
        long.iter().copied().filter(|(ago, _)| !(60..=150).contains(ago)).collect();
    type Case<'a> = (&'a str, &'a [(i64, f64)], &'a str);
    let table: [Case<'_>; 7] = [
        ("long enough", &long, "passes"),
        ("a spike within", &spike, "waits"),
        ("a gap within", &gap, "waits"),
        ("nothing", &[], "waits"),
        ("bad now", &[(30, 0.1), (0, 0.5)], "fails"),
        ("one number", &[(0, 0.1)], "waits"),
        ("all of it from before the patch", &[(4000, 0.1), (3700, 0.1)], "waits"),
    ];
    for (what, values, then) in table {
        let mut w = baked(GateRule { checks: vec![number(300, None)], ..gate() });
        w.pass(300);
        w.pass(100);
        let answer = readings(&w, values);
        say(&mut w, "errors", 0, 0, answer);
        let found = match w.look().first().map(String::as_str) {
            Some("gate-passed 0") => "passes",
            Some("halted gate-failed") => "fails",
            _ => "waits",
        };
        assert_eq!(found, then, "{what}: {}", waits(&w));
    }
}

#[test]
fn an_evaluator_that_errs_is_no_data_until_the_policy_has_no_more_patience() {
    let mut w = baked(GateRule { checks: vec![number(0, Some(600))], ..gate() });
    w.pass(300);
    let error = |w: &World| Answer::None { error: "connection refused".into(), since: w.now };
    let answer = error(&w);
    say(&mut w, "errors", 0, 0, answer);
    assert_eq!(w.look(), [""; 0]);
    assert!(waits(&w).contains("connection refused"), "{}", waits(&w));
    assert_eq!(
        w.wake_at,
        Some(w.now + jiff::SignedDuration::from_secs(600)),
        "it looks again then"
    );
    w.now += jiff::SignedDuration::from_secs(599);
    assert_eq!(w.pass(0), [""; 0]);
    assert_eq!(w.pass(1), ["halted gate-failed"]);
    let (_, RolloutEvent::Halted { judged, .. }) = w.log.last().unwrap() else { panic!() };
    let bad = judged.iter().find(|j| j.check == "errors").unwrap();
    assert_eq!(bad.says, Says::Fails);
    assert!(bad.why.contains("600 s"), "{}", bad.why);
}

#[test]
fn what_a_gate_was_judged_by_is_kept_with_its_event() {
    let mut w = baked(GateRule { checks: vec![number(0, None), word()], ..gate() });
    w.pass(300);
    let answer = readings(&w, &[(0, 0.25)]);
    say(&mut w, "errors", 0, 0, answer);
    say(&mut w, "suite", 0, 0, Answer::Word { word: Word::Pass, reason: "14 of 14 tests".into() });
    w.look();
    let passed = w.log.iter().find_map(|(_, e)| match e {
        RolloutEvent::GatePassed { judged, .. } => Some(judged),
        _ => None,
    });
    let judged = passed.unwrap();
    let names: Vec<&str> = judged.iter().map(|j| j.check.as_str()).collect();
    assert_eq!(names, ["hosts", "errors", "suite"]);
    assert!(judged.iter().all(|j| j.says == Says::Passes));
    assert!(judged[1].why.starts_with("it is 0.25, below 0.5"), "{}", judged[1].why);
    assert_eq!(judged[1].evidence, w.seen.gate.get("errors").cloned());
    assert_eq!(judged[2].why, "14 of 14 tests");
    let (at, event) = w.log.iter().find(|(_, e)| e.word() == "gate-passed").unwrap();
    let text = serde_json::to_string(event).unwrap();
    assert_eq!(serde_json::from_str::<RolloutEvent>(&text).unwrap(), *event);
    // What an older program wrote says nothing of it, and is read all the same.
    let old: RolloutEvent = serde_json::from_value(serde_json::json!({
        "event": "gate-passed", "wave": 0, "next_not_before": at,
    }))
    .unwrap();
    assert!(matches!(old, RolloutEvent::GatePassed { judged, .. } if judged.is_empty()));
}

fn proof(at: Timestamp, left: &[(&str, FindingState)], stale: &[&str]) -> HostProof {
    HostProof {
        inventory_at: Some(at),
        left: left.iter().map(|(id, state)| ((*id).to_owned(), *state)).collect(),
        stale_units: stale.iter().map(|unit| (*unit).to_owned()).collect(),
    }
}

#[test]
fn findings_are_proved_gone_by_an_inventory_since_the_patch_or_the_gate_does_not_pass() {
    use FindingState::{Accepted, Open, PendingReboot, PendingRestart};
    let spare =
        RestartRule { spare: vec!["postgresql@*.service".into()], ..RestartRule::default() };
    let none = RestartRule::default();
    let cve = "CVE-2026-1";
    type Left<'a> = &'a [(&'a str, FindingState)];
    type Case<'a> = (&'a str, i64, Left<'a>, &'a [&'a str], &'a RestartRule, &'a str);
    let table: [Case<'_>; 10] = [
        ("gone", 10, &[], &[], &none, "passes"),
        ("with the end of the patch", 0, &[], &[], &none, "passes"),
        ("an inventory from before", -1, &[], &[], &none, "waits"),
        ("still open", 10, &[(cve, Open)], &[], &none, "fails"),
        ("somebody accepted it", 10, &[(cve, Accepted)], &[], &none, "passes"),
        ("still mapped", 10, &[(cve, PendingRestart)], &["nginx.service"], &none, "fails"),
        ("spared", 10, &[(cve, PendingRestart)], &["postgresql@15.service"], &spare, "passes"),
        (
            "spared, and another that is not",
            10,
            &[(cve, PendingRestart)],
            &["postgresql@15.service", "nginx.service"],
            &spare,
            "fails",
        ),
        ("nobody knows by whom", 10, &[(cve, PendingRestart)], &[], &spare, "fails"),
        // The policy of this plan never reboots.
        ("left for a reboot on purpose", 10, &[(cve, PendingReboot)], &[], &none, "passes"),
    ];
    for (what, after, left, stale, restart, then) in table {
        let mut planned = plan(&[&["a"], &["b"]], GateRule { require_proof: true, ..gate() });
        for host in planned.hosts.values_mut() {
            Arc::make_mut(&mut host.work).order.restart = restart.clone();
        }
        let mut w = World::new(planned);
        w.look();
        w.runs("a", Outcome::Patched);
        w.look();
        assert!(!w.rollout.asks_for_proof(w.now));
        let at = w.run("a").ended_at.unwrap() + jiff::SignedDuration::from_secs(after);
        w.pass(300);
        assert!(w.rollout.asks_for_proof(w.now));
        let hosts = [("a".into(), proof(at, left, stale))].into();
        say(&mut w, "proof", 0, 0, Answer::Findings { hosts });
        let found = match w.look().first().map(String::as_str) {
            Some("gate-passed 0") => "passes",
            Some("halted gate-failed") => "fails",
            _ => "waits",
        };
        assert_eq!(found, then, "{what}: {}", waits(&w));
        if then == "fails" {
            assert_eq!(w.rollout.faulted, BTreeSet::from(["a".into()]), "{what}");
        }
    }
}

#[test]
fn the_next_ring_begins_by_the_word_of_somebody_who_did_not_start_the_rollout() {
    let rule = GateRule { approval: vec!["broad".into()], ..gate() };
    let mut planned = plan(&[&["a"], &["b"]], rule);
    planned.waves[0].soak_seconds = 0;
    let mut w = World::new(planned);
    w.rollout.started_by = "admin".into();
    let no = |w: &World, wave, by: &str, principal: &str| {
        w.rollout.approve_wave(wave, by, principal, "").unwrap_err()
    };
    assert_eq!(no(&w, 1, "bob", "bob"), NoWord::TooEarly { at_work: 0 });
    w.look();
    w.runs("a", Outcome::Patched);
    w.look();
    assert_eq!(no(&w, 1, "alice", "alice"), NoWord::OwnRollout);
    assert_eq!(no(&w, 1, "bob", "admin"), NoWord::OwnRollout, "the same token by another name");
    assert_eq!(no(&w, 0, "bob", "bob"), NoWord::NotNext { next: 1 });
    assert_eq!(no(&w, 2, "bob", "bob"), NoWord::NotNext { next: 1 });
    w.pass(300);
    let hold = w.waits_for().cloned().unwrap();
    assert!(
        matches!(&hold, Hold::WaveNotApproved { wave: 1, ring, not, .. } if ring == "broad" && not == "alice")
    );
    assert!(hold.to_string().ends_with("fettle rollout approve ro-1 --wave 2"), "{hold}");
    w.pass(HOUR);
    assert_eq!(w.rollout.wave, 0, "it waits as long as it takes");
    let word = w.rollout.approve_wave(1, "bob", "bob", "looks good").unwrap();
    w.take(&word);
    assert_eq!(no(&w, 1, "carol", "carol"), NoWord::Given { by: "bob".into() });
    assert_eq!(w.look(), ["gate-passed 0", "granted b"]);
    // What comes too late, or by a way around the question, does not fold.
    let forged = RolloutEvent::WaveApproved {
        wave: 2,
        by: "x".into(),
        principal: "alice".into(),
        comment: String::new(),
    };
    assert!(w.rollout.clone().apply(w.now, &forged).is_err());
}

#[test]
fn a_resume_is_nobodys_word_for_the_next_ring_and_a_halt_takes_back_what_was_said() {
    let rule = GateRule { approval: vec!["broad".into()], checks: vec![word()], ..gate() };
    let mut w = baked(rule);
    w.pass(300);
    let said = w.rollout.approve_wave(1, "bob", "bob", "").unwrap();
    w.take(&said);
    say(&mut w, "suite", 0, 0, Answer::Word { word: Word::Fail, reason: "3 tests fail".into() });
    assert_eq!(w.look(), ["halted gate-failed"]);
    assert!(w.rollout.approved.is_empty());
    let resumed = w.rollout.resume("alice", "the tests were wrong").unwrap();
    w.take(&resumed);
    assert_eq!(w.look(), [""; 0]);
    assert!(matches!(w.waits_for(), Some(Hold::WaveNotApproved { .. })), "{}", waits(&w));
    let said = w.rollout.approve_wave(1, "bob", "bob", "").unwrap();
    w.take(&said);
    assert_eq!(w.look()[0], "gate-passed 0");
}

#[test]
fn the_patience_of_a_check_that_has_passed_does_not_hide_that_of_one_that_waits() {
    let patient = CheckRule { fail_after_seconds: Some(3600), ..word() };
    let mut w = baked(GateRule { checks: vec![number(0, Some(600)), patient], ..gate() });
    let good = |w: &mut World| {
        let answer = readings(w, &[(0, 0.1)]);
        say(w, "errors", 0, 0, answer);
    };
    good(&mut w);
    w.pass(300);
    let baked = w.now;
    good(&mut w);
    w.now += jiff::SignedDuration::from_secs(700);
    good(&mut w);
    assert_eq!(w.look(), [""; 0]);
    assert_eq!(w.wake_at, Some(baked + jiff::SignedDuration::from_secs(3600)), "{}", waits(&w));
}

#[test]
fn nobodys_patience_ends_while_the_wave_bakes() {
    let w = |patience| {
        let rule = GateRule { checks: vec![number(0, Some(patience))], ..gate() };
        let mut w = baked(rule);
        w.pass(200);
        assert!(matches!(w.waits_for(), Some(Hold::Bake { .. })));
        w.rollout.judgements(w.now, &w.seen)
    };
    for patience in [0, 100, 200] {
        let judged = w(patience);
        assert_eq!(judged[0].says, Says::Waits, "{patience}: {judged:?}");
    }
}

#[test]
fn a_red_gate_undoes_what_the_policy_says_and_nothing_else() {
    use FindingState::Open;
    for (undo, then) in [
        (UndoRule::None, vec![]),
        (UndoRule::Failed, vec!["undo-asked b"]),
        (UndoRule::Wave, vec!["undo-asked b", "undo-asked c"]),
        (UndoRule::All, vec!["undo-asked a", "undo-asked b", "undo-asked c"]),
    ] {
        let rule = GateRule { undo: Some(undo), bake_seconds: 0, ..gate() };
        let mut planned = plan(&[&["a"], &["b", "c"], &["d"]], rule);
        planned.waves[0].soak_seconds = 0;
        planned.waves[1].gate.require_proof = true;
        let mut w = World::new(planned);
        w.look();
        w.runs("a", Outcome::Patched);
        w.pass(1);
        w.runs("b", Outcome::Patched);
        w.runs("c", Outcome::Patched);
        w.look();
        w.now += jiff::SignedDuration::from_secs(1);
        let hosts = [
            ("b".into(), proof(w.now, &[("CVE-2026-1", Open)], &[])),
            ("c".into(), proof(w.now, &[], &[])),
        ];
        say(&mut w, "proof", 1, 0, Answer::Findings { hosts: hosts.into() });
        let mut all = w.pass(0);
        assert_eq!(all.remove(0), "halted gate-failed", "{undo:?}");
        assert_eq!(all, then, "{undo:?}");
    }
}

#[test]
fn nothing_is_asked_while_a_wave_is_at_work_or_the_rollout_stands_or_after_the_last_wave() {
    let mut w = World::new(plan(&[&["a"], &["b"]], GateRule { checks: vec![word()], ..gate() }));
    assert!(w.rollout.questions().is_empty());
    w.look();
    w.runs("a", Outcome::Patched);
    w.look();
    let [question] = &w.rollout.questions()[..] else { panic!() };
    assert_eq!(question.hosts, ["a".into()]);
    assert_eq!(question.since, w.now);
    let paused = w.rollout.pause("alice", "lunch").unwrap();
    w.take(&paused);
    assert!(w.rollout.questions().is_empty());
    let resumed = w.rollout.resume("alice", "back").unwrap();
    w.take(&resumed);
    w.pass(300);
    say(&mut w, "suite", 0, 0, Answer::Word { word: Word::Pass, reason: String::new() });
    w.pass(1);
    w.pass(1000);
    w.runs("b", Outcome::Patched);
    w.look();
    assert!(w.rollout.questions().is_empty());
}

fn shop() -> HostTest {
    HostTest { list: HostList::Tests, name: "shop".into() }
}

fn hosts_run(min_percent: u32, fail_after_seconds: Option<u64>) -> CheckRule {
    let asks = CheckKind::Host { test: shop(), min_percent };
    CheckRule { name: "shop".into(), asks, fail_after_seconds }
}

/// Hosts `a`, `b` and `c` are patched, and their bake is over; `d` comes after them.
fn three_baked(check: CheckRule) -> World {
    let rule = GateRule { checks: vec![check], ..gate() };
    let mut w = World::new(plan(&[&["a", "b", "c"], &["d"]], rule));
    w.look();
    for host in ["a", "b", "c"] {
        w.runs(host, Outcome::Patched);
    }
    assert_eq!(w.look(), ["wave-ended 0"]);
    w.pass(300);
    w
}

/// A host, how long ago its run began and ended, and what came of it.
type RanAgo<'a> = (&'a str, i64, i64, Came);

fn ran(w: &World, hosts: &[RanAgo<'_>]) -> Answer {
    let ago = |seconds: i64| w.now - jiff::SignedDuration::from_secs(seconds);
    let one = |(id, began, ended, came): &RanAgo<'_>| {
        let (began_at, ended_at) = (ago(*began), ago(*ended));
        (HostId((*id).into()), HostRan { began_at, ended_at, came: came.clone() })
    };
    Answer::Ran { hosts: hosts.iter().map(one).collect() }
}

#[test]
fn each_patched_host_runs_its_own_test_after_the_bake_or_the_gate_does_not_pass() {
    let well = |id: &'static str| (id, 9, 5, Came::Well);
    let bad =
        |id: &'static str| (id, 9, 5, Came::Badly { said: "exit code 1: 2 orders lost".into() });
    let lacks = |id: &'static str| (id, 9, 5, Came::Lacks { why: "it has no `shop`".into() });
    let at = |began, ended| vec![well("a"), well("b"), ("c", began, ended, Came::Well)];
    type Case<'a> = (&'a str, u32, Vec<RanAgo<'a>>, &'a str, &'a str);
    let table: [Case<'_>; 13] = [
        ("all well", 100, vec![well("a"), well("b"), well("c")], "passes", ""),
        (
            "nobody answers",
            100,
            vec![],
            "waits",
            "name-of-a has not answered since the bake ended; name-of-b",
        ),
        ("one is mute", 100, vec![well("a"), well("b")], "waits", "; name-of-c has not answered"),
        (
            "one lacks it",
            100,
            vec![well("a"), well("b"), lacks("c")],
            "waits",
            "; name-of-c: it has no `s",
        ),
        (
            "one fails",
            100,
            vec![well("a"), well("b"), bad("c")],
            "fails",
            "check `shop`: tests.d/shop came out badly on name-of-c: exit code 1: 2 orders lost",
        ),
        ("one fails, the others are mute", 100, vec![bad("c")], "fails", "badly on name-of-c"),
        ("one may fail", 60, vec![well("a"), well("b"), bad("c")], "passes", ""),
        ("one may be mute", 60, vec![well("a"), well("b")], "passes", ""),
        (
            "two may not fail",
            60,
            vec![well("a"), bad("b"), bad("c")],
            "fails",
            "badly on name-of-b",
        ),
        ("begun while it baked", 100, at(201, 5), "waits", "; name-of-c has not answered"),
        ("too long ago", 100, at(150, 121), "waits", "; name-of-c has not answered"),
        ("of the future", 100, at(-1, -1), "waits", "; name-of-c has not answered"),
        ("ended before it began", 100, at(5, 9), "waits", "; name-of-c has not answered"),
    ];
    for (what, percent, hosts, then, why) in table {
        let mut w = three_baked(hosts_run(percent, None));
        w.pass(200);
        let answer = ran(&w, &hosts);
        say(&mut w, "shop", 0, 0, answer);
        let (found, told) = match w.look().first().map(String::as_str) {
            Some("gate-passed 0") => ("passes", String::new()),
            Some("halted gate-failed") => {
                ("fails", w.rollout.phase.hold().map(|hold| hold.to_string()).unwrap_or_default())
            }
            _ => ("waits", waits(&w)),
        };
        assert_eq!(found, then, "{what}: {told}");
        assert!(told.contains(why), "{what}: {told}");
        let bad = |(.., came): &&RanAgo<'_>| then == "fails" && matches!(came, Came::Badly { .. });
        let failed: BTreeSet<HostId> =
            hosts.iter().filter(bad).map(|(id, ..)| HostId((*id).into())).collect();
        assert_eq!(w.rollout.faulted, failed, "{what}");
    }
}

#[test]
fn where_a_host_is_asked_more_than_it_runs_at_once_what_it_said_counts_until_its_next_turn() {
    for (tests, ago, then) in [(4, 120, true), (4, 121, false), (5, 180, true), (5, 181, false)] {
        let name = |n: usize| format!("shop-{n}");
        let check = |n| CheckRule { name: name(n), ..hosts_run(100, None) };
        let rule = GateRule { checks: (0..tests).map(check).collect(), ..gate() };
        let mut w = World::new(plan(&[&["a"], &["b"]], rule));
        w.look();
        w.runs("a", Outcome::Patched);
        w.look();
        w.pass(300);
        w.pass(300);
        let answer = ran(&w, &[("a", ago, ago, Came::Well)]);
        (0..tests).for_each(|n| say(&mut w, &name(n), 0, 0, answer.clone()));
        let passes = w.look().first().is_some_and(|event| event == "gate-passed 0");
        assert_eq!(passes, then, "{tests} tests, {ago} s ago");
    }
}

#[test]
fn anothers_word_and_another_hosts_run_are_no_answer_of_the_waves_hosts() {
    let mut w = three_baked(hosts_run(100, None));
    say(&mut w, "shop", 0, 0, Answer::Word { word: Word::Pass, reason: "ok".into() });
    assert_eq!(w.look(), [""; 0]);
    let another = ran(&w, &[("d", 0, 0, Came::Well)]);
    say(&mut w, "shop", 0, 0, another);
    assert_eq!(w.look(), [""; 0]);
    assert!(waits(&w).contains("0 of 3 host(s) ran tests.d/shop well"), "{}", waits(&w));
}

#[test]
fn hosts_that_stay_mute_are_waited_for_as_long_as_the_policy_has_patience() {
    let mut w = three_baked(hosts_run(100, Some(600)));
    assert_eq!(w.pass(599), [""; 0]);
    assert_eq!(w.pass(1), ["halted gate-failed"]);
    let (_, RolloutEvent::Halted { hold, judged }) = w.log.last().unwrap() else { panic!() };
    assert!(hold.to_string().contains("the policy waits 600 s for it"), "{hold}");
    assert_eq!(judged.iter().map(|j| j.kind.as_str()).collect::<Vec<_>>(), ["hosts", "host"]);
}

#[test]
fn hosts_are_asked_after_the_bake_and_by_another_word_for_each_gate() {
    let rule = GateRule { checks: vec![hosts_run(100, None)], ..gate() };
    let mut w = World::new(plan(&[&["a"], &["b"], &["c"]], rule));
    let asks = |w: &World, host: &str| w.rollout.asks_of(&HostId(host.into()), w.now);
    w.look();
    assert!(asks(&w, "a").is_empty(), "it is at work");
    w.runs("a", Outcome::Patched);
    w.look();
    assert!(w.rollout.questions().is_empty(), "nobody outside the fleet is asked");
    assert!(asks(&w, "a").is_empty(), "it bakes");
    w.pass(300);
    let first = asks(&w, "a");
    assert_eq!((first.len(), &first[0].test), (1, &shop()));
    assert!(asks(&w, "b").is_empty() && asks(&w, "x").is_empty(), "the wave's hosts alone");
    w.pass(10);
    assert_eq!(asks(&w, "a"), first, "the same gate asks the same");
    let answer = ran(&w, &[("a", 1, 1, Came::Well)]);
    say(&mut w, "shop", 0, 0, answer);
    w.pass(0);
    assert_eq!((w.rollout.wave, asks(&w, "a").len()), (1, 0));
    w.pass(HOUR);
    w.runs("b", Outcome::Patched);
    w.pass(300);
    w.pass(300);
    let second = asks(&w, "b");
    assert_eq!(second.len(), 1);
    assert_ne!(second[0].ask, first[0].ask);
    let paused = w.rollout.pause("alice", "lunch").unwrap();
    w.take(&paused);
    assert!(asks(&w, "b").is_empty(), "it stands");
}

#[test]
fn the_last_step_of_the_traffic_asks_also_where_no_wave_follows_for_the_way_back_ends_with_it() {
    let rule = GateRule { checks: vec![word()], ..gate() };
    let mut plan = (*blue_green::world(&[100], rule).rollout.plan).clone();
    // The pool that serves has nothing to be patched.
    for id in plan.waves.pop().unwrap().hosts {
        plan.hosts.remove(&id);
    }
    let mut w = World::new(plan);
    let mut asked = |wave: u32| {
        (w.rollout.wave, w.rollout.wave_ended_at) = (wave, Some(w.now));
        w.rollout.questions().len()
    };
    assert_eq!([asked(0), asked(1), asked(2)], [0, 1, 1]);
}
