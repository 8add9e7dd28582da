//! `cargo xtask lab up|down|exec`: real hosts to try things on.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use fettle_lab::{HostSpec, Lab, LabConfig};
use std::process::ExitStatus;

/// Real Debian hosts on this machine.
#[derive(Debug, Args)]
pub(crate) struct LabCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Bring hosts up.
    Up {
        /// How many.
        #[arg(long, default_value_t = 2)]
        hosts: usize,
    },
    /// Remove every host, mount, bridge, table and process of the lab, also what a dead run left.
    Down {
        /// Remove the cached base system too.
        #[arg(long)]
        purge: bool,
    },
    /// Run a command in a host.
    Exec {
        /// Host name.
        host: String,
        /// Program and arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
    /// Say which hosts there are.
    List,
}

/// Prints a line of the lab.
pub(crate) fn say(line: &str) {
    println!("  {line}");
}

/// `host1`, `host2`, ...
pub(crate) fn names(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("host{n}")).collect()
}

/// Takes everything down and says what would not go.
pub(crate) fn down(lab: &Lab) -> Result<Vec<String>> {
    fettle_lab::fleet::sweep(lab)?;
    lab.down(&say)?;
    Ok(lab.leftovers()?.iter().map(ToString::to_string).collect())
}

/// Does something in a lab of its own, and takes that down whatever came of it. What went wrong first is told first.
pub(crate) fn within<T>(act: impl FnOnce(&Lab) -> Result<T>) -> Result<T> {
    if let Some(reason) = fettle_lab::why_not() {
        bail!("real hosts cannot be booted here: {reason}\nnext: run it as root");
    }
    let lab = Lab::open(LabConfig::from_env()?)?;
    lab.ensure_requirements(&say)?;
    down(&lab)?;
    let result = act(&lab);
    let left = down(&lab);
    let (result, left) = (result?, left?);
    if !left.is_empty() {
        bail!("the lab left behind: {}", left.join(", "));
    }
    Ok(result)
}

impl LabCommand {
    pub(crate) fn run(self) -> Result<()> {
        let config = LabConfig::from_env()?;
        match self.what {
            What::Up { hosts } => {
                let lab = Lab::open(config)?;
                lab.ensure_requirements(&say)?;
                let names = names(hosts);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                for host in lab.up(&names, &HostSpec::default(), &say)? {
                    println!("{}  {}", host.name(), host.ip());
                }
                println!(
                    "next: cargo xtask lab exec {} -- systemctl status",
                    names.first().unwrap_or(&"host1")
                );
            }
            What::Down { purge } => {
                let lab = Lab::open(config)?;
                let left = down(&lab)?;
                if purge {
                    lab.purge(&say)?;
                }
                if !left.is_empty() {
                    bail!("still there: {}", left.join(", "));
                }
            }
            What::Exec { host, command } => {
                let lab = Lab::attach(config)?;
                let args: Vec<&str> = command.iter().map(String::as_str).collect();
                let output = lab.host(&host)?.exec(&args)?;
                print!("{}", output.stdout);
                eprint!("{}", output.stderr);
                exit_like(output.status);
            }
            What::List => {
                for host in Lab::attach(config)?.hosts()? {
                    println!(
                        "{}  {}  {}",
                        host.name(),
                        host.ip(),
                        if host.is_running() { "running" } else { "off" }
                    );
                }
            }
        }
        Ok(())
    }
}

fn exit_like(status: ExitStatus) {
    if !status.success() {
        std::process::exit(status.code().unwrap_or(255));
    }
}
