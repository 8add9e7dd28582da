use super::*;
use crate::version::oracle::{Dice, ask, check_table};
use proptest::prelude::*;
use std::hash::{Hash as _, Hasher as _};

/// Pairs from `deb-version(7)`, Debian's policy manual section 5.6.12 and the pitfalls of real archives.
const PAIRS: [(&str, &str, &str); 50] = [
    ("1.0", "=", "1.0"),
    ("1.0", "=", "0:1.0"),
    ("1.0", "=", "1.0-0"),
    ("1.0", "=", "1.0-00"),
    ("1.0", "=", "1.00"),
    ("01", "=", "1"),
    ("1.", "=", "1.0"),
    ("1.a", "=", "1.a0"),
    ("1.0", "<", "1.1"),
    ("1.9", "<", "1.10"),
    ("9", "<", "10"),
    ("1.0-1", "<", "1.0-2"),
    ("1.0-9", "<", "1.0-10"),
    ("1.0", "<", "1.0-1"),
    ("9.0", "<", "1:0.1"),
    ("1:9", "<", "2:0"),
    ("9:1", "<", "10:1"),
    // dpkg takes a sign before the epoch.
    ("+1:1", "=", "1:1"),
    ("+9:1", "<", "10:1"),
    ("-0:1", "=", "1"),
    ("1.0~rc1", "<", "1.0"),
    ("1.0~", "<", "1.0"),
    ("1.0~~", "<", "1.0~"),
    ("1.0~~a", "<", "1.0~"),
    ("1.0~", "<", "1.0~a"),
    ("1.0", "<", "1.0a"),
    ("1.0a", "<", "1.0+"),
    ("1.0a", "<", "1.0."),
    ("1.0Z", "<", "1.0a"),
    ("1.0+", ">", "1.0-"),
    ("1.0-", "=", "1.0"),
    ("1.0+1-1", "<", "1.0-1-1"),
    ("1.0.", "<", "1.0:"),
    ("3.0.15-1~deb12u1", "<", "3.0.15-1"),
    ("3.0.15-1", "<", "3.0.15-1+deb12u1"),
    ("3.0.15-1+b1", ">", "3.0.15-1"),
    ("3.0.15-1+b1", "<", "3.0.15-1+deb12u1"),
    ("1.22.1-9+deb12u1", "<", "1.22.1-9+deb12u10"),
    ("1.22.1-9+deb12u9", "<", "1.22.1-9+deb12u10"),
    ("2.06-13+deb12u1", ">", "2.06-13"),
    ("5.2.3+really5.2.2-1", ">", "5.2.3-1"),
    ("1.2+dfsg-1", ">", "1.2-1"),
    ("6.1.123-1", ">", "6.1.99-1"),
    ("6.12.9-1~bpo12+1", "<", "6.12.9-1"),
    ("1.0-1-1", ">", "1.0-1"),
    ("0", "<", "0.1"),
    ("0", "=", "0-0"),
    ("0~", "<", "0"),
    ("1.000000000000000000000000000002", ">", "1.1"),
    ("1.99999999999999999999", "<", "1.100000000000000000000"),
];

#[test]
fn well_known_pairs_have_their_order_both_ways_and_as_keys() {
    check_table(&PAIRS, compare_lenient, key_lenient);
}

