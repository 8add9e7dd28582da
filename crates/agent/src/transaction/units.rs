//! Units before and after a change: what it has started or stopped besides what is expected of it. The inventory lists
//! services only, and few of them; here are all of them, with the sockets, timers and paths that start them.

use super::{Transaction, baseline, read_kept};
use crate::inventory;
use crate::unit::{self, value};
use fettle_core::inventory::Service;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// Name of the file that keeps which units a change has started that did not run before.
const STARTED: &str = "units-started.json";

/// A service, socket, timer or path at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitState {
    /// Its name.
    pub unit: String,
    /// `ActiveState`.
    pub active: String,
    /// `UnitFileState`.
    pub enabled: String,
    /// The name of this run of it (`InvocationID`): another one after each start. Empty where it never ran.
    pub invocation: String,
    /// Units that start it when somebody knocks, or when it is time.
    pub triggered_by: Vec<String>,
    /// Whoever asks for it on the bus starts it, or it was made by a program and goes with it: it says nothing.
    pub comes_and_goes: bool,
}

impl UnitState {
    /// Does it run, or is it about to?
    pub fn runs(&self) -> bool {
        matches!(self.active.as_str(), "active" | "activating" | "reloading" | "refreshing")
    }
    fn is_service(&self) -> bool {
        self.unit.ends_with(".service")
    }
}

/// Looks at them now. Empty on a host that was not booted with systemd.
///
/// # Errors
/// When systemd does not answer.
pub fn look() -> io::Result<Vec<UnitState>> {
    show().map(|text| parse(&text))
}

/// The same, with the services as an inventory has them: systemd is asked once, since it takes its time to tell of them all.
///
/// # Errors
/// When systemd does not answer.
pub(super) fn look_with_services() -> io::Result<(Vec<UnitState>, Vec<Service>)> {
    let text = show()?;
    Ok((parse(&text), inventory::units::parse(&text)))
}

fn show() -> io::Result<String> {
    if !unit::booted() {
        return Ok(String::new());
    }
    unit::systemctl(&[
        "show",
        "--all",
        "--type=service,socket,timer,path",
        "--property=Id,LoadState,ActiveState,SubState,UnitFileState,InvocationID,TriggeredBy,BusName,Transient",
        "*",
    ])
}

fn parse(text: &str) -> Vec<UnitState> {
    let state = |block: &str| {
        let value = |key: &str| value(block, key).unwrap_or_default();
        let (name, enabled) = (value("Id"), value("UnitFileState"));
        let on_the_bus = !value("BusName").is_empty() && !enabled.starts_with("enabled");
        (value("LoadState") == "loaded" && !name.is_empty()).then(|| UnitState {
            unit: name.to_owned(),
            active: value("ActiveState").to_owned(),
            enabled: enabled.to_owned(),
            invocation: value("InvocationID").to_owned(),
            triggered_by: value("TriggeredBy").split_whitespace().map(str::to_owned).collect(),
            comes_and_goes: on_the_bus
                || value("Transient") == "yes"
                || name.starts_with("fettle-")
                || (name.ends_with(".service") && baseline::comes_and_goes(name)),
        })
    };
    let mut states: Vec<UnitState> = text.split("\n\n").filter_map(state).collect();
    states.sort_by(|a, b| a.unit.cmp(&b.unit));
    states.dedup_by(|a, b| a.unit == b.unit);
    states
}

/// Sockets, timers and paths that waited before and do not now. What is not even there any more went with a package:
/// that counts where `also_gone`. `rebooted`: what is not enabled may be of no use in another boot.
pub(super) fn stopped<'b>(
    before: &'b [UnitState],
    now: &[UnitState],
    rebooted: bool,
    also_gone: bool,
) -> Vec<(&'b str, String)> {
    let states: BTreeMap<&str, &str> =
        now.iter().map(|s| (s.unit.as_str(), s.active.as_str())).collect();
    let waits = |s: &&UnitState| !s.is_service() && !s.comes_and_goes && s.active == "active";
    let wanted = before.iter().filter(waits).filter(|s| !rebooted || s.enabled == "enabled");
    let state = |s: &'b UnitState| match states.get(s.unit.as_str()) {
        Some(is) => (*is != "active").then(|| (s.unit.as_str(), (*is).to_owned())),
        None => also_gone.then(|| (s.unit.as_str(), "gone".to_owned())),
    };
    wanted.filter_map(state).collect()
}

