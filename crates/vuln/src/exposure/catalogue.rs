//! Everything vendors say, indexed by release and source package, with what the world says about each
//! vulnerability beside it.

use super::input::CatalogueInput;
use super::pockets;
use super::slices::Slice;
use super::vendor::{release_of, scheme_of};
use crate::feed::Feed;
use crate::feed::cve::Ssvc;
use crate::feed::dsa::DebianAdvisory;
use crate::feed::vex::VexStatement;
use fettle_core::advisory::{Advisory, AdvisoryStatus, Kev, Ranking, VersionRange};
use fettle_core::finding::Severity;
use fettle_core::version::Scheme;
use jiff::civil::Date;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// One vendor's statement, as the catalogue keeps it: its words are shared.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Vulnerability.
    pub id: Arc<str>,
    /// Source package; the package itself where the vendor speaks of installed packages by their own name.
    pub source: Arc<str>,
    /// Release.
    pub release: Arc<str>,
    /// What the vendor says.
    pub status: AdvisoryStatus,
    /// Vendor's urgency word.
    pub urgency: Arc<str>,
    /// Where it was read.
    pub evidence: Arc<str>,
    /// The vendor's advisory that brought the fix, where there is one.
    pub publication: Option<Publication>,
    /// How bad, from urgency and ranking.
    pub severity: Severity,
    /// Byte key of [`Statement::unaffected_from`]; empty where there is none.
    pub(crate) fixed_key: Box<[u8]>,
    /// The affected ranges by their keys; empty unless the status is of ranges.
    pub(crate) ranges: Box<[KeyedRange]>,
    /// Place in [`Catalogue::vulnerabilities`].
    pub(crate) vulnerability: u32,
}

impl Statement {
    /// Does the vendor say that no version is affected?
    pub(crate) fn is_never_affected(&self) -> bool {
        self.status == AdvisoryStatus::NotAffected
    }

    /// Is the version with this key in one of the ranges?
    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        self.ranges.iter().any(|range| range.holds(key))
    }

    /// The first version above the one with this key that is not affected, where the vendor names one.
    pub fn fix_for(&self, key: &[u8]) -> Option<&str> {
        let AdvisoryStatus::Ranges { ranges } = &self.status else { return self.unaffected_from() };
        // Ranges may overlap: out of one is not out of all.
        let mut at: &[u8] = key;
        let mut fix = None;
        while let Some(place) = self.ranges.iter().position(|range| range.holds(at)) {
            fix = Some(ranges[place].fixed.as_deref()?);
            at = self.ranges[place].fixed.as_deref()?;
        }
        fix
    }

    /// The first version of this release that is not affected, where the vendor names one.
    pub fn fixed_version(&self) -> Option<&str> {
        match &self.status {
            AdvisoryStatus::Fixed { version } => Some(version),
            _ => None,
        }
    }

    /// The first version that is not affected, of this release or of another.
    pub fn unaffected_from(&self) -> Option<&str> {
        match &self.status {
            AdvisoryStatus::Fixed { version } => Some(version),
            AdvisoryStatus::Open { elsewhere, .. } => elsewhere.as_deref(),
            _ => None,
        }
    }
}

/// A range of versions by their keys.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyedRange {
    /// First affected version; empty: from the beginning.
    introduced: Box<[u8]>,
    fixed: Option<Box<[u8]>>,
    last: Option<Box<[u8]>>,
}

impl KeyedRange {
    /// The ranges of a status; none where it is not of ranges.
    pub(crate) fn of(scheme: Scheme, status: &AdvisoryStatus) -> Box<[Self]> {
        let AdvisoryStatus::Ranges { ranges } = status else { return Box::default() };
        let key = |version: &String| scheme.key(version).into();
        let of = |range: &VersionRange| Self {
            introduced: match range.introduced.as_str() {
                "0" => Box::default(),
                _ => key(&range.introduced),
            },
            fixed: range.fixed.as_ref().map(key),
            last: range.last.as_ref().map(key),
        };
        ranges.iter().map(of).collect()
    }

    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        *self.introduced <= *key
            && self.fixed.as_ref().is_none_or(|fixed| *key < **fixed)
            && self.last.as_ref().is_none_or(|last| *key <= **last)
    }
}

/// A vendor's published advisory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// `DSA-5123-1`, or `changelog` where no advisory names the fix.
    pub advisory: Arc<str>,
    /// Day it came out.
    pub date: Date,
}

