//! What a seed says about the fleet, its plans, and how bad the vendor is today.

use crate::random::Random;
use fettle_core::assignment::{ApplyOrder, PackageChange};
use fettle_core::plan::{Budget, HostPlan, Plan, PoolHost, PoolHosts, Pools, SCHEMA, Wave, Work};
use fettle_core::policy::GateRule;
use fettle_core::testbed::TestbedRule;
use fettle_core::{Digest, HostId, Timestamp};
use jiff::SignedDuration;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the packages of a run do, in permille of the hosts they land on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vendor {
    pub(crate) refused: u64,
    pub(crate) apply_fails: u64,
    pub(crate) verify_fails: u64,
    pub(crate) undo_fails: u64,
    /// The host goes down after it was patched.
    pub(crate) dies_later: u64,
}

/// How often things go wrong around it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) lose: u64,
    pub(crate) double: u64,
    pub(crate) delay: u64,
    pub(crate) agent_crash: u64,
    pub(crate) server_crash: u64,
    pub(crate) host_down: u64,
    pub(crate) stale_executor: u64,
    pub(crate) operator: u64,
    pub(crate) drift: u64,
    pub(crate) leave: u64,
    /// A service stops, or comes back, by itself.
    pub(crate) service: u64,
}

/// The unit that some budgets ask for.
pub(crate) const SERVICE: &str = "web.service";

/// The budget that says how many hosts of a rolling plan go at once.
pub(crate) const ROLLING: &str = "rolling";

pub(crate) fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(crate) fn after(at: Timestamp, seconds: u64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds as i64)).unwrap_or(Timestamp::MAX)
}

/// A cohort a version: its bytes, since hashing would be half of the simulator's work.
pub(crate) fn cohort(version: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(version.as_bytes()).for_each(|(to, from)| *to = *from);
    Digest(bytes)
}

pub(crate) fn vendor(random: &mut Random) -> Vendor {
    let mut vendor =
        Vendor { refused: 10, apply_fails: 5, verify_fails: 5, undo_fails: 20, dies_later: 2 };
    match random.between(0, 9) {
        0 => vendor.apply_fails = random.between(50, 1000),
        1 => vendor.verify_fails = random.between(50, 1000),
        2 => {
            vendor.verify_fails = random.between(100, 800);
            vendor.undo_fails = random.between(100, 700);
        }
        3 => vendor.dies_later = random.between(50, 500),
        4 => vendor.refused = random.between(50, 500),
        5 => vendor = Vendor::default(),
        _ => {}
    }
    vendor
}

pub(crate) fn faults(random: &mut Random) -> Faults {
    if random.permille(100) {
        return Faults::default();
    }
    let mut some = |most: u64| if random.permille(300) { 0 } else { random.between(1, most) };
    Faults {
        lose: some(200),
        double: some(200),
        delay: some(200),
        agent_crash: some(30),
        server_crash: some(4),
        host_down: some(8),
        stale_executor: some(250),
        operator: some(60),
        drift: some(10),
        leave: some(2),
        service: some(20),
    }
}

/// How the waves of a plan are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A canary, then one to three more waves.
    Rings,
    /// Waves that grow up to the whole.
    Percentage,
    /// One wave, whose hosts go one after another.
    Rolling,
    /// The idle pool, steps of the traffic, the other pool.
    BlueGreen,
}

/// What a wave of a blue/green plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Traffic(u32),
    Patch(bool),
}

