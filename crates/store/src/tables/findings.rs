//! Findings: where each vulnerability stands on each host, since when.

use super::judged;
use crate::view::{from_json, from_micros, int, micros, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::finding::{Finding, FindingState, Severity};
use fettle_core::{HostId, Timestamp};
use rusqlite::{Row, params};
use serde_json::json;
use std::collections::BTreeMap;

/// A finding with its history.
#[derive(Debug, Clone, PartialEq)]
pub struct FindingRecord {
    /// As last judged.
    pub finding: Finding,
    /// When this server first saw it on the host.
    pub first_seen: Timestamp,
    /// Since when it is in its state.
    pub since: Timestamp,
    /// When it was proved gone.
    pub fixed_at: Option<Timestamp>,
    /// When it last came back after it had been proved gone: an undo, a reinstalled host.
    pub reopened_at: Option<Timestamp>,
}

impl FindingRecord {
    /// From when on it is owed: the first sight, or that it came back. What was done before that was done.
    pub fn counts_from(&self) -> Timestamp {
        self.reopened_at.unwrap_or(self.first_seen)
    }
}

/// Which findings. `None` and `false` do not narrow.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this host.
    pub host: Option<HostId>,
    /// Only this vulnerability.
    pub id: Option<String>,
    /// Only this state.
    pub state: Option<FindingState>,
    /// Only this severity.
    pub severity: Option<Severity>,
    /// Only those that are open and owed before this moment.
    pub due_before: Option<Timestamp>,
}

fn record(row: &Row<'_>) -> Result<FindingRecord, StoreError> {
    Ok(FindingRecord {
        finding: from_json("finding", &row.get::<_, String>(0)?)?,
        first_seen: from_micros(row.get(1)?),
        since: from_micros(row.get(2)?),
        fixed_at: row.get::<_, Option<i64>>(3)?.map(from_micros),
        reopened_at: row.get::<_, Option<i64>>(4)?.map(from_micros),
    })
}

const WHERE: &str = "($1 IS NULL OR host = $1) AND ($2 IS NULL OR id = $2) AND ($3 IS NULL OR state = $3) \
                     AND ($4 IS NULL OR severity = $4) \
                     AND ($5 IS NULL OR (state = 'open' AND deadline < $5))";

/// Findings that pass the filter, worst first, and how many there are in all.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn list(
    view: &View<'_>,
    filter: &Filter,
    limit: u64,
    offset: u64,
) -> Result<(u64, Vec<FindingRecord>), StoreError> {
    let host = filter.host.as_ref().map(HostId::as_str);
    let (state, severity) =
        (filter.state.map(FindingState::word), filter.severity.map(Severity::word));
    let due = filter.due_before.map(micros);
    let total = view.count(
        &format!("SELECT count(*) FROM findings WHERE {WHERE}"),
        params![host, filter.id, state, severity, due],
    )?;
    let items = view.all(
        &format!(
            "SELECT body, first_seen, since, fixed_at, reopened_at FROM findings WHERE {WHERE} \
             ORDER BY (state = 'fixed'), rank DESC, id, host LIMIT $6 OFFSET $7"
        ),
        params![host, filter.id, state, severity, due, int(limit), int(offset)],
        record,
    )?;
    Ok((total, items))
}

/// All findings of a host, by `(id, source)`.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of_host(
    view: &View<'_>,
    host: &HostId,
) -> Result<BTreeMap<(String, String), FindingRecord>, StoreError> {
    let rows = view.all(
        "SELECT body, first_seen, since, fixed_at, reopened_at FROM findings WHERE host = $1",
        [host.as_str()],
        record,
    )?;
    Ok(rows.into_iter().map(|r| ((r.finding.id.clone(), r.finding.source.clone()), r)).collect())
}

