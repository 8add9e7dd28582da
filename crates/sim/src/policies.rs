//! What a seed says about the policies in force, and what the checker knows of each apart from the document.

use crate::fleet::{SERVICE, after, start};
use crate::gates;
use crate::packages::{PACKAGES, version};
use crate::random::Random;
use crate::upstream::Words;
use fettle_core::host::Labels;
use fettle_core::policy::{
    Acceptance, Blackout, BudgetRule, ClassRule, CycleRule, CycleStart, CycleWhen, Exclusion,
    GateRule, Pin, Policy, RingRule, Selector, Share, SourceRule, Strategy, Take, Window,
};
use fettle_core::testbed::TestbedRule;
use fettle_core::{Digest, Timestamp};
use jiff::tz::TimeZone;

/// Fleets of more hosts have budgets in percent.
const SMALL: usize = 50;
/// Windows repeat so often, in seconds.
pub(crate) const PERIOD: u64 = 14_400;

/// A policy in force.
#[derive(Debug, Clone)]
pub(crate) struct Law {
    pub(crate) policy: Policy,
    /// The window is open for the first so many seconds of every [`PERIOD`]. `None`: always.
    pub(crate) open: Option<u64>,
    /// Whom it selects: `label=value`.
    pub(crate) whom: (&'static str, &'static str),
    /// Places of packages that it leaves alone, each until when.
    pub(crate) excluded: Vec<(usize, Timestamp)>,
    /// The one version that packages may have, each until when.
    pub(crate) pinned: Vec<(usize, u16, Timestamp)>,
    edition: u32,
}

impl Law {
    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        labels.get(self.whom.0).is_some_and(|value| value == self.whom.1)
    }

    /// Is its window closed, by plain arithmetic?
    pub(crate) fn is_closed(&self, now: Timestamp) -> bool {
        let into = now.as_second().unsigned_abs() % PERIOD;
        self.open.is_some_and(|open| into >= open)
    }

    /// When its window closes that is open now.
    pub(crate) fn closes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let second = now.as_second().unsigned_abs();
        let begun = second - second % PERIOD;
        self.open.and_then(|open| Timestamp::from_second((begun + open) as i64).ok())
    }

    /// May it change this package now?
    pub(crate) fn leaves_alone(&self, at: usize, to: u16, now: Timestamp) -> bool {
        let excluded = self.excluded.iter().any(|(other, until)| *other == at && now < *until);
        let pinned = |(other, only, until): &(usize, u16, Timestamp)| {
            *other == at && *only != to && now < *until
        };
        excluded || self.pinned.iter().any(pinned)
    }

    /// A newer edition of the same document.
    fn reworded(&mut self) {
        self.edition += 1;
        self.policy.digest = digest(&self.policy.name, self.edition);
    }

    /// Somebody edits it: a package is left alone, or what was left alone no longer is; or a day is closed.
    pub(crate) fn edit(&mut self, random: &mut Random, now: Timestamp) {
        match random.between(0, 3) {
            0 => {
                self.policy.exclusions.clear();
                self.excluded.clear();
            }
            1 => {
                self.policy.pins.clear();
                self.pinned.clear();
            }
            2 => {
                // A blackout that was declared since holds running rollouts as well.
                let today = now.to_zoned(TimeZone::UTC).date();
                let is_off = self.policy.blackouts.is_empty();
                self.policy.blackouts.clear();
                if is_off {
                    let reason = "the books are closed".to_owned();
                    self.policy.blackouts.push(Blackout { from: today, to: today, reason });
                }
            }
            _ => self.exclude(random, now),
        }
        self.reworded();
    }

    /// Its hosts become another policy's, or the other's its own.
    pub(crate) fn change_hands(&mut self) {
        self.policy.priority = if self.policy.priority < 0 { 10 } else { -10 };
        self.reworded();
    }

    /// The faults have stopped: no day is closed any more.
    pub(crate) fn reopen(&mut self) {
        if !self.policy.blackouts.is_empty() {
            self.policy.blackouts.clear();
            self.reworded();
        }
    }

    fn exclude(&mut self, random: &mut Random, now: Timestamp) {
        let at = random.between(0, PACKAGES.len() as u64 - 1) as usize;
        let until = after(now, random.between(3600, 20 * 3600));
        let (reason, owner) = ("the vendor's agent breaks".to_owned(), "ops".to_owned());
        let name = PACKAGES[at].0;
        // By a glob now and then, as people write them.
        let glob = format!("{}*", &name[..name.len() - 1]);
        let (package, places) = if random.permille(500) {
            let stem = &name[..name.len() - 1];
            let hit = |at: &usize| PACKAGES[*at].0.starts_with(stem);
            (glob, (0..PACKAGES.len()).filter(hit).collect())
        } else {
            (name.to_owned(), vec![at])
        };
        self.excluded.extend(places.into_iter().map(|at| (at, until)));
        self.policy.exclusions.push(Exclusion { package, reason, owner, until });
    }

    fn pin(&mut self, random: &mut Random, now: Timestamp) {
        let at = random.between(0, PACKAGES.len() as u64 - 1) as usize;
        let (only, until) = (random.between(1, 3) as u16, after(now, 30 * 86_400));
        self.pinned.push((at, only, until));
        self.policy.pins.push(Pin {
            package: PACKAGES[at].0.to_owned(),
            version: version(only),
            reason: "the shop needs it".to_owned(),
            owner: "ops".to_owned(),
            until,
        });
    }
}

