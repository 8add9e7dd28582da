//! `[gate]` and `[[check]]`: what must hold between waves, who is asked, and what a red gate undoes.

use super::super::{
    APPROVAL, CheckKind, CheckRule, EACH_WAVE, Expect, GateRule, HOSTS, HostList, HostTest, PROOF,
    PerformanceRule, Policy, Strategy, UndoRule,
};
use super::Errors;
use super::duration::MAX_SECONDS;
use super::nearest;
use super::read::probe;
use super::section::{Keys, Section};
use crate::assignment::Probe;
use std::collections::BTreeMap;

pub(super) const GATE: Keys = &[
    ("bake", "\"5m\""),
    ("max-failures", "0"),
    ("min-success-percent", "100"),
    ("silent-after", "\"15m\""),
    ("undo-wave", "true"),
    ("undo", "\"wave\""),
    ("require-proof", "true"),
    ("approval", "\"before:broad\""),
];
pub(super) const CHECK: Keys = &[
    ("name", "\"errors\""),
    ("kind", "\"prometheus\""),
    ("fail-after", "\"1h\""),
    ("url", "\"https://prometheus.example.org\""),
    ("query", "\"sum(rate(http_errors_total[5m]))\""),
    ("below", "0.5"),
    ("above", "0.99"),
    ("equals", "1"),
    ("for", "\"10m\""),
    ("test", "\"shop\""),
    ("command", "\"shop\""),
    ("min-percent", "100"),
    ("http", "\"http://127.0.0.1:80/health\""),
    ("status", "200"),
    ("contains", "\"ok\""),
    ("tcp", "\"127.0.0.1:22\""),
    ("margin-percent", "20"),
    ("min-samples", "30"),
    ("confidence", "0.99"),
];

/// As many tests a host is asked at once.
const MAX_TESTS: usize = 16;
/// And it measures so many things.
const MAX_PROBES: usize = 8;
/// Longest query and address, in bytes.
const MAX_QUERY: usize = 8192;
/// Longest name of a file, in bytes (`NAME_MAX`).
const MAX_FILE_NAME: usize = 255;
/// A number must have been good for so long at most, in seconds: it is asked for whole each time.
const MAX_FOR: u64 = 86_400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Prometheus,
    Webhook,
    Host,
    Performance,
}

impl Kind {
    const WORDS: [(&'static str, Self); 4] = [
        ("prometheus", Self::Prometheus),
        ("webhook", Self::Webhook),
        ("host", Self::Host),
        ("performance", Self::Performance),
    ];

    /// The keys that mean something with this kind, beside those of every check.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Prometheus => &["url", "query", "below", "above", "equals", "for"],
            Self::Webhook => &["url"],
            Self::Host => &["test", "command", "min-percent"],
            Self::Performance => &[
                "http",
                "status",
                "contains",
                "tcp",
                "command",
                "margin-percent",
                "min-samples",
                "confidence",
            ],
        }
    }
}

/// Reads `[gate]`.
pub(super) fn gate(e: &mut Errors<'_>, s: &Section<'_, '_>) -> GateRule {
    let usual = GateRule::default();
    if s.has("undo") && s.has("undo-wave") {
        e.at(
            s.key_place("undo-wave"),
            "the gate has `undo` and `undo-wave`",
            "take `undo-wave` away: `undo = \"wave\"` says the same",
        );
    }
    let words = [UndoRule::None, UndoRule::Failed, UndoRule::Wave, UndoRule::All];
    let undo = s.word(e, "undo", &words.map(|w| (w.word(), w)));
    GateRule {
        bake_seconds: s.duration(e, "bake", 0..=MAX_SECONDS).unwrap_or(usual.bake_seconds),
        max_failures: s.count(e, "max-failures", 0..=1_000_000).unwrap_or(usual.max_failures),
        min_success_percent: s
            .count(e, "min-success-percent", 0..=100)
            .unwrap_or(usual.min_success_percent),
        silent_after_seconds: s
            .duration(e, "silent-after", 1..=MAX_SECONDS)
            .unwrap_or(usual.silent_after_seconds),
        // One meaning is written in one way: what an older policy could say is kept as it kept it.
        undo_wave: s.flag(e, "undo-wave").unwrap_or(undo == Some(UndoRule::Wave)),
        undo: undo.filter(|rule| !matches!(rule, UndoRule::None | UndoRule::Wave)),
        require_proof: s.flag(e, "require-proof").unwrap_or(false),
        approval: Vec::new(),
        checks: Vec::new(),
    }
}

