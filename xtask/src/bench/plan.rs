//! Plans and decisions over a fleet that never was: time and memory beside their bars, and how both grow.

use super::Figure;
use crate::build::{cargo, run, target};
use anyhow::{Context as _, Result, bail};
use std::process::Command;

/// Making a plan for the whole fleet, in ms.
const MAKE: f64 = 1000.0;
/// What the process that does it takes at most, its fleet included, in MiB.
const PEAK: f64 = 1024.0;
/// One event of a rollout applied and decided on, in µs.
const EVENT: f64 = 50.0;
/// Hosts that have ended when events are timed, in percent.
const ENDED: [&str; 3] = ["0", "50", "95"];
/// As many hosts are what the bars are about.
const FULL: usize = 100_000;
/// Cohorts that the largest fleet has at least, and upgrades that pend on each host.
const COHORTS: f64 = 2000.0;
const PENDING: f64 = 300.0;
/// Times each plan is made; the median counts.
const RUNS: &str = "7";

pub(super) fn measure(hosts: usize) -> Result<Vec<Figure>> {
    run(&mut cargo(&["build", "--release", "--package", "fettle-sim", "--example", "big_plan"]))?;
    let mut figures = Vec::new();
    for size in [hosts / 100, hosts / 10, hosts] {
        for (name, value, unit) in told(&["plan", &size.to_string(), RUNS])? {
            let name = format!("{size} hosts: {name}");
            figures.push(match name.rsplit(": ").next() {
                Some("make") if size == hosts => Figure::at_most(&name, value, &unit, MAKE),
                Some("peak") if size == hosts => Figure::at_most(&name, value, &unit, PEAK),
                // What is measured is what the bars are about.
                Some("cohorts") if size == hosts && size >= FULL && value < COHORTS => {
                    bail!("{value} cohorts: the fleet is too simple")
                }
                Some("pending upgrades") if value < PENDING => {
                    bail!("{value} pending upgrades on a host: the fleet is too simple")
                }
                _ => Figure::plain(&name, value, &unit),
            });
        }
    }
    for size in [hosts / 100, hosts / 10, hosts] {
        // Does it grow with the hosts that have ended?
        for (shape, ended) in ["rings", "rolling"].into_iter().flat_map(|s| ENDED.map(|e| (s, e))) {
            for (name, value, unit) in told(&["rollout", shape, &size.to_string(), ended])? {
                let figure = format!("{size} hosts, {shape}, {ended} % ended: {name}");
                figures.push(match name.as_str() {
                    "event applied and decided" if size == hosts / 10 => {
                        Figure::at_most(&figure, value, &unit, EVENT)
                    }
                    _ => Figure::plain(&figure, value, &unit),
                });
            }
        }
        for (name, value, unit) in told(&["gate", &size.to_string(), "95"])? {
            let figure = format!("{size} hosts, 95 % ended: {name}");
            figures.push(match unit.as_str() {
                "us" if size == hosts / 10 => Figure::at_most(&figure, value, &unit, EVENT),
                _ => Figure::plain(&figure, value, &unit),
            });
        }
    }
    figures.extend(from_a_store(hosts / 4)?);
    Ok(figures)
}

/// A plan made from what a server has in its store, of a fleet in which nearly every host has findings of its own.
fn from_a_store(hosts: usize) -> Result<Vec<Figure>> {
    run(&mut cargo(&[
        "build",
        "--profile",
        "demo",
        "--package",
        "fettle-store",
        "--example",
        "big_fleet",
        "--example",
        "planned_fleet",
    ]))?;
    let examples = target().join("demo/examples");
    let dir = std::env::temp_dir().join(format!("fettle-bench-plan-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let measured = run(Command::new(examples.join("big_fleet")).arg(&dir).arg(hosts.to_string()))
        .and_then(|()| figures_of(Command::new(examples.join("planned_fleet")).arg(&dir)));
    std::fs::remove_dir_all(&dir)?;
    let parts = measured?;
    let whole: f64 = parts.iter().map(|(_, seconds, _)| seconds).sum();
    let of = |name: &str| format!("{hosts} hosts in a store: {name}");
    let parts = parts.into_iter().map(|(name, value, unit)| (of(&name), value, unit));
    Ok(std::iter::once((of("a plan made from the store"), whole, "s".to_owned()))
        .chain(parts)
        .map(|(name, value, unit)| Figure::plain(&name, value, &unit))
        .collect())
}

/// Name, value and unit of each figure. A process each, so that the memory of one is not another's.
fn told(words: &[&str]) -> Result<Vec<(String, f64, String)>> {
    figures_of(Command::new(target().join("release/examples/big_plan")).args(words))
}

fn figures_of(command: &mut Command) -> Result<Vec<(String, f64, String)>> {
    let out = command.output()?;
    if !out.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&out.stderr));
    }
    let text = String::from_utf8(out.stdout)?;
    let figure = |line: &str| -> Result<(String, f64, String)> {
        let mut fields = line.split('\t');
        let mut next = || fields.next().with_context(|| format!("`{line}` is no figure"));
        Ok((next()?.to_owned(), next()?.parse()?, next()?.to_owned()))
    };
    text.lines().map(figure).collect()
}
