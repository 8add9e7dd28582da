//! Hosts judged by the vendors' data in force and rated by their policies.

use crate::app::{App, now};
use fettle_core::host::Host;
use fettle_core::policy::{Acceptance, Policy};
use fettle_core::{HostId, Problem, Timestamp};
use fettle_store::{Tx, feeds, findings, hosts, policies, settings};
use fettle_vuln::exposure::{Catalogue, Exception, HostView, Verdict};
use serde_json::json;
use std::collections::BTreeMap;

/// Judges one host from its whole inventory and keeps what changed. Judging again on the same facts writes
/// nothing.
pub(crate) fn judge(app: &App, tx: &mut Tx<'_>, host: &Host) -> Result<findings::Changed, Problem> {
    let Some(inventory) = &host.inventory else { return Ok(findings::Changed::default()) };
    let previous: Vec<_> =
        findings::of_host(tx, &host.id)?.into_values().map(|r| r.finding).collect();
    let (catalogue, policies) = (app.catalogue(), app.policies());
    let policy = policies.of(host);
    let mut accepted = policy.map_or_else(Vec::new, |policy| accepted(&catalogue, policy, now()));
    // A statement names hosts as people do.
    let names = [host.name.as_str(), host.id.as_str()];
    accepted.extend(catalogue.ruled_out(&names, inventory, now()));
    let view = HostView {
        host: &host.id,
        inventory,
        previous: &previous,
        ran_before: &BTreeMap::new(),
        accepted: &accepted,
    };
    let judgement = catalogue.judge(&view);
    if !judgement.withdrawn.is_empty() {
        // Gone without anything on the host having fixed them: that is on record, whoever asks later.
        tx.record("finding.withdrawn", host.id.as_str(), json!(judgement.withdrawn));
    }
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

/// The acceptances of a policy that hold now, by what the vendors' data say of each.
fn accepted(catalogue: &Catalogue, policy: &Policy, now: Timestamp) -> Vec<Exception> {
    let holds = |a: &&Acceptance| {
        let (epss, exploited) = catalogue.threat(&a.finding);
        a.holds(now, epss, exploited)
    };
    let exception = |a: &Acceptance| Exception {
        id: a.finding.clone(),
        source: a.source.clone(),
        owner: a.owner.clone(),
        reason: a.reason.clone(),
        until: a.until,
        verdict: Verdict::Accepted,
    };
    policy.acceptances.iter().filter(holds).map(exception).collect()
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
        // An acceptance ends by itself, and so does one's own statement: what it covered is open again.
        let ended = app.policies().ended_acceptances(now());
        by.push(format!("ended-acceptances={ended}"));
        let ended = app.catalogue().ended_statements(now());
        by.push(format!("ended-statements={ended}"));
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
        host.inventory = hosts::inventory(tx, id)?.map(std::sync::Arc::new);
        judge(app, tx, &host)
    })?;
    if changed.written > 0 {
        app.events.tell("host", id.as_str());
    }
    Ok(())
}
