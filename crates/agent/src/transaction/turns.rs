//! In which turns units are restarted: what others need comes before them, so that each starts once.

use super::glob;
use crate::unit::{self, value};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

/// A unit that is restarted with another may take so long; then it is restarted in its turn.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(20);

/// Unit → others.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// How units hang together, as far as a restart goes (`systemd.unit(5)`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relations {
    /// Those whose restart restarts the unit as well: `Requires=`, `Requisite=`, `BindsTo=`, `PartOf=`.
    follows: Edges,
    /// Those that must be up before it, where both start.
    after: Edges,
}

impl Relations {
    /// Is something known of each of these?
    pub(super) fn know<'u>(&self, mut units: impl Iterator<Item = &'u String>) -> bool {
        units.all(|unit| self.follows.contains_key(unit))
    }
}

/// Asks systemd about every unit it knows: between two services there may be others, and targets. Empty on a host that
/// was not booted with systemd.
///
/// # Errors
/// When systemd does not answer.
pub(super) fn relations() -> io::Result<Relations> {
    if !unit::booted() {
        return Ok(Relations::default());
    }
    unit::systemctl(&[
        "show",
        "--all",
        "--property=Id,Requires,Requisite,BindsTo,PartOf,After",
        "*",
    ])
    .map(|text| parse(&text))
}

fn parse(text: &str) -> Relations {
    let mut out = Relations::default();
    for block in text.split("\n\n") {
        let names =
            |key: &str| value(block, key).unwrap_or_default().split_whitespace().map(str::to_owned);
        let Some(name) = value(block, "Id").filter(|name| !name.is_empty()) else { continue };
        let follows = ["Requires", "Requisite", "BindsTo", "PartOf"].into_iter().flat_map(names);
        out.follows.entry(name.to_owned()).or_default().extend(follows);
        out.after.entry(name.to_owned()).or_default().extend(names("After"));
    }
    out
}

/// For each of `units`: which others of them it is to come after. Two that come after each other come in no order.
fn order<'u>(edges: &Edges, units: &BTreeSet<&'u str>) -> BTreeMap<&'u str, BTreeSet<&'u str>> {
    let reached = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(name) = open.pop() {
            for next in edges.get(name).into_iter().flatten() {
                if seen.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let all: BTreeMap<&str, BTreeSet<&str>> =
        units.iter().map(|unit| (*unit, reached(unit))).collect();
    let before = |unit: &str| {
        let others = units.iter().filter(|other| {
            **other != unit && all[unit].contains(**other) && !all[**other].contains(unit)
        });
        others.copied().collect()
    };
    units.iter().map(|unit| (*unit, before(unit))).collect()
}

/// Which units are restarted together. Those that nobody talks to come first and at once: systemd knows their order; then
/// those in `waits`, one at a time, so that each is gone for as short as can be; then `last`. Whatever is restarted with
/// another of them comes after that one, wherever it would stand by itself; where that leaves a choice, those come first
/// that others start after; then it goes by name.
///
/// `wanted` names units in the order that policy wants, as globs: each of them has a turn of its own, before those in
/// `waits` that it does not name. It is not kept to against what is restarted with what.
pub(super) fn turns<'u>(
    now: &'u [String],
    last: &'u [String],
    waits: &BTreeSet<String>,
    wanted: &[String],
    relations: &Relations,
) -> Vec<Vec<&'u str>> {
    let rank = |unit: &str| wanted.iter().position(|w| glob(w, unit)).unwrap_or(wanted.len());
    let late: BTreeSet<&str> = last.iter().map(String::as_str).collect();
    let all: BTreeSet<&str> = now.iter().map(String::as_str).chain(late.iter().copied()).collect();
    let follows = order(&relations.follows, &all);
    let after = order(&relations.after, &all);
    let is_alone =
        |unit: &str| waits.contains(unit) || late.contains(unit) || rank(unit) < wanted.len();
    let (mut alone, quiet): (Vec<&str>, Vec<&str>) =
        all.iter().partition(|unit| is_alone(unit) || follows[**unit].iter().any(|u| is_alone(u)));
    let mut turns = Vec::with_capacity(alone.len() + 1);
    turns.extend(Some(quiet).filter(|quiet| !quiet.is_empty()));
    while !alone.is_empty() {
        let waits_for = |order: &BTreeMap<&str, BTreeSet<&str>>, unit: &str| {
            order[unit].iter().any(|other| alone.contains(other))
        };
        let key = |unit: &'u str| {
            let (follows, after) = (waits_for(&follows, unit), waits_for(&after, unit));
            (follows, late.contains(unit), rank(unit), after, unit)
        };
        let Some(next) = alone.iter().copied().min_by_key(|unit| key(unit)) else { break };
        turns.push(vec![next]);
        alone.retain(|unit| *unit != next);
    }
    turns
}

