//! A host on its own: what was typed there stands for the policy, and the same decisions are made for it as for a
//! host of a fleet.

use super::host::{Exempt, Unwanted, Verdict, Worth, decide, fixable};
use super::parts::Parts;
use super::restarts::is_kernel_image;
use super::{Held, NotDone, Reasons};
use crate::assignment::{PackageChange, RebootRule};
use crate::finding::Finding;
use crate::inventory::{Inventory, Origin, Upgrade};
use crate::policy::Policy;
use crate::{Digest, Hold, Shared, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What was asked for on the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// These packages, as `name` or `name:architecture`, and what must go with them. Empty: all.
    pub packages: &'a [String],
    /// Only upgrades that fix a finding or come from a security suite; so it is, too, where no package is named.
    pub only_security: bool,
    /// Packages that nobody asked for and that the package manager needs in step with the others.
    pub along: &'a [String],
    /// May the host reboot itself for it? Without, no vulnerability of a kernel is proved gone by the change.
    pub may_reboot: bool,
}

/// Everything that a host's own plan is a function of.
#[derive(Debug, Clone, Copy)]
pub struct AloneInput<'a> {
    /// What is on the host, and what its sources offer.
    pub inventory: &'a Inventory,
    /// Where it is exposed. Empty without feeds: then only the suites say what is urgent.
    pub findings: &'a [Finding],
    /// What was typed.
    pub asked: Asked<'a>,
    /// Now.
    pub now: Timestamp,
}

/// What would be changed on the host, and why not the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct AlonePlan {
    /// To be changed, by name.
    pub changes: Vec<Shared<PackageChange>>,
    /// Package → vulnerabilities it fixes (empty: none that is known).
    pub why: Reasons,
    /// Those among the changes that were not asked for: binaries of the same source, or what these need.
    pub brought: Vec<String>,
    /// Units that run code of the packages now and are likely to restart.
    pub restarts: Vec<String>,
    /// A kernel is among the packages.
    pub reboot_likely: bool,
    /// Vulnerabilities that must be proved gone after it, on disk and in memory.
    pub fixes: Vec<String>,
    /// Every other upgrade that was asked for, and why it is not taken.
    pub left_out: Vec<LeftOut>,
    /// Package → vulnerabilities that its upgrade would fix, had it been asked for.
    pub not_asked: BTreeMap<String, Vec<String>>,
    /// Findings, by source package, that nothing on offer fixes, and why.
    pub not_fixed: Vec<Held>,
}

/// An upgrade that was asked for and is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Binary package.
    pub package: String,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// Version that is installed; empty where it would be new.
    pub from: String,
    /// Version on offer.
    pub to: String,
    /// Why, nearest reason first.
    pub reasons: Vec<Hold>,
}

impl LeftOut {
    fn of(upgrade: &Upgrade, reasons: Vec<Hold>) -> Self {
        Self {
            package: upgrade.name.clone(),
            architecture: upgrade.architecture.clone(),
            from: upgrade.from.clone(),
            to: upgrade.to.clone(),
            reasons,
        }
    }
}

impl Asked<'_> {
    /// Without names, and with the wish said, only security updates are meant.
    fn is_security_only(&self) -> bool {
        self.only_security || self.packages.is_empty()
    }
    /// Was it named, or is nothing?
    fn names(&self, upgrade: &Upgrade) -> bool {
        self.packages.is_empty() || is_among(upgrade, self.packages)
    }
}

fn is_among(upgrade: &Upgrade, names: &[String]) -> bool {
    names.iter().any(|name| upgrade.is_called(name))
}

