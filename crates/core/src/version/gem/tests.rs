use super::*;
use crate::version::oracle::{ask, check_said, check_table, laws, lines, pairs};

const STARTS: [&str; 6] = ["1", "1.0", "1.2.3", "0.10", "1.0.a", "10"];
const PIECES: [&str; 16] = [
    ".0", ".1", ".9", ".10", ".a", ".b", ".Z", ".rc", "-", "-1", "a", "1", "0", ".0.0", ".pre",
    ".b2",
];

/// Pairs from RubyGems' own tests (`test/rubygems/test_gem_version.rb`) and from what is met.
const PAIRS: [(&str, &str, &str); 26] = [
    ("1.0", "=", "1.0.0"),
    ("1.0", ">", "1.0.a"),
    ("1.8.2", ">", "0.0.0"),
    ("1.8.2", ">", "1.8.2.a"),
    ("1.8.2.b", ">", "1.8.2.a"),
    ("1.8.2.a", "<", "1.8.2"),
    ("1.8.2.a10", ">", "1.8.2.a9"),
    ("", "=", "0"),
    ("0.beta.1", "=", "0.0.beta.1"),
    ("0.0.beta", "<", "0.0.beta.1"),
    ("0.0.beta", "<", "0.beta.1"),
    ("5.a", "<", "5.0.0.rc2"),
    ("5.x", ">", "5.0.0.rc2"),
    ("1.9.3", "=", "1.9.3"),
    ("1.9.3", ">", "1.9.2.99"),
    ("1.9.3", "<", "1.9.3.1"),
    ("1.0.0-alpha", "<", "1.0.0"),
    ("1.0.0-alpha", "=", "1.0.0.pre.alpha"),
    ("1.0.0-1", "=", "1.pre.1"),
    ("1.a", ">", "1.a.0.b"),
    ("1.a", "<", "1.a.0.1"),
    ("1.a.b", "<", "1.a.0.b"),
    ("1.A", "<", "1.a"),
    ("1.0.0.1", ">", "1.0.0"),
    ("01.2", "=", "1.2"),
    ("1.99999999999999999999", ">", "1.99999999999999999998"),
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
        ("junk", BadVersion::NoNumber(s("junk"))),
        ("v1.0", BadVersion::NoNumber(s("v1.0"))),
        ("1a", BadVersion::NoNumber(s("1a"))),
        ("-1", BadVersion::NoNumber(s("-1"))),
        ("1..2", BadVersion::EmptySegment(s("1..2"))),
        ("1.", BadVersion::EmptySegment(s("1."))),
        ("1.2-", BadVersion::EmptySegment(s("1.2-"))),
        ("1.0\n2.0", BadVersion::Character { text: s("1.0\n2.0"), found: '\n' }),
        ("1.0_1", BadVersion::Character { text: s("1.0_1"), found: '_' }),
    ] {
        assert_eq!(Version::parse(text), Err(expected.clone()), "{text:?}");
        assert_eq!(compare("1", text), Err(expected.clone()));
        assert_eq!(compare(text, "1"), Err(expected));
    }
    for text in ["1", "1.2.3", "1.0.a", "1.2.3-a.b-c", "1.0.0--", "001"] {
        assert_eq!(Version::parse(text).unwrap().as_str(), text);
    }
}

laws!();

const RUBY: &str =
    "STDIN.each_line { |l| a, b = l.split; puts Gem::Version.new(a) <=> Gem::Version.new(b) }";

#[test]
fn twenty_thousand_generated_pairs_compare_as_rubygems_compares_them() {
    if ask("ruby", &["-e", RUBY], "1 2\n".into()).is_none_or(|s| s.trim() != "-1") {
        println!("skipped: ruby is not installed here");
        return;
    }
    let pairs = pairs((&STARTS, &PIECES), 20_000, 1, |v| Version::parse(v).is_ok());
    let said = ask("ruby", &["-e", RUBY], lines(&pairs)).unwrap();
    check_said(&pairs, said.trim_end(), compare_lenient);
}

#[test]
fn what_rubygems_accepts_and_refuses_is_what_is_accepted_and_refused_here() {
    let script = "STDIN.each_line { |l| puts Gem::Version.correct?(l.split[0]) ? 'ok' : 'bad' }";
    let pairs = pairs((&STARTS, &PIECES), 5_000, 2, |_| true);
    let Some(said) = ask("ruby", &["-e", script], lines(&pairs)) else {
        println!("skipped: ruby is not installed here");
        return;
    };
    assert_eq!(said.lines().count(), pairs.len());
    for ((a, _), said) in pairs.iter().zip(said.lines()) {
        assert_eq!(Version::parse(a).is_ok(), said == "ok", "{a:?}: rubygems says {said}");
    }
    assert!(said.lines().any(|l| l == "bad") && said.lines().any(|l| l == "ok"));
}
