//! The rehearsal on this machine's own root: a change that would do harm, made on the clone only.
#![allow(clippy::unwrap_used)] // clippy takes only #[test] functions for tests

use fettle_agent::overlay::{Change, ChangeKind, Rehearsed, Spec, read_delta, rehearse};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

struct Clone {
    dir: tempfile::TempDir,
    found: Rehearsed,
    delta: BTreeMap<String, Change>,
}

fn possible() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: namespaces and overlays need root");
    }
    root
}

fn spec(dir: &Path, script: &str, memory: Option<u64>) -> Spec {
    for name in ["scratch", "state", "shown", "tests.d"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    Spec {
        program: PathBuf::from(env!("CARGO_BIN_EXE_fettle-agent")),
        scratch: dir.join("scratch"),
        memory,
        hidden: dir.join("state"),
        shown: vec![],
        argv: ["/bin/sh", "-c", script].map(String::from).to_vec(),
        env: BTreeMap::new(),
        limit_seconds: 120,
        packages: vec![],
        active: vec!["good.service".into()],
        tests: dir.join("tests.d"),
        programs: vec![],
        units: vec![],
        sonames: BTreeSet::new(),
        way_back: None,
        online: false,
        accept_missing: Vec::new(),
    }
}

fn hold(script: &str, memory: Option<u64>) -> Clone {
    let dir = tempfile::tempdir_in("/var/lib").unwrap();
    let found = rehearse(&spec(dir.path(), script, memory)).unwrap();
    let delta = read_delta(&dir.path().join("scratch/delta")).unwrap();
    let delta = delta.into_iter().map(|c| (c.path.to_string(), c)).collect();
    Clone { dir, found, delta }
}

/// Mounts of this machine, and processes whose command line holds `marker`.
fn traces(marker: &str) -> (usize, usize) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let is = |p: PathBuf| {
        let line = fs::read(p.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(marker)
    };
    (mounts, fs::read_dir("/proc").unwrap().flatten().filter(|e| is(e.path())).count())
}

#[test]
fn the_delta_names_what_changed_and_the_host_is_untouched() {
    if !possible() {
        return;
    }
    let before = traces("marker-of-delta");
    let passwd = fs::read("/etc/passwd").unwrap();
    for memory in [Some(64 << 20), None] {
        let clone = hold(
            "set -e; : marker-of-delta; echo x >>/etc/passwd; rm /etc/hostname; mkdir -p /opt/fettle-new/deep; \
             echo hello >/opt/fettle-new/deep/file; chmod 700 /etc/ssl; rm -rf /etc/skel; mkdir /etc/skel; \
             echo log >>/var/log/fettle-never; echo made >/etc/gone-again; rm /etc/gone-again; \
             test ! -b /dev/vda; test ! -s /dev/vda; ! ls /run/systemd/private 2>/dev/null",
            memory,
        );
        assert!(clone.found.success, "{:?}", clone.found);
        let kind = |path: &str| clone.delta.get(path).map(|c| c.change);
        assert_eq!(kind("/etc/passwd"), Some(ChangeKind::Changed));
        assert_eq!(clone.delta["/etc/passwd"].bytes, passwd.len() as u64 + 2);
        assert_eq!(kind("/etc/hostname"), Some(ChangeKind::Gone));
        assert_eq!(kind("/opt/fettle-new/deep/file"), Some(ChangeKind::New));
        assert_eq!(kind("/etc/ssl"), Some(ChangeKind::Changed));
        assert_eq!(
            kind("/etc/skel/.bashrc"),
            Some(ChangeKind::Gone),
            "an opaque directory hides what was in it"
        );
        for never in ["/var/log/fettle-never", "/etc/gone-again", "/usr/sbin/policy-rc.d"] {
            assert_eq!(kind(never), None, "{never}");
        }
        assert!(clone.delta.keys().all(|p| !p.starts_with(clone.dir.path().to_str().unwrap())));
    }
    assert_eq!(fs::read("/etc/passwd").unwrap(), passwd);
    for path in ["/opt/fettle-new", "/var/log/fettle-never"] {
        assert!(!Path::new(path).exists(), "{path}");
    }
    assert_eq!(traces("marker-of-delta"), before);
}

#[test]
fn the_clone_has_the_network_of_the_host_only_where_somebody_asked_for_it() {
    if !possible() {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'");
    // A setting of the host's network, which the clone gives its own.
    let setting = || fs::read_to_string("/proc/sys/net/ipv4/ip_nonlocal_bind").ok();
    let before = setting();
    for online in [false, true] {
        let dir = tempfile::tempdir_in("/var/lib").unwrap();
        let spec = Spec { online, ..spec(dir.path(), &script, Some(64 << 20)) };
        assert_eq!(rehearse(&spec).unwrap().success, online, "online: {online}");
        assert_eq!(setting(), before, "online: {online}: the host's own network is as it was");
    }
}

#[test]
fn services_are_not_started_but_what_was_wanted_is_told_and_nothing_outlives_it() {
    if !possible() {
        return;
    }
    let before = traces("marker-of-services");
    let clone = hold(
        "systemctl restart nginx.service; systemctl --quiet reload ssh; systemctl is-active good || exit 5; \
         systemctl is-active bad && exit 6; /usr/sbin/policy-rc.d cron restart; test $? = 101 || exit 7; \
         : marker-of-services; \
         setsid sleep 1000 & echo 1 >/proc/sys/kernel/hung_task_timeout_secs && exit 8; exit 0",
        Some(64 << 20),
    );
    assert!(clone.found.success, "{:?}", clone.found);
    assert_eq!(clone.found.wanted, ["cron restart", "nginx.service restart", "ssh reload"]);
    assert_eq!(clone.found.left_running, ["sleep"]);
    assert_eq!(traces("marker-of-services"), before);
}

#[test]
fn a_failing_change_is_told_with_its_words_and_a_test_that_fails_before_does_not_count() {
    if !possible() {
        return;
    }
    let clone = hold("echo the disk is made of cheese >&2; exit 100", Some(64 << 20));
    assert!(!clone.found.success);
    assert_eq!(
        (clone.found.ending.as_str(), clone.found.tail.as_str()),
        ("exit code 100", "the disk is made of cheese")
    );

    let dir = tempfile::tempdir_in("/var/lib").unwrap();
    let spec = spec(dir.path(), "echo broken >/etc/fettle-test-config", Some(64 << 20));
    for (name, text) in [
        ("always-bad", "#!/bin/sh\nexit 1\n"),
        ("always-good", "#!/bin/sh\nexit 0\n"),
        ("breaks", "#!/bin/sh\necho line 1 is wrong; ! test -e /etc/fettle-test-config\n"),
        ("anybodys", "#!/bin/sh\nexit 0\n"),
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(spec.tests.join(name), text).unwrap();
        let mode = if name == "anybodys" { 0o757 } else { 0o755 };
        fs::set_permissions(spec.tests.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let found = rehearse(&spec).unwrap();
    assert!(found.passed.contains(&"tests.d/always-good".to_owned()), "{found:?}");
    assert!(found.failing_before.contains(&"tests.d/always-bad".to_owned()), "{found:?}");
    assert_eq!(found.broken["tests.d/breaks"], "exit code 1: line 1 is wrong");
    assert_eq!(found.untrusted.keys().collect::<Vec<_>>(), ["tests.d/anybodys"]);
    assert!(!found.passed.contains(&"tests.d/anybodys".to_owned()), "it was not run");
}

#[test]
fn when_the_agent_dies_the_clone_and_everything_in_it_dies_with_it() {
    if !possible() {
        return;
    }
    let before = traces("marker-of-death");
    let dir = tempfile::tempdir_in("/var/lib").unwrap();
    let spec = spec(dir.path(), "while :; do sleep 1; done # marker-of-death", None);
    fs::write(spec.scratch.join("spec.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
    // As `rehearse` starts it; then its end of the lifeline is closed, which is what the agent's death does.
    let mut child = std::process::Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--net",
            "--ipc",
            "--uts",
            "--propagation",
            "private",
            "--",
        ])
        .arg(&spec.program)
        .arg(fettle_agent::overlay::OUTER)
        .arg(spec.scratch.join("spec.json"))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let until = |what: &str, done: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until("the change did not begin", &|| traces("marker-of-death").1 > before.1);
    drop(child.stdin.take());
    until("the clone lives on", &|| traces("marker-of-death") == before);
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_unit_that_the_change_breaks_is_told_and_one_that_was_broken_before_is_not() {
    if !possible() || !Path::new("/usr/bin/systemd-analyze").exists() {
        return;
    }
    // Broken on this machine, for as long as the test runs: by a name that nothing else has.
    struct Gone(PathBuf);
    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }
    let name = format!("fettle-test-{}.service", std::process::id());
    let mine = Gone(Path::new("/etc/systemd/system").join(&name));
    fs::create_dir_all("/etc/systemd/system").unwrap();
    fs::write(&mine.0, "[Service]\nExecStart=/nowhere/at/all\n").unwrap();
    let clone = hold(
        &format!(
            "cd /etc/systemd/system; echo '# touched' >>{name}; \
             printf '[Service]\nExecStart=/bin/true\n' >fettle-good.service; \
             printf '[Service]\nExecStart=/gone/with/the/package\n' >fettle-bad.service"
        ),
        Some(64 << 20),
    );
    drop(mine);
    let said = &clone.found.broken["unit fettle-bad.service"];
    assert!(said.contains("/gone/with/the/package"), "{said}");
    assert_eq!(clone.found.broken.len(), 1, "{:?}", clone.found.broken);
    assert!(clone.found.failing_before.contains(&format!("unit {name}")), "{:?}", clone.found);
    assert!(clone.found.passed.contains(&"unit fettle-good.service".to_owned()));
}

#[test]
fn a_module_that_an_interpreter_no_longer_loads_stops_the_change() {
    if !possible() || !Path::new("/usr/bin/perl").exists() {
        return;
    }
    let clone = hold(
        "find /usr/lib -xdev -path '*/auto/Socket/Socket.so' -delete; \
         find /usr/lib/python3* -path '*/lib-dynload/*' -name '_ssl.*' -delete",
        Some(64 << 20),
    );
    let said = &clone.found.broken["perl modules"];
    assert!(said.contains("Socket"), "{said}");
    if Path::new("/usr/bin/python3.11").exists() {
        let said = &clone.found.broken["python3.11 modules"];
        assert!(said.contains("ssl (No module named '_ssl')"), "{said}");
    }
    // And without the change they load.
    let clone = hold("true", Some(64 << 20));
    assert!(clone.found.broken.is_empty(), "{:?}", clone.found.broken);
    assert!(
        clone.found.passed.iter().any(|p| p.starts_with("perl loads ")),
        "{:?}",
        clone.found.passed
    );
}