/// Makes the plan of a host that asks nobody. Pure.
pub fn alone(input: AloneInput<'_>) -> AlonePlan {
    let AloneInput { inventory, asked, now, .. } = input;
    // Allows everything at once: whoever types on a host has decided already.
    let reboot = if asked.may_reboot { RebootRule::WhenNeeded } else { RebootRule::Never };
    let policy = Policy { reboot, ..Policy::bare(Digest::of(b"")) };
    let mut findings: Vec<&Finding> = input.findings.iter().collect();
    findings
        .sort_by(|a, b| (&a.source, &a.id, &a.installed).cmp(&(&b.source, &b.id, &b.installed)));
    let wish = |upgrade: &Upgrade, worth: Worth| {
        let wanted = asked.names(upgrade) && (worth.is_security() || !asked.is_security_only());
        wanted || is_among(upgrade, asked.along)
    };
    let unwanted = Unwanted::default();
    let verdict = decide(
        &policy,
        (inventory, Exempt::default()),
        &findings,
        unwanted,
        now,
        &wish,
        &mut Parts::default(),
    );
    let Verdict { work, mut not_done, held_architectures, .. } = verdict;
    let changes = work.order.changes;
    let unfixed = not_done.split_off(held_architectures.len());

    type Key<'k> = (&'k str, &'k str);
    let of = |u: &'_ Upgrade| (u.name.clone(), u.architecture.clone());
    let offered: BTreeMap<(String, String), &Upgrade> =
        inventory.upgrades.iter().map(|u| (of(u), &**u)).collect();
    let holds = not_done.into_iter().zip(held_architectures);
    let mut left_out: Vec<LeftOut> = holds
        .filter_map(|(held, architecture)| {
            offered.get(&(held.package, architecture)).map(|u| LeftOut::of(u, held.reasons))
        })
        .collect();
    let changed: BTreeSet<Key<'_>> =
        changes.iter().map(|c| (c.name.as_str(), c.architecture.as_str())).collect();
    let is_changed = |u: &Upgrade| changed.contains(&(u.name.as_str(), u.architecture.as_str()));
    // Nobody decided about what is no security update where only those were meant.
    let undecided: Vec<LeftOut> = {
        let held: BTreeSet<Key<'_>> =
            left_out.iter().map(|l| (l.package.as_str(), l.architecture.as_str())).collect();
        let is_held = |u: &Upgrade| held.contains(&(u.name.as_str(), u.architecture.as_str()));
        let undecided =
            |u: &&&Upgrade| !u.from.is_empty() && asked.names(u) && !is_changed(u) && !is_held(u);
        let not_security = |upgrade: &&Upgrade| {
            let (package, origin) = (upgrade.name.clone(), place(&upgrade.origin));
            LeftOut::of(upgrade, vec![Hold::NotSecurity { package, origin }])
        };
        offered.values().filter(undecided).map(not_security).collect()
    };
    left_out.extend(undecided);

    // What an upgrade fixes that nobody asked for is on offer all the same.
    let unasked: Vec<&Upgrade> = offered
        .values()
        .filter(|u| !u.from.is_empty() && !asked.names(u) && !is_changed(u))
        .copied()
        .collect();
    let mut not_asked: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut elsewhere: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (upgrade, fixes) in unasked.iter().zip(fixable(&unasked, &findings)) {
        let ids: BTreeSet<&str> = fixes.iter().map(|f| f.id.as_str()).collect();
        if !ids.is_empty() {
            not_asked.insert(upgrade.name.clone(), ids.into_iter().map(str::to_owned).collect());
        }
        elsewhere.extend(fixes.iter().map(|f| (f.source.as_str(), f.id.as_str())));
    }
    let not_fixed = unfixed
        .into_iter()
        .filter_map(|mut held| {
            let offers = held.reasons.iter().any(|r| matches!(r, Hold::FixNotOffered { .. }));
            if offers {
                let package = held.package.clone();
                held.findings.retain(|id| !elsewhere.contains(&(package.as_str(), id.as_str())));
            }
            (!held.findings.is_empty()).then(|| here(held))
        })
        .collect();

    let is_brought = |u: &&Upgrade| is_changed(u) && (!asked.names(u) || is_among(u, asked.along));
    let brought = inventory
        .upgrades
        .iter()
        .map(|u| &**u)
        .filter(is_brought)
        .map(|u| u.name.clone())
        .collect();
    let reboot_likely =
        inventory.kernel.from_package && changes.iter().any(|c| is_kernel_image(&c.name));
    let (why, restarts, fixes) = (work.why, work.restarts, work.order.fixes);
    AlonePlan {
        changes,
        why,
        brought,
        restarts,
        reboot_likely,
        fixes,
        left_out,
        not_asked,
        not_fixed,
    }
}

/// On the host that asks.
fn here(it: NotDone) -> Held {
    let NotDone { package, reasons, findings } = it;
    Held { host: "local".into(), name: "local".into(), package, findings, reasons }
}

/// Where an upgrade comes from, as its `Release` file says.
fn place(origin: &Origin) -> String {
    let known: Vec<&str> = [origin.label.as_str(), origin.suite.as_str()]
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect();
    if known.is_empty() { "a source without a name".to_owned() } else { known.join(" ") }
}
