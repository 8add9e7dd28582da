//! What the ways in which a definition can be true say of packages, and what else stands in it.

use super::super::cvss::{CvssScore, base_score};
use super::super::lines;
use super::super::xml::Element;
use super::super::{MAX_VERSION, check_package, clean_text};
use super::criteria::Way;
use super::question::{Condition, PackageTest, Question};
use super::{EVIDENCE, OvalVendor, release};
use crate::exposure::{PRO, binary_subject, is_modular, scheme_of};
use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::version::Scheme;
use jiff::civil::Date;
use std::collections::{BTreeMap, BTreeSet};

/// A definition.
pub(super) struct About<'d> {
    pub(super) vendor: OvalVendor,
    pub(super) metadata: &'d Element,
    pub(super) advisory: &'d Element,
    /// What it is called.
    pub(super) id: &'d str,
}

/// What is said of one package of one release, whichever the vulnerability.
#[derive(Debug)]
pub(super) struct Said {
    release: String,
    subject: String,
    status: AdvisoryStatus,
    urgency: String,
    evidence: String,
}

impl Said {
    /// The statement about one vulnerability.
    pub(super) fn about(&self, id: &str) -> Advisory {
        Advisory {
            id: id.to_owned(),
            source: self.subject.clone(),
            release: self.release.clone(),
            status: self.status.clone(),
            urgency: self.urgency.clone(),
            evidence: self.evidence.clone(),
        }
    }
}

/// Release and package, as statements are about them.
type Subject = (String, String);

/// One way's word on a subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Word {
    condition: Condition,
    /// The package that is tested.
    name: String,
    archs: Option<BTreeSet<String>>,
    comment: String,
}

/// What the ways say, and what had to be left out.
pub(super) fn statements<'w>(
    about: &About<'_>,
    ways: impl Iterator<Item = &'w Way>,
) -> (Vec<Said>, Vec<String>) {
    let mut words: BTreeMap<Subject, BTreeSet<Word>> = BTreeMap::new();
    let mut left_out = Vec::new();
    let mut leave = |what: String| {
        if !left_out.contains(&what) && left_out.len() < 8 {
            left_out.push(what);
        }
    };
    for way in ways {
        match said(about, way) {
            Ok(found) => {
                for (subject, word) in found {
                    words.entry(subject).or_default().insert(word);
                }
            }
            Err(what) => leave(what),
        }
    }
    let urgency = clean_text(about.advisory.text_of("severity")).to_ascii_lowercase();
    let evidence = format!("{EVIDENCE} {}", about.id);
    let mut all = Vec::new();
    for ((release, subject), words) in words {
        match status(about, &release, &subject, &words) {
            Ok(status) => all.push(Said {
                release,
                subject,
                status,
                urgency: urgency.clone(),
                evidence: evidence.clone(),
            }),
            Err(what) => leave(format!("{subject} of {release}: {what}")),
        }
    }
    (all, left_out)
}

/// What one way says of which packages; nothing where it is about what no host here is.
fn said(about: &About<'_>, way: &Way) -> Result<Vec<(Subject, Word)>, String> {
    let mut releases: BTreeSet<String> = BTreeSet::new();
    let (mut tested, mut missing) = (Vec::<PackageTest>::new(), BTreeSet::new());
    let (mut archs, mut modules) = (None, BTreeSet::new());
    let mut unknown = None;
    for question in way {
        match question {
            // No way holds the first two; of the others every host says yes.
            Question::Always | Question::Never | Question::Signed | Question::Kernel => {}
            Question::OtherProduct => return Ok(Vec::new()),
            Question::Release(release) => {
                releases.insert(release.clone());
            }
            Question::Missing(names) => missing.extend(names),
            Question::Arch(these) => archs = both(archs, Some(these.clone())),
            Question::Module(stream) => {
                modules.insert(stream);
            }
            Question::Package(test) => match tested.iter_mut().find(|t| t.names == test.names) {
                Some(known) => {
                    known.condition = narrower(about, &known.condition, &test.condition);
                    known.archs = both(known.archs.take(), test.archs.clone());
                }
                None => tested.push(test.clone()),
            },
            Question::Unknown(what) => unknown = Some(what),
        }
    }
    if releases.len() > 1 {
        // A host is of one release.
        return Ok(Vec::new());
    }
    if let Some(what) = unknown {
        return Err(what.clone());
    }
    let [test] = &mut tested[..] else {
        return Err(match tested.len() {
            0 => "it asks for no package".to_owned(),
            _ => "it asks for several packages at once".to_owned(),
        });
    };
    if !missing.is_empty() {
        if !test.names.iter().all(|name| missing.contains(name)) {
            return Err("it asks for a package that is not installed".to_owned());
        }
        test.condition = Condition::Never;
    }
    let module = match modules.len() {
        0 => None,
        1 => modules.pop_first(),
        _ => return Err("it asks for several streams of modules at once".to_owned()),
    };
    let releases = match releases.pop_first() {
        Some(release) => vec![release],
        None => platforms(about)?,
    };
    let archs = both(archs, test.archs.take());
    if archs.as_ref().is_some_and(BTreeSet::is_empty) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for release in &releases {
        for name in &test.names {
            let subject = subject(about, test, name, module.map(String::as_str))?;
            let word = Word {
                condition: test.condition.clone(),
                name: name.clone(),
                archs: archs.clone(),
                comment: test.comment.clone(),
            };
            found.push(((release.clone(), subject), word));
        }
    }
    Ok(found)
}

