//! What was found, for other programs: [`cyclonedx()`] (an SBOM that carries VEX), the same of many hosts ([`FleetBill`]), and
//! [`sarif()`]. Pure: values in, JSON out.

use crate::exposure::{Reason, is_packages_alone};
use fettle_core::Timestamp;
use fettle_core::finding::{Finding, FindingState, Severity};
use fettle_core::inventory::Inventory;

mod cyclonedx;
mod fleet;
mod sarif;

pub use cyclonedx::cyclonedx;
pub use fleet::{FleetBill, Member};
pub use sarif::sarif;

/// A host and what was found on it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What people call it.
    pub name: &'a str,
    /// What it has.
    pub inventory: &'a Inventory,
    /// What was found, each with its reasons in the order they are best read.
    pub findings: &'a [(Finding, Vec<Reason>)],
    /// The file that lists what it has, where it was read from one that somebody named.
    pub read_from: Option<&'a str>,
    /// When it was looked at.
    pub at: Timestamp,
    /// The program that writes: `fettle-agent`.
    pub tool: &'a str,
    /// Its version.
    pub version: &'a str,
}

/// What of a finding was not looked at, by the names that the agent's JSON has.
const NOT_LOOKED_AT: [&str; 3] = ["offered", "in_use", "exposed"];

/// What of the findings of this host was not looked at: nothing, or where only its packages are known whether a fix is
/// offered, and whether the package is in use or exposed.
pub fn not_looked_at(inventory: &Inventory) -> &'static [&'static str] {
    // In a root nothing of the kind is looked at either, and its findings say so in words.
    if is_packages_alone(inventory) { &NOT_LOOKED_AT } else { &[] }
}

/// To the second, in UTC, as RFC 3339 has it.
fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// All reasons, one a line.
fn reasons(reasons: &[Reason]) -> String {
    reasons.iter().map(|r| r.text.as_str()).collect::<Vec<_>>().join("\n")
}

/// How a finding stands, in one sentence.
fn sentence(finding: &Finding) -> String {
    let Finding { id, source, installed, .. } = finding;
    let fix = match (&finding.fixed_version, finding.state) {
        (_, FindingState::PendingRestart) => "is fixed on disk and still runs".to_owned(),
        (_, FindingState::PendingReboot) => "is fixed after a reboot".to_owned(),
        (_, FindingState::Fixed) => "is gone".to_owned(),
        (_, FindingState::NotAffected) => "does not affect this host, by own statement".to_owned(),
        (Some(fixed), _) => format!("is fixed in {fixed}"),
        (None, _) => "has no fix".to_owned(),
    };
    format!("{id} in {source} {installed} {fix}.")
}

/// What programs that know no `negligible` call it.
fn common_severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Negligible => "info",
        other => other.word(),
    }
}