/// The findings of a host in those source packages that are `wanted`, by `(id, source)`. What is not wanted is not read.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of_host_in(
    view: &View<'_>,
    host: &HostId,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<(String, String), FindingRecord>, StoreError> {
    let rows = view.all(
        "SELECT body, first_seen, since, fixed_at, reopened_at, source FROM findings WHERE host = $1",
        [host.as_str()],
        |row| {
            let source = row.get_ref(5)?.as_str();
            let source = source.map_err(|e| StoreError::Document {
                what: "finding",
                detail: e.to_string(),
            })?;
            wanted(source).then(|| record(row)).transpose()
        },
    )?;
    let rows = rows.into_iter().flatten();
    Ok(rows.map(|r| ((r.finding.id.clone(), r.finding.source.clone()), r)).collect())
}

/// Where one vulnerability stands on a host, in each source package.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of_host_by_id(
    view: &View<'_>,
    host: &HostId,
    id: &str,
) -> Result<Vec<FindingRecord>, StoreError> {
    view.all(
        "SELECT body, first_seen, since, fixed_at, reopened_at FROM findings WHERE host = $1 AND id = $2 ORDER BY source",
        [host.as_str(), id],
        record,
    )
}

/// One finding by its key.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn get(
    view: &View<'_>,
    host: &HostId,
    id: &str,
    source: &str,
) -> Result<Option<FindingRecord>, StoreError> {
    view.one(
        "SELECT body, first_seen, since, fixed_at, reopened_at FROM findings WHERE host = $1 AND id = $2 AND source = $3",
        [host.as_str(), id, source],
        record,
    )
}

/// A finding in a few words: what an index of the fleet keeps of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark<'a> {
    /// The host.
    pub host: &'a str,
    /// The vulnerability.
    pub id: &'a str,
    /// Source package.
    pub source: &'a str,
    /// Class of the host's policy; empty without.
    pub class: &'a str,
    /// Where it stands.
    pub state: FindingState,
    /// How bad.
    pub severity: Severity,
    /// How bad beside others.
    pub rank: Rank,
    /// By when it is owed.
    pub deadline: Option<Timestamp>,
    /// When it was proved gone.
    pub fixed_at: Option<Timestamp>,
}

/// The columns of a [`Mark`].
const MARK: &str =
    "host, id, source, coalesce(body ->> 'class', ''), state, severity, rank, deadline, fixed_at";

fn mark<'r>(row: &'r Row<'_>) -> Result<Mark<'r>, StoreError> {
    let unreadable = |detail: String| StoreError::Document { what: "finding", detail };
    let text = |at: usize| row.get_ref(at)?.as_str().map_err(|e| unreadable(e.to_string()));
    let (state, severity) = (text(4)?, text(5)?);
    Ok(Mark {
        host: text(0)?,
        id: text(1)?,
        source: text(2)?,
        class: text(3)?,
        state: FindingState::ALL
            .into_iter()
            .find(|s| s.word() == state)
            .ok_or_else(|| unreadable(format!("`{state}` is no state")))?,
        severity: Severity::ALL
            .into_iter()
            .find(|s| s.word() == severity)
            .ok_or_else(|| unreadable(format!("`{severity}` is no severity")))?,
        rank: Rank(row.get(6)?),
        deadline: row.get::<_, Option<i64>>(7)?.map(from_micros),
        fixed_at: row.get::<_, Option<i64>>(8)?.map(from_micros),
    })
}

/// Hands over every finding in a few words, of one host or of all, those of one host together.
///
/// # Errors
/// [`StoreError`] of the database, or of a row that this program cannot read.
pub fn each_mark(
    view: &View<'_>,
    host: Option<&HostId>,
    mut take: impl FnMut(Mark<'_>),
) -> Result<(), StoreError> {
    let one = |row: &Row<'_>| {
        take(mark(row)?);
        Ok(())
    };
    // A map without a value costs no memory, however many rows there are.
    match host {
        Some(host) => {
            view.all(&format!("SELECT {MARK} FROM findings WHERE host = $1"), [host.as_str()], one)?
        }
        None => view.all(&format!("SELECT {MARK} FROM findings ORDER BY host"), [], one)?,
    };
    Ok(())
}

