//! Recalls: a version that nobody is to get is stopped at once, wherever it is under way, and whoever has it is named.
//!
//! The row in the store is what stops: plans, rollouts and hosts that redeem look at it in the transaction they decide in.
//! What this module does beside, driving the rollouts at once and asking for undos, can be done again at any time.

use crate::app::{App, now};
use crate::rollouts::{amend, drive, load, observe};
use fettle_core::recall::{self, BadRecall, Recall};
use fettle_core::rollout::{HostState, Rollout};
use fettle_core::{HostId, Problem, ProblemKind, RolloutId};
use fettle_store::{View, recalls as stored, rollouts};
use fettle_wire::api::{MakeRecall, RecallDetail, RecallRow, RecalledHost, RecalledRollout};
use std::collections::{BTreeMap, BTreeSet};

fn bad(error: &BadRecall) -> Problem {
    let hint = match error {
        BadRecall::Reason => "add `--reason \"what it does\"`",
        _ => "write PACKAGE=VERSION, as in `fettle recall add openssl=3.0.15-1~deb12u1 --reason …`",
    };
    Problem::new(ProblemKind::BadInput, "bad-recall", error, hint)
}

/// All recalls, newest first.
pub(crate) fn rows(app: &App, view: &View<'_>) -> Result<Vec<RecallRow>, Problem> {
    let recalls = stored::all(view)?;
    app.fleet(|fleet| {
        let row = |recall: Recall| {
            let hosts = fleet.with_version(&recall).len() as u64;
            RecallRow { hosts, offered: fleet.offered_version(&recall), recall }
        };
        recalls.into_iter().map(row).collect()
    })
}

/// One recall, with whom it concerns.
pub(crate) fn one(
    app: &App,
    view: &View<'_>,
    package: &str,
    version: &str,
) -> Result<RecallDetail, Problem> {
    let all = stored::all(view)?;
    let known = all.into_iter().find(|r| r.package == package && r.version == version);
    let recall = known.ok_or_else(|| {
        Problem::new(
            ProblemKind::NotFound,
            "no-such-recall",
            format!("{package} {version} is not recalled"),
            "see what is: `fettle recall list`",
        )
    })?;
    let (hosts, offered) =
        app.fleet(|fleet| (fleet.with_version(&recall), fleet.offered_version(&recall)))?;
    let row = RecallRow { hosts: hosts.len() as u64, offered, recall };
    let wanted = hosts.iter().map(|(host, ..)| host.clone()).collect();
    let brought = brought(app, view, &row.recall, wanted)?;
    let hosts = hosts.into_iter().map(|(host, name, packages)| {
        let by = brought.get(&host);
        RecalledHost {
            host,
            name,
            packages,
            rollout: by.map(|(id, _)| id.clone()),
            undoing: by.is_some_and(|(_, undoing)| *undoing),
            not_undone: None,
        }
    });
    let mut under_way = Vec::new();
    for line in rollouts::unfinished(view)? {
        let state = load(app, view, &line.id)?;
        let brings = |id: &HostId| brings(&state, id, &row.recall);
        if state.plan.hosts.keys().any(brings) {
            let waits = |(id, run): &(&HostId, &fettle_core::rollout::HostRun)| {
                !run.state.is_terminal() && run.state != HostState::Redeemed && brings(id)
            };
            let waiting = state.hosts.iter().filter(waits).count() as u64;
            let begun = |(id, run): &(&HostId, &fettle_core::rollout::HostRun)| {
                run.state == HostState::Redeemed && brings(id)
            };
            let at_work = state.hosts.iter().filter(begun).count() as u64;
            let (id, phase) = (state.id.clone(), state.phase.clone());
            under_way.push(RecalledRollout { id, phase, waiting, at_work });
        }
    }
    let mut hosts: Vec<RecalledHost> = hosts.collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(RecallDetail { row, hosts, rollouts: under_way })
}

fn brings(state: &Rollout, host: &HostId, recall: &Recall) -> bool {
    let changes = state.plan.hosts.get(host).map(|h| h.order.changes.as_slice());
    recall::stops(std::slice::from_ref(recall), changes.unwrap_or_default()).is_some()
}

