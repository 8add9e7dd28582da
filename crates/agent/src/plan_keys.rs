//! The plan keys that this host asks for, one set at a time, on disk beside its ledger.
//!
//! Root on the host pins a set of any version. A server can do two things only: give the first set to a host that has none,
//! and pass on one that enough keys of the set before it have signed.

use crate::durable;
use crate::settings::Settings;
use fettle_wire::plan_key::{KeySet, NotFollowed, SignedKeySet};
use serde::{Deserialize, Serialize};
use std::io;

/// A set, and who said that it is the one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// Whose signatures count.
    pub keys: KeySet,
    /// Where it, or the first of its line, is from.
    pub by: PinnedBy,
}

/// Who pinned a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinnedBy {
    /// Root on this host.
    Root,
    /// The server, when this host had none: worth as much as the server was then.
    Server,
}

/// The set that is pinned. `None`: no signature is asked for.
///
/// # Errors
/// When it is there and cannot be read: then no order to apply is obeyed.
pub fn read(settings: &Settings) -> io::Result<Option<Pinned>> {
    match std::fs::read(settings.plan_keys_path()) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Pins a set, durably.
///
/// # Errors
/// When it cannot be written.
pub fn pin(settings: &Settings, pinned: &Pinned) -> io::Result<()> {
    let bytes = serde_json::to_vec(pinned).map_err(io::Error::from)?;
    durable::replace(&settings.plan_keys_path(), &bytes)
}

/// What a server's sets make of what is pinned: the last of those that follow one another from it. `None`: nothing new.
/// Pure.
///
/// # Errors
/// [`NotFollowed`] at the first that does not follow; whatever came before it is given too.
pub fn learn(
    known: Option<&Pinned>,
    sets: &[SignedKeySet],
) -> (Option<Pinned>, Result<(), NotFollowed>) {
    let mut pinned: Option<Pinned> = None;
    for signed in sets {
        let before = pinned.as_ref().or(known);
        match signed.follow(before.map(|it| &it.keys)) {
            Ok(keys) => {
                let by = before.map_or(PinnedBy::Server, |it| it.by);
                pinned = Some(Pinned { keys, by });
            }
            Err(error) => return (pinned, Err(error)),
        }
    }
    (pinned, Ok(()))
}
