//! An agent speaks: what it runs, what it did. It is told what to do and when to come back.

use super::enroll::{check_version, known};
use crate::app::{App, Refusal, now};
use crate::backup::NO_SUCH_GENERATION;
use crate::gates;
use crate::judging::judge;
use crate::notices;
use crate::plan_keys;
use crate::rollouts::{advance, load, of_host, settled};
use crate::spans::{traced, within};
use crate::trust::{Peer, random};
use fettle_core::assignment::may_be_generation;
use fettle_core::host::Host;
use fettle_core::inventory::Inventory;
use fettle_core::rollout::{HostState, Phase, Rollout};
use fettle_core::root::is_name;
use fettle_core::transaction::{Progress, TransactionReport, TxEvent};
use fettle_core::{
    AssignmentId, HostId, Problem, ProblemKind, RolloutId, Timestamp, TransactionId,
};
use fettle_store::transactions::Room;
use fettle_store::{Tx, assignments, hosts, transactions};
use fettle_wire::agent::{CheckIn, CheckInReply, MOST_ASKS, MOST_WATCHES, RefusedOrder};
use std::collections::BTreeMap;
use std::sync::Arc;

/// More packages than any host has; a report with more is no inventory.
const MOST_ROWS: usize = 100_000;
/// Journals have some dozens of records.
const MOST_ENTRIES: usize = 10_000;
/// One record of a journal, in bytes: the first has the whole order, and that of three thousand packages fits.
const LONGEST_ENTRY: usize = 2 << 20;
/// All records of a transaction that this server ordered, in bytes.
const LONGEST_JOURNAL: u64 = 16 << 20;
/// Transactions that nobody here ordered, of which one check-in may bring news. The rest are told the next time.
const MOST_FOREIGN: usize = 50;
/// Agents name their session with 32 characters.
const LONGEST_SESSION: usize = 64;
/// A host tells some hundreds of what it measured.
const MOST_SAMPLES: usize = 5000;
/// Names of anything, in bytes.
const LONGEST: usize = 4096;

/// What is kept of a host's own changes, that nobody here ordered: it can tell of as many as it likes.
const FOREIGN: Room = Room { transactions: 200, bytes: 8 << 20 };

pub(super) fn checkin(
    app: &App,
    host: &HostId,
    peer: &Peer,
    said: CheckIn,
) -> Result<CheckInReply, Problem> {
    within(traced!("check-in", host = %host), || heard(app, host, peer, said))
}

fn heard(app: &App, host: &HostId, peer: &Peer, said: CheckIn) -> Result<CheckInReply, Problem> {
    let now = now();
    let record = known(app, host)?;
    check_version(&said.agent_version)?;
    check_reports(&said.reports)?;
    if said.session.as_ref().is_some_and(|session| session.len() > LONGEST_SESSION) {
        return Err(odd("a session's name beyond reason".to_owned()));
    }
    let samples = said.measured.iter().map(|report| report.samples.len()).sum::<usize>();
    if samples > MOST_SAMPLES || said.measured.len() > MOST_WATCHES {
        return Err(odd(format!("{samples} samples at once")));
    }
    if said.ran.len() > MOST_ASKS {
        return Err(odd(format!("the outcome of {} tests at once", said.ran.len())));
    }
    if let Some(inventory) = &said.inventory {
        check_inventory(inventory)?;
    }
    app.heard(host, now, &said.agent_version);
    app.counters.checkins.inc();
    if said.session.as_ref().is_some_and(|session| app.sessions.heard(host, session)) {
        return Err(two_machines(app, &record.host)?);
    }

    if !may_be_generation(said.generation, record.generation) {
        return Err(leaps(app, &record.host, said.generation)?);
    }

    let usual = gates::measured::usual(app, &record.host);
    // Most of the time nothing is new, and nothing is written.
    let new_inventory = said.inventory.filter(|i| Some(i.digest()) != record.host.inventory_digest);
    let held = new_inventory.as_ref().map(Inventory::digest).or(record.host.inventory_digest);
    let news =
        new_inventory.is_some() || !said.reports.is_empty() || said.generation > record.generation;
    let mut acknowledged = BTreeMap::new();
    if news {
        let told =
            News { inventory: new_inventory, reports: &said.reports, generation: said.generation };
        let of_inventory = told.inventory.is_some();
        acknowledged = keep(app, record.host, told)?;
        if of_inventory {
            app.planning.notify_one();
        }
        app.events.tell("host", host.as_str());
    }

    let (assignment, rollouts, (plan_keys, plan_proof)) = app.store.read::<_, Problem>(|view| {
        let (assignment, rollouts) = (assignments::current(view, host)?, of_host(app, view, host)?);
        let id = assignment.as_ref().map(|(id, _)| id);
        let signed = match said.plan_keys {
            Some(version) => plan_keys::for_host(app, view, host, version, id, &rollouts)?,
            None => Default::default(),
        };
        Ok((assignment, rollouts, signed))
    })?;
    note_refused(app, host, said.refused, assignment.as_ref().map(|(id, _)| id))?;
    let asks = gates::host_tests::asks(&rollouts, host, now);
    app.gates.ran.heard(host, &asks, said.ran, now);
    let mut watches = gates::measured::watches(host, usual, &rollouts);
    app.gates.samples.heard(host, &watches, said.measured, said.clock, now);
    app.gates.samples.ask_for_the_rest(host, &mut watches);
    if !rollouts.is_empty() {
        // A word from a host can open a gate.
        app.drive.notify_one();
    }
    Ok(CheckInReply {
        server_time: now,
        next_checkin_seconds: pace(app, host, assignment.is_some(), &rollouts)?,
        want_inventory: held.is_none() || said.inventory_digest.is_some_and(|d| Some(d) != held),
        acknowledged,
        assignment: assignment.map(|(_, signed)| signed),
        renew: peer.life.is_some_and(|life| is_old(life, now)),
        takes_packed: true,
        epoch: app.epoch.get().cloned(),
        asks,
        watches,
        plan_keys,
        plan_proof,
    })
}

