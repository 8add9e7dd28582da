//! `[strategy]`: which kind, and the keys that go with that kind.

use super::super::{Selector, Share, Strategy};
use super::Errors;
use super::duration::MAX_SECONDS;
use super::section::{Keys, Section};
use toml::de::DeTable;

pub(super) const STRATEGY: Keys = &[
    ("kind", "\"rolling\""),
    ("waves", "[1, 5, 25, 100]"),
    ("soak", "\"4h\""),
    ("max-unavailable", "\"25%\""),
    ("blue", "\"pool=blue\""),
    ("green", "\"pool=green\""),
    ("traffic", "[10, 50, 100]"),
    ("capacity-percent", "100"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rings,
    Percentage,
    Rolling,
    BlueGreen,
}

impl Kind {
    const WORDS: [(&'static str, Self); 4] = [
        ("rings", Self::Rings),
        ("percentage", Self::Percentage),
        ("rolling", Self::Rolling),
        ("blue-green", Self::BlueGreen),
    ];

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    /// The keys that mean something with this kind.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Rings => &[],
            Self::Percentage => &["waves", "soak"],
            Self::Rolling => &["max-unavailable"],
            Self::BlueGreen => &["blue", "green", "traffic", "capacity-percent"],
        }
    }
}

/// Reads the section. `None`: it does not say which kind.
pub(super) fn strategy(e: &mut Errors<'_>, s: &Section<'_, '_>) -> Option<Strategy> {
    s.needs(e, &["kind"]);
    let kind = s.word(e, "kind", &Kind::WORDS)?;
    for (key, _) in STRATEGY.iter().filter(|(k, _)| *k != "kind" && s.has(k)) {
        if !kind.keys().contains(key) {
            let owners: Vec<String> = Kind::WORDS
                .iter()
                .filter(|(_, k)| k.keys().contains(key))
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            let message = format!("`{key}` means nothing with `kind = \"{}\"`", kind.word());
            let hint = format!("take it away; it goes with {}", owners.join(" or "));
            e.at(s.key_place(key), message, hint);
        }
    }
    Some(match kind {
        Kind::Rings => Strategy::Rings,
        Kind::Percentage => {
            s.needs(e, &["waves"]);
            Strategy::Percentage {
                waves: shares(e, s, "waves"),
                soak_seconds: s.duration(e, "soak", 0..=MAX_SECONDS).unwrap_or(0),
            }
        }
        Kind::Rolling => {
            s.needs(e, &["max-unavailable"]);
            let max_unavailable = s.share(e, "max-unavailable").unwrap_or(Share::Hosts(1));
            Strategy::Rolling { max_unavailable }
        }
        Kind::BlueGreen => blue_green(e, s),
    })
}

fn blue_green(e: &mut Errors<'_>, s: &Section<'_, '_>) -> Strategy {
    s.needs(e, &["blue", "green"]);
    let pool = |e: &mut Errors<'_>, key| s.selector(e, key).unwrap_or(Selector::All);
    let (blue, green) = (pool(e, "blue"), pool(e, "green"));
    if blue == green && s.is_selector("blue") && s.is_selector("green") {
        let message = "`green` selects what `blue` does: every host would be in both pools";
        e.at(
            s.place("green"),
            message,
            "write two selectors that share no host: `pool=blue`, `pool=green`",
        );
    }
    let traffic = if s.has("traffic") { shares(e, s, "traffic") } else { vec![100] };
    let capacity_percent = s.count(e, "capacity-percent", 1..=100).unwrap_or(100);
    Strategy::BlueGreen { blue, green, traffic, capacity_percent }
}

/// Shares in percent that grow up to the whole.
fn shares(e: &mut Errors<'_>, s: &Section<'_, '_>, key: &str) -> Vec<u32> {
    let Some(found) = s.percents(e, key) else { return Vec::new() };
    let falls = found.windows(2).find(|pair| pair[1].0 <= pair[0].0);
    if let Some([before, (share, at)]) = falls {
        let message = format!("{share} comes after {}: each share must be larger", before.0);
        e.at(*at, message, "each number counts those before it, too: write `[1, 5, 25, 100]`");
    }
    match found.last() {
        None => e.at(
            s.place(key),
            format!("`{key}` names no share: no host would ever be reached"),
            "write `[1, 5, 25, 100]`",
        ),
        Some((last, at)) if *last != 100 => {
            let message = format!("the last of `{key}` is {last}: the rest would be left out");
            e.at(*at, message, "end with 100");
        }
        Some(_) => {}
    }
    found.into_iter().map(|(share, _)| share).collect()
}

/// Rings are there where the policy goes by them, and only there.
pub(super) fn with_rings(e: &mut Errors<'_>, root: &DeTable<'_>, strategy: &Strategy) {
    let by_rings = *strategy == Strategy::Rings;
    if by_rings && !root.contains_key("ring") {
        let at = root.get("policy").map_or(0, |p| p.span().start);
        e.at(
            at,
            "the policy has no ring: no host would ever be patched",
            "add `[[ring]]` with `name = \"all\"`",
        );
    }
    if let Some(rings) = root.get("ring").filter(|_| !by_rings) {
        let at = rings.get_ref().as_array().and_then(|all| all.first());
        e.at(
            at.map_or(rings.span().start, |first| first.span().start),
            "this policy does not go by rings: its [strategy] says how it goes",
            "take [[ring]] away, or write `kind = \"rings\"`",
        );
    }
}
