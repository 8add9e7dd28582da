//! Plans and rollouts of a fleet that never was: `big_plan plan HOSTS RUNS`, `big_plan rollout HOSTS PERCENT`. What
//! `cargo xtask bench plan` measures.
//!
//! Hosts fall into cohorts as they do in life, a few large ones and a long tail (Zipf); one cohort a fifty hosts. Each
//! host has 400 packages, of which 300 have an upgrade pending, and about 90 findings. The same numbers give the same
//! fleet. Prints one line a figure: name, value, unit.

use fettle_core::advisory::Ranking;
use fettle_core::finding::{Finding, FindingState};
use fettle_core::host::{Host, Labels};
use fettle_core::inventory::{Inventory, Kernel, Listener, Origin, Os, Package, Service, Upgrade};
use fettle_core::plan::{Plan, PlanInput, make};
use fettle_core::policy::Policy;
use fettle_core::rollout::{HostObservation, Observations, Phase, Rollout, RolloutEvent, Sight};
use fettle_core::transaction::Outcome;
use fettle_core::{Digest, HostId, RolloutId, Timestamp};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

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
    let package = |n: usize| Package {
        name: package_name(n),
        architecture: "amd64".into(),
        version: version(n, step(cohort, n)),
        source: format!("source-{}", n / 2),
        source_version: version(n, step(cohort, n)),
        healthy: true,
        module: String::new(),
    };
    let upgrade = |n: usize| Upgrade {
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
        boot_id: String::new(),
        packages: (0..PACKAGES).map(package).collect(),
        languages: vec![],
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
        stale: vec![],
        in_use: (0..60).map(package_name).collect(),
        exposed: (0..10).map(|n| package_name(5 * n)).collect(),
        reboot_needed: vec![],
        configuration: BTreeMap::new(),
        held: if cohort.is_multiple_of(10) { vec![package_name(8)] } else { vec![] },
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

/// The cohort of a host: the one of rank r has a share of 1/r.
fn cohort_of(n: usize, cohorts: usize) -> usize {
    // The inverse of the harmonic series' integral, in place of a table.
    let u = (drawn(n, 17) % 1_000_000) as f64 / 1_000_000.0;
    let rank = ((cohorts as f64 + 1.0).ln() * u).exp();
    (rank as usize - 1).min(cohorts - 1)
}

struct World {
    policy: Policy,
    fleet: Vec<Host>,
    findings: BTreeMap<HostId, Arc<[Finding]>>,
    now: Timestamp,
}

impl World {
    fn of(hosts: usize) -> Result<Self, Box<dyn Error>> {
        let policy = Policy::parse(POLICY).map_err(|e| format!("{e:?}"))?;
        let now: Timestamp = "2026-11-23T12:00:00Z".parse()?;
        let cohorts = (hosts / TO_A_COHORT).max(20);
        let kinds: Vec<_> = (0..cohorts).map(|c| Arc::new(inventory(c))).collect();
        let found: Vec<Arc<[Finding]>> =
            (0..cohorts).map(|c| findings(c, &policy).into()).collect();
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
                    inventory_digest: None,
                    quarantined: None,
                }
            })
            .collect();
        Ok(Self { policy, fleet, findings: known, now })
    }

    fn plan(&self) -> Plan {
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

/// A field of `/proc/self/status`, in MiB.
fn memory(field: &str) -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with(field)).ok_or("no such field")?;
    let kib: String = line.chars().filter(char::is_ascii_digit).collect();
    Ok(kib.parse::<f64>()? / 1024.0)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Time on the processor, in ms: what else runs on the machine does not count.
fn on_cpu() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or_default().parse::<f64>()? / 1e6)
}

fn plan(hosts: usize, runs: usize) -> Result<(), Box<dyn Error>> {
    let world = World::of(hosts)?;
    let before = memory("VmRSS")?;
    println!("fleet\t{before}\tMiB");
    let (mut times, mut cpu) = (Vec::new(), Vec::new());
    let mut plan = None;
    for _ in 0..runs.max(1) {
        // The one before is gone first: a server holds one.
        drop(plan.take());
        let (began, busy) = (Instant::now(), on_cpu()?);
        plan = Some(world.plan());
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        cpu.push(on_cpu()? - busy);
    }
    let plan = plan.ok_or("no plan")?;
    println!("make\t{}\tms", median(times));
    println!("make, on the processor\t{}\tms", median(cpu));
    println!("peak\t{}\tMiB", memory("VmHWM")?);
    println!("more than the fleet\t{}\tMiB", memory("VmHWM")? - before);
    let began = Instant::now();
    let digest = plan.digest();
    println!("digest\t{}\tms", began.elapsed().as_secs_f64() * 1000.0);
    let began = Instant::now();
    let text = serde_json::to_string(&plan)?;
    println!("write\t{}\tms", began.elapsed().as_secs_f64() * 1000.0);
    println!("document\t{}\tMB", text.len() as f64 / 1e6);
    let began = Instant::now();
    let again: Plan = serde_json::from_str(&text)?;
    println!("read\t{}\tms", began.elapsed().as_secs_f64() * 1000.0);
    println!("hosts\t{}\thosts", plan.hosts.len());
    println!("waves\t{}\twaves", plan.waves.len());
    if again.digest() != digest {
        return Err("the plan that was read is another".into());
    }
    Ok(())
}

