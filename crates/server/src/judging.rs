//! Hosts judged by the vendors' data in force and rated by their policies.

use crate::app::{App, now};
use crate::exposed::{Aim, Exposed, Look, Settled};
use crate::feeds::InForce;
use crate::spans::{traced, within};
use crate::trust::random;
use fettle_core::finding::Finding;
use fettle_core::host::Host;
use fettle_core::inventory::Inventory;
use fettle_core::policy::{Acceptance, Policy};
use fettle_core::{Digest, HostId, Problem, Timestamp};
use fettle_store::judged::{self, Standing};
use fettle_store::policies::PolicyRecord;
use fettle_store::{Tx, View, findings, hosts, settings};
use fettle_vuln::exposure::{Catalogue, Exception, Verdict, Withdrawn};
use serde_json::json;
use std::collections::BTreeSet;
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
    /// How its findings stood in the store when it was looked at.
    seen: Standing,
    by: Arc<Catalogue>,
    /// Which report it is of.
    taken: u64,
    /// The policy that rates its findings.
    policy: Option<String>,
    difference: findings::Difference,
    /// Gone without anything on the host having fixed them.
    withdrawn: Vec<Withdrawn>,
}

impl Judged {
    /// Rates what a look at a host has found, and compares it with what the store has.
    fn of(look: Look, aim: &Aim<'_>, policy: Option<&Policy>, now: Timestamp) -> Self {
        let rate = |finding: &mut Finding, first_seen| match policy {
            Some(policy) => policy.rate(finding, first_seen),
            None => {
                finding.class.clear();
                finding.deadline = None;
            }
        };
        let difference = findings::compare(look.before, look.findings, now, rate);
        // What was taken back and said again meanwhile is there.
        let gone: BTreeSet<(&str, &str)> = difference.withdrawn().collect();
        let mut withdrawn = look.withdrawn;
        withdrawn.retain(|w| gone.contains(&(w.id.as_str(), w.source.as_str())));
        withdrawn.sort();
        withdrawn.dedup_by(|b, a| (&a.id, &a.source) == (&b.id, &b.source));
        Self {
            host: aim.host.clone(),
            seen: *aim.standing,
            by: look.by,
            taken: look.taken,
            policy: aim.policy.map(str::to_owned),
            difference,
            withdrawn,
        }
    }

    /// Is there nothing to write?
    fn is_as_before(&self) -> bool {
        self.difference.is_empty() && self.withdrawn.is_empty()
    }

    /// Writes it down.
    fn keep(&self, tx: &mut Tx<'_>, exposed: &mut Exposed) -> Result<findings::Changed, Problem> {
        if !self.withdrawn.is_empty() {
            // That is on record, whoever asks later.
            tx.record("finding.withdrawn", self.host.as_str(), json!(self.withdrawn));
        }
        let changed = findings::keep(tx, &self.host, &self.difference)?;
        let mut kept = self.seen;
        if changed.written > 0 {
            let number = i64::from_le_bytes(random()?);
            judged::set(tx, &self.host, number)?;
            kept.judged = Some(number);
        }
        // Should this not be committed, the store names another judgement than the index knows of.
        self.settle(exposed, kept);
        Ok(changed)
    }

    fn settle(&self, exposed: &mut Exposed, kept: Standing) {
        let policy = self.policy.as_deref();
        let of = Settled { host: &self.host, policy, by: &self.by, taken: self.taken };
        exposed.settle(&of, kept);
    }
}

/// Judges one host from its whole inventory and keeps what changed. Judging again on the same facts writes
/// nothing.
pub(crate) fn judge(app: &App, tx: &mut Tx<'_>, host: &Host) -> Result<findings::Changed, Problem> {
    within(traced!("judge", host = %host.id), || {
        let (Some(inventory), Some(standing)) = (&host.inventory, judged::of_host(tx, &host.id)?)
        else {
            return Ok(findings::Changed::default());
        };
        let mut exposed = app.exposed_mut();
        let judged = taken_in(app, tx, &mut exposed, (host, inventory), &standing, false)?;
        judged.keep(tx, &mut exposed)
    })
}

/// Takes a host with its whole inventory in, and looks at it.
fn taken_in(
    app: &App,
    view: &View<'_>,
    exposed: &mut Exposed,
    (host, inventory): (&Host, &Inventory),
    standing: &Standing,
    all: bool,
) -> Result<Judged, Problem> {
    let in_force = app.in_force();
    exposed.turn_to(&in_force);
    let (policies, now) = (app.policies(), now());
    let policy = policies.of(host);
    let accepted = exceptions(&in_force.catalogue, host, inventory, policy, now);
    let text = policies.text_of(policy);
    let aim = Aim { host: &host.id, standing, policy: text.as_deref(), accepted: &accepted, all };
    let look = exposed.take_in(view, &aim, inventory)?;
    Ok(Judged::of(look, &aim, policy, now))
}

