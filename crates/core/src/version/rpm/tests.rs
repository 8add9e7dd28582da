use super::*;
use crate::version::oracle::{ask, check_said, check_table, laws, lines, pairs};

const STARTS: [&str; 8] = ["1", "1", "2.0", "0:1.0", "1:1", "10", "a", "1.0-1"];
const PIECES: [&str; 20] = [
    "0", "1", "9", "10", "00", "01", ".", ".", "_", "+", "-", "~", "^", "a", "b", "Z", "rc", "el9",
    ".el9_4", "^git",
];

/// Pairs from rpm's manual and the pitfalls of real archives.
const PAIRS: [(&str, &str, &str); 45] = [
    ("1.0", "=", "1.0"),
    ("1.0", "=", "0:1.0"),
    ("1.0", "=", ":1.0"),
    ("1.0-1", ">", "1.0"),
    ("1.0-", ">", "1.0"),
    ("1.0-", "<", "1.0-0"),
    ("0:9", "<", "1:1"),
    ("9:1", "<", "10:1"),
    ("01:1", "=", "1:1"),
    ("1.9", "<", "1.10"),
    ("1.05", "=", "1.5"),
    ("1.0", "=", "1_0"),
    ("1.0", "=", "1..0"),
    ("1.0", "=", "1.0."),
    ("1.0", "=", ".1.0"),
    ("1.0", "=", "1+0"),
    ("1.0", "<", "1.0.0"),
    ("1.0", "<", "1.0a"),
    ("1.0a", "=", "1.0.a"),
    ("1.0a", "<", "1.0aa"),
    ("1.0Z", "<", "1.0a"),
    ("1.0a", "<", "1.0.1"),
    ("a", "<", "1"),
    ("1.0~rc1", "<", "1.0"),
    ("1.0~", "<", "1.0"),
    ("1.0~~", "<", "1.0~"),
    ("1.0~rc1", "<", "1.0~rc2"),
    ("1.0~rc1", ">", "1.0~beta"),
    ("1.0~rc1", "=", "1.0.~.rc1"),
    ("1.0^", ">", "1.0"),
    ("1.0^git1", "<", "1.0.1"),
    ("1.0^git1", "<", "1.0a"),
    ("1.0^git1", ">", "1.0~rc1"),
    ("1.0^git1", ">", "1.0^git1~pre"),
    ("1.0~rc1^git1", ">", "1.0~rc1"),
    ("1.0~rc1^git1", "<", "1.0"),
    ("1.0-1^1", ">", "1.0-1"),
    ("3.0.7-27.el9", "<", "3.0.7-27.el9_4"),
    ("3.0.7-27.el9", "<", "3.0.7-27.el9.0.2"),
    ("5.14.0-427.13.1.el9_4", "<", "5.14.0-427.100.1.el9_4"),
    ("1:1.1.1k-9.el8", "<", "1:1.1.1k-12.el8"),
    ("4-1.module_el8.9.0+3643+9234dc3b", "<", "4-1.module_el8.10.0+3858+6ad51f9f"),
    ("1.99999999999999999999", "<", "1.100000000000000000000"),
    ("2021.2.50-80.0.el8_4", "<", "2021.2.50-80.1.el8_4"),
    ("1:2-3:4", "=", "1:2-3.4"),
];

#[test]
fn well_known_pairs_have_their_order_both_ways_and_as_keys() {
    check_table(&PAIRS, compare_lenient, key_lenient);
}

#[test]
fn every_rule_of_a_well_formed_version_is_enforced_by_its_own_error() {
    let s = |text: &str| text.to_owned();
    for (text, expected) in [
        (" ", BadVersion::Empty),
        (":1", BadVersion::EpochNotNumber(s(":1"))),
        ("a:1", BadVersion::EpochNotNumber(s("a:1"))),
        ("1-1:1", BadVersion::EpochNotNumber(s("1-1:1"))),
        ("4294967296:1", BadVersion::EpochTooBig(s("4294967296:1"))),
        ("1:", BadVersion::EmptyVersion(s("1:"))),
        ("-1", BadVersion::EmptyVersion(s("-1"))),
        ("1-", BadVersion::EmptyRelease(s("1-"))),
        ("1..0", BadVersion::TwoDots(s("1..0"))),
        ("1-1-1", BadVersion::Character { text: s("1-1-1"), found: '-' }),
        ("1 0", BadVersion::Character { text: s("1 0"), found: ' ' }),
        ("1:2:3", BadVersion::Character { text: s("1:2:3"), found: ':' }),
        ("1é", BadVersion::Character { text: s("1é"), found: 'é' }),
    ] {
        assert_eq!(Version::parse(text), Err(expected.clone()), "{text:?}");
        assert_eq!(compare("1", text), Err(expected.clone()));
        assert_eq!(compare(text, "1"), Err(expected));
    }
}

