//! Why something that is owed is not done: from the newest plan of each policy, from emergency plans made since, and from
//! the rollouts that carry them out.

use super::HostId;
use crate::app::App;
use crate::rollouts;
use fettle_core::Problem;
use fettle_core::plan::{Plan, Work};
use fettle_core::report::Seen;
use fettle_core::rollout::Rollout;
use fettle_store::{View, plans, rollouts as stored_rollouts};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Emergency plans of a policy that are asked, newest first.
const EMERGENCIES: usize = 16;

/// What the newest plans say, by policy.
#[derive(Default)]
pub(super) struct Reasons(BTreeMap<String, Of>);

/// What the plans of one policy say.
#[derive(Default)]
struct Of {
    /// The newest plan of all that it owes.
    newest: Option<Planned>,
    /// Emergency plans made since, newest first: of the hosts they have, and of what called on them.
    emergencies: Vec<Planned>,
}

/// A plan, as it answers for what is late.
struct Planned {
    plan: Plan,
    rollout: Option<Arc<Rollout>>,
    /// What each work brings, by vulnerability: in which packages. By where the plan keeps the work.
    brings: HashMap<*const Work, HashMap<String, Vec<String>>>,
    /// By host: which of the plan's groups of held hosts it is in.
    held: HashMap<HostId, Vec<usize>>,
    groups: Vec<Group>,
}

/// What hosts that are held alike are held from.
#[derive(Default)]
struct Group {
    /// Why the whole host is left alone, if it is.
    whole: Option<Arc<str>>,
    /// Why each vulnerability stays open: package (or source package) and reason.
    stays: HashMap<String, Vec<(String, Arc<str>)>>,
}

/// What a plan does about a finding.
enum Answer {
    Brings(String),
    Stays(String),
}

impl Reasons {
    /// Reads the newest plans of a policy, if there are any.
    pub(super) fn learn(
        &mut self,
        app: &App,
        view: &View<'_>,
        policy: &str,
    ) -> Result<(), Problem> {
        let planned = |number| -> Result<Planned, Problem> {
            let plan = plans::get(view, number)?;
            let rollout = stored_rollouts::of_plan(view, number)?;
            let rollout = rollout.map(|id| rollouts::load(app, view, &id)).transpose()?;
            Ok(Planned::new(plan, rollout))
        };
        let newest = plans::newest_of(view, policy)?;
        let since = plans::emergencies_after(view, policy, newest.unwrap_or(0))?;
        let of = Of {
            newest: newest.map(planned).transpose()?,
            emergencies: since
                .into_iter()
                .take(EMERGENCIES)
                .map(planned)
                .collect::<Result<_, Problem>>()?,
        };
        self.0.insert(policy.to_owned(), of);
        Ok(())
    }

    /// What stands in the way of a fix that is owed and open. `binaries`: the installed packages of its source, as a list
    /// in JSON. `quarantined`: why the host is.
    pub(super) fn why(
        &self,
        seen: &Seen<'_>,
        host: &str,
        binaries: &str,
        quarantined: Option<&str>,
    ) -> String {
        if let Some(reason) = quarantined {
            return format!("the host is quarantined: {reason}");
        }
        if seen.policy.is_empty() {
            return "no policy covers the host".to_owned();
        }
        if !seen.offered {
            return "no source of the host offers the fix".to_owned();
        }
        // Names of packages have nothing in them that JSON would escape. Of a list that cannot be read, none is known.
        let binaries: Vec<&str> = serde_json::from_str(binaries).unwrap_or_default();
        let it = Asked { host: HostId::from(host), id: seen.id, source: seen.source, binaries };
        let answer = self.0.get(seen.policy).and_then(|of| of.answer(&it));
        answer.unwrap_or_else(|| format!("nothing was planned: fettle plan make {}", seen.policy))
    }
}

/// The finding that is asked about.
struct Asked<'a> {
    host: HostId,
    id: &'a str,
    source: &'a str,
    binaries: Vec<&'a str>,
}

impl Asked<'_> {
    /// Is the package one of its source? One vulnerability can be in several sources, and each has a fix of its own.
    fn owns(&self, package: &str) -> bool {
        package == self.source || self.binaries.contains(&package)
    }
}

