//! The index and the store in step, whatever comes between a look and what is kept of it.

use super::*;
use crate::options::ServerOptions;
use crate::policies::Policies;
use crate::trust::Trust;
use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::finding::FindingState;
use fettle_core::host::Labels;
use fettle_core::inventory::{Os, Package};
use fettle_core::{ProblemKind, Shared};
use fettle_store::Store;
use fettle_vuln::exposure::CatalogueInput;
use tokio::sync::watch;

/// A server's state, without its loops.
struct Desk {
    app: App,
    host: HostId,
    _dir: tempfile::TempDir,
    _stop: watch::Sender<bool>,
}

fn in_force(fixed: &str) -> InForce {
    let advisories = vec![Advisory {
        id: "CVE-2026-1".into(),
        source: "nginx".into(),
        release: "bookworm".into(),
        status: AdvisoryStatus::Fixed { version: fixed.into() },
        urgency: "high".into(),
        evidence: "made up".into(),
    }];
    let input = CatalogueInput { advisories, ..CatalogueInput::default() };
    InForce { catalogue: Arc::new(Catalogue::build(input)), feeds: format!("fixed={fixed}") }
}

fn with(packages: &[(&str, &str)]) -> Inventory {
    let package = |(name, version): &(&str, &str)| {
        Shared::from(Package {
            name: (*name).into(),
            architecture: "amd64".into(),
            version: (*version).into(),
            source: (*name).into(),
            source_version: (*version).into(),
            healthy: true,
            module: String::new(),
        })
    };
    Inventory {
        os: Os { id: "debian".into(), codename: "bookworm".into(), ..Os::default() },
        packages: packages.iter().map(package).collect(),
        ..Inventory::default()
    }
}

impl Desk {
    /// With a host that has nginx 1-1, which is vulnerable below 2-1.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = ServerOptions { data_dir: dir.path().to_owned(), ..ServerOptions::default() };
        let store = Store::open(&dir.path().join("fettle.db")).unwrap();
        let trust = Trust::open(dir.path()).unwrap();
        let (stop, stopped) = watch::channel(false);
        let app = App::new(options, store, trust, stopped);
        let desk = Self { app, host: HostId::new("h-1"), _dir: dir, _stop: stop };
        desk.app.set_in_force(in_force("2-1"));
        let enrol = |tx: &mut Tx<'_>| {
            let labels = Labels::new();
            let new = hosts::NewHost {
                id: &desk.host,
                name: "web-1",
                labels: &labels,
                agent_version: "0.1.0",
            };
            Ok(hosts::enrol(tx, &new)?)
        };
        desk.app.store.write::<_, Problem>("test", now(), enrol).unwrap();
        desk.reports(&[("nginx", "1-1")], Ok(())).unwrap();
        desk
    }

    /// The host reports, and the write ends so.
    fn reports(
        &self,
        packages: &[(&str, &str)],
        ends: Result<(), Problem>,
    ) -> Result<findings::Changed, Problem> {
        self.app.store.write::<_, Problem>("test", now(), |tx| {
            hosts::set_inventory(tx, &self.host, &with(packages))?;
            let host = whole(tx, &self.host)?.unwrap();
            let changed = judge(&self.app, tx, &host)?;
            ends.map(|()| changed)
        })
    }

    fn found(&self) -> Vec<Finding> {
        let all = self.app.store.read(|view| findings::of_host(view, &self.host)).unwrap();
        all.into_values().map(|record| record.finding).collect()
    }

    fn is_settled(&self) -> bool {
        let standing = self.app.store.read(|view| judged::of_host(view, &self.host)).unwrap();
        self.app.exposed().is_settled(&self.host, &standing.unwrap())
    }

    /// Puts a policy with this deadline into force.
    fn owes(&self, days: u32) {
        let text = format!(
            "[policy]\nname = \"web\"\nselect = \"all\"\n\n[[class]]\nname = \"all\"\ndeadline = \"{days}d\"\n\n[[ring]]\nname = \"all\"\n"
        );
        let record = PolicyRecord {
            name: "web".into(),
            version: 1,
            digest: Digest::of(text.as_bytes()),
            text,
            applied_at: now(),
            applied_by: "test".into(),
        };
        let policies = Policies::of_records(vec![record]);
        assert!(policies.unread.is_empty(), "{:?}", policies.unread);
        self.app.set_policies(Arc::new(policies));
    }

    /// In how many days what is found is owed, counted from when it was first seen.
    fn owed_in(&self) -> Vec<i64> {
        let all = self.app.store.read(|view| findings::of_host(view, &self.host)).unwrap();
        let days = |r: findings::FindingRecord| {
            let deadline = r.finding.deadline.unwrap();
            deadline.duration_since(r.first_seen).as_hours() / 24
        };
        all.into_values().map(days).collect()
    }
}

