//! What a selector may ask about beside labels: facts that a host reported itself, so that nobody has to keep labels for
//! what an inventory knows.
//!
//! A fact may have several values (a host listens on several ports), and is met by any of them. What it asks is in the
//! summary of an inventory, which is all that is in memory of a host: what a host has installed is asked for in searches.

use super::tags;
use super::{Selector, glob};
use crate::host::Host;
use crate::inventory::{Inventory, Listener};

/// Facts that a selector may name. All but `host.name` and `host.id` come from the inventory: a host that has not
/// reported has none of them.
pub const FACTS: [&str; 10] = [
    "os.id",
    "os.version",
    "os.codename",
    "os.kernel",
    "host.name",
    "host.arch",
    "host.id",
    "host.cohort",
    "host.listens",
    "host.tag",
];

impl Selector {
    /// Does the selector mean this host?
    ///
    /// A label or fact that the host does not have matches nothing; so `not env=prod` (and `env != prod`) holds
    /// for a host without a label `env`.
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            Self::All => true,
            Self::In { key, values } => {
                let asked = |found: &str| values.iter().any(|value| meets(key, value, found));
                any(host, key, &asked, &mut |_| true)
            }
            Self::Has { key } => any(host, key, &|_| true, &mut |_| true),
            Self::Not { of } => !of.matches(host),
            Self::And { of } => of.iter().all(|s| s.matches(host)),
            Self::Or { of } => of.iter().any(|s| s.matches(host)),
        }
    }

    /// What the host has where this asks, for people. `None`: nothing.
    pub(super) fn found(&self, host: &Host) -> Option<String> {
        let (Self::In { key, .. } | Self::Has { key }) = self else { return None };
        let mut all: Vec<String> = Vec::new();
        any(host, key, &|_| true, &mut |found| {
            all.push(found.to_owned());
            false
        });
        all.sort_unstable();
        all.dedup();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

/// Does a value that was asked for meet what a host has?
fn meets(key: &str, value: &str, found: &str) -> bool {
    match key {
        // As `fettle host show` and the API print it.
        "host.cohort" => glob::matches(value.strip_prefix("sha256:").unwrap_or(value), found),
        // The protocol may be left away.
        "host.listens" if !value.contains('/') => {
            found.split_once('/').is_some_and(|(port, _)| glob::matches(value, port))
        }
        _ => glob::matches(value, found),
    }
}

/// Holds `test` for any value of a label or fact that is `asked` for? It is called until it does. What is not asked for need
/// not be found out.
fn any(
    host: &Host,
    key: &str,
    asked: &dyn Fn(&str) -> bool,
    test: &mut dyn FnMut(&str) -> bool,
) -> bool {
    let inventory = host.inventory.as_deref();
    let mut of = |text: Option<&str>| text.is_some_and(|text| asked(text) && test(text));
    match key {
        "host.name" => of(Some(&host.name)),
        "host.id" => of(Some(host.id.as_str())),
        "host.arch" => of(inventory.map(|i| i.architecture.as_str())),
        "host.cohort" => of(host.cohort.map(|cohort| cohort.hex()).as_deref()),
        "os.id" => of(inventory.map(|i| i.os.id.as_str())),
        "os.version" => of(inventory.map(|i| i.os.version.as_str())),
        "os.codename" => of(inventory.map(|i| i.os.codename.as_str())),
        "os.kernel" => of(inventory.map(|i| i.kernel.running.as_str())),
        "host.tag" => inventory.is_some_and(|i| tags::among(i, asked).any(test)),
        "host.listens" => inventory.is_some_and(|i| {
            let mut open = i.listeners.iter().filter(|listener| !listener.is_loopback());
            open.any(|l| of(Some(&format!("{}/{}", l.port, protocol(l)))))
        }),
        label => of(host.labels.get(label).map(String::as_str)),
    }
}

/// `tcp`, `udp`, of either kind of address.
fn protocol(listener: &Listener) -> &str {
    listener.protocol.trim_end_matches('6')
}

/// What `host.listens` asks of the sockets of a host: each port once, without address and process.
pub fn reachable(inventory: &Inventory) -> Vec<Listener> {
    let open = inventory.listeners.iter().filter(|listener| !listener.is_loopback());
    let mut ports: Vec<Listener> = open
        .map(|l| Listener {
            protocol: protocol(l).to_owned(),
            address: String::new(),
            port: l.port,
            process: String::new(),
            unit: String::new(),
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests;
