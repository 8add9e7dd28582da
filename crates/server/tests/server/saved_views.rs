//! Lists of hosts under a name: one's own, and those that all see. Who reads what; and what codes of errors lead to.

use crate::fleet::Lab;
use crate::http::Answer;
use crate::site::{HERE, form, log_in_as, page};
use fettle_core::operator::Role;
use fettle_wire::api::{ApiProblem, Page, SaveView, SavedViewRow};

fn save(lab: &Lab, token: &str, name: &str, query: &str, shared: bool) -> Answer {
    let body = serde_json::to_vec(&SaveView { query: query.to_owned(), shared }).unwrap();
    lab.call_as(token, "x", "PUT", &format!("/views/{name}"), &body)
}

fn seen(lab: &Lab, token: &str) -> Vec<(String, String, bool)> {
    let answer = lab.call_as(token, "x", "GET", "/views", b"");
    let page: Page<SavedViewRow> = answer.json();
    page.items.into_iter().map(|row| (row.owner, row.name, row.mine)).collect()
}

#[test]
fn everybody_keeps_their_own_views_and_sees_those_that_are_shared() {
    let lab = Lab::furnished();
    let vera = lab.add("vera", &[Role::Viewer]);
    let olga = lab.add("olga", &[Role::Operator]);
    assert_eq!(save(&lab, &vera, "mine", "state=exposed", false).status, 200);
    assert_eq!(save(&lab, &olga, "web", "label=role%3Dweb&sort=-open", true).status, 200);
    assert_eq!(save(&lab, &olga, "secret", "q=db", false).status, 200);
    let one = |owner: &str, name: &str, mine| (owner.to_owned(), name.to_owned(), mine);
    assert_eq!(seen(&lab, &vera), [one("vera", "mine", true), one("olga", "web", false)]);
    assert_eq!(seen(&lab, &olga), [one("olga", "secret", true), one("olga", "web", true)]);
    // To share one is not a viewer's, and to take away another's only an admin's; nobody's own is seen by an admin.
    let refused = save(&lab, &vera, "mine", "state=exposed", true);
    let problem: ApiProblem = refused.json();
    assert_eq!((refused.status, problem.code.as_str()), (403, "role-needed"));
    let away = |token: &str, path: &str| lab.call_as(token, "x", "DELETE", path, b"").status;
    assert_eq!(away(&vera, "/views/web?owner=olga"), 403);
    assert_eq!(away(&lab.token, "/views/mine?owner=vera"), 404);
    assert_eq!(away(&lab.token, "/views/web?owner=olga"), 204);
    assert_eq!(away(&vera, "/views/mine"), 204);
    assert_eq!(away(&vera, "/views/mine"), 404);
    assert_eq!(seen(&lab, &vera), []);
}

#[test]
fn a_view_is_saved_on_the_page_of_hosts_and_leads_back_to_the_same_list() {
    let lab = Lab::furnished();
    let _web = lab.host("web-1", "broad");
    let vera = log_in_as(&lab, &lab.add("vera", &[Role::Viewer]));
    let shown = page(&lab, "/hosts?state=&label=ring%3Dbroad&limit=50", &vera).text();
    let query = "value=\"label=ring%3Dbroad\"";
    assert!(shown.contains(query) && shown.contains("Save this view"), "{shown}");
    assert!(!shown.contains("for everybody"), "a viewer shares none");
    let headers = [HERE, ("cookie", vera.as_str())];
    let body = "name=Broad+ones&query=label%3Dring%253Dbroad";
    let saved = form(&lab, "/views", &headers, body);
    assert_eq!(saved.header("location").as_deref(), Some("/hosts?label=ring%3Dbroad"));
    let shown = page(&lab, "/hosts?label=ring%3Dbroad", &vera).text();
    assert!(shown.contains("web-1") && !shown.contains("Save this view"), "{shown}");
    assert!(shown.contains("aria-current=\"true\">Broad ones"), "{shown}");
    let settings = page(&lab, "/settings", &vera).text();
    assert!(settings.contains("Broad ones") && settings.contains("label=ring%3Dbroad"));
    let gone = form(&lab, "/views/remove", &headers, "name=Broad+ones&owner=vera");
    assert_eq!(gone.status, 303, "{}", gone.text());
    assert!(!page(&lab, "/hosts", &vera).text().contains("Broad ones"));
}

#[test]
fn what_is_no_list_of_hosts_is_not_saved_and_nobody_saves_without_end() {
    let lab = Lab::furnished();
    let vera = lab.add("vera", &[Role::Viewer]);
    let odd = [("", 422), ("colour=red", 422), ("state=blue", 400), ("sort=colour", 400)];
    for (query, status) in odd {
        let answer = save(&lab, &vera, "odd", query, false);
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
    }
    for n in 0..100 {
        assert_eq!(save(&lab, &vera, &format!("v{n}"), "q=a", false).status, 200);
    }
    let full = save(&lab, &vera, "one-more", "q=a", false);
    assert_eq!(full.status, 409, "{}", full.text());
    assert_eq!(save(&lab, &vera, "v7", "q=b", false).status, 200, "in place of one is no more");
}

#[test]
fn an_auditor_reads_ledger_and_evidence_which_a_viewer_does_not_and_changes_nothing() {
    let lab = Lab::furnished();
    let vera = lab.add("vera", &[Role::Viewer]);
    let arno = lab.add("arno", &[Role::Auditor]);
    for path in ["/ledger", "/ledger/verify", "/evidence"] {
        let status = |token: &str| lab.call_as(token, "x", "GET", path, b"").status;
        assert_eq!((status(&vera), status(&arno)), (403, 200), "{path}");
    }
    let of = |token: &str| page(&lab, "/", &log_in_as(&lab, token)).text();
    assert!(!of(&vera).contains("href=\"/ledger\"") && of(&arno).contains("href=\"/ledger\""));
    let policy = lab.call_as(&arno, "x", "POST", "/policies", crate::fleet::POLICY.as_bytes());
    assert_eq!(policy.status, 403);
}

#[test]
fn a_problem_leads_to_the_page_of_its_code_which_everybody_may_read() {
    let lab = Lab::start();
    let answer = lab.call("GET", "/hosts/nobody", b"");
    let problem: ApiProblem = answer.json();
    assert_eq!(problem.about, "/errors/not-found");
    assert!(answer.text().contains("\"type\":\"/errors/not-found\""));
    let shown = page(&lab, &problem.about, "");
    assert_eq!(shown.status, 200);
    assert!(
        shown.text().contains("<code>not-found</code>") && shown.text().contains("What to do.")
    );
    assert!(page(&lab, "/errors", "").text().contains("href=\"/errors/role-needed\""));
    assert_eq!(page(&lab, "/errors/no-such-code", "").status, 404);
}
