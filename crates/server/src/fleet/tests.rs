//! The fleet in memory beside the store: after whatever was committed, both say the same.

use super::*;
use fettle_core::advisory::Ranking;
use fettle_core::finding::Finding;
use fettle_core::host::Labels;
use fettle_store::findings::Filter;
use fettle_store::{StoreError, Tx, hosts};

/// SplitMix64: the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

const HOSTS: u64 = 12;

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + hour * 3600).unwrap()
}

fn host(n: u64) -> HostId {
    HostId::new(format!("h-{n:02}"))
}

fn finding(random: &mut Random, host: &HostId, v: u64) -> Finding {
    let state = FindingState::ALL[random.below(FindingState::ALL.len() as u64) as usize];
    Finding {
        host: host.clone(),
        id: format!("CVE-2026-{}", 1000 + v),
        source: format!("source-{}", v % 3),
        installed: "1-1".into(),
        binaries: vec!["p".into()],
        state,
        fixed_version: Some("2-1".into()),
        offered: true,
        in_use: v.is_multiple_of(2),
        exposed: random.below(3) == 0,
        urgency: ["", "low", "medium", "high"][random.below(4) as usize].into(),
        ranking: Ranking {
            cvss: Some((v % 5) as f32 * 2.0),
            cvss_vector: None,
            epss: None,
            kev: None,
            published: None,
        },
        class: ["", "urgent", "standard"][random.below(3) as usize].into(),
        deadline: None,
    }
}

/// One commit: hosts come, are judged, labelled, quarantined, and go.
fn happens(random: &mut Random, tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let id = host(random.below(HOSTS));
    let known = hosts::get(tx, &id)?.is_some();
    match (known, random.below(10)) {
        (false, _) => {
            // Names are in another order than ids, and come back with other hosts.
            let name = format!("web-{}", random.below(1000));
            if hosts::find(tx, &name).is_ok() {
                return Ok(());
            }
            let labels: Labels = [("env".to_owned(), "prod".to_owned())].into();
            let new = hosts::NewHost { id: &id, name: &name, labels: &labels, agent_version: "1" };
            hosts::enrol(tx, &new)
        }
        (true, 0) => hosts::retire(tx, &id),
        (true, 1) => {
            let ring = ["canary", "broad"][random.below(2) as usize];
            let labels = [("ring".to_owned(), ring.to_owned())].into();
            hosts::set_labels(tx, &id, &labels)
        }
        (true, _) => {
            let ids: std::collections::BTreeSet<u64> =
                (0..random.below(9)).map(|_| random.below(15)).collect();
            let judged = ids.into_iter().map(|v| finding(random, &id, v)).collect();
            let hour = random.below(100) as i64;
            stored::update(tx, &id, judged, |finding, _| finding.deadline = Some(at(hour)))?;
            Ok(())
        }
    }
}

/// What both say, where a filter leaves in what it does.
fn compare(fleet: &Fleet, view: &View<'_>, filter: &Filter) {
    let (total, places) = fleet.findings(filter, 7, 2);
    let (all, mut listed) = stored::list(view, filter, 1000, 0).unwrap();
    assert_eq!(total, all, "{filter:?}");
    // The store has equal ones by the hosts' ids, the fleet by their names.
    let name = |host: &HostId| hosts::get(view, host).unwrap().unwrap().host.name;
    let key = |f: &Finding| {
        (f.state == FindingState::Fixed, std::cmp::Reverse(f.rank()), f.id.clone(), name(&f.host))
    };
    listed.sort_by_key(|record| key(&record.finding));
    let listed: Vec<_> = listed
        .into_iter()
        .map(|record| (name(&record.finding.host), record.finding.id, record.finding.source))
        .collect();
    let found: Vec<_> = places.into_iter().map(|p| (p.host_name, p.id, p.source)).collect();
    let part: Vec<_> = listed.into_iter().skip(2).take(7).collect();
    assert_eq!(found, part, "{filter:?}");
}

#[test]
fn whatever_is_committed_the_fleet_in_memory_says_what_the_store_says() {
    let mut random = Random(1);
    for _ in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("fettle.db")).unwrap();
        let by: RoutedBy = Default::default();
        let mut fleet = Fleet::default();
        for _ in 0..120 {
            for _ in 0..1 + random.below(4) {
                let write = |tx: &mut Tx<'_>| happens(&mut random, tx);
                store.write::<_, StoreError>("test", at(0), write).unwrap();
            }
            fleet.catch_up(&store, by.clone()).unwrap();
            let mut anew = Fleet::default();
            anew.catch_up(&store, by.clone()).unwrap();
            let now = at(random.below(100) as i64);
            store
                .read::<_, StoreError>(|view| {
                    let some = |n: u64| n.is_multiple_of(2);
                    for _ in 0..6 {
                        let state = FindingState::ALL[random.below(7) as usize];
                        let severity = Severity::ALL[random.below(5) as usize];
                        let one = |random: &mut Random| some(random.below(2));
                        let filter = Filter {
                            host: one(&mut random).then(|| host(random.below(HOSTS))),
                            id: one(&mut random)
                                .then(|| format!("CVE-2026-{}", 1000 + random.below(16))),
                            state: one(&mut random).then_some(state),
                            severity: one(&mut random).then_some(severity),
                            due_before: (random.below(4) == 0).then_some(now),
                        };
                        compare(&fleet, view, &filter);
                    }
                    compare(&fleet, view, &Filter::default());
                    let totals = stored::totals(view, now, now + crate::views::SOON)?;
                    let tally = fleet.count(now);
                    assert_eq!(
                        (tally.overdue, tally.due_soon, tally.by_state()),
                        (totals.overdue, totals.due_soon, totals.by_state.clone())
                    );
                    let of_anew = anew.count(now);
                    for v in 0..16 {
                        let id = format!("CVE-2026-{}", 1000 + v);
                        let row = |fleet: &Fleet, tally: &Tally| {
                            let mut row = fleet.cve_row_of(tally, &id)?;
                            row.classes.sort();
                            Some(row)
                        };
                        assert_eq!(row(&fleet, &tally), row(&anew, &of_anew));
                    }
                    assert_eq!(tally.late_by_ring, of_anew.late_by_ring);
                    let names = |fleet: &Fleet| -> Vec<String> {
                        let named = fleet.order.iter().filter_map(|at| fleet.known(*at));
                        named.map(|known| known.record.host.name.clone()).collect()
                    };
                    let stored: Vec<String> =
                        hosts::all(view)?.into_iter().map(|record| record.host.name).collect();
                    assert_eq!((names(&fleet), fleet.len()), (stored.clone(), stored.len()));
                    Ok(())
                })
                .unwrap();
        }
    }
}
