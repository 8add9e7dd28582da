//! What ran before runs again, what did not run does not, and nobody runs the new version any more.

use super::super::baseline::{self, Baseline};
use super::super::units::{self, UnitState};
use super::super::{activate, io_fault, rehearse, verify};
use crate::overlay::{self, Change, ChangeKind};
use crate::preimage;
use crate::unit::{self, value};
use fettle_core::assignment::RestartRule;
use fettle_core::inventory::Service;
use fettle_core::transaction::{Fault, StepFacts, UndoFacts};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Services that are on their way back are looked at again after so long.
const AGAIN: Duration = Duration::from_millis(100);
/// Left alone where they map no replaced file: cutting off every session is worse than what they may still run.
const LEFT_ALONE: [&str; 8] =
    ["fettle-", "user@", "user-runtime-dir@", "dbus", "systemd-", "ssh", "getty@", "serial-getty@"];

/// Services whose unit files are about to vanish are stopped while systemd still knows how.
pub(super) fn stop_new(directory: &Path, before: &Baseline, facts: &mut UndoFacts) {
    let Ok(delta) = overlay::read_delta(&directory.join(rehearse::DELTA)) else { return };
    let known: BTreeSet<&str> = before.sight.services.iter().map(|s| s.unit.as_str()).collect();
    for change in delta.iter().filter(|c| c.change == ChangeKind::New) {
        let name = change.path.0.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let place = change.path.0.parent().and_then(Path::to_str).unwrap_or_default();
        let is_unit = place.ends_with("/systemd/system")
            && [".service", ".socket", ".timer", ".path"].iter().any(|e| name.ends_with(e));
        if is_unit
            && !name.contains('@')
            && !known.contains(name)
            && unit::booted()
            && let Err(e) = unit::systemctl(&["stop", "--", name])
        {
            facts.notes.push(e.to_string());
        }
    }
}

/// What runs, as systemd tells it while files are put back.
#[derive(Debug, Default)]
pub(super) struct Sight {
    units: Vec<UnitState>,
    /// Services with a process of their own.
    programs: Vec<Program>,
}

/// What is known of the services before any of them is restarted.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) sight: Sight,
    /// systemd itself runs what was put back.
    pub(super) manager: Option<activate::Manager>,
}

/// Asks systemd what runs; nothing where it does not run itself.
pub(super) fn look() -> Result<Sight, Fault> {
    if !unit::booted() {
        return Ok(Sight::default());
    }
    let units = units::look().map_err(io_fault("list the units"))?;
    let shown = unit::systemctl(&[
        "show",
        "--type=service",
        "--state=active",
        "--property=Id,MainPID,FragmentPath,DropInPaths",
        "*",
    ])
    .map_err(io_fault("ask systemd what runs"))?;
    Ok(Sight { units, programs: programs(&shown) })
}

