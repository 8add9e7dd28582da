//! What is wrong with this server, and what to do. What is looked at and what is made of it are apart: `look` asks the
//! machine and the store, `judge` is a pure function of the answers. A running server is asked by the API; the data of
//! one that does not run, or does not come up, are looked at by [`offline`].

mod look;
#[cfg(test)]
mod tests;

pub use look::offline;
pub(crate) use look::online;

use crate::feeds::BUNDLED_ORIGIN;
use fettle_core::feed::FeedStanding;
use fettle_core::rollout::{Phase, Waiting};
use fettle_core::{Problem, Timestamp};
use fettle_wire::api::{FeedRow, Health, LedgerVerified, Level, Symptom};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What was seen.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    pub(crate) data: PathBuf,
    /// Does a server run on these data? As the lock on them says.
    pub(crate) runs: bool,
    /// Directory, database, keys and token.
    pub(crate) files: Result<Vec<Kept>, String>,
    pub(crate) room: Option<Room>,
    pub(crate) database: Result<Database, Problem>,
    /// What the database says; `None`: it cannot be asked.
    pub(crate) told: Option<Told>,
    /// When the fleet's authority ends.
    pub(crate) authority_ends: Result<Timestamp, String>,
    /// When the certificate ends that agents are shown; only of a running server.
    pub(crate) certificate_ends: Option<Timestamp>,
    /// Does the agents' port take connections? Only of a running server.
    pub(crate) agents: Option<Result<(), String>>,
    pub(crate) backups: Backups,
}

/// A file or directory that only the server's user may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) path: PathBuf,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Its owner's number.
    pub(crate) owner: u32,
}

/// The file system with the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes that the server may still use.
    pub(crate) free: u64,
    /// Inodes left; `None`: it does not count them.
    pub(crate) inodes: Option<u64>,
    pub(crate) read_only: bool,
}

/// The database as a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) bytes: u64,
    pub(crate) schema: u32,
    /// The schema that this program writes.
    pub(crate) known: u32,
}

/// What the database says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) feeds: Vec<FeedRow>,
    pub(crate) ledger: Option<LedgerVerified>,
    /// When the last entry was written.
    pub(crate) newest_entry: Option<Timestamp>,
    pub(crate) hosts: u64,
    /// Policies in force that cannot be read, with why.
    pub(crate) unread_policies: Vec<(String, String)>,
    /// Hosts that somebody has to look after, by state word, some of them by name.
    pub(crate) in_need: BTreeMap<&'static str, InNeed>,
    pub(crate) rollouts: Vec<Standing>,
}

/// Hosts of a state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct InNeed {
    pub(crate) count: u64,
    pub(crate) some: Vec<String>,
}

/// A rollout that has not ended.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) id: String,
    pub(crate) phase: Phase,
    /// When it last moved.
    pub(crate) since: Timestamp,
    /// What it waits for; empty where the server does not run.
    pub(crate) waiting: Vec<Waiting>,
}

/// The directory that backups are made in.
#[derive(Debug, Clone)]
pub(crate) struct Backups {
    pub(crate) directory: PathBuf,
    /// When the newest was made, `None`: there is none.
    pub(crate) newest: Result<Option<Timestamp>, String>,
}

/// Below this much room the database is about to be full.
const TOO_LITTLE: u64 = 128 << 20;
/// A backup before an upgrade wants as much room as the database has, and this.
const SPARE: u64 = 256 << 20;
/// A rollout that has not moved for longer waits for somebody.
const STUCK_HOURS: i64 = 24;
/// A backup is made every day; after this one was missed that nobody noticed.
const BACKUP_HOURS: i64 = 72;
/// A certificate that ends sooner is to be renewed now.
const SOON_DAYS: i64 = 30;
/// Changing the authority means to enrol every host again: that wants time.
const AUTHORITY_DAYS: i64 = 365;
/// A clock may be behind by so much, and nobody is hurt.
const BEHIND_SECONDS: i64 = 60;
const DAY: i64 = 86_400;

/// Where symptoms are written down.
struct Findings(Vec<Symptom>);

