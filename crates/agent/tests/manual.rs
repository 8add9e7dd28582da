//! The description that manual page and completions are made from, held against the real program.

#![allow(clippy::unwrap_used)]

#[path = "../manual/line.rs"]
mod line;

use clap::Command as Described;
use std::collections::BTreeSet;
use std::process::{Command, Output};

const UNKNOWN: &str = "--no-such-option";

fn agent(arguments: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fettle-agent")).args(arguments).output().unwrap()
}

/// Every command that does something, with the words that lead to it.
fn commands(of: &Described, above: &[String], found: &mut Vec<(Vec<String>, Described)>) {
    for sub in of.get_subcommands() {
        let words = [above, &[sub.get_name().to_owned()]].concat();
        if sub.has_subcommands() {
            commands(sub, &words, found);
        } else {
            found.push((words, sub.clone()));
        }
    }
}

fn described() -> Vec<(Vec<String>, Described)> {
    let mut found = Vec::new();
    commands(&line::command(), &[], &mut found);
    found
}

/// Something that this argument takes.
fn value(argument: &clap::Arg) -> String {
    if let Some(possible) = argument.get_possible_values().first() {
        return possible.get_name().to_owned();
    }
    let name = argument.get_value_names().unwrap_or_default().first().map(|n| n.as_str());
    match name {
        Some("SECONDS" | "PERCENT") => "5".into(),
        Some("SYMBOL@FILE") => "symbol@/lib/file.so".into(),
        _ => "something".into(),
    }
}

#[test]
fn the_program_takes_every_option_that_the_manual_describes_and_no_other() {
    let root = rustix::process::geteuid().is_root();
    let mut tried = 0;
    for (words, command) in described() {
        if matches!(words[0].as_str(), "version" | "help") {
            continue;
        }
        let mut typed = words.clone();
        for argument in command.get_arguments().filter(|a| !a.is_global_set()) {
            if let Some(long) = argument.get_long() {
                typed.push(format!("--{long}"));
            }
            if argument.get_action().takes_values() && !argument.is_last_set() {
                typed.push(value(argument));
            }
        }
        // What this line asks for is never done: it ends with an option that nobody knows.
        typed.push(UNKNOWN.into());
        let said = agent(&typed);
        let text = String::from_utf8_lossy(&said.stderr);
        let refused_first = !root && said.status.code() == Some(9);
        assert!(
            refused_first || text.contains(&format!("`{UNKNOWN}` is not known here")),
            "{typed:?}: {text}"
        );
        tried += 1;
    }
    assert!(tried >= 15, "{tried}");
}

#[test]
fn help_and_manual_name_the_same_commands_and_options() {
    let help = agent(&["help".into()]);
    let help = String::from_utf8(help.stdout).unwrap();
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let in_help: BTreeSet<&str> = words.filter(|w| w.starts_with("--") && w.len() > 2).collect();
    let mut in_manual = BTreeSet::new();
    for (words, command) in described() {
        assert!(help.contains(words.last().unwrap().as_str()), "help says nothing of {words:?}");
        let own = command.get_arguments().filter_map(clap::Arg::get_long);
        in_manual.extend(own.map(|long| format!("--{long}")));
    }
    let in_manual: BTreeSet<&str> = in_manual.iter().map(String::as_str).collect();
    assert_eq!(in_help, in_manual);
}

#[test]
fn the_description_is_one_that_its_library_takes() {
    line::command().debug_assert();
}

#[test]
fn every_command_of_the_agent_that_a_document_shows_can_be_typed() {
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = std::fs::read_dir(repository.join("docs")).unwrap().map(|e| e.unwrap().path());
    let mut tried = 0;
    for page in docs.chain([repository.join("README.md")]) {
        if page.extension().is_none_or(|end| end != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&page).unwrap();
        // Odd ones are within fences.
        let fenced = text.split("```").skip(1).step_by(2);
        for line in fenced.flat_map(str::lines) {
            let line = line.trim_start().trim_start_matches("sudo ");
            if !line.starts_with("fettle-agent ") {
                continue;
            }
            let line = line.split(" #").next().unwrap();
            let words = line.split_whitespace();
            if let Err(error) = line::command().try_get_matches_from(words) {
                panic!("{}: `{line}` is not understood: {error}", page.display());
            }
            tried += 1;
        }
    }
    assert!(tried >= 5, "{tried}");
}
