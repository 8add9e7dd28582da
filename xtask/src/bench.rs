//! `cargo xtask bench NAME`: figures, each beside its bar or its peer, measured in one run.

mod agent;
mod exposure;
mod host;
mod judge;
mod plan;
mod web;

use crate::figures::{Figure, publish};
use crate::lab::{say, within};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use fettle_lab::{Lab, LabHost};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Which benchmark.
    name: Name,
    /// Write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// For `plan`, `web`, `judge` and `exposure`: how large the largest fleet is.
    #[arg(long, default_value_t = 100_000)]
    hosts: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// The agent: idle memory, size, and inventory beside `dpkg-query -W`.
    Agent,
    /// Who is exposed: one host beside debsecan, and fleets up to `--hosts`.
    Exposure,
    /// The host's transaction beside bare apt-get: time, gap in service, undo.
    Host,
    /// A fleet judged anew by another policy: time a host, and how long whoever writes meanwhile waits.
    Judge,
    /// Plans for a large fleet, and what a rollout decides: time and memory.
    Plan,
    /// The web pages over a large fleet: time in the server, weight of a first visit.
    Web,
}

/// Runs of each command; the median counts.
const RUNS: usize = 21;

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        let figures = match self.name {
            Name::Agent => in_the_lab(agent::measure)?,
            Name::Host => in_the_lab(host::measure)?,
            Name::Exposure => exposure::measure(self.hosts)?,
            Name::Judge => judge::measure(self.hosts)?,
            Name::Plan => plan::measure(self.hosts)?,
            Name::Web => web::measure(self.hosts)?,
        };
        publish(&figures, self.json.as_deref())?;
        let missed: Vec<&str> =
            figures.iter().filter(|f| !f.holds).map(|f| f.name.as_str()).collect();
        if !missed.is_empty() {
            let bars = figures.iter().filter(|f| f.bar.is_some()).count();
            bail!("{} of {bars} bars missed: {}", missed.len(), missed.join("; "));
        }
        Ok(())
    }
}

/// Builds the programs as they ship, runs `measure` in a lab, and takes that down.
fn in_the_lab(measure: fn(&Lab, &Path) -> Result<Vec<Figure>>) -> Result<Vec<Figure>> {
    // The agent as it ships, the server in the profile that builds fastest.
    let shipped = crate::build::agent()?;
    let server = crate::build::programs("demo")?;
    let programs = server.with_file_name("bench-agent");
    std::fs::create_dir_all(&programs)?;
    std::fs::copy(&shipped, programs.join("fettle-agent"))?;
    std::fs::copy(server.join("fettle"), programs.join("fettle"))?;
    within(|lab| measure(lab, &programs))
}

/// Whole-process time in ms, measured inside the host, so that entering it does not count.
fn median(host: &LabHost, argv: &[&str]) -> Result<f64> {
    median_after(host, "true", argv)
}

/// The same, after a command whose mounts nobody else sees.
fn median_after(host: &LabHost, before: &str, argv: &[&str]) -> Result<f64> {
    let script = format!(
        "{before} && for i in $(seq {RUNS}); do a=$(date +%s%N); {} >/dev/null || exit 1; b=$(date +%s%N); echo $((b-a)); done",
        argv.join(" ")
    );
    let started = Instant::now();
    let out = host.exec(&["unshare", "--mount", "sh", "-c", &script])?.ok()?;
    let samples: Vec<f64> =
        out.lines().filter_map(|l| l.parse::<f64>().ok()).map(|ns| ns / 1e6).collect();
    if samples.len() != RUNS {
        bail!("{argv:?} gave {} of {RUNS} samples in {:?}", samples.len(), started.elapsed());
    }
    Ok(middle(samples))
}

fn middle(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
