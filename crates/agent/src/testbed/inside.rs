//! What the agent does in the twin: the product's own transaction, its undo, and a look at every file before and after.

use super::build::ORDER;
use crate::executor::{self, Standalone};
use crate::host_path::HostPath;
use crate::inventory;
use crate::preimage::{Manifest, State, observe_all};
use crate::probe;
use crate::settings::Settings;
use fettle_core::assignment::{ApplyOrder, Assignment, Order, Probe};
use fettle_core::inventory::Inventory;
use fettle_core::testbed::{
    Limit, Mirror, NotMirrored, Phase, TestOrder, TestReport, TwinPackage, Verdict,
};
use fettle_core::transaction::{Entry, Outcome, TxEvent};
use fettle_core::{Digest, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Name of the hidden subcommand that runs in a twin.
pub(super) const HIDDEN: &str = "__twin";

/// Trees in which every file must be as it was after the undo. What a running machine writes by itself lies elsewhere
/// below `/var`; of that, the undo itself answers for what the change touched.
const TREES: [&str; 10] =
    ["/bin", "/boot", "/etc", "/home", "/lib", "/opt", "/root", "/srv", "/usr", "/var/lib/dpkg"];

/// Runs the hidden subcommand, if that is what was asked for.
pub fn hidden(arguments: &[String]) -> Option<ExitCode> {
    if arguments.first().map(String::as_str) != Some(HIDDEN) {
        return None;
    }
    let file = Path::new("/").join(ORDER);
    let read = std::fs::read(&file)
        .and_then(|text| serde_json::from_slice(&text).map_err(io::Error::from));
    let report = match read {
        Ok(order) => test(&Settings::default(), &order),
        Err(error) => TestReport::not_tested("twin-lost", error.to_string(), "ask for it again"),
    };
    let said = serde_json::to_string(&report).unwrap_or_default();
    // Whoever asked may be gone; then nobody wants it.
    let _ = writeln!(io::stdout(), "{said}");
    Some(ExitCode::SUCCESS)
}

/// Keeps what is found on the way.
struct Test<'a> {
    settings: &'a Settings,
    order: &'a TestOrder,
    report: TestReport,
}

fn test(settings: &Settings, order: &TestOrder) -> TestReport {
    let report = TestReport::not_tested("twin-lost", "the test did not begin", "ask for it again");
    let mut test = Test { settings, order, report };
    test.report.verdict = test.run().unwrap_or_else(|verdict| verdict);
    test.report
}

impl Test<'_> {
    /// Gives the verdict, either way.
    fn run(&mut self) -> Result<Verdict, Verdict> {
        let seen = inventory::collect(self.settings, inventory::Age::Recent);
        self.report.mirror = mirror(self.order, &seen);
        self.changed_are_mirrored()?;
        if !self.order.held.is_empty() {
            let mut hold = crate::command::command("apt-mark");
            hold.arg("hold").arg("--").args(&self.order.held);
            let _ = crate::command::run(&mut hold, None);
        }
        let order = self.order_for_twin(&seen);
        let before = self.look()?;
        self.report.compared = before.len() as u64;
        let apply = assignment("apply", Order::Apply(order));
        let undo = assignment(
            "undo",
            Order::Undo { assignment: apply.id.clone(), reason: "the way back is tried".into() },
        );
        match self.transaction(Phase::Patch, apply)? {
            Outcome::Patched | Outcome::Switched => {}
            Outcome::Refused { fault } if !fault.blames_change() => {
                return Err(Verdict::NotTested {
                    code: fault.code,
                    message: format!("the twin refused the change: {}", fault.message),
                    hint: fault.hint,
                });
            }
            Outcome::Refused { fault } => return Err(failed(Phase::Patch, fault.message)),
            Outcome::Undone { reason } | Outcome::Quarantined { reason } => {
                return Err(failed(Phase::Patch, reason));
            }
        }
        match self.transaction(Phase::Undo, undo)? {
            Outcome::Undone { .. } => {}
            Outcome::Refused { fault } => return Err(failed(Phase::Undo, fault.message)),
            Outcome::Patched | Outcome::Switched => {
                return Err(failed(Phase::Undo, "the undo did nothing".to_owned()));
            }
            Outcome::Quarantined { reason } => return Err(failed(Phase::Undo, reason)),
        }
        let begun = Instant::now();
        let after = self.look()?;
        let differing = differing(&before, &after);
        self.took(Phase::Compare, begun);
        match differing.as_slice() {
            [] => Ok(Verdict::Passed),
            [first, ..] => {
                let count = differing.len();
                let reason =
                    format!("after the undo {count} files are not as they were, first {first}");
                Err(failed(Phase::Compare, reason))
            }
        }
    }

    fn took(&mut self, phase: Phase, begun: Instant) {
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.report.times.push((phase, milliseconds));
    }

    /// What is changed must be as it is on the host, or another change would be tested.
    fn changed_are_mirrored(&self) -> Result<(), Verdict> {
        let changed: BTreeSet<&str> =
            self.order.order.changes.iter().map(|c| c.name.as_str()).collect();
        let other = self.report.mirror.other.iter();
        let missing: Vec<String> = other
            .filter(|o| changed.contains(o.package.name.as_str()))
            .map(ToString::to_string)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Verdict::NotTested {
            code: "not-mirrored".to_owned(),
            message: format!("could not mirror: {}", missing.join(", ")),
            hint: "give the worker an archive that still has these versions".to_owned(),
        })
    }

    /// The order as it is; probes that are answered wrongly before anything is done say nothing afterwards.
    fn order_for_twin(&mut self, seen: &Inventory) -> ApplyOrder {
        let commands = self.settings.config_dir.join("probes.d");
        let asked = self.order.order.probes.iter();
        let (wrong, right): (Vec<_>, Vec<_>) = asked
            .map(|probe: &Probe| (probe, probe::ask(probe, &commands)))
            .partition(|(_, answer)| answer.wrong.is_some());
        let limits = &mut self.report.limits;
        if !wrong.is_empty() {
            let probes = wrong.into_iter().map(|(_, answer)| answer.question).collect();
            limits.push(Limit::Probes { probes });
        }
        let failed: Vec<String> =
            seen.services.iter().filter(|s| s.active == "failed").map(|s| s.unit.clone()).collect();
        if !failed.is_empty() {
            limits.push(Limit::Failed { units: failed });
        }
        if self.order.order.changes.iter().any(|c| c.name.starts_with("linux-image")) {
            limits.push(Limit::Kernel);
        }
        ApplyOrder {
            probes: right.into_iter().map(|(probe, _)| probe.clone()).collect(),
            ..self.order.order.clone()
        }
    }

    fn look(&self) -> Result<Manifest, Verdict> {
        observe_all(&self.settings.root, &BTreeSet::new(), &TREES).map_err(|error| {
            Verdict::NotTested {
                code: "twin-unreadable".to_owned(),
                message: error.to_string(),
                hint: "ask for the test again".to_owned(),
            }
        })
    }

    fn transaction(&mut self, phase: Phase, assignment: Assignment) -> Result<Outcome, Verdict> {
        let begun = Instant::now();
        let mut entries: Vec<Entry> = Vec::new();
        let grant = Standalone::of(self.settings);
        let outcome = executor::run(self.settings, assignment, &grant, &mut |entry| {
            entries.push(entry.clone());
        });
        self.took(phase, begun);
        for entry in entries {
            if let TxEvent::Finished { step, facts } = entry.event {
                self.report.steps.push((step, facts.milliseconds));
                self.report.delta_files = facts.delta_files.or(self.report.delta_files);
                self.report.restarted.extend(facts.restarted);
            }
        }
        outcome.map_err(|error| Verdict::NotTested {
            code: "twin-transaction".to_owned(),
            message: error.to_string(),
            hint: "ask for the test again".to_owned(),
        })
    }
}

