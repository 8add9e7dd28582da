//! Vendors' data over the API: OSV feeds beside the tracker, and changes too sudden to be believed.

use crate::fleet::{Lab, POLICY, TRACKER};
use fettle_wire::api::{FeedRow, FindingExplained, HostDetail, Page};
use serde_json::Value;
use std::fmt::Write as _;

const ALMA: &str = r#"{"id":"ALSA-2024:1","published":"2024-05-01T00:00:00Z","summary":"Important: openssl security update","related":["CVE-2024-1"],"affected":[{"package":{"ecosystem":"AlmaLinux:9","name":"openssl-libs"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1:3.0.7-27.el9"}]}]},{"package":{"ecosystem":"Debian:12","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}
"#;

fn names(page: &Page<FeedRow>) -> Vec<&str> {
    page.items.iter().map(|f| f.name.as_str()).collect()
}

#[test]
fn a_host_of_another_vendor_is_judged_by_its_own_feed_beside_the_tracker() {
    let mut lab = Lab::furnished();
    lab.host("web-1", "canary");
    let mut alma = lab.host("alma-1", "canary");
    let os = &mut alma.inventory.os;
    (os.id, os.version, os.codename) = ("almalinux".into(), "9.4".into(), String::new());
    let mut package = alma.inventory.packages[0].clone();
    (package.name, package.version) = ("openssl-libs".into(), "1:3.0.7-26.el9".into());
    alma.inventory.packages = vec![package].into();
    alma.inventory.upgrades.clear();
    alma.checkin(&lab);
    let found = |lab: &Lab, host: &str| {
        let detail: HostDetail = lab.get(&format!("/hosts/{host}"));
        detail.findings.into_iter().map(|f| f.finding.id).collect::<Vec<_>>()
    };
    assert_eq!(found(&lab, "alma-1"), [""; 0]);
    let shown = lab.get::<Page<FeedRow>>("/feeds");
    assert!(!names(&shown).contains(&"osv-almalinux"), "{shown:?}");

    let row: FeedRow =
        lab.post_bytes("/feeds/osv-almalinux?date=2026-11-20", ALMA.as_bytes()).json();
    // What it says of Debian is not its own to say: one error, and the tracker's word stands.
    assert_eq!((row.records, row.errors), (1, 1));
    assert_eq!(found(&lab, "alma-1"), ["CVE-2024-1"]);
    assert_eq!(found(&lab, "web-1").len(), 2);
    let told: FindingExplained = lab.get("/findings/alma-1/CVE-2024-1/openssl-libs");
    let told = format!("{told:?}");
    assert!(told.contains("OSV record ALSA-2024:1, as of 2026-11-20"), "{told}");

    lab.restart();
    assert_eq!(found(&lab, "alma-1"), ["CVE-2024-1"]);
    assert!(names(&lab.get("/feeds")).contains(&"osv-almalinux"));
}

#[test]
fn what_a_feed_changes_is_judged_anew_and_comes_to_what_judging_everything_does() {
    let mut lab = Lab::furnished();
    let _hosts = [lab.host("web-1", "canary"), lab.host("web-2", "broad")];
    let found = |lab: &Lab| lab.get::<Page<Value>>("/findings?limit=1000").items;
    let about = |lab: &Lab, id: &str| {
        let mut all = found(lab);
        all.retain(|finding| finding["id"] == id);
        assert_eq!(all.len(), 2, "{all:?}");
        all.swap_remove(0)
    };
    let open_before = about(&lab, "CVE-2024-0001");

    // A fix is named where there was none, and the other one is exploited now.
    let fixed = "\"status\": \"resolved\", \"fixed_version\": \"3.0.16-1\"";
    let tracker = TRACKER.replace("\"status\": \"open\"", fixed);
    assert_ne!(tracker, TRACKER);
    lab.post_bytes("/feeds/debian-tracker", tracker.as_bytes());
    assert_eq!(open_before["state"], "no-fix-yet", "{open_before}");
    assert_eq!(about(&lab, "CVE-2024-0001")["state"], "open");
    let kev = r#"{"count":1,"vulnerabilities":[{"cveID":"CVE-2024-5535","dateAdded":"2026-11-01","dueDate":"2026-11-22"}]}"#;
    lab.post_bytes("/feeds/kev", kev.as_bytes());
    assert!(about(&lab, "CVE-2024-5535")["ranking"]["kev"].is_object());
    assert!(about(&lab, "CVE-2024-0001")["ranking"]["kev"].is_null());

    // A policy in other words has everything judged anew: nothing of it is another, not even since when.
    let by_part = found(&lab);
    let everything = |lab: &Lab, words: &str| {
        lab.post_bytes("/policies", POLICY.replace("Web servers", words).as_bytes());
        assert_eq!(found(lab), by_part);
    };
    everything(&lab, "The same");
    lab.restart();
    everything(&lab, "Once more");

    // What is not vulnerable after all goes.
    let never = tracker.replace("3.0.16-1", "0");
    lab.post_bytes("/feeds/debian-tracker", never.as_bytes());
    let ids: Vec<Value> = found(&lab).iter().map(|finding| finding["id"].clone()).collect();
    assert_eq!(ids, ["CVE-2024-5535", "CVE-2024-5535"]);
}

