//! Plans: what only a real one can break (22, 36 to 42). Judged by what hosts truly hold and what the vendor truly said, by
//! plain arithmetic and not as the planner finds it.

use super::Checker;
use crate::fleet::after;
use crate::packages::{Holding, PACKAGES, number, place};
use crate::policies::Law;
use crate::server::{HostRow, Store};
use fettle_core::plan::{HostPlan, NotDone, Plan, Wave};
use fettle_core::policy::{Policy, Selector, Strategy, Take};
use fettle_core::rollout::{HostState, Rollout};
use fettle_core::{Hold, HostId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Package, from, to.
type Change<'p> = (&'p str, &'p str, &'p str);
type Told<'p> = BTreeMap<&'p HostId, Vec<&'p NotDone>>;

/// Who governs a host.
#[derive(Debug, PartialEq, Eq)]
enum Governed<'l> {
    ByNobody,
    By(&'l str),
    BySeveral,
}

fn governed<'l>(laws: &'l [Law], row: &HostRow) -> Governed<'l> {
    let mine = || laws.iter().filter(|law| law.selects(&row.labels));
    let Some(highest) = mine().map(|law| law.policy.priority).max() else {
        return Governed::ByNobody;
    };
    let mut top = mine().filter(|law| law.policy.priority == highest);
    match (top.next(), top.next()) {
        (Some(law), None) => Governed::By(&law.policy.name),
        _ => Governed::BySeveral,
    }
}

fn is_in(select: &Selector, row: &HostRow) -> bool {
    match select {
        Selector::In { key, values } => {
            row.labels.get(key).is_some_and(|value| values.contains(value))
        }
        _ => true,
    }
}

fn changes_of(host: &HostPlan) -> impl Iterator<Item = Change<'_>> {
    host.order.changes.iter().map(|c| (c.name.as_str(), c.from.as_str(), c.to.as_str()))
}

impl Checker {
    /// A plan was made by this policy, for these hosts or for all.
    pub(crate) fn planned(
        &mut self,
        at: Timestamp,
        plan: &Plan,
        law: &Law,
        only: Option<&BTreeSet<HostId>>,
        store: &Store,
    ) {
        let mut told: Told<'_> = BTreeMap::new();
        for held in plan.held() {
            told.entry(held.host).or_default().push(held.what);
        }
        let nothing = Vec::new();
        for (id, row) in &store.hosts {
            let asked = only.is_none_or(|only| only.contains(id));
            let held = told.get(id).unwrap_or(&nothing);
            let says =
                |code: &str| held.iter().any(|it| it.reasons.iter().any(|r| r.code() == code));
            let planned = plan.hosts.get(id);
            let name = law.policy.name.as_str();
            match governed(&store.laws, row) {
                Governed::By(policy) if policy == name && asked => {
                    self.accounted(at, plan, law, (id, row), held, store);
                }
                Governed::By(policy) if policy == name => {
                    self.must(planned.is_none(), at, "36 planned", || {
                        format!("{id} was not asked for")
                    });
                }
                Governed::BySeveral if law.selects(&row.labels) => {
                    let shown = planned.is_none() && (!asked || says("policy-ambiguous"));
                    self.must(shown, at, "39 policy", || {
                        format!("{id} has several policies: {held:?}")
                    });
                    self.sometimes("several policies for a host");
                }
                _ => {
                    let wanted = asked && only.is_some();
                    let shown = planned.is_none() && (!wanted || says("no-policy"));
                    self.must(shown, at, "39 policy", || format!("{id} is not {name}'s: {held:?}"));
                    if wanted {
                        self.sometimes("host without policy shown");
                    }
                }
            }
        }
        let strangers = plan.hosts.keys().find(|id| !store.hosts.contains_key(*id));
        self.must(strangers.is_none(), at, "36 planned", || format!("{strangers:?} has left"));
        self.laid_out(at, plan, law, store);
        self.tried_first(at, plan, law);
        if plan.hosts.is_empty() {
            self.sometimes("empty plan");
        }
        if plan.held().next().is_some() {
            self.sometimes("plan holds something");
        }
        for held in plan.held() {
            for reason in &held.what.reasons {
                self.sometimes(word(reason));
            }
        }
    }

