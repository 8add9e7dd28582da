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
    ) -> Others {
        let there = |id: &HostId| seen.hosts.contains_key(id);
        let began = self.changing_since().unwrap_or(gate.since);
        let mut out = Others { none: !self.controls().any(there), ..Others::default() };
        for id in self.controls().filter(|id| there(id)) {
            let Some(samples) = samples.get(id) else { continue };
            let usual = Answers::of(samples.iter().filter(|s| s.at < began));
            // Whose usual is not known says nothing about what has changed.
            let Some(middle) = median(&usual.took) else { continue };
            let meanwhile = |s: &&Sample| s.at >= gate.since && s.at <= gate.now;
            let now = Answers::of(samples.iter().filter(meanwhile));
            out.usual += usual.all();
            out.ratios.extend(now.ratios(middle));
            out.now.bad += now.bad;
            out.now.took.extend(now.took);
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
        let others = self.others(samples, gate, seen);
        let (mut few_samples, mut worse, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        let needed = rule.min_samples;
        let lacking =
            [(others.usual, "before the wave"), (others.now.all(), "since the wave ended")];
        for (n, when) in lacking.into_iter().filter(|(n, _)| *n < needed && !others.none) {
            few_samples.push(format!("{n} of {needed} of hosts not patched yet, {when}"));
        }
        // Two questions of each host: the more there are, the less one of them may come out badly by chance.
        let chance = (1.0 - rule.confidence) / (2.0 * patched.len() as f64);
        let mut told = Vec::new();
        for (id, run) in &patched {
            let name = self.name_of(id);
            let before = Answers::of(of(id).filter(|s| Some(s.at) < run.granted_at));
            let after =
                Answers::of(of(id).filter(meanwhile).filter(|s| Some(s.at) >= run.ended_at));
            let last = of(id).filter(meanwhile).map(|s| s.at).max();
            for (n, when) in [(before.all(), "before its patch"), (after.all(), "since")] {
                if n < needed {
                    few_samples.push(format!("{n} of {needed} of {name} {when}"));
                }
            }
            if last.is_none_or(|at| later(at, EVIDENCE_STANDS_SECONDS) < gate.now) {
                few_samples.push(format!("none of {name} lately"));
            }
            let others_say = others.none || others.now.all().min(others.usual) >= needed;
            if before.all() < needed || after.all() < needed || !others_say {
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

/// The hosts that were not patched yet, together.
#[derive(Debug, Default)]
struct Others {
    /// There is none that could be compared with: what was usual on each host has to do.
    none: bool,
    /// So many answers before the wave was changed.
    usual: u32,
    /// Those since it ended.
    now: Answers,
    /// The good ones, each as a share of what was usual on its host.
    ratios: Vec<u32>,
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
        let told = format!(
            "takes {} ms, and took {} ms before its patch",
            milliseconds(now),
            milliseconds(was)
        );
        if others.none {
            return Some(told);
        }
        let mine: Vec<u32> = after.ratios(was).collect();
        let (mine_now, others_now) = (median(&mine)?, median(&others.ratios)?);
        if f64::from(mine_now) <= f64::from(others_now) * self.margin
            || likely_by_chance_above(&mine, &others.ratios) >= self.chance
        {
            return None;
        }
        let share = f64::from(others_now) / WHOLE;
        Some(format!("{told}; hosts not patched yet take {share:.2} times what they took"))
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
            after.share_bad() > usual.share_bad() * self.margin
                && likely_by_chance_more_often(counts(after), counts(usual)) < self.chance
        };
        if !worse_than(before) || !(others.none || worse_than(&others.now)) {
            return None;
        }
        let share = |answers: &Answers| format!("{} of {}", answers.bad, answers.all());
        let told = format!(
            "answers wrong {} times, and did {} times before its patch",
            share(after),
            share(before)
        );
        let of_others = format!("; hosts not patched yet do {} times", share(&others.now));
        Some(if others.none { told } else { told + &of_others })
    }
}

/// With one digit after the point.
fn milliseconds(microseconds: u32) -> String {
    format!("{:.1}", f64::from(microseconds) / 1000.0)
}
