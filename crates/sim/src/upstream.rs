//! The vendor: what it releases, what it says of vulnerabilities, and what the server has heard of that.

use crate::packages::{Holding, Offered, PACKAGES, SOURCES, version};
use crate::random::Random;
use fettle_core::HostId;
use fettle_core::advisory::{Advisory, AdvisoryStatus, Kev};
use fettle_core::finding::Finding;
use fettle_core::inventory::Inventory;
use fettle_vuln::exposure::{Catalogue, CatalogueInput, Exception, HostView};
use fettle_vuln::feed::cvss::CvssScore;
use fettle_vuln::feed::kev::KevEntry;
use jiff::civil::date;
use std::collections::BTreeMap;

/// What is true of one release of a source package.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Release {
    /// It comes by a security suite.
    pub(crate) security: bool,
    /// It needs a package that not every host has.
    pub(crate) brings: bool,
    /// It would remove one.
    pub(crate) removes: bool,
}

/// What the vendor says of one vulnerability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Word {
    /// The place of the source package.
    pub(crate) source: usize,
    /// From which version on it is fixed. `None`: there is no fix.
    pub(crate) fixed: Option<u16>,
    pub(crate) cvss: f32,
    /// It is known to be exploited.
    pub(crate) exploited: bool,
}

impl Word {
    /// Does it speak of a binary package in that version?
    pub(crate) fn hits(&self, at: usize, version: u16) -> bool {
        PACKAGES[at].1 == self.source
            && version > 0
            && self.fixed.is_none_or(|fixed| version < fixed)
    }
}

/// Vulnerability → what the vendor says of it.
pub(crate) type Words = BTreeMap<String, Word>;

/// The vendor.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// The newest release of each source.
    pub(crate) newest: Offered,
    /// The same on a mirror that lags.
    pub(crate) mirror: Offered,
    releases: BTreeMap<(usize, u16), Release>,
    pub(crate) words: Words,
    named: u32,
}

/// The vendor's words as the server has them.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) words: Words,
    catalogue: Catalogue,
}

impl Upstream {
    /// Three releases of everything, and some vulnerabilities known.
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut it = Self {
            newest: [1; SOURCES.len()],
            mirror: [1; SOURCES.len()],
            releases: BTreeMap::new(),
            words: Words::new(),
            named: 0,
        };
        for source in 0..SOURCES.len() {
            for _ in 0..random.between(1, 2) {
                it.fix(random, source);
            }
        }
        it.mirror = it.newest;
        it
    }

    pub(crate) fn release(&self, source: usize, number: u16) -> Release {
        self.releases.get(&(source, number)).copied().unwrap_or_default()
    }

    /// Something happens there. Gives what, in words.
    pub(crate) fn news(&mut self, random: &mut Random) -> &'static str {
        let source = random.between(0, SOURCES.len() as u64 - 1) as usize;
        let some = |words: &Words, random: &mut Random| {
            let ids: Vec<&String> = words.keys().collect();
            random.pick(&ids).map(|id| (*id).clone())
        };
        match random.between(0, 13) {
            0..=4 => {
                self.fix(random, source);
                "a fix is released"
            }
            5 => {
                self.publish(random, source, false);
                "an update is released"
            }
            6 => {
                self.name(random, source, None);
                "a vulnerability without a fix"
            }
            7 => {
                let open = self.words.values_mut().filter(|word| word.fixed.is_none());
                let open: Vec<&mut Word> = open.collect();
                let next: Vec<u16> = open.iter().map(|word| self.newest[word.source] + 1).collect();
                let mut sources = Vec::new();
                for (word, next) in open.into_iter().zip(next) {
                    word.fixed = Some(next);
                    sources.push(word.source);
                }
                sources.sort_unstable();
                sources.dedup();
                for source in sources {
                    self.publish(random, source, true);
                }
                "what had no fix has one"
            }
            8 => {
                // The feed is ahead of the archive.
                let next = self.newest[source] + 1;
                self.name(random, source, Some(next));
                "a fix is told of that no archive has"
            }
            9 => {
                if let Some(id) = some(&self.words, random) {
                    self.words.remove(&id);
                }
                "a statement is taken back"
            }
            10 => {
                let id = some(&self.words, random);
                if let Some(word) = id.and_then(|id| self.words.get_mut(&id)) {
                    word.exploited = true;
                }
                "a vulnerability is exploited"
            }
            11 | 12 => {
                // What was said to be fixed is not, and the next release is.
                let id = some(&self.words, random);
                if let Some(source) =
                    id.as_ref().and_then(|id| self.words.get(id)).map(|w| w.source)
                {
                    self.publish(random, source, true);
                    let newest = self.newest[source];
                    id.and_then(|id| self.words.get_mut(&id)).into_iter().for_each(|word| {
                        word.fixed = Some(newest);
                    });
                }
                "a fix was none"
            }
            _ => {
                self.mirror = self.newest;
                "the mirror catches up"
            }
        }
    }

    fn publish(&mut self, random: &mut Random, source: usize, security: bool) {
        self.newest[source] += 1;
        let release = Release {
            security,
            brings: SOURCES[source] == "nginx" && random.permille(300),
            removes: SOURCES[source] == "php" && random.permille(300),
        };
        self.releases.insert((source, self.newest[source]), release);
    }

    fn fix(&mut self, random: &mut Random, source: usize) {
        self.publish(random, source, true);
        for _ in 0..random.between(1, 2) {
            self.name(random, source, Some(self.newest[source]));
        }
    }

    fn name(&mut self, random: &mut Random, source: usize, fixed: Option<u16>) {
        self.named += 1;
        let id = format!("CVE-2026-{}", 10_000 + self.named);
        let cvss = random.between(20, 100) as f32 / 10.0;
        let exploited = random.permille(50);
        self.words.insert(id, Word { source, fixed, cvss, exploited });
    }
}

