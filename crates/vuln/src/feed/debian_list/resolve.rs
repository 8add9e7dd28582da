//! From the lines of the three files to statements about releases, by the tracker's own rules (its manual, and what it does
//! with notes of advisories):
//!
//! * A line with a release in brackets speaks of it. A line without one speaks of unstable, and of every release without a
//!   line of its own.
//! * A fix in unstable is none for another release: whoever has that version is not affected, but there is nothing to
//!   install ([`AdvisoryStatus::Open::elsewhere`]).
//! * An advisory's lines speak of each vulnerability that it names, or that names it. Of several lines about one package
//!   of one release the worse counts: the highest version, or none at all.
//! * `<no-dsa>`, `<postponed>` and `<ignored>` say only why there is no fix; whether there is one, the other lines say.
//! * An advisory that no vulnerability is linked to stands under its own name, unless it corrects an earlier one (`-2`).

use super::{Entry, Fate, Mark, Note};
use crate::feed::dsa::{DebianAdvisory, DebianAdvisoryRelease};
use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::version::deb;
use std::collections::{BTreeMap, BTreeSet};

/// What [`Advisory::evidence`] says of statements made here.
pub const EVIDENCE: &str = "Debian security tracker's lists";

/// Releases that statements are made about: those the tracker follows. Unstable last.
pub const RELEASES: [&str; 5] = ["bullseye", "bookworm", "trixie", "forky", UNSTABLE];

const UNSTABLE: &str = "sid";

/// The entries of the three files.
#[derive(Debug, Clone, Default)]
pub struct Lists<'a> {
    /// Of `data/CVE/list`.
    pub cve: Vec<Entry<'a>>,
    /// Of `data/DSA/list`.
    pub dsa: Vec<Entry<'a>>,
    /// Of `data/DLA/list`.
    pub dla: Vec<Entry<'a>>,
}

/// What the three files come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolved {
    /// By vulnerability, source package, release.
    pub statements: Vec<Advisory>,
    /// The advisories with their days, in the order of the files.
    pub advisories: Vec<DebianAdvisory>,
}

/// Vulnerability and source package.
type Subject<'e> = (&'e str, &'e str);

/// What all lines say of one subject.
#[derive(Default)]
struct Said<'e> {
    unstable: Option<&'e Note<'e>>,
    releases: BTreeMap<&'e str, &'e Note<'e>>,
    /// Why there is no fix.
    unfixed: BTreeMap<&'e str, &'e Note<'e>>,
}

/// Makes statements of the entries.
pub fn resolve(lists: &Lists<'_>) -> Resolved {
    let advisories = || lists.dsa.iter().chain(&lists.dla);
    let links = links(lists);
    let mut subjects: BTreeMap<Subject<'_>, Said<'_>> = BTreeMap::new();
    for entry in &lists.cve {
        for note in entry.notes.iter().filter(|_| entry.fate != Fate::Rejected) {
            subjects.entry((&entry.id, note.package)).or_default().hear(note);
        }
    }
    for entry in advisories() {
        let linked = links.get(entry.id.as_str());
        let corrects = entry.id.rsplit('-').next().is_some_and(|n| n != "1")
            && entry.id.matches('-').count() > 1;
        let own = BTreeSet::from([entry.id.as_str()]);
        let about = match linked {
            Some(linked) => linked,
            None if corrects => continue,
            None => &own,
        };
        for note in &entry.notes {
            for id in about {
                subjects.entry((*id, note.package)).or_default().hear(note);
            }
        }
    }
    let mut resolved = Resolved::default();
    for ((id, source), said) in &subjects {
        for release in RELEASES {
            let Some((status, urgency)) = said.about(release) else { continue };
            resolved.statements.push(Advisory {
                id: (*id).to_owned(),
                source: (*source).to_owned(),
                release: release.to_owned(),
                status,
                urgency: urgency.to_owned(),
                evidence: EVIDENCE.to_owned(),
            });
        }
    }
    resolved.advisories = advisories().filter_map(|e| published(e, &links)).collect();
    resolved
}

