//! What happens on one host: which of the offered upgrades are taken, and why not the rest.
//!
//! Binaries of one source package go together: a library and its programs, built at once, are tested at once. So
//! does an upgrade with the packages it brings. If one of them is held, the others are held with it, and the chain
//! of reasons says so.

use super::parts::Parts;
use super::restarts::{is_kernel_image, restarts};
use super::{NotDone, Reasons, Work};
use crate::assignment::{ApplyOrder, PackageChange, RebootRule, RestartRule};
use crate::finding::{Finding, FindingState};
use crate::host::Host;
use crate::inventory::{Inventory, Package, Upgrade};
use crate::policy::{Policy, Selector, Take};
use crate::recall::Recall;
use crate::version::deb;
use crate::{Hold, Shared, Timestamp, root};
use std::collections::{BTreeMap, BTreeSet};

use super::make::Barred;

/// What was decided for a host.
pub(super) struct Verdict {
    /// Upgrades that are taken, in the order of the changes: their numbers among the [`Parts`].
    pub(super) taken: Vec<usize>,
    /// Without changes: nothing happens.
    pub(super) work: Work,
    /// What is owed and not done: first the upgrades, then what no upgrade fixes.
    pub(super) not_done: Vec<NotDone>,
    /// Architectures of the upgrades among `not_done`, in the same order.
    pub(super) held_architectures: Vec<String>,
    /// The shortest soak that a class of a finding fixed here asks for.
    pub(super) soak_cap: Option<u64>,
}

impl FindingState {
    /// Does somebody owe something for it?
    pub(crate) fn is_owed(self) -> bool {
        !matches!(self, Self::Fixed | Self::Accepted | Self::NotAffected)
    }
}

/// An upgrade as the plan looks at it.
struct Offer<'a> {
    upgrade: &'a Upgrade,
    /// Its number among the parts.
    part: usize,
    /// It comes from a security suite.
    suite: bool,
    /// Source package of what is installed; empty for a new package.
    source: &'a str,
    /// Open findings it fixes.
    fixes: Vec<&'a Finding>,
    wanted: bool,
    /// Why it is not taken, nearest reason first. Empty: it can be.
    holds: Vec<Hold>,
}

/// What speaks for an upgrade.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worth {
    /// It fixes an open finding.
    pub(super) fixes: bool,
    /// It comes from a security suite.
    pub(super) suite: bool,
}

impl Worth {
    /// Is it a security update?
    pub(super) fn is_security(self) -> bool {
        self.fixes || self.suite
    }
}

/// Is an upgrade wanted for its own sake?
pub(super) type Wish<'a> = &'a dyn Fn(&Upgrade, Worth) -> bool;

/// What a policy wants.
pub(super) fn wish_of(policy: &Policy) -> impl Fn(&Upgrade, Worth) -> bool {
    move |_, worth| match policy.take {
        Take::All => true,
        Take::Security => worth.is_security(),
        Take::Fixes => worth.fixes,
    }
}

/// Versions that the host is not to get.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unwanted<'a> {
    /// Those that were undone on its cohort.
    pub(super) barred: &'a [&'a Barred],
    /// Those that nobody is to get.
    pub(super) recalls: &'a [Recall],
}

/// What is left out on hosts that policy exempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Exempt {
    /// Nothing is restarted.
    pub(super) restart: bool,
    /// The host is not rebooted.
    pub(super) reboot: bool,
}

impl Exempt {
    /// What the policy exempts this host from.
    pub(super) fn of(policy: &Policy, host: &Host) -> Self {
        let is_in = |who: &Option<Selector>| who.as_ref().is_some_and(|s| s.matches(host));
        Self { restart: is_in(&policy.restart_exempt), reboot: is_in(&policy.reboot_exempt) }
    }

    /// The policy's rules, as they are for such a host.
    fn rules(self, policy: &Policy) -> (RestartRule, RebootRule) {
        let restart = match self.restart {
            true => RestartRule { never: true, ..RestartRule::default() },
            false => policy.restart.clone(),
        };
        (restart, if self.reboot { RebootRule::Never } else { policy.reboot })
    }
}

