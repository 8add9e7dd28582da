//! The order for one host: do this transaction, in this window, once. Typed, never shell.

use crate::inventory::Upgrade;
use crate::policy::glob;
use crate::testbed::TestOrder;
use crate::{AssignmentId, Digest, HostId, RolloutId, Shared, Timestamp, TransactionId};
use serde::{Deserialize, Serialize};

/// Generations may not leap further than this beyond what is known of a host, whichever side tells them: one number near
/// the end of all numbers would make every later order look old.
pub const MAX_LEAP: u64 = 1_000_000;

/// Whoever has a generation beyond this did not get it by orders: no server gives so many.
pub const LAST_GENERATION: u64 = 1 << 62;

/// May this be the generation of a host of which `known` is the highest that is known?
pub fn may_be_generation(told: u64, known: u64) -> bool {
    told <= known.saturating_add(MAX_LEAP) && told <= LAST_GENERATION
}

/// An order bound to one host, one plan, one window and one generation. Travels signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// Layout version, 1. An agent refuses a version it does not know.
    pub schema: u32,
    /// Names the assignment; carried out at most once.
    pub id: AssignmentId,
    /// The only host that may carry it out.
    pub host: HostId,
    /// Grows by one with every assignment to this host. An older one is refused; the same number with
    /// other content is an error; the same again is harmless.
    pub generation: u64,
    /// The rollout it belongs to.
    pub rollout: RolloutId,
    /// Digest of the plan it carries out.
    pub plan: Digest,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// Not to be started before.
    pub not_before: Timestamp,
    /// Not to be started after. Undo is exempt.
    pub expires_at: Timestamp,
    /// What to do.
    pub order: Order,
}

/// Everything a host can ever be told to do. Closed: a new order is a new agent version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Order {
    /// Change packages, by the whole transaction.
    Apply(ApplyOrder),
    /// Take an earlier transaction back.
    Undo {
        /// The assignment whose transaction is to be undone.
        assignment: AssignmentId,
        /// Why, for the host's own record.
        reason: String,
    },
    /// Have so much of the traffic. Nothing else on the host is touched.
    Traffic {
        /// Percent of the host's weight in each of its balancers; 0: out of them.
        share: u32,
    },
    /// Try a change on a twin of another host. Only a worker obeys, and nothing of the worker itself is changed.
    Test(Box<TestOrder>),
}

/// What to change, and how.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ApplyOrder {
    /// Exactly these packages; anything else the package manager would add or remove is refused.
    pub changes: Vec<Shared<PackageChange>>,
    /// What happens to configuration files that both sides changed.
    pub conffiles: ConffileRule,
    /// Which services restart.
    pub restart: RestartRule,
    /// May the host reboot itself, if it must to prove the fix?
    pub reboot: RebootRule,
    /// Checked before and after.
    pub probes: Vec<Probe>,
    /// How much slower than before the probes may answer, in percent of the baseline. `None`: not judged.
    pub latency_margin_percent: Option<u32>,
    /// Vulnerabilities that must be proved gone.
    pub fixes: Vec<String>,
    /// Seconds without a reachable server after which the host undoes by itself. `None`: no dead-man's switch.
    pub deadman_seconds: Option<u32>,
    /// Seconds after which a package manager that has not ended counts as hung: what runs in its own control group
    /// is killed, and the change undone. `None`: it is waited for, however long, and reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hung_after_seconds: Option<u32>,
    /// What to do about packages that were half-configured before anything is done.
    #[serde(default, skip_serializing_if = "HalfConfiguredRule::is_refuse")]
    pub half_configured: HalfConfiguredRule,
    /// Seconds within which somebody at the host must confirm the change after its checks, or it is undone. `None`:
    /// nobody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_seconds: Option<u32>,
    /// Symbols that may be missing after the change. Empty: the rehearsal refuses whatever resolved before and does
    /// not after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept_missing: Vec<MissingSymbol>,
    /// The rehearsal has the host's network: some scripts of packages load things from there. An agent that does not know
    /// it rehearses without, which refuses more and touches nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearse_online: bool,
}