#[test]
fn a_version_gives_its_parts_and_keeps_its_text() {
    let version: Version = " 1:3.0.7-27.el9 ".parse().unwrap();
    assert_eq!(
        (version.epoch(), version.version(), version.release()),
        (1, "3.0.7", Some("27.el9"))
    );
    assert_eq!(serde_json::to_string(&version).unwrap(), "\"1:3.0.7-27.el9\"");
    assert!(serde_json::from_str::<Version>("\"1-\"").is_err());
    assert_eq!(Version::parse("4294967295:1").unwrap().epoch(), MAX_EPOCH);
}

laws!();

#[test]
fn thirty_thousand_generated_pairs_compare_as_rpm_compares_them() {
    // `rpm.vercmp` of rpm 4.16 and later is `rpmverCmp`: the whole of epoch, version and release.
    let script = "%{lua: for line in io.lines() do local a, b = line:match('(%S+) (%S+)'); \
                  print(rpm.vercmp(a, b) .. '\\n') end}";
    if ask("rpm", &["--eval", script], "1:1 2\n".into()).is_none_or(|said| said.trim() != "1") {
        println!("skipped: rpm 4.16 or later is not installed here");
        return;
    }
    let pairs = pairs((&STARTS, &PIECES), 30_000, 1, |_| true);
    let said = ask("rpm", &["--eval", script], lines(&pairs)).unwrap();
    check_said(&pairs, said.trim_end(), compare_lenient);
}

#[test]
fn what_rpm_builds_and_refuses_is_what_is_accepted_and_refused_here() {
    let script = "f=$(mktemp -d) && trap 'rm -r $f' EXIT && while read -r e v r; do \
                  { echo 'Name: x'; [ $e = none ] || echo \"Epoch: $e\"; echo \"Version: $v\"; echo \"Release: $r\"; \
                  printf 'Summary: x\\nLicense: x\\n%%description\\nx\\n'; } >$f/x.spec; \
                  rpmspec --query $f/x.spec >/dev/null 2>&1 && echo ok || echo bad; done";
    if ask("rpmspec", &["--version"], String::new()).is_none() {
        println!("skipped: rpmspec is not installed here");
        return;
    }
    let odd = [
        "1..0", "1~", "~1", "^1", "1^", "a", "_1", ".1", "1.", "1+b", "1é", "1/2", "1,2", "1=2",
        "1:2", "é", "1-2", "1@2", "1#2", "(1)", "1!", "+", "1~~2",
    ];
    let mut rows: Vec<(String, String, String)> = Vec::new();
    for text in odd {
        rows.push(("none".into(), text.into(), "1".into()));
        rows.push(("0".into(), "1".into(), text.into()));
    }
    for epoch in ["0", "1", "4294967295", "4294967296", "a", "-1", "1a"] {
        rows.push((epoch.into(), "1".into(), "1".into()));
    }
    for (a, b) in pairs((&["1", "a"], &PIECES), 60, 5, |_| true) {
        rows.push(("none".into(), a, b));
    }
    let said =
        ask("sh", &["-c", script], rows.iter().map(|(e, v, r)| format!("{e} {v} {r}\n")).collect());
    let said = said.unwrap();
    assert_eq!(said.lines().count(), rows.len());
    for ((epoch, version, release), said) in rows.iter().zip(said.lines()) {
        let text = match epoch.as_str() {
            "none" => format!("{version}-{release}"),
            epoch => format!("{epoch}:{version}-{release}"),
        };
        // A hyphen or colon inside a part moves the parts of the text: not the same question.
        if version.contains(['-', ':']) || release.contains(':') {
            continue;
        }
        assert_eq!(Version::parse(&text).is_ok(), said == "ok", "{text:?}: rpm says {said}");
    }
    assert!(said.lines().any(|l| l == "bad") && said.lines().any(|l| l == "ok"));
}