/// Decides about every upgrade that hosts of a kind are offered. `findings` are sorted.
pub(super) fn decide<'a>(
    policy: &Policy,
    (inventory, exempt): (&'a Inventory, Exempt),
    findings: &[&'a Finding],
    unwanted: Unwanted<'_>,
    now: Timestamp,
    wish: Wish<'_>,
    parts: &mut Parts<'a>,
) -> Verdict {
    let mut offers = offers(policy, inventory, findings, unwanted, now, parts);
    want(wish, &mut offers);
    hold_together(&mut offers);

    let taken: Vec<&Offer<'_>> = offers.iter().filter(|o| o.wanted && o.holds.is_empty()).collect();
    let mut not_done: Vec<NotDone> = Vec::new();
    let mut held_architectures: Vec<String> = Vec::new();
    let entry = |package: &str, findings: BTreeSet<&str>, reasons: Vec<Hold>| NotDone {
        package: package.to_owned(),
        findings: findings.into_iter().map(str::to_owned).collect(),
        reasons,
    };
    for offer in offers.iter().filter(|o| o.wanted && !o.holds.is_empty()) {
        let ids = offer.fixes.iter().map(|f| f.id.as_str()).collect();
        not_done.push(entry(&offer.upgrade.name, ids, offer.holds.clone()));
        held_architectures.push(offer.upgrade.architecture.clone());
    }
    for (package, findings, reasons) in without_fix(inventory, findings, &offers) {
        not_done.push(entry(package, findings, reasons));
    }

    // By name, as the upgrades are; of several architectures together.
    let mut whys: Vec<(Shared<String>, Shared<Vec<String>>)> = Vec::with_capacity(taken.len());
    let mut changes: Vec<Shared<PackageChange>> = Vec::with_capacity(taken.len());
    let mut fixed: Vec<&Finding> = Vec::new();
    for offer in &taken {
        let (name, change) = {
            let part = parts.part(offer.part);
            (part.name.clone(), part.change.clone())
        };
        let ids = parts.fixes(&offer.fixes);
        match whys.last_mut().filter(|(known, _)| *known == name) {
            Some((_, known)) => {
                known.extend(ids.iter().cloned());
                known.sort();
                known.dedup();
            }
            None => whys.push((name, ids)),
        }
        changes.push(change);
        fixed.extend(&offer.fixes);
    }
    let why: Reasons = whys.into_iter().collect();
    let classes = || fixed.iter().filter_map(|f| policy.classify(f));
    let names: BTreeSet<&str> = changes.iter().map(|c| c.name.as_str()).collect();
    let sources: BTreeSet<&str> =
        taken.iter().map(|o| o.source).filter(|s| !s.is_empty()).collect();
    let kernel = inventory.kernel.from_package && names.iter().any(|n| is_kernel_image(n));
    let by_name = by_name(&taken);
    let (restart, reboot) = exempt.rules(policy);
    let provable = fixed.iter().filter(|f| is_proved((&restart, reboot), f, &by_name));
    let proved: BTreeSet<&str> = provable.map(|f| f.id.as_str()).collect();
    let accepted = policy.accept_missing.iter().filter(|a| now < a.until);
    let work = Work {
        restarts: if restart.never {
            Vec::new()
        } else {
            restarts(policy, inventory, &names, &sources)
        },
        reboot_likely: kernel && reboot == RebootRule::WhenNeeded,
        due: fixed.iter().filter_map(|f| f.deadline).min(),
        ignore_windows: classes().any(|c| c.emergency),
        why,
        order: ApplyOrder {
            changes,
            conffiles: policy.conffiles,
            restart,
            reboot,
            probes: policy.probes.clone(),
            latency_margin_percent: policy.latency_margin_percent,
            fixes: proved.into_iter().map(str::to_owned).collect(),
            deadman_seconds: policy.deadman_seconds,
            hung_after_seconds: policy.hung_after_seconds,
            half_configured: policy.half_configured,
            confirm_seconds: None,
            accept_missing: accepted.into_iter().map(|a| a.what.clone()).collect(),
            // Its administrator's to ask for, on the host.
            rehearse_online: false,
        },
    };
    let soak_cap = classes().filter_map(|c| c.soak_seconds).min();
    let taken = taken.into_iter().map(|offer| offer.part).collect();
    Verdict { taken, work, not_done, held_architectures, soak_cap }
}

/// Which open findings each upgrade would bring to their fixed version, in the order of the upgrades.
pub(super) fn fixable<'a>(
    upgrades: &[&Upgrade],
    findings: &[&'a Finding],
) -> Vec<Vec<&'a Finding>> {
    let by_binary = by_binary(findings);
    let key = |name| if is_kernel_image(name) { KERNEL } else { name };
    upgrades.iter().map(|u| fixed_by(u, key(u.name.as_str()), &by_binary)).collect()
}

