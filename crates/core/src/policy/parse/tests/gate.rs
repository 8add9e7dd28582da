//! What a gate asks of others, and how a text that asks badly is told so.

use super::*;
use crate::assignment::Probe;
use crate::policy::{CheckKind, Expect, HostList, HostTest, PerformanceRule, UndoRule};

const RINGS: &str = "[policy]\nname = \"p\"\nselect = \"all\"\n[[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\n[[ring]]\nname = \"broad\"\n";

fn of(text: &str) -> GateRule {
    Policy::parse(&format!("{RINGS}{text}")).unwrap_or_else(|e| panic!("{e:?}")).gate
}

fn wrong(text: &str) -> String {
    errors(&format!("{RINGS}{text}"))
}

#[test]
fn a_gate_says_whom_it_asks_and_whose_word_it_waits_for() {
    let gate = of("[gate]\nrequire-proof = true\napproval = \"before:broad\"\nundo = \"failed\"\n\
         [[check]]\nname = \"errors\"\nkind = \"prometheus\"\nurl = \"http://127.0.0.1:9090\"\n\
         query = \"sum(rate(errors[5m]))\"\nbelow = 0.5\nfor = \"10m\"\nfail-after = \"1h\"\n\
         [[check]]\nname = \"suite\"\nkind = \"webhook\"\nurl = \"https://ci.example.org/gate\"\n");
    assert!(gate.require_proof && gate.waits_for_approval("canary", "broad"));
    assert!(!gate.waits_for_approval("broad", "broad"), "once, and not before each wave of it");
    assert_eq!(gate.undoes(), UndoRule::Failed);
    let CheckKind::Prometheus { expect, for_seconds, .. } = &gate.checks[0].asks else { panic!() };
    assert_eq!((*expect, *for_seconds), (Expect::Below(0.5), 600));
    assert_eq!(gate.checks[0].fail_after_seconds, Some(3600));
    assert!(matches!(&gate.checks[1].asks, CheckKind::Webhook { url } if url.contains("ci.")));
    for (is, asked) in [("below = 1", 0.5), ("above = -1", 0.5), ("equals = 0.5", 0.5)] {
        let text = format!(
            "[[check]]\nname = \"c\"\nkind = \"prometheus\"\nurl = \"http://h\"\nquery = \"q\"\n{is}\n"
        );
        let CheckKind::Prometheus { expect, .. } = of(&text).checks[0].asks else { panic!() };
        assert!(expect.holds(asked) && !expect.holds(f64::NAN), "{is}");
    }
    assert!(of("[gate]\napproval = \"each-wave\"\n").waits_for_approval("broad", "broad"));
}

#[test]
fn what_a_red_gate_undoes_is_kept_as_older_programs_kept_it_where_they_could_say_it() {
    for (text, undoes, kept) in [
        ("", UndoRule::None, "false"),
        ("undo = \"none\"", UndoRule::None, "false"),
        ("undo-wave = true", UndoRule::Wave, "true"),
        ("undo = \"wave\"", UndoRule::Wave, "true"),
        ("undo = \"all\"", UndoRule::All, "false,\"undo\":\"all\""),
        ("undo = \"failed\"", UndoRule::Failed, "false,\"undo\":\"failed\""),
    ] {
        let gate = of(&format!("[gate]\n{text}\n"));
        assert_eq!(gate.undoes(), undoes, "{text}");
        let json = serde_json::to_string(&gate).unwrap();
        assert_eq!(
            json,
            format!(
                "{{\"bake_seconds\":300,\"max_failures\":0,\"min_success_percent\":100,\
                 \"silent_after_seconds\":900,\"undo_wave\":{kept}}}"
            )
        );
        assert_eq!(serde_json::from_str::<GateRule>(&json).unwrap(), gate);
    }
}