/// Restarts what runs anything of the new version, stops what the change has started, starts what ran before, and looks.
/// `later`: the change had ended, perhaps long ago.
pub(super) fn back(
    directory: &Path,
    before: &Baseline,
    later: bool,
    known: Known,
    facts: &mut UndoFacts,
) -> Result<(), Fault> {
    if !unit::booted() {
        facts.notes.push("systemd does not run here: nothing is restarted".into());
        return Ok(());
    }
    let Sight { units: now, programs } = known.sight;
    let to_stop = units::started_by(directory, before, &now, later);
    let mut also = run_the_new(directory, before, &now, programs);
    also.retain(|unit| !to_stop.contains(unit));
    if !to_stop.is_empty() {
        let arguments: Vec<&str> =
            ["stop", "--"].into_iter().chain(to_stop.iter().map(String::as_str)).collect();
        facts.notes.push(match unit::systemctl(&arguments) {
            Ok(_) => format!("stopped, since it did not run before: {}", to_stop.join(", ")),
            Err(e) => e.to_string(),
        });
    }
    let mut steps = StepFacts::default();
    let rule = RestartRule::default();
    activate::restart(&rule, &also, &before.relations, known.manager, &mut steps)?;
    facts.notes.extend(steps.notes);
    if !steps.restarted.is_empty() {
        facts.notes.push(format!("restarted: {}", steps.restarted.join(", ")));
    }
    let begun = Instant::now();
    let mut started = BTreeSet::new();
    loop {
        let now = baseline::look(&[], Path::new("/"))?;
        let rebooted = before.sight.rebooted();
        let ran = |s: &&Service| s.active == "active" && !baseline::is_ours(&s.unit);
        let active = before.sight.services.iter().filter(ran);
        let ended = active.filter(|was| {
            let is = now.services.iter().find(|s| s.unit == was.unit);
            matches!(is.map_or("inactive", |s| s.active.as_str()), "failed" | "inactive")
        });
        let waited = units::stopped(&before.sight.units, &now.units, rebooted, true);
        let to_start: Vec<&str> =
            waited.iter().map(|(unit, _)| *unit).chain(ended.map(|s| s.unit.as_str())).collect();
        for name in to_start {
            if started.insert(name.to_owned()) {
                let _ = unit::systemctl(&["reset-failed", "--", name]);
                if let Err(e) = unit::systemctl(&["start", "--", name]) {
                    facts.notes.push(e.to_string());
                }
            }
        }
        let worse = baseline::worse(&before.sight, &now, None);
        for text in worse.iter().filter(|w| w.ends_with(" has failed")) {
            // A unit that was not there before, or had not failed: its failure goes with the change.
            let unit = text.trim_end_matches(" has failed");
            let _ = unit::systemctl(&["reset-failed", "--", unit]);
        }
        let mut left: BTreeSet<String> =
            worse.into_iter().filter(|w| !w.ends_with(" has failed")).collect();
        left.extend(waited.iter().map(|(unit, is)| format!("{unit} was active and is {is}")));
        let still = |name: &&String| now.units.iter().any(|s| s.unit == **name && s.runs());
        left.extend(to_stop.iter().filter(still).map(|u| format!("{u} was inactive and is not")));
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > verify::SETTLE {
            facts.differing.extend(left);
            return Ok(());
        }
        std::thread::sleep(AGAIN);
    }
}

/// Services that run the new version though they map no replaced file: scripts, and whoever has read another file of it.
/// In the boot of the change those are all that were started since. In another boot everything was; there it is those
/// that were started from a file that the change had touched.
fn run_the_new(
    directory: &Path,
    before: &Baseline,
    now: &[UnitState],
    programs: Vec<Program>,
) -> BTreeSet<String> {
    let sight = &before.sight;
    if !sight.rebooted() && !sight.boot.is_empty() && !sight.units.is_empty() {
        let since = units::runs_since(&sight.units, now);
        return programs.into_iter().map(|p| p.unit).filter(|u| since.contains(u)).collect();
    }
    let delta = overlay::read_delta(&directory.join(rehearse::DELTA)).unwrap_or_default();
    let touched = Touched::by(&delta);
    let mut found = BTreeSet::new();
    for mut program in programs {
        program.look();
        if touched.runs(&program) {
            found.insert(program.unit);
        }
    }
    found
}

/// A service, and what its main process was started from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Program {
    unit: String,
    process: String,
    /// The unit's own files, and the words of its command line.
    words: Vec<PathBuf>,
    /// The program's file.
    executable: PathBuf,
}

/// Services with a process of their own, out of `systemctl show`.
fn programs(text: &str) -> Vec<Program> {
    let program = |block: &str| {
        let unit = value(block, "Id").filter(|u| !LEFT_ALONE.iter().any(|p| u.starts_with(p)))?;
        let process = value(block, "MainPID").filter(|pid| *pid != "0")?;
        let files = ["FragmentPath", "DropInPaths"].into_iter();
        let files = files.flat_map(|key| value(block, key).unwrap_or_default().split_whitespace());
        Some(Program {
            unit: unit.to_owned(),
            process: process.to_owned(),
            words: files.map(PathBuf::from).collect(),
            executable: PathBuf::new(),
        })
    };
    text.split("\n\n").filter_map(program).collect()
}

impl Program {
    /// Looks at its process. One that has ended meanwhile was started from nothing.
    fn look(&mut self) {
        let process = Path::new("/proc").join(&self.process);
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        // `/usr/bin/perl`, `--config=/etc/x`
        let words = line.split('\0').filter_map(|word| word.find('/').map(|at| &word[at..]));
        self.words.extend(words.map(PathBuf::from));
        for word in &mut self.words {
            *word = preimage::physical(Path::new("/"), &word.as_path().into()).0;
        }
        self.executable = std::fs::read_link(process.join("exe")).unwrap_or_default();
    }
}

/// What a change had touched, as far as a service may be started from it.
struct Touched<'d> {
    paths: BTreeSet<&'d Path>,
    /// Interpreters that find a file of the change among their libraries.
    interpreters: BTreeSet<&'static str>,
}

