//! Bundles: all feeds in force in one signed file, for networks that the vendors cannot be reached from.
//!
//! A tar archive: first the signed manifest, then each feed as it was given. The importing server believes the key that
//! an administrator pinned, reads nothing else before the signature holds, and takes all of it in or nothing. What is
//! older than what is in force is refused: a bundle is as good as the day it was made.

use super::{Given, Way, import, named};
use crate::app::{App, now};
use crate::{plain, views};
use fettle_core::{Digest, Problem, ProblemKind, Timestamp};
use fettle_store::{feeds, settings};
use fettle_wire::bundle::{BundleManifest, BundledFeed, SignedManifest};
use std::borrow::Cow;

/// Largest bundle, in bytes.
pub(crate) const MAX_BUNDLE: usize = 256 << 20;
/// Largest manifest, in bytes.
const MAX_MANIFEST: u64 = 1 << 20;
/// Name of the manifest in a bundle.
const MANIFEST: &str = "manifest.json";
/// Which key bundles must be signed with.
const PINNED: &str = "feed-bundle-key";

/// The key that this server signs bundles with, base64.
pub(crate) fn own_key(app: &App) -> String {
    app.trust.feed_signer.public_key()
}

/// The key that bundles given to this server must be signed with, base64. `None`: none is pinned.
pub(crate) fn pinned_key(app: &App) -> Result<Option<String>, Problem> {
    app.store.read::<_, Problem>(|view| Ok(settings::get(view, PINNED)?))
}

/// Pins the key that bundles must be signed with.
pub(crate) fn pin(app: &App, actor: &str, key: &str) -> Result<(), Problem> {
    check_key(key)?;
    app.store.write::<_, Problem>(actor, now(), |tx| Ok(settings::set(tx, PINNED, key)?))
}

fn check_key(key: &str) -> Result<(), Problem> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(key).unwrap_or_default();
    if bytes.len() == 32 {
        return Ok(());
    }
    let message = "that is no Ed25519 key: 32 bytes in base64";
    let hint = "the server that made the bundle prints it: `fettle feed bundle key`";
    Err(Problem::new(ProblemKind::Usage, "bad-key", message, hint))
}

/// Everything in force, signed.
pub(crate) fn export(app: &App) -> Result<Vec<u8>, Problem> {
    let (rows, bodies) = app.store.read::<_, Problem>(|view| {
        let rows = views::feed_rows(view)?;
        let mut bodies = Vec::new();
        for row in &rows {
            if let Some(body) = feeds::body(view, &row.name)? {
                bodies.push((row.name.clone(), body));
            }
        }
        Ok((rows, bodies))
    })?;
    if bodies.is_empty() {
        let message = "no feed is in force, so there is nothing to bundle";
        let hint = "`fettle feed sync` or `fettle feed import`";
        return Err(Problem::new(ProblemKind::Refused, "no-feeds", message, hint));
    }
    let feed = |(name, body): &(String, Vec<u8>)| {
        let row = rows.iter().find(|row| row.name == *name)?;
        Some(BundledFeed {
            name: name.clone(),
            sha256: Digest::of(body),
            bytes: body.len() as u64,
            date: row.date.clone(),
            origin: row.origin.clone(),
            confirmed_at: row.confirmed_at?,
        })
    };
    let manifest =
        BundleManifest { made_at: now(), feeds: bodies.iter().filter_map(feed).collect() };
    let signed = SignedManifest::seal(&app.trust.feed_signer, &manifest);
    let failed = |e: &dyn std::fmt::Display| {
        let hint = "this is a defect of Fettle: please report it";
        Problem::new(ProblemKind::Internal, "bundle", format!("the bundle: {e}"), hint)
    };
    let signed = serde_json::to_vec_pretty(&signed).map_err(|e| failed(&e))?;
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        plain::put(&mut tar, name, bytes, manifest.made_at).map_err(|e| failed(&e))
    };
    put(MANIFEST, &signed)?;
    for (name, body) in &bodies {
        put(&format!("feeds/{name}"), body)?;
    }
    tar.into_inner().map_err(|e| failed(&e))
}

