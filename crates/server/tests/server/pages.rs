//! What single pages say, beside what the lists and the journeys go through.

use crate::fleet::{CVE, Lab, NEW, OLD, POLICY, finished, rollout, start, until};
use crate::site::{log_in_as, page};
use fettle_core::operator::Role;
use fettle_wire::api::Overview;

fn viewer(lab: &Lab) -> String {
    log_in_as(lab, &lab.add("vera", &[Role::Viewer]))
}

#[test]
fn a_hosts_page_says_what_would_be_done_next_and_what_is_left_out_and_why() {
    let lab = Lab::furnished();
    let mut agent = lab.host("web-1", "canary");
    agent.checkin(&lab);
    let cookie = viewer(&lab);
    let shown = page(&lab, "/hosts/web-1", &cookie).text();
    for words in ["What would be done next", "would change", "at any time", NEW, OLD] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let held = format!(
        "{POLICY}\n[[exclude]]\npackage = \"*\"\nreason = \"frozen for the audit\"\nowner = \"carol\"\nuntil = 2099-01-01\n"
    );
    lab.post_bytes("/policies", held.as_bytes());
    let shown = page(&lab, "/hosts/web-1", &cookie).text();
    for words in ["would change nothing", "frozen for the audit", "href=\"/errors/excluded\""] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    // What was done is told with versions before and after, once it is done.
    lab.post_bytes("/policies", POLICY.as_bytes());
    start(&lab);
    finished(&lab, std::slice::from_mut(&mut agent));
    let shown = page(&lab, "/hosts/web-1", &cookie).text();
    assert!(shown.contains("Packages before and after"), "{shown}");
}

#[test]
fn all_packages_of_a_host_are_searched_and_shown_in_parts() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let cookie = viewer(&lab);
    let shown = |query: &str| page(&lab, &format!("/hosts/web-1/packages{query}"), &cookie).text();
    let rows = |text: &str| text.matches("<a class=\"pkg\"").count();
    let all = rows(&shown(""));
    assert!(all > 1, "{}", shown(""));
    let ssl = shown("?q=SSL3");
    assert!(ssl.contains("libssl3") && ssl.contains(OLD) && ssl.contains(NEW), "{ssl}");
    assert!(rows(&ssl) < all);
    assert_eq!(rows(&shown("?limit=1&offset=1")), 1);
    assert!(shown("?q=emacs").contains("No package of the host matches"));
    assert_eq!(page(&lab, "/hosts/nobody/packages", &cookie).status, 404);
    let host = page(&lab, "/hosts/web-1", &cookie).text();
    assert!(host.contains("href=\"/hosts/web-1/packages\""), "{host}");
}

#[test]
fn a_policys_page_has_its_rings_windows_and_versions_and_two_of_these_are_compared() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let next = POLICY.replace("7d", "30d")
        + "[[window]]\nstart = \"22:00\"\nduration = \"4h\"\ntime-zone = \"Europe/Berlin\"\n";
    lab.post_bytes("/policies", next.as_bytes());
    let cookie = viewer(&lab);
    let shown = page(&lab, "/policies/web", &cookie).text();
    for words in [
        "href=\"/hosts?policy=web&amp;ring=canary\"",
        "href=\"/hosts?policy=web&amp;ring=broad\"",
        "22:00–24:00",
        "Times of <b>Europe/Berlin</b>",
        "href=\"/policies/web/diff/1/2\"",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let shown = page(&lab, "/policies/web/diff/1/2", &cookie).text();
    for words in
        ["class all.deadline", "30d", "<del>- deadline = &quot;7d&quot;", "<ins>+ [[window]]"]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert_eq!(page(&lab, "/policies/web/diff/1/9", &cookie).status, 404);
    assert_eq!(page(&lab, "/policies/web/diff/1/x", &cookie).status, 400);
}

