use super::*;
use crate::version::oracle::{ask, check_table, laws, pairs, sign};

const STARTS: [&str; 6] = ["1", "1", "1.0", "2.10", "10", "0"];
const PIECES: [&str; 24] = [
    ".0", ".1", ".01", ".010", ".02", ".9", ".10", "a", "b", "z", "_alpha", "_beta1", "_pre",
    "_rc2", "_cvs", "_svn1", "_git", "_hg", "_p1", "~0af", "~f", "-r0", "-r1", "-r10",
];

/// Pairs from Gentoo's and Alpine's rules and the pitfalls of real packages.
const PAIRS: [(&str, &str, &str); 49] = [
    ("1.0", "=", "1.0"),
    ("01.0", "=", "1.0"),
    ("1.0", "<", "1.1"),
    ("1.9", "<", "1.10"),
    ("1.0", "<", "1.0.0"),
    ("1", "<", "1.0"),
    ("1.01", "<", "1.1"),
    ("1.1", ">", "1.02"),
    ("1.010", "<", "1.02"),
    ("1.0", "<", "1.00"),
    ("1.0a", ">", "1.0"),
    ("1.0a", "<", "1.0b"),
    ("1.0a", "<", "1.0.1"),
    ("1.0a", ">", "1.0_p1"),
    ("1.0_alpha", "<", "1.0_beta"),
    ("1.0_beta", "<", "1.0_pre"),
    ("1.0_pre", "<", "1.0_rc"),
    ("1.0_rc", "<", "1.0"),
    ("1.0", "<", "1.0_cvs"),
    ("1.0_cvs", "<", "1.0_svn"),
    ("1.0_svn", "<", "1.0_git"),
    ("1.0_git", "<", "1.0_hg"),
    ("1.0_hg", "<", "1.0_p"),
    ("1.0_rc1", "<", "1.0_rc2"),
    ("1.0_rc9", "<", "1.0_rc10"),
    ("1.0_rc", "<", "1.0_rc0"),
    ("1.0_rc01", "=", "1.0_rc1"),
    ("1.0_p1", "<", "1.0_p2"),
    ("1.0_p1", "<", "1.0_p1_git2"),
    ("1.0_p1", ">", "1.0_p1_alpha"),
    ("1.0_git20240101", "<", "1.0_git20240202"),
    ("1.0", "<", "1.0-r0"),
    ("1.0-r0", "<", "1.0-r1"),
    ("1.0-r9", "<", "1.0-r10"),
    ("1.0-r01", "=", "1.0-r1"),
    ("1.0_rc1-r5", "<", "1.0-r0"),
    ("1.0~a", ">", "1.0"),
    ("1.0~a", "<", "1.0~b"),
    ("1.0~a", "<", "1.0~aa"),
    ("1.0~a", ">", "1.0-r1"),
    ("1.0~a-r1", "<", "1.0~a-r2"),
    ("1.0_git~a", ">", "1.0_git"),
    ("1.2.3-r0", "<", "1.2.3_p1-r0"),
    ("6.6.2_p1", "<", "6.6.2_p2"),
    ("1.36.1-r15", "<", "1.36.1-r29"),
    ("", "<", "0"),
    ("1.0bc", "<", "1.0c"),
    ("1.0x!", "=", "1.0x?"),
    ("1.0!", "<", "1.0"),
];

#[test]
fn well_known_pairs_have_their_order_both_ways_and_as_keys() {
    check_table(&PAIRS, compare_lenient, key_lenient);
}

#[test]
fn every_rule_of_a_well_formed_version_is_enforced_by_its_own_error() {
    let s = |text: &str| text.to_owned();
    let bad = |text: &str, rest: &str| BadVersion::Malformed { text: s(text), rest: s(rest) };
    for (text, expected) in [
        (" ", BadVersion::Empty),
        ("a", BadVersion::NoDigitFirst(s("a"))),
        (".1", BadVersion::NoDigitFirst(s(".1"))),
        ("1.", bad("1.", ".")),
        ("1..0", bad("1..0", "..0")),
        ("1ab", bad("1ab", "b")),
        ("1a.0", bad("1a.0", ".0")),
        ("1a1", bad("1a1", "1")),
        ("1A", bad("1A", "A")),
        ("1_", bad("1_", "_")),
        ("1_foo", bad("1_foo", "_foo")),
        ("1_rcx", bad("1_rcx", "_rcx")),
        ("1_rc1a", bad("1_rc1a", "a")),
        ("1~", bad("1~", "~")),
        ("1~g", bad("1~g", "~g")),
        ("1~A", bad("1~A", "~A")),
        ("1~a~b", bad("1~a~b", "~b")),
        ("1~a_rc", bad("1~a_rc", "_rc")),
        ("1-1", bad("1-1", "-1")),
        ("1-r", bad("1-r", "-r")),
        ("1-r1-r2", bad("1-r1-r2", "-r2")),
        ("1-r1_p", bad("1-r1_p", "_p")),
        ("1-r1a", bad("1-r1a", "a")),
        ("1 2", bad("1 2", " 2")),
    ] {
        assert_eq!(Version::parse(text), Err(expected.clone()), "{text:?}");
        assert_eq!(compare("1", text), Err(expected.clone()));
        assert_eq!(compare(text, "1"), Err(expected));
    }
    assert_eq!(" 1.2a_rc3_p~0af-r4 ".parse::<Version>().unwrap().as_str(), "1.2a_rc3_p~0af-r4");
}

laws!();

#[test]
fn ten_thousand_generated_pairs_compare_as_apk_compares_them() {
    if ask("apk", &["--version"], String::new()).is_none_or(|v| !v.starts_with("apk-tools 3")) {
        println!("skipped: apk-tools 3 is not installed here");
        return;
    }
    // Ill-formed ones too: apk compares them as far as they can be read.
    let mut pairs = pairs((&STARTS, &PIECES), 5_000, 1, |v| Version::parse(v).is_ok());
    pairs.extend(crate::version::oracle::pairs((&STARTS, &PIECES), 5_000, 2, |_| true));
    let script = "while read -r a b; do apk version -t \"$a\" \"$b\"; done";
    let said = ask("sh", &["-c", script], crate::version::oracle::lines(&pairs)).unwrap();
    assert_eq!(said.lines().count(), pairs.len());
    for ((a, b), said) in pairs.iter().zip(said.lines()) {
        assert_eq!(sign(compare_lenient(a, b)), said, "{a} {b}");
    }
    let script = "while read -r a b; do apk version --quiet --check \"$a\" >/dev/null && echo ok || echo bad; done";
    let said = ask("sh", &["-c", script], crate::version::oracle::lines(&pairs)).unwrap();
    for ((a, _), said) in pairs.iter().zip(said.lines()) {
        assert_eq!(Version::parse(a).is_ok(), said == "ok", "{a}: apk says {said}");
    }
}
