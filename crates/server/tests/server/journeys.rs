//! What people come for, done by a real browser on a real server: clicks and keys, and what is to be read afterwards.

use crate::browser::{Browser, journey, kept_file};
use crate::fleet::{Agent, CVE, Lab, POLICY, TRACKER, until};
use fettle_core::operator::Role;
use fettle_core::rollout::Phase;
use fettle_server::evidence::verify::verify;
use fettle_wire::api::{EvidenceKey, MakePlan, PlanDetail, RolloutDetail, StartRollout};

fn site(lab: &Lab) -> String {
    format!("http://{}", lab.operator)
}

fn fleet(policy: &str) -> (Lab, Vec<Agent>) {
    let lab = Lab::start();
    lab.post_bytes("/feeds/debian-tracker", TRACKER.as_bytes());
    lab.post_bytes("/policies", policy.as_bytes());
    let agents = vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    (lab, agents)
}

/// The hosts speak until the rollout is as it should be; nobody looks at a page meanwhile.
fn at_work(
    lab: &Lab,
    agents: &mut [Agent],
    good: bool,
    what: &str,
    done: impl Fn(&RolloutDetail) -> bool,
) {
    until(what, || {
        for agent in agents.iter_mut() {
            agent.checkin(lab);
            agent.work(lab, good);
        }
        let it: RolloutDetail = lab.get("/rollouts/ro-1");
        done(&it).then_some(())
    });
}

#[test]
fn first_set_up_from_the_token_file_to_the_first_host_that_appears_by_itself() {
    journey(set_up);
}

fn set_up(browser: &mut Browser) {
    let lab = Lab::start();
    browser.go(&site(&lab));
    assert_eq!(browser.path(), "/login");
    browser.see("cat /var/lib/fettle/operator.token");
    browser.fill("#token", "something else");
    browser.click("button", "Log in with the token");
    browser.see("Not let in");
    let token = std::fs::read_to_string(lab.data().join("operator.token")).unwrap();
    browser.fill("#token", token.trim());
    browser.click("button", "Log in with the token");
    browser.see("Log out");
    // Nothing is there yet, and each page says what to do first.
    browser.click("nav a", "Feeds");
    browser.see("fettle feed import --bundled");
    browser.click("nav a", "Hosts");
    browser.see("No host has joined yet");
    browser.see("fettle token create");
    // A host joins: the page shows it without being asked.
    lab.post_bytes("/feeds/debian-tracker", TRACKER.as_bytes());
    lab.post_bytes("/policies", POLICY.as_bytes());
    let _host = lab.host("web-1", "broad");
    browser.see("web-1");
    assert_eq!(browser.path(), "/hosts");
    // Whoever has logged out is out.
    browser.click("button", "Log out");
    browser.see("Your token");
    browser.go(&format!("{}/hosts", site(&lab)));
    assert_eq!(browser.path(), "/login");
}

#[test]
fn a_page_that_was_cut_off_shows_what_happened_meanwhile_as_soon_as_it_can() {
    journey(cut_off);
}

fn cut_off(browser: &mut Browser) {
    let lab = Lab::start();
    lab.post_bytes("/feeds/debian-tracker", TRACKER.as_bytes());
    lab.post_bytes("/policies", POLICY.as_bytes());
    browser.log_in(&site(&lab), &lab.add("vera", &[Role::Viewer]));
    browser.click("nav a", "Hosts");
    browser.arrive("/hosts");
    browser.see("UTClive");
    browser.connected(false);
    let _host = lab.host("web-1", "broad");
    browser.see("not connected");
    browser.good_for_everybody();
    assert!(!browser.text().contains("web-1"));
    browser.connected(true);
    browser.see("web-1");
    browser.see("UTClive");
}

#[test]
fn a_cve_is_found_from_the_box_and_leads_to_who_is_exposed() {
    journey(find);
}

