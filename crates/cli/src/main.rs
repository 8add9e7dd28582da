//! `fettle`: the operator's command line, and the server.

mod access;
mod args;
mod client;
mod commands;
mod evidence;
mod feed;
mod keep;
mod output;
mod planning;
mod policy;
mod policy_check;
mod recall;
mod report;
mod show;
mod testbed;
mod watch;
mod window;

use args::{Cli, Command};
use clap::Parser as _;
use fettle_core::{Problem, ProblemKind};
use std::process::ExitCode;

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
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
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
