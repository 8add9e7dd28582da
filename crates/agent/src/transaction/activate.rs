//! Activate: restart what still maps replaced files, each unit once, under policy; reboot where that is owed and allowed.

use super::turns::{self, Relations};
use super::{StepResult, Transaction, gentle, glob, io_fault};
use crate::unit;
use fettle_core::assignment::RestartRule;
use fettle_core::inventory::StaleProcess;
use fettle_core::transaction::{Fault, StepFacts};
use std::collections::BTreeSet;

/// What to do about the processes that still map replaced files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restarts {
    /// Before the others.
    pub now: Vec<String>,
    /// After all others, alone: the way into the host.
    pub last: Vec<String>,
    /// PID 1 executes itself anew (`systemctl daemon-reexec`).
    pub reexec: bool,
    /// Left alone: unit, why.
    pub spared: Vec<(String, &'static str)>,
}

impl Restarts {
    /// These services as well.
    fn add(&mut self, also: &BTreeSet<String>) {
        let new = also.iter().filter(|unit| {
            let known = |list: &[String]| list.contains(unit);
            !known(&self.now) && !known(&self.last)
        });
        let new: Vec<String> = new.cloned().collect();
        self.now.extend(new);
    }
}

/// Decides. `stale` as the inventory lists it.
pub fn decide(stale: &[StaleProcess], rule: &RestartRule) -> Restarts {
    let mut out = Restarts::default();
    // PID 1 is in a control group that not every systemd calls a unit.
    let unit_of =
        |p: &StaleProcess| if p.pid == 1 { "init.scope".to_owned() } else { p.unit.clone() };
    let units: BTreeSet<String> = stale.iter().map(unit_of).collect();
    let units = units.iter().map(String::as_str);
    for unit in units {
        let spare = |why| (unit.to_owned(), why);
        if rule.never {
            out.spared.push(spare("policy restarts nothing"));
        } else if rule.spare.iter().any(|pattern| glob(pattern, unit)) {
            out.spared.push(spare("policy spares it"));
        } else if unit == "init.scope" {
            out.reexec = true;
        } else if unit.starts_with("fettle-agent") {
            out.spared.push(spare("the agent itself: it starts anew when it has nothing to do"));
        } else if unit.is_empty() {
            out.spared.push(spare("it belongs to no unit"));
        } else if unit.ends_with(".scope") || unit.starts_with("user@") {
            out.spared.push(spare("a login session ends by itself"));
        } else if matches!(unit, "dbus.service" | "dbus-broker.service" | "systemd-logind.service")
        {
            out.spared.push(spare("restarting it would cut off every login: a reboot renews it"));
        } else if matches!(unit, "ssh.service" | "sshd.service") {
            out.last.push(unit.to_owned());
        } else if unit.ends_with(".service") {
            out.now.push(unit.to_owned());
        } else {
            out.spared.push(spare("not a service"));
        }
    }
    out
}

/// Runs the step. May be run again: what was restarted no longer maps replaced files.
///
/// # Errors
/// When processes cannot be looked at. A unit that does not come back is told by verify.
pub fn run(tx: &Transaction<'_>) -> StepResult {
    let mut facts = StepFacts::default();
    if !unit::booted() {
        facts.notes.push("systemd does not run here: nothing is restarted".into());
        return Ok(facts);
    }
    // The change may have brought other units: they are asked anew.
    restart(&tx.order.restart, &BTreeSet::new(), &Relations::default(), None, &mut facts)?;
    super::reboot::where_owed(tx, &mut facts)?;
    Ok(facts)
}

/// systemd knows the units as they are on disk now, and runs its own program as it is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Manager {
    /// It executed itself anew (`systemctl daemon-reexec`).
    executed: bool,
    /// Why it did not, though it should have.
    refused: Option<String>,
}

/// Processes that map replaced files.
fn stale() -> Result<Vec<StaleProcess>, Fault> {
    crate::inventory::processes::stale()
        .map_err(io_fault("look for processes that map replaced files"))
}

/// Has systemd execute itself anew where it maps replaced files and `rule` allows it, or read the units anew.
///
/// # Errors
/// When processes cannot be looked at, or systemd does neither.
pub(super) fn renew_manager(rule: &RestartRule) -> Result<Manager, Fault> {
    match unit::booted() {
        true => renew(decide(&stale()?, rule).reexec),
        false => Ok(Manager::default()),
    }
}

