//! The protocol as files: a change of one of these is a change of what old agents and new servers say to each
//! other. `FETTLE_UPDATE_GOLDEN=1 cargo nextest run -p fettle-wire` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use fettle_core::assignment::{ApplyOrder, Assignment, Order, PackageChange, Probe};
use fettle_core::inventory::{Inventory, Kernel, Origin, Os, Package, Upgrade};
use fettle_core::policy::{HostList, HostTest};
use fettle_core::rollout::{Came, HostAsk};
use fettle_core::root::{Root, RootKind};
use fettle_core::testbed::{Limit, Mirror, NotMirrored, Phase, TestReport, TwinPackage, Verdict};
use fettle_core::transaction::{Entry, Step, StepFacts, TransactionReport, TxEvent};
use fettle_core::{Digest, Hold, Shared, Timestamp};
use fettle_wire::agent::{
    CheckIn, CheckInReply, Enroll, Enrolled, MeasuredReport, RanReport, Redeem, RedeemReply, Renew,
    Renewed, Tested, TestedReply, Watch,
};
use fettle_wire::sign::{ASSIGNMENT_TYPE, NotBelieved, SignedAssignment, Signer};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::path::Path;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("FETTLE_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "{name}: the protocol changed; is an older peer still understood?");
    assert_eq!(
        &serde_json::from_str::<T>(&kept).unwrap(),
        value,
        "{name}: reads back as something else"
    );
}

fn ran(came: Came) -> RanReport {
    RanReport {
        ask: "ro-7/0/1795000000000000/shop-answers".into(),
        began_ms_ago: 4100,
        ended_ms_ago: 1900,
        came,
    }
}

fn change() -> PackageChange {
    PackageChange {
        name: "libssl3".into(),
        architecture: "amd64".into(),
        from: "3.0.15-1~deb12u1".into(),
        to: "3.0.17-1~deb12u3".into(),
        sha256: Digest::of(b"archive"),
        size: 2_000_000,
    }
}

fn assignment() -> Assignment {
    Assignment {
        schema: 1,
        id: "ro-1/h-1/3".into(),
        host: "h-1".into(),
        generation: 3,
        rollout: "ro-1".into(),
        plan: Digest::of(b"plan"),
        issued_at: at(0),
        not_before: at(0),
        expires_at: at(3600),
        order: Order::Apply(ApplyOrder {
            changes: vec![change().into()],
            probes: vec![Probe::Http {
                url: "http://127.0.0.1/".into(),
                status: 200,
                contains: String::new(),
            }],
            fixes: vec!["CVE-2024-5535".into()],
            ..ApplyOrder::default()
        }),
    }
}

fn inventory() -> Inventory {
    Inventory {
        schema: 1,
        os: Os {
            id: "debian".into(),
            version: "12".into(),
            codename: "bookworm".into(),
            pretty: "Debian GNU/Linux 12 (bookworm)".into(),
        },
        architecture: "amd64".into(),
        kernel: Kernel { running: "6.1.0-28-amd64".into(), ..Kernel::default() },
        boot_id: "5b1e0c1e-0000-4000-8000-000000000000".into(),
        packages: vec![Shared::from(Package {
            name: "libssl3".into(),
            architecture: "amd64".into(),
            version: "3.0.15-1~deb12u1".into(),
            source: "openssl".into(),
            source_version: "3.0.15-1~deb12u1".into(),
            healthy: true,
            module: String::new(),
        })]
        .into(),
        languages: vec![],
        upgrades: vec![Shared::from(Upgrade {
            name: "libssl3".into(),
            architecture: "amd64".into(),
            from: "3.0.15-1~deb12u1".into(),
            to: "3.0.17-1~deb12u3".into(),
            origin: Origin {
                origin: "Debian".into(),
                label: "Debian-Security".into(),
                suite: "oldstable-security".into(),
                codename: "bookworm-security".into(),
            },
            sha256: Digest::of(b"archive"),
            size: 2_000_000,
            source_version: "3.0.17-1~deb12u3".into(),
            brings: vec![],
            removes: vec![],
        })],
        services: vec![],
        listeners: vec![],
        stale: vec![],
        in_use: vec!["libssl3".into()],
        exposed: vec!["libssl3".into()],
        reboot_needed: vec![],
        configuration: [("/etc/ssh/sshd_config".to_owned(), Digest::of(b"Port 22\n"))].into(),
        held: vec![],
        ..Inventory::default()
    }
}

