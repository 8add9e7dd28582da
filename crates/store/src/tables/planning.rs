//! What plans are made from: the fleet and its findings as plans look at them, what is alike read once.

use super::hosts;
use crate::{StoreError, View};
use fettle_core::finding::{Finding, FindingState};
use fettle_core::host::Host;
use fettle_core::plan::{Alike, Seen};
use fettle_core::{Digest, HostId, Shared};
use rusqlite::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::Arc;

/// Inventories that are unpacked and read at once.
const THREADS: usize = 4;
/// So many are in memory as they are kept, for each of the threads.
const EACH: usize = 32;
/// The findings of so many hosts are asked for one host after another; of more, all are gone through.
const ONE_BY_ONE: usize = 100;

/// All hosts, by name, with their inventories as plans look at them. Of hosts that are alike there, one inventory is read.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn fleet(view: &View<'_>, alike: &mut Alike) -> Result<Vec<Host>, StoreError> {
    let mut hosts = hosts::without_inventories(view)?;
    let mut known: BTreeSet<Digest> = BTreeSet::new();
    // Whose likeness nobody has written down stands for itself.
    let is_first = |(at, (_, likeness)): (usize, &(Host, Option<Digest>))| {
        likeness.is_none_or(|it| known.insert(it)).then_some(at)
    };
    let first: Vec<usize> = hosts.iter().enumerate().filter_map(is_first).collect();
    let mut kept: BTreeMap<Digest, Arc<_>> = BTreeMap::new();
    for some in first.chunks(THREADS * EACH) {
        let packed = some.iter().map(|&at| hosts::packed(view, &hosts[at].0.id));
        let packed: Vec<Option<Vec<u8>>> = packed.collect::<Result<_, _>>()?;
        for (&at, seen) in some.iter().zip(looked_at(&packed)?) {
            let inventory = seen.map(|seen| alike.keep(seen));
            if let (Some(likeness), Some(inventory)) = (hosts[at].1, &inventory) {
                kept.insert(likeness, inventory.clone());
            }
            hosts[at].0.inventory = inventory;
        }
    }
    let with = |(mut host, likeness): (Host, Option<Digest>)| {
        if let Some(likeness) = likeness {
            host.inventory = kept.get(&likeness).cloned();
        }
        host
    };
    Ok(hosts.into_iter().map(with).collect())
}

/// What plans look at of each of these inventories.
fn looked_at(packed: &[Option<Vec<u8>>]) -> Result<Vec<Option<Seen>>, StoreError> {
    let all = |some: &[Option<Vec<u8>>]| -> Result<Vec<Option<Seen>>, StoreError> {
        some.iter().map(|gz| gz.as_deref().map(hosts::seen).transpose()).collect()
    };
    let size = packed.len().div_ceil(THREADS).max(1);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let parts: Vec<_> =
            packed.chunks(size).map(|part| scope.spawn(move || all(part))).collect();
        // What one of them panics at, all of it panics at.
        parts
            .into_iter()
            .map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    let mut out = Vec::with_capacity(packed.len());
    for part in parts {
        out.extend(part?);
    }
    Ok(out)
}

/// What each host is exposed to. Hosts that are alike share a list.
pub type Found = BTreeMap<HostId, Arc<[Shared<Finding>]>>;

/// What these hosts are exposed to, of that what `counts`. Findings have no host, for hosts that are alike share them.
///
/// # Errors
/// [`StoreError`] of the database, or of a document that cannot be read.
pub fn findings(
    view: &View<'_>,
    hosts: &BTreeSet<&HostId>,
    counts: impl Fn(&HostId, &Finding) -> bool,
) -> Result<Found, StoreError> {
    let over: Vec<String> = FindingState::ALL
        .into_iter()
        .filter(|state| !state.is_vulnerable())
        .map(|state| format!("'{}'", state.word()))
        .collect();
    let open = format!("state NOT IN ({})", over.join(", "));
    let mut lists = Lists::default();
    let mut out = BTreeMap::new();
    if hosts.len() <= ONE_BY_ONE {
        let sql = format!(
            "SELECT host, body FROM findings WHERE host = $1 AND {open} ORDER BY id, source"
        );
        for host in hosts {
            let mut of = Vec::new();
            view.all(&sql, [host.as_str()], |row| lists.take(host, row, &counts, &mut of))?;
            out.insert((*host).clone(), lists.keep(of));
        }
        return Ok(out);
    }
    let mut of: Vec<Shared<Finding>> = Vec::new();
    let mut ids = hosts.iter().copied().peekable();
    let sql = format!("SELECT host, body FROM findings WHERE {open} ORDER BY host, id, source");
    // Both are sorted by host: they are gone through side by side. A map without a value costs no memory.
    view.all(&sql, [], |row| {
        let host = text(row, 0)?;
        while let Some(done) = ids.next_if(|id| id.as_str() < host) {
            out.insert(done.clone(), lists.keep(std::mem::take(&mut of)));
        }
        match ids.peek().filter(|id| id.as_str() == host) {
            Some(id) => lists.take(id, row, &counts, &mut of),
            None => Ok(()),
        }
    })?;
    for id in ids {
        out.insert(id.clone(), lists.keep(std::mem::take(&mut of)));
    }
    Ok(out)
}

fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, StoreError> {
    row.get_ref(column)?.as_str().map_err(|e| unreadable(&e))
}

fn unreadable(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Document { what: "finding", detail: error.to_string() }
}

/// Findings and lists of them, each once.
#[derive(Default)]
struct Lists {
    /// By the digest of their text without the host.
    findings: BTreeMap<Digest, Shared<Finding>>,
    /// By where those in them are kept: only ever asked for, never gone through.
    lists: BTreeMap<Vec<*const Finding>, Arc<[Shared<Finding>]>>,
}

impl Lists {
    /// Puts the finding of a row among those of its host.
    fn take(
        &mut self,
        host: &HostId,
        row: &Row<'_>,
        counts: impl Fn(&HostId, &Finding) -> bool,
        of: &mut Vec<Shared<Finding>>,
    ) -> Result<(), StoreError> {
        let body = text(row, 1)?;
        // The host comes first in the text: what is left is the same for hosts that are alike.
        let id = serde_json::to_string(host).map_err(|e| unreadable(&e))?;
        let rest = body.strip_prefix("{\"host\":").and_then(|rest| rest.strip_prefix(id.as_str()));
        let look = Digest::of(rest.unwrap_or(body).as_bytes());
        let finding = match self.findings.get(&look) {
            Some(known) => known.clone(),
            None => {
                let mut finding: Finding =
                    serde_json::from_str(body).map_err(|e| unreadable(&e))?;
                finding.host = HostId::new("");
                self.findings.entry(look).or_insert(finding.into()).clone()
            }
        };
        if finding.state.is_vulnerable() && counts(host, &finding) {
            of.push(finding);
        }
        Ok(())
    }

    fn keep(&mut self, of: Vec<Shared<Finding>>) -> Arc<[Shared<Finding>]> {
        let places: Vec<_> = of.iter().map(Shared::place).collect();
        self.lists.entry(places).or_insert_with(|| of.into()).clone()
    }
}
