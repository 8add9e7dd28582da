//! Package URLs (ECMA-427, <https://github.com/package-url/purl-spec>): `pkg:deb/debian/openssl@3.0.11-1?arch=source`.

use super::{MAX_NAME, MAX_VERSION, check_package};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
