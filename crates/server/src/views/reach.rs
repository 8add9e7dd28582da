//! What plans and rollouts ask of the fleet besides where it stands: who needs what on its cohorts, how long changes took,
//! which units are not active. It is the same from one look to the next, and costs an inventory or a journal each: what was
//! read is kept.

use crate::app::App;
use fettle_core::plan::spent::Spent;
use fettle_core::plan::{Budget, Needs, Plan};
use fettle_core::{Digest, HostId, Problem};
use fettle_store::hosts::Pulse;
use fettle_store::{View, hosts, ledger, transactions};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The latest transactions from which is learned how long a change takes.
const LEARNED_FROM: u64 = 300;
/// Cohorts that are asked who needs what there: the largest.
const COHORTS_ASKED: usize = 50;
/// Hosts of which is kept who needs what there; of more, all are forgotten.
const KEPT: usize = 1000;
/// The same of hosts and the units that are not active there.
const DOWN_KEPT: usize = 200_000;
/// A rollout decides by what was learned so long ago, rather than read it again at each step.
const LEARNED_LATELY: Duration = Duration::from_secs(60);

/// What was read.
#[derive(Default)]
pub(crate) struct Read {
    /// By host, with the inventory that says so. `None`: it does not say.
    needs: Mutex<HashMap<HostId, (Digest, Option<Needs>)>>,
    spent: Mutex<Option<Learned>>,
    down: Mutex<Down>,
}

/// Units that are not active, by the units asked for and the host, with the inventory that says so.
type Down = HashMap<Digest, HashMap<HostId, (Digest, Vec<String>)>>;

struct Learned {
    /// Length of the ledger then: whatever ends is an entry.
    ledger: u64,
    at: Instant,
    spent: Arc<Vec<Spent>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who needs what on the hosts of the plan's largest cohorts: one of each tells for all.
pub(super) fn needs(
    app: &App,
    view: &View<'_>,
    plan: &Plan,
) -> Result<BTreeMap<Digest, Needs>, Problem> {
    let mut cohorts: BTreeMap<Digest, (u64, &HostId)> = BTreeMap::new();
    for (id, host) in &plan.hosts {
        cohorts.entry(host.cohort).or_insert((0, id)).0 += 1;
    }
    let mut largest: Vec<(Digest, (u64, &HostId))> = cohorts.into_iter().collect();
    largest.sort_by_key(|(cohort, (hosts, _))| (Reverse(*hosts), *cohort));
    let mut out = BTreeMap::new();
    for (cohort, (_, id)) in largest.into_iter().take(COHORTS_ASKED) {
        let Some(digest) = hosts::inventory_digest(view, id)? else { continue };
        let kept = lock(&app.read.needs).get(id).filter(|(of, _)| *of == digest).cloned();
        let found = match kept {
            Some((_, found)) => found,
            None => {
                let found = hosts::needs(view, id)?.and_then(|it| {
                    let in_use = it.in_use.into_iter().collect();
                    it.dependents.map(|dependents| Needs { dependents, in_use })
                });
                let mut all = lock(&app.read.needs);
                if all.len() >= KEPT {
                    all.clear();
                }
                all.insert(id.clone(), (digest, found.clone()));
                found
            }
        };
        out.extend(found.map(|found| (cohort, found)));
    }
    Ok(out)
}

/// How long the latest changes took that ended well.
pub(super) fn spent(app: &App, view: &View<'_>) -> Result<Arc<Vec<Spent>>, Problem> {
    let length = ledger::len(view)?;
    learned(app, view, |kept| kept.ledger == length)
}

/// The same, as it was a moment ago.
pub(crate) fn spent_lately(app: &App, view: &View<'_>) -> Result<Arc<Vec<Spent>>, Problem> {
    // What was learned of nothing is not worth keeping.
    learned(app, view, |kept| !kept.spent.is_empty() && kept.at.elapsed() < LEARNED_LATELY)
}

fn learned(
    app: &App,
    view: &View<'_>,
    stands: impl Fn(&Learned) -> bool,
) -> Result<Arc<Vec<Spent>>, Problem> {
    if let Some(kept) = lock(&app.read.spent).as_ref().filter(|kept| stands(kept)) {
        return Ok(kept.spent.clone());
    }
    let ledger = ledger::len(view)?;
    let spent = Arc::new(transactions::spent(view, LEARNED_FROM)?);
    *lock(&app.read.spent) = Some(Learned { ledger, at: Instant::now(), spent: spent.clone() });
    Ok(spent)
}

/// Which units that these budgets ask for are not active, by the hosts' inventories; a host without one has none that is
/// known to be. Hosts on which all are active are left out.
pub(crate) fn down(
    app: &App,
    view: &View<'_>,
    budgets: &[Budget],
    pulses: &BTreeMap<HostId, Pulse>,
) -> Result<BTreeMap<HostId, BTreeSet<String>>, Problem> {
    let mut out: BTreeMap<HostId, BTreeSet<String>> = BTreeMap::new();
    for Budget { hosts, services, .. } in budgets.iter().filter(|b| !b.services.is_empty()) {
        let asked = Digest::of_json(services);
        for (host, pulse) in hosts.iter().filter_map(|id| pulses.get_key_value(id)) {
            let inactive = match pulse.inventory {
                Some(inventory) => inactive(app, view, (asked, host), inventory, services)?,
                None => services.clone(),
            };
            if !inactive.is_empty() {
                out.entry(host.clone()).or_default().extend(inactive);
            }
        }
    }
    Ok(out)
}

/// The same of one host, whose inventory has that digest.
fn inactive(
    app: &App,
    view: &View<'_>,
    (asked, host): (Digest, &HostId),
    inventory: Digest,
    services: &[String],
) -> Result<Vec<String>, Problem> {
    let known = |all: &Down| all.get(&asked)?.get(host).filter(|(of, _)| *of == inventory).cloned();
    if let Some((_, kept)) = known(&lock(&app.read.down)) {
        return Ok(kept);
    }
    let active = hosts::active_units(view, host)?.unwrap_or_default();
    let found: Vec<String> = services.iter().filter(|u| !active.contains(*u)).cloned().collect();
    let mut all = lock(&app.read.down);
    if all.values().map(HashMap::len).sum::<usize>() >= DOWN_KEPT {
        all.clear();
    }
    all.entry(asked).or_default().insert(host.clone(), (inventory, found.clone()));
    Ok(found)
}
