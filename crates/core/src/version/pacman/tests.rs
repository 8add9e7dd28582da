use super::*;
use crate::version::oracle::{ask, check_said, check_table, laws, lines, pairs};

const STARTS: [&str; 7] = ["1", "1", "2.0", "0:1.0", "1:1", "10", "a"];
const PIECES: [&str; 20] = [
    "0", "1", "9", "10", "00", "01", ".", ".", "_", "+", "~", "..", "a", "b", "Z", "rc", "-1",
    "-2", "-1.1", "alpha",
];

/// Pairs from `vercmp(8)` and the pitfalls of real packages.
const PAIRS: [(&str, &str, &str); 40] = [
    ("1.0-1", "=", "0:1.0-1"),
    ("1.0-1", "=", "1_0-1"),
    ("1.0-1", "=", ":1.0-1"),
    ("1.0-1", "=", "1.00-01"),
    ("1.0-1", "<", "1.0-2"),
    ("1.0-1", "<", "1.0-1.1"),
    ("1.0-9", "<", "1.0-10"),
    ("1.0-1", ">", "1.0"),
    ("1:1.0-1", ">", "2.0-1"),
    ("9:1-1", "<", "10:1-1"),
    ("1.0a", "<", "1.0b"),
    ("1.0b", "<", "1.0beta"),
    ("1.0beta", "<", "1.0p"),
    ("1.0p", "<", "1.0pre"),
    ("1.0pre", "<", "1.0rc"),
    ("1.0rc", "<", "1.0"),
    ("1.0", "<", "1.0.a"),
    ("1.0.a", "<", "1.0.1"),
    ("1", "<", "1.0"),
    ("1.0", "<", "1.1"),
    ("1.1", "<", "1.1.1"),
    ("1.1.1", "<", "1.2"),
    ("1.2", "<", "2.0"),
    ("1.9", "<", "1.10"),
    ("1.0rc1", "<", "1.0"),
    ("1.0~rc1", ">", "1.0"),
    ("1.0_rc1", ">", "1.0"),
    ("1.0rc.1", "<", "1.0"),
    ("1.0rc1", "<", "1.0rc.1"),
    ("2.0a", "<", "2.0.a"),
    ("2___a", ">", "2_a"),
    ("2___a", ">", "2.9"),
    ("1.0.", ">", "1.0"),
    ("1.0.", "=", "1.0.."),
    ("1.0.", ">", "1.0.a"),
    ("1.0.", "<", "1.0.0"),
    ("1.5.b", ">", "1.5"),
    ("r100.abc-1", "<", "r101.aaa-1"),
    ("6.6.1.arch1-1", "<", "6.6.1.arch1-2"),
    ("6.6.arch1-1", "<", "6.6.1.arch1-1"),
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
        (":1-1", BadVersion::EpochNotNumber(s(":1-1"))),
        ("a:1-1", BadVersion::EpochNotNumber(s("a:1-1"))),
        ("1-1:1", BadVersion::EpochNotNumber(s("1-1:1"))),
        ("1.0", BadVersion::NoPkgrel(s("1.0"))),
        ("-1", BadVersion::EmptyPkgver(s("-1"))),
        ("1:-1", BadVersion::EmptyPkgver(s("1:-1"))),
        ("1-", BadVersion::BadPkgrel(s("1-"))),
        ("1-a", BadVersion::BadPkgrel(s("1-a"))),
        ("1-1.", BadVersion::BadPkgrel(s("1-1."))),
        ("1-1.1.1", BadVersion::BadPkgrel(s("1-1.1.1"))),
        ("1-1-1", BadVersion::Character { text: s("1-1-1"), found: '-' }),
        ("1:1:1-1", BadVersion::Character { text: s("1:1:1-1"), found: ':' }),
        ("1/1-1", BadVersion::Character { text: s("1/1-1"), found: '/' }),
        ("1\u{b}1-1", BadVersion::Character { text: s("1\u{b}1-1"), found: '\u{b}' }),
        ("1é-1", BadVersion::Character { text: s("1é-1"), found: 'é' }),
    ] {
        assert_eq!(Version::parse(text), Err(expected.clone()), "{text:?}");
        assert_eq!(compare("1-1", text), Err(expected.clone()));
        assert_eq!(compare(text, "1-1"), Err(expected));
    }
    assert_eq!(" 1:1.0~^+_x-1.2 ".parse::<Version>().unwrap().as_str(), "1:1.0~^+_x-1.2");
}

laws!();

/// Where `vercmp` is an order: both or none with a pkgrel, no separator at the end of a part.
fn orderly(a: &str, b: &str) -> bool {
    let ends = |text: &str| {
        let parts = Parts::lenient(text);
        let bad = |part: &str| part.ends_with(|c: char| !c.is_ascii_alphanumeric());
        bad(parts.pkgver) || parts.pkgrel.is_some_and(bad)
    };
    a.contains('-') == b.contains('-') && !ends(a) && !ends(b)
}

#[test]
fn thirty_thousand_generated_pairs_compare_as_libalpm_compares_them() {
    let script = "import ctypes, ctypes.util, sys\n\
                  compare = ctypes.CDLL(ctypes.util.find_library('alpm')).alpm_pkg_vercmp\n\
                  for line in sys.stdin.buffer:\n a, b = line.split(); print(compare(a, b))\n";
    if ask("python3", &["-c", script], "1 2\n".into()).is_none_or(|said| said.trim() != "-1") {
        println!("skipped: libalpm (or python3 to call it) is not installed here");
        return;
    }
    let mut pairs = pairs((&STARTS, &PIECES), 200_000, 1, |_| true);
    pairs.retain(|(a, b)| orderly(a, b));
    pairs.truncate(30_000);
    assert_eq!(pairs.len(), 30_000);
    let said = ask("python3", &["-c", script], lines(&pairs)).unwrap();
    check_said(&pairs, said.trim_end(), compare_lenient);
}

#[test]
fn where_vercmp_goes_in_circles_this_order_does_not() {
    // Each below the next to vercmp, and the last below the first; here all but the last is so.
    let circle = ["1.a", "1.", "1.1", "1..a"];
    for pair in circle.windows(2) {
        assert_eq!(compare_lenient(pair[0], pair[1]), Ordering::Less, "{pair:?}");
    }
    assert_eq!(compare_lenient("1.", "1..a"), Ordering::Less);
}
