//! The hosts' network: a bridge, and address translation so that they reach the package sources.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::poll_until;
use crate::tool::{Tool, installed};
use crate::{LabConfig, LabError};

/// Makes bridge and address translation; harmless when they are there.
pub(crate) fn up(config: &LabConfig) -> Result<(), LabError> {
    let bridge = config.bridge();
    let mark = mark(config);
    if link_dir(&bridge).is_dir() {
        check_owner(config)?;
    } else {
        check_free(config)?;
        ip("making the bridge", &["link", "add", &bridge, "type", "bridge", "forward_delay", "0"])?;
        ip("marking the bridge", &["link", "set", &bridge, "alias", &mark])?;
    }
    let gateway = format!("{}/24", config.subnet.gateway());
    ip("giving the bridge its address", &["address", "replace", &gateway, "dev", &bridge])?;
    let mtu = uplink_mtu().to_string();
    ip("bringing the bridge up", &["link", "set", &bridge, "mtu", &mtu, "up"])?;

    let (table, subnet) = (&config.prefix, config.subnet);
    let rules = format!(
        "table ip {table} {{}}\ndelete table ip {table}\ntable ip {table} {{\n  chain out {{\n    \
         type nat hook postrouting priority srcnat; policy accept;\n    \
         ip saddr {subnet} ip daddr != {subnet} masquerade\n  }}\n}}\n"
    );
    Tool::new("nft", "giving the hosts a way out").args(["-f", "-"]).stdin(rules).run().map(|_| ())
}

/// Removes bridge and address translation.
pub(crate) fn down(config: &LabConfig) -> Result<(), LabError> {
    if tables(config)? > 0 {
        Tool::new("nft", "removing the way out")
            .args(["delete", "table", "ip", &config.prefix])
            .run()?;
    }
    // The hosts' interfaces go with their network namespaces, a moment after their last process.
    let waited = Duration::from_secs(20);
    let mut left = Vec::new();
    poll_until(Instant::now() + waited, || {
        left = host_links(config);
        left.is_empty()
    });
    for link in left {
        ip("removing a host's interface", &["link", "delete", &link])?;
    }
    let bridge = config.bridge();
    if link_dir(&bridge).is_dir() {
        ip("removing the bridge", &["link", "delete", &bridge])?;
    }
    Ok(())
}

/// Fails when the bridge of our name belongs to a lab in another directory.
pub(crate) fn check_owner(config: &LabConfig) -> Result<(), LabError> {
    let bridge = config.bridge();
    if !link_dir(&bridge).is_dir() {
        return Ok(());
    }
    let alias = fs::read_to_string(link_dir(&bridge).join("ifalias")).unwrap_or_default();
    // Empty: a run was killed between making the bridge and marking it.
    match alias.trim() {
        "" => Ok(()),
        alias if alias == mark(config) => Ok(()),
        other => Err(LabError::PrefixTaken { bridge, owner: other.to_owned() }),
    }
}

/// The lab's interfaces that are there.
pub(crate) fn links(config: &LabConfig) -> Vec<String> {
    let mut links = host_links(config);
    links.extend(Some(config.bridge()).filter(|bridge| link_dir(bridge).is_dir()));
    links
}

/// How many NAT tables of the lab there are: none or one.
pub(crate) fn tables(config: &LabConfig) -> Result<usize, LabError> {
    if !installed("nft") {
        return Ok(0);
    }
    let list = Tool::new("nft", "listing NAT tables").args(["list", "tables"]).run()?;
    let ours = format!("table ip {}", config.prefix);
    Ok(list.lines().filter(|line| line.trim() == ours).count())
}

/// MTU of the machine's way out: the hosts use the same, so that nothing depends on fragmentation.
pub(crate) fn uplink_mtu() -> u32 {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let uplink = routes.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let link = words.next()?;
        (words.next()? == "00000000").then(|| link.to_owned())
    });
    let mtu = uplink.and_then(|link| fs::read_to_string(link_dir(&link).join("mtu")).ok());
    mtu.and_then(|mtu| mtu.trim().parse().ok()).map_or(1500, |mtu: u32| mtu.clamp(576, 9000))
}

/// Is another lab's bridge on this machine?
pub(crate) fn others(config: &LabConfig) -> bool {
    let links = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    links.filter(|link| link.file_name().to_string_lossy() != config.bridge()).any(|link| {
        let alias = fs::read_to_string(link.path().join("ifalias")).unwrap_or_default();
        alias.starts_with(MARK) && alias.trim() != mark(config)
    })
}

/// How the bridge of every lab is marked.
const MARK: &str = "the lab in ";

fn mark(config: &LabConfig) -> String {
    format!("{MARK}{}", config.dir.display())
}

fn link_dir(link: &str) -> PathBuf {
    Path::new("/sys/class/net").join(link)
}

/// Interfaces attached to the bridge, or named after one of the lab's containers.
fn host_links(config: &LabConfig) -> Vec<String> {
    let attached = fs::read_dir(link_dir(&config.bridge()).join("brif"));
    let mut links: Vec<String> = attached
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    // Names too long for an interface are kept as its alternative name.
    let shown = Tool::new("ip", "listing interfaces").args(["-details", "link", "show"]).run();
    let wanted = format!("vb-{}", config.machine(""));
    let mut current = String::new();
    for line in shown.unwrap_or_default().lines() {
        if !line.starts_with(' ') {
            let name = line.split(": ").nth(1).unwrap_or_default();
            current = name.split('@').next().unwrap_or_default().to_owned();
        }
        let alternative = line.trim().strip_prefix("altname ").unwrap_or_default();
        if (current.starts_with(&wanted) || alternative.starts_with(&wanted))
            && !links.contains(&current)
        {
            links.push(current.clone());
        }
    }
    links
}

fn check_free(config: &LabConfig) -> Result<(), LabError> {
    let shown = ip("looking at the machine's addresses", &["-4", "-o", "address", "show"])?;
    for line in shown.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(link), Some(address)) = (words.get(1), words.get(3)) else { continue };
        let parsed = address.split('/').next().and_then(|address| address.parse::<Ipv4Addr>().ok());
        if parsed.is_some_and(|address| config.subnet.contains(address)) {
            return Err(LabError::SubnetTaken {
                subnet: config.subnet.to_string(),
                address: (*address).to_owned(),
                link: (*link).to_owned(),
            });
        }
    }
    Ok(())
}

fn ip(doing: &str, args: &[&str]) -> Result<String, LabError> {
    Tool::new("ip", doing).args(args).run()
}
