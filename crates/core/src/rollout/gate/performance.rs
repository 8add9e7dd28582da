//! Latency and errors of a probe on the patched hosts, against what it was on each of them before, and against hosts
//! that were not patched yet, in the same period.

use super::ask::{Finding, Gate, few, found, nothing};
use super::evidence::{Answer, EVIDENCE_STANDS_SECONDS, GateEvidence, Sample, Says};
use super::later;
use super::statistics::{likely_by_chance_above, likely_by_chance_more_often, median};
use crate::policy::{CheckKind, PerformanceRule};
use crate::rollout::{HostState, Observations, Rollout};
use crate::{HostId, Timestamp};
use std::collections::BTreeMap;

/// So many hosts that were not patched yet are measured beside the wave's own.
const CONTROLS: usize = 20;
/// Fewer of them than this excuse nothing: of three, one that lies is outvoted.
const FEWEST_CONTROLS: usize = 3;
/// A share of wrong answers that has grown by more than this is worse, whatever the margin says.
const MOST_MORE_WRONG: f64 = 0.2;
/// So much longer an answer may take whatever the margin says, in microseconds: below it, it is noise.
const NOISE: u32 = 1000;
/// Ratios are compared in thousandths.
const WHOLE: f64 = 1000.0;

/// The hosts that a check measures.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured<'a> {
    /// The check.
    pub check: &'a str,
    /// What is measured.
    pub rule: &'a PerformanceRule,
    /// The patched hosts of the wave.
    pub patched: Vec<&'a HostId>,
    /// Hosts that wait for their turn: what happens to them as well is not the patch's doing.
    pub controls: Vec<&'a HostId>,
}

/// The answers of some time: how long the good ones took, and how many were bad.
#[derive(Debug, Clone, Default)]
struct Answers {
    took: Vec<u32>,
    bad: u32,
}

impl Answers {
    fn of<'s>(samples: impl Iterator<Item = &'s Sample>) -> Self {
        let mut out = Self::default();
        for sample in samples {
            match sample.microseconds {
                Some(took) => out.took.push(took),
                None => out.bad += 1,
            }
        }
        out
    }

    fn all(&self) -> u32 {
        u32::try_from(self.took.len()).unwrap_or(u32::MAX).saturating_add(self.bad)
    }

    fn good(&self) -> u32 {
        u32::try_from(self.took.len()).unwrap_or(u32::MAX)
    }

    fn share_bad(&self) -> f64 {
        f64::from(self.bad) / f64::from(self.all().max(1))
    }

    /// Each as a share of what was usual on its host.
    fn ratios(&self, usual: u32) -> impl Iterator<Item = u32> {
        let usual = f64::from(usual.max(1));
        // Beyond what a `u32` holds it is the most: it is ranks that count.
        self.took.iter().map(move |took| (f64::from(*took) / usual * WHOLE).round() as u32)
    }
}

impl Rollout {
    /// When the hosts of the wave at work began to be changed: what was measured before is what was usual.
    pub fn changing_since(&self) -> Option<Timestamp> {
        let runs = self.plan.waves.get(self.wave as usize)?.hosts.iter();
        runs.filter_map(|id| self.hosts.get(id)?.granted_at).min()
    }