fn find(browser: &mut Browser) {
    let (lab, _agents) = fleet(POLICY);
    browser.log_in(&site(&lab), &lab.add("vera", &[Role::Viewer]));
    // Its script runs: keys are heard.
    browser.see("live");
    browser.press("/", "/");
    assert_eq!(browser.eval("document.activeElement.id"), "q");
    browser.fill("#q", CVE);
    browser.press("Enter", "\r");
    browser.arrive(&format!("/cves/{CVE}"));
    browser.see("canary-1");
    browser.see("web-1");
    browser.click("main a", "web-1");
    browser.see("openssl");
    // The way back to all whom it concerns, narrowed down to a ring and kept for later.
    browser.go(&format!("{}/hosts?cve={CVE}&label=ring%3Dcanary", site(&lab)));
    browser.see("canary-1");
    assert!(!browser.text().contains("web-1"));
    browser.fill("input[name=name]", "Exposed canaries");
    browser.click("button", "Save");
    browser.see("Saved views");
    browser.click("nav a", "Hosts");
    browser.arrive("/hosts");
    browser.see("web-1");
    browser.click("a.chip", "Exposed canaries");
    until("the narrowed list", || (!browser.text().contains("web-1")).then_some(()));
    browser.see("canary-1");
}

#[test]
fn what_is_typed_is_answered_below_the_box_and_keys_lead_everywhere() {
    journey(keys);
}

fn keys(browser: &mut Browser) {
    let (lab, _agents) = fleet(POLICY);
    browser.log_in(&site(&lab), &lab.add("vera", &[Role::Viewer]));
    browser.see("live");
    browser.press("/", "/");
    browser.fill("#q", "canary");
    // Nothing was sent, and what is called so stands below.
    let offered = "[...document.querySelectorAll('#hits .found a')].map(a => a.innerText).join()";
    until("what is called so", || Some(()).filter(|()| browser.eval(offered) == "canary-1"));
    browser.good_for_everybody();
    assert_eq!(browser.path(), "/");
    browser.press("ArrowDown", "");
    assert_eq!(browser.eval("document.activeElement.innerText"), "canary-1");
    browser.press("ArrowUp", "");
    assert_eq!(browser.eval("document.activeElement.id"), "q");
    browser.press("Escape", "");
    assert_eq!(browser.eval("document.querySelector('#hits')"), serde_json::Value::Null);
    browser.fill("#q", "-1");
    browser.press("Enter", "\r");
    browser.arrive("/hosts/canary-1");
    // A place, a row of its list, and what it leads to.
    browser.see("live");
    browser.press("g", "g");
    browser.press("h", "h");
    browser.arrive("/hosts");
    browser.see("live");
    browser.press("j", "j");
    browser.press("j", "j");
    browser.press("k", "k");
    browser.press("j", "j");
    let row = browser.eval("document.activeElement.innerText");
    assert_eq!(row, "web-1", "the second row");
    browser.press("?", "?");
    browser.arrive("/settings");
    browser.see("Keys");
    // Where somebody writes, letters are letters.
    browser.press("/", "/");
    browser.fill("#q", "g");
    browser.press("h", "h");
    assert_eq!(browser.path(), "/settings");
}

#[test]
fn a_plan_is_approved_by_somebody_else_and_a_wave_begins_at_their_word() {
    journey(approve);
}

fn approve(browser: &mut Browser) {
    let policy = POLICY
        .replacen(
            "select = \"all\"\ndescription",
            "select = \"all\"\napprovals = 1\ndescription",
            1,
        )
        .replacen("[gate]\n", "[gate]\napproval = \"before:broad\"\n", 1);
    let (lab, mut agents) = fleet(&policy);
    let olga = lab.add("olga", &[Role::Operator]);
    let bob = lab.add("bob", &[Role::Approver]);
    browser.log_in(&site(&lab), &olga);
    browser.click("nav a", "Policies");
    browser.click("main a", "web");
    browser.click("button", "Make a plan");
    browser.see("Plan 1");
    browser.see("Approving needs the role approver");
    assert!(!browser.text().contains("Start the rollout"), "{}", browser.text());
    // Bob reads it and approves.
    browser.log_in(&site(&lab), &bob);
    browser.go(&format!("{}/plans/1", site(&lab)));
    browser.see("canary-1");
    browser.fill("#comment", "read it");
    browser.click("button", "Approve this plan");
    browser.see("Take back my approval");
    // Olga starts it.
    browser.log_in(&site(&lab), &olga);
    browser.go(&format!("{}/plans/1", site(&lab)));
    browser.click("button", "Start the rollout");
    browser.arrive("/rollouts/ro-1");
    browser.see("Wave 1");
    at_work(&lab, &mut agents, true, "the second wave", |it| {
        it.waiting.iter().any(|w| w.hold.code() == "wave-not-approved")
    });
    browser.see("wave-not-approved");
    assert!(!browser.text().contains("Let wave 2 begin"), "she started it");
    browser.log_in(&site(&lab), &bob);
    browser.go(&format!("{}/rollouts/ro-1", site(&lab)));
    browser.click("button", "Let wave 2 begin");
    at_work(&lab, &mut agents, true, "the end", |it| it.row.phase == Phase::Done);
    browser.go(&format!("{}/rollouts/ro-1", site(&lab)));
    browser.see("Done");
}