impl<'d> Touched<'d> {
    /// Interpreter → how the directories of its libraries begin. What it loads is read, not mapped, and none of it is
    /// on the command line.
    const LIBRARIES: [(&'static str, &'static [&'static str]); 6] = [
        ("perl", &["perl"]),
        ("python", &["python"]),
        ("ruby", &["ruby", "gems"]),
        ("node", &["nodejs", "node_modules"]),
        ("php", &["php"]),
        ("java", &["java", "jvm"]),
    ];

    fn by(delta: &'d [Change]) -> Self {
        let paths: BTreeSet<&Path> =
            delta.iter().filter(|c| !c.directory).map(|c| c.path.as_path()).collect();
        let is_among = |path: &Path, names: &[&str]| {
            let is_code = |p: &&Path| p.starts_with("/usr") && !p.starts_with("/usr/share/doc");
            let place = path.parent().filter(is_code);
            let mut parts = place.into_iter().flat_map(Path::iter).filter_map(|p| p.to_str());
            parts.any(|part| names.iter().any(|name| part.starts_with(name)))
        };
        let interpreters = Self::LIBRARIES
            .into_iter()
            .filter(|(_, names)| paths.iter().any(|path| is_among(path, names)))
            .map(|(interpreter, _)| interpreter)
            .collect();
        Self { paths, interpreters }
    }

    /// Was this service started from it?
    fn runs(&self, program: &Program) -> bool {
        let name = program.executable.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        self.paths.contains(program.executable.as_path())
            || program.words.iter().any(|word| self.paths.contains(word.as_path()))
            || self.interpreters.iter().any(|interpreter| name.starts_with(interpreter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_services_with_a_process_of_their_own_are_looked_at() {
        let text = "Id=acme-web.service\nMainPID=12\nFragmentPath=/lib/systemd/system/acme-web.service\nDropInPaths=/etc/a.conf /etc/b.conf\n\n\
                    Id=once.service\nMainPID=0\nFragmentPath=/x\n\n\
                    Id=dbus.service\nMainPID=14\nFragmentPath=/y\n";
        let found = programs(text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].unit.as_str(), found[0].process.as_str()), ("acme-web.service", "12"));
        assert_eq!(found[0].words.len(), 3);
    }

    #[test]
    fn after_another_boot_only_what_was_started_from_a_touched_file_runs_the_new_version() {
        let change = |path: &str| Change {
            path: path.into(),
            change: ChangeKind::Changed,
            directory: false,
            bytes: 1,
            sha256: None,
        };
        let acme =
            ["/usr/sbin/acme", "/usr/lib/systemd/system/acme.service", "/etc/acme/acme.conf"];
        let library = ["/usr/lib/python3/dist-packages/requests/api.py"];
        let perl = ["/usr/share/perl5/JSON.pm"];
        let plain = ["/usr/lib/x86_64-linux-gnu/libacme.so.1", "/usr/share/doc/python3-x/README"];
        let cases: [(&[&str], &str, &[&str], bool); 10] = [
            (&acme, "/usr/bin/perl", &["/usr/bin/perl", "/usr/sbin/acme"], true),
            (&acme, "/usr/bin/other", &["/usr/lib/systemd/system/acme.service"], true),
            (&acme, "/usr/bin/other", &["/etc/acme/acme.conf"], true),
            (&acme, "/usr/bin/perl", &["/usr/sbin/other"], false),
            (&library, "/usr/bin/python3.11", &["/opt/app.py"], true),
            (&library, "/usr/bin/perl", &["/opt/app.pl"], false),
            (&perl, "/usr/bin/perl", &["/opt/app.pl"], true),
            // What maps it is found by its maps.
            (&plain, "/usr/sbin/nginx", &["/usr/sbin/nginx"], false),
            (&plain, "/usr/bin/python3.11", &["/opt/app.py"], false),
            (&[], "/usr/bin/python3.11", &["/opt/app.py"], false),
        ];
        for (paths, executable, words, is) in cases {
            let delta: Vec<Change> = paths.iter().map(|path| change(path)).collect();
            let program = Program {
                executable: executable.into(),
                words: words.iter().map(PathBuf::from).collect(),
                ..Program::default()
            };
            assert_eq!(Touched::by(&delta).runs(&program), is, "{paths:?} {executable} {words:?}");
        }
    }
}