    /// What the gate at work measures, from the wave's end on.
    pub fn measures(&self) -> Vec<Measured<'_>> {
        let Some((wave, ..)) = self.asking() else { return Vec::new() };
        if wave.hosts.is_empty() {
            return Vec::new();
        }
        let controls: Vec<&HostId> = self.controls().take(CONTROLS).collect();
        wave.gate
            .checks
            .iter()
            .filter_map(|check| match &check.asks {
                CheckKind::Performance(rule) => Some(Measured {
                    check: &check.name,
                    rule,
                    patched: self.patched_in(self.wave).map(|(id, _)| id).collect(),
                    controls: controls.clone(),
                }),
                _ => None,
            })
            .collect()
    }

    /// Hosts of later waves that wait for their turn.
    fn controls(&self) -> impl Iterator<Item = &HostId> + '_ {
        let waits =
            |id: &&HostId| self.hosts.get(id).is_some_and(|r| r.state == HostState::Pending);
        self.plan.waves.iter().skip(self.wave as usize + 1).flat_map(|w| &w.hosts).filter(waits)
    }

    fn others(
        &self,
        samples: &BTreeMap<HostId, Vec<Sample>>,
        gate: &Gate,
        seen: &Observations,
        needed: u32,
    ) -> Others {
        let began = self.changing_since().unwrap_or(gate.since);
        let there: Vec<&HostId> =
            self.controls().take(CONTROLS).filter(|id| seen.hosts.contains_key(*id)).collect();
        let mut out = Others::default();
        if there.len() < FEWEST_CONTROLS {
            return out;
        }
        let (mut usual_of, mut now_of) = (Vec::new(), Vec::new());
        for id in there {
            let samples = samples.get(id).map_or(&[][..], Vec::as_slice).iter();
            let usual = Answers::of(samples.clone().filter(|s| s.at < began));
            let meanwhile = |s: &&Sample| s.at >= gate.since && s.at <= gate.now;
            let now = Answers::of(samples.filter(meanwhile));
            usual_of.push(usual.good());
            now_of.push(now.all());
            // Whose usual is not known says nothing about what has changed.
            if let Some(middle) = median(&usual.took).filter(|_| usual.good() >= needed)
                && now.all() >= needed
            {
                out.hosts.push(Other { ratios: now.ratios(middle).collect(), now });
            }
        }
        if out.hosts.len() < FEWEST_CONTROLS {
            for (mut of, when) in [(usual_of, "before the wave"), (now_of, "since the wave ended")]
            {
                of.sort_unstable_by(|a, b| b.cmp(a));
                let n = of.get(FEWEST_CONTROLS - 1).copied().unwrap_or_default();
                if n < needed {
                    out.lacking.push(format!("{n} of {needed} of hosts not patched yet, {when}"));
                }
            }
            if out.lacking.is_empty() {
                let why = "fewer than three hosts not patched yet with enough before and since";
                out.lacking.push(why.to_owned());
            }
        }
        out
    }

    /// No patched host is slower, or wrong more often, than it was before and than the others have become meanwhile.
    pub(super) fn judge_performance(
        &self,
        rule: &PerformanceRule,
        gate: &Gate,
        evidence: Option<&GateEvidence>,
        seen: &Observations,
    ) -> Finding {
        let none = BTreeMap::new();
        let samples = match evidence.map(|e| &e.answer) {
            Some(Answer::Measured { hosts }) => hosts,
            _ => &none,
        };
        let of = |id: &HostId| samples.get(id).map_or(&[][..], Vec::as_slice).iter();
        let there = |id: &HostId| seen.hosts.contains_key(id);
        let patched: Vec<_> = self.patched_in(gate.wave).filter(|(id, _)| there(id)).collect();
        if patched.is_empty() {
            return nothing("not a single patched host that could be measured", gate.until);
        }
        let meanwhile = |s: &&Sample| s.at >= gate.since && s.at <= gate.now;
        let needed = rule.min_samples;
        let others = self.others(samples, gate, seen, needed);
        let (mut worse, mut bad) = (Vec::new(), Vec::new());
        let mut few_samples = others.lacking.clone();
        // Two questions of each host: the more there are, the less one of them may come out badly by chance.
        let chance = (1.0 - rule.confidence) / (2.0 * patched.len() as f64);
        let mut told = Vec::new();
        for (id, run) in &patched {
            let name = self.name_of(id);
            let before = Answers::of(of(id).filter(|s| Some(s.at) < run.granted_at));
            let after =
                Answers::of(of(id).filter(meanwhile).filter(|s| Some(s.at) >= run.ended_at));
            let last = of(id).filter(meanwhile).map(|s| s.at).max();
            for (answers, when) in [(&before, "before its patch"), (&after, "since")] {
                let (all, good) = (answers.all(), answers.good());
                if all < needed {
                    few_samples.push(format!("{all} of {needed} of {name} {when}"));
                } else if good < needed {
                    // A wrong answer is no measure of anything: it never opens a gate.
                    few_samples.push(format!("{good} of {needed} good ones of {name} {when}"));
                }
            }
            if last.is_none_or(|at| later(at, EVIDENCE_STANDS_SECONDS) < gate.now) {
                few_samples.push(format!("none of {name} lately"));
            }
            if before.good() < needed || after.all() < needed {
                continue;
            }
            // Nobody excuses that: where all have stopped to answer, somebody has to look.
            if after.good() == 0 {
                bad.push((*id).clone());
                worse.push(format!("{name} has not answered well once in {}", after.all()));
                continue;
            }
            if !others.lacking.is_empty() {
                continue;
            }
            let margin = 1.0 + f64::from(rule.margin_percent) / 100.0;
            let limit = Limit { margin, chance };
            let why = [
                limit.slower(&before, &after, &others),
                limit.wrong_more_often(&before, &after, &others),
            ];
            if why.iter().any(Option::is_some) {
                bad.push((*id).clone());
                worse.extend(why.into_iter().flatten().map(|why| format!("{name} {why}")));
            }
            told.extend(median(&after.took).zip(median(&before.took)).map(|(now, was)| {
                format!("{name} takes {} ms, and took {} ms", milliseconds(now), milliseconds(was))
            }));
        }
        if !worse.is_empty() {
            return Finding { bad, ..found(Says::Fails, few(&worse)) };
        }
        if !few_samples.is_empty() {
            return nothing(format!("not enough samples: {}", few(&few_samples)), gate.until);
        }
        let why = format!("no host is worse than before by more than {} %", rule.margin_percent);
        found(Says::Passes, format!("{why}: {}", few(&told)))
    }
}

