//! Asking the machine and the store.

use super::{Backups, Database, InNeed, Kept, Room, Sight, Standing, Told, judge};
use crate::app::{App, now};
use crate::fleet::{HostFilter, HostSort};
use crate::policies::Policies;
use crate::trust::{SERVER_CERTIFICATE_SECONDS, authority_end};
use crate::{rollouts, views};
use fettle_core::rollout::Rollout;
use fettle_core::{Problem, Timestamp};
use fettle_store::{View, hosts, ledger, policies as stored_policies, rollouts as stored_rollouts};
use fettle_wire::api::Health;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// A port is given so long to take a connection.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many hosts of a state are named.
const NAMED: u64 = 5;

/// A look at the server that runs. Reads the whole database.
pub(crate) fn online(app: &App) -> Result<Health, Problem> {
    let ledger = app.chain.whole(app)?;
    let told = app.store.read::<_, Problem>(|view| {
        let in_need = in_need(app)?;
        let standing = |line: stored_rollouts::RolloutLine| {
            let state = rollouts::load(app, view, &line.id)?;
            let waiting = state.decide(now(), &rollouts::observe(app, view, &state)?).holds;
            standing(view, &state, waiting)
        };
        let rollouts = stored_rollouts::unfinished(view)?.into_iter().map(standing);
        Ok(Told {
            hosts: app.fleet(|fleet| fleet.len() as u64)?,
            in_need,
            rollouts: rollouts.collect::<Result<_, Problem>>()?,
            ledger: Some(ledger),
            ..by_store(view)?
        })
    })?;
    let mut sight = on_disk(&app.options.data_dir, &app.options.backups_dir);
    sight.runs = true;
    sight.told = Some(told);
    let life = jiff::SignedDuration::from_secs(SERVER_CERTIFICATE_SECONDS as i64);
    sight.certificate_ends = app.started_at.checked_add(life).ok();
    sight.agents = app.agents_addr.get().map(|address| takes_connections(*address));
    Ok(judge(&sight, now()))
}

/// A look at the data of a server that does not run, or cannot be asked. Changes nothing.
pub fn offline(data: &Path, backups: &Path) -> Health {
    let mut sight = on_disk(data, backups);
    if sight.database.as_ref().is_ok_and(|database| database.schema == database.known) {
        match by_file(&data.join(DATABASE)) {
            Ok(told) => sight.told = Some(told),
            Err(problem) => sight.database = Err(problem),
        }
    }
    judge(&sight, Timestamp::now())
}

const DATABASE: &str = "fettle.db";

fn by_file(database: &Path) -> Result<Told, Problem> {
    fettle_store::look_at::<_, Problem>(database, |view| {
        let all = hosts::all(view)?;
        let lost = all.iter().filter(|record| record.host.quarantined.is_some());
        let lost: Vec<String> = lost.map(|record| record.host.name.clone()).collect();
        let some = lost.iter().take(NAMED as usize).cloned().collect();
        let standing = |line: stored_rollouts::RolloutLine| {
            let events = stored_rollouts::events(view, &line.id, 0)?;
            let state = Rollout::replay(&line.id, events.iter().map(|e| (e.at, &e.event)));
            // One that cannot be read is told by whoever shows it.
            let Ok(Some(state)) = state else { return Ok(None) };
            standing(view, &state, Vec::new()).map(Some)
        };
        let rollouts = stored_rollouts::unfinished(view)?
            .into_iter()
            .filter_map(|line| standing(line).transpose());
        Ok(Told {
            hosts: all.len() as u64,
            in_need: [("quarantined", InNeed { count: lost.len() as u64, some })].into(),
            rollouts: rollouts.collect::<Result<_, Problem>>()?,
            ledger: Some(views::ledger_verified(view)?),
            ..by_store(view)?
        })
    })
}

/// What is asked in the same way whether a server runs or not.
fn by_store(view: &View<'_>) -> Result<Told, Problem> {
    Ok(Told {
        feeds: views::feed_rows(view)?,
        newest_entry: ledger::latest(view, 1)?.first().map(|entry| entry.at),
        unread_policies: Policies::of_records(stored_policies::current(view)?).unread,
        ..Told::default()
    })
}

