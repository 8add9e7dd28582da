//! A root with a cohort's packages: made once, by `mmdebstrap(1)` or from the nearest one that is kept, and copied for
//! each test.

mod nearest;

use super::{Places, Stopped, sources};
use crate::command::{self, command};
use crate::overlay::own_program;
use crate::packages::{PackagesError, names};
use crate::unit;
use fettle_core::testbed::TestOrder;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The unit in which a root is made.
const UNIT: &str = "fettle-twin-build.service";
/// A root takes no longer to make.
const PATIENCE: Duration = Duration::from_secs(3600);
/// A root takes at least so much.
const ROOT_ROOM: u64 = 512 << 20;
/// A twin, with its archives and the way back of its change, takes at least so much.
const TWIN_ROOM: u64 = 1 << 30;
/// Roots kept: a test of one of these cohorts begins at once.
const KEPT: usize = 4;
/// End of the name of a root that is not whole.
const UNFINISHED: &str = "new";
/// Where the twin finds what it is to do.
pub(super) const ORDER: &str = "var/lib/fettle-agent/twin.json";
/// Services that wait for a network, which a twin has not.
const NO_NETWORK: [&str; 3] = [
    "systemd-networkd-wait-online.service",
    "NetworkManager-wait-online.service",
    "ifupdown-wait-online.service",
];
/// Timers that change the host at moments nobody chose.
const NO_TIMERS: [&str; 4] =
    ["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "logrotate.timer"];

/// The root of the order's cohort: the one that is kept, else one that is made now.
pub(super) fn root(places: &Places, order: &TestOrder) -> Result<PathBuf, Stopped> {
    check_machine(order)?;
    let roots = places.roots();
    let root = roots.join(&order.work.cohort.hex()[..32]);
    check_room(free(&places.state)?, root.is_dir(), &places.state)?;
    let release = &order.os.codename;
    let new = root.with_extension(UNFINISHED);
    if root.is_dir() {
        // The newest stay.
        let _ = fs::File::open(&root).and_then(|f| f.set_modified(SystemTime::now()));
        // It was made of what could be had then. Sources may have come since that have what it lacks.
        let lacks = nearest::lacks(&root, &order.packages);
        if lacks.is_empty() {
            return Ok(root);
        }
        let offered = sources::offered(places, release, &lacks)?;
        let now = sources::include(&lacks, &order.architecture, &offered, true);
        if !now.is_empty() && nearest::make(places, &new, order, &offered)? {
            keep(&new, &root)?;
        }
        return Ok(root);
    }
    fs::create_dir_all(&roots).map_err(Stopped::io("make", &roots))?;
    keep_newest(&roots);
    let offered = sources::offered(places, release, &order.packages)?;
    let files = sources::files(places, release)?;
    if nearest::make(places, &new, order, &offered)? {
        keep(&new, &root)?;
        return Ok(root);
    }
    let mut said = String::new();
    for exact_only in [false, true] {
        super::remove(&new);
        let include = sources::include(&order.packages, &order.architecture, &offered, exact_only);
        match bootstrap(&new, release, &include, &files)? {
            None => {
                finish(places, &new, release)?;
                keep(&new, &root)?;
                return Ok(root);
            }
            Some(why) => said = why,
        }
    }
    super::remove(&new);
    Err(Stopped::new(
        "not-mirrored",
        format!("no twin could be made: {said}"),
        "give the worker the package sources that its hosts have, or an archive that keeps old versions",
    ))
}

/// Gives a root that is whole its name, and keeps it. What it is made of was written without a sync: after a power cut
/// half of it would have the name of the whole.
fn keep(new: &Path, root: &Path) -> Result<(), Stopped> {
    super::remove(root);
    let kept = fs::File::open(new)
        .and_then(|directory| Ok(rustix::fs::syncfs(directory)?))
        .and_then(|()| fs::rename(new, root))
        .and_then(|()| crate::durable::sync_directory(root.parent().unwrap_or(root)));
    kept.map_err(Stopped::io("keep", root))
}

/// Bytes that are free below a directory, which need not be there yet.
fn free(directory: &Path) -> Result<u64, Stopped> {
    let there = directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let room = rustix::fs::statvfs(there).map_err(|e| Stopped::io("look at", there)(e.into()))?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// Before anything is fetched: a disk that fills up is the worker's own as well.
fn check_room(free: u64, root_is_kept: bool, place: &Path) -> Result<(), Stopped> {
    let needed = TWIN_ROOM + if root_is_kept { 0 } else { ROOT_ROOM };
    if free >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    let (free, needed, place) = (mib(free), mib(needed), place.display());
    Err(Stopped::new(
        "no-space",
        format!("a twin needs {needed} MiB in {place}, {free} are free"),
        "make room on the worker below /var/lib/fettle-agent",
    ))
}

/// A container has the worker's kernel and processor.
fn check_machine(order: &TestOrder) -> Result<(), Stopped> {
    let other = |what: String| {
        Err(Stopped::new("other-machine", what, "test these hosts on a worker of their kind"))
    };
    if !matches!(order.os.id.as_str(), "debian" | "ubuntu") || order.os.codename.is_empty() {
        return other(format!("no twins of {} are built yet", order.os.pretty));
    }
    let own = command::run(command("dpkg").arg("--print-architecture"), None);
    let own = own.map(|o| o.text.trim().to_owned()).unwrap_or_default();
    if own != order.architecture {
        return other(format!("the worker is {own}, the hosts are {}", order.architecture));
    }
    check_words(order).or_else(other)
}

/// Everything of an order that programs of the worker are handed, or that a path is made of: nothing of it may be taken
/// for an option, a path or a pattern.
fn check_words(order: &TestOrder) -> Result<(), String> {
    let named = |e: PackagesError| e.to_string().escape_debug().to_string();
    for package in &order.packages {
        names::check(&package.name, &package.architecture, &package.version).map_err(named)?;
    }
    names::check_changes(&order.order.changes).map_err(named)?;
    if !names::is_architecture(&order.architecture) {
        return Err(format!("`{}` is no architecture", order.architecture.escape_default()));
    }
    // What `more` stands for, no option, no hidden file, no directory above.
    let plain = |text: &str, more: &[u8]| {
        !text.is_empty()
            && text.len() <= 253
            && !text.starts_with(['-', '.'])
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    let hosts = std::iter::once((&order.like, &b"-._"[..], "host's name"));
    let releases = std::iter::once((&order.os.codename, &b"-._"[..], "release"));
    let units = order.enabled.iter().map(|unit| (unit, &b"-._:@\\"[..], "unit"));
    let held = order.held.iter().map(|name| (name, &b"+-.:"[..], "package name"));
    let odd =
        hosts.chain(releases).chain(units).chain(held).find(|(text, more, _)| !plain(text, more));
    match odd {
        Some((text, _, what)) => Err(format!("`{}` is no {what}", text.escape_default())),
        None => Ok(()),
    }
}

/// Removes the roots that were not used for longest.
fn keep_newest(roots: &Path) {
    let entries = fs::read_dir(roots).into_iter().flatten().flatten();
    let mut by_age: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    by_age.sort();
    let too_many = (by_age.len() + 1).saturating_sub(KEPT);
    by_age.iter().take(too_many).for_each(|(_, root)| super::remove(root));
}

pub(super) fn remove_unfinished(places: &Places) {
    let entries = fs::read_dir(places.roots()).into_iter().flatten().flatten();
    let unfinished = |path: &PathBuf| path.extension().is_some_and(|e| e == UNFINISHED);
    entries.map(|entry| entry.path()).filter(unfinished).for_each(|path| super::remove(&path));
}

/// Ends a build that somebody left.
pub(super) fn stop() {
    let _ = unit::systemctl(&["stop", "--", UNIT]);
}

/// `None`: it is made; else the package manager's words.
fn bootstrap(
    root: &Path,
    release: &str,
    include: &[String],
    files: &[PathBuf],
) -> Result<Option<String>, Stopped> {
    let mut run = in_unit();
    run.args(["mmdebstrap", "--mode=root", "--variant=apt", "--format=directory"])
        .args(["--dpkgopt=force-unsafe-io", "--skip=cleanup/apt/lists"])
        .arg("--aptopt=APT::Get::allow-downgrades \"true\"")
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        // Its own user cannot look below the agent's state.
        .arg("--aptopt=APT::Sandbox::User \"root\"")
        .arg("--aptopt=Acquire::Languages \"none\"")
        .arg("--aptopt=Acquire::Retries \"3\"")
        .args(proxies().iter().map(|line| format!("--aptopt={line}")))
        .arg(format!("--include={}", include.join(",")))
        .arg(release)
        .arg(root)
        .args(files);
    let said =
        command::run(&mut run, Some(PATIENCE)).map_err(Stopped::io("start a build of", root))?;
    if said.timed_out {
        stop();
    }
    Ok((!said.success()).then(|| format!("{} ({})", said.tail(6), said.ending())))
}

/// What follows runs in the unit of builds, and is waited for.
fn in_unit() -> std::process::Command {
    let mut run = command("systemd-run");
    run.args(["--quiet", "--collect", "--wait", "--pipe", "--no-ask-password"])
        .arg(format!("--unit={UNIT}"))
        .args(["--description=Fettle: makes the root of a twin", "--property=UMask=0022"])
        .args(["--property=Delegate=yes", "--setenv=DEBIAN_FRONTEND=noninteractive"])
        .args(["--setenv=SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "--nice=10", "--"]);
    run
}

/// The worker's own proxies, as lines of apt's configuration.
fn proxies() -> Vec<String> {
    let dump = command::run(command("apt-config").arg("dump"), None);
    let dump = dump.map(|o| o.text).unwrap_or_default();
    let wanted = |line: &&str| {
        ["Acquire::http::Proxy \"", "Acquire::https::Proxy \""]
            .iter()
            .any(|key| line.strip_prefix(key).is_some_and(|value| !value.starts_with('"')))
    };
    dump.lines().filter(wanted).map(|line| line.trim_end_matches(';').to_owned()).collect()
}

/// Takes away what only the making needed, and gives apt in it the sources as the worker has them.
fn finish(places: &Places, root: &Path, release: &str) -> Result<(), Stopped> {
    for file in ["etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap"] {
        let _ = fs::remove_file(root.join(file));
    }
    sources::copy_sources(places, release, root)
}

/// A copy that shares its blocks with the original where the file system can (`cp(1)`, `--reflink`).
pub(super) fn copy(root: &Path, twin: &Path) -> Result<(), Stopped> {
    let mut cp = command("cp");
    let said = command::run(cp.args(["-a", "--reflink=auto", "--"]).args([root, twin]), None)
        .map_err(Stopped::io("copy", root))?;
    if said.success() {
        return Ok(());
    }
    Err(Stopped::new(
        "no-space",
        format!("the root of a twin could not be copied: {}", said.tail(2)),
        "make room on the worker below /var/lib/fettle-agent",
    ))
}

/// Makes the copy a machine of its own, with its host's units, the operator's files and the agent in it. Gives the units
/// that could not be enabled.
pub(super) fn settle(
    places: &Places,
    twin: &Path,
    order: &TestOrder,
) -> Result<Vec<String>, Stopped> {
    let write = |path: &str, text: &[u8]| {
        let path = twin.join(path);
        let made = fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)));
        made.map_err(Stopped::io("write", &path))
    };
    write("etc/machine-id", b"")?;
    write("etc/hostname", format!("{}\n", order.like).as_bytes())?;
    write("etc/hosts", format!("127.0.0.1 localhost\n127.0.1.1 {}\n", order.like).as_bytes())?;
    let files = places.config.join("files");
    if files.is_dir() {
        lay_over(&files, twin)?;
    }
    let program = twin.join("usr/bin/fettle-agent");
    fs::copy(own_program(), &program).map_err(Stopped::io("write", &program))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .map_err(Stopped::io("write", &program))?;
    let state = twin.join("var/lib/fettle-agent");
    fs::create_dir_all(&state).map_err(Stopped::io("make", &state))?;
    write(ORDER, &serde_json::to_vec(order).unwrap_or_default())?;
    units(twin, order)
}

/// Copies what is in `from` into `to`. A directory that is there keeps its owner and mode; a file or link that is there
/// is replaced, and never written through.
fn lay_over(from: &Path, to: &Path) -> Result<(), Stopped> {
    let is_directory = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let mut whole = Vec::new();
    let entries = fs::read_dir(from).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    for entry in entries.map_err(Stopped::io("read", from))? {
        let (own, there) = (entry.path(), to.join(entry.file_name()));
        match is_directory(&own) && is_directory(&there) {
            true => lay_over(&own, &there)?,
            false => whole.push(own),
        }
    }
    if whole.is_empty() {
        return Ok(());
    }
    let mut cp = command("cp");
    cp.args(["-a", "--remove-destination", "--target-directory"]).arg(to).arg("--").args(&whole);
    let said = command::run(&mut cp, None);
    let said = said.map_err(Stopped::io("copy", from))?;
    match said.success() {
        true => Ok(()),
        false => Err(Stopped::new("files-not-copied", said.tail(2), "look at the files there")),
    }
}

fn units(twin: &Path, order: &TestOrder) -> Result<Vec<String>, Stopped> {
    let below = format!("--root={}", twin.display());
    let systemctl = |words: &[&str]| unit::systemctl(&[&[below.as_str()][..], words].concat());
    let list = systemctl(&["list-unit-files", "--no-legend", "--plain", "--state=enabled"])
        .map_err(Stopped::io("ask for the units of", twin))?;
    let enabled: BTreeSet<&str> =
        list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let wanted: BTreeSet<&str> = order.enabled.iter().map(String::as_str).collect();
    let mut cannot = Vec::new();
    for unit in wanted.difference(&enabled).filter(|unit| **unit != "fettle-agent.service") {
        if systemctl(&["--quiet", "enable", "--", *unit]).is_err() {
            cannot.push((*unit).to_owned());
        }
    }
    for unit in enabled.difference(&wanted).filter(|unit| unit.ends_with(".service")) {
        // What stays enabled runs in the twin and not on its host: it can only break, not hide, something.
        let _ = systemctl(&["--quiet", "disable", "--", *unit]);
    }
    for unit in NO_NETWORK.iter().chain(&NO_TIMERS) {
        let _ = systemctl(&["--quiet", "mask", "--", *unit]);
    }
    Ok(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_kept_roots_those_used_last_stay() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..6_u64 {
            let root = dir.path().join(n.to_string());
            fs::create_dir(&root).unwrap();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + n);
            fs::File::open(&root).unwrap().set_modified(at).unwrap();
        }
        keep_newest(dir.path());
        let mut left: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        assert_eq!(left, ["3", "4", "5"], "one place is left for the next");
    }

    fn order() -> TestOrder {
        serde_json::from_value(serde_json::json!({
            "work": { "cohort": fettle_core::Digest::of(b"c"), "changes": fettle_core::Digest::of(b"w") },
            "like": "web-1.example", "architecture": "amd64",
            "os": { "id": "debian", "version": "12", "codename": "bookworm", "pretty": "" },
            "packages": [{ "name": "libstdc++6", "architecture": "amd64", "version": "1:12.2.0-14+deb12u1" }],
            "held": ["nginx"], "enabled": ["getty@tty1.service", "system-x\\x2dy.slice"],
            "change": fettle_core::assignment::ApplyOrder {
                changes: vec![fettle_core::assignment::PackageChange {
                    name: "nginx".into(),
                    architecture: "amd64".into(),
                    from: "1.22.1-9".into(),
                    to: "1.22.1-9+deb12u1".into(),
                    sha256: fettle_core::Digest::of(b"a"),
                    size: 1,
                }.into()],
                ..Default::default()
            },
        }))
        .unwrap()
    }

    #[test]
    fn nothing_of_an_order_can_be_taken_for_an_option_a_path_or_a_pattern() {
        type Spoil = fn(&mut TestOrder, String);
        assert_eq!(check_words(&order()), Ok(()));
        let fields: [(&str, Spoil); 11] = [
            ("name", |o, bad| o.packages[0].name = bad),
            ("architecture of a package", |o, bad| o.packages[0].architecture = bad),
            ("version", |o, bad| o.packages[0].version = bad),
            ("changed name", |o, bad| o.order.changes[0].name = bad),
            ("changed architecture", |o, bad| o.order.changes[0].architecture = bad),
            ("new version", |o, bad| o.order.changes[0].to = bad),
            ("old version", |o, bad| o.order.changes[0].from = bad),
            ("host", |o, bad| o.like = bad),
            ("release", |o, bad| o.os.codename = bad),
            ("unit", |o, bad| o.enabled[0] = bad),
            ("held", |o, bad| o.held[0] = bad),
        ];
        for (field, spoil) in fields {
            for bad in ["-oDpkg::Pre-Invoke=x", "../x", "a/b", "a b", "a*", "a,b", "a\nb", "a\0"] {
                let mut spoilt = order();
                spoil(&mut spoilt, bad.to_owned());
                let said = check_words(&spoilt).unwrap_err();
                assert!(!said.is_empty() && !said.contains('\n'), "{field} {bad:?}: {said}");
            }
        }
        let mut spoilt = order();
        spoilt.architecture = "amd64 x".into();
        assert!(check_words(&spoilt).is_err());
    }

    #[test]
    fn the_operators_files_change_no_directory_of_the_twin_and_write_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (files, twin, outside) =
            (dir.path().join("files"), dir.path().join("twin"), dir.path().join("outside"));
        let mode = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::create_dir_all(files.join("etc/new")).unwrap();
        fs::write(files.join("etc/new/x"), "new").unwrap();
        fs::write(files.join("etc/motd"), "theirs").unwrap();
        fs::write(files.join("top"), "top").unwrap();
        mode(&files, 0o700);
        mode(&files.join("etc"), 0o700);
        mode(&files.join("etc/new"), 0o750);
        fs::create_dir_all(twin.join("etc")).unwrap();
        mode(&twin, 0o755);
        mode(&twin.join("etc"), 0o755);
        fs::write(&outside, "the worker's own").unwrap();
        std::os::unix::fs::symlink(&outside, twin.join("etc/motd")).unwrap();
        lay_over(&files, &twin).unwrap();
        let is = |path: &str| twin.join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((is(""), is("etc"), is("etc/new")), (0o755, 0o755, 0o750));
        assert_eq!(fs::read_to_string(twin.join("etc/new/x")).unwrap(), "new");
        assert_eq!(fs::read_to_string(twin.join("top")).unwrap(), "top");
        assert_eq!(fs::read_to_string(twin.join("etc/motd")).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "the worker's own");
    }

    #[test]
    fn without_room_for_a_twin_nothing_is_begun() {
        const GIB: u64 = 1 << 30;
        for (free, kept, is_enough) in [
            (0, true, false),
            (GIB - 1, true, false),
            (GIB, true, true),
            (GIB, false, false),
            (3 * GIB / 2, false, true),
        ] {
            let said = check_room(free, kept, Path::new("/x"));
            assert_eq!(said.is_ok(), is_enough, "{free} {kept}");
            assert!(said.err().is_none_or(|s| s.code == "no-space" && s.message.contains("/x")));
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(free(&dir.path().join("not/yet")).unwrap() > 0);
    }

    #[test]
    fn a_root_is_replaced_by_the_one_that_was_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (root, new) = (dir.path().join("c"), dir.path().join("c.new"));
        for (place, text) in [(&root, "old"), (&new, "new")] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("file"), text).unwrap();
        }
        keep(&new, &root).unwrap();
        assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "new");
        assert!(!new.exists());
    }
}