/// What counts as worse.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// More than so many times as much.
    margin: f64,
    /// And less likely than this to look so by chance.
    chance: f64,
}

/// The hosts that were not patched yet. Each has one voice, however much it says: a single one that is ill, or that lies,
/// excuses nobody.
#[derive(Debug, Default)]
struct Others {
    /// Those that told enough. Empty, and nothing is lacking: too few are left to compare with, and what was usual on
    /// each patched host has to do.
    hosts: Vec<Other>,
    /// What is missing of them, for people.
    lacking: Vec<String>,
}

/// One host that was not patched yet.
#[derive(Debug)]
struct Other {
    /// What it found since the wave ended.
    now: Answers,
    /// How long the good ones took, each as a share of what was usual on it.
    ratios: Vec<u32>,
}

impl Others {
    /// More than half of them fare as badly.
    fn share_it(&self, fares_as_badly: impl Fn(&&Other) -> bool) -> bool {
        self.hosts.iter().filter(fares_as_badly).count() * 2 > self.hosts.len()
    }
}

impl Limit {
    /// Slower than before, and by more than the others have become slower meanwhile.
    fn slower(self, before: &Answers, after: &Answers, others: &Others) -> Option<String> {
        let (was, now) = (median(&before.took)?, median(&after.took)?);
        if f64::from(now) <= f64::from(was) * self.margin + f64::from(NOISE)
            || likely_by_chance_above(&after.took, &before.took) >= self.chance
        {
            return None;
        }
        let mine: Vec<u32> = after.ratios(was).collect();
        let mine_now = median(&mine)?;
        let as_slow = |other: &&Other| {
            // Who answers nothing well tells nothing of how long it takes.
            median(&other.ratios).is_some_and(|now| {
                f64::from(mine_now) <= f64::from(now) * self.margin
                    || likely_by_chance_above(&mine, &other.ratios) >= self.chance
            })
        };
        if others.share_it(as_slow) {
            return None;
        }
        let told = format!(
            "takes {} ms, and took {} ms before its patch",
            milliseconds(now),
            milliseconds(was)
        );
        let middles: Vec<u32> = others.hosts.iter().filter_map(|o| median(&o.ratios)).collect();
        Some(match median(&middles) {
            None => told,
            Some(middle) => {
                let share = f64::from(middle) / WHOLE;
                format!("{told}; hosts not patched yet take {share:.2} times what they took")
            }
        })
    }

    /// Wrong more often than before, and than the others meanwhile.
    fn wrong_more_often(
        self,
        before: &Answers,
        after: &Answers,
        others: &Others,
    ) -> Option<String> {
        let counts = |answers: &Answers| (answers.bad, answers.all());
        let worse_than = |usual: &Answers| {
            // Odds, since a share that is multiplied is soon above all that can be; and however wide the margin is, so
            // many more of a hundred are worse.
            let (mine, its) = (f64::from(after.bad), f64::from(usual.bad));
            let odds = mine * f64::from(usual.good()) > its * f64::from(after.good()) * self.margin;
            let far_more = after.share_bad() - usual.share_bad() > MOST_MORE_WRONG;
            (odds || far_more)
                && likely_by_chance_more_often(counts(after), counts(usual)) < self.chance
        };
        if !worse_than(before) || others.share_it(|other| !worse_than(&other.now)) {
            return None;
        }
        let share = |bad: u32, all: u32| format!("{bad} of {all}");
        let told = format!(
            "answers wrong {} times, and did {} times before its patch",
            share(after.bad, after.all()),
            share(before.bad, before.all())
        );
        if others.hosts.is_empty() {
            return Some(told);
        }
        let sum = |of: fn(&Answers) -> u32| others.hosts.iter().map(|o| of(&o.now)).sum();
        let all = share(sum(|now| now.bad), sum(Answers::all));
        Some(format!("{told}; hosts not patched yet do {all} times"))
    }
}

/// With one digit after the point.
fn milliseconds(microseconds: u32) -> String {
    format!("{:.1}", f64::from(microseconds) / 1000.0)
}
