//! Events of a rollout, one after another: each applied to a copy of the state and decided on, as the server does it.
//! It looks at the whole fleet each time, which is told apart, for that grows with the fleet and the rest does not.

use crate::fleet::{Shape, World};
use crate::median;
use fettle_core::plan::{Plan, Wave};
use fettle_core::rollout::{HostObservation, Observations, Phase, Rollout, RolloutEvent, Sight};
use fettle_core::transaction::Outcome;
use fettle_core::{HostId, RolloutId, Timestamp};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

const SAMPLES: usize = 301;

/// A rollout on its way.
struct Way {
    state: Rollout,
    seen: Observations,
    now: Timestamp,
}

impl Way {
    fn begin(hosts: usize, shape: Shape) -> Result<Self, Box<dyn Error>> {
        let mut world = World::of(hosts, shape)?;
        for host in &mut world.fleet {
            host.last_seen = Some(world.now);
        }
        let id = RolloutId::from("ro-1");
        let created = Rollout::create(&id, world.plan(), "bench");
        let now = world.now;
        let mut state = Rollout::begin(&id, now, &created)?;
        if shape == Shape::Halves {
            // The gate alone is asked about, and no budget.
            state.plan_mut().budgets.clear();
        }
        let of = |inventory: &Arc<_>| HostObservation {
            last_seen: Some(now),
            cohort: Some(fettle_core::inventory::Inventory::cohort(inventory)),
            ..HostObservation::default()
        };
        // A cohort is worked out once for all of it.
        let mut cohorts = BTreeMap::new();
        let hosts = world.fleet.iter().filter_map(|host| {
            let inventory = host.inventory.as_ref()?;
            let known = cohorts.entry(Arc::as_ptr(inventory)).or_insert_with(|| of(inventory));
            Some((host.id.clone(), known.clone()))
        });
        let seen = Observations { hosts: hosts.collect(), ..Observations::default() };
        Ok(Self { state, seen, now })
    }

    /// Decides and does what is decided. Gives the words of what happened.
    fn go_on(&mut self) -> Result<Vec<&'static str>, Box<dyn Error>> {
        let decision = self.state.next(self.now, &Sight::of(&self.state, self.seen.clone()));
        for event in &decision.events {
            self.state.apply(self.now, event)?;
        }
        Ok(decision.events.iter().map(RolloutEvent::word).collect())
    }

    fn at_work(&self) -> Vec<HostId> {
        let at_work = self.state.hosts.open().filter(|(_, run)| run.at_work());
        at_work.map(|(id, _)| id.clone()).collect()
    }

    /// Everybody speaks again, later.
    fn rest(&mut self, seconds: i64) {
        self.now += jiff::SignedDuration::from_secs(seconds);
        let now = self.now;
        self.seen.hosts.values_mut().for_each(|host| host.last_seen = Some(now));
    }

    fn ends(&mut self, id: &HostId) -> RolloutEvent {
        self.seen.hosts.entry(id.clone()).or_default().last_seen = Some(self.now);
        RolloutEvent::Ended { host: id.clone(), outcome: Outcome::Patched }
    }
}

/// A rollout led so far that `percent` of its hosts have ended, and then one event after another.
pub(crate) fn events(shape: Shape, hosts: usize, percent: usize) -> Result<(), Box<dyn Error>> {
    let mut way = Way::begin(hosts, shape)?;
    let target = way.state.plan.hosts.len() * percent / 100;
    let mut ended = 0;
    let (mut looked, mut samples, mut follow) = (Vec::new(), Vec::new(), Vec::new());
    while samples.len() < SAMPLES {
        let events = way.go_on()?;
        let at_work = way.at_work();
        if at_work.is_empty() {
            if events.is_empty() {
                // It bakes or rests.
                way.rest(86_400);
            }
            if way.state.phase == Phase::Done && !samples.is_empty() {
                // Of a small fleet fewer are left than would be asked for.
                break;
            }
            if way.state.ended_at.is_some() || matches!(way.state.phase, Phase::Halted { .. }) {
                return Err(format!("{} of it after {ended} hosts", way.state.phase.word()).into());
            }
            continue;
        }
        for id in at_work {
            way.state.apply(way.now, &RolloutEvent::Redeemed { host: id.clone() })?;
            let event = way.ends(&id);
            ended += 1;
            if ended < target {
                way.state.apply(way.now, &event)?;
                continue;
            }
            let fleet = way.seen.clone();
            let began = Instant::now();
            let mut next = way.state.clone();
            next.apply(way.now, &event)?;
            let applied = began.elapsed();
            let began = Instant::now();
            let sight = Sight::of(&next, fleet);
            looked.push(began.elapsed().as_secs_f64() * 1e6);
            let began = Instant::now();
            let decision = next.next(way.now, &sight);
            samples.push((applied + began.elapsed()).as_secs_f64() * 1e6);
            follow.push(decision.events.len() as f64);
            way.state = next;
            for event in &decision.events {
                way.state.apply(way.now, event)?;
            }
            if samples.len() == SAMPLES {
                break;
            }
        }
    }
    let at_work = way.state.hosts.values().filter(|run| run.at_work()).count();
    println!("at work\t{at_work}\thosts");
    println!("events that follow\t{}\tevents", median(follow));
    println!("fleet looked at\t{}\tus", median(looked));
    println!("event applied and decided\t{}\tus", median(samples));
    let began = Instant::now();
    let whole = way.state.decide(way.now, &way.seen);
    println!("decided from nothing, holds told\t{}\tus", began.elapsed().as_secs_f64() * 1e6);
    println!("holds\t{}\tholds", whole.holds.len());
    Ok(())
}

