//! A host without a server: everything that is typed there, as a program would read it.

#![allow(clippy::unwrap_used)]

mod support;

use fettle_lab::repo::{AcmeWeb, Deb, Serve, acme_web};
use fettle_lab::tree::{self, Tree};
use fettle_lab::{HostSpec, Lab, LabHost, Output, Vendor};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{in_a_lab, say};

const PATIENCE: Duration = Duration::from_secs(300);
/// Not compared: what changes by itself, the agent's own journal, the feed, and what apt keeps of lists and archives.
const EXCLUDED: [&str; 8] = [
    "/var/log",
    "/var/lib/fettle-agent",
    "/var/cache/apt",
    "/var/lib/apt",
    "/var/tmp",
    "/root",
    "/etc/fettle",
    "/srv",
];
const CVE: &str = "CVE-2026-0001";

fn agent(host: &LabHost, line: &str) -> Output {
    let words: Vec<&str> = line.split(' ').chain(["-o", "json"]).collect();
    host.command("fettle-agent").args(words).timeout(PATIENCE).run().unwrap()
}

/// What is told on standard output: one document, and nothing on standard error but notes for people.
fn told(host: &LabHost, line: &str) -> Value {
    let said = agent(host, line);
    assert!(said.status.success(), "{line}: {}{}", said.stdout, said.stderr);
    serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{line}: {e}: {}", said.stdout))
}

/// The problem on standard error, with its exit code.
fn problem(host: &LabHost, line: &str) -> (Option<i32>, Value) {
    let said = agent(host, line);
    let problem = serde_json::from_str(&said.stderr)
        .unwrap_or_else(|e| panic!("{line}: {e}: {}{}", said.stdout, said.stderr));
    (said.status.code(), problem)
}

fn files(host: &LabHost) -> Tree {
    tree::snapshot(&host.root(), &EXCLUDED).unwrap()
}

/// A host with the vendor's package, the next version on offer, and a feed that says what that one fixes.
fn raise(lab: &Lab, bins: &Path) -> (LabHost, Vendor) {
    let host = lab.up(&["alone"], &HostSpec::default(), &say).unwrap().remove(0);
    let mut vendor = Vendor::new(lab, "acme", Serve::Files).unwrap();
    vendor.publish(&[acme_web("1.0", AcmeWeb::Good)]).unwrap();
    vendor.install_on(&host).unwrap();
    let install = "apt-get update -qq && apt-get install -y -qq acme-web=1.0";
    host.sh(install).unwrap().ok().unwrap();
    vendor.publish(&[acme_web("2.0", AcmeWeb::Good)]).unwrap();
    host.sh("apt-get update -qq; mkdir -p /etc/fettle; touch /etc/fettle/allow-failpoints")
        .unwrap()
        .ok()
        .unwrap();
    host.copy_in(bins.join("fettle-agent"), "/usr/bin/fettle-agent").unwrap();
    host.sh("chmod 755 /usr/bin/fettle-agent").unwrap().ok().unwrap();
    let fixed = json!({"status": "resolved", "repositories": {"bookworm": "2.0"},
        "fixed_version": "2.0", "urgency": "high"});
    let feed = json!({"acme-web": {CVE: {"releases": {"bookworm": fixed}}}});
    host.write_file("/var/lib/fettle-agent/feeds/debian-tracker.json", feed.to_string()).unwrap();
    (host, vendor)
}

