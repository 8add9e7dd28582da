use super::*;
use crate::plan::tests::fleet::{NOW, at, finding, host, inventory, quarantine};

fn parse(name: &str, select: &str, more: &str) -> Policy {
    let text = format!("[policy]\nname = \"{name}\"\nselect = \"{select}\"\n{more}");
    Policy::parse(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"))
}

const RINGS: &str =
    "[[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\n[[ring]]\nname = \"broad\"\n";

fn told(host: &Host, policies: &[Policy], findings: &[Known]) -> Explained {
    explain(ExplainInput {
        host,
        policies,
        fleet: std::slice::from_ref(host),
        findings,
        barred: &[],
        recalls: &[],
        busy: None,
        waiting: &[],
        serving: None,
        silent_after_seconds: 900,
        now: at(NOW),
    })
}

fn known(finding: Finding, first_seen: &str) -> Known {
    Known { finding, first_seen: at(first_seen) }
}

#[test]
fn the_policy_of_highest_priority_counts_and_the_others_say_what_they_asked_for() {
    let policies = [
        parse("rest", "all", &format!("priority = -1\n{RINGS}")),
        parse("db", "role=db and env=prod", RINGS),
        parse("web", "role in (web, api) and not env=test", RINGS),
    ];
    let host = host("h", &[("role", "web"), ("env", "prod"), ("ring", "canary")]);
    let told = told(&host, &policies, &[]);
    let order: Vec<_> =
        told.policies.iter().map(|p| (p.name.as_str(), p.selects, p.counts)).collect();
    assert_eq!(order, [("web", true, true), ("rest", true, false), ("db", false, false)]);
    let of = |n: usize| -> Vec<(&str, bool, Option<&str>)> {
        let pieces = told.policies[n].conditions.iter();
        pieces.map(|c| (c.text.as_str(), c.holds, c.found.as_deref())).collect()
    };
    assert_eq!(
        of(0),
        [("role in (web, api)", true, Some("web")), ("not env=test", true, Some("prod"))]
    );
    assert_eq!(of(2), [("role=db", false, Some("web")), ("env=prod", true, Some("prod"))]);
    assert_eq!((told.policy.as_deref(), told.stage.as_deref()), (Some("web"), Some("canary")));
    let rings: Vec<_> =
        told.stages.iter().map(|s| (s.name.as_str(), s.selects, s.counts)).collect();
    assert_eq!(rings, [("canary", true, true), ("broad", true, false)]);
}

#[test]
fn a_host_that_no_policy_counts_for_says_why() {
    let host = host("h", &[]);
    assert_eq!(told(&host, &[], &[]).holds, [Hold::NoPolicy]);
    let rivals = [parse("a", "all", RINGS), parse("b", "all", RINGS)];
    let it = told(&host, &rivals, &[]);
    let both = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(it.holds, [Hold::PolicyAmbiguous { policies: both }]);
    assert!(it.policies.iter().all(|p| p.selects && !p.counts));
    assert!(it.changes.is_empty() && it.policy.is_none());
}

#[test]
fn classes_tell_what_falls_into_them_and_what_is_late() {
    let policy = parse(
        "web",
        "all",
        &format!(
            "{RINGS}[[class]]\nname = \"exposed\"\nexposed = true\ndeadline = \"1d\"\n[[class]]\nname = \"rest\"\ndeadline = \"30d\"\n"
        ),
    );
    let mut inner = finding("h", "CVE-2", "openssl", &["libssl3"], Some("3.0.2"));
    inner.exposed = false;
    let late =
        known(finding("h", "CVE-1", "nginx", &["nginx"], Some("1.22.2")), "2026-11-19T00:00:00Z");
    let mut gone = late.clone();
    (gone.finding.id, gone.finding.state) = ("CVE-3".into(), FindingState::Fixed);
    inner.ranking.published = Some("2026-11-20".parse().unwrap());
    let mut named = finding("h", "CVE-4", "nginx", &["nginx"], Some("1.22.2"));
    (named.exposed, named.ranking.published) = (false, inner.ranking.published);
    named.ranking.kev = Some(crate::advisory::Kev {
        date_added: "2026-11-01".parse().unwrap(),
        due_date: "2026-11-25".parse().unwrap(),
        ransomware: false,
    });
    let findings = [known(inner, NOW), late, gone, known(named, NOW)];
    let it = told(&host("h", &[]), &[policy], &findings);
    let classes: Vec<_> =
        it.classes.iter().map(|c| (c.rule.name.as_str(), c.findings, c.overdue)).collect();
    assert_eq!(classes, [("exposed", 1, 1), ("rest", 2, 0)]);
    assert_eq!(it.classes[1].due, Some(at("2026-11-26T00:00:00Z")));
    let rules: Vec<String> = it.classes.iter().map(|c| c.rule.to_string()).collect();
    assert_eq!(rules, ["exposed = true", "every finding"]);
    let owed: Vec<_> = it
        .owed
        .iter()
        .map(|o| (o.finding.as_str(), o.class.as_str(), o.counted.map(|c| c.to_string())))
        .collect();
    let told = |text: &str| Some(text.to_owned());
    assert_eq!(
        owed,
        [
            ("CVE-1", "exposed", told("counted from its first sight here, 2026-11-19T00:00:00Z")),
            ("CVE-4", "rest", told("the day that CISA's catalogue names, 2026-11-25")),
            ("CVE-2", "rest", told("counted from the vendor's publication on 2026-11-20")),
        ]
    );
}

#[test]
fn what_a_plan_would_do_and_leave_out_is_what_a_plan_made_now_does_and_leaves_out() {
    let exclude = |package: &str, until: &str| {
        format!(
            "[[exclude]]\npackage = \"{package}\"\nreason = \"frozen\"\nowner = \"ann\"\nuntil = {until}\n"
        )
    };
    let more =
        format!("{RINGS}{}{}", exclude("nginx*", "2027-01-31"), exclude("old*", "2026-01-31"));
    let policy = parse("web", "all", &more);
    let it = told(&host("h", &[]), std::slice::from_ref(&policy), &[]);
    let names: Vec<&str> = it.changes.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["libssl3", "openssl"]);
    let excluded: Vec<_> = it.held.iter().map(|h| h.package.as_str()).collect();
    assert_eq!(excluded, ["nginx"]);
    assert!(matches!(&it.held[0].reasons[..], [Hold::Excluded { .. }]));
    let told: Vec<_> = it.exclusions.iter().map(|x| (x.in_force, x.packages.join(" "))).collect();
    assert_eq!(told, [(true, "nginx".to_owned()), (false, String::new())]);
    assert_eq!(it.holds, []);
}