/// What holds for a host of what is accepted, and of one's own statements.
fn exceptions(
    catalogue: &Catalogue,
    host: &Host,
    inventory: &Inventory,
    policy: Option<&Policy>,
    now: Timestamp,
) -> Vec<Exception> {
    let mut all = policy.map_or_else(Vec::new, |policy| accepted(catalogue, policy, now));
    // A statement names hosts as people do.
    let names = [host.name.as_str(), host.id.as_str()];
    all.extend(catalogue.ruled_out(&names, inventory, now));
    all
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
        // Another version may read the same words otherwise.
        rest.push(format!("program={}", env!("CARGO_PKG_VERSION")));
        // An acceptance ends by itself, and so does one's own statement: what it covered is open again.
        rest.push(format!("ended-acceptances={}", policies.ended_acceptances(now())));
        rest.push(format!("ended-statements={}", in_force.catalogue.ended_statements(now())));
        Self { in_force, rest: rest.join(" ") }
    }

    fn digest(&self) -> String {
        Digest::of(format!("{} {}", self.in_force.feeds, self.rest).as_bytes()).to_string()
    }
}

/// Judges hosts anew if feeds or policies are others than the last time: where the feeds alone are, those of which they say
/// something else. Can be killed at any point and run again: the mark is set when all are judged, and who does not know by
/// what they were judged judges everything.
pub(crate) fn judge_all(app: &App) -> Result<(), Problem> {
    let by = JudgedBy::now(app);
    let digest = by.digest();
    let marked = app.store.read(|view| settings::get(view, JUDGED_BY)).map_err(Problem::from)?;
    let known = app.judged_by.lock().unwrap_or_else(PoisonError::into_inner).take();
    if marked.as_deref() != Some(&digest) {
        let known = known.filter(|known| marked == Some(known.digest()));
        let all = known.is_none_or(|known| known.rest != by.rest);
        app.exposed_mut().turn_to(&by.in_force);
        let standings = app.store.read(judged::of_all).map_err(Problem::from)?;
        app.exposed_mut().retain(&standings);
        let ids: Vec<HostId> = {
            let exposed = app.exposed();
            let owed =
                |(id, standing): &(HostId, Standing)| all || !exposed.is_settled(id, standing);
            standings.into_iter().filter(owed).map(|(id, _)| id).collect()
        };
        tracing::info!(hosts = ids.len(), all, "judging hosts anew");
        let span = traced!("judge-fleet", hosts = ids.len());
        within(span, || judge_these(app, &ids, all))?;
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
fn judge_these(app: &App, ids: &[HostId], all: bool) -> Result<(), Problem> {
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
                differs_by_now(app, id, all)?
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

/// A host as it is judged now, where that is another judgement than before. `all`: it may be rated otherwise.
fn differs_by_now(app: &App, id: &HostId, all: bool) -> Result<Option<Judged>, Problem> {
    app.store.read(|view| {
        let Some(standing) = judged::of_host(view, id)? else { return Ok(None) };
        let judged = match looked_at(app, view, id, &standing, all)? {
            Some(judged) => judged,
            None => {
                let Some(host) = whole(view, id)? else { return Ok(None) };
                let Some(inventory) = &host.inventory else { return Ok(None) };
                let mut exposed = app.exposed_mut();
                taken_in(app, view, &mut exposed, (&host, inventory), &standing, all)?
            }
        };
        if judged.is_as_before() {
            judged.settle(&mut app.exposed_mut(), standing);
            return Ok(None);
        }
        Ok(Some(judged))
    })
}

/// A host as the index knows it. `None`: it is to be taken in from its inventory.
fn looked_at(
    app: &App,
    view: &View<'_>,
    id: &HostId,
    standing: &Standing,
    all: bool,
) -> Result<Option<Judged>, Problem> {
    let (in_force, policies, now) = (app.in_force(), app.policies(), now());
    let exposed = app.exposed();
    // One's own statements go by what is installed.
    if !exposed.judges_by(&in_force.catalogue) || !in_force.catalogue.own().is_empty() {
        return Ok(None);
    }
    let Some(record) = hosts::get(view, id)? else { return Ok(None) };
    let policy = policies.of(&record.host);
    let accepted = policy.map_or_else(Vec::new, |p| accepted(&in_force.catalogue, p, now));
    let text = policies.text_of(policy);
    let aim = Aim { host: id, standing, policy: text.as_deref(), accepted: &accepted, all };
    let look = exposed.look(view, &aim)?;
    Ok(look.map(|look| Judged::of(look, &aim, policy, now)))
}

/// Writes down how hosts are judged. Whoever has reported since is judged by that.
fn keep(app: &App, batch: &[Judged]) -> Result<(), Problem> {
    if batch.is_empty() {
        return Ok(());
    }
    let changed = app.store.write::<_, Problem>("server", now(), |tx| {
        let mut changed = Vec::new();
        for judged in batch {
            let written = {
                let mut exposed = app.exposed_mut();
                let stands = judged::of_host(tx, &judged.host)? == Some(judged.seen);
                (stands && exposed.judges_by(&judged.by))
                    .then(|| judged.keep(tx, &mut exposed))
                    .transpose()?
            };
            let written = match written {
                Some(changed) => changed.written,
                None => match whole(tx, &judged.host)? {
                    Some(host) => judge(app, tx, &host)?.written,
                    None => 0,
                },
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

#[cfg(test)]
mod tests;
