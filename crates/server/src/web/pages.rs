//! Every page, one function each. All take the [`View`](super::View) first and return a whole document.

pub use super::account::{AccountNotes, account};
pub use super::cve::{CveFilter, cve, cves};
pub use super::error::{error, errors};
pub use super::feed::feeds;
pub use super::finding::{FindingFilter, finding, findings};
pub use super::host::{HostFilter, host, hosts};
pub use super::host_packages::{HostPackage, HostPackages, host_packages};
pub use super::ledger::{ChainSeen, LedgerPart, ledger};
pub use super::login::{login, problem, setup};
pub use super::overview::overview;
pub use super::package::{PackageFilter, package, packages};
pub use super::plan::{plan, plan_part, plans};
pub use super::plan_diff::plan_diff;
pub use super::plan_parts::PlanPart;
pub use super::policy::{PolicyAround, policies, policy};
pub use super::policy_diff::{PolicyVersions, policy_diff};
pub use super::recall::{recall, recalls};
pub use super::report::{document as report_document, report};
pub use super::rollout::{rollout, rollouts};
pub use super::search::search;
pub use super::settings::settings;
pub use super::wall::wall;
