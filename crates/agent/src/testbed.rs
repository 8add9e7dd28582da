//! A worker's side of ring 0: builds a twin of a cohort, has the very change made in it and taken back, and says what
//! came of it.
//!
//! A host is a worker only where its own administrator says so ([`Settings::testbed_config`] is there): an order alone
//! makes nobody one. The twin is a container booted by `systemd-nspawn` without any network but its own loopback, in a
//! transient unit of a fixed name, below a fixed directory: whatever a killed worker leaves is found by these names and
//! removed before the next test, and when the agent starts.
//!
//! ```text
//! STATE/testbed/scout/RELEASE/   apt's lists of the worker's sources, to see which versions can be had
//! STATE/testbed/roots/COHORT/    a root with a cohort's packages, kept for the next test of that cohort
//! STATE/testbed/twin/            the twin under test
//! STATE/testbed/reports/         what the server has not acknowledged
//! CONFIG/testbed/files/          copied into each twin: the operator's configuration, tests.d, probes.d for it
//! CONFIG/testbed/sources/RELEASE/  package sources of a release that is not the worker's own
//! ```

mod build;
mod container;
mod inside;
mod sources;

pub use inside::hidden;

use crate::durable;
use crate::settings::Settings;
use fettle_core::assignment::Assignment;
use fettle_core::testbed::{Limit, Phase, TestOrder, TestReport};
use fettle_wire::agent::Tested;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Programs without which a host is no worker, with the package that brings them.
pub const PROGRAMS: [(&str, &str); 4] = [
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("nsenter", "util-linux"),
    ("cp", "coreutils"),
];

/// Why a test came to no end of its own.
#[derive(Debug)]
struct Stopped {
    code: &'static str,
    message: String,
    hint: &'static str,
}

impl Stopped {
    fn new(code: &'static str, message: impl ToString, hint: &'static str) -> Self {
        Self { code, message: message.to_string(), hint }
    }

    /// A file or program of the worker could not be used.
    fn io<'p>(what: &'p str, path: &'p Path) -> impl FnOnce(io::Error) -> Self + 'p {
        move |error| {
            Self::new(
                "worker-unusable",
                format!("the worker cannot {what} {}: {error}", path.display()),
                "see to the worker: space, and whether its agent runs as root",
            )
        }
    }
}

/// Where things of the test environment lie on a worker.
#[derive(Debug, Clone)]
struct Places {
    /// Everything of it.
    state: PathBuf,
    /// What its administrator writes.
    config: PathBuf,
}

impl Places {
    fn of(settings: &Settings) -> Self {
        Self { state: settings.state_dir.join("testbed"), config: settings.testbed_config() }
    }
    fn twin(&self) -> PathBuf {
        self.state.join("twin")
    }
    fn roots(&self) -> PathBuf {
        self.state.join("roots")
    }
    fn reports(&self) -> PathBuf {
        self.state.join("reports")
    }
}

/// Has the host's administrator made it a worker?
pub fn is_worker(settings: &Settings) -> bool {
    settings.testbed_config().is_dir()
}

/// What the worker lacks, in words. Empty: it can do its work.
pub fn lacks(settings: &Settings) -> Vec<String> {
    let missing = PROGRAMS
        .iter()
        .filter(|(program, _)| crate::command::find(Path::new("/"), program).is_none());
    let mut out: Vec<String> =
        missing.map(|(program, package)| format!("{program} (package {package})")).collect();
    if !crate::unit::booted() {
        out.push("systemd as the init of this host".to_owned());
    }
    if !is_worker(settings) {
        out.push(format!(
            "the word of its administrator ({})",
            settings.testbed_config().display()
        ));
    }
    out
}

