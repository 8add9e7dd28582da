//! `cargo xtask test`: everything that guards the main branch, in one command.

use crate::build::{cargo, programs, run};
use crate::dist::{self, Packing, Programs};
use crate::{api, deps, lab};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use fettle_lab::requirements::{Requirement, needs};
use fettle_lab::{Lab, LabConfig, requirements};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Format, lints, unit tests, documentation, direction of dependencies, real hosts, real browser.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Leave out what needs real hosts (also without root).
    #[arg(long)]
    no_lab: bool,
    /// The tests as well that take minutes each: rollouts of several changes under a client's load, calls made up for the
    /// whole API.
    #[arg(long)]
    long: bool,
}

/// What tests call beside what the lab asks for.
const NEEDED: &[Requirement] = &[
    needs("chromium", "chromium", "the web pages are tried in a real browser"),
    needs("prometheus", "prometheus", "gates ask a real Prometheus server"),
    needs("strace", "strace", "system calls are watched in tests"),
    needs("zstd", "zstd", "test data is compressed"),
    needs("mkfs.xfs", "xfsprogs", "the preimage is tried on xfs too"),
];

impl Test {
    pub(crate) fn run(self) -> Result<()> {
        let mut skipped = Vec::new();
        let is_root = fettle_lab::why_not();
        let lab_wanted = !self.no_lab && is_root.is_none();
        if let Some(reason) = is_root.or(self.no_lab.then(|| "--no-lab was given".to_owned())) {
            skipped.push(format!("tests on real hosts: {reason}"));
        }
        timed("install what is missing", || install(&mut skipped))?;
        timed("format", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
        timed("direction of dependencies", deps::check)?;
        timed("lints", || {
            run(&mut cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "-D",
                "warnings",
            ]))
        })?;
        timed("documentation", || {
            run(cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"])
                .env("RUSTDOCFLAGS", "-D warnings"))
        })?;
        // Lab tests run the programs themselves, so these are built before anything is tested.
        let bins = timed("build", || programs("dev"))?;
        if lab_wanted {
            timed("base system of the lab", || {
                let lab = Lab::open(LabConfig::for_tests()?)?;
                lab::down(&lab)?;
                lab.ensure_requirements(&lab::say)?;
                lab.ensure_base(&lab::say)?;
                Ok(())
            })?;
        }
        timed("packages of two versions", || packages(&bins))?;
        let tested = timed("tests", || {
            let which = if self.long { "all" } else { "default" };
            run(cargo(&["nextest", "run", "--workspace", "--no-fail-fast", "--run-ignored", which])
                .env("FETTLE_BIN_DIR", &bins)
                .env("FETTLE_PACKAGES", bins.join("packages"))
                .env("FETTLE_LAB", if lab_wanted { "1" } else { "0" }))
        });
        if lab_wanted {
            let left = lab::down(&Lab::open(LabConfig::for_tests()?)?)?;
            if !left.is_empty() {
                bail!("the lab left behind: {}", left.join(", "));
            }
        }
        tested?;
        if self.long {
            timed("the API against its description", || api::Api::default().run())?;
        } else {
            skipped.push("the API against its description: `cargo xtask api`, or --long".into());
        }
        for line in &skipped {
            println!("skipped: {line}");
        }
        println!(
            "all tests passed{}",
            if skipped.is_empty() { "" } else { ", apart from what was skipped" }
        );
        Ok(())
    }
}

/// The programs as they were just built, packed as two versions: what upgrades and downgrades are tried with.
fn packages(bins: &Path) -> Result<()> {
    for (directory, version) in [("older", "0.0.1"), ("newer", "0.0.2")] {
        let how = Packing { version, epoch: dist::epoch()?, fast: true };
        dist::pack(&Programs::built(bins), &how, &bins.join("packages").join(directory))?;
    }
    Ok(())
}

fn timed<T>(what: &str, task: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("== {what}");
    let started = Instant::now();
    let result = task().with_context(|| what.to_owned());
    println!("== {what}: {:.1} s", started.elapsed().as_secs_f64());
    result
}

/// Installs missing programs; without root says what is left out.
fn install(skipped: &mut Vec<String>) -> Result<()> {
    let has_nextest = Command::new("cargo")
        .args(["nextest", "--version"])
        .output()
        .is_ok_and(|o| o.status.success());
    if !has_nextest {
        println!("installing cargo-nextest: it runs the tests");
        run(&mut cargo(&["install", "--locked", "cargo-nextest"]))?;
    }
    let missing = requirements::missing(NEEDED);
    if let Some(reason) = fettle_lab::why_not().filter(|r| r.contains("root")) {
        skipped.extend(missing.iter().map(|m| format!("installing {}: {reason}", m.package)));
        return Ok(());
    }
    Ok(requirements::ensure(NEEDED, &lab::say)?)
}
