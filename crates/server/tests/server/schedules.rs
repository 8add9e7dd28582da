//! Reports that the server makes by itself: on time, whole, signed, caught up once; and what no webhook took.

use crate::fleet::{Lab, until};
use crate::gates::{signed, webhook};
use crate::site::{HERE, form, log_in_as, page};
use fettle_core::Timestamp;
use fettle_core::ledger::LedgerEntry;
use fettle_wire::api::{DeliveryRow, Page, Report, ScheduleRow};
use serde_json::{Value, json};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Due at an hour that is not now, whenever the test runs.
fn far_hour() -> String {
    let hour = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).hour();
    format!("{:02}:30", (hour + 12) % 24)
}

fn daily(more: Value) -> Vec<u8> {
    let mut body = json!({
        "recurrence": "FREQ=DAILY", "at": far_hour(), "time_zone": "UTC", "covers": "7d",
        "formats": ["html", "csv", "json"],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::to_vec(&body).unwrap()
}

fn set(lab: &Lab, name: &str, more: Value) -> ScheduleRow {
    let answer = lab.call("PUT", &format!("/report-schedules/{name}"), &daily(more));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn one(lab: &Lab, name: &str) -> ScheduleRow {
    let page: Page<ScheduleRow> = lab.get("/report-schedules");
    page.items.into_iter().find(|row| row.name == name).unwrap()
}

fn undelivered(lab: &Lab) -> Vec<DeliveryRow> {
    lab.get::<Page<DeliveryRow>>("/deliveries").items
}

fn codes(row: &ScheduleRow) -> Vec<&str> {
    row.holds.iter().map(|hold| hold.code()).collect()
}

fn kinds(lab: &Lab) -> Vec<String> {
    let page: Page<LedgerEntry> = lab.get("/ledger?limit=1000");
    page.items.into_iter().map(|entry| entry.kind).collect()
}

/// As if the schedule had been set so many days ago.
fn set_days_ago(lab: &Lab, days: i64) {
    let file = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    let sql = "UPDATE report_schedules SET set_at = set_at - $1";
    assert_eq!(file.execute(sql, [days * 86_400_000_000]).unwrap(), 1);
}

#[test]
fn a_report_is_written_whole_and_sent_signed_and_the_next_is_known() {
    let (address, heard) = webhook(Arc::new(AtomicU16::new(200)));
    let lab = Lab::furnished();
    let row = set(
        &lab,
        "weekly",
        json!({ "keep": 2, "webhook": format!("http://{address}/reports/s3cr3t"), "policy": "web" }),
    );
    assert_eq!((row.last.is_none(), codes(&row)), (true, vec!["not-due"]));
    let answer = lab.post_bytes("/report-schedules/weekly/run", b"");
    let row: ScheduleRow = answer.json();
    let run = row.last.clone().unwrap();
    assert_eq!((run.to.duration_since(run.from).as_hours(), run.missed), (7 * 24, 0));
    assert!(row.next_at.unwrap() > run.due);
    // All of it, below the directory that the schedule names.
    let home = lab.data().join("reports");
    assert_eq!(row.directory.as_deref(), home.join("weekly").to_str());
    assert_eq!(run.files.len(), 7, "{:?}", run.files);
    let read = |end: &str| {
        let file = run.files.iter().find(|file| file.ends_with(end)).unwrap();
        fs::read_to_string(home.join(file)).unwrap()
    };
    let report: Report = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!((report.from, report.to, report.policy.as_deref()), (run.from, run.to, Some("web")));
    assert!(read("report.html").starts_with("<!DOCTYPE html>"));
    assert!(read("overdue.csv").starts_with("policy,class,id,"));
    // The webhook has it, signed, and nothing is left of it.
    until("the delivery", || one(&lab, "weekly").last.filter(|run| run.arrived == Some(true)));
    assert_eq!(undelivered(&lab), []);
    let heard = heard.lock().unwrap().clone();
    let [(head, body)] = &heard[..] else { panic!("{heard:?}") };
    assert!(head.starts_with("POST /reports/s3cr3t HTTP/1.1\r\n"), "{head}");
    signed(&lab, head, body);
    let told: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&told["type"], &told["data"]["schedule"]),
        (&json!("report.made"), &json!("weekly"))
    );
    assert_eq!(told["data"]["report"]["policy"], "web");
    let names: Vec<_> =
        told["data"]["files"].as_array().unwrap().iter().map(|f| f["name"].clone()).collect();
    assert!(names.contains(&json!("report.html")) && names.contains(&json!("overdue.csv")));
    // Nobody is shown the path of the webhook, which is a secret.
    let shown = lab.call("GET", "/report-schedules", b"").text();
    assert!(shown.contains(&format!("http://{address}/…")) && !shown.contains("s3cr3t"), "{shown}");
    let ledger = lab.call("GET", "/ledger?limit=1000", b"").text();
    assert!(!ledger.contains("s3cr3t"));
    let kinds = kinds(&lab);
    for kind in ["report.schedule-set", "report.made", "webhook.queued", "webhook.delivered"] {
        assert_eq!(kinds.iter().filter(|k| *k == kind).count(), 1, "{kind}: {kinds:?}");
    }
    assert_eq!(lab.call("DELETE", "/report-schedules/weekly", b"").status, 204);
    assert!(home.join(&run.files[0]).exists(), "what was written stays");
}

#[test]
fn what_was_missed_while_no_server_was_there_is_made_up_for_once() {
    let mut lab = Lab::furnished();
    set(&lab, "daily", json!({ "keep": 5 }));
    lab.kill();
    set_days_ago(&lab, 4);
    lab.restart();
    let run = until("the report", || one(&lab, "daily").last);
    assert_eq!(run.missed, 3, "four came due, one is made");
    let listed = || fs::read_dir(lab.data().join("reports/daily")).unwrap().count();
    assert_eq!(listed(), 1);
    let row = one(&lab, "daily");
    assert_eq!(codes(&row), ["not-due"]);
    assert!(row.next_at.unwrap() > Timestamp::now());
    // Started again it makes none a second time: a later one of another schedule has been made by then.
    let before = run.made_at;
    lab.restart();
    lab.post_bytes("/policies", crate::fleet::POLICY.as_bytes());
    set(&lab, "other", json!({ "keep": 1 }));
    lab.post_bytes("/report-schedules/other/run", b"");
    assert_eq!(one(&lab, "daily").last.unwrap().made_at, before);
}

#[test]
fn what_no_webhook_takes_is_a_dead_letter_until_a_person_sends_it_again() {
    let status = Arc::new(AtomicU16::new(500));
    let (address, heard) = webhook(status.clone());
    let lab = Lab::with(|options| options.webhook_retries = vec![std::time::Duration::ZERO]);
    let to = format!("http://{address}/");
    set(&lab, "daily", json!({ "webhook": to }));
    lab.post_bytes("/report-schedules/daily/run", b"");
    let dead =
        until("two tries", || undelivered(&lab).into_iter().find(|row| row.next_at.is_none()));
    assert_eq!(
        (dead.tries, dead.subject.as_str(), dead.kind.as_str()),
        (2, "daily", "report.made")
    );
    assert!(dead.error.as_deref().unwrap().starts_with("status 500"), "{dead:?}");
    let row = one(&lab, "daily");
    assert_eq!(
        (codes(&row), row.last.as_ref().unwrap().arrived),
        (vec!["not-due", "not-delivered"], Some(false))
    );
    assert!(row.holds[1].to_string().contains(&format!("fettle webhook resend {}", dead.id)));
    // On its page, and by its form, for who may.
    let token = lab.add("olga", &[fettle_core::operator::Role::Operator]);
    let cookie = log_in_as(&lab, &token);
    let shown = page(&lab, "/settings", &cookie).text();
    assert!(shown.contains(&dead.id) && shown.contains("a dead letter"), "{shown}");
    status.store(204, Ordering::SeqCst);
    let sent = form(
        &lab,
        &format!("/settings/deliveries/{}/resend", dead.id),
        &[HERE, ("cookie", &cookie)],
        "",
    );
    assert_eq!(sent.status, 303, "{}", sent.text());
    until("the delivery", || Some(()).filter(|()| undelivered(&lab).is_empty()));
    assert_eq!(one(&lab, "daily").last.unwrap().arrived, Some(true));
    let ids: Vec<String> = heard
        .lock()
        .unwrap()
        .iter()
        .map(|(head, body)| {
            signed(&lab, head, body);
            head.lines().find(|l| l.starts_with("webhook-id")).unwrap().to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0]), "the receiver knows it again: {ids:?}");
    // Who wants no more of it says so, and it is not tried again.
    status.store(410, Ordering::SeqCst);
    lab.post_bytes("/report-schedules/daily/run", b"");
    let gone = until("the answer", || undelivered(&lab).into_iter().find(|row| row.tries == 1));
    assert_eq!(gone.next_at, None);
    assert_eq!(lab.call("DELETE", &format!("/deliveries/{}", gone.id), b"").status, 204);
    assert_eq!(lab.refused("POST", &format!("/deliveries/{}/resend", gone.id), b"").0, 404);
}