/// A CVSS score, as its issuer published it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cvss {
    /// Version of CVSS in tenths: 20, 30, 31, 40.
    pub version: u8,
    /// The vector.
    pub vector: String,
    /// Score as published.
    pub score: f32,
    /// Score by the formula.
    pub computed: f32,
    /// Who published it.
    pub issuer: Arc<str>,
}

impl Cvss {
    /// Which of two scores of one vulnerability counts: the highest version of CVSS; the vulnerability's own
    /// authority before others; the higher score.
    fn weight(&self) -> (u8, bool, u32, &str, &str) {
        (
            self.version,
            self.issuer.as_ref() == "cna",
            (self.score * 10.0) as u32,
            &self.vector,
            &self.issuer,
        )
    }
}

/// What the world says about one vulnerability.
#[derive(Debug, Clone)]
pub(crate) struct Vulnerability {
    pub(crate) id: Arc<str>,
    pub(crate) cvss: Option<Cvss>,
    pub(crate) epss: Option<f32>,
    pub(crate) kev: Option<Kev>,
    pub(crate) ssvc: Option<Ssvc>,
    /// Places of the statements about it.
    pub(crate) statements: Vec<u32>,
}

impl Vulnerability {
    /// Is a finding by it ranked as by that of another catalogue? All that [`ranking`] tells is in it.
    pub(super) fn ranks_as(&self, other: &Self) -> bool {
        let alike = |one: &Cvss, other: &Cvss| {
            one.score.to_bits() == other.score.to_bits() && one.vector == other.vector
        };
        let cvss = match (&self.cvss, &other.cvss) {
            (Some(one), Some(other)) => alike(one, other),
            (None, None) => true,
            _ => false,
        };
        cvss && self.epss.map(f32::to_bits) == other.epss.map(f32::to_bits) && self.kev == other.kev
    }
}

/// Vendors' statements by release and source package. Built once for a set of feeds, then only read.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Sorted by release, source, vulnerability.
    statements: Vec<Statement>,
    releases: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Slice>>,
    /// Sorted by id.
    vulnerabilities: Vec<Vulnerability>,
    /// Sorted by vulnerability, then moment.
    own: Vec<VexStatement>,
    as_of: BTreeMap<Feed, Date>,
}

/// Release, source package, vulnerability.
type Place = (Arc<str>, Arc<str>, Arc<str>);

/// Hands out one shared copy of each text.
#[derive(Default)]
struct Words(BTreeSet<Arc<str>>);

impl Words {
    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.0.insert(new.clone());
        new
    }
}

