//! Package URLs (ECMA-427, <https://github.com/package-url/purl-spec>): `pkg:deb/debian/openssl@3.0.11-1?arch=source`.

use super::{MAX_NAME, MAX_VERSION, check_package};
use crate::exposure::Rules;
use fettle_core::inventory::{Os, Package};
use fettle_core::language::{Ecosystem, LanguagePackage};
use fettle_core::version::Scheme;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A package URL, taken apart and decoded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Purl {
    /// `deb`, `rpm`, `apk`, …, in lower case.
    pub kind: String,
    /// `debian`, `redhat`, …; empty where there is none.
    pub namespace: String,
    /// Package.
    pub name: String,
    /// Version; empty: any.
    pub version: String,
    /// `arch`, `distro`, `epoch`, `rpmmod`, …
    pub qualifiers: BTreeMap<String, String>,
}

impl Purl {
    /// Takes a package URL apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shown = || text.chars().take(100).collect::<String>();
        let bad = |what: &str| format!("package URL {:?}: {what}", shown());
        if text.len() > 4096 {
            return Err(bad("it is longer than 4096 bytes"));
        }
        let rest = text.strip_prefix("pkg:").ok_or_else(|| bad("it does not begin with `pkg:`"))?;
        let rest = rest.trim_start_matches('/');
        // A subpath names a file inside the package, which nothing here asks for.
        let rest = rest.split('#').next().unwrap_or_default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (path, version) = match path.rsplit_once('@') {
            Some((path, version)) => (path, decoded(version).map_err(|e| bad(&e))?),
            None => (path, String::new()),
        };
        let mut segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        let is_kind = |k: &str| {
            k.starts_with(|c: char| c.is_ascii_alphabetic())
                && k.chars().all(|c| c.is_ascii_alphanumeric() || ".+-".contains(c))
        };
        if segments.len() < 2 || path.ends_with('/') {
            return Err(bad("it has no type and name"));
        }
        let name = decoded(segments.pop().unwrap_or_default()).map_err(|e| bad(&e))?;
        let kind = segments.remove(0).to_ascii_lowercase();
        if !is_kind(&kind) {
            return Err(bad("its type is no word"));
        }
        if version.len() > MAX_VERSION || version.chars().any(|c| c.is_control() || c == ' ') {
            return Err(bad("its version is none"));
        }
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(bad("its name is empty or too long"));
        }
        let namespace = segments.iter().map(|s| decoded(s)).collect::<Result<Vec<_>, _>>();
        let namespace = namespace.map_err(|e| bad(&e))?.join("/");
        let mut qualifiers = BTreeMap::new();
        for pair in query.split('&').filter(|p| !p.is_empty()).take(20) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| bad("a qualifier without a value"))?;
            check_package("qualifier", key).map_err(|e| bad(&e))?;
            qualifiers.insert(key.to_ascii_lowercase(), decoded(value).map_err(|e| bad(&e))?);
        }
        Ok(Self { kind, namespace, name, version, qualifiers })
    }

    /// The type of the packages of a system.
    pub fn kind_of(os: &Os) -> Option<&'static str> {
        Some(match Rules::of(os).scheme {
            Scheme::Deb => "deb",
            Scheme::Rpm => "rpm",
            Scheme::Apk => "apk",
            Scheme::Pacman => "alpm",
            _ => return None,
        })
    }

    /// That of an installed package of a distribution.
    pub fn of_package(os: &Os, package: &Package) -> Self {
        let kind = Self::kind_of(os).unwrap_or("generic");
        let namespace = match os.id.as_str() {
            "rhel" => "redhat",
            "amzn" => "amazon",
            "ol" => "oracle",
            "arch" => "archlinux",
            id if id.starts_with("sle") => "suse",
            id if id.starts_with("opensuse") => "opensuse",
            id => id,
        };
        let mut qualifiers = BTreeMap::new();
        let (mut version, mut add) = (package.version.as_str(), |key: &str, value: String| {
            if !value.is_empty() {
                qualifiers.insert(key.to_owned(), value);
            }
        });
        if let Some((epoch, rest)) = version.split_once(':').filter(|_| kind == "rpm") {
            add("epoch", epoch.to_owned());
            version = rest;
        }
        add("arch", package.architecture.clone());
        let distro = format!("{}-{}", os.id, os.version);
        add("distro", distro.trim_matches('-').to_owned());
        add("rpmmod", package.module.clone());
        Self {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: package.name.clone(),
            version: version.to_owned(),
            qualifiers,
        }
    }

    /// That of a package of a language.
    pub fn of_language(package: &LanguagePackage) -> Self {
        let name = package.ecosystem.canonical(&package.name);
        let parts = match package.ecosystem {
            Ecosystem::Maven => name.split_once(':'),
            Ecosystem::Npm => name.split_once('/'),
            _ => None,
        };
        let (namespace, name) = parts.unwrap_or(("", &name));
        Self {
            kind: package.ecosystem.word().to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: package.version.clone(),
            qualifiers: BTreeMap::new(),
        }
    }

    /// The version as the package manager writes it: rpm's epoch stands in a qualifier.
    pub fn full_version(&self) -> String {
        match self.qualifiers.get("epoch").filter(|e| !e.is_empty() && *e != "0") {
            Some(epoch) if !self.version.contains(':') => format!("{epoch}:{}", self.version),
            _ => self.version.clone(),
        }
    }

    /// A qualifier; empty where it is not given.
    pub fn qualifier(&self, key: &str) -> &str {
        self.qualifiers.get(key).map_or("", String::as_str)
    }
}

