//! Plans: made by the product's own planner from what the server knows, approved, and started.

use super::{Happening, World};
use crate::Sabotage;
use crate::fleet::after;
use crate::gates;
use crate::packages::Holding;
use crate::policies::Law;
use crate::server::{Findings, PlanRow, RolloutRow, Store};
use fettle_core::finding::{Finding, FindingState};
use fettle_core::host::Host;
use fettle_core::operator::{Operator, Role};
use fettle_core::plan::approval::{Approval, ApprovalInput, ApprovalVerdict, Stage, judge};
use fettle_core::plan::{Barred, Plan, PlanInput, make};
use fettle_core::policy::{Policy, choose};
use fettle_core::rollout::Rollout;
use fettle_core::testbed::Work as TestWork;
use fettle_core::{Hold, HostId, RolloutId, Shared, Timestamp};
use fettle_vuln::exposure::{Exception, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The server's own limit: who has not spoken for longer is not planned for.
pub(crate) const SILENT_AFTER_SECONDS: u64 = 900;
/// Who approves.
const APPROVERS: [&str; 3] = ["bob", "carol", "dave"];

impl Store {
    /// The fleet, as the planner is shown it.
    pub(crate) fn fleet(&self) -> Vec<Host> {
        let host = |(id, row): (&HostId, &crate::server::HostRow)| Host {
            id: id.clone(),
            name: id.to_string(),
            labels: row.labels.clone(),
            enrolled_at: row.enrolled_at,
            last_seen: row.last_seen,
            agent_version: String::new(),
            inventory: row.inventory.clone(),
            cohort: row.cohort,
            inventory_digest: None,
            quarantined: row.quarantined.then(|| fettle_core::host::Quarantine {
                since: row.enrolled_at,
                reason: "undo failed".to_owned(),
            }),
            listed: None,
        };
        self.hosts.iter().map(host).collect()
    }

    /// What each of these hosts is exposed to, judged and rated as its own policy says.
    pub(crate) fn exposed(
        &self,
        fleet: &[Host],
        policies: &[Policy],
        now: Timestamp,
    ) -> BTreeMap<HostId, Findings> {
        let mut known: BTreeMap<(Holding, Option<&str>), Findings> = BTreeMap::new();
        let mut out = BTreeMap::new();
        for host in fleet {
            let Some(holding) = self.hosts.get(&host.id).and_then(|row| row.holding) else {
                continue;
            };
            let policy = choose(policies, host).ok().flatten();
            let key = (holding, policy.map(|policy| policy.name.as_str()));
            let judged = || {
                let accepted = policy.map_or(Vec::new(), |policy| self.accepted(policy, now));
                let found: Vec<Finding> = match (&host.inventory, accepted.as_slice()) {
                    (Some(_), []) => self.found(&holding).iter().map(|f| (**f).clone()).collect(),
                    (Some(inventory), accepted) => self.feed.judge(inventory, accepted),
                    (None, _) => Vec::new(),
                };
                let open = found.into_iter().filter(|f| f.state.is_vulnerable());
                open.map(|mut finding| {
                    if let Some(policy) = policy {
                        policy.rate(&mut finding, crate::fleet::start());
                    }
                    Shared::from(finding)
                })
                .collect()
            };
            let found = known.entry(key).or_insert_with(judged).clone();
            out.insert(host.id.clone(), found);
        }
        out
    }

    /// The acceptances of a policy that hold now.
    fn accepted(&self, policy: &Policy, now: Timestamp) -> Vec<Exception> {
        let holds = policy.acceptances.iter().filter(|it| {
            let (epss, exploited) = self.feed.threat(&it.finding);
            it.holds(now, epss, exploited)
        });
        holds
            .map(|it| Exception {
                id: it.finding.clone(),
                source: it.source.clone(),
                owner: it.owner.clone(),
                reason: it.reason.clone(),
                until: it.until,
                verdict: Verdict::Accepted,
            })
            .collect()
    }

    pub(crate) fn policies(&self) -> Vec<Policy> {
        self.laws.iter().map(|law| law.policy.clone()).collect()
    }

    /// The plan of a policy, as the server makes it.
    pub(crate) fn plan(
        &self,
        law: &Law,
        only: Option<&BTreeSet<HostId>>,
        now: Timestamp,
        sabotage: Option<Sabotage>,
    ) -> Plan {
        let policies = self.policies();
        let mut policy = law.policy.clone();
        let mut fleet = self.fleet();
        let mut findings = self.exposed(&fleet, &policies, now);
        let barred = self.barred.iter().map(|((package, version, cohort), reason)| Barred {
            package: package.clone(),
            version: version.clone(),
            cohort: *cohort,
            reason: reason.clone(),
        });
        let mut barred: Vec<Barred> = barred.collect();
        let mut recalls = self.recalls.clone();
        let mut busy = self.busy();
        let mut policies_shown = policies;
        match sabotage {
            Some(Sabotage::PlanExcluded) => {
                policy.exclusions.clear();
                policy.pins.clear();
            }
            Some(Sabotage::PlanHeld) => fleet.iter_mut().for_each(|host| {
                if let Some(inventory) = &mut host.inventory {
                    Arc::make_mut(inventory).held.clear();
                }
            }),
            Some(Sabotage::PlanBarred) => barred.clear(),
            Some(Sabotage::PlanRecalled) => recalls.clear(),
            Some(Sabotage::PlanBusy) => busy.clear(),
            Some(Sabotage::PlanOthers) => policies_shown.clear(),
            Some(Sabotage::PlanUnseen) => {
                // Half of what is found is not shown.
                for (n, found) in findings.values_mut().enumerate() {
                    if n % 2 == 0 {
                        *found = Arc::from([]);
                    }
                }
            }
            Some(Sabotage::PlanSilent) => {
                fleet.iter_mut().for_each(|host| host.last_seen = Some(now));
            }
            _ => {}
        }
        let number = self.plans.len() as u64 + 1;
        let mut plan = make(PlanInput {
            number,
            parent: self.current.get(&policy.name).copied(),
            policy: &policy,
            policies: &policies_shown,
            fleet: &fleet,
            only,
            findings: &findings,
            barred: &barred,
            recalls: &recalls,
            busy: &busy,
            serving: self.serving(&policy.name),
            silent_after_seconds: SILENT_AFTER_SECONDS,
            now,
            seed: number,
        });
        match sabotage {
            Some(Sabotage::HideHeld) => plan.held.clear(),
            Some(Sabotage::SkipCanaries) => skip_canaries(&mut plan),
            _ => {}
        }
        plan
    }

    /// How a plan stands with its approvals.
    pub(crate) fn approvals(&self, row: &PlanRow, now: Timestamp) -> ApprovalVerdict {
        let operator = |name: &str, role| Operator {
            name: name.to_owned(),
            roles: [role].into(),
            created_at: crate::fleet::start(),
            created_by: "admin".to_owned(),
            expires_at: None,
            revoked_at: None,
            revoked_by: None,
            disabled_at: None,
            disabled_by: None,
        };
        let mut operators: BTreeMap<String, Operator> = APPROVERS
            .iter()
            .map(|name| ((*name).to_owned(), operator(name, Role::Approver)))
            .collect();
        operators.insert("mallory".to_owned(), operator("mallory", Role::Operator));
        let current = self.current.get(&row.plan.policy).copied();
        judge(&ApprovalInput {
            digest: row.digest,
            made_by: &row.made_by,
            needed: row.plan.approvals_needed,
            stage: Stage::of(&row.plan, current, None),
            approvals: &row.approvals,
            operators: &operators,
            now,
        })
    }
}

/// Everybody goes with the first wave.
fn skip_canaries(plan: &mut Plan) {
    if plan.pools.is_some() || plan.waves.len() < 2 {
        return;
    }
    let later: Vec<HostId> = plan.waves.drain(1..).flat_map(|wave| wave.hosts).collect();
    plan.waves[0].hosts.extend(later);
    plan.hosts.values_mut().for_each(|host| host.wave = 0);
}

impl World {
    fn law(&self, policy: &str) -> Option<Law> {
        self.store.in_force(policy).cloned()
    }

    /// Somebody makes a plan, and mostly means to start it.
    pub(super) fn somebody_plans(&mut self, policy: &str) {
        if self.healed {
            return;
        }
        let by = *self.random.pick(&["operator", "bob"]).unwrap_or(&"operator");
        let Some(number) = self.make_plan(policy, by) else { return };
        if self.random.permille(850) {
            // Now and then much later, when it may have been overtaken.
            let later = self.random.permille(200);
            let seconds =
                if later { self.random.between(600, 7200) } else { self.random.between(0, 300) };
            self.due(seconds, Happening::StartPlan { plan: number });
        }
    }

    /// A plan is made, judged and kept. `None`: there is no such policy.
    pub(super) fn make_plan(&mut self, policy: &str, by: &str) -> Option<u64> {
        let law = self.law(policy)?;
        let now = self.now;
        // Now and then for a few hosts only.
        let some = self.random.permille(150).then(|| {
            let all: Vec<HostId> = self.store.hosts.keys().cloned().collect();
            all.into_iter().filter(|_| self.random.permille(500)).collect::<BTreeSet<_>>()
        });
        let plan = self.store.plan(&law, some.as_ref(), now, self.options.sabotage);
        self.checker.planned(now, &plan, &law, some.as_ref(), &self.store);
        let number = plan.number;
        let row = PlanRow {
            digest: plan.digest(),
            plan: Arc::new(plan),
            made_by: by.to_owned(),
            approvals: Vec::new(),
            rollout: None,
        };
        self.tell(|_| {
            let told = row.plan.waves.iter().map(|wave| format!("{}: {:?}", wave.ring, wave.hosts));
            let told: Vec<String> = told.collect();
            format!("{by} plans {number} by {policy}: {}", told.join("; "))
        });
        self.store.plans.insert(number, row);
        self.approve(number);
        Some(number)
    }

    /// Several people look at a plan that needs them; some of them may not.
    fn approve(&mut self, number: u64) {
        let now = self.now;
        let Some(row) = self.store.plans.get_mut(&number) else { return };
        if row.plan.approvals_needed == 0 {
            return;
        }
        let maker = row.made_by.clone();
        let voices = ["mallory", maker.as_str()].into_iter().chain(APPROVERS);
        for by in voices {
            if self.random.permille(700) {
                let comment = String::new();
                let digest = row.digest;
                row.approvals.push(Approval { at: now, by: by.to_owned(), digest, comment });
            }
        }
    }

    /// Somebody starts a plan. What keeps it from starting is known.
    pub(super) fn somebody_starts(&mut self, number: u64) {
        if !self.healed {
            self.start_plan(number, "operator");
        }
    }

    /// Starts a plan. `Err`: why not.
    pub(super) fn start_plan(&mut self, number: u64, by: &str) -> Option<RolloutId> {
        let now = self.now;
        let row = self.store.plans.get(&number)?.clone();
        let (plan, digest) = (row.plan.clone(), row.digest);
        if plan.hosts.is_empty() {
            self.checker.sometimes("nothing to do");
            return None;
        }
        if self.store.current.get(&plan.policy).copied() != plan.parent || row.rollout.is_some() {
            self.tell(|_| format!("plan {number} was overtaken"));
            self.checker.sometimes("plan overtaken");
            if !self.sabotaged(Sabotage::StartOvertaken) || row.rollout.is_some() {
                return None;
            }
        }
        let verdict = self.store.approvals(&row, now);
        if let Some(hold) = verdict.hold() {
            self.tell(|_| format!("plan {number}: {hold}"));
            self.checker.sometimes("plan not approved");
            if !self.sabotaged(Sabotage::StartUnapproved) {
                return None;
            }
        }
        let counted = if self.sabotaged(Sabotage::StartUnapproved) {
            row.approvals.clone()
        } else {
            verdict.counted
        };
        self.store.started += 1;
        let id = RolloutId(format!("ro-{:03}", self.store.started));
        for (check, mood) in gates::moods(&mut self.random, &plan) {
            self.tell(|_| format!("whoever answers `{check}` of {id} is {mood:?}"));
            self.moods.insert((id.clone(), check), mood);
        }
        let first = Rollout::create_approved(&id, plan.clone(), (by, by), counted);
        let state = match Rollout::begin(&id, now, &first) {
            Ok(state) => state,
            Err(error) => {
                if self.options.sabotage.is_none() {
                    self.checker.violated(now, "19 conservation", error.to_string());
                }
                return None;
            }
        };
        self.tell(|_| format!("{id} by plan {number}, started by {by}"));
        self.checker.started(now, &state, &self.store, number);
        let works: BTreeSet<TestWork> = state.plan.hosts.values().map(TestWork::of).collect();
        for work in works.into_iter().filter(|_| state.awaits_tests()) {
            let takes = self.random.between(30, 1800);
            self.due(takes, Happening::Test { work });
        }
        self.store.current.insert(plan.policy.clone(), digest);
        if let Some(row) = self.store.plans.get_mut(&number) {
            row.rollout = Some(id.clone());
        }
        let row = RolloutRow { events: vec![(now, first)], state };
        self.store.rollouts.insert(id.clone(), row);
        self.signal();
        Some(id)
    }

    /// Hosts become another policy's, after a plan was made for them and before it is started: so is one by the other.
    fn change_hands(&mut self) -> bool {
        let [main, other] = &self.store.laws[..] else { return false };
        let gains = other.policy.priority < 0;
        let (main, other) = (main.policy.name.clone(), other.policy.name.clone());
        let (loses, gets) = if gains { (main, other) } else { (other, main) };
        let before = self.make_plan(&loses, "operator");
        let law = &mut self.store.laws[1];
        law.change_hands();
        let law = law.clone();
        self.store.texts.insert(law.policy.digest, law);
        let after = self.make_plan(&gets, "operator");
        // Both are started by whoever comes back first.
        let soon = self.random.between(60, 600);
        for plan in before.into_iter().chain(after) {
            self.due(soon, Happening::StartPlan { plan });
        }
        self.checker.sometimes("hosts changed hands");
        true
    }

    /// A policy is edited.
    pub(super) fn edit_policy(&mut self) -> bool {
        if self.random.permille(500) && self.change_hands() {
            return true;
        }
        let (now, count) = (self.now, self.store.laws.len() as u64);
        let which = self.random.between(0, count - 1) as usize;
        let law = &mut self.store.laws[which];
        law.edit(&mut self.random, now);
        let law = law.clone();
        self.tell(|_| format!("policy {} is edited: {:?}", law.policy.name, law.excluded));
        self.store.texts.insert(law.policy.digest, law);
        // Whoever edits a policy looks at what comes of it.
        let names: Vec<String> =
            self.store.laws.iter().map(|law| law.policy.name.clone()).collect();
        for policy in names {
            if self.random.permille(500) {
                let soon = self.random.between(1, 900);
                self.due(soon, Happening::MakePlan { policy });
            }
        }
        self.signal();
        true
    }

    /// The faults have stopped: nothing is closed by a person's word any more.
    pub(super) fn reopen(&mut self) {
        for law in &mut self.store.laws {
            law.reopen();
            self.store.texts.insert(law.policy.digest, law.clone());
        }
    }

    /// In the end every policy is asked once more: it owes nothing, or the plan says what it would do and what not.
    pub(super) fn last_plans(&mut self) {
        let now = self.now;
        for law in self.store.laws.clone() {
            let plan = self.store.plan(&law, None, now, self.options.sabotage);
            self.checker.planned(now, &plan, &law, None, &self.store);
            // The same from the same, whoever asks.
            let again = self.store.plan(&law, None, now, self.options.sabotage);
            if again != plan {
                let detail = format!("policy {}: two plans of one moment differ", law.policy.name);
                self.checker.violated(now, "36 planned", detail);
            }
        }
        // Whoever has no policy is shown as such to who asks for it.
        let nobodys = |id: &HostId| {
            let labels = &self.store.hosts.get(id)?.labels;
            (!self.store.laws.iter().any(|law| law.selects(labels))).then(|| id.clone())
        };
        let only: BTreeSet<HostId> = self.store.hosts.keys().filter_map(nobodys).collect();
        if let Some(law) = self.store.laws.first().cloned() {
            let plan = self.store.plan(&law, Some(&only), now, self.options.sabotage);
            self.checker.planned(now, &plan, &law, Some(&only), &self.store);
        }
    }

    /// Open findings with a fix on offer, and upgrades on offer, over the hosts that a policy governs.
    pub(super) fn owed(&self, policy: &str) -> (u64, u64) {
        let (fleet, policies) = (self.store.fleet(), self.store.policies());
        let found = self.store.exposed(&fleet, &policies, self.now);
        let mut owed = (0, 0);
        for host in &fleet {
            let governs = choose(&policies, host).ok().flatten();
            if governs.is_none_or(|it| it.name != policy) {
                continue;
            }
            let open = found.get(&host.id).into_iter().flat_map(|all| all.iter());
            let open = open.filter(|f| f.state == FindingState::Open && f.offered);
            owed.0 += open.count() as u64;
            owed.1 += host.inventory.as_ref().map_or(0, |it| it.upgrades.len() as u64);
        }
        owed
    }

    /// A rollout of the policy that has not ended.
    pub(super) fn under_way(&self, policy: &str) -> Option<RolloutId> {
        let mut rows = self.store.rollouts.iter();
        rows.find(|(_, row)| row.state.ended_at.is_none() && row.state.plan.policy == policy)
            .map(|(id, _)| id.clone())
    }

    /// Has the server listened long enough to know who is silent?
    pub(super) fn unheard(&self, process: usize) -> Option<Hold> {
        let from = after(self.processes[process].started_at, 485);
        let what = || format!("hosts are heard again after the server's start, until {from}");
        (self.now < from).then(|| Hold::NoData { what: what() })
    }
}
