//! What a monitoring system sees: each metric that rules, board and document name is one that the server exports, and a
//! real Prometheus scrapes a real server, takes the rules and answers every question of the board.

use crate::fleet::{Lab, start, until};
use crate::http::{Answer, ask, tcp};
use fettle_core::operator::Role;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(repository().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Words that are metrics: `fettle_` and what belongs to it.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("fettle_")).map(str::to_owned).collect()
}

/// What a server exports that has hosts, feeds and a rollout.
fn exported(lab: &Lab) -> BTreeSet<String> {
    let bearer = format!("Bearer {}", lab.token);
    let headers = [("authorization", bearer.as_str())];
    let answer = ask(tcp(lab.operator).unwrap(), "GET", "/metrics", &headers, b"").unwrap();
    let text = answer.text();
    let described = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    described
        .map(|line| match line.split_once(' ') {
            // OpenMetrics names the family; its sample, which is asked for, ends so.
            Some((name, "counter")) => format!("{name}_total"),
            Some((name, _)) => name.to_owned(),
            None => panic!("{line}"),
        })
        .collect()
}

/// Every question that the board asks, with its variables filled in.
fn questions() -> Vec<String> {
    let board: Value = serde_json::from_str(&read("deploy/grafana/fettle.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().replace("$instance", ".*")).collect()
}

#[test]
fn rules_board_and_document_name_the_metrics_that_are_exported_and_the_document_names_all() {
    // A family without a member is not there: so there are hosts, a rollout, and a feed that was refused.
    let lab = Lab::furnished();
    let hosts = [lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    start(&lab);
    assert!(lab.call("POST", "/feeds/kev", b"no feed").status >= 400);
    let exported = until("every family", || Some(exported(&lab)).filter(|all| all.len() >= 18));
    drop(hosts);
    for file in [
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/alerts_test.yml",
        "deploy/grafana/fettle.json",
    ] {
        let named = metrics_in(&read(file));
        let unknown: Vec<_> = named.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file} names what nobody exports: {unknown:?}");
        assert!(named.len() >= 8, "{file}: {named:?}");
    }
    assert_eq!(metrics_in(&read("docs/metrics.md")), exported);
    assert!(questions().len() >= 15);
}

#[test]
fn every_alert_is_in_the_document_and_is_tried() {
    let rules = read("deploy/prometheus/alerts.yml");
    let (document, tests) = (read("docs/metrics.md"), read("deploy/prometheus/alerts_test.yml"));
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        assert!(document.contains(&format!("`{alert}`")), "docs/metrics.md lacks {alert}");
        assert!(tests.contains(alert), "alerts_test.yml does not try {alert}");
    }
}

/// Runs Prometheus's own tool. `false`: it is not installed here; `cargo xtask test` installs it.
fn promtool(arguments: &[&str]) -> bool {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(repository().join("deploy/prometheus"));
    match command.output() {
        Ok(said) => {
            let text = [said.stdout, said.stderr].concat();
            assert!(said.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&text));
            true
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "promtool cannot be run: {error}");
            eprintln!("promtool is not installed: not tried");
            false
        }
    }
}

#[test]
fn promtool_takes_the_rules_and_they_wake_whom_they_should_and_nobody_else() {
    let _ = promtool(&["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"])
        && promtool(&["test", "rules", "alerts_test.yml"]);
}

/// A Prometheus that runs.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Configured by the file that ships, with this server's address and token. `None`: it is not installed.
    fn scraping(server: SocketAddr, token: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        std::fs::write(at("token"), token).unwrap();
        std::fs::write(at("alerts.yml"), read("deploy/prometheus/alerts.yml")).unwrap();
        let shipped = read("deploy/prometheus/prometheus.yml");
        let config = shipped
            .replace("/etc/prometheus/fettle.token", at("token").to_str().unwrap())
            .replace("127.0.0.1:8440", &server.to_string());
        assert_ne!(config, shipped);
        let quick = "global: {scrape_interval: 1s, evaluation_interval: 1s}\n";
        std::fs::write(at("prometheus.yml"), format!("{quick}{config}")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", at("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", at("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Self { child, address, _dir: dir }),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "prometheus cannot be run: {error}");
                eprintln!("prometheus is not installed: not tried");
                None
            }
        }
    }

    /// What its API answers; `None`: nothing yet.
    fn get(&self, path: &str) -> Option<Value> {
        let answer: Answer = ask(tcp(self.address).ok()?, "GET", path, &[], b"").ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    fn query(&self, query: &str) -> Option<Value> {
        let escaped: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
        self.get(&format!("/api/v1/query?query={escaped}"))
    }

    /// The number that a query gives.
    fn number(&self, query: &str) -> Option<f64> {
        self.query(query)?["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

#[test]
fn a_real_prometheus_scrapes_the_server_with_a_viewers_token_and_answers_rules_and_board() {
    let lab = Lab::furnished();
    let hosts = [lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    let token = lab.add("prometheus", &[Role::Viewer]);
    let Some(prometheus) = Prometheus::scraping(lab.operator, &token) else { return };
    until("the first scrape", || prometheus.number("up{job=\"fettle\"}").filter(|up| *up == 1.0));
    let hosts = hosts.len() as f64;
    until("the hosts", || prometheus.number("sum(fettle_hosts)").filter(|n| *n == hosts));
    assert!(prometheus.number("fettle_ledger_entries").unwrap() > 3.0);
    assert!(prometheus.number("fettle_checkins_total").unwrap() >= hosts);
    for question in questions() {
        let answer = prometheus.query(&question).unwrap();
        assert_eq!(answer["status"], "success", "{question}: {answer}");
    }
    // Each rule was evaluated, and none failed.
    let rules = until("the rules", || {
        let rules = prometheus.get("/api/v1/rules")?;
        let all = rules["data"]["groups"][0]["rules"].as_array()?.clone();
        all.iter().all(|rule| rule["health"] == "ok").then_some(all)
    });
    assert!(rules.len() >= 10, "{rules:?}");
    // What must wake somebody does: a server that is gone.
    drop(lab);
    until("the alert", || {
        let alerts = prometheus.query("ALERTS{alertname=\"FettleDown\"}")?;
        alerts["data"]["result"].as_array().filter(|all| !all.is_empty()).map(drop)
    });
}