impl fmt::Display for Purl {
    /// In the canonical form, which [`Purl::parse`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pkg:{}/", self.kind)?;
        for segment in self.namespace.split('/').filter(|s| !s.is_empty()) {
            write!(f, "{}/", encoded(segment))?;
        }
        f.write_str(&encoded(&self.name))?;
        if !self.version.is_empty() {
            write!(f, "@{}", encoded(&self.version))?;
        }
        for (at, (key, value)) in self.qualifiers.iter().enumerate() {
            write!(f, "{}{key}={}", if at == 0 { '?' } else { '&' }, encoded(value))?;
        }
        Ok(())
    }
}

/// Percent-encoding of everything but unreserved characters (RFC 3986, section 2.3).
fn encoded(text: &str) -> String {
    use fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // What goes into a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// Percent-decoding (RFC 3986, section 2.1).
fn decoded(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| (b as char).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return Err("a `%` without two hexadecimal digits".to_owned()),
        }
    }
    String::from_utf8(out).map_err(|_| "bytes that are no UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_url_is_taken_apart_and_decoded() {
        for (text, kind, namespace, name, version) in [
            (
                "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=source",
                "deb",
                "debian",
                "openssl",
                "3.0.11-1~deb12u2",
            ),
            (
                "pkg:deb/debian/perl@1%3A5.36.0-7%2Bdeb12u1",
                "deb",
                "debian",
                "perl",
                "1:5.36.0-7+deb12u1",
            ),
            (
                "pkg:RPM/redhat/openssl-libs@3.0.7-25.el9_3?arch=x86_64&epoch=1",
                "rpm",
                "redhat",
                "openssl-libs",
                "1:3.0.7-25.el9_3",
            ),
            ("pkg:apk/alpine/busybox", "apk", "alpine", "busybox", ""),
            ("pkg:npm/%40angular/core@1.0", "npm", "@angular", "core", "1.0"),
            ("pkg:cargo/rand@0.7.2#src/lib.rs", "cargo", "", "rand", "0.7.2"),
        ] {
            let purl = Purl::parse(text).unwrap();
            assert_eq!(Purl::parse(&purl.to_string()), Ok(purl.clone()), "{purl}");
            assert_eq!(
                (
                    purl.kind.as_str(),
                    purl.namespace.as_str(),
                    purl.name.as_str(),
                    purl.full_version().as_str()
                ),
                (kind, namespace, name, version)
            );
        }
    }

    #[test]
    fn what_is_no_package_url_is_refused() {
        for text in [
            "",
            "openssl",
            "pkg:",
            "pkg:deb",
            "pkg:maven/@1.3.4",
            "pkg:deb/debian/",
            "pkg:deb/a%2",
            "pkg:deb/a%ff",
            "pkg:d!/a",
            "pkg:deb/a?x",
            "pkg:deb/a@1 2",
        ] {
            assert!(Purl::parse(text).is_err(), "{text}");
        }
        assert!(Purl::parse(&format!("pkg:deb/{}", "a".repeat(5000))).is_err());
    }
}