/// Advisory → the vulnerabilities it is about, whichever of the two names the other.
fn links<'e>(lists: &'e Lists<'_>) -> BTreeMap<&'e str, BTreeSet<&'e str>> {
    let mut links: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let is_advisory = |id: &str| ["DSA-", "DLA-", "DTSA-"].iter().any(|kind| id.starts_with(kind));
    for entry in lists.dsa.iter().chain(&lists.dla) {
        for reference in entry.references.iter().filter(|r| !is_advisory(r)) {
            links.entry(&entry.id).or_default().insert(reference);
        }
    }
    for entry in lists.cve.iter().filter(|e| e.fate != Fate::Rejected) {
        for reference in entry.references.iter().filter(|r| is_advisory(r)) {
            links.entry(reference).or_default().insert(&entry.id);
        }
    }
    links
}

fn published(entry: &Entry<'_>, links: &BTreeMap<&str, BTreeSet<&str>>) -> Option<DebianAdvisory> {
    let release = |note: &Note<'_>| {
        Some(DebianAdvisoryRelease {
            release: note.release?.to_owned(),
            package: note.package.to_owned(),
            fixed_version: match note.mark {
                Mark::Fixed(version) => Some(version.to_owned()),
                _ => None,
            },
        })
    };
    let about = links.get(entry.id.as_str());
    let cves = match about {
        Some(about) => about.iter().map(|&id| id.to_owned()).collect(),
        None => vec![entry.id.clone()],
    };
    Some(DebianAdvisory {
        id: entry.id.clone(),
        date: entry.date?,
        cves,
        releases: entry.notes.iter().filter_map(release).collect(),
    })
}

impl<'e> Said<'e> {
    fn hear(&mut self, note: &'e Note<'e>) {
        let reason = matches!(note.mark, Mark::NoDsa | Mark::Postponed | Mark::Ignored);
        match note.release {
            Some(release) if reason => {
                self.unfixed.entry(release).or_insert(note);
            }
            Some(release) => {
                let known = self.releases.entry(release).or_insert(note);
                if worse(known.mark, note.mark) {
                    *known = note;
                }
            }
            None => match &mut self.unstable {
                Some(known) if !worse(known.mark, note.mark) => {}
                known => *known = Some(note),
            },
        }
    }

    /// Status and urgency for one release; `None` where nothing is said.
    fn about(&self, release: &str) -> Option<(AdvisoryStatus, &'e str)> {
        let own = self.releases.get(release).copied();
        let reason = self.unfixed.get(release).copied();
        let note = own.or(self.unstable).or(reason)?;
        let open = |elsewhere: Option<&str>| AdvisoryStatus::Open {
            reason: match reason {
                Some(r) => format!("{} {}", r.mark.word(), r.why).trim().to_owned(),
                None => String::new(),
            },
            elsewhere: elsewhere.map(str::to_owned),
        };
        let status = match note.mark {
            Mark::Fixed(version) if own.is_some() || release == UNSTABLE => {
                AdvisoryStatus::Fixed { version: version.to_owned() }
            }
            Mark::Fixed(version) => open(Some(version)),
            Mark::Unfixed | Mark::Removed => open(None),
            // Of unstable itself, or with nothing else said of the release.
            Mark::NoDsa | Mark::Postponed | Mark::Ignored => AdvisoryStatus::Open {
                reason: format!("{} {}", note.mark.word(), note.why).trim().to_owned(),
                elsewhere: None,
            },
            Mark::NotAffected => AdvisoryStatus::NotAffected,
            Mark::Undetermined => AdvisoryStatus::Undetermined,
            Mark::EndOfLife => {
                let reason = format!("{} {}", note.mark.word(), note.why);
                let reason = reason.trim().to_owned();
                return Some((AdvisoryStatus::Open { reason, elsewhere: None }, "end-of-life"));
            }
            Mark::Itp => return None,
        };
        let urgencies = [Some(note), self.unstable, reason];
        let urgency = urgencies.into_iter().flatten().map(|n| n.urgency).find(|u| !u.is_empty());
        Some((status, urgency.unwrap_or("not yet assigned")))
    }
}

/// Is the other one worse than this one?
fn worse(this: Mark<'_>, other: Mark<'_>) -> bool {
    let rank = |mark: Mark<'_>| match mark {
        Mark::Itp => 0,
        Mark::NotAffected => 1,
        Mark::Undetermined => 2,
        Mark::Fixed(_) => 3,
        Mark::NoDsa | Mark::Postponed | Mark::Ignored => 4,
        Mark::Unfixed | Mark::Removed => 5,
        Mark::EndOfLife => 6,
    };
    match (this, other) {
        (Mark::Fixed(this), Mark::Fixed(other)) => deb::compare_lenient(this, other).is_lt(),
        _ => rank(this) < rank(other),
    }
}
