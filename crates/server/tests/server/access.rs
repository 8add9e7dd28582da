//! Who may do what: every route with every role, from the very table that the server serves by.

use crate::fleet::Lab;
use crate::http::{Answer, ask, tcp};
use crate::site::{HERE, form, log_in_as, page};
use fettle_core::ledger::LedgerEntry;
use fettle_core::operator::Role;
use fettle_server::access::{Rule, table};
use fettle_wire::api::{ApiProblem, OperatorAdded, OperatorRow, Page, RenewOperator};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};

/// The path with something in place of each parameter: nothing that is there.
fn filled(rule: &Rule) -> String {
    let part = |part: &str| match part {
        "{number}" => "77".to_owned(),
        "{wish}" => "pause".to_owned(),
        part if part.starts_with('{') => "nothing".to_owned(),
        part => part.to_owned(),
    };
    rule.path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Asks by token or by session, whichever the route's face takes, and reads no further than the head where the answer
/// has no end.
fn asked(lab: &Lab, rule: &Rule, token: Option<&str>, cookie: Option<&str>) -> Answer {
    let path = filled(rule);
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![HERE];
    match (&bearer, cookie) {
        _ if !rule.path.starts_with("/api/") && rule.path != "/metrics" => {
            headers.extend(cookie.map(|cookie| ("cookie", cookie)));
            headers.push(("content-type", "application/x-www-form-urlencoded"));
        }
        (Some(bearer), _) => headers.push(("authorization", bearer)),
        (None, _) => {}
    }
    if !path.ends_with("/events") || rule.method != "GET" {
        let stream = tcp(lab.operator).unwrap();
        return ask(stream, rule.method.as_str(), &path, &headers, b"").unwrap();
    }
    let mut stream = tcp(lab.operator).unwrap();
    let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{}\r\n", lines.collect::<String>());
    stream.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    let text = String::from_utf8_lossy(&first).into_owned();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: text, body: vec![] }
}

#[test]
fn every_route_lets_in_exactly_the_roles_it_names() {
    let nobody = Lab::start();
    for rule in table() {
        let told = format!("{} {}", rule.method, rule.path);
        if rule.needs.is_none() {
            let status = asked(&nobody, &rule, None, None).status;
            assert!(![303, 403].contains(&status), "{told} is open: {status}");
            continue;
        }
        let answer = asked(&nobody, &rule, None, None);
        if is_page(&rule) {
            let to = answer.header("location");
            assert!(answer.status == 303, "{told} without a login: {}", answer.status);
            assert!(to.is_none_or(|to| to == "/login"), "{told}");
        } else {
            assert_eq!(answer.status, 401, "{told} without a token");
            let wrong = asked(&nobody, &rule, Some("x"), None).status;
            assert_eq!(wrong, 401, "{told} with a wrong one");
        }
    }
    // A server each: of one, only so many refusals a minute are written down.
    let mut all = 0;
    for (name, role) in [
        ("vera", Role::Viewer),
        ("arno", Role::Auditor),
        ("olga", Role::Operator),
        ("paul", Role::Approver),
        ("anna", Role::Admin),
    ] {
        all += refused_to(name, role);
    }
    assert!(all > 120, "{all}");
}

fn is_page(rule: &Rule) -> bool {
    !rule.path.starts_with("/api/") && rule.path != "/metrics"
}

/// Tries every route as somebody with one role; gives how many would have changed something and were refused, all of
/// which are in the ledger.
fn refused_to(name: &str, role: Role) -> usize {
    let lab = Lab::start();
    let token = lab.add(name, &[role]);
    let mut cookie = log_in_as(&lab, &token);
    let mut refused = BTreeSet::new();
    for rule in table() {
        let Some(needs) = rule.needs else { continue };
        if rule.path == "/" {
            // The API has ended the session by now.
            cookie = log_in_as(&lab, &token);
        }
        let answer = asked(&lab, &rule, Some(&token), Some(&cookie));
        let told = format!("{} {} by {role}: {}", rule.method, rule.path, answer.text());
        if needs.is_given_by(&BTreeSet::from([role])) {
            assert!(![401, 403, 405].contains(&answer.status), "{told} {}", answer.status);
            for nowhere in ["no-such-call", "no-such-page"] {
                let wish = rule.path.ends_with("{wish}");
                assert!(wish || !answer.text().contains(nowhere), "it is served: {told}");
            }
            continue;
        }
        assert_eq!(answer.status, 403, "{told}");
        assert!(answer.text().contains(&format!("needs the role {needs}")), "{told}");
        if !is_page(&rule) {
            let problem: ApiProblem = answer.json();
            assert_eq!(
                (problem.kind.as_str(), problem.code.as_str()),
                ("forbidden", "role-needed")
            );
            assert!(problem.hint.contains("fettle operator"), "{}", problem.hint);
        }
        if rule.method != "GET" {
            refused.insert((format!("operator:{name}"), rule.method.to_string(), filled(&rule)));
        }
    }
    // Whoever was refused something that would have changed something is in the ledger.
    let page: Page<LedgerEntry> = lab.get("/ledger?limit=10000");
    let entries = page.items.into_iter().filter(|e| e.kind == "access.refused");
    let written: BTreeSet<_> = entries
        .map(|e| (e.actor, e.body["method"].as_str().unwrap_or_default().to_owned(), e.subject))
        .collect();
    assert_eq!(written, refused);
    refused.len()
}

