//! Processes that have another root than this host's, and whose that is.

use super::Candidate;
use super::tree::{Identity, identity};
use crate::inventory::processes;
use fettle_core::root::RootKind;
use std::collections::BTreeMap;
use std::path::Path;

/// More processes of one root are not counted.
const MOST: usize = 4096;

/// The processes of one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Processes {
    /// One of them: the first.
    pub(super) pid: u32,
    /// When each began, in seconds since 1970.
    pub(super) began: Vec<i64>,
}

impl Processes {
    /// How many began before this second.
    pub(super) fn began_before(&self, second: i64) -> usize {
        self.began.iter().filter(|began| **began < second).count()
    }
}

/// Who keeps a root, and how they call it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Keeper {
    kind: RootKind,
    /// An engine's own name for a container, a machine's or a service's.
    id: String,
}

/// Says of each candidate whether it runs, and adds those that are known by their processes alone.
pub(super) fn join(candidates: &mut Vec<Candidate>, gaps: &mut Vec<String>) {
    let Some(own) = identity(Path::new("/")) else { return };
    let mut nobodys: BTreeMap<Identity, u32> = BTreeMap::new();
    let booted = boot_time();
    let mut found: BTreeMap<Keeper, (Processes, Option<Identity>)> = BTreeMap::new();
    for pid in processes::all() {
        let root = identity(Path::new(&format!("/proc/{pid}/root/")));
        if root.is_none_or(|root| root == own) {
            continue;
        }
        let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let keeper = keeper(&cgroup);
        // A service of this host counts its processes with the host. What counts its own is a system in itself, and the
        // services in it are its own affair.
        let is_system = || keeper.as_ref().is_none_or(|k| k.kind == RootKind::Chroot);
        if is_system() && counts_its_own(pid) {
            nobodys.extend(root.map(|root| (root, pid)));
            continue;
        }
        let Some(keeper) = keeper else { continue };
        let (processes, _) =
            found.entry(keeper).or_insert_with(|| (Processes { pid, began: Vec::new() }, root));
        if processes.began.len() < MOST {
            processes.began.extend(began(pid, booted));
        }
    }
    if let Some(pid) = nobodys.values().next() {
        // Without a name that lasts they cannot be listed: at every start they would be others.
        gaps.push(format!(
            "roots of no engine that is known: {}, one of them that of process {pid} ({})",
            nobodys.len(),
            processes::name(*pid)
        ));
    }
    for (keeper, (processes, root)) in found {
        let known = candidates.iter_mut().find(|it| match it.kind {
            RootKind::Docker | RootKind::Podman => it.id == keeper.id,
            RootKind::Nspawn if keeper.kind == RootKind::Nspawn => it.name == keeper.id,
            // The same directory, whoever has started something there.
            _ => {
                let place = it.layers.first().and_then(|place| identity(place));
                place.is_some() && place == root
            }
        });
        match known {
            Some(known) => known.processes = Some(processes),
            None => candidates.push(Candidate {
                kind: keeper.kind,
                // People know containers by the beginning of their number.
                name: match keeper.kind {
                    RootKind::Nspawn | RootKind::Chroot => keeper.id.clone(),
                    _ => keeper.id.chars().take(12).collect(),
                },
                image: String::new(),
                layers: Vec::new(),
                id: keeper.id,
                processes: Some(processes),
            }),
        }
    }
}

/// Is a process in a namespace of processes below this host's (pid_namespaces(7))? Then it has a number in each.
fn counts_its_own(pid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    has_several_numbers(&text)
}

/// By `NSpid` of proc_pid_status(5).
fn has_several_numbers(status: &str) -> bool {
    let told = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    told.is_some_and(|numbers| numbers.split_whitespace().count() > 1)
}

