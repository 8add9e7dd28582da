//! What `patch` would do, and why not the rest.

use super::{Words, scan, usage};
use crate::inventory;
use crate::packages::{Apt, Driver as _, Resolution, ResolvedChange};
use crate::probe;
use crate::settings::Settings;
use fettle_core::assignment::{
    ApplyOrder, HalfConfiguredRule, MissingSymbol, PackageChange, RebootRule,
};
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::{Inventory, Origin, Upgrade};
use fettle_core::version::deb;
use fettle_core::{Hold, Problem, ProblemKind};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// An upgrade that is offered and not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LeftOut {
    package: String,
    from: String,
    to: String,
    /// Why.
    hold: Hold,
}

/// What was chosen on this host, by what was typed.
pub(super) struct Chosen {
    pub(super) order: ApplyOrder,
    left_out: Vec<LeftOut>,
    /// Packages that nobody named, and that those named need in step with them.
    brought: Vec<String>,
    inventory: Inventory,
    /// Shall what was not asked for be told as well?
    everything: bool,
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Plan<'a> {
    changes: &'a [PackageChange],
    download_bytes: u64,
    /// Package → vulnerabilities that its new version fixes. Empty without feeds.
    fixes: BTreeMap<&'a str, BTreeSet<&'a str>>,
    left_out: &'a [LeftOut],
    /// Packages that were not asked for, and that the others need in step with them.
    brought_along: &'a [String],
    /// Open findings that no offered version fixes, and why.
    not_fixed: Vec<Hold>,
    /// What could not be found out about this host.
    gaps: &'a [String],
}

/// `plan [PACKAGE...] [--only security] [--feeds DIR]`: touches nothing, and needs no root.
pub(super) fn plan(settings: &Settings, mut words: Words) -> Result<(), Problem> {
    let json = words.json;
    let named = words.option("--feeds")?;
    let directory = named.clone().unwrap_or_else(|| scan::FEEDS.to_owned());
    let chosen = choose(settings, words)?;
    let findings = match scan::judge(&chosen.inventory, Path::new(&directory)) {
        Ok((judgement, _)) => judgement.findings,
        // Without feeds there is a plan all the same, unless they were named.
        Err(problem) if named.is_some() => return Err(problem),
        Err(_) => Vec::new(),
    };
    let plan = Plan {
        changes: &chosen.order.changes,
        download_bytes: chosen.order.changes.iter().map(|c| c.size).sum(),
        fixes: fixes(&chosen.order.changes, &chosen.inventory, &findings),
        left_out: &chosen.left_out,
        brought_along: &chosen.brought,
        not_fixed: not_fixed(&findings),
        gaps: &chosen.inventory.gaps,
    };
    match json {
        true => out!("{}", serde_json::to_string_pretty(&plan).unwrap_or_default()),
        false => print(&plan, findings.is_empty(), &directory),
    }
    Ok(())
}

fn print(plan: &Plan<'_>, no_findings: bool, directory: &str) {
    for c in plan.changes {
        let fixes = plan.fixes.get(c.name.as_str()).map_or(0, BTreeSet::len);
        let fixes = if fixes == 0 { String::new() } else { format!("   fixes {fixes}") };
        out!("{:<32} {} → {}{fixes}", format!("{}:{}", c.name, c.architecture), c.from, c.to);
    }
    out!("{} packages, {:.1} MB to fetch", plan.changes.len(), plan.download_bytes as f64 / 1e6);
    if !plan.brought_along.is_empty() {
        out!("brought along, since the others need them: {}", plan.brought_along.join(", "));
    }
    for left in plan.left_out {
        out!("not {} {} → {}: {}", left.package, left.from, left.to, left.hold);
    }
    let unfixed = |code: &str| plan.not_fixed.iter().filter(|h| h.code() == code).count();
    let no_fix = Hold::NoFix { finding: String::new() }.code();
    match no_findings {
        true => out!("no vulnerability data in {directory}: what this fixes is not known"),
        false => out!(
            "not fixed by it: {} without a fix by the vendor, {} whose fix this host's sources do not offer",
            unfixed(no_fix),
            plan.not_fixed.len() - unfixed(no_fix)
        ),
    }
    for gap in plan.gaps {
        out!("not known: {gap}");
    }
    out!("→ fettle-agent rehearse, then fettle-agent patch");
}

