//! `doctor`: what is wrong with this host, and what to do. What is looked at and what is made of it are apart: [`look`]
//! asks the host, [`judge`] is a pure function of the answers.

use super::{Words, print};
use crate::configuration_tests::executables;
use crate::identity::{self, Identity};
use crate::link::address_of;
use crate::packages::index::{self, Indexes};
use crate::settings::Settings;
use crate::transaction::preflight;
use crate::trusted::{self, Untrusted};
use fettle_core::{Problem, ProblemKind, Timestamp};
use serde::Serialize;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Level {
    /// As it should be.
    Good,
    /// It works, and somebody should look.
    Odd,
    /// Nothing will be patched until somebody does.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Symptom {
    /// How bad it is.
    level: Level,
    /// What was looked at: `server`, `disk`, ...
    part: &'static str,
    /// What was found.
    what: String,
    /// What to do. Empty where it is good.
    hint: String,
}

/// A file system that patches write to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Room {
    path: &'static str,
    /// Bytes free.
    free: u64,
    /// Inodes free; `None`: it does not count them.
    inodes: Option<u64>,
    read_only: bool,
}

/// What was seen on the host.
#[derive(Debug, Clone)]
struct Sight {
    root: bool,
    systemd: bool,
    overlay: bool,
    /// Does the agent's service run? `None`: systemd does not say.
    service: Option<bool>,
    identity: Result<Option<(String, String)>, String>,
    /// The server's port answers; `Err`: why not. `None`: not enrolled.
    server: Option<Result<(), String>>,
    indexes: Indexes,
    preflight: preflight::Sight,
    rooms: Vec<Room>,
    /// Transactions that a person must look at, and interrupted ones.
    quarantined: Vec<String>,
    interrupted: Vec<String>,
    unreadable: Vec<String>,
    /// Probes that are no programs.
    dead_probes: Vec<String>,
    /// Tests, probes and hooks that others than root may have a hand in.
    untrusted: Vec<Untrusted>,
}

/// Prints what was found. An error, so that scripts see it, where nothing will be patched until somebody acts.
pub(super) fn run(settings: &Settings, words: Words) -> Result<(), Problem> {
    let json = words.json;
    words.rest()?;
    let found = judge(&look(settings), Timestamp::now());
    if json {
        out!("{}", serde_json::to_string_pretty(&found).unwrap_or_default());
    } else {
        for symptom in &found {
            let mark = match symptom.level {
                Level::Good => "✓",
                Level::Odd => "!",
                Level::Bad => "✗",
            };
            out!("{mark} {:<14} {}", symptom.part, symptom.what);
            if !symptom.hint.is_empty() {
                out!("  {:<14} → {}", "", symptom.hint);
            }
        }
    }
    let bad = found.iter().filter(|s| s.level == Level::Bad).collect::<Vec<_>>();
    match bad.first() {
        None => Ok(()),
        Some(first) => Err(Problem::new(
            ProblemKind::Environment,
            "unwell",
            format!("{} of {} things looked at are wrong", bad.len(), found.len()),
            &first.hint,
        )),
    }
}

/// Where patches write: packages, what is kept of them, kernels, the agent's own.
const ROOMS: [&str; 4] = ["/", "/var", "/boot", "/var/lib/fettle-agent"];
/// An update of the base system needs so much with its way back.
const ENOUGH: u64 = 1 << 30;
/// Below this hardly anything can be patched.
const TOO_LITTLE: u64 = 128 << 20;
/// `/boot` has to hold one more kernel.
const KERNEL: u64 = 120 << 20;
/// The server is given so long to take a connection.
const PATIENCE: Duration = Duration::from_secs(5);

