//! What a selector may ask about beside labels: facts that a host reported itself, so that nobody has to keep labels for
//! what an inventory knows.
//!
//! A fact may have several values (a host listens on several ports), and is met by any of them. What it asks is in the
//! summary of an inventory, which is all that is in memory of a host; hosts of a cohort share its packages there.

use super::tags;
use super::{Order, Selector, glob};
use crate::digest::Digest;
use crate::host::Host;
use crate::inventory::{Inventory, Listener};
use crate::version::Scheme;
use std::cmp::Ordering;

/// Facts that a selector may name. All but `host.name` and `host.id` come from the inventory: a host that has not
/// reported has none of them.
pub const FACTS: [&str; 11] = [
    "os.id",
    "os.version",
    "os.codename",
    "os.kernel",
    "host.name",
    "host.arch",
    "host.id",
    "host.cohort",
    "host.listens",
    "host.package",
    "host.tag",
];

/// What facts begin with that are the installed versions of a package, whose name follows.
pub const PACKAGE_VERSION: &str = "host.package.";

/// So many values are told to people; of more, how many there are.
const TOLD: usize = 12;

/// The facts that tell a host from every other.
const WHO: [&str; 2] = ["host.name", "host.id"];

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
            Self::Version { key, order, value } => {
                let os = host.inventory.as_deref().map_or("", |inventory| &inventory.os.id);
                // In an order that is not known, nothing is before or after anything.
                Scheme::of_os(os).is_some_and(|scheme| {
                    let meets = |found: &str| order.holds(scheme.compare_lenient(found, value));
                    any(host, key, &meets, &mut |_| true)
                })
            }
            Self::Not { of } => !of.matches(host),
            Self::And { of } => of.iter().all(|s| s.matches(host)),
            Self::Or { of } => of.iter().any(|s| s.matches(host)),
        }
    }

    /// Does the selector ask which host it is, by name or id? One that does not means all hosts of a [`kind`], or none.
    pub fn asks_who(&self) -> bool {
        match self {
            Self::All => false,
            Self::In { key, .. } | Self::Has { key } | Self::Version { key, .. } => {
                WHO.contains(&key.as_str())
            }
            Self::Not { of } => of.asks_who(),
            Self::And { of } | Self::Or { of } => of.iter().any(Self::asks_who),
        }
    }

    /// What the host has where this asks, for people. `None`: nothing.
    pub(super) fn found(&self, host: &Host) -> Option<String> {
        let (Self::In { key, .. } | Self::Has { key } | Self::Version { key, .. }) = self else {
            return None;
        };
        // Of hundreds of packages those are of interest that were asked for.
        let asked = |found: &str| match self {
            Self::In { key, values } if key == "host.package" => {
                values.iter().any(|value| meets(key, value, found))
            }
            _ => true,
        };
        let mut all = values(host, key, &asked);
        let more = all.len().saturating_sub(TOLD);
        all.truncate(TOLD);
        if more > 0 {
            all.push(format!("{more} more"));
        }
        (!all.is_empty()).then(|| all.join(", "))
    }
}

impl Order {
    fn holds(self, found: Ordering) -> bool {
        match self {
            Self::Less => found.is_lt(),
            Self::AtMost => found.is_le(),
            Self::Greater => found.is_gt(),
            Self::AtLeast => found.is_ge(),
        }
    }
}

/// Stands for all that selectors can ask of a host but its name and id: its labels and the other facts. The cohort stands for
/// what is installed.
pub fn kind(host: &Host) -> Digest {
    let facts = FACTS.iter().filter(|fact| !WHO.contains(fact) && **fact != "host.package");
    let facts: Vec<Vec<String>> = facts.map(|fact| values(host, fact, &|_| true)).collect();
    Digest::of_json(&(&host.labels, facts))
}

/// What the host has of a label or fact and is `asked` for, sorted, each once.
fn values(host: &Host, key: &str, asked: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    any(host, key, asked, &mut |found| {
        all.push(found.to_owned());
        false
    });
    all.sort_unstable();
    all.dedup();
    all
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
        "host.package" => inventory.is_some_and(|i| i.packages.iter().any(|p| of(Some(&p.name)))),
        key => match key.strip_prefix(PACKAGE_VERSION) {
            Some(name) => inventory.is_some_and(|i| {
                let mut versions = i.packages.iter().filter(|p| glob::matches(name, &p.name));
                versions.any(|p| of(Some(&p.version)))
            }),
            None => of(host.labels.get(key).map(String::as_str)),
        },
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
