//! What the server does by itself: idempotent loops, each woken by a timer and by a signal. All of them can be
//! killed at any point; what they have not done yet they do after the next start.

use crate::app::{App, now};
use crate::emergencies::Alert;
use crate::reports::schedules;
use crate::{cycles, emergencies, exposed, feeds, gates, judging, rollouts, trend, webhooks};
use fettle_core::{HostId, Problem, Timestamp};
use fettle_store::{
    cycles as stored_cycles, emergencies as stored_emergencies, findings, rollouts as stored,
    tokens,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Whether time alone changes a judgement (an acceptance ends) is looked at so often.
const JUDGE_AGAIN: Duration = Duration::from_secs(60);
/// The index of the fleet's exposure is written down so often at most.
const WRITE_AGAIN: Duration = Duration::from_secs(600);
/// Rollouts are looked at so often even if nothing wakes the loop.
const LOOK: Duration = Duration::from_secs(5);
/// What is done by itself is looked at so often even if nothing wakes the loop.
const PLAN: Duration = Duration::from_secs(15);
/// Who was heard is written down so often.
const PRESENCE: Duration = Duration::from_secs(5);
/// Whether another server has taken the database is looked at so often: until then this one still answers questions.
const MINE: Duration = Duration::from_secs(2);
/// Old things are forgotten so often.
const RETENTION: Duration = Duration::from_secs(3600);
/// Expired tokens are kept so long, so that a late user is told what is wrong with his.
const KEEP_TOKENS_SECONDS: i64 = 30 * 86_400;
/// What cycles did is kept so long; the ledger has it for ever.
const KEEP_CYCLES_SECONDS: i64 = 400 * 86_400;

/// Starts the loops. They end when `stop` says so.
pub(crate) fn start(app: &Arc<App>, stop: &watch::Receiver<bool>) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    loops.spawn(until(stop.clone(), drive_rollouts(app.clone())));
    loops.spawn(until(stop.clone(), test_twins(app.clone())));
    loops.spawn(until(stop.clone(), ask_gates(app.clone())));
    loops.spawn(until(stop.clone(), judge_hosts(app.clone())));
    loops.spawn(until(stop.clone(), mind_presence(app.clone())));
    loops.spawn(until(stop.clone(), forget(app.clone())));
    loops.spawn(until(stop.clone(), feeds::watch(app.clone())));
    loops.spawn(until(stop.clone(), plan_by_itself(app.clone())));
    loops.spawn(until(stop.clone(), schedules::make_by_themselves(app.clone())));
    loops.spawn(until(stop.clone(), webhooks::deliver(app.clone())));
    loops.spawn(until(stop.clone(), trend::count_when_asked(app.clone())));
    loops.spawn(until(stop.clone(), mind_the_other(app.clone())));
    loops
}

async fn until(
    mut stop: watch::Receiver<bool>,
    endless: impl Future<Output = std::convert::Infallible>,
) {
    tokio::select! {
        _ = stop.wait_for(|stopped| *stopped) => {}
        never = endless => match never {},
    }
}

pub(crate) fn complain(what: &str, problem: &Problem) {
    tracing::error!(code = problem.code, hint = problem.hint, "{what}: {problem}");
}

