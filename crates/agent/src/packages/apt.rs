//! The apt and dpkg driver.
//!
//! Versions are always exact (`NAME:ARCH=VERSION`) and archives always those in the transaction's own directory, so
//! what is rehearsed, what is approved and what is applied are the same bytes.

use super::fetch::exact;
use super::tool::{self, QUIET, words};
use super::{
    Archive, CommandLine, Driver, LockHolder, Mismatch, PackagesError, Provenance, Resolution,
    names, repack, simulation,
};
use crate::settings::Settings;
use fettle_core::assignment::{ConffileRule, PackageChange};
use fettle_core::{Digest, Shared};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Locks of dpkg and apt, in the order in which they are taken.
const LOCKS: &[&str] =
    &["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock"];
const CACHE: &str = "/var/cache/apt/archives";

/// apt and dpkg of one host.
#[derive(Debug, Clone)]
pub struct Apt {
    root: PathBuf,
    pub(super) caches: [String; 4],
    /// What is being fetched. It outlives a transaction: where a line broke, the next one goes on.
    pub(super) fetching: PathBuf,
}

/// Options that give apt a cache of its package lists beside the agent's own state. apt writes its cache anew
/// whenever it finds it stale, which would leave the host changed by a look; without any it reads all lists each time,
/// which takes seconds. Where the place cannot be written it does without.
pub(crate) fn caches(settings: &Settings) -> [String; 4] {
    let place = settings.state_dir.join("cache");
    let made = crate::durable::create_directory(&place).is_ok();
    let option = |name: &str| {
        let file = if made { place.join(name).display().to_string() } else { String::new() };
        format!("Dir::Cache::{}={file}", name.trim_end_matches(".bin"))
    };
    ["-o".to_owned(), option("pkgcache.bin"), "-o".to_owned(), option("srcpkgcache.bin")]
}

