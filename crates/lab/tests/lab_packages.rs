//! The life of the packages on a booted host: install, upgrade, downgrade, remove, purge. `cargo xtask test` makes them,
//! of two versions, and names their directory in `FETTLE_PACKAGES`.

#![allow(clippy::unwrap_used)]

mod support;

use fettle_lab::{HostSpec, LabHost, tree};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::{in_a_lab, say};

/// Not compared: what other programs write by themselves, and the package manager's own book-keeping.
const EXCLUDED: [&str; 12] = [
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/tmp",
    "/var/log",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/systemd",
    "/var/tmp",
    "/srv",
];
/// Spare copies that the tools for users make of the files beside them.
const SPARE: [&str; 6] = [
    "/etc/passwd-",
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
    "/etc/subuid-",
    "/etc/subgid-",
];
const PATIENCE: Duration = Duration::from_secs(90);

fn sh(host: &LabHost, script: &str) -> String {
    host.sh(script).unwrap().ok().unwrap_or_else(|e| panic!("{script}: {e}")).trim().to_owned()
}

fn fails(host: &LabHost, script: &str) -> String {
    let said = host.sh(script).unwrap();
    assert!(!said.success(), "{script} went well: {}", said.stdout);
    format!("{}{}", said.stdout, said.stderr)
}

/// What the server says to an operator on its machine.
fn asked(host: &LabHost, line: &str) -> Value {
    let text = sh(host, &format!("fettle -o json {line}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{line}: {e}: {text}"))
}

