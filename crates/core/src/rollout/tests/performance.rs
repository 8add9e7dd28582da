//! A gate that compares what hosts measure: too little never passes, worse fails, and what all hosts share does not.

use super::*;
use crate::assignment::Probe;
use crate::policy::{CheckKind, CheckRule, PerformanceRule};

fn speed(fail_after_seconds: Option<u64>) -> CheckRule {
    let probe = Probe::Command { name: "shop".into() };
    let rule = PerformanceRule { probe, margin_percent: 20, min_samples: 30, confidence: 0.99 };
    let asks = CheckKind::Performance(rule);
    CheckRule { name: "speed".into(), asks, fail_after_seconds }
}

/// `a` and `b` are patched and have baked, `c`, `d` and `e` wait for their turn.
fn baked(check: CheckRule) -> World {
    baked_before(check, &["c", "d", "e"])
}

/// The same, and these wait for their turn.
fn baked_before(check: CheckRule, waiting: &[&str]) -> World {
    let rule = GateRule { checks: vec![check], ..gate() };
    let mut w = World::new(plan(&[&["a", "b"], waiting], rule));
    w.look();
    w.runs("a", Outcome::Patched);
    w.runs("b", Outcome::Patched);
    assert_eq!(w.look(), ["wave-ended 0"]);
    w.pass(300);
    w.pass(300);
    w
}

/// What a host measured: so many answers, how long they took about, and how many of a hundred were wrong.
#[derive(Clone, Copy)]
struct Of(i64, u32, u32);

/// One each five seconds up to then, spread by a tenth to both sides.
fn up_to(end: Timestamp, Of(many, took, wrong): Of) -> Vec<Sample> {
    let one = |n: i64| {
        let spread = took / 10 * (n as u32 * 8 % 21) / 10;
        let microseconds = (n as u32 * 37 % 100 >= wrong).then_some(took - took / 10 + spread);
        Sample { at: end - jiff::SignedDuration::from_secs(n * 5 + 1), microseconds }
    };
    (0..many).rev().map(one).collect()
}

/// Each host with what it measured before the wave, and since.
fn say(w: &mut World, hosts: &[(&str, Of, Of)]) {
    let began = w.rollout.changing_since().unwrap();
    let mut all = BTreeMap::new();
    for (id, before, after) in hosts {
        let mut samples = up_to(began, *before);
        samples.extend(up_to(w.now, *after));
        all.insert(HostId((*id).into()), samples);
    }
    let answer = Answer::Measured { hosts: all };
    let evidence = GateEvidence { check: "speed".into(), wave: 0, asked_at: w.now, answer };
    w.seen.gate.insert("speed".into(), evidence);
}

fn found(w: &mut World) -> (&'static str, String) {
    let events = w.look();
    let told = |hold: Option<Hold>| hold.map(|hold| hold.to_string()).unwrap_or_default();
    match events.first().map(String::as_str) {
        Some("gate-passed 0") => ("passes", String::new()),
        Some("halted gate-failed") => ("fails", told(w.rollout.phase.hold())),
        _ => ("waits", told(w.waits_for().cloned())),
    }
}

