//! Policies and feeds.

use crate::output::{ago, hint, line, now, print, table};
use fettle_core::Timestamp;
use fettle_core::policy::{Considered, Explained, Opening, Owed, PolicyDiff};
use fettle_wire::api::{Page, PolicyRow, PolicyVersion};

/// Policies in force.
pub(crate) fn list(page: &Page<PolicyRow>) {
    if page.items.is_empty() {
        line("no policy is in force: no host is owed anything");
        hint("fettle policy apply examples/policies/web-production.toml");
        return;
    }
    let mut out = table(&["POLICY", "VERSION", "HOSTS", "APPLIED", "BY", "DESCRIPTION"]);
    for row in &page.items {
        out.add_row(vec![
            row.name.clone(),
            row.version.to_string(),
            row.hosts.to_string(),
            ago(row.applied_at, now()),
            row.applied_by.clone(),
            row.description.clone(),
        ]);
    }
    print(&out);
    for (row, why) in page.items.iter().filter_map(|row| Some((row, row.unread.as_ref()?))) {
        line(&format!(
            "policy `{}` cannot be read by this version, and nothing is planned: {why}",
            row.name
        ));
        hint(&format!("fettle policy show {}", row.name));
    }
}

/// Every version of one, newest first.
pub(crate) fn history(name: &str, page: &Page<PolicyVersion>) {
    let mut out = table(&["VERSION", "APPLIED", "BY", "DIGEST", ""]);
    for it in &page.items {
        out.add_row(vec![
            it.version.to_string(),
            it.applied_at.to_string(),
            it.applied_by.clone(),
            it.digest.to_string(),
            if it.in_force { "in force" } else { "" }.to_owned(),
        ]);
    }
    print(&out);
    hint(&format!("fettle policy show {name} VERSION"));
}

/// How many hosts and findings of a kind are named before the rest is counted.
const NAMED: usize = 10;

fn more(all: usize) {
    if all > NAMED {
        line(&format!("  and {} more: all are in -o json", all - NAMED));
    }
}

