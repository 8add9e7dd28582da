//! Kernels that come up, and kernels that do not: on emulated machines, each with a boot loader of its own.

use super::{End, Extent, Stand};
use crate::{LabError, Machine};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The package that brings the newest kernel.
const KERNEL: &str = "linux-image-cloud-amd64";
/// A whole transaction with its boots, under emulation.
const PATIENCE: Duration = Duration::from_secs(2400);
/// One short question.
const SHORT: Duration = Duration::from_secs(60);
/// Between two looks at the console.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two questions: each is a log-in, which costs an emulated machine some seconds of work.
const ASK: Duration = Duration::from_secs(20);
/// Not compared: as for other hosts, and what systemd notes at each boot.
const EXCLUDED: [&str; 9] = [
    "/var/log",
    "/var/lib/fettle-agent",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/systemd",
    "/var/tmp",
    "/tmp",
    "/root",
    "/home",
];
/// Said on the console by a machine that will not go on.
const HANGS: &str = "this kernel goes no further";

/// Spoils the initial file system of every kernel that is installed from now on: it panics.
const SPOIL: &str = r#"
cat > /etc/kernel/postinst.d/zz-a-spoil <<'EOF'
#!/bin/sh
echo spoilt > /boot/initrd.img-$1
EOF
chmod 755 /etc/kernel/postinst.d/zz-a-spoil
"#;

/// A kernel with another release than the one that runs now stops at the first thing it does, and waits for ever.
const HANG: &str = r#"
cat > /etc/initramfs-tools/scripts/init-top/a-hang <<EOF
#!/bin/sh
case "\$1" in prereqs) exit 0 ;; esac
[ "\$(uname -r)" = "$(uname -r)" ] && exit 0
echo "this kernel goes no further" > /dev/console
while :; do sleep 3600; done
EOF
chmod 755 /etc/initramfs-tools/scripts/init-top/a-hang
"#;

/// A new kernel is tried, runs, and is taken back with a reboot.
pub(super) fn rebooted(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    on_machine(stand, "there and back", "", |m, was| {
        let first = m.boot_id();
        patch(m)?;
        wait_ended(m, 1, |_| Ok(()))?;
        let fired = m.boot_id() != first;
        let end = was.judge(m, "patched")?;
        if end == Ok(End::Patched) {
            m.sh("systemd-run --quiet --collect --no-block fettle-agent undo", SHORT)?;
            wait_ended(m, 2, |_| Ok(()))?;
            return Ok((fired, was.judge(m, "undone")?.map(|_| End::Patched)));
        }
        Ok((fired, end))
    })
}

/// A new kernel panics: nobody has to come.
pub(super) fn panics(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    on_machine(stand, "the new kernel panics", SPOIL, |m, was| {
        patch(m)?;
        wait_ended(m, 1, |_| Ok(()))?;
        let fired = m.console(100_000).matches("Kernel panic").count() > 0;
        Ok((fired, was.judge(m, "undone")?))
    })
}

/// A new kernel hangs: somebody switches the machine off and on, and does nothing else.
pub(super) fn hangs(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    on_machine(stand, "the new kernel hangs", HANG, |m, was| {
        patch(m)?;
        let mut reset = 0;
        wait_ended(m, 1, |m| {
            if m.console(100_000).matches(HANGS).count() > reset {
                reset += 1;
                m.power_cut()?;
                m.power_on(&[])?;
            }
            Ok(())
        })?;
        Ok((reset > 0, was.judge(m, "undone")?))
    })
}

type Judged = (bool, Result<End, String>);

