//! What must hold between sections, and inside a probe.

use super::super::{BudgetRule, ClassRule, RingRule, RiskRule, Selector};
use super::Errors;
use super::section::Section;
use crate::assignment::Probe;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Reads named sections and complains where two have one name.
fn named<'t, 'i, T>(
    e: &mut Errors<'_>,
    sections: Vec<Section<'t, 'i>>,
    read: impl Fn(&mut Errors<'_>, &Section<'t, 'i>) -> T,
    name: impl Fn(&T) -> &str,
) -> Vec<(Section<'t, 'i>, T)> {
    let mut out = Vec::new();
    let mut seen = BTreeMap::new();
    for section in sections {
        let value = read(e, &section);
        let own = name(&value).to_owned();
        if !own.is_empty() && seen.insert(own.clone(), ()).is_some() {
            let message = format!("there is a {} named `{own}` already", section.title);
            e.at(section.place("name"), message, "give each a name of its own");
        }
        out.push((section, value));
    }
    out
}

/// The rings, each of which some host must be able to reach.
pub(super) fn rings<'t, 'i>(
    e: &mut Errors<'_>,
    sections: Vec<Section<'t, 'i>>,
    read: impl Fn(&mut Errors<'_>, &Section<'t, 'i>) -> RingRule,
) -> Vec<RingRule> {
    let rings = named(e, sections, read, |r| &r.name);
    // A selector that did not parse reads as `all`: it has its own complaint.
    let takes_all = |(s, r): &&(Section<'_, '_>, RingRule)| {
        r.select == Selector::All && (!s.has("select") || s.is_selector("select"))
    };
    let catch_all = rings.iter().position(|r| takes_all(&r));
    if let Some(first) = catch_all {
        for (section, ring) in &rings[first + 1..] {
            let message = format!(
                "no host can be in ring `{}`: `{}` before it takes them all",
                ring.name, rings[first].1.name
            );
            e.at(section.at, message, "put the ring without `select` last");
        }
    }
    for ((_, before), (section, ring)) in rings.iter().zip(rings.iter().skip(1)) {
        if ring.after_seconds < before.after_seconds {
            let message = format!(
                "ring `{}` would begin before `{}`, which comes before it",
                ring.name, before.name
            );
            let hint = "write an `after` that is not shorter, or change their order";
            let key = if section.has("after") { "after" } else { "name" };
            e.at(section.place(key), message, hint);
        }
    }
    rings.into_iter().map(|(_, r)| r).collect()
}

/// The classes, each of which some finding must be able to reach.
pub(super) fn classes<'t, 'i>(
    e: &mut Errors<'_>,
    sections: Vec<Section<'t, 'i>>,
    read: impl Fn(&mut Errors<'_>, &Section<'t, 'i>) -> ClassRule,
) -> Vec<ClassRule> {
    const CONDITIONS: [&str; 7] = [
        "cvss-at-least",
        "epss-at-least",
        "severity-at-least",
        "kev",
        "in-use",
        "exposed",
        "packages",
    ];
    let classes = named(e, sections, read, |c| &c.name);
    let open = |s: &Section<'_, '_>| !CONDITIONS.iter().any(|c| s.has(c));
    for (section, class) in classes.iter().filter(|(s, c)| c.emergency && open(s)) {
        let message = format!("every finding would be an emergency by class `{}`", class.name);
        e.at(section.place("emergency"), message, "add a condition such as `kev = true`");
    }
    if let Some(first) = classes.iter().position(|(s, _)| open(s)) {
        for (section, class) in &classes[first + 1..] {
            let message = format!(
                "no finding can be of class `{}`: `{}` before it takes them all",
                class.name, classes[first].1.name
            );
            e.at(section.at, message, "put the class without conditions last");
        }
    }
    classes.into_iter().map(|(_, c)| c).collect()
}

/// The rules about packages.
pub(super) fn risks<'t, 'i>(
    e: &mut Errors<'_>,
    sections: Vec<Section<'t, 'i>>,
    read: impl Fn(&mut Errors<'_>, &Section<'t, 'i>) -> RiskRule,
) -> Vec<RiskRule> {
    named(e, sections, read, |r| &r.name).into_iter().map(|(_, r)| r).collect()
}

/// The budgets.
pub(super) fn budgets<'t, 'i>(
    e: &mut Errors<'_>,
    sections: Vec<Section<'t, 'i>>,
    read: impl Fn(&mut Errors<'_>, &Section<'t, 'i>) -> BudgetRule,
) -> Vec<BudgetRule> {
    named(e, sections, read, |b| &b.name).into_iter().map(|(_, b)| b).collect()
}

/// A probe of that kind.
pub(super) fn probe(e: &mut Errors<'_>, s: &Section<'_, '_>, kind: &str) -> Option<Probe> {
    let text = s.text(e, kind)?;
    let at = s.place(kind);
    match kind {
        "http" => {
            if let Err(hint) = check_url(&text) {
                e.at(at, "the probe has no address of the host to ask", hint);
            }
            let status = s.count(e, "status", 100..=599).unwrap_or(200);
            let contains = s.text(e, "contains").unwrap_or_default();
            Some(Probe::Http { url: text, status: u16::try_from(status).unwrap_or(200), contains })
        }
        "tcp" => {
            if text.parse::<SocketAddr>().is_err() {
                let hint =
                    "write address and port: `tcp = \"127.0.0.1:22\"` or `tcp = \"[::1]:22\"`";
                e.at(at, "`tcp` must be an address with a port", hint);
            }
            Some(Probe::Tcp { address: text })
        }
        _ => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if text.starts_with(['.', '-']) || !text.chars().all(allowed) {
                let hint = "write the name of a file in the host's /etc/fettle/probes.d, without its directory";
                e.at(at, "`command` must be a file name", hint);
            }
            Some(Probe::Command { name: text })
        }
    }
}

/// Plain HTTP to an address: `http://127.0.0.1:80/path`.
fn check_url(url: &str) -> Result<(), String> {
    let example = "write one such as `http = \"http://127.0.0.1:80/health\"`";
    let Some(rest) = url.strip_prefix("http://") else {
        return Err(format!("a probe speaks plain HTTP to the host itself: {example}"));
    };
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("take the white space away: {example}"));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let bare = authority.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(authority);
    let known = authority.parse::<SocketAddr>().is_ok() || bare.parse::<IpAddr>().is_ok();
    if known { Ok(()) } else { Err(format!("names are not looked up: {example}")) }
}
