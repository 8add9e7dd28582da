//! Configuration tests: does what is installed still accept its configuration? Chosen by what is installed.

use crate::command::{self, command};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A test may take so long. One that needs more says nothing.
const DEADLINE: Duration = Duration::from_secs(60);

/// A test that comes with the agent.
struct Test {
    /// What people call it.
    name: &'static str,
    /// Runs only where this file is.
    needs: &'static str,
    /// Program (looked for on the path) and arguments.
    argv: &'static [&'static str],
}

const fn test(name: &'static str, needs: &'static str, argv: &'static [&'static str]) -> Test {
    Test { name, needs, argv }
}

const TESTS: [Test; 27] = [
    test("nginx", "/etc/nginx/nginx.conf", &["nginx", "-t", "-q"]),
    test("sshd", "/etc/ssh/sshd_config", &["/usr/sbin/sshd", "-t"]),
    test("apache2", "/etc/apache2/apache2.conf", &["apache2ctl", "configtest"]),
    test("bind9", "/etc/bind/named.conf", &["named-checkconf"]),
    test(
        "haproxy",
        "/etc/haproxy/haproxy.cfg",
        &["haproxy", "-c", "-q", "-f", "/etc/haproxy/haproxy.cfg"],
    ),
    test("sudoers", "/etc/sudoers", &["visudo", "-c", "-q"]),
    test("postfix", "/etc/postfix/main.cf", &["postfix", "check"]),
    test("exim4", "/etc/exim4", &["exim4", "-bV"]),
    test("dovecot", "/etc/dovecot/dovecot.conf", &["doveconf", "-n"]),
    test("unbound", "/etc/unbound/unbound.conf", &["unbound-checkconf"]),
    test("dnsmasq", "/etc/dnsmasq.conf", &["dnsmasq", "--test"]),
    test("squid", "/etc/squid/squid.conf", &["squid", "-k", "parse"]),
    test("rsyslog", "/etc/rsyslog.conf", &["rsyslogd", "-N1"]),
    test(
        "lighttpd",
        "/etc/lighttpd/lighttpd.conf",
        &["lighttpd", "-tt", "-f", "/etc/lighttpd/lighttpd.conf"],
    ),
    test("slapd", "/etc/ldap/slapd.d", &["slaptest", "-u"]),
    test("nftables", "/etc/nftables.conf", &["nft", "-c", "-f", "/etc/nftables.conf"]),
    test("samba", "/etc/samba/smb.conf", &["testparm", "-s"]),
    test(
        "prometheus",
        "/etc/prometheus/prometheus.yml",
        &["promtool", "check", "config", "/etc/prometheus/prometheus.yml"],
    ),
    test("keepalived", "/etc/keepalived/keepalived.conf", &["keepalived", "-t"]),
    test(
        "varnish",
        "/etc/varnish/default.vcl",
        &["varnishd", "-C", "-f", "/etc/varnish/default.vcl"],
    ),
    test("dhcpd", "/etc/dhcp/dhcpd.conf", &["dhcpd", "-t", "-q", "-cf", "/etc/dhcp/dhcpd.conf"]),
    test("logrotate", "/etc/logrotate.conf", &["logrotate", "-d", "/etc/logrotate.conf"]),
    test("proftpd", "/etc/proftpd/proftpd.conf", &["proftpd", "-t"]),
    test("dockerd", "/etc/docker/daemon.json", &["dockerd", "--validate"]),
    test(
        "python3",
        "/usr/bin/python3",
        &["python3", "-c", "import hashlib, json, os, re, socket, subprocess, zlib"],
    ),
    test("perl", "/usr/bin/perl", &["perl", "-MPOSIX", "-MSocket", "-MFile::Temp", "-e", "1"]),
    test("bash", "/usr/bin/bash", &["bash", "-c", "true"]),
];

/// Runs every test that applies: (names of those that hold, name → what the others said).
pub fn run_all(operators: &Path) -> (Vec<String>, BTreeMap<String, String>) {
    let root = Path::new("/");
    let mut tests: Vec<(String, PathBuf, Vec<&str>)> = Vec::new();
    for t in &TESTS {
        let Some((program, arguments)) = t.argv.split_first() else { continue };
        let program = if program.starts_with('/') {
            Some(program.into())
        } else {
            command::find(root, program)
        };
        if let Some(program) =
            program.filter(|p: &PathBuf| p.exists() && Path::new(t.needs).exists())
        {
            tests.push((t.name.to_owned(), program, arguments.to_vec()));
        }
    }
    // Debian names each version: php-fpm8.2.
    for (name, program) in
        executables(Path::new("/usr/sbin")).filter(|(name, _)| name.starts_with("php-fpm"))
    {
        tests.push((name, program, vec!["-t"]));
    }
    for (name, program) in executables(operators) {
        tests.push((format!("tests.d/{name}"), program, Vec::new()));
    }
    let (mut passed, mut broken) = (Vec::new(), BTreeMap::new());
    for (name, program, arguments) in tests {
        let mut command = command(&program.to_string_lossy());
        match command::run(command.args(arguments), Some(DEADLINE)) {
            Ok(output) if output.success() => passed.push(name),
            Ok(output) => {
                broken.insert(name, format!("{}: {}", output.ending(), output.tail(3)));
            }
            Err(e) => {
                broken.insert(name, format!("{} cannot be run: {e}", program.display()));
            }
        }
    }
    (passed, broken)
}

/// The executable files of a directory, by name. None where there is no such directory.
pub fn executables(directory: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut found: Vec<(String, PathBuf)> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| {
            e.path().metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
        .map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()))
        .collect();
    found.sort();
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_operators_own_tests_are_run_and_a_failing_one_says_why() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text, mode) in [
            ("good", "#!/bin/sh\nexit 0\n", 0o755),
            ("bad", "#!/bin/sh\necho the database is not reachable >&2\nexit 4\n", 0o755),
            ("README", "#!/bin/sh\nexit 1\n", 0o644),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let (passed, broken) = run_all(dir.path());
        assert!(passed.contains(&"tests.d/good".to_owned()));
        assert_eq!(broken["tests.d/bad"], "exit code 4: the database is not reachable");
        assert!(!passed.iter().chain(broken.keys()).any(|n| n.contains("README")));
    }
}
