//! The host's transaction beside what an administrator would type, on two copies of the same host.

use super::{Figure, median, middle, say};
use anyhow::{Context as _, Result, bail};
use fettle_lab::{HostSpec, Lab, LabHost};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A client asks so often.
const EVERY: Duration = Duration::from_millis(10);
/// An answer that takes longer is none.
const ANSWER: Duration = Duration::from_millis(500);

pub(super) fn measure(lab: &Lab, programs: &Path) -> Result<Vec<Figure>> {
    let hosts = lab.up(&["bare", "fettle"], &HostSpec::default(), &say)?;
    let [bare, ours] = hosts.as_slice() else { bail!("the lab gave other hosts") };
    ours.copy_in(programs.join("fettle-agent"), "/usr/bin/fettle-agent")?;
    ours.sh("chmod 755 /usr/bin/fettle-agent")?.ok()?;
    let (mut figures, mut versions) = (Vec::new(), BTreeMap::new());
    for host in [bare, ours] {
        // Both read their lists and what they install from disk.
        host.sh("apt-get update -qq && apt-get -y -qq --download-only dist-upgrade")?.ok()?;
        versions.insert(host.name().to_owned(), installed(host)?);
    }
    if versions["bare"] != versions["fettle"] {
        bail!("the two hosts are not alike");
    }

    let mut rounds = Rounds::default();
    let mut order = Vec::new();
    for round in 1..=WHOLE_ROUNDS {
        say(&format!("all updates, and back, round {round} of {WHOLE_ROUNDS}"));
        order = one_round(bare, ours, &versions["bare"], &mut rounds)?;
    }
    let steps = std::mem::take(&mut rounds.steps);
    let step = |name: &str| middle_of(&steps, name);

    let (apt_gaps, our_gaps) = gaps(bare, ours, &order)?;

    bare.sh("apt-get install -y -qq needrestart")?.ok()?;
    let ours_inventory = median(ours, &["fettle-agent", "inventory", "--compact"])?;
    let packages = median(ours, &["fettle-agent", "inventory", "--only", "packages"])?;
    let query = median(ours, &["dpkg-query", "-W"])?;
    let processes = median(ours, &["fettle-agent", "inventory", "--only", "processes"])?;
    let needrestart = median(bare, &["needrestart", "-b"])?;

    let active = step("apply") + step("activate") + step("verify");
    let (apt, undo) = (middle(rounds.apt), middle(rounds.undo));
    let downgrade = middle(rounds.downgrade);
    figures.extend([
        Figure::plain("packages changed", order.len() as f64, "packages"),
        Figure::plain("apt-get dist-upgrade, archives at hand", apt, "s"),
        Figure::plain(
            "fettle: preflight, stage, rehearse (before the window)",
            step("preflight") + step("stage") + step("rehearse"),
            "s",
        ),
        Figure::plain("fettle: apply", step("apply"), "s"),
        Figure::plain("fettle: first changed file to verified", active, "s"),
        Figure::at_most("apply / apt-get", step("apply") / apt, "ratio", 1.1),
        Figure::at_most("preimage / apply", step("snapshot") / step("apply"), "ratio", 0.1),
        Figure::plain("fettle: undo, files and services verified", undo, "s"),
        Figure::plain("apt-get install of the old versions", downgrade, "s"),
        Figure::at_most("undo / apply", undo / step("apply"), "ratio", 0.1),
        Figure::at_most(
            "undo / apt-get install of the old versions",
            undo / downgrade,
            "ratio",
            1.0,
        ),
        Figure::plain("gap in nginx, apt-get, with everything else", middle(rounds.apt_gap), "ms"),
        Figure::plain("gap in nginx, fettle, with everything else", middle(rounds.our_gap), "ms"),
        Figure::plain("gap in nginx, apt-get, nginx alone", apt_gaps, "ms"),
        Figure::plain("gap in nginx, fettle, nginx alone", our_gaps, "ms"),
        // Two gaps are alike when they differ by less than the pause between two questions.
        Figure::at_most(
            "gap, fettle - apt-get, nginx alone",
            our_gaps - apt_gaps,
            "ms",
            EVERY.as_secs_f64() * 1000.0,
        ),
        Figure::plain("processor, apt-get", middle(rounds.apt_processor), "s"),
        Figure::plain("processor, fettle with its rehearsal", middle(rounds.our_processor), "s"),
        Figure::plain("dpkg-query -W", query, "ms"),
        Figure::plain("fettle-agent inventory of packages", packages, "ms"),
        Figure::plain("needrestart -b", needrestart, "ms"),
        Figure::plain("fettle-agent inventory of processes with replaced code", processes, "ms"),
        Figure::at_most("the same / needrestart", processes / needrestart, "ratio", 1.0),
        Figure::plain("fettle-agent inventory, whole, apt asked as well", ours_inventory, "ms"),
    ]);
    Ok(figures)
}