/// A finding as a report of a period looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dated<'a> {
    /// In a few words.
    pub mark: Mark<'a>,
    /// When this server first saw it on the host; of one that came back after it was proved gone, when it did.
    pub first_seen: Timestamp,
    /// Do the host's own sources offer a fix?
    pub offered: bool,
    /// Of one that is open and owed before the end of the period: the installed binary packages of its source, as a
    /// list in JSON. Empty of any other.
    pub binaries: &'a str,
}

/// Hands over every finding that was known before `to` and was not proved gone before `from`, those of one host together.
///
/// # Errors
/// [`StoreError`] of the database, or of a row that this program cannot read.
pub fn each_between(
    view: &View<'_>,
    from: Timestamp,
    to: Timestamp,
    mut take: impl FnMut(Dated<'_>),
) -> Result<(), StoreError> {
    view.all(
        &format!(
            "SELECT {MARK}, coalesce(reopened_at, first_seen), coalesce(body ->> 'offered', 0), \
             CASE WHEN state = 'open' AND deadline < $1 THEN coalesce(body ->> 'binaries', '') ELSE '' END \
             FROM findings WHERE coalesce(reopened_at, first_seen) < $1 AND (fixed_at IS NULL OR fixed_at >= $2) \
             ORDER BY host"
        ),
        [micros(to), micros(from)],
        |row| {
            take(Dated {
                mark: mark(row)?,
                first_seen: from_micros(row.get(9)?),
                offered: row.get(10)?,
                binaries: row.get_ref(11)?.as_str().map_err(|e| StoreError::Document {
                    what: "finding",
                    detail: e.to_string(),
                })?,
            });
            Ok(())
        },
    )?;
    Ok(())
}

/// [`Finding::rank`] as one number with the same order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(i64);

impl Rank {
    /// Known to be exploited.
    pub fn kev(self) -> bool {
        self.0 >> 32 & 1 == 1
    }
    /// A process that listens beyond loopback runs it.
    pub fn exposed(self) -> bool {
        self.0 >> 27 & 1 == 1
    }
    /// EPSS in thousandths; 0 where there is none.
    pub fn epss(self) -> u32 {
        (self.0 >> 16 & 0x3ff) as u32
    }
    /// CVSS score in thousandths; 0 where there is none.
    pub fn cvss(self) -> u32 {
        (self.0 >> 1 & 0x3fff) as u32
    }
}

/// What a new judgement of a host changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Findings that were not there before.
    pub new: u64,
    /// Findings whose state is another now.
    pub moved: u64,
    /// Findings proved gone by this judgement.
    pub fixed: u64,
    /// Findings that went without a fix: the vendor took back or changed what it said.
    pub withdrawn: u64,
    /// Rows written.
    pub written: u64,
}

/// What is to be written so that a host's findings are as they were judged: of [`compare`], for [`keep`].
#[derive(Debug, Clone, Default)]
pub struct Difference {
    records: Vec<FindingRecord>,
    /// Not judged any more, and not proved gone.
    withdrawn: Vec<(String, String)>,
    moves: BTreeMap<String, u64>,
    changed: Changed,
}

impl Difference {
    /// Is everything as it was?
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Vulnerability and source package of those that are not judged any more, and were not proved gone.
    pub fn withdrawn(&self) -> impl Iterator<Item = (&str, &str)> {
        self.withdrawn.iter().map(|(id, source)| (id.as_str(), source.as_str()))
    }

    /// How many rows it writes.
    pub fn rows(&self) -> usize {
        self.records.len() + self.withdrawn.len()
    }
}

