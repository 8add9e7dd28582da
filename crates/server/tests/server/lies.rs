//! What a host that lies about itself cannot do to the server and to the others.

use crate::access_ledger::kinds;
use crate::fleet::{Agent, Lab, finished, plan, start, until};
use fettle_core::Problem;
use fettle_core::rollout::HostState;
use fettle_core::transaction::{Entry, Fault, Outcome, TransactionReport, TxEvent};
use fettle_core::{AssignmentId, Digest, Timestamp, TransactionId};
use fettle_wire::agent::CheckInReply;
use fettle_wire::api::{HostDetail, LedgerVerified};

fn told(lab: &Lab, agent: &Agent, generation: u64) -> Result<CheckInReply, (u16, Problem)> {
    let mut said = agent.says(false);
    said.generation = generation;
    agent.call(lab, "checkin", &said)
}

fn quarantined(lab: &Lab, host: &str) -> String {
    let detail: HostDetail = lab.get(&format!("/hosts/{host}"));
    detail.quarantined.unwrap_or_default()
}

#[test]
fn a_number_that_no_order_can_have_is_refused_and_whoever_told_it_is_marked() {
    let lab = Lab::furnished();
    let mut agents = vec![lab.host("web-1", "broad"), lab.host("canary-1", "canary")];
    let evil = lab.host("evil", "canary");
    for lie in [u64::MAX, i64::MAX as u64, 1_000_001] {
        let (status, problem) = told(&lab, &evil, lie).unwrap_err();
        assert_eq!((status, problem.code.as_str()), (409, "generation-leap"));
    }
    assert!(quarantined(&lab, "evil").contains("no order of this server"));
    let marked = kinds(&lab, &["host.quarantined", "host.generation"]);
    assert_eq!(marked.len(), 1, "{marked:?}");
    // A server that was restored is behind its hosts, but not by so many orders.
    agents[0].generation = 1_000_000;
    start(&lab);
    let done = finished(&lab, &mut agents);
    assert_eq!(done.row.hosts_by_state.get("patched"), Some(&2));
    assert_eq!(agents[0].generation, 1_000_001);
}

/// As it was kept before such numbers were refused.
fn keep_a_lie(lab: &Lab, agent: &Agent) {
    let raw = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    raw.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let sql = "UPDATE hosts SET generation = 9223372036854775807 WHERE id = $1";
    assert_eq!(raw.execute(sql, [agent.id.as_str()]).unwrap(), 1);
}

/// An order that holds the last number there is.
fn keep_the_last_order(lab: &Lab, agent: &Agent) {
    let raw = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    raw.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let sql = "INSERT INTO assignments (id, host, generation, rollout, status, signed, created_at) \
               VALUES ('ro-0/x/9223372036854775808', $1, 9223372036854775807, 'ro-0', 'withdrawn', '{}', 0)";
    assert_eq!(raw.execute(sql, [agent.id.as_str()]).unwrap(), 1);
}

#[test]
fn a_host_whose_order_cannot_be_written_is_marked_and_the_others_get_theirs() {
    let lab = Lab::furnished();
    let evil = lab.host("evil", "canary");
    let mut agents = vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    keep_a_lie(&lab, &evil);
    keep_the_last_order(&lab, &evil);
    start(&lab);
    let done = finished(&lab, &mut agents);
    assert_eq!(done.row.hosts_by_state.get("patched"), Some(&2));
    let of_evil = done.hosts.iter().find(|h| h.name == "evil").unwrap();
    assert!(matches!(of_evil.run.state, HostState::Cancelled { .. }), "{:?}", of_evil.run.state);
    assert!(quarantined(&lab, "evil").contains("no order for it can be written"));
    assert_eq!(lab.get::<LedgerVerified>("/ledger/verify").broken, None);
}