fn refused(code: &str, message: impl std::fmt::Display, hint: &str) -> Problem {
    let message = format!("the bundle is refused: {message}");
    Problem::new(ProblemKind::BadInput, code, message, hint)
}

fn damaged(why: impl std::fmt::Display) -> Problem {
    refused("bundle-damaged", why, "copy it once more; nothing was taken in")
}

/// The feeds of a bundle.
type Contents = Vec<(BundledFeed, Vec<u8>)>;

/// What a bundle holds, once its signature and every digest have held.
fn open(bundle: &[u8], key: &str) -> Result<(BundleManifest, Contents), Problem> {
    let mut tar = tar::Archive::new(bundle);
    let mut entries = tar.entries().map_err(damaged)?;
    let first = entries.next().ok_or_else(|| damaged("it is empty"))?.map_err(damaged)?;
    if first.path().map_err(damaged)?.to_str() != Some(MANIFEST) {
        return Err(damaged("it does not begin with its manifest: is it a bundle of feeds?"));
    }
    let text =
        plain::take(first, MAX_MANIFEST).map_err(|e| damaged(format!("`{MANIFEST}`: {e}")))?;
    let signed: SignedManifest = serde_json::from_slice(&text).map_err(damaged)?;
    let manifest = signed.open(key).map_err(|e| {
        let hint = "pin the key of the server that made it: `fettle feed bundle trust KEY`, where `fettle feed bundle key` prints it there";
        refused("bundle-not-believed", e, hint)
    })?;
    let mut found = Contents::new();
    for entry in entries {
        let entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.to_string_lossy().into_owned();
        let feed =
            manifest.feeds.iter().find(|f| path.strip_prefix("feeds/") == Some(f.name.as_str()));
        let feed = feed.ok_or_else(|| damaged(format!("its manifest does not have `{path}`")))?;
        if found.iter().any(|(f, _)| f.name == feed.name) {
            return Err(damaged(format!("`{path}` is there twice")));
        }
        let bytes =
            plain::take(entry, feed.bytes).map_err(|e| damaged(format!("`{path}`: {e}")))?;
        if bytes.len() as u64 != feed.bytes || Digest::of(&bytes) != feed.sha256 {
            return Err(damaged(format!("`{path}` is not what its manifest says")));
        }
        found.push((feed.clone(), bytes));
    }
    let missing = manifest.feeds.iter().find(|f| !found.iter().any(|(g, _)| g.name == f.name));
    match missing {
        Some(feed) => Err(damaged(format!("{} is missing", feed.name))),
        None => Ok((manifest, found)),
    }
}

/// Takes a bundle in, all of it or nothing. `key`: in place of the pinned one. `force`: also where it is older than what
/// is in force, or changes suddenly.
pub(crate) fn take_in(
    app: &App,
    actor: &str,
    bundle: &[u8],
    key: Option<&str>,
    force: bool,
) -> Result<(), Problem> {
    let pinned = match key {
        Some(key) => Some(key.to_owned()),
        None => pinned_key(app)?,
    };
    let key = pinned.ok_or_else(|| {
        let message = "no key is pinned here, so no bundle is believed";
        let hint = "`fettle feed bundle key` on the server that made it prints its key; here: `fettle feed bundle trust KEY`";
        Problem::new(ProblemKind::Refused, "no-bundle-key", message, hint)
    })?;
    check_key(&key)?;
    let (manifest, found) = open(bundle, &key)?;
    let rows = app.store.read(views::feed_rows)?;
    let in_force = |name: &str| rows.iter().find(|row| row.name == name)?.confirmed_at;
    let at = now();
    // A bundle from a server whose clock runs ahead makes nothing younger than it is here.
    let confirmed = |feed: &BundledFeed| feed.confirmed_at.min(at);
    let older: Vec<String> = found
        .iter()
        .filter(|(feed, _)| in_force(&feed.name).is_some_and(|here| confirmed(feed) < here))
        .map(|(feed, _)| {
            format!(
                "{} (of {}, in force is {})",
                feed.name,
                day(feed.confirmed_at),
                in_force(&feed.name).map(day).unwrap_or_default()
            )
        })
        .collect();
    if !older.is_empty() && !force {
        let message = format!("it is older than what is in force: {}", older.join(", "));
        let hint = "take a newer one; if the older data are meant: --force";
        return Err(refused("bundle-older", message, hint));
    }
    let mut given = Vec::new();
    for (feed, bytes) in found {
        given.push(Given {
            feed: named(&feed.name)?,
            confirmed_at: Some(confirmed(&feed)),
            bytes: Cow::Owned(bytes),
            date: feed.date,
            origin: format!("bundle of {}: {}", day(manifest.made_at), feed.origin),
            force,
            way: Way::Given,
        });
    }
    import(app, actor, given)
}

