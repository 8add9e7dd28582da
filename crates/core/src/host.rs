//! A host: a machine with an agent. It has labels, an inventory and a state.

use crate::{HostId, Timestamp, digest::Digest, inventory::Inventory};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Labels say what a host is for: `env=prod`, `role=web`, `ring=canary`. Keys and values are
/// `[a-z0-9._/-]`, keys at most 63 bytes, values at most 63 (values may be empty).
pub type Labels = BTreeMap<String, String>;

/// A host as the server knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Given at enrolment.
    pub id: HostId,
    /// What people call it: the machine's host name at enrolment, unique in the fleet.
    pub name: String,
    /// Set at enrolment and by operators, never by the host.
    pub labels: Labels,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// When its agent last spoke. `None`: never since enrolment.
    pub last_seen: Option<Timestamp>,
    /// Version of the agent that last spoke.
    pub agent_version: String,
    /// What it last reported. `None` until the first report. Hosts that are alike may share one.
    pub inventory: Option<Arc<Inventory>>,
    /// Its cohort, by the whole of what it last reported; `inventory` may be less.
    #[serde(default)]
    pub cohort: Option<Digest>,
    /// Digest of `inventory`, so that agent and server can tell whether they agree without sending it.
    pub inventory_digest: Option<Digest>,
    /// Set when an undo could not be completed: a person must come.
    pub quarantined: Option<Quarantine>,
    /// It has no agent, and never had: what it holds was told by a bill of materials. It is judged as any host, and nothing
    /// is ever done to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Listed>,
}

/// Who told what a host without an agent holds, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// When the bill of materials was handed in that is kept.
    pub at: Timestamp,
    /// Who handed it in.
    pub by: String,
    /// What the document says it is of; empty where it does not.
    pub of: String,
    /// Digest of the document.
    pub document: Digest,
}

/// Why a host is quarantined, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// When it happened.
    pub since: Timestamp,
    /// What could not be undone.
    pub reason: String,
}

/// Why a label key or value is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLabel {
    /// No `=` between key and value.
    #[error("label `{0}` has no `=`: write key=value, for example ring=canary")]
    NoEquals(String),
    /// A byte that may not stand in a label.
    #[error(
        "label `{label}` holds {found:?}: only a-z, 0-9, `.`, `_`, `/` and `-` may stand in a label"
    )]
    Character {
        /// The label as given.
        label: String,
        /// The first character at fault.
        found: char,
    },
    /// Key empty, or key or value longer than 63 bytes.
    #[error("label `{0}`: the key must have 1 to 63 characters, the value at most 63")]
    Length(String),
}

/// Parses `key=value`.
///
/// # Errors
/// [`BadLabel`] says which rule of [`Labels`] is broken.
pub fn parse_label(text: &str) -> Result<(String, String), BadLabel> {
    let (key, value) = text.split_once('=').ok_or_else(|| BadLabel::NoEquals(text.to_owned()))?;
    if key.is_empty() || key.len() > 63 || value.len() > 63 {
        return Err(BadLabel::Length(text.to_owned()));
    }
    let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._/-".contains(*c);
    match key.chars().chain(value.chars()).find(|c| !allowed(c)) {
        Some(found) => Err(BadLabel::Character { label: text.to_owned(), found }),
        None => Ok((key.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_parsed_and_odd_ones_refused_with_the_character() {
        assert_eq!(parse_label("ring=canary"), Ok(("ring".into(), "canary".into())));
        assert_eq!(parse_label("a="), Ok(("a".into(), String::new())));
        assert_eq!(parse_label("ring"), Err(BadLabel::NoEquals("ring".into())));
        assert_eq!(parse_label("=x"), Err(BadLabel::Length("=x".into())));
        assert_eq!(
            parse_label("a=b c"),
            Err(BadLabel::Character { label: "a=b c".into(), found: ' ' })
        );
        assert_eq!(
            parse_label("a=<b>"),
            Err(BadLabel::Character { label: "a=<b>".into(), found: '<' })
        );
    }
}
