use super::*;
use crate::version::oracle::{ask, check_said, check_table, laws, lines, pairs};

const STARTS: [&str; 7] = ["1", "1.0", "1.0", "1!1", "v1.1", "2024.1", "0"];
const PIECES: [&str; 26] = [
    ".0", ".1", ".10", "a", "b1", "rc", ".a2", "-alpha", "_beta.3", "c1", "preview", "pre2",
    ".post1", "-1", "post", "rev2", "-r3", ".dev0", "dev", ".dev1", "+abc", "+1", "+abc.1",
    "+ABC-01", "-", ".",
];

/// Pairs from the specification and from what is met.
const PAIRS: [(&str, &str, &str); 36] = [
    ("1.dev0", "<", "1.0.dev456"),
    ("1.0.dev456", "<", "1.0a1"),
    ("1.0a1", "<", "1.0a2.dev456"),
    ("1.0a2.dev456", "<", "1.0a12.dev456"),
    ("1.0a12.dev456", "<", "1.0a12"),
    ("1.0a12", "<", "1.0b1.dev456"),
    ("1.0b1.dev456", "<", "1.0b2"),
    ("1.0b2", "<", "1.0b2.post345.dev456"),
    ("1.0b2.post345.dev456", "<", "1.0b2.post345"),
    ("1.0b2.post345", "<", "1.0rc1.dev456"),
    ("1.0rc1.dev456", "<", "1.0rc1"),
    ("1.0rc1", "<", "1.0"),
    ("1.0", "<", "1.0+abc.5"),
    ("1.0+abc.5", "<", "1.0+abc.7"),
    ("1.0+abc.7", "<", "1.0+5"),
    ("1.0+5", "<", "1.0.post456.dev34"),
    ("1.0.post456.dev34", "<", "1.0.post456"),
    ("1.0.post456", "<", "1.0.15"),
    ("1.0.15", "<", "1.1.dev1"),
    ("2024.1", "<", "1!0.1"),
    ("1.9", "<", "1.10"),
    ("1", "=", "1.0.0"),
    ("1.0", "=", "v1.0"),
    ("1.0a1", "=", "1.0-ALPHA.1"),
    ("1.0a", "=", "1.0a0"),
    ("1.0rc1", "=", "1.0c1"),
    ("1.0rc1", "=", "1.0_preview-1"),
    ("1.0.post1", "=", "1.0-1"),
    ("1.0.post1", "=", "1.0.rev1"),
    ("1.0.post", "=", "1.0-r0"),
    ("1.0.dev", "=", "1.0-DEV_0"),
    ("1.0+a.1", "=", "1.0+A-01"),
    ("1.0+a", "<", "1.0+a.1"),
    ("0", "=", "0.0"),
    ("1.0-final", "<", "0.dev0"),
    ("", "<", "nonsense"),
];

#[test]
fn well_known_pairs_have_their_order_both_ways_and_as_keys() {
    check_table(&PAIRS, compare_lenient, key_lenient);
}

#[test]
fn every_rule_of_a_well_formed_version_is_enforced_by_its_own_error() {
    let s = |text: &str| text.to_owned();
    let trailing = |text: &str, rest: &str| BadVersion::Trailing { text: s(text), rest: s(rest) };
    for (text, expected) in [
        (" ", BadVersion::Empty),
        ("v", BadVersion::NoRelease(s("v"))),
        ("abc", BadVersion::NoRelease(s("abc"))),
        ("1!", BadVersion::NoRelease(s("1!"))),
        ("1.0+", BadVersion::BadLocal(s("1.0+"))),
        ("1.0+a..b", BadVersion::BadLocal(s("1.0+a..b"))),
        ("1.0+a+b", BadVersion::BadLocal(s("1.0+a+b"))),
        ("1.0+é", BadVersion::BadLocal(s("1.0+é"))),
        ("1.0-final", trailing("1.0-final", "-final")),
        ("1.0.", trailing("1.0.", ".")),
        ("1.0a1a2", trailing("1.0a1a2", "a2")),
        ("1.0.dev1.post1", trailing("1.0.dev1.post1", ".post1")),
    ] {
        assert_eq!(Version::parse(text), Err(expected.clone()), "{text:?}");
        assert_eq!(compare("1", text), Err(expected.clone()));
        assert_eq!(compare(text, "1"), Err(expected));
    }
    assert_eq!(
        " 1!2.0RC1.post2.dev3+x ".parse::<Version>().unwrap().as_str(),
        "1!2.0RC1.post2.dev3+x"
    );
}

laws!();

/// Python's packaging library, or the copy of it that pip carries along.
const PYTHON: &str = "import sys\n\
    try:\n from packaging.version import Version, InvalidVersion\n\
    except ImportError:\n from pip._vendor.packaging.version import Version, InvalidVersion\n\
    lines = [line.split() for line in sys.stdin]\n";

#[test]
fn twenty_thousand_generated_pairs_compare_as_pythons_packaging_compares_them() {
    let script = format!(
        "{PYTHON}for a, b in lines:\n a, b = Version(a), Version(b); print((a > b) - (a < b))\n"
    );
    if ask("python3", &["-c", &script], "1 2\n".into()).is_none_or(|said| said.trim() != "-1") {
        println!("skipped: python3 with packaging or pip is not installed here");
        return;
    }
    let pairs = pairs((&STARTS, &PIECES), 20_000, 1, |v| Version::parse(v).is_ok());
    let said = ask("python3", &["-c", &script], lines(&pairs)).unwrap();
    check_said(&pairs, said.trim_end(), compare_lenient);
}

#[test]
fn what_pythons_packaging_accepts_and_refuses_is_what_is_accepted_and_refused_here() {
    let script = format!(
        "{PYTHON}for a, b in lines:\n try:\n  Version(a); print('ok')\n except InvalidVersion:\n  print('bad')\n"
    );
    let pairs = pairs((&STARTS, &PIECES), 10_000, 2, |_| true);
    let Some(said) = ask("python3", &["-c", &script], lines(&pairs)) else {
        println!("skipped: python3 with packaging or pip is not installed here");
        return;
    };
    assert_eq!(said.lines().count(), pairs.len());
    for ((a, _), said) in pairs.iter().zip(said.lines()) {
        assert_eq!(Version::parse(a).is_ok(), said == "ok", "{a:?}: packaging says {said}");
    }
    assert!(said.lines().any(|l| l == "bad") && said.lines().any(|l| l == "ok"));
}