/// A symbol that a changed file may lack: some packages of vendors come with a plug-in that uses a symbol which none
/// of their own libraries has, and nobody misses it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MissingSymbol {
    /// Its name, as `nm -D` prints it; `*` and `?` are globs.
    pub symbol: String,
    /// Which files may lack it: an absolute path, `*` and `?` are globs.
    pub file: String,
}

impl MissingSymbol {
    /// May this file lack this symbol?
    pub fn covers(&self, file: &str, symbol: &str) -> bool {
        glob::matches(&self.symbol, symbol) && glob::matches(&self.file, file)
    }
}

/// One package to change to one exact version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackageChange {
    /// Binary name.
    pub name: String,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// Version it must have now; empty when it is new on the host.
    pub from: String,
    /// Version it must have afterwards.
    pub to: String,
    /// SHA-256 of the archive.
    pub sha256: Digest,
    /// Size of the archive in bytes.
    pub size: u64,
}

impl From<&Upgrade> for PackageChange {
    fn from(upgrade: &Upgrade) -> Self {
        Self {
            name: upgrade.name.clone(),
            architecture: upgrade.architecture.clone(),
            from: upgrade.from.clone(),
            to: upgrade.to.clone(),
            sha256: upgrade.sha256,
            size: upgrade.size,
        }
    }
}

/// What happens to a configuration file that the administrator and the vendor both changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConffileRule {
    /// The administrator's stays (dpkg `--force-confdef --force-confold`).
    #[default]
    Keep,
    /// The vendor's wins (dpkg `--force-confdef --force-confnew`); the other is in the preimage.
    Replace,
}

/// What happens on a host where a package was left half-configured before anything was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HalfConfiguredRule {
    /// The transaction is refused; a person repairs it.
    #[default]
    Refuse,
    /// `dpkg --configure -a` before everything else; refused if that does not suffice.
    Repair,
}

impl HalfConfiguredRule {
    fn is_refuse(&self) -> bool {
        *self == Self::Refuse
    }
}

/// Which services restart when files they map have been replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestartRule {
    /// Restart nothing: findings stay `pending-restart`.
    #[serde(default)]
    pub never: bool,
    /// Units that are spared, as shell globs: `postgresql@*.service`.
    #[serde(default)]
    pub spare: Vec<String>,
    /// Units that are restarted one after another in this order, as shell globs, before others of the same kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
}

/// May the host reboot?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebootRule {
    /// Never: kernel findings stay `pending-reboot`.
    #[default]
    Never,
    /// When it is needed and the assignment's window is still open.
    WhenNeeded,
}

/// A question whose answer tells whether the host does its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "probe", rename_all = "kebab-case")]
pub enum Probe {
    /// GET by HTTP/1.1 from the host itself.
    Http {
        /// `http://127.0.0.1:80/health`: plain HTTP to an address of the host.
        url: String,
        /// Status that counts as good.
        #[serde(default = "status_ok")]
        status: u16,
        /// Text the body must hold. Empty: anything.
        #[serde(default)]
        contains: String,
    },
    /// A TCP connection is accepted.
    Tcp {
        /// Address and port: `127.0.0.1:22`.
        address: String,
    },
    /// A program of the host's own allow-list (`/etc/fettle/probes.d/NAME`) exits with 0.
    Command {
        /// File name, no slash.
        name: String,
    },
}

fn status_ok() -> u16 {
    200
}

impl Assignment {
    /// The transaction's name on the host: the same for the same assignment, so that a doubled message
    /// cannot start a second one.
    pub fn transaction(&self) -> TransactionId {
        transaction_of(&self.id)
    }
}

/// The one transaction of an assignment.
pub fn transaction_of(id: &AssignmentId) -> TransactionId {
    TransactionId(format!("tx-{}", id.as_str().replace('/', "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_may_be_ahead_of_what_is_known_and_never_out_of_reach() {
        for (told, known, expected) in [
            (0, 0, true),
            (3, 7, true),
            (MAX_LEAP, 0, true),
            (MAX_LEAP + 1, 0, false),
            (u64::MAX, 0, false),
            (u64::MAX, u64::MAX, false),
            (LAST_GENERATION, LAST_GENERATION, true),
            (LAST_GENERATION + 1, LAST_GENERATION, false),
        ] {
            assert_eq!(may_be_generation(told, known), expected, "{told} after {known}");
        }
    }
}
