//! What the ledger says of some kind of thing.

use crate::fleet::Lab;
use fettle_core::ledger::LedgerEntry;
use fettle_wire::api::Page;

/// Kind, subject and actor of the entries whose kind begins so.
pub(crate) fn kinds(lab: &Lab, beginnings: &[&str]) -> Vec<(String, String, String)> {
    let page: Page<LedgerEntry> = lab.get("/ledger?limit=10000");
    let wanted = |kind: &str| beginnings.iter().any(|it| kind.starts_with(it));
    let all = page.items.into_iter().filter(|entry| wanted(&entry.kind));
    all.map(|entry| (entry.kind, entry.subject, entry.actor)).collect()
}
