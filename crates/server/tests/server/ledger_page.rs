//! What the ledger's page says of the chain, and who finds what was changed behind the server's back.

use crate::fleet::{Lab, POLICY};
use crate::site::{log_in_as, page};
use fettle_wire::api::LedgerVerified;

fn number_after(text: &str, before: &str) -> u64 {
    let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("no `{before}`: {text}"));
    let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    digits.replace(',', "").parse().unwrap()
}

fn behind_its_back(lab: &Lab, sql: &str) {
    let raw = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    raw.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    assert_eq!(raw.execute(sql, []).unwrap(), 1);
}

#[test]
fn a_look_verifies_what_is_new_and_a_look_through_the_whole_finds_an_old_entry_that_was_changed() {
    let lab = Lab::start();
    let cookie = log_in_as(&lab, &lab.token);
    let shown = || page(&lab, "/ledger", &cookie).text().to_owned();
    let first = shown();
    assert!(first.contains("The chain holds"), "{first}");
    let whole = number_after(&first, "up to entry ");
    let entries = |text: &str| number_after(text, "<h2>The chain holds</h2><p>");
    assert_eq!(entries(&first), whole);
    lab.post_bytes("/policies", POLICY.as_bytes());
    let second = shown();
    assert!(entries(&second) > whole, "what came since is verified: {second}");
    assert_eq!(number_after(&second, "up to entry "), whole, "by itself: {second}");
    // The same page reads an old entry no more; whoever reads them all finds it, and then the page knows.
    behind_its_back(&lab, "UPDATE ledger SET actor = 'operator:mallory' WHERE idx = 1");
    assert!(shown().contains("The chain holds"), "it said up to where the whole was verified");
    let found: LedgerVerified = lab.get("/ledger/verify");
    assert!(found.broken.unwrap().contains("entry 1 was changed"));
    let told = shown();
    assert!(told.contains("does not hold together") && told.contains("entry 1 was"), "{told}");
}

#[test]
fn what_was_changed_or_cut_off_at_the_end_is_found_by_the_next_look() {
    for (sql, says) in [
        ("UPDATE ledger SET body = '{}' WHERE idx = (SELECT max(idx) FROM ledger)", "was changed"),
        ("DELETE FROM ledger WHERE idx = (SELECT max(idx) FROM ledger)", "was there and is gone"),
    ] {
        let lab = Lab::start();
        let cookie = log_in_as(&lab, &lab.token);
        let shown = || page(&lab, "/ledger", &cookie).text().to_owned();
        lab.post_bytes("/policies", POLICY.as_bytes());
        assert!(shown().contains("The chain holds"));
        behind_its_back(&lab, sql);
        let told = shown();
        assert!(told.contains("does not hold together") && told.contains(says), "{told}");
    }
}