/// Every upgrade with what speaks for it and what, of itself, against it. By name and architecture.
fn offers<'a>(
    policy: &Policy,
    inventory: &'a Inventory,
    findings: &[&'a Finding],
    unwanted: Unwanted<'_>,
    now: Timestamp,
    parts: &mut Parts<'a>,
) -> Vec<Offer<'a>> {
    // Sorted by name, as upgrades are: they are gone through side by side. Of two architectures the last counts.
    let mut installed: Vec<&Package> = inventory.packages.iter().map(|p| &**p).collect();
    installed.sort_by(|a, b| a.name.cmp(&b.name));
    let is_installed =
        |name: &str| installed.binary_search_by(|p| p.name.as_str().cmp(name)).is_ok();
    let mut beside = installed.iter().peekable();
    let held: BTreeSet<&str> = inventory.held.iter().map(String::as_str).collect();
    let mut upgrades: Vec<&Upgrade> = inventory.upgrades.iter().map(|u| &**u).collect();
    upgrades.sort();
    upgrades.dedup_by(|a, b| (&a.name, &a.architecture) == (&b.name, &b.architecture));
    let offers = |name: &str| upgrades.binary_search_by(|u| u.name.as_str().cmp(name)).is_ok();
    let by_binary = by_binary(findings);
    let mut one = |(place, upgrade): (usize, &'a Upgrade)| {
        while beside.next_if(|p| p.name < upgrade.name).is_some() {}
        let same = beside.clone().take_while(|p| p.name == upgrade.name);
        let source = same.last().map_or("", |p| p.source.as_str());
        let name = &upgrade.name;
        let part = parts.number(place, upgrade, (policy, unwanted.recalls, now));
        let of = parts.part(part);
        let removes = (!upgrade.removes.is_empty())
            .then(|| Hold::WouldRemove { package: name.clone(), removes: upgrade.removes.clone() });
        let unknown = |b: &&String| !offers(b) && !is_installed(b);
        let unknown: Vec<String> = upgrade.brings.iter().filter(unknown).cloned().collect();
        let brings = (!unknown.is_empty())
            .then(|| Hold::WouldBring { package: name.clone(), brings: unknown });
        let is_held = held.contains(name.as_str());
        let holds = of.holds(is_held, unwanted.barred, [removes, brings]);
        let key = if of.kernel { KERNEL } else { name };
        let fixes = fixed_by(upgrade, key, &by_binary);
        Offer { upgrade, part, suite: of.suite, source, fixes, wanted: false, holds }
    };
    upgrades.iter().copied().enumerate().map(&mut one).collect()
}

/// Open findings that some offer fixes, by the binary they are about. Those about a running kernel stand under
/// every name that an image has.
fn by_binary<'a>(findings: &[&'a Finding]) -> BTreeMap<&'a str, Vec<&'a Finding>> {
    let mut out: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    // What is in another root is none of the host's own packages, though its binaries have the same names.
    let fixable = |f: &&&Finding| f.state == FindingState::Open && f.offered && f.root().is_none();
    for finding in findings.iter().filter(fixable) {
        for binary in &finding.binaries {
            let key = if is_kernel_image(binary) { KERNEL } else { binary };
            let known = out.entry(key).or_default();
            if !known.last().is_some_and(|last| std::ptr::eq(*last, *finding)) {
                known.push(finding);
            }
        }
    }
    out
}

/// Stands for every kernel image: the fix of a running one comes as a package of another name.
const KERNEL: &str = "linux-image-";