impl Findings {
    fn good(&mut self, part: &str, what: impl Into<String>) {
        self.say(Level::Good, part, what, "");
    }
    fn odd(&mut self, part: &str, what: impl Into<String>, hint: &str) {
        self.say(Level::Odd, part, what, hint);
    }
    fn bad(&mut self, part: &str, what: impl Into<String>, hint: &str) {
        self.say(Level::Bad, part, what, hint);
    }
    fn say(&mut self, level: Level, part: &str, what: impl Into<String>, hint: &str) {
        self.0.push(Symptom {
            level,
            part: part.to_owned(),
            what: what.into(),
            hint: hint.to_owned(),
        });
    }
}

/// What is made of it. What is worse comes first; what was looked at and is good is told too.
pub(crate) fn judge(sight: &Sight, now: Timestamp) -> Health {
    let mut out = Findings(Vec::new());
    listeners(sight, &mut out);
    files(sight, &mut out);
    disk(sight, &mut out);
    database(sight, now, &mut out);
    certificates(sight, now, &mut out);
    if let Some(told) = &sight.told {
        feeds(told, &mut out);
        policies(told, &mut out);
        hosts(told, &mut out);
        rollouts(told, now, &mut out);
    }
    backups(sight, now, &mut out);
    let mut symptoms = out.0;
    symptoms.sort_by_key(|symptom| std::cmp::Reverse(symptom.level));
    Health { at: now, symptoms }
}

fn listeners(sight: &Sight, out: &mut Findings) {
    match (sight.runs, &sight.agents) {
        (false, _) => out.bad(
            "listeners",
            format!("no server runs on {}", sight.data.display()),
            "systemctl start fettle; journalctl -u fettle -n 20 says why it stopped",
        ),
        (true, Some(Err(why))) => out.bad(
            "listeners",
            format!("the agents' port takes no connections: {why}"),
            "systemctl restart fettle; journalctl -u fettle -n 20",
        ),
        (true, Some(Ok(()))) => out.good("listeners", "operators and agents are served"),
        (true, None) => out.good("listeners", "a server runs on these data"),
    }
}

fn files(sight: &Sight, out: &mut Findings) {
    let kept = match &sight.files {
        Err(why) => {
            let hint = "sudo fettle doctor --data DIR, with the directory of the server";
            return out.bad("data", format!("{}: {why}", sight.data.display()), hint);
        }
        Ok(kept) => kept,
    };
    let before = out.0.len();
    let owner = kept.iter().find(|kept| kept.path == sight.data).map(|kept| kept.owner);
    for file in kept {
        let path = file.path.display();
        if file.mode & 0o077 != 0 {
            let what = format!("{path} is open to others (mode {:04o})", file.mode & 0o7777);
            out.bad("data", what, &format!("chmod go= {path}"));
        }
        if owner.is_some_and(|owner| owner != file.owner) {
            let what = format!("{path} belongs to another user than the directory");
            let hint = format!("chown --reference={} {path}", sight.data.display());
            out.bad("data", what, &hint);
        }
    }
    if out.0.len() == before {
        let what = format!("{}: {} files, nobody else's to read", sight.data.display(), kept.len());
        out.good("data", what);
    }
}

fn disk(sight: &Sight, out: &mut Findings) {
    let Some(room) = sight.room else { return };
    let mib = room.free >> 20;
    let bytes = sight.database.as_ref().map_or(0, |database| database.bytes);
    let path = sight.data.display();
    if room.read_only {
        let hint = "look at dmesg: file systems turn so after an error";
        return out.bad("disk", format!("{path} is mounted read-only"), hint);
    }
    if room.inodes.is_some_and(|left| left < 1000) {
        let what = format!("{path} has {} inodes left", room.inodes.unwrap_or(0));
        return out.bad("disk", what, "remove what nobody needs: many small files");
    }
    let what = format!("{mib} MiB free for {path}, whose database has {} MiB", bytes >> 20);
    match room.free {
        free if free < TOO_LITTLE => {
            out.bad("disk", what, "make room: without any, no decision can be written down");
        }
        free if free < bytes.saturating_add(SPARE) => {
            out.odd("disk", what, "a backup of the database may not fit: make room");
        }
        _ => out.good("disk", what),
    }
}

