//! Hosts, their labels and inventories.

use super::summaries;
use crate::cohorts::Packages;
use crate::view::{from_json, from_micros, int, micros, to_digest, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::assignment::LAST_GENERATION;
use fettle_core::host::{Host, Labels, Listed, Quarantine};
use fettle_core::inventory::{Filesystem, Inventory, Service};
use fettle_core::language::Ecosystem;
use fettle_core::plan::Seen;
use fettle_core::{Digest, HostId, Timestamp};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rusqlite::{Row, params};
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::sync::Arc;

/// A host as its row has it. `host.inventory` is the summary: no upgrades, of services and sockets those that selectors
/// ask for, and the packages, shared by all hosts of its cohort. [`inventory`] gives the whole.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRecord {
    /// The host.
    pub host: Host,
    /// Upgrades its sources offer.
    pub upgrades: u64,
    /// Highest generation ever given to it.
    pub generation: u64,
}

const COLUMNS: &str = "id, name, enrolled_at, last_seen, agent_version, inventory_digest, cohort, summary, upgrades, \
                       quarantined_at, quarantined_for, generation, listed";

fn record(row: &Row<'_>) -> Result<HostRecord, StoreError> {
    let digest = |text: Option<String>| text.map(|t| to_digest("host", &t)).transpose();
    let summary: Option<String> = row.get(7)?;
    let quarantined: (Option<i64>, Option<String>) = (row.get(9)?, row.get(10)?);
    let listed: Option<String> = row.get(12)?;
    Ok(HostRecord {
        host: Host {
            id: HostId(row.get(0)?),
            name: row.get(1)?,
            labels: Labels::new(),
            enrolled_at: from_micros(row.get(2)?),
            last_seen: row.get::<_, Option<i64>>(3)?.map(from_micros),
            agent_version: row.get(4)?,
            inventory: summary
                .map(|text| from_json::<Inventory>("inventory summary", &text).map(Arc::new))
                .transpose()?,
            inventory_digest: digest(row.get(5)?)?,
            cohort: digest(row.get(6)?)?,
            quarantined: quarantined.0.map(|at| Quarantine {
                since: from_micros(at),
                reason: quarantined.1.unwrap_or_default(),
            }),
            listed: listed.map(|text| from_json("bill of materials", &text)).transpose()?,
        },
        upgrades: row.get::<_, i64>(8)? as u64,
        generation: row.get::<_, i64>(11)? as u64,
    })
}

/// Gives the summary of a host the packages of its cohort.
fn know_packages(view: &View<'_>, host: &mut Host) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Told {
        packages: Packages,
    }
    let (Some(cohort), Some(summary)) = (host.cohort, &mut host.inventory) else { return Ok(()) };
    let read = || {
        let json = unpacked(view, &host.id)?;
        let told =
            json.map(|json| serde_json::from_slice::<Told>(&json).map_err(|e| unreadable(&e)));
        Ok(told.transpose()?.map(|told| told.packages).unwrap_or_default())
    };
    Arc::make_mut(summary).packages = view.cohorts.packages(cohort, read)?;
    Ok(())
}

fn labels(view: &View<'_>, id: &HostId) -> Result<Labels, StoreError> {
    let rows = view.all("SELECT key, value FROM labels WHERE host = $1", [id.as_str()], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    Ok(rows.into_iter().collect())
}

/// One host by its id.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn get(view: &View<'_>, id: &HostId) -> Result<Option<HostRecord>, StoreError> {
    let found =
        view.one(&format!("SELECT {COLUMNS} FROM hosts WHERE id = $1"), [id.as_str()], record)?;
    found
        .map(|mut r| {
            r.host.labels = labels(view, id)?;
            know_packages(view, &mut r.host)?;
            Ok(r)
        })
        .transpose()
}

/// What a rollout looks at of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulse {
    /// When it was last heard of, as far as that is written down.
    pub last_seen: Option<Timestamp>,
    /// Its cohort.
    pub cohort: Option<Digest>,
    /// Highest generation ever given to it.
    pub generation: u64,
    /// It is quarantined.
    pub quarantined: bool,
    /// Digest of its inventory.
    pub inventory: Option<Digest>,
}

/// So many hosts are asked for one by one; for more, all are read in one go.
const ONE_BY_ONE: usize = 100;

