use super::super::*;
use super::*;
use crate::policy::Strategy;
use proptest::prelude::{Strategy as _, *};

mod gate;

const HEAD: &str = "[policy]\nname = \"p\"\nselect = \"all\"\n\n[[ring]]\nname = \"all\"\n";

fn errors(text: &str) -> String {
    let errors = Policy::parse(text).err().unwrap_or_default();
    errors.iter().map(|e| format!("{e}\n")).collect()
}

/// The errors of a section added to an otherwise good policy.
fn errors_in(section: &str) -> String {
    errors(&format!("{HEAD}{section}"))
}

#[test]
fn the_smallest_policy_is_taken_with_careful_defaults() {
    let p = Policy::parse(HEAD).unwrap();
    assert_eq!((p.name.as_str(), &p.select, p.take), ("p", &Selector::All, Take::Security));
    assert_eq!(p.gate, GateRule::default());
    assert_eq!(
        p.rings,
        [RingRule {
            name: "all".into(),
            select: Selector::All,
            wave_percent: 100,
            soak_seconds: 0,
            after_seconds: 0,
        }]
    );
    assert_eq!(
        (p.reboot, p.approvals, p.inventory_max_age_seconds),
        (RebootRule::Never, 0, 86_400)
    );
    assert_eq!(p.digest, Digest::of(HEAD.as_bytes()));
}

fn example(name: &str) -> Policy {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policies").join(name);
    #[allow(clippy::disallowed_methods)] // The test reads a file; the core does not.
    let text = std::fs::read_to_string(path).unwrap();
    Policy::parse(&text).unwrap_or_else(|errors| {
        panic!("{name}: {}", errors.iter().map(|e| format!("\n{e}")).collect::<String>())
    })
}

#[test]
fn the_demo_policy_parses() {
    let p = example("demo.toml");
    assert_eq!(
        p.rings.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
        ["canary", "early", "broad"]
    );
    assert_eq!((p.take, p.gate.bake_seconds, p.gate.max_failures), (Take::Security, 5, 0));
    let acme = crate::inventory::Origin {
        origin: "Acme".into(),
        label: "Acme-Security".into(),
        suite: String::new(),
        codename: String::new(),
    };
    assert!(p.allows(&acme) && acme.is_security());
    assert_eq!(p.probes.len(), 2);
}

#[test]
fn the_web_policy_parses() {
    let p = example("web-production.toml");
    assert_eq!(p.classes.len(), 5);
    assert_eq!(p.windows[0].days, [1, 2, 3, 4]);
    assert_eq!((p.windows[0].start_minute, p.windows[0].duration_seconds), (22 * 60, 5 * 3600));
    assert_eq!(p.exclusions[0].until.to_string(), "2027-02-01T00:00:00Z");
    let acceptance = &p.acceptances[0];
    let at = |text: &str| text.parse::<crate::Timestamp>().unwrap();
    let november = at("2026-11-23T12:00:00Z");
    for (now, epss, exploited, holds) in [
        (november, None, false, true),
        (november, Some(0.099), false, true),
        (november, Some(0.1), false, false),
        (november, None, true, false),
        (at("2027-01-31T23:59:59Z"), None, false, true),
        (at("2027-02-01T00:00:00Z"), None, false, false),
    ] {
        assert_eq!(acceptance.holds(now, epss, exploited), holds, "{now} {epss:?} {exploited}");
    }
    let anyway = Acceptance { even_if_exploited: true, ..acceptance.clone() };
    assert!(anyway.holds(november, None, true));
    let accepted = &p.accept_missing[0];
    assert!(accepted.what.covers("/usr/lib/ImageMagick-6.9.11/coders/mat.so", "GetMagickUTCTime"));
    assert_eq!(accepted.until.to_string(), "2027-02-01T00:00:00Z");
    assert_eq!((p.deadman_seconds, p.hung_after_seconds), (Some(600), Some(3600)));
    assert_eq!(p.half_configured, HalfConfiguredRule::Repair);
    assert!(p.classes[0].emergency && p.classes[0].soak_seconds == Some(1800));
    assert_eq!(p.select.to_string(), "env=prod and role in (web, api) and not maintenance=frozen");
}

#[test]
fn the_database_policy_parses() {
    let p = example("databases.toml");
    assert_eq!((p.approvals, p.reboot, p.gate.undo_wave), (2, RebootRule::Never, true));
    assert_eq!(p.restart.spare, ["postgresql@*.service", "mariadb.service"]);
    assert!(matches!(p.probes[..], [Probe::Command { .. }]));
}

