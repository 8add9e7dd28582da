//! Which of the machine's package sources a lab host gets.

use super::{SignedBy, Source};
use crate::LabError;

/// The sources of a lab host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The release alone: what the base is installed from.
    pub release: Vec<Source>,
    /// Release, updates and security: what the hosts are patched from.
    pub all: Vec<Source>,
    /// What people should know about the choice.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Release,
    Updates,
    Security,
}

/// Names a Debian suite may go by besides the wanted one; the hosts' release takes their place.
const DEBIAN_NAMES: &[&str] = &[
    "stable",
    "oldstable",
    "oldoldstable",
    "testing",
    "unstable",
    "sid",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
];

fn part(suite: &str) -> Option<(&str, Part)> {
    if let Some(name) = suite.strip_suffix("-security").or_else(|| suite.strip_suffix("/updates")) {
        Some((name, Part::Security))
    } else if let Some(name) = suite.strip_suffix("-updates") {
        Some((name, Part::Updates)).filter(|(name, _)| !name.ends_with("-proposed"))
    } else if suite.contains(['-', '/']) {
        None
    } else {
        Some((suite, Part::Release))
    }
}

fn named(codename: &str, part: Part) -> String {
    match part {
        Part::Release => codename.to_owned(),
        Part::Updates => format!("{codename}-updates"),
        Part::Security => format!("{codename}-security"),
    }
}

/// Chooses from the machine's `sources` those that offer Debian `codename`. On a machine of
/// another Debian release the same archives are asked for `codename`.
pub fn choose(sources: &[Source], codename: &str) -> Result<Chosen, LabError> {
    let fetchable = |source: &&Source| {
        source.components.iter().any(|component| component == "main")
            && source
                .uris
                .iter()
                .all(|uri| uri.starts_with("http://") || uri.starts_with("https://"))
    };
    let mut candidates: Vec<Source> = sources.iter().filter(fetchable).cloned().collect();
    // Other vendors name suites after Debian's too; Debian's own keys tell them apart.
    let debian = |source: &Source| match &source.signed_by {
        SignedBy::Any => true,
        SignedBy::Named(names) => names.iter().any(|name| name.contains("debian-archive")),
        SignedBy::Inline(_) => false,
    };
    if candidates.iter().any(debian) {
        candidates.retain(debian);
    }
    let mut notes = Vec::new();
    let offers = |name: &str, source: &Source| {
        source.suites.iter().any(|suite| part(suite) == Some((name, Part::Release)))
    };
    let exact = candidates.iter().any(|source| offers(codename, source));
    if !exact
        && candidates.iter().any(|source| DEBIAN_NAMES.iter().any(|name| offers(name, source)))
    {
        notes.push(format!(
            "this machine's package sources are of another Debian release; {codename} is asked of the same archives"
        ));
    }
    let mut release: Vec<Source> = Vec::new();
    let mut all: Vec<Source> = Vec::new();
    let mut secure = false;
    for source in candidates {
        let mut suites: Vec<(String, Part)> = Vec::new();
        for suite in &source.suites {
            let Some((name, part)) = part(suite) else { continue };
            let wanted = if exact { name == codename } else { DEBIAN_NAMES.contains(&name) };
            let suite = (named(codename, part), part);
            if wanted && !suites.contains(&suite) {
                suites.push(suite);
            }
        }
        secure |= suites.iter().any(|(_, part)| *part == Part::Security);
        let with = |suites: Vec<String>| Source { suites, ..source.clone() };
        let of_release: Vec<String> = suites
            .iter()
            .filter(|(_, part)| *part == Part::Release)
            .map(|(suite, _)| suite.clone())
            .collect();
        let every: Vec<String> = suites.into_iter().map(|(suite, _)| suite).collect();
        for (list, suites) in [(&mut release, of_release), (&mut all, every)] {
            let source = with(suites);
            if !source.suites.is_empty() && !list.contains(&source) {
                list.push(source);
            }
        }
    }
    if release.is_empty() {
        return Err(LabError::NoSource { suite: codename.to_owned(), looked: sources.len() });
    }
    if !secure {
        notes.push(format!(
            "none of this machine's package sources offers {codename}-security: no security updates will be pending"
        ));
    }
    Ok(Chosen { release, all, notes })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sources::parse_one_line;

    fn sources(text: &str) -> Vec<Source> {
        parse_one_line(text, Path::new("sources.list")).unwrap()
    }

    fn suites(sources: &[Source]) -> Vec<&str> {
        sources.iter().flat_map(|source| source.suites.iter().map(String::as_str)).collect()
    }

    #[test]
    fn the_base_comes_from_the_release_and_the_patches_from_the_rest() {
        let chosen = choose(
            &sources(
                "deb http://a.example/debian bookworm main\ndeb http://a.example/debian bookworm-updates main\n\
                 deb http://a.example/security bookworm-security main\n\
                 deb http://a.example/debian bookworm-backports main\n\
                 deb http://a.example/debian bookworm-proposed-updates main\n",
            ),
            "bookworm",
        )
        .unwrap();
        assert_eq!(suites(&chosen.release), ["bookworm"]);
        assert_eq!(suites(&chosen.all), ["bookworm", "bookworm-updates", "bookworm-security"]);
        assert!(chosen.notes.is_empty());
    }

    #[test]
    fn a_machine_of_another_release_asks_its_archives_for_the_wanted_one() {
        let chosen = choose(
            &sources(
                "deb http://a.example/debian trixie main\ndeb http://a.example/debian trixie-updates main\n\
                 deb http://a.example/security trixie-security main\n",
            ),
            "bookworm",
        )
        .unwrap();
        assert_eq!(suites(&chosen.all), ["bookworm", "bookworm-updates", "bookworm-security"]);
        assert_eq!(chosen.notes.len(), 1);
    }

    #[test]
    fn other_vendors_sources_stay_out() {
        let chosen = choose(
            &sources(
                "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://a.example/debian bookworm main\n\
                 deb [signed-by=/k/other.gpg] http://vendor.example bookworm main\n\
                 deb http://vendor.example bookworm stable\ndeb file:/srv/mirror bookworm main\n",
            ),
            "bookworm",
        )
        .unwrap();
        assert_eq!(chosen.all.len(), 1);
        assert!(chosen.notes[0].contains("bookworm-security"));
    }

    #[test]
    fn without_a_debian_source_the_remedy_is_named() {
        let error =
            choose(&sources("deb http://a.example/ubuntu noble main\n"), "bookworm").unwrap_err();
        assert!(error.to_string().contains("FETTLE_LAB_SOURCES"), "{error}");
    }
}
