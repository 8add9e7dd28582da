//! Lines, one by one.

use super::*;
use fettle_core::advisory::AdvisoryStatus;

/// Statements as `SOURCE RELEASE: what`, of one document that holds entries of all three lists.
fn statements(text: &str) -> Vec<String> {
    fn entries(list: List, text: &str) -> Vec<Entry<'_>> {
        parse(list, text.as_bytes()).map_or(Vec::new(), |p| p.records)
    }
    let lists =
        Lists { cve: entries(List::Cve, text), dsa: entries(List::Dsa, text), dla: Vec::new() };
    let told = |a: &fettle_core::advisory::Advisory| {
        let status = match &a.status {
            AdvisoryStatus::Fixed { version } => version.clone(),
            AdvisoryStatus::NotAffected => "never".to_owned(),
            AdvisoryStatus::Undetermined => "undetermined".to_owned(),
            AdvisoryStatus::Ranges { .. } => "ranges".to_owned(),
            AdvisoryStatus::Open { reason, elsewhere } => {
                [Some("open"), Some(reason.as_str()), elsewhere.as_deref()]
                    .into_iter()
                    .flatten()
                    .filter(|w| !w.is_empty())
                    .collect::<Vec<_>>()
                    .join(" ")
            }
        };
        format!("{} {} {}: {status} ({})", a.id, a.source, a.release, a.urgency)
    };
    let mut all: Vec<String> = resolve(&lists).statements.iter().map(told).collect();
    all.retain(|s| !s.contains("bullseye") && !s.contains("forky"));
    all
}

#[test]
fn each_tag_says_of_each_release_what_the_manual_says() {
    for (lines, bookworm, trixie, sid) in [
        ("- a 2-1", "open 2-1", "open 2-1", "2-1"),
        ("- a 2-1 | [bookworm] - a 1-1+deb12u1", "1-1+deb12u1", "open 2-1", "2-1"),
        ("- a <unfixed>", "open", "open", "open"),
        ("- a <removed>", "open", "open", "open"),
        ("- a <not-affected> (Windows only)", "never", "never", "never"),
        ("- a 2-1 | [trixie] - a <not-affected> (Older)", "open 2-1", "never", "2-1"),
        ("- a <undetermined>", "undetermined", "undetermined", "undetermined"),
        ("- a <itp> (bug #1)", "", "", ""),
        ("- a <unfixed> | [trixie] - a <no-dsa> (Minor)", "open", "open <no-dsa> Minor", "open"),
        ("- a 2-1 | [trixie] - a <postponed>", "open 2-1", "open <postponed> 2-1", "2-1"),
        ("- a 2-1 | [trixie] - a <ignored> (Hard)", "open 2-1", "open <ignored> Hard 2-1", "2-1"),
        ("[trixie] - a <ignored> (Hard)", "", "open <ignored> Hard", ""),
        ("[experimental] - a 3-1", "", "", ""),
        ("- a 2-1 | [trixie] - a <unfixed>", "open 2-1", "open", "2-1"),
        // The worse of two lines about the same, in any order.
        ("- a 2-1 | - a 10-1", "open 10-1", "open 10-1", "10-1"),
        ("[trixie] - a 9-1 | [trixie] - a 10-1", "", "10-1", ""),
        ("[trixie] - a <not-affected> | [trixie] - a 1-1", "", "1-1", ""),
        ("REJECTED | - a 2-1", "", "", ""),
    ] {
        let text: String = lines.split(" | ").map(|l| format!("\t{l}\n")).collect();
        let expected: Vec<String> = [("bookworm", bookworm), ("trixie", trixie), ("sid", sid)]
            .into_iter()
            .filter(|(_, what)| !what.is_empty())
            .map(|(release, what)| format!("CVE-1-1 a {release}: {what} (not yet assigned)"))
            .collect();
        assert_eq!(statements(&format!("CVE-1-1 (x)\n{text}")), expected, "{lines}");
    }
}

#[test]
fn end_of_life_and_urgency_are_the_vendors_words() {
    assert_eq!(
        statements(
            "CVE-1-1\n\t- a 2-1 (unimportant; bug #7)\n\t[trixie] - a <end-of-life> (see DSA 1)\n\t[bookworm] - a 1-1 (high)\n"
        ),
        [
            "CVE-1-1 a bookworm: 1-1 (high)",
            "CVE-1-1 a trixie: open <end-of-life> see DSA 1 (end-of-life)",
            "CVE-1-1 a sid: 2-1 (unimportant)"
        ]
    );
}

