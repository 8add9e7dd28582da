//! What a catalogue is built from, and which of several feeds counts where they speak of the same release.

use crate::feed::cve::{CveFacts, Ssvc};
use crate::feed::cvss::CvssScore;
use crate::feed::debian_list::{self, Resolved};
use crate::feed::dsa::DebianAdvisory;
use crate::feed::epss::EpssScore;
use crate::feed::kev::KevEntry;
use crate::feed::osv::OsvRecord;
use crate::feed::oval::{self, OvalVendor};
use crate::feed::vex::VexStatement;
use crate::feed::{Feed, debian};
use fettle_core::advisory::Advisory;
use jiff::civil::Date;
use std::collections::{BTreeMap, BTreeSet};

/// What a catalogue is built from.
#[derive(Debug, Clone, Default)]
pub struct CatalogueInput {
    /// Vendors' statements. Of two about the same vulnerability, source and release, the worse one counts.
    pub advisories: Vec<Advisory>,
    /// Debian's advisories, and those of others in the same form, for the day a fix was published.
    pub debian_advisories: Vec<DebianAdvisory>,
    /// Exploited vulnerabilities.
    pub kev: Vec<KevEntry>,
    /// EPSS scores.
    pub epss: Vec<EpssScore>,
    /// CVSS scores.
    pub cvss: Vec<CvssScore>,
    /// CISA's decisions.
    pub ssvc: Vec<(String, Ssvc)>,
    /// One's own statements.
    pub vex: Vec<VexStatement>,
    /// Day of each feed, as its publisher dates it.
    pub as_of: BTreeMap<Feed, Date>,
}

impl CatalogueInput {
    /// Adds what the tracker's own lists come to. Of a release that the tracker's JSON speaks of, that stays the only word:
    /// it is made of the same lists, and knows which version each release has.
    pub fn add_debian_lists(&mut self, resolved: Resolved) {
        let spoken_of = self.releases_of(&[debian::EVIDENCE]);
        self.debian_advisories.extend(resolved.advisories);
        let statements = resolved.statements.into_iter();
        self.advisories.extend(statements.filter(|s| !spoken_of.contains(&s.release)));
    }

    /// Adds what records of vulnerabilities say.
    pub fn add_cve(&mut self, records: Vec<CveFacts>) {
        for facts in records {
            self.cvss.extend(facts.scores);
            self.ssvc.extend(facts.ssvc.map(|ssvc| (facts.id, ssvc)));
        }
    }

    /// Releases that there are statements of this evidence about.
    fn releases_of(&self, evidence: &[&str]) -> BTreeSet<String> {
        let by = self.advisories.iter().filter(|a| evidence.contains(&a.evidence.as_str()));
        by.map(|a| a.release.clone()).collect()
    }

    /// Adds what OSV records say, with the days their fixes came out. Of a release that Debian's tracker speaks of, the
    /// tracker's word stays the only one: it knows more (`<no-dsa>`, `<ignored>`, undetermined).
    pub fn add_osv(&mut self, records: Vec<OsvRecord>) {
        let by_tracker = self.releases_of(&[debian::EVIDENCE, debian_list::EVIDENCE]);
        self.cvss.extend(records.iter().flat_map(|r| &r.scores).cloned());
        for record in records {
            self.debian_advisories.extend(record.publication());
            let statements = record.statements.into_iter();
            self.advisories.extend(statements.filter(|s| !by_tracker.contains(&s.release)));
        }
    }

    /// Adds what OVAL definitions say. Where a vendor's other feeds speak of sources (Debian's, Ubuntu's, SUSE's) and one of
    /// them of the same release, that stays the only word: they know more, and one finding does not stand there twice.
    pub fn add_oval(&mut self, records: Vec<OsvRecord>) {
        let by_sources = |release: &str| {
            let vendor = OvalVendor::of_release(release);
            vendor.is_some_and(|v| v.speaks_of_sources() || v == OvalVendor::Suse)
        };
        let others = self.advisories.iter().filter(|a| !a.evidence.starts_with(oval::EVIDENCE));
        let spoken_of: BTreeSet<String> =
            others.map(|a| &a.release).filter(|r| by_sources(r)).cloned().collect();
        let left = |mut record: OsvRecord| {
            record.statements.retain(|s| !spoken_of.contains(&s.release));
            record
        };
        self.add_osv(records.into_iter().map(left).collect());
    }
}