#[test]
fn an_osv_feed_alone_is_enough_and_one_that_is_broken_changes_nothing() {
    let lab = Lab::start();
    let row: FeedRow = lab.post_bytes("/feeds/osv-almalinux", ALMA.as_bytes()).json();
    assert_eq!(row.records, 1);
    for bad in [&ALMA.as_bytes()[..200], b"", b"{}\n", TRACKER.as_bytes()] {
        let (status, problem) = lab.refused("POST", "/feeds/osv-almalinux", bad);
        assert_eq!((status, problem.code.as_str()), (422, "bad-feed"), "{problem:?}");
    }
    let (_, problem) = lab.refused("POST", "/feeds/osv-ubuntu", ALMA.as_bytes());
    assert!(problem.message.contains("does not speak for AlmaLinux"), "{problem:?}");
    let kept = lab.get::<Page<FeedRow>>("/feeds");
    let kept = kept.items.iter().find(|f| f.name == "osv-almalinux").unwrap();
    assert_eq!(kept.records, 1);
    assert!(kept.last_error.is_some());
}

/// A tracker with this many vulnerabilities, each with this word.
fn tracker(count: usize, word: &str) -> String {
    let mut text = String::from("{\"openssl\":{");
    for n in 0..count {
        let comma = if n == 0 { "" } else { "," };
        write!(text, "{comma}\"CVE-2024-{n}\":{{\"releases\":{{\"bookworm\":{{{word}}}}}}}")
            .unwrap();
    }
    text + "}}"
}

#[test]
fn a_feed_that_suddenly_says_something_else_is_held_until_a_person_says_so() {
    let fixed = |version: &str| {
        format!("\"status\":\"resolved\",\"urgency\":\"low\",\"fixed_version\":\"{version}\"")
    };
    let lab = Lab::start();
    let before = tracker(200, &fixed("3.0.15-1~deb12u1"));
    lab.post_bytes("/feeds/debian-tracker", before.as_bytes());
    for (why, sudden) in [
        ("feed-reworded", tracker(200, &fixed("9999"))),
        ("feed-reworded", tracker(200, &fixed("0"))),
        ("feed-reworded", tracker(200, "\"status\":\"open\",\"urgency\":\"low\"")),
        ("feed-shrunk", tracker(90, &fixed("3.0.15-1~deb12u1"))),
        ("feed-grew", tracker(900, &fixed("3.0.15-1~deb12u1"))),
    ] {
        let (status, problem) = lab.refused("POST", "/feeds/debian-tracker", sudden.as_bytes());
        assert_eq!((status, problem.code.as_str()), (422, why), "{problem:?}");
        assert!(problem.hint.contains("--force"), "{problem:?}");
        let rows: Page<FeedRow> = lab.get("/feeds");
        assert_eq!((rows.items[0].records, rows.items[0].last_error.is_some()), (200, true));
    }
    // Some news every day is what a feed is for.
    let news = before.replacen("3.0.15-1~deb12u1", "3.0.16-1~deb12u1", 20);
    lab.post_bytes("/feeds/debian-tracker", news.as_bytes());
    lab.post_bytes("/feeds/debian-tracker?force=true", tracker(200, &fixed("0")).as_bytes());
}

