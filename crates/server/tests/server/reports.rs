//! Reports: what is late says why, what was done is counted, as JSON, as CSV, as a page and as a document.

use crate::fleet::{Agent, Lab, OLD, POLICY, finished, inventory, plan, start, until};
use crate::site::{log_in_as, page};
use fettle_wire::api::Report;

fn report(lab: &Lab) -> Report {
    lab.get("/report")
}

/// Why the finding with a fix is late on the hosts it is late on.
fn why(lab: &Lab) -> Vec<(String, String)> {
    let late = report(lab).owed.overdue;
    late.into_iter().map(|line| (line.example, line.why)).collect()
}

/// A fleet that owes at once.
fn owing() -> (Lab, Vec<Agent>) {
    let lab = Lab::furnished();
    lab.post_bytes("/policies", POLICY.replace("7d", "1s").as_bytes());
    let agents = vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    until("the deadline", || Some(()).filter(|()| report(&lab).owed.total.overdue == 2));
    (lab, agents)
}

#[test]
fn what_is_late_says_what_stands_in_its_way_from_the_plan_to_the_host() {
    let (lab, mut agents) = owing();
    let nothing = "nothing was planned: fettle plan make web".to_owned();
    let first = report(&lab);
    assert_eq!((first.owed.total.hosts, first.owed.total.hosts_late), (2, 2));
    assert_eq!(first.owed.total.no_fix_yet, 2);
    assert_eq!(first.owed.total.in_time_permille, Some(0));
    assert_eq!((first.owed.overdue[0].hosts, &first.owed.overdue[0].why), (2, &nothing));
    // A plan brings it, and nobody has started it.
    let made = plan(&lab);
    assert_eq!(
        why(&lab),
        [(
            "canary-1".to_owned(),
            format!("plan {} brings it and waits to be started", made.number)
        )]
    );
    start(&lab);
    let under_way = why(&lab);
    assert!(
        under_way
            .iter()
            .all(|(_, why)| why.starts_with("plan 2 brings it; ro-1 is running, the host ")),
        "{under_way:?}"
    );
    finished(&lab, &mut agents);
    // Who comes later was in no plan, and who is offered nothing waits for a source.
    let mut late = lab.host("late", "broad");
    let until_late = |n| {
        until("its deadline", || Some(why(&lab)).filter(|why| why.len() == n));
    };
    until_late(1);
    assert_eq!(
        why(&lab),
        [("late".to_owned(), "came after plan 2: fettle plan make web".to_owned())]
    );
    late.inventory = inventory(OLD);
    late.inventory.upgrades.clear();
    late.checkin(&lab);
    until("the new inventory", || {
        let none = "no source of the host offers the fix";
        Some(()).filter(|()| why(&lab) == [("late".to_owned(), none.to_owned())])
    });
}

#[test]
fn what_was_done_is_counted_with_its_time_and_its_rollout() {
    let (lab, mut agents) = owing();
    start(&lab);
    finished(&lab, &mut agents);
    let done = until("the proof", || Some(report(&lab)).filter(|r| r.owed.total.late == 2));
    let total = &done.owed.total;
    assert_eq!((total.in_time, total.overdue, total.in_time_permille), (0, 0, Some(0)));
    assert_eq!(total.time_to_patch.fixed, 2);
    assert!(total.time_to_patch.worst_seconds < 60, "{total:?}");
    let totals = &done.rollout_totals;
    assert_eq!((totals.rollouts, totals.clean, totals.success_permille), (1, 1, Some(1000)));
    assert_eq!((done.rollouts[0].id.as_str(), done.rollouts[0].patched), ("ro-1", 2));
    let last = done.owed.trend.last().unwrap();
    assert_eq!(last.open.get("all"), Some(&2), "what has no fix yet stays: {last:?}");
    assert_eq!(last.overdue, 0);
    // Of a time before there was anything, there is nothing, and that is no error.
    let before: Report = lab.get("/report?from=2020-01-01&to=2020-01-31");
    assert_eq!((before.owed.lines.len(), before.rollouts.len()), (0, 0));
    // A policy that stands in nobody's way has its own report.
    let of_policy: Report = lab.get("/report?policy=web");
    assert_eq!(of_policy.owed.total.late, 2);
}

#[test]
fn a_report_goes_out_as_csv_and_as_a_document_that_needs_no_server() {
    let (lab, _agents) = owing();
    let exclude = r#"
[[exclude]]
package = "linux-*"
reason = "<b>old, \"driver\""
owner = "=cmd|x"
until = 2099-01-01
"#;
    lab.post_bytes("/policies", format!("{}{exclude}", POLICY.replace("7d", "1s")).as_bytes());
    let csv = |table: &str| {
        let answer = lab.call("GET", &format!("/report.csv?table={table}"), b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.header("content-type").unwrap().starts_with("text/csv"));
        assert!(answer.header("content-disposition").unwrap().starts_with("attachment"));
        answer.text()
    };
    let overdue = csv("overdue");
    let lines: Vec<&str> = overdue.split("\r\n").collect();
    assert_eq!(lines[0], "policy,class,id,source,severity,deadline,hosts,example,why");
    assert!(lines[1].starts_with("web,all,CVE-2024-5535,openssl,medium,20"), "{}", lines[1]);
    assert!(lines[1].ends_with(",2,canary-1,nothing was planned: fettle plan make web"));
    let exceptions = csv("exceptions");
    assert!(exceptions.contains("linux-*,\"'=cmd|x\",\"<b>old, \"\"driver\"\"\","), "{exceptions}");
    for table in ["compliance", "trend", "rollouts"] {
        assert!(csv(table).ends_with("\r\n"), "{table}");
    }
    let document = lab.call("GET", "/report.html", b"");
    assert!(document.header("content-disposition").unwrap().starts_with("attachment"));
    let html = document.text();
    assert!(html.contains("CVE-2024-5535") && html.contains("&lt;b&gt;old"), "{html}");
    for outside in ["<script", "href=\"/", "src=", "url(", "http://", "@import"] {
        assert!(!html.contains(outside), "it needs something from elsewhere: {outside}");
    }
    // The same by the site, for who is logged in, and its links lead to them.
    let cookie = log_in_as(&lab, &lab.token);
    let shown = page(&lab, "/reports?from=2020-01-01", &cookie);
    assert_eq!(shown.status, 200);
    assert!(shown.text().contains("href=\"/cves/CVE-2024-5535\""), "{}", shown.text());
    let csv = page(&lab, "/reports.csv?table=overdue", &cookie);
    assert!(csv.text().starts_with("policy,class,id"), "{}", csv.text());
    assert_eq!(page(&lab, "/reports.html", &cookie).status, 200);
    assert_eq!(page(&lab, "/reports", "").status, 303, "who is not logged in sees none");
}

#[test]
fn what_cannot_be_reported_is_refused_with_what_to_write_instead() {
    let lab = Lab::furnished();
    for (query, status, code) in [
        ("report?from=yesterday", 400, "bad-query"),
        ("report?from=2026-02-30", 400, "bad-query"),
        ("report?from=2999-01-01", 422, "bad-period"),
        ("report?from=2020-02-01&to=2020-01-01", 422, "bad-period"),
        ("report?policy=nobody", 404, "not-found"),
        ("report.csv?table=everything", 400, "bad-query"),
    ] {
        let (answered, problem) = lab.refused("GET", &format!("/{query}"), b"");
        assert_eq!((answered, problem.code.as_str()), (status, code), "{query}: {problem:?}");
        assert!(!problem.hint.is_empty(), "{query}");
    }
}