impl Catalogue {
    /// Builds the catalogue. The order of the input makes no difference to the result.
    pub fn build(input: CatalogueInput) -> Self {
        let mut words = Words::default();
        let publications = publications(&input.debian_advisories, &mut words);
        let ranked = ranked(&input, &mut words);

        let mut advisories = input.advisories;
        pockets::spread(&mut advisories);
        advisories.sort_by(|a, b| {
            (&a.release, &a.source, &a.id)
                .cmp(&(&b.release, &b.source, &b.id))
                .then_with(|| {
                    let scheme = scheme_of(&a.release);
                    worse(scheme, &b.status).cmp(&worse(scheme, &a.status))
                })
                .then_with(|| {
                    (&a.urgency, &a.evidence, &a.status).cmp(&(&b.urgency, &b.evidence, &b.status))
                })
        });
        advisories.dedup_by(|b, a| {
            let same = (&a.release, &a.source, &a.id) == (&b.release, &b.source, &b.id);
            if same {
                unite(a, b);
            }
            same
        });

        let ids: BTreeSet<&str> = advisories.iter().map(|a| a.id.as_str()).collect();
        let mut vulnerabilities: Vec<Vulnerability> = ids
            .into_iter()
            .map(|id| {
                ranked.get(id).cloned().unwrap_or_else(|| Vulnerability {
                    id: words.share(id),
                    cvss: None,
                    epss: None,
                    kev: None,
                    ssvc: None,
                    statements: Vec::new(),
                })
            })
            .collect();

        let mut statements: Vec<Statement> = Vec::with_capacity(advisories.len());
        let mut releases: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Slice>> = BTreeMap::new();
        for advisory in advisories {
            let place = statements.len();
            // Invariant: `vulnerabilities` was made from these very advisories and is sorted by id.
            let Ok(vulnerability) =
                vulnerabilities.binary_search_by(|v| v.id.as_ref().cmp(&advisory.id))
            else {
                continue;
            };
            let facts = &mut vulnerabilities[vulnerability];
            facts.statements.push(place as u32);
            let ranking = ranking(facts, None);
            let (release, source) = (words.share(&advisory.release), words.share(&advisory.source));
            let slice = releases
                .entry(release.clone())
                .or_default()
                .entry(source.clone())
                .or_insert_with(|| Slice::at(place));
            slice.places.end = place + 1;
            let fixed_key = match &advisory.status {
                AdvisoryStatus::Fixed { version }
                | AdvisoryStatus::Open { elsewhere: Some(version), .. } => {
                    scheme_of(&release).key(version).into()
                }
                _ => Box::default(),
            };
            let ranges = KeyedRange::of(scheme_of(&release), &advisory.status);
            let published = (release.clone(), source.clone(), facts.id.clone());
            statements.push(Statement {
                severity: Severity::judge(&ranking, &advisory.urgency),
                publication: publications.get(&published).cloned(),
                id: facts.id.clone(),
                source,
                release,
                urgency: words.share(&advisory.urgency),
                evidence: words.share(&advisory.evidence),
                status: advisory.status,
                fixed_key,
                ranges,
                vulnerability: vulnerability as u32,
            });
        }
        let mut own = input.vex;
        own.sort();
        own.dedup();
        let mut built = Self { statements, releases, vulnerabilities, own, as_of: input.as_of };
        let mut releases = std::mem::take(&mut built.releases);
        for slice in releases.values_mut().flat_map(BTreeMap::values_mut) {
            slice.mark = Some(built.mark_of(slice.places.clone()));
        }
        built.releases = releases;
        built
    }

    /// A catalogue of statements that are sorted by source and vulnerability already, all of one of these releases.
    pub(super) fn of_parts(
        releases: BTreeSet<Arc<str>>,
        statements: Vec<Statement>,
        vulnerabilities: Vec<Vulnerability>,
        own: Vec<VexStatement>,
        as_of: BTreeMap<Feed, Date>,
    ) -> Self {
        let mut known: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Slice>> =
            releases.into_iter().map(|release| (release, BTreeMap::new())).collect();
        let mut start = 0;
        for of_source in statements.chunk_by(|a, b| a.source == b.source) {
            let sources = known.entry(of_source[0].release.clone()).or_default();
            let places = start..start + of_source.len();
            start = places.end;
            sources.insert(of_source[0].source.clone(), Slice { places, mark: None });
        }
        Self { statements, releases: known, vulnerabilities, own, as_of }
    }

