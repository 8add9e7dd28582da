//! What plans are made from is read once where it is alike, and says the same as what is kept of each host.

// What a test needs to be there may be unwrapped, in its own helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use fettle_core::advisory::Ranking;
use fettle_core::finding::{Finding, FindingState};
use fettle_core::host::{Host, Labels};
use fettle_core::inventory::{
    Filesystem, Inventory, Kernel, Listener, Origin, Os, Package, Service, StaleProcess, Upgrade,
};
use fettle_core::language::{Ecosystem, LanguagePackage};
use fettle_core::plan::{Alike, Plan, PlanInput, Seen, make};
use fettle_core::policy::Policy;
use fettle_core::root::{Root, RootKind, subject};
use fettle_core::{Digest, HostId, Shared, Timestamp};
use fettle_store::planning::{self, Found};
use fettle_store::{Store, StoreError, View, findings, hosts};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// More than are asked for one by one, and than are unpacked at once.
const HOSTS: usize = 300;

const POLICIES: [&str; 2] = [
    r#"
[policy]
name = "all"
select = "env=prod"
take = "all"
[[class]]
name = "rest"
deadline = "30d"
[[exclude]]
package = "p7"
reason = "it breaks"
owner = "ops"
until = 2040-01-01
[[budget]]
name = "web"
select = "host.tag=web-server"
max-unavailable = 20
[[ring]]
name = "reachable"
select = "host.listens=443 and host.package.p1<2"
[[ring]]
name = "broad"
select = "not os.kernel=6.1.0-3"
"#,
    r#"
[policy]
name = "databases"
select = "env=prod and host.listens=5432/tcp"
priority = 10
[[class]]
name = "rest"
deadline = "30d"
[[ring]]
name = "every"
"#,
];

fn now() -> Timestamp {
    Timestamp::from_second(1_760_000_000).unwrap()
}

/// A number that looks drawn: the same for the same two.
fn drawn(a: usize, b: usize) -> usize {
    let mut x = (a as u64) << 32 ^ b as u64 ^ 0x9e37_79b9_7f4a_7c15;
    for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        x = (x ^ x >> 30).wrapping_mul(factor);
    }
    (x >> 33) as usize
}

/// Is it so for one in so many?
fn one_in(many: usize, a: usize, b: usize) -> bool {
    drawn(a, b).is_multiple_of(many)
}

fn packages(kind: usize) -> Vec<Shared<Package>> {
    let package = |n: usize| {
        let (name, source) = (format!("p{n}"), format!("s{}", n / 2));
        let version = format!("1.{}", drawn(kind % 5, n) % 2);
        Shared::from(Package {
            name,
            architecture: "amd64".into(),
            version: version.clone(),
            source,
            source_version: version,
            healthy: true,
            module: String::new(),
        })
    };
    (0..20).map(package).collect()
}

fn upgrade(n: usize) -> Shared<Upgrade> {
    Shared::from(Upgrade {
        name: format!("p{n}"),
        architecture: "amd64".into(),
        from: "1.0".into(),
        to: "2.0".into(),
        origin: Origin { suite: "stable-security".into(), ..Origin::default() },
        sha256: Digest::of(&[n as u8]),
        size: 1,
        source_version: "2.0".into(),
        brings: vec![],
        removes: if n == 9 { vec!["p3".into()] } else { vec![] },
    })
}

fn listener(unit: &str, address: &str, port: u16) -> Listener {
    Listener {
        protocol: "tcp".into(),
        address: address.into(),
        port,
        process: unit.trim_end_matches(".service").into(),
        unit: unit.into(),
    }
}

