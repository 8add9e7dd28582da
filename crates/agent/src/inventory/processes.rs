//! What processes map: which packages are in use, which of them face the network, and who still runs code that has
//! been replaced on disk.
//!
//! A file that was renamed over or removed stays mapped; the kernel then writes ` (deleted)` behind its path in
//! `/proc/PID/maps` (proc_pid_maps(5)). Only executable mappings count: caches and data files come and go.

use super::{dpkg, sockets};
use crate::settings::Settings;
use fettle_core::inventory::StaleProcess;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

/// Where packages put code. What lives elsewhere (`/tmp`, `/memfd:`, `/dev/zero`, `/SYSV...`) is nobody's package.
const CODE: &[&str] = &["/usr/", "/lib/", "/lib32/", "/lib64/", "/bin/", "/sbin/", "/opt/"];
const DELETED: &str = " (deleted)";

/// What a look at all processes gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Processes that run replaced code.
    pub stale: Vec<StaleProcess>,
    /// Packages of which some process maps code.
    pub in_use: Vec<String>,
    /// Packages mapped by a process that can be reached from elsewhere.
    pub exposed: Vec<String>,
    /// What could not be found out.
    pub gaps: Vec<String>,
}

/// Code one process maps: path → replaced since?
type Mapped = BTreeMap<String, bool>;

/// All processes' ids.
pub(super) fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// A process's name; empty when it is gone.
pub(super) fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// The service a process belongs to, by its control group; empty where none.
pub(super) fn unit(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    unit_of(&text).unwrap_or_default().to_owned()
}

/// The deepest `.service` of the unified hierarchy, or of systemd's own (cgroups(7)).
fn unit_of(cgroup: &str) -> Option<&str> {
    let path = |prefix: &str| cgroup.lines().find_map(|l| l.strip_prefix(prefix));
    let path = path("0::").filter(|p| *p != "/").or_else(|| path("1:name=systemd:"))?;
    path.split('/').rev().find(|part| part.ends_with(".service"))
}

/// Processes that still map or run replaced code. Whose packages that is, is not asked: it costs more than all else.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn stale() -> io::Result<Vec<StaleProcess>> {
    Ok(with_files(&maps()?.0, |_, replaced| replaced))
}

/// Processes that run code of one of these paths: what will be stale when they are replaced.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn that_map(wanted: impl Fn(&str) -> bool) -> io::Result<Vec<StaleProcess>> {
    Ok(with_files(&maps()?.0, |path, _| wanted(path)))
}

