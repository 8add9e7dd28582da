//! Hosts judged by the vendors' data in force and rated by their policies.

use crate::app::{App, now};
use fettle_core::host::Host;
use fettle_core::{HostId, Problem};
use fettle_store::{Tx, feeds, findings, hosts, policies, settings};
use fettle_vuln::exposure::HostView;
use serde_json::json;
use std::collections::BTreeMap;

/// Judges one host from its whole inventory and keeps what changed. Judging again on the same facts writes
/// nothing.
pub(crate) fn judge(app: &App, tx: &mut Tx<'_>, host: &Host) -> Result<findings::Changed, Problem> {
    let Some(inventory) = &host.inventory else { return Ok(findings::Changed::default()) };
    let previous: Vec<_> =
        findings::of_host(tx, &host.id)?.into_values().map(|r| r.finding).collect();
    let view = HostView {
        host: &host.id,
        inventory,
        previous: &previous,
        ran_before: &BTreeMap::new(),
        accepted: &[],
    };
    let judgement = app.catalogue().judge(&view);
    if !judgement.withdrawn.is_empty() {
        // Gone without anything on the host having fixed them: that is on record, whoever asks later.
        tx.record("finding.withdrawn", host.id.as_str(), json!(judgement.withdrawn));
    }
    let policies = app.policies();
    let policy = policies.of(host);
    let changed =
        findings::update(tx, &host.id, judgement.findings, |finding, first_seen| match policy {
            Some(policy) => policy.rate(finding, first_seen),
            None => {
                finding.class.clear();
                finding.deadline = None;
            }
        })?;
    Ok(changed)
}

/// What all hosts were last judged by: the same text, the same judgement.
const JUDGED_BY: &str = "judged-by";

/// Judges every host anew if feeds or policies are others than the last time. Can be killed at any point and run
/// again: hosts are judged one by one, and the mark is set when all are.
pub(crate) fn judge_all(app: &App) -> Result<(), Problem> {
    let (by, before, ids) = app.store.read::<_, Problem>(|view| {
        let mut by = Vec::new();
        for (name, digest) in feeds::digests(view)? {
            by.push(format!("{name}={digest}"));
        }
        for policy in policies::current(view)? {
            by.push(format!("{}={}", policy.name, policy.digest));
        }
        let ids: Vec<HostId> = hosts::all(view)?.into_iter().map(|h| h.host.id).collect();
        Ok((by.join(" "), settings::get(view, JUDGED_BY)?, ids))
    })?;
    let by = fettle_core::Digest::of(by.as_bytes()).to_string();
    if before.as_deref() == Some(&by) {
        return Ok(());
    }
    for id in ids {
        judge_known(app, &id)?;
    }
    app.store.write::<_, Problem>("server", now(), |tx| Ok(settings::set(tx, JUDGED_BY, &by)?))
}

/// Judges one host by what it last reported.
pub(crate) fn judge_known(app: &App, id: &HostId) -> Result<(), Problem> {
    let changed = app.store.write::<_, Problem>("server", now(), |tx| {
        let Some(record) = hosts::get(tx, id)? else { return Ok(findings::Changed::default()) };
        let mut host = record.host;
        host.inventory = hosts::inventory(tx, id)?;
        judge(app, tx, &host)
    })?;
    if changed.written > 0 {
        app.events.tell("host", id.as_str());
    }
    Ok(())
}
