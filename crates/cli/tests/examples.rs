//! The scripts in `examples/`, run as they stand against a real server.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod desk;

use desk::Desk;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// A server with a policy in force and no host.
fn desk() -> Desk {
    let desk = desk::start();
    let (said, ok) = desk.sh("fettle policy apply \"$EXAMPLES/policies/demo.toml\"");
    assert!(ok, "{said}");
    desk
}

impl Desk {
    /// What a line of shell says, both streams, and whether it went well.
    fn sh(&self, line: &str) -> (String, bool) {
        let program = Path::new(env!("CARGO_BIN_EXE_fettle")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(self.dir.path())
            .env("PATH", path)
            .env("EXAMPLES", examples())
            .env("FETTLE_SERVER", format!("http://{}", self.running.operator_addr))
            .env("FETTLE_TOKEN_FILE", self.dir.path().join("data/operator.token"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.success())
    }

    /// One host, governed, judged by data of today, with nothing open.
    fn looked_at(&self) {
        let write =
            |name: &str, text: &str| std::fs::write(self.dir.path().join(name), text).unwrap();
        write(
            "tracker.json",
            r#"{"openssl": {"CVE-2024-5535": {"releases": {"bookworm": {"status": "open",
            "repositories": {"bookworm": "3.0.15-1~deb12u1"}, "urgency": "low"}}}}}"#,
        );
        write(
            "kev.json",
            r#"{"count":1,"vulnerabilities":[{"cveID":"CVE-2024-3094","dateAdded":"2026-11-01",
            "dueDate":"2026-11-22","knownRansomwareCampaignUse":"Unknown"}]}"#,
        );
        write(
            "image.json",
            r#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [
            {"type": "operating-system", "name": "debian", "version": "12"},
            {"type": "library", "name": "libssl3", "version": "3.0.15-1~deb12u1",
             "purl": "pkg:deb/debian/libssl3@3.0.15-1~deb12u1?arch=amd64&distro=debian-12"}]}"#,
        );
        let policy = "[policy]\nname = \"images\"\nselect = \"all\"\n[[class]]\nname = \"all\"\ndeadline = \"7d\"\n\
                      [[ring]]\nname = \"all\"\n";
        write("images.toml", policy);
        for line in [
            "fettle policy apply images.toml",
            "fettle feed import debian-tracker tracker.json",
            "fettle feed import kev kev.json",
            "fettle sbom import shop-image image.json",
        ] {
            let (said, ok) = self.sh(line);
            assert!(ok, "{line}: {said}");
        }
    }

    /// What a script says that has to go well.
    fn run(&self, line: &str) -> String {
        let (said, ok) = self.sh(&format!("\"$EXAMPLES\"/{line}"));
        assert!(ok, "{line}: {said}");
        said
    }
}

#[test]
fn every_script_says_how_it_is_used_when_nothing_is_given() {
    let desk = desk();
    let mut found = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".sh") {
            continue;
        }
        found += 1;
        let (said, ok) = desk.sh(&format!("\"$EXAMPLES\"/{name}"));
        assert!(!ok && said.contains(&format!("usage: {name}")), "{name}: {said}");
    }
    assert!(found >= 7, "{found}");
}

#[test]
fn the_first_rollout_shows_its_plan_and_starts_nothing_that_nobody_agreed_to() {
    let desk = desk();
    let policy = "\"$EXAMPLES/policies/demo.toml\"";
    let (said, ok) = desk.sh(&format!("echo n | \"$EXAMPLES\"/first-rollout.sh {policy}"));
    assert!(ok && said.contains("Start plan 1?"), "{said}");
    assert!(desk.sh("fettle rollout list").0.contains("plan"), "nothing was started");
    // With nobody to answer it ends, too.
    let (said, ok) = desk.sh(&format!("\"$EXAMPLES\"/first-rollout.sh {policy}"));
    assert!(!ok && said.contains("Start plan 2?"), "{said}");
    // A plan without a host starts no rollout, and says so.
    let (said, ok) = desk.sh(&format!("echo y | \"$EXAMPLES\"/first-rollout.sh {policy}"));
    assert!(!ok && said.contains("plan 3"), "{said}");
    let name = std::fs::read_to_string(examples().join("policies/demo.toml")).unwrap();
    let name = name.lines().find_map(|l| l.strip_prefix("name = ")).unwrap().to_owned();
    let (said, ok) = desk.sh(&format!("\"$EXAMPLES\"/blue-green.sh {name}"));
    assert!(!ok && said.contains("plan 4"), "{said}");
}

