//! The base system every host is copied from.
//!
//! Built by `mmdebstrap` from the machine's own package sources, *release suite only*; the updates
//! and security suites are added afterwards and their indexes fetched, so that real updates are
//! pending in every host from its first second. Kept in the lab's disk image, and reused while it
//! is young and its recipe is unchanged.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cgroup::{self, Cgroups};
use crate::disk;
use crate::sources::{self, Chosen};
use crate::tool::Tool;
use crate::{LabConfig, LabError, Say};

/// Part of the recipe's hash: raise it when this file changes what a base is.
const RECIPE: u32 = 2;

/// What a small web server has installed.
const PACKAGES: &[&str] = &[
    "apt-utils",
    "bind9-host",
    "bzip2",
    "ca-certificates",
    "cron",
    "curl",
    "dbus",
    "file",
    "gnupg",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libpam-systemd",
    "libxml2-utils",
    "logrotate",
    "lsof",
    "nano",
    "netbase",
    "nginx",
    "openssh-server",
    "openssl",
    "perl",
    "polkitd",
    "procps",
    "python3-minimal",
    "rsync",
    "rsyslog",
    "sudo",
    "systemd",
    "systemd-sysv",
    "tzdata",
    "udev",
    "unzip",
    "vim-tiny",
    "wget",
    "xz-utils",
];

/// Timers that change the host or hold apt's lock at moments nobody chose.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "logrotate.timer",
    "systemd-networkd-wait-online.service",
];

/// An upgrade that waits in every new host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Binary package.
    pub package: String,
    /// Version in the base.
    pub installed: String,
    /// Version the package sources offer.
    pub candidate: String,
}

/// The base as it was built.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BaseInfo {
    /// Name of its root on the lab's disk.
    pub name: String,
    /// When it was built, in seconds since 1970.
    pub built_at: u64,
    /// How long that took.
    pub build_seconds: f64,
    /// What is pending in it.
    pub pending: Vec<Pending>,
    /// Whether this call built it (else it was there).
    #[serde(skip)]
    pub fresh: bool,
}

impl BaseInfo {
    fn age(&self) -> Duration {
        let built = SystemTime::UNIX_EPOCH + Duration::from_secs(self.built_at);
        SystemTime::now().duration_since(built).unwrap_or_default()
    }

    /// The root of the base.
    pub(crate) fn root(&self, config: &LabConfig) -> PathBuf {
        config.disk().join(&self.name)
    }
}

/// Everything that decides what a base is.
struct Recipe {
    sources: Chosen,
    apt: Vec<String>,
    packages: Vec<String>,
    name: String,
}

impl Recipe {
    fn of_machine(config: &LabConfig, say: Say<'_>) -> Result<Self, LabError> {
        let found = match &config.sources {
            Some(file) => sources::read(file)?,
            None => sources::of_machine(Path::new("/"))?,
        };
        let sources = sources::choose(&found, &config.suite)?;
        for note in &sources.notes {
            say(note);
        }
        let apt = apt_settings(say)?;
        let mut packages: Vec<String> = PACKAGES.iter().map(|&name| name.to_owned()).collect();
        packages.extend(config.extra_packages.iter().cloned());
        packages.sort();
        packages.dedup();
        let text = format!(
            "{RECIPE} {} {packages:?} {apt:?} {MASKED:?} {}",
            config.suite,
            sources::render(&sources.all)
        );
        let hash = Sha256::digest(text.as_bytes());
        let name = hash.iter().take(6).fold("base-".to_owned(), |name, b| format!("{name}{b:02x}"));
        Ok(Self { sources, apt, packages, name })
    }
}

/// The base that is there now, without building one.
pub(crate) fn current(config: &LabConfig) -> Option<BaseInfo> {
    let entries = fs::read_dir(&config.dir).ok()?;
    let newest = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("base-"))
        .filter_map(|entry| load(&entry.path()))
        .max_by_key(|base| base.built_at)?;
    newest.root(config).is_dir().then_some(newest)
}

