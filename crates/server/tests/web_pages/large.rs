//! The same fleet where it is at its largest: pages that show all of something have to end somewhere.

use super::*;

/// A host that has everything, and more of it than any page can show.
pub(crate) fn large_host() -> HostDetail {
    let mut it = host();
    it.findings = FindingState::ALL
        .iter()
        .flat_map(|state| (0..300).map(|n| finding(n, "web-2", *state)))
        .collect();
    it.transactions = (0..50)
        .map(|n| match n % 2 {
            0 => progress(&format!("web-{n}"), 6, Some(undone())),
            _ => progress(&format!("web-{n}"), 9, Some(Outcome::Patched)),
        })
        .collect();
    let inventory = it.inventory.as_mut().unwrap();
    let packages: Vec<_> = inventory.packages.iter().cycle().take(6000).cloned().collect();
    inventory.packages = packages.into_iter().collect();
    let upgrades: Vec<_> = inventory.upgrades.iter().cycle().take(900).cloned().collect();
    inventory.upgrades = upgrades.into_iter().collect();
    inventory.languages = languages().into_iter().cycle().take(2000).collect();
    inventory.services = inventory.services.iter().cycle().take(400).cloned().collect();
    inventory.listeners = inventory.listeners.iter().cycle().take(400).cloned().collect();
    inventory.stale = inventory.stale.iter().cycle().take(400).cloned().collect();
    it
}

/// As many hosts as a list shows at once, with everything that a row can have.
pub(crate) fn many_hosts() -> Page<HostRow> {
    let row = |n: usize| {
        let mut row = host_row(6);
        row.name = format!("web-{n:05}.production.example.net");
        row.labels.insert("ring".into(), "broad".into());
        (row.pending, row.fixed, row.overdue) = (12, 1_234, 34);
        row
    };
    Page { total: 100_000, items: (0..80).map(row).collect() }
}

/// A rollout of ten thousand hosts as its page is given it: some hosts of each wave, all of them counted.
pub(crate) fn large_rollout() -> RolloutDetail {
    let mut it = rollout_running();
    let wave = it.waves[2].clone();
    it.waves = (0..10).map(|_| Wave { hosts: vec![], ..wave.clone() }).collect();
    it.row.waves = 10;
    it.row.wave = 5;
    it.row.hosts_by_state =
        counts(&[("patched", 4_000), ("undone", 900), ("redeemed", 300), ("pending", 4_800)]);
    let lane = |hosts_by_state| RolloutLane { hosts_by_state, begins: None, passed_at: None };
    it.lanes = (0..10)
        .map(|n| match n {
            0..4 => counts(&[("patched", 1_000)]),
            4 => counts(&[("undone", 900), ("redeemed", 100)]),
            5 => counts(&[("redeemed", 200), ("pending", 800)]),
            _ => counts(&[("pending", 1_000)]),
        })
        .map(lane)
        .collect();
    it.hosts = (0..30)
        .map(|n| {
            let name = format!("web-{n:05}.production.example.net");
            let end = Some(progress(&name, 6, Some(undone())));
            run_host(
                &name,
                4,
                HostState::Undone { reason: "acme-web.service did not come back".into() },
                end,
            )
        })
        .chain((30..60).map(|n| {
            let name = format!("web-{n:05}.production.example.net");
            let at_work = Some(progress(&name, 5, None));
            run_host(&name, 5, HostState::Redeemed, at_work)
        }))
        .collect();
    let stepped = |n: u64| {
        let host = id(&format!("other-{n}"));
        event(n + 9_000, 600 - n as i64, RolloutEvent::Stepped { host, step: Step::Apply })
    };
    it.events = (0..100).map(stepped).collect();
    let waits = |n: u64| Waiting {
        host: Some(id(&format!("other-{n}"))),
        hold: Hold::BudgetUsed {
            budget: "role=web".into(),
            limit: 1,
            disrupted: vec![id("web-2")],
        },
    };
    it.waiting = (0..30).map(waits).collect();
    it
}

/// What hosts that are only told of are called.
pub(crate) fn large_names() -> BTreeMap<HostId, String> {
    (0..150).map(|n| (id(&format!("other-{n}")), format!("other-{n}.example.net"))).collect()
}

/// A part of the ledger whose entries are as long as they come.
pub(crate) fn large_ledger() -> Vec<LedgerEntry> {
    let long = "host:".to_owned() + &"x".repeat(60);
    let mut all: Vec<LedgerEntry> = Vec::new();
    for n in 0..100 {
        let body = serde_json::json!({ "event": "stepped", "text": "y".repeat(900), "n": n });
        all.push(LedgerEntry::after(
            all.last(),
            ago(3000 - n),
            &long,
            "rollout.event",
            &long,
            body,
        ));
    }
    all.reverse();
    all
}
