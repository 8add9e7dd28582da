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
pub(super) fn restarts<'a>(
    policy: &Policy,
    inventory: &'a Inventory,
    changed: &BTreeSet<&str>,
    sources: &BTreeSet<&'a str>,
) -> Vec<String> {
    let in_use: BTreeSet<&str> =
        inventory.in_use.iter().map(String::as_str).filter(|p| changed.contains(p)).collect();
    // `openssh` is `ssh`.
    let called = |p: &&'a str| p.strip_prefix("open").unwrap_or(p);
    let mut names: Vec<&str> =
        in_use.iter().chain(sources.iter().filter(|_| !in_use.is_empty())).map(called).collect();
    names.sort_unstable();
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

/// Is one of the packages (sorted) named like the program, or begins with its name and a hyphen? A `d` at the end of a
/// program's name stands for daemon.
fn named_alike(packages: &[&str], program: &str) -> bool {
    let short = program.strip_suffix('d').filter(|s| s.len() >= 3).unwrap_or(program);
    [program, short].iter().any(|stem| {
        // What begins with it comes after it in one run: first the name itself, then what goes on with a byte before the
        // hyphen, then with the hyphen.
        let from = packages.partition_point(|p| p < stem);
        let run = packages[from..].iter().map_while(|p| p.strip_prefix(stem));
        let mut near = run.take_while(|rest| rest.as_bytes().first() <= Some(&b'-'));
        !stem.is_empty() && near.any(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

#[cfg(test)]
mod tests {
    use super::named_alike;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_search_in_sorted_names_finds_what_going_through_them_does(
            names in prop::collection::btree_set("[ad+.-]{0,4}", 0..12),
            program in "[ad+.-]{0,4}",
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let short = program.strip_suffix('d').filter(|s| s.len() >= 3).unwrap_or(&program);
            let alike = |stem: &str| {
                let goes_on = |rest: &str| rest.is_empty() || rest.starts_with('-');
                !stem.is_empty() && names.iter().any(|n| n.strip_prefix(stem).is_some_and(goes_on))
            };
            prop_assert_eq!(named_alike(&names, &program), alike(&program) || alike(short));
        }
    }
}
