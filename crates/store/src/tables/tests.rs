//! Ring 0: tests of a plan's works on twins, asked for, ordered from a worker, and ended.

use crate::view::{from_json, from_micros, int, micros, to_digest, to_json};
use crate::{StoreError, Tx, View};
use fettle_core::testbed::{ASKED_AGAIN, TestReport, Work};
use fettle_core::{AssignmentId, HostId, Timestamp};
use rusqlite::{Row, params};
use serde_json::json;

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub struct TestRecord {
    /// 1, 2, 3, ...
    pub number: u64,
    /// What is tested.
    pub work: Work,
    /// The plan it was asked for.
    pub plan: u64,
    /// The host that the twin is made after.
    pub host: HostId,
    /// What people called it.
    pub like: String,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// By whom.
    pub asked_by: String,
    /// The worker that was told.
    pub worker: Option<HostId>,
    /// By which assignment.
    pub assignment: Option<AssignmentId>,
    /// Since when.
    pub ordered_at: Option<Timestamp>,
    /// How and when it ended.
    pub ended: Option<(Timestamp, TestReport)>,
}

const COLUMNS: &str = "number, cohort, changes, plan, host, like_host, asked_at, asked_by, worker, assignment, \
                       ordered_at, ended_at, report";

fn read(row: &Row<'_>) -> Result<TestRecord, StoreError> {
    let ended_at: Option<i64> = row.get(11)?;
    let report: Option<String> = row.get(12)?;
    let ended = match (ended_at, report) {
        (Some(at), Some(report)) => Some((from_micros(at), from_json("test", &report)?)),
        _ => None,
    };
    Ok(TestRecord {
        number: row.get::<_, i64>(0)? as u64,
        work: Work {
            cohort: to_digest("test", &row.get::<_, String>(1)?)?,
            changes: to_digest("test", &row.get::<_, String>(2)?)?,
        },
        plan: row.get::<_, i64>(3)? as u64,
        host: HostId(row.get(4)?),
        like: row.get(5)?,
        asked_at: from_micros(row.get(6)?),
        asked_by: row.get(7)?,
        worker: row.get::<_, Option<String>>(8)?.map(HostId),
        assignment: row.get::<_, Option<String>>(9)?.map(AssignmentId),
        ordered_at: row.get::<_, Option<i64>>(10)?.map(from_micros),
        ended,
    })
}

/// The newest tests first; of one plan, or of all.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn latest(
    view: &View<'_>,
    plan: Option<u64>,
    limit: u64,
) -> Result<Vec<TestRecord>, StoreError> {
    view.all(
        &format!(
            "SELECT {COLUMNS} FROM tests WHERE $1 IS NULL OR plan = $1 ORDER BY number DESC LIMIT $2"
        ),
        params![plan.map(int), int(limit)],
        read,
    )
}

/// The newest test of some work.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of_work(view: &View<'_>, work: &Work) -> Result<Option<TestRecord>, StoreError> {
    view.one(
        &format!(
            "SELECT {COLUMNS} FROM tests WHERE cohort = $1 AND changes = $2 ORDER BY number DESC LIMIT 1"
        ),
        params![work.cohort.to_string(), work.changes.to_string()],
        read,
    )
}

/// How many tests of some work in a row were interrupted, the last of them being the newest that has ended, up to test
/// `number`; and why that one was.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn interruptions(
    view: &View<'_>,
    work: &Work,
    number: u64,
) -> Result<(u32, Option<String>), StoreError> {
    let ended = view.all(
        &format!(
            "SELECT {COLUMNS} FROM tests WHERE cohort = $1 AND changes = $2 AND number <= $3 AND ended_at IS NOT NULL \
             ORDER BY number DESC LIMIT $4"
        ),
        params![
            work.cohort.to_string(),
            work.changes.to_string(),
            int(number),
            // One more than is ever asked again by itself tells enough.
            ASKED_AGAIN + 1
        ],
        read,
    )?;
    let reports = ended.iter().filter_map(|test| test.ended.as_ref()).map(|(_, report)| report);
    let why: Vec<&str> = reports.map_while(|report| report.interruption()).collect();
    Ok((why.len() as u32, why.first().map(|why| (*why).to_owned())))
}

