//! What a policy owes for a finding, and by when.

use super::{ClassRule, Policy, means};
use crate::Timestamp;
use crate::finding::{Finding, FindingState};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::fmt;

/// By when a fix is owed, and what that is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Deadline {
    /// By when.
    pub at: Timestamp,
    /// Counted from what.
    pub counted: Counted,
}

/// What a deadline is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum Counted {
    /// The beginning of the day (UTC) on which the vendor published, and the class's time from there.
    Published {
        /// That day.
        on: Date,
    },
    /// The vendor gives no date: its first sight on the host, and the class's time from there.
    FirstSeen {
        /// When that was.
        at: Timestamp,
    },
    /// Nothing: CISA's catalogue names the day, and that is earlier than the class's time.
    KevDue {
        /// That day; the deadline is its end (UTC).
        on: Date,
    },
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published { on } => write!(f, "counted from the vendor's publication on {on}"),
            Self::FirstSeen { at } => write!(f, "counted from its first sight here, {at}"),
            Self::KevDue { on } => write!(f, "the day that CISA's catalogue names, {on}"),
        }
    }
}

impl ClassRule {
    /// Do all conditions of the rule hold? What is not known (no CVSS, no EPSS) holds no condition.
    pub fn matches(&self, finding: &Finding) -> bool {
        let at_least = |floor: Option<f32>, found: Option<f32>| {
            floor.is_none_or(|floor| found.is_some_and(|found| found >= floor))
        };
        let is = |wanted: Option<bool>, found: bool| wanted.is_none_or(|wanted| wanted == found);
        at_least(self.cvss_at_least, finding.ranking.cvss)
            && at_least(self.epss_at_least, finding.ranking.epss)
            && self.severity_at_least.is_none_or(|floor| finding.severity() >= floor)
            && is(self.kev, finding.ranking.kev.is_some())
            && is(self.in_use, finding.in_use)
            && is(self.exposed, finding.exposed)
            && (self.packages.is_empty() || self.is_about(finding))
    }

    /// Is the finding in one of the packages that the rule names?
    fn is_about(&self, finding: &Finding) -> bool {
        let names = || finding.binaries.iter().chain([&finding.source]);
        self.packages.iter().any(|pattern| names().any(|name| means(pattern, name)))
    }

    /// Does the rule match every finding?
    pub fn is_catch_all(&self) -> bool {
        let Self { cvss_at_least, epss_at_least, severity_at_least, kev, in_use, exposed, .. } =
            self;
        self.packages.is_empty()
            && cvss_at_least.is_none()
            && epss_at_least.is_none()
            && severity_at_least.is_none()
            && kev.is_none()
            && in_use.is_none()
            && exposed.is_none()
    }
}

impl fmt::Display for ClassRule {
    /// Its conditions, as the text has them; of one without, that it takes every finding.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cvss_at_least, epss_at_least, severity_at_least, kev, in_use, exposed, .. } =
            self;
        let score = |key: &str, floor: &Option<f32>| floor.map(|v| format!("{key} = {v}"));
        let is = |key: &str, wanted: &Option<bool>| wanted.map(|v| format!("{key} = {v}"));
        let asked: Vec<String> = [
            score("cvss-at-least", cvss_at_least),
            score("epss-at-least", epss_at_least),
            severity_at_least.map(|v| format!("severity-at-least = {}", v.word())),
            is("kev", kev),
            is("in-use", in_use),
            is("exposed", exposed),
            Some(format!("packages = {}", self.packages.join(" or ")))
                .filter(|_| !self.packages.is_empty()),
        ]
        .into_iter()
        .flatten()
        .collect();
        if asked.is_empty() { f.write_str("every finding") } else { f.write_str(&asked.join(", ")) }
    }
}

impl Policy {
    /// The first class whose conditions hold. `None`: the policy owes nothing by a date.
    pub fn classify(&self, finding: &Finding) -> Option<&ClassRule> {
        self.classes.iter().find(|c| c.matches(finding))
    }

    /// The class of a finding, and the deadline it owes. `None`: the policy owes nothing.
    ///
    /// The deadline counts from midnight (UTC) of the day the vendor published, else from `first_seen`; the day
    /// that CISA's catalogue names, to its end (UTC), takes its place where it is earlier. What nobody can fix
    /// yet, or what is accepted, has a class and no deadline.
    pub fn owes(
        &self,
        finding: &Finding,
        first_seen: Timestamp,
    ) -> Option<(&ClassRule, Option<Deadline>)> {
        let class = self.classify(finding)?;
        if matches!(
            finding.state,
            FindingState::NoFixYet | FindingState::Accepted | FindingState::NotAffected
        ) {
            return Some((class, None));
        }
        let published = finding.ranking.published.and_then(|on| Some((on, midnight(on)?)));
        let (from, counted) = match published {
            Some((on, midnight)) => (midnight, Counted::Published { on }),
            None => (first_seen, Counted::FirstSeen { at: first_seen }),
        };
        let owed = Deadline { at: crate::later(from, class.deadline_seconds), counted };
        let named = finding.ranking.kev.as_ref().and_then(|kev| {
            let at = midnight(kev.due_date.tomorrow().ok()?)?;
            Some(Deadline { at, counted: Counted::KevDue { on: kev.due_date } })
        });
        Some((class, Some(named.filter(|named| named.at < owed.at).unwrap_or(owed))))
    }

    /// Fills in class and deadline as the policy [owes](Self::owes) them, or empties them.
    pub fn rate(&self, finding: &mut Finding, first_seen: Timestamp) {
        let owed = self.owes(finding, first_seen);
        let (class, deadline) = match owed {
            Some((class, deadline)) => (class.name.clone(), deadline.map(|d| d.at)),
            None => (String::new(), None),
        };
        (finding.class, finding.deadline) = (class, deadline);
    }
}

/// The first instant of a day, UTC. `None` at the very end of time.
fn midnight(date: Date) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()
}

#[cfg(test)]
mod tests;
