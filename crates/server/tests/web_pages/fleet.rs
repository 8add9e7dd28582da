//! A fleet that never was, as the API would tell of it: what the pages are rendered from in tests.

mod accounts;
mod approving;
mod by_itself;
mod governed;
mod large;
mod lists;
mod moving;
mod overview;
mod planning;
mod report;

pub(crate) use accounts::*;
pub(crate) use approving::*;
pub(crate) use by_itself::{deliveries, saved_views, schedules};
pub(crate) use governed::*;
pub(crate) use large::*;
pub(crate) use lists::*;
pub(crate) use moving::*;
pub(crate) use overview::{overview, overview_empty, overview_shown};
pub(crate) use planning::*;
pub(crate) use report::{exposure, month, month_empty};

use fettle_core::advisory::{Advisory, AdvisoryStatus, Kev, Ranking};
use fettle_core::assignment::{ApplyOrder, Assignment, Order, PackageChange};
use fettle_core::feed::FeedStanding;
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::{
    Inventory, Kernel, Listener, Origin, Os, Package, Service, StaleProcess, Upgrade,
};
use fettle_core::language::{Ecosystem, LanguagePackage};
use fettle_core::ledger::LedgerEntry;
use fettle_core::operator::{Operator, Role};
use fettle_core::plan::approval::{Approval, ApprovalInput, ApprovalVerdict, Stage, judge};
use fettle_core::plan::{
    Budget, HeldHosts, HostPlan, NotDone, Plan, ReportInput, SCHEMA, Wave, Work, report,
};
use fettle_core::policy::GateRule;
use fettle_core::recall::Recall;
use fettle_core::rollout::{HostRun, HostState, Phase, RolloutEvent, Waiting};
use fettle_core::transaction::{Fault, Outcome, Progress, Step, StepFacts, UndoFacts};
use fettle_core::{AssignmentId, Digest, Hold, HostId, RolloutId, Timestamp, TransactionId};
use fettle_server::web::pages::ChainSeen;
use fettle_wire::api::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A name that would be a script if anybody forgot to escape it.
pub(crate) const HOSTILE: &str = "<script>document.title='owned'</script>";
/// A text that would break out of an attribute.
pub(crate) const HOSTILE_ATTRIBUTE: &str = "\"><img src=x onerror=document.title='owned'>";

const NAMES: [(&str, &str, &str); 10] = [
    ("web-1", "canary", "up-to-date"),
    ("web-2", "early", "exposed"),
    ("web-3", "early", "pending-restart"),
    ("web-4", "broad", "exposed"),
    ("db-1", "broad", "quarantined"),
    ("db-2", "broad", "pending-reboot"),
    ("mail-1", "broad", "exposed"),
    ("cache-1", "broad", "no-fix-yet"),
    ("build-1", "broad", "silent"),
    ("lab-7", "", "no-policy"),
];

pub(crate) fn now() -> Timestamp {
    "2026-11-23T08:42:10Z".parse().unwrap()
}

pub(crate) fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() - seconds).unwrap()
}

fn id(name: &str) -> HostId {
    HostId(format!("h-{}", &Digest::of(name.as_bytes()).hex()[..10]))
}

fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
    of.iter().map(|(word, n)| ((*word).to_owned(), *n)).collect()
}

pub(crate) fn host_row(n: usize) -> HostRow {
    let (name, ring, state) = NAMES[n % NAMES.len()];
    let role = name.split('-').next().unwrap();
    let route = !ring.is_empty();
    HostRow {
        id: id(name),
        name: name.to_owned(),
        labels: [("env", "prod"), ("role", role)].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        os: "Debian GNU/Linux 12 (bookworm)".into(),
        kernel: "6.1.0-28-amd64".into(),
        state: state.into(),
        cohort: Digest::of(role.as_bytes()).short(),
        policy: route.then(|| "production".to_owned()),
        ring: route.then(|| ring.to_owned()),
        open: if state == "exposed" { 38 + n as u64 * 9 } else { 0 },
        overdue: if state == "exposed" { n as u64 / 2 } else { 0 },
        no_fix: 96 + n as u64,
        pending: if state.starts_with("pending") { 6 } else { 0 },
        fixed: if state == "exposed" { 0 } else { 41 },
        upgrades: if state == "exposed" { 22 } else { 0 },
        last_seen: Some(ago(if state == "silent" { 5400 } else { 7 + n as i64 * 4 })),
        listed_at: None,
    }
}

