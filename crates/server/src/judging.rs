//! Hosts judged by the vendors' data in force and rated by their policies.

use crate::app::{App, now};
use crate::feeds::InForce;
use crate::spans::{traced, within};
use fettle_core::finding::Finding;
use fettle_core::host::Host;
use fettle_core::policy::{Acceptance, Policy};
use fettle_core::{Digest, HostId, Problem, Timestamp};
use fettle_store::policies::PolicyRecord;
use fettle_store::{Tx, View, findings, hosts, settings};
use fettle_vuln::exposure::{
    Catalogue, Changed, Exception, HostView, JudgedAnew, Judgement, Verdict, Withdrawn,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// Threads that judge hosts.
const MOST_JUDGES: usize = 8;
/// Findings in one write, about: what a host that reports meanwhile waits for.
const ROWS_AT_ONCE: usize = 2_000;
/// So long at most is kept back what is known.
const HELD_BACK: Duration = Duration::from_secs(1);

/// How a host is judged, with nothing written yet.
struct Judged {
    host: HostId,
    /// Of the inventory it was judged from.
    inventory: Option<Digest>,
    difference: findings::Difference,
    /// Gone without anything on the host having fixed them.
    withdrawn: Vec<Withdrawn>,
}

impl Judged {
    /// Is there nothing to write?
    fn is_as_before(&self) -> bool {
        self.difference.is_empty() && self.withdrawn.is_empty()
    }

    fn keep(&self, tx: &mut Tx<'_>) -> Result<findings::Changed, Problem> {
        if !self.withdrawn.is_empty() {
            // That is on record, whoever asks later.
            tx.record("finding.withdrawn", self.host.as_str(), json!(self.withdrawn));
        }
        Ok(findings::keep(tx, &self.host, &self.difference)?)
    }
}

/// Judges one host from its whole inventory and keeps what changed. Judging again on the same facts writes
/// nothing.
pub(crate) fn judge(app: &App, tx: &mut Tx<'_>, host: &Host) -> Result<findings::Changed, Problem> {
    within(traced!("judge", host = %host.id), || match judged(app, tx, host, None)? {
        Some(judged) => judged.keep(tx),
        None => Ok(findings::Changed::default()),
    })
}

/// `None`: it has not said what it has. `changed`: what the vendors' data says otherwise than when it was judged; `None`:
/// everything may be another.
fn judged(
    app: &App,
    view: &View<'_>,
    host: &Host,
    changed: Option<&Changed>,
) -> Result<Option<Judged>, Problem> {
    let Some(inventory) = &host.inventory else { return Ok(None) };
    let concern = changed.map(|changed| changed.of(inventory));
    let known = match &concern {
        None => findings::of_host(view, &host.id)?,
        Some(concern) => findings::of_host_in(view, &host.id, |source| concern.has(source))?,
    };
    let previous: Vec<Finding> = known.values().map(|r| r.finding.clone()).collect();
    let now = now();
    let (catalogue, policies) = (app.catalogue(), app.policies());
    let policy = policies.of(host);
    let mut accepted = policy.map_or_else(Vec::new, |policy| accepted(&catalogue, policy, now));
    // A statement names hosts as people do.
    let names = [host.name.as_str(), host.id.as_str()];
    accepted.extend(catalogue.ruled_out(&names, inventory, now));
    let seen = HostView {
        host: &host.id,
        inventory,
        previous: &previous,
        ran_before: &BTreeMap::new(),
        accepted: &accepted,
    };
    let (judged, withdrawn) = match &concern {
        None => {
            let Judgement { findings, withdrawn, .. } = catalogue.judge(&seen);
            (findings, withdrawn)
        }
        Some(concern) => {
            let JudgedAnew { findings, withdrawn } = catalogue.judge_anew(&seen, concern);
            (findings, withdrawn)
        }
    };
    let rate = |finding: &mut Finding, first_seen| match policy {
        Some(policy) => policy.rate(finding, first_seen),
        None => {
            finding.class.clear();
            finding.deadline = None;
        }
    };
    let difference = findings::compare(known, judged, now, rate);
    let inventory = host.inventory_digest;
    Ok(Some(Judged { host: host.id.clone(), inventory, difference, withdrawn }))
}

/// The acceptances of a policy that hold now, by what the vendors' data say of each.
fn accepted(catalogue: &Catalogue, policy: &Policy, now: Timestamp) -> Vec<Exception> {
    let holds = |a: &&Acceptance| {
        let (epss, exploited) = catalogue.threat(&a.finding);
        a.holds(now, epss, exploited)
    };
    let exception = |a: &Acceptance| Exception {
        id: a.finding.clone(),
        source: a.source.clone(),
        owner: a.owner.clone(),
        reason: a.reason.clone(),
        until: a.until,
        verdict: Verdict::Accepted,
    };
    policy.acceptances.iter().filter(holds).map(exception).collect()
}

/// What all hosts were last judged by: the same digest, the same judgement.
const JUDGED_BY: &str = "judged-by";

/// What decides how hosts are judged.
#[derive(Debug, Clone)]
pub(crate) struct JudgedBy {
    in_force: InForce,
    /// Policies by their digests, and what has ended by itself.
    rest: String,
}

impl JudgedBy {
    fn now(app: &App) -> Self {
        let (in_force, policies) = (app.in_force(), app.policies());
        let digest = |policy: &PolicyRecord| format!("{}={}", policy.name, policy.digest);
        let mut rest: Vec<String> = policies.records.iter().map(digest).collect();
        // An acceptance ends by itself, and so does one's own statement: what it covered is open again.
        rest.push(format!("ended-acceptances={}", policies.ended_acceptances(now())));
        rest.push(format!("ended-statements={}", in_force.catalogue.ended_statements(now())));
        Self { in_force, rest: rest.join(" ") }
    }

    fn digest(&self) -> String {
        Digest::of(format!("{} {}", self.in_force.feeds, self.rest).as_bytes()).to_string()
    }

    /// What is to be judged anew of hosts that were judged by that. `None`: everything.
    fn changed_since(&self, before: &Self) -> Option<Changed> {
        let (is, was) = (&self.in_force.catalogue, &before.in_force.catalogue);
        is.changed_since(was).filter(|_| self.rest == before.rest)
    }
}

/// Judges every host anew if feeds or policies are others than the last time: where the feeds alone are, by what they say
/// otherwise. Can be killed at any point and run again: the mark is set when all are judged, and who does not know by what
/// they were judged judges everything.
pub(crate) fn judge_all(app: &App) -> Result<(), Problem> {
    let by = JudgedBy::now(app);
    let digest = by.digest();
    let marked = app.store.read(|view| settings::get(view, JUDGED_BY)).map_err(Problem::from)?;
    let known = app.judged_by.lock().unwrap_or_else(PoisonError::into_inner).take();
    if marked.as_deref() != Some(&digest) {
        let known = known.filter(|known| marked == Some(known.digest()));
        let changed = known.and_then(|known| by.changed_since(&known));
        let ids = app.store.read(hosts::ids).map_err(Problem::from)?;
        tracing::info!(
            hosts = ids.len(),
            packages = changed.as_ref().map(Changed::len),
            "judging hosts anew"
        );
        if changed.as_ref().is_none_or(|changed| !changed.is_empty()) {
            let span = traced!("judge-fleet", hosts = ids.len());
            within(span, || judge_these(app, &ids, changed.as_ref()))?;
        }
        if is_stopped(app) {
            return Ok(());
        }
        app.store.write::<_, Problem>("server", now(), |tx| {
            Ok(settings::set(tx, JUDGED_BY, &digest)?)
        })?;
    }
    *app.judged_by.lock().unwrap_or_else(PoisonError::into_inner) = Some(by);
    Ok(())
}

fn is_stopped(app: &App) -> bool {
    *app.stopped.borrow()
}

/// Judges hosts by what they last reported, on all processors. They are read and judged beside whoever writes; only what
/// changed is then written, some hosts at a time.
fn judge_these(app: &App, ids: &[HostId], changed: Option<&Changed>) -> Result<(), Problem> {
    let next = AtomicUsize::new(0);
    // Where somebody always reads an older state, the database's log (WAL) is never folded back into it and grows without
    // end: nobody reads while one writes.
    let reading = RwLock::new(());
    let keep = |batch: &[Judged]| {
        let _alone = reading.write().unwrap_or_else(PoisonError::into_inner);
        keep(app, batch)
    };
    let one = || -> Result<(), Problem> {
        let (mut batch, mut begun) = (Vec::new(), Instant::now());
        // Another one's error ends this too: then there is no next. A server that is to stop goes on at its next start.
        while !is_stopped(app)
            && let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let differs = {
                let _beside_others = reading.read().unwrap_or_else(PoisonError::into_inner);
                differs_by_now(app, id, changed)?
            };
            batch.extend(differs);
            let rows: usize = batch.iter().map(|j: &Judged| j.difference.rows()).sum();
            let long = begun.elapsed() >= HELD_BACK && !batch.is_empty();
            if rows >= ROWS_AT_ONCE || long {
                keep(&std::mem::take(&mut batch))?;
                begun = Instant::now();
            }
        }
        keep(&batch)
    };
    let one = || one().inspect_err(|_| next.store(ids.len(), Ordering::Relaxed));
    let judges = available_parallelism().map_or(1, NonZero::get).min(MOST_JUDGES);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..judges).map(|_| scope.spawn(one)).collect();
        let mut ended = vec![one()];
        for other in others {
            ended.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        ended.into_iter().collect()
    })
}

