//! Which settings of a policy differ from another's, in the words of its text.
//!
//! Both policies are compared as the documents they serialise to, so that no field, of today or of tomorrow, is
//! forgotten: two policies that differ in anything but the digest of their text have at least one setting here.

use super::parse::duration_text;
use super::{Policy, Selector};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Where it stands: `policy.approvals`, `ring canary.soak`.
    pub what: String,
    /// As it is. `None`: it is not there.
    pub from: Option<String>,
    /// As it would be. `None`: it would not be there.
    pub to: Option<String>,
}

/// The sections of a policy's text, by the field that holds them.
const SECTIONS: [(&str, &str); 19] = [
    ("sources", "source"),
    ("classes", "class"),
    ("risks", "risk"),
    ("strategy", "strategy"),
    ("rings", "ring"),
    ("windows", "window"),
    ("blackouts", "blackout"),
    ("exclusions", "exclude"),
    ("pins", "pin"),
    ("acceptances", "accept"),
    ("restart", "restart"),
    ("reboot", "reboot"),
    ("budgets", "budget"),
    ("gate", "gate"),
    ("checks", "check"),
    ("probes", "probe"),
    ("accept_missing", "accept-missing"),
    ("testbed", "testbed"),
    ("cycle", "cycle"),
];

/// What tells the entries of a list apart, where it is there and different in each of them.
const KEYS: [&str; 3] = ["name", "package", "finding"];

/// What differs between two policies, in the order of the fields' names.
pub fn settings(from: &Policy, to: &Policy) -> Vec<Setting> {
    let mut out = Vec::new();
    let (from, to) = (document(from), document(to));
    let fields: BTreeMap<&String, ()> = from.keys().chain(to.keys()).map(|key| (key, ())).collect();
    for key in fields.into_keys() {
        let section = SECTIONS.iter().find(|(field, _)| field == key).map(|(_, word)| *word);
        let path = match section {
            Some(section) => section.to_owned(),
            None => format!("policy.{}", word(key)),
        };
        compare(&path, key, from.get(key), to.get(key), &mut out);
    }
    out
}

/// The policy without what changes with every edit of its text.
fn document(policy: &Policy) -> serde_json::Map<String, Value> {
    match serde_json::to_value(policy) {
        Ok(Value::Object(mut fields)) => {
            fields.remove("digest");
            // They are sections of their own in the text.
            let gate = fields.get_mut("gate").and_then(Value::as_object_mut);
            let checks = gate.and_then(|gate| gate.remove("checks"));
            fields.insert("checks".to_owned(), checks.unwrap_or_else(|| Value::Array(Vec::new())));
            // They stand in a section that has other fields of its own.
            let exempt = fields.remove("restart_exempt");
            if let Some(restart) = fields.get_mut("restart").and_then(Value::as_object_mut) {
                restart.extend(exempt.map(|who| ("exempt".to_owned(), who)));
            }
            let (when, exempt) = (fields.remove("reboot"), fields.remove("reboot_exempt"));
            let reboot = when.map(|when| ("when".to_owned(), when));
            let reboot = reboot.into_iter().chain(exempt.map(|who| ("exempt".to_owned(), who)));
            fields.insert("reboot".to_owned(), Value::Object(reboot.collect()));
            fields
        }
        // Invariant: a policy is a struct of types that JSON has.
        _ => serde_json::Map::new(),
    }
}

/// A field's name as it is written in the text.
fn word(key: &str) -> String {
    let unit = ["_seconds", "_minute"].into_iter().find_map(|unit| key.strip_suffix(unit));
    unit.unwrap_or(key).replace('_', "-")
}

fn compare(
    path: &str,
    key: &str,
    from: Option<&Value>,
    to: Option<&Value>,
    out: &mut Vec<Setting>,
) {
    if from == to {
        return;
    }
    match (from, to) {
        (Some(Value::Array(a)), Some(Value::Array(b)))
            if a.iter().chain(b).any(Value::is_object) =>
        {
            lists(path, a, b, out);
        }
        (Some(Value::Object(a)), Some(Value::Object(b)))
            if selector(from).is_none() && selector(to).is_none() =>
        {
            let keys: BTreeMap<&String, ()> = a.keys().chain(b.keys()).map(|k| (k, ())).collect();
            for key in keys.into_keys() {
                compare(&format!("{path}.{}", word(key)), key, a.get(key), b.get(key), out);
            }
        }
        _ => match (text(key, from), text(key, to)) {
            (None, None) => {}
            (from, to) => out.push(Setting { what: path.to_owned(), from, to }),
        },
    }
}