/// Of one of a few kinds; what plans do not look at is each host's own.
fn inventory(n: usize, kind: usize) -> Inventory {
    let one = |what: &str| vec![what.to_owned()];
    let kernel = format!("6.1.0-{}", kind % 4);
    let mut listeners = vec![listener("p1.service", &format!("10.0.0.{}", n % 250), 443)];
    if one_in(4, kind, 2) {
        listeners.push(listener("db.service", "0.0.0.0", 5432));
    }
    if one_in(3, kind, 3) {
        listeners.push(listener("p2.service", &format!("127.0.0.{}", 1 + n % 250), 80));
    }
    Inventory {
        schema: 1,
        os: Os { id: "debian".into(), version: "12".into(), ..Os::default() },
        architecture: "amd64".into(),
        kernel: Kernel { running: kernel, from_package: true, ..Kernel::default() },
        boot_id: format!("boot-{n}"),
        packages: packages(kind).into(),
        languages: vec![LanguagePackage {
            ecosystem: Ecosystem::Pypi,
            name: "jinja2".into(),
            version: format!("3.{n}"),
            location: "/x".into(),
        }],
        roots: (kind.is_multiple_of(3))
            .then(|| Root {
                kind: RootKind::Docker,
                name: "web".into(),
                image: format!("image-{}", kind % 2),
                location: String::new(),
                running: true,
                os: Os::default(),
                architecture: "amd64".into(),
                packages: packages(n).into(),
                gaps: one("no rpm"),
            })
            .into_iter()
            .collect(),
        upgrades: (0..20).filter(|p| one_in(3, kind, 100 + p)).map(upgrade).collect(),
        services: ["nginx.service", "p1.service", "p2.service"]
            .into_iter()
            .filter(|unit| one_in(2, kind, unit.len()))
            .map(|unit| Service {
                unit: unit.into(),
                active: "active".into(),
                sub: "running".into(),
                enabled: "enabled".into(),
            })
            .collect(),
        listeners,
        stale: vec![StaleProcess {
            unit: String::new(),
            process: "x".into(),
            pid: n as u32,
            files: vec![],
            packages: vec![],
        }],
        in_use: one("p1"),
        exposed: if one_in(2, kind, 5) { one("p1") } else { vec![] },
        reboot_needed: if one_in(2, n, 6) { one("a kernel") } else { vec![] },
        configuration: BTreeMap::from([("/etc/x".to_owned(), Digest::of(&[n as u8]))]),
        held: if one_in(5, kind, 7) { one("p4") } else { vec![] },
        pinned: if one_in(6, kind, 8) {
            BTreeMap::from([("p5".to_owned(), "1.*".to_owned())])
        } else {
            BTreeMap::new()
        },
        gaps: vec![format!("gap {n}")],
        filesystems: vec![Filesystem {
            mount: "/".into(),
            size: 1 << 30,
            free: n as u64,
            inodes_free: None,
        }],
        dependents: Some(BTreeMap::from([(format!("p{n}"), one("p1"))])),
    }
}

fn finding(host: &HostId, n: usize, kind: usize, nth: usize) -> Finding {
    let (state, source) = match drawn(kind, 200 + nth) % 7 {
        0 => (FindingState::Fixed, format!("s{nth}")),
        1 => (FindingState::NoFixYet, format!("s{nth}")),
        2 => (FindingState::PendingRestart, format!("s{nth}")),
        3 => (FindingState::NotAffected, format!("s{nth}")),
        4 => (FindingState::Open, subject("docker:web", "s1")),
        _ => (FindingState::Open, format!("s{nth}")),
    };
    Finding {
        host: host.clone(),
        id: format!("CVE-2026-{nth}"),
        source,
        installed: "1.0".into(),
        binaries: vec![format!("p{}", 2 * nth), format!("p{}", 2 * nth + 1)],
        state,
        fixed_version: (state != FindingState::NoFixYet).then(|| "2.0".into()),
        offered: state == FindingState::Open,
        in_use: one_in(3, kind, 300 + nth),
        exposed: false,
        urgency: String::new(),
        ranking: Ranking { cvss: Some(7.5), ..Ranking::default() },
        class: "rest".into(),
        // Some hosts of a kind owe it at another time.
        deadline: one_in(2, n, 9).then(now),
    }
}

fn id(n: usize) -> HostId {
    HostId::new(format!("h-{n:03}"))
}

/// A fleet of some kinds in a store; of some hosts nothing is known, of others nobody has written down what they are like.
fn fleet(seed: usize) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("fettle.db")).unwrap();
    let write = |tx: &mut fettle_store::Tx<'_>| {
        for n in 0..HOSTS {
            // By the id they come in another order than by the name.
            let (id, name) = (id(n), format!("host-{:03}", drawn(n, 1) % 1000 * 1000 + n));
            let env = if one_in(8, n, 10) { "lab" } else { "prod" };
            let labels: Labels = [("env".to_owned(), env.to_owned())].into();
            let new =
                hosts::NewHost { id: &id, name: &name, labels: &labels, agent_version: "0.1.0" };
            hosts::enrol(tx, &new)?;
            let kind = seed * 100 + drawn(n, 11) % 12;
            if !one_in(20, n, 12) {
                hosts::set_inventory(tx, &id, &inventory(n, kind))?;
            }
            if !one_in(15, n, 13) {
                hosts::heard(tx, [(&id, now(), "0.1.0")])?;
            }
            if one_in(30, n, 14) {
                hosts::set_quarantine(tx, &id, Some("a disk"))?;
            }
            let all = (0..10).filter(|nth| !one_in(4, kind, 400 + nth));
            let judged: Vec<Finding> = all.map(|nth| finding(&id, n, kind, nth)).collect();
            // What was fixed was open before.
            let open = judged.iter().map(|f| Finding { state: FindingState::Open, ..f.clone() });
            findings::update(tx, &id, open.collect(), |_, _| {})?;
            findings::update(tx, &id, judged, |_, _| {})?;
        }
        Ok(())
    };
    store.write::<_, StoreError>("test", now(), write).unwrap();
    let raw = rusqlite::Connection::open(store.path()).unwrap();
    raw.execute("UPDATE hosts SET likeness = NULL WHERE id LIKE '%7'", []).unwrap();
    (dir, store)
}