/// What a rollout looks at of these hosts. Those that have left are missing.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn pulses(
    view: &View<'_>,
    ids: &BTreeSet<&HostId>,
) -> Result<BTreeMap<HostId, Pulse>, StoreError> {
    const PULSE: &str = "SELECT id, last_seen, cohort, generation, quarantined_at IS NOT NULL, inventory_digest FROM hosts";
    let pulse = |row: &Row<'_>| {
        let (cohort, inventory): (Option<String>, Option<String>) = (row.get(2)?, row.get(5)?);
        let pulse = Pulse {
            last_seen: row.get::<_, Option<i64>>(1)?.map(from_micros),
            cohort: cohort.map(|text| to_digest("host", &text)).transpose()?,
            generation: row.get::<_, i64>(3)? as u64,
            quarantined: row.get(4)?,
            inventory: inventory.map(|text| to_digest("host", &text)).transpose()?,
        };
        Ok::<_, StoreError>((HostId(row.get(0)?), pulse))
    };
    if ids.len() > ONE_BY_ONE {
        let all = view.all(&format!("{PULSE} ORDER BY id"), [], pulse)?;
        return Ok(all.into_iter().filter(|(id, _)| ids.contains(id)).collect());
    }
    let one = |id: &&HostId| view.one(&format!("{PULSE} WHERE id = $1"), [id.as_str()], pulse);
    ids.iter().filter_map(|id| one(id).transpose()).collect()
}

/// What each host that has this label has for it.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn labelled(view: &View<'_>, key: &str) -> Result<BTreeMap<HostId, String>, StoreError> {
    let rows = view.all("SELECT host, value FROM labels WHERE key = $1", [key], |row| {
        Ok((HostId(row.get(0)?), row.get::<_, String>(1)?))
    })?;
    Ok(rows.into_iter().collect())
}

/// One host by its id or its name.
///
/// # Errors
/// [`StoreError::Missing`] when there is none.
pub fn find(view: &View<'_>, id_or_name: &str) -> Result<HostRecord, StoreError> {
    let id: Option<String> = view.one(
        "SELECT id FROM hosts WHERE id = $1 OR name = $1 ORDER BY (id = $1) DESC LIMIT 1",
        [id_or_name],
        |row| Ok(row.get(0)?),
    )?;
    let missing = || StoreError::Missing { what: "host", name: id_or_name.to_owned() };
    get(view, &HostId(id.ok_or_else(missing)?))?.ok_or_else(missing)
}

/// All hosts, by name.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn all(view: &View<'_>) -> Result<Vec<HostRecord>, StoreError> {
    let mut labels = all_labels(view)?;
    let mut hosts = view.all(&format!("SELECT {COLUMNS} FROM hosts ORDER BY name"), [], record)?;
    for r in &mut hosts {
        r.host.labels = labels.remove(r.host.id.as_str()).unwrap_or_default();
        know_packages(view, &mut r.host)?;
    }
    Ok(hosts)
}

/// All hosts, by name, without their inventories, each with the likeness that was written down of its inventory.
pub(super) fn without_inventories(
    view: &View<'_>,
) -> Result<Vec<(Host, Option<Digest>)>, StoreError> {
    let mut labels = all_labels(view)?;
    let columns = COLUMNS.replace("summary", "NULL");
    let sql = format!("SELECT {columns}, likeness FROM hosts ORDER BY name");
    view.all(&sql, [], |row| {
        let mut host = record(row)?.host;
        host.labels = labels.remove(host.id.as_str()).unwrap_or_default();
        let likeness: Option<String> = row.get(13)?;
        Ok((host, likeness.map(|text| to_digest("host", &text)).transpose()?))
    })
}

/// The labels of all hosts that have some, by host.
fn all_labels(view: &View<'_>) -> Result<BTreeMap<String, Labels>, StoreError> {
    let mut labels: BTreeMap<String, Labels> = BTreeMap::new();
    let rows = view.all("SELECT host, key, value FROM labels", [], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    for (host, key, value) in rows {
        labels.entry(host).or_default().insert(key, value);
    }
    Ok(labels)
}

/// The whole inventory of a host.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn inventory(view: &View<'_>, id: &HostId) -> Result<Option<Inventory>, StoreError> {
    let json = unpacked(view, id)?;
    json.map(|json| serde_json::from_slice(&json).map_err(|e| unreadable(&e))).transpose()
}

/// The digest of a host's inventory. `None`: it has not reported, or there is no such host.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn inventory_digest(view: &View<'_>, id: &HostId) -> Result<Option<Digest>, StoreError> {
    let sql = "SELECT inventory_digest FROM hosts WHERE id = $1";
    let found = view.one(sql, [id.as_str()], |row| Ok(row.get::<_, Option<String>>(0)?))?;
    found.flatten().map(|text| to_digest("host", &text)).transpose()
}