/// Carries out the test that an assignment orders, and keeps its report for [`reports`]. A test that has a report is not
/// made again.
///
/// # Errors
/// When the report cannot be kept: the test is made again when the assignment comes again.
///
/// Where `end` becomes true, it comes to no verdict; [`stop`] ends what it waits for.
pub fn run(
    settings: &Settings,
    assignment: &Assignment,
    order: &TestOrder,
    end: &AtomicBool,
) -> io::Result<()> {
    let places = Places::of(settings);
    let file = report_of(&places, assignment);
    if file.exists() {
        return Ok(());
    }
    let report = test(settings, order, end);
    let tested =
        Tested { assignment: assignment.id.clone(), generation: assignment.generation, report };
    durable::create_directory(&places.reports())?;
    durable::replace(&file, &serde_json::to_vec(&tested).map_err(io::Error::from)?)
}

fn report_of(places: &Places, assignment: &Assignment) -> PathBuf {
    places.reports().join(format!("{}.json", assignment.transaction()))
}

/// Is there a report of this test that the server has not acknowledged?
pub fn is_tested(settings: &Settings, assignment: &Assignment) -> bool {
    report_of(&Places::of(settings), assignment).exists()
}

/// Ends what a test that is under way waits for.
pub fn stop() {
    container::stop();
    build::stop();
}

/// Reports that the server has not acknowledged, with the file that keeps each. One that cannot be read goes: the test is
/// made again when the server asks for it.
pub fn reports(settings: &Settings) -> Vec<(PathBuf, Tested)> {
    let found = fs::read_dir(Places::of(settings).reports()).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        // Still being written.
        if path.extension().is_none_or(|e| e != "json") {
            return None;
        }
        let tested = fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?));
        match tested {
            Ok(tested) => Some((path, tested)),
            Err(error) => {
                eprintln!("<4>{} is lost, the test is made again: {error}", path.display());
                if let Err(error) = durable::remove(&path) {
                    eprintln!("<4>{} stays: {error}", path.display());
                }
                None
            }
        }
    };
    files.into_iter().filter_map(read).collect()
}

/// The server has a report.
///
/// # Errors
/// When its file cannot be removed: it is sent again, which is harmless.
pub fn acknowledged(file: &Path) -> io::Result<()> {
    durable::remove(file)
}

/// Ends and removes what a killed worker left.
pub fn clear(settings: &Settings) {
    let places = Places::of(settings);
    if places.state.exists() {
        stop();
        remove(&places.twin());
        build::remove_unfinished(&places);
    }
}

fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory)
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("<4>{} stays: {error}", directory.display());
    }
}

fn test(settings: &Settings, order: &TestOrder, end: &AtomicBool) -> TestReport {
    clear(settings);
    // Whatever a test that was ended stumbled over, and whatever it found: it was ended.
    let attempted = attempt(settings, order, end).and_then(|report| go_on(end).map(|()| report));
    let attempted = attempted.map_err(|stopped| go_on(end).err().unwrap_or(stopped));
    let report = attempted.unwrap_or_else(|stopped| {
        TestReport::not_tested(stopped.code, stopped.message, stopped.hint)
    });
    clear(settings);
    report
}

/// # Errors
/// When the test is to end.
fn go_on(end: &AtomicBool) -> Result<(), Stopped> {
    match end.load(Ordering::Acquire) {
        false => Ok(()),
        true => Err(Stopped::new(
            fettle_core::testbed::INTERRUPTED,
            "the test was ended: something else was wanted of its worker",
            "ask for the test again",
        )),
    }
}