#[test]
fn an_acceptance_says_what_it_covers_until_it_ends_or_the_threat_grows() {
    let accept = |id: &str, until: &str| {
        format!(
            "[[accept]]\nfinding = \"{id}\"\nreason = \"off\"\nowner = \"ann\"\nuntil = {until}\nepss-below = 0.1\n"
        )
    };
    let more = format!(
        "{RINGS}{}{}{}",
        accept("CVE-1", "2027-01-31"),
        accept("CVE-2", "2026-01-31"),
        accept("CVE-3", "2027-01-31")
    );
    let policy = parse("web", "all", &more);
    let of = |id: &str, epss: f32| {
        let mut it = finding("h", id, "openssl", &["libssl3"], Some("3.0.2"));
        it.ranking.epss = Some(epss);
        known(it, NOW)
    };
    let findings = [of("CVE-1", 0.05), of("CVE-2", 0.05), of("CVE-3", 0.5)];
    let it = told(&host("h", &[]), &[policy], &findings);
    let told: Vec<_> = it
        .acceptances
        .iter()
        .map(|a| (a.rule.finding.as_str(), a.ended, a.sources.join(" ")))
        .collect();
    assert_eq!(
        told,
        [
            ("CVE-1", false, "openssl".to_owned()),
            ("CVE-2", true, String::new()),
            ("CVE-3", false, String::new())
        ]
    );
}

#[test]
fn everything_that_stops_the_host_is_told_once() {
    let window =
        "[[window]]\ndays = [\"sat\"]\nstart = \"22:00\"\nduration = \"4h\"\ntime-zone = \"UTC\"\n";
    let budget = "[[budget]]\nname = \"web\"\nselect = \"all\"\nmax-unavailable = 1\n";
    let policy = parse("web", "all", &format!("{RINGS}{window}{budget}"));
    let mut host = host("h", &[]);
    host.quarantined = quarantine();
    inventory(&mut host).upgrades.clear();
    let soak = Hold::Soak { ring: "canary".into(), until: at("2026-11-24T00:00:00Z") };
    let it = explain(ExplainInput {
        host: &host,
        policies: &[policy],
        fleet: std::slice::from_ref(&host),
        findings: &[],
        barred: &[],
        recalls: &[],
        busy: Some(&RolloutId("ro-1".into())),
        waiting: &[soak.clone(), soak.clone()],
        serving: None,
        silent_after_seconds: 900,
        now: at(NOW),
    });
    assert_eq!(
        it.holds,
        [
            Hold::Quarantined { reason: "undo failed".into() },
            Hold::Busy { rollout: RolloutId("ro-1".into()) },
            Hold::WindowClosed { opens_at: Some(at("2026-11-28T22:00:00Z")) },
            soak,
        ]
    );
    assert_eq!(it.openings[0].0, at("2026-11-28T22:00:00Z"));
    assert_eq!((it.budgets[0].hosts, it.budgets[0].max_unavailable), (1, 1));
}