/// Lists of sections: entry by entry where a name tells them apart, else what is gone and what is new.
fn lists(path: &str, from: &[Value], to: &[Value], out: &mut Vec<Setting>) {
    let before = out.len();
    let key = KEYS.into_iter().find(|key| names(from, key).is_some() && names(to, key).is_some());
    let (a, b) = match key {
        Some(key) => {
            let (a, b) = (names(from, key).unwrap_or_default(), names(to, key).unwrap_or_default());
            for (name, entry) in &a {
                let path = format!("{path} {name}");
                match b.iter().find(|(other, _)| other == name) {
                    Some((_, other)) => compare(&path, "", Some(entry), Some(other), out),
                    None => out.push(Setting { what: path, from: text("", Some(entry)), to: None }),
                }
            }
            for (name, entry) in b.iter().filter(|(name, _)| !a.iter().any(|(n, _)| n == name)) {
                let (what, to) = (format!("{path} {name}"), text("", Some(entry)));
                out.push(Setting { what, from: None, to });
            }
            let order = |of: &[(&str, &Value)], also: &[(&str, &Value)]| -> Vec<String> {
                let both = of.iter().filter(|(name, _)| also.iter().any(|(n, _)| n == name));
                both.map(|(name, _)| (*name).to_owned()).collect()
            };
            (order(&a, &b), order(&b, &a))
        }
        None => {
            let shown = |of: &[Value]| -> Vec<String> {
                of.iter().filter_map(|entry| text("", Some(entry))).collect()
            };
            let (a, b) = (shown(from), shown(to));
            for entry in without(&a, &b) {
                out.push(Setting { what: path.to_owned(), from: Some(entry), to: None });
            }
            for entry in without(&b, &a) {
                out.push(Setting { what: path.to_owned(), from: None, to: Some(entry) });
            }
            (a, b)
        }
    };
    // The first class or ring that matches counts: the order is a setting too.
    let same_entries = key.is_some() || out.len() == before;
    if same_entries && a != b {
        let what = format!("order of the {path} sections");
        out.push(Setting { what, from: Some(a.join(", ")), to: Some(b.join(", ")) });
    }
}

/// The entries by that key, if each has one and no two have the same.
fn names<'v>(entries: &'v [Value], key: &str) -> Option<Vec<(&'v str, &'v Value)>> {
    let mut out: Vec<(&str, &Value)> = Vec::new();
    for entry in entries {
        let name = entry.get(key)?.as_str()?;
        if out.iter().any(|(other, _)| *other == name) {
            return None;
        }
        out.push((name, entry));
    }
    Some(out)
}

/// What `of` has more of than `other`.
fn without(of: &[String], other: &[String]) -> Vec<String> {
    let mut left: Vec<&String> = other.iter().collect();
    let mut out = Vec::new();
    for entry in of {
        match left.iter().position(|l| *l == entry) {
            Some(at) => {
                left.remove(at);
            }
            None => out.push(entry.clone()),
        }
    }
    out
}

fn selector(value: Option<&Value>) -> Option<Selector> {
    value.filter(|v| v.get("op").is_some()).and_then(|v| Selector::deserialize(v).ok())
}

/// A value as the text would have it. `None`: it is not there.
fn text(key: &str, value: Option<&Value>) -> Option<String> {
    let value = value?;
    if let Some(selector) = selector(Some(value)) {
        return Some(selector.to_string());
    }
    Some(match value {
        Value::Null => return None,
        Value::Number(n) if key.ends_with("_seconds") => match n.as_u64() {
            Some(seconds) => duration_text(seconds),
            None => n.to_string(),
        },
        Value::Number(n) if key.ends_with("_minute") => match n.as_u64() {
            Some(minutes) => format!("{:02}:{:02}", minutes / 60, minutes % 60),
            None => n.to_string(),
        },
        // Scores are kept in 32 bits: 0.1 is not to be read as 0.10000000149011612.
        Value::Number(n) => match n.as_f64().filter(|_| n.is_f64()) {
            Some(score) => (score as f32).to_string(),
            None => n.to_string(),
        },
        Value::String(s) => s.clone(),
        Value::Bool(b) => b.to_string(),
        Value::Array(items) => {
            let items = items.iter().filter_map(|item| text("", Some(item)));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().filter_map(|(key, value)| {
                Some(format!("{}={}", word(key), text(key, Some(value))?))
            });
            fields.collect::<Vec<_>>().join(", ")
        }
    })
}

#[cfg(test)]
mod tests;