/// Asks until there is an answer.
fn wait<T>(what: &str, host: &LabHost, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        if begun.elapsed() > PATIENCE {
            let log = "journalctl --no-pager -n 30 -u fettle -u fettle-agent";
            panic!("waited for {what}: {}", host.sh(log).unwrap().stdout);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Both packages of a version, as somebody installs them who has downloaded them.
fn install(host: &LabHost, which: &str, options: &str) -> String {
    // A question about a configuration file would find nobody to answer it.
    sh(
        host,
        &format!(
            "cd /srv/{which} && sha256sum --quiet --check SHA256SUMS && \
             DEBIAN_FRONTEND=noninteractive apt-get -qq -y {options} install ./*.deb </dev/null 2>&1"
        ),
    )
}

/// When the agent of the only host was last heard.
fn heard(host: &LabHost) -> String {
    let hosts = asked(host, "host list");
    hosts["items"][0]["last_seen"].as_str().unwrap_or_default().to_owned()
}

/// Server and agent run as this version, and know each other and what they knew before.
fn goes_on(host: &LabHost, version: &str, id: &str) {
    for package in ["fettle", "fettle-agent"] {
        let installed = sh(host, &format!("dpkg-query -W -f '${{Status}} ${{Version}}' {package}"));
        assert_eq!(installed, format!("install ok installed {version}"));
        assert_eq!(sh(host, &format!("systemctl is-active {package}")), "active");
        assert_eq!(sh(host, &format!("systemctl is-enabled {package}")), "enabled");
        // What runs is what is installed, not a program that was replaced.
        let program =
            sh(host, &format!("readlink /proc/$(systemctl show -P MainPID {package})/exe"));
        assert_eq!(program, format!("/usr/bin/{package}"));
    }
    let hosts = asked(host, "host list");
    assert_eq!(hosts["items"][0]["id"], id, "{hosts}");
    assert_eq!(asked(host, "policy list")["items"][0]["name"], "demo");
    assert!(sh(host, "grep -c '^FETTLE_SERVER_CHECKIN_IDLE=5$' /etc/fettle/server.env") == "1");
    let before = heard(host);
    wait("the agent to check in", host, || (heard(host) != before).then_some(()));
    assert!(sh(host, "fettle audit verify").contains("hold"));
}

fn packages() -> Option<PathBuf> {
    std::env::var_os("FETTLE_PACKAGES").map(PathBuf::from).filter(|dir| dir.join("newer").is_dir())
}

#[test]
fn packages_install_start_keep_everything_over_upgrades_and_downgrades_and_leave_nothing() {
    let Some(packages) = packages() else {
        println!("skipped: FETTLE_PACKAGES names no packages; `cargo xtask test` makes them");
        return;
    };
    in_a_lab(|lab, _| {
        let host = lab.up(&["alone"], &HostSpec::default(), &say).unwrap().remove(0);
        let mut before = tree::snapshot(&host.root(), &EXCLUDED).unwrap();
        host.copy_in(&packages, "/srv").unwrap();

        a_server_is_installed_and_answers(&host);
        let id = a_host_joins(&host);
        upgraded_and_back(&host, &id);
        removed_and_purged(&host, &id);

        let mut after = tree::snapshot(&host.root(), &EXCLUDED).unwrap();
        for spare in SPARE.map(Path::new) {
            before.entries.remove(spare);
            after.entries.remove(spare);
        }
        let left = tree::diff(&before, &after);
        let left: Vec<String> = left.iter().map(ToString::to_string).collect();
        assert_eq!(left, Vec::<String>::new(), "left behind");
    });
}

fn a_server_is_installed_and_answers(host: &LabHost) {
    let said = install(host, "older", "");
    assert!(!said.contains("did not start"), "{said}");
    wait("the server", host, || host.sh("fettle feed list").unwrap().success().then_some(()));
    assert_eq!(sh(host, "systemctl show -P User fettle"), "fettle");
    assert_eq!(sh(host, "stat -c '%U:%G %a' /var/lib/fettle"), "fettle:fettle 700");
    assert_eq!(sh(host, "stat -c '%U:%G %a' /var/backups/fettle"), "fettle:fettle 700");
    // The agent waits for somebody to enrol the host, and nothing has failed.
    assert!(fails(host, "systemctl is-active fettle-agent").contains("inactive"));
    assert_eq!(sh(host, "systemctl list-units --failed --plain --no-legend 'fettle*'"), "");
    let level = "systemd-analyze security --no-pager fettle | tail -1 | grep -o '[0-9]*\\.[0-9]'";
    let level: f64 = sh(host, level).parse().unwrap();
    assert!(level < 3.0, "{level}");
    for file in [
        "/usr/share/man/man1/fettle-server.1.gz",
        "/usr/share/man/man8/fettle-agent.8.gz",
        "/usr/share/bash-completion/completions/fettle",
        "/usr/share/bash-completion/completions/fettle-agent",
        "/usr/share/zsh/vendor-completions/_fettle",
        "/usr/share/doc/fettle/copyright",
        "/usr/share/doc/fettle/examples/policies/demo.toml",
    ] {
        sh(host, &format!("dpkg -S {file}"));
    }
    assert!(sh(host, "dpkg --audit; dpkg -V fettle fettle-agent").is_empty());
    // Every script may run again.
    for package in ["fettle", "fettle-agent"] {
        sh(host, &format!("sh /var/lib/dpkg/info/{package}.postinst configure 0.0.1"));
        sh(host, &format!("sh /var/lib/dpkg/info/{package}.postinst abort-upgrade 0.0.2"));
    }
    // A setting that nobody knows is not silently none.
    sh(
        host,
        "echo FETTLE_SERVER_CHEKIN=5 >>/etc/fettle/server.env; systemctl restart fettle || true",
    );
    let journal = "journalctl --no-pager -u fettle -o cat | grep FETTLE_SERVER_CHEKIN";
    wait("the refusal in the journal", host, || host.sh(journal).unwrap().success().then_some(()));
    sh(
        host,
        "sed -i 's/^FETTLE_SERVER_CHEKIN=5$/FETTLE_SERVER_CHECKIN_IDLE=5/' /etc/fettle/server.env",
    );
    sh(host, "systemctl reset-failed fettle; systemctl restart fettle");
}

/// Enrols the host at the server on it, and gives back its id.
fn a_host_joins(host: &LabHost) -> String {
    sh(host, "fettle policy apply /usr/share/doc/fettle/examples/policies/demo.toml");
    let made = asked(host, "token create --label env=demo --ttl 10m");
    let token = made["token"].as_str().unwrap();
    sh(host, &format!("fettle-agent enroll --server https://localhost:8441 --token {token}"));
    sh(host, "systemctl enable --now fettle-agent");
    let id = wait("the host's inventory", host, || {
        let hosts = asked(host, "host list");
        let only = &hosts["items"][0];
        let known = only["id"].is_string() && only["state"] != "no-inventory";
        known.then(|| only["id"].as_str().unwrap().to_owned())
    });
    // The service as it ships can do what it is for.
    sh(host, "systemctl start fettle-backup.service");
    assert_eq!(sh(host, "ls /var/backups/fettle | wc -l"), "1");
    id
}

fn upgraded_and_back(host: &LabHost, id: &str) {
    goes_on(host, "0.0.1", id);
    let said = install(host, "newer", "");
    assert!(!said.contains("no backup"), "{said}");
    goes_on(host, "0.0.2", id);
    // The way back from an upgrade that changes the database.
    let kept = "/var/backups/fettle/before-upgrade-from-0.0.1.tar.gz";
    assert!(sh(host, &format!("fettle backup verify {kept}")).contains("1 hosts"));
    install(host, "older", "--allow-downgrades");
    goes_on(host, "0.0.1", id);
    // What an administrator has switched off stays off.
    sh(host, "systemctl disable --now fettle-agent");
    install(host, "newer", "");
    let said = fails(host, "systemctl is-enabled fettle-agent");
    assert!(said.contains("disabled"), "{said}");
    sh(host, "systemctl enable --now fettle-agent");
    goes_on(host, "0.0.2", id);
}

fn removed_and_purged(host: &LabHost, id: &str) {
    sh(host, "apt-get -qq -y remove fettle fettle-agent </dev/null");
    assert!(fails(host, "systemctl is-active fettle fettle-agent").contains("inactive"));
    assert!(host.exists("/var/lib/fettle/fettle.db"), "data outlives a removal");
    assert!(host.exists("/etc/fettle/server.env"), "and so does configuration");
    assert!(!host.exists("/usr/bin/fettle"));
    install(host, "newer", "");
    goes_on(host, "0.0.2", id);

    let said = sh(host, "apt-get -qq -y purge fettle fettle-agent </dev/null 2>&1");
    assert!(
        said.contains("backups of the Fettle server are left in /var/backups/fettle"),
        "{said}"
    );
    assert_eq!(sh(host, "stat -c %U /var/backups/fettle"), "root", "of nobody who is gone");
    fails(host, "getent passwd fettle || getent group fettle");
    assert_eq!(sh(host, "ls /var/lib/dpkg/info | grep fettle || true"), "");
    let found = "find / -xdev -name '*fettle*' -not -path '/srv/*' -not -path '/var/log/*' \
                 -not -path '/var/backups/fettle*' -not -path '/proc/*' -not -path '/sys/*' -not -name '*fettle-lab*'";
    assert_eq!(sh(host, found), "");
    assert_eq!(sh(host, "systemctl list-unit-files --no-legend 'fettle*' || true"), "");
    // The backups are the administrator's to remove.
    sh(host, "rm -r /var/backups/fettle");
}
