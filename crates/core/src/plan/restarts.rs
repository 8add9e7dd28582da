//! Which services are likely to restart.
//!
//! An inventory says which packages are mapped by some process, which by a process that listens beyond loopback,
//! and which units listen; it does not say which unit maps which package. So this is a forecast, for people: the
//! rehearsal and the host itself know better and decide.

use crate::inventory::{Inventory, Service};
use crate::policy::{Policy, glob};
use std::collections::BTreeSet;

/// Is this binary package a kernel image, or a metapackage for one?
pub(super) fn is_kernel_image(binary: &str) -> bool {
    binary.starts_with("linux-image-")
}

/// Running units that probably run code of the changed packages, sorted. Taken as evidence:
/// - a changed package that is in use, or its source, is named like the unit or like the process behind the
///   unit's socket (`nginx`, `nginx-core`; `sshd` of `ssh.service` for `openssh-server`);
/// - a changed library is mapped by something that listens beyond loopback: every unit that does may be it;
/// - the C library changes: everything that runs maps it.
///
/// Units that the policy spares are left out.
pub(super) fn restarts(
    policy: &Policy,
    inventory: &Inventory,
    changed: &BTreeSet<&str>,
    sources: &BTreeSet<&str>,
) -> Vec<String> {
    let in_use: BTreeSet<&str> =
        inventory.in_use.iter().map(String::as_str).filter(|p| changed.contains(p)).collect();
    let names: Vec<&str> =
        in_use.iter().chain(sources.iter().filter(|_| !in_use.is_empty())).copied().collect();
    let libc = in_use.contains("libc6") || in_use.contains("musl");
    let library_exposed =
        inventory.exposed.iter().any(|p| p.starts_with("lib") && in_use.contains(p.as_str()));
    let runs =
        |s: &&Service| s.active == "active" && s.sub == "running" && s.unit.ends_with(".service");
    let likely = |unit: &str| {
        let stem = unit.trim_end_matches(".service").split('@').next().unwrap_or_default();
        let mut listeners = inventory.listeners.iter().filter(|l| l.unit == unit).peekable();
        let by_name = named_alike(&names, stem);
        libc || by_name
            || listeners.peek().is_some()
                && (listeners.clone().any(|l| named_alike(&names, &l.process))
                    || library_exposed && listeners.any(|l| !l.is_loopback()))
    };
    let spared = |unit: &str| policy.restart.spare.iter().any(|glob| glob::matches(glob, unit));
    let units = inventory.services.iter().filter(runs).map(|s| s.unit.as_str());
    let out: BTreeSet<&str> = units.filter(|u| likely(u) && !spared(u)).collect();
    out.into_iter().map(str::to_owned).collect()
}

/// Is one of the packages named like the program, or begins with its name and a hyphen? `openssh` is `ssh`, and a
/// `d` at the end of a program's name stands for daemon.
fn named_alike(packages: &[&str], program: &str) -> bool {
    let short = program.strip_suffix('d').filter(|s| s.len() >= 3).unwrap_or(program);
    [program, short].iter().any(|stem| {
        !stem.is_empty()
            && packages.iter().any(|p| {
                let p = p.strip_prefix("open").unwrap_or(p);
                p == *stem || p.strip_prefix(stem).is_some_and(|rest| rest.starts_with('-'))
            })
    })
}
