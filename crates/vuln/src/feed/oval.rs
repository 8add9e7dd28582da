//! OVAL definitions (<https://oval-community-guidelines.readthedocs.io/>, version 5), as distributions publish their
//! advisories in them: XML, documents one after the other. What `oscap oval eval` reads.
//!
//! | vendor | release is told by | a package is | vulnerabilities stand in |
//! |---|---|---|---|
//! | AlmaLinux, Red Hat | a test of the package that owns `/etc/redhat-release` | an installed package | references, `<cve>` |
//! | Oracle Linux, SUSE, openSUSE | a test of the package `oraclelinux-release`, `sles-release`, … | likewise | likewise |
//! | Debian | a test of `/etc/debian_version`, or the platform | a source (`<product>`, or the title's second word) | references |
//! | Ubuntu | the platform | a source (named in comments) | references; `<cve test_ref>` |
//!
//! A definition is a program, not a statement: a tree of tests joined by AND, OR and negations. It is turned into the ways
//! in which it can be true, and each way into what it says of a package of a release. A way that asks what
//! no statement here can say (two packages together, which live patch is loaded, a version that is equal) is left out and
//! named, with the test; the others count.
//!
//! * Signatures by the vendor's key go without saying, and which kernel runs is judged by what the host says of it.
//! * A package that is tested for nothing but being installed is affected, without a fix. One that must be installed and
//!   missing at once (Red Hat's "unaffected components"), be lower than 0 or equal to 0 is not affected.
//! * Packages of a module stand under `module:stream/package`, by the test that the stream is enabled.
//! * Where architectures have fixes of different versions, the package is left out and named; a statement here counts on
//!   all of them.
//! * Binaries of one source that have versions of their own are told by the one of the source's name, or not at all.
//! * Definitions of products with repositories of their own beside the distribution's (`<cpe>`, Oracle's other families) are
//!   refused and named, as are Oracle's packages for live patches and FIPS.

use super::document::Document;
use super::osv::{MAX_STATEMENTS, OsvRecord};
use super::updateinfo::{bad, is_cve};
use super::xml::{Element, Next, Xml};
use super::{Feed, FeedError, Parsed, check_vulnerability, clean_text};
use parts::Parts;
use std::collections::{BTreeMap, BTreeSet};

mod criteria;
mod parts;
mod question;
mod release;
mod said;

/// Whose definitions a feed holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OvalVendor {
    /// AlmaLinux.
    AlmaLinux,
    /// Debian.
    Debian,
    /// Oracle Linux.
    Oracle,
    /// Red Hat Enterprise Linux.
    RedHat,
    /// SUSE Linux Enterprise and openSUSE.
    Suse,
    /// Ubuntu.
    Ubuntu,
}

impl OvalVendor {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::AlmaLinux, Self::Debian, Self::Oracle, Self::RedHat, Self::Suse, Self::Ubuntu];

    /// Who issued the scores that stand in its definitions.
    fn issuer(self) -> &'static str {
        match self {
            Self::AlmaLinux => "AlmaLinux",
            Self::Debian => "Debian",
            Self::Oracle => "Oracle",
            Self::RedHat => "Red Hat",
            Self::Suse => "SUSE",
            Self::Ubuntu => "Ubuntu",
        }
    }

    /// Whose definitions speak of a release ([`crate::exposure::release_name`]).
    pub(crate) fn of_release(release: &str) -> Option<Self> {
        let vendor = release.split(':').next().unwrap_or_default();
        Some(match vendor.split('-').next().unwrap_or_default() {
            "almalinux" => Self::AlmaLinux,
            "ol" => Self::Oracle,
            "rhel" => Self::RedHat,
            "sles" | "opensuse" => Self::Suse,
            "ubuntu" => Self::Ubuntu,
            _ if !release.contains(':') => Self::Debian,
            _ => return None,
        })
    }

    /// Are its statements about source packages, although it tests the binaries of each?
    pub(crate) fn speaks_of_sources(self) -> bool {
        matches!(self, Self::Debian | Self::Ubuntu)
    }
}

/// What [`fettle_core::advisory::Advisory::evidence`] begins with.
pub const EVIDENCE: &str = "OVAL";

