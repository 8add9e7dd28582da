use super::*;
use crate::plan::tests::fleet::{NOW, at, finding, host};
use proptest::prelude::*;

const DAY: i64 = 86_400;

fn parse(name: &str, select: &str, more: &str) -> Policy {
    let text = format!("[policy]\nname = \"{name}\"\nselect = \"{select}\"\n{more}");
    Policy::parse(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"))
}

const RINGS: &str =
    "[[ring]]\nname = \"canary\"\nselect = \"ring=canary\"\n[[ring]]\nname = \"broad\"\n";

fn class(deadline: &str) -> String {
    format!("{RINGS}[[class]]\nname = \"all\"\ndeadline = \"{deadline}\"\n")
}

fn known(host: &str, id: &str, seen_days_ago: i64) -> Known {
    let first_seen = at(NOW) - jiff::SignedDuration::from_secs(seen_days_ago * DAY);
    Known { finding: finding(host, id, "openssl", &["libssl3"], Some("3.0.2")), first_seen }
}

struct World {
    in_force: Vec<Policy>,
    fleet: Vec<Host>,
    findings: BTreeMap<HostId, Vec<Known>>,
}

impl World {
    fn new(in_force: Vec<Policy>, fleet: Vec<Host>, findings: Vec<Known>) -> Self {
        let mut by_host: BTreeMap<HostId, Vec<Known>> = BTreeMap::new();
        for known in findings {
            by_host.entry(known.finding.host.clone()).or_default().push(known);
        }
        Self { in_force, fleet, findings: by_host }
    }

    fn diff(&self, next: &Policy) -> PolicyDiff {
        diff(DiffInput {
            in_force: &self.in_force,
            next,
            fleet: &self.fleet,
            findings: &self.findings,
            now: at(NOW),
        })
    }
}

fn by(policy: &str, stage: &str) -> Cover {
    Cover::By { policy: policy.into(), stage: Some(stage.into()) }
}

fn moved(diff: &PolicyDiff) -> Vec<(&str, &Cover, &Cover)> {
    diff.hosts.iter().map(|m| (m.host.as_str(), &m.from, &m.to)).collect()
}

#[test]
fn hosts_gain_cover_lose_it_change_policy_and_change_rings() {
    let in_force = vec![
        parse("web", "role=web", &class("7d")),
        parse("rest", "all", &format!("priority = -1\n{}", class("30d"))),
    ];
    let fleet = vec![
        host("api", &[("role", "api")]),
        host("db", &[("role", "db")]),
        host("web", &[("role", "web")]),
        host("web-c", &[("role", "web"), ("ring", "canary")]),
    ];
    let world = World::new(in_force, fleet, vec![]);
    // `web` now means the api hosts, and no longer those of ring canary.
    let next = parse("web", "role in (web, api) and not ring=canary", &class("7d"));
    let told = world.diff(&next);
    assert_eq!(
        moved(&told),
        [
            ("api", &by("rest", "broad"), &by("web", "broad")),
            ("web-c", &by("web", "canary"), &by("rest", "canary")),
        ]
    );
    assert_eq!((told.hosts_from, told.hosts_to), (2, 2));
    // Another ring of the same policy is a move as well.
    let swapped = RINGS.replace("ring=canary", "role=web");
    let told = world.diff(&parse("web", "role=web", &swapped));
    assert_eq!(moved(&told), [("web", &by("web", "broad"), &by("web", "canary"))]);
    // Cover is lost and gained where nothing else catches the host.
    let alone = World { in_force: vec![world.in_force[0].clone()], ..world };
    let told = alone.diff(&parse("web", "role=db", &class("7d")));
    assert_eq!(
        moved(&told),
        [
            ("db", &Cover::Nobody, &by("web", "broad")),
            ("web-c", &by("web", "canary"), &Cover::Nobody),
            ("web", &by("web", "broad"), &Cover::Nobody),
        ]
    );
}

#[test]
fn two_policies_that_would_claim_a_host_alike_are_told_before_they_are_applied() {
    let world = World::new(
        vec![parse("web", "role=web", RINGS), parse("db", "role=db", RINGS)],
        vec![host("web", &[("role", "web")])],
        vec![],
    );
    let told = world.diff(&parse("db", "all", RINGS));
    let both = Cover::Ambiguous { policies: vec!["db".into(), "web".into()] };
    assert_eq!(moved(&told), [("web", &by("web", "broad"), &both)]);
}

#[test]
fn deadlines_move_and_what_would_be_late_at_once_is_counted() {
    let fleet = vec![host("a", &[]), host("b", &[])];
    let world = World::new(
        vec![parse("web", "all", &class("30d"))],
        fleet,
        vec![known("a", "CVE-1", 10), known("b", "CVE-1", 10), known("b", "CVE-2", 1)],
    );
    let told = world.diff(&parse("web", "all", &class("7d")));
    assert_eq!((told.overdue_from, told.overdue_to), (0, 2));
    let [old, young] = told.deadlines.as_slice() else { panic!("{:?}", told.deadlines) };
    assert_eq!(
        (old.finding.as_str(), &old.hosts[..]),
        ("CVE-1", &["a.example.org".to_owned(), "b.example.org".into()][..])
    );
    assert_eq!(old.from.deadline, Some(at("2026-12-13T12:00:00Z")));
    assert_eq!(old.to.deadline, Some(at("2026-11-20T12:00:00Z")));
    assert_eq!(
        (young.finding.as_str(), young.to.deadline),
        ("CVE-2", Some(at("2026-11-29T12:00:00Z")))
    );
    // Without its class nothing is owed by a date.
    let told = world.diff(&parse("web", "all", RINGS));
    assert!(told.deadlines.iter().all(|m| m.to.deadline.is_none() && m.to.class.is_empty()));
    assert_eq!(told.deadlines.len(), 2);
}

#[test]
fn an_acceptance_takes_the_deadline_and_its_end_gives_it_back() {
    let accept = format!(
        "{}[[accept]]\nfinding = \"CVE-1\"\nreason = \"off\"\nowner = \"ann\"\nuntil = 2027-01-31\nepss-below = 0.1\n",
        class("7d")
    );
    let (without, with) = (parse("web", "all", &class("7d")), parse("web", "all", &accept));
    let mut seen = known("a", "CVE-1", 1);
    let world = World::new(vec![without.clone()], vec![host("a", &[])], vec![seen.clone()]);
    let told = world.diff(&with);
    let [it] = told.deadlines.as_slice() else { panic!("{told:?}") };
    assert_eq!((it.from.state, it.to.state), (FindingState::Open, FindingState::Accepted));
    assert!(it.from.deadline.is_some() && it.to.deadline.is_none());
    seen.finding.state = FindingState::Accepted;
    let world = World::new(vec![with], vec![host("a", &[])], vec![seen]);
    let told = world.diff(&without);
    let [back] = told.deadlines.as_slice() else { panic!("{told:?}") };
    assert_eq!((&back.from, &back.to), (&it.to, &it.from));
}

#[test]
fn windows_are_told_by_when_they_open() {
    let window = |day: &str| {
        format!(
            "{RINGS}[[window]]\ndays = [\"{day}\"]\nstart = \"22:00\"\nduration = \"4h\"\ntime-zone = \"UTC\"\n"
        )
    };
    let world = World::new(vec![parse("web", "all", &window("sat"))], vec![], vec![]);
    let told = world.diff(&parse("web", "all", &window("sun")));
    assert_eq!(told.windows_from[0].0, at("2026-11-28T22:00:00Z"));
    assert_eq!(told.windows_to[0], (at("2026-11-29T22:00:00Z"), Some(at("2026-11-30T02:00:00Z"))));
}

#[test]
fn a_policy_that_is_not_in_force_yet_has_no_settings_to_compare_and_covers_hosts() {
    let world = World::new(vec![], vec![host("a", &[])], vec![known("a", "CVE-1", 1)]);
    let next = parse("web", "all", &class("7d"));
    let told = world.diff(&next);
    assert_eq!((told.from, told.to), (None, next.digest));
    assert_eq!((told.settings.len(), told.windows_from.len()), (0, 0));
    assert_eq!(moved(&told), [("a", &Cover::Nobody, &by("web", "broad"))]);
    assert_eq!(told.deadlines[0].to.class, "all");
}

proptest! {
    /// What is in force changes nothing; and from any policy to another and back, every host and every deadline
    /// returns.
    #[test]
    fn a_diff_and_the_way_back_cancel_out(
        one in 0usize..4, other in 0usize..4, labels in proptest::collection::vec(0usize..3, 1..6),
    ) {
        let selects = ["all", "role=web", "not role=web", "role in (web, db)"];
        let deadlines = ["7d", "30d", "7d", "1d"];
        let roles = ["web", "db", "api"];
        let policy = |n: usize| parse("p", selects[n], &class(deadlines[n]));
        let fleet: Vec<Host> = labels
            .iter()
            .enumerate()
            .map(|(n, role)| host(&format!("h{n}"), &[("role", roles[*role])]))
            .collect();
        let findings: Vec<Known> =
            (0..fleet.len()).map(|n| known(&format!("h{n}"), "CVE-1", n as i64)).collect();
        let world = |n: usize| World::new(vec![policy(n)], fleet.clone(), findings.clone());
        let there = world(one).diff(&policy(other));
        let back = world(other).diff(&policy(one));
        if one == other {
            prop_assert!(there.hosts.is_empty() && there.deadlines.is_empty() && there.settings.is_empty());
        }
        let turned: Vec<HostMove> = back
            .hosts
            .into_iter()
            .map(|m| HostMove { from: m.to, to: m.from, ..m })
            .collect();
        prop_assert_eq!(&there.hosts, &turned);
        prop_assert_eq!((there.hosts_from, there.hosts_to), (back.hosts_to, back.hosts_from));
        prop_assert_eq!((there.overdue_from, there.overdue_to), (back.overdue_to, back.overdue_from));
        let key = |m: &DeadlineMove| (m.finding.clone(), m.hosts.clone());
        let mut a: Vec<DeadlineMove> = there.deadlines;
        let mut b: Vec<DeadlineMove> = back
            .deadlines
            .into_iter()
            .map(|m| DeadlineMove { from: m.to, to: m.from, ..m })
            .collect();
        a.sort_by_key(key);
        b.sort_by_key(key);
        prop_assert_eq!(a, b);
        // A host that no policy counts for any more is named.
        for host in &fleet {
            let (was, will) = (Cover::of(&[policy(one)], host), Cover::of(&[policy(other)], host));
            prop_assert_eq!(was != will, there.hosts.iter().any(|m| m.host == host.id));
        }
    }
}

#[test]
fn an_acceptance_names_a_package_by_the_plain_name_that_vendors_put_a_word_before() {
    use crate::policy::names_source;
    for subject in ["krb5", "source/krb5", "binary/krb5", "idm:1/krb5", "idm:1/source/krb5"] {
        assert!(names_source("krb5", subject) && names_source(subject, subject), "{subject}");
    }
    for other in
        ["krb5-libs", "source/krb5-libs", "pypi/krb5", "docker:web//krb5", "nspawn:b//source/krb5"]
    {
        assert!(!names_source("krb5", other), "{other}");
    }
    assert!(!names_source("source/krb5", "krb5") && !names_source("binary/krb5", "source/krb5"));
}
