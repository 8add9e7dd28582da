use super::*;
use crate::advisory::{Kev, Ranking};
use crate::host::Host;
use crate::policy::{Ambiguous, choose};

const TEXT: &str = r#"
[policy]
name = "p"
select = "env=prod"
[[class]]
name = "exploited"
kev = true
exposed = true
deadline = "2d"
[[class]]
name = "critical"
cvss-at-least = 9.0
in-use = true
deadline = "7d"
[[class]]
name = "likely"
epss-at-least = 0.5
deadline = "10d"
[[class]]
name = "high"
severity-at-least = "high"
deadline = "30d"
[[ring]]
name = "all"
"#;

fn finding() -> Finding {
    Finding {
        host: "h-1".into(),
        id: "CVE-2026-1".into(),
        source: "openssl".into(),
        installed: "1".into(),
        binaries: vec!["libssl3".into()],
        state: FindingState::Open,
        fixed_version: Some("2".into()),
        offered: true,
        in_use: false,
        exposed: false,
        urgency: String::new(),
        ranking: Ranking { published: Some("2026-11-01".parse().unwrap()), ..Ranking::default() },
        class: String::new(),
        deadline: None,
    }
}

fn kev(due: &str) -> Option<Kev> {
    Some(Kev {
        date_added: "2026-11-01".parse().unwrap(),
        due_date: due.parse().unwrap(),
        ransomware: false,
    })
}

fn class(finding: &Finding) -> String {
    Policy::parse(TEXT).unwrap().classify(finding).map_or(String::new(), |c| c.name.clone())
}

#[test]
fn the_first_class_whose_conditions_all_hold_is_taken() {
    let mut f = finding();
    assert_eq!(class(&f), "", "nothing is known of it");
    f.ranking.cvss = Some(9.8);
    assert_eq!(class(&f), "high", "critical asks for in use as well");
    f.in_use = true;
    assert_eq!(class(&f), "critical");
    f.ranking.kev = kev("2026-11-20");
    assert_eq!(class(&f), "critical", "exploited asks for exposed as well");
    f.exposed = true;
    assert_eq!(class(&f), "exploited");
    let mut f = finding();
    f.ranking.epss = Some(0.49);
    assert_eq!(class(&f), "");
    f.ranking.epss = Some(0.5);
    assert_eq!(class(&f), "likely");
}

#[test]
fn deadlines_count_from_publication_else_from_the_first_sight_and_kev_may_be_earlier() {
    let policy = Policy::parse(TEXT).unwrap();
    let first_seen: Timestamp = "2026-11-10T12:00:00Z".parse().unwrap();
    let rate = |f: &Finding| {
        let mut f = f.clone();
        policy.rate(&mut f, first_seen);
        (f.class, f.deadline.map(|d| d.to_string()))
    };
    let mut f = finding();
    f.ranking.cvss = Some(8.0);
    assert_eq!(rate(&f), ("high".into(), Some("2026-12-01T00:00:00Z".into())));
    f.ranking.published = None;
    assert_eq!(rate(&f), ("high".into(), Some("2026-12-10T12:00:00Z".into())));
    // KEV: to the end of the day that the catalogue names, where that is earlier than the class's date.
    f.ranking.kev = kev("2026-11-22");
    assert_eq!(rate(&f), ("high".into(), Some("2026-11-23T00:00:00Z".into())));
    f.ranking.kev = kev("2027-11-22");
    assert_eq!(rate(&f), ("high".into(), Some("2026-12-10T12:00:00Z".into())));
}

#[test]
fn what_cannot_be_fixed_yet_has_a_class_and_no_deadline() {
    let policy = Policy::parse(TEXT).unwrap();
    for (state, has) in [
        (FindingState::Open, true),
        (FindingState::PendingRestart, true),
        (FindingState::PendingReboot, true),
        (FindingState::Fixed, true),
        (FindingState::NoFixYet, false),
        (FindingState::Accepted, false),
        (FindingState::NotAffected, false),
    ] {
        let mut f = finding();
        f.state = state;
        f.ranking.cvss = Some(8.0);
        policy.rate(&mut f, Timestamp::UNIX_EPOCH);
        assert_eq!((f.class.as_str(), f.deadline.is_some()), ("high", has), "{state:?}");
    }
}

#[test]
fn a_finding_without_a_class_loses_an_older_rating() {
    let policy = Policy::parse(TEXT).unwrap();
    let mut f = finding();
    (f.class, f.deadline) = ("old".into(), Some(Timestamp::UNIX_EPOCH));
    policy.rate(&mut f, Timestamp::UNIX_EPOCH);
    assert_eq!((f.class.as_str(), f.deadline), ("", None));
}

#[test]
fn rating_at_either_end_of_time_does_not_panic() {
    let policy = Policy::parse(&TEXT.replace("30d", "3650d")).unwrap();
    for date in [jiff::civil::Date::MIN, jiff::civil::Date::MAX] {
        let mut f = finding();
        f.ranking.cvss = Some(8.0);
        f.ranking.published = Some(date);
        f.ranking.kev = Some(Kev { date_added: date, due_date: date, ransomware: false });
        policy.rate(&mut f, Timestamp::MAX);
        assert!(f.deadline.is_some());
    }
}

fn host() -> Host {
    Host {
        id: "h-1".into(),
        name: "web-1".into(),
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        enrolled_at: Timestamp::UNIX_EPOCH,
        last_seen: None,
        agent_version: String::new(),
        inventory: None,
        cohort: None,
        inventory_digest: None,
        quarantined: None,
        listed: None,
    }
}

#[test]
fn the_policy_of_highest_priority_governs_and_equal_ones_are_named() {
    let policy = |name: &str, priority: i32, select: &str| {
        let mut p = Policy::parse(TEXT).unwrap();
        (p.name, p.priority, p.select) =
            (name.to_owned(), priority, crate::policy::Selector::parse(select).unwrap());
        p
    };
    let name = |all: &[Policy]| choose(all, &host()).map(|p| p.map(|p| p.name.clone()));
    assert_eq!(name(&[]), Ok(None));
    assert_eq!(name(&[policy("other", 9, "env=test")]), Ok(None));
    let all =
        [policy("low", -5, "all"), policy("high", 10, "env=prod"), policy("other", 99, "env=test")];
    assert_eq!(name(&all), Ok(Some("high".into())));
    let equal = [policy("b", 10, "all"), policy("a", 10, "env=prod"), policy("low", 0, "all")];
    let error = name(&equal).unwrap_err();
    assert_eq!(
        error,
        Ambiguous { host: "web-1".into(), priority: 10, policies: vec!["a".into(), "b".into()] }
    );
    insta::assert_snapshot!(error, @r#"host web-1 is selected by policies `a` and `b`, all of priority 10: give one of them a higher `priority`, or narrow their `select`"#);
}
