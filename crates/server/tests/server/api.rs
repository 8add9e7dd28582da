//! The API: who may, what is refused, what stays in force.

use crate::fleet::{CVE, Lab, POLICY, TRACKER};
use crate::http::{ask, tcp};
use fettle_core::ledger::{LedgerEntry, LedgerVerifier};
use fettle_wire::api::{
    ApiProblem, CveDetail, FeedRow, FindingExplained, FindingRow, HostRow, Overview, Page,
    PolicyRow,
};
use serde_json::Value;

/// Every described call: method and path with its parameters filled in.
fn calls(lab: &Lab) -> Vec<(String, String)> {
    let api: Value = lab.get("/openapi.json");
    let mut out = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let part = |part: &str| match part {
                "{number}" => "1".to_owned(),
                name if name.starts_with('{') => "x".to_owned(),
                word => word.to_owned(),
            };
            let filled = path.split('/').map(part).collect::<Vec<_>>().join("/");
            out.push((method.to_uppercase(), filled));
        }
    }
    assert!(out.len() >= 25, "{}", out.len());
    out
}

#[test]
fn every_call_but_the_first_set_up_is_401_without_the_token() {
    let lab = Lab::start();
    let calls = calls(&lab).into_iter().filter(|(_, path)| path != "/setup");
    let mut paths: Vec<(String, String)> =
        calls.map(|(method, path)| (method, format!("/api/v1{path}"))).collect();
    for extra in [
        "/api/v1",
        "/api/v1/",
        "/api/v1/nowhere",
        "/api/v1/../v1/hosts",
        "/api/v1//hosts",
        "/metrics",
    ] {
        paths.push(("GET".into(), extra.into()));
    }
    for (method, path) in paths {
        for headers in
            [vec![], vec![("authorization", "Bearer x")], vec![("authorization", "Basic b3A6b3A=")]]
        {
            let answer = ask(tcp(lab.operator).unwrap(), &method, &path, &headers, b"{}").unwrap();
            // A path that is none is a page's matter, and pages send to the login.
            let login =
                answer.status == 303 && answer.header("location").as_deref() == Some("/login");
            let other_origin = answer.status == 403 && !path.starts_with("/api/v1");
            assert!(
                answer.status == 401 || login || other_origin,
                "{method} {path}: {} {}",
                answer.status,
                answer.text()
            );
            assert!(!answer.text().contains("\"items\""), "{method} {path}");
        }
    }
}

#[test]
fn every_described_call_is_served_and_every_failure_is_a_problem() {
    let lab = Lab::start();
    for (method, path) in calls(&lab) {
        if path == "/events" {
            continue;
        }
        let answer = lab.call(&method, &path, b"not json \xff");
        if answer.status >= 400 {
            let problem: ApiProblem = answer.json();
            assert!(
                !["no-such-call", "method-not-allowed"].contains(&problem.code.as_str()),
                "{method} {path}"
            );
            assert!(
                !problem.message.is_empty() && !problem.hint.is_empty(),
                "{method} {path}: {problem:?}"
            );
            assert!(answer.status < 500, "{method} {path}: {problem:?}");
        }
    }
}