#[test]
fn a_gate_that_asks_badly_is_told_where_and_what_to_write() {
    insta::assert_snapshot!(wrong("[gate]\nundo = \"some\"\nundo-wave = true\napproval = [\"before:canary\", \"before:brod\", \"broad\"]\n"), @r#"
line 10, column 8: `undo` cannot be "some"; write one of "none", "failed", "wave", "all"
line 11, column 1: the gate has `undo` and `undo-wave`; take `undo-wave` away: `undo = "wave"` says the same
line 12, column 13: no gate stands before `canary`, the first ring; write `approvals = 1` under [policy]: then its plans need approval
line 12, column 30: the policy has no ring `brod`; did you mean "before:broad"?
line 12, column 45: `approval` cannot be "broad"; write "before:RING", a list of those, or "each-wave"
"#);
    insta::assert_snapshot!(wrong("[[check]]\nname = \"proof\"\nkind = \"prometheus\"\nurl = \"prometheus:9090\"\nbelow = 1\nabove = 2\n[[check]]\nkind = \"webhook\"\nname = \"a\"\nurl = \"https://me:pw@h/\"\nquery = \"up\"\n[[check]]\nname = \"a\"\nkind = \"promethius\"\n"), @r#"
line 9, column 1: [[check]] has no `query`; add `query = "sum(rate(http_errors_total[5m]))"`
line 9, column 1: the check says several times where the number has to be; write one of `below = 0.5`, `above = 0.99` and `equals = 1`
line 12, column 7: `url` must begin with https:// or http://; write one such as `url = "https://prometheus.example.org"`
line 18, column 7: `url` holds a name or password; take name and password away: a policy is read by many
line 19, column 1: `query` means nothing with `kind = "webhook"`; take it away; it goes with "prometheus"
line 22, column 8: `kind` cannot be "promethius"; write one of "prometheus", "webhook", "host", "performance"
"#);
    insta::assert_snapshot!(wrong("[[check]]\nname = \"a\"\nkind = \"webhook\"\nurl = \"https:///x\"\n[[check]]\nname = \"a\"\nkind = \"webhook\"\nurl = \"http://h/#x\"\nfail-after = 3\n[[check]]\nname = \"n\"\nkind = \"prometheus\"\nurl = \"http://h\"\nquery = \"q\"\nbelow = nan\nfor = \"2d\"\n"), @r#"
line 12, column 7: `url` names no host; write one such as `url = "https://prometheus.example.org"`
line 14, column 8: there is a [[check]] named `a` already; give each a name of its own
line 16, column 7: `url` has a fragment, which no server is sent; take away what follows `#`
line 17, column 14: `fail-after` has a number without a unit; write `fail-after = "3s"` or `fail-after = "3m"`
line 23, column 9: `below` must be a number; write one such as `below = 0.5`
"#);
}

#[test]
fn a_policy_with_one_wave_is_told_that_nothing_is_asked_between_waves() {
    let rolling = "[policy]\nname = \"p\"\nselect = \"all\"\n[strategy]\nkind = \"rolling\"\nmax-unavailable = 1\n";
    insta::assert_snapshot!(errors(&format!("{rolling}[gate]\nrequire-proof = true\n[[check]]\nname = \"a\"\nkind = \"webhook\"\nurl = \"https://h\"\n")), @r#"
line 8, column 1: `require-proof` is asked between waves, and a rolling policy has one wave; take it away, or choose `kind = "percentage"` or rings
line 9, column 1: `[[check]]` is asked between waves, and a rolling policy has one wave; take it away, or choose `kind = "percentage"` or rings
"#);
}

#[test]
fn a_check_is_told_apart_by_its_name_where_policies_differ() {
    let with = |limit: &str| {
        Policy::parse(&format!(
            "{RINGS}[[check]]\nname = \"errors\"\nkind = \"prometheus\"\nurl = \"http://h\"\nquery = \"q\"\nbelow = {limit}\nfor = \"5m\"\n"
        ))
        .unwrap()
    };
    let told = crate::policy::settings(&with("0.5"), &with("0.25"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].what.starts_with("check errors."), "{told:?}");
    assert_eq!((told[0].from.as_deref(), told[0].to.as_deref()), (Some("0.5"), Some("0.25")));
}

#[test]
fn hosts_run_a_program_of_their_own_lists_by_its_name() {
    for (text, list, percent) in [
        ("test = \"shop\"", HostList::Tests, 100),
        ("command = \"shop\"\nmin-percent = 90", HostList::Probes, 90),
    ] {
        let gate = of(&format!("[[check]]\nname = \"shop-answers\"\nkind = \"host\"\n{text}\n"));
        let test = HostTest { list, name: "shop".into() };
        assert_eq!(gate.checks[0].asks, CheckKind::Host { test, min_percent: percent });
        let json = serde_json::to_string(&gate).unwrap();
        assert_eq!(serde_json::from_str::<GateRule>(&json).unwrap(), gate, "{json}");
    }
    let check = |rest: &str| format!("[[check]]\nname = \"c\"\nkind = \"host\"\n{rest}\n");
    insta::assert_snapshot!(wrong(&check("")), @r#"line 9, column 1: the check does not say what the hosts run; write `test = "shop"` for /etc/fettle/tests.d/shop of each host, or `command = "shop"` for /etc/fettle/probes.d/shop"#);
    insta::assert_snapshot!(wrong(&check("test = \"a\"\ncommand = \"b\"\nurl = \"http://h\"")), @r#"
line 9, column 1: the check has `test` and `command`; write `test = "shop"` for /etc/fettle/tests.d/shop of each host, or `command = "shop"` for /etc/fettle/probes.d/shop
line 14, column 1: `url` means nothing with `kind = "host"`; take it away; it goes with "prometheus" or "webhook"
"#);
    insta::assert_snapshot!(wrong(&check("test = \"/bin/sh -c reboot\"\nmin-percent = 0")), @r#"
line 12, column 8: `test` must be a file name; write the name of a file in the hosts' /etc/fettle/tests.d, without its directory and without arguments
line 13, column 15: `min-percent` must be from 1 to 100; write one such as `min-percent = 100`
"#);
    insta::assert_snapshot!(wrong(&check("command = \"../x\"\ntest-percent = 1")), @r#"
line 12, column 11: `command` must be a file name; write the name of a file in the hosts' /etc/fettle/probes.d, without its directory and without arguments
line 13, column 1: [[check]] has no key `test-percent`; did you mean `min-percent`?
"#);
}

#[test]
fn what_hosts_measure_and_how_much_worse_it_may_become_is_read() {
    let check = |rest: &str| format!("[[check]]\nname = \"c\"\nkind = \"performance\"\n{rest}\n");
    let shop = Probe::Command { name: "shop".into() };
    let usual =
        PerformanceRule { probe: shop, margin_percent: 20, min_samples: 30, confidence: 0.99 };
    let http =
        Probe::Http { url: "http://127.0.0.1:80/h".into(), status: 204, contains: String::new() };
    let told =
        PerformanceRule { probe: http, margin_percent: 50, min_samples: 100, confidence: 0.999 };
    for (text, rule) in [
        ("command = \"shop\"", usual),
        (
            "http = \"http://127.0.0.1:80/h\"\nstatus = 204\nmargin-percent = 50\nmin-samples = 100\nconfidence = 0.999",
            told,
        ),
    ] {
        let gate = of(&check(text));
        assert_eq!(gate.checks[0].asks, CheckKind::Performance(rule));
        let json = serde_json::to_string(&gate).unwrap();
        assert_eq!(serde_json::from_str::<GateRule>(&json).unwrap(), gate, "{json}");
    }
    insta::assert_snapshot!(wrong(&check("")), @"line 9, column 1: the [[check]] asks nothing; write one of `http`, `tcp` and `command`, and a [[check]] for each further one");
    insta::assert_snapshot!(wrong(&check("tcp = \"shop:80\"\nstatus = 200\nconfidence = 1\nmin-samples = 5")), @r#"
line 12, column 7: `tcp` must be an address with a port; write address and port: `tcp = "127.0.0.1:22"` or `tcp = "[::1]:22"`
line 13, column 10: `status` goes with `http` only; take it away
line 14, column 14: `confidence` must be from 0.9 to 0.999999; write one such as `confidence = 0.99`: of a hundred gates where nothing is worse, one fails
line 15, column 15: `min-samples` must be from 20 to 120; write one such as `min-samples = 30`
"#);
}

#[test]
fn the_example_asks_in_every_way_there_is() {
    let gate = example("web-gated.toml").gate;
    let kinds: Vec<&str> = gate.checks.iter().map(|check| check.asks.word()).collect();
    assert_eq!(kinds, ["prometheus", "webhook", "host", "performance"]);
}

#[test]
fn what_hosts_would_never_be_asked_is_refused() {
    let tests = |many: usize| {
        let one = |n| format!("[[check]]\nname = \"t{n}\"\nkind = \"host\"\ntest = \"t{n}\"\n");
        (0..many).map(one).collect::<String>()
    };
    let probes = |many: usize, same: bool| {
        let one = |n: usize| {
            let asked = if same { 0 } else { n };
            format!("[[check]]\nname = \"p{n}\"\nkind = \"performance\"\ncommand = \"p{asked}\"\n")
        };
        (0..many).map(one).collect::<String>()
    };
    assert_eq!(of(&tests(16)).checks.len(), 16);
    assert_eq!(of(&probes(8, false)).checks.len(), 8);
    assert_eq!(of(&probes(9, true)).checks.len(), 9, "one probe of several checks");
    let told = wrong(&tests(17));
    assert!(told.contains("more than 16 checks of kind \"host\""), "{told}");
    let told = wrong(&probes(9, false));
    assert!(told.contains("measures more than 8 things"), "{told}");
}
