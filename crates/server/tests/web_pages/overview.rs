//! The overview of the fleet that never was, and of one that has nothing yet.

use super::*;

pub(crate) fn overview() -> Overview {
    let mut by_state: BTreeMap<String, u64> = BTreeMap::new();
    for row in hosts().items {
        *by_state.entry(row.state).or_default() += 1;
    }
    Overview {
        at: now(),
        hosts: 10,
        hosts_by_state: by_state,
        findings_by_state: counts(&[
            ("open", 183),
            ("no-fix-yet", 1_006),
            ("pending-restart", 6),
            ("pending-reboot", 6),
            ("fixed", 287),
        ]),
        open_by_severity: counts(&[
            ("critical", 9),
            ("high", 61),
            ("medium", 88),
            ("low", 21),
            ("negligible", 4),
        ]),
        overdue: 4,
        due_soon: 11,
        open_cves: 74,
        open_kev: 2,
        open_by_class: counts(&[("critical", 12), ("standard", 168), ("", 3)]),
        trend: exposure(),
        late: late(),
        windows: windows(),
        cycles: cycles(),
        emergencies: emergencies(),
        rollouts: vec![running_row(), halted()],
        feeds: feeds(),
        no_data: Some(vec![]),
        worst: (0..10).map(|n| finding(n, NAMES[1 + n % 3].0, FindingState::Open)).collect(),
        recalls: vec![recall().row],
    }
}

/// As the picture in the readme shows it: nobody in it has a name that would like to be markup.
pub(crate) fn overview_shown() -> Overview {
    let feeds = feeds().into_iter().filter(|feed| feed.standing == FeedStanding::Fresh);
    Overview {
        feeds: feeds.map(|feed| FeedRow { source: None, ..feed }).collect(),
        cycles: vec![],
        emergencies: Emergencies::default(),
        recalls: vec![],
        ..overview()
    }
}

/// A server that has just been started.
pub(crate) fn overview_empty() -> Overview {
    Overview {
        hosts: 0,
        hosts_by_state: BTreeMap::new(),
        findings_by_state: BTreeMap::new(),
        open_by_severity: BTreeMap::new(),
        overdue: 0,
        due_soon: 0,
        open_cves: 0,
        open_kev: 0,
        open_by_class: BTreeMap::new(),
        trend: vec![],
        late: vec![],
        windows: vec![],
        cycles: vec![],
        emergencies: Emergencies::default(),
        rollouts: vec![],
        worst: vec![],
        recalls: vec![],
        ..overview()
    }
}
