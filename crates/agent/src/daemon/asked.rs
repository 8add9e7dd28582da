//! Tests that a gate between waves wants run: programs of the host's own lists, each named and never sent. They run
//! beside the agent's loop, a few at a time, now and again while they are asked; what came of the last run of each
//! goes with every check-in. In memory only: a restarted agent runs them anew.

use crate::command::{self, command};
use crate::configuration_tests::executables;
use crate::settings::Settings;
use crate::trusted;
use fettle_core::policy::HostTest;
use fettle_core::rollout::{Came, HostAsk};
use fettle_wire::agent::{MOST_ASKS, RanReport};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A test may take so long.
const DEADLINE: Duration = Duration::from_secs(60);
/// A test is run again so long after it ended: well before what it said no longer counts
/// ([`fettle_core::rollout::EVIDENCE_STANDS_SECONDS`]), however long it takes.
const AGAIN: Duration = Duration::from_secs(30);
/// So many run at once, no program twice: a slow one does not make what the others said too old to count.
const AT_ONCE: usize = fettle_core::rollout::TESTS_AT_ONCE;
/// So many characters of what a program wrote last are told.
const LONGEST: usize = 300;

/// When a test last ran, and what came of it.
struct Run {
    began: Instant,
    ended: Instant,
    came: Came,
}

/// Something that is asked, and its last run.
struct Entry {
    ask: HostAsk,
    last: Option<Run>,
    at_work: bool,
}

impl Entry {
    fn is_due(&self) -> bool {
        !self.at_work && self.last.as_ref().is_none_or(|run| run.ended.elapsed() >= AGAIN)
    }
}

/// What is asked of this host, and what came of it.
pub(super) struct Asked {
    settings: Settings,
    news: Arc<Notify>,
    workers: Arc<AtomicUsize>,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Asked {
    pub(super) fn new(settings: &Settings, news: Arc<Notify>) -> Self {
        Self { settings: settings.clone(), news, workers: Arc::default(), entries: Arc::default() }
    }

    /// The server asks this and no more.
    pub(super) fn take(&self, asks: &[HostAsk]) {
        let mut entries = lock(&self.entries);
        entries.retain(|entry| asks.contains(&entry.ask));
        for ask in asks.iter().take(MOST_ASKS) {
            if !entries.iter().any(|entry| entry.ask == *ask) {
                entries.push(Entry { ask: ask.clone(), last: None, at_work: false });
            }
        }
        entries.truncate(MOST_ASKS);
    }

    /// Runs what is due, beside what is being run.
    pub(super) fn run(&self) {
        let due = lock(&self.entries).iter().filter(|entry| entry.is_due()).count();
        for _ in 0..due.min(AT_ONCE) {
            if self.workers.fetch_add(1, Ordering::AcqRel) >= AT_ONCE {
                self.workers.fetch_sub(1, Ordering::AcqRel);
                return;
            }
            let mut worker = Worker {
                workers: self.workers.clone(),
                entries: self.entries.clone(),
                news: self.news.clone(),
                at: None,
            };
            let settings = self.settings.clone();
            let work = move || {
                while let Some(ask) = worker.next() {
                    let began = Instant::now();
                    let came = run(&settings, &ask.test, DEADLINE);
                    worker.done(Some(Run { began, ended: Instant::now(), came }));
                }
            };
            // Where there is no thread, the worker is dropped with its work.
            if let Err(error) = std::thread::Builder::new().name("asked".into()).spawn(work) {
                eprintln!(
                    "<3>no thread for a test that a gate asks for, it is tried again: {error}"
                );
                return;
            }
        }
    }

    /// Is something being run?
    pub(super) fn is_busy(&self) -> bool {
        self.workers.load(Ordering::Acquire) > 0
    }

    /// What came of what is asked.
    pub(super) fn reports(&self) -> Vec<RanReport> {
        let ms_ago = |at: Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let report = |entry: &Entry| {
            let run = entry.last.as_ref()?;
            Some(RanReport {
                ask: entry.ask.ask.clone(),
                began_ms_ago: ms_ago(run.began),
                ended_ms_ago: ms_ago(run.ended),
                came: run.came.clone(),
            })
        };
        lock(&self.entries).iter().filter_map(report).collect()
    }
}

/// One of those who run tests. Ends its work whatever happens in it.
struct Worker {
    workers: Arc<AtomicUsize>,
    entries: Arc<Mutex<Vec<Entry>>>,
    news: Arc<Notify>,
    at: Option<HostAsk>,
}

impl Worker {
    /// What was run longest ago, unless its program is being run.
    fn next(&mut self) -> Option<HostAsk> {
        let mut entries = lock(&self.entries);
        let at_work: Vec<HostTest> =
            entries.iter().filter(|e| e.at_work).map(|e| e.ask.test.clone()).collect();
        let next = entries
            .iter_mut()
            .filter(|entry| entry.is_due() && !at_work.contains(&entry.ask.test))
            .min_by_key(|entry| entry.last.as_ref().map(|run| run.ended))?;
        next.at_work = true;
        self.at = Some(next.ask.clone());
        self.at.clone()
    }

