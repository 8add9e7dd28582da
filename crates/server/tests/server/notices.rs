//! What people are told as soon as it happens.

use crate::fleet::{Lab, finished, rollout, start, until};
use crate::gates::{signed, webhook};
use fettle_core::rollout::Phase;
use fettle_wire::agent::CheckInReply;
use fettle_wire::api::{DeliveryRow, Page};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicU16;

/// The canary does not take it: the rollout halts.
fn halted(lab: &Lab) {
    let mut canary = lab.host("canary-1", "canary");
    start(lab);
    until("the halt", || {
        canary.checkin(lab);
        canary.work(lab, false);
        Some(()).filter(|()| matches!(rollout(lab).row.phase, Phase::Halted { .. }))
    });
}

#[test]
fn a_halt_is_told_once_to_everybody_each_in_their_way() {
    let taken = || Arc::new(AtomicU16::new(200));
    let ((program, heard), (chat, read)) = (webhook(taken()), webhook(taken()));
    let mut lab = Lab::with(|options| {
        let all =
            [format!("http://{program}/hook"), format!("slack+http://{chat}/services/s3cr3t")];
        options.notify = all.map(|text| text.parse().unwrap()).into();
    });
    lab.furnish();
    halted(&lab);
    let told = until("what the program heard", || heard.lock().unwrap().first().cloned());
    signed(&lab, &told.0, &told.1);
    let body: Value = serde_json::from_str(&told.1).unwrap();
    let data = &body["data"];
    assert_eq!((&body["type"], &data["rollout"]), (&json!("rollout.halted"), &json!("ro-1")));
    assert_eq!((&data["policy"], &data["code"]), (&json!("web"), &json!("too-many-failures")));
    let text = data["text"].as_str().unwrap();
    assert!(text.contains("canary-1: nginx.service did not come back"), "{text}");
    let said = until("what the chat reads", || read.lock().unwrap().first().cloned());
    let said: Value = serde_json::from_str(&said.1).unwrap();
    assert_eq!(said, json!({ "text": text }));
    // Nobody who looks is shown the address, and a server that comes back tells it to nobody again.
    assert!(!lab.call("GET", "/ledger?limit=1000", b"").text().contains("s3cr3t"));
    lab.restart();
    until("an empty queue", || {
        Some(()).filter(|()| lab.get::<Page<DeliveryRow>>("/deliveries").items.is_empty())
    });
    assert_eq!((heard.lock().unwrap().len(), read.lock().unwrap().len()), (1, 1));
}

#[test]
fn a_host_that_is_marked_without_a_rollout_is_told_of_each_time_it_is_marked() {
    let (address, heard) = webhook(Arc::new(AtomicU16::new(200)));
    let lab = Lab::with(|options| {
        options.notify = vec![format!("http://{address}/").parse().unwrap()];
    });
    lab.furnish();
    let evil = lab.host("evil", "canary");
    // It says so more than once, and is told of once.
    let lies = || {
        for _ in 0..2 {
            let mut said = evil.says(false);
            said.generation = u64::MAX;
            assert!(evil.call::<CheckInReply>(&lab, "checkin", &said).is_err());
        }
    };
    let told = |n: usize| {
        until("an empty queue", || {
            let waits = lab.get::<Page<DeliveryRow>>("/deliveries").items;
            (heard.lock().unwrap().len() >= n && waits.is_empty()).then_some(())
        });
        let all = heard.lock().unwrap().clone();
        assert_eq!(all.len(), n, "{all:?}");
        let body: Value = serde_json::from_str(&all[n - 1].1).unwrap();
        let data = &body["data"];
        assert_eq!((&body["type"], &data["name"]), (&json!("host.quarantined"), &json!("evil")));
        assert_eq!(data["host"], json!(evil.id));
        let text = data["text"].as_str().unwrap();
        assert!(
            text.starts_with("Host evil is in quarantine and needs a person: it told"),
            "{text}"
        );
    };
    lies();
    told(1);
    lab.post_bytes("/hosts/evil/release", br#"{"reason":"enrolled anew"}"#);
    lies();
    told(2);
}

#[test]
fn a_receiver_that_takes_nothing_holds_up_no_rollout_and_the_end_of_one_is_told() {
    let (address, heard) = webhook(Arc::new(AtomicU16::new(500)));
    let lab = Lab::with(|options| {
        options.notify = vec![format!("http://{address}/").parse().unwrap()];
        options.webhook_retries = vec![];
    });
    lab.furnish();
    let mut agents = vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    start(&lab);
    finished(&lab, &mut agents);
    let dead = until("the dead letter", || {
        let all: Page<DeliveryRow> = lab.get("/deliveries");
        all.items.into_iter().find(|row| row.next_at.is_none())
    });
    assert_eq!((dead.kind.as_str(), dead.subject.as_str()), ("rollout.done", "ro-1"));
    let body: Value = serde_json::from_str(&heard.lock().unwrap()[0].1).unwrap();
    assert_eq!(body["data"]["hosts"], json!({ "patched": 2 }));
}