/// What of an inventory says who needs what.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NeedsBrief {
    /// As in the inventory.
    #[serde(default)]
    pub dependents: Option<BTreeMap<String, Vec<String>>>,
    /// As in the inventory.
    #[serde(default)]
    pub in_use: Vec<String>,
}

/// Who needs what on a host: of its inventory, without the rest of it.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn needs(view: &View<'_>, id: &HostId) -> Result<Option<NeedsBrief>, StoreError> {
    let json = unpacked(view, id)?;
    json.map(|json| serde_json::from_slice(&json).map_err(|e| unreadable(&e))).transpose()
}

#[derive(Deserialize)]
struct ServicesBrief {
    #[serde(default)]
    services: Vec<Service>,
}

/// Units that are active on a host, by its inventory; `None` where it has told none.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn active_units(view: &View<'_>, id: &HostId) -> Result<Option<BTreeSet<String>>, StoreError> {
    let Some(json) = unpacked(view, id)? else { return Ok(None) };
    let brief: ServicesBrief = serde_json::from_slice(&json).map_err(|e| unreadable(&e))?;
    let active = brief.services.into_iter().filter(|service| service.active == "active");
    Ok(Some(active.map(|service| service.unit).collect()))
}

/// A package of an inventory, as an index of the fleet needs it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PackageBrief<'a> {
    /// Binary name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Installed version.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    /// Source package.
    #[serde(borrow)]
    pub source: Cow<'a, str>,
}

/// An upgrade that the host's sources offer, as an index of the fleet needs it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UpgradeBrief<'a> {
    /// Binary name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Offered version.
    #[serde(borrow)]
    pub to: Cow<'a, str>,
}

/// The parts of an inventory that an index of the fleet is made from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InventoryBrief<'a> {
    /// Installed packages.
    #[serde(borrow)]
    pub packages: Vec<PackageBrief<'a>>,
    /// Packages of languages.
    #[serde(borrow, default)]
    pub languages: Vec<LanguageBrief<'a>>,
    /// Upgrades on offer.
    #[serde(borrow)]
    pub upgrades: Vec<UpgradeBrief<'a>>,
}

/// A package of a language, in short.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LanguageBrief<'a> {
    /// Whose.
    pub ecosystem: Ecosystem,
    /// Its name, as it spells it itself.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Installed version.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
}

/// Packages and upgrades of a host: a fraction of the work of reading its whole inventory.
///
/// # Errors
/// [`StoreError`] of the database, or of a document that cannot be read.
pub fn brief<T>(
    view: &View<'_>,
    id: &HostId,
    look: impl FnOnce(InventoryBrief<'_>) -> T,
) -> Result<Option<T>, StoreError> {
    let Some(json) = unpacked(view, id)? else { return Ok(None) };
    let brief = serde_json::from_slice(&json).map_err(|e| unreadable(&e))?;
    Ok(Some(look(brief)))
}

fn unreadable(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Document { what: "inventory", detail: error.to_string() }
}

/// The inventory's JSON.
fn unpacked(view: &View<'_>, id: &HostId) -> Result<Option<Vec<u8>>, StoreError> {
    packed(view, id)?.map(|gz| unpack(&gz)).transpose()
}

/// The inventory's JSON, as it is kept.
pub(super) fn packed(view: &View<'_>, id: &HostId) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT body FROM inventories WHERE host = $1";
    view.one(sql, [id.as_str()], |row| Ok(row.get(0)?))
}

fn unpack(gz: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut json = Vec::new();
    GzDecoder::new(gz).read_to_end(&mut json).map_err(|e| unreadable(&e))?;
    Ok(json)
}

/// What plans look at of an inventory that is kept so.
pub(super) fn seen(gz: &[u8]) -> Result<Seen, StoreError> {
    serde_json::from_slice(&unpack(gz)?).map(Seen::of).map_err(|e| unreadable(&e))
}

/// Room on the file systems of each of these hosts that has told.
///
/// # Errors
/// [`StoreError`] of the database, or of a document that cannot be read.
pub fn filesystems(
    view: &View<'_>,
    wanted: impl Fn(&HostId) -> bool,
) -> Result<BTreeMap<HostId, Vec<Filesystem>>, StoreError> {
    #[derive(Deserialize)]
    struct Told {
        #[serde(default)]
        filesystems: Vec<Filesystem>,
    }
    let sql = "SELECT id, summary FROM hosts WHERE summary IS NOT NULL";
    let rows = view.all(sql, [], |row| {
        let id = HostId(row.get(0)?);
        // Of a large fleet most are none of a plan's, and reading is what takes time.
        if !wanted(&id) {
            return Ok(None);
        }
        let told: Told = from_json("inventory summary", &row.get::<_, String>(1)?)?;
        Ok(Some((id, told.filesystems)))
    })?;
    Ok(rows.into_iter().flatten().filter(|(_, told)| !told.is_empty()).collect())
}

/// A host that joins.
#[derive(Debug, Clone)]
pub struct NewHost<'a> {
    /// Given by the server.
    pub id: &'a HostId,
    /// The machine's host name.
    pub name: &'a str,
    /// From the token.
    pub labels: &'a Labels,
    /// Of the agent that enrols.
    pub agent_version: &'a str,
}