/// What both lists name; all where there is none.
fn both(
    one: Option<BTreeSet<String>>,
    other: Option<BTreeSet<String>>,
) -> Option<BTreeSet<String>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.intersection(&other).cloned().collect()),
        (one, other) => one.or(other),
    }
}

/// Both conditions at once.
fn narrower(about: &About<'_>, one: &Condition, other: &Condition) -> Condition {
    match (one, other) {
        (Condition::Below(a), Condition::Below(b)) => {
            let scheme = scheme(about.vendor);
            let lower = if scheme.compare_lenient(b, a).is_lt() { b } else { a };
            Condition::Below(lower.clone())
        }
        (one, other) => one.min(other).clone(),
    }
}

fn scheme(vendor: OvalVendor) -> Scheme {
    if vendor.speaks_of_sources() { Scheme::Deb } else { Scheme::Rpm }
}

/// The releases that the definition as a whole is about.
fn platforms(about: &About<'_>) -> Result<Vec<String>, String> {
    let platforms: Vec<&Element> =
        about.metadata.children("affected").flat_map(|a| a.children("platform")).collect();
    let found: BTreeSet<String> =
        platforms.iter().filter_map(|p| release::of_platform(about.vendor, &p.text)).collect();
    if found.is_empty() {
        let shown: Vec<String> = platforms.iter().take(3).map(|p| clean_text(&p.text)).collect();
        return Err(match shown.is_empty() {
            true => "neither a test nor a platform tells its release".to_owned(),
            false => format!("its platform {:?} is no release of a host here", shown.join(", ")),
        });
    }
    Ok(found.into_iter().collect())
}

/// The package, as statements about hosts of this vendor name it.
fn subject(
    about: &About<'_>,
    test: &PackageTest,
    name: &str,
    module: Option<&str>,
) -> Result<String, String> {
    let source = match about.vendor {
        OvalVendor::Debian => {
            let product =
                about.metadata.child("affected").map(|a| a.text_of("product")).unwrap_or_default();
            // `CVE-2016-5405 389-ds-base`.
            let of_title = about.metadata.text_of("title").split_once(' ').map(|(_, name)| name);
            Some(if product.is_empty() { of_title.unwrap_or_default() } else { product })
        }
        OvalVendor::Ubuntu => {
            let references = about.metadata.children("reference");
            let of_package = |r: &&Element| r.attribute("source") == "Package";
            let package = references.into_iter().find(of_package).map(|r| r.attribute("ref_id"));
            Some(package.or(test.source.as_deref()).unwrap_or_default())
        }
        _ => None,
    };
    if let Some(source) = source {
        if source.is_empty() {
            return Err(format!("{name} is a binary package, and its source is not named"));
        }
        check_package("source package", source)?;
        return Ok(source.to_owned());
    }
    let modular = match &test.condition {
        Condition::Below(version) => Some(is_modular(version)),
        _ => None,
    };
    match (module, modular) {
        (Some(module), Some(true) | None) => Ok(format!("{module}/{name}")),
        (Some(module), Some(false)) => {
            Err(format!("the version of {name} is none of a module, and it asks for {module}"))
        }
        (None, Some(true)) => Err(format!("{name} is of a module, and no test names its stream")),
        (None, _) if about.vendor == OvalVendor::Suse => Ok(binary_subject(name)),
        (None, _) => Ok(name.to_owned()),
    }
}

