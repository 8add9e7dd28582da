//! Fleets to plan for.

use crate::advisory::Ranking;
use crate::finding::{Finding, FindingState};
use crate::host::{Host, Quarantine};
use crate::inventory::{Inventory, Kernel, Listener, Origin, Os, Package, Service, Upgrade};
use crate::plan::{Barred, Plan, PlanInput, make};
use crate::policy::{Policy, Pool};
use crate::recall::Recall;
use crate::{Digest, Hold, HostId, RolloutId, Shared, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) const NOW: &str = "2026-11-23T12:00:00Z";

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn policy(more: &str) -> Policy {
    let own = more.contains("[[ring]]") || more.contains("[strategy]");
    let rings = if own { "" } else { "[[ring]]\nname = \"all\"\n" };
    let text = format!("[policy]\nname = \"p\"\nselect = \"all\"\n{more}\n{rings}");
    Policy::parse(&text).unwrap_or_else(|e| panic!("{e:?}"))
}

pub(crate) fn package(name: &str, source: &str, version: &str) -> Shared<Package> {
    Shared::from(Package {
        name: name.into(),
        architecture: "amd64".into(),
        version: version.into(),
        source: source.into(),
        source_version: version.into(),
        healthy: true,
        module: String::new(),
    })
}

pub(crate) fn debian(security: bool) -> Origin {
    let (label, suite) =
        if security { ("Debian-Security", "stable-security") } else { ("Debian", "stable") };
    Origin {
        origin: "Debian".into(),
        label: label.into(),
        suite: suite.into(),
        codename: String::new(),
    }
}

pub(crate) fn upgrade(name: &str, from: &str, to: &str) -> Shared<Upgrade> {
    Shared::from(Upgrade {
        name: name.into(),
        architecture: "amd64".into(),
        from: from.into(),
        to: to.into(),
        origin: debian(true),
        sha256: Digest::of(format!("{name} {to}").as_bytes()),
        size: 1000,
        source_version: to.into(),
        brings: vec![],
        removes: vec![],
    })
}

pub(crate) fn service(unit: &str) -> Service {
    Service {
        unit: unit.into(),
        active: "active".into(),
        sub: "running".into(),
        enabled: "enabled".into(),
    }
}

pub(crate) fn listener(unit: &str, process: &str, address: &str) -> Listener {
    Listener {
        protocol: "tcp".into(),
        address: address.into(),
        port: 80,
        process: process.into(),
        unit: unit.into(),
    }
}

/// A host with openssl (two binaries), nginx and a kernel; everything but the kernel has a security upgrade.
pub(crate) fn host(id: &str, labels: &[(&str, &str)]) -> Host {
    let inventory = Inventory {
        schema: 1,
        os: Os {
            id: "debian".into(),
            version: "12".into(),
            codename: "bookworm".into(),
            pretty: "Debian 12".into(),
        },
        architecture: "amd64".into(),
        kernel: Kernel {
            running: "6.1.0-28-amd64".into(),
            from_package: true,
            ..Kernel::default()
        },
        boot_id: "b".into(),
        packages: vec![
            package("libssl3", "openssl", "3.0.1"),
            package("linux-image-6.1.0-28-amd64", "linux-signed-amd64", "6.1.119+1"),
            package("linux-image-amd64", "linux-signed-amd64", "6.1.119+1"),
            package("nginx", "nginx", "1.22.1"),
            package("openssl", "openssl", "3.0.1"),
        ]
        .into(),
        languages: vec![],
        upgrades: vec![
            upgrade("libssl3", "3.0.1", "3.0.2"),
            upgrade("nginx", "1.22.1", "1.22.2"),
            upgrade("openssl", "3.0.1", "3.0.2"),
        ],
        services: vec![service("cron.service"), service("nginx.service"), service("ssh.service")],
        listeners: vec![
            listener("nginx.service", "nginx", "0.0.0.0"),
            listener("ssh.service", "sshd", "0.0.0.0"),
        ],
        stale: vec![],
        in_use: vec!["libssl3".into(), "nginx".into()],
        exposed: vec!["nginx".into()],
        reboot_needed: vec![],
        configuration: BTreeMap::new(),
        held: vec![],
        ..Inventory::default()
    };
    Host {
        id: id.into(),
        name: format!("{id}.example.org"),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        enrolled_at: Timestamp::UNIX_EPOCH,
        last_seen: Some(at(NOW)),
        agent_version: "0.1.0".into(),
        inventory: Some(inventory.into()),
        cohort: None,
        inventory_digest: None,
        quarantined: None,
        listed: None,
    }
}

