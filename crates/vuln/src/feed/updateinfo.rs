//! `updateinfo.xml`, as repositories of rpm packages publish it beside their indexes: what `dnf updateinfo` reads. A file
//! holds one document or several (of BaseOS, of AppStream, …), one after the other.
//!
//! | vendor | release is told by | a package is | vulnerabilities stand in |
//! |---|---|---|---|
//! | AlmaLinux, Red Hat, Oracle | the package's release: `6.el9_2` | an installed package | references of type `cve` |
//! | Rocky Linux | likewise | a source (`src`) | likewise |
//! | Amazon Linux | likewise: `3.amzn2023` | an installed package | likewise |
//! | Fedora | `<release>`: `Fedora 43` | an installed package | titles of references to its bug tracker |
//!
//! * Only updates of type `security` say something; one that names no CVE counts under its own name.
//! * Packages of a module stand under `module:stream/package`, by the `<module>` of their collection. Where it is not told,
//!   they are refused and named: versions of different streams have nothing to say to each other.
//! * Repositories with packages of their own beside the distribution's (Amazon's extras and live patches) are refused and
//!   named: a host does not say which repository a package came from, and the version of one is none of the other's. Kernels
//!   that a release has beside each other under one name (Amazon's, Oracle's) are told apart by their versions.

use super::document::Document;
use super::lines;
use super::osv::{MAX_STATEMENTS, OsvRecord};
use super::xml::{BadXml, Element, Next, Xml};
use super::{Feed, FeedError, MAX_VERSION, Parsed, check_package, check_vulnerability, clean_text};
use crate::exposure::is_modular;
use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::version::rpm;
use jiff::civil::Date;
use std::collections::BTreeSet;

/// Whose updates a feed holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RpmVendor {
    /// AlmaLinux.
    AlmaLinux,
    /// Amazon Linux.
    Amazon,
    /// Fedora.
    Fedora,
    /// Oracle Linux.
    Oracle,
    /// Red Hat Enterprise Linux.
    RedHat,
    /// Rocky Linux.
    Rocky,
}

impl RpmVendor {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::AlmaLinux, Self::Amazon, Self::Fedora, Self::Oracle, Self::RedHat, Self::Rocky];

    /// `ID` of its `os-release(5)`.
    pub fn os(self) -> &'static str {
        match self {
            Self::AlmaLinux => "almalinux",
            Self::Amazon => "amzn",
            Self::Fedora => "fedora",
            Self::Oracle => "ol",
            Self::RedHat => "rhel",
            Self::Rocky => "rocky",
        }
    }
}

/// What [`Advisory::evidence`] begins with.
pub const EVIDENCE: &str = "updateinfo";

/// Parses the documents. A record is an update.
///
/// # Errors
/// [`FeedError`] where the file as a whole is no such XML, is cut off, or holds nothing usable.
pub fn parse(vendor: RpmVendor, bytes: &[u8]) -> Result<Parsed<OsvRecord>, FeedError> {
    let mut document = Document::open(Feed::UpdateInfo(vendor), bytes)?;
    let text = document.text()?;
    let mut xml = Xml::new(text);
    loop {
        let at = xml.rest();
        let next = xml.next().map_err(|e| bad(&document, e))?;
        let start = match next {
            Next::Eof => break,
            Next::Start(start) if start.name == "update" => start,
            Next::Start(_) | Next::End => continue,
        };
        let update = xml.whole(start).map_err(|e| bad(&document, e))?;
        let id = clean_text(update.text_of("id"));
        match record(vendor, &update) {
            Err(what) => document.reject(at, || id, what),
            Ok(None) => {}
            Ok(Some((record, left_out))) => {
                for (package, what) in left_out {
                    document.reject(at, || format!("{id} {package}"), what);
                }
                if !record.statements.is_empty() {
                    document.keep(record);
                }
            }
        }
    }
    document.close()
}

/// A fault of the XML as a fault of the document.
pub(super) fn bad<T>(document: &Document<'_, T>, error: BadXml) -> FeedError {
    if error.cut {
        return document.truncated(error.what);
    }
    let (line, column) = document.position(error.at);
    document.malformed(line, column, error.what)
}

