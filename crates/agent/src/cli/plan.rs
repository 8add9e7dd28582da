//! What `patch` would do, and why not the rest.

use super::proof::{self, Exposed};
use super::{Words, scan, usage};
use crate::inventory;
use crate::packages::{Apt, Driver as _, Resolution};
use crate::probe;
use crate::reach::Reach;
use crate::settings::Settings;
use fettle_core::assignment::{
    ApplyOrder, HalfConfiguredRule, MissingSymbol, PackageChange, RebootRule,
};
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::{Inventory, Upgrade};
use fettle_core::plan::{AloneInput, AlonePlan, Asked, Held, LeftOut, alone};
use fettle_core::{Hold, Problem, ProblemKind, Shared, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What was chosen on this host, by what was typed.
pub(super) struct Chosen {
    order: ApplyOrder,
    plan: AlonePlan,
    inventory: Inventory,
    /// Where the host is exposed, of what the changes fix.
    exposed: Exposed,
    /// Were packages named?
    names_any: bool,
    /// Why it is not known what the changes fix.
    blind: Option<String>,
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    changes: &'a [Shared<PackageChange>],
    download_bytes: u64,
    /// Package → vulnerabilities that its new version fixes.
    fixes: BTreeMap<&'a str, &'a [String]>,
    /// Packages that were not asked for, and that the others need in step with them.
    brought_along: &'a [String],
    /// Units that are likely to restart.
    restarts: &'a [String],
    /// A kernel is among the changes.
    reboot_likely: bool,
    /// Upgrades that are offered and not taken.
    left_out: &'a [LeftOut],
    /// Package → vulnerabilities that its upgrade would fix, had it been asked for.
    not_asked: &'a BTreeMap<String, Vec<String>>,
    /// Findings that nothing on offer fixes.
    not_fixed: Vec<NotFixed<'a>>,
    /// Why it is not known what the changes fix. `null`: it is.
    blind: Option<&'a str>,
    /// What could not be found out about this host.
    gaps: &'a [String],
}

#[derive(Serialize)]
struct NotFixed<'a> {
    source: &'a str,
    findings: &'a [String],
    reasons: &'a [Hold],
}

/// `plan [PACKAGE...] [--only security] [--feeds DIR]`: touches nothing, and needs no root.
pub(super) fn plan(settings: &Settings, words: Words) -> Result<(), Problem> {
    let json = words.json;
    let chosen = choose(settings, words)?;
    let plan = chosen.printed();
    match json {
        true => out!("{}", serde_json::to_string_pretty(&plan).unwrap_or_default()),
        false => print(&plan),
    }
    Ok(())
}

impl Chosen {
    fn printed(&self) -> Printed<'_> {
        let Self { plan, inventory, .. } = self;
        let fixes = plan.why.iter().filter(|(_, ids)| !ids.is_empty());
        Printed {
            changes: &plan.changes,
            download_bytes: plan.changes.iter().map(|c| c.size).sum(),
            fixes: fixes.map(|(name, ids)| (name.as_str(), ids.as_slice())).collect(),
            brought_along: &plan.brought,
            restarts: &plan.restarts,
            reboot_likely: plan.reboot_likely,
            left_out: &plan.left_out,
            not_asked: &plan.not_asked,
            not_fixed: plan.not_fixed.iter().map(not_fixed).collect(),
            blind: self.blind.as_deref(),
            gaps: &inventory.gaps,
        }
    }
}

fn not_fixed(held: &Held) -> NotFixed<'_> {
    let Held { package: source, findings, reasons, .. } = held;
    NotFixed { source, findings, reasons }
}

