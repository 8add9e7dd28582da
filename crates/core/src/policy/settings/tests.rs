use super::*;
use proptest::prelude::*;

const BASE: &str = r#"
[policy]
name = "web"
select = "role=web"
approvals = 1

[[class]]
name = "critical"
cvss-at-least = 9.0
deadline = "2d"

[[class]]
name = "rest"
deadline = "30d"

[[ring]]
name = "canary"
select = "ring=canary"
soak = "1d"

[[ring]]
name = "broad"

[[window]]
days = ["sat"]
start = "22:00"
duration = "4h"
time-zone = "Europe/Berlin"

[[exclude]]
package = "nginx*"
reason = "frozen"
owner = "ann"
until = 2027-01-31

[testbed]
required = true

[restart]
spare = ["postgresql@*.service"]

[gate]
bake = "5m"
"#;

fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap_or_else(|e| panic!("{e:?}\n{text}"))
}

/// What to replace in the text, by what; and as which setting, from what, to what, that is told.
type Edit = (&'static str, &'static str, &'static str, Option<&'static str>, Option<&'static str>);

fn edits() -> Vec<Edit> {
    vec![
        ("approvals = 1", "approvals = 2", "policy.approvals", Some("1"), Some("2")),
        (
            "\"role=web\"",
            "\"role in (web, api)\"",
            "policy.select",
            Some("role=web"),
            Some("role in (web, api)"),
        ),
        (
            "at-least = 9.0",
            "at-least = 8.1",
            "class critical.cvss-at-least",
            Some("9"),
            Some("8.1"),
        ),
        (
            "deadline = \"30d\"",
            "deadline = \"36h\"",
            "class rest.deadline",
            Some("30d"),
            Some("36h"),
        ),
        ("soak = \"1d\"", "", "ring canary.soak", Some("1d"), Some("0s")),
        (
            "name = \"broad\"",
            "name = \"broad\"\nwave-percent = 10",
            "ring broad.wave-percent",
            Some("100"),
            Some("10"),
        ),
        ("days = [\"sat\"]", "days = [\"sun\"]", "window", None, None),
        (
            "until = 2027-01-31",
            "until = 2027-02-28",
            "exclude nginx*.until",
            Some("2027-01-31T00:00:00Z"),
            Some("2027-02-28T00:00:00Z"),
        ),
        (
            "spare = [\"postgresql@*.service\"]",
            "",
            "restart.spare",
            Some("[postgresql@*.service]"),
            Some("[]"),
        ),
        (
            "spare = [\"postgresql@*.service\"]",
            "spare = [\"postgresql@*.service\"]\nexempt = \"role=db\"",
            "restart.exempt",
            None,
            Some("role=db"),
        ),
        (
            "[restart]",
            "[reboot]\nwhen = \"needed\"\n\n[restart]",
            "reboot.when",
            Some("never"),
            Some("when-needed"),
        ),
        ("bake = \"5m\"", "bake = \"90s\"", "gate.bake", Some("5m"), Some("90s")),
        (
            "bake = \"5m\"",
            "bake = \"5m\"\nundo-wave = true",
            "gate.undo-wave",
            Some("false"),
            Some("true"),
        ),
    ]
}

#[test]
fn an_edit_is_told_as_the_setting_it_changes_in_the_words_of_the_text() {
    let base = policy(BASE);
    for (was, is, what, from, to) in edits() {
        assert!(BASE.contains(was), "{was}");
        let told = settings(&base, &policy(&BASE.replacen(was, is, 1)));
        assert!(told.iter().all(|s| s.what == what), "{is}: {told:?}");
        if from.is_some() {
            assert_eq!(told.len(), 1, "{is}: {told:?}");
            assert_eq!((told[0].from.as_deref(), told[0].to.as_deref()), (from, to), "{is}");
        }
    }
}

#[test]
fn an_entry_without_a_name_is_told_as_gone_and_new() {
    let sunday = BASE.replacen("[\"sat\"]", "[\"sun\"]", 1);
    let told = settings(&policy(BASE), &policy(&sunday));
    let [gone, new] = told.as_slice() else { panic!("{told:?}") };
    assert!(
        gone.from.as_deref().is_some_and(|t| t.contains("days=[6]") && t.contains("start=22:00"))
    );
    assert!(new.to.as_deref().is_some_and(|t| t.contains("days=[7]") && t.contains("duration=4h")));
    assert_eq!((gone.to.as_deref(), new.from.as_deref()), (None, None));
}

#[test]
fn a_section_that_comes_or_goes_is_told_whole_and_the_order_of_the_others_is_not() {
    let without = BASE.replacen(
        "[[class]]\nname = \"critical\"\ncvss-at-least = 9.0\ndeadline = \"2d\"\n",
        "",
        1,
    );
    let told = settings(&policy(BASE), &policy(&without));
    let [gone] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((gone.what.as_str(), gone.to.as_deref()), ("class critical", None));
    assert!(gone.from.as_deref().is_some_and(|t| t.contains("deadline=2d")), "{gone:?}");
}

#[test]
fn the_order_of_classes_is_a_setting_since_the_first_that_matches_counts() {
    let swapped = BASE
        .replacen("\"critical\"", "\"x\"", 1)
        .replacen(
            "\"rest\"\ndeadline = \"30d\"",
            "\"critical\"\ncvss-at-least = 9.0\ndeadline = \"2d\"",
            1,
        )
        .replacen(
            "\"x\"\ncvss-at-least = 9.0\ndeadline = \"2d\"",
            "\"rest\"\nkev = true\ndeadline = \"30d\"",
            1,
        );
    let base = BASE.replacen("\"rest\"", "\"rest\"\nkev = true", 1);
    let told = settings(&policy(&base), &policy(&swapped));
    let [order] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(order.what, "order of the class sections");
    assert_eq!(order.from.as_deref(), Some("critical, rest"));
    assert_eq!(order.to.as_deref(), Some("rest, critical"));
}

#[test]
fn every_list_of_sections_has_the_name_it_has_in_the_text() {
    let fields = document(&policy(BASE));
    for (field, section) in SECTIONS {
        assert!(fields.contains_key(field), "{field} ({section}) is no field of a policy");
    }
    for (field, value) in &fields {
        let listed = SECTIONS.iter().any(|(name, _)| name == field);
        let is_section = value.is_array() || value.is_object() && value.get("op").is_none();
        assert!(listed || !is_section, "{field} has no name of a section");
    }
}

#[test]
fn comments_and_spaces_change_no_setting() {
    let same = policy(&format!("# why\n{}", BASE.replace(" = ", "  =  ")));
    assert_ne!(same.digest, policy(BASE).digest);
    assert_eq!(settings(&policy(BASE), &same), []);
}

proptest! {
    /// Any two policies that differ have a setting that says so, and the way back says the same the other way round.
    #[test]
    fn policies_differ_exactly_where_their_settings_do(
        one in proptest::collection::vec(any::<bool>(), 13),
        other in proptest::collection::vec(any::<bool>(), 13),
    ) {
        let edited = |which: &[bool]| {
            let edits = edits().into_iter().zip(which).filter(|(_, on)| **on);
            policy(&edits.fold(BASE.to_owned(), |text, (edit, _)| text.replacen(edit.0, edit.1, 1)))
        };
        let (a, b) = (edited(&one), edited(&other));
        let same = Policy { digest: a.digest, ..b.clone() } == a;
        let there = settings(&a, &b);
        prop_assert_eq!(there.is_empty(), same);
        let mut turned: Vec<Setting> = settings(&b, &a)
            .into_iter()
            .map(|s| Setting { what: s.what, from: s.to, to: s.from })
            .collect();
        let mut there = there;
        let key = |s: &Setting| (s.what.clone(), s.from.clone(), s.to.clone());
        there.sort_by_key(key);
        turned.sort_by_key(key);
        prop_assert_eq!(there, turned);
    }
}