/// Unit → the name of its run, and whether it runs.
type Runs = BTreeMap<String, (String, bool)>;

/// As they are once nothing is left to be done to them: systemd answers when the unit that it was told to restart is up,
/// and those that are restarted with it may be on their way.
fn runs(units: &[&str]) -> io::Result<Runs> {
    let mut arguments = vec!["show", "--property=Id,InvocationID,ActiveState,Job", "--"];
    arguments.extend(units);
    let begun = Instant::now();
    loop {
        let text = unit::systemctl(&arguments)?;
        if !is_under_way(&text) || begun.elapsed() > PATIENCE {
            return Ok(parse_runs(&text));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Does any of them have a job?
fn is_under_way(text: &str) -> bool {
    let mut jobs = text.split("\n\n").filter_map(|block| value(block, "Job"));
    jobs.any(|job| !matches!(job, "" | "0"))
}

fn parse_runs(text: &str) -> Runs {
    let run = |block: &str| {
        let is_active = value(block, "ActiveState")? == "active";
        Some((
            value(block, "Id")?.to_owned(),
            (value(block, "InvocationID")?.to_owned(), is_active),
        ))
    };
    text.split("\n\n").filter_map(run).collect()
}

/// Which of a turn are still to be restarted: those whose run has the name it had before the first turn, and those that
/// do not run. The others were restarted with one that they follow.
fn due<'u>(turn: &[&'u str], before: &Runs, now: &Runs) -> Vec<&'u str> {
    let is_due = |unit: &&&str| match (before.get(**unit), now.get(**unit)) {
        (Some((then, _)), Some((now, is_active))) => then == now || !is_active,
        _ => true,
    };
    turn.iter().filter(is_due).copied().collect()
}