    fn done(&mut self, run: Option<Run>) {
        let Some(ask) = self.at.take() else { return };
        // What is asked no more is told no more.
        if let Some(entry) = lock(&self.entries).iter_mut().find(|entry| entry.ask == ask) {
            entry.at_work = false;
            entry.last = run.or(entry.last.take());
        }
        self.news.notify_one();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.done(None);
        self.workers.fetch_sub(1, Ordering::AcqRel);
        self.news.notify_one();
    }
}

/// A thread that died in the middle leaves what was there: each entry is whole.
fn lock(entries: &Mutex<Vec<Entry>>) -> MutexGuard<'_, Vec<Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a program of that name, where the host's own list has one. The name is looked for in the list and is never made
/// into a path: no name leads out of it.
fn run(settings: &Settings, test: &HostTest, deadline: Duration) -> Came {
    let directory = settings.config_dir.join(test.list.word());
    let found = executables(&directory).find(|(name, _)| *name == test.name);
    let Some((_, program)) = found else {
        let why = format!("it has no program `{}` in {}", short(&test.name), directory.display());
        return Came::Lacks { why };
    };
    if let Err(why) = trusted::program(&program) {
        return Came::Lacks { why: short(&format!("{test} is not run: {why}")) };
    }
    let mut command = command(&program.to_string_lossy());
    command.current_dir("/");
    match command::run(&mut command, Some(deadline)) {
        Ok(output) if output.success() => Came::Well,
        Ok(output) => {
            Came::Badly { said: short(&format!("{}: {}", output.ending(), output.tail(1))) }
        }
        Err(error) => Came::Lacks { why: short(&format!("{test} cannot be run: {error}")) },
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::policy::HostList;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    fn settings(directory: &Path) -> Settings {
        Settings { config_dir: directory.to_owned(), ..Settings::default() }
    }

    fn program(directory: &Path, list: &str, name: &str, mode: u32, text: &str) {
        let path = directory.join(list).join(name);
        std::fs::create_dir_all(directory.join(list)).unwrap();
        std::fs::set_permissions(directory.join(list), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn test(list: HostList, name: &str) -> HostTest {
        HostTest { list, name: name.to_owned() }
    }

    #[test]
    fn a_host_runs_what_stands_on_its_own_list_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        program(dir.path(), "tests.d", "good", 0o755, "exit 0");
        program(dir.path(), "tests.d", "bad", 0o755, "echo 14 orders; echo 2 lost >&2; exit 3");
        program(dir.path(), "tests.d", "slow", 0o755, "sleep 60");
        program(dir.path(), "tests.d", "text", 0o644, "exit 0");
        program(dir.path(), "tests.d", "anybodys", 0o757, &format!("touch {}", canary.display()));
        program(dir.path(), "probes.d", "shop", 0o755, "exit 0");
        program(dir.path(), "elsewhere", "x", 0o755, &format!("touch {}", canary.display()));
        std::fs::create_dir(dir.path().join("tests.d/directory")).unwrap();
        let settings = settings(dir.path());
        let came = |list, name: &str| match run(
            &settings,
            &test(list, name),
            Duration::from_millis(500),
        ) {
            Came::Well => "well".to_owned(),
            Came::Badly { said } => said,
            Came::Lacks { .. } => "lacks".to_owned(),
        };
        for (list, name, then) in [
            (HostList::Tests, "good", "well"),
            (HostList::Tests, "bad", "exit code 3: 2 lost"),
            (HostList::Tests, "slow", "no answer in time: "),
            (HostList::Probes, "shop", "well"),
            (HostList::Probes, "good", "lacks"),
            (HostList::Tests, "shop", "lacks"),
            (HostList::Tests, "text", "lacks"),
            (HostList::Tests, "anybodys", "lacks"),
            (HostList::Tests, "directory", "lacks"),
            (HostList::Tests, "", "lacks"),
            (HostList::Tests, "../elsewhere/x", "lacks"),
            (HostList::Tests, "./good", "lacks"),
            (HostList::Tests, "/bin/true", "lacks"),
            (HostList::Tests, "good; true", "lacks"),
        ] {
            assert_eq!(came(list, name), then, "{list:?} {name}");
        }
        assert!(
            !canary.exists(),
            "no name leads out of the list, and none to what others can write"
        );
        let Came::Lacks { why } = run(&settings, &test(HostList::Tests, "anybodys"), DEADLINE)
        else {
            panic!("it was run");
        };
        assert!(why.contains("can be written by others: `chmod go-w "), "{why}");
    }

    #[test]
    fn what_is_asked_is_run_once_and_told_until_it_is_asked_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        program(dir.path(), "tests.d", "shop", 0o755, &format!("echo x >> {}", runs.display()));
        let asked = Asked::new(&settings(dir.path()), Arc::default());
        let ask = |ask: &str| HostAsk { ask: ask.into(), test: test(HostList::Tests, "shop") };
        let wait = |many: usize| {
            let end = Instant::now() + Duration::from_secs(20);
            while asked.reports().len() < many || asked.workers.load(Ordering::Acquire) > 0 {
                assert!(Instant::now() < end, "{} of {many} answers", asked.reports().len());
                std::thread::yield_now();
            }
        };
        assert!(asked.reports().is_empty());
        asked.take(&[ask("ro-1/0/1/shop")]);
        assert!(asked.reports().is_empty(), "it has not run");
        asked.run();
        wait(1);
        for _ in 0..3 {
            asked.take(&[ask("ro-1/0/1/shop")]);
            asked.run();
        }
        wait(1);
        let ran = || std::fs::read_to_string(&runs).unwrap().lines().count();
        assert_eq!(ran(), 1, "not again so soon");
        let reports = asked.reports();
        assert_eq!((reports[0].ask.as_str(), &reports[0].came), ("ro-1/0/1/shop", &Came::Well));
        assert!(reports[0].began_ms_ago >= reports[0].ended_ms_ago);
        // Another gate: what ran before is no answer to it.
        asked.take(&[ask("ro-1/1/2/shop")]);
        assert!(asked.reports().is_empty());
        asked.run();
        wait(1);
        assert_eq!((ran(), asked.reports()[0].ask.as_str()), (2, "ro-1/1/2/shop"));
        // A server that asks beyond reason is heard up to a limit.
        let many: Vec<HostAsk> = (0..100).map(|n| ask(&n.to_string())).collect();
        asked.take(&many);
        asked.run();
        wait(MOST_ASKS);
        assert_eq!((ran(), asked.reports().len()), (2 + MOST_ASKS, MOST_ASKS));
        asked.take(&[]);
        assert!(asked.reports().is_empty());
    }

    #[test]
    fn a_slow_test_does_not_keep_others_from_running_and_few_run_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let there = |n: usize| dir.path().join(format!("there-{n}"));
        // Each ends when as many as may run at once have begun: one after the other they never would.
        for n in 0..AT_ONCE {
            let all: Vec<String> =
                (0..AT_ONCE).map(|n| format!("-e {}", there(n).display())).collect();
            let text = format!(
                "touch {}; until [ {} ]; do sleep 0.05; done",
                there(n).display(),
                all.join(" -a ")
            );
            program(dir.path(), "tests.d", &format!("slow-{n}"), 0o755, &text);
        }
        let asked = Asked::new(&settings(dir.path()), Arc::default());
        let ask = |n: usize| HostAsk {
            ask: n.to_string(),
            test: test(HostList::Tests, &format!("slow-{n}")),
        };
        asked.take(&(0..MOST_ASKS).map(ask).collect::<Vec<_>>());
        let end = Instant::now() + Duration::from_secs(20);
        let well = || asked.reports().iter().filter(|r| r.came == Came::Well).count();
        while well() < AT_ONCE {
            assert!(Instant::now() < end, "{} of {AT_ONCE} have run", well());
            asked.run();
            assert!(asked.workers.load(Ordering::Acquire) <= AT_ONCE);
            std::thread::yield_now();
        }
    }
}