fn failed(phase: Phase, reason: String) -> Verdict {
    Verdict::Failed { phase, reason }
}

fn assignment(name: &str, order: Order) -> Assignment {
    let now = Timestamp::now();
    Assignment {
        schema: 1,
        id: format!("{}/twin-{name}", crate::cli::LOCAL).as_str().into(),
        host: crate::cli::LOCAL.into(),
        generation: 0,
        rollout: crate::cli::LOCAL.into(),
        plan: Digest::of_json(&order),
        issued_at: now,
        not_before: now,
        expires_at: now + jiff::SignedDuration::from_hours(24),
        order,
    }
}

/// What the twin has of its host.
fn mirror(order: &TestOrder, seen: &Inventory) -> Mirror {
    let has: BTreeMap<(&str, &str), &str> = seen
        .packages
        .iter()
        .map(|p| ((p.name.as_str(), p.architecture.as_str()), p.version.as_str()))
        .collect();
    let twin = |p: &TwinPackage| has.get(&(p.name.as_str(), p.architecture.as_str())).copied();
    let other: Vec<NotMirrored> = order
        .packages
        .iter()
        .filter(|p| twin(p) != Some(p.version.as_str()))
        .map(|p| NotMirrored { package: p.clone(), twin: twin(p).map(str::to_owned) })
        .collect();
    let wanted = order.packages.len() as u32;
    Mirror {
        wanted,
        exact: wanted - other.len() as u32,
        other,
        same_cohort: seen.cohort() == order.work.cohort,
    }
}

/// Paths that are not the same thing any more, that went, or that came.
fn differing(before: &Manifest, after: &Manifest) -> Vec<String> {
    let paths: BTreeSet<&HostPath> = before.keys().chain(after.keys()).collect();
    paths
        .into_iter()
        .filter(|path| match (state(before, path), state(after, path)) {
            (None, None) => false,
            (Some(was), Some(is)) => !was.same(is),
            _ => true,
        })
        .map(ToString::to_string)
        .collect()
}

fn state<'m>(of: &'m Manifest, path: &HostPath) -> Option<&'m State> {
    of.get(path).and_then(|record| record.was.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_came_or_went_differs_and_a_touched_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        for name in ["same", "touched", "changed", "gone"] {
            std::fs::write(etc.join(name), name).unwrap();
        }
        let look = || observe_all(dir.path(), &BTreeSet::new(), &["/etc"]).unwrap();
        let before = look();
        assert!(differing(&before, &look()).is_empty());
        std::fs::File::open(etc.join("touched"))
            .unwrap()
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        std::fs::write(etc.join("changed"), "other").unwrap();
        std::fs::remove_file(etc.join("gone")).unwrap();
        std::fs::write(etc.join("came"), "").unwrap();
        assert_eq!(differing(&before, &look()), ["/etc/came", "/etc/changed", "/etc/gone"]);
    }
}
