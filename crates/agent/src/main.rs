//! `fettle-agent`: the host side of Fettle.

use std::process::ExitCode;

fn main() -> ExitCode {
    fettle_agent::cli::main()
}