#[test]
fn odd_requests_get_typed_answers() {
    let lab = Lab::furnished();
    for (method, path, body, status, code) in [
        ("GET", "/nowhere", &b""[..], 404, "no-such-call"),
        ("PUT", "/hosts", b"", 405, "method-not-allowed"),
        ("GET", "/hosts/nobody", b"", 404, "not-found"),
        ("GET", "/hosts?limit=many", b"", 400, "bad-query"),
        ("GET", "/findings?state=broken", b"", 400, "bad-query"),
        ("GET", "/findings?host=nobody", b"", 404, "not-found"),
        ("GET", "/plans/0", b"", 404, "not-found"),
        ("GET", "/plans/first", b"", 400, "bad-path"),
        ("GET", "/rollouts/ro-9", b"", 404, "not-found"),
        ("GET", "/cves/CVE-1999-0001", b"", 404, "not-found"),
        ("GET", "/hosts/%ff", b"", 400, "bad-path"),
        ("POST", "/plans", b"{", 400, "bad-json"),
        ("POST", "/plans", b"{}", 422, "bad-body"),
        ("POST", "/plans", br#"{"policy":"none"}"#, 404, "no-such-policy"),
        ("POST", "/tokens", br#"{"ttl_seconds":1}"#, 422, "bad-ttl"),
        ("POST", "/tokens", br#"{"ttl_seconds":600,"labels":{"a b":"c"}}"#, 422, "bad-label"),
        ("POST", "/rollouts", br#"{"plan":7,"digest":null}"#, 404, "not-found"),
        ("POST", "/feeds/usn", b"{}", 404, "no-such-feed"),
    ] {
        let (got, problem) = lab.refused(method, path, body);
        assert_eq!((got, problem.code.as_str()), (status, code), "{method} {path}");
    }
    let (status, problem) = lab.refused("POST", "/plans", &vec![b' '; (1 << 20) + 1]);
    assert_eq!((status, problem.code.as_str()), (413, "too-large"));
    let deep = "[".repeat(200_000);
    assert!([400, 422].contains(&lab.refused("POST", "/plans", deep.as_bytes()).0));
    let deep = format!("{{\"unknown\":{deep}");
    assert_eq!(lab.refused("POST", "/plans", deep.as_bytes()).0, 400);
}

#[test]
fn a_malformed_policy_says_where_and_the_one_before_stays() {
    let lab = Lab::furnished();
    let bad = POLICY.replace("max-failures", "max-failure");
    let (status, problem) = lab.refused("POST", "/policies", bad.as_bytes());
    assert_eq!((status, problem.code.as_str()), (422, "bad-policy"));
    assert!(
        problem.message.contains("line 20") && problem.message.contains("max-failures"),
        "{}",
        problem.message
    );
    assert_eq!(lab.refused("POST", "/policies", b"\xff\xfe").1.code, "bad-policy");
    assert_eq!(lab.refused("POST", "/policies", &vec![b'#'; 300_000]).0, 413);
    let row: PolicyRow = lab.get("/policies/web");
    assert_eq!((row.version, row.text.as_str()), (1, POLICY));
    // The same again is no new version, another text is.
    lab.post_bytes("/policies", POLICY.as_bytes());
    assert_eq!(lab.get::<PolicyRow>("/policies/web").version, 1);
    lab.post_bytes("/policies", POLICY.replace("7d", "3d").as_bytes());
    let row: PolicyRow = lab.get("/policies/web");
    assert_eq!((row.version, row.applied_by.as_str()), (2, "operator:alice"));
}

#[test]
fn two_policies_that_claim_the_same_host_are_refused() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let rival = POLICY.replace("name = \"web\"", "name = \"rival\"");
    let (status, problem) = lab.refused("POST", "/policies", rival.as_bytes());
    assert_eq!((status, problem.code.as_str()), (422, "policy-ambiguous"));
    assert!(
        problem.message.contains("rival") && problem.message.contains("web"),
        "{}",
        problem.message
    );
    assert_eq!(lab.get::<Page<PolicyRow>>("/policies").total, 1);
}

#[test]
fn a_truncated_or_foreign_feed_is_refused_and_the_last_good_one_stays_in_force() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let findings = |lab: &Lab| lab.get::<Page<FindingRow>>("/findings").total;
    assert_eq!(findings(&lab), 2);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gz, TRACKER.as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    for bad in [
        &TRACKER.as_bytes()[..200],
        b"",
        b"<html>not found</html>",
        b"{}",
        &gz[..gz.len() / 2],
        b"\x28\xb5\x2f\xfd1",
    ] {
        let (status, problem) = lab.refused("POST", "/feeds/debian-tracker", bad);
        assert_eq!(status, 422, "{problem:?}");
        let feeds: Page<FeedRow> = lab.get("/feeds");
        let row = feeds.items.iter().find(|f| f.name == "debian-tracker").unwrap();
        assert_eq!(row.last_error.as_deref(), Some(problem.message.as_str()));
        assert_eq!(row.records, 2);
        assert_eq!(findings(&lab), 2);
    }
    // A good one clears the error, packed or not.
    let row: FeedRow =
        lab.post_bytes("/feeds/debian-tracker?date=2026-11-20&origin=test", &gz).json();
    assert_eq!(
        (row.last_error, row.date.as_str(), row.origin.as_str()),
        (None, "2026-11-20", "test")
    );
}

#[test]
fn the_bundled_data_loads_and_a_feed_that_shrank_is_held_back() {
    let lab = Lab::start();
    let feeds: Page<FeedRow> = lab.post_bytes("/feeds/bundled", b"").json();
    assert!(
        feeds
            .items
            .iter()
            .all(|f| f.records > 100 && f.imported_at.is_some() && !f.date.is_empty()),
        "{feeds:?}"
    );
    let (status, problem) = lab.refused("POST", "/feeds/debian-tracker", TRACKER.as_bytes());
    assert_eq!((status, problem.code.as_str()), (422, "feed-shrunk"));
    lab.post_bytes("/feeds/debian-tracker?force=true", TRACKER.as_bytes());
    let feeds: Page<FeedRow> = lab.get("/feeds");
    assert_eq!(feeds.items[0].records, 2);
}

#[test]
fn findings_are_listed_filtered_and_explained() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let open: Page<FindingRow> = lab.get("/findings?state=open&severity=medium&host=web-1");
    assert_eq!(open.total, 1);
    assert_eq!(open.items[0].host_name, "web-1");
    let part: Page<FindingRow> = lab.get("/findings?limit=1&offset=1");
    assert_eq!((part.total, part.items.len()), (2, 1));
    let explained: FindingExplained = lab.get(&format!("/findings/web-1/{CVE}/openssl"));
    assert!(explained.lines.len() >= 4, "{:?}", explained.lines);
    let cve: CveDetail = lab.get(&format!("/cves/{CVE}"));
    assert_eq!((cve.findings.len(), cve.advisories.len()), (1, 1));
    let overview: Overview = lab.get("/overview");
    assert_eq!((overview.hosts, overview.open_cves, overview.worst.len()), (1, 1, 1));
    assert_eq!(overview.hosts_by_state.get("exposed"), Some(&1));
}

#[test]
fn an_accepted_risk_shows_as_accepted_and_is_open_again_when_it_ends_or_grows() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let state = |until: &str, epss_below: &str, source: &str| {
        let accept = format!(
            "\n[[accept]]\nfinding = \"{CVE}\"\nsource = \"{source}\"\nreason = \"not reachable\"\n\
             owner = \"ops@example.org\"\nuntil = {until}\nepss-below = {epss_below}\n"
        );
        lab.post_bytes("/policies", format!("{POLICY}{accept}").as_bytes());
        let explained: FindingExplained = lab.get(&format!("/findings/web-1/{CVE}/openssl"));
        (explained.row.finding.state.word(), explained.lines.join("\n"))
    };
    let (word, lines) = state("2099-01-01", "0.5", "openssl");
    assert_eq!(word, "accepted");
    assert!(lines.contains("ops@example.org accepts it until 2099"), "{lines}");
    assert!(lines.contains("not reachable. That holds."), "{lines}");
    // What nobody owes has no deadline, and is counted apart.
    let accepted: Page<FindingRow> = lab.get("/findings?state=accepted");
    assert_eq!((accepted.total, accepted.items[0].finding.deadline), (1, None));
    // As likely as the owner would not have it.
    let (word, lines) = state("2099-01-01", "0.0", "openssl");
    assert_eq!(word, "open");
    assert!(lines.contains("That no longer holds."), "{lines}");
    assert_eq!(state("2020-01-01", "0.5", "openssl").0, "open");
    assert_eq!(state("2099-01-01", "0.5", "bash").0, "open");
    assert_eq!(state("2099-01-01", "0.5", "openssl").0, "accepted");
}

