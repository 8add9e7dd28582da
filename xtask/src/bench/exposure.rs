//! Who is exposed: one host beside debsecan, and whole fleets.

use super::{Figure, middle};
use crate::build::{agent, cargo, root, run, target};
use crate::lab::say;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs of each program, in turns, so that both see the same machine; the median counts.
const RUNS: usize = 21;
/// How many times as long as `scan` debsecan may take at least.
const TIMES: f64 = 100.0;
/// Makes debsecan's feed of the tracker's JSON.
const FEED: &str = include_str!("exposure/debsecan_feed.py");

pub(super) fn measure(hosts: usize) -> Result<Vec<Figure>> {
    let dir = std::env::temp_dir().join(format!("fettle-bench-exposure-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let measured = one_host(&dir).and_then(|mut figures| {
        figures.extend(fleets(hosts)?);
        Ok(figures)
    });
    fs::remove_dir_all(&dir)?;
    measured
}

/// `debsecan` and `fettle-agent scan` on the same packages and the same data, whole processes.
fn one_host(dir: &Path) -> Result<Vec<Figure>> {
    let feeds = dir.join("feeds");
    fs::create_dir_all(&feeds)?;
    for name in
        ["debian-tracker.json", "debian-advisories.jsonl", "kev.json", "epss.csv", "cvss.jsonl"]
    {
        let packed = root().join("data").join(format!("{name}.zst"));
        run(Command::new("zstd")
            .args(["-q", "-d", "-f"])
            .arg(packed)
            .arg("-o")
            .arg(feeds.join(name)))?;
    }
    let agent = agent()?;
    run(Command::new(&agent).args(["feeds", "compile"]).arg(&feeds))?;
    let peer = peer(dir, &feeds)?;
    let mut figures = Vec::new();
    for packages in [750, 1500] {
        let status = dir.join(format!("status-{packages}"));
        let count = status_file(&status, packages)?;
        let mut ours = Command::new(&agent);
        ours.args(["scan", "--release", "bookworm", "--feeds"]).arg(&feeds);
        ours.arg("--status").arg(&status);
        let name = format!("fettle-agent scan, {count} packages");
        let Some(source) = &peer else {
            figures.push(Figure::plain(&name, median(&mut ours, None)?.0, "ms"));
            continue;
        };
        let mut theirs = Command::new("debsecan");
        theirs.args(["--suite", "bookworm", "--source", source]).arg("--status").arg(&status);
        let (mine, its) = median(&mut ours, Some(&mut theirs))?;
        figures.push(Figure::plain(&format!("debsecan, {count} packages"), its, "ms"));
        figures.push(Figure::plain(&name, mine, "ms"));
        let name = format!("scan / debsecan, {count} packages");
        figures.push(Figure::at_most(&name, mine / its, "ratio", 1.0 / TIMES));
        figures.push(Figure::plain(
            &format!("debsecan / scan, {count} packages"),
            its / mine,
            "times",
        ));
    }
    Ok(figures)
}

/// Debsecan's feed in a directory of its own; `None` where the program is not installed.
fn peer(dir: &Path, feeds: &Path) -> Result<Option<String>> {
    if Command::new("debsecan")
        .arg("--help")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        say("debsecan is not installed (apt-get install debsecan): scan is measured alone");
        return Ok(None);
    }
    let out = dir.join("debsecan");
    let mut python = Command::new("python3");
    python.arg("-").arg(feeds.join("debian-tracker.json")).arg("bookworm").arg(&out);
    let mut python = python.stdin(Stdio::piped()).spawn().context("starting python3")?;
    // Invariant: its input was asked for in the line before.
    if let Some(mut input) = python.stdin.take() {
        input.write_all(FEED.as_bytes())?;
    }
    if !python.wait()?.success() {
        bail!("debsecan's feed was not made");
    }
    Ok(Some(format!("file://{}/", out.display())))
}

/// A dpkg status file of so many packages: this machine's, and where it has fewer, others that its sources offer, as if they
/// were installed.
fn status_file(path: &Path, packages: usize) -> Result<usize> {
    let mut text =
        fs::read_to_string("/var/lib/dpkg/status").context("is this a Debian machine?")?;
    if text.matches("\nStatus: install ok installed\n").count() < packages {
        let offered = Command::new("apt-cache").arg("dumpavail").output().context("apt-cache")?;
        text.push('\n');
        text.push_str(
            &String::from_utf8_lossy(&offered.stdout)
                .replace("\nVersion: ", "\nStatus: install ok installed\nVersion: "),
        );
    }
    let mut seen = BTreeSet::new();
    let mut out = String::new();
    for paragraph in text.split("\n\n") {
        let field = |name: &str| paragraph.lines().find_map(|l| l.strip_prefix(name));
        let installed = field("Status: ") == Some("install ok installed");
        let Some(name) = field("Package: ").filter(|_| installed) else { continue };
        if seen.len() < packages && seen.insert(name.to_owned()) {
            out.push_str(paragraph.trim());
            out.push_str("\n\n");
        }
    }
    fs::write(path, out)?;
    Ok(seen.len())
}

/// Medians of whole processes in ms, in turns.
fn median(ours: &mut Command, theirs: Option<&mut Command>) -> Result<(f64, f64)> {
    let time = |command: &mut Command| -> Result<f64> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let started = Instant::now();
        let status = command.status().with_context(|| format!("starting {command:?}"))?;
        let took = started.elapsed().as_secs_f64() * 1e3;
        match status.success() {
            true => Ok(took),
            false => bail!("{command:?} ended with {status}"),
        }
    };
    let (mut mine, mut its) = (Vec::new(), vec![0.0]);
    let mut theirs = theirs;
    for _ in 0..RUNS {
        mine.push(time(ours)?);
        if let Some(theirs) = &mut theirs {
            its.push(time(theirs)?);
        }
    }
    if its.len() > 1 {
        its.remove(0);
    }
    Ok((middle(mine), middle(its)))
}

/// Fleets of three sizes up to `hosts`, each in a process of its own.
fn fleets(hosts: usize) -> Result<Vec<Figure>> {
    run(&mut cargo(&["build", "--release", "--package", "fettle-vuln", "--example", "fleet"]))?;
    let program: PathBuf = target().join("release/examples/fleet");
    let mut figures = Vec::new();
    for size in [hosts / 100, hosts / 10, hosts] {
        say(&format!("a fleet of {size}"));
        let out = Command::new(&program).arg(size.to_string()).stderr(Stdio::inherit()).output()?;
        if !out.status.success() {
            bail!("{} ended with {}", program.display(), out.status);
        }
        for line in String::from_utf8(out.stdout)?.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [name, value, unit, bar] = fields[..] else { bail!("{line:?} is no figure") };
            let (name, value) = (format!("{size} hosts: {name}"), value.parse::<f64>()?);
            // The bars are for the largest.
            figures.push(match bar.parse::<f64>() {
                Ok(bar) if size == hosts && !f64::is_nan(bar) => {
                    Figure::at_most(&name, value, unit, bar)
                }
                _ => Figure::plain(&name, value, unit),
            });
        }
    }
    Ok(figures)
}
