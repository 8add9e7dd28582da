//! The apt and dpkg driver.
//!
//! Versions are always exact (`NAME:ARCH=VERSION`) and archives always those in the transaction's own directory, so
//! what is rehearsed, what is approved and what is applied are the same bytes.

use super::tool::{self, QUIET, words};
use super::{
    Archive, CommandLine, Driver, LockHolder, Mismatch, PackagesError, Provenance, Resolution,
    ResolvedChange, names, repack,
};
use crate::settings::Settings;
use fettle_core::Digest;
use fettle_core::assignment::{ConffileRule, PackageChange};
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
}

impl Apt {
    /// The apt of this host.
    pub fn new(settings: &Settings) -> Self {
        Self { root: settings.root.clone() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// `apt-get download` into a directory of its own beside the target, then verified and moved into place.
    fn fetch(&self, names: &[String], directory: &Path) -> Result<(), PackagesError> {
        let mut arguments = words(&["download", "-q", "-o", "APT::Sandbox::User=root", "--"]);
        arguments.extend_from_slice(names);
        tool::stdout("/usr/bin/apt-get", &arguments, directory).map(|_| ())
    }
}

/// `NAME:ARCH=VERSION`.
fn exact(name: &str, architecture: &str, version: &str) -> String {
    format!("{name}:{architecture}={version}")
}

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PackagesError {
    let path = path.to_owned();
    move |source| PackagesError::File { what, path, source }
}

/// Digest and size of a file, without holding it in memory.
fn measure(path: &Path) -> Result<(Digest, u64), PackagesError> {
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
    fn simulate(&self, changes: &[PackageChange]) -> Result<Resolution, PackagesError> {
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
            "-o",
            "Dir::Cache::pkgcache=",
            "-o",
            "Dir::Cache::srcpkgcache=",
            "install",
        ]);
        arguments.extend(changes.iter().map(|c| exact(&c.name, &c.architecture, &c.to)));
        let output = tool::output("/usr/bin/apt-get", &arguments, Path::new("/"))?;
        if !output.status.success() {
            return Err(PackagesError::Unresolvable { said: tool::said(&output) });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let native = native_architecture(changes);
        let mut steps = Vec::new();
        for line in text.lines() {
            if let Some(step) = parse_simulated(line, &native)? {
                steps.push(step);
            }
        }
        steps.sort();
        Ok(Resolution { steps })
    }

    fn download(
        &self,
        changes: &[PackageChange],
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
            missing.push(exact(&change.name, &change.architecture, &change.to));
        }
        if !missing.is_empty() {
            self.fetch(&missing, directory)?;
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
        name: &str,
        architecture: &str,
        version: &str,
        directory: &Path,
    ) -> Result<Archive, PackagesError> {
        names::check(name, architecture, version)?;
        fs::create_dir_all(directory).map_err(file_error("make", directory))?;
        let file = names::archive_file(name, version, architecture);
        let path = directory.join(&file);
        let found = |provenance| -> Result<Archive, PackagesError> {
            let (sha256, size) = measure(&path)?;
            let (name, version) = (name.to_owned(), version.to_owned());
            Ok(Archive {
                name,
                architecture: architecture.to_owned(),
                version,
                path: path.clone(),
                sha256,
                size,
                provenance,
            })
        };
        // Only whole archives are ever under this name: each way below writes aside and renames.
        if path.exists() {
            return found(Provenance::Kept);
        }
        let cached = self.at(CACHE).join(&file);
        if is_archive_of(&cached, name, architecture, version) {
            copy(&cached, &path)?;
            return found(Provenance::Cache);
        }
        let aside = directory.join(format!("{file}.fetch"));
        let _ = fs::remove_dir_all(&aside);
        fs::create_dir_all(&aside).map_err(file_error("make", &aside))?;
        let fetched = self
            .fetch(&[exact(name, architecture, version)], &aside)
            .and_then(|()| fs::rename(aside.join(&file), &path).map_err(file_error("keep", &path)));
        let _ = fs::remove_dir_all(&aside);
        let unavailable = match fetched {
            Ok(()) => return found(Provenance::Source),
            Err(error) => error,
        };
        repack::rebuild(&self.root, name, architecture, version, &path).map_err(|error| {
            PackagesError::NoArchive {
                name: name.to_owned(),
                version: version.to_owned(),
                why: format!("the sources: {unavailable}; rebuilding it: {error}"),
            }
        })?;
        found(Provenance::Rebuilt)
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

    fn verify_installed(&self, changes: &[PackageChange]) -> Result<Vec<Mismatch>, PackagesError> {
        let path = self.at("/var/lib/dpkg/status");
        let settings = Settings { root: self.root.clone(), ..Settings::default() };
        let database =
            crate::inventory::dpkg::Database::read(&settings).map_err(file_error("read", &path))?;
        let mismatch = |c: &PackageChange| {
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
        changes: &[PackageChange],
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
fn native_architecture(changes: &[PackageChange]) -> String {
    let named = changes.iter().map(|c| c.architecture.as_str()).find(|a| *a != "all");
    named.unwrap_or("all").to_owned()
}

/// One line of `apt-get --simulate`: `Inst NAME [FROM] (TO RELEASES [ARCH])` or `Remv NAME [FROM]`, the name with
/// `:ARCH` for foreign architectures; behind it may stand names of packages that are broken meanwhile.
fn parse_simulated(line: &str, native: &str) -> Result<Option<ResolvedChange>, PackagesError> {
    let unknown = || PackagesError::Output {
        program: "apt-get".into(),
        line: line.chars().take(200).collect(),
    };
    let (removes, rest) = match (line.strip_prefix("Inst "), line.strip_prefix("Remv ")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Ok(None),
    };
    let (name, rest) = rest.split_once(' ').ok_or_else(unknown)?;
    let (from, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest
            .split_once(']')
            .map(|(from, rest)| (from, rest.trim_start()))
            .ok_or_else(unknown)?,
        None => ("", rest),
    };
    let (name, foreign) =
        name.split_once(':').map_or((name, None), |(name, arch)| (name, Some(arch)));
    if removes {
        return Ok(Some(ResolvedChange {
            name: name.to_owned(),
            architecture: foreign.unwrap_or(native).to_owned(),
            from: from.to_owned(),
            to: String::new(),
            releases: String::new(),
        }));
    }
    let inside = rest
        .strip_prefix('(')
        .and_then(|r| r.split_once(')'))
        .map(|(inside, _)| inside)
        .ok_or_else(unknown)?;
    let (inside, architecture) =
        inside.strip_suffix(']').and_then(|i| i.rsplit_once(" [")).ok_or_else(unknown)?;
    let (to, releases) = inside.split_once(' ').unwrap_or((inside, ""));
    Ok(Some(ResolvedChange {
        name: name.to_owned(),
        architecture: architecture.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        releases: releases.to_owned(),
    }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_simulation_are_understood() {
        let parse = |line| parse_simulated(line, "amd64").unwrap();
        assert_eq!(
            parse(
                "Inst libssl3 [3.0.15-1~deb12u1] (3.0.17-1~deb12u3 Debian-Security:12/oldstable-security [amd64]) []"
            ),
            Some(ResolvedChange {
                name: "libssl3".into(),
                architecture: "amd64".into(),
                from: "3.0.15-1~deb12u1".into(),
                to: "3.0.17-1~deb12u3".into(),
                releases: "Debian-Security:12/oldstable-security".into(),
            })
        );
        let new = parse("Inst acme-web (1.0 Acme:stable [all])").unwrap();
        assert_eq!(
            (new.from.as_str(), new.to.as_str(), new.architecture.as_str()),
            ("", "1.0", "all")
        );
        let removed = parse("Remv nginx [1.22.1-9]").unwrap();
        assert_eq!((removed.from.as_str(), removed.to.as_str()), ("1.22.1-9", ""));
        let foreign =
            parse("Inst libc6:i386 [2.36-9] (2.36-9+deb12u9 Debian:12.8/stable [i386])").unwrap();
        assert_eq!((foreign.name.as_str(), foreign.architecture.as_str()), ("libc6", "i386"));
        assert_eq!(parse("Conf libssl3 (3.0.17-1~deb12u3 Debian:12 [amd64])"), None);
        assert_eq!(parse("Reading package lists..."), None);
        assert!(parse_simulated("Inst odd", "amd64").is_err());
    }
}