/// Puts a host's findings as they are judged at `now` beside what was known ([`of_host`]). A finding that was vulnerable
/// and is not among them was withdrawn and is forgotten: what is proved gone comes as `fixed`. Unchanged rows are not
/// written. `rate` fills in class and deadline; it is given the time that the finding counts from:
/// [`FindingRecord::counts_from`].
pub fn compare(
    mut before: BTreeMap<(String, String), FindingRecord>,
    judged: Vec<Finding>,
    now: Timestamp,
    mut rate: impl FnMut(&mut Finding, Timestamp),
) -> Difference {
    let mut out = Difference::default();
    let mut moves: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut moved = |from, to| *moves.entry((from, to)).or_default() += 1;
    for mut finding in judged {
        let known = before.remove(&(finding.id.clone(), finding.source.clone()));
        let first_seen = known.as_ref().map_or(now, |k| k.first_seen);
        let comes_back = known.as_ref().is_some_and(|k| k.finding.state == FindingState::Fixed)
            && finding.state != FindingState::Fixed;
        let reopened_at =
            if comes_back { Some(now) } else { known.as_ref().and_then(|k| k.reopened_at) };
        rate(&mut finding, reopened_at.unwrap_or(first_seen));
        let next = match known {
            None if finding.state == FindingState::Fixed => continue,
            None => {
                out.changed.new += 1;
                moved("new", finding.state.word());
                FindingRecord { finding, first_seen, since: now, fixed_at: None, reopened_at }
            }
            Some(known) => {
                let state = finding.state;
                let same_state = known.finding.state == state;
                if known.finding == finding {
                    continue;
                }
                if !same_state {
                    out.changed.moved += 1;
                    out.changed.fixed += u64::from(state == FindingState::Fixed);
                    moved(known.finding.state.word(), state.word());
                }
                let since = if same_state { known.since } else { now };
                let fixed_at =
                    (state == FindingState::Fixed).then(|| known.fixed_at.unwrap_or(now));
                FindingRecord { finding, first_seen, since, fixed_at, reopened_at }
            }
        };
        out.records.push(next);
    }
    // Not judged any more, and nobody proved it gone: it was withdrawn, which is not the same as fixed.
    for known in before.into_values().filter(|k| k.finding.state != FindingState::Fixed) {
        moved(known.finding.state.word(), "withdrawn");
        out.changed.withdrawn += 1;
        out.withdrawn.push((known.finding.id, known.finding.source));
    }
    out.changed.written = out.rows() as u64;
    out.moves = moves.into_iter().map(|((from, to), n)| (format!("{from} -> {to}"), n)).collect();
    out
}

/// Writes what [`compare`] found different about a host.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn keep(
    tx: &mut Tx<'_>,
    host: &HostId,
    difference: &Difference,
) -> Result<Changed, StoreError> {
    for record in &difference.records {
        write(tx, record)?;
    }
    for (id, source) in &difference.withdrawn {
        tx.execute(
            "DELETE FROM findings WHERE host = $1 AND id = $2 AND source = $3",
            params![host.as_str(), id, source],
        )?;
    }
    if !difference.is_empty() {
        tx.touch(host);
    }
    if !difference.moves.is_empty() {
        tx.record("host.findings", host.as_str(), json!({ "moves": difference.moves }));
    }
    Ok(difference.changed)
}

/// [`compare`]s with what is known of the host, and [`keep`]s what is different.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn update(
    tx: &mut Tx<'_>,
    host: &HostId,
    judged: Vec<Finding>,
    rate: impl FnMut(&mut Finding, Timestamp),
) -> Result<Changed, StoreError> {
    let difference = compare(of_host(tx, host)?, judged, tx.now(), rate);
    keep(tx, host, &difference)
}

fn write(tx: &mut Tx<'_>, r: &FindingRecord) -> Result<(), StoreError> {
    let f = &r.finding;
    // A new class or rank of the same state is no decision: the policy or feed that caused it is in the ledger.
    tx.execute_unrecorded(
        "INSERT INTO findings (host, id, source, state, severity, kev, rank, deadline, first_seen, since, fixed_at, \
         reopened_at, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
         ON CONFLICT (host, id, source) DO UPDATE SET state = excluded.state, severity = excluded.severity, \
         kev = excluded.kev, rank = excluded.rank, deadline = excluded.deadline, since = excluded.since, \
         fixed_at = excluded.fixed_at, reopened_at = excluded.reopened_at, body = excluded.body",
        params![
            f.host.as_str(),
            f.id,
            f.source,
            f.state.word(),
            f.severity().word(),
            f.ranking.kev.is_some(),
            rank(f).0,
            f.deadline.map(micros),
            micros(r.first_seen),
            micros(r.since),
            r.fixed_at.map(micros),
            r.reopened_at.map(micros),
            to_json("finding", f)?,
        ],
    )?;
    Ok(())
}

