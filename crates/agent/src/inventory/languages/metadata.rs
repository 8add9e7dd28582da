//! What installers write beside what they install: name and version of a package. Total: what makes no sense is none.

use serde::Deserialize;
use std::collections::BTreeMap;

/// `METADATA` and `PKG-INFO`: header fields as in a mail, up to the first empty line
/// (<https://packaging.python.org/en/latest/specifications/core-metadata/>).
pub(super) fn python(bytes: &[u8]) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let (mut name, mut version) = (None, None);
    for line in text.lines().take_while(|line| !line.trim().is_empty()) {
        let Some((field, value)) = line.split_once(':') else { continue };
        match field.to_ascii_lowercase().as_str() {
            "name" => name = name.or(Some(value.trim().to_owned())),
            "version" => version = version.or(Some(value.trim().to_owned())),
            _ => {}
        }
    }
    Some((name?, version?))
}

/// `package.json` (<https://docs.npmjs.com/cli/configuring-npm/package-json>).
pub(super) fn npm(bytes: &[u8]) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Manifest {
        name: String,
        version: String,
    }
    let it: Manifest = serde_json::from_slice(bytes).ok()?;
    Some((it.name, it.version.trim_start_matches(['v', '=']).to_owned()))
}

/// A gem's specification as RubyGems writes it: Ruby, of which only `s.name = "…"` and `s.version = "…"` are read.
pub(super) fn gem(bytes: &[u8]) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let value = |field: &str| {
        text.lines().find_map(|line| {
            let (left, right) = line.split_once('=')?;
            let (_, its) = left.trim().rsplit_once('.')?;
            let right = right.trim();
            let right = right.strip_prefix("Gem::Version.new(").unwrap_or(right);
            let quote = right.chars().next().filter(|c| "\"'".contains(*c))?;
            let (value, _) = right[1..].split_once(quote)?;
            (its == field).then(|| value.to_owned())
        })
    };
    Some((value("name")?, value("version")?))
}

/// `.crates2.json`: what `cargo install` keeps of its installs. Only what came from crates.io.
pub(super) fn cargo(bytes: &[u8]) -> Vec<(String, String)> {
    #[derive(Deserialize)]
    struct Installs {
        #[serde(default)]
        installs: BTreeMap<String, serde::de::IgnoredAny>,
    }
    let Ok(Installs { installs }) = serde_json::from_slice(bytes) else { return Vec::new() };
    // `ripgrep 13.0.0 (registry+URL)`; older ones have the URL of a git index, later ones `sparse+URL`. Both, and mirrors
    // under their name, have the registry's own name in it; what comes from elsewhere is nobody's advisory's.
    let read = |key: &String| {
        let mut words = key.split(' ');
        let (name, version, from) = (words.next()?, words.next()?, words.next()?);
        let from = from.trim_matches(['(', ')']);
        let by_index = from.starts_with("registry+") || from.starts_with("sparse+");
        let public = by_index && from.contains("crates.io");
        public.then(|| (name.to_owned(), version.to_owned()))
    };
    installs.keys().filter_map(read).collect()
}

/// `pom.properties` of an archive: `group:artifact` and version.
pub(super) fn maven(bytes: &[u8]) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let value = |field: &str| {
        text.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == field).then(|| value.trim().to_owned()).filter(|v| !v.is_empty())
        })
    };
    Some((format!("{}:{}", value("groupId")?, value("artifactId")?), value("version")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, version: &str) -> Option<(String, String)> {
        Some((name.to_owned(), version.to_owned()))
    }

    #[test]
    fn what_each_installer_wrote_is_read() {
        let said =
            b"Metadata-Version: 2.1\nName: Jinja2\nVersion: 3.1.2\n\nName: other\nVersion: 9\n";
        assert_eq!(python(said), pair("Jinja2", "3.1.2"));
        let said =
            br#"{"name": "@babel/core", "version": "7.20.0", "scripts": {"install": "rm -rf /"}}"#;
        assert_eq!(npm(said), pair("@babel/core", "7.20.0"));
        let said = b"# -*- encoding: utf-8 -*-\n# stub: rack 2.2.4 ruby lib\n\nGem::Specification.new do |s|\n  \
            s.name = \"rack\".freeze\n  s.version = \"2.2.4\"\n  s.required_ruby_version = Gem::Requirement.new\n";
        assert_eq!(gem(said), pair("rack", "2.2.4"));
        let said = b"  s.name = 'puma'\n  s.version = Gem::Version.new(\"6.0.0\")\n";
        assert_eq!(gem(said), pair("puma", "6.0.0"));
        let said = br#"{"installs": {
            "ripgrep 13.0.0 (registry+https://git.example.org/crates.io-index)": {"bins": ["rg"]},
            "own 0.1.0 (path+file:///src/own)": {}, "odd": {}, "ours 1.0.0 (sparse+https://cargo.example.org/)": {},
            "fd-find 8.7.0 (sparse+https://crates.io.example.org/)": {} }}"#;
        assert_eq!(
            cargo(said),
            [pair("fd-find", "8.7.0").unwrap(), pair("ripgrep", "13.0.0").unwrap()]
        );
        let said = b"#Generated by Maven\nversion=2.14.1\ngroupId=org.apache.logging.log4j\nartifactId=log4j-core\n";
        assert_eq!(maven(said), pair("org.apache.logging.log4j:log4j-core", "2.14.1"));
    }

    #[test]
    fn what_makes_no_sense_is_no_package() {
        for bytes in [
            &b""[..],
            b"{",
            b"\xff\xfe=\"",
            b"Name: x\n\nVersion: 1",
            b"s.name = \"",
            b"{\"name\":1}",
            b"version=",
        ] {
            for parse in [python, npm, gem, maven] {
                assert_eq!(parse(bytes), None, "{bytes:?}");
            }
            assert_eq!(cargo(bytes), []);
        }
    }
}