/// Longest reason of a host that is kept, in characters.
const LONGEST_REASON: usize = 1000;

/// Keeps why a host does not carry out its order, for whoever looks at the rollout; in the ledger once an order, however
/// often the host changes its mind. Of orders that it does not have, a host has nothing to say.
fn note_refused(
    app: &App,
    host: &HostId,
    said: Option<RefusedOrder>,
    current: Option<&AssignmentId>,
) -> Result<(), Problem> {
    let Some(mut said) = said.filter(|it| Some(&it.assignment) == current) else {
        if let Some(refusal) = app.refused().get_mut(host) {
            refusal.stands = false;
        }
        return Ok(());
    };
    said.why = said.why.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect();
    let now_said = Refusal { order: said, stands: true };
    let known = app.refused().get(host).cloned();
    if known.as_ref() == Some(&now_said) {
        return Ok(());
    }
    let order = &now_said.order;
    if known.is_none_or(|known| known.order.assignment != order.assignment) {
        app.store.write::<_, Problem>(&format!("host:{host}"), now(), |tx| {
            let body = serde_json::json!({ "assignment": order.assignment, "why": order.why });
            tx.record("assignment.refused", host.as_str(), body);
            Ok(())
        })?;
    }
    app.refused().insert(host.clone(), now_said);
    app.events.tell("host", host.as_str());
    Ok(())
}

/// Marks a host, and tells people: a person must come.
fn mark(app: &App, host: &Host, reason: &str) -> Result<(), Problem> {
    if host.quarantined.is_some() {
        return Ok(());
    }
    app.store.write::<_, Problem>("server", now(), |tx| {
        if hosts::set_quarantine(tx, &host.id, Some(reason))? {
            notices::marked(app, tx, &host.id, reason)?;
        }
        Ok(())
    })?;
    app.deliver.notify_one();
    app.events.tell("host", host.id.as_str());
    Ok(())
}

/// Both machines stop being served, and a person must come: nobody can say from here which of them is the host.
pub(super) fn two_machines(app: &App, host: &Host) -> Result<Problem, Problem> {
    let message =
        format!("two machines speak as {}: one of them was copied with its identity", host.name);
    mark(app, host, &message)?;
    Ok(Problem::new(
        ProblemKind::Conflict,
        "two-machines",
        message,
        format!(
            "on the copy: fettle-agent enroll --force with a new token; then fettle host release {} --reason WHY",
            host.name
        ),
    ))
}

/// Nothing of what such a host says is taken: kept, the number would leave no room for any order. It is marked, so that
/// somebody looks.
fn leaps(app: &App, host: &Host, told: u64) -> Result<Problem, Problem> {
    mark(app, host, NO_SUCH_GENERATION)?;
    Ok(Problem::new(
        ProblemKind::Conflict,
        "generation-leap",
        format!("generation {told} leaps too far beyond what {} was ever given", host.name),
        format!(
            "look at the host; then `fettle-agent enroll --force` with a new token, then `fettle host release {} --reason WHY`",
            host.name
        ),
    ))
}

struct News<'a> {
    inventory: Option<Inventory>,
    reports: &'a [TransactionReport],
    generation: u64,
}

