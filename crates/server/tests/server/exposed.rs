//! The index of the fleet's exposure: kept in step with the store, written down beside it, and gone on with, whatever ends in
//! between.

use crate::fleet::{Agent, Lab, NEW, OLD, POLICY, TRACKER, inventory};
use fettle_core::Shared;
use fettle_core::inventory::Package;
use fettle_core::ledger::LedgerEntry;
use fettle_wire::api::Page;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

fn file(lab: &Lab) -> PathBuf {
    lab.data().join("exposure.index")
}

/// Lets the server end as a service does, and starts it again.
fn stop_and_start(lab: &mut Lab) {
    lab.running.take().unwrap().stop();
    lab.restart();
}

/// All findings of the fleet, in every word that the API has for them.
fn found(lab: &Lab) -> Vec<Value> {
    lab.get::<Page<Value>>("/findings?limit=1000").items
}

/// How often the ledger says that findings changed.
fn changes(lab: &Lab) -> usize {
    let all: Page<LedgerEntry> = lab.get("/ledger?limit=1000");
    let about = |kind: &str| kind == "host.findings" || kind == "finding.withdrawn";
    all.items.iter().filter(|entry| about(&entry.kind)).count()
}

/// Has everything judged anew from what the store has alone: nothing is another.
fn comes_to_the_same_from_the_store(lab: &mut Lab, words: &str) {
    let (was, told) = (found(lab), changes(lab));
    lab.kill();
    let _ = fs::remove_file(file(lab));
    lab.restart();
    lab.post_bytes("/policies", POLICY.replace("Web servers", words).as_bytes());
    assert_eq!(found(lab), was);
    assert_eq!(changes(lab), told, "nothing changed, and yet it is told");
}

fn with_zlib(agent: &mut Agent, lab: &Lab, version: &str) {
    let zlib = Package {
        name: "zlib1g".into(),
        architecture: "amd64".into(),
        version: version.into(),
        source: "zlib".into(),
        source_version: version.into(),
        healthy: true,
        module: String::new(),
    };
    let others = agent.inventory.packages.iter().filter(|p| p.name != "zlib1g").cloned();
    let all: Vec<Shared<Package>> = others.chain([zlib.into()]).collect();
    agent.inventory.packages = all.into();
    agent.checkin(lab);
}

/// A tracker that says this of zlib, too.
fn tracker_with(zlib: &str) -> String {
    let openssl = TRACKER.trim_end().strip_suffix('}').unwrap();
    format!(
        "{openssl}, \"zlib\": {{\"CVE-2026-7\": {{\"releases\": {{\"bookworm\": {{{zlib}}}}}}}}}}}"
    )
}

/// State of each finding, by vulnerability.
fn states(lab: &Lab) -> Vec<(String, String)> {
    let word = |f: &Value, key: &str| f[key].as_str().unwrap().to_owned();
    let mut all: Vec<_> = found(lab).iter().map(|f| (word(f, "id"), word(f, "state"))).collect();
    all.sort();
    all
}

fn stand(no_fix: &str, fixable: &str) -> Vec<(String, String)> {
    let of = |id: &str, state: &str| (id.to_owned(), state.to_owned());
    vec![of("CVE-2024-0001", no_fix), of("CVE-2024-5535", fixable)]
}

