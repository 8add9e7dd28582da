//! The documents are held against the program: what they tell people to type can be typed, and what they link to is there.

#![allow(clippy::unwrap_used)]

mod hints;

use crate::args::Cli;
use clap::Parser as _;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every page, by its path from the repository's root.
fn pages() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (directory, prefix) in
        [("", ""), ("docs", "docs/"), ("docs/adr", "docs/adr/"), ("docs/errors", "docs/errors/")]
    {
        for entry in fs::read_dir(repository().join(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                let path = format!("{prefix}{name}");
                let text = fs::read_to_string(repository().join(&path)).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 30, "{}", found.len());
    found
}

/// Lines within fences that are no other language, and lines outside of all fences.
fn apart(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut typed, mut prose) = (Vec::new(), Vec::new());
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), fence) {
            (Some(language), None) => fence = Some(language.trim()),
            (Some(_), Some(_)) => fence = None,
            (None, Some("" | "sh" | "console")) => typed.push(line),
            (None, Some(_)) => {}
            (None, None) => prose.push(line),
        }
    }
    (typed, prose)
}

/// The words of a line of shell as far as documents need it: quotes, comments, pipes; what a shell would put in place of
/// `$(…)` and of an ellipsis is some word.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut depth) = (Vec::new(), None::<String>, None, 0);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('$', _) if chars.peek() == Some(&'(') => {
                depth += 1;
                word.get_or_insert_default().push('X');
                chars.next();
            }
            ('(', _) if depth > 0 => depth += 1,
            (')', _) if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            (q, Some(open)) if q == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            ('|' | '>' | ';' | '&', None) => break,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_that_a_document_shows_can_be_typed() {
    let (mut tried, mut wrong) = (0, Vec::new());
    for (path, text) in pages().iter().filter(|(path, _)| path != "CHANGELOG.md") {
        let joined = text.replace("\\\n", " ");
        for line in apart(&joined).0 {
            let line = line.trim_start().trim_start_matches("$ ").trim_start_matches("sudo ");
            if !line.starts_with("fettle ") {
                continue;
            }
            let words = words(line);
            // Asking for help is no mistake.
            if let Err(error) = Cli::try_parse_from(&words)
                && error.exit_code() != 0
            {
                let why = error.to_string().lines().next().unwrap_or_default().to_owned();
                wrong.push(format!("{path}: `{line}`: {why}"));
            }
            tried += 1;
        }
    }
    assert!(wrong.is_empty(), "{} are not understood:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried >= 100, "{tried} commands were found");
}

/// How a heading is called in a link, as mdBook and code forges do it.
fn anchor(heading: &str) -> String {
    let mut text = String::new();
    for c in heading.trim().to_lowercase().chars() {
        match c {
            ' ' => text.push('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => text.push(c),
            _ => {}
        }
    }
    text
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = apart(text).1.into_iter().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// Where the links of a page lead to.
fn links(text: &str) -> Vec<String> {
    let prose = apart(text).1.join("\n");
    let mut found = Vec::new();
    let mut rest = prose.as_str();
    while let Some(at) = rest.find("](") {
        rest = &rest[at + 2..];
        let Some(end) = rest.find(')') else { break };
        found.push(rest[..end].trim().to_owned());
        rest = &rest[end..];
    }
    found
}

#[test]
fn every_link_leads_to_a_page_that_is_there_and_to_a_heading_in_it() {
    let pages = pages();
    let mut followed = 0;
    for (path, text) in &pages {
        for link in links(text) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = match link.split_once('#') {
                Some((file, heading)) => (file, Some(heading)),
                None => (link.as_str(), None),
            };
            let target = match file {
                "" => repository().join(path),
                file => repository().join(path).parent().unwrap().join(file),
            };
            assert!(target.exists(), "{path} links to {link}, which is not there");
            if let Some(heading) = heading {
                let there = anchors(&fs::read_to_string(&target).unwrap());
                assert!(there.contains(heading), "{path} links to {link}: no such heading");
            }
            followed += 1;
        }
    }
    assert!(followed >= 80, "{followed} links were found");
}

#[test]
fn the_book_has_every_page_once() {
    let summary = fs::read_to_string(repository().join("docs/SUMMARY.md")).unwrap();
    let mut listed = links(&summary);
    let mut there: Vec<String> = pages()
        .iter()
        .filter_map(|(path, _)| path.strip_prefix("docs/"))
        .filter(|page| !page.starts_with("adr/") && *page != "SUMMARY.md")
        .map(str::to_owned)
        .collect();
    listed.sort();
    there.sort();
    assert_eq!(listed, there);
    let book = fs::read_to_string(repository().join("book.toml")).unwrap();
    assert!(book.contains("src = \"docs\""));
}

/// The program's own text of a file: without its tests.
fn program(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

/// Every source file of what is shipped.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let rooms = ["core", "wire", "vuln", "store", "server", "agent", "cli"];
    let mut left: Vec<_> =
        rooms.iter().map(|room| repository().join("crates").join(room).join("src")).collect();
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let is_test = path.file_stem().is_some_and(|name| name == "tests");
            if is_test {
                continue;
            }
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 300, "{}", found.len());
    found
}

/// The string literals that stand right behind one of these beginnings.
fn behind<'a>(text: &'a str, beginning: &str) -> Vec<&'a str> {
    // Not of a longer word that ends so.
    let whole = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let found = text.match_indices(beginning).filter(|(at, _)| whole(*at));
    let rest = found.map(|(at, _)| &text[at + beginning.len()..]);
    rest.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).collect()
}

