//! What a plan's report asks of the fleet: who needs what on its cohorts, and how long changes took. Both are the same from
//! one look at a plan's page to the next, and cost an inventory or a journal each: what was read is kept.

use crate::app::App;
use fettle_core::plan::spent::Spent;
use fettle_core::plan::{Needs, Plan};
use fettle_core::{Digest, HostId, Problem};
use fettle_store::{View, hosts, ledger, transactions};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The latest transactions from which is learned how long a change takes.
const LEARNED_FROM: u64 = 300;
/// Cohorts that are asked who needs what there: the largest.
const COHORTS_ASKED: usize = 50;
/// Hosts of which is kept who needs what there; of more, all are forgotten.
const KEPT: usize = 1000;

/// What was read.
#[derive(Default)]
pub(crate) struct Read {
    /// By host, with the inventory that says so. `None`: it does not say.
    needs: Mutex<HashMap<HostId, (Digest, Option<Needs>)>>,
    /// With the length of the ledger then: whatever ends is an entry.
    spent: Mutex<Option<(u64, Arc<Vec<Spent>>)>>,
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
    if let Some((of, kept)) = &*lock(&app.read.spent)
        && *of == length
    {
        return Ok(kept.clone());
    }
    let found = Arc::new(transactions::spent(view, LEARNED_FROM)?);
    *lock(&app.read.spent) = Some((length, found.clone()));
    Ok(found)
}