fn print(plan: &Printed<'_>) {
    for c in plan.changes {
        let fixes = plan.fixes.get(c.name.as_str()).map_or(0, |ids| ids.len());
        let fixes = if fixes == 0 { String::new() } else { format!("   fixes {fixes}") };
        out!("{:<32} {} → {}{fixes}", format!("{}:{}", c.name, c.architecture), c.from, c.to);
    }
    let megabytes = plan.download_bytes as f64 / 1e6;
    out!("{}, {megabytes:.1} MB to fetch", counted(plan.changes.len(), "package"));
    if !plan.brought_along.is_empty() {
        out!("brought along, since they go together: {}", plan.brought_along.join(", "));
    }
    if !plan.restarts.is_empty() {
        out!("likely to restart: {}", plan.restarts.join(", "));
    }
    if plan.reboot_likely {
        out!("a new kernel runs only after a reboot: fettle-agent patch --reboot");
    }
    for left in plan.left_out {
        out!("not {}: {}", named(left), because(&left.reasons));
    }
    let unfixed = |vendor: bool| -> usize {
        let by_vendor =
            |n: &&NotFixed<'_>| n.reasons.iter().any(|r| matches!(r, Hold::NoFix { .. })) == vendor;
        plan.not_fixed.iter().filter(by_vendor).map(|n| n.findings.len()).sum()
    };
    match plan.blind {
        Some(why) => out!("what this fixes is not known: {why}"),
        None => {
            let mut not = vec![
                format!("{} without a fix by the vendor", unfixed(true)),
                format!("{} whose fix this host's sources do not offer", unfixed(false)),
            ];
            let others: BTreeSet<&String> = plan.not_asked.values().flatten().collect();
            if !others.is_empty() {
                let others = others.len();
                not.push(format!("{others} that upgrades fix which were not asked for"));
            }
            out!("not fixed by it: {}", not.join(", "));
        }
    }
    for gap in plan.gaps {
        out!("not known: {gap}");
    }
    out!(
        "→ {}",
        match (plan.changes.is_empty(), plan.left_out.is_empty()) {
            (false, _) => "fettle-agent rehearse, then fettle-agent patch",
            (true, true) => "nothing is to be done; apt-get update asks the sources again",
            (true, false) => "see the reasons above; what is named is taken whatever it fixes",
        }
    );
}

/// `name:architecture from → to`.
fn named(left: &LeftOut) -> String {
    format!("{}:{} {} → {}", left.package, left.architecture, left.from, left.to)
}

/// `1 package`, `2 packages`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The chain of reasons, nearest first.
fn because(reasons: &[Hold]) -> String {
    reasons.iter().map(Hold::to_string).collect::<Vec<_>>().join("; ")
}

/// Reads what was typed: the packages named, or every security upgrade.
fn choose(settings: &Settings, mut words: Words) -> Result<Chosen, Problem> {
    let only = words.option("--only")?;
    if let Some(other) = only.as_deref().filter(|only| *only != "security") {
        return Err(usage(format!("--only takes security, or name the packages; not `{other}`")));
    }
    let feeds = words.option("--feeds")?;
    let names_feeds = feeds.is_some();
    let hung_after_seconds = seconds(&mut words, "--hung-after")?;
    let confirm_seconds = seconds(&mut words, "--confirm-within")?;
    let deadman_seconds = seconds(&mut words, "--deadman")?;
    let latency_margin_percent = number(&mut words, "--latency-margin", "percent")?;
    let half_configured = match words.flag("--repair") {
        true => HalfConfiguredRule::Repair,
        false => HalfConfiguredRule::Refuse,
    };
    let reboot = match words.flag("--reboot") {
        true => RebootRule::WhenNeeded,
        false => RebootRule::Never,
    };
    let rehearse_online = words.flag("--network");
    let mut accept_missing = Vec::new();
    while let Some(text) = words.option("--accept-missing")? {
        accept_missing.push(missing_symbol(&text)?);
    }
    let names: Vec<String> = words.rest()?;
    if deadman_seconds.is_some() && !Reach::of(settings).is_anything() {
        return Err(usage(format!(
            "--deadman has nothing to reach: name a peer in {} (ADDRESS:PORT), or enrol this host",
            settings.peer_path().display()
        )));
    }
    let inventory = inventory::collect(settings, inventory::Age::Recent);
    let feeds = proof::absolute(Path::new(feeds.as_deref().unwrap_or(scan::FEEDS)));
    let (findings, blind) = exposed(&inventory, &feeds, names_feeds)?;
    let apt = Apt::new(settings);
    // What apt itself says no to, preflight tells with apt's words.
    let resolve = |changes: &[Shared<PackageChange>]| apt.simulate(changes).ok();
    let input = AloneInput {
        inventory: &inventory,
        findings: &findings,
        asked: Asked {
            packages: &names,
            only_security: only.is_some(),
            along: &[],
            may_reboot: reboot == RebootRule::WhenNeeded,
        },
        now: Timestamp::now(),
    };
    let plan = in_step(input, resolve);
    let known = |name: &String| inventory.upgrades.iter().any(|u| u.is_called(name));
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let bare = unknown.split(':').next().unwrap_or(unknown);
        let is_here = inventory.packages.iter().any(|p| p.name == bare);
        let refusal = is_here.then(|| apt.refusal(unknown)).flatten();
        if let (None, Some(pinned)) = (&refusal, inventory.pinned.get_key_value(bare)) {
            let hold = Hold::pinned(pinned);
            let hint = "change /etc/apt/preferences and /etc/apt/preferences.d, then try again";
            return Err(Problem::new(ProblemKind::NotFound, hold.code(), hold.to_string(), hint));
        }
        let (why, hint) = match (is_here, refusal) {
            (false, _) => ("is not installed here".to_owned(), "fettle-agent plan"),
            (true, None) => (
                "is as new as its sources offer".to_owned(),
                "apt-get update, then fettle-agent plan",
            ),
            (true, Some(said)) => (
                format!("cannot be upgraded to what its sources offer: {said}"),
                "give the host a source that has what it needs, apt-get update, then try again",
            ),
        };
        let message = format!("{unknown} {why}");
        return Err(Problem::new(ProblemKind::NotFound, "no-such-upgrade", message, hint));
    }
    let order = ApplyOrder {
        changes: plan.changes.clone(),
        fixes: plan.fixes.clone(),
        probes: probe::commands(&settings.config_dir.join("probes.d")),
        hung_after_seconds,
        latency_margin_percent,
        half_configured,
        accept_missing,
        rehearse_online,
        confirm_seconds,
        deadman_seconds,
        reboot,
        ..ApplyOrder::default()
    };
    let is_fixed = |f: &Finding| plan.why.values().any(|ids| ids.contains(&f.id));
    let findings = findings.into_iter().filter(|f| f.state == FindingState::Open && is_fixed(f));
    let exposed = Exposed { feeds, findings: findings.collect() };
    Ok(Chosen { order, plan, inventory, exposed, names_any: !names.is_empty(), blind })
}