/// How often all updates are applied and taken back. The figures are the middle ones.
const WHOLE_ROUNDS: usize = 3;

/// What the rounds gave, in seconds; gaps in ms.
#[derive(Default)]
struct Rounds {
    apt: Vec<f64>,
    apt_gap: Vec<f64>,
    apt_processor: Vec<f64>,
    our_gap: Vec<f64>,
    our_processor: Vec<f64>,
    downgrade: Vec<f64>,
    undo: Vec<f64>,
    steps: Vec<BTreeMap<String, f64>>,
}

/// Seconds of a step, the middle of all rounds.
fn middle_of(steps: &[BTreeMap<String, f64>], name: &str) -> f64 {
    middle(steps.iter().map(|s| s.get(name).copied().unwrap_or(f64::NAN)).collect())
}

/// All updates and back, by apt on one host and by us on the other. Gives what apt was told for the way back.
fn one_round(
    bare: &LabHost,
    ours: &LabHost,
    before: &BTreeMap<String, String>,
    rounds: &mut Rounds,
) -> Result<Vec<String>> {
    let apt = watched(bare, || Ok(bare.sh(&format!("{APT} dist-upgrade"))?.ok().map(drop)?))?;
    rounds.apt.push(apt.seconds);
    rounds.apt_gap.push(apt.gap);
    rounds.apt_processor.push(apt.processor);
    let patch = watched(ours, || {
        ours.command("fettle-agent").arg("patch").timeout(Duration::from_secs(900)).run()?.ok()?;
        Ok(())
    })?;
    rounds.our_gap.push(patch.gap);
    rounds.our_processor.push(patch.processor);
    rounds.steps.push(steps(ours)?);
    let after = (installed(bare)?, installed(ours)?);
    if after.0 != after.1 {
        bail!("the two hosts ended with different packages");
    }
    let changed = before.iter().filter(|(name, was)| after.0.get(*name) != Some(was));
    let order: Vec<String> = changed.map(|(name, was)| format!("{name}={was}")).collect();
    let back = format!("{APT} --allow-downgrades install {}", order.join(" "));
    rounds.downgrade.push(watched(bare, || Ok(bare.sh(&back)?.ok().map(drop)?))?.seconds);
    let undo = || Ok(ours.exec(&["fettle-agent", "undo"])?.ok().map(drop)?);
    rounds.undo.push(watched(ours, undo)?.seconds);
    if (installed(bare)?, installed(ours)?) != (before.clone(), before.clone()) {
        bail!("the way back left other versions");
    }
    Ok(order)
}

/// How apt is asked for what Fettle does: no questions, the administrator's configuration files stay.
const APT: &str = "DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0";

/// How often nginx alone is patched and taken back. One gap says little on a machine with two processors.
const ROUNDS: usize = 5;

