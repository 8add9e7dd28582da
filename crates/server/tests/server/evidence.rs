//! Evidence packs: what an auditor checks offline holds, and nothing that was touched since does.

use crate::fleet::{Lab, finished, start};
use fettle_server::evidence::verify::{Verified, verify};
use fettle_wire::api::{Because, EvidenceKey, Page, RolloutDetail};
use fettle_wire::evidence::{EvidenceFile, SignedEvidence};
use fettle_wire::sign::Signer;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::io::Read as _;

const MANIFEST: &str = "manifest.json";
type Files = Vec<(String, Vec<u8>)>;

/// Two hosts patched, one of them taken back.
fn moved() -> (Lab, String) {
    let lab = Lab::furnished();
    let mut agents = vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    start(&lab);
    finished(&lab, &mut agents);
    let hosts = vec!["web-1".to_owned()];
    let undo = Because { reason: "slow since".into(), hosts, wave: None };
    let _: RolloutDetail = lab.post("/rollouts/ro-1/undo", &undo);
    crate::fleet::until("the undo", || {
        for agent in &mut agents {
            agent.checkin(&lab);
            agent.work(&lab, true);
        }
        let it: RolloutDetail = lab.get("/rollouts/ro-1");
        (it.row.hosts_by_state.get("undone") == Some(&1)).then_some(())
    });
    let key: EvidenceKey = lab.get("/evidence/key");
    (lab, key.key)
}

fn pack(lab: &Lab, query: &str) -> Vec<u8> {
    let answer = lab.call("GET", &format!("/evidence{query}"), b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.body
}

fn unpacked(pack: &[u8]) -> Files {
    let mut tar = tar::Archive::new(GzDecoder::new(pack));
    let mut files = Files::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.push((entry.path().unwrap().to_str().unwrap().to_owned(), bytes));
    }
    files
}

fn packed(files: &Files) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// As the key's owner could do it who wants to tell another story: signed anew, every hash right.
fn resealed(files: &Files, key: &str, signer: &Signer) -> Vec<u8> {
    let signed: SignedEvidence = serde_json::from_slice(&files[0].1).unwrap();
    let mut manifest = signed.open(key).unwrap();
    manifest.files = files[1..]
        .iter()
        .map(|(name, bytes)| EvidenceFile {
            name: name.clone(),
            sha256: fettle_core::Digest::of(bytes),
            bytes: bytes.len() as u64,
        })
        .collect();
    let signed = serde_json::to_vec(&SignedEvidence::seal(signer, &manifest)).unwrap();
    let mut all = vec![(MANIFEST.to_owned(), signed)];
    all.extend_from_slice(&files[1..]);
    packed(&all)
}

fn refused(pack: &[u8], key: &str) -> String {
    let problem = verify(pack, key).unwrap_err();
    assert!(!problem.hint.is_empty());
    problem.code
}

#[test]
fn a_pack_holds_for_whoever_has_the_key_and_nothing_else() {
    let (lab, key) = moved();
    let pack = pack(&lab, "");
    drop(lab);
    let Verified { rollouts, events_in_ledger, orders, transactions, fixed, ledger, .. } =
        verify(pack.as_slice(), &key).unwrap();
    assert_eq!((rollouts, orders, transactions), (1, 3, 3), "two orders and an undo");
    assert!(events_in_ledger > 8, "{events_in_ledger}");
    assert_eq!(ledger.after, 0, "all of it lies in the period");
    assert_eq!(fixed, 1, "one host is patched, the other has the finding again");
    let names: Vec<String> = unpacked(&pack).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[0], MANIFEST);
    for name in ["report.json", "report.html", "ledger.jsonl", "rollouts/ro-1.json"] {
        assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
    }
}