#[test]
fn hosts_are_named_by_id_or_name() {
    let lab = Lab::start();
    let agent = lab.host("web-1", "canary");
    let hosts: Page<HostRow> = lab.get("/hosts");
    assert_eq!(hosts.items[0].id, agent.id);
    let by_id: Value = lab.get(&format!("/hosts/{}", agent.id));
    let by_name: Value = lab.get("/hosts/web-1");
    assert_eq!(by_id["row"]["id"], by_name["row"]["id"]);
}

#[test]
fn the_ledger_can_be_verified_by_whoever_has_its_entries() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let page: Page<LedgerEntry> = lab.get("/ledger?limit=10000");
    assert_eq!(page.items.len() as u64, page.total);
    let mut verifier = LedgerVerifier::default();
    page.items.iter().try_for_each(|e| verifier.take(e)).unwrap();
    let kinds: Vec<&str> = page.items.iter().map(|e| e.kind.as_str()).collect();
    for kind in [
        "feed.imported",
        "policy.applied",
        "token.made",
        "token.used",
        "host.enrolled",
        "host.inventory",
        "host.findings",
    ] {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
    let text = serde_json::to_string(&page.items).unwrap();
    let secret = lab.secret("canary");
    assert!(!text.contains(&lab.token) && !text.contains(&secret));
}