/// A host as it is judged now, where that is another judgement than before.
fn differs_by_now(
    app: &App,
    id: &HostId,
    changed: Option<&Changed>,
) -> Result<Option<Judged>, Problem> {
    app.store.read(|view| {
        let Some(host) = whole(view, id)? else { return Ok(None) };
        Ok(judged(app, view, &host, changed)?.filter(|judged| !judged.is_as_before()))
    })
}

/// Writes down how hosts are judged. Whoever has reported since is judged by that.
fn keep(app: &App, batch: &[Judged]) -> Result<(), Problem> {
    if batch.is_empty() {
        return Ok(());
    }
    let changed = app.store.write::<_, Problem>("server", now(), |tx| {
        let mut changed = Vec::new();
        for judged in batch {
            let written = if hosts::inventory_digest(tx, &judged.host)? == judged.inventory {
                judged.keep(tx)?.written
            } else {
                match whole(tx, &judged.host)? {
                    Some(host) => judge(app, tx, &host)?.written,
                    None => 0,
                }
            };
            changed.extend((written > 0).then_some(&judged.host));
        }
        Ok(changed)
    })?;
    for host in changed {
        app.events.tell("host", host.as_str());
    }
    Ok(())
}

/// A host with its whole inventory. `None`: there is none such any more.
fn whole(view: &View<'_>, id: &HostId) -> Result<Option<Host>, Problem> {
    let Some(record) = hosts::get(view, id)? else { return Ok(None) };
    let inventory = hosts::inventory(view, id)?.map(Arc::new);
    Ok(Some(Host { inventory, ..record.host }))
}
