//! The worst vulnerabilities of a fleet, by judging each of its hosts.

use super::Alone;
use fettle_core::HostId;
use fettle_core::finding::{Finding, FindingState::*, Severity};
use fettle_core::language::Ecosystem;
use fettle_vuln::exposure::{Catalogue, HostView, release_name};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Release, source package, vulnerability.
type Place = (String, String, String);

/// Findings of a statement, and the hosts that have it, have it in use, have it exposed, can fix it now.
type Found<'a> = (Vec<Finding>, [BTreeSet<&'a HostId>; 4]);

/// What each of the worst must be: by what its hosts would be found to have if nothing was known of them before.
pub(super) type Expected = (String, String, String, Severity, [u64; 4]);

pub(super) fn worst(names: &[HostId], alone: &[Alone], catalogue: &Catalogue) -> Vec<Expected> {
    let nothing = BTreeMap::new();
    let mut by_statement: BTreeMap<Place, Found<'_>> = BTreeMap::new();
    for (name, alone) in names.iter().zip(alone) {
        let Some(inventory) = &alone.inventory else { continue };
        let judged = catalogue.judge(&HostView {
            host: name,
            inventory,
            previous: &[],
            ran_before: &nothing,
            accepted: &alone.accepted,
        });
        for f in
            judged.findings.into_iter().filter(|f| f.state.is_vulnerable() && f.state != Accepted)
        {
            let system = inventory.roots.iter().find(|root| Some(&*root.id()) == f.root());
            let release = release_name(system.map_or(&inventory.os, |root| &root.os));
            let release = Ecosystem::of_subject(f.package()).map_or(release, |e| e.0.word().into());
            let key = (release, f.package().to_owned(), f.id.clone());
            let (findings, hosts) = by_statement.entry(key).or_default();
            let fixable = f.offered && f.state == Open;
            for (at, is) in [true, f.in_use, f.exposed, fixable].into_iter().enumerate() {
                if is {
                    hosts[at].insert(name);
                }
            }
            findings.push(f);
        }
    }
    let mut all: Vec<_> = by_statement.into_iter().collect();
    all.sort_by_key(|((release, source, id), (findings, hosts))| {
        let f = &findings[0];
        let any = |at: usize| !hosts[at].is_empty();
        let epss = (f.ranking.epss.unwrap_or(0.0) * 1000.0) as u32;
        let rank = (f.ranking.kev.is_some(), f.severity(), any(2), epss, any(1), hosts[0].len());
        (Reverse(rank), release.clone(), source.clone(), id.clone())
    });
    let of = |((release, source, id), (findings, hosts)): (Place, Found<'_>)| {
        (release, source, id, findings[0].severity(), hosts.map(|h| h.len() as u64))
    };
    all.into_iter().map(of).collect()
}