/// What hosts are asked beyond this is not asked at all: a gate would wait for it for ever.
fn bound(
    e: &mut Errors<'_>,
    s: &Section<'_, '_>,
    rule: &CheckRule,
    tests: &mut usize,
    probes: &mut Vec<Probe>,
) {
    match &rule.asks {
        CheckKind::Host { .. } => {
            *tests += 1;
            if *tests > MAX_TESTS {
                let message =
                    format!("the policy has more than {MAX_TESTS} checks of kind \"host\"");
                e.at(s.at, message, "let one program of the hosts run several of the tests");
            }
        }
        // The same probe of several checks is asked once.
        CheckKind::Performance(rule) if !probes.contains(&rule.probe) => {
            probes.push(rule.probe.clone());
            if probes.len() > MAX_PROBES {
                let message = format!("the policy measures more than {MAX_PROBES} things");
                e.at(s.at, message, "take a check away, or let it ask what another one asks");
            }
        }
        _ => {}
    }
}

/// Reads the `[[check]]`s, and whose word the gate waits for, which names rings: the policy's other sections are there
/// already.
pub(super) fn asks(
    e: &mut Errors<'_>,
    gate: Option<&Section<'_, '_>>,
    checks: &[Section<'_, '_>],
    policy: &mut Policy,
) {
    if matches!(policy.strategy, Strategy::Rolling { .. }) {
        let keys = ["require-proof", "approval"].into_iter();
        let in_gate = keys.filter_map(|k| Some((k, gate.filter(|g| g.has(k))?.key_place(k))));
        for (what, at) in in_gate.chain(checks.iter().map(|s| ("[[check]]", s.at))) {
            e.at(
                at,
                format!("`{what}` is asked between waves, and a rolling policy has one wave"),
                "take it away, or choose `kind = \"percentage\"` or rings",
            );
        }
        return;
    }
    if let Some(section) = gate {
        policy.gate.approval = approval(e, section, policy);
    }
    let mut seen = BTreeMap::new();
    let (mut tests, mut probes) = (0, Vec::new());
    for section in checks {
        let Some(rule) = check(e, section) else { continue };
        bound(e, section, &rule, &mut tests, &mut probes);
        let own = [HOSTS, PROOF, APPROVAL].contains(&rule.name.as_str());
        if own {
            let message = format!("`{}` is the gate's own word", rule.name);
            e.at(section.place("name"), message, "give the check another name");
        } else if seen.insert(rule.name.clone(), ()).is_some() && !rule.name.is_empty() {
            let message = format!("there is a [[check]] named `{}` already", rule.name);
            e.at(section.place("name"), message, "give each a name of its own");
        }
        policy.gate.checks.push(rule);
    }
}

/// `"before:broad"`, several of them, or `"each-wave"`.
fn approval(e: &mut Errors<'_>, s: &Section<'_, '_>, policy: &Policy) -> Vec<String> {
    let mut out = Vec::new();
    let rings: Vec<&str> = policy.rings.iter().map(|r| r.name.as_str()).collect();
    for (word, at) in s.text_or_texts(e, "approval").unwrap_or_default() {
        if word == EACH_WAVE {
            out.push(word.to_owned());
            continue;
        }
        let shown: String = word.chars().take(60).collect();
        let Some(ring) = word.strip_prefix("before:") else {
            e.at(
                at,
                format!("`approval` cannot be \"{shown}\""),
                "write \"before:RING\", a list of those, or \"each-wave\"",
            );
            continue;
        };
        match rings.iter().position(|r| *r == ring) {
            _ if rings.is_empty() => e.at(
                at,
                "this policy has no rings: its [strategy] says how it goes",
                "write \"each-wave\"",
            ),
            Some(0) => e.at(
                at,
                format!("no gate stands before `{ring}`, the first ring"),
                "write `approvals = 1` under [policy]: then its plans need approval",
            ),
            Some(_) => out.push(ring.to_owned()),
            None => {
                let hint = match nearest(ring, &rings) {
                    Some(near) => format!("did you mean \"before:{near}\"?"),
                    None => format!("its rings are {}", rings.join(", ")),
                };
                e.at(at, format!("the policy has no ring `{ring}`"), hint);
            }
        }
    }
    out.sort();
    out.dedup();
    out
}

