//! The document's sections, one function each.

use super::super::*;
use super::checks;
use super::cycle::{self, CYCLE};
use super::duration::MAX_SECONDS;
use super::exceptions::{self, ACCEPT, ACCEPT_MISSING, EXCLUDE, PIN};
use super::gate::{self, CHECK, GATE};
use super::restart::{self, REBOOT, RESTART};
use super::section::{Keys, Section};
use super::strategy::{self, STRATEGY};
use super::{Errors, nearest};
use crate::Digest;
use crate::assignment::{ConffileRule, HalfConfiguredRule, Probe};
use crate::finding::Severity;
use crate::testbed::TestbedRule;
use toml::de::{DeTable, DeValue};

/// Windows (and blackouts, rings, ...) of one policy at most: each is looked at for every decision.
const MAX_SECTIONS: usize = 200;

const POLICY: Keys = &[
    ("name", "\"web-production\""),
    ("description", "\"Web servers that customers see\""),
    ("priority", "10"),
    ("select", "\"env=prod and role in (web, api)\""),
    ("take", "\"security\""),
    ("conffiles", "\"keep\""),
    ("approvals", "1"),
    ("emergency-approvals", "1"),
    ("emergency-start", "\"propose\""),
    ("inventory-max-age", "\"1d\""),
    ("latency-margin-percent", "50"),
    ("deadman", "\"10m\""),
    ("hung-after", "\"30m\""),
    ("half-configured", "\"repair\""),
];
const SOURCE: Keys =
    &[("origin", "\"Debian\""), ("label", "\"Debian-Security\""), ("suite", "\"stable-security\"")];
const CLASS: Keys = &[
    ("name", "\"critical\""),
    ("cvss-at-least", "9.0"),
    ("epss-at-least", "0.5"),
    ("severity-at-least", "\"high\""),
    ("kev", "true"),
    ("in-use", "true"),
    ("exposed", "true"),
    ("packages", "[\"@kernel\", \"nginx*\"]"),
    ("deadline", "\"7d\""),
    ("soak", "\"30m\""),
    ("emergency", "true"),
];
const RISK: Keys = &[
    ("name", "\"kernel\""),
    ("packages", "[\"@kernel\", \"@boot\"]"),
    ("bake", "\"24h\""),
    ("wave-percent", "10"),
    ("approvals", "2"),
];
const RING: Keys = &[
    ("name", "\"canary\""),
    ("select", "\"ring=canary\""),
    ("wave-percent", "25"),
    ("soak", "\"4h\""),
    ("after", "\"3d\""),
];
const WINDOW: Keys = &[
    ("days", "[\"sat\", \"sun\"]"),
    ("rrule", "\"FREQ=MONTHLY;BYDAY=2SA\""),
    ("after-days", "4"),
    ("start", "\"22:00\""),
    ("duration", "\"4h\""),
    ("time-zone", "\"Europe/Berlin\""),
];
const BLACKOUT: Keys =
    &[("from", "2026-12-21"), ("to", "2027-01-03"), ("reason", "\"year-end closing\"")];
const BUDGET: Keys = &[
    ("name", "\"web\""),
    ("select", "\"role=web\""),
    ("max-unavailable", "1"),
    ("min-healthy", "\"75%\""),
    ("services", "[\"nginx.service\"]"),
];
const TESTBED: Keys = &[
    ("required", "true"),
    ("worker", "\"fettle.worker=true\""),
    ("max-age", "\"7d\""),
    ("mirrored-percent", "90"),
];
const PROBE: Keys = &[
    ("http", "\"http://127.0.0.1:80/health\""),
    ("status", "200"),
    ("contains", "\"ok\""),
    ("tcp", "\"127.0.0.1:22\""),
    ("command", "\"replication\""),
];

/// Sections: name, how its header is written, its keys.
const SECTIONS: [(&str, &str, Keys); 20] = [
    ("policy", "[policy]", POLICY),
    ("source", "[[source]]", SOURCE),
    ("class", "[[class]]", CLASS),
    ("risk", "[[risk]]", RISK),
    ("strategy", "[strategy]", STRATEGY),
    ("ring", "[[ring]]", RING),
    ("window", "[[window]]", WINDOW),
    ("blackout", "[[blackout]]", BLACKOUT),
    ("exclude", "[[exclude]]", EXCLUDE),
    ("pin", "[[pin]]", PIN),
    ("accept", "[[accept]]", ACCEPT),
    ("accept-missing", "[[accept-missing]]", ACCEPT_MISSING),
    ("restart", "[restart]", RESTART),
    ("reboot", "[reboot]", REBOOT),
    ("budget", "[[budget]]", BUDGET),
    ("gate", "[gate]", GATE),
    ("probe", "[[probe]]", PROBE),
    ("testbed", "[testbed]", TESTBED),
    ("cycle", "[cycle]", CYCLE),
    ("check", "[[check]]", CHECK),
];

