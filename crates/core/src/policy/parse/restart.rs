//! What is restarted, in which order, and who is not.

use super::super::{Policy, Selector};
use super::Errors;
use super::section::{Keys, Section};
use crate::assignment::{RebootRule, RestartRule};

pub(super) const RESTART: Keys = &[
    ("never", "true"),
    ("spare", "[\"postgresql@*.service\"]"),
    ("order", "[\"postgresql@*.service\", \"app.service\"]"),
    ("exempt", "\"role=db\""),
];
pub(super) const REBOOT: Keys = &[("when", "\"needed\""), ("exempt", "\"host.tag=database\"")];

pub(super) fn restart(e: &mut Errors<'_>, s: &Section<'_, '_>, policy: &mut Policy) {
    let (spare, order) = (units(e, s, "spare"), units(e, s, "order"));
    policy.restart = RestartRule { never: s.flag(e, "never").unwrap_or(false), spare, order };
    policy.restart_exempt = exempt(e, s, "restart");
    if policy.restart.never {
        let idle = ["order", "exempt"].into_iter().find(|key| s.has(key));
        if let Some(key) = idle {
            let hint = format!("take `never` or `{key}` away");
            e.at(s.place(key), format!("`{key}` says nothing where nothing is restarted"), hint);
        }
    }
}

pub(super) fn reboot(e: &mut Errors<'_>, s: &Section<'_, '_>, policy: &mut Policy) {
    s.needs(e, &["when"]);
    policy.reboot = s
        .word(e, "when", &[("never", RebootRule::Never), ("needed", RebootRule::WhenNeeded)])
        .unwrap_or_default();
    policy.reboot_exempt = exempt(e, s, "reboot");
}

/// Who is left out of it.
fn exempt(e: &mut Errors<'_>, s: &Section<'_, '_>, what: &str) -> Option<Selector> {
    let exempt = s.selector(e, "exempt");
    if exempt == Some(Selector::All) && s.is_selector("exempt") {
        let hint = match what {
            "reboot" => "write `when = \"never\"`",
            _ => "write `never = true`",
        };
        e.at(s.place("exempt"), "every host would be exempt", hint);
    }
    exempt
}

/// Names of units, with globs.
fn units(e: &mut Errors<'_>, s: &Section<'_, '_>, key: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (unit, at) in s.texts(e, key).unwrap_or_default() {
        if unit.is_empty() || !unit.contains(['.', '*']) {
            let hint = format!("write the whole name of the unit: \"{unit}.service\"");
            e.at(at, format!("`{unit}` matches no unit"), hint);
        }
        out.push(unit.to_owned());
    }
    out
}
