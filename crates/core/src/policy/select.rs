//! Which hosts a selector means, which ring a host is in, which policy governs it.

use super::{Policy, RingRule, SourceRule, glob};
use crate::host::Host;
use crate::inventory::Origin;
use std::fmt;

impl SourceRule {
    /// Does the rule allow upgrades from there?
    pub fn matches(&self, origin: &Origin) -> bool {
        let fits = |rule: &Option<String>, found: &str| {
            rule.as_ref().is_none_or(|p| glob::matches(p, found))
        };
        fits(&self.origin, &origin.origin)
            && fits(&self.label, &origin.label)
            && fits(&self.suite, &origin.suite)
    }
}

impl Policy {
    /// The first ring that matches the host. `None`: no ring does.
    pub fn ring_of(&self, host: &Host) -> Option<&RingRule> {
        self.rings.iter().find(|r| r.select.matches(host))
    }

    /// May upgrades from there be taken?
    pub fn allows(&self, origin: &Origin) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|s| s.matches(origin))
    }
}

/// Several policies of the same, highest priority select the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ambiguous {
    /// What people call the host.
    pub host: String,
    /// The priority they share.
    pub priority: i32,
    /// Their names, sorted; two at least.
    pub policies: Vec<String>,
}

impl fmt::Display for Ambiguous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.policies.iter().map(|n| format!("`{n}`")).collect();
        write!(
            f,
            "host {} is selected by policies {}, all of priority {}: give one of them a higher `priority`, \
             or narrow their `select`",
            self.host,
            names.join(" and "),
            self.priority
        )
    }
}
impl std::error::Error for Ambiguous {}

/// The policy that governs a host: of those that select it, the one of the highest priority.
///
/// # Errors
/// [`Ambiguous`] where several share the highest priority; it names all of them.
pub fn choose<'a>(policies: &'a [Policy], host: &Host) -> Result<Option<&'a Policy>, Ambiguous> {
    let selecting: Vec<&Policy> = policies.iter().filter(|p| p.select.matches(host)).collect();
    let Some(highest) = selecting.iter().map(|p| p.priority).max() else { return Ok(None) };
    let best: Vec<&Policy> = selecting.into_iter().filter(|p| p.priority == highest).collect();
    match best[..] {
        [one] => Ok(Some(one)),
        _ => {
            let mut policies: Vec<String> = best.iter().map(|p| p.name.clone()).collect();
            policies.sort();
            Err(Ambiguous { host: host.name.clone(), priority: highest, policies })
        }
    }
}
