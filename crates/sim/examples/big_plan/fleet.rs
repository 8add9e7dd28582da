//! The fleet: hosts in cohorts, what they have and what is found on them.

use fettle_core::advisory::Ranking;
use fettle_core::finding::{Finding, FindingState};
use fettle_core::host::{Host, Labels};
use fettle_core::inventory::{Inventory, Kernel, Listener, Origin, Os, Package, Service, Upgrade};
use fettle_core::plan::{Alike, Plan, PlanInput, make};
use fettle_core::policy::Policy;
use fettle_core::{Digest, HostId, Shared, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;

const PACKAGES: usize = 400;
const UPGRADES: usize = 300;
/// Hosts to a cohort, on average.
const TO_A_COHORT: usize = 50;

const POLICY: &str = r#"
[policy]
name = "production"
select = "env=prod"
take = "all"
[[class]]
name = "urgent"
cvss-at-least = 9.0
deadline = "3d"
[[class]]
name = "rest"
deadline = "30d"
[[exclude]]
package = "tool-1*"
reason = "the vendor's agent breaks"
owner = "ops"
until = 2027-01-01
[[budget]]
name = "web"
select = "role=web"
max-unavailable = 200
[[budget]]
name = "everything"
select = "env=prod"
max-unavailable = 1000
"#;

/// Canaries, then the others.
const RINGS: &str = r#"
[[ring]]
name = "canary"
select = "ring=canary"
wave-percent = 50
soak = "1h"
[[ring]]
name = "early"
select = "ring=early"
wave-percent = 25
soak = "1d"
[[ring]]
name = "broad"
wave-percent = 20
"#;

/// One after another.
const ROLLING: &str = r#"
[strategy]
kind = "rolling"
max-unavailable = "1%"
"#;

/// A first few, then all the others at once.
const HALVES: &str = r#"
[strategy]
kind = "percentage"
waves = [1, 100]
"#;

/// A number that looks drawn: the same for the same two.
fn drawn(a: usize, b: usize) -> usize {
    let mut x = (a as u64) << 32 ^ b as u64 ^ 0x9e37_79b9_7f4a_7c15;
    for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        x = (x ^ x >> 30).wrapping_mul(factor);
    }
    (x >> 33) as usize
}

fn package_name(n: usize) -> String {
    format!("{}-{n}", ["lib", "tool", "server", "python3", "perl"][n % 5])
}

fn version(n: usize, step: usize) -> String {
    format!("{}.{}-1+deb12u{step}", 1 + n % 9, n % 30)
}

/// What of its packages a cohort has at which step: cohorts differ in a dozen of them.
fn step(cohort: usize, n: usize) -> usize {
    if drawn(cohort, n).is_multiple_of(33) { 1 + drawn(cohort, n + 7) % 3 } else { 2 }
}

fn inventory(cohort: usize) -> Inventory {
    let package = |n: usize| {
        Shared::from(Package {
            name: package_name(n),
            architecture: "amd64".into(),
            version: version(n, step(cohort, n)),
            source: format!("source-{}", n / 2),
            source_version: version(n, step(cohort, n)),
            healthy: true,
            module: String::new(),
        })
    };
    let upgrade = |n: usize| {
        Shared::from(Upgrade {
            name: package_name(n),
            architecture: "amd64".into(),
            from: version(n, step(cohort, n)),
            to: version(n, 4),
            origin: Origin {
                origin: "Debian".into(),
                label: "Debian-Security".into(),
                suite: "stable-security".into(),
                codename: "bookworm-security".into(),
            },
            sha256: Digest::of(package_name(n).as_bytes()),
            size: 100_000 + n as u64,
            source_version: version(n, 4),
            brings: vec![],
            removes: vec![],
        })
    };
    let unit = |n: usize| format!("{}.service", package_name(5 * n + 2));
    Inventory {
        schema: 1,
        os: Os {
            id: "debian".into(),
            version: "12".into(),
            codename: "bookworm".into(),
            pretty: "Debian GNU/Linux 12 (bookworm)".into(),
        },
        architecture: "amd64".into(),
        kernel: Kernel { running: "6.1.0-28-amd64".into(), ..Kernel::default() },
        packages: (0..PACKAGES).map(package).collect(),
        upgrades: (0..UPGRADES).map(upgrade).collect(),
        services: (0..20)
            .map(|n| Service {
                unit: unit(n),
                active: "active".into(),
                sub: "running".into(),
                enabled: "enabled".into(),
            })
            .collect(),
        listeners: (0..6)
            .map(|n| Listener {
                protocol: "tcp".into(),
                address: "0.0.0.0".into(),
                port: 8000 + n as u16,
                process: package_name(5 * n + 2),
                unit: unit(n),
            })
            .collect(),
        in_use: (0..60).map(package_name).collect(),
        exposed: (0..10).map(|n| package_name(5 * n)).collect(),
        held: if cohort.is_multiple_of(10) { vec![package_name(8)] } else { vec![] },
        filesystems: vec![],
        dependents: None,
        ..Inventory::default()
    }
}