fn check(e: &mut Errors<'_>, s: &Section<'_, '_>) -> Option<CheckRule> {
    s.needs(e, &["name", "kind"]);
    let name = s.name(e, "name").unwrap_or_default();
    let kind = s.word(e, "kind", &Kind::WORDS)?;
    let every = ["name", "kind", "fail-after"];
    for (key, _) in CHECK.iter().filter(|(k, _)| !every.contains(k) && s.has(k)) {
        if !kind.keys().contains(key) {
            let owners: Vec<String> = Kind::WORDS
                .iter()
                .filter(|(_, k)| k.keys().contains(key))
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            let word = Kind::WORDS.iter().find(|(_, k)| *k == kind).map_or("", |(w, _)| w);
            let message = format!("`{key}` means nothing with `kind = \"{word}\"`");
            let hint = format!("take it away; it goes with {}", owners.join(" or "));
            e.at(s.key_place(key), message, hint);
        }
    }
    let asks = match kind {
        Kind::Prometheus => {
            s.needs(e, &["url", "query"]);
            let expect = expect(e, s);
            let query = s.text(e, "query").unwrap_or_default();
            if query.len() > MAX_QUERY {
                let message = format!("the query has {} bytes, at most {MAX_QUERY}", query.len());
                e.at(s.place("query"), message, "make it a recording rule, and ask for that");
            }
            CheckKind::Prometheus {
                url: address(e, s),
                query,
                expect: expect?,
                for_seconds: s.duration(e, "for", 0..=MAX_FOR).unwrap_or(0),
            }
        }
        Kind::Webhook => {
            s.needs(e, &["url"]);
            CheckKind::Webhook { url: address(e, s) }
        }
        Kind::Host => {
            let min_percent = s.count(e, "min-percent", 1..=100).unwrap_or(100);
            CheckKind::Host { test: host_test(e, s)?, min_percent }
        }
        Kind::Performance => {
            let confidence = s.real(e, "confidence").unwrap_or(0.99);
            if !(0.9..=0.999_999).contains(&confidence) {
                let hint = "write one such as `confidence = 0.99`: of a hundred gates where nothing is worse, one fails";
                e.at(s.place("confidence"), "`confidence` must be from 0.9 to 0.999999", hint);
            }
            CheckKind::Performance(PerformanceRule {
                margin_percent: s.count(e, "margin-percent", 1..=1000).unwrap_or(20),
                // As many as a host keeps of before it was changed; with very few nothing can ever be told apart.
                min_samples: s.count(e, "min-samples", 20..=120).unwrap_or(30),
                confidence,
                probe: probe(e, s)?,
            })
        }
    };
    let fail_after_seconds = s.duration(e, "fail-after", 0..=MAX_SECONDS);
    Some(CheckRule { name, asks, fail_after_seconds })
}

fn expect(e: &mut Errors<'_>, s: &Section<'_, '_>) -> Option<Expect> {
    let all: Vec<&str> = ["below", "above", "equals"].into_iter().filter(|k| s.has(k)).collect();
    let &[one] = &all[..] else {
        let message = if all.is_empty() {
            "the check does not say where the number has to be"
        } else {
            "the check says several times where the number has to be"
        };
        e.at(s.at, message, "write one of `below = 0.5`, `above = 0.99` and `equals = 1`");
        return None;
    };
    let limit = s.real(e, one)?;
    Some(match one {
        "below" => Expect::Below(limit),
        "above" => Expect::Above(limit),
        _ => Expect::Equals(limit),
    })
}

/// What the hosts run: a file of one of their own lists, by its name.
fn host_test(e: &mut Errors<'_>, s: &Section<'_, '_>) -> Option<HostTest> {
    let (key, list) = match (s.has("test"), s.has("command")) {
        (true, false) => ("test", HostList::Tests),
        (false, true) => ("command", HostList::Probes),
        (both, _) => {
            let message = if both {
                "the check has `test` and `command`"
            } else {
                "the check does not say what the hosts run"
            };
            let hint = "write `test = \"shop\"` for /etc/fettle/tests.d/shop of each host, or `command = \"shop\"` for /etc/fettle/probes.d/shop";
            e.at(s.at, message, hint);
            return None;
        }
    };
    let name = s.text(e, key)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty()
        || name.len() > MAX_FILE_NAME
        || name.starts_with(['.', '-'])
        || !name.chars().all(allowed)
    {
        let hint = format!(
            "write the name of a file in the hosts' /etc/fettle/{}, without its directory and without arguments",
            list.word()
        );
        e.at(s.place(key), format!("`{key}` must be a file name"), hint);
    }
    Some(HostTest { list, name })
}

/// An address that the server asks: `https://name[:port]/path`.
fn address(e: &mut Errors<'_>, s: &Section<'_, '_>) -> String {
    let Some(url) = s.text(e, "url") else { return String::new() };
    if let Err((message, hint)) = check_address(&url) {
        e.at(s.place("url"), message, hint);
    }
    url
}

/// Is it an address that the server may be told to call? Else what is wrong, and what to write in a policy.
pub(crate) fn check_address(url: &str) -> Result<(), (&'static str, &'static str)> {
    const EXAMPLE: &str = "write one such as `url = \"https://prometheus.example.org\"`";
    if url.len() > MAX_QUERY || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(("`url` holds white space, or is too long", EXAMPLE));
    }
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err(("`url` must begin with https:// or http://", EXAMPLE));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        let hint = "take name and password away: a policy is read by many";
        return Err(("`url` holds a name or password", hint));
    }
    if authority.is_empty() || authority.starts_with(':') {
        return Err(("`url` names no host", EXAMPLE));
    }
    if url.contains('#') {
        return Err((
            "`url` has a fragment, which no server is sent",
            "take away what follows `#`",
        ));
    }
    Ok(())
}