/// A rollout of it, led so far that `percent` of its hosts have ended; then one event after another, each applied to a
/// copy of the state and decided on, as the server does it: it looks at the whole fleet each time, which is told apart,
/// for that grows with the fleet and the rest does not.
fn rollout(hosts: usize, percent: usize) -> Result<(), Box<dyn Error>> {
    let mut world = World::of(hosts)?;
    for host in &mut world.fleet {
        host.last_seen = Some(world.now);
    }
    let plan = world.plan();
    let target = plan.hosts.len() * percent / 100;
    let id = RolloutId::from("ro-1");
    let created = Rollout::create(&id, plan, "bench");
    let mut state = Rollout::begin(&id, world.now, &created)?;
    let mut now = world.now;
    let seen = |host: &Host| HostObservation {
        last_seen: Some(now),
        cohort: host.inventory.as_ref().map(|it| it.cohort()),
        ..HostObservation::default()
    };
    // A cohort is worked out once for all of it.
    let mut cohorts = BTreeMap::new();
    let hosts = world.fleet.iter().map(|host| {
        let place = host.inventory.as_ref().map(Arc::as_ptr);
        let known: &HostObservation = cohorts.entry(place).or_insert_with(|| seen(host));
        (host.id.clone(), known.clone())
    });
    let mut seen = Observations { hosts: hosts.collect(), ..Observations::default() };
    let mut ended = 0;
    let (mut looked, mut samples, mut follow) = (Vec::new(), Vec::new(), Vec::new());
    while samples.len() < 301 {
        let decision = state.next(now, &Sight::of(&state, seen.clone()));
        for event in &decision.events {
            state.apply(now, event)?;
        }
        let at_work: Vec<HostId> =
            state.hosts.open().filter(|(_, run)| run.at_work()).map(|(id, _)| id.clone()).collect();
        if at_work.is_empty() {
            if decision.events.is_empty() {
                // It bakes or rests; then everybody has spoken again.
                now += jiff::SignedDuration::from_secs(86_400);
                seen.hosts.values_mut().for_each(|host| host.last_seen = Some(now));
            }
            if state.ended_at.is_some() || matches!(state.phase, Phase::Halted { .. }) {
                return Err(format!("{} of it after {ended} hosts", state.phase.word()).into());
            }
            continue;
        }
        for id in at_work {
            state.apply(now, &RolloutEvent::Redeemed { host: id.clone() })?;
            let event = RolloutEvent::Ended { host: id.clone(), outcome: Outcome::Patched };
            seen.hosts.entry(id).or_default().last_seen = Some(now);
            ended += 1;
            if ended < target {
                state.apply(now, &event)?;
                continue;
            }
            let fleet = seen.clone();
            let began = Instant::now();
            let mut next = state.clone();
            next.apply(now, &event)?;
            let applied = began.elapsed();
            let began = Instant::now();
            let sight = Sight::of(&next, fleet);
            looked.push(began.elapsed().as_secs_f64() * 1e6);
            let began = Instant::now();
            let decision = next.next(now, &sight);
            samples.push((applied + began.elapsed()).as_secs_f64() * 1e6);
            follow.push(decision.events.len() as f64);
            state = next;
            for event in &decision.events {
                state.apply(now, event)?;
            }
            if samples.len() == 301 {
                break;
            }
        }
    }
    let at_work = state.hosts.values().filter(|run| run.at_work()).count();
    println!("at work\t{at_work}\thosts");
    println!("events that follow\t{}\tevents", median(follow));
    println!("fleet looked at\t{}\tus", median(looked));
    println!("event applied and decided\t{}\tus", median(samples));
    let began = Instant::now();
    let whole = state.decide(now, &seen);
    println!("decided from nothing, holds told\t{}\tus", began.elapsed().as_secs_f64() * 1e6);
    println!("holds\t{}\tholds", whole.holds.len());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["plan", hosts, runs] => plan(hosts.parse()?, runs.parse()?),
        ["rollout", hosts, percent] => rollout(hosts.parse()?, percent.parse()?),
        _ => Err("big_plan plan HOSTS RUNS, or big_plan rollout HOSTS PERCENT".into()),
    }
}