#[test]
fn no_route_is_without_its_role_and_none_is_there_twice() {
    let lab = Lab::start();
    let rules = table();
    let named: BTreeSet<_> = rules.iter().map(|r| (r.method.to_string(), r.path.clone())).collect();
    assert_eq!(named.len(), rules.len(), "a route is there twice");
    // What is described is served, and names the role that the table does.
    let api: Value = lab.get("/openapi.json");
    let mut described = BTreeSet::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, call) in item.as_object().unwrap() {
            let asked = call["security"].as_array().unwrap().first();
            let role = asked.map(|it| it["bearer"][0].as_str().unwrap().parse::<Role>().unwrap());
            described.insert((method.to_uppercase(), format!("/api/v1{path}"), role));
        }
    }
    let of_api = rules.iter().filter(|r| r.path.starts_with("/api/"));
    let of_api: BTreeSet<_> =
        of_api.map(|r| (r.method.to_string(), r.path.clone(), r.needs)).collect();
    assert_eq!(of_api, described);
    // What changes something is never open, and never a viewer's, but for the way in and out; and one question comes
    // with a document.
    for rule in rules.iter().filter(|r| r.method != "GET") {
        let way = ["/login", "/setup", "/api/v1/setup", "/logout", "/api/v1/policy-diffs"];
        let way = way.contains(&rule.path.as_str());
        // Saved views are one's own bookmarks: they change nothing that another sees.
        let own = ["/views", "/views/remove", "/api/v1/views/{name}"].contains(&rule.path.as_str());
        // One's own password, sessions and token.
        let own = own || rule.path.starts_with("/account/");
        let own = own || rule.path.starts_with("/api/v1/account/");
        assert!(way || own || rule.needs > Some(Role::Auditor), "{} {}", rule.method, rule.path);
    }
}

#[test]
fn a_path_answers_no_method_that_the_table_does_not_name() {
    let lab = Lab::start();
    let cookie = log_in_as(&lab, &lab.token);
    let rules = table();
    for path in rules.iter().map(|r| &r.path).collect::<BTreeSet<_>>() {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            if rules.iter().any(|r| r.path == *path && r.method == method) {
                continue;
            }
            let rule = Rule { method: method.parse().unwrap(), path: path.clone(), needs: None };
            let answer = asked(&lab, &rule, Some(&lab.token), Some(&cookie));
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
        }
    }
}

#[test]
fn with_an_operators_token_the_name_is_the_tokens_whatever_the_header_says() {
    let lab = Lab::start();
    let olga = lab.add("olga", &[Role::Operator]);
    let body = br#"{"ttl_seconds":600}"#;
    assert_eq!(lab.call_as(&olga, "zoe", "POST", "/tokens", body).status, 201);
    let page: Page<LedgerEntry> = lab.get("/ledger?limit=10000");
    let made = page.items.iter().rfind(|e| e.kind == "token.made").unwrap();
    assert_eq!(made.actor, "operator:olga");
    // Nor does the server's own token speak in her name, however it is written.
    for name in ["olga", "OLGA"] {
        let answer = lab.call_as(&lab.token, name, "POST", "/tokens", body);
        let problem: ApiProblem = answer.json();
        assert_eq!((answer.status, problem.code.as_str()), (403, "name-taken"));
    }
    let page: Page<LedgerEntry> = lab.get("/ledger?limit=10000");
    let tried = page.items.iter().filter(|e| e.kind == "access.refused");
    let tried: Vec<_> = tried.map(|e| (e.actor.as_str(), &e.body["code"])).collect();
    assert_eq!(tried, [("operator:admin", &"name-taken".into()); 2]);
}