fn load(file: &Path) -> Option<BaseInfo> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Makes sure there is a base of the current recipe that is young enough. The disk must be up.
pub(crate) fn ensure(
    config: &LabConfig,
    groups: &Cgroups,
    say: Say<'_>,
) -> Result<BaseInfo, LabError> {
    let recipe = Recipe::of_machine(config, say)?;
    let file = config.dir.join(format!("{}.json", recipe.name));
    let there = load(&file).filter(|base| base.root(config).is_dir());
    if let Some(base) = there.clone().filter(|base| base.age() < config.base_max_age) {
        return Ok(base);
    }
    let started = Instant::now();
    match build(config, groups, &recipe, say) {
        Ok(pending) => {
            let built_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let base = BaseInfo {
                name: recipe.name,
                built_at: built_at.unwrap_or_default().as_secs(),
                build_seconds: started.elapsed().as_secs_f64(),
                pending,
                fresh: true,
            };
            let text = serde_json::to_vec_pretty(&base)
                .map_err(|error| LabError::State { path: file.clone(), why: error.to_string() })?;
            fs::write(&file, text).map_err(LabError::io("write", &file))?;
            Ok(base)
        }
        Err(error) => match there {
            Some(base) => {
                let hours = base.age().as_secs() / 3600;
                say(&format!(
                    "the base could not be built anew; using the one from {hours} h ago: {error}"
                ));
                Ok(base)
            }
            None => Err(error),
        },
    }
}

fn build(
    config: &LabConfig,
    groups: &Cgroups,
    recipe: &Recipe,
    say: Say<'_>,
) -> Result<Vec<Pending>, LabError> {
    // A run that was killed may have left a build going on, or a half-built base.
    let group = groups.create("build")?;
    cgroup::kill(&group)?;
    let root = config.disk().join("partial");
    disk::remove_root(config, &root)?;
    disk::create_empty(config, &root)?;

    say(&format!(
        "building the base: Debian {} with {} packages from this machine's package sources (about a minute)",
        config.suite,
        recipe.packages.len()
    ));
    let list = config.dir.join("release.sources");
    write(&list, &sources::render(&recipe.sources.release))?;
    Tool::new("mmdebstrap", "building the base system")
        .args(["--quiet", "--mode=root", "--variant=minbase", "--format=directory"])
        .arg(r#"--aptopt=APT::Install-Recommends "false""#)
        .args(recipe.apt.iter().map(|line| format!("--aptopt={line}")))
        .arg(format!("--include={}", recipe.packages.join(",")))
        .arg(&config.suite)
        .args([&root, &list])
        .in_group(&group)
        .run()?;
    furnish(&root, recipe)?;

    say("fetching what is pending in it");
    chroot(&root, &group, "fetching the package lists in the base", &["apt-get", "-q", "update"])?;
    let pending = pending(&root, &group)?;
    let fetch = ["apt-get", "-q", "-y", "--download-only", "dist-upgrade"];
    chroot(&root, &group, "fetching the pending archives", &fetch)?;
    say(&format!("the base is built; {} upgrades are pending in it", pending.len()));

    let done = config.disk().join(&recipe.name);
    remove_old(config)?;
    fs::rename(&root, &done).map_err(LabError::io("finish", &done))?;
    disk::seal(config, &done)?;
    Ok(pending)
}

/// Removes all bases; hosts made from one do not depend on it.
fn remove_old(config: &LabConfig) -> Result<(), LabError> {
    for dir in [config.disk(), config.dir.clone()] {
        let entries = fs::read_dir(&dir).map_err(LabError::io("list", &dir))?;
        for entry in entries.flatten() {
            if !entry.file_name().to_string_lossy().starts_with("base-") {
                continue;
            }
            let path = entry.path();
            if path.is_dir() {
                disk::remove_root(config, &path)?;
            } else {
                fs::remove_file(&path).map_err(LabError::io("remove", &path))?;
            }
        }
    }
    Ok(())
}

/// What makes a debootstrapped tree a host of the lab.
fn furnish(root: &Path, recipe: &Recipe) -> Result<(), LabError> {
    let etc = root.join("etc");
    // What mmdebstrap was given stays behind in the tree; the hosts get their own.
    let lists = fs::read_dir(etc.join("apt/sources.list.d")).into_iter().flatten().flatten();
    let settings = ["apt/sources.list", "apt/apt.conf.d/99mmdebstrap"].map(|file| etc.join(file));
    for path in lists.map(|entry| entry.path()).chain(settings) {
        if path.exists() {
            fs::remove_file(&path).map_err(LabError::io("remove", &path))?;
        }
    }
    write(&etc.join("apt/sources.list.d/debian.sources"), &sources::render(&recipe.sources.all))?;
    let mut apt = vec![r#"Acquire::Languages "none""#.to_owned()];
    apt.extend(recipe.apt.iter().cloned());
    write(&etc.join("apt/apt.conf.d/50fettle-lab"), &format!("{};\n", apt.join(";\n")))?;
    for source in &recipe.sources.all {
        for key in source.signed_by.files() {
            let inside = root.join(key.strip_prefix("/").unwrap_or(&key));
            if key.is_file() && !inside.exists() {
                make_parent(&inside)?;
                fs::copy(&key, &inside)
                    .map_err(LabError::io("copy the archive key to", &inside))?;
            }
        }
    }
    keep_fsync(&etc)?;

    // Each host makes its own identity.
    for entry in fs::read_dir(etc.join("ssh")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            let path = entry.path();
            fs::remove_file(&path).map_err(LabError::io("remove", &path))?;
        }
    }
    write(&etc.join("machine-id"), "")?;
    copy_resolver(root)?;
    let mask = |unit: &&str| {
        let link = etc.join("systemd/system").join(unit);
        if fs::symlink_metadata(&link).is_ok() {
            return Ok(());
        }
        std::os::unix::fs::symlink("/dev/null", &link).map_err(LabError::io("mask", &link))
    };
    MASKED.iter().try_for_each(mask)?;
    Tool::new("systemctl", "enabling the network in the base")
        .arg(format!("--root={}", root.display()))
        .args(["--quiet", "enable", "systemd-networkd.service"])
        .run()?;
    write(&etc.join("systemd/journald.conf.d/lab.conf"), "[Journal]\nSystemMaxUse=64M\n")?;
    trust_local_authorities(root)
}

/// Images for build machines switch fsync off in dpkg, which hides what a crash does.
fn keep_fsync(etc: &Path) -> Result<(), LabError> {
    let parts = fs::read_dir(etc.join("dpkg/dpkg.cfg.d")).into_iter().flatten().flatten();
    let files = parts.map(|entry| entry.path()).chain([etc.join("dpkg/dpkg.cfg")]);
    for file in files.filter(|file| file.is_file()) {
        let text = fs::read_to_string(&file).map_err(LabError::io("read", &file))?;
        let kept: Vec<&str> =
            text.lines().filter(|line| !line.contains("force-unsafe-io")).collect();
        if kept.len() != text.lines().count() {
            write(&file, &format!("{}\n", kept.join("\n")))?;
        }
    }
    Ok(())
}

/// A machine behind an inspecting proxy has its authority here; its hosts need it as well.
fn trust_local_authorities(root: &Path) -> Result<(), LabError> {
    let dir = Path::new("usr/local/share/ca-certificates");
    let mut any = false;
    for entry in fs::read_dir(Path::new("/").join(dir)).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|end| end == "crt") {
            let inside = root.join(dir).join(entry.file_name());
            make_parent(&inside)?;
            fs::copy(entry.path(), &inside)
                .map_err(LabError::io("copy a certificate to", &inside))?;
            any = true;
        }
    }
    if any {
        Tool::new("chroot", "trusting the machine's certificates")
            .arg(root)
            .arg("update-ca-certificates")
            .run()?;
    }
    Ok(())
}

