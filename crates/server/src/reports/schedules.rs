//! Reports that the server makes by itself: [`fettle_core::report::schedule`] decides, this carries out.
//!
//! A run's files stand in a directory of their own, `REPORTS/SCHEDULE/MOMENT/`, that appears with all of them or not at
//! all. They come first, then one transaction notes the run and puts its message to the webhook into the queue: a server
//! that is killed between makes the same again.

use super::{Wanted, csv, report};
use crate::app::{App, now};
use crate::tasks::complain;
use crate::web::pages;
use crate::{backup, pdf, webhooks};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use fettle_core::report::schedule::{Format, Run, Schedule, Step, decide};
use fettle_core::{Digest, Hold, Problem, ProblemKind, Timestamp};
use fettle_store::deliveries::{self, Message};
use fettle_store::report_schedules::{self as stored, ScheduleRecord};
use fettle_store::{StoreError, View};
use fettle_wire::api::{Report, ReportRun, ScheduleRow};
use serde_json::json;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Schedules are looked at so often even if nothing wakes the loop: clocks are set.
const LOOK: Duration = Duration::from_secs(30);
/// Largest message that is sent, in bytes; of one that would be larger, the files stay behind.
const MAX_MESSAGE: usize = 8 << 20;

/// Makes what is due, as long as the server runs.
pub(crate) async fn make_by_themselves(app: Arc<App>) -> Infallible {
    // Before hosts are judged by what is in force now, nothing is known to report.
    let mut ready = app.ready.subscribe();
    let _ = ready.wait_for(|ready| *ready).await;
    loop {
        let wake = match look(&app).await {
            Ok(wake) => wake,
            Err(problem) => {
                complain("reports on a schedule are not looked at", &problem);
                None
            }
        };
        let wait = wake
            .map_or(LOOK, |at| Duration::try_from(at.duration_since(now())).unwrap_or_default());
        tokio::select! {
            () = tokio::time::sleep(wait.clamp(Duration::from_millis(50), LOOK)) => {}
            () = app.schedules.notified() => {}
        }
    }
}

/// Makes what is due; gives when to look again.
async fn look(app: &Arc<App>) -> Result<Option<Timestamp>, Problem> {
    let known = app
        .blocking(|app| {
            app.store.read::<_, Problem>(|view| Ok((stored::all(view)?, backup::held(view)?)))
        })
        .await?;
    let (records, restored) = known;
    let mut wake: Option<Timestamp> = None;
    for record in records {
        let step = decide(&record.schedule, record.set_at, &record.state, restored.clone(), now());
        match step {
            Step::Wait { until, .. } => wake = wake.into_iter().chain(until).min(),
            Step::Make { due, missed } => {
                let name = record.name.clone();
                let made = make(app, record, due, missed).await;
                if let Err(problem) = &made {
                    complain(&format!("the report `{name}` is not made"), problem);
                }
                wake = wake.into_iter().chain(at_once(&made, now())).min();
            }
        }
    }
    Ok(wake)
}

/// Whether to look again at once. Not after a failure: where not even that can be written down, the schedule goes on saying
/// that it is due now.
fn at_once(made: &Result<(), Problem>, now: Timestamp) -> Option<Timestamp> {
    made.is_ok().then_some(now)
}

/// Makes one run, and notes what came of it.
async fn make(
    app: &Arc<App>,
    record: ScheduleRecord,
    due: Timestamp,
    missed: u32,
) -> Result<(), Problem> {
    let wanted = wanted(&record.schedule, due);
    let report = app.reporting(move |app| app.store.read(|view| report(app, view, &wanted))).await;
    let app = app.clone();
    // Not in the lane of requests: Chromium takes its time.
    let made = tokio::task::spawn_blocking(move || {
        let made = report.and_then(|report| carry_out(&app, &record, &report, due, missed));
        if let Err(problem) = &made {
            let mut state = record.state.clone();
            state.failed(due, problem.to_string(), now());
            app.store.write::<_, Problem>("server", now(), |tx| {
                Ok(stored::failed(tx, &record, &state)?)
            })?;
        }
        app.events.tell("report", &record.name);
        made
    });
    made.await.unwrap_or_else(|error| {
        let hint = "this is a defect of Fettle: please report it with the server's log";
        Err(Problem::new(ProblemKind::Internal, "report-not-made", error, hint))
    })
}