#[test]
fn a_freeze_puts_a_blackout_into_every_policy_and_is_in_force_when_it_ends() {
    let desk = desk();
    let said = desk.run("freeze.sh 2099-12-18 2100-01-03 'year end'");
    assert!(said.contains("in force"), "{said}");
    let listed = desk.sh("fettle -o json policy list").0;
    for part in ["[[blackout]]", "from = 2099-12-18", "to = 2100-01-03", "year end"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let (said, ok) = desk.sh("\"$EXAMPLES\"/freeze.sh 2099-12-18 2099-13-01 odd");
    assert!(!ok, "a day that is none: {said}");
    assert_eq!(desk.sh("fettle -o json policy list").0, listed, "nothing was applied");
}

#[test]
fn an_emergency_is_declared_and_a_version_recalled_by_their_scripts() {
    let desk = desk();
    let said = desk.run("emergency.sh CVE-2026-1 'exploited since this morning'");
    assert!(said.contains("exploited since this morning"), "{said}");
    let said = desk.run("recall.sh openssl=3.0.15-1~deb12u1 'answers 500'");
    assert!(said.contains("openssl 3.0.15-1~deb12u1 is recalled"), "{said}");
    let (said, ok) = desk.sh("\"$EXAMPLES\"/recall.sh openssl 'no version'");
    assert!(!ok && said.contains("PACKAGE=VERSION"), "{said}");
}

#[test]
fn last_months_report_and_evidence_are_written_where_they_were_asked_for() {
    let desk = desk();
    let said = desk.run("monthly-report.sh .");
    assert!(said.contains("patching-") && said.contains(" holds: "), "{said}");
    let names: Vec<String> = std::fs::read_dir(desk.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    for begin in ["patching-20", "evidence-20"] {
        assert_eq!(names.iter().filter(|n| n.starts_with(begin)).count(), 1, "{names:?}");
    }
}

#[test]
fn every_policy_passes_its_check_and_so_does_the_one_that_terraform_renders() {
    let desk = desk();
    let mut found = 0;
    for entry in std::fs::read_dir(examples().join("policies")).unwrap() {
        let path = entry.unwrap().path();
        let (said, ok) = desk.sh(&format!("fettle policy check {}", path.display()));
        assert!(ok, "{said}");
        found += 1;
    }
    assert!(found >= 8, "{found}");
    let template = std::fs::read_to_string(examples().join("terraform/policy.toml.tftpl")).unwrap();
    let main = std::fs::read_to_string(examples().join("terraform/main.tf")).unwrap();
    let mut text = template;
    for (name, value) in [
        ("name", "prod"),
        ("description", "Hosts labelled env=prod"),
        ("select", "env=prod"),
        ("approvals", "1"),
        ("urgent_deadline", "3d"),
        ("standard_deadline", "30d"),
        ("bake", "1h"),
    ] {
        assert!(main.contains(name), "main.tf gives {name}");
        text = text.replace(&format!("${{{name}}}"), value);
    }
    assert!(!text.contains("${"), "{text}");
    std::fs::write(desk.dir.path().join("prod.toml"), text).unwrap();
    let (said, ok) = desk.sh("fettle policy apply prod.toml");
    assert!(ok && said.contains("prod"), "{said}");
}

#[test]
fn a_pipeline_goes_on_while_nothing_is_open() {
    let desk = desk();
    // Nobody has looked at anything: that is no reason to go on.
    let (said, ok) = desk.sh("\"$EXAMPLES\"/exposure-gate.sh critical");
    assert!(!ok && said.contains("error[no-data]"), "{said}");
    desk.looked_at();
    let said = desk.run("exposure-gate.sh critical");
    assert!(said.contains("nothing of that kind is open"), "{said}");
    let (said, ok) = desk.sh("\"$EXAMPLES\"/exposure-gate.sh dreadful");
    assert!(!ok && said.contains("error[severity]"), "{said}");
    // What the other files call is typed as it can be.
    let pipeline = std::fs::read_to_string(examples().join("ci/gitlab-ci.yml")).unwrap();
    for line in pipeline.lines().filter_map(|l| l.trim().strip_prefix("- fettle ")) {
        let (said, ok) = desk.sh(&format!("fettle {line}"));
        assert!(ok, "{line}: {said}");
    }
}

#[test]
fn the_inventory_for_ansible_is_what_ansible_reads() {
    let desk = desk();
    let inventory = "python3 \"$EXAMPLES\"/ansible/fettle_inventory.py";
    let (said, ok) = desk.sh(&format!("{inventory} --list"));
    assert!(ok, "{said}");
    let list: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(list["_meta"]["hostvars"].is_object() && list["all"]["hosts"].is_array(), "{said}");
    let (said, ok) = desk.sh(&format!("FETTLE_VIEW=none {inventory} --list"));
    assert!(!ok && said.contains("you see no saved view `none`"), "{said}");
    let (said, ok) = desk.sh(&format!("FETTLE_SERVER=http://127.0.0.1:9 {inventory} --list"));
    assert!(!ok && said.contains("http://127.0.0.1:9"), "{said}");
}