fn day(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_wire::sign::Signer;
    use tar::EntryType;

    const BODY: &[u8] = b"{}";

    /// Puts something into the archive.
    type Put<'a> = &'a dyn Fn(&mut tar::Builder<Vec<u8>>);

    /// A bundle whose one feed is said to have these bytes, and is put in by `put`.
    fn bundle(signer: &Signer, put: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let feed = BundledFeed {
            name: "kev".into(),
            sha256: Digest::of(BODY),
            bytes: BODY.len() as u64,
            date: String::new(),
            origin: String::new(),
            confirmed_at: Timestamp::UNIX_EPOCH,
        };
        let manifest = BundleManifest { made_at: Timestamp::UNIX_EPOCH, feeds: vec![feed] };
        let signed = serde_json::to_vec(&SignedManifest::seal(signer, &manifest)).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(signed.len() as u64);
        tar.append_data(&mut header, MANIFEST, signed.as_slice()).unwrap();
        put(&mut tar);
        tar.into_inner().unwrap()
    }

    fn header(kind: EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_path("feeds/kev").unwrap();
        header.set_cksum();
        header
    }

    /// A sparse file of 64 MiB, of which the archive holds nothing but that.
    fn sparse() -> tar::Header {
        let mut header = header(EntryType::GNUSparse, 0);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.realsize[..11].copy_from_slice(b"00400000000");
        gnu.sparse[0].offset[..11].copy_from_slice(b"00400000000");
        gnu.sparse[0].numbytes[..11].copy_from_slice(b"00000000000");
        header.set_cksum();
        header
    }

    #[test]
    fn a_bundle_holds_plain_files_as_long_as_its_manifest_says_and_nothing_else() {
        let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
        let key = signer.public_key();
        let read =
            |put: Put<'_>| open(&bundle(&signer, put), &key).map(|(_, found)| found[0].1.clone());
        let good = read(&|tar| tar.append(&header(EntryType::Regular, 2), BODY).unwrap());
        assert_eq!(good.unwrap(), BODY);
        let long = vec![b' '; 1 << 20];
        let cases: [(&str, Put<'_>); 4] = [
            ("no plain file", &|tar| tar.append(&sparse(), &[][..]).unwrap()),
            ("no plain file", &|tar| {
                tar.append(&header(EntryType::Symlink, 0), &[][..]).unwrap();
            }),
            ("no plain file", &|tar| {
                tar.append(&header(EntryType::Directory, 0), &[][..]).unwrap();
            }),
            ("more than 2 bytes", &|tar| {
                tar.append(&header(EntryType::Regular, 1 << 20), long.as_slice()).unwrap();
            }),
        ];
        for (why, put) in cases {
            let problem = read(put).unwrap_err();
            assert_eq!(problem.code, "bundle-damaged");
            assert!(problem.message.contains(why), "{problem}");
        }
    }
}