/// The gap in nginx while it alone is changed by apt and by us, in turns; the middle of some rounds, in ms.
fn gaps(bare: &LabHost, ours: &LabHost, order: &[String]) -> Result<(f64, f64)> {
    let old: Vec<&str> = order.iter().filter(|o| o.contains("nginx")).map(String::as_str).collect();
    let (mut apt, mut fettle) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        say(&format!("nginx alone, round {round} of {ROUNDS}"));
        let change = |script: String| watched(bare, || Ok(bare.sh(&script)?.ok().map(drop)?));
        apt.push(change(format!("{APT} install --only-upgrade nginx"))?.gap);
        change(format!("{APT} --allow-downgrades install {}", old.join(" ")))?;
        let agent = |line: &[&str]| watched(ours, || Ok(ours.exec(line)?.ok().map(drop)?));
        fettle.push(agent(&["fettle-agent", "patch", "nginx"])?.gap);
        agent(&["fettle-agent", "undo"])?;
    }
    Ok((middle(apt), middle(fettle)))
}

/// What was seen from outside while something was done to a host.
struct Watched {
    seconds: f64,
    /// Longest time without an answer, in ms.
    gap: f64,
    /// Processor time of the whole host, in seconds.
    processor: f64,
}

fn watched(host: &LabHost, act: impl FnOnce() -> Result<()>) -> Result<Watched> {
    // Both hosts lie on one file system: what the one left to be written must not be written in the other's time.
    std::process::Command::new("sync").status().context("sync")?;
    let stop = Arc::new(AtomicBool::new(false));
    let (address, told) = (host.ip(), stop.clone());
    let client = std::thread::spawn(move || longest_gap(address, &told));
    let before = processor(host)?;
    let begun = Instant::now();
    let result = act();
    let seconds = begun.elapsed().as_secs_f64();
    let processor = processor(host)? - before;
    stop.store(true, Ordering::Release);
    let gap = client.join().map_err(|_| anyhow::anyhow!("the client panicked"))?;
    result?;
    Ok(Watched { seconds, gap: gap.as_secs_f64() * 1000.0, processor })
}

/// Asks nginx again and again, and gives the longest time from one answer to the next.
fn longest_gap(address: Ipv4Addr, stop: &AtomicBool) -> Duration {
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while !stop.load(Ordering::Acquire) {
        if answers(address).is_ok() {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        std::thread::sleep(EVERY);
    }
    longest
}

fn answers(address: Ipv4Addr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, 80)), ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    match &start == b"HTTP/1.1 200" {
        true => Ok(()),
        false => Err(std::io::Error::other("not 200")),
    }
}

/// Processor seconds of everything in the host, by its control group.
fn processor(host: &LabHost) -> Result<f64> {
    let text = host.sh("cat /sys/fs/cgroup/cpu.stat")?.ok()?;
    let used = text.lines().find_map(|l| l.strip_prefix("usage_usec ")).context("no usage_usec")?;
    Ok(used.trim().parse::<f64>()? / 1e6)
}

/// Package → version.
fn installed(host: &LabHost) -> Result<BTreeMap<String, String>> {
    let text = host.exec(&["dpkg-query", "-W", "-f", "${binary:Package} ${Version}\n"])?.ok()?;
    Ok(text.lines().filter_map(|l| l.split_once(' ')).map(|(n, v)| (n.into(), v.into())).collect())
}

/// Seconds of each step of the last transaction, as its journal has them.
fn steps(host: &LabHost) -> Result<BTreeMap<String, f64>> {
    let text = host.exec(&["fettle-agent", "-o", "json", "status"])?.ok()?;
    let status: serde_json::Value = serde_json::from_str(&text)?;
    let finished = status["last"]["finished"].as_object().context("status has no steps")?;
    Ok(finished
        .iter()
        .map(|(step, facts)| {
            (step.clone(), facts["milliseconds"].as_f64().unwrap_or(f64::NAN) / 1000.0)
        })
        .collect())
}