/// Takes a host into the fleet.
///
/// # Errors
/// [`StoreError::Exists`] when a host of that name is enrolled already.
pub fn enrol(tx: &mut Tx<'_>, new: &NewHost<'_>) -> Result<(), StoreError> {
    if tx.count("SELECT count(*) FROM hosts WHERE name = $1", [new.name])? > 0 {
        return Err(StoreError::Exists(format!("a host named `{}` is enrolled already", new.name)));
    }
    let now = micros(tx.now());
    tx.touch(new.id);
    tx.execute(
        "INSERT INTO hosts (id, name, enrolled_at, agent_version) VALUES ($1, $2, $3, $4)",
        params![new.id.as_str(), new.name, now, new.agent_version],
    )?;
    for (key, value) in new.labels {
        tx.execute(
            "INSERT INTO labels (host, key, value) VALUES ($1, $2, $3)",
            params![new.id.as_str(), key, value],
        )?;
    }
    tx.record(
        "host.enrolled",
        new.id.as_str(),
        json!({ "name": new.name, "labels": new.labels, "agent": new.agent_version }),
    );
    Ok(())
}

/// When the inventory came that is kept of a host.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn inventory_at(view: &View<'_>, id: &HostId) -> Result<Option<Timestamp>, StoreError> {
    view.one("SELECT at FROM inventories WHERE host = $1", [id.as_str()], |row| {
        Ok(from_micros(row.get(0)?))
    })
}

/// Keeps what a host reported.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn set_inventory(
    tx: &mut Tx<'_>,
    id: &HostId,
    inventory: &Inventory,
) -> Result<(), StoreError> {
    tx.touch(id);
    let (digest, cohort) = (inventory.digest(), inventory.cohort());
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    let gz = gz
        .write_all(to_json("inventory", inventory)?.as_bytes())
        .and_then(|()| gz.finish())
        .map_err(|e| StoreError::Document { what: "inventory", detail: e.to_string() })?;
    let now = micros(tx.now());
    tx.execute(
        "INSERT INTO inventories (host, digest, at, body) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (host) DO UPDATE SET digest = excluded.digest, at = excluded.at, body = excluded.body",
        params![id.as_str(), digest.to_string(), now, gz],
    )?;
    tx.execute(
        "UPDATE hosts SET inventory_digest = $1, cohort = $2, summary = $3, upgrades = $4, likeness = $5 WHERE id = $6",
        params![
            digest.to_string(),
            cohort.to_string(),
            to_json("inventory summary", &summaries::of(inventory))?,
            int(inventory.upgrades.len() as u64),
            Seen::of(inventory.clone()).likeness().to_string(),
            id.as_str()
        ],
    )?;
    let body = json!({
        "digest": digest, "cohort": cohort, "packages": inventory.packages.len(),
        "upgrades": inventory.upgrades.len(), "gaps": inventory.gaps,
    });
    tx.record("host.inventory", id.as_str(), body);
    Ok(())
}

/// When hosts were last heard, and by which agent. No decision, so not in the ledger.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn heard<'a>(
    tx: &mut Tx<'_>,
    heard: impl IntoIterator<Item = (&'a HostId, Timestamp, &'a str)>,
) -> Result<(), StoreError> {
    for (id, at, agent_version) in heard {
        tx.execute_unrecorded(
            "UPDATE hosts SET last_seen = max(coalesce(last_seen, 0), $1), agent_version = $2 WHERE id = $3",
            params![micros(at), agent_version, id.as_str()],
        )?;
    }
    Ok(())
}

