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

    say("bare apt-get dist-upgrade");
    let apt = watched(bare, || {
        let upgrade = "DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 dist-upgrade";
        bare.sh(upgrade)?.ok()?;
        Ok(())
    })?;
    say("fettle-agent patch");
    let patch = watched(ours, || {
        ours.command("fettle-agent").arg("patch").timeout(Duration::from_secs(900)).run()?.ok()?;
        Ok(())
    })?;
    let steps = steps(ours)?;
    let step = |name: &str| steps.get(name).copied().unwrap_or(f64::NAN);
    let after = (installed(bare)?, installed(ours)?);
    if after.0 != after.1 {
        bail!("the two hosts ended with different packages");
    }
    let changed: Vec<(&String, &String)> =
        versions["bare"].iter().filter(|(name, was)| after.0.get(*name) != Some(was)).collect();
    let order: Vec<String> = changed.iter().map(|(name, was)| format!("{name}={was}")).collect();

    say("the old versions again");
    let downgrade = watched(bare, || {
        let script = format!(
            "DEBIAN_FRONTEND=noninteractive apt-get -y -qq --allow-downgrades -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 install {}",
            order.join(" ")
        );
        bare.sh(&script)?.ok()?;
        Ok(())
    })?;
    let undo =
        watched(ours, || ours.exec(&["fettle-agent", "undo"])?.ok().map(drop).map_err(Into::into))?;
    if installed(ours)? != versions["fettle"] {
        bail!("the undo left other versions");
    }

    let (apt_gaps, our_gaps) = gaps(bare, ours, &order)?;

    bare.sh("apt-get install -y -qq needrestart")?.ok()?;
    let ours_inventory = median(ours, &["fettle-agent", "inventory", "--compact"])?;
    let packages = median(ours, &["fettle-agent", "inventory", "--only", "packages"])?;
    let query = median(ours, &["dpkg-query", "-W"])?;
    let processes = median(ours, &["fettle-agent", "inventory", "--only", "processes"])?;
    let needrestart = median(bare, &["needrestart", "-b"])?;

    let active = step("apply") + step("activate") + step("verify");
    figures.extend([
        Figure::plain("packages changed", changed.len() as f64, "packages"),
        Figure::plain("apt-get dist-upgrade, archives at hand", apt.seconds, "s"),
        Figure::plain(
            "fettle: preflight, stage, rehearse (before the window)",
            step("preflight") + step("stage") + step("rehearse"),
            "s",
        ),
        Figure::plain("fettle: apply", step("apply"), "s"),
        Figure::plain("fettle: first changed file to verified", active, "s"),
        Figure::at_most("apply / apt-get", step("apply") / apt.seconds, "ratio", 1.1),
        Figure::at_most("preimage / apply", step("snapshot") / step("apply"), "ratio", 0.1),
        Figure::plain("fettle: undo, files and services verified", undo.seconds, "s"),
        Figure::plain("apt-get install of the old versions", downgrade.seconds, "s"),
        Figure::at_most("undo / apply", undo.seconds / step("apply"), "ratio", 0.1),
        Figure::at_most(
            "undo / apt-get install of the old versions",
            undo.seconds / downgrade.seconds,
            "ratio",
            1.0,
        ),
        Figure::plain("gap in nginx, apt-get, with everything else", apt.gap, "ms"),
        Figure::plain("gap in nginx, fettle, with everything else", patch.gap, "ms"),
        Figure::plain("gap in nginx, apt-get, nginx alone", apt_gaps, "ms"),
        Figure::plain("gap in nginx, fettle, nginx alone", our_gaps, "ms"),
        Figure::at_most("gap, fettle / apt-get, nginx alone", our_gaps / apt_gaps, "ratio", 1.0),
        Figure::plain("processor, apt-get", apt.processor, "s"),
        Figure::plain("processor, fettle with its rehearsal", patch.processor, "s"),
        Figure::plain("dpkg-query -W", query, "ms"),
        Figure::plain("fettle-agent inventory of packages", packages, "ms"),
        Figure::plain("needrestart -b", needrestart, "ms"),
        Figure::plain("fettle-agent inventory of processes with replaced code", processes, "ms"),
        Figure::at_most("the same / needrestart", processes / needrestart, "ratio", 1.0),
        Figure::plain("fettle-agent inventory, whole, apt asked as well", ours_inventory, "ms"),
    ]);
    Ok(figures)
}

/// How often nginx alone is patched and taken back. One gap says little on a machine with two processors.
const ROUNDS: usize = 5;

/// The gap in nginx while it alone is changed by apt and by us, in turns; the middle of some rounds, in ms.
fn gaps(bare: &LabHost, ours: &LabHost, order: &[String]) -> Result<(f64, f64)> {
    const APT: &str = "DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0";
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
