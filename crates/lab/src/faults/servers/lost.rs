//! S24: a host of a wave is lost while it is changed, for longer than anybody waits for it, and is there again later. And
//! how long it takes from the order to abort to the last host standing still.

use super::super::Extent;
use super::Hall;
use super::hall::PATIENCE;
use crate::repo::{ACME_PORT, AcmeWeb};
use crate::{LabError, LabHost};
use fettle_core::Hold;
use fettle_core::rollout::{Phase, RolloutEvent};
use fettle_core::transaction::Step;
use fettle_wire::api::{RolloutDetail, RolloutHost};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The new version's script takes so long, on the clone and on the host.
const SCRIPT_SECONDS: u32 = 8;
/// One host of all that have the package: the canary as well.
const BUDGET: &str =
    "[[budget]]\nname = \"acme\"\nselect = \"host.package=acme-web\"\nmax-unavailable = 1\n";

/// What the policies of this row say: so many hosts may fail, and this beside it.
fn policy(failures: u32, more: &str) -> String {
    format!("[gate]\nbake = \"1s\"\nsilent-after = \"20s\"\nmax-failures = {failures}\n{more}")
}

/// A lost host that the policy forgives, one that it does not, and two rollouts that are aborted.
pub(super) fn lost(hall: &mut Hall, _: Extent) -> Result<(), LabError> {
    hall.govern(&policy(1, BUDGET))?;
    forgiven(hall)?;
    hall.govern(&policy(0, BUDGET))?;
    halted(hall)?;
    hall.govern(&policy(0, ""))?;
    aborted(hall, "they rehearse", |host| host.run.state.word() == "granted")?;
    aborted(hall, "they are changed", |host| host.run.step == Some(Step::Apply))
}

/// A host that was switched off in the middle of its change, and the rollout that did not hear of it for too long.
struct Lost {
    rollout: String,
    old: String,
    new: String,
    host: LabHost,
    seen: RolloutDetail,
}

/// Starts a rollout, switches the first host off that its second wave changes, and waits until the server gives it up.
fn lose(hall: &mut Hall) -> Result<Lost, LabError> {
    let old = Hall::version(&hall.hosts[0])?;
    let (rollout, new) = hall.roll_out(AcmeWeb::PostinstSlow(SCRIPT_SECONDS))?;
    let name = hall.fleet.wait("a host of the wave to be changed", PATIENCE, || {
        let detail: RolloutDetail = hall.fleet.json(&["rollout", "show", &rollout])?;
        let changed = |h: &&RolloutHost| h.run.wave == 1 && h.run.step == Some(Step::Apply);
        Ok(detail.hosts.iter().find(changed).map(|h| h.name.clone()))
    })?;
    let host = hall.hosts.iter().find(|host| host.name() == name).cloned();
    let host = host.ok_or_else(|| LabError::Fleet { what: format!("no host is called {name}") })?;
    let in_the_middle = host.sh("pgrep -f acme-web.postinst")?.success();
    host.kill()?;
    hall.count(in_the_middle, "the host was not in the middle of its change");
    let seen = hall.fleet.wait("the server to give the host up", PATIENCE, || {
        let detail: RolloutDetail = hall.fleet.json(&["rollout", "show", &rollout])?;
        let given_up = detail.hosts.iter().any(|h| h.name == name && h.run.silent);
        // What it decides by that is decided right after.
        let decided = !detail.waiting.is_empty() || detail.row.phase != Phase::Running;
        Ok((given_up && decided).then_some(detail))
    })?;
    Ok(Lost { rollout, old, new, host, seen })
}

