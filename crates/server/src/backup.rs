//! Backups of the server, and the way back from one.
//!
//! A backup is a gzip-compressed tar archive: `manifest.json`, then `fettle.db`. Keys are never in it: who has a copy of
//! the database can look, and nothing else. They go into an archive of their own, which seldom changes and is to be
//! kept elsewhere.
//!
//! A server that comes from a backup has forgotten what happened since. `settle` is what it does about that at its
//! first start: it pauses what was under way, starts nothing by itself until somebody lets it, leaps over the order numbers that hosts may have seen, and has every
//! agent send its journals again.

mod archive;

use crate::app::{App, now};
use crate::notices;
use crate::rollouts;
use crate::server::same_fleet;
use crate::trust::{Trust, claim_data_dir, hex, random};
use archive::{Reader, Writer};
use fettle_core::rollout::Phase;
use fettle_core::{Digest, Hold, Problem, ProblemKind, Timestamp};
use fettle_store::{Store, View, hosts, ledger, settings};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

const DATABASE: &str = "fettle.db";
const MANIFEST: &str = "manifest.json";
const KEYS: &str = "keys";
const TOKEN: &str = "operator.token";
const LOCK: &str = "server.lock";
/// The layout of the archives.
const SCHEMA: u32 = 1;
/// Setting: when the backup was made that this database comes from; gone when that was settled.
const RESTORED: &str = "restored-from";
/// Setting: when the backup was made that this server comes from, as long as nobody has let it start anything by itself.
const HELD: &str = "automatic-starts-held";
/// Setting: names the time since the last restore. Agents that hear another one send everything again.
const EPOCH: &str = "epoch";
/// Why a host is marked that told of an order which nobody gave it.
pub(crate) const NO_SUCH_GENERATION: &str = "it told of a generation that no order of this server can have: whoever speaks for it does not tell the truth, or it was enrolled at another server before";
/// So many orders could have been given to a host since the backup, and more than any was.
const LEAP: u64 = 1000;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout of the archive.
    pub schema: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// Version of the program that made it.
    pub fettle: String,
    /// SHA-256 of the database.
    pub database: Digest,
    /// Its length in bytes.
    pub database_bytes: u64,
    /// Entries of the ledger.
    pub ledger_entries: u64,
    /// Hash of the last of them: everything before it is fixed by it.
    pub ledger_head: Digest,
    /// How many hosts it knows.
    pub hosts: u64,
}

/// Makes a backup of the server whose data is in `data`, whether it runs or not.
///
/// # Errors
/// No such database, `to` exists or cannot be written, or the ledger does not hold: such a backup would be none.
pub fn backup(data: &Path, to: &Path) -> Result<Manifest, Problem> {
    let database = data.join(DATABASE);
    if !database.is_file() {
        return Err(no_data(data));
    }
    let writer = Writer::create(to)?;
    let aside = tempdir_beside(to)?;
    let made = (|| {
        let copy = aside.join(DATABASE);
        fettle_store::copy(&database, &copy)?;
        let manifest = describe(Store::open(&copy)?, &copy)?;
        writer.finish(|out| {
            let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
            out.bytes(MANIFEST, &text)?;
            out.file(DATABASE, &copy)
        })?;
        Ok(manifest)
    })();
    let _ = fs::remove_dir_all(&aside);
    made
}

/// Puts the keys and the operator's token of the server in `data` into an archive of their own.
///
/// # Errors
/// There are none, or `to` exists or cannot be written.
pub fn backup_keys(data: &Path, to: &Path) -> Result<(), Problem> {
    let names = fs::read_dir(data.join(KEYS)).map_err(|_| no_data(data))?;
    let mut names: Vec<String> =
        names.flatten().map(|e| format!("{KEYS}/{}", e.file_name().to_string_lossy())).collect();
    names.push(TOKEN.to_owned());
    names.sort();
    Writer::create(to)?
        .finish(|out| names.iter().try_for_each(|name| out.file(name, &data.join(name))))
}

/// Is this a backup that can be restored? Reads all of it.
///
/// # Errors
/// What is wrong with it.
pub fn verify(from: &Path) -> Result<Manifest, Problem> {
    let aside = tempdir_beside(from)?;
    let verified = unpack(from, &aside).map(|(manifest, _)| manifest);
    let _ = fs::remove_dir_all(&aside);
    verified
}