/// Units that were known, did not run before, and do now, though nobody knocked: the change has started them, as
/// maintainer scripts do with what is enabled and was stopped by hand. After another boot only what is enabled counts.
pub(super) fn started<'b>(
    before: &'b [UnitState],
    now: &[UnitState],
    rebooted: bool,
) -> Vec<&'b str> {
    let running: BTreeSet<&str> =
        now.iter().filter(|s| s.runs()).map(|s| s.unit.as_str()).collect();
    let could_knock: BTreeSet<&str> =
        before.iter().filter(|s| s.runs()).map(|s| s.unit.as_str()).collect();
    let counts = |s: &&UnitState| {
        s.active == "inactive"
            && running.contains(s.unit.as_str())
            && !s.comes_and_goes
            && !s.triggered_by.iter().any(|by| could_knock.contains(by.as_str()))
            && (!rebooted || s.enabled.starts_with("enabled"))
    };
    before.iter().filter(counts).map(|s| s.unit.as_str()).collect()
}

/// At the end of a change: which units has it started? Kept for an undo later, which cannot tell any more what somebody
/// has started since.
pub(super) fn note_started(tx: &Transaction<'_>) -> io::Result<Vec<String>> {
    let Ok(before) = baseline::read(&tx.directory) else { return Ok(Vec::new()) };
    let started = owned(started(&before.sight.units, &look()?, before.sight.rebooted()));
    crate::durable::replace(&tx.directory.join(STARTED), &serde_json::to_vec(&started)?)?;
    Ok(started)
}