/// Where the host is exposed, by the feeds of a directory. Without feeds there is a plan all the same, unless they were
/// `named`: then only suites say what is urgent, and the second word why.
fn exposed(
    inventory: &Inventory,
    feeds: &Path,
    named: bool,
) -> Result<(Vec<Finding>, Option<String>), Problem> {
    match scan::judge(inventory, &scan::own_name(), feeds, &[]) {
        Ok(judged) => Ok((judged.judgement.findings, None)),
        Err(problem) if named => Err(problem),
        Err(problem) => Ok((Vec::new(), Some(format!("{}; {}", problem.message, problem.hint)))),
    }
}

/// The plan, and with it what the package manager needs in step with its changes (a newer library, another binary):
/// as far as that is on offer, nobody holds it, and nothing is removed for it.
fn in_step(
    input: AloneInput<'_>,
    resolve: impl Fn(&[Shared<PackageChange>]) -> Option<Resolution>,
) -> AlonePlan {
    let (asked, inventory) = (input.asked, input.inventory);
    let mut along: Vec<String> = Vec::new();
    // Each round brings at least one more, or is the last.
    loop {
        let plan = alone(AloneInput { asked: Asked { along: &along, ..asked }, ..input });
        let resolution = (!plan.changes.is_empty()).then(|| resolve(&plan.changes)).flatten();
        let is_missing = |u: &&Upgrade| {
            let same = |n: &str, a: &str| n == u.name && a == u.architecture;
            let steps = resolution.as_ref().map_or(&[][..], |r| &r.steps);
            steps.iter().any(|s| same(&s.name, &s.architecture) && s.to == u.to)
                && !plan.changes.iter().any(|c| same(&c.name, &c.architecture))
                && !inventory.held.contains(&u.name)
                && u.removes.is_empty()
        };
        let qualified = |u: &Upgrade| format!("{}:{}", u.name, u.architecture);
        let missing: Vec<String> = inventory
            .upgrades
            .iter()
            .map(|u| &**u)
            .filter(is_missing)
            .map(qualified)
            .filter(|name| !along.contains(name))
            .collect();
        if missing.is_empty() {
            return plan;
        }
        along.extend(missing);
    }
}