/// Parses the documents. A record is a definition.
///
/// # Errors
/// [`FeedError`] where the file as a whole is no such XML, is cut off, or holds nothing usable.
pub fn parse(vendor: OvalVendor, bytes: &[u8]) -> Result<Parsed<OsvRecord>, FeedError> {
    let mut document = Document::open(Feed::Oval(vendor), bytes)?;
    let text = document.text()?;
    let mut xml = Xml::new(text);
    loop {
        let from = xml.at();
        match xml.next().map_err(|e| bad(&document, e))? {
            Next::Eof => break,
            Next::Start(root) if root.name == "oval_definitions" => {}
            Next::Start(root) => {
                let (line, column) = document.position(xml.at());
                let name = clean_text(&root.name);
                let what = format!("the outermost element is `{name}`, not `oval_definitions`");
                return Err(document.malformed(line, column, what));
            }
            Next::End => continue,
        }
        // What definitions refer to stands behind them: a document is read twice, and is no larger in memory for it.
        let parts = Parts::read(&mut xml).map_err(|e| bad(&document, e))?;
        let whole = text.get(from..xml.at()).unwrap_or_default();
        definitions(vendor, whole, &parts, &mut document)?;
    }
    document.close()
}

/// The definitions of one document, which was found to be well-formed.
fn definitions(
    vendor: OvalVendor,
    text: &str,
    parts: &Parts,
    document: &mut Document<'_, OsvRecord>,
) -> Result<(), FeedError> {
    let mut xml = Xml::new(text);
    loop {
        let at = xml.rest().trim_start();
        let start = match xml.next().map_err(|e| bad(document, e))? {
            Next::Eof => return Ok(()),
            Next::Start(start) => start,
            Next::End => continue,
        };
        if start.name != "definition" {
            continue;
        }
        let definition = xml.whole(start).map_err(|e| bad(document, e))?;
        let id = clean_text(definition.attribute("id"));
        match record(vendor, parts, &definition) {
            Err(what) => document.reject(at, || id, what),
            Ok(None) => {}
            Ok(Some((record, left_out))) => {
                let place = if record.id == id { id } else { format!("{id} {}", record.id) };
                for what in left_out {
                    document.reject(at, || place.clone(), what);
                }
                if !record.statements.is_empty() {
                    document.keep(record);
                }
            }
        }
    }
}

/// What was left out of a definition, and why.
type LeftOut = Vec<String>;

fn record(
    vendor: OvalVendor,
    parts: &Parts,
    definition: &Element,
) -> Result<Option<(OsvRecord, LeftOut)>, String> {
    // The others say what is installed, or set up as somebody would have it.
    let class = definition.attribute("class");
    if !["patch", "vulnerability"].contains(&class)
        || matches!(definition.attribute("deprecated"), "true" | "1")
    {
        return Ok(None);
    }
    let nothing = Element::default();
    let metadata = definition.child("metadata").unwrap_or(&nothing);
    let advisory = metadata.child("advisory").unwrap_or(&nothing);
    is_of_the_distribution(vendor, definition, advisory)?;
    let named = Named::of(vendor, class, definition, metadata, advisory);
    let criteria = definition.child("criteria").ok_or("it has no criteria")?;
    let ways = criteria::ways(vendor, parts, criteria)?;
    let about = said::About { vendor, metadata, advisory, id: &named.id };
    for id in named.vulnerabilities.keys() {
        check_vulnerability(&id.replace([':', '.'], "-"))?;
    }
    let (mut statements, mut left_out) = (Vec::new(), LeftOut::new());
    for (tests, ids) in named.by_tests() {
        // A definition of a package asks of each vulnerability in a test of its own.
        let its = ways.iter().filter(|way| tests.is_empty() || criteria::asks(way, tests));
        let (said, left) = said::statements(&about, its);
        left_out.extend(left);
        if said.len().saturating_mul(ids.len()) > MAX_STATEMENTS - statements.len() {
            return Err(format!(
                "its packages and vulnerabilities make more than {MAX_STATEMENTS} statements"
            ));
        }
        statements.extend(said.iter().flat_map(|said| ids.iter().map(|id| said.about(id))));
    }
    left_out.sort();
    left_out.dedup();
    left_out.truncate(3);
    let record = OsvRecord {
        id: named.id,
        published: said::published(metadata, advisory),
        statements,
        scores: said::scores(vendor, advisory),
    };
    Ok(Some((record, left_out)))
}