#[test]
fn an_advisory_speaks_of_what_it_names_and_of_what_names_it_and_else_for_itself() {
    let dsa = "[01 Jan 2026] DSA-1-1 a - security update\n\t{CVE-1-1}\n\t[bookworm] - a 1-2\n\t[bookworm] - b 3-1\n";
    assert_eq!(
        statements(dsa),
        [
            "CVE-1-1 a bookworm: 1-2 (not yet assigned)",
            "CVE-1-1 b bookworm: 3-1 (not yet assigned)"
        ],
        "one advisory, two sources"
    );
    let named = format!(
        "{}CVE-1-2 (y)\n\t{{DSA-1-1}}\n\t- a 2-1 (low)\n",
        dsa.replace("\t{CVE-1-1}\n", "")
    );
    assert_eq!(
        statements(&named),
        [
            "CVE-1-2 a bookworm: 1-2 (low)",
            "CVE-1-2 a trixie: open 2-1 (low)",
            "CVE-1-2 a sid: 2-1 (low)",
            "CVE-1-2 b bookworm: 3-1 (not yet assigned)"
        ]
    );
    let alone = dsa.replace("\t{CVE-1-1}\n", "");
    assert_eq!(statements(&alone).len(), 2);
    assert!(statements(&alone)[0].starts_with("DSA-1-1 a bookworm: 1-2"));
    assert_eq!(statements(&alone.replace("DSA-1-1", "DSA-1-2")), [""; 0], "a correction");
    let twice =
        format!("{dsa}[02 Jan 2026] DSA-2-1 a - more\n\t{{CVE-1-1}}\n\t[bookworm] - a 1-10\n");
    assert!(statements(&twice)[0].ends_with("1-10 (not yet assigned)"), "the highest version");
}

#[test]
fn a_line_is_taken_apart_into_all_its_parts() {
    let text = "CVE-2023-XXXX [more related to CVE-2005-4890]\n    - shadow <unfixed> (low; bug #628843; bug filed; see there)\n\tNOTE: one\n\tTODO: two\n\t{DSA-1-1 DLA-2-1 }\nCVE-2024-1 (n)\n\tNOT-FOR-US: phpFox\n";
    let parsed = parse(List::Cve, text.as_bytes()).unwrap();
    let [entry, other] = &parsed.records[..] else { panic!("{parsed:?}") };
    assert_eq!(entry.id, "TEMP-0628843-DBAD28");
    assert_eq!(
        (entry.remarks.as_slice(), entry.todo.as_slice()),
        (["one"].as_slice(), ["two"].as_slice())
    );
    assert_eq!(entry.references, ["DSA-1-1", "DLA-2-1"]);
    assert_eq!(
        entry.notes,
        [Note {
            release: None,
            package: "shadow",
            mark: Mark::Unfixed,
            urgency: "low",
            bugs: vec![628_843],
            why: "see there".to_owned()
        }]
    );
    assert_eq!(other.fate, Fate::NotForUs("phpFox"));
}

#[test]
fn days_are_read_as_they_were_ever_written() {
    for (text, expected) in [
        ("21 Aug 2026", "2026-08-21"),
        ("August 26th, 2005", "2005-08-26"),
        ("December 5th, 2005", "2005-12-05"),
    ] {
        assert_eq!(day(text).unwrap().to_string(), expected);
    }
    for text in ["", "21 Aug", "32 Aug 2026", "Aug Aug 2026", "21 é 2026", "21 Aug 99999"] {
        assert!(day(text).is_err(), "{text}");
    }
}

#[test]
fn a_line_that_cannot_be_read_is_named_and_the_rest_of_its_entry_counts() {
    for (line, what) in [
        ("- a", "expected `- PACKAGE VERSION`"),
        ("- a <perhaps>", "unknown tag <perhaps>"),
        ("- a 1.0_1", "holds '_'"),
        ("- a 1.0-1 low", "in parentheses"),
        ("[bookworm - a 1.0-1", "expected"),
        ("[] - a 1.0-1", "release name is empty"),
        ("{CVE-1-1", "has no end"),
        ("gibberish", "expected"),
    ] {
        let text = format!("CVE-1-1 (x)\n\t{line}\n\t- b 2-1\n");
        let parsed = parse(List::Cve, text.as_bytes()).unwrap();
        let [error] = &parsed.errors[..] else { panic!("{line}: {parsed:?}") };
        assert_eq!(error.line, 2);
        assert!(error.what.contains(what) && error.place.starts_with("CVE-1-1"), "{error}");
        assert_eq!(parsed.records[0].notes.len(), 1, "{line}");
    }
}