fn rank(finding: &Finding) -> Rank {
    let (kev, severity, exposed, epss, cvss, in_use) = finding.rank();
    let epss = i64::from(epss.min(1023));
    let cvss = i64::from(cvss.min(16_383));
    Rank(
        i64::from(kev) << 32
            | (severity as i64) << 28
            | i64::from(exposed) << 27
            | epss << 16
            | cvss << 1
            | i64::from(in_use),
    )
}

/// Counts over the fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// By state word.
    pub by_state: BTreeMap<String, u64>,
    /// Open ones by severity word.
    pub open_by_severity: BTreeMap<String, u64>,
    /// Open ones past their deadline.
    pub overdue: u64,
    /// Open ones due before `soon`.
    pub due_soon: u64,
    /// Distinct vulnerabilities open somewhere.
    pub open_ids: u64,
    /// Open ones known to be exploited.
    pub open_kev: u64,
}

/// Counts everything at `now`; `soon` bounds [`Totals::due_soon`].
///
/// # Errors
/// [`StoreError`] of the database.
pub fn totals(view: &View<'_>, now: Timestamp, soon: Timestamp) -> Result<Totals, StoreError> {
    let pair = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)? as u64));
    let open = "SELECT count(*) FROM findings WHERE state = 'open'";
    Ok(Totals {
        by_state: view
            .all("SELECT state, count(*) FROM findings GROUP BY state", [], pair)?
            .into_iter()
            .collect(),
        open_by_severity: view
            .all(
                "SELECT severity, count(*) FROM findings WHERE state = 'open' GROUP BY severity",
                [],
                pair,
            )?
            .into_iter()
            .collect(),
        overdue: view.count(&format!("{open} AND deadline < $1"), [micros(now)])?,
        due_soon: view.count(
            &format!("{open} AND deadline >= $1 AND deadline < $2"),
            [micros(now), micros(soon)],
        )?,
        open_ids: view.count("SELECT count(DISTINCT id) FROM findings WHERE state = 'open'", [])?,
        open_kev: view.count(&format!("{open} AND kev = 1"), [])?,
    })
}

/// Findings of each host by state word.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn by_host(view: &View<'_>) -> Result<BTreeMap<HostId, BTreeMap<String, u64>>, StoreError> {
    let rows =
        view.all("SELECT host, state, count(*) FROM findings GROUP BY host, state", [], |row| {
            Ok((HostId(row.get(0)?), row.get::<_, String>(1)?, row.get::<_, i64>(2)? as u64))
        })?;
    let mut out: BTreeMap<HostId, BTreeMap<String, u64>> = BTreeMap::new();
    for (host, state, n) in rows {
        out.entry(host).or_default().insert(state, n);
    }
    Ok(out)
}

/// Forgets findings fixed before `before`. Gives how many.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn forget_fixed(tx: &mut Tx<'_>, before: Timestamp) -> Result<usize, StoreError> {
    let old = "SELECT DISTINCT host FROM findings WHERE state = 'fixed' AND fixed_at < $1";
    for host in tx.all(old, [micros(before)], |row| Ok(HostId(row.get(0)?)))? {
        tx.touch(&host);
        judged::unknown(tx, &host)?;
    }
    let gone = tx.execute_unrecorded(
        "DELETE FROM findings WHERE state = 'fixed' AND fixed_at < $1",
        [micros(before)],
    )?;
    if gone > 0 {
        tx.record("findings.forgotten", "fixed", json!({ "count": gone, "fixed_before": before }));
    }
    Ok(gone)
}