#[test]
fn every_rule_of_a_well_formed_version_is_enforced_by_its_own_error() {
    let s = |text: &str| text.to_owned();
    for (text, expected) in [
        ("", BadVersion::Empty),
        ("  \t", BadVersion::Empty),
        ("1 0", BadVersion::Space(s("1 0"))),
        (":1", BadVersion::EmptyEpoch(s(":1"))),
        ("a:1", BadVersion::EpochNotNumber(s("a:1"))),
        ("-1:1", BadVersion::EpochNotNumber(s("-1:1"))),
        ("++1:1", BadVersion::EpochNotNumber(s("++1:1"))),
        ("-:1", BadVersion::EpochNotNumber(s("-:1"))),
        ("2147483648:1", BadVersion::EpochTooBig(s("2147483648:1"))),
        ("99999999999999999999:1", BadVersion::EpochTooBig(s("99999999999999999999:1"))),
        ("1:", BadVersion::NothingAfterEpoch(s("1:"))),
        ("-1", BadVersion::EmptyUpstream(s("-1"))),
        ("1:-1", BadVersion::EmptyUpstream(s("1:-1"))),
        ("1.0-", BadVersion::EmptyRevision(s("1.0-"))),
        ("a1", BadVersion::NoDigitFirst(s("a1"))),
        ("1.0_1", BadVersion::UpstreamCharacter { text: s("1.0_1"), found: '_' }),
        ("1.0é", BadVersion::UpstreamCharacter { text: s("1.0é"), found: 'é' }),
        ("1\u{0}0", BadVersion::UpstreamCharacter { text: s("1\u{0}0"), found: '\u{0}' }),
        ("1.0-1:2", BadVersion::EpochNotNumber(s("1.0-1:2"))),
        ("0:1.0-1:2", BadVersion::RevisionCharacter { text: s("0:1.0-1:2"), found: ':' }),
        ("1.0-1_2", BadVersion::RevisionCharacter { text: s("1.0-1_2"), found: '_' }),
    ] {
        assert_eq!(Version::parse(text), Err(expected.clone()), "{text:?}");
        assert_eq!(compare("1", text), Err(expected.clone()));
        assert_eq!(compare(text, "1"), Err(expected));
    }
}

#[test]
fn a_version_gives_its_parts_and_keeps_its_text() {
    let version: Version = " 1:3.0.15-rc-1~deb12u1 ".parse().unwrap();
    assert_eq!(
        (version.epoch(), version.upstream(), version.revision()),
        (1, "3.0.15-rc", "1~deb12u1")
    );
    assert_eq!(version.to_string(), "1:3.0.15-rc-1~deb12u1");
    let json = serde_json::to_string(&version).unwrap();
    assert_eq!(json, "\"1:3.0.15-rc-1~deb12u1\"");
    assert_eq!(serde_json::from_str::<Version>(&json).unwrap().as_str(), version.as_str());
    assert!(serde_json::from_str::<Version>("\"1-\"").is_err());
    assert_eq!(Version::parse("2147483647:1").unwrap().epoch(), MAX_EPOCH);
}

#[test]
fn equal_versions_hash_alike_whatever_their_spelling() {
    use std::collections::hash_map::DefaultHasher;
    let hash = |text: &str| {
        let mut hasher = DefaultHasher::new();
        Version::parse(text).unwrap().hash(&mut hasher);
        hasher.finish()
    };
    assert_eq!(hash("1.0"), hash("0:1.00-0"));
    assert_ne!(hash("1.0"), hash("1.0-1"));
}