/// Ed25519 signatures are deterministic, so a fixed key gives a fixed envelope. This key signs nothing else.
fn signer() -> Signer {
    let der = "MFECAQEwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fgSEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
    Signer::from_pkcs8(&BASE64.decode(der).unwrap()).unwrap()
}

#[test]
fn other_roots_on_a_host_are_told_as_they_always_were() {
    let root = Root {
        kind: RootKind::Docker,
        name: "web".into(),
        image: "example/web:1".into(),
        location: "/var/lib/docker/overlay2/0a1b/diff".into(),
        running: true,
        os: inventory().os,
        architecture: "amd64".into(),
        packages: inventory().packages,
        gaps: vec!["2 entries of its database name no package".into()],
    };
    golden("roots", &vec![root]);
}

#[test]
fn every_message_is_what_its_golden_file_says() {
    golden(
        "enroll",
        &Enroll {
            token: "0123456789abcdef0123456789abcdef".into(),
            csr: "-----BEGIN CERTIFICATE REQUEST-----".into(),
            name: "web-1".into(),
            agent_version: "0.1.0".into(),
        },
    );
    golden(
        "enrolled",
        &Enrolled {
            host: "h-1".into(),
            certificate: "-----BEGIN CERTIFICATE-----".into(),
            ca: "-----BEGIN CERTIFICATE-----".into(),
            assignment_key: signer().public_key(),
        },
    );
    let report = TransactionReport {
        id: assignment().transaction(),
        assignment: assignment().id,
        generation: 3,
        plan: Digest::of(b"plan"),
        entries: vec![
            Entry { sequence: 0, at: at(1), event: TxEvent::Begun { assignment: assignment() } },
            Entry { sequence: 1, at: at(2), event: TxEvent::Started { step: Step::Preflight } },
            Entry {
                sequence: 2,
                at: at(3),
                event: TxEvent::Finished {
                    step: Step::Preflight,
                    facts: StepFacts { milliseconds: 12, ..StepFacts::default() },
                },
            },
        ],
    };
    let digest = inventory().digest();
    golden(
        "checkin",
        &CheckIn {
            agent_version: "0.1.0".into(),
            inventory_digest: Some(digest),
            inventory: Some(inventory()),
            reports: vec![report],
            generation: 3,
            session: Some("0123456789abcdef0123456789abcdef".into()),
            ran: vec![],
            measured: vec![],
            clock: None,
            plan_keys: None,
            refused: None,
        },
    );
    golden("ran-well", &ran(Came::Well));
    golden("ran-badly", &ran(Came::Badly { said: "exit code 1: 2 of 14 orders lost".into() }));
    golden("ran-lacks", &ran(Came::Lacks { why: "it has no tests.d/shop".into() }));
    golden(
        "checkin-reply",
        &CheckInReply {
            server_time: at(4),
            next_checkin_seconds: 60,
            want_inventory: false,
            acknowledged: [(assignment().transaction(), 3)].into(),
            assignment: Some(signer().sign(&assignment())),
            renew: false,
            takes_packed: true,
            epoch: Some("00112233445566778899aabbccddeeff".into()),
            asks: vec![],
            watches: vec![],
            plan_keys: vec![],
            plan_proof: None,
        },
    );
    let samples = vec![(41, 1_795_000_000_000, Some(12_500)), (42, 1_795_000_010_000, None)];
    golden("measured", &MeasuredReport { id: "shop".into(), samples });
    golden(
        "watch",
        &Watch {
            id: "shop".into(),
            probe: Probe::Tcp { address: "127.0.0.1:8080".into() },
            mark: Some(at(5)),
            send: true,
            after: Some(41),
        },
    );
    let test = HostTest { list: HostList::Tests, name: "shop".into() };
    golden("ask", &HostAsk { ask: ran(Came::Well).ask, test });
    golden("redeem", &Redeem { assignment: assignment().id, generation: 3, needs_seconds: None });
    golden("redeem-go", &RedeemReply::Go);
    golden(
        "redeem-stop",
        &RedeemReply::Stop {
            hold: Hold::Paused { by: "alice".into(), reason: "load test".into() },
        },
    );
    golden("renew", &Renew { csr: "-----BEGIN CERTIFICATE REQUEST-----".into() });
    golden("tested", &tested());
    golden("tested-reply", &TestedReply { kept: true });
    golden("renewed", &Renewed { certificate: "-----BEGIN CERTIFICATE-----".into() });
}