#[test]
fn everything_typed_on_a_host_without_a_server_is_told_to_programs_as_one_document() {
    in_a_lab(|lab, bins| {
        let (host, _vendor) = raise(lab, bins);
        let before = files(&host);

        let scan = told(&host, "scan");
        assert_eq!((&scan[0]["id"], &scan[0]["state"]), (&json!(CVE), &json!("open")), "{scan}");
        assert!(!scan[0]["reasons"].as_array().unwrap().is_empty(), "{scan}");
        let plan = told(&host, "plan acme-web");
        let change = &plan["changes"][0];
        assert_eq!((&change["from"], &change["to"]), (&json!("1.0"), &json!("2.0")), "{plan}");
        assert_eq!(plan["fixes"], json!({"acme-web": [CVE]}));
        assert_eq!((&plan["left_out"], &plan["blind"]), (&json!([]), &Value::Null));
        assert_eq!(told(&host, "patch acme-web --dry-run"), plan);

        let rehearsed = told(&host, "rehearse acme-web");
        assert!(rehearsed["facts"]["delta_files"].as_u64().unwrap() > 0, "{rehearsed}");
        assert!(rehearsed["forecast"]["packages"]["acme-web"].is_object(), "{rehearsed}");
        assert_eq!(told(&host, "history")[0]["outcome"]["fault"]["code"], "only-rehearsed");

        let patched = told(&host, "patch acme-web");
        assert_eq!(patched["outcome"]["outcome"], "patched", "{patched}");
        assert_eq!(patched["finished"].as_object().unwrap().len(), 9, "every step");
        assert_eq!(patched["assignment"]["order"]["fixes"], json!([CVE]));
        assert_eq!(patched["proof"], json!({"proved": [CVE], "left": []}));
        assert_eq!(patched["left_out"], json!([]));
        let id = patched["id"].as_str().unwrap();
        let shown = told(&host, &format!("show {id}"));
        for (name, value) in shown.as_object().unwrap() {
            assert_eq!(&patched[name], value, "{name}: patch tells what show tells");
        }
        let status = told(&host, "status");
        assert_eq!(status["last"], shown);
        assert_eq!((&status["needs_attention"], &status["under_way"]), (&json!([]), &Value::Null));
        assert_eq!(told(&host, "scan")[0]["state"], "fixed");
        assert_eq!(told(&host, "resume"), Value::Null);
        assert!(told(&host, "doctor").is_array());

        let undone = told(&host, "undo");
        assert_eq!(undone["outcome"]["outcome"], "undone", "{undone}");
        assert_eq!(undone["undo"][1]["differing"], json!([]));
        assert_eq!(undone["undo"][1]["set_aside"], json!([]), "nobody but the change wrote");
        assert!(undone["undo"][1]["files_restored"].as_u64().unwrap() > 0);
        let differing = tree::diff(&before, &files(&host));
        assert!(differing.is_empty(), "{}", differing[0]);
        assert_eq!(told(&host, "scan")[0]["state"], "open");

        for (line, exit, code) in [
            ("undo", 3, "nothing-to-undo"),
            (&format!("undo {id}"), 4, "already-undone"),
            ("show nothing", 3, "transaction-unknown"),
            ("patch nothing", 3, "no-such-upgrade"),
            ("patch --hung-after soon", 2, "usage"),
            ("scan --feeds /nowhere", 5, "feed-unreadable"),
            ("confirm", 3, "nothing-to-confirm"),
        ] {
            let (got, problem) = problem(&host, line);
            assert_eq!((got, &problem["code"]), (Some(exit), &json!(code)), "{line}: {problem}");
            assert!(!problem["hint"].as_str().unwrap().is_empty(), "{line}: what to do next");
        }
    });
}

#[test]
fn what_an_administrator_has_edited_since_is_kept_and_named_and_declared_data_is_left_alone() {
    in_a_lab(|lab, bins| {
        let (host, _vendor) = raise(lab, bins);
        host.sh("mkdir -p /etc/fettle/data.d; echo /etc/acme-web/data > /etc/fettle/data.d/acme; mkdir /etc/acme-web/data; echo 1 > /etc/acme-web/data/rows")
            .unwrap()
            .ok()
            .unwrap();
        let before = files(&host);
        assert_eq!(told(&host, "patch acme-web")["outcome"]["outcome"], "patched");
        let edit = "echo mine >> /usr/share/doc/acme-web/README; echo 2 >> /etc/acme-web/data/rows; echo 3 > /etc/acme-web/data/new";
        host.sh(edit).unwrap().ok().unwrap();
        let undone = told(&host, "undo");
        assert_eq!(undone["outcome"]["outcome"], "undone", "{undone}");
        assert_eq!(undone["undo"][1]["kept"], json!(["/usr/share/doc/acme-web/README"]));
        let differing = tree::diff(&before, &files(&host));
        let differing: Vec<String> =
            differing.iter().map(|d| d.path.display().to_string()).collect();
        assert_eq!(
            differing,
            ["/etc/acme-web/data/new", "/etc/acme-web/data/rows", "/usr/share/doc/acme-web/README"]
        );
        host.write_file("/etc/fettle/data.d/bad", "relative\n").unwrap();
        let (exit, problem) = problem(&host, "patch acme-web");
        assert_eq!((exit, &problem["code"]), (Some(7), &json!("data-paths")), "{problem}");
    });
}