/// Packages that are left out, and why.
type LeftOut = Vec<(String, String)>;

fn record(vendor: RpmVendor, update: &Element) -> Result<Option<(OsvRecord, LeftOut)>, String> {
    if update.attribute("type") != "security" {
        return Ok(None);
    }
    let id = update.text_of("id");
    check_vulnerability(&id.replace([':', '.'], "-"))?;
    let about = vulnerabilities(update, id);
    let urgency = clean_text(update.text_of("severity")).to_ascii_lowercase();
    let issued = update.attribute_of("issued", "date").get(..10);
    let published: Option<Date> = issued.and_then(|day| day.parse().ok());
    let mut statements = BTreeSet::new();
    let mut left_out = LeftOut::new();
    for collection in update.child("pkglist").into_iter().flat_map(|l| l.children("collection")) {
        for package in collection.children("package") {
            let name = package.attribute("name");
            let is_code = package.attribute("arch") != "src"
                && !name.ends_with("-debuginfo")
                && !name.ends_with("-debugsource");
            if !is_code {
                continue;
            }
            match subject(vendor, update, collection, package) {
                Ok((release, name, version)) => {
                    let status = match (vendor, amazons_line(collection)) {
                        (RpmVendor::Oracle, _) => lines::of_oracle(&name, version),
                        (RpmVendor::Amazon, Some(line)) => lines::of_line(line, version),
                        _ => AdvisoryStatus::Fixed { version },
                    };
                    statements.insert((release, name, status));
                }
                Err(what) => left_out.push((clean_text(name), what)),
            }
        }
    }
    if statements.len().saturating_mul(about.len()) > MAX_STATEMENTS {
        return Err(format!(
            "{} packages and {} vulnerabilities make more than {MAX_STATEMENTS} statements",
            statements.len(),
            about.len()
        ));
    }
    // One package of several architectures is one reason, told once.
    left_out.dedup();
    left_out.truncate(3);
    let mut said = Vec::new();
    for vulnerability in &about {
        for (release, source, status) in &statements {
            said.push(Advisory {
                id: vulnerability.clone(),
                source: source.clone(),
                release: release.clone(),
                status: status.clone(),
                urgency: urgency.clone(),
                evidence: format!("{EVIDENCE} {id}"),
            });
        }
    }
    Ok(Some((
        OsvRecord { id: id.to_owned(), published, statements: said, scores: Vec::new() },
        left_out,
    )))
}

/// Is a word the name of a CVE?
pub(super) fn is_cve(word: &str) -> bool {
    let mut parts = word.split('-');
    let digits = |part: Option<&str>| {
        part.is_some_and(|p| p.len() >= 4 && p.bytes().all(|b| b.is_ascii_digit()))
    };
    parts.next() == Some("CVE")
        && digits(parts.next())
        && digits(parts.next())
        && parts.next().is_none()
}

/// The CVEs that the references name, or the update's own name.
fn vulnerabilities(update: &Element, id: &str) -> BTreeSet<String> {
    let references = update.child("references").into_iter().flat_map(|r| r.children("reference"));
    let texts = references.flat_map(|r| [r.attribute("id"), r.attribute("title")]);
    let words = texts.flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
    let mut found: BTreeSet<String> = words
        .filter(|word| is_cve(word))
        .filter(|w| check_vulnerability(w).is_ok())
        .map(str::to_owned)
        .collect();
    if found.is_empty() {
        found.insert(id.to_owned());
    }
    found
}

/// Release, package as statements know it, fixed version.
fn subject(
    vendor: RpmVendor,
    update: &Element,
    collection: &Element,
    package: &Element,
) -> Result<(String, String, String), String> {
    let (name, version) = match vendor {
        RpmVendor::Rocky => source(package)?,
        _ => (
            package.attribute("name"),
            version_of(package, package.attribute("version"), package.attribute("release")),
        ),
    };
    check_package("package", name)?;
    if version.len() > MAX_VERSION {
        return Err(format!("the version has {} bytes, more than {MAX_VERSION}", version.len()));
    }
    rpm::Version::parse(&version).map_err(|e| e.to_string())?;
    let release = release(vendor, update, collection, package)?;
    let module = collection.child("module");
    let name = match module.map(|m| (m.attribute("name"), m.attribute("stream"))) {
        Some((module, stream)) if is_modular(&version) => {
            check_package("module", module)?;
            check_package("stream", stream)?;
            format!("{module}:{stream}/{name}")
        }
        _ if is_modular(&version) => {
            return Err(format!(
                "{version} is of a module, and its collection does not name the stream"
            ));
        }
        _ => name.to_owned(),
    };
    Ok((release, name, version))
}

