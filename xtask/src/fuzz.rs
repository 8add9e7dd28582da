//! `cargo xtask fuzz`: the parsers of vendors' data under bytes made up by LLVM's libFuzzer.
//!
//! It is guided by coverage, and needs neither nightly nor cargo-fuzz: the compiler's coverage pass is switched on by
//! stable flags. Without a sanitizer, which only nightly has: in code without `unsafe` a fault shows as a panic, an
//! overflow, a time-out or too much memory, and these are seen.

use crate::build::{host_triple, root, run, target};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::path::Path;
use std::process::Command;

/// What cargo-fuzz passes to the compiler, too.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Bytes made up for every parser of vendors' data; what breaks one is kept.
#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// How long in all, in minutes, shared evenly by the targets.
    #[arg(long, default_value_t = 6)]
    minutes: u64,
    /// This target only: `osv`, `debian_tracker`, …
    #[arg(long)]
    target: Option<String>,
}

impl Fuzz {
    pub(crate) fn run(self) -> Result<()> {
        let directory = root().join("fuzz");
        let mut targets = names(&directory.join("fuzz_targets"))?;
        if let Some(only) = &self.target {
            targets.retain(|name| name == only);
        }
        if targets.is_empty() {
            bail!("there is no such target: look into fuzz/fuzz_targets");
        }
        let triple = host_triple()?;
        let out = target().join("fuzz");
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build
            .args(["build", "--release", "--locked", "--bins", "--target", &triple])
            .current_dir(&directory)
            .env("CARGO_TARGET_DIR", &out)
            .env("RUSTFLAGS", COVERAGE);
        run(&mut build)?;
        let seconds = (self.minutes * 60 / targets.len() as u64).max(1);
        let mut broken = Vec::new();
        for name in &targets {
            println!("{name}: {seconds} s");
            let program = out.join(&triple).join("release").join(name);
            if !try_out(&program, name, &directory, &out, seconds)? {
                broken.push(name.as_str());
            }
        }
        if !broken.is_empty() {
            bail!(
                "{} broke; the bytes are in fuzz/artifacts: put them into fuzz/corpus/TARGET under a name that says \
                 what they are, and `cargo test -p fettle-vuln --test corpus` fails until it is mended",
                broken.join(", ")
            );
        }
        Ok(())
    }
}

/// Stems of the files in a directory, sorted.
fn names(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        names.extend(entry?.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Runs one target for a while; does everything hold? What it finds worth keeping goes to the build directory, so the
/// repository's corpus stays small.
fn try_out(program: &Path, name: &str, directory: &Path, out: &Path, seconds: u64) -> Result<bool> {
    let found = out.join("corpus").join(name);
    let artifacts = directory.join("artifacts").join(name);
    for made in [&found, &artifacts] {
        std::fs::create_dir_all(made).with_context(|| made.display().to_string())?;
    }
    let mut command = Command::new(program);
    command
        .arg(&found)
        .arg(directory.join("corpus").join(name))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-dict={}", directory.join("words.dict").display()))
        .args(["-max_len=16384", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    Ok(status.success())
}
