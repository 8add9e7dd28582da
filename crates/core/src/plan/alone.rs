//! A host on its own: what was typed there stands for the policy, and the same decisions are made for it as for a
//! host of a fleet.

use super::Held;
use super::host::{Unwanted, Verdict, decide};
use crate::assignment::PackageChange;
use crate::finding::Finding;
use crate::host::Host;
use crate::inventory::{Inventory, Origin, Upgrade};
use crate::policy::Policy;
use crate::{Hold, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Allows everything at once: whoever types on a host has decided already. The reboot is only foretold by it; whether
/// the host may is in the order.
const POLICY: &str = r#"
[policy]
name = "local"
select = "all"
[reboot]
when = "needed"
[[ring]]
name = "host"
"#;

/// What was asked for on the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// These packages, as `name` or `name:architecture`, and what must go with them. Empty: all.
    pub packages: &'a [String],
    /// Only upgrades that fix a finding or come from a security suite; so it is, too, where no package is named.
    pub only_security: bool,
    /// Packages that nobody asked for and that the package manager needs in step with the others.
    pub along: &'a [String],
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
    pub changes: Vec<PackageChange>,
    /// Package → vulnerabilities it fixes (empty: none that is known).
    pub why: BTreeMap<String, Vec<String>>,
    /// Those among the changes that were not asked for: binaries of the same source, or what these need.
    pub brought: Vec<String>,
    /// Units that run code of the packages now and are likely to restart.
    pub restarts: Vec<String>,
    /// A kernel is among the packages.
    pub reboot_likely: bool,
    /// Every other upgrade that was asked for, and why it is not taken.
    pub held: Vec<Held>,
    /// Findings, by source package, that nothing on offer fixes, and why.
    pub not_fixed: Vec<Held>,
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
    // The text is a constant; a test parses it.
    let Ok(policy) = Policy::parse(POLICY) else { unreachable!("the built-in policy parses") };
    let host = Host {
        id: "local".into(),
        name: "local".into(),
        labels: BTreeMap::new(),
        enrolled_at: now,
        last_seen: Some(now),
        agent_version: String::new(),
        inventory: None,
        inventory_digest: None,
        quarantined: None,
    };
    let mut findings: Vec<&Finding> = input.findings.iter().collect();
    findings
        .sort_by(|a, b| (&a.source, &a.id, &a.installed).cmp(&(&b.source, &b.id, &b.installed)));
    let wish = |upgrade: &Upgrade, is_security: bool| {
        let wanted = asked.names(upgrade) && (is_security || !asked.is_security_only());
        wanted || is_among(upgrade, asked.along)
    };
    let Verdict { plan, held, .. } =
        decide(&policy, &host, inventory, &findings, Unwanted::default(), now, &wish);
    let changes = plan.order.changes;
    let (mut held, not_fixed): (Vec<Held>, _) = held.into_iter().partition(Held::is_of_an_upgrade);

    let decided: BTreeSet<&str> = changes
        .iter()
        .map(|c| c.name.as_str())
        .chain(held.iter().map(|h| h.package.as_str()))
        .collect();
    // Nobody decided about what is no security update where only those were meant.
    let undecided =
        |u: &&Upgrade| !u.from.is_empty() && asked.names(u) && !decided.contains(u.name.as_str());
    let not_security = |upgrade: &Upgrade| {
        let (package, origin) = (upgrade.name.clone(), place(&upgrade.origin));
        Held {
            host: host.id.clone(),
            name: host.name.clone(),
            package: package.clone(),
            findings: Vec::new(),
            reasons: vec![Hold::NotSecurity { package, origin }],
        }
    };
    let not_asked: Vec<Held> =
        inventory.upgrades.iter().filter(undecided).map(not_security).collect();
    held.extend(not_asked);

    let is_brought = |upgrade: &&Upgrade| {
        let changes = changes
            .iter()
            .any(|c| (&c.name, &c.architecture) == (&upgrade.name, &upgrade.architecture));
        changes && (!asked.names(upgrade) || is_among(upgrade, asked.along))
    };
    let brought = inventory.upgrades.iter().filter(is_brought).map(|u| u.name.clone()).collect();
    let (why, restarts, reboot_likely) = (plan.why, plan.restarts, plan.reboot_likely);
    AlonePlan { changes, why, brought, restarts, reboot_likely, held, not_fixed }
}

/// Where an upgrade comes from, as its `Release` file says.
fn place(origin: &Origin) -> String {
    let known: Vec<&str> = [origin.label.as_str(), origin.suite.as_str()]
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect();
    if known.is_empty() { "a source without a name".to_owned() } else { known.join(" ") }
}
