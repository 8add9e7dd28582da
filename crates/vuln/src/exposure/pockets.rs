//! Fixes that not every host of a release is offered: Ubuntu Pro's.
//!
//! Ubuntu publishes what it fixes for subscribers (ESM) as releases of their own (`ubuntu-pro:20.04`), and says nothing of it
//! under the release itself, which is affected all the same. So what is said of a Pro release is said here of the release it
//! belongs to: affected, and fixed outside of it from that version on. A host with the fix installed is safe; one whose own
//! sources offer it (because it is attached) can fix; for every other there is none.

use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::version::deb;
use std::collections::BTreeMap;

/// How a release for subscribers is named, before its number.
const PRO: &str = "ubuntu-pro:";
/// Why there is no fix for everybody.
pub(crate) const REASON: &str = "<pro>";

/// Says of each release of Ubuntu what is said of its Pro release.
pub(super) fn spread(advisories: &mut Vec<Advisory>) {
    type Subject = (String, String, String);
    let mut pro: BTreeMap<Subject, Advisory> = BTreeMap::new();
    for said in advisories.iter() {
        let Some(number) = said.release.strip_prefix(PRO) else { continue };
        let release = format!("ubuntu:{number}");
        let status = match &said.status {
            AdvisoryStatus::Fixed { version } => {
                AdvisoryStatus::Open { reason: REASON.to_owned(), elsewhere: Some(version.clone()) }
            }
            open @ AdvisoryStatus::Open { .. } => open.clone(),
            AdvisoryStatus::NotAffected
            | AdvisoryStatus::Undetermined
            | AdvisoryStatus::Ranges { .. } => continue,
        };
        let new = Advisory { release: release.clone(), status, ..said.clone() };
        let known = pro.entry((release, said.source.clone(), said.id.clone()));
        known
            .and_modify(|known| {
                if is_worse(&new.status, &known.status) {
                    *known = new.clone();
                }
            })
            .or_insert(new);
    }
    if pro.is_empty() {
        return;
    }
    for said in advisories.iter_mut() {
        if !said.release.starts_with("ubuntu:") {
            continue;
        }
        let subject = (said.release.clone(), said.source.clone(), said.id.clone());
        // The release's own word counts; where it has no fix, Pro's is one outside of it.
        if let Some(outside) = pro.remove(&subject)
            && let AdvisoryStatus::Open { elsewhere: own @ None, .. } = &mut said.status
            && let AdvisoryStatus::Open { elsewhere, .. } = outside.status
        {
            *own = elsewhere;
        }
    }
    advisories.extend(pro.into_values());
}

/// No fix at all, or a later one.
fn is_worse(new: &AdvisoryStatus, known: &AdvisoryStatus) -> bool {
    match (new, known) {
        (
            AdvisoryStatus::Open { elsewhere: new, .. },
            AdvisoryStatus::Open { elsewhere: Some(known), .. },
        ) => new.as_ref().is_none_or(|new| deb::compare_lenient(new, known).is_gt()),
        _ => false,
    }
}