/// Which rollout brought the version to which of these hosts, the newest for each, and whether that is being undone.
/// Only rollouts that bring it are read, and older ones not for nobody.
fn brought(
    app: &App,
    view: &View<'_>,
    recall: &Recall,
    mut wanted: BTreeSet<HostId>,
) -> Result<BTreeMap<HostId, (RolloutId, bool)>, Problem> {
    let mut out = BTreeMap::new();
    for id in rollouts::that_bring(view, &recall.package, &recall.version)? {
        if wanted.is_empty() {
            break;
        }
        let state = load(app, view, &id)?;
        wanted.retain(|host| {
            let run = state.hosts.get(host).filter(|run| run.state == HostState::Patched);
            let Some(run) = run.filter(|_| brings(&state, host, recall)) else { return true };
            out.insert(host.clone(), (id.clone(), run.undo_at_work()));
            false
        });
    }
    Ok(out)
}

/// Recalls a version: from the commit on nobody gets it. Rollouts under way are halted before the answer.
pub(crate) fn recall_now(
    app: &App,
    by: &str,
    actor: &str,
    asked: &MakeRecall,
) -> Result<RecallDetail, Problem> {
    recall::check(&asked.package, &asked.version).map_err(|e| bad(&e))?;
    recall::check_reason(&asked.reason).map_err(|e| bad(&e))?;
    let reason = asked.reason.trim();
    app.store.write::<_, Problem>(actor, now(), |tx| {
        Ok(stored::add(tx, &asked.package, &asked.version, by, reason, asked.undo)?)
    })?;
    app.events.tell("recall", &format!("{}={}", asked.package, asked.version));
    let under_way = app.store.read::<_, Problem>(|view| Ok(rollouts::unfinished(view)?))?;
    for line in under_way {
        // The loop drives whatever is not driven here.
        if let Err(problem) = drive(app, &line.id) {
            tracing::error!(rollout = %line.id, code = problem.code, "not driven after a recall: {problem}");
        }
    }
    app.drive.notify_one();
    let detail = || app.store.read(|view| one(app, view, &asked.package, &asked.version));
    let mut found = detail()?;
    if asked.undo {
        let refused = take_back(app, actor, reason, &found)?;
        found = detail()?;
        for host in &mut found.hosts {
            host.not_undone = match (&host.rollout, refused.get(&host.host)) {
                (_, Some(why)) => Some(why.clone()),
                (None, None) => Some("no rollout has brought it there".to_owned()),
                (Some(_), None) => None,
            };
        }
    }
    Ok(found)
}

/// Asks every host that a rollout has brought the version to for the undo. Who is at work is asked by its rollout, when
/// its change has ended. Gives whom it could not be asked of, and why.
fn take_back(
    app: &App,
    actor: &str,
    reason: &str,
    found: &RecallDetail,
) -> Result<BTreeMap<HostId, String>, Problem> {
    let mut by_rollout: BTreeMap<&RolloutId, Vec<&HostId>> = BTreeMap::new();
    for host in found.hosts.iter().filter(|h| !h.undoing) {
        if let Some(rollout) = &host.rollout {
            by_rollout.entry(rollout).or_default().push(&host.host);
        }
    }
    let mut refused = BTreeMap::new();
    for (rollout, hosts) in by_rollout {
        amend(app, actor, rollout, |view, state| {
            refused.retain(|host, _| !hosts.contains(&host));
            let seen = observe(app, view, state)?;
            let mut events = Vec::new();
            for host in &hosts {
                let of_host = std::slice::from_ref(*host);
                match state.undo(of_host, &format!("recalled: {reason}"), &seen) {
                    Ok(more) => events.extend(more),
                    Err(not) => {
                        refused.insert((*host).clone(), not.why);
                    }
                }
            }
            Ok(events)
        })?;
    }
    Ok(refused)
}

/// Lifts a recall: plans may take the version again. A rollout that it halted stays so until somebody resumes it.
pub(crate) fn lift_now(
    app: &App,
    by: &str,
    actor: &str,
    package: &str,
    version: &str,
    reason: &str,
) -> Result<(), Problem> {
    recall::check_reason(reason).map_err(|e| bad(&e))?;
    app.store.write::<_, Problem>(actor, now(), |tx| {
        Ok(stored::lift(tx, package, version, by, reason.trim())?)
    })?;
    app.events.tell("recall", &format!("{package}={version}"));
    app.drive.notify_one();
    Ok(())
}
