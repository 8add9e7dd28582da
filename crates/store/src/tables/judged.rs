//! Which judgement the findings of each host are of.

use crate::view::to_digest;
use crate::{StoreError, Tx, View};
use fettle_core::{Digest, HostId};
use rusqlite::{Row, params};

/// What a host's findings were judged from, and which judgement they are of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Digest of the inventory. `None`: it has not reported.
    pub inventory: Option<Digest>,
    /// Number of the judgement. `None`: nothing was ever found.
    pub judged: Option<i64>,
}

fn read(row: &Row<'_>, at: usize) -> Result<Standing, StoreError> {
    let inventory = row.get::<_, Option<String>>(at)?;
    let inventory = inventory.map(|text| to_digest("host", &text)).transpose()?;
    Ok(Standing { inventory, judged: row.get(at + 1)? })
}

/// How a host's findings stand. `None`: there is no such host.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of_host(view: &View<'_>, id: &HostId) -> Result<Option<Standing>, StoreError> {
    let sql = "SELECT inventory_digest, judged FROM hosts WHERE id = $1";
    view.one(sql, [id.as_str()], |row| read(row, 0))
}

/// How the findings of all hosts stand, by name of the host.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of_all(view: &View<'_>) -> Result<Vec<(HostId, Standing)>, StoreError> {
    let sql = "SELECT id, inventory_digest, judged FROM hosts ORDER BY name";
    view.all(sql, [], |row| Ok((HostId(row.get(0)?), read(row, 1)?)))
}

/// Says that the findings of a host are none that anybody knows: whoever does reads them again.
///
/// # Errors
/// [`StoreError`] of the database.
pub(crate) fn unknown(tx: &mut Tx<'_>, id: &HostId) -> Result<(), StoreError> {
    tx.execute_unrecorded("UPDATE hosts SET judged = random() WHERE id = $1", [id.as_str()])?;
    Ok(())
}

/// Names the judgement that a host's findings are of from now on: a number that no other has.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn set(tx: &mut Tx<'_>, id: &HostId, judged: i64) -> Result<(), StoreError> {
    let sql = "UPDATE hosts SET judged = $1 WHERE id = $2";
    tx.execute_unrecorded(sql, params![judged, id.as_str()])?;
    Ok(())
}
