//! What can be typed at `fettle-agent`. Written by hand: the parser of a big library would be a fifth of the agent.

/// Prints a line. Whoever read may be gone (`| head`, a lost terminal): that is no reason to stop, in the middle of a
/// transaction least of all.
macro_rules! out {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($what)*);
    }};
}

/// The same on standard error.
macro_rules! err {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($what)*);
    }};
}

mod doctor;
mod enroll;
mod feeds;
mod keys;
mod local;
mod plan;
mod print;
mod proof;
mod scan;
mod testbed;

use crate::settings::Settings;
use fettle_core::{Problem, ProblemKind};
use std::process::ExitCode;

/// The rollout of transactions that were started on the host itself: no server hears of them.
pub const LOCAL: &str = "local";

const USAGE: &str = "\
fettle-agent: the host side of Fettle

  with a server
    enroll --server URL --token TOKEN [--name NAME] [--force]
                            join a fleet
    run                     check in and obey, until stopped (the systemd unit runs this)
    testbed on|off|status   be a worker: build twins of other hosts and test changes on them, where ordered to
    keys show | keys pin FILE | keys forget
                            whose signatures under plans are asked for; pin: ask for those of FILE from now on
    check-order FILE [--proof FILE]
                            say whether a signed assignment would be obeyed, and why not

  on this host alone
    scan [--feeds DIR] [--status FILE | --sbom FILE] [--release NAME] [-o json|sarif|cyclonedx]
                            where this host is exposed; --status: judge the packages of a dpkg status file alone;
                            --sbom: those that a CycloneDX or SPDX document lists
    feeds compile [DIR]     make the file that scan reads of a directory of feeds (scan does so by itself)
    plan [PACKAGE...] [--only security] [--feeds DIR]
                            what patch would change, and why not the rest; touches nothing
    rehearse [PACKAGE...]   run the change on a copy-on-write clone of this host; touches nothing
    patch [PACKAGE...] [--only security] [--feeds DIR] [--dry-run] [--hung-after SECONDS] [--repair]
          [--latency-margin PERCENT] [--confirm-within SECONDS] [--deadman SECONDS] [--reboot]
          [--accept-missing SYMBOL@FILE]... [--network]
                            the whole transaction, with its way back; /etc/fettle/probes.d must pass
                            before and after, and, with --latency-margin, be at most so much slower;
                            --hung-after: a package manager that takes longer is ended, and it is undone;
                            --repair: packages that somebody left half-configured first;
                            --confirm-within: undone unless `confirm` is typed so soon after its checks;
                            --deadman: undone if nothing in /etc/fettle/peer (ADDRESS:PORT), or the server, can be
                            reached for so long afterwards;
                            --reboot: where the change needs it; it goes on by itself afterwards, and a new
                            kernel is tried first: if the host does not come up, it boots the old one;
                            --accept-missing: a symbol that FILE may lack afterwards (rehearse takes it too);
                            --network: the rehearsal has the host's network, for packages whose scripts load things
                            from there (rehearse takes it too); without it, none
    confirm                 let a change stand that waits for it (--confirm-within)
    undo [TRANSACTION]      take a transaction back; without a name, the last one
    resume                  take up what a crash interrupted

  looking
    inventory [--compact | --only packages|processes]
    status | history | show TRANSACTION
    doctor                  what is wrong with this host, and what to do
    version | help

  -o json                   for programs: what is told on standard output, a problem on standard error
";

/// What was typed, taken apart.
struct Words {
    words: Vec<String>,
    json: bool,
    /// A format that only `scan` writes.
    format: Option<Format>,
}

/// Formats in which other programs take findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Sarif,
    CycloneDx,
}