#[test]
fn the_ledger_is_searched_and_the_search_goes_on_further_back() {
    let lab = Lab::furnished();
    let cookie = log_in_as(&lab, &lab.add("arno", &[Role::Auditor]));
    let shown = page(&lab, "/ledger?q=POLICY.applied", &cookie).text();
    assert_eq!(shown.matches("<td class=\"ver\"").count(), 1, "{shown}");
    assert!(shown.contains(">policy.applied</a>") && !shown.contains(">feed.imported</a>"));
    assert!(!shown.contains("The chain holds"), "a search verifies nothing, and does not say so");
    // Each rotation of a policy is an entry: more than fit on a page.
    for n in 0..101 {
        let text = POLICY.replace("Web servers", &format!("Web servers {n}"));
        lab.post_bytes("/policies", text.as_bytes());
    }
    let shown = page(&lab, "/ledger?q=policy.applied", &cookie).text();
    let before = shown.split("q=policy.applied&amp;before=").nth(1).expect("there is more");
    let before = before.split('"').next().unwrap();
    let shown = page(&lab, &format!("/ledger?q=policy.applied&before={before}"), &cookie).text();
    assert_eq!(shown.matches("<td class=\"ver\"").count(), 2, "{shown}");
    assert!(shown.contains("← Newer") && !shown.contains("Search further back"), "{shown}");
    let shown = page(&lab, "/ledger?q=%25", &cookie).text();
    assert!(shown.contains("No entry that was looked at"), "a sign of SQL is a sign: {shown}");
}

#[test]
fn the_overview_shows_exposure_over_time_as_soon_as_somebody_has_looked() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let overview = until("the count", || {
        Some(lab.get::<Overview>("/overview")).filter(|it| !it.trend.is_empty())
    });
    let last = overview.trend.last().unwrap();
    let open: u64 =
        overview.findings_by_state.iter().filter(|(s, _)| *s != "fixed").map(|(_, n)| n).sum();
    assert_eq!(last.open.values().sum::<u64>(), open, "{last:?}");
    let shown = page(&lab, "/", &viewer(&lab)).text();
    assert!(shown.contains("svg class=\"columns\""), "{shown}");
    assert!(shown.contains("href=\"/cves?fixable=true&amp;class=all\""), "{shown}");
}

#[test]
fn a_wall_screen_shows_the_rollout_under_way_without_anything_to_fill_in() {
    let lab = Lab::furnished();
    let mut agent = lab.host("web-1", "canary");
    start(&lab);
    until("it is at work", || {
        agent.checkin(&lab);
        agent.at_work()
    });
    let shown = page(&lab, "/wall", &viewer(&lab)).text();
    for words in ["html lang=\"en\" class=\"wall\"", "href=\"/rollouts/ro-1\"", "web-1", "Exposed?"]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("<form"), "{shown}");
    assert!(shown.contains(&format!("href=\"/rollouts/{}\"", rollout(&lab).row.id)));
}

#[test]
fn a_large_rollout_is_counted_on_its_page_and_only_some_of_its_hosts_are_shown() {
    let lab = Lab::furnished();
    let mut canary = lab.host("canary-1", "canary");
    let others: Vec<_> = (0..90).map(|n| lab.host(&format!("web-{n:02}"), "broad")).collect();
    start(&lab);
    let cookie = viewer(&lab);
    let shown = || page(&lab, "/rollouts/ro-1", &cookie).text();
    let cells = |text: &str| text.matches("<li class=\"cell").count();
    let text = shown();
    assert!(text.contains("0 of 90 hosts ended") && text.contains("90 pending"), "{text}");
    assert!(text.contains("other") && (10..60).contains(&cells(&text)), "{}", cells(&text));
    // Whoever goes wrong is among those shown, by name, wherever it stands.
    until("the canary's end", || {
        canary.checkin(&lab);
        canary.work(&lab, false);
        Some(()).filter(|()| rollout(&lab).row.hosts_by_state.get("undone") == Some(&1))
    });
    let text = shown();
    assert!(
        text.contains("canary-1") && text.contains("nginx.service did not come back"),
        "{text}"
    );
    assert!(text.contains("plan 1, 91 hosts in 2 waves"), "{text}");
    // The API leaves nobody out.
    assert_eq!(rollout(&lab).hosts.len(), others.len() + 1);
    assert_eq!(rollout(&lab).lanes[1].hosts_by_state.get("pending"), Some(&90));
    assert!(page(&lab, &format!("/cves/{CVE}"), &cookie).text().contains("web-00"));
}