/// Makes `data` the directory of the server that `from` was made of. It must hold no server; a restore that was cut
/// short is begun anew.
///
/// # Errors
/// `data` holds a server, an archive is damaged, or the keys are not those of the database. Then nothing is left.
pub fn restore(from: &Path, keys: &Path, data: &Path) -> Result<Manifest, Problem> {
    let _claim = claim_data_dir(data)?;
    let (aside, last) = (data.join(".restoring"), data.join(".fettle.db.restored"));
    if data.join(DATABASE).exists() {
        return Err(Problem::new(
            ProblemKind::Conflict,
            "data-in-use",
            format!("{} holds a server already", data.display()),
            "name another directory with --data, or move that one away",
        ));
    }
    let clear = || {
        let _ = fs::remove_dir_all(&aside);
        let _ = fs::remove_file(&last);
    };
    // There was no database: whatever else is of a restore's own names was left by one that did not end.
    clear();
    let owner = Owner::of(data)?;
    let restored = (|| {
        private(&aside)?;
        let mut reader = Reader::open(keys)?;
        reader.unpack(&aside, |name| name == TOKEN || is_key(name))?;
        let (manifest, store) = unpack(from, &aside)?;
        same_fleet(&store, &Trust::open(&aside)?)?;
        store.write::<_, Problem>("restore", now(), |tx| {
            Ok(settings::set(tx, RESTORED, &manifest.made_at.to_string())?)
        })?;
        store.close()?;
        owner.take(&aside)?;
        owner.take(&data.join(LOCK))?;
        Ok(manifest)
    })();
    if restored.is_err() {
        clear();
        return restored;
    }
    // The database last, and under its name only when everything else is in its place.
    let place = |name: &str, to: &Path| {
        fs::rename(aside.join(name), to).map_err(|e| archive::unwritable(to, &e))
    };
    let _ = fs::remove_dir_all(data.join(KEYS));
    place(KEYS, &data.join(KEYS))?;
    place(TOKEN, &data.join(TOKEN))?;
    place(DATABASE, &last)?;
    let _ = fs::remove_dir_all(&aside);
    let to = data.join(DATABASE);
    fs::rename(&last, &to).map_err(|e| archive::unwritable(&to, &e))?;
    archive::sync(data)?;
    restored
}

/// Whose a directory is. What root restores into it is that user's too: the service that is to read it runs as them.
struct Owner {
    user: rustix::fs::Uid,
    group: rustix::fs::Gid,
}

impl Owner {
    fn of(directory: &Path) -> Result<Self, Problem> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = fs::metadata(directory).map_err(|e| archive::unwritable(directory, &e))?;
        Ok(Self {
            user: rustix::fs::Uid::from_raw(meta.uid()),
            group: rustix::fs::Gid::from_raw(meta.gid()),
        })
    }

    /// Gives them a file, or a directory with what is in it, where it is not theirs already.
    fn take(&self, path: &Path) -> Result<(), Problem> {
        use std::os::unix::fs::MetadataExt as _;
        let unwritable = |e: std::io::Error| archive::unwritable(path, &e);
        let meta = fs::symlink_metadata(path).map_err(unwritable)?;
        if meta.is_dir() {
            for entry in fs::read_dir(path).map_err(unwritable)? {
                self.take(&entry.map_err(unwritable)?.path())?;
            }
        }
        if (meta.uid(), meta.gid()) == (self.user.as_raw(), self.group.as_raw()) {
            return Ok(());
        }
        let (user, group) = (Some(self.user), Some(self.group));
        rustix::fs::chownat(
            rustix::fs::CWD,
            path,
            user,
            group,
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|e| unwritable(e.into()))
    }
}

/// What a server does first: names its time, and if it comes from a backup, deals with what it has forgotten. One
/// transaction: a crash leaves all of it to the next start.
///
/// # Errors
/// When the store cannot be written.
pub(crate) fn settle(app: &App) -> Result<(), Problem> {
    let mended = app.store.write::<_, Problem>("server", now(), |tx| {
        let marked = hosts::mend_generations(tx, NO_SUCH_GENERATION)?;
        // One that has just been restored says nothing yet.
        let restored = settings::get(tx, RESTORED)?.is_some_and(|from| !from.is_empty());
        for host in marked.iter().filter(|_| !restored) {
            notices::marked(app, tx, host, NO_SUCH_GENERATION)?;
        }
        Ok(marked.len())
    })?;
    if mended > 0 {
        tracing::warn!(hosts = mended, "generations that no order had are taken back, once");
    }
    let (epoch, restored) = app.store.read::<_, Problem>(|view| {
        Ok((settings::get(view, EPOCH)?, settings::get(view, RESTORED)?.filter(|r| !r.is_empty())))
    })?;
    let fresh = hex(&random::<16>()?);
    let Some(made_at) = restored else {
        if epoch.is_none() {
            app.store
                .write::<_, Problem>("server", now(), |tx| Ok(settings::set(tx, EPOCH, &fresh)?))?;
        }
        // Set once: this is called once.
        let _ = app.epoch.set(epoch.unwrap_or(fresh));
        return Ok(());
    };
    let reason = format!(
        "the server was restored from a backup of {made_at}: see that its hosts have reported, then resume"
    );
    app.store.write::<_, Problem>("restore", now(), |tx| {
        for record in hosts::all(tx)? {
            hosts::raise_generation(tx, &record.host.id, record.generation + LEAP)?;
        }
        for line in fettle_store::rollouts::unfinished(tx)? {
            let state = rollouts::load(app, tx, &line.id)?;
            if state.phase == Phase::Running {
                let pause = state.pause("restore", &reason).map_err(|e| rollouts::not_now(&e))?;
                rollouts::advance(app, tx, &state, &[pause])?;
            }
        }
        // Sessions that were ended since are in it, too.
        fettle_store::sessions::end_everybodys(tx)?;
        settings::set(tx, EPOCH, &fresh)?;
        settings::set(tx, HELD, &made_at)?;
        Ok(settings::set(tx, RESTORED, "")?)
    })?;
    let _ = app.epoch.set(fresh);
    Ok(())
}