/// Stands for the text: its bytes, since hashing would be a good part of the simulator's work.
fn digest(name: &str, edition: u32) -> Digest {
    let mut bytes = [0; 32];
    let text = format!("{edition} {name}");
    bytes.iter_mut().zip(text.as_bytes()).for_each(|(to, from)| *to = *from);
    Digest(bytes)
}

fn label(key: &str, value: &str) -> Selector {
    Selector::In { key: key.to_owned(), values: vec![value.to_owned()] }
}

/// The policies of a run: for `env=prod`, and now and then another for `role=db`.
pub(crate) fn laws(random: &mut Random, words: &Words, hosts: usize) -> Vec<Law> {
    let mut laws = vec![law(random, words, hosts, "main", ("env", "prod"), 0)];
    if random.permille(400) {
        // Of the same priority, nobody knows which one governs.
        let priority = if random.permille(250) { 0 } else { 10 };
        laws.push(law(random, words, hosts, "databases", ("role", "db"), priority));
    }
    laws
}

fn strategy(random: &mut Random) -> Strategy {
    match random.between(0, 5) {
        0 | 1 => Strategy::Rings,
        2 => Strategy::Percentage {
            waves: random.pick(&[vec![10, 100], vec![25, 50, 100]]).cloned().unwrap_or_default(),
            soak_seconds: 600,
        },
        3 => Strategy::Rolling { max_unavailable: Share::Hosts(random.between(1, 3) as u32) },
        _ => Strategy::BlueGreen {
            blue: label("pool", "blue"),
            green: label("pool", "green"),
            traffic: random
                .pick(&[vec![100], vec![10, 100], vec![25, 50, 100]])
                .cloned()
                .unwrap_or_default(),
            capacity_percent: *random.pick(&[50, 100]).unwrap_or(&100),
        },
    }
}

fn rings(random: &mut Random) -> Vec<RingRule> {
    let ring = |name: &str, select, wave_percent, soak_seconds, after_seconds| RingRule {
        name: name.to_owned(),
        select,
        wave_percent,
        soak_seconds,
        after_seconds,
    };
    let soak = *random.pick(&[0, 600, 3600]).unwrap_or(&0);
    let begins = *random.pick(&[0, 0, 900, 7200]).unwrap_or(&0);
    let percent = *random.pick(&[100, 50, 34]).unwrap_or(&100);
    let mut rings = vec![ring("canary", label("ring", "canary"), percent, soak, 0)];
    if random.permille(500) {
        rings.push(ring("early", label("ring", "early"), 100, soak, begins));
    }
    // Where the last ring does not take all that is left, some hosts have none.
    let rest = if random.permille(850) { Selector::All } else { label("ring", "early") };
    rings.push(ring("broad", rest, percent, 0, begins));
    rings
}

fn gate(random: &mut Random, rolling: bool) -> GateRule {
    let mut gate = GateRule {
        bake_seconds: *random.pick(&[0, 60, 300, 1800]).unwrap_or(&300),
        max_failures: *random.pick(&[0, 0, 1, 2]).unwrap_or(&0),
        min_success_percent: *random.pick(&[100, 100, 60, 40]).unwrap_or(&100),
        silent_after_seconds: *random.pick(&[600, 900, 3600]).unwrap_or(&900),
        undo_wave: random.permille(300),
        ..GateRule::default()
    };
    // A rolling plan has one wave, and nothing is asked between waves.
    if !rolling {
        gates::extras(random, &mut gate);
    }
    gate
}

fn budgets(random: &mut Random, hosts: usize) -> Vec<BudgetRule> {
    let services = |random: &mut Random| -> Vec<String> {
        random.permille(500).then(|| SERVICE.to_owned()).into_iter().collect()
    };
    let share = |hosts_at_once: u64| {
        if hosts > SMALL {
            Share::Percent(5 * hosts_at_once as u32)
        } else {
            Share::Hosts(hosts_at_once as u32)
        }
    };
    let most = (hosts as u64 - 1).max(1);
    let whole = BudgetRule {
        name: "all".to_owned(),
        select: Selector::All,
        max_unavailable: Some(share(random.between(1, 4))),
        min_healthy: random
            .permille(400)
            .then(|| Share::Hosts(random.between(1, most.min(7)) as u32)),
        services: services(random),
    };
    let half = BudgetRule {
        name: "half".to_owned(),
        select: label("half", "yes"),
        max_unavailable: Some(share(random.between(1, 2))),
        min_healthy: None,
        services: services(random),
    };
    vec![whole, half]
}