/// A plan over these hosts, by a strategy that is drawn.
pub(crate) fn plan(
    random: &mut Random,
    number: u64,
    hosts: &[(HostId, String)],
    fleet: &[HostId],
) -> Plan {
    let shapes = [
        Shape::Rings,
        Shape::Rings,
        Shape::Percentage,
        Shape::Rolling,
        Shape::BlueGreen,
        Shape::BlueGreen,
    ];
    let shape = *random.pick(&shapes).unwrap_or(&Shape::Rings);
    let steps = random.pick(&[vec![100], vec![10, 100], vec![25, 50, 100]]).cloned();
    // The pools are those of every plan; which of them is idle changes from one rollout to the next.
    let is_idle = |id: &HostId| {
        fleet.iter().position(|other| other == id).is_some_and(|i| i % 2 == (number % 2) as usize)
    };
    let parts: Vec<Part> = [Part::Traffic(0), Part::Patch(true)]
        .into_iter()
        .chain(steps.unwrap_or_default().into_iter().map(Part::Traffic))
        .chain([Part::Patch(false)])
        // A pool in which nothing is to be done has no wave.
        .filter(|part| match part {
            Part::Patch(idle) => hosts.iter().any(|(id, _)| is_idle(id) == *idle),
            Part::Traffic(_) => true,
        })
        .collect();
    let waves = match shape {
        Shape::Rolling => 1,
        Shape::BlueGreen => parts.len(),
        _ => random.between(2, 4).min(hosts.len() as u64) as usize,
    };
    let mut gate = GateRule {
        bake_seconds: *random.pick(&[0, 60, 300, 1800]).unwrap_or(&300),
        max_failures: *random.pick(&[0, 0, 1, 2]).unwrap_or(&0),
        min_success_percent: *random.pick(&[100, 100, 60, 40]).unwrap_or(&100),
        silent_after_seconds: *random.pick(&[600, 900, 3600]).unwrap_or(&900),
        undo_wave: random.permille(300),
        ..GateRule::default()
    };
    // A rolling plan has one wave, and nothing is asked between waves.
    if shape != Shape::Rolling {
        crate::gates::extras(random, &mut gate);
    }
    // Now and then the canaries have nothing to do.
    let first = if random.permille(300) { "broad" } else { "canary" };
    let begins = *random.pick(&[0, 0, 900, 7200]).unwrap_or(&0);
    let mut waved: Vec<Wave> = (0..waves)
        .map(|w| Wave {
            ring: if w == 0 { first } else { "broad" }.to_owned(),
            hosts: Vec::new(),
            why: String::new(),
            gate: gate.clone(),
            soak_seconds: match shape {
                Shape::Rings if w == 0 => *random.pick(&[0, 600, 3600]).unwrap_or(&0),
                Shape::Percentage if w + 1 < waves => 600,
                _ => 0,
            },
            after_seconds: match shape {
                Shape::Rings if w > 0 => begins,
                _ => 0,
            },
            rolling: shape == Shape::Rolling,
            traffic: match parts.get(w) {
                Some(Part::Traffic(aim)) if shape == Shape::BlueGreen => Some(*aim),
                _ => None,
            },
        })
        .collect();
    let mut planned = BTreeMap::new();
    for (i, (id, version)) in hosts.iter().enumerate() {
        let wave = if shape == Shape::BlueGreen {
            parts.iter().position(|part| *part == Part::Patch(is_idle(id))).unwrap_or(0)
        } else if shape == Shape::Percentage {
            // After wave w, that share of all hosts: 1 of 8, 3 of 8, 5 of 8, 8 of 8.
            (i * waves / hosts.len()).max(i.min(1)).min(waves - 1)
        } else if i < waves {
            i
        } else {
            random.between(1.min(waves as u64 - 1), waves as u64 - 1) as usize
        };
        waved[wave].hosts.push(id.clone());
        let change = PackageChange {
            name: "nginx".to_owned(),
            architecture: "amd64".to_owned(),
            from: version.clone(),
            to: format!("2.{number}"),
            sha256: Digest::of(b"archive"),
            size: 1,
        };
        let host = HostPlan {
            name: id.to_string(),
            cohort: cohort(version),
            ring: waved[wave].ring.clone(),
            wave: wave as u32,
            work: Arc::new(Work {
                order: ApplyOrder {
                    changes: vec![change.into()],
                    fixes: vec![crate::gates::CVE.to_owned()],
                    ..ApplyOrder::default()
                },
                why: BTreeMap::new(),
                restarts: Vec::new(),
                reboot_likely: false,
                due: None,
                ignore_windows: false,
            }),
        };
        planned.insert(id.clone(), host);
    }
    let services = |random: &mut Random| {
        random.permille(500).then(|| SERVICE.to_owned()).into_iter().collect()
    };
    let whole = Budget {
        name: "all".into(),
        hosts: fleet.to_vec(),
        max_unavailable: random.between(1, 4) as u32,
        min_healthy: random.permille(400).then(|| random.between(1, fleet.len() as u64 - 1) as u32),
        services: services(random),
    };
    let half: Vec<HostId> = fleet.iter().step_by(2).cloned().collect();
    let half = Budget {
        name: "half".into(),
        hosts: half,
        max_unavailable: random.between(1, 2) as u32,
        services: services(random),
        ..Budget::default()
    };
    let pool = |name: &str, idle: bool| PoolHosts {
        name: name.to_owned(),
        hosts: fleet
            .iter()
            .filter(|id| is_idle(id) == idle)
            .map(|id| (id.clone(), PoolHost { name: id.to_string(), fit: true }))
            .collect(),
    };
    let capacity_percent = *random.pick(&[50, 100]).unwrap_or(&100);
    let pools = (shape == Shape::BlueGreen).then(|| Pools {
        idle: pool("green", true),
        serving: pool("blue", false),
        capacity_percent,
    });
    let testbed = random.permille(300).then(|| TestbedRule {
        required: true,
        max_age_seconds: *random.pick(&[1800, 86_400]).unwrap_or(&86_400),
        ..TestbedRule::default()
    });
    Plan {
        schema: SCHEMA,
        number,
        parent: None,
        policy: "all".into(),
        policy_digest: Digest::of(b"policy"),
        made_at: start(),
        seed: 0,
        hosts: planned,
        waves: waved,
        budgets: match shape {
            Shape::Rolling => {
                let at_once = random.between(1, 3) as u32;
                let rolling = Budget {
                    name: ROLLING.into(),
                    hosts: fleet.to_vec(),
                    max_unavailable: at_once,
                    ..Budget::default()
                };
                if random.permille(500) { vec![half, rolling] } else { vec![rolling] }
            }
            _ if random.permille(800) => vec![whole, half],
            _ => Vec::new(),
        },
        pools,
        testbed,
        approvals_needed: 0,
        held: Vec::new(),
    }
}