fn attempt(
    settings: &Settings,
    order: &TestOrder,
    end: &AtomicBool,
) -> Result<TestReport, Stopped> {
    let lacks = lacks(settings);
    if !lacks.is_empty() {
        let message = format!("the worker lacks {}", lacks.join(", "));
        return Err(Stopped::new("no-worker", message, "on the worker: fettle-agent testbed on"));
    }
    let places = Places::of(settings);
    let mut times = Vec::new();
    let mut timed = |phase: Phase, begun: Instant| {
        times.push((phase, u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)));
    };
    let begun = Instant::now();
    let root = build::root(&places, order)?;
    go_on(end)?;
    let twin = places.twin();
    build::copy(&root, &twin)?;
    // A root that was kept has the sources of the day it was made on.
    sources::copy_sources(&places, &order.os.codename, &twin)?;
    sources::fetch(&twin, order)?;
    go_on(end)?;
    let units = build::settle(&places, &twin, order)?;
    timed(Phase::Build, begun);
    let begun = Instant::now();
    let container = container::Container::boot(&twin, &order.like)?;
    timed(Phase::Boot, begun);
    go_on(end)?;
    let mut report = container.test()?;
    drop(container);
    report.times.splice(0..0, times);
    report.limits.extend([Limit::Configuration, Limit::Network]);
    if !units.is_empty() {
        report.limits.push(Limit::Units { units });
    }
    report.limits.sort();
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::testbed::Verdict;

    /// A test of a host that is no worker.
    fn asked(dir: &Path) -> (Settings, Assignment, TestOrder) {
        let settings = Settings {
            state_dir: dir.join("state"),
            config_dir: dir.join("config"),
            ..Settings::default()
        };
        let order: TestOrder = serde_json::from_value(serde_json::json!({
            "work": { "cohort": fettle_core::Digest::of(b"c"), "changes": fettle_core::Digest::of(b"w") },
            "like": "host1", "os": { "id": "debian", "version": "12", "codename": "bookworm", "pretty": "" },
            "architecture": "amd64", "packages": [], "held": [], "enabled": [],
            "order": fettle_core::assignment::ApplyOrder::default(),
        }))
        .unwrap();
        let assignment = Assignment {
            schema: 1,
            id: "testbed/h-1/1".into(),
            host: "h-1".into(),
            generation: 1,
            rollout: "testbed".into(),
            plan: fettle_core::Digest::of(b"plan"),
            issued_at: fettle_core::Timestamp::UNIX_EPOCH,
            not_before: fettle_core::Timestamp::UNIX_EPOCH,
            expires_at: fettle_core::Timestamp::UNIX_EPOCH,
            order: fettle_core::assignment::Order::Test(Box::new(order.clone())),
        };
        (settings, assignment, order)
    }

    #[test]
    fn a_report_is_kept_until_it_is_acknowledged_and_a_test_with_one_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let (settings, assignment, order) = asked(dir.path());
        let run = |end| run(&settings, &assignment, &order, &AtomicBool::new(end));
        assert!(!is_worker(&settings));
        run(false).unwrap();
        let kept = reports(&settings);
        assert_eq!(kept.len(), 1);
        let Verdict::NotTested { code, message, .. } = &kept[0].1.report.verdict else { panic!() };
        assert_eq!(code, "no-worker");
        assert!(message.contains("administrator"), "{message}");
        let before = fs::read(&kept[0].0).unwrap();
        run(false).unwrap();
        assert_eq!(fs::read(&kept[0].0).unwrap(), before);
        acknowledged(&kept[0].0).unwrap();
        assert!(reports(&settings).is_empty());
    }

    #[test]
    fn a_test_that_was_ended_says_so_whatever_it_came_to() {
        let dir = tempfile::tempdir().unwrap();
        let (settings, assignment, order) = asked(dir.path());
        run(&settings, &assignment, &order, &AtomicBool::new(true)).unwrap();
        let kept = reports(&settings);
        let Verdict::NotTested { code, .. } = &kept[0].1.report.verdict else { panic!() };
        assert_eq!(code, "interrupted");
    }

    #[test]
    fn a_report_that_cannot_be_read_is_no_report_and_one_that_is_being_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (settings, assignment, order) = asked(dir.path());
        assert!(!is_tested(&settings, &assignment));
        run(&settings, &assignment, &order, &AtomicBool::new(false)).unwrap();
        assert!(is_tested(&settings, &assignment));
        let (file, _) = reports(&settings).remove(0);
        fs::write(&file, "{").unwrap();
        let unfinished = file.with_extension("json.new");
        fs::write(&unfinished, "{").unwrap();
        assert!(reports(&settings).is_empty());
        assert!(!is_tested(&settings, &assignment), "it is made again");
        assert!(unfinished.exists());
    }
}
