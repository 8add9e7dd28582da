//! How numbers, times and events read, for every face: the web pages and the command line print from here.

use fettle_core::report::TimeToPatch;
use fettle_core::rollout::{Phase, RolloutEvent, Waiting};
use fettle_core::transaction::{Outcome, Progress, Step};
use fettle_core::{HostId, Timestamp};

/// `1,234,567`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 host`, `2 hosts`; words on `-y` and `-x` included (`policy`, `fix`).
pub fn counted(n: u64, word: &str) -> String {
    if n == 1 {
        return format!("1 {word}");
    }
    let plural = match word {
        "vulnerability" => "vulnerabilities".to_owned(),
        _ if word.ends_with("cy") => format!("{}ies", &word[..word.len() - 1]),
        _ if word.ends_with('x') || word.ends_with("ss") || word.ends_with("ch") => {
            format!("{word}es")
        }
        _ if word.ends_with("try") => format!("{}ies", &word[..word.len() - 1]),
        _ => format!("{word}s"),
    };
    format!("{} {plural}", number(n))
}

/// `1.4 MB`: decimal units (SI), as disk and network people count.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n} B"),
        _ if value < 9.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// `97.3 %` of thousandths; `–`: of nothing.
pub fn share(permille: Option<u32>) -> String {
    permille.map_or("–".to_owned(), |n| format!("{}.{} %", n / 10, n % 10))
}

/// One of the times to patch, as a span; `–`: nothing was patched.
pub fn took(it: &TimeToPatch, of: fn(&TimeToPatch) -> u64) -> String {
    if it.fixed == 0 { "–".to_owned() } else { seconds(of(it)) }
}

/// A span in its two largest units: `850 ms`, `4.2 s`, `3 min 20 s`, `2 h`, `3 d 4 h`.
pub fn milliseconds(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => seconds(ms / 1000),
    }
}

/// As [`milliseconds`], from whole seconds.
pub fn seconds(s: u64) -> String {
    let two = |a: u64, au: &str, b: u64, bu: &str| {
        if b == 0 { format!("{a} {au}") } else { format!("{a} {au} {b} {bu}") }
    };
    match s {
        0..60 => format!("{s} s"),
        60..3600 => two(s / 60, "min", s % 60, "s"),
        3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

/// `just now`, `3 min ago`, `in 2 h`: one unit, rounded down, so that a list can be read at a glance.
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    let difference = now.as_second() - at.as_second();
    let away = difference.unsigned_abs();
    let span = match away {
        0..5 => return "just now".to_owned(),
        5..60 => format!("{away} s"),
        60..3600 => format!("{} min", away / 60),
        3600..172_800 => format!("{} h", away / 3600),
        _ => format!("{} d", away / 86_400),
    };
    if difference > 0 { format!("{span} ago") } else { format!("in {span}") }
}

/// `2026-11-23 08:12:03 UTC`.
pub fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `08:12`, by the clock of a zone.
pub fn clock(at: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%H:%M").to_string()
}

/// `2026-11-23T08:12:03Z` (RFC 3339), whole seconds.
pub fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// EPSS as people say it: `94 %`, `0.3 %`.
pub fn percent(probability: f32) -> String {
    let p = f64::from(probability) * 100.0;
    if p >= 9.95 { format!("{p:.0} %") } else { format!("{p:.1} %") }
}

/// The word of a rollout's phase: `running`, `paused`, `halted`, `aborted`, `done`.
pub fn phase(phase: &Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Paused { .. } => "paused",
        Phase::Halted { .. } => "halted",
        Phase::Aborted { .. } => "aborted",
        Phase::Done => "done",
    }
}

/// Why a rollout does not run, where it does not.
pub fn phase_reason(phase: &Phase) -> Option<String> {
    match phase {
        Phase::Running | Phase::Done => None,
        Phase::Paused { by, reason } => Some(said("paused", by, reason)),
        Phase::Aborted { by, reason } => Some(said("aborted", by, reason)),
        Phase::Halted { hold } => Some(hold.to_string()),
    }
}

fn said(verb: &str, by: &str, reason: &str) -> String {
    if reason.is_empty() { format!("{verb} by {by}") } else { format!("{verb} by {by}: {reason}") }
}