/// Gives the tree the machine's name servers; a resolver on loopback is no use to a host.
pub(crate) fn copy_resolver(root: &Path) -> Result<(), LabError> {
    let candidates = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let mut texts = candidates.iter().filter_map(|file| fs::read_to_string(file).ok());
    let loopback = |text: &String| {
        let mut servers = text.lines().filter_map(|line| line.strip_prefix("nameserver"));
        servers.all(|server| server.trim().starts_with("127.") || server.trim() == "::1")
    };
    let text = texts.find(|text| !loopback(text)).ok_or_else(|| LabError::Machine {
        what: "this machine's only name server is on its loopback, where hosts cannot reach it"
            .to_owned(),
        next: "name one that can be reached in /etc/resolv.conf".to_owned(),
    })?;
    let target = root.join("etc/resolv.conf");
    if fs::symlink_metadata(&target).is_ok() {
        fs::remove_file(&target).map_err(LabError::io("replace", &target))?;
    }
    write(&target, &text)
}

fn pending(root: &Path, group: &Path) -> Result<Vec<Pending>, LabError> {
    let simulated =
        chroot(root, group, "asking what is pending", &["apt-get", "-q", "-s", "dist-upgrade"])?;
    Ok(parse_pending(&simulated))
}

/// Reads `Inst name [installed] (candidate …` lines of a simulated upgrade.
pub fn parse_pending(simulated: &str) -> Vec<Pending> {
    simulated
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("Inst ")?.split(' ');
            let package = words.next()?.to_owned();
            let installed = words.next()?.strip_prefix('[')?.strip_suffix(']')?.to_owned();
            let candidate = words.next()?.strip_prefix('(')?.to_owned();
            Some(Pending { package, installed, candidate })
        })
        .collect()
}

