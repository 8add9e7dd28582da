//! Emulated machines for rows that need a kernel, a clock or a line of a host's own; and who judges what became of them.

use super::{End, Stand};
use crate::{LabError, Machine};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A whole transaction with its boots, under emulation.
pub(super) const PATIENCE: Duration = Duration::from_secs(2400);
/// One short question.
pub(super) const SHORT: Duration = Duration::from_secs(60);
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

pub(super) type Judged = (bool, Result<End, String>);

/// Makes a machine with the agent, which is to change `package`; does `script` to it, and has `act` say whether the fault fired and how it ended.
pub(super) fn on_machine(
    stand: &mut Stand<'_>,
    package: &'static str,
    what: &str,
    script: &str,
    act: impl FnOnce(&Machine, &Was) -> Result<Judged, LabError>,
) -> Result<(), LabError> {
    let machine = stand.lab().machine("metal", &|_| {})?;
    let judged = (|| {
        machine.copy_in(stand.agent(), "/usr/bin/fettle-agent")?;
        machine.sh("chmod 755 /usr/bin/fettle-agent; mkdir -p /etc/fettle", SHORT)?;
        machine.sh(&format!("apt-get update -qq; {script} sync"), PATIENCE)?;
        let was = Was::of(&machine, package)?;
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

/// Waits until so many transactions have ended, whatever boots come between. `meanwhile` is called before each look.
pub(super) fn wait_ended(
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
pub(super) struct Was {
    package: &'static str,
    release: String,
    version: String,
    tree: BTreeMap<String, String>,
}

impl Was {
    fn of(machine: &Machine, package: &'static str) -> Result<Self, LabError> {
        let tree = machine.tree(&EXCLUDED)?;
        let (release, version) = (release(machine)?, version(machine, package)?);
        Ok(Self { package, release, version, tree })
    }

    /// From outside: which kernel runs, what the package database says, and every file. Patched is a new version,
    /// and where it is a kernel that this runs.
    pub(super) fn judge(
        &self,
        machine: &Machine,
        expected: End,
    ) -> Result<Result<End, String>, LabError> {
        let package = self.package;
        let (release, version) = (release(machine)?, version(machine, package)?);
        let audit = machine.sh("dpkg --audit", SHORT)?;
        if !audit.trim().is_empty() {
            return Ok(Err(format!("dpkg --audit: {audit}")));
        }
        let last = "fettle-agent show $(fettle-agent -o json status | sed -n 's/.*\"id\": *\"\\(tx-[^\"]*\\)\".*/\\1/p' | tail -1)";
        let said = machine.sh(last, SHORT).unwrap_or_else(|error| error.to_string());
        let is_kernel = package.starts_with("linux-image-");
        let is_new = version != self.version && is_kernel == (release != self.release);
        let is_old = version == self.version && release == self.release;
        let wanted = if expected == End::Patched { is_new } else { is_old };
        if !wanted {
            return Ok(Err(format!("{package} is {version}, {release} runs; {said}")));
        }
        if expected == End::Patched {
            return Ok(Ok(End::Patched));
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
            true => Ok(expected),
            false => Err(format!("{} files differ: {}", differ.len(), differ.join(" "))),
        })
    }
}

fn release(machine: &Machine) -> Result<String, LabError> {
    machine.sh("uname -r", SHORT).map(|text| text.trim().to_owned())
}

fn version(machine: &Machine, package: &str) -> Result<String, LabError> {
    machine.sh(&format!("dpkg-query -W -f '${{Version}}' {package}"), SHORT)
}