impl Feed {
    /// The vendor's words, read.
    pub(crate) fn of(words: &Words) -> Self {
        let advisory = |(id, word): (&String, &Word)| Advisory {
            id: id.clone(),
            source: SOURCES[word.source].to_owned(),
            release: "bookworm".to_owned(),
            status: match word.fixed {
                Some(fixed) => AdvisoryStatus::Fixed { version: version(fixed) },
                None => AdvisoryStatus::Open { reason: String::new(), elsewhere: None },
            },
            urgency: String::new(),
            evidence: "the vendor".to_owned(),
        };
        let score = |(id, word): (&String, &Word)| CvssScore {
            id: id.clone(),
            version: 31,
            vector: String::new(),
            score: word.cvss,
            computed: word.cvss,
            issuer: "cna".to_owned(),
        };
        let exploited = |(id, word): (&String, &Word)| {
            let kev = Kev {
                date_added: date(2026, 11, 1),
                due_date: date(2026, 12, 1),
                ransomware: false,
            };
            word.exploited.then(|| KevEntry { id: id.clone(), kev })
        };
        let catalogue = Catalogue::build(CatalogueInput {
            advisories: words.iter().map(advisory).collect(),
            cvss: words.iter().map(score).collect(),
            kev: words.iter().filter_map(exploited).collect(),
            ..CatalogueInput::default()
        });
        Self { words: words.clone(), catalogue }
    }

    /// What is found on a host, as the product judges it.
    pub(crate) fn judge(&self, inventory: &Inventory, accepted: &[Exception]) -> Vec<Finding> {
        let (host, ran_before) = (HostId::new(""), BTreeMap::new());
        let view =
            HostView { host: &host, inventory, previous: &[], ran_before: &ran_before, accepted };
        self.catalogue.judge(&view).findings
    }

    /// EPSS of a vulnerability, and whether it is known to be exploited.
    pub(crate) fn threat(&self, id: &str) -> (Option<f32>, bool) {
        self.catalogue.threat(id)
    }

    /// Vulnerabilities that such a host truly has, each with the places of the packages it is in: for the checker.
    pub(crate) fn truly<'f>(
        &'f self,
        holding: &Holding,
    ) -> impl Iterator<Item = (&'f str, &'f Word, Vec<usize>)> {
        let versions = holding.installed.versions;
        self.words.iter().filter_map(move |(id, word)| {
            let hit = |at: &usize| word.hits(*at, versions[*at]);
            let places: Vec<usize> = (0..PACKAGES.len()).filter(hit).collect();
            (!places.is_empty()).then_some((id.as_str(), word, places))
        })
    }
}