/// Which vulnerabilities each changed package fixes.
fn fixes<'a>(
    changes: &'a [PackageChange],
    inventory: &Inventory,
    findings: &'a [Finding],
) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let fixed = |change: &PackageChange| {
        let upgrade = inventory
            .upgrades
            .iter()
            .find(|u| u.name == change.name && u.architecture == change.architecture);
        let source_version = upgrade.map_or(change.to.clone(), |u| u.source_version.clone());
        let holds = |finding: &&Finding| {
            finding.state == FindingState::Open
                && finding.binaries.contains(&change.name)
                && finding
                    .fixed_version
                    .as_ref()
                    .is_some_and(|fixed| deb::compare_lenient(&source_version, fixed).is_ge())
        };
        findings.iter().filter(holds).map(|f| f.id.as_str()).collect::<BTreeSet<_>>()
    };
    changes
        .iter()
        .map(|change| (change.name.as_str(), fixed(change)))
        .filter(|(_, ids)| !ids.is_empty())
        .collect()
}

/// Findings that no version on offer fixes.
fn not_fixed(findings: &[Finding]) -> Vec<Hold> {
    let hold = |f: &Finding| match (&f.state, &f.fixed_version) {
        (FindingState::NoFixYet, _) => Some(Hold::NoFix { finding: f.id.clone() }),
        (FindingState::Open, Some(fixed)) if !f.offered => {
            Some(Hold::FixNotOffered { finding: f.id.clone(), fixed_version: fixed.clone() })
        }
        _ => None,
    };
    findings.iter().filter_map(hold).collect()
}

/// Reads what was typed: the packages named, or every security upgrade.
pub(super) fn choose(settings: &Settings, mut words: Words) -> Result<Chosen, Problem> {
    let only = words.option("--only")?;
    if let Some(other) = only.as_deref().filter(|only| *only != "security") {
        return Err(usage(format!("--only takes security, or name the packages; not `{other}`")));
    }
    let hung_after_seconds = seconds(&mut words, "--hung-after")?;
    let confirm_seconds = seconds(&mut words, "--confirm-within")?;
    let half_configured = match words.flag("--repair") {
        true => HalfConfiguredRule::Repair,
        false => HalfConfiguredRule::Refuse,
    };
    let reboot = match words.flag("--reboot") {
        true => RebootRule::WhenNeeded,
        false => RebootRule::Never,
    };
    let mut accept_missing = Vec::new();
    while let Some(text) = words.option("--accept-missing")? {
        accept_missing.push(missing_symbol(&text)?);
    }
    let names: Vec<String> = words.rest()?;
    let inventory = inventory::collect(settings);
    let (mut taken, mut left_out) =
        sort_out(&inventory.upgrades, &inventory.held, &names, only.is_some());
    let apt = Apt::new(settings);
    // What apt itself says no to, preflight tells with apt's words.
    let resolve = |changes: &[PackageChange]| apt.simulate(changes).ok();
    let brought = bring_along(&mut taken, &inventory.upgrades, &inventory.held, resolve);
    left_out.retain(|left| !taken.iter().any(|u| u.name == left.package && u.to == left.to));
    if let Some(unknown) = names.iter().find(|n| !inventory.upgrades.iter().any(|u| is(u, n))) {
        let known = inventory.packages.iter().any(|p| p.name == *unknown);
        let why = if known { "is as new as its sources offer" } else { "is not installed here" };
        return Err(Problem::new(
            ProblemKind::NotFound,
            "no-such-upgrade",
            format!("{unknown} {why}"),
            "apt-get update, then fettle-agent plan",
        ));
    }
    let changes = taken.into_iter().map(PackageChange::from).collect();
    let probes = probe::commands(&settings.config_dir.join("probes.d"));
    let order = ApplyOrder {
        changes,
        probes,
        hung_after_seconds,
        half_configured,
        accept_missing,
        confirm_seconds,
        reboot,
        ..ApplyOrder::default()
    };
    Ok(Chosen { order, left_out, brought, inventory, everything: names.is_empty() })
}