/// Makes a machine with the agent, does `script` to it, and has `act` say whether the fault fired and how it ended.
fn on_machine(
    stand: &mut Stand<'_>,
    what: &str,
    script: &str,
    act: impl FnOnce(&Machine, &Was) -> Result<Judged, LabError>,
) -> Result<(), LabError> {
    let machine = stand.lab().machine("metal", &|_| {})?;
    let judged = (|| {
        machine.copy_in(stand.agent(), "/usr/bin/fettle-agent")?;
        machine.sh("chmod 755 /usr/bin/fettle-agent; mkdir -p /etc/fettle", SHORT)?;
        machine.sh(&format!("apt-get update -qq; {script} sync"), PATIENCE)?;
        let was = Was::of(&machine)?;
        act(&machine, &was)
    })();
    let console = machine.console(12);
    machine.destroy()?;
    match judged {
        Ok((fired, end)) => stand.record(what, fired, end),
        // What a fault does to a machine is no error of the lab.
        Err(error) => stand.record(what, true, Err(format!("{error}; the console: {console}"))),
    }
    Ok(())
}

fn patch(machine: &Machine) -> Result<(), LabError> {
    let line =
        format!("systemd-run --quiet --collect --no-block fettle-agent patch {KERNEL} --reboot");
    machine.sh(&line, SHORT).map(drop)
}

/// Waits until so many transactions have ended, whatever boots come between. `meanwhile` is called before each look.
fn wait_ended(
    machine: &Machine,
    transactions: usize,
    mut meanwhile: impl FnMut(&Machine) -> Result<(), LabError>,
) -> Result<(), LabError> {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut asked) = (String::new(), Instant::now());
    while Instant::now() < deadline {
        meanwhile(machine)?;
        std::thread::sleep(PAUSE);
        if asked.elapsed() < ASK {
            continue;
        }
        asked = Instant::now();
        if let Ok(said) = machine.sh("fettle-agent -o json history", SHORT) {
            let all: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
            let ended = |t: &&serde_json::Value| !t["outcome"].is_null();
            if all.as_array().is_some_and(|all| all.iter().filter(ended).count() >= transactions) {
                return Ok(());
            }
            last = said;
        }
    }
    let last = crate::tool::last_lines(last.as_bytes(), 12);
    Err(LabError::Fleet { what: format!("the transaction did not end; the last word: {last}") })
}

/// How the machine was before.
struct Was {
    release: String,
    version: String,
    tree: BTreeMap<String, String>,
}

impl Was {
    fn of(machine: &Machine) -> Result<Self, LabError> {
        let tree = machine.tree(&EXCLUDED)?;
        Ok(Self { release: release(machine)?, version: version(machine)?, tree })
    }

    /// From outside: which kernel runs, what the package database says, and every file.
    fn judge(&self, machine: &Machine, expected: &str) -> Result<Result<End, String>, LabError> {
        let (release, version) = (release(machine)?, version(machine)?);
        let audit = machine.sh("dpkg --audit", SHORT)?;
        if !audit.trim().is_empty() {
            return Ok(Err(format!("dpkg --audit: {audit}")));
        }
        let last = "fettle-agent show $(fettle-agent -o json status | sed -n 's/.*\"id\": *\"\\(tx-[^\"]*\\)\".*/\\1/p' | tail -1)";
        let said = machine.sh(last, SHORT).unwrap_or_else(|error| error.to_string());
        if expected == "patched" {
            return Ok(match version != self.version && release != self.release {
                true => Ok(End::Patched),
                false => Err(format!("{KERNEL} is {version}, {release} runs; {said}")),
            });
        }
        if version != self.version || release != self.release {
            return Ok(Err(format!("{KERNEL} is {version}, {release} runs; {said}")));
        }
        let now = machine.tree(&EXCLUDED)?;
        let paths: std::collections::BTreeSet<&String> =
            now.keys().chain(self.tree.keys()).collect();
        let differ: Vec<&str> = paths
            .into_iter()
            .filter(|path| now.get(*path) != self.tree.get(*path))
            .map(String::as_str)
            .collect();
        Ok(match differ.is_empty() {
            true => Ok(End::Undone),
            false => Err(format!("{} files differ: {}", differ.len(), differ.join(" "))),
        })
    }
}

fn release(machine: &Machine) -> Result<String, LabError> {
    machine.sh("uname -r", SHORT).map(|text| text.trim().to_owned())
}

fn version(machine: &Machine) -> Result<String, LabError> {
    machine.sh(&format!("dpkg-query -W -f '${{Version}}' {KERNEL}"), SHORT)
}