/// Code of every process of this host (containers have a root of their own and are not this host's), and how many
/// could not be looked at.
fn maps() -> io::Result<(BTreeMap<u32, Mapped>, usize)> {
    let own_root = fs::read_link("/proc/self/ns/mnt")?;
    let mut maps: BTreeMap<u32, Mapped> = BTreeMap::new();
    let mut unreadable = 0;
    for pid in all() {
        // A service may have a mount namespace of its own (PrivateTmp=) and is this host's all the same; what has
        // another root directory is not.
        let same = fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|ns| ns == own_root);
        if !same && !same_root(pid) {
            continue;
        }
        match fs::read_to_string(format!("/proc/{pid}/maps")) {
            Ok(text) => {
                let mapped = mapped(&text);
                if !mapped.is_empty() {
                    maps.insert(pid, mapped);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unreadable += 1,
            // Ended meanwhile.
            Err(_) => {}
        }
    }
    Ok((maps, unreadable))
}

/// Processes with the files that are wanted (path, replaced since?); sorted.
fn with_files(
    maps: &BTreeMap<u32, Mapped>,
    wanted: impl Fn(&str, bool) -> bool,
) -> Vec<StaleProcess> {
    let mut found: Vec<StaleProcess> = maps
        .iter()
        .filter_map(|(pid, mapped)| {
            let files: Vec<String> = mapped
                .iter()
                .filter(|(path, replaced)| wanted(path, **replaced))
                .map(|(path, _)| path.clone())
                .collect();
            (!files.is_empty()).then(|| StaleProcess {
                unit: unit(*pid),
                process: name(*pid),
                pid: *pid,
                files,
                packages: Vec::new(),
            })
        })
        .collect();
    found.sort();
    found
}

/// Looks at every process of this host.
///
/// # Errors
/// When `/proc` or the package database cannot be read.
pub fn survey(settings: &Settings) -> io::Result<Survey> {
    let (maps, unreadable) = maps()?;
    let paths: BTreeSet<&str> = maps.values().flat_map(|m| m.keys().map(String::as_str)).collect();
    let owners = dpkg::Owners::find(settings, paths.iter().map(|p| p.as_bytes()))?;
    let exposed_pids = sockets::exposed_processes()?;
    let (mut in_use, mut exposed) = (BTreeSet::new(), BTreeSet::new());
    for (pid, mapped) in &maps {
        let packages = mapped.keys().flat_map(|path| owners.of(path.as_bytes()));
        in_use.extend(packages.clone().cloned());
        if exposed_pids.contains(pid) {
            exposed.extend(packages.cloned());
        }
    }
    let mut stale = with_files(&maps, |_, replaced| replaced);
    for process in &mut stale {
        let packages: BTreeSet<String> =
            process.files.iter().flat_map(|path| owners.of(path.as_bytes())).cloned().collect();
        process.packages = packages.into_iter().collect();
    }
    let gaps = match unreadable {
        0 => Vec::new(),
        n => vec![format!("processes: {n} could not be looked at (run as root)")],
    };
    Ok(Survey {
        stale,
        in_use: in_use.into_iter().collect(),
        exposed: exposed.into_iter().collect(),
        gaps,
    })
}

fn same_root(pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: &str| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    id(&format!("/proc/{pid}/root/")).is_some_and(|theirs| Some(theirs) == id("/"))
}

/// `address perms offset dev inode path`
fn mapped(maps: &str) -> Mapped {
    let mut found = Mapped::new();
    for line in maps.lines() {
        let Some(at) = line.find('/') else { continue };
        let executable = line.split_whitespace().nth(1).is_some_and(|p| p.contains('x'));
        let path = &line[at..];
        let replaced = path.ends_with(DELETED);
        let path = path.strip_suffix(DELETED).unwrap_or(path);
        // dpkg removes the old file under this name when the new one stands in its place.
        let path = path.strip_suffix(".dpkg-tmp").unwrap_or(path);
        if executable && CODE.iter().any(|prefix| path.starts_with(prefix)) {
            *found.entry(path.to_owned()).or_default() |= replaced;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_counts_and_what_was_replaced_is_told() {
        let maps = "\
55d0-55d1 r--p 00000000 08:01 11 /usr/sbin/nginx (deleted)
55d1-55d2 r-xp 00001000 08:01 11 /usr/sbin/nginx (deleted)
7f00-7f01 r-xp 00000000 08:01 12 /usr/lib/x86_64-linux-gnu/libc.so.6
7f01-7f02 r--p 00000000 08:01 13 /usr/lib/locale/locale-archive (deleted)
7f02-7f03 rwxs 00000000 00:05 14 /dev/zero (deleted)
7f03-7f04 r-xp 00000000 00:05 15 /memfd:jit (deleted)
7f04-7f05 r-xp 00000000 08:01 16 /usr/lib/libz.so.1.dpkg-tmp (deleted)
7ffd-7ffe r-xp 00000000 00:00 0 [vdso]
";
        let found: Vec<(String, bool)> = mapped(maps).into_iter().collect();
        assert_eq!(
            found,
            [
                ("/usr/lib/libz.so.1".to_owned(), true),
                ("/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned(), false),
                ("/usr/sbin/nginx".to_owned(), true),
            ]
        );
    }

    #[test]
    fn a_process_belongs_to_the_deepest_service_of_its_control_group() {
        assert_eq!(unit_of("0::/system.slice/nginx.service\n"), Some("nginx.service"));
        assert_eq!(
            unit_of("0::/user.slice/user-0.slice/user@0.service/init.scope\n"),
            Some("user@0.service")
        );
        assert_eq!(
            unit_of("12:cpu:/\n1:name=systemd:/system.slice/ssh.service\n0::/\n"),
            Some("ssh.service")
        );
        assert_eq!(unit_of("0::/user.slice/session-1.scope\n"), None);
        assert_eq!(unit_of(""), None);
    }
}