/// Of 180 vulnerabilities, those that a cohort has: two in three are open, the others have no fix yet.
fn findings(cohort: usize, policy: &Policy) -> Vec<Finding> {
    let first = "2026-11-01T00:00:00Z".parse().unwrap_or(Timestamp::UNIX_EPOCH);
    let has = (0..180).filter(|v| drawn(cohort, v + 5000).is_multiple_of(2));
    has.map(|v| {
        let open = v % 3 > 0;
        let source = if open { v % (UPGRADES / 2) } else { v % (PACKAGES / 2) };
        let mut finding = Finding {
            host: HostId::from("h"),
            id: format!("CVE-2026-{}", 10_000 + v),
            source: format!("source-{source}"),
            installed: version(2 * source, 1),
            binaries: vec![package_name(2 * source), package_name(2 * source + 1)],
            state: if open { FindingState::Open } else { FindingState::NoFixYet },
            fixed_version: open.then(|| version(2 * source, 4)),
            offered: open,
            in_use: v.is_multiple_of(3),
            exposed: v.is_multiple_of(7),
            urgency: String::new(),
            ranking: Ranking { cvss: Some((v % 100) as f32 / 10.0), ..Ranking::default() },
            class: String::new(),
            deadline: None,
        };
        policy.rate(&mut finding, first);
        finding
    })
    .collect()
}

/// The cohort of a host: each cohort has one, and of the others the one of rank r has a share of 1/r.
fn cohort_of(n: usize, cohorts: usize) -> usize {
    if n < cohorts {
        return n;
    }
    // The inverse of the harmonic series' integral, in place of a table.
    let u = (drawn(n, 17) % 1_000_000) as f64 / 1_000_000.0;
    let rank = ((cohorts as f64 + 1.0).ln() * u).exp();
    (rank as usize - 1).min(cohorts - 1)
}

/// How the policy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Rings,
    Rolling,
    Halves,
}

impl Shape {
    pub(crate) fn of(word: &str) -> Result<Self, String> {
        match word {
            "rings" => Ok(Self::Rings),
            "rolling" => Ok(Self::Rolling),
            "halves" => Ok(Self::Halves),
            other => Err(format!("`{other}` is neither rings, rolling nor halves")),
        }
    }
}

pub(crate) struct World {
    pub(crate) policy: Policy,
    pub(crate) fleet: Vec<Host>,
    findings: BTreeMap<HostId, Arc<[Shared<Finding>]>>,
    pub(crate) now: Timestamp,
}

impl World {
    /// Held as the server holds it when it plans: what is alike once.
    pub(crate) fn of(hosts: usize, shape: Shape) -> Result<Self, Box<dyn Error>> {
        let more = match shape {
            Shape::Rings => RINGS,
            Shape::Rolling => ROLLING,
            Shape::Halves => HALVES,
        };
        let policy = Policy::parse(&format!("{POLICY}{more}")).map_err(|e| format!("{e:?}"))?;
        let now: Timestamp = "2026-11-23T12:00:00Z".parse()?;
        let cohorts = (hosts / TO_A_COHORT).max(20);
        let mut alike = Alike::default();
        let kinds: Vec<_> = (0..cohorts).map(|c| alike.inventory(inventory(c))).collect();
        let found: Vec<_> = (0..cohorts).map(|c| alike.findings(findings(c, &policy))).collect();
        let mut known = BTreeMap::new();
        let fleet = (0..hosts)
            .map(|n| {
                let id = HostId::new(format!("h-{n:08}"));
                let cohort = cohort_of(n, cohorts);
                let role = ["web", "db", "mail", "cache", "build"][n % 5];
                let ring = ["canary", "early", "early"].get(drawn(n, 9) % 50).unwrap_or(&"broad");
                let labels: Labels = [("env", "prod"), ("role", role), ("ring", ring)]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into();
                known.insert(id.clone(), found[cohort].clone());
                Host {
                    id,
                    name: format!("{role}-{n}"),
                    labels,
                    enrolled_at: now,
                    // One in a hundred is silent.
                    last_seen: (!drawn(n, 3).is_multiple_of(100)).then_some(now),
                    agent_version: "0.1.0".into(),
                    inventory: Some(kinds[cohort].clone()),
                    cohort: None,
                    inventory_digest: None,
                    quarantined: None,
                    listed: None,
                }
            })
            .collect();
        Ok(Self { policy, fleet, findings: known, now })
    }

    /// How many cohorts there are, and of how many packages the fewest upgrades pend on a host.
    pub(crate) fn size(&self) -> (usize, usize) {
        let mut kinds: BTreeMap<*const Inventory, &Inventory> = BTreeMap::new();
        for inventory in self.fleet.iter().filter_map(|host| host.inventory.as_ref()) {
            kinds.insert(Arc::as_ptr(inventory), inventory);
        }
        let cohorts: BTreeSet<Digest> = kinds.values().map(|kind| kind.cohort()).collect();
        (cohorts.len(), kinds.values().map(|kind| kind.upgrades.len()).min().unwrap_or(0))
    }

    pub(crate) fn plan(&self) -> Plan {
        make(PlanInput {
            number: 1,
            parent: None,
            policy: &self.policy,
            policies: std::slice::from_ref(&self.policy),
            fleet: &self.fleet,
            only: None,
            findings: &self.findings,
            barred: &[],
            recalls: &[],
            busy: &BTreeMap::new(),
            serving: None,
            silent_after_seconds: 900,
            now: self.now,
            seed: 1,
        })
    }
}
