use super::*;
use crate::version::oracle::{ask, check_said, check_table, laws, lines, pairs};

const STARTS: [&str; 5] = ["1.0.0", "1.0.0-", "1.2.3", "0.10.0-a", "1.10.0"];
const PIECES: [&str; 16] =
    ["-", ".", ".", "0", "1", "9", "10", "a", "b", "Z", "rc", "alpha", "+x", "-1", ".1", "-rc.1"];

/// Pairs from the standard's section 11 and from what is met.
const PAIRS: [(&str, &str, &str); 24] = [
    ("1.0.0", "<", "2.0.0"),
    ("2.0.0", "<", "2.1.0"),
    ("2.1.0", "<", "2.1.1"),
    ("1.9.0", "<", "1.10.0"),
    ("1.0.0-alpha", "<", "1.0.0"),
    ("1.0.0-alpha", "<", "1.0.0-alpha.1"),
    ("1.0.0-alpha.1", "<", "1.0.0-alpha.beta"),
    ("1.0.0-alpha.beta", "<", "1.0.0-beta"),
    ("1.0.0-beta", "<", "1.0.0-beta.2"),
    ("1.0.0-beta.2", "<", "1.0.0-beta.11"),
    ("1.0.0-beta.11", "<", "1.0.0-rc.1"),
    ("1.0.0-Z", "<", "1.0.0-a"),
    ("1.0.0-r2", ">", "1.0.0-r100"),
    ("1.0.0-99999999999999999998", "<", "1.0.0-99999999999999999999"),
    ("1.0.0+a", "=", "1.0.0+b"),
    ("1.0.0-a+a", "=", "1.0.0-a"),
    ("1.0.0--", "<", "1.0.0-a"),
    ("v1.0.0", "=", "1.0.0"),
    ("1", "=", "1.0.0"),
    ("1.2", "<", "1.2.1"),
    ("1.0.0.1", ">", "1.0.0"),
    ("1.x", ">", "1.9"),
    ("01.0.0", "=", "1.0.0"),
    ("", "=", "0.0.0"),
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
        ("1.0", BadVersion::NotThreeNumbers(s("1.0"))),
        ("1.0.0.0", BadVersion::NotThreeNumbers(s("1.0.0.0"))),
        ("v1.0.0", BadVersion::NotThreeNumbers(s("v1.0.0"))),
        ("1..0", BadVersion::NotThreeNumbers(s("1..0"))),
        ("01.0.0", BadVersion::LeadingZero(s("01.0.0"))),
        ("1.0.0-01", BadVersion::LeadingZero(s("1.0.0-01"))),
        ("1.0.0-", BadVersion::EmptyIdentifier(s("1.0.0-"))),
        ("1.0.0-a..b", BadVersion::EmptyIdentifier(s("1.0.0-a..b"))),
        ("1.0.0+", BadVersion::EmptyIdentifier(s("1.0.0+"))),
        ("1.0.0-a_b", BadVersion::Character { text: s("1.0.0-a_b"), found: '_' }),
        ("1.0.0+a+b", BadVersion::Character { text: s("1.0.0+a+b"), found: '+' }),
    ] {
        assert_eq!(Version::parse(text), Err(expected.clone()), "{text:?}");
        assert_eq!(compare("1.0.0", text), Err(expected.clone()));
        assert_eq!(compare(text, "1.0.0"), Err(expected));
    }
    for text in ["1.0.0+001", "1.0.0-0a", "1.0.0-0", "1.0.0---", "1.0.0-a-b.c+d-e.f"] {
        assert_eq!(Version::parse(text).unwrap().as_str(), text);
    }
}

laws!();

/// npm carries its own reference implementation along with node.
const NODE: &str = "const path = require('path');\
    const semver = require(path.join(path.dirname(require('fs').realpathSync(process.execPath)), \
    '../lib/node_modules/npm/node_modules/semver'));\
    const lines = require('fs').readFileSync(0, 'utf8').trim().split('\\n').map(l => l.split(' '));";

#[test]
fn twenty_thousand_generated_pairs_compare_as_npm_compares_them() {
    let script = format!("{NODE} for (const [a, b] of lines) console.log(semver.compare(a, b));");
    if ask("node", &["-e", &script], "1.0.0 2.0.0\n".into()).is_none_or(|s| s.trim() != "-1") {
        println!("skipped: node with npm's semver is not installed here");
        return;
    }
    let pairs = pairs((&STARTS, &PIECES), 20_000, 1, |v| Version::parse(v).is_ok());
    let said = ask("node", &["-e", &script], lines(&pairs)).unwrap();
    check_said(&pairs, said.trim_end(), compare_lenient);
}

#[test]
fn what_npm_accepts_and_refuses_is_what_is_accepted_and_refused_here() {
    // npm's parser also takes a `v` or `=` before a version: none of the texts has one.
    let script =
        format!("{NODE} for (const [a] of lines) console.log(semver.valid(a) ? 'ok' : 'bad');");
    let pairs = pairs((&STARTS, &PIECES), 5_000, 2, |_| true);
    let Some(said) = ask("node", &["-e", &script], lines(&pairs)) else {
        println!("skipped: node with npm's semver is not installed here");
        return;
    };
    assert_eq!(said.lines().count(), pairs.len());
    for ((a, _), said) in pairs.iter().zip(said.lines()) {
        assert_eq!(Version::parse(a).is_ok(), said == "ok", "{a:?}: npm says {said}");
    }
    assert!(said.lines().any(|l| l == "bad") && said.lines().any(|l| l == "ok"));
}