/// The policy allows for one failure: the rollout goes on as far as the budget lets it, which the lost host uses up.
fn forgiven(hall: &mut Hall) -> Result<(), LabError> {
    let it = lose(hall)?;
    let mut wrong = others_are_well(hall, &it)?;
    let lost = it.seen.hosts.iter().find(|h| h.name == it.host.name()).map(|h| h.id.clone());
    for host in it.seen.hosts.iter().filter(|h| h.run.state.word() == "pending") {
        let holds = it.seen.waiting.iter().filter(|w| w.host.as_ref() == Some(&host.id));
        let told = holds.map(|w| &w.hold).any(|hold| {
            matches!(hold, Hold::BudgetUsed { budget, disrupted, .. }
                if budget == "acme" && disrupted.iter().any(|id| Some(id) == lost.as_ref()))
        });
        if !told {
            let waiting = &it.seen.waiting;
            wrong.get_or_insert(format!("{} is not held by the budget: {waiting:?}", host.name));
        }
    }
    if it.seen.row.phase != Phase::Running {
        wrong.get_or_insert(format!("{} is {:?}", it.rollout, it.seen.row.phase));
    }
    wrong = wrong.or(is_told(hall, &it.rollout, "budget `acme` is used up")?);
    it.host.boot()?;
    let done = hall.fleet.wait_rollout(&it.rollout, PATIENCE)?;
    if done.row.phase != Phase::Done {
        wrong.get_or_insert(format!("{} ended as {:?}", it.rollout, done.row.phase));
    }
    let wrong = wrong.or(grants_between(&done, &it)).or(stand(hall, &done, &it)?);
    hall.ended(wrong);
    Ok(())
}

/// The policy allows for none: the rollout halts, and goes on when an operator has seen to it.
fn halted(hall: &mut Hall) -> Result<(), LabError> {
    let it = lose(hall)?;
    let mut wrong = others_are_well(hall, &it)?;
    let why = Phase::Halted { hold: Hold::TooManyFailures { failed: 1, allowed: 0 } };
    if it.seen.row.phase != why {
        wrong.get_or_insert(format!("{} is {:?}", it.rollout, it.seen.row.phase));
    }
    wrong = wrong.or(is_told(hall, &it.rollout, "failed or fell silent, 0 are allowed")?);
    it.host.boot()?;
    let back = hall.fleet.wait("the lost host to come to its end", PATIENCE, || {
        let detail: RolloutDetail = hall.fleet.json(&["rollout", "show", &it.rollout])?;
        let still_lost = detail.hosts.iter().any(|h| h.name == it.host.name() && h.run.silent);
        Ok((!still_lost).then_some(detail))
    })?;
    if back.row.phase != why {
        wrong.get_or_insert(format!("{} went on by itself: {:?}", it.rollout, back.row.phase));
    }
    wrong = wrong.or(grants_between(&back, &it));
    hall.fleet.run(&["rollout", "resume", &it.rollout, "--reason", "the host is back"])?.ok()?;
    let done = hall.fleet.wait_rollout(&it.rollout, PATIENCE)?;
    if done.row.phase != Phase::Done {
        wrong.get_or_insert(format!("{} ended as {:?}", it.rollout, done.row.phase));
    }
    let wrong = wrong.or(stand(hall, &done, &it)?);
    hall.ended(wrong);
    Ok(())
}

/// Aborts a rollout once every host of its second wave is so, and times it. Who only rehearses, on a clone, is cancelled at
/// once, and told so when it asks to begin; who is being changed comes to its end.
fn aborted(hall: &mut Hall, what: &str, is_so: fn(&RolloutHost) -> bool) -> Result<(), LabError> {
    let (id, _) = hall.roll_out(AcmeWeb::PostinstSlow(SCRIPT_SECONDS))?;
    hall.fleet.wait(&format!("all hosts of the wave: {what}"), PATIENCE, || {
        let detail: RolloutDetail = hall.fleet.json(&["rollout", "show", &id])?;
        let mut wave = detail.hosts.iter().filter(|h| h.run.wave == 1);
        Ok(wave.all(is_so).then_some(()))
    })?;
    hall.fleet.run(&["rollout", "abort", &id, "--reason", "test"])?.ok()?;
    let done = hall.fleet.wait("the aborted rollout to end", PATIENCE, || {
        let detail: RolloutDetail = hall.fleet.json(&["rollout", "show", &id])?;
        Ok(detail.row.ended_at.is_some().then_some(detail))
    })?;
    let order = done.events.iter().find(|e| matches!(e.event, RolloutEvent::Aborted { .. }));
    let order = order.ok_or_else(|| LabError::Fleet { what: format!("{id} was not aborted") })?;
    let after = || done.events.iter().filter(|e| e.version > order.version);
    let begun = after()
        .find(|e| matches!(e.event, RolloutEvent::Granted { .. } | RolloutEvent::Redeemed { .. }));
    let last = after()
        .rfind(|e| matches!(e.event, RolloutEvent::Ended { .. } | RolloutEvent::Cancelled { .. }));
    hall.count(last.is_some(), &format!("no host was left to stand still: {what}"));
    let took = last.map_or(0.0, |last| last.at.duration_since(order.at).as_secs_f64());
    let words = &done.row.hosts_by_state;
    hall.report.details.push(format!(
        "aborted while {what} (a script of {SCRIPT_SECONDS} s): the last host stood still after {took:.1} s, {words:?}"
    ));
    let wrong = begun.map(|e| format!("{id}: after the abort {:?}", e.event));
    hall.ended(wrong);
    Ok(())
}

