use super::*;
use crate::version::oracle::{ask, check_said, check_table, laws, pairs};

const STARTS: [&str; 6] = ["1", "1.0", "1.2.3", "0.10", "1.0-alpha", "10.4"];
const PIECES: [&str; 16] = [
    ".0",
    ".1",
    ".9",
    ".10",
    "-1",
    "-2",
    "-alpha",
    "-beta2",
    "-rc1",
    "-SNAPSHOT",
    "-sp",
    "-Final",
    "-jre",
    "b1",
    "-x",
    "a",
];

/// In order, from Maven's own tests (`ComparableVersionTest`).
const QUALIFIERS: [&str; 22] = [
    "1-alpha2snapshot",
    "1-alpha2",
    "1-alpha-123",
    "1-beta-2",
    "1-beta123",
    "1-m2",
    "1-m11",
    "1-rc",
    "1-cr2",
    "1-rc123",
    "1-SNAPSHOT",
    "1",
    "1-sp",
    "1-sp2",
    "1-sp123",
    "1-abc",
    "1-def",
    "1-pom-1",
    "1-1-snapshot",
    "1-1",
    "1-2",
    "1-123",
];
const NUMBERS: [&str; 24] = [
    "2.0", "2.0.a", "2-1", "2.0.2", "2.0.123", "2.1.0", "2.1-a", "2.1b", "2.1-c", "2.1-1",
    "2.1.0.1", "2.2", "2.123", "11.a2", "11.a11", "11.b2", "11.b11", "11.m2", "11.m11", "11",
    "11.a", "11b", "11c", "11m",
];

/// Pairs from the specification, from Maven's tests, and from what is met.
const PAIRS: [(&str, &str, &str); 46] = [
    ("1", "=", "1.0"),
    ("1", "=", "1.0.0"),
    ("1", "=", "1-0"),
    ("1", "=", "1.0-0"),
    ("1", "=", "1."),
    ("1", "=", "1-"),
    ("1", "=", "1.ga"),
    ("1", "=", "1.FINAL"),
    ("1release", "=", "1"),
    ("1a", "=", "1.0.0-a"),
    ("1.0x", "=", "1-x"),
    ("1cr", "=", "1rc"),
    ("1a1", "=", "1-alpha-1"),
    ("1b2", "=", "1-beta-2"),
    ("1m3", "=", "1MileStone3"),
    ("1.0.0-foo.0.0", "=", "1-foo"),
    ("1.0.0-0.0.0", "=", "1"),
    ("1-1.foo-bar1baz-.1", "=", "1-1.foo-bar-1-baz-0.1"),
    ("1-sp", ">", "1-ga"),
    ("1-sp.1", ">", "1-ga.1"),
    ("1-sp-1", "<", "1-ga-1"),
    ("1-foo10", ">", "1-foo2"),
    ("1.foo", "=", "1-foo"),
    ("1-foo", "<", "1-1"),
    ("1-1", "<", "1.1"),
    ("1-a1", "=", "1-alpha-1"),
    ("1-0.alpha", "<", "1"),
    ("1-0.beta", "<", "1"),
    ("1-0.alpha", "<", "1-0.beta"),
    ("6.1.0rc3", "<", "6.1.0"),
    ("6.1.0", "<", "6.1H.5-beta"),
    ("6.1.0rc3", "<", "6.1H.5-beta"),
    ("20190126.230843", "<", "1234567890.12345"),
    ("123456789012345.1H.5-beta", "<", "12345678901234567890.1H.5-beta"),
    ("0000000000000000001", "=", "1"),
    ("0.7", "<", "2"),
    ("2.0.1-xyz", "<", "2.0.1-123"),
    ("1.0-alpha-1-SNAPSHOT", "<", "1.0-alpha-1"),
    ("2.9.10.8", ">", "2.9.10"),
    ("31.1-android", "<", "31.1-jre"),
    ("r09", "<", "10.0"),
    ("4.1.94.Final", "<", "4.1.100.Final"),
    ("9.4.48.v20220622", "<", "9.4.51.v20230217"),
    ("5.3.18.RELEASE", "=", "5.3.18"),
    ("2.0.0-M1", "<", "2.0.0-RC1"),
    ("\u{e9}", "<", "1"),
];

#[test]
fn well_known_pairs_have_their_order_both_ways_and_as_keys() {
    check_table(&PAIRS, compare_lenient, key_lenient);
}

#[test]
fn the_lists_of_mavens_own_tests_are_in_order() {
    for list in [&QUALIFIERS[..], &NUMBERS[..]] {
        for (at, low) in list.iter().enumerate() {
            for high in &list[at + 1..] {
                check_table(&[(low, "<", high)], compare_lenient, key_lenient);
            }
        }
    }
}

#[test]
fn what_maven_refuses_in_a_version_is_refused_by_its_own_error() {
    assert_eq!(Version::parse(" "), Err(BadVersion::Empty));
    for found in "\\/:\"<>|?*[](){}, ".chars() {
        let text = format!("1{found}0");
        let expected = BadVersion::Character { text: text.clone(), found };
        assert_eq!(Version::parse(&text), Err(expected.clone()));
        assert_eq!(compare("1", &text), Err(expected));
    }
    for text in ["1", "r09", "1.0-SNAPSHOT", "1.0_01+x~2", "\u{e9}"] {
        assert_eq!(Version::parse(text).unwrap().as_str(), text);
    }
}

laws!();

/// Where Debian's `maven` has its order.
const JARS: &str = "/usr/share/maven/lib/maven-artifact-3.x.jar:/usr/share/java/commons-lang3.jar";
const CLASS: &str = "org.apache.maven.artifact.versioning.ComparableVersion";

/// Maven's own program says how each of its arguments stands to the next.
fn maven_says(pairs: &[(String, String)]) -> Option<String> {
    let mut arguments = vec!["-cp", JARS, CLASS];
    arguments.extend(pairs.iter().flat_map(|(a, b)| [a.as_str(), b.as_str()]));
    let said = ask("java", &arguments, String::new())?;
    let relations = said.lines().filter_map(|line| {
        Some(match line.strip_prefix("   ")?.split(' ').nth(1)? {
            "<" => "-1",
            "==" => "0",
            _ => "1",
        })
    });
    // Every second one is between two pairs.
    Some(relations.step_by(2).collect::<Vec<_>>().join("\n"))
}

#[test]
fn twenty_thousand_generated_pairs_compare_as_maven_compares_them() {
    if maven_says(&[("1".to_owned(), "2".to_owned())]).is_none() {
        println!("skipped: java and maven are not installed here");
        return;
    }
    let pairs = pairs((&STARTS, &PIECES), 20_000, 1, is_plain);
    check_said(&pairs, &maven_says(&pairs).unwrap(), compare_lenient);
}

/// Has it one qualifier at most, behind a hyphen? With several, or one behind a dot and more behind it, releases of Maven
/// disagree with each other and with the specification.
fn is_plain(version: &str) -> bool {
    let lower = version.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| !w.is_empty());
    words.count() <= 1 && (!lower.contains("final") || lower.ends_with("final"))
}