fn seconds(words: &mut Words, option: &str) -> Result<Option<u32>, Problem> {
    let text = words.option(option)?;
    let wrong = |text: String| usage(format!("{option} wants seconds, not `{text}`"));
    text.map(|text| text.parse().map_err(|_| wrong(text))).transpose()
}

/// `SYMBOL@FILE`.
fn missing_symbol(text: &str) -> Result<MissingSymbol, Problem> {
    // Symbols have versions after an @ of their own: `memcpy@GLIBC_2.14`.
    match text.rsplit_once('@') {
        Some((symbol, file)) if !symbol.is_empty() && file.starts_with(['/', '*']) => {
            Ok(MissingSymbol { symbol: symbol.to_owned(), file: file.to_owned() })
        }
        _ => Err(usage(format!(
            "--accept-missing wants SYMBOL@FILE with FILE from the root on (* and ? are globs), not `{text}`"
        ))),
    }
}

/// As [`choose`], for commands that go on with it: says what was asked for and is left out, and refuses an order
/// that holds nothing.
pub(super) fn order(settings: &Settings, words: Words) -> Result<ApplyOrder, Problem> {
    let chosen = choose(settings, words)?;
    let asked =
        |left: &&LeftOut| !chosen.everything || !matches!(left.hold, Hold::SourceNotAllowed { .. });
    for left in chosen.left_out.iter().filter(asked) {
        err!("left out: {}", left.hold);
    }
    if !chosen.brought.is_empty() {
        err!("brought along, since the others need them: {}", chosen.brought.join(", "));
    }
    if chosen.order.changes.is_empty() {
        return Err(Problem::new(
            ProblemKind::NotFound,
            Hold::NothingToDo.code(),
            "no such upgrade is offered by this host's sources",
            "apt-get update, then fettle-agent plan",
        ));
    }
    Ok(chosen.order)
}

/// Which upgrades are taken, and why not the others. Without names: those from a security suite. With names: those,
/// and with `security` only where they come from one.
fn sort_out<'u>(
    upgrades: &'u [Upgrade],
    held: &[String],
    names: &[String],
    security: bool,
) -> (Vec<&'u Upgrade>, Vec<LeftOut>) {
    let (mut taken, mut left_out) = (Vec::new(), Vec::new());
    for upgrade in upgrades {
        if !names.is_empty() && !names.iter().any(|name| is(upgrade, name)) {
            continue;
        }
        let package = upgrade.name.clone();
        let hold = if held.contains(&upgrade.name) {
            Hold::PackageHeld { package }
        } else if !upgrade.removes.is_empty() {
            Hold::WouldRemove { package, removes: upgrade.removes.clone() }
        } else if (names.is_empty() || security) && !upgrade.origin.is_security() {
            Hold::SourceNotAllowed { package, origin: place(&upgrade.origin) }
        } else {
            taken.push(upgrade);
            continue;
        };
        left_out.push(LeftOut {
            package: upgrade.name.clone(),
            from: upgrade.from.clone(),
            to: upgrade.to.clone(),
            hold,
        });
    }
    (taken, left_out)
}

/// Adds what those that are taken need in step with them (other binaries of one source, a newer library), as far as
/// it is on offer, nobody holds it, and nothing is removed for it. Gives their names.
fn bring_along<'u>(
    taken: &mut Vec<&'u Upgrade>,
    upgrades: &'u [Upgrade],
    held: &[String],
    resolve: impl Fn(&[PackageChange]) -> Option<Resolution>,
) -> Vec<String> {
    let mut brought = Vec::new();
    // Each round adds at least one, or is the last.
    while !taken.is_empty() {
        let changes: Vec<PackageChange> = taken.iter().map(|u| PackageChange::from(*u)).collect();
        let Some(resolution) = resolve(&changes) else { break };
        let wanted = |u: &&Upgrade| {
            let step = |s: &ResolvedChange| {
                s.name == u.name && s.architecture == u.architecture && s.to == u.to
            };
            resolution.steps.iter().any(step)
                && !changes.iter().any(|c| c.name == u.name && c.architecture == u.architecture)
                && !held.contains(&u.name)
                && u.removes.is_empty()
        };
        let more: Vec<&Upgrade> = upgrades.iter().filter(wanted).collect();
        if more.is_empty() {
            break;
        }
        brought.extend(more.iter().map(|u| u.name.clone()));
        taken.extend(more);
    }
    brought
}