impl Words {
    /// Takes `--name VALUE` out.
    fn option(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let Some(at) = self.words.iter().position(|w| w == name) else { return Ok(None) };
        self.words.remove(at);
        if at >= self.words.len() {
            return Err(usage(format!("{name} wants a value")));
        }
        Ok(Some(self.words.remove(at)))
    }
    /// Takes `--name` out.
    fn flag(&mut self, name: &str) -> bool {
        let found = self.words.iter().position(|w| w == name);
        found.map(|at| self.words.remove(at)).is_some()
    }
    /// What is left; an option among it is one nobody knows.
    fn rest(self) -> Result<Vec<String>, Problem> {
        match self.words.iter().find(|w| w.starts_with('-')) {
            Some(unknown) => Err(usage(format!("`{unknown}` is not known here"))),
            None => Ok(self.words),
        }
    }
    /// Nothing at all is left.
    fn nothing_more(self) -> Result<(), Problem> {
        match self.rest()?.first() {
            Some(word) => Err(usage(format!("`{word}` means nothing here"))),
            None => Ok(()),
        }
    }
    /// Exactly one, or none.
    fn at_most_one(self, what: &str) -> Result<Option<String>, Problem> {
        let mut rest = self.rest()?;
        if rest.len() > 1 {
            return Err(usage(format!("one {what} at a time")));
        }
        Ok(rest.pop())
    }
}

fn usage(what: String) -> Problem {
    Problem::new(ProblemKind::Usage, "usage", what, "fettle-agent help")
}

/// Runs what was typed.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Parts of the agent that run in a process, unit or namespace of their own.
    if let Some(code) =
        crate::transaction::hidden(&arguments).or_else(|| crate::testbed::hidden(&arguments))
    {
        return code;
    }
    let mut words = Words { words: arguments, json: false, format: None };
    let mut json = false;
    let result = words.option("-o").and_then(|output| match output.as_deref() {
        None | Some("table" | "text") => run(words),
        Some("json") => {
            json = true;
            run(Words { json, ..words })
        }
        Some(format @ ("sarif" | "cyclonedx")) => {
            let format = if format == "sarif" { Format::Sarif } else { Format::CycloneDx };
            match words.words.first().map(String::as_str) {
                Some("scan") => run(Words { format: Some(format), ..words }),
                _ => Err(usage("-o sarif and -o cyclonedx go with scan".into())),
            }
        }
        Some(other) => {
            let takes = match words.words.first().map(String::as_str) {
                Some("scan") => "text, json, sarif or cyclonedx",
                _ => "json or text",
            };
            Err(usage(format!("-o takes {takes}, not `{other}`")))
        }
    });
    let Err(problem) = result else { return ExitCode::SUCCESS };
    // Some are told in several lines.
    let shown = |text: &str| text.lines().map(visible).collect::<Vec<_>>().join("\n");
    if json {
        err!("{}", serde_json::to_string(&problem).unwrap_or_default());
    } else {
        err!("error[{}]: {}", problem.code, shown(&problem.message));
        err!("→ {}", shown(&problem.hint));
    }
    ExitCode::from(problem.kind.exit_code())
}

fn run(mut words: Words) -> Result<(), Problem> {
    let settings = Settings::default();
    if words.words.is_empty() {
        out!("{}", USAGE.trim_end());
        return Ok(());
    }
    if words.words.iter().any(|w| matches!(w.as_str(), "--help" | "-h")) {
        out!("{}", USAGE.trim_end());
        return Ok(());
    }
    match words.words.remove(0).as_str() {
        "help" => {
            out!("{}", USAGE.trim_end());
            Ok(())
        }
        "version" | "--version" => {
            out!("fettle-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        "enroll" => enroll::run(&settings, words),
        "run" => words.nothing_more().and_then(|()| crate::daemon::run(&settings)),
        "keys" => keys::run(&settings, words),
        "check-order" => enroll::check_order(&settings, words),
        "inventory" => scan::inventory(&settings, words),
        "scan" => scan::run(&settings, words),
        "feeds" => feeds::run(words),
        "plan" => plan::plan(&settings, words),
        "patch" => local::patch(&settings, words),
        "rehearse" => local::rehearse(&settings, words),
        "undo" => local::undo(&settings, words),
        "confirm" => local::confirm(&settings, words),
        "resume" => local::resume(&settings, words),
        "testbed" => testbed::run(&settings, words),
        "doctor" => doctor::run(&settings, words),
        "history" => print::history(&settings, words),
        "status" => print::status(&settings, words),
        "show" => print::show(&settings, words),
        other => Err(usage(format!("`{other}` is no command"))),
    }
}

/// A text without what a terminal would obey: names come from files that anybody may have written.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What changes the host needs root.
fn need_root(what: &str) -> Result<(), Problem> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::Environment,
        "no-root",
        format!("{what} needs root"),
        format!("sudo fettle-agent {what}"),
    ))
}