#[test]
fn what_was_judged_and_kept_is_settled_and_what_was_not_committed_is_not() {
    let desk = Desk::new();
    assert_eq!(desk.found()[0].state, FindingState::Open);
    assert!(desk.is_settled());

    let full =
        Problem::new(ProblemKind::Environment, "database-full", "the disk is full", "make room");
    assert!(desk.reports(&[("nginx", "2-1")], Err(full)).is_err());
    assert_eq!(desk.found()[0].state, FindingState::Open);
    assert!(!desk.is_settled(), "the index knows of a report that was never written down");

    // What the store has of it counts, and comes to what it came to.
    let again = desk.reports(&[("nginx", "1-1")], Ok(())).unwrap();
    assert_eq!(again, findings::Changed::default());
    assert!(desk.is_settled());
    desk.reports(&[("nginx", "2-1")], Ok(())).unwrap();
    assert_eq!(desk.found()[0].state, FindingState::Fixed);
    assert!(desk.is_settled());
}

#[test]
fn another_feed_unsettles_those_it_says_something_else_of_until_all_are_judged() {
    let desk = Desk::new();
    desk.app.set_in_force(in_force("3-1"));
    desk.app.exposed_mut().turn_to(&desk.app.in_force());
    assert!(!desk.is_settled());
    judge_all(&desk.app).unwrap();
    assert!(desk.is_settled());
    assert_eq!(desk.found()[0].fixed_version.as_deref(), Some("3-1"));
}

#[test]
fn a_host_that_reports_between_a_look_and_its_write_is_rated_by_the_policy_in_force() {
    let desk = Desk::new();
    desk.owes(7);
    judge_all(&desk.app).unwrap();
    assert_eq!(desk.owed_in(), [7]);

    desk.owes(1);
    let looked = differs_by_now(&desk.app, &desk.host, true).unwrap().unwrap();
    // A package more, of which nobody says anything.
    desk.reports(&[("nginx", "1-1"), ("zlib", "1")], Ok(())).unwrap();
    keep(&desk.app, &[looked]).unwrap();
    assert_eq!(desk.owed_in(), [1]);
    assert!(desk.is_settled());
}

#[test]
fn a_statement_that_was_taken_back_and_said_again_before_anybody_looked_is_not_on_record_as_gone() {
    let desk = Desk::new();
    let nothing = InForce {
        catalogue: Arc::new(Catalogue::build(CatalogueInput::default())),
        feeds: "nothing".into(),
    };
    let gone = in_force("0");
    for by in [gone, in_force("2-1"), nothing, in_force("2-1")] {
        desk.app.set_in_force(by);
        desk.app.exposed_mut().turn_to(&desk.app.in_force());
    }
    judge_all(&desk.app).unwrap();
    assert_eq!(desk.found()[0].state, FindingState::Open);
    let entries = desk.app.store.read(|view| fettle_store::ledger::latest(view, 1000));
    let entries = format!("{entries:?}");
    assert!(!entries.contains("finding.withdrawn"), "{entries}");
}
