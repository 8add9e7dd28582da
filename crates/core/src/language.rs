//! Packages that are no distribution's: those of programming languages, installed system-wide by their own installers.

use crate::version::Scheme;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Whose packages. The words are the types of package URLs (<https://github.com/package-url/purl-spec>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ecosystem {
    /// Rust's, from crates.io.
    Cargo,
    /// Ruby's, from RubyGems.
    Gem,
    /// Java's, named as Maven names them: `group:artifact`.
    Maven,
    /// JavaScript's, from npm.
    Npm,
    /// Python's, from PyPI.
    Pypi,
}

impl Ecosystem {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cargo, Self::Gem, Self::Maven, Self::Npm, Self::Pypi];

    /// The word, as CLI, API and web print it, and as what vendors say of it is kept: `pypi`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cargo => "cargo",
            Self::Gem => "gem",
            Self::Maven => "maven",
            Self::Npm => "npm",
            Self::Pypi => "pypi",
        }
    }

    /// The ecosystem of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.word() == word)
    }

    /// Its name in the OSV schema (<https://ossf.github.io/osv-schema/#affectedpackage-field>).
    pub fn osv(self) -> &'static str {
        match self {
            Self::Cargo => "crates.io",
            Self::Gem => "RubyGems",
            Self::Maven => "Maven",
            Self::Npm => "npm",
            Self::Pypi => "PyPI",
        }
    }

    /// Whose order its versions have.
    pub fn scheme(self) -> Scheme {
        match self {
            Self::Cargo | Self::Npm => Scheme::Semver,
            Self::Gem => Scheme::Gem,
            Self::Maven => Scheme::Maven,
            Self::Pypi => Scheme::Pep440,
        }
    }

    /// The one spelling of a package's name. PyPI takes `Jinja2`, `jinja2` and `zope.interface`, `zope-interface` for the
    /// same (<https://packaging.python.org/en/latest/specifications/name-normalization/>); to the others every letter counts.
    pub fn canonical(self, name: &str) -> Cow<'_, str> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self != Self::Pypi || (name.chars().all(plain) && !name.contains("--")) {
            return Cow::Borrowed(name);
        }
        let mut out = String::with_capacity(name.len());
        for c in name.chars() {
            match c {
                '-' | '_' | '.' if out.ends_with('-') => {}
                '-' | '_' | '.' => out.push('-'),
                other => out.push(other.to_ascii_lowercase()),
            }
        }
        Cow::Owned(out)
    }

    /// What a package is called where packages of a distribution have their source's name: `pypi/jinja2`. No source of a
    /// distribution has a slash without a colon before it.
    pub fn subject(self, name: &str) -> String {
        format!("{}/{}", self.word(), self.canonical(name))
    }

    /// Takes such a name apart; `None` where it is a distribution's.
    pub fn of_subject(subject: &str) -> Option<(Self, &str)> {
        let (word, name) = subject.split_once('/')?;
        Some((Self::from_word(word)?, name))
    }
}

impl fmt::Display for Ecosystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.osv())
    }
}

/// A package of a language that is installed for the whole host, and that no package of the distribution owns: what those
/// own, the distribution's own advisories judge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LanguagePackage {
    /// Whose.
    pub ecosystem: Ecosystem,
    /// Its name as its own metadata spells it: `Jinja2`, `@babel/core`, `org.apache.logging.log4j:log4j-core`.
    pub name: String,
    /// Its version, likewise.
    pub version: String,
    /// Where its metadata lies; in an archive behind `!/`.
    pub location: String,
}

impl LanguagePackage {
    /// [`Ecosystem::subject`].
    pub fn subject(&self) -> String {
        self.ecosystem.subject(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_their_ecosystem_compares_them() {
        for (ecosystem, name, expected) in [
            (Ecosystem::Pypi, "Jinja2", "pypi/jinja2"),
            (Ecosystem::Pypi, "zope.interface", "pypi/zope-interface"),
            (Ecosystem::Pypi, "ruamel_.-yaml", "pypi/ruamel-yaml"),
            (Ecosystem::Pypi, "a--b", "pypi/a-b"),
            (Ecosystem::Npm, "@babel/Core", "npm/@babel/Core"),
            (Ecosystem::Gem, "RedCloth", "gem/RedCloth"),
            (Ecosystem::Cargo, "rand_core", "cargo/rand_core"),
            (Ecosystem::Maven, "org.a:b", "maven/org.a:b"),
        ] {
            assert_eq!(ecosystem.subject(name), expected);
            let (back, its) = Ecosystem::of_subject(expected).unwrap();
            assert_eq!((back, its), (ecosystem, &*ecosystem.canonical(name)));
        }
        // Sources of distributions, and of modules of rpm.
        for other in ["openssl", "nodejs:18/nodejs", "maven:3.8/maven", "pypi", ""] {
            assert_eq!(Ecosystem::of_subject(other), None, "{other}");
        }
    }
}