/// What all words on a subject come to.
fn status(
    about: &About<'_>,
    release: &str,
    subject: &str,
    words: &BTreeSet<Word>,
) -> Result<AdvisoryStatus, String> {
    let scheme = scheme_of(release);
    let mut below: BTreeMap<&str, Vec<&Word>> = BTreeMap::new();
    for word in words {
        match &word.condition {
            Condition::Never => {}
            Condition::Installed => return Ok(open(about, subject, word)),
            Condition::Below(version) => below.entry(version).or_default().push(word),
        }
    }
    if below.len() > 1 {
        // Which version of a binary that is not the source's own stands for the source?
        if about.vendor.speaks_of_sources() {
            below.retain(|_, words| words.iter().any(|w| w.name == subject));
            if below.len() != 1 {
                return Err("its binaries have versions of their own".to_owned());
            }
        } else if let Some((one, other)) = apart(&below) {
            return Err(format!("it is fixed in {one} or {other}, by architecture"));
        }
    }
    let highest = below.into_keys().max_by(|a, b| scheme.compare_lenient(a, b));
    let Some(version) = highest else { return Ok(AdvisoryStatus::NotAffected) };
    if version.len() > MAX_VERSION {
        return Err(format!("the version has {} bytes, more than {MAX_VERSION}", version.len()));
    }
    scheme.check(version).map_err(|e| e.to_string())?;
    if about.vendor == OvalVendor::Oracle
        && (version.contains(".ksplice") || version.contains("_fips"))
    {
        return Err(format!(
            "{version} is of a repository with versions of its own beside the distribution's, and a host does not say which a package came from"
        ));
    }
    // What Ubuntu fixes for subscribers alone.
    let esm = ["~esm", "+esm", ".esm"].iter().any(|mark| version.contains(mark));
    if esm && release.starts_with("ubuntu:") {
        let (reason, elsewhere) = (PRO.to_owned(), Some(version.to_owned()));
        return Ok(AdvisoryStatus::Open { reason, elsewhere });
    }
    Ok(match about.vendor {
        OvalVendor::Oracle => lines::of_oracle(subject, version.to_owned()),
        _ => AdvisoryStatus::Fixed { version: version.to_owned() },
    })
}

/// Two versions that are said of architectures which have none in common.
fn apart<'w>(below: &BTreeMap<&'w str, Vec<&Word>>) -> Option<(&'w str, &'w str)> {
    let archs = |words: &[&Word]| {
        let each = words.iter().map(|w| w.archs.clone());
        each.collect::<Option<Vec<_>>>().map(|all| all.into_iter().flatten().collect())
    };
    let known: Vec<(&str, Option<BTreeSet<String>>)> =
        below.iter().map(|(version, words)| (*version, archs(words))).collect();
    known.windows(2).find_map(|pair| match pair {
        [(one, Some(of_one)), (other, Some(of_other))] if of_one.is_disjoint(of_other) => {
            Some((*one, *other))
        }
        _ => None,
    })
}

/// A package that is affected in every version.
fn open(about: &About<'_>, subject: &str, word: &Word) -> AdvisoryStatus {
    let mut reason = String::new();
    match about.vendor {
        OvalVendor::RedHat => {
            let resolutions: Vec<&Element> = about
                .advisory
                .children("affected")
                .flat_map(|affected| affected.children("resolution"))
                .collect();
            let is_its = |r: &&&Element| {
                r.children("component").any(|c| c.text == word.name || c.text == subject)
            };
            let its = resolutions.iter().find(is_its).or(match &resolutions[..] {
                [only] => Some(only),
                _ => None,
            });
            reason = its.map(|r| clean_text(r.attribute("state"))).unwrap_or_default();
            if reason == "Under investigation" {
                return AdvisoryStatus::Undetermined;
            }
        }
        // "is affected, but a decision has been made to defer addressing it".
        OvalVendor::Ubuntu if word.comment.contains(" to defer ") => reason = "<postponed>".into(),
        OvalVendor::Ubuntu if word.comment.contains(" to ignore ") => reason = "<ignored>".into(),
        _ => {}
    }
    AdvisoryStatus::Open { reason, elsewhere: None }
}

/// The day on which an advisory came out.
pub(super) fn published(metadata: &Element, advisory: &Element) -> Option<Date> {
    let debian = metadata.child("debian").map(|d| d.text_of("date")).unwrap_or_default();
    let issued = [advisory.attribute_of("issued", "date"), debian];
    issued.iter().find_map(|day| day.get(..10)?.parse().ok())
}

/// The scores that stand in a definition. One that its own version's formula cannot read is left out: it only ranks.
pub(super) fn scores(vendor: OvalVendor, advisory: &Element) -> Vec<CvssScore> {
    let mut all = Vec::new();
    for cve in advisory.children("cve") {
        let mut words = cve.text.split_ascii_whitespace();
        let Some(id) = words.next().filter(|id| super::is_cve(id)) else { continue };
        let issuer = if cve.text.ends_with(" at NVD") { "NVD" } else { vendor.issuer() };
        for name in ["cvss2", "cvss3", "cvss4", "cvss_vector"] {
            let said = cve.attribute(name);
            // `7.0/CVSS:3.1/AV:L/…`, or the vector alone.
            let (score, vector) = match said.split_once('/') {
                Some((score, vector)) if score.parse::<f32>().is_ok() => (score, vector),
                _ => (cve.attribute("cvss_score"), said),
            };
            let Ok((version, computed)) = base_score(vector) else { continue };
            let score = score.parse().ok().filter(|s| (0.0..=10.0).contains(s)).unwrap_or(computed);
            all.push(CvssScore {
                id: id.to_owned(),
                version,
                vector: vector.to_owned(),
                score,
                computed,
                issuer: issuer.to_owned(),
            });
        }
    }
    all.dedup();
    all
}