fn wanted(schedule: &Schedule, due: Timestamp) -> Wanted {
    let period = schedule.period(due);
    Wanted { from: Some(period.from), to: Some(period.to), policy: schedule.policy.clone() }
}

fn carry_out(
    app: &App,
    record: &ScheduleRecord,
    report: &Report,
    due: Timestamp,
    missed: u32,
) -> Result<(), Problem> {
    let ScheduleRecord { name, schedule, .. } = record;
    // One at a time: what is half written has one name.
    let _making = app.making.lock().unwrap_or_else(PoisonError::into_inner);
    let home = app.options.reports_dir();
    let parts = parts(app, schedule, report)?;
    let files = match schedule.keep {
        Some(keep) => write_run(&home, name, due, keep, &parts.files)
            .map_err(|(path, error)| not_written(&path, &error))?,
        None => Vec::new(),
    };
    let delivery = schedule.webhook.as_ref().map(|_| delivery_of(record, due));
    let run = Run {
        due,
        made_at: now(),
        missed,
        period: schedule.period(due),
        files,
        delivery: delivery.clone(),
        left_out: parts.left_out,
    };
    let body = message(name, &run, report, &parts.files);
    app.store.write::<_, Problem>("server", now(), |tx| {
        stored::made(tx, record, &run)?;
        if let (Some(id), Some(url)) = (&delivery, &schedule.webhook) {
            let message = Message { id, kind: "report.made", subject: name, url, body: &body };
            deliveries::queue(tx, &message)?;
        }
        Ok(())
    })?;
    app.deliver.notify_one();
    Ok(())
}

/// The same for the same run, and another for every other.
fn delivery_of(record: &ScheduleRecord, due: Timestamp) -> String {
    let of = format!("report/{}/{}/{due}", record.name, record.set_at);
    format!("msg_{}", &Digest::of(of.as_bytes()).to_string()[..32])
}

/// The files of a run, by name.
struct Parts {
    files: BTreeMap<String, Vec<u8>>,
    left_out: Vec<Hold>,
}

fn parts(app: &App, schedule: &Schedule, report: &Report) -> Result<Parts, Problem> {
    let mut out = Parts { files: BTreeMap::new(), left_out: Vec::new() };
    for format in &schedule.formats {
        match format {
            Format::Html => {
                let document = pages::report_document(report).into_string();
                out.files.insert("report.html".to_owned(), document.into_bytes());
            }
            Format::Json => {
                let text = serde_json::to_vec_pretty(report).map_err(|e| {
                    let hint = "this is a defect of Fettle: please report it";
                    Problem::new(ProblemKind::Internal, "not-json", e, hint)
                })?;
                out.files.insert("report.json".to_owned(), text);
            }
            Format::Csv => {
                for table in csv::TABLES {
                    let text = csv::table(report, table)?;
                    out.files.insert(format!("{table}.csv"), text.into_bytes());
                }
            }
            Format::Pdf => match printed(app, report) {
                Ok(bytes) => {
                    out.files.insert("report.pdf".to_owned(), bytes);
                }
                // The others are worth having without it.
                Err(why) => {
                    out.left_out.push(Hold::FormatNotMade { format: format.word().to_owned(), why })
                }
            },
        }
    }
    Ok(out)
}

fn printed(app: &App, report: &Report) -> Result<Vec<u8>, String> {
    let scratch = app.options.data_dir.join(".printing");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir(&scratch).map_err(|e| format!("{}: {e}", scratch.display()))?;
    let document = pages::report_document(report).into_string();
    let printed = pdf::print(document.as_bytes(), &scratch);
    let _ = fs::remove_dir_all(&scratch);
    printed.map_err(|e| e.to_string())
}

fn not_written(path: &Path, error: &io::Error) -> Problem {
    Problem::new(
        ProblemKind::Environment,
        "not-written",
        format!("{} cannot be written: {error}", path.display()),
        "give the user that runs `fettle server` room and write permission there, or name another directory with --reports",
    )
}

/// `20261101T050000Z`: sorts by time.
fn moment(due: Timestamp) -> String {
    let text: String = due.to_string().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    text
}