#[test]
fn what_clears_a_package_or_ranks_all_alike_is_held_and_named_and_force_takes_it() {
    let lab = Lab::start();
    let fixed = |version: &str, urgency: &str| {
        format!("\"status\":\"resolved\",\"urgency\":\"{urgency}\",\"fixed_version\":\"{version}\"")
    };
    // Twenty of openssl, among two hundred others.
    let tracker = |version: &str, urgency: &str| {
        let mut text = tracker(20, &fixed(version, urgency));
        text.truncate(text.len() - 1);
        let others = tracker(200, &fixed("1-1", urgency))
            .replace("openssl", "others")
            .replace("CVE-2024", "CVE-2023");
        format!("{text},{}", &others[1..])
    };
    lab.post_bytes("/feeds/debian-tracker", tracker("3.0.15-1", "low").as_bytes());
    let cvss = |vector: &str, score: &str| -> String {
        (0..100).fold(String::new(), |text, n| {
            text + &format!(
                "{{\"id\":\"CVE-2023-{n}\",\"issuer\":\"cna\",\"score\":{score},\"vector\":\"CVSS:3.1/{vector}\"}}\n"
            )
        })
    };
    let highest = cvss("AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", "10.0");
    let refused = |feed: &str, bytes: &str, code: &str, named: &str| {
        let (status, problem) = lab.refused("POST", &format!("/feeds/{feed}"), bytes.as_bytes());
        assert_eq!((status, problem.code.as_str()), (422, code), "{problem:?}");
        assert!(problem.message.contains(named), "{problem:?}");
        assert!(problem.hint.contains("--force"), "{problem:?}");
    };
    refused(
        "debian-tracker",
        &tracker("0", "low"),
        "feed-cleared",
        "openssl (20 of 20 statements)",
    );
    refused(
        "debian-tracker",
        &tracker("3.0.15-1", "high"),
        "feed-reranked",
        "raises the severity of 220 of 220",
    );
    refused(
        "debian-tracker",
        &tracker("3.0.15-1", "unimportant"),
        "feed-reranked",
        "lowers the severity",
    );
    // Of a feed that is new, too.
    refused("cvss", &highest, "feed-reranked", "100 of 100 vulnerabilities the highest CVSS score");
    lab.post_bytes("/feeds/cvss", cvss("AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:N/A:N", "5.5").as_bytes());
    refused("cvss", &highest, "feed-reranked", "raises the CVSS score of 100 of 100");
    // The same again is no news, and a person's word takes what was held.
    lab.post_bytes("/feeds/debian-tracker", tracker("3.0.15-1", "low").as_bytes());
    lab.post_bytes("/feeds/cvss?force=true", highest.as_bytes());
    lab.post_bytes("/feeds/debian-tracker?force=true", tracker("0", "low").as_bytes());
}

#[test]
fn a_feed_that_says_of_which_day_it_is_is_as_old_as_that() {
    let lab = Lab::start();
    let dated = |name: &str| {
        let rows: Page<FeedRow> = lab.get("/feeds");
        rows.items.into_iter().find(|f| f.name == name).unwrap().date
    };
    let kev = r#"{"dateReleased":"2026-08-07T16:45:47.0648Z","vulnerabilities":[
        {"cveID":"CVE-2024-1","dateAdded":"2024-01-01","dueDate":"2024-02-01"}]}"#;
    lab.post_bytes("/feeds/kev", kev.as_bytes());
    assert_eq!(dated("kev"), "2026-08-07");
    lab.post_bytes("/feeds/kev?date=2026-08-09", kev.as_bytes());
    assert_eq!(dated("kev"), "2026-08-09");
    let epss = "#model_version:v1,score_date:2026-08-16T00:00:00+0000\ncve,epss,percentile\nCVE-2024-1,0.1,0.1\n";
    lab.post_bytes("/feeds/epss", epss.as_bytes());
    assert_eq!(dated("epss"), "2026-08-16");
}