fn version_of(package: &Element, version: &str, release: &str) -> String {
    match package.attribute("epoch") {
        "" | "0" => format!("{version}-{release}"),
        epoch => format!("{epoch}:{version}-{release}"),
    }
}

/// Name and version of the source: `openssl-1.1.1k-6.el8_5.src.rpm`. The epoch is the package's own.
fn source(package: &Element) -> Result<(&str, String), String> {
    let file = package.attribute("src");
    let shown = || format!("`src` {:?} is no NAME-VERSION-RELEASE.src.rpm", clean_text(file));
    let stem =
        file.rsplit('/').next().and_then(|f| f.strip_suffix(".src.rpm")).ok_or_else(shown)?;
    let (rest, release) = stem.rsplit_once('-').ok_or_else(shown)?;
    let (name, version) = rest.rsplit_once('-').ok_or_else(shown)?;
    Ok((name, lines::of_rocky(&version_of(package, version, release)).to_owned()))
}

fn release(
    vendor: RpmVendor,
    update: &Element,
    collection: &Element,
    package: &Element,
) -> Result<String, String> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let os = vendor.os();
    let own = package.attribute("release");
    let unknown = |what: &str| Err(format!("{what} tells no release of {os}"));
    match vendor {
        RpmVendor::Fedora => {
            let told = update.text_of("release");
            let number = told.strip_prefix("Fedora ").map(digits).unwrap_or_default();
            match told {
                _ if number.is_empty() => unknown(&format!("release {:?}", clean_text(told))),
                _ if told.contains("EPEL") => unknown("a release of EPEL"),
                _ => Ok(format!("{os}:{number}")),
            }
        }
        RpmVendor::Amazon => {
            let repository = collection.attribute("short");
            let number = own.rsplit_once("amzn").map(|(_, n)| digits(n)).unwrap_or_default();
            let core = ["amazon-linux", "amazon-linux-ami", "amazon-linux-2", "amazon-linux-2023"];
            let version = package.attribute("version");
            let is_of_line =
                |line: &str| version.strip_prefix(line).is_some_and(|rest| rest.starts_with('.'));
            if !repository.is_empty()
                && !core.contains(&repository)
                && !amazons_line(collection).is_some_and(is_of_line)
                && !repository.starts_with("amazon-linux-2022")
            {
                return Err(format!(
                    "repository {:?} has versions of its own beside the distribution's, and a host does not say which a package came from",
                    clean_text(repository)
                ));
            }
            match number.as_str() {
                "" => unknown(&format!("package release {:?}", clean_text(own))),
                // The first Amazon Linux counts its own releases by month.
                "1" => Ok(format!("{os}:2018")),
                number => Ok(format!("{os}:{number}")),
            }
        }
        _ => {
            // `6.el9_2`, `1.module+el8.8.0+1+2`.
            let at = own.match_indices("el").find(|(at, _)| {
                let before = own[..*at].chars().next_back();
                before.is_none_or(|c| ".+_".contains(c)) && !digits(&own[at + 2..]).is_empty()
            });
            match at {
                Some((at, _)) => Ok(format!("{os}:{}", digits(&own[at + 2..]))),
                None => unknown(&format!("package release {:?}", clean_text(own))),
            }
        }
    }
}

/// Amazon Linux 2 has kernels beside its own, in repositories by the line of their versions, which are called alike.
fn amazons_line(collection: &Element) -> Option<&str> {
    let line = collection.attribute("short").strip_prefix("amazon-linux-2---kernel-")?;
    line.starts_with(|c: char| c.is_ascii_digit()).then_some(line)
}

#[cfg(test)]
mod tests;