/// Writes the files of a run into a directory of their own, which appears with all of them or not at all, and takes away
/// the oldest beyond `keep`. Gives their paths below `home`.
fn write_run(
    home: &Path,
    name: &str,
    due: Timestamp,
    keep: u32,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<String>, (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    let own = home.join(name);
    fs::create_dir_all(&own).map_err(at(&own))?;
    let begun = own.join(".begun");
    if begun.exists() {
        fs::remove_dir_all(&begun).map_err(at(&begun))?;
    }
    fs::create_dir(&begun).map_err(at(&begun))?;
    for (file, bytes) in files {
        let path = begun.join(file);
        let mut it = File::create(&path).map_err(at(&path))?;
        it.write_all(bytes).and_then(|()| it.sync_all()).map_err(at(&path))?;
    }
    let sync = |path: &Path| File::open(path).and_then(|it| it.sync_all()).map_err(at(path));
    sync(&begun)?;
    let whole = own.join(moment(due));
    // A server was killed before it had noted the run: the same again, made now.
    if whole.exists() {
        fs::remove_dir_all(&whole).map_err(at(&whole))?;
    }
    fs::rename(&begun, &whole).map_err(at(&whole))?;
    sync(&own)?;
    forget(&own, keep as usize).map_err(at(&own))?;
    let below = |file: &String| format!("{name}/{}/{file}", moment(due));
    Ok(files.keys().map(below).collect())
}

/// Takes away the oldest runs beyond `keep`. What is not named as a run is somebody else's, and stays.
fn forget(own: &Path, keep: usize) -> io::Result<()> {
    let is_run = |name: &str| {
        name.len() >= 16
            && name.ends_with('Z')
            && name.as_bytes()[..8].iter().all(u8::is_ascii_digit)
            && name.as_bytes()[8] == b'T'
    };
    let mut runs = Vec::new();
    for entry in fs::read_dir(own)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if is_run(&name) && entry.file_type()?.is_dir() {
            runs.push(name);
        }
    }
    runs.sort();
    let many = runs.len().saturating_sub(keep);
    runs.iter().take(many).try_for_each(|name| fs::remove_dir_all(own.join(name)))
}

/// What the webhook is sent: the report, and its files in base64 as far as there is room.
fn message(name: &str, run: &Run, report: &Report, files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut room = MAX_MESSAGE;
    let mut with = Vec::new();
    let mut left_out = Vec::new();
    for (file, bytes) in files {
        // The report itself is in the message as it is.
        if file == "report.json" {
            continue;
        }
        let text = BASE64.encode(bytes);
        if text.len() > room {
            left_out.push(file);
            continue;
        }
        room -= text.len();
        with.push(json!({ "name": file, "base64": text }));
    }
    let body = json!({
        "type": "report.made",
        "timestamp": run.made_at,
        "data": {
            "schedule": name,
            "due": run.due,
            "missed": run.missed,
            "report": report,
            "files": with,
            "too_large": left_out,
            "holds": run.left_out,
        },
    });
    body.to_string().into_bytes()
}

/// Schedules as the API gives them.
pub(crate) fn rows(app: &App, view: &View<'_>) -> Result<Vec<ScheduleRow>, Problem> {
    let restored = backup::held(view)?;
    let records = stored::all(view)?;
    records.into_iter().map(|record| row(app, view, record, restored.clone())).collect()
}

/// One schedule as the API gives it.
pub(crate) fn one(app: &App, view: &View<'_>, name: &str) -> Result<ScheduleRow, Problem> {
    row(app, view, stored::get(view, name)?, backup::held(view)?)
}

fn row(
    app: &App,
    view: &View<'_>,
    record: ScheduleRecord,
    restored: Option<Hold>,
) -> Result<ScheduleRow, Problem> {
    let now = now();
    let ScheduleRecord { name, schedule, state, set_at, set_by } = record;
    let mut holds = match decide(&schedule, set_at, &state, restored, now) {
        Step::Wait { hold, .. } => vec![hold],
        Step::Make { .. } => Vec::new(),
    };
    let last = match state.last {
        None => None,
        Some(run) => {
            holds.extend(run.left_out);
            let sent = run.delivery.as_deref().map(|id| deliveries::get(view, id));
            let waits = sent.transpose()?.flatten();
            holds.extend(waits.as_ref().map(webhooks::hold));
            Some(ReportRun {
                due: run.due,
                made_at: run.made_at,
                missed: run.missed,
                from: run.period.from,
                to: run.period.to,
                files: run.files,
                arrived: run.delivery.map(|_| waits.is_none()),
            })
        }
    };
    let next_at = schedule.next(now);
    let directory = schedule.keep.map(|_| app.options.reports_dir().join(&name));
    let webhook = schedule.webhook.as_deref().map(webhooks::shown);
    Ok(ScheduleRow {
        schedule: Schedule { webhook, ..schedule },
        name,
        directory: directory.map(|path| path.display().to_string()),
        set_at,
        set_by,
        last,
        next_at,
        holds,
    })
}