#[test]
fn a_database_that_kept_such_a_number_is_mended_at_the_next_start() {
    let mut lab = Lab::furnished();
    let evil = lab.host("evil", "canary");
    let mut agents = vec![lab.host("canary-1", "canary")];
    keep_a_lie(&lab, &evil);
    keep_the_last_order(&lab, &evil);
    lab.restart();
    assert!(quarantined(&lab, "evil").contains("no order of this server"));
    // Somebody has seen to it: it is a host like any other.
    lab.post_bytes("/hosts/evil/release", br#"{"reason":"enrolled anew"}"#);
    agents.push(evil);
    // A server that has just come up looks at its hosts first.
    until("a plan for both", || {
        agents.iter_mut().for_each(|agent| drop(agent.checkin(&lab)));
        (plan(&lab).plan.hosts.len() == 2).then_some(())
    });
    start(&lab);
    let done = finished(&lab, &mut agents);
    assert_eq!(done.row.hosts_by_state.get("patched"), Some(&2));
    assert_eq!(agents[1].generation, 1);
    lab.restart();
    assert_eq!(quarantined(&lab, "evil"), "");
}

/// A change that the host says it made by itself, with so long a word in it.
fn of_its_own(number: usize, long: usize) -> TransactionReport {
    let fault = Fault { code: "x".into(), message: "x".repeat(long), hint: String::new() };
    let event = TxEvent::Ended { outcome: Outcome::Refused { fault } };
    TransactionReport {
        id: TransactionId(format!("tx-own-{number}")),
        assignment: AssignmentId(format!("own/{number}")),
        generation: 0,
        plan: Digest::of(b"own"),
        entries: vec![Entry { sequence: 0, at: Timestamp::now(), event }],
    }
}

fn tells(
    lab: &Lab,
    agent: &Agent,
    reports: Vec<TransactionReport>,
) -> Result<CheckInReply, (u16, Problem)> {
    let mut said = agent.says(false);
    said.reports = reports;
    agent.call(lab, "checkin", &said)
}

fn count(lab: &Lab, what: &str) -> i64 {
    let raw = rusqlite::Connection::open(lab.data().join("fettle.db")).unwrap();
    raw.query_row(&format!("SELECT {what}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn of_what_a_host_says_it_did_by_itself_the_newest_is_kept_and_the_ledger_says_what_went() {
    let lab = Lab::furnished();
    let agent = lab.host("web-1", "canary");
    // Of very many at once some are taken, and the rest waits for the next time.
    let many: Vec<_> = (0..130).map(|n| of_its_own(n, 10)).collect();
    let taken = tells(&lab, &agent, many.clone()).unwrap().acknowledged.len();
    assert_eq!(taken, 50);
    for part in (130..300).map(|n| of_its_own(n, 10)).collect::<Vec<_>>().chunks(40) {
        assert_eq!(tells(&lab, &agent, part.to_vec()).unwrap().acknowledged.len(), part.len());
    }
    let newest = "(SELECT count(*) FROM transactions WHERE id IN ('tx-own-299', 'tx-own-0'))";
    assert_eq!(count(&lab, "count(*) FROM transactions"), 200);
    assert_eq!(count(&lab, newest), 1);
    assert!(!kinds(&lab, &["transaction.forgotten"]).is_empty());
    for n in 300..310 {
        tells(&lab, &agent, vec![of_its_own(n, 1_500_000)]).unwrap();
    }
    let kept = count(&lab, "sum(octet_length(entry)) FROM transaction_entries");
    assert!(kept <= 8 << 20, "{kept}");
    assert_eq!(count(&lab, "count(*) FROM transactions WHERE id = 'tx-own-309'"), 1);
    let (status, problem) = tells(&lab, &agent, vec![of_its_own(310, 3_000_000)]).unwrap_err();
    assert_eq!((status, problem.code.as_str()), (422, "odd-inventory"));
    assert_eq!(lab.get::<LedgerVerified>("/ledger/verify").broken, None);
}

#[test]
fn an_order_has_one_journal_and_no_name_beside_it_makes_room_for_more() {
    let lab = Lab::furnished();
    let mut agents = vec![lab.host("canary-1", "canary")];
    start(&lab);
    finished(&lab, &mut agents);
    let order = agents[0].sent[0].0.id.clone();
    for part in 0..5 {
        let beside = (0..50).map(|n| {
            let report = of_its_own(part * 50 + n, 10);
            TransactionReport { assignment: order.clone(), ..report }
        });
        tells(&lab, &agents[0], beside.collect()).unwrap();
    }
    assert_eq!(count(&lab, "count(*) FROM transactions"), 201, "its own, and no more than 200");
    let kept: HostDetail = lab.get("/hosts/canary-1");
    assert_eq!(kept.row.open, 0, "what it was patched by stands");
}
