//! What a developer or newcomer types: `cargo xtask demo`, `test`, `bench` and the rest.

mod api;
mod bench;
mod build;
mod demo;
mod deps;
mod dist;
mod faults;
mod figures;
mod fuzz;
mod lab;
mod mutants;
mod services;
mod sim;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Fettle's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Patch a real fleet on this machine: real Debian hosts, real pending security updates, one bad patch.
    Demo(demo::Demo),
    /// Everything that guards the main branch: format, lints, tests, hosts, pages.
    Test(test::Test),
    /// Make calls up from the API's own description, and see whether the answers fit it.
    Api(api::Api),
    /// Print figures, each beside its bar or its peer.
    Bench(bench::Bench),
    /// Build the agent as it ships: one small static program.
    Agent,
    /// Build the packages that people install.
    Dist(dist::Dist),
    /// Real hosts to try things on.
    Lab(lab::LabCommand),
    /// The product's own rollout code under random events.
    Sim(sim::Sim),
    /// Faults done to real hosts in mid-transaction, and what becomes of them.
    Faults(faults::Faults),
    /// Real software, patched and taken back while a client talks to it.
    Services(services::Services),
    /// Guards switched off in turn: each must be missed.
    Mutants(mutants::Mutants),
    /// Bytes made up for every parser of vendors' data.
    Fuzz(fuzz::Fuzz),
    /// Check which room depends on which.
    Deps,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Demo(demo) => demo.run(),
        Task::Test(test) => test.run(),
        Task::Api(api) => api.run(),
        Task::Bench(bench) => bench.run(),
        Task::Agent => build::agent().map(|program| println!("{}", program.display())),
        Task::Dist(dist) => dist.run(),
        Task::Lab(command) => command.run(),
        Task::Sim(sim) => sim.run(),
        Task::Faults(faults) => faults.run(),
        Task::Services(services) => services.run(),
        Task::Mutants(mutants) => mutants.run(),
        Task::Fuzz(fuzz) => fuzz.run(),
        Task::Deps => deps::check(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