/// Sets a schedule.
pub(crate) fn set(
    app: &App,
    actor: &str,
    name: &str,
    schedule: &Schedule,
) -> Result<ScheduleRow, Problem> {
    fettle_core::report::schedule::check_name(name)?;
    schedule.check()?;
    if let Some(policy) = &schedule.policy
        && !app.policies().records.iter().any(|it| it.name == *policy)
    {
        return Err(StoreError::Missing { what: "policy", name: policy.clone() }.into());
    }
    app.store.write::<_, Problem>(actor, now(), |tx| Ok(stored::set(tx, name, schedule)?))?;
    app.schedules.notify_one();
    app.events.tell("report", name);
    app.store.read(|view| one(app, view, name))
}

/// Takes a schedule away.
pub(crate) fn remove(app: &App, actor: &str, name: &str) -> Result<(), Problem> {
    app.store.write::<_, Problem>(actor, now(), |tx| Ok(stored::remove(tx, name)?))?;
    app.events.tell("report", name);
    Ok(())
}

/// Makes one now, whatever the clock says: of the period that one due now is of.
pub(crate) async fn run_now(app: &Arc<App>, name: String) -> Result<ScheduleRow, Problem> {
    let known = name.clone();
    let record = app
        .blocking(move |app| app.store.read::<_, Problem>(|view| Ok(stored::get(view, &known)?)))
        .await?;
    let due = Timestamp::from_second(now().as_second()).unwrap_or_else(|_| now());
    make(app, record, due, 0).await?;
    app.blocking(move |app| app.store.read(|view| one(app, view, &name))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(mark: &str) -> BTreeMap<String, Vec<u8>> {
        let one = |name: &str| (name.to_owned(), mark.as_bytes().to_vec());
        BTreeMap::from([one("report.html"), one("report.json")])
    }

    fn at(day: u32) -> Timestamp {
        format!("2026-11-{day:02}T05:00:00Z").parse().unwrap()
    }

    #[test]
    fn a_run_appears_whole_and_only_the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("daily");
        let listed = || {
            let mut names: Vec<_> = fs::read_dir(&own)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        for day in 1..=3 {
            let paths = write_run(dir.path(), "daily", at(day), 2, &files("a")).unwrap();
            assert_eq!(paths[0], format!("daily/202611{day:02}T050000Z/report.html"));
            // What is not ours stays.
            fs::create_dir_all(own.join("kept by hand")).unwrap();
        }
        assert_eq!(listed(), ["20261102T050000Z", "20261103T050000Z", "kept by hand"]);
        // Killed in the middle of one, or right after it: the same again, whole.
        fs::create_dir(own.join(".begun")).unwrap();
        fs::write(own.join(".begun/report.html"), "half").unwrap();
        write_run(dir.path(), "daily", at(3), 2, &files("b")).unwrap();
        assert_eq!(listed(), ["20261102T050000Z", "20261103T050000Z", "kept by hand"]);
        let html = fs::read_to_string(own.join("20261103T050000Z/report.html")).unwrap();
        assert_eq!(html, "b");
    }

    #[test]
    fn a_failure_that_cannot_be_written_down_is_not_tried_again_at_once() {
        let failed = not_written(Path::new("/full"), &io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(at_once(&Err(failed), at(1)), None);
        assert_eq!(at_once(&Ok(()), at(1)), Some(at(1)));
    }

    #[test]
    fn what_cannot_be_written_says_where() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("daily"), "a file in the way").unwrap();
        let (path, error) = write_run(dir.path(), "daily", at(1), 2, &files("a")).unwrap_err();
        assert_eq!(path, dir.path().join("daily"));
        assert!(not_written(&path, &error).message.contains("daily cannot be written"));
    }
}