#[test]
fn a_report_that_cannot_be_written_is_held_and_tried_again_and_harms_nothing() {
    let lab = Lab::furnished();
    let in_the_way = lab.data().join("reports");
    fs::write(&in_the_way, "a file").unwrap();
    set(&lab, "daily", json!({ "keep": 3 }));
    let (status, problem) = lab.refused("POST", "/report-schedules/daily/run", b"");
    assert_eq!((status, problem.code.as_str()), (507, "not-written"), "{problem:?}");
    assert!(problem.message.contains("reports/daily cannot be written"), "{problem:?}");
    assert!(one(&lab, "daily").last.is_none());
    fs::remove_file(&in_the_way).unwrap();
    lab.post_bytes("/report-schedules/daily/run", b"");
    assert!(one(&lab, "daily").last.is_some());
    assert_eq!(codes(&one(&lab, "daily")), ["not-due"]);
}

#[test]
fn what_came_due_and_could_not_be_written_says_so_and_when_it_is_tried_again() {
    let mut lab = Lab::furnished();
    set(&lab, "daily", json!({ "keep": 3 }));
    lab.kill();
    set_days_ago(&lab, 1);
    fs::write(lab.data().join("reports"), "a file").unwrap();
    lab.restart();
    let row = until("the hold", || {
        Some(one(&lab, "daily")).filter(|row| codes(row) == ["report-not-made"])
    });
    let text = row.holds[0].to_string();
    assert!(text.contains("cannot be written") && text.contains("again at"), "{text}");
}

