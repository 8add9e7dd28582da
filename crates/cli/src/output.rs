//! Printing: tables that fit the terminal, states told by shape and colour, errors that end with what to type.

use crate::args::Output;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use fettle_core::finding::{FindingState, Severity};
use fettle_core::{Problem, Timestamp};
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};

/// Prints a value as the API gives it.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Problem> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    line(&text);
    Ok(())
}

/// Prints a line. A closed pipe (`| head`) ends the program quietly, as for any tool of the shell.
pub(crate) fn line(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Says what is to be known of what is printed, beside it.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Says what to type next. Not where the data go: `KEY=$(fettle evidence key)` is to be the key.
pub(crate) fn hint(text: &str) {
    eprintln!("→ {text}");
}

/// Prints an error and, last, what to do next.
pub(crate) fn problem(problem: &Problem, output: Output) {
    if output == Output::Json {
        eprintln!("{}", serde_json::to_string(problem).unwrap_or_default());
        return;
    }
    eprintln!("error[{}]: {}", problem.code, problem.message);
    if !problem.hint.is_empty() {
        eprintln!("→ {}", problem.hint);
    }
}

/// A table with these headings, as wide as the terminal allows.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if !std::io::stdout().is_terminal() {
        table.set_width(160);
    }
    table.set_header(headings.iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
    table
}

/// Prints a table.
pub(crate) fn print(table: &Table) {
    for row in table.to_string().lines() {
        line(row.trim_end());
    }
}

/// A state word with its shape and colour: the shape says the same without colour.
pub(crate) fn state(word: &str) -> Cell {
    let (shape, color) = shape(word);
    Cell::new(format!("{shape} {word}")).fg(color)
}

/// Shape and colour of a state word.
pub(crate) fn shape(word: &str) -> (char, Color) {
    match word {
        "fixed" | "patched" | "up-to-date" | "done" | "good" | "passes" => ('●', Color::Green),
        "open" | "exposed" | "halted" | "fails" => ('▲', Color::Red),
        "quarantined" | "critical" => ('■', Color::Red),
        "pending-restart" | "pending-reboot" | "high" | "paused" | "silent" | "expired" => {
            ('◆', Color::Yellow)
        }
        "granted" | "redeemed" | "running" => ('▶', Color::Blue),
        "undone" | "refused" | "aborted" | "revoked" | "disabled" => ('◀', Color::Magenta),
        "no-fix-yet" | "no-policy" | "not-judged" | "no-inventory" | "medium" => ('◇', Color::Cyan),
        _ => ('○', Color::Grey),
    }
}

/// A finding's state.
pub(crate) fn finding_state(value: FindingState) -> Cell {
    state(value.word())
}

/// A severity.
pub(crate) fn severity(value: Severity) -> Cell {
    state(value.word())
}

/// How long ago, or in how long: `3 min ago`, `in 2 d`.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - at.as_second();
    let size = seconds.unsigned_abs();
    let text = match size {
        0..60 => format!("{size} s"),
        60..3600 => format!("{} min", size / 60),
        3600..172_800 => format!("{} h", size / 3600),
        _ => format!("{} d", size / 86_400),
    };
    if seconds >= 0 { format!("{text} ago") } else { format!("in {text}") }
}

/// Now, at the edge: the only clock of the command line.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_relative_to_now() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at = |s: i64| Timestamp::from_second(1_000_000 - s).unwrap();
        assert_eq!(ago(at(5), now), "5 s ago");
        assert_eq!(ago(at(125), now), "2 min ago");
        assert_eq!(ago(at(-7200), now), "in 2 h");
        assert_eq!(ago(at(300_000), now), "3 d ago");
    }
}