    /// What keeps the whole host out, as the facts are.
    fn kept_out(
        &self,
        at: Timestamp,
        law: &Law,
        id: &HostId,
        row: &HostRow,
        store: &Store,
    ) -> bool {
        let unheard = |limit: u64| row.last_seen.is_none_or(|seen| after(seen, limit) < at);
        let busy = |state: &Rollout| state.hosts.get(id).is_some_and(|run| !run.is_over());
        let in_ring = law.policy.rings.iter().any(|ring| is_in(&ring.select, row));
        row.quarantined
            || row.holding.is_none()
            || unheard(crate::world::SILENT_AFTER_SECONDS)
            || unheard(law.policy.inventory_max_age_seconds)
            || (law.policy.strategy == Strategy::Rings && !in_ring)
            || store.rollouts.values().any(|row| busy(&row.state))
    }

    /// Everything that a host owes is planned, or held with a reason; and nothing is planned that may not be.
    fn accounted(
        &mut self,
        at: Timestamp,
        plan: &Plan,
        law: &Law,
        (id, row): (&HostId, &HostRow),
        held: &[&NotDone],
        store: &Store,
    ) {
        let planned = plan.hosts.get(id);
        let reasons = held.iter().all(|it| !it.reasons.is_empty());
        let mentioned = reasons && (planned.is_some() || !held.is_empty());
        self.must(mentioned, at, "40 nothing to do", || {
            format!("{id} is neither planned nor held, and nobody says why: {held:?}")
        });
        let out = self.kept_out(at, law, id, row, store);
        if out {
            let whole = held.iter().any(|it| it.package.is_empty());
            self.must(planned.is_none() && whole, at, "36 planned", || {
                format!("{id} is to be kept out: {planned:?}, {held:?}")
            });
        }
        let Some(holding) = &row.holding else { return };
        let changes: Vec<Change<'_>> = planned.into_iter().flat_map(changes_of).collect();
        let fixes = |at: usize, fixed: Option<u16>, cve: &str| {
            let why = planned.and_then(|host| host.why.get(PACKAGES[at].0));
            let change = changes.iter().find(|(name, ..)| *name == PACKAGES[at].0);
            let reaches =
                change.and_then(|(_, _, to)| number(to)).zip(fixed).is_some_and(|(to, f)| to >= f);
            reaches && why.is_some_and(|ids| ids.iter().any(|id| id == cve))
        };
        for (cve, word, places) in store.feed.truly(holding) {
            let accepted = law.policy.acceptances.iter().any(|it| {
                it.finding == cve && at < it.until && (it.even_if_exploited || !word.exploited)
            });
            if accepted {
                self.sometimes("vulnerability accepted");
                continue;
            }
            let told = held.iter().any(|it| it.findings.iter().any(|id| id == cve));
            let left = places.iter().find(|at| !fixes(**at, word.fixed, cve));
            self.must(left.is_none() || told, at, "38 accounted", || {
                let left = left.map_or("", |at| PACKAGES[*at].0);
                format!("{cve} in {left} of {id} is neither planned nor held: {held:?}")
            });
        }
        if law.policy.take == Take::All && !out {
            for upgrade in row.inventory.iter().flat_map(|it| &it.upgrades) {
                let known = changes.iter().any(|(name, ..)| *name == upgrade.name)
                    || held.iter().any(|it| it.package == upgrade.name)
                    || upgrade.from.is_empty();
                self.must(known, at, "38 accounted", || {
                    format!("{} of {id} is passed over", upgrade.name)
                });
            }
        }
        if let Some(host) = planned {
            self.may_be(at, law, (id, row), holding, host, store);
        }
    }

