//! Hints: each `fettle …` that a page's prose, a program's text or an error's page tells people to type can be typed so.

use super::{apart, pages, program, sources, words};
use crate::args::Cli;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

/// The texts of a source's string literals, with what stands behind a `\` at the end of a line joined.
fn literals(source: &str) -> Vec<String> {
    let (mut found, mut chars) = (Vec::new(), source.chars().peekable());
    let mut before = ' ';
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|c| *c != '\n').is_some() {},
            // Of a character, not of a text.
            '"' if before == '\'' && chars.peek() == Some(&'\'') => {}
            '"' => found.push(literal(&mut chars)),
            _ => {}
        }
        before = c;
    }
    found
}

fn literal(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                Some('n') => text.push('\n'),
                Some(c) => text.push(c),
                None => break,
            },
            c => text.push(c),
        }
    }
    text
}

/// What follows the name of a command where somebody speaks of it and tells nobody to type it.
const SPOKEN_OF: [&str; 6] = [" wrote", " prints", " fetches", " names", " says", " works out"];

/// What stands between backticks and begins so; a line may end within.
fn quoted(text: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split('`').collect();
    let spoken_of = |n: usize| {
        let next =
            parts.get(n + 1).map(|next| next.split_whitespace().collect::<Vec<_>>().join(" "));
        let next = next.unwrap_or_default();
        SPOKEN_OF.iter().any(|it| next.starts_with(it.trim()))
            && is_name(&words(&parts[n].split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    let within = (1..parts.len()).step_by(2).filter(|n| !spoken_of(*n));
    let parts = within.map(|n| parts[n]);
    let joined = parts.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    joined
        .map(|part| part.trim_start_matches("sudo ").to_owned())
        .filter(|part| part.starts_with("fettle "))
        .collect()
}

/// In place of what a program puts behind a text: one word or several, and options.
const FOLLOWS: &str = "FOLLOWS";

/// What a text without backticks tells to type: from `fettle ` at its beginning, or behind an arrow, up to where the
/// sentence goes on.
fn told(text: &str) -> Vec<String> {
    const GOES_ON: [&str; 14] = [
        "\n", ", ", "; ", ": ", " (", " && ", " says ", " lists ", " prints ", " print ", " and ",
        " ends ", " | ", " > ",
    ];
    let mut found = Vec::new();
    for (at, _) in text.match_indices("fettle ") {
        let before = &text[..at];
        let begins = ["→ ", "then ", "sudo ", "\n", "&& ", " and ", "; "]
            .iter()
            .any(|it| before.ends_with(it));
        if !before.is_empty() && !begins {
            continue;
        }
        let rest = &text[at..];
        let end = GOES_ON.iter().filter_map(|stop| rest.find(stop)).min().unwrap_or(rest.len());
        let command = rest[..end].trim_end();
        // What stands at the end of a text that ends so is put behind it by the program.
        found.push(match end == rest.len() && rest.ends_with(' ') {
            true => format!("{command} {FOLLOWS}"),
            false => command.to_owned(),
        });
    }
    found
}

/// As somebody would type it: a word in place of what stands for one.
fn typed(command: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    // What may be left out is tried with it.
    let given = braces_as_words(command).replace(['[', ']'], "");
    for word in words(&given.replace('|', "\u{0}")) {
        let word = word.split('\u{0}').next().unwrap_or_default().replace('…', "1");
        let stands_for_one = word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
        let word = match out.last().map(String::as_str) {
            Some("--role") if !word.starts_with(char::is_lowercase) => "viewer".to_owned(),
            Some("--state") if word == "1" => "exposed".to_owned(),
            Some("--wave") => "1".to_owned(),
            _ if stands_for_one => "1".to_owned(),
            _ => word,
        };
        out.push(word);
    }
    out
}

/// `{name}` of a format string is a number, which is a name too.
fn braces_as_words(text: &str) -> String {
    let (mut out, mut depth) = (String::new(), 0_u32);
    for c in text.chars() {
        match c {
            '{' => {
                depth += 1;
                if depth == 1 {
                    out.push('1');
                }
            }
            '}' => depth = depth.saturating_sub(1),
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// Only the name of a command, without anything behind it.
fn is_name(typed: &[String]) -> bool {
    let mut at = Cli::command();
    typed.iter().skip(1).all(|word| match at.find_subcommand(word).cloned() {
        Some(next) => {
            at = next;
            true
        }
        None => false,
    })
}

/// Why it cannot be typed. The name of a command may stand for it where all that is missing is what it is about; a command
/// that wants an option more does not work for whoever types what is there.
fn wrong(command: &str) -> Option<String> {
    let typed = typed(command);
    let error = Cli::try_parse_from(&typed).err()?;
    if error.exit_code() == 0 || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        return None;
    }
    let missing = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(missing)) => missing.clone(),
        _ => Vec::new(),
    };
    let only_its_subject = error.kind() == ErrorKind::MissingRequiredArgument
        && is_name(&typed)
        && !missing.iter().any(|it| it.contains("--"));
    // What else the program puts there is not known here.
    let goes_on = command.ends_with(FOLLOWS) && error.kind() == ErrorKind::MissingRequiredArgument;
    if only_its_subject
        || goes_on
        || (error.kind() == ErrorKind::MissingSubcommand && is_name(&typed))
    {
        return None;
    }
    let why = error.to_string().lines().take(3).collect::<Vec<_>>().join(" ");
    Some(format!("`{command}`: {why}"))
}

#[test]
fn every_command_that_a_hint_tells_to_type_can_be_typed() {
    let (mut tried, mut found) = (0, Vec::new());
    let mut look = |from: &str, commands: Vec<String>| {
        for command in commands {
            tried += 1;
            found.extend(wrong(&command).map(|why| format!("{from}: {why}")));
        }
    };
    for (path, text) in pages().iter().filter(|(path, _)| path != "CHANGELOG.md") {
        look(path, quoted(&apart(text).1.join("\n")));
    }
    let own = |path: &std::path::Path| {
        path.components().any(|it| it.as_os_str().to_string_lossy().starts_with("documents"))
    };
    for path in sources().into_iter().filter(|path| !own(path)) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for text in literals(&program(&path)) {
            look(&name, if text.contains('`') { quoted(&text) } else { told(&text) });
        }
    }
    assert!(found.is_empty(), "{} cannot be typed:\n{}", found.len(), found.join("\n"));
    assert!(tried > 350, "{tried} were found");
}

#[test]
fn a_hint_is_read_as_whoever_types_it_would() {
    assert!(wrong("fettle host retire NAME").is_some_and(|why| why.contains("--confirm")));
    assert_eq!(wrong("fettle host retire {name} --confirm {name}"), None);
    assert!(wrong("fettle cycle release").is_some_and(|why| why.contains("--reason")));
    assert_eq!(wrong("fettle plan show"), None, "the name of a command that is about something");
    assert!(wrong("fettle plan shwo 1").is_some() && wrong("fettle plan show one").is_some());
    assert_eq!(wrong("fettle rollout pause|resume ro-1 --reason …"), None);
    assert_eq!(quoted("so `sudo fettle\nhost list` and `ls`"), ["fettle host list"]);
    assert_eq!(
        told("fettle plan make NAME, then fettle rollout start 1"),
        ["fettle plan make NAME", "fettle rollout start 1"]
    );
    assert_eq!(told("→ fettle plan show "), ["fettle plan show FOLLOWS"]);
    assert_eq!(told("the log of fettle server"), Vec::<String>::new());
    assert_eq!(literals("a(\"b\\\n   c\", '\"', \"d\") // \"e\""), ["bc", "d"]);
}
