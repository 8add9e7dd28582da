//! The two formats of apt's package sources.

use std::path::Path;

use super::{SignedBy, Source};
use crate::LabError;

/// One-line options and their deb822 names; others have no effect on a lab host.
const OPTIONS: &[(&str, &str)] = &[
    ("arch", "Architectures"),
    ("trusted", "Trusted"),
    ("check-valid-until", "Check-Valid-Until"),
    ("check-date", "Check-Date"),
    ("valid-until-max", "Valid-Until-Max"),
    ("by-hash", "By-Hash"),
    ("pdiffs", "PDiffs"),
    ("allow-insecure", "Allow-Insecure"),
    ("allow-weak", "Allow-Weak"),
];

fn wrong(file: &Path, line: usize, why: impl Into<String>) -> LabError {
    LabError::Source { file: file.to_path_buf(), line, why: why.into() }
}

/// Parses `deb [option=value …] uri suite component …` lines; `deb-src` lines are left out.
pub fn parse_one_line(text: &str, file: &Path) -> Result<Vec<Source>, LabError> {
    let mut sources = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some((kind, rest)) = line.split_once(char::is_whitespace) else {
            if line.is_empty() {
                continue;
            }
            return Err(wrong(file, number, "expected `deb URI SUITE COMPONENT…`"));
        };
        match kind {
            "deb" => {}
            "deb-src" => continue,
            other => {
                return Err(wrong(
                    file,
                    number,
                    format!("type {other:?} is not known: use deb or deb-src"),
                ));
            }
        }
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(inside) => inside
                .split_once(']')
                .ok_or_else(|| wrong(file, number, "the options' closing ] is missing"))?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace().map(str::to_owned);
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
            return Err(wrong(file, number, "expected `deb URI SUITE COMPONENT…`"));
        };
        let mut source = Source {
            uris: vec![uri],
            suites: vec![suite],
            components: words.collect(),
            signed_by: SignedBy::Any,
            fields: Vec::new(),
        };
        for option in options.split_whitespace() {
            let (name, value) = option
                .split_once('=')
                .ok_or_else(|| wrong(file, number, format!("option {option:?} has no =value")))?;
            let name = name.trim_end_matches(['+', '-']).to_ascii_lowercase();
            if name == "signed-by" {
                source.signed_by = SignedBy::from_field(value);
            } else if let Some((_, field)) = OPTIONS.iter().find(|(known, _)| *known == name) {
                source.fields.push(((*field).to_owned(), value.replace(',', " ")));
            }
        }
        sources.push(source);
    }
    Ok(sources)
}

/// Parses deb822 stanzas (`.sources` files); disabled ones and source packages are left out.
pub fn parse_deb822(text: &str, file: &Path) -> Result<Vec<Source>, LabError> {
    let mut sources = Vec::new();
    let mut stanza = Stanza::default();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.trim().is_empty() {
            sources.extend(std::mem::take(&mut stanza).finish(file)?);
        } else if line.starts_with('#') {
        } else if line.starts_with([' ', '\t']) {
            let Some((_, value)) = stanza.fields.last_mut() else {
                return Err(wrong(file, number, "a continuation line without a field before it"));
            };
            value.push('\n');
            value.push_str(line);
        } else {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| wrong(file, number, "expected `Field: value`"))?;
            if stanza.fields.is_empty() {
                stanza.line = number;
            }
            stanza.fields.push((name.trim().to_owned(), value.trim_end().to_owned()));
        }
    }
    sources.extend(stanza.finish(file)?);
    Ok(sources)
}

#[derive(Default)]
struct Stanza {
    line: usize,
    fields: Vec<(String, String)>,
}

impl Stanza {
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.fields.iter().position(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(self.fields.remove(at).1)
    }

    fn words(&mut self, name: &str) -> Vec<String> {
        let value = self.take(name).unwrap_or_default();
        value.split_whitespace().map(str::to_owned).collect()
    }