/// The findings that this upgrade brings to their fixed version.
///
/// Signed packages write their versions a little differently from the source the vendor's data is about
/// (`6.1.123+1` for `6.1.123-1`), which for Debian's order is a later one: never taken for older than it is.
fn fixed_by<'a>(
    upgrade: &Upgrade,
    key: &str,
    by_binary: &BTreeMap<&'a str, Vec<&'a Finding>>,
) -> Vec<&'a Finding> {
    let reaches = |f: &&&Finding| {
        f.fixed_version
            .as_ref()
            .is_some_and(|v| deb::compare_lenient(&upgrade.source_version, v).is_ge())
    };
    by_binary.get(key).into_iter().flatten().filter(reaches).copied().collect()
}

/// Marks what is wanted: for its own sake, then with it all of the same source and all it brings.
fn want(wish: Wish<'_>, offers: &mut [Offer<'_>]) {
    for offer in offers.iter_mut() {
        let is_new = offer.upgrade.from.is_empty();
        let worth = Worth { fixes: !offer.fixes.is_empty(), suite: offer.suite };
        offer.wanted = !is_new && wish(offer.upgrade, worth);
    }
    // Each round takes at least one more in.
    while offers.iter().any(|o| !o.wanted) {
        let wanted = |o: &&Offer<'_>| o.wanted;
        let sources: BTreeSet<&str> =
            offers.iter().filter(wanted).map(|o| o.source).filter(|s| !s.is_empty()).collect();
        let brought: BTreeSet<&str> = offers
            .iter()
            .filter(wanted)
            .flat_map(|o| &o.upgrade.brings)
            .map(String::as_str)
            .collect();
        let joins = |o: &Offer<'_>| {
            !o.wanted && (sources.contains(o.source) || brought.contains(o.upgrade.name.as_str()))
        };
        let more: Vec<usize> = (0..offers.len()).filter(|&i| joins(&offers[i])).collect();
        if more.is_empty() {
            return;
        }
        for i in more {
            offers[i].wanted = true;
        }
    }
}

/// Holds what must go together with something that is held; then lets go of new packages that nobody brings.
fn hold_together(offers: &mut [Offer<'_>]) {
    loop {
        let held: Vec<usize> = (0..offers.len())
            .filter(|&i| offers[i].wanted && !offers[i].holds.is_empty())
            .collect();
        if held.is_empty() {
            break;
        }
        let by_source: BTreeMap<&str, usize> = held
            .iter()
            .rev()
            .map(|&i| (offers[i].source, i))
            .filter(|(s, _)| !s.is_empty())
            .collect();
        let by_name: BTreeMap<&str, usize> =
            held.iter().rev().map(|&i| (offers[i].upgrade.name.as_str(), i)).collect();
        let mut more = Vec::new();
        for (i, offer) in offers.iter().enumerate().filter(|(_, o)| o.wanted && o.holds.is_empty())
        {
            let brought = offer.upgrade.brings.iter().find_map(|b| by_name.get(b.as_str()));
            if let Some(&with) = by_source.get(offer.source).or(brought) {
                let cause = &offers[with];
                let (package, with) = (offer.upgrade.name.clone(), cause.upgrade.name.clone());
                more.push((
                    i,
                    std::iter::once(Hold::KeptInStep { package, with })
                        .chain(cause.holds.iter().cloned())
                        .collect(),
                ));
            }
        }
        if more.is_empty() {
            break;
        }
        for (i, chain) in more {
            offers[i].holds = chain;
        }
    }
    // Most hosts are offered nothing new.
    while offers.iter().any(|o| o.wanted && o.upgrade.from.is_empty()) {
        let brought: BTreeSet<String> = offers
            .iter()
            .filter(|o| o.wanted && o.holds.is_empty())
            .flat_map(|o| o.upgrade.brings.iter().cloned())
            .collect();
        let idle = |o: &Offer<'_>| {
            o.wanted && o.upgrade.from.is_empty() && !brought.contains(&o.upgrade.name)
        };
        let before = offers.iter().filter(|o| o.wanted).count();
        for offer in offers.iter_mut().filter(|o| o.holds.is_empty()) {
            offer.wanted &= !idle(offer);
        }
        if offers.iter().filter(|o| o.wanted).count() == before {
            return;
        }
    }
}