fn tested() -> Tested {
    let package = TwinPackage {
        name: "libssl3".into(),
        architecture: "amd64".into(),
        version: "3.0.15-1~deb12u1".into(),
    };
    let other = vec![NotMirrored { package, twin: Some("3.0.17-1~deb12u3".into()) }];
    let report = TestReport {
        verdict: Verdict::Failed { phase: Phase::Patch, reason: "nginx.service has failed".into() },
        mirror: Mirror { wanted: 250, exact: 249, other, same_cohort: false },
        limits: vec![Limit::Configuration, Limit::Units { units: vec!["app.service".into()] }],
        times: vec![(Phase::Build, 61_000), (Phase::Boot, 2000)],
        steps: vec![(Step::Preflight, 800)],
        delta_files: Some(322),
        restarted: vec!["nginx.service".into()],
        compared: 12_000,
    };
    Tested { assignment: "testbed/h-1/3".into(), generation: 3, report }
}

#[test]
fn no_golden_file_is_forgotten() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 18);
}

#[test]
fn a_signed_assignment_opens_with_its_key_and_gives_what_was_signed() {
    let signed = signer().sign(&assignment());
    assert_eq!(signed.open(&signer().public_key()), Ok(assignment()));
}

#[test]
fn an_assignment_signed_by_another_key_or_changed_in_any_byte_is_not_believed() {
    let other = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let key = signer().public_key();
    assert_eq!(other.sign(&assignment()).open(&key), Err(NotBelieved::Signature));
    let good = signer().sign(&assignment());
    let payload = BASE64.decode(&good.payload).unwrap();
    for i in 0..payload.len() {
        let mut bytes = payload.clone();
        bytes[i] ^= 1;
        let forged = SignedAssignment { payload: BASE64.encode(bytes), ..good.clone() };
        assert_eq!(forged.open(&key), Err(NotBelieved::Signature), "byte {i}");
    }
    let mut unsigned = good.clone();
    unsigned.signatures.clear();
    assert_eq!(unsigned.open(&key), Err(NotBelieved::Signature));
    let retyped = SignedAssignment { payload_type: "text/plain".into(), ..good.clone() };
    assert_eq!(retyped.open(&key), Err(NotBelieved::Type("text/plain".into())));
    assert!(ASSIGNMENT_TYPE.ends_with("version=1"));
}

#[test]
fn unknown_fields_of_a_later_version_are_ignored() {
    let mut value = serde_json::to_value(CheckIn {
        agent_version: "9.0.0".into(),
        inventory_digest: None,
        inventory: Some(inventory()),
        reports: vec![],
        generation: 0,
        session: None,
        ran: vec![],
        measured: vec![],
        clock: None,
        plan_keys: None,
        refused: None,
    })
    .unwrap();
    value["mood"] = "good".into();
    value["inventory"]["weather"] = "fine".into();
    let read: CheckIn = serde_json::from_value(value).unwrap();
    assert_eq!(read.inventory, Some(inventory()));
}