#[test]
fn a_token_that_was_revoked_or_has_expired_opens_nothing() {
    let lab = Lab::start();
    let (paul, emil) = (lab.add("paul", &[Role::Admin]), lab.add("emil", &[Role::Admin]));
    let cookies = [&paul, &emil].map(|token| log_in_as(&lab, token));
    for cookie in &cookies {
        assert_eq!(page(&lab, "/hosts", cookie).status, 200);
    }
    assert_eq!(lab.call("DELETE", "/operators/paul", b"").status, 204);
    let raw = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    raw.execute("UPDATE operators SET expires_at = 5 WHERE name = 'emil'", []).unwrap();
    for (token, cookie, code) in
        [(&paul, &cookies[0], "token-revoked"), (&emil, &cookies[1], "token-expired")]
    {
        let answer = lab.call_as(token, "x", "GET", "/hosts", b"");
        let problem: ApiProblem = answer.json();
        assert_eq!((answer.status, problem.code.as_str()), (401, code));
        assert_eq!(page(&lab, "/hosts", cookie).status, 303, "the session has ended, too");
        let answer = form(&lab, "/login", &[HERE], &format!("token={token}"));
        assert_eq!(answer.status, 401);
        assert!(answer.header("set-cookie").is_none());
    }
    let all: Page<OperatorRow> = lab.get("/operators");
    let states: Vec<_> = all.items.iter().map(|o| (o.name.as_str(), o.state.as_str())).collect();
    assert_eq!(states, [("emil", "expired"), ("paul", "revoked")]);
    assert_eq!(lab.refused("DELETE", "/operators/paul", b"").0, 409);
    assert_eq!(lab.refused("DELETE", "/operators/nobody", b"").0, 404);
}

#[test]
fn a_renewed_token_ends_what_the_one_before_had_opened() {
    let lab = Lab::start();
    let old = lab.add("olga", &[Role::Operator]);
    let cookie = log_in_as(&lab, &old);
    let renewed: OperatorAdded =
        lab.post("/operators/olga/token", &RenewOperator { expires_seconds: None });
    assert_eq!((renewed.operator.expires_at, renewed.operator.roles.len()), (None, 1));
    let answer = lab.call_as(&old, "x", "GET", "/hosts", b"");
    assert_eq!((answer.status, answer.json::<ApiProblem>().code.as_str()), (401, "bad-token"));
    assert_eq!(page(&lab, "/hosts", &cookie).status, 303, "whoever had the token had the session");
    assert_eq!(lab.call_as(&renewed.token, "x", "GET", "/hosts", b"").status, 200);
    assert_eq!(page(&lab, "/hosts", &log_in_as(&lab, &renewed.token)).status, 200);
    assert_eq!(lab.call("DELETE", "/operators/olga", b"").status, 204);
    assert_eq!(lab.refused("POST", "/operators/olga/token", b"{}").0, 409);
    assert_eq!(lab.refused("POST", "/operators/nobody/token", b"{}").0, 404);
    assert_eq!(lab.refused("POST", "/operators/nobody/token", br#"{"expires_seconds":1}"#).0, 422);
}

#[test]
fn an_open_stream_of_events_ends_when_somebody_is_revoked() {
    let lab = Lab::start();
    let vera = lab.add("vera", &[Role::Viewer]);
    let mut stream = tcp(lab.operator).unwrap();
    let head = format!(
        "GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {vera}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    assert_eq!(lab.call("DELETE", "/operators/vera", b"").status, 204);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
}

#[test]
fn odd_operators_are_refused_with_what_to_write_instead() {
    let lab = Lab::start();
    lab.add("olga", &[Role::Operator]);
    for (body, status, code) in [
        (r#"{"name":"Olga","roles":["viewer"]}"#, 422, "bad-name"),
        (r#"{"name":"admin","roles":["viewer"]}"#, 422, "bad-name"),
        (r#"{"name":"","roles":["viewer"]}"#, 422, "bad-name"),
        (r#"{"name":"vera","roles":[]}"#, 422, "no-role"),
        (r#"{"name":"vera","roles":["root"]}"#, 422, "bad-body"),
        (r#"{"name":"vera","roles":["viewer"],"expires_seconds":5}"#, 422, "bad-ttl"),
        (r#"{"name":"olga","roles":["viewer"]}"#, 409, "already-there"),
    ] {
        let (got, problem) = lab.refused("POST", "/operators", body.as_bytes());
        assert_eq!((got, problem.code.as_str()), (status, code), "{body}");
        assert!(!problem.hint.is_empty());
    }
    let text = String::from_utf8(lab.call("GET", "/ledger?limit=1000", b"").body).unwrap();
    let token = lab.add("vera", &[Role::Viewer]);
    assert!(text.contains("operator.added") && !text.contains(&token));
}