/// Is a definition about packages of the distribution's own repositories?
fn is_of_the_distribution(
    vendor: OvalVendor,
    definition: &Element,
    advisory: &Element,
) -> Result<(), String> {
    let known = match vendor {
        OvalVendor::RedHat => ":redhat:enterprise_linux:",
        OvalVendor::Oracle => ":oracle:linux:",
        _ => return Ok(()),
    };
    let cpes = || advisory.children("affected_cpe_list").flat_map(|list| list.children("cpe"));
    let family = definition.attribute("id").split(':').nth(1).unwrap_or_default();
    let first = match vendor {
        OvalVendor::Oracle if family != "com.oracle.elsa" => Some(family),
        _ if cpes().any(|cpe| format!("{}:", cpe.text).contains(known)) => None,
        _ => cpes().next().map(|cpe| cpe.text.as_str()),
    };
    match first {
        None => Ok(()),
        Some(first) => Err(format!(
            "it is of {:?}, which has versions of its own beside the distribution's, and a host does not say which a package came from",
            clean_text(first)
        )),
    }
}

/// What a definition is called, and what it is about.
struct Named {
    /// The vendor's advisory; the vulnerability where it is a page of one.
    id: String,
    /// Each with the tests that are about it alone; none where all are.
    vulnerabilities: BTreeMap<String, BTreeSet<String>>,
}

impl Named {
    fn of(
        vendor: OvalVendor,
        class: &str,
        definition: &Element,
        metadata: &Element,
        advisory: &Element,
    ) -> Self {
        let mut vulnerabilities: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let of_page =
            |id: &str| is_cve(id) || (vendor == OvalVendor::Debian && id.starts_with("TEMP-"));
        for reference in metadata.children("reference") {
            let id = reference.attribute("ref_id");
            if of_page(id) {
                vulnerabilities.entry(id.to_owned()).or_default();
            }
        }
        for cve in advisory.children("cve") {
            // SUSE writes `CVE-2014-8105 at NVD`.
            let id = cve.text.split_ascii_whitespace().next().unwrap_or_default();
            if is_cve(id) {
                let tests = vulnerabilities.entry(id.to_owned()).or_default();
                tests.extend(Some(cve.attribute("test_ref").to_owned()).filter(|t| !t.is_empty()));
            }
        }
        let title = metadata.text_of("title").split_ascii_whitespace().next().unwrap_or_default();
        let title = title.trim_end_matches([':', ',']);
        let own = metadata
            .children("reference")
            .filter(|r| r.attribute("source") != "Package")
            .map(|r| r.attribute("ref_id"))
            .find(|id| !is_cve(id) && is_name(id))
            .or(Some(title).filter(|word| is_name(word)))
            .unwrap_or(definition.attribute("id"));
        let mut ids = vulnerabilities.keys();
        let id = match (class, ids.next(), ids.next()) {
            ("vulnerability", Some(only), None) => only.clone(),
            _ => clean_text(own),
        };
        if vulnerabilities.is_empty() {
            vulnerabilities.insert(id.clone(), BTreeSet::new());
        }
        Self { id, vulnerabilities }
    }

    /// The vulnerabilities that the same tests are about.
    fn by_tests(&self) -> BTreeMap<&BTreeSet<String>, Vec<&str>> {
        let mut groups: BTreeMap<&BTreeSet<String>, Vec<&str>> = BTreeMap::new();
        for (id, tests) in &self.vulnerabilities {
            groups.entry(tests).or_default().push(id);
        }
        groups
    }
}

/// Could a word be an advisory's name: `RHSA-2022:4765`, `ELSA-2007-0057`, `SUSE-SU-2016:1623-1`?
fn is_name(word: &str) -> bool {
    word.contains('-')
        && word.chars().any(|c| c.is_ascii_digit())
        && check_vulnerability(&word.replace([':', '.'], "-")).is_ok()
}