    fn finish(mut self, file: &Path) -> Result<Option<Source>, LabError> {
        if self.fields.is_empty() {
            return Ok(None);
        }
        let line = self.line;
        let off = ["no", "false", "without", "off", "disable", "0"];
        let enabled = self.take("Enabled").unwrap_or_default();
        let types = self.words("Types");
        let uris = self.words("URIs");
        let suites = self.words("Suites");
        for (name, words) in [("Types", &types), ("URIs", &uris), ("Suites", &suites)] {
            if words.is_empty() {
                return Err(wrong(file, line, format!("the stanza has no {name} field")));
            }
        }
        if off.contains(&enabled.trim().to_ascii_lowercase().as_str())
            || !types.iter().any(|kind| kind == "deb")
        {
            return Ok(None);
        }
        let components = self.words("Components");
        let signed_by = match self.take("Signed-By") {
            Some(value) => SignedBy::from_field(&value),
            None => SignedBy::Any,
        };
        let known = |name: &str| OPTIONS.iter().any(|(_, field)| field.eq_ignore_ascii_case(name));
        self.fields.retain(|(name, _)| known(name));
        let fields =
            self.fields.into_iter().map(|(name, value)| (name, value.trim().to_owned())).collect();
        Ok(Some(Source { uris, suites, components, signed_by, fields }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "sources.list";

    #[test]
    fn a_line_with_options_becomes_a_source() {
        let text = "# comment\n\ndeb [arch=amd64,i386 signed-by=/usr/share/keyrings/a.gpg lang=de] \
                    http://archive.example/debian bookworm main contrib # why\ndeb-src http://x y z\n";
        let sources = parse_one_line(text, Path::new(FILE)).unwrap();
        assert_eq!(
            sources,
            [Source {
                uris: vec!["http://archive.example/debian".into()],
                suites: vec!["bookworm".into()],
                components: vec!["main".into(), "contrib".into()],
                signed_by: SignedBy::Named(vec!["/usr/share/keyrings/a.gpg".into()]),
                fields: vec![("Architectures".into(), "amd64 i386".into())],
            }]
        );
    }

    #[test]
    fn a_deb822_file_gives_its_enabled_binary_sources() {
        let text = "# top\nTypes: deb deb-src\nURIs: http://archive.example/debian\n  http://second.example/debian\n\
                    # inside\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n\n\
                    Types: deb-src\nURIs: http://a.example\nSuites: b\nComponents: main\n\n\
                    Types: deb\nEnabled: no\nURIs: http://a.example\nSuites: b\n";
        let sources = parse_deb822(text, Path::new("debian.sources")).unwrap();
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].uris.len(), 2);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(sources[0].signed_by.files(), [Path::new("/k.gpg")]);
    }

    #[test]
    fn a_key_written_into_the_source_survives_the_way_to_the_host() {
        let text = "Types: deb\nURIs: http://a.example\nSuites: bookworm\nComponents: main\nSigned-By:\n \
                    -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----\n";
        let file = Path::new("a.sources");
        let once = parse_deb822(text, file).unwrap();
        assert!(matches!(once[0].signed_by, SignedBy::Inline(_)));
        let twice = parse_deb822(&once[0].to_deb822(), file).unwrap();
        assert_eq!(once, twice);
    }

    #[test]
    fn what_is_rendered_reads_the_same_again() {
        let text = "deb [trusted=yes] http://a.example/debian bookworm main non-free-firmware\n";
        let once = parse_one_line(text, Path::new(FILE)).unwrap();
        assert_eq!(
            parse_deb822(&super::super::render(&once), Path::new("x.sources")).unwrap(),
            once
        );
    }

    #[test]
    fn a_broken_source_is_named_by_file_and_line() {
        let one_line = [
            (
                "deb http://a.example bookworm main\ndeb [arch=amd64 http://b.example x main\n",
                2,
                "]",
            ),
            ("rpm http://a.example x\n", 1, "deb"),
            ("deb http://a.example\n", 1, "SUITE"),
            ("deb [trusted] http://a.example x\n", 1, "trusted"),
        ];
        for (text, line, word) in one_line {
            let error = parse_one_line(text, Path::new(FILE)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{FILE}:{line}: ")), "{error}");
            assert!(error.contains(word), "{error}");
        }
        for (text, line, word) in [
            ("Types: deb\nnonsense\n", 2, "Field"),
            (" continued\n", 1, "continuation"),
            ("\nTypes: deb\nURIs: http://a.example\n", 2, "Suites"),
        ] {
            let error = parse_deb822(text, Path::new("a.sources")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("a.sources:{line}: ")), "{error}");
            assert!(error.contains(word), "{error}");
        }
    }
}