/// What to do about a key that is not known where it stands: spelt wrongly, or written into the wrong section.
pub(super) fn where_belongs(key: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(key, known) {
        return format!("did you mean `{near}`?");
    }
    if let Some((_, title, _)) = SECTIONS.iter().find(|(name, ..)| *name == key) {
        return format!("write `{title}`, a section of its own");
    }
    let owners: Vec<&str> = SECTIONS
        .iter()
        .filter(|(_, _, keys)| keys.iter().any(|(k, _)| *k == key))
        .map(|(_, title, _)| *title)
        .collect();
    if owners.is_empty() {
        format!("its keys are {}", known.join(", "))
    } else {
        format!("`{key}` belongs under {}", owners.join(" or "))
    }
}

/// The document as it was opened.
struct Document<'t, 'i> {
    root: &'t DeTable<'i>,
}

impl<'t, 'i> Document<'t, 'i> {
    /// A section that may be there once.
    fn one(&self, e: &mut Errors<'_>, name: &'static str) -> Option<Section<'t, 'i>> {
        let (_, title, keys) = SECTIONS.iter().find(|(n, ..)| *n == name)?;
        let value = self.root.get(name)?;
        if let DeValue::Array(items) = value.get_ref() {
            let at = items.first().map_or(value.span().start, |i| i.span().start);
            e.at(at, format!("there is only one {title}"), format!("write `{title}`, once"));
            return None;
        }
        Section::open(e, title, keys, value)
    }

    /// A section that may be there several times.
    fn many(&self, e: &mut Errors<'_>, name: &'static str) -> Vec<Section<'t, 'i>> {
        let Some((_, title, keys)) = SECTIONS.iter().find(|(n, ..)| *n == name) else {
            return Vec::new();
        };
        let Some(value) = self.root.get(name) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) => {
                if items.len() > MAX_SECTIONS {
                    let message = format!(
                        "there are {} {title} sections, at most {MAX_SECTIONS} are read",
                        items.len()
                    );
                    e.at(
                        items[MAX_SECTIONS].span().start,
                        message,
                        "split the policy into several with a `select` each",
                    );
                }
                items
                    .iter()
                    .take(MAX_SECTIONS)
                    .filter_map(|item| Section::open(e, title, keys, item))
                    .collect()
            }
            _ => {
                let message = format!("there may be several {title}: its header has two brackets");
                e.at(value.span().start, message, format!("write `{title}`"));
                Vec::new()
            }
        }
    }
}

/// Reads the whole document. Where something was complained about, what it gives is of no use.
pub(super) fn policy(e: &mut Errors<'_>, root: &DeTable<'_>) -> Policy {
    for key in root.keys() {
        let name = key.get_ref().as_ref();
        if !SECTIONS.iter().any(|(n, ..)| *n == name) {
            let names: Vec<&str> = SECTIONS.iter().map(|(n, ..)| *n).collect();
            let hint = match nearest(name, &names)
                .and_then(|near| SECTIONS.iter().find(|(n, ..)| *n == near))
            {
                Some((_, title, _)) => format!("did you mean `{title}`?"),
                None => where_belongs(name, &names).replace("its keys are", "sections are"),
            };
            let shown: String = name.chars().take(60).collect();
            e.at(key.span().start, format!("a policy has no section `{shown}`"), hint);
        }
    }
    let document = Document { root };
    let mut policy = head(e, &document);
    policy.sources = document.many(e, "source").iter().map(|s| source(e, s)).collect();
    let sections = document.many(e, "class");
    policy.classes = checks::classes(e, sections, class);
    let sections = document.many(e, "risk");
    policy.risks = checks::risks(e, sections, risk);
    let sections = document.many(e, "ring");
    policy.rings = checks::rings(e, sections, ring);
    let section = document.one(e, "strategy");
    let read = section.as_ref().map_or(Some(Strategy::Rings), |s| strategy::strategy(e, s));
    if let Some(read) = read {
        strategy::with_rings(e, root, &read);
        policy.strategy = read;
    }
    policy.windows = document.many(e, "window").iter().map(|s| window(e, s)).collect();
    policy.cycle = document.one(e, "cycle").map(|s| cycle::cycle(e, &s));
    policy.blackouts = document.many(e, "blackout").iter().map(|s| blackout(e, s)).collect();
    let sections = document.many(e, "exclude");
    policy.exclusions = sections.iter().map(|s| exceptions::exclusion(e, s)).collect();
    policy.pins = document.many(e, "pin").iter().map(|s| exceptions::pin(e, s)).collect();
    let sections = document.many(e, "accept");
    policy.acceptances = sections.iter().map(|s| exceptions::acceptance(e, s)).collect();
    let sections = document.many(e, "accept-missing");
    policy.accept_missing = sections.iter().map(|s| exceptions::missing(e, s)).collect();
    if let Some(section) = document.one(e, "restart") {
        restart::restart(e, &section, &mut policy);
    }
    if let Some(section) = document.one(e, "reboot") {
        restart::reboot(e, &section, &mut policy);
    }
    let sections = document.many(e, "budget");
    policy.budgets = checks::budgets(e, sections, budget);
    policy.testbed = document.one(e, "testbed").map(|s| testbed(e, &s));
    let section = document.one(e, "gate");
    policy.gate = section.as_ref().map(|s| gate::gate(e, s)).unwrap_or_default();
    let checks = document.many(e, "check");
    gate::asks(e, section.as_ref(), &checks, &mut policy);
    policy.probes = document.many(e, "probe").iter().filter_map(|s| probe(e, s)).collect();
    policy
}