#[test]
fn pins_offsets_exemptions_and_the_order_of_restarts_are_read_and_what_makes_no_sense_is_refused() {
    let p = Policy::parse(
        "[policy]\nname = \"p\"\nselect = \"host.tag in (web-server, cache)\"\n\
         [[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\n[[ring]]\nname = \"all\"\nafter = \"3d\"\n\
         [[pin]]\npackage = \"postgresql-15\"\nversion = \"15.6-*\"\nreason = \"planner\"\nowner = \"dba\"\nuntil = 2027-01-31\n\
         [restart]\norder = [\"db@*.service\", \"app.service\"]\nexempt = \"role=db\"\n\
         [reboot]\nwhen = \"needed\"\nexempt = \"host.tag=database\"\n",
    )
    .unwrap();
    assert_eq!((p.rings[0].after_seconds, p.rings[1].after_seconds), (0, 3 * 86_400));
    assert_eq!((p.pins[0].version.as_str(), p.pins[0].owner.as_str()), ("15.6-*", "dba"));
    assert_eq!(p.restart.order, ["db@*.service", "app.service"]);
    assert_eq!(p.restart_exempt.unwrap().to_string(), "role=db");
    assert_eq!(p.reboot, RebootRule::WhenNeeded);
    assert_eq!(p.reboot_exempt.unwrap().to_string(), "host.tag=database");

    let why = "reason = \"r\"\nowner = \"o\"\nuntil = 2027-01-31\n";
    let pin =
        |version: &str| format!("[[pin]]\npackage = \"nginx\"\nversion = \"{version}\"\n{why}");
    for (section, told) in [
        (pin("*"), "the pin allows every version"),
        (pin("1.2_3"), "'_' is in no version"),
        (pin("1").replace("nginx", "Nginx"), "'N' is in no package's name"),
        (pin("1").replace("owner = \"o\"\n", ""), "owner"),
        ("[restart]\nexempt = \"all\"\n".into(), "write `never = true`"),
        ("[restart]\nnever = true\norder = [\"a.service\"]\n".into(), "says nothing"),
        ("[restart]\norder = [\"nginx\"]\n".into(), "\"nginx.service\""),
        ("[reboot]\nwhen = \"needed\"\nexempt = \"all\"\n".into(), "write `when = \"never\"`"),
        ("[restart]\nexempt = \"host.tags=x\"\n".into(), "did you mean `host.tag`?"),
        (
            "[restart]\nexempt = \"host.package < 1\"\n".into(),
            "write such as `host.package.nginx < 1.22.1-9`",
        ),
    ] {
        let found = errors_in(&section);
        assert!(found.contains(told), "{section}\n{found}");
    }
    let rings = "[policy]\nname = \"p\"\nselect = \"all\"\n[[ring]]\nname = \"a\"\nselect = \"ring=a\"\n\
                 after = \"2d\"\n[[ring]]\nname = \"b\"\nafter = \"1d\"\n";
    assert!(errors(rings).contains("ring `b` would begin before `a`"), "{}", errors(rings));
}