#[test]
fn a_pdf_is_made_where_chromium_is_and_the_others_are_not_held_up_by_it() {
    let lab = Lab::furnished();
    let body = daily(json!({ "keep": 1, "formats": ["pdf", "json"] }));
    assert_eq!(lab.call("PUT", "/report-schedules/daily", &body).status, 200);
    let row: ScheduleRow = lab.post_bytes("/report-schedules/daily/run", b"").json();
    let files = &row.last.as_ref().unwrap().files;
    assert!(files[0].ends_with("report.json") || files[1].ends_with("report.pdf"), "{files:?}");
    let installed = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
        .iter()
        .any(|name| {
            std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|p| p.join(name).exists())
        });
    if installed {
        let pdf = fs::read(lab.data().join("reports").join(&files[1])).unwrap();
        assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 5000, "{}", pdf.len());
        assert_eq!(codes(&row), ["not-due"]);
    } else {
        assert_eq!((files.len(), codes(&row)), (1, vec!["not-due", "format-not-made"]));
    }
}

#[test]
fn what_is_no_schedule_is_refused_with_what_to_write() {
    let lab = Lab::furnished();
    for (name, more, status, code) in [
        ("daily", json!({}), 422, "bad-schedule"),
        ("daily", json!({ "keep": 0 }), 422, "bad-schedule"),
        ("daily", json!({ "keep": 1, "time_zone": "Mars/Olympus" }), 422, "bad-schedule"),
        ("daily", json!({ "keep": 1, "formats": [] }), 422, "bad-schedule"),
        ("daily", json!({ "webhook": "file:///etc/passwd" }), 422, "bad-schedule"),
        ("daily", json!({ "keep": 1, "recurrence": "FREQ=HOURLY" }), 422, "bad-body"),
        ("daily", json!({ "keep": 1, "covers": "yesterday" }), 422, "bad-body"),
        ("daily", json!({ "keep": 1, "webook": "https://example.org" }), 422, "bad-body"),
        ("daily", json!({ "keep": 1, "policy": "nobody" }), 404, "not-found"),
        ("Daily", json!({ "keep": 1 }), 422, "bad-schedule"),
        ("%2e%2e", json!({ "keep": 1 }), 422, "bad-schedule"),
    ] {
        let path = format!("/report-schedules/{name}");
        let (answered, problem) = lab.refused("PUT", &path, &daily(more.clone()));
        assert_eq!((answered, problem.code.as_str()), (status, code), "{more}: {problem:?}");
        assert!(!problem.hint.is_empty());
    }
    assert_eq!(lab.get::<Page<ScheduleRow>>("/report-schedules").total, 0);
    assert_eq!(lab.refused("POST", "/report-schedules/daily/run", b"").0, 404);
}