    /// A catalogue of one's own statements alone, for hosts of any of these releases.
    pub fn of_own<'r>(own: Vec<VexStatement>, releases: impl Iterator<Item = &'r String>) -> Self {
        let releases = releases.map(|r| r.as_str().into()).collect();
        Self::of_parts(releases, Vec::new(), Vec::new(), own, BTreeMap::new())
    }

    /// One's own statements, by vulnerability, then moment.
    pub fn own(&self) -> &[VexStatement] {
        &self.own
    }

    /// How many statements there are.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// How many different vulnerabilities the statements are about.
    pub fn vulnerability_count(&self) -> usize {
        self.vulnerabilities.len()
    }

    /// Releases there are statements about.
    pub fn releases(&self) -> impl Iterator<Item = &str> {
        self.releases.keys().map(AsRef::as_ref)
    }

    /// Day of each feed.
    pub fn as_of(&self) -> &BTreeMap<Feed, Date> {
        &self.as_of
    }

    /// Everything said about one vulnerability, by release and source package.
    pub fn statements_about(&self, id: &str) -> impl Iterator<Item = &Statement> {
        self.places_about(id).iter().map(|&p| &self.statements[p as usize])
    }

    /// The places of everything said about one vulnerability.
    pub(super) fn places_about(&self, id: &str) -> &[u32] {
        let found = self.vulnerabilities.binary_search_by(|v| v.id.as_ref().cmp(id)).ok();
        found.map_or(&[][..], |i| &self.vulnerabilities[i].statements)
    }

    /// The statement about one vulnerability in one source package of one release.
    pub fn statement(&self, release: &str, source: &str, id: &str) -> Option<&Statement> {
        let range = self.range(release, source);
        let found =
            self.statements[range.clone()].binary_search_by(|s| s.id.as_ref().cmp(id)).ok()?;
        Some(&self.statements[range.start + found])
    }

    /// CVSS, EPSS, KEV of a statement's vulnerability, and the day its fix was published.
    pub fn ranking(&self, statement: &Statement) -> Ranking {
        let date = statement.publication.as_ref().map(|p| p.date);
        ranking(&self.vulnerabilities[statement.vulnerability as usize], date)
    }

    /// What is known of a statement's vulnerability.
    pub(super) fn vulnerability_of(&self, statement: &Statement) -> &Vulnerability {
        &self.vulnerabilities[statement.vulnerability as usize]
    }

    /// EPSS of a vulnerability, and whether it is known to be exploited.
    pub fn threat(&self, id: &str) -> (Option<f32>, bool) {
        let found = self.vulnerabilities.binary_search_by(|v| v.id.as_ref().cmp(id)).ok();
        found.map_or((None, false), |at| {
            let facts = &self.vulnerabilities[at];
            (facts.epss, facts.kev.is_some())
        })
    }

    /// Is a statement's vulnerability known to be exploited?
    pub(crate) fn is_exploited(&self, statement: &Statement) -> bool {
        self.vulnerabilities[statement.vulnerability as usize].kev.is_some()
    }

    /// EPSS and CVSS of a statement's vulnerability.
    pub(crate) fn scores(&self, statement: &Statement) -> (Option<f32>, Option<f32>) {
        let known = &self.vulnerabilities[statement.vulnerability as usize];
        (known.epss, known.cvss.as_ref().map(|c| c.score))
    }

    /// CISA's decision on a vulnerability.
    pub fn ssvc(&self, id: &str) -> Option<Ssvc> {
        let found = self.vulnerabilities.binary_search_by(|v| v.id.as_ref().cmp(id)).ok()?;
        self.vulnerabilities[found].ssvc
    }

    /// The CVSS score of a vulnerability with its issuer, highest version at hand.
    pub fn cvss(&self, id: &str) -> Option<&Cvss> {
        let found = self.vulnerabilities.binary_search_by(|v| v.id.as_ref().cmp(id)).ok()?;
        self.vulnerabilities[found].cvss.as_ref()
    }

    /// All statements about a release, sorted by source and vulnerability.
    pub fn statements_of(&self, release: &str) -> &[Statement] {
        let of = |s: &Statement| s.release.as_ref().cmp(release);
        let start = self.statements.partition_point(|s| of(s).is_lt());
        let end = self.statements.partition_point(|s| of(s).is_le());
        &self.statements[start..end]
    }

    /// Is there data for this release ([`super::release_name`])?
    pub(crate) fn covers(&self, release: &str) -> bool {
        self.releases.contains_key(release)
    }

    /// Places of the statements about a source package of a release; about a package of a language, whatever the release.
    pub(crate) fn range(&self, release: &str, source: &str) -> Range<usize> {
        let release = release_of(release, source);
        let slice = self.releases.get(release).and_then(|sources| sources.get(source));
        slice.map_or(0..0, |slice| slice.places.clone())
    }

    /// What is said of a release, by source package; `None` where it is not covered.
    pub(super) fn slices(&self, release: &str) -> Option<&BTreeMap<Arc<str>, Slice>> {
        self.releases.get(release)
    }

    /// The statement at a place.
    pub(crate) fn at(&self, place: u32) -> &Statement {
        &self.statements[place as usize]
    }

    /// The statements at these places.
    pub(crate) fn slice(&self, range: Range<usize>) -> &[Statement] {
        &self.statements[range]
    }

    /// What is known of each vulnerability, by id.
    pub(crate) fn vulnerabilities(&self) -> &[Vulnerability] {
        &self.vulnerabilities
    }
}