#[test]
fn a_text_that_is_no_toml_is_refused_at_each_place() {
    insta::assert_snapshot!(errors("[policy\nname = \"p\"\n= 3\n"), @r#"
line 1, column 8: this is not TOML: unclosed table, expected `]`; sections are written `[gate]` or, where there may be several, `[[ring]]`
line 3, column 1: this is not TOML: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`; texts, times and durations stand in quotes: `soak = "30m"`
"#);
    insta::assert_snapshot!(errors("[policy]\ndeadman = 30m\nname = p\nselect = \"all\n"), @r#"
line 2, column 11: this is not TOML: string values must be quoted, expected literal string; texts, times and durations stand in quotes: `soak = "30m"`
line 3, column 8: this is not TOML: string values must be quoted, expected literal string; texts, times and durations stand in quotes: `soak = "30m"`
line 4, column 14: this is not TOML: invalid basic string, expected `"`; texts, times and durations stand in quotes: `soak = "30m"`
"#);
    insta::assert_snapshot!(errors("[policy]\nname = \"p\"\nname = \"q\"\n"), @r#"line 3, column 1: this is not TOML: duplicate key; take one of them away"#);
    insta::assert_snapshot!(errors(&"x".repeat(MAX_POLICY_BYTES + 1)), @r#"line 1, column 1: the policy has 262145 bytes, at most 262144 are read; split it into several policies with a `select` each"#);
}

#[test]
fn an_empty_policy_is_told_what_it_lacks() {
    insta::assert_snapshot!(errors(""), @r#"
line 1, column 1: the policy has no [policy] section; add `[policy]` with `name = "…"` and `select = "…"`
line 1, column 1: the policy has no ring: no host would ever be patched; add `[[ring]]` with `name = "all"`
"#);
    insta::assert_snapshot!(errors("[policy]\n"), @r#"
line 1, column 1: [policy] has no `name`; add `name = "web-production"`
line 1, column 1: [policy] has no `select`; add `select = "env=prod and role in (web, api)"`
line 1, column 1: the policy has no ring: no host would ever be patched; add `[[ring]]` with `name = "all"`
"#);
}

#[test]
fn misspelt_and_misplaced_keys_are_told_their_name_or_place() {
    insta::assert_snapshot!(errors("[policy]\nnam = \"p\"\nselect = \"all\"\nsoak = \"1h\"\n[[ring]]\nname = \"a\"\nwave_percent = 3\nbanana = 1\n[[rings]]\n[gates]\n[quux]\n"), @r#"
line 1, column 1: [policy] has no `name`; add `name = "web-production"`
line 2, column 1: [policy] has no key `nam`; did you mean `name`?
line 4, column 1: [policy] has no key `soak`; `soak` belongs under [[class]] or [strategy] or [[ring]]
line 7, column 1: [[ring]] has no key `wave_percent`; did you mean `wave-percent`?
line 8, column 1: [[ring]] has no key `banana`; its keys are name, select, wave-percent, soak, after
line 9, column 3: a policy has no section `rings`; did you mean `[[ring]]`?
line 10, column 2: a policy has no section `gates`; did you mean `[gate]`?
line 11, column 2: a policy has no section `quux`; sections are policy, source, class, risk, strategy, ring, window, blackout, exclude, pin, accept, accept-missing, restart, reboot, budget, gate, probe, testbed, cycle, check
"#);
    insta::assert_snapshot!(errors("approvals = 1\n[[policy]]\nname = \"p\"\n[ring]\nname = \"a\"\n"), @r#"
line 1, column 1: a policy has no section `approvals`; `approvals` belongs under [policy] or [[risk]]
line 2, column 1: there is only one [policy]; write `[policy]`, once
line 4, column 1: there may be several [[ring]]: its header has two brackets; write `[[ring]]`
"#);
}

#[test]
fn wrong_types_and_values_are_told_what_is_right() {
    insta::assert_snapshot!(errors("[policy]\nname = \"My Policy\"\nselect = 3\npriority = \"high\"\ntake = \"everything\"\napprovals = -1\ninventory-max-age = 30\ndeadman = \"10 min\"\ndescription = [1]\n[[ring]]\nname = \"a\"\nwave-percent = 0\nsoak = 1.5\n"), @r#"
line 2, column 8: `name` must be 1 to 63 small letters, digits and hyphens; write one such as `name = "web-production"`
line 3, column 10: `select` must be a text in quotes, not an integer; write `select = "env=prod and role in (web, api)"`
line 4, column 12: `priority` must be a whole number, not a string; write `priority = 10`
line 5, column 8: `take` cannot be "everything"; write one of "security", "all", "fixes"
line 6, column 13: `approvals` must be from 0 to 100; write one such as `approvals = 1`
line 7, column 21: `inventory-max-age` has a number without a unit; write `inventory-max-age = "30s"` or `inventory-max-age = "30m"`
line 8, column 11: `min` is no unit of time; write a number and a unit: 30s, 30m, 4h, 7d, 2w or 1h30m
line 9, column 15: `description` must be a text in quotes, not an array; write `description = "Web servers that customers see"`
line 12, column 16: `wave-percent` must be from 1 to 100; write one such as `wave-percent = 25`
line 13, column 8: `soak` must be a text in quotes, not a float; write `soak = "4h"`
"#);
}

#[test]
fn an_error_in_a_selector_is_shown_at_its_place_in_the_document() {
    insta::assert_snapshot!(errors("[policy]\nname = \"p\"\nselect = \"env=prod and role in (web; api)\"\n[[ring]]\nname = \"a\"\nselect = 'ring=canary and'\n[[budget]]\nname = \"b\"\nmax-unavailable = 1\nselect = \"a=\\\"b\"\n"), @r#"
line 3, column 36: ';' does not belong in a selector; put values with odd characters in quotes: 'like this'
line 6, column 26: a condition is missing before the end; write one such as `role=web`, or `all`
line 10, column 10: character 3: the quote is not closed; end it with "
"#);
}

#[test]
fn rings_and_classes_that_nothing_can_reach_are_refused() {
    insta::assert_snapshot!(errors_in("[[ring]]\nname = \"late\"\nselect = \"a=b\"\n[[ring]]\nname = \"all\"\n"), @r#"
line 7, column 1: no host can be in ring `late`: `all` before it takes them all; put the ring without `select` last
line 10, column 1: no host can be in ring `all`: `all` before it takes them all; put the ring without `select` last
line 11, column 8: there is a [[ring]] named `all` already; give each a name of its own
"#);
    insta::assert_snapshot!(errors_in("[[class]]\nname = \"rest\"\ndeadline = \"7d\"\nemergency = true\n[[class]]\nname = \"high\"\ncvss = 7.0\ncvss-at-least = 77\ndeadline = \"soon\"\n"), @r#"
line 10, column 13: every finding would be an emergency by class `rest`; add a condition such as `kev = true`
line 11, column 1: no finding can be of class `high`: `rest` before it takes them all; put the class without conditions last
line 13, column 1: [[class]] has no key `cvss`; did you mean `cvss-at-least`?
line 14, column 17: `cvss-at-least` must be from 0.0 to 10.0; write one such as `cvss-at-least = 9.0`
line 15, column 12: `soon` is no duration; write a number and a unit: 30s, 30m, 4h, 7d, 2w or 1h30m
"#);
}

#[test]
fn a_ring_whose_selector_is_wrong_has_one_complaint_and_no_others() {
    insta::assert_snapshot!(errors("[policy]\nname = \"p\"\nselect = \"all\"\n[[ring]]\nname = \"a\"\nselect = \"ring\"\n[[ring]]\nname = \"b\"\n"), @r#"line 6, column 15: `ring` is compared with nothing: the end follows; write `ring=value`, `ring in (one, other)` or `has ring`"#);
}

const NO_RING: &str = "[policy]\nname = \"p\"\nselect = \"all\"\n";

#[test]
fn the_examples_of_strategies_parse() {
    assert!(matches!(example("web-rolling.toml").strategy, Strategy::Rolling { .. }));
    assert!(matches!(example("web-blue-green.toml").strategy, Strategy::BlueGreen { .. }));
    assert!(example("web-testbed.toml").testbed.is_some_and(|rule| rule.required));
}

#[test]
fn a_strategy_is_one_of_the_kinds_with_its_own_keys() {
    let strategy =
        |text: &str| Policy::parse(&format!("{NO_RING}[strategy]\n{text}")).unwrap().strategy;
    assert_eq!(
        strategy("kind = \"percentage\"\nwaves = [1, 5, 25, 100]\nsoak = \"1h\"\n"),
        Strategy::Percentage { waves: vec![1, 5, 25, 100], soak_seconds: 3600 }
    );
    for (text, share) in [("2", Share::Hosts(2)), ("\"25%\"", Share::Percent(25))] {
        assert_eq!(
            strategy(&format!("kind = \"rolling\"\nmax-unavailable = {text}\n")),
            Strategy::Rolling { max_unavailable: share }
        );
    }
    let pool = |name: &str| Selector::In { key: "pool".into(), values: vec![name.into()] };
    let pools = "kind = \"blue-green\"\nblue = \"pool=blue\"\ngreen = \"pool=green\"\n";
    for (more, traffic, capacity_percent) in
        [("", vec![100], 100), ("traffic = [10, 100]\ncapacity-percent = 50\n", vec![10, 100], 50)]
    {
        let (blue, green) = (pool("blue"), pool("green"));
        let expected = Strategy::BlueGreen { blue, green, traffic, capacity_percent };
        assert_eq!(strategy(&format!("{pools}{more}")), expected);
    }
    assert_eq!(Policy::parse(HEAD).unwrap().strategy, Strategy::Rings);
}

#[test]
fn a_strategy_that_cannot_be_carried_out_is_told_what_is_wrong() {
    let wrong = |text: &str| errors(&format!("{NO_RING}[strategy]\n{text}"));
    insta::assert_snapshot!(wrong("kind = \"roling\"\n"), @r#"
line 5, column 8: `kind` cannot be "roling"; write one of "rings", "percentage", "rolling", "blue-green"
"#);
    insta::assert_snapshot!(wrong("waves = [5, 5, 50]\n"), @r#"
line 4, column 1: [strategy] has no `kind`; add `kind = "rolling"`
"#);
    insta::assert_snapshot!(wrong("kind = \"percentage\"\nwaves = [5, 5, 50]\nmax-unavailable = 1\n"), @r#"
line 6, column 13: 5 comes after 5: each share must be larger; each number counts those before it, too: write `[1, 5, 25, 100]`
line 6, column 16: the last of `waves` is 50: the rest would be left out; end with 100
line 7, column 1: `max-unavailable` means nothing with `kind = "percentage"`; take it away; it goes with "rolling"
"#);
    insta::assert_snapshot!(wrong("kind = \"percentage\"\nwaves = []\n"), @r#"line 6, column 9: `waves` names no share: no host would ever be reached; write `[1, 5, 25, 100]`"#);
    insta::assert_snapshot!(wrong("kind = \"percentage\"\nwaves = [0, 100]\n"), @r#"line 6, column 10: `waves` holds whole numbers from 1 to 100; write `waves = [1, 5, 25, 100]`"#);
    insta::assert_snapshot!(wrong("kind = \"percentage\"\n[[ring]]\nname = \"a\"\n"), @r#"
line 4, column 1: [strategy] has no `waves`; add `waves = [1, 5, 25, 100]`
line 6, column 1: this policy does not go by rings: its [strategy] says how it goes; take [[ring]] away, or write `kind = "rings"`
"#);
    insta::assert_snapshot!(wrong("kind = \"rolling\"\n"), @r#"line 4, column 1: [strategy] has no `max-unavailable`; add `max-unavailable = "25%"`"#);
    insta::assert_snapshot!(wrong("kind = \"rolling\"\nmax-unavailable = \"half\"\nsoak = \"1h\"\n"), @r#"
line 6, column 19: `max-unavailable` must be a number of hosts, or a share of them; write `max-unavailable = 2` or `max-unavailable = "25%"`
line 7, column 1: `soak` means nothing with `kind = "rolling"`; take it away; it goes with "percentage"
"#);
    insta::assert_snapshot!(wrong("kind = \"blue-green\"\nblue = \"pool=blue\"\n"), @r#"line 4, column 1: [strategy] has no `green`; add `green = "pool=green"`"#);
    insta::assert_snapshot!(wrong("kind = \"blue-green\"\nblue = \"pool=x\"\ngreen = \"pool=x\"\ntraffic = [50]\ncapacity-percent = 0\nwaves = [100]\n"), @r#"
line 7, column 9: `green` selects what `blue` does: every host would be in both pools; write two selectors that share no host: `pool=blue`, `pool=green`
line 8, column 12: the last of `traffic` is 50: the rest would be left out; end with 100
line 9, column 20: `capacity-percent` must be from 1 to 100; write one such as `capacity-percent = 100`
line 10, column 1: `waves` means nothing with `kind = "blue-green"`; take it away; it goes with "percentage"
"#);
    insta::assert_snapshot!(wrong("kind = \"rings\"\n"), @r#"line 1, column 1: the policy has no ring: no host would ever be patched; add `[[ring]]` with `name = "all"`"#);
}

#[test]
fn windows_that_cannot_open_are_refused() {
    insta::assert_snapshot!(errors_in("[[window]]\ndays = [\"Saturday\", \"someday\", 3]\nstart = \"25:00\"\nduration = \"0h\"\ntime-zone = \"Berlin\"\n[[window]]\ndays = []\nstart = 22:00:00\nduration = \"8d\"\ntime-zone = \"Europe/Belin\"\n[[window]]\n[[blackout]]\nfrom = 2026-12-31\nto = 2026-12-01\nreason = \" \"\n[[blackout]]\nfrom = \"2026-02-30\"\n"), @r#"
line 8, column 9: `Saturday` is no day of the week; write "sat"
line 8, column 21: `someday` is no day of the week; days are "mon", "tue", "wed", "thu", "fri", "sat", "sun"
line 8, column 32: `days` must be a list of texts, not an integer; write `days = ["sat", "sun"]`
line 9, column 9: `start` must be a time of day from 00:00 to 23:59; write `start = "22:00"`
line 10, column 12: `duration` must be longer than nothing; write `duration = "4h"`
line 11, column 13: time zone `Berlin` is not known; did you mean `time-zone = "Europe/Berlin"`?
line 13, column 8: the window opens on no day; name days, or take `days` away for every day
line 15, column 12: `duration` must be from 1s to 7d; write one such as `duration = "4h"`
line 16, column 13: time zone `Europe/Belin` is not known; did you mean `time-zone = "Europe/Berlin"`?
line 17, column 1: [[window]] has no `duration`; add `duration = "4h"`
line 17, column 1: [[window]] has no `start`; add `start = "22:00"`
line 17, column 1: [[window]] has no `time-zone`; add `time-zone = "Europe/Berlin"`
line 20, column 6: the blackout ends before it begins; `to` is its last day: write one not before `from`
line 21, column 10: `reason` is empty; write `reason = "year-end closing"`
line 22, column 1: [[blackout]] has no `reason`; add `reason = "year-end closing"`
line 22, column 1: [[blackout]] has no `to`; add `to = 2027-01-03`
line 23, column 8: `from` must be a day of the calendar; write `from = 2026-12-21`
"#);
}

#[test]
fn an_exclusion_needs_reason_owner_and_end() {
    insta::assert_snapshot!(errors_in("[[exclude]]\npackage = \"Nginx\"\n[[exclude]]\npackage = \"nginx\"\nreason = \"\"\nowner = \"me\"\nuntil = \"next year\"\n[[exclude]]\npackage = \"x\"\nreason = \"r\"\nowner = \"o\"\nuntil = 2027-01-01T00:00:00\n"), @r#"
line 7, column 1: [[exclude]] has no `owner`; add `owner = "dba@example.org"`
line 7, column 1: [[exclude]] has no `reason`; add `reason = "the driver is not certified for the new version"`
line 7, column 1: [[exclude]] has no `until`; add `until = 2027-01-31`
line 8, column 11: 'N' is in no package's name; write a binary package's name; `*` and `?` are globs
line 11, column 10: `reason` is empty; write `reason = "the driver is not certified for the new version"`
line 13, column 9: `until` must be a day or an instant; write `until = 2027-01-31` or, with its offset, `until = 2027-01-31T06:00:00Z`
line 18, column 9: `until` must be a day or an instant; write `until = 2027-01-31` or, with its offset, `until = 2027-01-31T06:00:00Z`
"#);
}

#[test]
fn budgets_say_what_may_be_lost_what_must_be_left_and_how_that_is_known() {
    let text = "[[budget]]\nname = \"web\"\nselect = \"role=web\"\nmax-unavailable = \"20%\"\n\
                min-healthy = 3\nservices = [\"b.service\", \"a.service\", \"b.service\"]\n";
    let policy = Policy::parse(&format!("{HEAD}{text}")).unwrap();
    let rule = &policy.budgets[0];
    assert_eq!(rule.max_unavailable, Some(Share::Percent(20)));
    assert_eq!(rule.min_healthy, Some(Share::Hosts(3)));
    assert_eq!(rule.services, ["a.service", "b.service"]);
    for (hosts, limit) in [(3, 0), (4, 1), (10, 2), (2, 0)] {
        assert_eq!(rule.limit(hosts), limit, "{hosts} hosts");
    }
    insta::assert_snapshot!(errors_in("[[budget]]\nname = \"web\"\nselect = \"all\"\n[[budget]]\nname = \"db\"\nselect = \"all\"\nmin-healthy = \"100%\"\nservices = [\"nginx\", \"php*.service\"]\n"), @r#"
    line 7, column 1: [[budget]] limits nothing; write `max-unavailable = 1`, `min-healthy = "75%"`, or both
    line 13, column 15: no host could ever be patched; leave room for one host at least: `min-healthy = "75%"`
    line 14, column 13: `nginx` is no unit; write its whole name: "nginx.service"
    line 14, column 22: `php*.service` is no unit; write the whole name of one unit: "nginx.service"
    "#);
}

#[test]
fn risks_name_packages_or_classes_of_them_and_ask_for_something() {
    let text = "[[risk]]\nname = \"kernel\"\npackages = [\"@kernel\", \"zfs*\"]\nbake = \"1d\"\n\
                [[class]]\nname = \"boot\"\npackages = \"@boot\"\ndeadline = \"1d\"\n";
    let policy = Policy::parse(&format!("{HEAD}{text}")).unwrap();
    let rule = &policy.risks[0];
    assert_eq!((rule.bake_seconds, rule.wave_percent, rule.approvals), (Some(86_400), None, None));
    assert_eq!(rule.packages, ["@kernel", "zfs*"]);
    assert_eq!(policy.classes[0].to_string(), "packages = @boot");
    assert!(!policy.classes[0].is_catch_all());
    insta::assert_snapshot!(errors_in("[[risk]]\nname = \"a\"\npackages = [\"@kernels\", \"a b\"]\n[[risk]]\nname = \"a\"\nbake = \"1h\"\n"), @r#"
    line 7, column 1: [[risk]] asks for nothing; write `bake`, `wave-percent` or `approvals`
    line 9, column 13: `@kernels` is no class of packages; write one of @boot, @kernel, @libc, @init, @network, @sshd, @login, @container-runtime, @database, or names of packages
    line 9, column 25: `a b` is no name of a package; write `packages = ["@kernel", "nginx*"]`
    line 10, column 1: [[risk]] has no `packages`; add `packages = ["@kernel", "@boot"]`
    line 11, column 8: there is a [[risk]] named `a` already; give each a name of its own
    "#);
}

#[test]
fn probes_budgets_and_restarts_are_checked() {
    insta::assert_snapshot!(errors_in("[[probe]]\nhttp = \"https://example.org/\"\n[[probe]]\nhttp = \"http://localhost/\"\nstatus = 99\n[[probe]]\ntcp = \"22\"\ncontains = \"x\"\n[[probe]]\ncommand = \"../sh\"\n[[probe]]\n[[probe]]\ntcp = \"127.0.0.1:22\"\ncommand = \"x\"\n[restart]\nspare = [\"nginx\"]\n[reboot]\nwhen = \"always\"\n[[source]]\n[[budget]]\nname = \"web\"\nselect = \"role=web\"\nmax-unavailable = 0\n[gate]\nsilent-after = \"0s\"\nmin-success-percent = 101\nundo-wave = \"yes\"\n"), @r#"
line 8, column 8: the probe has no address of the host to ask; a probe speaks plain HTTP to the host itself: write one such as `http = "http://127.0.0.1:80/health"`
line 10, column 8: the probe has no address of the host to ask; names are not looked up: write one such as `http = "http://127.0.0.1:80/health"`
line 11, column 10: `status` must be from 100 to 599; write one such as `status = 200`
line 13, column 7: `tcp` must be an address with a port; write address and port: `tcp = "127.0.0.1:22"` or `tcp = "[::1]:22"`
line 14, column 12: `contains` goes with `http` only; take it away
line 16, column 11: `command` must be a file name; write the name of a file in the host's /etc/fettle/probes.d, without its directory
line 17, column 1: the [[probe]] asks nothing; write one of `http`, `tcp` and `command`, and a [[probe]] for each further one
line 18, column 1: the [[probe]] asks several things; write one of `http`, `tcp` and `command`, and a [[probe]] for each further one
line 22, column 10: `nginx` matches no unit; write the whole name of the unit: "nginx.service"
line 24, column 8: `when` cannot be "always"; write one of "never", "needed"
line 25, column 1: this [[source]] allows everything; add `origin`, `label` or `suite`, or take the section away
line 29, column 19: `max-unavailable` must be from 1 to 1000000; write one such as `max-unavailable = 1`
line 31, column 16: `silent-after` must be longer than nothing; write `silent-after = "15m"`
line 32, column 23: `min-success-percent` must be from 0 to 100; write one such as `min-success-percent = 100`
line 33, column 13: `undo-wave` must be true or false, not a string; write `undo-wave = true`
"#);
}

#[test]
fn errors_point_at_characters_not_bytes() {
    insta::assert_snapshot!(errors(&format!("blackout = [ {{ from = 2026-01-01, to = 2026-01-02, reason = \"Ümläut\", wer = 1 }} ]\n{HEAD}gate = 1\n")), @r#"
line 1, column 71: [[blackout]] has no key `wer`; its keys are from, to, reason
line 8, column 1: [[ring]] has no key `gate`; write `[gate]`, a section of its own
"#);
}

#[test]
fn json_keeps_a_policy() {
    let p = example("web-production.toml");
    let json = serde_json::to_string(&p).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), p);
}

/// A line of a policy, or something that resembles one.
fn line() -> impl proptest::strategy::Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "name",
        "select",
        "take",
        "soak",
        "wave-percent",
        "days",
        "start",
        "duration",
        "time-zone",
        "from",
        "to",
        "until",
        "http",
        "tcp",
        "spare",
        "cvss-at-least",
        "priority",
        "kev",
        "deadline",
        "bogus",
        "max-unavailable",
        "package",
    ]);
    let value = prop_oneof![
        Just("\"all\"".to_owned()),
        Just("\"22:00\"".to_owned()),
        Just("2026-02-30".to_owned()),
        Just("2026-12-30".to_owned()),
        Just("07:32:00".to_owned()),
        Just("[\"mon\", 3]".to_owned()),
        Just("nan".to_owned()),
        Just("-0x1".to_owned()),
        Just("{ a = 1 }".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f32>().prop_map(|n| n.to_string()),
        "\\PC{0,10}".prop_map(|s| format!("{s:?}")),
        "\\PC{0,10}".prop_map(|s| format!("'''{s}'''")),
        "\\PC{0,10}",
    ];
    let header = prop::sample::select(vec![
        "[policy]",
        "[[policy]]",
        "[[ring]]",
        "[ring]",
        "[[window]]",
        "[[class]]",
        "[[exclude]]",
        "[[probe]]",
        "[gate]",
        "[restart]",
        "[[blackout]]",
        "[[source]]",
        "[a.b]",
        "[[budget]]",
        "[reboot]",
    ]);
    prop_oneof![
        2 => header.prop_map(str::to_owned),
        6 => (key, value).prop_map(|(k, v)| format!("{k} = {v}")),
        1 => "\\PC{0,20}",
    ]
}

fn is_refused_at_a_place(text: &str) -> Result<(), TestCaseError> {
    if let Err(errors) = Policy::parse(text) {
        prop_assert!(!errors.is_empty());
        let lines: Vec<&str> = text.split('\n').collect();
        for error in errors {
            let line = lines.get(error.line as usize - 1);
            prop_assert!(
                line.is_some_and(|l| error.column as usize <= l.chars().count() + 1),
                "{} in {:?}",
                error,
                text
            );
            prop_assert!(!error.message.is_empty() && !error.message.contains('\n'), "{}", error);
            prop_assert!(!error.hint.is_empty(), "{}", error);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn any_text_is_parsed_or_refused_at_a_place_in_it(text in "(?s).{0,200}") {
        is_refused_at_a_place(&text)?;
    }

    #[test]
    fn any_jumble_of_lines_is_parsed_or_refused_at_a_place_in_it(lines in prop::collection::vec(line(), 0..30)) {
        is_refused_at_a_place(&lines.join("\n"))?;
    }

    #[test]
    fn a_good_policy_with_a_hole_or_a_stain_is_parsed_or_refused(at in 0usize..6000, len in 0usize..40, stain in "\\PC{0,3}") {
        let text = include_str!("../../../../../examples/policies/web-production.toml");
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.min(chars.len());
        chars.splice(at..(at + len).min(chars.len()), stain.chars());
        is_refused_at_a_place(&chars.into_iter().collect::<String>())?;
    }
}

#[test]
fn deep_nesting_is_refused_without_overflow() {
    assert!(Policy::parse(&format!("x = {}", "[".repeat(100_000))).is_err());
    assert!(Policy::parse(&format!("x{} = 1", ".x".repeat(100_000))).is_err());
    assert!(Policy::parse(&format!("[{}]", vec!["x"; 50_000].join("."))).is_err());
}

#[test]
fn the_test_environment_is_asked_for_in_a_section_of_its_own() {
    let head = "[policy]\nname = \"a\"\nselect = \"all\"\n[[ring]]\nname = \"all\"\n";
    assert_eq!(Policy::parse(head).unwrap().testbed, None);
    let usual = Policy::parse(&format!("{head}[testbed]\n")).unwrap().testbed.unwrap();
    assert_eq!(usual, crate::testbed::TestbedRule::default());
    assert_eq!(usual.worker.to_string(), "fettle.worker=true");
    let text = "[testbed]\nrequired = true\nworker = \"role=lab\"\nmax-age = \"2d\"\nmirrored-percent = 100\n";
    let asked = Policy::parse(&format!("{head}{text}")).unwrap().testbed.unwrap();
    assert!(asked.required);
    assert_eq!(asked.worker.to_string(), "role=lab");
    assert_eq!((asked.max_age_seconds, asked.mirrored_percent), (2 * 86_400, 100));
    let wrong = format!("{head}[testbed]\nmirrored-percent = 101\n");
    assert_eq!(Policy::parse(&wrong).unwrap_err()[0].line, 7);
}

#[test]
fn a_cycle_says_when_it_comes_due_and_who_starts_it() {
    let text = format!(
        "{HEAD}[cycle]\nrrule = \"FREQ=MONTHLY;BYDAY=2TU\"\nafter-days = 1\nat = \"06:00\"\ntime-zone = \"Europe/Berlin\"\n"
    );
    let cycle = Policy::parse(&text).unwrap().cycle.unwrap();
    assert_eq!((cycle.start, cycle.when), (CycleStart::Propose, CycleWhen::Owed));
    assert_eq!((cycle.at_minute, cycle.after_days, cycle.catch_up_seconds), (360, 1, 43_200));
    let due = cycle.next_due("2026-11-01T00:00:00Z".parse().unwrap()).unwrap();
    assert_eq!(due.to_string(), "2026-11-11T05:00:00Z");
    let production = example("web-production.toml");
    assert_eq!(
        (production.approvals_in_emergency(), production.emergency_start),
        (1, CycleStart::Automatic)
    );
    assert!(production.cycle.is_some());
}

#[test]
fn a_cycle_that_is_written_wrongly_is_told_where_and_what_to_write() {
    for (section, told) in [
        ("[cycle]\n", "[cycle] has no `at`"),
        ("[cycle]\nat = \"25:00\"\ntime-zone = \"UTC\"\n", "`at` must be a time of day"),
        ("[cycle]\nat = \"06:00\"\ntime-zone = \"Berlin\"\n", "Europe/Berlin"),
        ("[cycle]\nat = \"06:00\"\ntime-zone = \"UTC\"\nstart = \"auto\"\n", "automatic"),
        (
            "[cycle]\nat = \"06:00\"\ntime-zone = \"UTC\"\ndays = []\n",
            "the cycle comes due on no day",
        ),
        (
            "[cycle]\nat = \"06:00\"\ntime-zone = \"UTC\"\ndays = [\"tue\"]\nrrule = \"FREQ=DAILY\"\n",
            "[cycle] has `days` and `rrule`",
        ),
        ("[[cycle]]\nat = \"06:00\"\ntime-zone = \"UTC\"\n", "there is only one [cycle]"),
        ("[cycle]\nat = \"06:00\"\ntime-zone = \"UTC\"\ncatch-up = \"30d\"\n", "catch-up"),
    ] {
        let errors = errors_in(section);
        assert!(errors.contains(told), "{section}: {errors}");
    }
    let more = HEAD.replace("select", "approvals = 1\nemergency-approvals = 2\nselect");
    assert!(errors(&more).contains("more approvals than anything else"), "{}", errors(&more));
}