fn place(origin: &Origin) -> String {
    let known: Vec<&str> = [origin.label.as_str(), origin.suite.as_str()]
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect();
    if known.is_empty() { "a source without a name".to_owned() } else { known.join(" ") }
}

fn is(upgrade: &Upgrade, name: &str) -> bool {
    name == upgrade.name || name == format!("{}:{}", upgrade.name, upgrade.architecture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::Digest;

    fn upgrade(name: &str, label: &str, removes: &[&str]) -> Upgrade {
        Upgrade {
            name: name.into(),
            architecture: "amd64".into(),
            from: "1".into(),
            to: "2".into(),
            origin: Origin { label: label.into(), suite: "stable".into(), ..Origin::default() },
            sha256: Digest::of(b""),
            size: 1,
            source_version: "2".into(),
            brings: Vec::new(),
            removes: removes.iter().map(|r| (*r).into()).collect(),
        }
    }

    #[test]
    fn each_upgrade_is_taken_or_left_out_with_its_reason() {
        let all = [
            upgrade("openssl", "Debian-Security", &[]),
            upgrade("bash", "Debian", &[]),
            upgrade("held", "Debian-Security", &[]),
            upgrade("breaks", "Debian-Security", &["other"]),
        ];
        let held = ["held".to_owned()];
        let sorted = |names: &[&str], security| {
            let names: Vec<String> = names.iter().map(|n| (*n).into()).collect();
            let (taken, left) = sort_out(&all, &held, &names, security);
            let taken: Vec<String> = taken.iter().map(|u| u.name.clone()).collect();
            let left: Vec<(String, &str)> =
                left.into_iter().map(|l| (l.package, l.hold.code())).collect();
            (taken, left)
        };
        let holds = |of: &[(&str, &'static str)]| -> Vec<(String, &'static str)> {
            of.iter().map(|(p, h)| ((*p).to_owned(), *h)).collect()
        };
        let (taken, left) = sorted(&[], false);
        assert_eq!(taken, ["openssl"]);
        let all_holds =
            [("bash", "source-not-allowed"), ("held", "package-held"), ("breaks", "would-remove")];
        assert_eq!(left, holds(&all_holds));
        assert_eq!(sorted(&["bash:amd64"], false), (vec!["bash".to_owned()], vec![]));
        let (taken, left) = sorted(&["bash", "held"], true);
        assert_eq!((taken, left), (vec![], holds(&all_holds[..2])));
    }

    #[test]
    fn what_the_named_ones_need_comes_along_and_nothing_else() {
        let held = ["held".to_owned()];
        let upgrades = ["nginx", "nginx-common", "libssl3", "held", "bash"]
            .map(|name| upgrade(name, "Debian", &[]));
        // nginx needs nginx-common, that needs libssl3; whatever is asked for, apt would touch `held` too.
        let resolve = |changes: &[PackageChange]| {
            let has = |name: &str| changes.iter().any(|c| c.name == name);
            let mut names = vec!["held", "unknown"];
            names.extend(has("nginx").then_some("nginx-common"));
            names.extend(has("nginx-common").then_some("libssl3"));
            let step = |name: &str| ResolvedChange {
                name: name.into(),
                architecture: "amd64".into(),
                from: "1".into(),
                to: "2".into(),
                releases: String::new(),
            };
            Some(Resolution { steps: names.into_iter().map(step).collect() })
        };
        let mut taken = vec![&upgrades[0]];
        assert_eq!(bring_along(&mut taken, &upgrades, &held, resolve), ["nginx-common", "libssl3"]);
        assert_eq!(taken.len(), 3);
        let mut taken = vec![&upgrades[0]];
        assert!(bring_along(&mut taken, &upgrades, &held, |_| None).is_empty());
    }
}