pub(crate) fn hosts() -> Page<HostRow> {
    Page { total: 10, items: (0..10).map(host_row).collect() }
}

type Known = (&'static str, &'static str, &'static str, &'static str, f32, f32, bool, bool);
const KNOWN: [Known; 10] = [
    ("CVE-2024-3094", "xz-utils", "5.6.0-0.2", "5.6.1+really5.4.5-1", 10.0, 0.86, true, true),
    ("CVE-2024-6387", "openssh", "1:9.2p1-2+deb12u2", "1:9.2p1-2+deb12u3", 8.1, 0.62, false, true),
    ("CVE-2024-5535", "openssl", "3.0.11-1~deb12u2", "3.0.15-1~deb12u1", 9.1, 0.04, false, true),
    ("CVE-2023-44487", "nginx", "1.22.1-9", "1.22.1-9+deb12u1", 7.5, 0.94, true, true),
    ("CVE-2024-2961", "glibc", "2.36-9+deb12u4", "2.36-9+deb12u7", 8.8, 0.93, false, false),
    ("CVE-2023-47038", "perl", "5.36.0-7", "5.36.0-7+deb12u1", 7.8, 0.001, false, false),
    ("CVE-2024-28182", "nghttp2", "1.52.0-1", "1.52.0-1+deb12u2", 5.3, 0.01, false, true),
    ("CVE-2023-50387", "systemd", "252.17-1~deb12u1", "252.23-1~deb12u1", 7.5, 0.44, false, false),
    ("CVE-2024-0553", "gnutls28", "3.7.9-2", "3.7.9-2+deb12u2", 7.5, 0.006, false, false),
    ("CVE-2023-4641", "shadow", "1:4.13+dfsg1-1", "1:4.13+dfsg1-1+b1", 4.7, 0.0004, false, false),
];

pub(crate) fn ranking(n: usize) -> Ranking {
    let (_, _, _, _, cvss, epss, kev, _) = KNOWN[n % KNOWN.len()];
    Ranking {
        cvss: Some(cvss),
        cvss_vector: Some("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:H".into()),
        epss: Some(epss),
        kev: kev.then(|| Kev {
            date_added: jiff::civil::date(2024, 4, 2),
            due_date: jiff::civil::date(2024, 4, 23),
            ransomware: n == 0,
        }),
        published: Some(jiff::civil::date(2024, 6, 27)),
    }
}

pub(crate) fn finding(n: usize, host: &str, state: FindingState) -> FindingRow {
    let (cve, source, installed, fixed, _, _, _, exposed) = KNOWN[n % KNOWN.len()];
    let finding = Finding {
        host: id(host),
        id: cve.into(),
        source: source.into(),
        installed: installed.into(),
        binaries: vec![source.to_owned(), format!("lib{source}3")],
        state,
        fixed_version: (state != FindingState::NoFixYet).then(|| fixed.to_owned()),
        offered: state == FindingState::Open,
        in_use: exposed,
        exposed,
        urgency: "not yet assigned".into(),
        ranking: ranking(n),
        class: if n < 4 { "critical" } else { "standard" }.into(),
        deadline: Some(ago((3 - n as i64) * 30_000)),
    };
    let reason = match state {
        FindingState::Open => {
            format!("{fixed} is offered by Debian-Security; a listening process runs {installed}")
        }
        FindingState::NoFixYet => "the vendor has no fix for bookworm (minor issue)".to_owned(),
        FindingState::PendingRestart => {
            "fixed on disk; nginx.service still maps the old file".to_owned()
        }
        _ => format!("{fixed} is installed and no process maps an older file"),
    };
    FindingRow { host_name: host.into(), severity: finding.severity(), finding, reason }
}

pub(crate) fn findings() -> Page<FindingRow> {
    let items = (0..30).map(|n| finding(n, NAMES[n % 7].0, FindingState::ALL[n / 10])).collect();
    Page { total: 183, items }
}