#[test]
fn a_patched_host_that_has_become_worse_than_it_was_and_than_the_others_fails_the_gate() {
    let good = Of(63, 10_000, 0);
    let (few, none) = (Of(29, 10_000, 0), Of(0, 0, 0));
    let slow = Of(63, 20_000, 0);
    let well = |id: &'static str| (id, good, good);
    type Case<'a> = (&'a str, [(&'a str, Of, Of); 5], &'a str, &'a str);
    let table: [Case<'_>; 14] = [
        ("all as before", [well("a"), well("b"), well("c"), well("d"), well("e")], "passes", ""),
        (
            "one slower",
            [("a", good, slow), well("b"), well("c"), well("d"), well("e")],
            "fails",
            "name-of-a takes 20.0 ms, and took 10.0 ms before its patch; hosts not patched yet take 1.00 times",
        ),
        (
            "slower by less than the margin, and surely so",
            [("a", good, Of(63, 11_800, 0)), well("b"), well("c"), well("d"), well("e")],
            "passes",
            "",
        ),
        (
            "slower by more than the margin",
            [("a", good, Of(63, 14_000, 0)), well("b"), well("c"), well("d"), well("e")],
            "fails",
            "name-of-a takes 14",
        ),
        (
            "all of them slower: it is not the patch",
            [
                ("a", good, slow),
                ("b", good, slow),
                ("c", good, slow),
                ("d", good, slow),
                ("e", good, slow),
            ],
            "passes",
            "",
        ),
        (
            "slower than others ever were, and always was",
            [("a", slow, slow), well("b"), well("c"), well("d"), well("e")],
            "passes",
            "",
        ),
        (
            "wrong more often",
            [("a", good, Of(63, 10_000, 30)), well("b"), well("c"), well("d"), well("e")],
            "fails",
            "name-of-a answers wrong 19 of 63 times, and did 0 of 63 times before its patch; hosts not patched yet do 0 of 189 times",
        ),
        (
            "all of them wrong more often",
            [
                ("a", good, Of(63, 10_000, 30)),
                ("b", good, Of(63, 10_000, 30)),
                ("c", good, Of(63, 10_000, 30)),
                ("d", good, Of(63, 10_000, 30)),
                ("e", good, Of(63, 10_000, 30)),
            ],
            "passes",
            "",
        ),
        (
            "wrong once: chance",
            [("a", good, Of(63, 10_000, 1)), well("b"), well("c"), well("d"), well("e")],
            "passes",
            "",
        ),
        (
            "too few since",
            [("a", good, few), well("b"), well("c"), well("d"), well("e")],
            "waits",
            "29 of 30 of name-of-a since",
        ),
        (
            "too few before",
            [well("a"), ("b", few, good), well("c"), well("d"), well("e")],
            "waits",
            "29 of 30 of name-of-b before its patch",
        ),
        (
            "nothing of a patched host",
            [well("a"), ("b", none, none), well("c"), well("d"), well("e")],
            "waits",
            "0 of 30 of name-of-b before its patch; 0 of 30 of name-of-b since; none of name-of-b lately",
        ),
        (
            "nothing of the others",
            [("a", good, slow), well("b"), ("c", none, none), ("d", none, none), ("e", none, none)],
            "waits",
            "0 of 30 of hosts not patched yet, before the wave; 0 of 30 of hosts not patched yet, since",
        ),
        (
            "one worse, another mute",
            [("a", good, slow), ("b", none, none), well("c"), well("d"), well("e")],
            "fails",
            "name-of-a takes 20.0 ms",
        ),
    ];
    for (what, hosts, then, why) in table {
        let mut w = baked(speed(None));
        say(&mut w, &hosts);
        let (found, told) = found(&mut w);
        assert_eq!(found, then, "{what}: {told}");
        assert!(told.contains(why), "{what}: {told}");
        let failed: BTreeSet<HostId> = (then == "fails").then(|| "a".into()).into_iter().collect();
        assert_eq!(w.rollout.faulted, failed, "{what}");
    }
}

#[test]
fn without_good_answers_a_gate_does_not_pass_whatever_the_margin() {
    let good = Of(63, 10_000, 0);
    let (wrong, tenth, third) = (Of(63, 10_000, 100), Of(63, 10_000, 10), Of(100, 10_000, 34));
    let well = |id: &'static str| (id, good, good);
    let rest = [well("b"), well("c"), well("d"), well("e")];
    for (what, margin_percent, before, after, then, why) in [
        (
            "wrong before and after",
            20,
            wrong,
            wrong,
            "waits",
            "0 of 30 good ones of name-of-a before its patch",
        ),
        (
            "wrong before",
            20,
            wrong,
            good,
            "waits",
            "0 of 30 good ones of name-of-a before its patch",
        ),
        ("wrong after", 20, good, wrong, "fails", "name-of-a has not answered well once in 63"),
        ("a tenth, then all", 1000, tenth, wrong, "fails", "name-of-a has not answered well once"),
        (
            "a tenth, then nine tenths",
            1000,
            tenth,
            Of(63, 10_000, 90),
            "fails",
            "name-of-a answers wrong",
        ),
        (
            "a third, then two thirds, which a wide margin of odds would allow",
            1000,
            third,
            Of(100, 10_000, 67),
            "fails",
            "name-of-a answers wrong",
        ),
        ("a tenth, as before", 20, tenth, tenth, "passes", ""),
    ] {
        let mut check = speed(None);
        if let CheckKind::Performance(rule) = &mut check.asks {
            rule.margin_percent = margin_percent;
        }
        let mut w = baked(check);
        say(&mut w, &[&[("a", before, after)][..], &rest].concat());
        let (found, told) = found(&mut w);
        assert_eq!(found, then, "{what}: {told}");
        assert!(told.contains(why), "{what}: {told}");
    }
    // All of them wrong: nobody knows anything, and the patched hosts have stopped to answer.
    let mut w = baked(speed(None));
    say(&mut w, &["a", "b", "c", "d", "e"].map(|id| (id, good, wrong)));
    assert_eq!(found(&mut w).0, "fails");
}

#[test]
fn one_host_that_lies_excuses_nobody() {
    let (good, slow, wrong) = (Of(63, 10_000, 0), Of(63, 20_000, 0), Of(63, 10_000, 40));
    let well = |id: &'static str| (id, good, good);
    // It lies beyond measure, by how much and by how often.
    let lies = Of(240, 4_000_000, 90);
    for ill in [slow, wrong] {
        for (what, waiting, others, then) in [
            ("one of three lies", 3, vec![("c", good, lies), well("d"), well("e")], "fails"),
            ("one alone lies", 1, vec![("c", good, lies)], "fails"),
            ("one of two lies", 2, vec![("c", good, lies), well("d")], "fails"),
            ("two alone share it", 2, vec![("c", good, ill), ("d", good, ill)], "fails"),
            (
                "two of three share it",
                3,
                vec![("c", good, ill), ("d", good, ill), well("e")],
                "passes",
            ),
            ("one of three says nothing", 3, vec![("c", good, ill), ("d", good, ill)], "waits"),
        ] {
            let mut w = baked_before(speed(None), &["c", "d", "e"][..waiting]);
            say(&mut w, &[&[("a", good, ill), well("b")][..], &others].concat());
            let (found, told) = found(&mut w);
            assert_eq!(found, then, "{what}: {told}");
        }
    }
}

#[test]
fn what_was_measured_long_ago_or_tomorrow_says_nothing_of_now() {
    let good = Of(63, 10_000, 0);
    let all = ["a", "b", "c", "d", "e"].map(|id| (id, good, good));
    for (seconds, then) in [(0, "passes"), (100, "passes"), (121, "waits"), (-86_400, "waits")] {
        let mut w = baked(speed(None));
        say(&mut w, &all);
        let since = w.run("a").ended_at.unwrap();
        let Some(Answer::Measured { hosts }) = w.seen.gate.get_mut("speed").map(|e| &mut e.answer)
        else {
            panic!()
        };
        for sample in hosts.values_mut().flatten().filter(|s| s.at >= since) {
            sample.at -= jiff::SignedDuration::from_secs(seconds);
        }
        assert_eq!(found(&mut w).0, then, "{seconds} s ago");
    }
}

#[test]
fn where_nobody_is_left_to_compare_with_what_was_usual_has_to_do() {
    let (good, slow) = (Of(63, 10_000, 0), Of(63, 20_000, 0));
    for (after, then) in [(good, "passes"), (slow, "fails")] {
        let mut w = baked(speed(None));
        for id in ["c", "d", "e"] {
            w.seen.hosts.remove(&HostId(id.into()));
        }
        say(&mut w, &[("a", good, after), ("b", good, good)]);
        let judged = w.rollout.judgements(w.now, &w.seen);
        let speed = judged.iter().find(|j| j.check == "speed").unwrap();
        assert_eq!(speed.says.word(), then, "{}", speed.why);
    }
}

#[test]
fn a_gate_without_samples_waits_as_long_as_the_policy_has_patience_and_asks_the_hosts_alone() {
    let mut w = baked(speed(Some(1200)));
    assert!(w.rollout.questions().is_empty());
    let names = |ids: &[&HostId]| ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
    let measures = w.rollout.measures();
    assert_eq!(
        (names(&measures[0].patched), names(&measures[0].controls)),
        (vec!["a".into(), "b".into()], vec!["c".into(), "d".into(), "e".into()])
    );
    let (waits, told) = found(&mut w);
    assert_eq!(waits, "waits");
    assert!(told.contains("not enough samples"), "{told}");
    assert_eq!(w.pass(899), [""; 0]);
    assert_eq!(w.pass(1), ["halted gate-failed"]);
    assert!(w.rollout.measures().is_empty(), "it stands");
}
