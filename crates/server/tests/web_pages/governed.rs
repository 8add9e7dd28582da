//! A policy with its windows and versions, and what follows from it for a host of the fleet that never was.

use super::*;
use fettle_core::host::Host;
use fettle_core::policy::{
    ExplainInput, Explained, Known as KnownFinding, Policy, WindowCalendar, explain, settings,
};
use fettle_server::web::pages::PolicyVersions;

const TEXT: &str = r#"# What production hosts are owed.
[policy]
name = "production"
select = "env=prod"
description = "Security updates for production, canary first"
approvals = 1

[[class]]
name = "critical"
kev = true
deadline = "2d"

[[class]]
name = "standard"
deadline = "30d"

[[ring]]
name = "canary"
select = "ring=canary"
soak = "1h"

[[ring]]
name = "broad"

[[window]]
days = ["mon", "tue", "wed", "thu"]
start = "22:00"
duration = "4h"
time-zone = "Europe/Berlin"

[[window]]
days = ["sat"]
start = "08:00"
duration = "10h"
time-zone = "America/New_York"

[[blackout]]
from = 2026-11-27
to = 2026-11-30
reason = "the week of the sales"

[[exclude]]
package = "perl*"
until = 2027-01-31
reason = "the billing scripts break with it"
owner = "carol"
"#;

fn governing() -> Policy {
    Policy::parse(TEXT).unwrap_or_else(|errors| panic!("{errors:?}"))
}

pub(crate) fn calendar() -> WindowCalendar {
    governing().window_calendar(now(), 5)
}

fn version(version: u64, text: &str, in_force: bool) -> PolicyVersion {
    PolicyVersion {
        version,
        digest: Digest::of(text.as_bytes()),
        applied_at: ago(400_000 - version as i64 * 100_000),
        applied_by: if version == 1 { HOSTILE.into() } else { "operator:alice".into() },
        in_force,
        text: text.into(),
    }
}

pub(crate) fn policy_versions() -> Vec<PolicyVersion> {
    let before = TEXT.replace("\"2d\"", "\"7d\"").replace("approvals = 1\n", "");
    let first = before.replace("soak = \"1h\"", &format!("# {HOSTILE}"));
    vec![version(3, TEXT, true), version(2, &before, false), version(1, &first, false)]
}

pub(crate) fn policy_difference() -> PolicyVersions {
    let mut all = policy_versions();
    let (to, from) = (all.remove(0), all.remove(1));
    let parsed = |v: &PolicyVersion| Policy::parse(&v.text).unwrap();
    let settings = Ok(settings(&parsed(&from), &parsed(&to)));
    PolicyVersions { name: "production".into(), from, to, settings }
}

pub(crate) fn stages() -> Vec<(String, u64)> {
    vec![("canary".into(), 1), ("broad".into(), 7), (String::new(), 1)]
}

/// What would be done next on web-2, which has six upgrades, one of them left alone.
pub(crate) fn next() -> Explained {
    let it = host();
    let inventory = Inventory {
        upgrades: it.inventory.iter().flat_map(|i| i.upgrades.iter().cloned()).collect(),
        ..it.inventory.clone().unwrap()
    };
    let host = Host {
        id: id("web-2"),
        name: "web-2".into(),
        labels: [("env", "prod"), ("role", "web")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        enrolled_at: ago(9_000_000),
        last_seen: Some(ago(10)),
        agent_version: "0.1.0".into(),
        cohort: None,
        inventory_digest: Some(inventory.digest()),
        listed: None,
        inventory: Some(Arc::new(inventory)),
        quarantined: None,
    };
    let findings: Vec<KnownFinding> = (0..6)
        .map(|n| KnownFinding {
            finding: finding(n, "web-2", FindingState::Open).finding,
            first_seen: ago(500_000),
        })
        .collect();
    explain(ExplainInput {
        host: &host,
        policies: &[governing()],
        fleet: &[],
        findings: &findings,
        barred: &[],
        recalls: &[],
        busy: None,
        waiting: &[],
        serving: None,
        silent_after_seconds: 3600,
        now: now(),
    })
}