/// What is wrong with the hosts beside the lost one: each answers with the version that its state says.
fn others_are_well(hall: &Hall, it: &Lost) -> Result<Option<String>, LabError> {
    for host in hall.hosts.iter().filter(|host| host.name() != it.host.name()) {
        let wrong = stands(host, &it.seen, it)?;
        if wrong.is_some() {
            return Ok(wrong);
        }
    }
    Ok(None)
}

/// What is wrong with any host at the end. The lost one may have been patched or have gone back, and says which.
fn stand(hall: &Hall, done: &RolloutDetail, it: &Lost) -> Result<Option<String>, LabError> {
    for host in &hall.hosts {
        let wrong = stands(host, done, it)?;
        if wrong.is_some() {
            return Ok(wrong);
        }
        let ended = done.hosts.iter().find(|h| h.name == host.name());
        let word = ended.map_or("missing", |h| h.run.state.word());
        let may_go_back = host.name() == it.host.name();
        if !(word == "patched" || may_go_back && word == "undone") {
            return Ok(Some(format!("{}: {} ended as {word}", it.rollout, host.name())));
        }
    }
    Ok(None)
}

fn stands(host: &LabHost, detail: &RolloutDetail, it: &Lost) -> Result<Option<String>, LabError> {
    let run = detail.hosts.iter().find(|h| h.name == host.name());
    let is_patched = run.is_some_and(|h| h.run.state.word() == "patched");
    let version = if is_patched { &it.new } else { &it.old };
    let (has, says) = (Hall::version(host)?, answer(host));
    Ok((has != *version || !says.contains(version.as_str())).then(|| {
        format!("{}: {} has {has} and says {says:?}, not {version}", it.rollout, host.name())
    }))
}

/// What the host's service answers; nothing where it does not.
fn answer(host: &LabHost) -> String {
    let ask = || -> std::io::Result<String> {
        let address = SocketAddr::from((host.ip(), ACME_PORT));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().unwrap_or_default()
}

/// Does `fettle rollout show` tell people?
fn is_told(hall: &Hall, id: &str, words: &str) -> Result<Option<String>, LabError> {
    let said = hall.fleet.run(&["rollout", "show", id])?.ok()?;
    Ok((!said.contains(words)).then(|| format!("{id}: `{words}` is not told in\n{said}")))
}

/// A grant from when the lost host was granted its change until it came to its end.
fn grants_between(detail: &RolloutDetail, it: &Lost) -> Option<String> {
    let lost = detail.hosts.iter().find(|h| h.name == it.host.name()).map(|h| &h.id);
    let mut there = true;
    for record in &detail.events {
        match &record.event {
            RolloutEvent::Redeemed { host } if Some(host) == lost => there = false,
            RolloutEvent::Ended { host, .. } if Some(host) == lost => there = true,
            RolloutEvent::Granted { host, .. } if !there => {
                return Some(format!("{}: {host} was granted while a host was lost", it.rollout));
            }
            _ => {}
        }
    }
    None
}