#[test]
fn watchers_are_told_what_changed_and_what_they_missed() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let lab = Lab::start();
    let listen = |last: &str| {
        let mut stream = tcp(lab.operator).unwrap();
        let head = format!(
            "GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n{last}\r\n",
            lab.token
        );
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream)
    };
    let event = |reader: &mut BufReader<std::net::TcpStream>| {
        let mut id = String::new();
        loop {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the stream ended");
            if let Some(found) = line.strip_prefix("id: ") {
                id = found.trim().to_owned();
            }
            if let Some(kind) = line.strip_prefix("event: ") {
                return (id, kind.trim().to_owned());
            }
        }
    };
    let mut first = listen("");
    let mut line = String::new();
    first.read_line(&mut line).unwrap();
    assert!(line.contains("200"), "{line}");
    lab.host("web-1", "canary");
    let (id, kind) = event(&mut first);
    // axum writes the fields in the order they were set; the id may come after the event's name.
    assert_eq!(kind, "host");
    drop(first);
    lab.post_bytes("/policies", POLICY.as_bytes());
    if !id.is_empty() {
        let mut again = listen(&format!("last-event-id: {id}\r\n"));
        let kinds: Vec<String> = (0..2).map(|_| event(&mut again).1).collect();
        assert!(kinds.iter().any(|k| k == "policy" || k == "host"), "{kinds:?}");
    }
    let mut lost = listen("last-event-id: 5\r\n");
    assert_eq!(event(&mut lost).1, "reset");
}

#[test]
fn overdue_findings_are_listed_apart_and_the_overview_leads_to_them() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let page: Page<FindingRow> = lab.get("/findings?due=overdue");
    assert_eq!((page.total, page.items.len()), (0, 0), "seven days are left");
    let page: Page<FindingRow> = lab.get("/findings?due=soon");
    assert_eq!(page.total, 0);
    // A policy that owes the fix within a second.
    let strict = crate::fleet::POLICY.replace("deadline = \"7d\"", "deadline = \"1s\"");
    lab.post_bytes("/policies", strict.as_bytes());
    crate::fleet::until("the finding to be overdue", || {
        let page: Page<FindingRow> = lab.get("/findings?due=overdue");
        (page.total == 1).then_some(())
    });
    let overview: Overview = lab.get("/overview");
    assert_eq!(overview.overdue, 1);
    let (status, problem) = lab.refused("GET", "/findings?due=never", &[]);
    assert_eq!((status, problem.code.as_str()), (400, "bad-query"));
}
