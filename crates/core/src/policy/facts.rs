//! What a selector may ask about beside labels: facts that a host reported itself, so that nobody has to keep labels for
//! what an inventory knows.
//!
//! A fact may have many values (a host has many packages), and is met by any of them. Those with a detail are written
//! with a slash and can be asked for without it: `host.package=nginx` and `host.package=nginx/1.22.*`.

use super::tags;
use super::{Selector, glob};
use crate::host::Host;
use std::fmt;

/// Facts that a selector may name. All but `host.name` and `host.id` come from the inventory: a host that has not
/// reported has none of them.
pub const FACTS: [&str; 12] = [
    "os.id",
    "os.version",
    "os.codename",
    "os.kernel",
    "host.name",
    "host.arch",
    "host.id",
    "host.cohort",
    "host.package",
    "host.service",
    "host.listens",
    "host.tag",
];

/// A unit that runs.
const ACTIVE: &str = "active";

/// A value that a host has: a name and, where the fact has one, a detail.
#[derive(Clone, Copy)]
struct Value<'v> {
    name: &'v str,
    detail: Option<&'v str>,
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.detail.map_or(Ok(()), |detail| write!(f, "/{detail}"))
    }
}

impl Selector {
    /// Does the selector mean this host?
    ///
    /// A label or fact that the host does not have matches nothing; so `not env=prod` (and `env != prod`) holds
    /// for a host without a label `env`.
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            Self::All => true,
            Self::In { key, values } => {
                any(host, key, &mut |found| values.iter().any(|value| meets(key, value, found)))
            }
            Self::Has { key } => any(host, key, &mut |_| true),
            Self::Not { of } => !of.matches(host),
            Self::And { of } => of.iter().all(|s| s.matches(host)),
            Self::Or { of } => of.iter().any(|s| s.matches(host)),
        }
    }

    /// What the host has where this asks: the values that meet it, else those that it has in their place; of packages,
    /// units and ports, of which a host has too many to tell, only the former. `None`: nothing.
    pub(super) fn found(&self, host: &Host) -> Option<String> {
        /// So many are told.
        const TOLD: usize = 5;
        let (key, values) = match self {
            Self::In { key, values } => (key, values.as_slice()),
            Self::Has { key } => (key, [].as_slice()),
            _ => return None,
        };
        let (mut met, mut others) = (Vec::new(), Vec::new());
        any(host, key, &mut |found| {
            let to = if values.iter().any(|value| meets(key, value, found)) {
                &mut met
            } else {
                &mut others
            };
            if to.len() <= TOLD {
                to.push(found.to_string());
            }
            false
        });
        let is_asked = !values.is_empty() && DETAILED.contains(&key.as_str());
        let told = if met.is_empty() && !is_asked { others } else { met };
        match told.len() {
            0 => None,
            n if n > TOLD => Some(format!("{}, …", told[..TOLD].join(", "))),
            _ => Some(told.join(", ")),
        }
    }
}

/// Facts whose values have a detail: version, state, protocol.
const DETAILED: [&str; 3] = ["host.package", "host.service", "host.listens"];

/// Does a value that was asked for meet what a host has?
fn meets(key: &str, value: &str, found: Value<'_>) -> bool {
    let Some(detail) = found.detail else {
        // As `fettle host show` and the API print it.
        let value = value.strip_prefix("sha256:").filter(|_| key == "host.cohort").unwrap_or(value);
        return glob::matches(value, found.name);
    };
    let (name, state) = match value.split_once('/') {
        Some((name, state)) => (name, Some(state)),
        // A unit is asked for to run, unless it is asked how it is.
        None => (value, (key == "host.service").then_some(ACTIVE)),
    };
    let is_short = || {
        let unit = found.name.strip_suffix(".service").filter(|_| key == "host.service");
        unit.is_some_and(|unit| glob::matches(name, unit))
    };
    state.is_none_or(|state| glob::matches(state, detail))
        && (glob::matches(name, found.name) || is_short())
}

/// Holds `test` for any value of a label or fact? It is asked until it does.
fn any(host: &Host, key: &str, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    let mut of = |text: Option<&str>| text.is_some_and(|name| test(Value { name, detail: None }));
    let Some(inventory) = host.inventory.as_deref() else {
        return match key {
            "host.name" => of(Some(&host.name)),
            "host.id" => of(Some(host.id.as_str())),
            fact if FACTS.contains(&fact) => false,
            label => of(host.labels.get(label).map(String::as_str)),
        };
    };
    match key {
        "host.name" => of(Some(&host.name)),
        "host.id" => of(Some(host.id.as_str())),
        "host.arch" => of(Some(&inventory.architecture)),
        "os.id" => of(Some(&inventory.os.id)),
        "os.version" => of(Some(&inventory.os.version)),
        "os.codename" => of(Some(&inventory.os.codename)),
        "os.kernel" => of(Some(&inventory.kernel.running)),
        "host.cohort" => of(Some(&inventory.cohort().hex())),
        "host.tag" => tags::of(inventory).into_iter().any(|tag| of(Some(tag))),
        "host.package" => {
            let mut packages = inventory.packages.iter();
            packages.any(|p| test(Value { name: &p.name, detail: Some(&p.version) }))
        }
        "host.service" => {
            let mut services = inventory.services.iter();
            services.any(|s| test(Value { name: &s.unit, detail: Some(&s.active) }))
        }
        // Of sockets that others than the host itself can reach.
        "host.listens" => inventory.listeners.iter().filter(|l| !l.is_loopback()).any(|l| {
            let protocol = l.protocol.trim_end_matches('6');
            test(Value { name: &l.port.to_string(), detail: Some(protocol) })
        }),
        label => of(host.labels.get(label).map(String::as_str)),
    }
}

#[cfg(test)]
mod tests;