fn look(settings: &Settings) -> Sight {
    let systemd = crate::unit::booted();
    let identity = identity::load(settings).map_err(|problem| problem.message);
    let server = identity.as_ref().ok().and_then(Option::as_ref).map(reach);
    let named = |i: &Identity| (i.host.to_string(), i.server.clone());
    let (ended, unreadable) = print::at_rest(settings);
    let stuck = |quarantined: bool| {
        let all = ended.iter().filter(|(_, q)| *q == quarantined);
        all.map(|(id, _)| id.clone()).collect::<Vec<_>>()
    };
    Sight {
        root: rustix::process::geteuid().is_root(),
        systemd,
        overlay: std::fs::read_to_string("/proc/filesystems").is_ok_and(|t| t.contains("overlay")),
        service: systemd
            .then(|| crate::unit::active_state("fettle-agent.service").ok())
            .flatten()
            .map(|state| state == "active"),
        identity: identity.map(|i| i.as_ref().map(named)),
        server,
        indexes: index::read(&settings.host(index::LISTS)),
        preflight: preflight::look(settings),
        rooms: ROOMS.iter().filter_map(|path| room(settings, path)).collect(),
        quarantined: stuck(true),
        interrupted: stuck(false),
        unreadable,
        dead_probes: dead_probes(&settings.config_dir.join("probes.d")),
        untrusted: untrusted(&settings.config_dir),
    }
}

fn reach(identity: &Identity) -> Result<(), String> {
    let address = address_of(&identity.server).ok_or("that is no server's address")?;
    let mut all = address.to_socket_addrs().map_err(|e| e.to_string())?;
    let first = all.next().ok_or_else(|| "the name has no address".to_owned())?;
    TcpStream::connect_timeout(&first, PATIENCE).map(drop).map_err(|e| e.to_string())
}