/// Keeps everything that is new in one transaction: what is acknowledged survives any crash.
fn keep(
    app: &App,
    mut host: Host,
    told: News<'_>,
) -> Result<BTreeMap<TransactionId, u64>, Problem> {
    let mut changed: Vec<Arc<Rollout>> = Vec::new();
    let acknowledged =
        app.store.write::<_, Problem>(&format!("host:{}", host.id), now(), |tx| {
            hosts::raise_generation(tx, &host.id, told.generation)?;
            let mut acknowledged = BTreeMap::new();
            let mut foreign = 0;
            for report in told.reports {
                let owner = assignments::owner(tx, &report.assignment)?;
                if !transactions::is_ordered(report, owner.is_some()) {
                    foreign += 1;
                    if foreign > MOST_FOREIGN {
                        continue;
                    }
                }
                let (next, state) = take_report(app, tx, &host.id, report, owner)?;
                acknowledged.insert(report.id.clone(), next);
                changed.extend(state);
            }
            if foreign > 0 {
                transactions::forget_foreign(tx, &host.id, &FOREIGN)?;
            }
            if let Some(inventory) = told.inventory {
                hosts::set_inventory(tx, &host.id, &inventory)?;
                host.inventory = Some(Arc::new(inventory));
                judge(app, tx, &host)?;
            }
            Ok(acknowledged)
        })?;
    for state in changed {
        settled(app, &state);
    }
    Ok(acknowledged)
}

/// Keeps a report's new records and tells the rollout.
fn take_report(
    app: &App,
    tx: &mut Tx<'_>,
    host: &HostId,
    report: &TransactionReport,
    owner: Option<(HostId, RolloutId)>,
) -> Result<(u64, Option<Arc<Rollout>>), Problem> {
    if owner.as_ref().is_some_and(|(owner, _)| owner != host) {
        return Err(Problem::new(
            ProblemKind::Forbidden,
            "not-yours",
            format!("transaction {} carries out another host's assignment", report.id),
            "this agent has a state directory that was copied from another host: enrol it anew",
        ));
    }
    let (next, new) = transactions::report(tx, host, report)?;
    if new.is_empty() {
        return Ok((next, None));
    }
    let kept = transactions::bytes(tx, host, &report.id)?;
    if kept > LONGEST_JOURNAL {
        return Err(odd(format!("a journal of {kept} bytes")));
    }
    let journal = transactions::of_assignment(tx, host, &report.assignment)?
        .map(|j| j.entries)
        .unwrap_or_default();
    let ended = journal.iter().any(|e| matches!(e.event, TxEvent::Ended { .. }));
    if ended {
        assignments::end(tx, &report.assignment)?;
    }
    match Progress::fold(&journal) {
        Ok(Some(p)) if p.assignment.id != report.assignment || p.assignment.host != *host => {
            tracing::warn!(%host, transaction = %report.id, "a journal is about another assignment than its report");
            return Ok((next, None));
        }
        Ok(_) => {}
        // Kept all the same, for people; but an agent whose journal makes no sense is not believed.
        Err(error) => {
            tracing::warn!(%host, transaction = %report.id, %error, "a journal does not hold together");
            return Ok((next, None));
        }
    }
    // A change that the host's own administrator made, or one of a fleet this database does not remember.
    let Some((_, rollout)) = owner else { return Ok((next, None)) };
    // A test on a twin is no transaction of its worker: what came of it is told by a call of its own.
    if rollout.as_str() == crate::testbed::TESTBED {
        return Ok((next, None));
    }
    let state = load(app, tx, &rollout)?;
    let events = state.report(host, &report.assignment, &journal);
    if events.is_empty() {
        return Ok((next, None));
    }
    Ok((next, Some(advance(app, tx, &state, &events)?)))
}

/// When to come back: at once while the host is at work, often while its rollout runs, else at leisure.
fn pace(
    app: &App,
    host: &HostId,
    assigned: bool,
    rollouts: &[Arc<Rollout>],
) -> Result<u32, Problem> {
    let (busy, idle) =
        (app.options.checkin_busy_seconds.max(1), app.options.checkin_idle_seconds.max(1));
    let in_wave = rollouts.iter().any(|r| {
        let at_wave = r.hosts.get(host).is_some_and(|run| run.wave <= r.wave || run.undo_at_work());
        r.phase == Phase::Running && at_wave
    });
    // Requests wait for nobody: while a rollout leads the traffic, the hosts of its pools come often.
    let led = rollouts.iter().any(|r| r.plan.pools.as_ref().is_some_and(|p| p.has(host)));
    let at_work = rollouts.iter().any(|r| {
        r.hosts.get(host).is_some_and(|run| {
            run.at_work() || run.undo_at_work() || run.state == HostState::Redeemed
        })
    });
    if assigned || at_work || in_wave || led {
        return Ok(busy.min(idle));
    }
    if rollouts.iter().any(|r| r.phase == Phase::Running) {
        return Ok((busy * 5).min(idle));
    }
    // Spread by a quarter to both sides, so that a herd that came together does not come together again.
    let [a, b] = random::<2>()?;
    let spread = u32::from(u16::from_le_bytes([a, b]));
    let quarter = idle / 4;
    Ok((idle - quarter + (2 * quarter * spread) / 65_536).max(1))
}