pub(crate) fn inventory(host: &mut Host) -> &mut Inventory {
    Arc::make_mut(host.inventory.as_mut().unwrap())
}

pub(crate) fn finding(
    host: &str,
    id: &str,
    source: &str,
    binaries: &[&str],
    fixed: Option<&str>,
) -> Finding {
    Finding {
        host: host.into(),
        id: id.into(),
        source: source.into(),
        installed: "1".into(),
        binaries: binaries.iter().map(|b| (*b).to_owned()).collect(),
        state: if fixed.is_some() { FindingState::Open } else { FindingState::NoFixYet },
        fixed_version: fixed.map(str::to_owned),
        offered: fixed.is_some(),
        in_use: true,
        exposed: true,
        urgency: String::new(),
        ranking: Ranking::default(),
        class: String::new(),
        deadline: None,
    }
}

/// A fleet with all that a plan is made from.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) policy: Policy,
    pub(crate) policies: Vec<Policy>,
    pub(crate) fleet: Vec<Host>,
    pub(crate) only: Option<BTreeSet<HostId>>,
    pub(crate) findings: BTreeMap<HostId, Vec<Finding>>,
    pub(crate) barred: Vec<Barred>,
    pub(crate) recalls: Vec<Recall>,
    pub(crate) busy: BTreeMap<HostId, RolloutId>,
    pub(crate) seed: u64,
    pub(crate) serving: Option<Pool>,
}

impl World {
    pub(crate) fn new(policy: Policy, fleet: Vec<Host>) -> Self {
        let (policies, only, findings) = (vec![], None, BTreeMap::new());
        Self {
            policy,
            policies,
            fleet,
            only,
            findings,
            barred: vec![],
            recalls: vec![],
            busy: BTreeMap::new(),
            seed: 7,
            serving: None,
        }
    }

    /// One host, `h`, and a change to it.
    pub(crate) fn one(policy: Policy, change: impl FnOnce(&mut Host)) -> Self {
        let mut h = host("h", &[]);
        change(&mut h);
        Self::new(policy, vec![h])
    }

    pub(crate) fn with(mut self, finding: Finding) -> Self {
        self.findings.entry(finding.host.clone()).or_default().push(finding);
        self
    }

    pub(crate) fn plan(&self) -> Plan {
        let shared = |(id, all): (&HostId, &Vec<Finding>)| {
            (id.clone(), all.iter().cloned().map(Shared::from).collect())
        };
        let findings = self.findings.iter().map(shared).collect();
        make(PlanInput {
            number: 1,
            parent: None,
            policy: &self.policy,
            policies: &self.policies,
            fleet: &self.fleet,
            only: self.only.as_ref(),
            findings: &findings,
            barred: &self.barred,
            recalls: &self.recalls,
            busy: &self.busy,
            serving: self.serving,
            silent_after_seconds: 900,
            now: at(NOW),
            seed: self.seed,
        })
    }
}

/// Packages that the plan changes on a host.
pub(crate) fn changed(plan: &Plan, host: &str) -> Vec<String> {
    let host = plan.hosts.get(&HostId::from(host));
    host.into_iter().flat_map(|h| &h.order.changes).map(|c| c.name.clone()).collect()
}

/// Reasons for which a package (or, `""`, the whole host) is held.
pub(crate) fn held(plan: &Plan, package: &str) -> Vec<Hold> {
    let found: Vec<_> = plan.held().filter(|h| h.package == package).collect();
    assert!(found.len() <= 1, "{package} is held twice: {found:?}");
    found.first().map(|h| h.reasons.clone()).unwrap_or_default()
}

pub(crate) fn quarantine() -> Option<Quarantine> {
    Some(Quarantine { since: at(NOW), reason: "undo failed".into() })
}