/// Versions as they come: few characters, so that pairs often share a beginning.
fn version() -> impl Strategy<Value = String> {
    let part = "[0-9]{1,2}([.+~]?[a-c0-2]{1,3}|[.+~-]){0,4}";
    (prop::option::of(0..3u32), part, prop::option::of("[0-2a-b+.~]{1,5}")).prop_map(
        |(epoch, upstream, revision)| {
            let epoch = epoch.map(|e| format!("{e}:")).unwrap_or_default();
            let revision = revision.map(|r| format!("-{r}")).unwrap_or_default();
            format!("{epoch}{upstream}{revision}")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn keys_of_any_two_texts_order_as_the_texts_do(a in ".{0,12}", b in ".{0,12}", c in version(), d in version()) {
        for (a, b) in [(&a, &b), (&c, &d), (&a, &c)] {
            prop_assert_eq!(key_lenient(a).cmp(&key_lenient(b)), compare_lenient(a, b), "{:?} {:?}", a, b);
        }
    }

    #[test]
    fn the_order_is_total(a in version(), b in version(), c in version()) {
        let (ab, bc, ac) = (compare_lenient(&a, &b), compare_lenient(&b, &c), compare_lenient(&a, &c));
        prop_assert_eq!(ab, compare_lenient(&b, &a).reverse());
        if ab == bc {
            prop_assert_eq!(ac, ab);
        }
    }

    #[test]
    fn strict_and_lenient_agree_wherever_strict_accepts(a in ".{0,10}", b in version()) {
        if let Ok(ordering) = compare(&a, &b) {
            prop_assert_eq!(ordering, compare_lenient(&a, &b));
        }
    }
}

/// Versions by a fixed generator, from pieces that meet in archives.
fn generated(count: usize, seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut pick = move |n: usize| dice.below(n);
    let pieces = [
        "0", "1", "2", "9", "10", "00", "~", "+", ".", "-", "a", "b", "Z", "rc", "~~", "deb12u",
        "dfsg", "+b1",
    ];
    let version = |_| {
        let epoch = ["", "", "", "0:", "1:", "2:"][pick(6)];
        let body: String = (0..1 + pick(6)).map(|_| pieces[pick(pieces.len())]).collect();
        format!("{epoch}{}{body}", ["0", "1", "1", "12"][pick(4)])
    };
    (0..count).map(version).collect()
}

/// Well-formed neighbours.
fn generated_pairs(count: usize, seed: u64) -> Vec<(String, String)> {
    let good: Vec<String> = generated(3 * count, seed)
        .into_iter()
        .filter(|v| Version::parse(v).is_ok())
        .take(2 * count)
        .collect();
    assert!(good.len() == 2 * count, "the generator makes too few well-formed versions");
    good.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

#[test]
fn thousands_of_generated_pairs_compare_as_dpkg_compares_them() {
    if ask("dpkg", &["--version"], String::new()).is_none() {
        println!("skipped: dpkg is not installed here");
        return;
    }
    // One dpkg a pair, asked whether it agrees: it says nothing and exits with 0, or the pair is printed.
    let script = "while read -r a op b; do dpkg --compare-versions \"$a\" \"$op\" \"$b\" || echo \"$a $op $b\"; done";
    let halves = [1, 2].map(|seed| {
        std::thread::spawn(move || {
            let pairs = generated_pairs(1250, seed);
            let word = |o: Ordering| match o {
                Ordering::Less => "lt",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt",
            };
            let lines = pairs
                .iter()
                .map(|(a, b)| format!("{a} {} {b}\n", word(compare(a, b).unwrap())))
                .collect();
            ask("sh", &["-c", script], lines).unwrap()
        })
    });
    for half in halves {
        assert_eq!(half.join().unwrap(), "", "dpkg does not agree");
    }
}

#[test]
fn what_dpkg_accepts_and_refuses_is_what_is_accepted_and_refused_here() {
    if ask("dpkg", &["--version"], String::new()).is_none() {
        println!("skipped: dpkg is not installed here");
        return;
    }
    let mut texts = generated(600, 7);
    let odd = [
        "1-",
        "-1",
        ":1",
        "1:",
        "a:1",
        "-1:1",
        "2147483647:1",
        "2147483648:1",
        "1_2",
        "1-1_2",
        "a1",
        "1:a",
        "1 2",
        "0:1-1:1",
        "1:1:1",
        "~1",
        "1é",
    ];
    texts.extend(odd.map(str::to_owned));
    let script = "while IFS= read -r v; do dpkg --validate-version \"$v\" 2>/dev/null && echo ok || echo bad; done";
    let said =
        ask("sh", &["-c", script], texts.iter().map(|t| format!("{t}\n")).collect()).unwrap();
    assert_eq!(said.lines().count(), texts.len());
    for (text, said) in texts.iter().zip(said.lines()) {
        assert_eq!(Version::parse(text).is_ok(), said == "ok", "{text:?}: dpkg says {said}");
    }
    assert!(said.lines().any(|l| l == "bad") && said.lines().any(|l| l == "ok"));
}

#[test]
fn twenty_thousand_generated_pairs_compare_as_debians_perl_module_compares_them() {
    if ask("perl", &["-MDpkg::Version", "-e", "1"], String::new()).is_none() {
        println!("skipped: perl's Dpkg::Version is not installed here");
        return;
    }
    let pairs = generated_pairs(20_000, 3);
    let script = "while (<STDIN>) { my ($a, $b) = split; print version_compare($a, $b), \"\\n\" }";
    let lines = pairs.iter().map(|(a, b)| format!("{a} {b}\n")).collect();
    let said = ask("perl", &["-MDpkg::Version", "-e", script], lines).unwrap();
    assert_eq!(said.lines().count(), pairs.len());
    for ((a, b), said) in pairs.iter().zip(said.lines()) {
        assert_eq!((compare(a, b).unwrap() as i32).to_string(), said, "{a} {b}");
    }
}