fn standing(
    view: &View<'_>,
    state: &Rollout,
    waiting: Vec<fettle_core::rollout::Waiting>,
) -> Result<Standing, Problem> {
    let last = stored_rollouts::events(view, &state.id, state.version.saturating_sub(1))?;
    Ok(Standing {
        id: state.id.to_string(),
        phase: state.phase.clone(),
        since: last.last().map_or(state.created_at, |event| event.at),
        waiting,
    })
}

fn in_need(app: &App) -> Result<std::collections::BTreeMap<&'static str, InNeed>, Problem> {
    app.fleet(|fleet| {
        let of = |state: &'static str| {
            let filter = HostFilter { state: Some(state.to_owned()), ..HostFilter::default() };
            let found = fleet.hosts(app, &filter, (HostSort::Name, false), NAMED, 0);
            let some = found.page.items.iter().map(|row| row.name.clone()).collect();
            (state, InNeed { count: found.page.total, some })
        };
        ["quarantined", "silent", "no-policy", "no-inventory"].map(of).into()
    })
}

/// What files and file system tell.
fn on_disk(data: &Path, backups: &Path) -> Sight {
    let database = data.join(DATABASE);
    let examined = fettle_store::examine(&database).map_err(Problem::from);
    Sight {
        data: data.to_owned(),
        runs: is_claimed(data),
        files: kept(data).map_err(|e| e.to_string()),
        room: room(data),
        database: examined.map(|it| Database {
            bytes: fs::metadata(&database).map_or(0, |meta| meta.len()),
            schema: it.schema,
            known: it.known,
        }),
        told: None,
        authority_ends: authority_end(data),
        certificate_ends: None,
        agents: None,
        backups: Backups {
            directory: backups.to_owned(),
            newest: newest(backups).map_err(|e| e.to_string()),
        },
    }
}

/// Whether a server holds the lock on the directory. Held by nobody, it is given back at once: a server that starts in
/// that instant is started again by its unit.
fn is_claimed(data: &Path) -> bool {
    let lock = File::open(data.join("server.lock"));
    lock.is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

/// The directory, and what is in it that only the server may read.
fn kept(data: &Path) -> std::io::Result<Vec<Kept>> {
    let seen = |path: &Path| {
        let meta = fs::symlink_metadata(path)?;
        Ok::<_, std::io::Error>(Kept {
            path: path.to_owned(),
            mode: meta.mode() & 0o7777,
            owner: meta.uid(),
        })
    };
    let mut found = vec![seen(data)?];
    let keys = data.join("keys");
    for directory in [data, &keys] {
        let mut entries: Vec<_> =
            fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            // A file that SQLite took away meanwhile is none.
            found.extend(seen(&path).ok());
        }
    }
    // What is no secret gets its mode from the umask of whoever starts the server, and lies in a closed directory.
    for file in &mut found {
        let secret = file.path.starts_with(&keys) || file.path.ends_with("operator.token");
        if !secret && file.path != data {
            file.mode &= 0o7700;
        }
    }
    Ok(found)
}

fn room(data: &Path) -> Option<Room> {
    let system = rustix::fs::statvfs(data).ok()?;
    Some(Room {
        free: system.f_bavail.saturating_mul(system.f_frsize),
        inodes: (system.f_files > 0).then_some(system.f_favail),
        read_only: system.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

fn newest(backups: &Path) -> std::io::Result<Option<Timestamp>> {
    let mut newest = None;
    for entry in fs::read_dir(backups)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().ends_with(".tar.gz") {
            continue;
        }
        // One that was taken away meanwhile is none.
        let Ok(meta) = entry.metadata() else { continue };
        newest = newest.max(Timestamp::from_second(meta.mtime()).ok());
    }
    Ok(newest)
}

/// Does a port of this machine take connections? One that listens everywhere is asked on loopback.
fn takes_connections(address: SocketAddr) -> Result<(), String> {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let connected = TcpStream::connect_timeout(&address, PATIENCE);
    connected.map(drop).map_err(|e| format!("{address}: {e}"))
}
