//! The agent at rest, and its inventory.

use super::{Figure, median, median_after, middle};
use anyhow::{Context as _, Result};
use fettle_core::host::Labels;
use fettle_lab::{Fleet, HostSpec, Lab, LabHost};
use std::path::Path;
use std::time::Duration;

pub(super) fn measure(lab: &Lab, programs: &Path) -> Result<Vec<Figure>> {
    let host = lab.up(&["bench1"], &HostSpec::default(), &super::say)?.remove(0);
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
    // A host with many packages: each of this one's seven times, under names of their own.
    let copies = r#"awk -v RS= -v ORS='\n\n' '{ for (i = 0; i < 7; i++) { s = $0; sub(/^Package: [^\n]*/, "&-" i, s); print s } }' /var/lib/dpkg/status > /root/many"#;
    host.sh(copies)?.ok()?;
    let many = host.sh("grep -c ^Package: /root/many")?.ok()?.trim().parse::<f64>()?;
    let with_many = "mount --bind /root/many /var/lib/dpkg/status";
    let peer_many = median_after(&host, with_many, &["dpkg-query", "-W"])?;
    let ours_many =
        median_after(&host, with_many, &["fettle-agent", "inventory", "--only", "packages"])?;
    Ok(vec![
        Figure::at_most("agent idle resident set", middle(samples), "MiB", 5.0),
        Figure::at_most("agent binary", size, "MiB", 6.0),
        Figure::plain("packages on the host", packages, "packages"),
        Figure::plain("dpkg-query -W, whole process", peer, "ms"),
        Figure::plain("fettle-agent inventory of packages, whole process", ours, "ms"),
        Figure::at_most("inventory / dpkg-query", ours / peer, "ratio", 1.0),
        Figure::plain("packages on a host with many", many, "packages"),
        Figure::plain("dpkg-query -W of them", peer_many, "ms"),
        Figure::at_most("fettle-agent inventory of them", ours_many, "ms", 5.0),
        Figure::at_most("inventory / dpkg-query, of many", ours_many / peer_many, "ratio", 1.0),
    ])
}

fn resident(host: &LabHost) -> Result<f64> {
    let script = "grep VmRSS /proc/$(systemctl show -P MainPID fettle-agent)/status | tr -dc 0-9";
    let kib: f64 = host.sh(script)?.ok()?.trim().parse().context("reading VmRSS of the agent")?;
    Ok(kib / 1024.0)
}
