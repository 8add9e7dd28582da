//! What a policy owes for a finding, and by when.

use super::{ClassRule, Policy};
use crate::Timestamp;
use crate::finding::{Finding, FindingState};
use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::TimeZone;

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
    }

    /// Does the rule match every finding?
    pub fn is_catch_all(&self) -> bool {
        let Self { cvss_at_least, epss_at_least, severity_at_least, kev, in_use, exposed, .. } =
            self;
        cvss_at_least.is_none()
            && epss_at_least.is_none()
            && severity_at_least.is_none()
            && kev.is_none()
            && in_use.is_none()
            && exposed.is_none()
    }
}

impl Policy {
    /// The first class whose conditions hold. `None`: the policy owes nothing by a date.
    pub fn classify(&self, finding: &Finding) -> Option<&ClassRule> {
        self.classes.iter().find(|c| c.matches(finding))
    }

    /// Fills in class and deadline, or empties them.
    ///
    /// The deadline counts from midnight (UTC) of the day the vendor published, else from `first_seen`; the day
    /// that CISA's catalogue names, to its end (UTC), takes its place where it is earlier. What nobody can fix
    /// yet, or what is accepted, has a class and no deadline.
    pub fn rate(&self, finding: &mut Finding, first_seen: Timestamp) {
        let Some(class) = self.classify(finding) else {
            finding.class = String::new();
            finding.deadline = None;
            return;
        };
        let from = finding.ranking.published.and_then(midnight).unwrap_or(first_seen);
        let owed = after(from, class.deadline_seconds);
        let kev = finding.ranking.kev.as_ref().and_then(|k| midnight(k.due_date.tomorrow().ok()?));
        finding.class = class.name.clone();
        finding.deadline = match finding.state {
            FindingState::NoFixYet | FindingState::Accepted => None,
            _ => Some(kev.map_or(owed, |due| due.min(owed))),
        };
    }
}

/// The first instant of a day, UTC. `None` at the very end of time.
fn midnight(date: Date) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()
}

/// So many seconds later; the end of time where that is beyond it.
pub(super) fn after(at: Timestamp, seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