    /// A host's changes are what it is offered, and none of them is to be left alone.
    fn may_be(
        &mut self,
        at: Timestamp,
        law: &Law,
        (id, row): (&HostId, &HostRow),
        holding: &Holding,
        host: &HostPlan,
        store: &Store,
    ) {
        let policy = &law.policy;
        let offers = row.inventory.iter().flat_map(|it| &it.upgrades);
        let offers: BTreeMap<&str, _> = offers.map(|u| (u.name.as_str(), u)).collect();
        let has = |name: &str| place(name).is_some_and(|at| holding.installed.versions[at] > 0);
        self.must(row.cohort == Some(host.cohort), at, "36 planned", || format!("{id} is another"));
        for change in &host.order.changes {
            let name = change.name.as_str();
            let offer = offers.get(name).filter(|u| {
                u.to == change.to && u.from == change.from && u.sha256 == change.sha256
            });
            let Some(offer) = offer else {
                self.violated(at, "36 planned", format!("{id} is not offered {change:?}"));
                continue;
            };
            let Some((place, to)) = place(name).zip(number(&change.to)) else { continue };
            self.must(!law.leaves_alone(place, to, at), at, "37 left alone", || {
                format!("{name} {} of {id} is excluded or pinned", change.to)
            });
            self.must(!holding.holds(place), at, "37 left alone", || {
                format!("{name} is held on {id}")
            });
            let from_there = policy.sources.is_empty() || offer.origin.label == "Debian-Security";
            self.must(from_there && offer.removes.is_empty(), at, "37 left alone", || {
                format!("{name} of {id}: {:?}, removes {:?}", offer.origin, offer.removes)
            });
            let key = (name.to_owned(), change.to.clone(), host.cohort);
            self.must(!store.barred.contains_key(&key), at, "16 barred", || {
                format!("{id} is to get {name} {}, which was undone on its like", change.to)
            });
            let recalled =
                store.recalls.iter().any(|r| r.package == name && r.version == change.to);
            self.must(!recalled, at, "16 recalled", || {
                format!("{id} is to get {name} {}", change.to)
            });
            for brought in &offer.brings {
                let there = has(brought) || host.order.changes.iter().any(|c| c.name == *brought);
                self.must(there, at, "36 planned", || format!("{name} of {id} lacks {brought}"));
            }
        }
    }

    /// Waves, rings and budgets are what the policy says.
    fn laid_out(&mut self, at: Timestamp, plan: &Plan, law: &Law, store: &Store) {
        let policy = &law.policy;
        let mut seen = BTreeSet::new();
        for (n, wave) in plan.waves.iter().enumerate() {
            for id in &wave.hosts {
                let here = plan
                    .hosts
                    .get(id)
                    .is_some_and(|host| host.wave as usize == n && host.ring == wave.ring);
                self.must(here && seen.insert(id), at, "36 planned", || {
                    format!("{id} does not stand once in wave {n}")
                });
            }
            let plain = |wave: &Wave| {
                let (gate, asked) = (&wave.gate, &policy.gate);
                (gate.bake_seconds, gate.max_failures, gate.min_success_percent, gate.checks.len())
                    == (
                        asked.bake_seconds,
                        asked.max_failures,
                        asked.min_success_percent,
                        asked.checks.len(),
                    )
                    && gate.require_proof == asked.require_proof
            };
            self.must(plain(wave), at, "36 planned", || format!("wave {n} has another gate"));
        }
        self.must(seen.len() == plan.hosts.len(), at, "36 planned", || {
            "hosts in no wave".to_owned()
        });
        let ring = |wave: &Wave| policy.rings.iter().position(|ring| ring.name == wave.ring);
        if policy.strategy == Strategy::Rings {
            let order: Vec<_> = plan.waves.iter().map(ring).collect();
            self.must(
                order.is_sorted() && order.iter().all(Option::is_some),
                at,
                "36 planned",
                || format!("rings in another order: {order:?}"),
            );
            for wave in &plan.waves {
                self.small_enough(at, wave, policy, store);
            }
        }
        for rule in &policy.budgets {
            let members = store.hosts.iter().filter(|(_, row)| is_in(&rule.select, row));
            let members: BTreeSet<&HostId> = members.map(|(id, _)| id).collect();
            let kept = plan.budgets.iter().any(|budget| {
                let limit = rule.max_unavailable.map(|share| share.of(members.len()));
                budget.name == rule.name
                    && budget.hosts.iter().collect::<BTreeSet<_>>() == members
                    && limit.is_none_or(|limit| budget.max_unavailable <= limit)
            });
            self.must(kept, at, "36 planned", || format!("budget {} is not kept", rule.name));
        }
        let others = store.laws.iter().filter(|other| other.policy.name != policy.name);
        for rule in others.flat_map(|other| &other.policy.budgets) {
            let touches = plan.hosts.keys().filter_map(|id| store.hosts.get(id));
            let mut touches = touches.filter(|row| is_in(&rule.select, row));
            let known =
                plan.budgets.iter().any(|b| b.name.starts_with(&format!("{} of ", rule.name)));
            self.must(known || touches.next().is_none(), at, "36 planned", || {
                format!("budget {} of another policy is forgotten", rule.name)
            });
        }
        // A drill: whose windows open is who fixes what is exploited.
        for (id, host) in &plan.hosts {
            let exploited = |cve: &String| store.feed.words.get(cve).is_some_and(|w| w.exploited);
            let urgent = host.why.values().any(|ids| ids.iter().any(exploited));
            self.must(host.ignore_windows == urgent, at, "10 window", || {
                format!("{id} ignores windows: {}", host.ignore_windows)
            });
            if urgent {
                self.sometimes("emergency planned");
            }
        }
    }