/// Sets or clears the mark that a person must come. Was it otherwise before?
///
/// # Errors
/// [`StoreError`] of the database.
pub fn set_quarantine(
    tx: &mut Tx<'_>,
    id: &HostId,
    reason: Option<&str>,
) -> Result<bool, StoreError> {
    let at = reason.map(|_| micros(tx.now()));
    // The first reason stays: what came later is a consequence of it.
    let sql = match reason {
        Some(_) => {
            "UPDATE hosts SET quarantined_at = $1, quarantined_for = $2 WHERE id = $3 AND quarantined_at IS NULL"
        }
        None => {
            "UPDATE hosts SET quarantined_at = $1, quarantined_for = $2 WHERE id = $3 AND quarantined_at IS NOT NULL"
        }
    };
    let is_news = tx.execute_unrecorded(sql, params![at, reason, id.as_str()])? > 0;
    if is_news {
        tx.touch(id);
        let kind = if reason.is_some() { "host.quarantined" } else { "host.released" };
        tx.record(kind, id.as_str(), json!({ "reason": reason }));
    }
    Ok(is_news)
}

/// The agent has accepted this generation: a server restored from an old backup must not give it again.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn raise_generation(tx: &mut Tx<'_>, id: &HostId, generation: u64) -> Result<(), StoreError> {
    let raised = tx.execute_unrecorded(
        "UPDATE hosts SET generation = $1 WHERE id = $2 AND generation < $1",
        params![int(generation), id.as_str()],
    )?;
    if raised > 0 {
        tx.record("host.generation", id.as_str(), json!({ "generation": generation }));
    }
    Ok(())
}

/// Takes back generations that no order can have had: whoever kept one could be given no order any more. Each such host is
/// marked, and counted from the orders that it was really given. Gives those that were not marked before.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn mend_generations(tx: &mut Tx<'_>, reason: &str) -> Result<Vec<HostId>, StoreError> {
    let beyond = tx.all(
        "SELECT id, (SELECT coalesce(max(generation), 0) FROM assignments \
         WHERE host = hosts.id AND generation <= $1) FROM hosts WHERE generation > $1",
        [int(LAST_GENERATION)],
        |row| Ok((HostId(row.get(0)?), row.get::<_, i64>(1)?)),
    )?;
    let mut marked = Vec::new();
    for (id, generation) in beyond {
        tx.execute(
            "UPDATE hosts SET generation = $1 WHERE id = $2",
            params![generation, id.as_str()],
        )?;
        tx.execute(
            "UPDATE assignments SET status = 'withdrawn' \
             WHERE host = $1 AND generation > $2 AND status = 'current'",
            params![id.as_str(), int(LAST_GENERATION)],
        )?;
        tx.record("host.generation", id.as_str(), json!({ "generation": generation }));
        if set_quarantine(tx, &id, Some(reason))? {
            marked.push(id);
        }
    }
    Ok(marked)
}

/// The host has no agent: what it holds was told by a bill of materials.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn set_listed(tx: &mut Tx<'_>, id: &HostId, listed: &Listed) -> Result<(), StoreError> {
    tx.touch(id);
    tx.execute(
        "UPDATE hosts SET listed = $1 WHERE id = $2",
        params![to_json("bill of materials", listed)?, id.as_str()],
    )?;
    tx.record("host.listed", id.as_str(), json!({ "of": listed.of, "document": listed.document }));
    Ok(())
}

/// Replaces a host's labels.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn set_labels(tx: &mut Tx<'_>, id: &HostId, labels: &Labels) -> Result<(), StoreError> {
    tx.touch(id);
    tx.execute("DELETE FROM labels WHERE host = $1", [id.as_str()])?;
    for (key, value) in labels {
        tx.execute(
            "INSERT INTO labels (host, key, value) VALUES ($1, $2, $3)",
            params![id.as_str(), key, value],
        )?;
    }
    tx.record("host.labelled", id.as_str(), json!({ "labels": labels }));
    Ok(())
}

/// The host leaves the fleet: its certificate is worth nothing from now on.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn retire(tx: &mut Tx<'_>, id: &HostId) -> Result<(), StoreError> {
    if tx.execute("DELETE FROM hosts WHERE id = $1", [id.as_str()])? == 0 {
        return Err(StoreError::Missing { what: "host", name: id.to_string() });
    }
    tx.touch(id);
    tx.record("host.retired", id.as_str(), json!({}));
    Ok(())
}