pub(crate) fn explained() -> FindingExplained {
    FindingExplained {
        row: finding(2, "web-2", FindingState::Open),
        lines: [
            "Debian says of openssl in bookworm: affected below 3.0.15-1~deb12u1 (debian-tracker, 2026-11-20)",
            "web-2 has 3.0.11-1~deb12u2 installed, which is older",
            "libssl3 is mapped by nginx (pid 812), which listens on 0.0.0.0:443",
            "Debian-Security offers 3.0.15-1~deb12u1 to this host",
            "policy `production` rates it `critical`: owed within 2 d of 2024-06-27",
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}

pub(crate) fn cve() -> CveDetail {
    let states =
        [FindingState::Open, FindingState::Open, FindingState::PendingRestart, FindingState::Fixed];
    let advisory = |status| Advisory {
        id: "CVE-2024-5535".into(),
        source: "openssl".into(),
        release: "bookworm".into(),
        status,
        urgency: "not yet assigned".into(),
        evidence: "debian-tracker, 2026-11-20".into(),
    };
    CveDetail {
        id: "CVE-2024-5535".into(),
        severity: finding(2, "web-2", FindingState::Open).severity,
        ranking: ranking(2),
        advisories: vec![advisory(AdvisoryStatus::Fixed { version: "3.0.15-1~deb12u1".into() })],
        findings: states
            .iter()
            .zip(["web-2", "web-4", "web-3", "web-1"])
            .map(|(s, h)| finding(2, h, *s))
            .collect(),
        by_state: counts(&[("open", 2), ("pending-restart", 1), ("fixed", 1)]),
        fleet: Some(CveRow { hosts: 3, reachable: 3, open: 2, pending: 1, fixed: 1, ..cve_row(2) }),
        first_fixed: Some(ago(90_000)),
        last_fixed: Some(ago(3_600)),
    }
}

pub(crate) fn feeds() -> Vec<FeedRow> {
    let feed = |name: &str, records, date: &str, error: Option<&str>| FeedRow {
        name: name.into(),
        records,
        errors: if name == "cvss" { 3 } else { 0 },
        date: date.into(),
        imported_at: Some(ago(7300)),
        origin: "bundled with Fettle".into(),
        last_error: error.map(str::to_owned),
        failed_at: error.map(|_| ago(900)),
        standing: match (name, error) {
            (_, Some(_)) => FeedStanding::Failed,
            ("cvss", _) => FeedStanding::Stale,
            _ => FeedStanding::Fresh,
        },
        confirmed_at: Some(ago(7300)),
        age_seconds: Some(7300),
        stale_after_seconds: 172_800,
        source: (name != "cvss").then(|| FeedSourceRow {
            urls: vec![format!("https://vendor.example/{name}"), HOSTILE.into()],
            every_seconds: 3600,
            added_by: HOSTILE.into(),
            added_at: ago(86_400),
            tried_at: Some(ago(900)),
            failures: u32::from(error.is_some()),
            next_at: Some(ago(-2700)),
        }),
        held: (name == "epss").then(|| FeedHeldRow {
            digest: Digest::of(b"held"),
            origin: HOSTILE.into(),
            code: "feed-shrunk".into(),
            reason: format!("it has 20 records, the one in force has 271448 {HOSTILE}"),
            held_at: ago(900),
        }),
    };
    vec![
        feed("debian-tracker", 48_211, "2026-11-20", None),
        feed("kev", 1_284, "2026-11-19", None),
        feed(
            "epss",
            271_448,
            "2026-11-20",
            Some("line 4 is cut off: expected `cve,epss,percentile`"),
        ),
        feed("cvss", 44_870, "2026-11-20", None),
    ]
}

fn order(packages: usize) -> ApplyOrder {
    let change = |n: usize| PackageChange {
        name: KNOWN[n].1.into(),
        architecture: "amd64".into(),
        from: KNOWN[n].2.into(),
        to: KNOWN[n].3.into(),
        sha256: Digest::of(KNOWN[n].1.as_bytes()),
        size: 400_000 * (n as u64 + 1),
    };
    ApplyOrder {
        changes: (0..packages).map(change).map(Into::into).collect(),
        fixes: (0..packages).map(|n| KNOWN[n].0.to_owned()).collect(),
        ..ApplyOrder::default()
    }
}

fn facts(step: Step) -> StepFacts {
    let notes = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect();
    match step {
        Step::Preflight => StepFacts {
            milliseconds: 640,
            notes: notes(&[
                "package database clean",
                "lock free",
                "12 GB free on /",
                "clock 0.2 s off the server's",
            ]),
            ..StepFacts::default()
        },
        Step::Stage => StepFacts {
            milliseconds: 3_420,
            notes: notes(&["22 new and 22 old archives, verified"]),
            ..StepFacts::default()
        },
        Step::Rehearse => StepFacts {
            milliseconds: 11_830,
            notes: notes(&[
                "nginx -t passed",
                "sshd -t passed",
                "412 programs resolve their libraries",
            ]),
            delta_files: Some(4_582),
            delta_bytes: Some(161_000_000),
            ..StepFacts::default()
        },
        Step::Snapshot => StepFacts {
            milliseconds: 810,
            preimage_bytes: Some(158_400_000),
            ..StepFacts::default()
        },
        Step::Apply => StepFacts {
            milliseconds: 19_740,
            notes: notes(&["22 packages configured"]),
            ..StepFacts::default()
        },
        Step::Activate => StepFacts {
            milliseconds: 1_920,
            restarted: vec!["nginx.service".into(), "ssh.service".into()],
            ..StepFacts::default()
        },
        Step::Verify => StepFacts {
            milliseconds: 5_060,
            notes: notes(&["http://127.0.0.1/ answered 200 five times"]),
            ..StepFacts::default()
        },
        Step::Drain | Step::Commit => StepFacts { milliseconds: 30, ..StepFacts::default() },
    }
}

/// A transaction that has finished `steps` steps, and how it ended.
pub(crate) fn progress(host: &str, steps: usize, outcome: Option<Outcome>) -> Progress {
    let failed = matches!(outcome, Some(Outcome::Undone { .. } | Outcome::Quarantined { .. }));
    let ended = outcome.is_some();
    Progress {
        id: TransactionId(format!("tx-ro-7-{host}-3")),
        assignment: Assignment {
            schema: 1,
            id: AssignmentId(format!("ro-7/{host}/3")),
            host: id(host),
            generation: 3,
            rollout: RolloutId::new("ro-7"),
            plan: Digest::of(b"plan"),
            issued_at: ago(240),
            not_before: ago(240),
            expires_at: ago(-3600),
            order: Order::Apply(order(6)),
        },
        begun_at: ago(200),
        finished: Step::ALL[..steps].iter().map(|s| (*s, facts(*s))).collect(),
        running: (!ended).then(|| Step::ALL[steps]),
        attempts: 1,
        touched: steps > 5,
        failed: failed.then(|| {
            let fault = Fault {
                code: "service-not-back".into(),
                message: "acme-web.service did not come back: exit code 3 within 5 s of its start"
                    .into(),
                hint: "on the host: journalctl -u acme-web.service".into(),
            };
            (Step::ALL[steps], fault)
        }),
        undo: failed.then(|| {
            let facts = UndoFacts {
                milliseconds: 912,
                files_restored: 4_582,
                notes: vec!["daemon-reload, 2 units restarted".into()],
                ..UndoFacts::default()
            };
            ("acme-web.service did not come back".to_owned(), Some(facts))
        }),
        undo_attempts: u32::from(failed),
        outcome,
        ended_at: ended.then(|| ago(150)),
        last: 20,
    }
}

fn undone() -> Outcome {
    Outcome::Undone { reason: "acme-web.service did not come back".into() }
}

fn inventory() -> Inventory {
    let origin = Origin {
        origin: "Debian".into(),
        label: "Debian-Security".into(),
        suite: "stable-security".into(),
        codename: "bookworm-security".into(),
    };
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
        boot_id: "7b1f".into(),
        packages: (0..320)
            .map(|n| Package {
                name: format!("{}-{n}", KNOWN[n % 10].1),
                architecture: "amd64".into(),
                version: KNOWN[n % 10].2.into(),
                source: KNOWN[n % 10].1.into(),
                source_version: KNOWN[n % 10].2.into(),
                healthy: n != 17,
                module: String::new(),
            })
            .map(Into::into)
            .collect(),
        languages: languages(),
        upgrades: order(6)
            .changes
            .into_iter()
            .map(|c| Upgrade {
                name: c.name.clone(),
                architecture: c.architecture.clone(),
                from: c.from.clone(),
                to: c.to.clone(),
                origin: origin.clone(),
                sha256: c.sha256,
                size: c.size,
                source_version: c.to.clone(),
                brings: vec![],
                removes: vec![],
            })
            .map(Into::into)
            .collect(),
        services: ["nginx.service", "ssh.service", "cron.service"]
            .map(|unit| Service {
                unit: unit.into(),
                active: if unit == "cron.service" { "failed" } else { "active" }.into(),
                sub: "running".into(),
                enabled: "enabled".into(),
            })
            .to_vec(),
        listeners: vec![Listener {
            protocol: "tcp".into(),
            address: "0.0.0.0".into(),
            port: 443,
            process: "nginx".into(),
            unit: "nginx.service".into(),
        }],
        stale: vec![StaleProcess {
            unit: "nginx.service".into(),
            process: "nginx".into(),
            pid: 812,
            files: vec!["/usr/lib/x86_64-linux-gnu/libssl.so.3".into()],
            packages: vec!["libssl3".into()],
        }],
        in_use: vec!["libssl3".into()],
        exposed: vec!["libssl3".into()],
        reboot_needed: vec![],
        configuration: BTreeMap::new(),
        held: vec!["perl".into()],
        ..Inventory::default()
    }
}

pub(crate) fn host() -> HostDetail {
    let mut findings: Vec<FindingRow> =
        (0..8).map(|n| finding(n, "web-2", FindingState::Open)).collect();
    findings.push(finding(3, "web-2", FindingState::PendingRestart));
    findings.extend((0..60).map(|n| finding(n, "web-2", FindingState::NoFixYet)));
    findings.extend((0..9).map(|n| finding(n, "web-2", FindingState::Fixed)));
    HostDetail {
        row: host_row(1),
        inventory: Some(inventory()),
        findings,
        transactions: vec![
            progress("web-2", 6, Some(undone())),
            progress("web-2b", 9, Some(Outcome::Patched)),
        ],
        holds: vec![Hold::VersionBarred {
            package: "acme-web".into(),
            version: "1.2".into(),
            reason: "undone on web-1 in rollout ro-6: acme-web.service did not come back".into(),
        }],
        quarantined: None,
    }
}

/// A host whose every text tries to be markup.
pub(crate) fn hostile_host() -> HostDetail {
    let mut it = host();
    it.row.name = HOSTILE.into();
    it.row.os = HOSTILE_ATTRIBUTE.into();
    it.row.labels = [(HOSTILE_ATTRIBUTE.to_owned(), HOSTILE.to_owned())].into();
    it.row.policy = Some(HOSTILE_ATTRIBUTE.into());
    it.row.state = HOSTILE_ATTRIBUTE.into();
    it.quarantined = Some(HOSTILE.into());
    for row in &mut it.findings {
        row.host_name = HOSTILE.into();
        row.reason = HOSTILE_ATTRIBUTE.into();
        row.finding.id = HOSTILE_ATTRIBUTE.into();
        row.finding.source = HOSTILE.into();
    }
    it
}

pub(crate) fn policies() -> Vec<PolicyRow> {
    let PolicyVersion { version, digest, applied_at, applied_by, text, .. } =
        policy_versions().remove(0);
    let description = "Security updates for production, canary first".into();
    let name = "production".into();
    vec![PolicyRow {
        name,
        version,
        description,
        digest,
        applied_at,
        applied_by,
        hosts: 9,
        unread: None,
        text,
    }]
}

/// Packages that no package of the distribution owns, as far away and as odd as they come.
fn languages() -> Vec<LanguagePackage> {
    let one = |ecosystem, name: &str, version: &str, location: &str| LanguagePackage {
        ecosystem,
        name: name.into(),
        version: version.into(),
        location: location.into(),
    };
    let deep = "/srv/shop/releases/2026-11-20T10:31:22/node_modules/@babel/core/package.json";
    let jar = "/opt/search/lib/bundle.jar!/META-INF/maven/org.apache.logging.log4j/log4j-core/pom.properties";
    vec![
        one(Ecosystem::Npm, "@babel/core", "7.23.2", deep),
        one(Ecosystem::Maven, "org.apache.logging.log4j:log4j-core", "2.14.1", jar),
        one(
            Ecosystem::Pypi,
            "Jinja2",
            "3.1.2",
            "/opt/venv/lib/python3.11/site-packages/Jinja2-3.1.2.dist-info/METADATA",
        ),
        one(Ecosystem::Gem, HOSTILE, HOSTILE, HOSTILE_ATTRIBUTE),
    ]
}

pub(crate) fn ledger() -> (Vec<LedgerEntry>, ChainSeen) {
    let mut all: Vec<LedgerEntry> = Vec::new();
    for n in 0..14 {
        let (actor, kind, subject) = [
            ("server", "host.enrolled", "web-2"),
            ("operator:alice", "policy.applied", "production"),
            ("host:web-1", "rollout.event", "ro-7"),
        ][n % 3];
        let body =
            serde_json::json!({ "event": "stepped", "host": "web-1", "step": "rehearse", "n": n });
        all.push(LedgerEntry::after(
            all.last(),
            ago(3000 - n as i64 * 100),
            actor,
            kind,
            subject,
            body,
        ));
    }
    let head = all.last().unwrap().hash;
    all.reverse();
    let verified = LedgerVerified { entries: 14, head, broken: None };
    (all, ChainSeen { verified, whole_at: ago(7_200), whole_entries: 11 })
}