/// Every inventory and every finding, of each host its own.
fn each(view: &View<'_>) -> Result<(Vec<Host>, Found), StoreError> {
    let mut fleet: Vec<Host> = hosts::all(view)?.into_iter().map(|record| record.host).collect();
    let mut found = Found::new();
    for host in &mut fleet {
        host.inventory = hosts::inventory(view, &host.id)?.map(Arc::new);
        let all = findings::of_host(view, &host.id)?.into_values().map(|record| record.finding);
        let open = all.filter(|f| f.state.is_vulnerable()).map(Shared::from);
        found.insert(host.id.clone(), open.collect());
    }
    Ok((fleet, found))
}

fn plan(policy: usize, fleet: &[Host], found: &Found, only: Option<&BTreeSet<HostId>>) -> Plan {
    let policies = POLICIES.map(|text| Policy::parse(text).unwrap());
    make(PlanInput {
        number: 1,
        parent: None,
        policy: &policies[policy],
        policies: &policies,
        fleet,
        only,
        findings: found,
        barred: &[],
        recalls: &[],
        busy: &BTreeMap::new(),
        serving: None,
        silent_after_seconds: 3600,
        now: now(),
        seed: 7,
    })
}

#[test]
fn a_plan_from_what_is_read_once_is_the_plan_from_what_is_kept_of_each_host() {
    let (mut changed, mut held) = (0, 0);
    for seed in 0..4 {
        let (_dir, store) = fleet(seed);
        let (fleet, found) = store.read(each).unwrap();
        let few: BTreeSet<HostId> = (0..HOSTS).filter(|n| one_in(9, *n, 20)).map(id).collect();
        for (policy, only) in [(0, None), (1, None), (0, Some(&few)), (1, Some(&few))] {
            let plain = plan(policy, &fleet, &found, only);
            let quick = store
                .read::<_, StoreError>(|view| {
                    let fleet = planning::fleet(view, &mut Alike::default())?;
                    let policy_of = Policy::parse(POLICIES[policy]).unwrap();
                    let asked = |host: &&Host| {
                        only.is_none_or(|o| o.contains(&host.id)) && policy_of.select.matches(host)
                    };
                    let asked = fleet.iter().filter(asked).map(|host| &host.id).collect();
                    let found = planning::findings(view, &asked, |_, _| true)?;
                    Ok(plan(policy, &fleet, &found, only))
                })
                .unwrap();
            assert_eq!(quick.held, plain.held, "seed {seed}, policy {policy}");
            assert_eq!(quick.hosts, plain.hosts, "seed {seed}, policy {policy}");
            assert_eq!(quick.digest(), plain.digest(), "seed {seed}, policy {policy}");
            changed += plain.hosts.len();
            held += plain.held.len();
        }
    }
    assert!(changed > 500 && held > 50, "{changed} hosts are changed, {held} groups are held");
}

#[test]
fn of_hosts_that_are_alike_to_plans_one_inventory_is_read_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("fettle.db")).unwrap();
    for n in 0..3 {
        let labels = Labels::new();
        let write = |tx: &mut fettle_store::Tx<'_>| {
            let (id, name) = (id(n), format!("host-{n}"));
            let new = hosts::NewHost { id: &id, name: &name, labels: &labels, agent_version: "" };
            hosts::enrol(tx, &new)?;
            hosts::set_inventory(tx, &id, &inventory(n, 0))
        };
        store.write::<_, StoreError>("test", now(), write).unwrap();
    }
    let raw = rusqlite::Connection::open(store.path()).unwrap();
    // Whoever reads this one fails.
    raw.execute("UPDATE inventories SET body = x'00' WHERE host = 'h-001'", []).unwrap();
    let read = || store.read(|view| planning::fleet(view, &mut Alike::default()));
    let fleet = read().unwrap();
    let all: Vec<_> = fleet.iter().map(|host| host.inventory.as_ref().unwrap()).collect();
    assert!(all.iter().all(|one| Arc::ptr_eq(one, all[0])));
    raw.execute("UPDATE hosts SET likeness = NULL", []).unwrap();
    assert!(matches!(read(), Err(StoreError::Document { .. })), "each stands for itself");
}

#[test]
fn the_likeness_that_is_written_down_covers_what_it_did_when_it_was_written() {
    // When this fails, plans look at more or at less than before: raise the number in `summaries` that has likenesses
    // made anew, and put the new one here.
    let likeness = Seen::of(inventory(3, 6)).likeness().to_string();
    assert_eq!(likeness, "sha256:8ceb4cbf57895c7e33b6585ccd95f42ba68b1b17ed57c302da31b554e8d46033");
}