impl Of {
    fn answer(&self, it: &Asked<'_>) -> Option<String> {
        let mut urgent = self.emergencies.iter().map(|planned| planned.answer(it, false));
        if let Some(Answer::Brings(text)) =
            urgent.find(|answer| matches!(answer, Some(Answer::Brings(_)))).flatten()
        {
            return Some(text);
        }
        let newest = self.newest.as_ref();
        if let Some(Answer::Brings(text) | Answer::Stays(text)) =
            newest.and_then(|planned| planned.answer(it, true))
        {
            return Some(text);
        }
        let mut urgent = self.emergencies.iter().filter_map(|planned| planned.answer(it, false));
        if let Some(Answer::Stays(text)) = urgent.find(|answer| matches!(answer, Answer::Stays(_)))
        {
            return Some(text);
        }
        newest.map(|Planned { plan, .. }| {
            format!("came after plan {}: fettle plan make {}", plan.number, plan.policy)
        })
    }
}

impl Planned {
    fn new(plan: Plan, rollout: Option<Arc<Rollout>>) -> Self {
        let mut brings = HashMap::new();
        for (work, _) in plan.works() {
            let mut by_id: HashMap<String, Vec<String>> = HashMap::new();
            for (package, fixes) in &work.why {
                for id in fixes {
                    by_id.entry(id.clone()).or_default().push(String::clone(package));
                }
            }
            brings.insert(Arc::as_ptr(work), by_id);
        }
        let mut held: HashMap<HostId, Vec<usize>> = HashMap::new();
        let mut groups = Vec::with_capacity(plan.held.len());
        for (n, hosts) in plan.held.iter().enumerate() {
            for host in hosts.hosts.keys() {
                held.entry(host.clone()).or_default().push(n);
            }
            let mut group = Group::default();
            for what in &hosts.what {
                // The nearest reason comes first.
                let Some(reason) = what.reasons.first() else { continue };
                let reason: Arc<str> = reason.to_string().into();
                if what.package.is_empty() {
                    group.whole.get_or_insert_with(|| reason.clone());
                }
                for id in &what.findings {
                    let stays = group.stays.entry(id.clone()).or_default();
                    stays.push((what.package.clone(), reason.clone()));
                }
            }
            groups.push(group);
        }
        Self { plan, rollout, brings, held, groups }
    }

    /// What the plan does about the finding. Of several packages that have the vulnerability, those of the finding's source
    /// speak first; and where it is not known which are (a kernel's fix comes in a package of another name), one that is
    /// held speaks before one that is brought: what is late is not called under way for another's sake. `whole`: does
    /// what leaves a whole host alone hold whatever is not named?
    fn answer(&self, it: &Asked<'_>, whole: bool) -> Option<Answer> {
        let work = self.plan.hosts.get(&it.host).map(|host| Arc::as_ptr(&host.work));
        let brings = work.and_then(|work| self.brings.get(&work)?.get(it.id));
        let groups = || self.held.get(&it.host).into_iter().flatten().map(|n| &self.groups[*n]);
        let stays = || groups().filter_map(|group| group.stays.get(it.id)).flatten();
        let said = |reason: &Arc<str>| Some(Answer::Stays(reason.to_string()));
        if let Some((_, reason)) = stays().find(|(package, _)| it.owns(package)) {
            return said(reason);
        }
        if brings.is_some_and(|packages| packages.iter().any(|package| it.owns(package))) {
            return Some(Answer::Brings(self.under_way(&it.host)));
        }
        if let Some(reason) = groups().find_map(|group| group.whole.as_ref()).filter(|_| whole) {
            return said(reason);
        }
        if let Some((_, reason)) = stays().next() {
            return said(reason);
        }
        brings.map(|_| Answer::Brings(self.under_way(&it.host)))
    }

    /// How far the plan is with what it brings to a host.
    fn under_way(&self, host: &HostId) -> String {
        let plan = self.plan.number;
        match &self.rollout {
            None => format!("plan {plan} brings it and waits to be started"),
            Some(rollout) => {
                let state = rollout.hosts.get(host).map_or("gone", |run| run.state.word());
                let phase = rollout.phase.word();
                format!("plan {plan} brings it; {} is {phase}, the host {state}", rollout.id)
            }
        }
    }
}

#[cfg(test)]
mod tests;
