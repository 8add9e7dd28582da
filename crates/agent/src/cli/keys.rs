//! `keys`: whose signatures under plans this host asks for.

use super::{Words, need_root, usage};
use crate::plan_keys::{self, Pinned, PinnedBy};
use crate::settings::Settings;
use fettle_core::{Problem, ProblemKind};
use fettle_wire::plan_key::SignedKeySet;
use serde::Deserialize;

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
    let keys = set_in(&bytes).map_err(|e| bad(&e))?.open().map_err(|e| bad(&e))?;
    let (version, label) = (keys.version, keys.label());
    plan_keys::pin(settings, &Pinned { keys, by: PinnedBy::Root })
        .map_err(|e| unwritable(settings, &e))?;
    out!(
        "pinned version {version}: {label} must have signed a plan before this host carries it out"
    );
    Ok(())
}

/// A signed set: as `fettle key sign` wrote it, or within what `fettle key list -o json` prints.
fn set_in(bytes: &[u8]) -> serde_json::Result<SignedKeySet> {
    #[derive(Deserialize)]
    struct Listed {
        signed: SignedKeySet,
    }
    serde_json::from_slice(bytes).or_else(|error| {
        serde_json::from_slice(bytes).map(|it: Listed| it.signed).map_err(|_| error)
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_wire::plan_key::{KeySet, PlanKey};
    use fettle_wire::sign::Signer;

    #[test]
    fn a_set_is_pinned_from_the_signed_file_and_from_what_the_server_lists() {
        let signer = Signer::from_pem(&Signer::generate_pem().unwrap()).unwrap();
        let key = PlanKey { name: "alice".into(), key: signer.public_key() };
        let mut signed = SignedKeySet::unsigned(&KeySet::new(3, 1, vec![key]).unwrap());
        let set = signed.sign(&signer).unwrap();
        let file = serde_json::to_vec(&signed).unwrap();
        let listed = serde_json::json!({ "version": 3, "label": "1 of 1", "signed": signed });
        for bytes in [file, serde_json::to_vec(&listed).unwrap()] {
            assert_eq!(set_in(&bytes).unwrap().open().unwrap(), set);
        }
        let none = serde_json::json!({ "version": 0, "signed": null }).to_string();
        assert!(set_in(none.as_bytes()).unwrap_err().to_string().contains("payloadType"));
    }
}