/// Will the host, by this policy, prove the finding gone? Only where every affected binary is changed, and what
/// runs the old code may be restarted.
fn is_proved(
    (restart, reboot): (&RestartRule, RebootRule),
    finding: &Finding,
    taken: &BTreeMap<&str, Fixes>,
) -> bool {
    let kernel = finding.binaries.iter().any(|b| is_kernel_image(b));
    if kernel && reboot == RebootRule::Never || finding.in_use && !kernel && restart.never {
        return false;
    }
    finding.binaries.iter().all(|binary| {
        let key = if is_kernel_image(binary) { KERNEL } else { binary };
        taken.get(key).is_some_and(|fixes| fixes.contains(&std::ptr::from_ref(finding)))
    })
}

/// Findings, by where they are kept: only ever asked for.
type Fixes = BTreeSet<*const Finding>;

/// What each taken package fixes. Every kernel image stands under one name.
fn by_name<'a>(taken: &[&Offer<'a>]) -> BTreeMap<&'a str, Fixes> {
    let mut out: BTreeMap<&str, Fixes> = BTreeMap::new();
    for offer in taken.iter().filter(|o| !o.fixes.is_empty()) {
        let name = offer.upgrade.name.as_str();
        let key = if is_kernel_image(name) { KERNEL } else { name };
        out.entry(key).or_default().extend(offer.fixes.iter().map(|f| std::ptr::from_ref(*f)));
    }
    out
}

/// Findings that no offered upgrade fixes, by package and reason.
fn without_fix<'a>(
    inventory: &Inventory,
    findings: &[&'a Finding],
    offers: &[Offer<'a>],
) -> Vec<(&'a str, BTreeSet<&'a str>, Vec<Hold>)> {
    // A new package that nobody brings is no help, though it be the fixed one.
    let helped: Fixes = offers
        .iter()
        .filter(|o| o.wanted)
        .flat_map(|o| o.fixes.iter().map(|f| std::ptr::from_ref(*f)))
        .collect();
    let helped = |finding: &Finding| helped.contains(&std::ptr::from_ref(finding));
    // One entry for a source package, however many vulnerabilities it has: the reason names the first.
    let mut no_fix: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    type Names<'n> = BTreeSet<&'n str>;
    let mut not_offered: BTreeMap<(&str, &str), (Names<'_>, Names<'_>)> = BTreeMap::new();
    let mut in_roots: BTreeMap<(&str, &str), Names<'_>> = BTreeMap::new();
    for &finding in findings {
        match (finding.state, &finding.fixed_version) {
            (FindingState::NoFixYet, _) | (FindingState::Open, None) => {
                no_fix.entry(&finding.source).or_default().insert(&finding.id);
            }
            (FindingState::Open, Some(fixed)) if finding.root().is_some() => {
                in_roots.entry((&finding.source, fixed)).or_default().insert(&finding.id);
            }
            (FindingState::Open, Some(fixed)) if !helped(finding) => {
                let (ids, binaries) = not_offered.entry((&finding.source, fixed)).or_default();
                ids.insert(&finding.id);
                binaries.extend(finding.binaries.iter().map(String::as_str));
            }
            _ => {}
        }
    }
    let first = |ids: &BTreeSet<&str>| ids.first().map_or(String::new(), |id| (*id).to_owned());
    let mut out = Vec::new();
    for (source, ids) in no_fix {
        let reasons = vec![Hold::NoFix { finding: first(&ids) }];
        out.push((source, ids, reasons));
    }
    for ((source, fixed), ids) in in_roots {
        let id = root::of_subject(source).0.unwrap_or_default();
        let reason = Hold::InRoot {
            finding: first(&ids),
            root: id.to_owned(),
            image: inventory.root(id).map_or(String::new(), |root| root.image.clone()),
            fixed_version: fixed.to_owned(),
        };
        out.push((source, ids, vec![reason]));
    }
    for ((source, fixed), (ids, binaries)) in not_offered {
        let held = inventory.held.iter().filter(|h| binaries.contains(h.as_str()));
        let mut reasons: Vec<Hold> =
            held.map(|h| Hold::PackageHeld { package: h.clone() }).collect();
        let pinned = inventory.pinned.iter().filter(|(name, _)| binaries.contains(name.as_str()));
        reasons.extend(pinned.map(Hold::pinned));
        reasons.push(Hold::FixNotOffered { finding: first(&ids), fixed_version: fixed.to_owned() });
        out.push((source, ids, reasons));
    }
    out
}
