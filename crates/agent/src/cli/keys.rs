//! `keys`: whose signatures under plans this host asks for.

use super::{Words, need_root, usage};
use crate::plan_keys::{self, Pinned, PinnedBy};
use crate::settings::Settings;
use fettle_core::{Problem, ProblemKind};
use fettle_wire::plan_key::SignedKeySet;

/// `keys`, `keys pin FILE`, `keys forget`.
pub(super) fn run(settings: &Settings, words: Words) -> Result<(), Problem> {
    let json = words.json;
    let rest = words.rest()?;
    match rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["show"] => show(settings, json),
        ["pin", file] => pin(settings, file),
        ["forget"] => forget(settings),
        _ => Err(usage("keys takes `show`, `pin FILE` or `forget`".into())),
    }
}

fn show(settings: &Settings, json: bool) -> Result<(), Problem> {
    let pinned = plan_keys::read(settings).map_err(|e| unreadable(settings, &e))?;
    if json {
        out!("{}", serde_json::to_string(&pinned).unwrap_or_default());
        return Ok(());
    }
    let Some(Pinned { keys, by }) = pinned else {
        out!("no plan keys: whatever the server signs is carried out");
        out!(
            "→ fettle-agent keys pin FILE   (`fettle key list -o json` on an operator's machine writes it)"
        );
        return Ok(());
    };
    let by = match by {
        PinnedBy::Root => "pinned on this host",
        PinnedBy::Server => "learnt from the server, which was believed then",
    };
    out!("version {}: {} must have signed a plan; {by}", keys.version, keys.label());
    for key in &keys.keys {
        out!("  {}  {}", key.key, key.name);
    }
    Ok(())
}

fn pin(settings: &Settings, file: &str) -> Result<(), Problem> {
    need_root("keys pin")?;
    let bad = |e: &dyn std::fmt::Display| {
        Problem::new(
            ProblemKind::BadInput,
            "plan-keys-malformed",
            format!("{file}: {e}"),
            "it is what `fettle key sign` wrote, signed by enough of its own keys",
        )
    };
    let bytes = std::fs::read(file).map_err(|e| bad(&e))?;
    let signed: SignedKeySet = serde_json::from_slice(&bytes).map_err(|e| bad(&e))?;
    let keys = signed.open().map_err(|e| bad(&e))?;
    let (version, label) = (keys.version, keys.label());
    plan_keys::pin(settings, &Pinned { keys, by: PinnedBy::Root })
        .map_err(|e| unwritable(settings, &e))?;
    out!(
        "pinned version {version}: {label} must have signed a plan before this host carries it out"
    );
    Ok(())
}

fn forget(settings: &Settings) -> Result<(), Problem> {
    need_root("keys forget")?;
    crate::durable::remove(&settings.plan_keys_path()).map_err(|e| unwritable(settings, &e))?;
    out!("no plan keys any more: the next set that the server names is taken");
    Ok(())
}

fn unreadable(settings: &Settings, error: &std::io::Error) -> Problem {
    Problem::new(
        ProblemKind::Environment,
        "plan-keys-unreadable",
        format!("{} cannot be read: {error}", settings.plan_keys_path().display()),
        "run as root; where it is damaged, `fettle-agent keys pin FILE` writes it anew",
    )
}

fn unwritable(settings: &Settings, error: &std::io::Error) -> Problem {
    Problem::new(
        ProblemKind::Environment,
        "plan-keys-unwritable",
        format!("{} cannot be written: {error}", settings.plan_keys_path().display()),
        "run as root, with space on that file system",
    )
}