fn head(e: &mut Errors<'_>, document: &Document<'_, '_>) -> Policy {
    let mut policy = Policy::bare(Digest::of(e.text.as_bytes()));
    let Some(s) = document.one(e, "policy") else {
        if !document.root.contains_key("policy") {
            e.at(
                0,
                "the policy has no [policy] section",
                "add `[policy]` with `name = \"…\"` and `select = \"…\"`",
            );
        }
        return policy;
    };
    s.needs(e, &["name", "select"]);
    policy.name = s.name(e, "name").unwrap_or_default();
    policy.description = s.text(e, "description").unwrap_or_default();
    policy.priority =
        s.integer(e, "priority", i64::from(i32::MIN)..=i64::from(i32::MAX)).map_or(0, |n| n as i32);
    policy.select = s.selector(e, "select").unwrap_or(Selector::All);
    policy.take = s
        .word(
            e,
            "take",
            &[("security", Take::Security), ("all", Take::All), ("fixes", Take::Fixes)],
        )
        .unwrap_or_default();
    let conffiles = [("keep", ConffileRule::Keep), ("replace", ConffileRule::Replace)];
    policy.conffiles = s.word(e, "conffiles", &conffiles).unwrap_or_default();
    let half = [("refuse", HalfConfiguredRule::Refuse), ("repair", HalfConfiguredRule::Repair)];
    policy.half_configured = s.word(e, "half-configured", &half).unwrap_or_default();
    policy.approvals = s.count(e, "approvals", 0..=100).unwrap_or(0);
    policy.emergency_approvals = s.count(e, "emergency-approvals", 0..=100);
    if policy.emergency_approvals.is_some_and(|n| n > policy.approvals) {
        let message =
            format!("an emergency needs more approvals than anything else ({})", policy.approvals);
        let hint = "write fewer, or take it away: then it needs as many";
        e.at(s.place("emergency-approvals"), message, hint);
    }
    let starts = [("propose", CycleStart::Propose), ("automatic", CycleStart::Automatic)];
    policy.emergency_start = s.word(e, "emergency-start", &starts).unwrap_or_default();
    policy.inventory_max_age_seconds =
        s.duration(e, "inventory-max-age", 1..=MAX_SECONDS).unwrap_or(86_400);
    policy.latency_margin_percent = s.count(e, "latency-margin-percent", 0..=100_000);
    let mut seconds =
        |name, from| s.duration(e, name, from..=86_400).and_then(|n| u32::try_from(n).ok());
    policy.deadman_seconds = seconds("deadman", 1);
    policy.hung_after_seconds = seconds("hung-after", 60);
    policy
}

fn source(e: &mut Errors<'_>, s: &Section<'_, '_>) -> SourceRule {
    if !["origin", "label", "suite"].iter().any(|k| s.has(k)) {
        e.at(
            s.at,
            "this [[source]] allows everything",
            "add `origin`, `label` or `suite`, or take the section away",
        );
    }
    SourceRule { origin: s.text(e, "origin"), label: s.text(e, "label"), suite: s.text(e, "suite") }
}

