//! What has no agent: images and appliances, known by a bill of materials that an operator hands in.

use crate::access::Who;
use crate::agents::check_name;
use crate::app::{App, now};
use crate::judging::judge;
use crate::trust::{hex, random};
use fettle_core::host::{Labels, Listed, parse_label};
use fettle_core::inventory::Inventory;
use fettle_core::{Digest, HostId, Problem, ProblemKind};
use fettle_store::{StoreError, hosts};
use fettle_vuln::exposure::release_name;
use fettle_vuln::sbom;
use std::sync::Arc;

/// More packages than any host has: no inventory, neither of an agent.
const MOST_PACKAGES: usize = 100_000;

/// What an operator hands in.
pub(crate) struct Given<'a> {
    /// What it is to be called.
    pub(crate) name: &'a str,
    /// CycloneDX or SPDX 2, in JSON.
    pub(crate) bytes: &'a [u8],
    /// Of which system, where the document does not say, or not rightly.
    pub(crate) release: Option<String>,
    /// `key=value,key=value`. `None`: as they were.
    pub(crate) labels: Option<String>,
}

/// Takes in a bill of materials, and judges what it is of. The same document again changes nothing but who handed it in
/// and when.
pub(crate) fn import(app: &App, who: &Who, given: &Given<'_>) -> Result<HostId, Problem> {
    let name = check_name(given.name)?;
    let labels = given.labels.as_deref().map(labels).transpose()?;
    let (of, inventory) = read(given)?;
    let new = HostId(format!("h-{}", hex(&random::<8>()?)));
    let at = now();
    let listed = Listed { at, by: who.name.clone(), of, document: Digest::of(given.bytes) };
    app.store.write::<_, Problem>(&who.actor(), at, |tx| {
        let id = match hosts::find(tx, name) {
            Ok(known) if known.host.name == name && known.host.listed.is_some() => known.host.id,
            Ok(_) => return Err(has_agent(name)),
            Err(StoreError::Missing { .. }) => {
                let nothing = Labels::new();
                let new = hosts::NewHost { id: &new, name, labels: &nothing, agent_version: "" };
                hosts::enrol(tx, &new)?;
                new.id.clone()
            }
            Err(other) => return Err(other.into()),
        };
        if let Some(labels) = &labels {
            hosts::set_labels(tx, &id, labels)?;
        }
        hosts::set_listed(tx, &id, &listed)?;
        hosts::set_inventory(tx, &id, &inventory)?;
        let mut host = hosts::find(tx, id.as_str())?.host;
        host.inventory = Some(Arc::new(inventory));
        judge(app, tx, &host)?;
        Ok(id)
    })
}

/// What the document is of, and what it lists.
fn read(given: &Given<'_>) -> Result<(String, Inventory), Problem> {
    let unusable = |what: String| {
        let hint = "hand in a CycloneDX or SPDX 2 document in JSON, as syft and trivy write it";
        Problem::new(ProblemKind::BadInput, "sbom-unusable", what, hint)
    };
    let read = sbom::parse(given.bytes)
        .map_err(|e| unusable(format!("the bill of materials cannot be used: {e}")))?;
    let count = read.packages.len() + read.languages.len();
    if count == 0 {
        return Err(unusable("it lists no package that can be judged".to_owned()));
    }
    if count > MOST_PACKAGES {
        return Err(unusable(format!("it lists {count} packages, more than {MOST_PACKAGES}")));
    }
    let told = given.release.as_deref().map(str::trim).filter(|r| !r.is_empty());
    if let Some(odd) = told.filter(|r| !is_release(r)) {
        let message = format!("`{}` is no release", odd.escape_default());
        let hint = "write it as bookworm, almalinux:9";
        return Err(Problem::new(ProblemKind::Usage, "bad-query", message, hint));
    }
    let os = told.map_or_else(|| read.os.clone(), sbom::system);
    // `debian:`: a system, and not which release of it.
    if os.id.is_empty() || release_name(&os).ends_with(':') {
        let message = match os.id.as_str() {
            "" => "it does not say of which system its packages are".to_owned(),
            id => format!("it does not say of which release of {id} its packages are"),
        };
        let hint = "say it: --release bookworm, --release almalinux:9";
        return Err(Problem::new(ProblemKind::BadInput, "sbom-without-system", message, hint));
    }
    Ok((read.name.clone(), read.into_inventory(os)))
}

/// A release is shown to people: short and plain.
fn is_release(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":.-_".contains(c);
    text.len() <= 64 && text.chars().all(plain)
}

fn labels(text: &str) -> Result<Labels, Problem> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(parse_label).collect::<Result<_, _>>().map_err(|e| {
        let hint = "write key=value, several with commas between them";
        Problem::new(ProblemKind::Usage, "bad-label", e, hint)
    })
}

fn has_agent(name: &str) -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "host-enrolled",
        format!("{name} is enrolled with an agent, which tells what it holds itself"),
        format!(
            "give it another name; if that machine is gone, retire it first: `fettle host retire {name} --confirm {name}`"
        ),
    )
}