#[test]
fn a_rollout_goes_wrong_before_ones_eyes_and_what_was_patched_is_undone_by_a_click() {
    journey(undo);
}

fn undo(browser: &mut Browser) {
    let (lab, mut agents) = fleet(POLICY);
    let plan: PlanDetail = lab.post("/plans", &MakePlan { policy: "web".into(), hosts: vec![] });
    let _: RolloutDetail =
        lab.post("/rollouts", &StartRollout { plan: plan.number, digest: Some(plan.digest) });
    browser.log_in(&site(&lab), &lab.add("olga", &[Role::Operator]));
    browser.click("nav a", "Rollouts");
    browser.arrive("/rollouts");
    browser.click("main a", "ro-1");
    browser.arrive("/rollouts/ro-1");
    // The canary takes it, the next host does not: the page follows, nobody reloads it.
    let (canary, web) = agents.split_at_mut(1);
    at_work(&lab, canary, true, "the canary", |it| {
        it.row.hosts_by_state.get("patched") == Some(&1)
    });
    browser.see("1 patched");
    at_work(&lab, web, false, "the halt", |it| matches!(it.row.phase, Phase::Halted { .. }));
    browser.see("Halted");
    browser.see("nginx.service did not come back");
    browser.click("summary", "Undo 1 patched host");
    browser.fill("#do-undo input[name=reason]", "it breaks nginx");
    browser.click("#do-undo button", "Undo");
    browser.see("it breaks nginx");
    at_work(&lab, canary, true, "the undo", |it| it.row.hosts_by_state.get("undone") == Some(&2));
    browser.see("2 undone");
}

#[test]
fn an_auditor_takes_evidence_along_that_holds_without_the_server() {
    journey(audit);
}

fn audit(browser: &mut Browser) {
    let (lab, mut agents) = fleet(POLICY);
    crate::fleet::start(&lab);
    crate::fleet::finished(&lab, &mut agents);
    browser.log_in(&site(&lab), &lab.add("arno", &[Role::Auditor]));
    browser.click("nav a", "Ledger");
    browser.see("The chain holds");
    let kept = browser.keep_files();
    browser.click("button", "Export the evidence");
    let pack = std::fs::read(kept_file(&kept)).unwrap();
    let key: EvidenceKey = lab.get("/evidence/key");
    browser.see(&key.key);
    drop(lab);
    let verified = verify(pack.as_slice(), &key.key).unwrap();
    assert_eq!((verified.rollouts, verified.transactions), (1, 2));
}

#[test]
fn a_viewer_sees_everything_of_the_fleet_and_is_refused_whatever_would_change_it() {
    journey(look);
}

fn look(browser: &mut Browser) {
    let (lab, _agents) = fleet(POLICY);
    let plan = crate::fleet::plan(&lab);
    browser.log_in(&site(&lab), &lab.add("vera", &[Role::Viewer]));
    let url = |path: &str| format!("{}{path}", site(&lab));
    for path in ["/hosts", "/cves", "/plans/1", "/policies/web", "/reports", "/feeds", "/settings"]
    {
        browser.go(&url(path));
        browser.see("Log out");
        let buttons = browser.eval(
            "[...document.querySelectorAll('main form[method=post] button')].map(b => b.innerText).join()",
        );
        assert_eq!(buttons, "", "{path} offers her nothing that she may not do");
    }
    // A form that she writes herself is refused as well, with what it needs.
    let script = format!(
        "(() => {{ const f = document.createElement('form'); f.method = 'post'; f.action = '/rollouts';
           for (const [k, v] of [['plan', '1'], ['digest', '{}']]) {{
             const i = document.createElement('input'); i.name = k; i.value = v; f.append(i); }}
           document.body.append(f); f.submit(); }})()",
        plan.digest
    );
    browser.eval(&script);
    browser.see("Not allowed");
    browser.see("this needs the role operator");
    browser.click("main a", "role-needed");
    browser.arrive("/errors/role-needed");
    browser.see("What to do.");
    browser.go(&url("/ledger"));
    browser.see("Not allowed");
}