fn class(e: &mut Errors<'_>, s: &Section<'_, '_>) -> ClassRule {
    s.needs(e, &["name", "deadline"]);
    let words =
        [Severity::Negligible, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
    ClassRule {
        name: s.name(e, "name").unwrap_or_default(),
        cvss_at_least: s.number(e, "cvss-at-least", 0.0..=10.0),
        epss_at_least: s.number(e, "epss-at-least", 0.0..=1.0),
        severity_at_least: s.word(e, "severity-at-least", &words.map(|w| (w.word(), w))),
        kev: s.flag(e, "kev"),
        in_use: s.flag(e, "in-use"),
        exposed: s.flag(e, "exposed"),
        packages: packages(e, s),
        deadline_seconds: s.duration(e, "deadline", 0..=MAX_SECONDS).unwrap_or(0),
        soak_seconds: s.duration(e, "soak", 0..=MAX_SECONDS),
        emergency: s.flag(e, "emergency").unwrap_or(false),
    }
}

/// `@kernel`, or names with globs.
fn packages(e: &mut Errors<'_>, s: &Section<'_, '_>) -> Vec<String> {
    let mut out = Vec::new();
    for (pattern, at) in s.text_or_texts(e, "packages").unwrap_or_default() {
        let class = pattern.strip_prefix('@');
        if class.is_some_and(|word| PackageClass::of_word(word).is_none()) {
            let all: Vec<String> =
                PackageClass::ALL.iter().map(|class| format!("@{}", class.word())).collect();
            let shown: String = pattern.chars().take(60).collect();
            let hint = format!("write one of {}, or names of packages", all.join(", "));
            e.at(at, format!("`{shown}` is no class of packages"), hint);
        } else if pattern.is_empty() || pattern.contains(char::is_whitespace) {
            let hint = format!("write {}", "`packages = [\"@kernel\", \"nginx*\"]`");
            e.at(at, format!("`{pattern}` is no name of a package"), hint);
        }
        out.push(pattern.to_owned());
    }
    out
}

fn risk(e: &mut Errors<'_>, s: &Section<'_, '_>) -> RiskRule {
    s.needs(e, &["name", "packages"]);
    if !["bake", "wave-percent", "approvals"].iter().any(|key| s.has(key)) {
        let hint = "write `bake`, `wave-percent` or `approvals`";
        e.at(s.at, format!("{} asks for nothing", s.title), hint);
    }
    RiskRule {
        name: s.name(e, "name").unwrap_or_default(),
        packages: packages(e, s),
        bake_seconds: s.duration(e, "bake", 0..=MAX_SECONDS),
        wave_percent: s.count(e, "wave-percent", 1..=100),
        approvals: s.count(e, "approvals", 0..=100),
    }
}

fn ring(e: &mut Errors<'_>, s: &Section<'_, '_>) -> RingRule {
    s.needs(e, &["name"]);
    RingRule {
        name: s.name(e, "name").unwrap_or_default(),
        select: s.selector(e, "select").unwrap_or(Selector::All),
        wave_percent: s.count(e, "wave-percent", 1..=100).unwrap_or(100),
        soak_seconds: s.duration(e, "soak", 0..=MAX_SECONDS).unwrap_or(0),
        after_seconds: s.duration(e, "after", 0..=MAX_SECONDS).unwrap_or(0),
    }
}

fn window(e: &mut Errors<'_>, s: &Section<'_, '_>) -> Window {
    s.needs(e, &["start", "duration", "time-zone"]);
    let (days, recurrence) = recurring_days(e, s, "the window opens");
    Window {
        days,
        recurrence,
        after_days: s.count(e, "after-days", 0..=27).and_then(|n| n.try_into().ok()).unwrap_or(0),
        start_minute: s.time_of_day(e, "start").unwrap_or(0),
        duration_seconds: s.duration(e, "duration", 1..=7 * 86_400).unwrap_or(0),
        time_zone: s.time_zone(e, "time-zone").unwrap_or_default(),
    }
}

/// `days` or `rrule`: on which days something recurs.
pub(super) fn recurring_days(
    e: &mut Errors<'_>,
    s: &Section<'_, '_>,
    what: &str,
) -> (Vec<u8>, Option<Recurrence>) {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let mut days = Vec::new();
    let written = s.texts(e, "days");
    if written.as_ref().is_some_and(Vec::is_empty) {
        e.at(
            s.place("days"),
            format!("{what} on no day"),
            "name days, or take `days` away for every day",
        );
    }
    for (word, at) in written.unwrap_or_default() {
        match DAYS.iter().position(|d| *d == word) {
            Some(n) => days.push(n as u8 + 1),
            None => {
                let start: String = word.to_ascii_lowercase().chars().take(3).collect();
                let hint = match DAYS.iter().find(|d| **d == start) {
                    Some(day) => format!("write \"{day}\""),
                    None => format!("days are {}", DAYS.map(|d| format!("\"{d}\"")).join(", ")),
                };
                let shown: String = word.chars().take(60).collect();
                e.at(at, format!("`{shown}` is no day of the week"), hint);
            }
        }
    }
    days.sort_unstable();
    days.dedup();
    if s.has("days") && s.has("rrule") {
        e.at(
            s.place("rrule"),
            format!("{} has `days` and `rrule`", s.title),
            "take one of them away",
        );
    }
    let rule = s.text_at(e, "rrule").and_then(|(text, span)| {
        Recurrence::parse(text).map_err(|error| e.at(span.start, error.message, error.hint)).ok()
    });
    (days, rule)
}

fn blackout(e: &mut Errors<'_>, s: &Section<'_, '_>) -> Blackout {
    s.needs(e, &["from", "to", "reason"]);
    let (from, to) = (s.date(e, "from").unwrap_or_default(), s.date(e, "to").unwrap_or_default());
    if s.has("from") && s.has("to") && from > to {
        e.at(
            s.place("to"),
            "the blackout ends before it begins",
            "`to` is its last day: write one not before `from`",
        );
    }
    Blackout { from, to, reason: s.text(e, "reason").unwrap_or_default() }
}

fn budget(e: &mut Errors<'_>, s: &Section<'_, '_>) -> BudgetRule {
    s.needs(e, &["name", "select"]);
    if !s.has("max-unavailable") && !s.has("min-healthy") {
        let hint = "write `max-unavailable = 1`, `min-healthy = \"75%\"`, or both";
        e.at(s.at, format!("{} limits nothing", s.title), hint);
    }
    let min_healthy = s.share(e, "min-healthy");
    if min_healthy == Some(Share::Percent(100)) {
        let hint = "leave room for one host at least: `min-healthy = \"75%\"`";
        e.at(s.place("min-healthy"), "no host could ever be patched", hint);
    }
    let mut services = Vec::new();
    for (unit, at) in s.texts(e, "services").unwrap_or_default() {
        if !unit.contains('.') || unit.contains(['*', '?', ' ']) {
            let hint = match unit.split_once('.') {
                None => format!("write its whole name: \"{unit}.service\""),
                Some(_) => "write the whole name of one unit: \"nginx.service\"".to_owned(),
            };
            e.at(at, format!("`{unit}` is no unit"), hint);
        }
        services.push(unit.to_owned());
    }
    services.sort();
    services.dedup();
    BudgetRule {
        name: s.text(e, "name").unwrap_or_default(),
        select: s.selector(e, "select").unwrap_or(Selector::All),
        max_unavailable: s.share(e, "max-unavailable"),
        min_healthy,
        services,
    }
}

fn testbed(e: &mut Errors<'_>, s: &Section<'_, '_>) -> TestbedRule {
    let usual = TestbedRule::default();
    TestbedRule {
        required: s.flag(e, "required").unwrap_or(usual.required),
        worker: s.selector(e, "worker").unwrap_or(usual.worker),
        max_age_seconds: s.duration(e, "max-age", 1..=MAX_SECONDS).unwrap_or(usual.max_age_seconds),
        mirrored_percent: s.count(e, "mirrored-percent", 0..=100).unwrap_or(usual.mirrored_percent),
    }
}

/// What the host is asked, or asks itself: one of the three kinds of probes.
pub(super) fn probe(e: &mut Errors<'_>, s: &Section<'_, '_>) -> Option<Probe> {
    let kinds: Vec<&str> = ["http", "tcp", "command"].into_iter().filter(|k| s.has(k)).collect();
    let &[kind] = &kinds[..] else {
        let what = if kinds.is_empty() { "nothing" } else { "several things" };
        let title = s.title;
        let hint =
            format!("write one of `http`, `tcp` and `command`, and a {title} for each further one");
        e.at(s.at, format!("the {title} asks {what}"), hint);
        return None;
    };
    if kind != "http" {
        for key in ["status", "contains"].into_iter().filter(|k| s.has(k)) {
            e.at(s.place(key), format!("`{key}` goes with `http` only"), "take it away");
        }
    }
    checks::probe(e, s, kind)
}