#[test]
fn while_one_changes_the_host_a_second_one_is_told_so_and_several_are_taken_back_in_order() {
    in_a_lab(|lab, bins| {
        let (host, mut vendor) = raise(lab, bins);
        let first = host
            .command("fettle-agent")
            .args(["patch", "acme-web"])
            .env("FETTLE_WAIT_AT", "apply:before")
            .timeout(PATIENCE)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !host.sh("test -e /run/fettle-agent/waiting").unwrap().success() {
            assert!(Instant::now() < deadline, "{}", first.stdout_so_far());
            std::thread::sleep(Duration::from_millis(100));
        }
        let (exit, problem) = problem(&host, "patch acme-web");
        assert_eq!((exit, &problem["code"]), (Some(7), &json!("busy")), "{problem}");
        let status = told(&host, "status");
        assert_eq!(status["under_way"]["step"], "apply", "{status}");
        assert_eq!(status["needs_attention"], json!([]), "somebody carries it on");
        assert_eq!(told(&host, "resume")["running"], "apply");
        host.sh("rm /run/fettle-agent/waiting").unwrap().ok().unwrap();
        let said = first.wait(PATIENCE).unwrap();
        assert!(said.success(), "{}{}", said.stdout, said.stderr);
        assert_eq!(told(&host, "history").as_array().unwrap().len(), 1);
        several(&host, &mut vendor);
    });
}

/// What the units of [`pair`] write a line into with each start.
const STARTS: &str = "/var/log/starts";
const UNITS: &str = "acme-app.service zeta-db.service acme-idle.service acme-tick.timer";

/// Two services that listen and run a program of the package, of which the first by name needs the second; one that is
/// enabled and need not run; and a timer. `script` is run on the host itself when the package is upgraded.
fn pair(host: &LabHost, version: &str, script: &str) -> Deb {
    let unit = |name: &str, more: &str, listens: u16| {
        format!(
            "[Unit]\nDescription={name}\n{more}\n[Service]\nType=exec\nExecStartPre=/bin/sh -c 'echo {name} >> {STARTS}'\n\
             ExecStart=/usr/lib/acme-pair/run -MIO::Socket::INET -e \"$$l = IO::Socket::INET->new(LocalPort => {listens}, Listen => 4, ReuseAddr => 1) or die; sleep\"\n\n\
             [Install]\nWantedBy=multi-user.target\n"
        )
    };
    let place = |name: &str| format!("/lib/systemd/system/{name}");
    let needs = "Requires=zeta-db.service\nAfter=zeta-db.service\n";
    let tick =
        "[Timer]\nOnCalendar=yearly\nUnit=acme-tick.service\n\n[Install]\nWantedBy=timers.target\n";
    Deb::new("acme-pair", version)
        .file("/usr/lib/acme-pair/run", 0o755, host.read_file("/usr/bin/perl").unwrap())
        .file("/usr/share/doc/acme-pair/README", 0o644, version)
        .file(&place("acme-app.service"), 0o644, unit("acme-app", needs, 8091))
        .file(&place("zeta-db.service"), 0o644, unit("zeta-db", "", 8092))
        .file(&place("acme-idle.service"), 0o644, unit("acme-idle", "", 8093))
        .file(&place("acme-tick.service"), 0o644, "[Service]\nType=oneshot\nExecStart=/bin/true\n")
        .file(&place("acme-tick.timer"), 0o644, tick)
        .postinst(&format!(
            "if [ \"$1\" = configure ] && [ -n \"$2\" ] && [ -S /run/systemd/private ]; then {script}; fi"
        ))
}

/// Unit → the name of its run, of every service that runs.
fn runs(host: &LabHost) -> BTreeMap<String, String> {
    let show = "systemctl show --type=service --state=running --property=Id,InvocationID '*'";
    let text = host.sh(show).unwrap().ok().unwrap();
    let value = |block: &str, key: &str| {
        block.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default().to_owned()
    };
    let run = |block: &str| (value(block, "Id="), value(block, "InvocationID="));
    text.split("\n\n").map(run).collect()
}

/// Services that run and have been started since `before`, but for those of log-ins and what the bus starts.
fn started_since(host: &LabHost, before: &BTreeMap<String, String>) -> Vec<String> {
    const BY_THEMSELVES: [&str; 4] = ["user", "systemd-", "getty", "polkit"];
    let now = runs(host).into_iter().filter(|(unit, run)| before.get(unit) != Some(run));
    now.map(|(unit, _)| unit)
        .filter(|unit| !BY_THEMSELVES.iter().any(|prefix| unit.starts_with(prefix)))
        .collect()
}