#[test]
fn whatever_is_changed_in_a_pack_is_found_and_named() {
    let (lab, key) = moved();
    let pack = pack(&lab, "");
    let files = unpacked(&pack);
    let mine = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    assert_eq!(refused(&pack, &mine.public_key()), "evidence-signature");
    assert_eq!(refused(&pack[..pack.len() / 2], &key), "evidence-damaged");
    assert_eq!(refused(b"", &key), "evidence-damaged");
    let with = |change: &dyn Fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        refused(&packed(&files), &key)
    };
    // Wherever a byte of the archive is another one, the file that it hits is named.
    for eighth in 1..8 {
        let mut bytes = pack.clone();
        let at = pack.len() * eighth / 8;
        bytes[at] ^= 0x55;
        let told = verify(bytes.as_slice(), &key).unwrap_err().message;
        let is_named = files.iter().any(|(name, _)| told.contains(name.as_str()));
        assert!(is_named, "byte {at} of {}: {told}", pack.len());
    }
    let last = files.len() - 1;
    assert_eq!(with(&|f| f[last].1.push(b' ')), "evidence-files");
    assert_eq!(with(&|f| drop(f.pop())), "evidence-files");
    assert_eq!(with(&|f| f.push(("more".into(), vec![1]))), "evidence-files");
    assert_eq!(with(&|f| f.push(f[last].clone())), "evidence-files");
    assert_eq!(with(&|f| f.swap(0, 1)), "evidence-damaged");
}

