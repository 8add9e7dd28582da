//! Real hosts: they come up, can be used, and go without a trace. Needs root; skips without.
#![allow(clippy::unwrap_used)] // clippy takes only #[test] functions for tests

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fettle_lab::repo::{ACME_PORT, AcmeWeb, Serve, acme_web};
use fettle_lab::tree::{self, NOT_STATE};
use fettle_lab::{HostSpec, Lab, LabConfig, LabError, LabHost, RootFs, Vendor, why_not};

const PATIENCE: Duration = Duration::from_secs(120);

fn say(line: &str) {
    println!("{line}");
}

/// A lab that is taken down however the test ends.
struct Guard(Lab);

impl std::ops::Deref for Guard {
    type Target = Lab;
    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.0.down(&say) {
            eprintln!("the lab could not be taken down: {error}");
        }
    }
}

/// Opens the lab for tests, waiting for another test to be done with it; `None` when there are no
/// labs here.
fn lab() -> Option<Guard> {
    if let Some(why) = why_not() {
        println!("skipped: {why}");
        return None;
    }
    let deadline = Instant::now() + Duration::from_secs(900);
    loop {
        match Lab::open(LabConfig::for_tests().unwrap()) {
            Ok(lab) => return Some(Guard(lab)),
            Err(LabError::Busy { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn up(lab: &Lab, names: &[&str]) -> Vec<LabHost> {
    lab.up(names, &HostSpec::default(), &say).unwrap()
}

fn text(host: &LabHost, script: &str) -> String {
    host.sh(script).unwrap().ok().unwrap().trim().to_owned()
}

#[test]
fn hosts_come_up_with_identities_of_their_own_and_real_updates_pending() {
    let Some(lab) = lab() else { return };
    let hosts = up(&lab, &["web1", "web2"]);
    let [one, two] = hosts.as_slice() else { panic!("{hosts:?}") };
    for host in &hosts {
        let booted = host.wait_booted(PATIENCE).unwrap();
        assert_eq!(booted.state, "running", "failed: {:?}", booted.failed);
        assert_eq!(text(host, "hostname"), host.name());
        let page = text(host, &format!("curl -sS http://{}/", host.ip()));
        assert!(page.contains(&format!("This is {}.", host.name())), "{page}");
        assert_eq!(text(host, "systemctl is-active nginx ssh cron"), "active\nactive\nactive");
        assert!(
            text(host, "apt-get -q -s dist-upgrade | grep -c ^Inst").parse::<u32>().unwrap() >= 15
        );
        assert_eq!(text(host, "grep -rs force-unsafe-io /etc/dpkg || true"), "");
        assert_eq!(text(host, "dpkg --audit"), "");
    }
    for file in ["/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"] {
        assert_ne!(one.read_file(file).unwrap(), two.read_file(file).unwrap(), "{file}");
    }
    assert_ne!(one.ip(), two.ip());
    // One reaches the other, and both reach the archives.
    assert!(text(one, &format!("curl -sS http://{}/", two.ip())).contains("This is web2."));
    let update = one.sh("apt-get -q update 2>&1").unwrap().ok().unwrap();
    assert!(!update.contains("W:") && !update.contains("E:"), "{update}");
    let pending =
        text(two, "apt-get -q -s dist-upgrade | sed -n 's/^Inst \\([^ ]*\\).*/\\1/p' | head -1");
    text(
        two,
        &format!(
            "rm /var/cache/apt/archives/*.deb; cd /tmp && apt-get -q download {pending} && ls *.deb"
        ),
    );
}

#[test]
fn commands_run_as_if_started_in_the_host() {
    let Some(lab) = lab() else { return };
    let host = up(&lab, &["web1"]).remove(0);
    assert_eq!(
        text(&host, "env | sort"),
        "HOME=/root\nLANG=C.UTF-8\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/\nUSER=root"
    );
    assert!(text(&host, "grep ^0:: /proc/self/cgroup").starts_with("0::/lab-exec/"));
    assert_eq!(text(&host, "cat /proc/1/comm"), "systemd");
    let sums = host.command("sh").args(["-c", "cat; echo \"$WORD\" >&2; pwd; exit 3"]);
    let output = sums.stdin("given").env("WORD", "set").current_dir("/usr").run().unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("given/usr\n", "set\n"));
    assert_eq!(output.status.code(), Some(3));
    let error = output.ok().unwrap_err().to_string();
    assert!(error.contains("web1") && error.contains("exit status: 3"), "{error}");

    // What a command leaves in the background does not hold it up.
    let quick = host.sh("sleep 1000 & echo started").unwrap();
    assert_eq!(quick.stdout, "started\n");
    assert!(quick.took < Duration::from_secs(5));
    text(&host, "pkill -x sleep");

    // A command out of time is killed with its children; a unit it started is not.
    let slow = host
        .command("sh")
        .args(["-c", "systemd-run -q --unit=kept sleep 1001; echo begun; sleep 1002 & sleep 1003"]);
    let error = slow.timeout(Duration::from_secs(3)).run().unwrap_err();
    assert!(matches!(&error, LabError::ExecTimeout { output, .. } if output == "begun"), "{error}");
    assert_eq!(text(&host, "ps -C sleep -o args="), "/usr/bin/sleep 1001");
    assert_eq!(text(&host, "systemctl is-active kept"), "active");

    let mut running = host.spawn(&["sh", "-c", "echo now; sleep 1004"]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while running.stdout_so_far() != "now\n" {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(running.is_running());
    running.kill().unwrap();
    assert_eq!(text(&host, "ps -C sleep -o args="), "/usr/bin/sleep 1001");
}

#[test]
fn files_are_resolved_inside_the_host() {
    let Some(lab) = lab() else { return };
    let host = up(&lab, &["web1"]).remove(0);
    for running in [true, false] {
        if !running {
            host.power_off().unwrap();
        }
        host.write_file("/srv/new/dir/file", "content").unwrap();
        assert_eq!(host.read_file("/srv/new/dir/file").unwrap(), b"content");
        std::os::unix::fs::symlink("/etc/hostname", host.root().join("srv/link")).unwrap();
        assert_eq!(host.read_file("/srv/link").unwrap(), b"web1\n");
        std::fs::remove_file(host.root().join("srv/link")).unwrap();
        assert!(host.exists("/srv/new") && !host.exists("/srv/none"));
    }
    let error = host.read_file("/srv/none").unwrap_err().to_string();
    assert!(error.contains("web1:/srv/none"), "{error}");
    assert!(matches!(host.sh("true"), Err(LabError::NotRunning { .. })));

    // A program can be replaced while it runs, and keeps its mode.
    host.boot().unwrap();
    host.wait_booted(PATIENCE).unwrap();
    host.copy_in("/bin/sleep", "/opt/nap").unwrap();
    let mut nap = host.spawn(&["/opt/nap", "1000"]).unwrap();
    assert!(nap.is_running());
    host.copy_in("/bin/true", "/opt/nap").unwrap();
    assert!(host.exec(&["/opt/nap"]).unwrap().success());
    nap.kill().unwrap();
    // What is mounted in the host is seen.
    host.write_file("/run/lab-note", "x").unwrap();
    assert_eq!(text(&host, "cat /run/lab-note"), "x");
}

/// Makes a clone of the host's own root in namespaces of its own.
const CLONE: &str = r#"
set -e
work=$1
mkdir -p "$work/upper" "$work/work" "$work/root"
exec unshare --mount --pid --net --ipc --fork sh /opt/inside.sh "$work"
"#;

/// Changes the clone: a real upgrade, whiteouts, a moved directory.
const INSIDE: &str = r##"
set -e
work=$1
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
mount -t proc proc "$work/root/proc"
mount -t tmpfs tmpfs "$work/root/run"
printf '#!/bin/sh\nexit 101\n' > "$work/root/usr/sbin/policy-rc.d"
chmod 755 "$work/root/usr/sbin/policy-rc.d"
exec chroot "$work/root" sh -ec '
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q -y --no-download -o Dpkg::Options::=--force-confold install openssl libssl3
  dpkg --audit; nginx -t; rm /etc/issue; mv /etc/nginx /etc/nginx.moved'
"##;

#[test]
fn an_overlay_of_the_hosts_own_root_takes_a_real_upgrade_and_leaves_the_host_alone() {
    let Some(lab) = lab() else { return };
    let host = up(&lab, &["web1"]).remove(0);
    host.write_file("/opt/clone.sh", CLONE).unwrap();
    host.write_file("/opt/inside.sh", INSIDE).unwrap();
    let before = tree::snapshot(&host.root(), NOT_STATE).unwrap();
    let installed = text(&host, "dpkg-query -W openssl libssl3");
    for upper in ["/run/rehearsal", "/var/lib/rehearsal"] {
        text(&host, &format!("systemd-run --quiet --pipe --wait sh /opt/clone.sh {upper}"));
        assert_ne!(text(&host, &format!("find {upper}/upper -type f | wc -l")), "0");
        text(&host, &format!("rm -rf {upper}"));
    }
    assert_eq!(text(&host, "dpkg-query -W openssl libssl3"), installed);
    let after = tree::snapshot(&host.root(), NOT_STATE).unwrap();
    let differences = tree::diff(&before, &after);
    assert!(differences.is_empty(), "{differences:?}");
}

#[test]
fn a_host_reboots_powers_off_dies_and_comes_back() {
    let Some(lab) = lab() else { return };
    let host = up(&lab, &["web1"]).remove(0);
    let boot = |host: &LabHost| text(host, "cat /proc/sys/kernel/random/boot_id");
    let first = boot(&host);
    text(&host, "echo kept > /var/lib/note; sync");
    for _ in 0..2 {
        let before = boot(&host);
        assert_eq!(host.reboot(PATIENCE).unwrap().state, "running");
        assert_ne!(boot(&host), before);
    }
    host.power_off().unwrap();
    assert!(!host.is_running());
    host.power_off().unwrap();
    host.boot().unwrap();
    host.wait_booted(PATIENCE).unwrap();
    host.kill().unwrap();
    assert!(!host.is_running());
    host.boot().unwrap();
    host.boot().unwrap();
    assert_eq!(host.wait_booted(PATIENCE).unwrap().state, "running");
    assert_eq!(text(&host, "cat /var/lib/note"), "kept");
    assert_ne!(boot(&host), first);
}

#[test]
fn a_host_with_an_ext4_root_of_its_own_can_be_filled_up() {
    let Some(lab) = lab() else { return };
    let spec = HostSpec { root: RootFs::Ext4 { mib: 1200 }, ..HostSpec::default() };
    let host = lab.up(&["small"], &spec, &say).unwrap().remove(0);
    assert_eq!(text(&host, "findmnt -no FSTYPE /"), "ext4");
    let full = host.sh("head -c 2G /dev/zero > /var/filler").unwrap();
    assert!(!full.success() && full.stderr.contains("No space left"), "{full:?}");
    text(&host, "rm /var/filler");
    assert!(
        text(&host, "apt-get -q -s dist-upgrade | grep -c ^Inst").parse::<u32>().unwrap() >= 15
    );
    host.destroy().unwrap();
    assert!(lab.hosts().unwrap().is_empty());
}

#[test]
fn a_host_at_rest_does_not_change_and_what_changes_is_seen() {
    let Some(lab) = lab() else { return };
    let host = up(&lab, &["web1"]).remove(0);
    let started = Instant::now();
    let before = tree::snapshot(&host.root(), NOT_STATE).unwrap();
    println!("{} paths hashed in {:?}", before.entries.len(), started.elapsed());
    assert!(before.entries.len() > 5000);
    text(
        &host,
        "chmod 600 /etc/issue; setfattr -n user.x -v y /etc/motd 2>/dev/null || true; echo new > /etc/new",
    );
    let after = tree::snapshot(&host.root(), NOT_STATE).unwrap();
    let seen: Vec<String> = tree::diff(&before, &after).iter().map(ToString::to_string).collect();
    assert_eq!(seen, ["/etc/issue: other [Mode]", "/etc/new: new"]);
}

#[test]
fn the_vendors_packages_behave_as_badly_as_they_promise() {
    let Some(lab) = lab() else { return };
    let host = up(&lab, &["web1"]).remove(0);
    let mut vendor = Vendor::new(&lab, "acme", Serve::Http).unwrap();
    vendor.publish(&[acme_web("1.0", AcmeWeb::Good)]).unwrap();
    vendor.install_on(&host).unwrap();
    let update = text(&host, "apt-get -q update 2>&1");
    assert!(!update.contains("W:") && !update.contains("E:"), "{update}");
    let install = |what: &str| {
        let script = format!(
            "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Options::=--force-confold install {what} 2>&1"
        );
        host.command("sh").args(["-c", &script]).timeout(Duration::from_secs(60)).run()
    };
    install("acme-web").unwrap().ok().unwrap();
    let url = format!("http://{}:{ACME_PORT}/", host.ip());
    // Just restarted, it may not listen yet: then curl fails, and is asked again.
    let get = || {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = host
                .exec(&["curl", "-sS", "--max-time", "20", "-w", " %{http_code}", &url])
                .unwrap();
            if answer.success() {
                return answer.stdout;
            }
            assert!(Instant::now() < deadline, "{answer:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    assert_eq!(get(), "Hello from acme-web 1.0\n 200");
    let policy = text(&host, "apt-cache policy");
    assert!(policy.contains("o=Acme,a=stable,n=stable,l=Acme-Security"), "{policy}");

    let versions = [
        ("1.1", AcmeWeb::Good),
        ("1.2", AcmeWeb::ServiceDies),
        ("1.3", AcmeWeb::PostinstFails),
        ("1.4", AcmeWeb::ServiceFlaps),
        ("1.5", AcmeWeb::AnswersWrong),
        ("1.6", AcmeWeb::AsksAboutConffile),
        ("1.7", AcmeWeb::CheckFails),
        ("1.8", AcmeWeb::PostinstHangs),
        ("1.9", AcmeWeb::Huge(8)),
        ("2.0", AcmeWeb::NeedsMissing),
        ("2.1", AcmeWeb::Removes("rsync")),
        ("2.2", AcmeWeb::PostinstFailsLive),
    ];
    let debs: Vec<_> = versions.iter().map(|(version, bad)| acme_web(version, *bad)).collect();
    vendor.publish(&debs).unwrap();
    text(&host, "apt-get -q update 2>&1");
    let active =
        || host.exec(&["systemctl", "is-active", "acme-web"]).unwrap().stdout.trim().to_owned();
    let check = || host.exec(&["acme-web", "--check"]).unwrap().success();

    install("acme-web=1.1").unwrap().ok().unwrap();
    assert_eq!(get(), "Hello from acme-web 1.1\n 200");
    install("acme-web=1.2").unwrap().ok().unwrap();
    assert!(check());
    assert_eq!(active(), "failed");
    let failed = install("acme-web=1.3").unwrap();
    assert!(!failed.success() && failed.stdout.contains("session store"), "{failed:?}");
    install("acme-web=1.4").unwrap().ok().unwrap();
    assert_ne!(active(), "failed");
    install("acme-web=1.5").unwrap().ok().unwrap();
    assert_eq!(get(), "Hello from acme-web 1.5\n 500");
    text(&host, "echo greeting=Mine >> /etc/acme-web/acme-web.conf");
    let asked =
        host.command("apt-get").args(["-q", "-y", "install", "acme-web=1.6"]).run().unwrap();
    assert!(!asked.success() && format!("{asked:?}").contains("conffile"), "{asked:?}");
    install("acme-web=1.6").unwrap().ok().unwrap();
    assert_eq!(get(), "Mine from acme-web 1.6\n 200");
    text(&host, "apt-get -q -y purge acme-web");
    install("acme-web=1.7").unwrap().ok().unwrap();
    assert!(!check());
    text(&host, "apt-get -q -y purge acme-web");
    let hanging = host.command("apt-get").args(["-q", "-y", "install", "acme-web=1.8"]);
    let hanging = hanging.timeout(Duration::from_secs(10)).run();
    assert!(matches!(hanging, Err(LabError::ExecTimeout { .. })), "{hanging:?}");
    text(&host, "dpkg --purge --force-all acme-web");
    install("acme-web=1.9").unwrap().ok().unwrap();
    assert_eq!(text(&host, "stat -c %s /usr/share/acme-web/ballast"), (8 << 20).to_string());
    assert!(!install("acme-web=2.0").unwrap().success());
    install("acme-web=2.1").unwrap().ok().unwrap();
    assert!(!host.exists("/usr/bin/rsync"));

    let live = install("acme-web=2.2").unwrap();
    assert!(!live.success() && live.stdout.contains("old workers"), "{live:?}");

    vendor.withdraw(&debs[10]).unwrap();
    text(&host, "apt-get -q update 2>&1");
    assert!(!text(&host, "apt-cache madison acme-web").contains("2.1"));
}

#[test]
fn a_vendor_can_deliver_files_and_a_spoilt_archive_is_refused() {
    let Some(lab) = lab() else { return };
    let host = up(&lab, &["web1"]).remove(0);
    let mut vendor = Vendor::new(&lab, "other", Serve::Files).unwrap();
    vendor.install_on(&host).unwrap();
    vendor.publish(&[acme_web("1.0", AcmeWeb::Good)]).unwrap();
    assert_eq!((vendor.origin().as_str(), vendor.label().as_str()), ("Other", "Other-Security"));
    drop(vendor);
    text(&host, "apt-get -q update && apt-get -q -y install acme-web");
    text(
        &host,
        "echo >> /srv/vendor-other/dists/stable/InRelease; sed -i 's/^Origin: Other/Origin: Debian/' /srv/vendor-other/dists/stable/InRelease",
    );
    let refused = host.sh("apt-get -q update -o APT::Update::Error-Mode=any 2>&1").unwrap();
    assert!(!refused.success(), "{refused:?}");
}

#[test]
fn down_leaves_nothing_behind_and_can_be_said_twice() {
    let Some(lab) = lab() else { return };
    let hosts = up(&lab, &["web1", "web2"]);
    text(
        &hosts[0],
        "unshare --mount sh -c 'mount -t tmpfs none /mnt; sleep 1000' >/dev/null 2>&1 &",
    );
    let vendor = Vendor::new(&lab, "acme", Serve::Http).unwrap();
    let there = lab.leftovers().unwrap();
    assert!(there.len() > 20, "{there:?}");
    lab.down(&say).unwrap();
    let left = lab.leftovers().unwrap();
    assert!(left.is_empty(), "{left:?}");
    lab.down(&say).unwrap();
    drop(vendor);
    assert!(lab.hosts().unwrap().is_empty());
    assert!(lab.leftovers().unwrap().is_empty());
}

#[test]
fn a_lab_in_use_is_not_opened_a_second_time_but_can_be_attached_to() {
    let Some(lab) = lab() else { return };
    let config = lab.config().clone();
    up(&lab, &["web1"]);
    let busy = Lab::open(config.clone()).unwrap_err();
    assert!(matches!(busy, LabError::Busy { .. }), "{busy}");
    let attached = Lab::attach(config.clone()).unwrap();
    assert_eq!(text(&attached.host("web1").unwrap(), "hostname"), "web1");
    let refused = attached.down(&say).unwrap_err().to_string();
    assert!(refused.contains("Lab::open"), "{refused}");
    let unknown = attached.host("web9").unwrap_err().to_string();
    assert!(unknown.contains("there are: web1"), "{unknown}");
    let again = lab.create_host("web1", &HostSpec::default()).unwrap_err();
    assert!(matches!(again, LabError::HostExists { .. }), "{again}");
    let bad = lab.create_host("../x", &HostSpec::default()).unwrap_err().to_string();
    assert!(bad.contains("host name"), "{bad}");
    // A lab elsewhere with the same name prefix would share the bridge: refused.
    let dir = tempfile::tempdir().unwrap();
    let other = LabConfig { dir: dir.path().to_path_buf(), ..config };
    let taken = Lab::open(other).unwrap_err();
    assert!(matches!(taken, LabError::PrefixTaken { .. }), "{taken}");
}

/// Not a test of its own: what the next test kills.
#[test]
fn run_that_is_killed() {
    if std::env::var_os("FETTLE_LAB_TO_BE_KILLED").is_none() {
        return;
    }
    let Some(lab) = lab() else { return };
    up(&lab, &["web1"]);
    println!("READY");
    // Goes on and on; killed at some moment of this.
    for number in 0.. {
        up(&lab, &[&format!("more{number}")]);
    }
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let Some(first) = lab() else { return };
    first.ensure_base(&say).unwrap();
    let config = first.config().clone();
    drop(first);
    for moment in [Duration::ZERO, Duration::from_millis(700), Duration::from_millis(2300)] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "run_that_is_killed", "--nocapture"])
            .env("FETTLE_LAB_TO_BE_KILLED", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines =
            std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        assert!(lines.any(|line| line.unwrap().contains("READY")));
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        // What the killed one was just starting holds its lock until it has become another program.
        let deadline = Instant::now() + Duration::from_secs(10);
        let lab = loop {
            match Lab::open(config.clone()) {
                Err(LabError::Busy { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                opened => break Guard(opened.unwrap()),
            }
        };
        assert!(!lab.leftovers().unwrap().is_empty());
        lab.down(&say).unwrap();
        let left = lab.leftovers().unwrap();
        assert!(left.is_empty(), "{left:?}");
        assert!(Path::new(&config.dir).join("disk.img").is_file());
    }
}