#[test]
fn the_index_is_written_when_the_server_ends_and_the_next_one_goes_on_with_it() {
    let mut lab = Lab::furnished();
    let mut one = lab.host("web-1", "canary");
    let _other = lab.host("web-2", "broad");
    with_zlib(&mut one, &lab, "1:1.2.13-1");
    assert!(!found(&lab).is_empty());
    stop_and_start(&mut lab);
    let written = fs::read(file(&lab)).unwrap();
    assert!(written.starts_with(b"FTLINDX"), "{} bytes", written.len());

    // What changes next is told by what was gone on with, and comes to what the store alone does.
    let fixed = "\"status\":\"resolved\",\"fixed_version\":\"1:1.2.13-2\"";
    lab.post_bytes("/feeds/debian-tracker", tracker_with(fixed).as_bytes());
    let about_zlib = |lab: &Lab| found(lab).iter().filter(|f| f["id"] == "CVE-2026-7").count();
    assert_eq!(about_zlib(&lab), 1);
    with_zlib(&mut one, &lab, "1:1.2.13-2");
    let fixed: Vec<Value> = found(&lab).into_iter().filter(|f| f["id"] == "CVE-2026-7").collect();
    assert_eq!(fixed[0]["state"], "fixed", "{fixed:?}");
    comes_to_the_same_from_the_store(&mut lab, "The same");
}

#[test]
fn an_index_that_is_older_than_the_store_says_nothing_that_is_not_so() {
    let mut lab = Lab::furnished();
    let mut host = lab.host("web-1", "canary");
    stop_and_start(&mut lab);
    let old = fs::read(file(&lab)).unwrap();

    // Patched, and killed before anything of it is in the file.
    host.inventory = inventory(NEW);
    host.checkin(&lab);
    let patched = found(&lab);
    lab.kill();
    fs::write(file(&lab), &old).unwrap();
    lab.restart();
    assert_eq!(found(&lab), patched);

    // A feed that says something else meets the host as it is, not as the file has it.
    let never = TRACKER.replace("\"low\"", "\"high\"");
    lab.post_bytes("/feeds/debian-tracker", never.as_bytes());
    assert_eq!(states(&lab), stand("no-fix-yet", "fixed"));
    comes_to_the_same_from_the_store(&mut lab, "The same");

    // And the old one again, after a server that ended well.
    stop_and_start(&mut lab);
    lab.kill();
    fs::write(file(&lab), &old).unwrap();
    lab.restart();
    host.inventory = inventory(OLD);
    host.checkin(&lab);
    assert_eq!(states(&lab), stand("no-fix-yet", "open"));
    comes_to_the_same_from_the_store(&mut lab, "Once more");
}

#[test]
fn an_index_that_is_damaged_is_dropped_and_made_again() {
    let mut lab = Lab::furnished();
    let mut host = lab.host("web-1", "canary");
    stop_and_start(&mut lab);
    let whole = fs::read(file(&lab)).unwrap();
    let was = found(&lab);
    for damaged in [Vec::new(), whole[..whole.len() / 2].to_vec(), b"something else".to_vec(), {
        let mut one = whole.clone();
        one[whole.len() / 2] ^= 1;
        one
    }] {
        lab.kill();
        fs::write(file(&lab), damaged).unwrap();
        lab.restart();
        assert_eq!(found(&lab), was);
    }
    host.inventory = inventory(NEW);
    host.checkin(&lab);
    stop_and_start(&mut lab);
    assert!(fs::read(file(&lab)).unwrap().starts_with(b"FTLINDX"));
    comes_to_the_same_from_the_store(&mut lab, "The same");
}

#[test]
fn another_policy_rates_findings_that_nothing_else_touched() {
    let mut lab = Lab::furnished();
    let mut host = lab.host("web-1", "canary");
    let classes = |lab: &Lab| {
        let all = found(lab);
        all.iter().map(|f| f["class"].clone()).collect::<Vec<Value>>()
    };
    let by_web = classes(&lab);
    // It selects nobody any more: nothing is owed by it.
    let nobody = POLICY.replace("select = \"all\"", "select = \"env=none\"");
    assert_ne!(nobody, POLICY);
    lab.post_bytes("/policies", nobody.as_bytes());
    assert_ne!(classes(&lab), by_web);
    lab.post_bytes("/policies", POLICY.as_bytes());
    assert_eq!(classes(&lab), by_web);
    // A report that says something of another package leaves them as they are.
    with_zlib(&mut host, &lab, "1");
    assert_eq!(classes(&lab), by_web);
    comes_to_the_same_from_the_store(&mut lab, "The same");
}