#[test]
fn every_code_that_a_program_emits_is_of_the_list_and_each_of_the_list_is_emitted() {
    use fettle_core::code::{CODES, is_known};
    let all: Vec<(PathBuf, String)> =
        sources().into_iter().map(|path| (path.clone(), program(&path))).collect();
    let mut found = 0;
    for (path, text) in &all {
        let kinds = "Internal Usage NotFound Conflict BadInput Forbidden Refused Unavailable Environment NoData";
        let mut codes = Vec::new();
        for kind in kinds.split(' ') {
            codes.extend(behind(text, &format!("Kind::{kind},")));
            codes.extend(behind(text, &format!("ProblemKind::{kind},")));
        }
        for beginning in ["fault(", "Stopped::new(", "not_tested(", "bad_token(", "usage("] {
            codes.extend(behind(text, beginning));
        }
        // A message is no code; a code is one word.
        for code in codes.into_iter().filter(|code| !code.contains([' ', '{', '/', '<'])) {
            assert!(is_known(code), "{}: `{code}` is not in core::code", path.display());
            found += 1;
        }
    }
    assert!(found > 250, "{found}");
    for code in CODES {
        let quoted = format!("\"{code}\"");
        let is_list = |path: &Path| path.ends_with("core/src/code.rs");
        let emitted = all.iter().any(|(path, text)| !is_list(path) && text.contains(&quoted));
        assert!(emitted, "nothing has the code `{code}`: take it and its page away");
    }
}

#[test]
fn the_list_of_codes_in_the_guide_has_each_once() {
    let page = fs::read_to_string(repository().join("docs/errors.md")).unwrap();
    let mut listed: Vec<String> = links(&page)
        .iter()
        .filter_map(|to| Some(to.strip_prefix("errors/")?.strip_suffix(".md")?.to_owned()))
        .collect();
    listed.sort();
    assert_eq!(listed, fettle_core::code::CODES);
}

#[test]
fn words_are_those_that_a_shell_would_make() {
    let line = "fettle report --from \"$(date -u +%Y-%m-01)\" --html 'a b'  # a comment | more";
    assert_eq!(words(line), ["fettle", "report", "--from", "X", "--html", "a b"]);
    assert_eq!(words("fettle host list -o json | jq ."), ["fettle", "host", "list", "-o", "json"]);
    assert_eq!(
        anchor("What it does today, and what not yet"),
        "what-it-does-today-and-what-not-yet"
    );
}