async fn drive_rollouts(app: Arc<App>) -> std::convert::Infallible {
    loop {
        let driven = app.blocking(|app| {
            let unfinished = app.store.read::<_, Problem>(|view| Ok(stored::unfinished(view)?))?;
            let mut wake: Option<Timestamp> = None;
            for line in unfinished {
                match rollouts::drive(app, &line.id) {
                    Ok(at) => wake = wake.into_iter().chain(at).min(),
                    // The others go on.
                    Err(problem) => {
                        complain(&format!("rollout {} is not driven", line.id), &problem)
                    }
                }
            }
            Ok(wake)
        });
        let wake = match driven.await {
            Ok(wake) => wake,
            Err(problem) => {
                complain("rollouts are not driven", &problem);
                None
            }
        };
        let due = wake.map_or(LOOK, |at| {
            Duration::try_from(at.duration_since(now())).unwrap_or(Duration::ZERO)
        });
        // Not faster than this, whatever happens: a herd of reports is one look.
        let pause = due.clamp(Duration::from_millis(20), LOOK);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = app.drive.notified() => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn test_twins(app: Arc<App>) -> std::convert::Infallible {
    loop {
        if let Err(problem) = app.blocking(crate::testbed::drive).await {
            complain("twins are not tested", &problem);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = app.test.notified() => {}
        }
    }
}

/// Evaluators: nothing follows from an answer here; whoever decides is woken.
async fn ask_gates(app: Arc<App>) -> std::convert::Infallible {
    loop {
        let many = match gates::ask_all(&app).await {
            Ok(many) => many,
            Err(problem) => {
                complain("gates are not asked for", &problem);
                0
            }
        };
        tokio::time::sleep(gates::pause(&app, many)).await;
    }
}

async fn judge_hosts(app: Arc<App>) -> std::convert::Infallible {
    let mut written = None;
    loop {
        let asked = app.judging_asked();
        if let Err(problem) = app.blocking(judging::judge_all).await {
            complain("hosts are not judged anew", &problem);
            tokio::time::sleep(LOOK).await;
            continue;
        }
        app.judged.send_replace(asked);
        app.ready.send_replace(true);
        app.planning.notify_one();
        if written.is_none_or(|at: Instant| at.elapsed() >= WRITE_AGAIN) {
            let _ = app
                .blocking(|app| {
                    exposed::write(app);
                    Ok(())
                })
                .await;
            written = Some(Instant::now());
        }
        // Asked for, or because the time of something has come.
        let _ = tokio::time::timeout(JUDGE_AGAIN, app.judge.notified()).await;
    }
}

/// Cycles at their time, emergencies at once.
async fn plan_by_itself(app: Arc<App>) -> std::convert::Infallible {
    // Before hosts are judged by what is in force now, nothing is known to be owed.
    let mut ready = app.ready.subscribe();
    let _ = ready.wait_for(|ready| *ready).await;
    let alert = Arc::new(Mutex::new(Alert::default()));
    loop {
        let known = alert.clone();
        let looked = app.blocking(move |app| {
            let due = cycles::look(app);
            let mut alert = known.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(due.into_iter().chain(emergencies::look(app, &mut alert)?).min())
        });
        let wake = match looked.await {
            Ok(wake) => wake,
            Err(problem) => {
                complain("nothing is planned by itself", &problem);
                None
            }
        };
        let due = wake.map_or(PLAN, |at| {
            Duration::try_from(at.duration_since(now())).unwrap_or(Duration::ZERO)
        });
        tokio::select! {
            () = tokio::time::sleep(due.clamp(Duration::from_millis(50), PLAN)) => {}
            // A herd of reports is one look.
            () = app.planning.notified() => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn mind_presence(app: Arc<App>) -> std::convert::Infallible {
    let mut silent: BTreeSet<HostId> = BTreeSet::new();
    // Reads the fleet into memory, so that the first who opens a page need not wait for it.
    if let Err(problem) = app.blocking(|app| app.fleet(|_| ())).await {
        complain("the fleet is not read", &problem);
    }
    loop {
        tokio::time::sleep(PRESENCE).await;
        let before = std::mem::take(&mut silent);
        let looked = app.blocking(move |app| {
            app.keep_presence()?;
            Ok((app.fleet(|fleet| fleet.silent(app))?, before))
        });
        match looked.await {
            Ok((now_silent, before)) => {
                for id in now_silent.symmetric_difference(&before) {
                    app.events.tell("host", id.as_str());
                }
                for id in now_silent.difference(&before) {
                    tracing::warn!(host = %id, "silent");
                }
                silent = now_silent;
            }
            Err(problem) => complain("who was heard is not written down", &problem),
        }
    }
}

/// A server that was stopped while another took its place writes nothing when it wakes; it need not go on answering
/// questions either.
async fn mind_the_other(app: Arc<App>) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(MINE).await;
        if let Err(problem) = app.blocking(|app| Ok(app.store.is_mine()?)).await {
            complain("the database cannot be looked at", &problem);
            if problem.code == "superseded" {
                app.superseded.send_replace(true);
            }
        }
    }
}

async fn forget(app: Arc<App>) -> std::convert::Infallible {
    loop {
        let forgotten = app.blocking(|app| {
            let ago = |seconds: i64| now() - jiff::SignedDuration::from_secs(seconds);
            app.store.write::<_, Problem>("server", now(), |tx| {
                findings::forget_fixed(tx, ago(i64::from(app.options.keep_fixed_days) * 86_400))?;
                tokens::forget_expired(tx, ago(KEEP_TOKENS_SECONDS))?;
                stored_cycles::forget(tx, ago(KEEP_CYCLES_SECONDS))?;
                stored_emergencies::forget(tx)?;
                Ok(())
            })
        });
        if let Err(problem) = forgotten.await {
            complain("nothing old is forgotten", &problem);
        }
        tokio::time::sleep(RETENTION).await;
    }
}