#[test]
fn a_story_that_was_made_up_does_not_hold_even_when_it_is_signed() {
    let (lab, key) = moved();
    let files = unpacked(&pack(&lab, ""));
    // The server's own key, as somebody has it who has the server.
    let der = std::fs::read(lab.data().join("keys/feeds.key")).unwrap();
    let server = Signer::from_pkcs8(&der).unwrap();
    let told = |of: &str, change: &dyn Fn(&str) -> String| {
        let mut files = files.clone();
        let found = files.iter_mut().find(|(name, _)| name.starts_with(of));
        let (_, bytes) = found.unwrap();
        let text = change(std::str::from_utf8(bytes).unwrap());
        assert_ne!(text.as_bytes(), bytes.as_slice(), "{of}: nothing was changed");
        *bytes = text.into_bytes();
        refused(&resealed(&files, &key, &server), &key)
    };
    let line_gone = |text: &str| {
        let lines: Vec<&str> = text.lines().collect();
        [&lines[..4], &lines[5..]].concat().join("\n")
    };
    assert_eq!(told("ledger.jsonl", &line_gone), "evidence-ledger");
    assert_eq!(told("ledger.jsonl", &|t| t.replacen("web-1", "web-2", 1)), "evidence-ledger");
    assert_eq!(
        told("ledger.jsonl", &|t| t.lines().take(9).collect::<Vec<_>>().join("\n")),
        "evidence-ledger"
    );
    assert_eq!(told("rollouts/", &|t| t.replace("slow since", "wished for")), "evidence-rollout");
    assert_eq!(told("rollouts/", &|t| t.replacen("redeemed", "ended", 1)), "evidence-files");
    let approver = |t: &str| {
        t.replacen(r#""approvals":[]"#, r#""approvals":[{"by":"mallory","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","at":"2026-01-01T00:00:00Z","comment":""}]"#, 1)
    };
    assert_eq!(told("rollouts/", &approver), "evidence-rollout");
    assert_eq!(told("orders/", &|t| t.replacen("\"sig\":\"", "\"sig\":\"A", 1)), "evidence-order");
    assert_eq!(
        told("transactions/", &|t| t.replace("\"sequence\":1,", "\"sequence\":7,")),
        "evidence-transaction"
    );
    let other_end = |t: &str| t.replace(r#""outcome":"patched""#, r#""outcome":"switched""#);
    let mut lied = files.clone();
    let journals = lied.iter_mut().filter(|(name, _)| name.starts_with("transactions/"));
    for (_, bytes) in journals {
        *bytes = other_end(std::str::from_utf8(bytes).unwrap()).into_bytes();
    }
    assert_ne!(lied, files, "some journal ends patched");
    assert_eq!(refused(&resealed(&lied, &key, &server), &key), "evidence-transaction");
    // What was done and is not told.
    let without = |of: &str| {
        let mut files = files.clone();
        files.retain(|(name, _)| !name.starts_with(of));
        resealed(&files, &key, &server)
    };
    assert_eq!(refused(&without("rollouts/"), &key), "evidence-rollout");
    let shortened = |by: usize, change: &dyn Fn(&mut Vec<serde_json::Value>)| {
        let mut files = files.clone();
        let found = files.iter_mut().find(|(name, _)| name.starts_with("rollouts/"));
        let (_, bytes) = found.unwrap();
        let mut told: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let events = told["events"].as_array_mut().unwrap();
        events.truncate(events.len() - by);
        change(events);
        *bytes = serde_json::to_vec(&told).unwrap();
        refused(&resealed(&files, &key, &server), &key)
    };
    assert_eq!(shortened(1, &|_| {}), "evidence-rollout", "the end is cut off");
    let later = |events: &mut Vec<serde_json::Value>| {
        let last = events.len() - 1;
        events[last][0] = "2026-01-01T00:00:00Z".into();
    };
    assert_eq!(shortened(0, &later), "evidence-rollout", "another time");
    let invented = |events: &mut Vec<serde_json::Value>| {
        let paused = serde_json::json!({"event": "resumed", "by": "mallory", "reason": ""});
        let at = events[events.len() - 1][0].clone();
        events.push(serde_json::json!([at, paused]));
    };
    assert_eq!(shortened(0, &invented), "evidence-rollout", "something was put in");
    // Orders and journals of a retired host are not there, and that is told.
    let gone = verify(without("orders/").as_slice(), &key).unwrap();
    assert_eq!((gone.orders, gone.orders_missing), (0, 3));
    let gone = verify(without("transactions/").as_slice(), &key).unwrap();
    assert_eq!((gone.transactions, gone.transactions_missing), (0, 3));
}

#[test]
fn a_pack_that_would_fill_the_memory_is_refused_before_it_does() {
    let long = |kind: tar::EntryType| {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path("manifest.json").unwrap();
        header.set_size(200 << 20);
        header.set_cksum();
        tar.append(&header, std::io::repeat(0).take(200 << 20)).unwrap();
        tar.into_inner().unwrap().finish().unwrap()
    };
    for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader, tar::EntryType::GNUSparse] {
        assert_eq!(refused(&long(kind), "AAAA"), "evidence-files", "{kind:?}");
    }
    assert_eq!(refused(&long(tar::EntryType::Regular), "AAAA"), "evidence-files");
    // More behind what was signed, however it is packed.
    let (lab, key) = moved();
    let mut files = unpacked(&pack(&lab, ""));
    files.push(("more".into(), vec![0; 10 << 20]));
    assert_eq!(refused(&packed(&files), &key), "evidence-files");
    let mut bytes = Vec::new();
    GzDecoder::new(pack(&lab, "").as_slice()).read_to_end(&mut bytes).unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(std::iter::repeat_n(1, 64 << 10));
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut gz, &bytes).unwrap();
    assert_eq!(refused(&gz.finish().unwrap(), &key), "evidence-damaged");
}

#[test]
fn a_part_of_the_ledger_holds_by_the_hash_before_it() {
    let (lab, key) = moved();
    let entries: Page<fettle_core::ledger::LedgerEntry> = lab.get("/ledger?after=0&limit=1000");
    let middle = &entries.items[entries.items.len() / 2];
    let part = verify(pack(&lab, &format!("?from={}", middle.at)).as_slice(), &key).unwrap();
    assert!(part.ledger.after > 0, "{part:?}");
    assert_eq!(part.ledger.previous, entries.items[part.ledger.after as usize - 1].hash);
    assert!(part.ledger_entries > 0);
    // Of a time before there was a ledger there is none, and that holds too.
    let none = verify(pack(&lab, "?from=2020-01-01&to=2020-01-02").as_slice(), &key).unwrap();
    assert_eq!((none.ledger_entries, none.rollouts), (0, 0));
}