/// A wave of `percent` of the hosts has ended, and its gate is asked again and again: while it bakes, while one host has
/// not spoken since, and when all have.
pub(crate) fn gate(hosts: usize, percent: usize) -> Result<(), Box<dyn Error>> {
    let mut way = Way::begin(hosts, Shape::Halves)?;
    let plan = way.state.plan_mut();
    // All hosts in two waves, so that a gate stands behind the first.
    let all: Vec<HostId> = plan.waves.drain(1..).flat_map(|wave| wave.hosts).collect();
    let Some(first) = plan.waves.first_mut() else { return Err("no wave".into()) };
    first.hosts.extend(all);
    let rest = first.hosts.split_off(first.hosts.len() * percent / 100);
    let last = Wave { hosts: rest, ..first.clone() };
    plan.waves.push(last);
    for (number, wave) in (0..).zip(&plan.waves) {
        for id in &wave.hosts {
            if let Some(host) = plan.hosts.get_mut(id) {
                host.wave = number;
            }
        }
    }
    let id = RolloutId::from("ro-1");
    let created = Rollout::create(&id, Plan::clone(&way.state.plan), "bench");
    way.state = Rollout::begin(&id, way.now, &created)?;
    loop {
        let events = way.go_on()?;
        if events.contains(&"wave-ended") {
            break;
        }
        let at_work = way.at_work();
        if at_work.is_empty() && events.is_empty() {
            way.rest(86_400);
        }
        for id in at_work {
            way.state.apply(way.now, &RolloutEvent::Redeemed { host: id.clone() })?;
            let event = way.ends(&id);
            way.state.apply(way.now, &event)?;
        }
    }
    let in_wave = way.state.plan.waves[0].hosts.len();
    println!("hosts of the wave\t{in_wave}\thosts");
    let asked = |way: &Way| {
        let sight = Sight::of(&way.state, way.seen.clone());
        let mut samples = Vec::new();
        let mut says = String::new();
        for _ in 0..SAMPLES {
            let began = Instant::now();
            let decision = way.state.next(way.now, &sight);
            samples.push(began.elapsed().as_secs_f64() * 1e6);
            let events = decision.events.iter().map(RolloutEvent::word);
            let holds = decision.holds.iter().map(|waiting| waiting.hold.code());
            says = events.chain(holds).collect::<Vec<_>>().join(", ");
        }
        (median(samples), says)
    };
    let (bakes, says) = asked(&way);
    println!("gate asked while it bakes ({says})\t{bakes}\tus");
    let before = way.now;
    let bake = way.state.plan.waves[0].gate.bake_seconds;
    way.rest(i64::try_from(bake)? + 1);
    let some = way.state.plan.waves[0].hosts[0].clone();
    let mute =
        |way: &mut Way, at| way.seen.hosts.entry(some.clone()).or_default().last_seen = Some(at);
    mute(&mut way, before);
    let (waits, says) = asked(&way);
    println!("gate asked while one is mute ({says})\t{waits}\tus");
    let now = way.now;
    mute(&mut way, now);
    let (passes, says) = asked(&way);
    println!("gate asked when all have spoken ({says})\t{passes}\tus");
    Ok(())
}
