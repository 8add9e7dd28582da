//! Whether what is said of the fleet's exposure rests on data: a gate that asks "is anything open?" must not take "nobody
//! has looked" for "nothing".

use crate::app::App;
use fettle_core::Problem;
use fettle_core::feed::FeedStanding;
use fettle_vuln::feed::Feed;
use fettle_wire::api::FeedRow;
use std::collections::{BTreeMap, BTreeSet};

/// Hosts in these states are not judged, or by what nobody has told for too long.
const UNJUDGED: [&str; 3] = ["no-inventory", "not-judged", "silent"];
const DAY: u64 = 86_400;

/// Why nothing can be said, a sentence each. Empty: what is told rests on data.
pub(crate) fn missing(
    app: &App,
    feeds: &[FeedRow],
    hosts: u64,
    by_state: &BTreeMap<String, u64>,
) -> Result<Vec<String>, Problem> {
    if hosts == 0 {
        return Ok(vec!["no host is enrolled".to_owned()]);
    }
    let unjudged: u64 = UNJUDGED.iter().filter_map(|state| by_state.get(*state)).sum();
    if unjudged >= hosts {
        return Ok(vec![format!(
            "none of the {hosts} hosts is judged: they are silent, or have told nothing"
        )]);
    }
    let systems = app.fleet(|fleet| fleet.systems())?;
    Ok(systems.iter().filter_map(|system| unknown(feeds, system)).collect())
}

/// Why nothing is known of hosts that run a system.
fn unknown(feeds: &[FeedRow], system: &str) -> Option<String> {
    let theirs = speak_for(feeds, system);
    if theirs.is_empty() {
        return Some(format!("no feed in force says what affects {system}"));
    }
    let age = |row: &FeedRow| match row.age_seconds {
        Some(age) => format!("{}, {} days old", row.name, age / DAY),
        None => row.name.clone(),
    };
    let is_stale = theirs.iter().all(|row| row.standing == FeedStanding::Stale);
    let named: Vec<String> = theirs.iter().map(|row| age(row)).collect();
    is_stale
        .then(|| format!("what says who is affected on {system} is too old ({})", named.join("; ")))
}

/// Feeds without which it is not known what is wrong with hosts that run these systems: for each of them those that speak
/// for it, where none of these is young enough.
pub(crate) fn stale(feeds: &[FeedRow], systems: &BTreeSet<String>) -> BTreeSet<String> {
    let mut stale = BTreeSet::new();
    for system in systems {
        let theirs = speak_for(feeds, system);
        if theirs.iter().all(|row| row.standing == FeedStanding::Stale) {
            stale.extend(theirs.iter().map(|row| row.name.clone()));
        }
    }
    stale
}

/// The feeds in force that say who is affected on a system.
fn speak_for<'a>(feeds: &'a [FeedRow], system: &str) -> Vec<&'a FeedRow> {
    let speaks = |name: &str| {
        Feed::from_word(name).is_some_and(Feed::says_who_is_affected)
            && vendor_of(system).is_none_or(|vendor| name.split('-').any(|w| w == vendor))
    };
    feeds.iter().filter(|row| row.imported_at.is_some() && speaks(&row.name)).collect()
}

/// The word that feeds for a system have in their names. `None`: any feed may speak for it.
fn vendor_of(system: &str) -> Option<&'static str> {
    Some(match system {
        "debian" => "debian",
        "ubuntu" => "ubuntu",
        "almalinux" => "almalinux",
        "rocky" => "rocky",
        "rhel" | "centos" => "redhat",
        "alpine" => "alpine",
        "wolfi" | "chainguard" => "chainguard",
        "sles" | "suse" => "suse",
        system if system.starts_with("opensuse") => "suse",
        _ => return None,
    })
}