fn renew(reexec: bool) -> Result<Manager, Fault> {
    // A manager that executes itself anew reads all units anew as well.
    let anew = reexec.then(|| unit::systemctl(&["daemon-reexec"]));
    let executed = matches!(anew, Some(Ok(_)));
    if !executed {
        unit::systemctl(&["daemon-reload"]).map_err(io_fault("reload the units"))?;
    }
    let refused = anew.and_then(Result::err).map(|e| e.to_string());
    Ok(Manager { executed, refused })
}

/// Restarts by `rule` what maps replaced files, and `also` these services; used by undo as well, which has `known` all along
/// how units hang together, and whose `manager` is renewed already.
pub(super) fn restart(
    rule: &RestartRule,
    also: &BTreeSet<String>,
    known: &Relations,
    manager: Option<Manager>,
    facts: &mut StepFacts,
) -> Result<(), Fault> {
    let mut stale = self::stale()?;
    let mut restarts = decide(&stale, rule);
    restarts.add(also);
    let manager = manager.map_or_else(|| renew(restarts.reexec), Ok)?;
    facts.restarted.extend(manager.executed.then(|| "init.scope".to_owned()));
    facts.notes.extend(manager.refused);
    let gentle: Vec<String> = restarts.now.iter().filter(|u| gentle::knows(u)).cloned().collect();
    if !gentle.is_empty() {
        let renewed = gentle::renew(&gentle, &mut facts.notes)
            .map_err(io_fault("look for processes that map replaced files"))?;
        if !renewed.is_empty() {
            facts.notes.push(format!("renewed with open sockets: {}", renewed.join(", ")));
        }
        stale = self::stale()?;
        restarts = decide(&stale, rule);
        facts.restarted.extend(renewed.iter().filter(|u| !restarts.now.contains(u)).cloned());
        let others = also.iter().filter(|unit| !renewed.contains(unit)).cloned().collect();
        restarts.add(&others);
    }
    let waits = crate::inventory::sockets::listeners()
        .map_err(io_fault("list the listening sockets"))?
        .into_iter()
        .map(|listener| listener.unit)
        .collect();
    let relations = match restarts.now.len() + restarts.last.len() {
        0 | 1 => Relations::default(),
        _ if known.know(restarts.now.iter().chain(&restarts.last)) => known.clone(),
        _ => turns::relations().unwrap_or_else(|e| {
            // In another order is better than not at all.
            facts.notes.push(format!("how units hang together is not known: {e}"));
            Relations::default()
        }),
    };
    let turns = turns::turns(&restarts.now, &restarts.last, &waits, &rule.order, &relations);
    turns::restart(&turns, &mut facts.notes);
    facts.restarted.extend(restarts.now.into_iter().chain(restarts.last));
    for (unit, why) in restarts.spared {
        let who = if unit.is_empty() {
            let names: BTreeSet<_> = stale
                .iter()
                .filter(|p| p.unit.is_empty())
                .map(|p| format!("{} ({})", p.process, p.pid))
                .collect();
            names.into_iter().collect::<Vec<_>>().join(", ")
        } else {
            unit
        };
        facts.notes.push(format!("not restarted: {who}: {why}"));
        facts.spared.push(who);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stale(unit: &str) -> StaleProcess {
        StaleProcess {
            unit: unit.into(),
            process: "p".into(),
            pid: 7,
            files: vec![],
            packages: vec![],
        }
    }

    #[test]
    fn each_unit_restarts_once_sshd_last_and_the_spared_ones_not_at_all() {
        let all = [
            "nginx.service",
            "nginx.service",
            "ssh.service",
            "dbus.service",
            "init.scope",
            "session-3.scope",
            "fettle-agent.service",
            "postgresql@15-main.service",
            "",
        ];
        let rule = RestartRule { spare: vec!["postgresql@*".into()], ..RestartRule::default() };
        let found = decide(&all.map(stale), &rule);
        assert_eq!(found.now, ["nginx.service"]);
        assert_eq!(found.last, ["ssh.service"]);
        assert!(found.reexec);
        let spared: Vec<_> = found.spared.iter().map(|(u, _)| u.as_str()).collect();
        assert_eq!(
            spared,
            [
                "",
                "dbus.service",
                "fettle-agent.service",
                "postgresql@15-main.service",
                "session-3.scope"
            ]
        );
        let first = StaleProcess { pid: 1, ..stale("") };
        assert_eq!(decide(&[first], &rule), Restarts { reexec: true, ..Restarts::default() });
        let never = decide(&all.map(stale), &RestartRule { never: true, ..RestartRule::default() });
        assert!(never.now.is_empty() && never.last.is_empty() && !never.reexec);
    }
}