/// Whose a process is, by its control group (cgroups(7)).
fn keeper(cgroup: &str) -> Option<Keeper> {
    let parts = || cgroup.lines().flat_map(|line| line.rsplit('/'));
    let container = parts().find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let (kind, id) = [("docker-", RootKind::Docker), ("libpod-", RootKind::Podman)]
            .into_iter()
            .find_map(|(beginning, kind)| Some((kind, part.strip_prefix(beginning)?)))
            .unwrap_or_else(|| {
                (RootKind::Container, part.rsplit(['-', ':']).next().unwrap_or(part))
            });
        let hex = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| (kind, id.to_owned()))
    });
    if let Some((mut kind, id)) = container {
        if kind == RootKind::Container && parts().any(|part| part == "docker") {
            kind = RootKind::Docker;
        }
        return Some(Keeper { kind, id });
    }
    let machine = parts().find_map(|part| {
        let of_template =
            |p: &str| Some(p.strip_prefix("systemd-nspawn@")?.strip_suffix(".service")?.to_owned());
        let of_scope =
            |p: &str| Some(p.strip_prefix("machine-")?.strip_suffix(".scope")?.to_owned());
        // LXC's is told like a machine of nspawn: it has a name, and no image.
        let of_lxc = |p: &str| Some(p.strip_prefix("lxc.payload.")?.to_owned());
        of_template(part).or_else(|| of_scope(part)).or_else(|| of_lxc(part))
    });
    if let Some(name) = machine {
        return Some(Keeper { kind: RootKind::Nspawn, id: unescaped(&name) });
    }
    let service = parts().find(|part| part.ends_with(".service"))?;
    Some(Keeper { kind: RootKind::Chroot, id: service.to_owned() })
}

/// systemd writes `\x2d` for a `-` in names of units (systemd-escape(1)).
fn unescaped(name: &str) -> String {
    let mut out = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.push_str(before);
        match after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = &after[2..];
            }
            _ => {
                out.push_str("\\x");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// When the host was booted, in seconds since 1970 (`btime` of proc_stat(5)).
fn boot_time() -> i64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let told = text.lines().find_map(|line| line.strip_prefix("btime "));
    told.and_then(|t| t.trim().parse().ok()).unwrap_or(0)
}

/// When a process began: field 22 of proc_pid_stat(5), in hundredths of a second since the boot. Its second field may hold
/// anything, brackets too.
fn began(pid: u32, booted: i64) -> Option<i64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks: i64 = text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(booted + ticks / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_group_says_whose_a_process_is() {
        let id = "0123456789abcdef".repeat(4);
        let of = |kind, id: &str| Some(Keeper { kind, id: id.to_owned() });
        for (cgroup, expected) in [
            (format!("0::/system.slice/docker-{id}.scope\n"), of(RootKind::Docker, &id)),
            (format!("0::/docker/{id}/init\n"), of(RootKind::Docker, &id)),
            (format!("0::/machine.slice/libpod-{id}.scope/container\n"), of(RootKind::Podman, &id)),
            (format!("0::/libpod_parent/libpod-{id}\n"), of(RootKind::Podman, &id)),
            (
                format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope\n"),
                of(RootKind::Container, &id),
            ),
            (format!("0::/kubepods/pod1/crio-{id}\n"), of(RootKind::Container, &id)),
            (format!("3:cpu:/x\n1:name=systemd:/docker/{id}\n0::/\n"), of(RootKind::Docker, &id)),
            (
                "0::/machine.slice/systemd-nspawn@build.service/payload\n".into(),
                of(RootKind::Nspawn, "build"),
            ),
            ("0::/machine.slice/machine-a\\x2db.scope\n".into(), of(RootKind::Nspawn, "a-b")),
            ("0::/lxc.payload.mail/system.slice/x.service\n".into(), of(RootKind::Nspawn, "mail")),
            ("0::/system.slice/chrony.service\n".into(), of(RootKind::Chroot, "chrony.service")),
            ("0::/user.slice/session-1.scope\n".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(keeper(&cgroup), expected, "{cgroup}");
        }
        assert_eq!(unescaped("a\\x2db\\xzz\\x"), "a-b\\xzz\\x");
    }

    #[test]
    fn what_counts_its_processes_itself_is_told_by_their_numbers() {
        assert!(!has_several_numbers("Name:\tx\nNSpid:\t71\nThreads:\t1\n"));
        assert!(has_several_numbers("Name:\tx\nNSpid:\t71\t1\n"));
        assert!(!has_several_numbers(""));
    }
}