fn database(sight: &Sight, now: Timestamp, out: &mut Findings) {
    match &sight.database {
        Err(problem) => out.bad("database", problem.message.clone(), &problem.hint),
        Ok(Database { schema, known, .. }) if schema < known => out.odd(
            "database",
            format!("whole, with schema {schema}; this program writes schema {known}"),
            "back it up, then start the server, which brings it to the new one",
        ),
        Ok(Database { schema, .. }) => out.good("database", format!("whole, with schema {schema}")),
    }
    let Some(told) = &sight.told else { return };
    match &told.ledger {
        Some(LedgerVerified { broken: Some(why), entries, .. }) => out.bad(
            "ledger",
            format!("it holds up to entry {entries} only: {why}"),
            "keep the data as they are, compare with the last backup: fettle audit verify",
        ),
        Some(ledger) => out.good("ledger", format!("{} entries hold", ledger.entries)),
        None => {}
    }
    let Some(newest) = told.newest_entry else { return };
    if newest.duration_since(now).as_secs() > BEHIND_SECONDS {
        let what = format!("it says {now}, and the last entry of the ledger is of {newest}");
        out.bad("clock", what, "set the clock: timedatectl set-ntp true");
    } else {
        out.good("clock", format!("{now}, after everything that was written"));
    }
}

fn certificates(sight: &Sight, now: Timestamp, out: &mut Findings) {
    let days = |end: Timestamp| end.duration_since(now).as_secs().div_euclid(DAY);
    match &sight.authority_ends {
        Err(why) => out.bad(
            "certificates",
            format!("the fleet's authority cannot be read: {why}"),
            "put DATA/keys back from the copy that `fettle backup keys` made",
        ),
        Ok(end) if days(*end) < SOON_DAYS => out.bad(
            "certificates",
            format!("the fleet's authority ends {end}: no agent is heard after that"),
            "set up a server with new keys and enrol every host there: fettle-agent enroll --force",
        ),
        Ok(end) if days(*end) < AUTHORITY_DAYS => out.odd(
            "certificates",
            format!("the fleet's authority ends {end}"),
            "plan to enrol every host at a server with new keys before that",
        ),
        Ok(end) => out.good("certificates", format!("the fleet's authority is good until {end}")),
    }
    match sight.certificate_ends {
        Some(end) if days(end) < SOON_DAYS => out.bad(
            "certificates",
            format!("the certificate that agents are shown ends {end}"),
            "systemctl restart fettle: each start makes a new one",
        ),
        _ => {}
    }
}

fn feeds(told: &Told, out: &mut Findings) {
    let (mut in_force, mut bundled) = (0, Vec::new());
    for feed in &told.feeds {
        let name = &feed.name;
        let again = match feed.source {
            Some(_) => format!("fettle feed sync {name}"),
            None => format!("fettle feed import {name} FILE, or have the server fetch it"),
        };
        let age = feed.age_seconds.map_or_else(
            || "was never confirmed".to_owned(),
            |age| format!("is {} days old", age / DAY.unsigned_abs()),
        );
        match feed.standing {
            FeedStanding::Absent => {}
            FeedStanding::Stale if as_bundled(feed) => bundled.push(feed),
            FeedStanding::Stale => out.bad("feeds", format!("{name} {age}"), &again),
            FeedStanding::Failed => {
                let why = feed.last_error.as_deref().unwrap_or("no reason was kept");
                out.odd("feeds", format!("{name} {age}; the last look failed: {why}"), &again);
            }
            FeedStanding::Fresh => in_force += 1,
        }
        if let Some(held) = &feed.held {
            let what = format!("{name}: a newer one waits for somebody: {}", held.reason);
            out.bad("feeds", what, &format!("fettle feed list, then fettle feed accept {name}"));
        }
    }
    if let Some(oldest) = bundled.iter().map(|feed| feed.date.as_str()).min() {
        let what = format!(
            "{} {} as they came with Fettle, the oldest of {oldest}: what vendors said since is not known",
            bundled.len(),
            if bundled.len() == 1 { "is" } else { "are" }
        );
        let watched = bundled.iter().any(|feed| feed.source.is_some());
        let hint = match watched {
            true => "fettle feed sync",
            false => {
                "fettle feed source add debian-tracker --url https://…, then fettle feed sync; docs/feeds.md has the addresses"
            }
        };
        out.odd("feeds", what, hint);
    }
    if told.feeds.iter().all(|feed| feed.standing == FeedStanding::Absent) {
        let what = "there is no vulnerability data: nothing is known of any host";
        out.bad("feeds", what, "fettle feed import --bundled");
    } else if in_force > 0 {
        out.good("feeds", format!("{in_force} are fresh"));
    }
}