fn counted(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// What a policy changes, in a few lines.
pub(crate) fn summary(it: &PolicyDiff) {
    if it.from.is_none() {
        line(&format!("policy `{}` is new", it.policy));
    } else if it.from == Some(it.to) {
        line(&format!("policy `{}` is in force with exactly this text", it.policy));
        return;
    } else if it.settings.is_empty() {
        line("no setting differs: only the text does");
    } else {
        let words = if it.settings.len() == 1 { "setting differs" } else { "settings differ" };
        line(&format!("{} {words}", it.settings.len()));
    }
    line(&format!(
        "hosts governed: {} → {}; for {} another policy or stage counts",
        it.hosts_from,
        it.hosts_to,
        counted(it.hosts.len() as u64, "host")
    ));
    line(&format!(
        "overdue findings: {} → {}; {} changed",
        it.overdue_from,
        it.overdue_to,
        counted(it.deadlines.len() as u64, "obligation")
    ));
    if it.windows_from != it.windows_to {
        line(&format!(
            "next window: {} → {}",
            opens(it.windows_from.first()),
            opens(it.windows_to.first())
        ));
    }
}

fn opens(at: Option<&Opening>) -> String {
    match at {
        None => "none within a year".to_owned(),
        Some((from, None)) => format!("{from} on"),
        Some((from, Some(to))) => format!("{from} to {to}"),
    }
}

fn owed(it: &Owed) -> String {
    let class = if it.class.is_empty() { "no class" } else { &it.class };
    let by = it.deadline.map_or_else(|| "without a date".to_owned(), |at| format!("by {at}"));
    format!("{} {by} ({class})", it.state.word())
}

/// What a policy would change.
pub(crate) fn diff(it: &PolicyDiff) {
    match it.from {
        Some(from) => line(&format!("in force  {from}")),
        None => line("in force  none of this name"),
    }
    line(&format!("file      {}\n", it.to));
    summary(it);
    if !it.settings.is_empty() {
        line("");
        let mut out = table(&["SETTING", "IN FORCE", "FILE"]);
        for setting in &it.settings {
            let text = |of: &Option<String>| of.clone().unwrap_or_else(|| "–".to_owned());
            out.add_row(vec![setting.what.clone(), text(&setting.from), text(&setting.to)]);
        }
        print(&out);
    }
    if it.windows_from != it.windows_to {
        line("\nnext windows, as they are and as they would be:");
        for (mark, windows) in [("-", &it.windows_from), ("+", &it.windows_to)] {
            for window in windows {
                line(&format!("  {mark} {}", opens(Some(window))));
            }
        }
    }
    if !it.hosts.is_empty() {
        line("\nhosts for which something else would count:");
        for host in it.hosts.iter().take(NAMED) {
            line(&format!("  {}: {} → {}", host.name, host.from, host.to));
        }
        more(it.hosts.len());
    }
    if !it.deadlines.is_empty() {
        line("\nwhat would be owed otherwise than now:");
        for moved in it.deadlines.iter().take(NAMED) {
            line(&format!(
                "  {} in {} on {}: {} → {}",
                moved.finding,
                moved.source,
                names(&moved.hosts),
                owed(&moved.from),
                owed(&moved.to)
            ));
        }
        more(it.deadlines.len());
    }
    line("");
}

fn names(hosts: &[String]) -> String {
    match hosts {
        [a, b, c, _, rest @ ..] => format!("{a}, {b}, {c} and {} more", rest.len() + 1),
        few => few.join(", "),
    }
}

/// A selector with what each of its pieces saw.
fn considered(it: &Considered, what: &str) {
    let verdict = match (it.counts, it.selects) {
        (true, _) => "counts",
        (false, true) => "selects it, and another comes first",
        (false, false) => "does not select it",
    };
    let priority = it.priority.map(|p| format!(", priority {p}")).unwrap_or_default();
    line(&format!("  {what} {}{priority}: {verdict}", it.name));
    for piece in &it.conditions {
        let saw = match &piece.found {
            Some(found) => format!("the host has {found}"),
            None if piece.text == "all" => "every host".to_owned(),
            None => "the host has nothing there".to_owned(),
        };
        line(&format!("    {} {}   {saw}", if piece.holds { "●" } else { "○" }, piece.text));
    }
}

/// Which policy counts for a host and why.
pub(crate) fn explain(it: &Explained) {
    let labels: Vec<String> =
        it.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    line(&format!("{}  {}", it.name, labels.join(" ")));
    match (&it.policy, &it.stage) {
        (Some(policy), Some(stage)) => line(&format!(
            "policy `{policy}` counts for it: strategy {}, stage {stage}, {} needed",
            it.strategy,
            counted(it.approvals.into(), "approval")
        )),
        (Some(policy), None) => {
            line(&format!("policy `{policy}` counts for it, and it is in no ring or pool"));
        }
        (None, _) => line("no policy counts for it: nothing is owed and nothing is ever changed"),
    }
    if !it.policies.is_empty() {
        line("\npolicies in force:");
        it.policies.iter().for_each(|p| considered(p, "policy"));
    }
    if !it.stages.is_empty() {
        line("\nstages, in order:");
        it.stages.iter().for_each(|s| considered(s, "stage"));
    }
    owed_findings(it);
    rules(it);
    line("");
    match it.changes.as_slice() {
        [] => line("a plan made now would change nothing"),
        changes => {
            line("a plan made now would change:");
            for change in changes {
                let from = if change.from.is_empty() { "new" } else { &change.from };
                line(&format!("  {} {from} → {}", change.name, change.to));
            }
            if !it.restarts.is_empty() {
                line(&format!("  likely to restart: {}", it.restarts.join(", ")));
            }
            if it.reboot_likely {
                line("  likely to reboot");
            }
        }
    }
    if !it.held.is_empty() {
        line("\nand would leave out:");
        for held in it.held.iter().take(NAMED) {
            let reasons: Vec<String> = held.reasons.iter().map(ToString::to_string).collect();
            line(&format!("  {}: {}", held.package, reasons.join(" ← ")));
        }
        more(it.held.len());
    }
    if it.holds.is_empty() {
        line("\nnothing stops progress on the host now");
    } else {
        line("\nwhat stops progress on the host now:");
        it.holds.iter().for_each(|hold| line(&format!("  {hold}")));
    }
    match &it.policy {
        Some(policy) if !it.changes.is_empty() => {
            hint(&format!("fettle plan make {policy} --host {}", it.name));
        }
        Some(policy) => hint(&format!("fettle policy show {policy}")),
        None => hint("fettle policy diff FILE says whom a policy would select"),
    }
}

fn owed_findings(it: &Explained) {
    if it.owed.is_empty() {
        return line("\nnothing is owed");
    }
    line(&format!("\nowed, what is due first at the head ({}):", it.owed.len()));
    let by = |at: Timestamp| if at < it.at { "was due" } else { "due" };
    for owed in it.owed.iter().take(NAMED) {
        let rule = it.classes.iter().find(|class| class.rule.name == owed.class);
        let class = match rule {
            Some(class) => format!("class {} ({})", owed.class, class.rule),
            None => "of no class".to_owned(),
        };
        let due = match (owed.deadline, owed.counted) {
            (Some(at), Some(counted)) => format!("{} {at}, {counted}", by(at)),
            _ => "without a date".to_owned(),
        };
        line(&format!(
            "  {} in {}: {}, {class}, {due}",
            owed.finding,
            owed.source,
            owed.state.word()
        ));
    }
    more(it.owed.len());
}

/// Exclusions, acceptances, budgets and times.
fn rules(it: &Explained) {
    for x in it.exclusions.iter().filter(|x| !x.packages.is_empty()) {
        let (rule, ended) = (&x.rule, if x.in_force { "until" } else { "no longer, since" });
        line(&format!(
            "\nexcluded {ended} {}: {} ({}, {})",
            rule.until,
            x.packages.join(", "),
            rule.reason,
            rule.owner
        ));
    }
    for x in it.pins.iter().filter(|x| !x.packages.is_empty()) {
        let (rule, ended) = (&x.rule, if x.in_force { "until" } else { "no longer, since" });
        line(&format!(
            "\npinned to {} {ended} {}: {} ({}, {})",
            rule.version,
            rule.until,
            x.packages.join(", "),
            rule.reason,
            rule.owner
        ));
    }
    for exempt in &it.exempt {
        line(&format!("\nexempt from {exempt}"));
    }
    for a in it.acceptances.iter().filter(|a| a.ended || !a.sources.is_empty()) {
        let (rule, ended) = (&a.rule, if a.ended { "no longer, since" } else { "until" });
        line(&format!(
            "\naccepted {ended} {}: {} in {} ({}, {})",
            rule.until,
            rule.finding,
            if a.ended {
                rule.source.clone().unwrap_or_else(|| "all".into())
            } else {
                a.sources.join(", ")
            },
            rule.reason,
            rule.owner
        ));
    }
    if !it.risks.is_empty() {
        line("\npackages that ask for more care:");
        for risk in &it.risks {
            line(&format!("  {}: {}: {}", risk.name, risk.packages.join(", "), risk.asks));
        }
    }
    if !it.budgets.is_empty() {
        line("\nbudgets that count it:");
        for b in &it.budgets {
            let well = b.min_healthy.map_or(String::new(), |n| format!(", {n} of them well"));
            let running = match &b.services[..] {
                [] => String::new(),
                units => format!("; well is who has {} active", units.join(", ")),
            };
            line(&format!(
                "  {}: at most {} of {} disrupted at once{well} ({}{running})",
                b.name,
                b.max_unavailable,
                counted(b.hosts, "host"),
                b.select
            ));
        }
    }
    if it.policy.is_some() {
        line("\nit may be changed:");
        if it.openings.is_empty() {
            line("  at no time within a year");
        }
        it.openings.iter().for_each(|opening| line(&format!("  {}", opens(Some(opening)))));
        for blackout in &it.blackouts {
            line(&format!(
                "  but not from {} to {}: {}",
                blackout.from, blackout.to, blackout.reason
            ));
        }
    }
}
