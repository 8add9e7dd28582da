//! A plan as a report: what it does, in which order, and why not the rest.

use super::plan_report;
use crate::output::{hint, line, print, table};
use fettle_core::hold::Hold;
use fettle_core::plan::approval::{ApprovalVerdict, Stage};
use fettle_wire::api::PlanDetail;
use std::collections::BTreeMap;

/// Hosts that are named in one line.
const NAMED: usize = 20;

/// The report.
pub(crate) fn one(detail: &PlanDetail) {
    let plan = &detail.plan;
    line(&format!(
        "plan {} by policy `{}`, made {} by {}",
        detail.number, plan.policy, plan.made_at, detail.made_by
    ));
    line(&format!("  digest {}", detail.digest));
    line(&format!(
        "  {} hosts in {} waves, {} distinct changes, {} vulnerabilities fixed",
        plan.hosts.len(),
        plan.waves.len(),
        plan.changes().len(),
        plan.fixes().len()
    ));
    if plan.approvals_needed > 0 {
        approvals(&detail.approvals);
    }
    if let Some(signing) = &detail.signing {
        crate::key::signatures(signing);
    }
    for (number, wave) in plan.waves.iter().enumerate() {
        let names: Vec<&str> = wave
            .hosts
            .iter()
            .map(|id| plan.hosts.get(id).map_or(id.as_str(), |h| h.name.as_str()))
            .collect();
        let who = match wave.traffic {
            Some(_) => "a step of the traffic".to_owned(),
            None => some(&names),
        };
        line(&format!("\nwave {}  ring {}: {who}", number + 1, wave.ring));
        if !wave.why.is_empty() {
            line(&format!("  {}", wave.why));
        }
        let gate = &wave.gate;
        if wave.rolling {
            line(&format!(
                "  each watched for {} s before the next takes its place; at most {} failures",
                gate.bake_seconds, gate.max_failures
            ));
            continue;
        }
        line(&format!(
            "  then watched for {} s; at most {} failures, {} % patched{}{}",
            gate.bake_seconds,
            gate.max_failures,
            gate.min_success_percent,
            if wave.soak_seconds > 0 {
                format!("; the ring rests {} s", wave.soak_seconds)
            } else {
                String::new()
            },
            if wave.after_seconds > 0 {
                format!("; it begins {} s after the rollout, or later", wave.after_seconds)
            } else {
                String::new()
            }
        ));
    }
    if let Some(report) = &detail.report {
        plan_report::coverage(report);
        plan_report::effects(report);
    }
    changes(detail);
    if let Some(tests) = detail.tests.as_ref().filter(|t| t.required || !t.tests.is_empty()) {
        line("");
        super::testbed::coverage(tests);
    }
    match &detail.report {
        Some(report) => plan_report::held(report),
        None => held(detail),
    }
    next(detail);
}

/// The first of many names, and how many there are beside.
pub(super) fn some<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(AsRef::as_ref).collect();
    let rest = names.len().saturating_sub(NAMED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// What can be done with it now.
fn next(detail: &PlanDetail) {
    let PlanDetail { number, approvals, plan, .. } = detail;
    match approvals.stage {
        _ if plan.hosts.is_empty() => line("\nnothing to roll out"),
        Stage::Started { at } => {
            line(&format!("\nits rollout was started at {at}"));
            hint("fettle rollout list");
        }
        Stage::Superseded => {
            line("\nanother plan of the policy took effect since");
            hint(&format!("fettle plan make {}", plan.policy));
        }
        Stage::Open if lacks_signature(detail) && approvals.is_enough() => {
            hint(&format!("fettle plan sign {number} --key KEYFILE"));
        }
        Stage::Open if approvals.is_enough() => hint(&format!("fettle rollout start {number}")),
        Stage::Open => hint(&format!(
            "fettle plan approve {number}   (with the role approver, and not by {})",
            detail.made_by
        )),
    }
}

fn lacks_signature(detail: &PlanDetail) -> bool {
    detail.signing.as_ref().is_some_and(|it| it.given < it.needed)
}

/// Who approved it when, and why one does not count.
fn approvals(verdict: &ApprovalVerdict) {
    line(&format!("  {} of {} approvals given", verdict.given, verdict.needed));
    for it in &verdict.counted {
        line(&format!("    {} at {}{}", it.by, it.at, comment(&it.comment)));
    }
    for it in &verdict.discounted {
        let approval = &it.approval;
        line(&format!(
            "    {} at {} does not count: {}{}",
            approval.by,
            approval.at,
            it.discount,
            comment(&approval.comment)
        ));
    }
}

fn comment(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("  “{text}”") }
}

fn changes(detail: &PlanDetail) {
    let changes = detail.plan.changes();
    if changes.is_empty() {
        return;
    }
    line("");
    let works = detail.plan.works();
    let mut out = table(&["PACKAGE", "FROM", "TO", "HOSTS", "FIXES"]);
    for ((name, from, to), hosts) in changes {
        let why = works.iter().find_map(|(work, _)| work.why.get(name));
        let why = why.map(|ids| ids.as_slice()).unwrap_or_default();
        let fixes = match why {
            [] => "no CVE known".to_owned(),
            [one] => one.clone(),
            [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        };
        out.add_row(vec![
            name.to_owned(),
            from.to_owned(),
            to.to_owned(),
            hosts.to_string(),
            fixes,
        ]);
    }
    print(&out);
}

/// What is held, folded by reason: four hundred findings without a fix are one line.
fn held(detail: &PlanDetail) {
    let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut no_fix: BTreeMap<&str, usize> = BTreeMap::new();
    for held in detail.plan.held() {
        if matches!(held.reasons.as_slice(), [Hold::NoFix { .. }]) {
            *no_fix.entry(held.name).or_default() += held.findings.len().max(1);
            continue;
        }
        let reasons: Vec<String> = held.reasons.iter().map(ToString::to_string).collect();
        by_reason.entry(reasons.join(" ← ")).or_default().push(held.name);
    }
    if by_reason.is_empty() && no_fix.is_empty() {
        return;
    }
    line("\nnot in this plan, and why:");
    for (reason, mut hosts) in by_reason {
        hosts.sort_unstable();
        hosts.dedup();
        line(&format!("  {reason}  ({})", some(&hosts)));
    }
    if !no_fix.is_empty() {
        let hosts: Vec<String> = no_fix.iter().map(|(host, n)| format!("{host}: {n}")).collect();
        line(&format!("  the vendor has no fix for this release  ({})", hosts.join(", ")));
    }
}