fn chroot(root: &Path, group: &Path, doing: &str, command: &[&str]) -> Result<String, LabError> {
    Tool::new("chroot", doing)
        .arg(root)
        .args(command)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .in_group(group)
        .run()
}

/// The machine's apt settings that decide whether an archive can be reached: proxies and checks.
fn apt_settings(say: Say<'_>) -> Result<Vec<String>, LabError> {
    let dump = Tool::new("apt-config", "reading the machine's apt settings").arg("dump").run()?;
    let mut settings: Vec<String> = dump
        .lines()
        .filter(|line| reaches(line))
        .map(|line| line.trim_end_matches(';').to_owned())
        .collect();
    for (scheme, names) in
        [("http", ["http_proxy", "HTTP_PROXY"]), ("https", ["https_proxy", "HTTPS_PROXY"])]
    {
        let key = format!("Acquire::{scheme}::Proxy ");
        let value = names
            .iter()
            .find_map(|name| std::env::var(name).ok())
            .filter(|value| !value.is_empty());
        if let Some(value) = value.filter(|_| !settings.iter().any(|line| line.starts_with(&key))) {
            settings.push(format!("{key}\"{value}\""));
        }
    }
    for line in settings.iter().filter(|line| line.contains("::Proxy")) {
        if ["//127.", "//localhost", "//[::1]"].iter().any(|loopback| line.contains(loopback)) {
            say(&format!(
                "the machine's proxy is on its loopback, where hosts cannot reach it: {line}"
            ));
        }
    }
    Ok(settings)
}

fn reaches(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("Acquire::") else { return false };
    let key = rest.split(' ').next().unwrap_or_default().to_ascii_lowercase();
    let empty = rest.ends_with("\"\";");
    let local = ["auto-detect", "cainfo", "sslcert", "sslkey", "issuercert", "crlfile"];
    let exact =
        ["check-valid-until", "check-date", "retries", "forceipv4", "forceipv6", "max-validtime"];
    let fetched = key.starts_with("http::") || key.starts_with("https::");
    !empty
        && !local.iter().any(|word| key.contains(word))
        && (fetched || exact.contains(&key.as_str()))
}

/// Writes a file of a tree nobody runs in, with the directories above it.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), LabError> {
    make_parent(path)?;
    fs::write(path, text).map_err(LabError::io("write", path))
}

fn make_parent(path: &Path) -> Result<(), LabError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).map_err(LabError::io("make", parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_upgrades_are_read_from_a_simulated_one() {
        let text = "Reading package lists...\nInst openssl [3.0.20-1~deb12u2] (3.0.22-1~deb12u2 Debian-Security:12/x [amd64])\n\
                    Inst new-one (1.0 Debian:12 [amd64])\nConf openssl (3.0.22-1~deb12u2 x)\n";
        let pending = parse_pending(text);
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0].candidate, "3.0.22-1~deb12u2");
    }

    #[test]
    fn only_settings_that_decide_reachability_are_taken_along() {
        for taken in [
            r#"Acquire::Check-Valid-Until "false";"#,
            r#"Acquire::http::Proxy "http://proxy.example:3128";"#,
            r#"Acquire::https::Verify-Peer "false";"#,
        ] {
            assert!(reaches(taken), "{taken}");
        }
        for left in [
            r#"Acquire::IndexTargets::deb::Packages::ShortDescription "Packages";"#,
            r#"Acquire::http::Proxy-Auto-Detect "/usr/bin/x";"#,
            r#"Acquire::http "";"#,
            r#"Dir::Cache::pkgcache "";"#,
            r#"Acquire::https::CAInfo "/etc/x.pem";"#,
        ] {
            assert!(!reaches(left), "{left}");
        }
    }
}