/// Which of the units in `now` did the change in `directory` start? `later`: it has ended, perhaps long ago.
pub(super) fn started_by(
    directory: &Path,
    before: &baseline::Baseline,
    now: &[UnitState],
    later: bool,
) -> Vec<String> {
    if !later {
        return owned(started(&before.sight.units, now, before.sight.rebooted()));
    }
    let noted: Vec<String> = read_kept(directory, STARTED).unwrap_or_default();
    let runs = |name: &String| now.iter().any(|s| s.unit == *name && s.runs());
    noted.into_iter().filter(runs).collect()
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// Services with a process of their own that were started after the baseline, each known by the name of its run: no
/// clock is asked, which may have been set meanwhile. For the boot of the baseline only.
pub(super) fn runs_since(before: &[UnitState], now: &[UnitState]) -> BTreeSet<String> {
    let known: BTreeMap<&str, &str> =
        before.iter().map(|s| (s.unit.as_str(), s.invocation.as_str())).collect();
    now.iter()
        .filter(|s| s.is_service() && s.active == "active")
        .filter(|s| known.get(s.unit.as_str()) != Some(&s.invocation.as_str()))
        .map(|s| s.unit.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, active: &str, enabled: &str) -> UnitState {
        UnitState {
            unit: name.into(),
            active: active.into(),
            enabled: enabled.into(),
            ..UnitState::default()
        }
    }

    #[test]
    fn units_of_all_four_kinds_are_read_and_what_comes_and_goes_is_marked() {
        let text = "Id=a.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nInvocationID=1f\nTriggeredBy=a.socket a.timer\nBusName=\nTransient=no\n\n\
                    Id=a.socket\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nInvocationID=2f\nTransient=no\n\n\
                    Id=gone.timer\nLoadState=not-found\nActiveState=inactive\n\n\
                    Id=bus.service\nLoadState=loaded\nActiveState=inactive\nUnitFileState=static\nBusName=org.example\nTransient=no\n\n\
                    Id=firewall.service\nLoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\nBusName=org.example\nTransient=no\n\n\
                    Id=made.timer\nLoadState=loaded\nActiveState=active\nUnitFileState=transient\nTransient=yes\n\n\
                    Id=fettle-confirm.timer\nLoadState=loaded\nActiveState=active\nTransient=no\n";
        let found = parse(text);
        let told: Vec<(&str, bool)> =
            found.iter().map(|s| (s.unit.as_str(), s.comes_and_goes)).collect();
        assert_eq!(
            told,
            [
                ("a.service", false),
                ("a.socket", false),
                ("bus.service", true),
                ("fettle-confirm.timer", true),
                ("firewall.service", false),
                ("made.timer", true),
            ]
        );
        assert_eq!(found[0].triggered_by, ["a.socket", "a.timer"]);
        assert_eq!(found[0].invocation, "1f");
    }

    #[test]
    fn a_timer_socket_or_path_that_waited_must_wait_again() {
        let before = [
            unit("a.timer", "active", "enabled"),
            unit("b.socket", "active", "static"),
            unit("c.path", "active", "enabled"),
            unit("d.service", "active", "enabled"),
            unit("e.timer", "inactive", "enabled"),
            UnitState { comes_and_goes: true, ..unit("run-1.timer", "active", "transient") },
        ];
        let now = [unit("a.timer", "inactive", "enabled"), unit("b.socket", "failed", "static")];
        let names = |rebooted, gone| -> Vec<String> {
            let found = stopped(&before, &now, rebooted, gone);
            found.into_iter().map(|(name, is)| format!("{name} {is}")).collect()
        };
        assert_eq!(names(false, false), ["a.timer inactive", "b.socket failed"]);
        assert_eq!(names(false, true), ["a.timer inactive", "b.socket failed", "c.path gone"]);
        assert_eq!(names(true, false), ["a.timer inactive"]);
    }

    #[test]
    fn what_did_not_run_and_was_started_by_nobody_s_knock_was_started_by_the_change() {
        let knocked = |by: &str| vec![by.to_owned()];
        let before = [
            unit("stopped.service", "inactive", "enabled"),
            unit("stopped.timer", "inactive", "enabled"),
            unit("static.service", "inactive", "static"),
            unit("failed.service", "failed", "enabled"),
            unit("ran.service", "active", "enabled"),
            unit("idle.service", "inactive", "enabled"),
            unit("on.socket", "active", "enabled"),
            unit("off.socket", "inactive", "enabled"),
            UnitState {
                triggered_by: knocked("on.socket"),
                ..unit("on.service", "inactive", "static")
            },
            UnitState {
                triggered_by: knocked("off.socket"),
                ..unit("off.service", "inactive", "enabled")
            },
            UnitState { comes_and_goes: true, ..unit("bus.service", "inactive", "static") },
        ];
        let mut now = before.to_vec();
        for state in now.iter_mut().filter(|s| s.unit != "idle.service") {
            state.active = "active".into();
        }
        now.push(unit("new.service", "active", "enabled"));
        assert_eq!(
            started(&before, &now, false),
            ["stopped.service", "stopped.timer", "static.service", "off.socket", "off.service"]
        );
        assert_eq!(
            started(&before, &now, true),
            ["stopped.service", "stopped.timer", "off.socket", "off.service"]
        );
        assert_eq!(started(&[], &now, false), [""; 0], "an agent before kept no list");
    }

    #[test]
    fn a_service_was_started_since_if_its_run_has_another_name_whatever_the_clock_says() {
        let run = |name: &str, active: &str, invocation: &str| UnitState {
            invocation: invocation.into(),
            ..unit(name, active, "enabled")
        };
        let before = [run("a.service", "active", "1"), run("b.service", "active", "2")];
        let now = [
            run("a.service", "active", "1"),
            run("b.service", "active", "3"),
            run("c.service", "active", "4"),
            run("d.service", "inactive", "5"),
            run("a.socket", "active", "6"),
        ];
        let since: Vec<String> = runs_since(&before, &now).into_iter().collect();
        assert_eq!(since, ["b.service", "c.service"]);
    }
}