/// As it came with Fettle, and nobody has tried to have it newer: a fresh server, not one that something keeps from its feeds.
fn as_bundled(feed: &FeedRow) -> bool {
    feed.origin.starts_with(BUNDLED_ORIGIN)
        && feed.confirmed_at <= feed.imported_at
        && feed.last_error.is_none()
        && feed.source.as_ref().is_none_or(|source| source.failures == 0)
}

fn policies(told: &Told, out: &mut Findings) {
    for (name, why) in &told.unread_policies {
        let what = format!("`{name}` is in force and cannot be read, so nothing is planned: {why}");
        let hint = format!("fettle policy show {name}; correct it, then fettle policy apply FILE");
        out.bad("policies", what, &hint);
    }
}

fn hosts(told: &Told, out: &mut Findings) {
    if told.hosts == 0 {
        return out.odd("hosts", "none is enrolled", "fettle token create");
    }
    let mut well = told.hosts;
    for (state, in_need) in &told.in_need {
        well = well.saturating_sub(in_need.count);
        let InNeed { count, some } = in_need;
        if *count == 0 {
            continue;
        }
        let names = some.join(", ");
        let more = if some.len() as u64 == *count { "" } else { ", …" };
        let what = format!("{count} of {} are {state}: {names}{more}", told.hosts);
        match *state {
            "quarantined" => out.bad(
                "hosts",
                what,
                "look after each (docs/quarantine.md), then fettle host release HOST --reason …",
            ),
            "silent" => out.odd(
                "hosts",
                what,
                "on such a host: fettle-agent doctor; one that is gone: fettle host retire HOST --confirm HOST",
            ),
            "no-policy" => {
                out.odd("hosts", what, "nothing is owed to them: fettle policy explain HOST");
            }
            _ => out.odd("hosts", what, &format!("fettle host list --state {state}")),
        }
    }
    if well == told.hosts {
        out.good("hosts", format!("{} are heard, none is in quarantine", told.hosts));
    }
}

fn rollouts(told: &Told, now: Timestamp, out: &mut Findings) {
    let before = out.0.len();
    for Standing { id, phase, since, waiting } in &told.rollouts {
        let hours = now.duration_since(*since).as_hours();
        let show = format!("fettle rollout show {id}");
        // What the whole rollout waits for first, then what some host does.
        let whole = waiting.iter().find(|waiting| waiting.host.is_none());
        let hold = whole.or(waiting.first()).map(|waiting| waiting.hold.to_string());
        match phase {
            Phase::Halted { hold } => {
                let hint = format!(
                    "{show}; then fettle rollout undo {id} --reason WHY, or abort, or resume"
                );
                out.bad("rollouts", format!("{id} is halted since {since}: {hold}"), &hint);
            }
            Phase::Paused { by, reason } if hours >= STUCK_HOURS => {
                let what = format!("{id} is paused by {by} since {since}: {reason}");
                out.odd("rollouts", what, &format!("fettle rollout resume {id} --reason WHY"));
            }
            Phase::Running if hours >= STUCK_HOURS => {
                let why = hold.unwrap_or_else(|| "nobody says why".to_owned());
                out.odd("rollouts", format!("{id} has not moved for {hours} h: {why}"), &show);
            }
            Phase::Aborted { .. } if hours >= STUCK_HOURS => {
                let what = format!("{id} is aborted, and some of its hosts have not ended");
                out.odd("rollouts", what, &show);
            }
            _ => {}
        }
    }
    if out.0.len() == before {
        let what = match told.rollouts.len() {
            0 => "none is under way".to_owned(),
            count => format!("{count} under way, none is stuck"),
        };
        out.good("rollouts", what);
    }
}

fn backups(sight: &Sight, now: Timestamp, out: &mut Findings) {
    let Backups { directory, newest } = &sight.backups;
    let at = directory.display();
    let hint =
        "systemctl enable --now fettle-backup.timer, or name the directory of yours with --backups";
    match newest {
        Err(why) => out.odd("backups", format!("{at}: {why}"), hint),
        Ok(None) => out.odd("backups", format!("there is none in {at}"), hint),
        Ok(Some(newest)) if now.duration_since(*newest).as_hours() >= BACKUP_HOURS => {
            let what = format!("the newest in {at} is of {newest}");
            out.odd("backups", what, "systemctl status fettle-backup.timer fettle-backup");
        }
        Ok(Some(newest)) => out.good("backups", format!("the newest in {at} is of {newest}")),
    }
}
