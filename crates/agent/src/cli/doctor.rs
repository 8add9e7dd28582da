//! `doctor`: what is wrong with this host, and what to do.

use super::Words;
use crate::doctor::{Level, examine};
use crate::settings::Settings;
use fettle_core::{Problem, ProblemKind};

/// Prints what was found. An error, so that scripts see it, where nothing will be patched until somebody acts.
pub(super) fn run(settings: &Settings, words: Words) -> Result<(), Problem> {
    let json = words.json;
    words.rest()?;
    let found = examine(settings);
    if json {
        out!("{}", serde_json::to_string_pretty(&found).unwrap_or_default());
    } else {
        for symptom in &found {
            let mark = match symptom.level {
                Level::Good => "✓",
                Level::Odd => "!",
                Level::Bad => "✗",
            };
            out!("{mark} {:<14} {}", symptom.part, symptom.what);
            if !symptom.hint.is_empty() {
                out!("  {:<14} → {}", "", symptom.hint);
            }
        }
    }
    let bad = found.iter().filter(|s| s.level == Level::Bad).collect::<Vec<_>>();
    match bad.first() {
        None => Ok(()),
        Some(first) => Err(Problem::new(
            ProblemKind::Environment,
            "unwell",
            format!("{} of {} things looked at are wrong", bad.len(), found.len()),
            &first.hint,
        )),
    }
}
