//! Backups: made and read beside the data, not through the API.

use crate::args::{Backup, Globals, Output, Restore};
use crate::output::{self, hint, line};
use fettle_core::{Problem, Timestamp};
use fettle_server::backup::{self, Manifest};
use std::path::{Path, PathBuf};

pub(crate) fn backup(command: &Backup, globals: &Globals) -> Result<(), Problem> {
    match command {
        Backup::Create { file, data } => {
            let file = named(file, "fettle", Timestamp::now());
            let manifest = backup::backup(data, &file)?;
            shown(&manifest, globals, || {
                line(&format!("{}: {}", file.display(), what(&manifest)));
                line("the keys are not in it: fettle backup keys FILE, kept elsewhere");
                hint(&format!("fettle restore {} --keys FILE --data DIR", file.display()));
            })
        }
        Backup::Keys { file, data } => {
            let file = named(file, "fettle-keys", Timestamp::now());
            backup::backup_keys(data, &file)?;
            line(&format!("{}: who has it can speak for this server", file.display()));
            hint("keep it where the backups are not");
            Ok(())
        }
        Backup::Verify { file } => {
            let manifest = backup::verify(file)?;
            shown(&manifest, globals, || line(&format!("good: {}", what(&manifest))))
        }
    }
}

pub(crate) fn restore(args: &Restore, globals: &Globals) -> Result<(), Problem> {
    let manifest = backup::restore(&args.file, &args.keys, &args.data)?;
    shown(&manifest, globals, || {
        line(&format!("{}: {}", args.data.display(), what(&manifest)));
        line(
            "what was under way is paused at its first start, and its hosts send their reports again",
        );
        hint(&format!("fettle server --data {}", args.data.display()));
    })
}

fn shown(manifest: &Manifest, globals: &Globals, text: impl FnOnce()) -> Result<(), Problem> {
    if globals.output == Output::Json {
        return output::json(manifest);
    }
    text();
    Ok(())
}

fn what(manifest: &Manifest) -> String {
    format!(
        "{} hosts, {} entries of the ledger, {:.1} MB of database, made {}",
        manifest.hosts,
        manifest.ledger_entries,
        manifest.database_bytes as f64 / 1e6,
        manifest.made_at
    )
}

/// In a directory the file gets a name that sorts by time.
fn named(file: &Path, stem: &str, now: Timestamp) -> PathBuf {
    match file.is_dir() {
        true => file.join(format!("{stem}-{}.tar.gz", now.strftime("%Y%m%dT%H%M%SZ"))),
        false => file.to_owned(),
    }
}