impl Apt {
    /// The apt of this host.
    pub fn new(settings: &Settings) -> Self {
        let fetching = settings.state_dir.join("fetching");
        Self { root: settings.root.clone(), caches: caches(settings), fetching }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Why apt would not upgrade this package to what its sources offer, in its own words. `None`: it would, or there is
    /// nothing newer.
    pub fn refusal(&self, name: &str) -> Option<String> {
        let bare = name.split(':').next().unwrap_or(name);
        if !names::is_name(bare) {
            return None;
        }
        let mut arguments = words(&["--simulate", "-q", "-o", "Debug::NoLocking=1"]);
        arguments.extend(self.caches.clone());
        arguments.extend(words(&["install", "--only-upgrade", "--", name]));
        let output = tool::output("/usr/bin/apt-get", &arguments, Path::new("/")).ok()?;
        if output.status.success() {
            return None;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let unmet: Vec<&str> = text
            .lines()
            .skip_while(|line| !line.contains("unmet dependencies"))
            .skip(1)
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        Some(if unmet.is_empty() { tool::said(&output) } else { unmet.join("; ") })
    }

    /// The archive that was found, or one rebuilt from what is installed.
    fn old_archive(
        &self,
        change: &PackageChange,
        directory: &Path,
        found: &BTreeMap<String, Provenance>,
        unavailable: &str,
    ) -> Result<Archive, PackagesError> {
        let PackageChange { name, architecture, from: version, .. } = change;
        let file = names::archive_file(name, version, architecture);
        let path = directory.join(&file);
        let mut provenance = found.get(&file).copied().unwrap_or(Provenance::Source);
        if !path.exists() {
            provenance = Provenance::Rebuilt;
            repack::rebuild(&self.root, name, architecture, version, &path).map_err(|error| {
                PackagesError::NoArchive {
                    name: name.clone(),
                    version: version.clone(),
                    why: format!("the sources: {unavailable}; rebuilding it: {error}"),
                }
            })?;
        }
        let (sha256, size) = measure(&path)?;
        let (name, architecture) = (name.clone(), architecture.clone());
        Ok(Archive { name, architecture, version: version.clone(), path, sha256, size, provenance })
    }
}

pub(super) fn file_error(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> PackagesError {
    let path = path.to_owned();
    move |source| PackagesError::File { what, path, source }
}

/// Digest and size of a file, without holding it in memory.
pub(super) fn measure(path: &Path) -> Result<(Digest, u64), PackagesError> {
    use std::io::Read as _;
    let mut file = File::open(path).map_err(file_error("read", path))?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    loop {
        let n = file.read(&mut buffer).map_err(file_error("read", path))?;
        if n == 0 {
            break;
        }
        size += n as u64;
        context.update(&buffer[..n]);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok((Digest(digest), size))
}

impl Driver for Apt {
    fn simulate(&self, changes: &[Shared<PackageChange>]) -> Result<Resolution, PackagesError> {
        names::check_changes(changes)?;
        if changes.is_empty() {
            return Ok(Resolution::default());
        }
        let mut arguments = words(&[
            "--simulate",
            "-o",
            "Debug::NoLocking=1",
            "-o",
            "APT::Install-Recommends=false",
        ]);
        arguments.extend(self.caches.clone());
        arguments.push("install".to_owned());
        arguments.extend(changes.iter().map(|c| exact(&c.name, &c.architecture, &c.to)));
        let output = tool::output("/usr/bin/apt-get", &arguments, Path::new("/"))?;
        if !output.status.success() {
            return Err(PackagesError::Unresolvable { said: tool::said(&output) });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut steps = simulation::parse(&text, native_architecture(changes))?;
        steps.sort();
        Ok(Resolution { steps })
    }

    fn download(
        &self,
        changes: &[Shared<PackageChange>],
        directory: &Path,
    ) -> Result<Vec<Archive>, PackagesError> {
        names::check_changes(changes)?;
        fs::create_dir_all(directory).map_err(file_error("make", directory))?;
        let mut provenance = BTreeMap::new();
        let mut missing = Vec::new();
        for change in changes {
            let file = names::archive_file(&change.name, &change.to, &change.architecture);
            let path = directory.join(&file);
            let right = |p: &Path| measure(p).is_ok_and(|m| m == (change.sha256, change.size));
            if right(&path) {
                provenance.insert(file, Provenance::Kept);
                continue;
            }
            let cached = self.at(CACHE).join(&file);
            if right(&cached) {
                copy(&cached, &path)?;
                provenance.insert(file, Provenance::Cache);
                continue;
            }
            missing.push(change);
        }
        if !missing.is_empty() {
            self.fetch_on(&missing, directory)?;
        }
        changes
            .iter()
            .map(|change| {
                let file = names::archive_file(&change.name, &change.to, &change.architecture);
                let path = directory.join(&file);
                let (sha256, size) = measure(&path)?;
                if (sha256, size) != (change.sha256, change.size) {
                    // What is wrong is not kept: the next try must not find it.
                    let _ = fs::remove_file(&path);
                    return Err(PackagesError::WrongArchive {
                        name: change.name.clone(),
                        version: change.to.clone(),
                        expected: format!("{} bytes, {}", change.size, change.sha256),
                        found: format!("{size} bytes, {sha256}"),
                    });
                }
                Ok(Archive {
                    name: change.name.clone(),
                    architecture: change.architecture.clone(),
                    version: change.to.clone(),
                    path,
                    sha256,
                    size,
                    provenance: provenance.get(&file).copied().unwrap_or(Provenance::Source),
                })
            })
            .collect()
    }

    fn fetch_old(
        &self,
        changes: &[Shared<PackageChange>],
        directory: &Path,
    ) -> Result<Vec<Result<Archive, PackagesError>>, PackagesError> {
        for change in changes {
            names::check(&change.name, &change.architecture, &change.from)?;
        }
        fs::create_dir_all(directory).map_err(file_error("make", directory))?;
        let mut provenance = BTreeMap::new();
        let mut missing = Vec::new();
        for change in changes {
            let file = names::archive_file(&change.name, &change.from, &change.architecture);
            // Only whole archives are ever under this name: each way below writes aside and renames.
            let cached = self.at(CACHE).join(&file);
            if directory.join(&file).exists() {
                provenance.insert(file, Provenance::Kept);
            } else if is_archive_of(&cached, &change.name, &change.architecture, &change.from) {
                copy(&cached, &directory.join(&file))?;
                provenance.insert(file, Provenance::Cache);
            } else {
                missing.push((exact(&change.name, &change.architecture, &change.from), file));
            }
        }
        let unavailable = match missing.is_empty() {
            true => String::new(),
            false => self.fetch_offered(&missing, directory)?,
        };
        Ok(changes
            .iter()
            .map(|c| self.old_archive(c, directory, &provenance, &unavailable))
            .collect())
    }

    fn audit(&self) -> Result<Vec<String>, PackagesError> {
        // dpkg --audit ends with 1 where it finds something: what it prints counts, not how it ends.
        let output = tool::output("/usr/bin/dpkg", &words(&["--audit"]), Path::new("/"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines: Vec<String> =
            text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
        if lines.is_empty() && !output.status.success() {
            lines.push(tool::said(&output));
        }
        Ok(lines)
    }

    fn verify_installed(
        &self,
        changes: &[Shared<PackageChange>],
    ) -> Result<Vec<Mismatch>, PackagesError> {
        let path = self.at("/var/lib/dpkg/status");
        let settings = Settings { root: self.root.clone(), ..Settings::default() };
        let database =
            crate::inventory::dpkg::database(&settings).map_err(file_error("read", &path))?;
        let mismatch = |c: &Shared<PackageChange>| {
            let found = database
                .packages
                .iter()
                .find(|p| p.name == c.name && p.architecture == c.architecture);
            match found {
                Some(p) if p.version == c.to && p.healthy => None,
                found => Some(Mismatch {
                    name: c.name.clone(),
                    architecture: c.architecture.clone(),
                    wanted: c.to.clone(),
                    found: found.map_or_else(String::new, |p| p.version.clone()),
                    status: if found.is_some_and(|p| !p.healthy) {
                        "not whole".into()
                    } else {
                        String::new()
                    },
                }),
            }
        };
        Ok(changes.iter().filter_map(mismatch).collect())
    }

    fn lock_holder(&self) -> Result<Option<LockHolder>, PackagesError> {
        for lock in LOCKS {
            let path = self.at(lock);
            let file = match File::options().read(true).write(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(file_error("open", &path)(error)),
            };
            let question = Flock {
                start: 0,
                length: 0,
                pid: None,
                typ: FlockType::WriteLock,
                offset_type: FlockOffsetType::Set,
            };
            let held = fcntl_getlk(&file, &question)
                .map_err(|e| file_error("examine", &path)(e.into()))?;
            if let Some(held) = held {
                let pid = held.pid.map_or(0, |p| p.as_raw_nonzero().get().unsigned_abs());
                let process = fs::read_to_string(format!("/proc/{pid}/comm"))
                    .unwrap_or_default()
                    .trim()
                    .to_owned();
                return Ok(Some(LockHolder { lock: path, pid, process }));
            }
        }
        Ok(None)
    }

    fn apply_command(
        &self,
        changes: &[Shared<PackageChange>],
        conffiles: ConffileRule,
        archives: &Path,
    ) -> Result<CommandLine, PackagesError> {
        names::check_changes(changes)?;
        let conffile = match conffiles {
            ConffileRule::Keep => "--force-confold",
            ConffileRule::Replace => "--force-confnew",
        };
        let mut arguments = words(&[
            "-y",
            "-q",
            "--no-download",
            "--no-remove",
            // An archive that was rebuilt, or one the sources have dropped since, is in no index any more.
            "--allow-downgrades",
            "-o",
            "APT::Install-Recommends=false",
            "-o",
            "Dpkg::Options::=--force-confdef",
            "-o",
        ]);
        arguments.push(format!("Dpkg::Options::={conffile}"));
        arguments.extend(words(&["-o", "Dpkg::Use-Pty=0", "-o", "APT::Sandbox::User=root", "-o"]));
        arguments.push(format!("Dir::Cache::archives={}/", archives.display()));
        // Naming a package marks it as installed by hand; these marks are the administrator's, so apt writes them
        // into a copy that nobody reads.
        let marks = archives.join("extended_states");
        let own = self.at("/var/lib/apt/extended_states");
        if own.exists() {
            copy(&own, &marks)?;
        } else {
            fs::write(&marks, "").map_err(file_error("write", &marks))?;
        }
        arguments.push("-o".to_owned());
        arguments.push(format!("Dir::State::extended_states={}", marks.display()));
        arguments.push("install".to_owned());
        arguments.extend(changes.iter().map(|c| exact(&c.name, &c.architecture, &c.to)));
        let mut environment: Vec<(String, String)> =
            QUIET.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        environment.extend([
            ("HOME".to_owned(), "/root".to_owned()),
            ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
        ]);
        Ok(CommandLine { program: "/usr/bin/apt-get".to_owned(), arguments, environment })
    }
}

/// The architecture that apt leaves unnamed.
fn native_architecture(changes: &[Shared<PackageChange>]) -> &str {
    let named = changes.iter().map(|c| c.architecture.as_str()).find(|a| *a != "all");
    named.unwrap_or("all")
}

/// Copies beside the target and renames, so that the target is whole or absent.
fn copy(from: &Path, to: &Path) -> Result<(), PackagesError> {
    let mut aside = to.as_os_str().to_owned();
    aside.push(".part");
    let aside = PathBuf::from(aside);
    fs::copy(from, &aside).map_err(file_error("copy to", &aside))?;
    fs::rename(&aside, to).map_err(file_error("keep", to))
}

/// Is this file an archive, and of exactly this package? A cache holds what anybody put there.
fn is_archive_of(path: &Path, name: &str, architecture: &str, version: &str) -> bool {
    if !path.is_file() {
        return false;
    }
    let mut arguments = words(&["--show", "--showformat=${Package} ${Architecture} ${Version}"]);
    arguments.push(path.display().to_string());
    tool::stdout("/usr/bin/dpkg-deb", &arguments, Path::new("/"))
        .is_ok_and(|text| text.trim() == format!("{name} {architecture} {version}"))
}
