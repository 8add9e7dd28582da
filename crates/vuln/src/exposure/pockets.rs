//! Fixes that not every host of a release is offered: those for subscribers.
//!
//! Vendors publish what they fix for subscribers as releases of their own, and say nothing of it under the release itself,
//! which is affected all the same. So what is said of such a release is said here of the release it belongs to: affected,
//! and fixed outside of it from that version on. A host with the fix installed is safe; one whose own sources offer it
//! (because it is attached) can fix; for every other there is none.

use super::vendor::scheme_of;
use fettle_core::advisory::{Advisory, AdvisoryStatus};
use std::collections::BTreeMap;

/// Releases for subscribers before their number, the releases they belong to, and why not everybody has the fix.
const POCKETS: [(&str, &str, &str); 4] = [
    // ESM.
    ("ubuntu-pro:", "ubuntu:", PRO),
    ("sles-ltss:", "sles:", LTSS),
    ("sles-server-ltss-extended-security:", "sles:", LTSS),
    ("rhel-els:", "rhel:", ELS),
];
/// Why there is no fix for everybody: it is for hosts attached to Ubuntu Pro.
pub(crate) const PRO: &str = "<pro>";
/// It is for those who pay SUSE for support beyond the ordinary one.
pub(super) const LTSS: &str = "<ltss>";
/// It is for those who pay Red Hat for that.
pub(super) const ELS: &str = "<els>";

/// Says of each release what is said of the one for its subscribers.
pub(super) fn spread(advisories: &mut Vec<Advisory>) {
    type Subject = (String, String, String);
    let mut outside: BTreeMap<Subject, Advisory> = BTreeMap::new();
    for said in advisories.iter() {
        let found = POCKETS.iter().find_map(|(pocket, of, reason)| {
            Some((format!("{of}{}", said.release.strip_prefix(pocket)?), *reason))
        });
        let Some((release, reason)) = found else { continue };
        let status = match &said.status {
            AdvisoryStatus::Fixed { version } => {
                AdvisoryStatus::Open { reason: reason.to_owned(), elsewhere: Some(version.clone()) }
            }
            said @ (AdvisoryStatus::Open { .. } | AdvisoryStatus::Ranges { .. }) => said.clone(),
            AdvisoryStatus::NotAffected | AdvisoryStatus::Undetermined => continue,
        };
        let new = Advisory { release: release.clone(), status, ..said.clone() };
        let known = outside.entry((release, said.source.clone(), said.id.clone()));
        known
            .and_modify(|known| {
                if is_worse(&new.release, &new.status, &known.status) {
                    *known = new.clone();
                }
            })
            .or_insert(new);
    }
    if outside.is_empty() {
        return;
    }
    for said in advisories.iter_mut() {
        if !POCKETS.iter().any(|(_, of, _)| said.release.starts_with(of)) {
            continue;
        }
        let subject = (said.release.clone(), said.source.clone(), said.id.clone());
        // The release's own word counts; where it has no fix, the subscribers' is one outside of it.
        if let Some(outside) = outside.remove(&subject)
            && let AdvisoryStatus::Open { elsewhere: own @ None, .. } = &mut said.status
            && let AdvisoryStatus::Open { elsewhere, .. } = outside.status
        {
            *own = elsewhere;
        }
    }
    advisories.extend(outside.into_values());
}

/// No fix at all, or a later one.
fn is_worse(release: &str, new: &AdvisoryStatus, known: &AdvisoryStatus) -> bool {
    let above = |new: &String, known: &str| scheme_of(release).compare_lenient(new, known).is_gt();
    match (new, known) {
        (
            AdvisoryStatus::Open { elsewhere: new, .. },
            AdvisoryStatus::Open { elsewhere: Some(known), .. },
        ) => new.as_ref().is_none_or(|new| above(new, known)),
        _ => false,
    }
}
