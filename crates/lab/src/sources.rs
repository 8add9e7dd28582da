//! The package sources of the machine, read from its apt configuration, and what of them a lab
//! host gets. No archive's name is written down anywhere in the project.

mod choose;
mod parse;

pub use choose::{Chosen, choose};
pub use parse::{parse_deb822, parse_one_line};

use std::path::{Path, PathBuf};

use crate::LabError;

/// One package source, as apt understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where the archive is.
    pub uris: Vec<String>,
    /// Suites of it.
    pub suites: Vec<String>,
    /// Components of these suites.
    pub components: Vec<String>,
    /// Which keys its signature is checked with.
    pub signed_by: SignedBy,
    /// Other fields, by their deb822 names.
    pub fields: Vec<(String, String)>,
}

/// The keys a source is checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedBy {
    /// Any key apt trusts.
    Any,
    /// Key files (or key fingerprints) named by the source.
    Named(Vec<String>),
    /// A key written into the source itself, with deb822's leading blanks.
    Inline(String),
}

impl SignedBy {
    fn from_field(value: &str) -> Self {
        if value.contains("BEGIN PGP") {
            return Self::Inline(value.to_owned());
        }
        let names: Vec<String> = value
            .split([' ', ',', '\t', '\n'])
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        if names.is_empty() { Self::Any } else { Self::Named(names) }
    }

    /// The key files named, if any.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Named(names) => {
                names.iter().filter(|name| name.starts_with('/')).map(PathBuf::from).collect()
            }
            Self::Any | Self::Inline(_) => Vec::new(),
        }
    }
}

impl Source {
    /// The source as a deb822 stanza.
    pub fn to_deb822(&self) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\n",
            self.uris.join(" "),
            self.suites.join(" "),
            self.components.join(" ")
        );
        match &self.signed_by {
            SignedBy::Any => {}
            SignedBy::Named(names) => text.push_str(&format!("Signed-By: {}\n", names.join(" "))),
            SignedBy::Inline(key) => text.push_str(&format!("Signed-By:{key}\n")),
        }
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text
    }
}

/// Stanzas for one `.sources` file.
pub fn render(sources: &[Source]) -> String {
    sources.iter().map(Source::to_deb822).collect::<Vec<_>>().join("\n")
}

/// Reads all sources apt would use on the machine whose root is `root`.
pub fn of_machine(root: &Path) -> Result<Vec<Source>, LabError> {
    let mut sources = Vec::new();
    let main = root.join("etc/apt/sources.list");
    if main.is_file() {
        sources.extend(read(&main)?);
    }
    let parts = root.join("etc/apt/sources.list.d");
    if parts.is_dir() {
        let listing = std::fs::read_dir(&parts).map_err(LabError::io("list", &parts))?;
        let mut files: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            if matches!(file.extension().and_then(|end| end.to_str()), Some("list" | "sources")) {
                sources.extend(read(&file)?);
            }
        }
    }
    Ok(sources)
}

/// Reads one file: deb822 if its name ends in `.sources`, else one source a line.
pub fn read(file: &Path) -> Result<Vec<Source>, LabError> {
    let text = std::fs::read_to_string(file).map_err(LabError::io("read", file))?;
    if file.extension().is_some_and(|end| end == "list") {
        parse_one_line(&text, file)
    } else {
        parse_deb822(&text, file)
    }
}
