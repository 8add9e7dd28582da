//! Other roots on this host: containers, machines and chroots, and what is installed in them.
//!
//! Nothing is run inside of them, nor asked of those who keep them: names come from the files that engines keep for
//! themselves, contents from the root that the processes of a running one have, or from the layers it is stored in. Whoever is
//! at home there is not trusted, and `tree` does not let them lead us anywhere else. Looking is bounded in roots, bytes and
//! time; where a bound is met, that is a gap, and what is not listed is not taken for gone.
//!
//! | kind | found by | read from |
//! |---|---|---|
//! | docker | `containers/*/config.v2.json` below its data root | `/proc/PID/root`, else its layers (overlay2, vfs, btrfs) |
//! | podman | `*-containers/containers.json` below its graph root | likewise (overlay, vfs, btrfs) |
//! | container | a control group that names one of another engine | `/proc/PID/root` |
//! | nspawn | `/var/lib/machines/*`, control groups | `/proc/PID/root`, else the directory |
//! | chroot | schroot's configuration, services with a root of their own | the directory, `/proc/PID/root` |

use crate::settings::Settings;
use fettle_core::inventory::{Os, Package};
use fettle_core::root::{ROOTS_GAP, Root, RootKind, is_name};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tree::Tree;

mod engines;
mod places;
mod read;
mod running;
mod tree;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Roots that are listed.
    pub roots: usize,
    /// Packages that are listed, of all roots together.
    pub packages: usize,
    /// Bytes of one file, except for a database that is read where it lies.
    pub file: u64,
    /// All of it together.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { roots: 200, packages: 60_000, file: 32 << 20, time: Duration::from_secs(5) }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// By kind and name.
    pub roots: Vec<Root>,
    /// What could not be looked at, in words.
    pub gaps: Vec<String>,
}

/// A root as it is known before it is looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    kind: RootKind,
    name: String,
    image: String,
    /// Where its keeper has it, topmost layer first. Empty: only its processes lead there.
    layers: Vec<PathBuf>,
    /// Its keeper's own name for it, which its control group has too.
    id: String,
    processes: Option<running::Processes>,
}

impl Candidate {
    fn called(&self) -> String {
        format!("{}:{}", self.kind, self.name)
    }
}

/// What a root holds.
struct Contents {
    os: Os,
    packages: Vec<Package>,
    gaps: Vec<String>,
    /// When its package database last changed, in seconds since 1970.
    changed: i64,
}

/// Looks for them.
pub fn installed(settings: &Settings, limits: Limits) -> Found {
    let until = Instant::now() + limits.time;
    let mut gaps = Vec::new();
    let mut candidates = engines::docker(settings, &mut gaps);
    candidates.extend(engines::podman(settings, &mut gaps));
    candidates.extend(places::machines(settings, &mut gaps));
    candidates.extend(places::schroot(settings));
    if settings.root == Path::new("/") {
        running::join(&mut candidates, &mut gaps);
    }
    candidates.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    // One that is told twice runs in one of the two.
    candidates.dedup_by(|b, a| {
        let same = (a.kind, &a.name) == (b.kind, &b.name);
        if same && a.processes.is_none() {
            a.processes = b.processes.take();
        }
        same
    });
    let mut roots: Vec<Root> = Vec::new();
    let mut packages = 0;
    for candidate in candidates {
        let called = candidate.called();
        if !is_name(&candidate.name) {
            gaps.push(format!("{ROOTS_GAP}: a {} with an odd name is not listed", candidate.kind));
            continue;
        }
        let over = if roots.len() >= limits.roots {
            Some(format!("more than {} roots", limits.roots))
        } else if packages >= limits.packages {
            Some(format!("more than {} packages", limits.packages))
        } else if Instant::now() >= until {
            Some(format!("looking took more than {} s", limits.time.as_secs()))
        } else {
            None
        };
        if let Some(over) = over {
            gaps.push(format!("{ROOTS_GAP}: {over}; from {called} on none is listed"));
            break;
        }
        match contents(&candidate, limits, until) {
            Ok(Some(contents)) => {
                packages += contents.packages.len();
                roots.push(root(settings, candidate, contents));
            }
            // No system: a process that has shut itself in, an image of a single program.
            Ok(None) => {}
            Err(e) => gaps.push(format!("{ROOTS_GAP}: {called}: {e}")),
        }
    }
    Found { roots, gaps }
}

/// Looks into a root: where its processes are, and, where these do not lead there, where it is stored.
fn contents(
    candidate: &Candidate,
    limits: Limits,
    until: Instant,
) -> std::io::Result<Option<Contents>> {
    let by_process = candidate.processes.as_ref().map(|p| Tree::of_process(p.pid));
    let tree = match by_process {
        Some(Ok(tree)) => tree,
        Some(Err(e)) if candidate.layers.is_empty() => return Err(e),
        None if candidate.layers.is_empty() => {
            let what = "it does not run, and where it is stored is not known";
            return Err(std::io::Error::other(what));
        }
        _ => Tree::of_layers(&candidate.layers)?,
    };
    read::contents(&tree, limits, until)
}

fn root(settings: &Settings, candidate: Candidate, contents: Contents) -> Root {
    let Contents { os, packages, mut gaps, changed } = contents;
    if let Some(processes) = &candidate.processes {
        let old = processes.began_before(changed);
        if old > 0 {
            gaps.push(format!(
                "processes: {old} of {} began before its packages last changed, and may run what was there before",
                processes.began.len()
            ));
        }
    }
    // Of several layers the topmost is the root's own.
    let location = candidate.layers.first().map_or(String::new(), |place| {
        let place = place.strip_prefix(&settings.root).unwrap_or(place);
        Path::new("/").join(place).to_string_lossy().chars().take(1024).collect()
    });
    Root {
        kind: candidate.kind,
        name: candidate.name,
        image: candidate.image.chars().filter(|c| !c.is_control()).take(512).collect(),
        location,
        running: candidate.processes.is_some(),
        architecture: most_common(&packages),
        os,
        packages: packages.into_iter().map(Into::into).collect(),
        gaps,
    }
}

/// The architecture of most packages.
fn most_common(packages: &[Package]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for package in packages {
        if !matches!(package.architecture.as_str(), "" | "all" | "noarch") {
            *counts.entry(&package.architecture).or_default() += 1;
        }
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(name, _)| name.to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