    fn small_enough(&mut self, at: Timestamp, wave: &Wave, policy: &Policy, store: &Store) {
        let Some(ring) = policy.rings.iter().find(|ring| ring.name == wave.ring) else { return };
        // The size of a ring is the hosts that the policy governs there; this is more than enough.
        let size = store.hosts.values().filter(|row| is_in(&ring.select, row)).count();
        let most = (size * ring.wave_percent as usize).div_ceil(100).max(1);
        self.must(wave.hosts.len() <= most, at, "36 planned", || {
            format!("a wave of {} of {size} hosts, at most {most}", wave.hosts.len())
        });
    }

    /// What nobody has tried is tried by the fewest first, and canaries stand for the most.
    fn tried_first(&mut self, at: Timestamp, plan: &Plan, law: &Law) {
        let policy = &law.policy;
        let of = |id: &HostId| plan.hosts.get(id).into_iter().flat_map(changes_of);
        let all: BTreeSet<Change<'_>> = plan.hosts.values().flat_map(changes_of).collect();
        let staged = matches!(policy.strategy, Strategy::Rings | Strategy::Percentage { .. });
        if !staged {
            for wave in plan.waves.iter().filter(|wave| !wave.hosts.is_empty()) {
                let (mut tried, mut adds) = (BTreeSet::new(), Vec::new());
                for id in &wave.hosts {
                    let before = tried.len();
                    tried.extend(of(id));
                    adds.push(tried.len() > before);
                }
                let first = adds.is_sorted_by_key(|adds| !adds);
                self.must(first || wave.hosts.len() <= tried.len(), at, "42 tried first", || {
                    format!("untried changes come late in {:?}", wave.hosts)
                });
            }
            return;
        }
        let stage = |n: usize, wave: &Wave| match policy.strategy {
            Strategy::Percentage { .. } => usize::from(n > 0),
            _ => policy.rings.iter().position(|ring| ring.name == wave.ring).unwrap_or(0),
        };
        let mut tried: BTreeSet<Change<'_>> = BTreeSet::new();
        let (mut at_stage, mut hosts, mut before) = (0, 0, 0);
        for (n, wave) in plan.waves.iter().enumerate() {
            if stage(n, wave) != at_stage {
                (at_stage, hosts, before) = (stage(n, wave), 0, tried.len());
            }
            let known = tried.len();
            tried.extend(wave.hosts.iter().flat_map(of));
            if tried.len() > known {
                hosts += wave.hosts.len();
                // Those of the whole stage are as many as are new by its end.
                let last =
                    plan.waves.iter().enumerate().rev().find(|(n, w)| stage(*n, w) == at_stage);
                let end = last.map_or(n, |(n, _)| n);
                let mut then = tried.clone();
                then.extend(plan.waves[n..=end].iter().flat_map(|w| &w.hosts).flat_map(of));
                let new = then.len() - before;
                self.must(at_stage == 0 || hosts <= new, at, "42 tried first", || {
                    format!("{hosts} hosts try {new} changes in wave {n} that nobody did before")
                });
                if at_stage > 0 {
                    self.sometimes("scouts go ahead");
                }
            }
        }
        self.must(tried == all, at, "36 planned", || "a change in no wave".to_owned());
        if policy.strategy == Strategy::Rings {
            self.stand_for_most(at, plan, policy);
        }
    }

    /// Where the first wave lacks a cohort that its ring could have shown, no two of it are alike.
    fn stand_for_most(&mut self, at: Timestamp, plan: &Plan, policy: &Policy) {
        let Some(ring) = policy.rings.first() else { return };
        let Some(first) = plan.waves.first().filter(|wave| wave.ring == ring.name) else { return };
        let cohort = |id: &HostId| plan.hosts.get(id).map(|host| host.cohort);
        let shown: BTreeSet<_> = first.hosts.iter().map(cohort).collect();
        let mine = plan.waves.iter().filter(|wave| wave.ring == ring.name);
        let could: BTreeSet<_> = mine.flat_map(|wave| &wave.hosts).map(cohort).collect();
        let later = plan.waves.iter().filter(|wave| wave.ring != ring.name);
        let wanted: BTreeSet<_> = later.flat_map(|wave| &wave.hosts).map(cohort).collect();
        let lacks = could.intersection(&wanted).any(|cohort| !shown.contains(cohort));
        let kinds: BTreeSet<_> = first
            .hosts
            .iter()
            .filter_map(|id| plan.hosts.get(id))
            .map(|host| (host.cohort, changes_of(host).collect::<Vec<_>>()))
            .collect();
        // A role tells hosts of a kind apart: there are two.
        let alike = first.hosts.len() > 2 * kinds.len();
        self.must(!(lacks && alike), at, "42 tried first", || {
            format!("canaries {:?} are alike, and cohorts go without", first.hosts)
        });
        if wanted.len() > 1 {
            self.sometimes("canaries for several cohorts");
        }
    }