/// Why the server starts nothing by itself: it comes from a backup, and has forgotten approvals that were taken back,
/// emergencies that were ended and versions that were recalled since. `None`: nothing is in its way.
pub(crate) fn held(view: &View<'_>) -> Result<Option<Hold>, Problem> {
    let made_at = settings::get(view, HELD)?.filter(|made_at| !made_at.is_empty());
    // What cannot be read holds all the same.
    let from = |made_at: String| made_at.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(made_at.map(|made_at| Hold::Restored { from: from(made_at) }))
}

/// A person lets it start by itself what is approved and due.
pub(crate) fn release(app: &App, actor: &str, reason: &str) -> Result<(), Problem> {
    app.store.write::<_, Problem>(actor, now(), |tx| {
        let Some(hold) = held(tx)? else {
            let message = "this server comes from no backup, or somebody has let it go on already";
            let hint = "`fettle cycle list` shows what cycles wait for";
            return Err(Problem::new(ProblemKind::Conflict, "not-restored", message, hint));
        };
        tx.record(
            "cycle.released",
            "restore",
            serde_json::json!({ "hold": hold, "reason": reason }),
        );
        Ok(settings::set(tx, HELD, "")?)
    })?;
    app.events.tell("cycle", "");
    app.planning.notify_one();
    Ok(())
}

/// Unpacks and verifies a backup.
fn unpack(from: &Path, to: &Path) -> Result<(Manifest, Store), Problem> {
    let mut reader = Reader::open(from)?;
    reader.unpack(to, |name| name == MANIFEST || name == DATABASE)?;
    let text = fs::read(to.join(MANIFEST)).map_err(|_| reader.damaged("it holds no manifest"))?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|e| reader.damaged(&format!("its manifest cannot be read: {e}")))?;
    if manifest.schema != SCHEMA {
        return Err(reader.damaged(&format!(
            "it has layout {}, this program knows {SCHEMA}: restore with the version that made it ({})",
            manifest.schema, manifest.fettle
        )));
    }
    let database = to.join(DATABASE);
    let (digest, bytes) =
        archive::measure(&database).map_err(|_| reader.damaged("it holds no database"))?;
    if (digest, bytes) != (manifest.database, manifest.database_bytes) {
        return Err(reader.damaged("its database is not the one of its manifest"));
    }
    let store = Store::open(&database)?;
    let found = store.read::<_, Problem>(|view| Ok(ledger::verify(view)?))?;
    if (found.entries, found.head) != (manifest.ledger_entries, manifest.ledger_head) {
        return Err(reader.damaged("its ledger does not end as its manifest says"));
    }
    let _ = fs::remove_file(to.join(MANIFEST));
    Ok((manifest, store))
}

fn describe(store: Store, file: &Path) -> Result<Manifest, Problem> {
    let (ledger, hosts) = store
        .read::<_, Problem>(|view| Ok((ledger::verify(view)?, hosts::all(view)?.len() as u64)))?;
    if let Some(broken) = ledger.broken {
        return Err(Problem::new(
            ProblemKind::Environment,
            "ledger-broken",
            format!("the ledger does not hold: {broken}"),
            "keep the data directory as it is and look with `fettle audit verify`; older backups stay good",
        ));
    }
    store.close()?;
    let (database, database_bytes) =
        archive::measure(file).map_err(|e| archive::unwritable(file, &e))?;
    Ok(Manifest {
        schema: SCHEMA,
        made_at: now(),
        fettle: env!("CARGO_PKG_VERSION").to_owned(),
        database,
        database_bytes,
        ledger_entries: ledger.entries,
        ledger_head: ledger.head,
        hosts,
    })
}

fn is_key(name: &str) -> bool {
    name.strip_prefix("keys/").is_some_and(|key| !key.is_empty() && !key.contains('/'))
}

fn no_data(data: &Path) -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        "no-data",
        format!("{} holds no server's data", data.display()),
        "name the directory with --data, and run this as the user who owns it",
    )
}

fn private(directory: &Path) -> Result<(), Problem> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new().mode(0o700).create(directory);
    made.map_err(|e| archive::unwritable(directory, &e))
}

/// A directory for what is unpacked, where there is as much room as for the archive.
fn tempdir_beside(file: &Path) -> Result<PathBuf, Problem> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let aside = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_dir_all(&aside);
    private(&aside)?;
    Ok(aside)
}
