//! `fettle`: the operator's command line, and the server.

mod access;
mod account;
mod args;
mod client;
mod commands;
mod doctor;
#[cfg(test)]
mod documents;
mod evidence;
mod exposure;
mod feed;
mod keep;
mod key;
mod log;
mod manual;
mod output;
mod planning;
mod policy;
mod policy_check;
mod recall;
mod report;
mod schedule;
mod show;
mod testbed;
mod views;
mod watch;
mod window;

use args::{Cli, Command};
use clap::{CommandFactory as _, Parser as _};
use fettle_core::{Problem, ProblemKind};
use std::process::ExitCode;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Server(options) => serve(options),
        Command::Backup(command) => keep::backup(command, &cli.globals),
        Command::Restore(args) => keep::restore(args, &cli.globals),
        _ => commands::run(&cli),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            output::problem(&problem, cli.globals.output);
            ExitCode::from(problem.kind.exit_code())
        }
    }
}

fn serve(options: &args::ServerArgs) -> Result<(), Problem> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FETTLE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = log::layer(options.log_format, std::io::stderr);
    let log = tracing_subscriber::registry().with(log.with_filter(filter));
    #[cfg(not(feature = "otlp"))]
    log.init();
    #[cfg(feature = "otlp")]
    let _traces = {
        let (traces, sending) = options.otlp.as_ref().map(fettle_server::otlp::traces).unzip();
        log.with(traces).init();
        sending.map(LastTraces)
    };
    known_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))?;
    if options.checkin_busy == 0 || options.checkin_idle < options.checkin_busy {
        return Err(Problem::new(
            ProblemKind::Usage,
            "checkin-pace",
            format!(
                "--checkin-busy {} and --checkin-idle {} do not fit",
                options.checkin_busy, options.checkin_idle
            ),
            "give seconds: --checkin-busy at least 1, --checkin-idle not less than that",
        ));
    }
    fettle_server::run(options.options())
}

/// Traces that still wait are sent when the server ends, however it does, unless that takes long.
#[cfg(feature = "otlp")]
struct LastTraces(fettle_server::otlp::Sending);

#[cfg(feature = "otlp")]
impl Drop for LastTraces {
    fn drop(&mut self) {
        self.0.flush(std::time::Duration::from_secs(2));
    }
}

/// What every variable of the server's settings begins with.
const SETTING: &str = "FETTLE_SERVER_";

/// A setting that is misspelt would be no setting, and nobody would know.
fn known_variables(names: impl Iterator<Item = String>) -> Result<(), Problem> {
    let cli = Cli::command();
    let server = cli.find_subcommand("server");
    let known: Vec<String> = server
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .filter_map(|argument| Some(argument.get_env()?.to_string_lossy().into_owned()))
        .filter(|name| name.starts_with(SETTING))
        .collect();
    let mut unknown = names.filter(|name| name.starts_with(SETTING) && !known.contains(name));
    match unknown.next() {
        None => Ok(()),
        Some(name) => Err(Problem::new(
            ProblemKind::Usage,
            "unknown-setting",
            format!("{name} in the environment is no setting of the server"),
            format!("it takes {}; the package reads /etc/fettle/server.env", known.join(", ")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_nobody_knows_is_refused_by_its_name_and_others_are_nobodys_business() {
        let names = |all: &[&str]| known_variables(all.iter().map(|n| (*n).to_owned()));
        assert_eq!(names(&["PATH", "FETTLE_SERVER", "FETTLE_LOG", "FETTLE_SERVER_NAMES"]), Ok(()));
        let problem = names(&["FETTLE_SERVER_AGENT_LISTEN"]).unwrap_err();
        assert!(problem.message.contains("FETTLE_SERVER_AGENT_LISTEN"), "{problem:?}");
        assert!(problem.hint.contains("FETTLE_SERVER_AGENTS_LISTEN"), "{problem:?}");
    }
}