fn seconds(words: &mut Words, option: &str) -> Result<Option<u32>, Problem> {
    number(words, option, "seconds")
}

fn number(words: &mut Words, option: &str, of: &str) -> Result<Option<u32>, Problem> {
    let text = words.option(option)?;
    let wrong = |text: String| usage(format!("{option} wants {of}, not `{text}`"));
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

/// What stands beside a transaction in what is printed for programs.
pub(super) type Beside = serde_json::Map<String, serde_json::Value>;

/// An order that was typed, and what was said of it.
pub(super) struct Ordered {
    pub(super) order: ApplyOrder,
    /// Where the host is exposed, of what it fixes.
    pub(super) exposed: Exposed,
    /// `left_out` and `brought_along`, as `plan -o json` prints them; empty where a person was told.
    pub(super) beside: Beside,
}

/// As [`choose`], for commands that go on with it: says what was asked for and is left out, and refuses an order
/// that holds nothing.
pub(super) fn order(settings: &Settings, words: Words) -> Result<Ordered, Problem> {
    let json = words.json;
    let chosen = choose(settings, words)?;
    let Chosen { order, plan, names_any, .. } = &chosen;
    // Who names nothing is not told of each update that is none of security's.
    let is_worth = |left: &&LeftOut| {
        *names_any || !left.reasons.iter().any(|r| matches!(r, Hold::NotSecurity { .. }))
    };
    let told: Vec<&LeftOut> = plan.left_out.iter().filter(is_worth).collect();
    let nothing = match told.is_empty() {
        true => "no such upgrade is offered by this host's sources".to_owned(),
        // Said here too: programs read only this.
        false => format!(
            "every upgrade that was asked for is left out: {}",
            told.iter().map(|left| because(&left.reasons)).collect::<Vec<_>>().join(" | ")
        ),
    };
    let mut beside = Beside::new();
    if json {
        beside.insert("left_out".into(), serde_json::json!(told));
        beside.insert("brought_along".into(), serde_json::json!(plan.brought));
    } else {
        for left in told {
            err!("left out: {}: {}", named(left), because(&left.reasons));
        }
        if !plan.brought.is_empty() {
            err!("brought along, since they go together: {}", plan.brought.join(", "));
        }
    }
    if order.changes.is_empty() {
        return Err(Problem::new(
            ProblemKind::NotFound,
            Hold::NothingToDo.code(),
            nothing,
            "apt-get update, then fettle-agent plan",
        ));
    }
    Ok(Ordered { order: chosen.order, exposed: chosen.exposed, beside })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::ResolvedChange;
    use fettle_core::inventory::Origin;
    use fettle_core::{Digest, Shared};

    fn upgrade(name: &str) -> Upgrade {
        Upgrade {
            name: name.into(),
            architecture: "amd64".into(),
            from: "1".into(),
            to: "2".into(),
            origin: Origin { label: "Debian".into(), suite: "stable".into(), ..Origin::default() },
            sha256: Digest::of(b""),
            size: 1,
            source_version: "2".into(),
            brings: Vec::new(),
            removes: Vec::new(),
        }
    }

    #[test]
    fn what_the_named_ones_need_comes_along_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings { root: root.path().to_owned(), ..Settings::default() };
        let mut inventory = inventory::collect(&settings, inventory::Age::Recent);
        inventory.upgrades = ["bash", "held", "libssl3", "nginx", "nginx-common"]
            .map(|n| Shared::from(upgrade(n)))
            .into();
        inventory.held = vec!["held".into()];
        // nginx needs nginx-common, that needs libssl3; whatever is asked for, apt would touch `held` too.
        let resolve = |changes: &[Shared<PackageChange>]| {
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
        let names = ["nginx".to_owned()];
        let input = AloneInput {
            inventory: &inventory,
            findings: &[],
            asked: Asked { packages: &names, ..Asked::default() },
            now: Timestamp::UNIX_EPOCH,
        };
        let plan = in_step(input, resolve);
        let changed: Vec<&str> = plan.changes.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(changed, ["libssl3", "nginx", "nginx-common"]);
        assert_eq!(plan.brought, ["libssl3", "nginx-common"]);
        let plan = in_step(input, |_| None);
        assert_eq!((plan.changes.len(), plan.brought.len()), (1, 0));
    }
}
