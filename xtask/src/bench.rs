//! `cargo xtask bench NAME`: figures, each beside its bar or its peer, measured in one run.

use crate::build::{cargo, root, run};
use crate::figures::{Figure, publish};
use crate::lab::say;
use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use fettle_core::host::Labels;
use fettle_lab::{Fleet, HostSpec, Lab, LabConfig, LabHost};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Which benchmark.
    name: Name,
    /// Write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// The agent: idle memory, size, and inventory beside `dpkg-query -W`.
    Agent,
}

/// Runs of each command; the median counts.
const RUNS: usize = 21;

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        let figures = match self.name {
            Name::Agent => agent()?,
        };
        publish(&figures, self.json.as_deref())
    }
}

fn agent() -> Result<Vec<Figure>> {
    // The agent as it ships, the server in the profile that builds fastest.
    run(&mut cargo(&["build", "--profile", "agent", "--bin", "fettle-agent"]))?;
    let server = crate::build::programs("demo")?;
    let shipped = root().join("target/agent/fettle-agent");
    let programs = server.with_file_name("bench-agent");
    std::fs::create_dir_all(&programs)?;
    std::fs::copy(&shipped, programs.join("fettle-agent"))?;
    std::fs::copy(server.join("fettle"), programs.join("fettle"))?;
    let lab = Lab::open(LabConfig::from_env()?)?;
    lab.ensure_requirements(&say)?;
    let result = measure(&lab, &programs);
    let left = crate::lab::down(&lab)?;
    if !left.is_empty() {
        bail!("the lab left behind: {}", left.join(", "));
    }
    result
}

fn measure(lab: &Lab, programs: &Path) -> Result<Vec<Figure>> {
    let host = lab.up(&["bench1"], &HostSpec::default(), &say)?.remove(0);
    let mut fleet = Fleet::start(lab, programs)?;
    fleet.enroll(&host, &Labels::from([("ring".into(), "canary".into())]))?;
    fleet.wait_inventories(Duration::from_secs(60))?;
    // Idle: the median of a minute of polling, after the first full inventory.
    let mut samples: Vec<f64> = Vec::new();
    for _ in 0..20 {
        std::thread::sleep(Duration::from_secs(1));
        samples.push(resident(&host)?);
    }
    let size = std::fs::metadata(programs.join("fettle-agent"))?.len() as f64 / 1_048_576.0;
    let packages = host.sh("dpkg-query -W | wc -l")?.ok()?.trim().parse::<f64>()?;
    let peer = median(&host, &["dpkg-query", "-W"])?;
    let ours = median(&host, &["fettle-agent", "inventory", "--only", "packages"])?;
    Ok(vec![
        Figure::at_most("agent idle resident set", middle(samples), "MiB", 5.0),
        Figure::at_most("agent binary", size, "MiB", 4.0),
        Figure::plain("packages on the host", packages, "packages"),
        Figure::plain("dpkg-query -W, whole process", peer, "ms"),
        Figure::plain("fettle-agent inventory of packages, whole process", ours, "ms"),
        Figure::at_most("inventory / dpkg-query", ours / peer, "ratio", 1.0),
    ])
}

fn resident(host: &LabHost) -> Result<f64> {
    let script = "grep VmRSS /proc/$(systemctl show -P MainPID fettle-agent)/status | tr -dc 0-9";
    let kib: f64 = host.sh(script)?.ok()?.trim().parse().context("reading VmRSS of the agent")?;
    Ok(kib / 1024.0)
}

/// Whole-process time in ms, measured inside the host, so that entering it does not count.
fn median(host: &LabHost, argv: &[&str]) -> Result<f64> {
    let script = format!(
        "for i in $(seq {RUNS}); do a=$(date +%s%N); {} >/dev/null || exit 1; b=$(date +%s%N); echo $((b-a)); done",
        argv.join(" ")
    );
    let started = Instant::now();
    let out = host.sh(&script)?.ok()?;
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