    /// A rollout of that plan begins.
    pub(crate) fn started(&mut self, at: Timestamp, state: &Rollout, store: &Store, plan: u64) {
        let Some(row) = store.plans.get(&plan) else { return };
        let before = store.current.get(&row.plan.policy).copied();
        self.must(before == row.plan.parent, at, "12 parent", || {
            format!("plan {plan} takes the place of another than it was made after")
        });
        self.must(state.plan_digest == row.digest, at, "41 as approved", || {
            format!("{} carries out another plan than {plan}", state.id)
        });
        let may = |by: &str| ["bob", "carol", "dave"].contains(&by) && by != row.made_by;
        let given: BTreeSet<&str> = state
            .approvals
            .iter()
            .filter(|a| a.digest == row.digest && may(&a.by))
            .map(|a| a.by.as_str())
            .collect();
        self.must(given.len() >= row.plan.approvals_needed as usize, at, "22 approvals", || {
            format!("plan {plan} starts with {given:?}, made by {}", row.made_by)
        });
        if row.plan.approvals_needed > 0 {
            self.sometimes("approved plan started");
        }
        self.must(!row.plan.hosts.is_empty(), at, "40 nothing to do", || {
            format!("{plan} is empty")
        });
    }

    /// A host is granted what was not barred for its like, by whatever rollout.
    pub(super) fn unbarred(&mut self, was: &Rollout, host: &HostId, store: &Store) {
        let Some(planned) = was.plan.hosts.get(host) else { return };
        for (name, _, to) in changes_of(planned) {
            let key = (name.to_owned(), to.to_owned(), planned.cohort);
            let own = was.barred.contains(&(name.to_owned(), to.to_owned()));
            if !own && store.barred.contains_key(&key) {
                self.sometimes("begins what another rollout barred");
            }
        }
    }

    /// A host is granted what some host of an earlier wave was to try: it has, and well.
    pub(super) fn exercised(&mut self, was: &Rollout, host: &HostId) {
        let (Some(planned), mine) = (was.plan.hosts.get(host), was.hosts[host].wave) else {
            return;
        };
        for change in changes_of(planned) {
            let carries = |id: &&HostId| {
                was.plan.hosts.get(*id).is_some_and(|host| changes_of(host).any(|c| c == change))
            };
            let earlier = was.plan.waves[..mine as usize].iter().flat_map(|wave| &wave.hosts);
            let mut runs = earlier.filter(carries).map(|id| &was.hosts[id]).peekable();
            if runs.peek().is_none() {
                continue;
            }
            let well = runs.any(|run| run.state == HostState::Patched || run.undo_asked.is_some());
            if !well {
                self.sometimes("version begins untried");
            }
        }
    }
}

/// A reason of a hold, as something that came up.
fn word(hold: &Hold) -> &'static str {
    match hold {
        Hold::NoPolicy => "held: no policy",
        Hold::PolicyAmbiguous { .. } => "held: several policies",
        Hold::NoRing => "held: no ring",
        Hold::NoInventory => "held: no inventory",
        Hold::InventoryStale { .. } => "held: old inventory",
        Hold::HostSilent { .. } => "held: silent",
        Hold::Quarantined { .. } => "held: quarantined",
        Hold::Busy { .. } => "held: busy",
        Hold::Excluded { .. } => "held: excluded",
        Hold::Pinned { .. } => "held: pinned",
        Hold::PackageHeld { .. } => "held: on the host",
        Hold::SourceNotAllowed { .. } => "held: source",
        Hold::VersionBarred { .. } => "held: barred",
        Hold::Recalled { .. } => "held: recalled",
        Hold::WouldRemove { .. } => "held: would remove",
        Hold::KeptInStep { .. } => "held: kept in step",
        Hold::NoFix { .. } => "held: no fix",
        Hold::FixNotOffered { .. } => "held: fix not offered",
        Hold::NothingToDo => "held: nothing to do",
        _ => "held: otherwise",
    }
}