fn is_old((from, to): (Timestamp, Timestamp), now: Timestamp) -> bool {
    let whole = to.as_second().saturating_sub(from.as_second());
    let lived = now.as_second().saturating_sub(from.as_second());
    lived.saturating_mul(3) >= whole.saturating_mul(2)
}

fn check_reports(reports: &[TransactionReport]) -> Result<(), Problem> {
    let entries: usize = reports.iter().map(|r| r.entries.len()).sum();
    let names =
        reports.iter().all(|r| r.id.as_str().len() <= 512 && r.assignment.as_str().len() <= 512);
    let bytes = |entry| serde_json::to_vec(entry).map_or(usize::MAX, |text| text.len());
    let longest = reports.iter().flat_map(|r| &r.entries).map(bytes).max().unwrap_or(0);
    if longest > LONGEST_ENTRY {
        return Err(odd(format!("a journal record of {longest} bytes")));
    }
    if entries <= MOST_ENTRIES && names {
        return Ok(());
    }
    Err(odd(format!("{entries} journal records at once, or names beyond reason")))
}

/// Bounds before anything is kept, shown or compared. What is text may hold any character: it is escaped where it
/// is shown. But names of packages and their versions go into other hosts' orders.
fn check_inventory(inventory: &Inventory) -> Result<(), Problem> {
    let rows = [
        ("packages", inventory.packages.len()),
        ("packages of languages", inventory.languages.len()),
        ("roots", inventory.roots.len()),
        ("packages in roots", inventory.roots.iter().map(|root| root.packages.len()).sum()),
        ("upgrades", inventory.upgrades.len()),
        ("services", inventory.services.len()),
        ("listeners", inventory.listeners.len()),
        ("stale processes", inventory.stale.len()),
        ("packages in use", inventory.in_use.len()),
        ("configuration files", inventory.configuration.len()),
        ("gaps", inventory.gaps.len()),
    ];
    if let Some((what, n)) = rows.into_iter().find(|(_, n)| *n > MOST_ROWS) {
        return Err(odd(format!("{n} {what}")));
    }
    let in_roots = inventory.roots.iter().flat_map(|root| &root.packages);
    if let Some(bad) = inventory.roots.iter().map(|root| &root.name).find(|name| !is_name(name)) {
        return Err(odd(format!("a root with the name `{}`", shown(bad))));
    }
    let named = inventory
        .packages
        .iter()
        .chain(in_roots)
        .flat_map(|p| [&p.name, &p.architecture, &p.version, &p.source, &p.source_version])
        .chain(
            inventory
                .upgrades
                .iter()
                .flat_map(|u| [&u.name, &u.architecture, &u.from, &u.to, &u.source_version]),
        )
        .chain(inventory.languages.iter().flat_map(|p| [&p.name, &p.version]));
    let plain = |text: &str| text.len() <= 256 && text.chars().all(|c| c.is_ascii_graphic());
    if let Some(bad) = named.into_iter().find(|text| !plain(text)) {
        return Err(odd(format!("a package name or version `{}`", shown(bad))));
    }
    let texts = [
        &inventory.os.id,
        &inventory.os.version,
        &inventory.os.codename,
        &inventory.os.pretty,
        &inventory.kernel.running,
    ];
    let of_roots = inventory.roots.iter().flat_map(|root| {
        let os = &root.os;
        let names = [&os.id, &os.version, &os.codename, &os.pretty, &root.image, &root.location];
        names.into_iter().chain(&root.gaps)
    });
    let of_languages = inventory.languages.iter().map(|p| &p.location);
    let mut texts = texts.into_iter().chain(of_languages).chain(of_roots);
    if let Some(bad) = texts.find(|text| text.len() > LONGEST) {
        return Err(odd(format!("a name of {} bytes", bad.len())));
    }
    Ok(())
}

fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_default).collect()
}

fn odd(what: String) -> Problem {
    Problem::new(
        ProblemKind::BadInput,
        "odd-inventory",
        format!("the report holds {what}: it is not taken"),
        "look at the host: `fettle-agent inventory` prints what it reports",
    )
}