fn states(host: &LabHost) -> String {
    // It ends with an error where one of them does not run.
    host.sh(&format!("systemctl is-active {UNITS}")).unwrap().stdout.replace('\n', " ")
}

fn starts(host: &LabHost) -> String {
    let lines = host.sh(&format!("sort {STARTS}; : > {STARTS}")).unwrap().ok().unwrap();
    lines.replace('\n', " ")
}

/// One change of units that fails and one that ends well, another after it, a boot, and both are taken back.
fn several(host: &LabHost, vendor: &mut Vendor) {
    const AS_WANTED: &str = "active active inactive active ";
    let sh = |script: &str| host.sh(script).unwrap().ok().unwrap();
    let first = told(host, "history")[0]["id"].as_str().unwrap().to_owned();
    vendor.publish(&[pair(host, "1", "true")]).unwrap();
    sh(&format!(
        "apt-get update -qq && apt-get install -y -qq acme-pair && systemctl enable -q --now {UNITS} && systemctl stop acme-idle && : > {STARTS}"
    ));
    assert_eq!(states(host), AS_WANTED);
    assert_eq!(problem(host, &format!("undo {first}")).1["code"], "packages-changed-since");

    // A timer that no longer waits is no good end, and what was stopped by hand is stopped again.
    let before = files(host);
    vendor
        .publish(&[pair(host, "2", "systemctl start acme-idle; systemctl stop acme-tick.timer")])
        .unwrap();
    sh("apt-get update -qq");
    let undone = agent(host, "patch acme-pair");
    let undone: Value = serde_json::from_str(&undone.stdout).unwrap();
    assert_eq!(undone["outcome"]["outcome"], "undone", "{undone}");
    let reason = undone["outcome"]["reason"].as_str().unwrap();
    assert!(reason.contains("acme-tick.timer was active and is inactive"), "{reason}");
    assert_eq!(states(host), AS_WANTED, "{undone}");
    let differing = tree::diff(&before, &files(host));
    assert!(differing.is_empty(), "{}", differing[0]);

    // Each of two services that listen is started once, though one is restarted with the other.
    starts(host);
    vendor.publish(&[pair(host, "3", "systemctl start acme-idle")]).unwrap();
    sh("apt-get update -qq");
    let patched = told(host, "patch acme-pair");
    assert_eq!(patched["outcome"]["outcome"], "patched", "{patched}");
    assert_eq!(starts(host), "acme-app acme-idle zeta-db ", "{patched}");
    let pair = patched["id"].as_str().unwrap();
    let between = files(host);

    vendor.publish(&[acme_web("3.0", AcmeWeb::Good)]).unwrap();
    sh("apt-get update -qq");
    assert_eq!(told(host, "patch acme-web")["outcome"]["outcome"], "patched");
    assert_eq!(problem(host, &format!("undo {pair}")).1["code"], "later-transaction");

    // Another boot, and a clock that is days ahead of the one that the changes were written down by.
    host.reboot(PATIENCE).unwrap();
    sh(
        "sed -i -E 's/^\\{\"at\":\"20[0-9][0-9]/{\"at\":\"2020/' /var/lib/fettle-agent/transactions/*/baseline.json; grep -q '\"at\":\"2020' /var/lib/fettle-agent/transactions/*/baseline.json",
    );
    assert_eq!(states(host), "active active active active ");
    starts(host);
    let booted = runs(host);
    let undone = told(host, "undo");
    assert_eq!(undone["outcome"]["outcome"], "undone", "{undone}");
    assert_eq!(started_since(host, &booted), ["acme-web.service"], "{undone}");
    assert_eq!(starts(host), "");
    let differing = tree::diff(&between, &files(host));
    assert!(differing.is_empty(), "{}", differing[0]);

    let booted = runs(host);
    let undone = told(host, "undo");
    assert_eq!(undone["outcome"]["outcome"], "undone", "{undone}");
    assert_eq!(started_since(host, &booted), ["acme-app.service", "zeta-db.service"], "{undone}");
    assert_eq!(starts(host), "acme-app zeta-db ", "{undone}");
    assert_eq!(states(host), AS_WANTED, "{undone}");
    let differing = tree::diff(&before, &files(host));
    assert!(differing.is_empty(), "{}", differing[0]);
}