/// Restarts turn by turn, each unit once. `said` gets what systemd did not like, and who was restarted with others.
pub(super) fn restart(turns: &[Vec<&str>], said: &mut Vec<String>) {
    let all: Vec<&str> = turns.iter().flatten().copied().collect();
    if all.is_empty() {
        return;
    }
    // Where systemd does not tell, each is restarted in its turn: twice is better than not at all.
    let before = runs(&all).unwrap_or_default();
    let mut with_others = Vec::new();
    for (n, turn) in turns.iter().enumerate() {
        let now = if n == 0 { before.clone() } else { runs(turn).unwrap_or_default() };
        let due = due(turn, &before, &now);
        with_others.extend(turn.iter().filter(|unit| !due.contains(unit)).copied());
        if due.is_empty() {
            continue;
        }
        let arguments: Vec<&str> = ["restart", "--"].into_iter().chain(due).collect();
        if let Err(e) = unit::systemctl(&arguments) {
            said.push(e.to_string());
        }
    }
    if !with_others.is_empty() {
        said.push(format!("restarted with what they need: {}", with_others.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|s| (*s).to_owned()).collect()
    }
    fn edges(all: &[(&str, &[&str])]) -> Edges {
        all.iter().map(|(from, to)| ((*from).to_owned(), names(to).into_iter().collect())).collect()
    }
    fn words(turns: &[Vec<&str>]) -> String {
        turns.iter().map(|turn| turn.join("+")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn quiet_units_restart_together_and_those_with_peers_one_at_a_time() {
        let waits = BTreeSet::from(["redis", "a"].map(str::to_owned));
        let none = Relations::default();
        let now = names(&["a", "cron", "redis", "acpid"]);
        assert_eq!(
            words(&turns(&now, &names(&["ssh"]), &waits, &[], &none)),
            "acpid+cron a redis ssh"
        );
        assert!(turns(&[], &[], &waits, &[], &none).is_empty());
    }

    #[test]
    fn the_order_that_policy_wants_counts_but_not_against_what_is_restarted_with_what() {
        let waits = BTreeSet::from(["app", "db@1", "web"].map(str::to_owned));
        let now = names(&["app", "cron", "db@1", "web", "worker"]);
        let found = |wanted: &[&str], follows: &[(&str, &[&str])], after: &[(&str, &[&str])]| {
            let relations = Relations { follows: edges(follows), after: edges(after) };
            words(&turns(&now, &names(&["ssh"]), &waits, &names(wanted), &relations))
        };
        assert_eq!(found(&["web", "db@*"], &[], &[]), "cron+worker web db@1 app ssh");
        // One that nobody talks to has a turn of its own, where it is named.
        assert_eq!(found(&["db@*", "worker"], &[], &[]), "cron db@1 worker app web ssh");
        // The order of starting gives way, that of being restarted together does not.
        assert_eq!(
            found(&["web", "app"], &[], &[("web", &["app"])]),
            "cron+worker web app db@1 ssh"
        );
        assert_eq!(
            found(&["web", "app"], &[("web", &["app"])], &[]),
            "cron+worker app web db@1 ssh"
        );
        // A login is cut off last, whatever is wanted.
        assert_eq!(found(&["ssh"], &[], &[]), "cron+worker app db@1 web ssh");
    }

    #[test]
    fn what_is_restarted_with_another_comes_after_it_and_then_the_order_of_starting_counts() {
        type Case<'c> = (&'c [(&'c str, &'c [&'c str])], &'c [(&'c str, &'c [&'c str])], &'c str);
        let cases: [Case<'_>; 8] = [
            (&[], &[], "quiet app db web ssh"),
            (&[("app", &["db"])], &[], "quiet db app web ssh"),
            // Through units that are not restarted themselves.
            (
                &[("app", &["mid"]), ("mid", &["x.target"]), ("x.target", &["web"])],
                &[],
                "quiet db web app ssh",
            ),
            (&[], &[("app", &["web"]), ("db", &["app"])], "quiet web app db ssh"),
            // An umbrella starts after its parts, and restarts them: it comes first all the same.
            (&[("app", &["db"])], &[("db", &["app"])], "quiet web db app ssh"),
            // Nobody talks to it, but it would be restarted a second time.
            (&[("quiet", &["web"])], &[], "app db web quiet ssh"),
            (&[("app", &["ssh"])], &[], "quiet db web ssh app"),
            // Each with the other: any order, and always the same.
            (&[("app", &["db"]), ("db", &["app"]), ("web", &["db"])], &[], "quiet app db web ssh"),
        ];
        let waits = BTreeSet::from(["app", "db", "web"].map(str::to_owned));
        for (follows, after, expected) in cases {
            let relations = Relations { follows: edges(follows), after: edges(after) };
            for now in [["app", "db", "quiet", "web"], ["web", "quiet", "db", "app"]] {
                let (now, last) = (names(&now), names(&["ssh"]));
                let found = turns(&now, &last, &waits, &[], &relations);
                assert_eq!(words(&found), expected, "{relations:?}");
            }
        }
    }

    #[test]
    fn relations_are_read_from_what_systemd_shows() {
        let text = "Id=app.service\nRequires=system.slice db.service\nRequisite=\nBindsTo=disk.mount\nPartOf=all.target\nAfter=db.service network.target\n\n\
                    Id=db.service\nRequires=\nAfter=\n";
        let found = parse(text);
        let follows: Vec<_> = found.follows["app.service"].iter().map(String::as_str).collect();
        assert_eq!(follows, ["all.target", "db.service", "disk.mount", "system.slice"]);
        assert_eq!(found.after["app.service"].len(), 2);
        assert!(found.follows["db.service"].is_empty());
    }

    #[test]
    fn a_unit_that_was_restarted_with_another_is_not_restarted_again_unless_it_is_down() {
        let runs = |all: &[(&str, &str, bool)]| -> Runs {
            all.iter().map(|(n, run, is)| ((*n).to_owned(), ((*run).to_owned(), *is))).collect()
        };
        let before = runs(&[("same", "1", true), ("new", "2", true), ("down", "3", true)]);
        let now = runs(&[("same", "1", true), ("new", "9", true), ("down", "8", false)]);
        let turn = ["same", "new", "down", "untold"];
        assert_eq!(due(&turn, &before, &now), ["same", "down", "untold"]);
    }

    #[test]
    fn a_unit_with_a_job_is_still_under_way() {
        let text = |job: &str| {
            format!(
                "Id=a.service\nInvocationID=1\nActiveState=activating\n{job}\nId=b.service\nInvocationID=2\nActiveState=active\n"
            )
        };
        assert!(is_under_way(&text("Job=812\n")));
        assert!(!is_under_way(&text("Job=\n")) && !is_under_way(&text("Job=0\n")));
        assert!(!is_under_way(&text("")));
        let runs = parse_runs(&text(""));
        assert_eq!(runs["a.service"], ("1".to_owned(), false));
        assert_eq!(runs["b.service"], ("2".to_owned(), true));
    }

    proptest! {
        #[test]
        fn every_unit_has_one_turn_and_none_comes_before_what_restarts_it(
            follows in prop::collection::vec((0usize..9, 0usize..9), 0..16),
            after in prop::collection::vec((0usize..9, 0usize..9), 0..16),
            // Of nine units the last two are not restarted themselves.
            waits in prop::collection::btree_set(0usize..7, 0..7),
            late in prop::collection::btree_set(0usize..7, 0..2),
            wanted in prop::collection::vec(0usize..9, 0..4),
            turned in any::<bool>(),
        ) {
            let name = |n: usize| format!("u{n}");
            let edges = |all: &[(usize, usize)]| -> Edges {
                let mut edges = Edges::new();
                for (from, to) in all {
                    edges.entry(name(*from)).or_default().insert(name(*to));
                }
                edges
            };
            let relations = Relations { follows: edges(&follows), after: edges(&after) };
            let mut now: Vec<String> =
                (0..7).filter(|n| !late.contains(n)).map(name).collect();
            let last: Vec<String> = late.iter().copied().map(name).collect();
            let waits: BTreeSet<String> = waits.into_iter().map(name).collect();
            let wanted: Vec<String> = wanted.into_iter().map(name).collect();
            let found = turns(&now, &last, &waits, &wanted, &relations)
                .into_iter().map(|t| t.into_iter().map(str::to_owned).collect()).collect::<Vec<Vec<_>>>();
            let mut all: Vec<String> = found.iter().flatten().cloned().collect();
            let place = |unit: &str| found.iter().position(|t| t.iter().any(|u| u == unit));
            let units: BTreeSet<&str> = all.iter().map(String::as_str).collect();
            for (unit, others) in order(&relations.follows, &units) {
                for other in others {
                    // In the first turn systemd itself sees to the order.
                    prop_assert!(place(other) < place(unit) || place(unit) == Some(0));
                }
            }
            for turn in found.iter().filter(|t| t.len() > 1) {
                prop_assert!(turn.iter().all(|u| !waits.contains(u) && !last.contains(u)));
            }
            if turned {
                now.reverse();
            }
            let again = turns(&now, &last, &waits, &wanted, &relations);
            prop_assert_eq!(&again, &found);
            all.sort();
            prop_assert_eq!(all, (0..7).map(name).collect::<Vec<_>>());
        }
    }
}