/// What happened, in one line. `name` turns ids into what people call the hosts.
pub fn event(event: &RolloutEvent, name: &dyn Fn(&HostId) -> String) -> String {
    match event {
        RolloutEvent::Created { by, plan, approvals, .. } => {
            // Where it is told, its hosts may have been left out: each is in one of the waves.
            let hosts: usize = plan.waves.iter().map(|wave| wave.hosts.len()).sum();
            let by_whom = approvals.iter().map(|a| a.by.as_str()).collect::<Vec<_>>().join(" and ");
            format!(
                "started by {by}: plan {}, {} in {}{}",
                plan.number,
                counted(plan.hosts.len().max(hosts) as u64, "host"),
                counted(plan.waves.len() as u64, "wave"),
                if by_whom.is_empty() { by_whom } else { format!(", approved by {by_whom}") },
            )
        }
        RolloutEvent::Tested { tests } => {
            format!("ring 0 passed: {} on twins", counted(tests.len() as u64, "good test"))
        }
        RolloutEvent::Granted { host, generation, .. } => {
            format!("{} is given its order (generation {generation})", name(host))
        }
        RolloutEvent::GrantExpired { host } => {
            format!("{} did not take up its order in time", name(host))
        }
        RolloutEvent::Foretold { host, changing_seconds } => {
            format!("{} has rehearsed: its change takes about {changing_seconds} s", name(host))
        }
        RolloutEvent::Redeemed { host } => {
            format!("{} takes up its order: from here it may change", name(host))
        }
        RolloutEvent::Stepped { host, step } => format!("{}: {}", name(host), step.word()),
        RolloutEvent::Ended { host, outcome } => match outcome_reason(outcome) {
            Some(why) => format!("{} is {}: {why}", name(host), outcome.word()),
            None => format!("{} is {} and verified", name(host), outcome.word()),
        },
        RolloutEvent::Silent { host, last_seen: Some(at) } => {
            format!("{} fell silent: last heard of at {}", name(host), utc(*at))
        }
        RolloutEvent::Silent { host, last_seen: None } => format!("{} fell silent", name(host)),
        RolloutEvent::Cancelled { host, hold } => {
            format!("{} is left as it is: {hold}", name(host))
        }
        RolloutEvent::WaveEnded { wave } => {
            format!("wave {} has ended; its hosts are watched", wave + 1)
        }
        RolloutEvent::GatePassed { wave, .. } => format!("the gate after wave {} passed", wave + 1),
        RolloutEvent::WaveApproved { wave, by, comment, .. } => {
            said(&format!("wave {} let begin", wave + 1), by, comment)
        }
        RolloutEvent::Halted { hold, .. } => format!("halted: {hold}"),
        RolloutEvent::Barred { versions, cohorts, reason } => {
            let what: Vec<String> =
                versions.iter().map(|(package, version)| format!("{package} {version}")).collect();
            format!(
                "{} barred for {}: {reason}",
                what.join(", "),
                counted(cohorts.len() as u64, "cohort")
            )
        }
        RolloutEvent::Paused { by, reason } => said("paused", by, reason),
        RolloutEvent::Resumed { by, reason } => said("resumed", by, reason),
        RolloutEvent::Aborted { by, reason } => said("aborted", by, reason),
        RolloutEvent::UndoAsked { host, reason, .. } if reason.is_empty() => {
            format!("{} is to be undone", name(host))
        }
        RolloutEvent::UndoAsked { host, reason, .. } => {
            format!("{} is to be undone: {reason}", name(host))
        }
        RolloutEvent::TrafficAsked { host, share: 0, .. } => {
            format!("{} is to get no more requests", name(host))
        }
        RolloutEvent::TrafficAsked { host, share, .. } => {
            format!("{} is to get requests: {share} % of its weight", name(host))
        }
        RolloutEvent::TrafficSet { host, .. } => {
            format!("{}: its balancers agree", name(host))
        }
        RolloutEvent::TrafficFailed { host, reason, .. } => {
            format!("{}: its traffic could not be set: {reason}", name(host))
        }
        RolloutEvent::TrafficDeferred { host, reason, .. } => {
            format!("{}: its traffic may not be set yet: {reason}", name(host))
        }
        RolloutEvent::Done => "done: every host ended".to_owned(),
    }
}

/// What is waited for, in one line, with the host's name where it is about one.
pub fn waiting(waiting: &Waiting, name: &dyn Fn(&HostId) -> String) -> String {
    match &waiting.host {
        Some(host) => format!("{}: {}", name(host), waiting.hold),
        None => waiting.hold.to_string(),
    }
}

/// Why a transaction did not end patched, where it did not.
pub fn outcome_reason(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Patched | Outcome::Switched => None,
        Outcome::Undone { reason } | Outcome::Quarantined { reason } => Some(reason.clone()),
        Outcome::Refused { fault } => Some(fault.message.clone()),
    }
}

/// How a step of a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// Not reached.
    Ahead,
    /// At work.
    Running,
    /// Done.
    Finished,
    /// Did not succeed.
    Failed,
}

/// How each of the nine steps stands.
pub fn steps(progress: &Progress) -> [(Step, StepState); 9] {
    Step::ALL.map(|step| {
        let failed = progress.failed.as_ref().is_some_and(|(s, _)| *s == step);
        let state = if failed {
            StepState::Failed
        } else if progress.finished.contains_key(&step) {
            StepState::Finished
        } else if progress.running == Some(step) && progress.outcome.is_none() {
            StepState::Running
        } else {
            StepState::Ahead
        };
        (step, state)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 7, 999, 1000, 12_345, 1_234_567].map(number);
        assert_eq!(texts, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn one_thing_is_one_and_more_are_many() {
        assert_eq!(counted(1, "host"), "1 host");
        assert_eq!(counted(0, "policy"), "0 policies");
        assert_eq!(counted(2, "fix"), "2 fixes");
        assert_eq!(counted(2, "entry"), "2 entries");
        assert_eq!(counted(2000, "vulnerability"), "2,000 vulnerabilities");
        assert_eq!(counted(2, "day"), "2 days");
        assert_eq!(counted(2, "service"), "2 services");
    }

    #[test]
    fn sizes_and_spans_take_the_unit_that_fits() {
        assert_eq!(
            [0, 999, 1_000, 161_234_567, 999_600].map(bytes),
            ["0 B", "999 B", "1.0 kB", "161 MB", "1.0 MB"]
        );
        assert_eq!(milliseconds(850), "850 ms");
        assert_eq!(milliseconds(4_230), "4.2 s");
        assert_eq!(milliseconds(200_000), "3 min 20 s");
        assert_eq!([59, 3600, 90_000, 172_800].map(seconds), ["59 s", "1 h", "1 d 1 h", "2 d"]);
    }

    #[test]
    fn times_are_told_from_now_in_both_directions() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let told = |s: i64| relative(Timestamp::from_second(1_700_000_000 + s).unwrap(), now);
        assert_eq!(told(0), "just now");
        assert_eq!(told(-59), "59 s ago");
        assert_eq!(told(-3599), "59 min ago");
        assert_eq!(told(-86_400), "24 h ago");
        assert_eq!(told(3 * 86_400), "in 3 d");
    }
}
