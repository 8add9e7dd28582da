//! What policies except, by whom, why and until when.

use crate::Timestamp;
use crate::policy::Policy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An exception that ends within so many seconds is called ending.
const SOON: i64 = 14 * 86_400;

/// What is excepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExceptionKind {
    /// A vulnerability is lived with.
    Acceptance,
    /// A package is left alone.
    Exclusion,
    /// A package is kept at certain versions.
    Pin,
}

impl ExceptionKind {
    /// The word, as CLI, API and web print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Acceptance => "acceptance",
            Self::Exclusion => "exclusion",
            Self::Pin => "pin",
        }
    }
}

/// How an exception stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It has ended: it is in the policy's text and covers nothing.
    Ended,
    /// It ends within 14 days.
    Ending,
    /// It stands.
    Stands,
}

impl Standing {
    /// The word, as CLI, API and web print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Ending => "ending",
            Self::Stands => "stands",
        }
    }
}

/// One exception of one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionLine {
    /// The policy.
    pub policy: String,
    /// What it is.
    pub kind: ExceptionKind,
    /// The vulnerability, with ` in SOURCE` where it is for one source package only; or the package, with ` at VERSIONS`
    /// where it is pinned.
    pub what: String,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Until (exclusive).
    pub until: Timestamp,
    /// How it stands now.
    pub standing: Standing,
    /// Findings that an acceptance covers now; of an exclusion this is not counted.
    pub findings: Option<u64>,
}

/// The exceptions of policies, what has ended or ends soonest first. `accepted` is how many findings are accepted now, by
/// policy, vulnerability and source package.
pub fn exceptions(
    policies: &[&Policy],
    accepted: &BTreeMap<(String, String, String), u64>,
    now: Timestamp,
) -> Vec<ExceptionLine> {
    let standing = |until: Timestamp| match until.duration_since(now).as_secs() {
        _ if until <= now => Standing::Ended,
        left if left < SOON => Standing::Ending,
        _ => Standing::Stands,
    };
    let mut out = Vec::new();
    for policy in policies {
        for it in &policy.acceptances {
            let covers = |(of, id, source): &(String, String, String)| {
                *of == policy.name && it.is_about(id, source)
            };
            let findings = accepted.iter().filter(|(key, _)| covers(key)).map(|(_, n)| n).sum();
            out.push(ExceptionLine {
                policy: policy.name.clone(),
                kind: ExceptionKind::Acceptance,
                what: match &it.source {
                    Some(source) => format!("{} in {source}", it.finding),
                    None => it.finding.clone(),
                },
                owner: it.owner.clone(),
                reason: it.reason.clone(),
                until: it.until,
                standing: standing(it.until),
                findings: Some(findings),
            });
        }
        out.extend(policy.exclusions.iter().map(|it| ExceptionLine {
            policy: policy.name.clone(),
            kind: ExceptionKind::Exclusion,
            what: it.package.clone(),
            owner: it.owner.clone(),
            reason: it.reason.clone(),
            until: it.until,
            standing: standing(it.until),
            findings: None,
        }));
        out.extend(policy.pins.iter().map(|it| ExceptionLine {
            policy: policy.name.clone(),
            kind: ExceptionKind::Pin,
            what: format!("{} at {}", it.package, it.version),
            owner: it.owner.clone(),
            reason: it.reason.clone(),
            until: it.until,
            standing: standing(it.until),
            findings: None,
        }));
    }
    out.sort_by(|a, b| (a.until, &a.policy, &a.what).cmp(&(b.until, &b.policy, &b.what)));
    out
}