fn classes() -> Vec<ClassRule> {
    let class = |name: &str, deadline_seconds| ClassRule {
        name: name.to_owned(),
        deadline_seconds,
        ..ClassRule::default()
    };
    vec![
        ClassRule {
            kev: Some(true),
            soak_seconds: Some(60),
            emergency: true,
            ..class("exploited", 86_400)
        },
        ClassRule { cvss_at_least: Some(7.0), ..class("high", 3 * 86_400) },
        class("rest", 30 * 86_400),
    ]
}

fn law(
    random: &mut Random,
    words: &Words,
    hosts: usize,
    name: &str,
    whom: (&'static str, &'static str),
    priority: i32,
) -> Law {
    let strategy = strategy(random);
    let rolling = matches!(strategy, Strategy::Rolling { .. });
    let open = random.permille(300).then(|| random.between(7200, 10_800));
    let minutes = |n: u64| u32::try_from(n * PERIOD / 60).unwrap_or(0);
    let window = |n: u64, open: u64| Window {
        days: Vec::new(),
        recurrence: None,
        after_days: 0,
        start_minute: minutes(n),
        duration_seconds: open,
        time_zone: "UTC".to_owned(),
    };
    let with_budgets = random.permille(if rolling { 400 } else { 800 });
    let acceptances = words.keys().filter(|_| random.permille(100)).map(|id| Acceptance {
        finding: id.clone(),
        source: None,
        reason: "behind the firewall".to_owned(),
        owner: "sec".to_owned(),
        until: after(start(), 5 * 3600),
        epss_below: 1.0,
        even_if_exploited: false,
    });
    let acceptances = acceptances.collect();
    let due = start().to_zoned(TimeZone::UTC);
    let due = u64::from(due.hour().unsigned_abs()) * 60 + due.minute().unsigned_abs() as u64;
    let due = (due + random.between(1, 90)) % 1440;
    let policy = Policy {
        name: name.to_owned(),
        priority,
        select: label(whom.0, whom.1),
        take: *random
            .pick(&[Take::Security, Take::Security, Take::All, Take::All, Take::Fixes])
            .unwrap_or(&Take::Security),
        sources: if random.permille(150) {
            vec![SourceRule { label: Some("Debian-Security".to_owned()), ..SourceRule::default() }]
        } else {
            Vec::new()
        },
        classes: classes(),
        rings: if strategy == Strategy::Rings { rings(random) } else { Vec::new() },
        windows: open
            .map_or(Vec::new(), |open| (0..86_400 / PERIOD).map(|n| window(n, open)).collect()),
        acceptances,
        budgets: if with_budgets { budgets(random, hosts) } else { Vec::new() },
        gate: gate(random, rolling),
        testbed: random.permille(300).then(|| TestbedRule {
            required: true,
            max_age_seconds: *random.pick(&[1800, 86_400]).unwrap_or(&86_400),
            ..TestbedRule::default()
        }),
        approvals: *random.pick(&[0, 0, 0, 1, 2]).unwrap_or(&0),
        cycle: random.permille(700).then(|| CycleRule {
            days: Vec::new(),
            recurrence: None,
            after_days: 0,
            at_minute: u32::try_from(due).unwrap_or(0),
            time_zone: "UTC".to_owned(),
            catch_up_seconds: 4 * 3600,
            start: if random.permille(800) { CycleStart::Automatic } else { CycleStart::Propose },
            when: if random.permille(500) { CycleWhen::Owed } else { CycleWhen::Offered },
        }),
        inventory_max_age_seconds: *random.pick(&[3600, 86_400]).unwrap_or(&86_400),
        strategy,
        ..Policy::bare(digest(name, 0))
    };
    let mut law = Law { policy, open, whom, excluded: Vec::new(), pinned: Vec::new(), edition: 0 };
    if random.permille(400) {
        law.exclude(random, start());
    }
    if random.permille(250) {
        law.pin(random, start());
    }
    law
}

/// Labels of a host, by its number.
pub(crate) fn labels(random: &mut Random, number: usize, role: &str) -> Labels {
    let mut labels = Labels::new();
    let mut put = |key: &str, value: &str| {
        labels.insert(key.to_owned(), value.to_owned());
    };
    put("env", if number > 1 && random.permille(100) { "lab" } else { "prod" });
    put("role", role);
    put("pool", if number.is_multiple_of(2) { "blue" } else { "green" });
    if number.is_multiple_of(2) {
        put("half", "yes");
    }
    match random.between(0, 9) {
        0..=2 => put("ring", "canary"),
        3 | 4 => put("ring", "early"),
        _ => {}
    }
    labels
}
