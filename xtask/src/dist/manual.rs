//! The manual page of `fettle-agent` and its completions, made from a description of what can be typed: the agent itself
//! does without the big library that the page is made with.

#[path = "../../../crates/agent/manual/line.rs"]
mod line;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use std::io::{Result, Write};
use std::path::Path;

/// Writes them into a directory.
pub(super) fn write(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("fettle-agent.8"), page(line::command())?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut line::command(), "fettle-agent", directory)?;
    }
    Ok(())
}

/// One page for the whole program: it is small enough to be read at once.
fn page(mut command: Command) -> Result<Vec<u8>> {
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone()).section("8").manual("Fettle");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    writeln!(page, ".SH COMMANDS")?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        one(sub, "", &mut page)?;
    }
    man.render_extra_section(&mut page)?;
    Ok(page)
}

fn one(command: &Command, above: &str, page: &mut Vec<u8>) -> Result<()> {
    let name = format!("{above}{}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(page, ".SS \"{}\"", roff(&name))?;
    writeln!(page, "{}", roff(&about))?;
    let arguments = command
        .get_arguments()
        .filter(|a| !a.is_global_set() && !matches!(a.get_id().as_str(), "help" | "version"));
    for argument in arguments {
        let long = argument.get_long().map(|l| format!("--{l}"));
        let values: Vec<String> = argument
            .get_value_names()
            .filter(|_| argument.get_action().takes_values())
            .map(|names| names.iter().map(ToString::to_string).collect())
            .unwrap_or_default();
        let shown: Vec<String> = long.into_iter().chain(values).collect();
        writeln!(page, ".TP\n\\fB{}\\fR", roff(&shown.join(" ")))?;
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(page, "{}", roff(&help))?;
    }
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        one(sub, &format!("{name} "), page)?;
    }
    Ok(())
}

/// Text as `roff(7)` takes it: hyphens that can be copied, no line that begins like a request.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