fn room(settings: &Settings, path: &'static str) -> Option<Room> {
    let fs = rustix::fs::statvfs(settings.host(path)).ok()?;
    Some(Room {
        path,
        free: fs.f_bavail.saturating_mul(fs.f_frsize),
        inodes: (fs.f_files > 0).then_some(fs.f_favail),
        read_only: fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

/// What root does not run of the host's own lists.
fn untrusted(config: &Path) -> Vec<Untrusted> {
    let lists = ["tests.d", "probes.d", "hooks.d"].map(|list| config.join(list));
    let one = |list: &PathBuf| {
        // Where the directory is not root's alone, none in it is: told once.
        if let Err(why) = trusted::directory(list) {
            return vec![why];
        }
        let programs = executables(list).map(|(_, program)| program);
        programs.filter_map(|program| trusted::program(&program).err()).collect()
    };
    lists.iter().flat_map(one).collect()
}

fn dead_probes(directory: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let dead = entries
        .filter(|e| e.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 == 0));
    let mut names: Vec<String> =
        dead.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What is made of it. What is worse comes first; what was looked at and is good is told too.
fn judge(sight: &Sight, now: Timestamp) -> Vec<Symptom> {
    let mut out = Vec::new();
    let mut say = |level, part, what: String, hint: &str| {
        out.push(Symptom { level, part, what, hint: hint.to_owned() });
    };
    if !sight.root {
        say(
            Level::Odd,
            "user",
            "not root: not everything can be seen".into(),
            "sudo fettle-agent doctor",
        );
    }
    match &sight.identity {
        Ok(None) => say(Level::Good, "server", "not enrolled: this host is on its own".into(), ""),
        Ok(Some((host, server))) => match &sight.server {
            Some(Err(why)) => say(
                Level::Bad,
                "server",
                format!("{server} cannot be reached: {why}"),
                "is the server up, and may this host reach that port? Orders it has are still carried out",
            ),
            _ => say(Level::Good, "server", format!("{host}; {server} takes connections"), ""),
        },
        Err(why) => say(
            Level::Bad,
            "server",
            format!("the identity cannot be used: {why}"),
            "fettle-agent enroll --force with a new token",
        ),
    }
    if matches!(sight.identity, Ok(Some(_))) && sight.service == Some(false) {
        say(
            Level::Bad,
            "service",
            "fettle-agent.service does not run: this host hears no orders".into(),
            "systemctl enable --now fettle-agent; journalctl -u fettle-agent says why it stopped",
        );
    }
    if !sight.systemd {
        let what = "systemd does not run here: units are not restarted, and nothing undoes a change by itself";
        say(Level::Odd, "systemd", what.into(), "patch while somebody looks on");
    }
    if !sight.overlay {
        say(
            Level::Bad,
            "rehearsal",
            "the kernel offers no overlayfs: no change can be rehearsed".into(),
            "modprobe overlay",
        );
    }
    packages(sight, now, &mut say);
    for room in &sight.rooms {
        rooms(room, &mut say);
    }
    for id in &sight.quarantined {
        let what = format!("{id} could not be undone: this host is in quarantine");
        say(
            Level::Bad,
            "transactions",
            what,
            "fettle-agent show it; docs/quarantine.md says what to do",
        );
    }
    for id in &sight.interrupted {
        let what = format!("{id} was interrupted");
        say(Level::Bad, "transactions", what, "fettle-agent resume");
    }
    for id in &sight.unreadable {
        let what = format!("the journal of {id} cannot be read");
        say(Level::Bad, "transactions", what, "fettle-agent status says more");
    }
    for name in &sight.dead_probes {
        let what = format!("probes.d/{name} cannot be run: it proves nothing");
        say(Level::Odd, "probes", what, "chmod 755 it, or take it away");
    }
    for why in &sight.untrusted {
        let what = format!("root does not run what others may change: {}", why.reason());
        say(Level::Bad, "programs", what, &why.mend);
    }
    out.sort_by_key(|s| std::cmp::Reverse(s.level));
    out
}

fn packages(
    sight: &Sight,
    now: Timestamp,
    say: &mut impl FnMut(Level, &'static str, String, &str),
) {
    let seen = &sight.preflight;
    match (&seen.half_done, &seen.lock) {
        (Err(why), _) | (_, Err(why)) => {
            say(
                Level::Odd,
                "packages",
                format!("the package manager does not say: {why}"),
                "sudo fettle-agent doctor",
            );
        }
        (Ok(half), Ok(lock)) => {
            if !half.is_empty() {
                let what = format!("left half done: {}", half.join("; "));
                say(Level::Bad, "packages", what, "dpkg --configure -a, or patch with --repair");
            }
            if let Some(holder) = lock {
                let what = format!("locked by {holder}");
                say(Level::Odd, "packages", what, "a patch waits a minute for it");
            }
            if half.is_empty() && lock.is_none() {
                say(Level::Good, "packages", "whole, and nobody changes them".into(), "");
            }
        }
    }
    for note in &seen.notes {
        say(Level::Odd, "packages", note.clone(), "see whether that is meant so");
    }
    let gaps = sight.indexes.gaps(now);
    for gap in &gaps {
        say(Level::Odd, "package lists", gap.clone(), "apt-get update");
    }
    match sight.indexes.newest() {
        None => say(Level::Bad, "package lists", "there are none".into(), "apt-get update"),
        Some(newest) if newest > now + jiff::SignedDuration::from_hours(24) => say(
            Level::Bad,
            "clock",
            format!("{now}, before the newest package list was made ({newest})"),
            "set the clock (timedatectl)",
        ),
        Some(newest) if gaps.is_empty() => {
            say(Level::Good, "package lists", format!("the newest was made {newest}"), "");
        }
        Some(_) => {}
    }
}

fn rooms(room: &Room, say: &mut impl FnMut(Level, &'static str, String, &str)) {
    let Room { path, free, inodes, read_only } = room;
    let mib = free >> 20;
    let enough = if *path == "/boot" { KERNEL } else { ENOUGH };
    if *read_only {
        let what = format!("{path} is mounted read-only");
        return say(Level::Bad, "disk", what, "look at dmesg: file systems turn so after an error");
    }
    if inodes.is_some_and(|left| left < 10_000) {
        let what = format!("{path} has {} inodes left", inodes.unwrap_or(0));
        return say(Level::Bad, "disk", what, "remove what nobody needs: many small files");
    }
    match *free {
        free if free < TOO_LITTLE.min(enough) => {
            say(
                Level::Bad,
                "disk",
                format!("{path} has {mib} MiB left"),
                "make room: apt-get clean, journalctl --vacuum-size=100M",
            );
        }
        free if free < enough => {
            say(
                Level::Odd,
                "disk",
                format!("{path} has {mib} MiB left"),
                "large updates will be refused for want of room",
            );
        }
        _ => say(Level::Good, "disk", format!("{path} has {mib} MiB left"), ""),
    }
}

#[cfg(test)]
mod tests;
