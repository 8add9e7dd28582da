//! Summaries of inventories: what is in memory of every host, and the likeness that stands for what plans look at.

use super::{hosts, settings};
use crate::view::{int, to_json};
use crate::{Store, StoreError};
use fettle_core::inventory::Inventory;
use fettle_core::plan::Seen;
use fettle_core::policy::{facts, tags};
use fettle_core::{HostId, Timestamp};
use rusqlite::params;

/// The inventory without its long lists. The packages are known by the host's cohort.
pub(super) fn of(inventory: &Inventory) -> Inventory {
    Inventory {
        schema: inventory.schema,
        os: inventory.os.clone(),
        architecture: inventory.architecture.clone(),
        kernel: inventory.kernel.clone(),
        boot_id: inventory.boot_id.clone(),
        reboot_needed: inventory.reboot_needed.clone(),
        gaps: inventory.gaps.clone(),
        filesystems: inventory.filesystems.clone(),
        services: tags::shown_by(inventory).cloned().collect(),
        listeners: facts::reachable(inventory),
        ..Inventory::default()
    }
}

/// How [`of`] makes summaries and [`Seen::of`] likenesses; a greater number has them made anew.
const MADE_BY: &str = "3";
const KEY: &str = "host-summaries";
/// So many are made anew in one go.
const AT_ONCE: u64 = 200;

/// Makes the summaries and likenesses of hosts anew that a server before this one made, some at a time: selectors go by them. `tell` is
/// called after each of these times; a large fleet takes minutes. Gives how many hosts there were. Killed at any point, it
/// begins again.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn renew(store: &Store, by: &str, now: Timestamp, tell: impl Fn()) -> Result<u64, StoreError> {
    let known = store.read::<_, StoreError>(|view| settings::get(view, KEY))?;
    if known.as_deref() == Some(MADE_BY) {
        return Ok(0);
    }
    let (mut last, mut renewed) = (String::new(), 0);
    loop {
        let some = store.write::<_, StoreError>(by, now, |tx| {
            let sql = "SELECT host FROM inventories WHERE host > $1 ORDER BY host LIMIT $2";
            let hosts: Vec<String> =
                tx.all(sql, params![last.as_str(), int(AT_ONCE)], |row| Ok(row.get(0)?))?;
            for host in hosts.iter().map(|id| HostId(id.clone())) {
                let Some(inventory) = hosts::inventory(tx, &host)? else { continue };
                let text = to_json("inventory summary", &of(&inventory))?;
                let likeness = Seen::of(inventory).likeness();
                tx.touch(&host);
                // What it says of the host stands in the ledger already.
                tx.execute_unrecorded(
                    "UPDATE hosts SET summary = $1, likeness = $2 WHERE id = $3",
                    params![text, likeness.to_string(), host.as_str()],
                )?;
            }
            Ok(hosts)
        })?;
        renewed += some.len() as u64;
        match some.last() {
            Some(id) => last.clone_from(id),
            None => break,
        }
        tell();
    }
    store.write::<_, StoreError>(by, now, |tx| settings::set(tx, KEY, MADE_BY))?;
    Ok(renewed)
}
