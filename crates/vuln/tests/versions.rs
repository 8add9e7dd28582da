//! Version orders against tables that others published and against real pairs.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::version::Scheme;
use serde_json::Value;
use std::cmp::Ordering;
use support::*;

/// A pair of a table, and the order the table says.
type Row = (String, String, Ordering);

/// How many pairs there are; every order as the table says it, both ways and as keys.
fn check(scheme: Scheme, rows: &[Row]) -> usize {
    for (a, b, expected) in rows {
        assert_eq!(scheme.compare_lenient(a, b), *expected, "{scheme}: {a} {b}");
        assert_eq!(scheme.compare_lenient(b, a), expected.reverse(), "{scheme}: {b} {a}");
        assert_eq!(scheme.key(a).cmp(&scheme.key(b)), *expected, "{scheme}: keys of {a} {b}");
        if let Ok(strict) = scheme.compare(a, b) {
            assert_eq!(strict, *expected, "{scheme}, strict: {a} {b}");
        }
    }
    rows.len()
}

fn order(sign: &str) -> Ordering {
    match sign {
        "<" | "-1" => Ordering::Less,
        "=" | "==" | "0" => Ordering::Equal,
        ">" | "1" => Ordering::Greater,
        other => panic!("no order: {other}"),
    }
}

/// A table of `a < b` lines.
fn signs(text: &str) -> Vec<Row> {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', '/']));
    lines
        .map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [a, sign, b] => (a.to_owned(), b.to_owned(), order(sign)),
            _ => panic!("not a pair: {line}"),
        })
        .collect()
}

fn plain(file: &str) -> Option<String> {
    Some(std::fs::read_to_string(shared(file)?).unwrap())
}

/// A table of pairs, lower first, and of equal pairs, as JSON.
fn sorted_pairs(file: &str) -> Option<Vec<Row>> {
    let json: Value = serde_json::from_str(&plain(file)?).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |test: &Value| {
        let versions = &test["input"]["versions"];
        let (a, b) = (text(&versions[0]), text(&versions[1]));
        let order = match test["test_type"].as_str().unwrap() {
            "equality" => {
                assert_eq!(test["expected_output"], true);
                Ordering::Equal
            }
            _ if a == b => Ordering::Equal,
            _ if text(&test["expected_output"][0]) == a => Ordering::Less,
            _ => Ordering::Greater,
        };
        (a, b, order)
    };
    Some(json.as_array().unwrap().iter().map(row).collect())
}

#[test]
fn fifteen_thousand_real_rpm_pairs_compare_as_rpm_compared_them() {
    let Some(text) = shared_text("version-compare/rpm-real-evr-pairs.tsv.zst") else { return };
    let row = |line: &str| {
        let f: Vec<&str> = line.split('\t').collect();
        (f[1].to_owned(), f[2].to_owned(), order(f[3]))
    };
    let rows: Vec<Row> = text.lines().skip(1).map(row).collect();
    let strict = rows.iter().filter(|(a, b, _)| Scheme::Rpm.compare(a, b).is_ok()).count();
    println!("{} real rpm pairs, {strict} of them well-formed", check(Scheme::Rpm, &rows));
    assert!(rows.len() >= 14_000 && strict == rows.len(), "{strict} of {}", rows.len());
}

#[test]
fn rpms_own_table_and_the_one_of_osv_hold() {
    let Some(text) = plain("version-compare/univers.rpmvercmp.at") else { return };
    let own: Vec<Row> = text
        .lines()
        .filter_map(|l| l.strip_prefix("RPMVERCMP(")?.strip_suffix(')'))
        .map(|l| match l.split(", ").map(str::trim).collect::<Vec<_>>()[..] {
            [a, b, sign] => (a.to_owned(), b.to_owned(), order(sign)),
            _ => panic!("not a pair: {l}"),
        })
        .collect();
    let osv = signs(&plain("version-compare/osv-scalibr.redhat-versions.txt").unwrap());
    println!("{} and {} published rpm pairs", check(Scheme::Rpm, &own), check(Scheme::Rpm, &osv));
    assert!(own.len() > 80 && osv.len() > 100);
}

#[test]
fn alpines_tables_hold_wherever_apk_calls_both_versions_well_formed() {
    let Some(own) = plain("version-compare/univers.alpine_test.txt") else { return };
    let well_formed = |rows: Vec<Row>| -> (Vec<Row>, usize) {
        let all = rows.len();
        let good: Vec<Row> =
            rows.into_iter().filter(|(a, b, _)| Scheme::Apk.compare(a, b).is_ok()).collect();
        let left_out = all - good.len();
        (good, left_out)
    };
    let read = |file: &str| plain(file).unwrap();
    for (name, rows) in [
        ("univers", signs(&own)),
        ("osv", signs(&read("version-compare/osv-scalibr.alpine-versions.txt"))),
        (
            "osv, generated",
            signs(
                &shared_text("version-compare/osv-scalibr.alpine-versions-generated.txt.zst")
                    .unwrap(),
            ),
        ),
        (
            "univers, sorted",
            sorted_pairs("version-compare/univers.alpine_version_cmp.json").unwrap(),
        ),
    ] {
        let (good, left_out) = well_formed(rows);
        println!("{name}: {} apk pairs, {left_out} ill-formed left out", check(Scheme::Apk, &good));
        assert!(good.len() > 600 && left_out < 80, "{name}: {} and {left_out}", good.len());
    }
}

#[test]
fn pacmans_table_holds_wherever_both_or_none_have_a_pkgrel() {
    let Some(rows) = sorted_pairs("version-compare/univers.alpm_version_cmp.json") else { return };
    let all = rows.len();
    // vercmp ignores a pkgrel that only one of the two has.
    let rows: Vec<Row> =
        rows.into_iter().filter(|(a, b, _)| a.contains('-') == b.contains('-')).collect();
    println!("{} of {all} published pacman pairs", check(Scheme::Pacman, &rows));
    assert!(rows.len() > 30);
}

#[test]
fn published_semver_pairs_hold() {
    let Some(text) = plain("version-compare/osv-scalibr.semver-versions.txt") else { return };
    let rows = signs(&text);
    let all = rows.len();
    // The others are no semantic versions: what has a fourth number, and what has less than three.
    let proper = |v: &str| Scheme::Semver.check(v.trim_start_matches('v')).is_ok();
    let rows: Vec<Row> = rows.into_iter().filter(|(a, b, _)| proper(a) && proper(b)).collect();
    println!("{} of {all} published semver pairs", check(Scheme::Semver, &rows));
    assert!(rows.len() > 40);
}

#[test]
fn published_debian_pairs_hold() {
    let Some(text) = plain("version-compare/osv-scalibr.debian-versions.txt") else { return };
    let generated =
        shared_text("version-compare/osv-scalibr.debian-versions-generated.txt.zst").unwrap();
    println!(
        "{} and {} published Debian pairs",
        check(Scheme::Deb, &signs(&text)),
        check(Scheme::Deb, &signs(&generated))
    );
}
