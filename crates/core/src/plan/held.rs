//! What a plan does not do, and why: each thing once, with all hosts on which it is not done.

use crate::{Hold, HostId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something that is not done on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Which host.
    pub host: HostId,
    /// What people call it.
    pub name: String,
    /// Which package, where it is about one; empty: the whole host.
    pub package: String,
    /// Which vulnerabilities stay open for it.
    pub findings: Vec<String>,
    /// Why: the reason chain, nearest reason first.
    pub reasons: Vec<Hold>,
}

/// Something that is not done, wherever that is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NotDone {
    /// Which package, where it is about one; empty: the whole host.
    pub package: String,
    /// Why: the reason chain, nearest reason first.
    pub reasons: Vec<Hold>,
    /// Which vulnerabilities stay open for it.
    pub findings: Vec<String>,
}

/// Hosts on which the very same is not done.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldHosts {
    /// Which hosts, and what people call them.
    pub hosts: BTreeMap<HostId, String>,
    /// What is not done on each of them.
    pub what: Vec<Arc<NotDone>>,
}

/// Something that is not done on one host, as a plan has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOn<'a> {
    /// Which host.
    pub host: &'a HostId,
    /// What people call it.
    pub name: &'a str,
    /// What is not done.
    pub what: &'a Arc<NotDone>,
}

impl HeldHosts {
    /// One by one, host by host.
    pub fn each(&self) -> impl Iterator<Item = HeldOn<'_>> {
        self.hosts
            .iter()
            .flat_map(|(host, name)| self.what.iter().map(move |what| HeldOn { host, name, what }))
    }
}

impl std::ops::Deref for HeldOn<'_> {
    type Target = NotDone;
    fn deref(&self) -> &NotDone {
        self.what
    }
}

impl HeldOn<'_> {
    /// On its own.
    pub fn to_held(self) -> Held {
        let NotDone { package, reasons, findings } = NotDone::clone(self.what);
        Held { host: self.host.clone(), name: self.name.to_owned(), package, findings, reasons }
    }
}

impl NotDone {
    /// The whole host is left alone.
    pub(super) fn whole(findings: Vec<String>, reasons: Vec<Hold>) -> Self {
        Self { package: String::new(), reasons, findings }
    }

    /// Is an upgrade held that could be taken otherwise?
    pub(super) fn is_of_an_upgrade(&self) -> bool {
        !self.reasons.iter().any(|r| {
            matches!(r, Hold::NoFix { .. } | Hold::FixNotOffered { .. } | Hold::InRoot { .. })
        })
    }
}