/// Several records about one vulnerability of one package of which one at least tells ranges (of packages of languages,
/// GitHub's and PyPA's do): what any of them calls affected is.
fn unite(kept: &mut Advisory, other: &Advisory) {
    let AdvisoryStatus::Ranges { ranges: more } = &other.status else { return };
    if let AdvisoryStatus::Fixed { version } = &kept.status {
        let fixed = Some(version.clone());
        let ranges = vec![VersionRange { introduced: "0".to_owned(), fixed, last: None }];
        kept.status = AdvisoryStatus::Ranges { ranges };
    }
    let AdvisoryStatus::Ranges { ranges } = &mut kept.status else { return };
    ranges.extend(more.iter().cloned());
    ranges.sort();
    ranges.dedup();
    if kept.urgency.is_empty() {
        kept.urgency.clone_from(&other.urgency);
    }
    let name = other.evidence.rsplit(' ').next().unwrap_or_default();
    if !kept.evidence.split([' ', ',']).any(|known| known == name) {
        kept.evidence = format!("{}, {name}", kept.evidence);
    }
}

/// Of two statements about the same thing the one with the larger value counts.
fn worse(scheme: Scheme, status: &AdvisoryStatus) -> (u8, Vec<u8>) {
    match status {
        AdvisoryStatus::NotAffected => (0, Vec::new()),
        AdvisoryStatus::Undetermined => (1, Vec::new()),
        AdvisoryStatus::Ranges { .. } => (2, Vec::new()),
        AdvisoryStatus::Fixed { version } => (2, scheme.key(version)),
        AdvisoryStatus::Open { elsewhere: Some(version), .. } => (3, scheme.key(version)),
        AdvisoryStatus::Open { elsewhere: None, .. } => (4, Vec::new()),
    }
}

fn ranking(facts: &Vulnerability, published: Option<Date>) -> Ranking {
    Ranking {
        cvss: facts.cvss.as_ref().map(|c| c.score),
        cvss_vector: facts.cvss.as_ref().map(|c| c.vector.clone()),
        epss: facts.epss,
        kev: facts.kev.clone(),
        published,
    }
}

/// First advisory that brought a fix for each (release, source, vulnerability): the day from which it could be
/// had. Regression updates (`-2`) repeat the list of the first.
fn publications(advisories: &[DebianAdvisory], words: &mut Words) -> BTreeMap<Place, Publication> {
    let mut found: BTreeMap<Place, Publication> = BTreeMap::new();
    for advisory in advisories {
        let publication = Publication { advisory: words.share(&advisory.id), date: advisory.date };
        for fix in advisory.releases.iter().filter(|r| r.fixed_version.is_some()) {
            for id in &advisory.cves {
                let key = (words.share(&fix.release), words.share(&fix.package), words.share(id));
                let earliest = found.entry(key).or_insert_with(|| publication.clone());
                if (publication.date, &publication.advisory) < (earliest.date, &earliest.advisory) {
                    *earliest = publication.clone();
                }
            }
        }
    }
    found
}

fn ranked(input: &CatalogueInput, words: &mut Words) -> BTreeMap<Arc<str>, Vulnerability> {
    let mut all: BTreeMap<Arc<str>, Vulnerability> = BTreeMap::new();
    let mut entry = |words: &mut Words, id: &str, set: &dyn Fn(&mut Vulnerability, &mut Words)| {
        let id = words.share(id);
        let facts = all.entry(id.clone()).or_insert_with(|| Vulnerability {
            id,
            cvss: None,
            epss: None,
            kev: None,
            ssvc: None,
            statements: Vec::new(),
        });
        set(facts, words);
    };
    for kev in &input.kev {
        entry(words, &kev.id, &|facts, _| {
            // Two entries for one vulnerability: the earlier due date.
            if facts.kev.as_ref().is_none_or(|k| kev.kev.due_date < k.due_date) {
                facts.kev = Some(kev.kev.clone());
            }
        });
    }
    for epss in &input.epss {
        entry(words, &epss.id, &|facts, _| {
            facts.epss = Some(facts.epss.unwrap_or(0.0).max(epss.probability));
        });
    }
    for (id, ssvc) in &input.ssvc {
        entry(words, id, &|facts, _| facts.ssvc = facts.ssvc.max(Some(*ssvc)));
    }
    for score in &input.cvss {
        entry(words, &score.id, &|facts, words| {
            let new = Cvss {
                version: score.version,
                vector: score.vector.clone(),
                score: score.score,
                computed: score.computed,
                issuer: words.share(&score.issuer),
            };
            if facts.cvss.as_ref().is_none_or(|known| known.weight() < new.weight()) {
                facts.cvss = Some(new);
            }
        });
    }
    all
}