/// Tests that have not ended, oldest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn open(view: &View<'_>) -> Result<Vec<TestRecord>, StoreError> {
    view.all(
        &format!("SELECT {COLUMNS} FROM tests WHERE ended_at IS NULL ORDER BY number"),
        [],
        read,
    )
}

/// Asks for a test of some work of a plan. One that has not ended stands for it: then nothing is written.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn ask(
    tx: &mut Tx<'_>,
    plan: u64,
    work: &Work,
    host: &HostId,
    like: &str,
) -> Result<(), StoreError> {
    if of_work(tx, work)?.is_some_and(|test| test.ended.is_none()) {
        return Ok(());
    }
    let number = tx.count("SELECT coalesce(max(number), 0) FROM tests", [])? + 1;
    let (now, actor) = (micros(tx.now()), tx.actor().to_owned());
    tx.execute(
        "INSERT INTO tests (number, cohort, changes, plan, host, like_host, asked_at, asked_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            int(number),
            work.cohort.to_string(),
            work.changes.to_string(),
            int(plan),
            host.as_str(),
            like,
            now,
            actor
        ],
    )?;
    let body =
        json!({ "plan": plan, "cohort": work.cohort, "changes": work.changes, "like": like });
    tx.record("test.asked", &number.to_string(), body);
    Ok(())
}

/// A worker was told, by an assignment written in the same transaction.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn order(
    tx: &mut Tx<'_>,
    number: u64,
    worker: &HostId,
    assignment: &AssignmentId,
) -> Result<(), StoreError> {
    let now = micros(tx.now());
    tx.execute(
        "UPDATE tests SET worker = $1, assignment = $2, ordered_at = $3 WHERE number = $4 AND ended_at IS NULL",
        params![worker.as_str(), assignment.as_str(), now, int(number)],
    )?;
    let body = json!({ "worker": worker, "assignment": assignment });
    tx.record("test.ordered", &number.to_string(), body);
    Ok(())
}

/// Its worker is told no more: it waits for one again.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn wait_again(tx: &mut Tx<'_>, number: u64, why: &str) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE tests SET worker = NULL, assignment = NULL, ordered_at = NULL WHERE number = $1 AND ended_at IS NULL",
        [int(number)],
    )?;
    tx.record("test.waits-again", &number.to_string(), json!({ "why": why }));
    Ok(())
}

/// A test has ended. Doing it twice changes nothing: the first end stands.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn end(tx: &mut Tx<'_>, number: u64, report: &TestReport) -> Result<bool, StoreError> {
    let now = micros(tx.now());
    let moved = tx.execute_unrecorded(
        "UPDATE tests SET ended_at = $1, report = $2 WHERE number = $3 AND ended_at IS NULL",
        params![now, to_json("test", report)?, int(number)],
    )?;
    if moved > 0 {
        let mirror = &report.mirror;
        tx.record(
            "test.ended",
            &number.to_string(),
            json!({
                "verdict": report.verdict, "wanted": mirror.wanted, "exact": mirror.exact,
                "report": fettle_core::Digest::of_json(report),
            }),
        );
    }
    Ok(moved > 0)
}

/// The test that an assignment ordered.
///
/// # Errors
/// [`StoreError`] of the database.
pub fn of_assignment(
    view: &View<'_>,
    assignment: &AssignmentId,
) -> Result<Option<TestRecord>, StoreError> {
    view.one(
        &format!("SELECT {COLUMNS} FROM tests WHERE assignment = $1"),
        [assignment.as_str()],
        read,
    )
}

/// A test by its number.
///
/// # Errors
/// [`StoreError::Missing`].
pub fn get(view: &View<'_>, number: u64) -> Result<TestRecord, StoreError> {
    view.one(&format!("SELECT {COLUMNS} FROM tests WHERE number = $1"), [int(number)], read)?
        .ok_or_else(|| StoreError::Missing { what: "test", name: number.to_string() })
}
