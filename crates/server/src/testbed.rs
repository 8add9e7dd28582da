//! Ring 0: which tests are due, which worker is told, and what came of them.
//!
//! A test is a row that is asked for (by a plan whose policy requires it, or by an operator), ordered from a free worker by
//! a signed assignment in the worker's own lane, and ended by the worker's report. Everything follows from the rows: the
//! loop can be killed anywhere and run again.

use crate::api::{ATTEMPTS, plan_now};
use crate::app::{App, now};
use fettle_core::assignment::{Assignment, Order};
use fettle_core::host::Host;
use fettle_core::plan::Plan;
use fettle_core::testbed::{
    self, Coverage, TestOrder, TestReport, TestState, TestbedRule, Tested, Tests, Verdict, Work,
};
use fettle_core::{AssignmentId, Hold, HostId, Problem, ProblemKind, RolloutId, Timestamp};
use fettle_store::tests::{self as stored, TestRecord};
use fettle_store::{StoreError, Tx, View, assignments, barred, hosts, plans, rollouts};
use fettle_wire::agent::{Tested as Told, TestedReply};
use fettle_wire::api::{MakePlan, PlanTests, TestRow};
use jiff::SignedDuration;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// What stands in the place of a rollout in the assignment of a test.
pub(crate) const TESTBED: &str = "testbed";
/// A worker may begin a test so long after it was ordered.
const ORDER_STANDS: SignedDuration = SignedDuration::from_hours(24);
/// Reasons that are told why there is nothing to test.
const WHYS: usize = 3;
/// Larger than any report a worker of ours makes, in bytes.
const LARGEST_REPORT: usize = 1 << 20;

/// What a plan asks of the test environment; for a plan that asks for nothing, what is usual.
pub(crate) fn rule_of(plan: &Plan) -> TestbedRule {
    plan.testbed.clone().unwrap_or_default()
}

/// The newest test of each work of a plan.
pub(crate) fn tests_of(app: &App, view: &View<'_>, plan: &Plan) -> Result<Tests, Problem> {
    let works: BTreeSet<Work> = plan.hosts.values().map(Work::of).collect();
    let mut tests = Tests::new();
    let mut workers = None;
    for work in works {
        let Some(record) = stored::of_work(view, &work)? else { continue };
        if workers.is_none() && record.ended.is_none() {
            workers = Some(Workers::look(app, view)?);
        }
        let state = state(view, &record, workers.as_ref(), &rule_of(plan))?;
        tests.insert(work, Tested { test: name(record.number), state });
    }
    Ok(tests)
}

/// How much of a plan was tested.
pub(crate) fn coverage_of(app: &App, view: &View<'_>, plan: &Plan) -> Result<Coverage, Problem> {
    let tests = tests_of(app, view, plan)?;
    Ok(testbed::coverage(plan, &rule_of(plan), &tests, now()))
}

/// What people call a test.
fn name(number: u64) -> AssignmentId {
    AssignmentId(format!("test-{number}"))
}

fn state(
    view: &View<'_>,
    record: &TestRecord,
    workers: Option<&Workers>,
    rule: &TestbedRule,
) -> Result<TestState, Problem> {
    Ok(match (&record.ended, &record.worker, record.ordered_at) {
        (Some((at, report)), ..) => TestState::Ended { at: *at, report: Box::new(report.clone()) },
        (None, Some(worker), Some(since)) => {
            let named = workers.and_then(|w| w.hosts.get(worker)).map(|w| w.host.name.clone());
            TestState::Running { worker: named.unwrap_or_else(|| worker.to_string()), since }
        }
        _ => {
            let free = workers.map(|workers| workers.free(rule));
            let why = match free {
                Some(Err(why)) => why,
                _ => "waits to be given to a worker".to_owned(),
            };
            let before = record.number.saturating_sub(1);
            let why = match stored::interruptions(view, &record.work, before)? {
                (times, Some(because)) => {
                    format!("{times} tests before it were interrupted ({because}); {why}")
                }
                _ => why,
            };
            TestState::Waiting { why }
        }
    })
}

/// The fleet as whoever looks for a worker sees it: by labels, without inventories.
struct Workers {
    hosts: BTreeMap<HostId, Seen>,
}

struct Seen {
    host: Host,
    generation: u64,
    /// It was to be heard of for so long, and was not.
    silent: bool,
    /// It has ever spoken, as far as is written down.
    spoken: bool,
    busy: bool,
}

impl Workers {
    fn look(app: &App, view: &View<'_>) -> Result<Self, Problem> {
        let at_work: BTreeSet<HostId> =
            assignments::at_work(view)?.into_iter().map(|(host, _)| host).collect();
        let mut seen = BTreeMap::new();
        for record in hosts::all(view)? {
            let host = record.host;
            let last_seen = app.last_seen(&host.id, host.last_seen);
            let heard = last_seen.unwrap_or(host.enrolled_at).max(app.started_at);
            let unheard = now().duration_since(heard).as_secs();
            let limit = i64::try_from(app.options.silent_after_seconds).unwrap_or(i64::MAX);
            // A server that has just come up may not know yet who spoke: nobody is silent for that.
            let (silent, spoken) = (unheard > limit, last_seen.is_some());
            let busy = at_work.contains(&host.id);
            let generation = record.generation;
            seen.insert(host.id.clone(), Seen { host, generation, silent, spoken, busy });
        }
        Ok(Self { hosts: seen })
    }

    /// A worker that can be told now, or why there is none.
    fn free(&self, rule: &TestbedRule) -> Result<(&HostId, &Seen), String> {
        let all: Vec<_> = self.hosts.iter().filter(|(_, s)| rule.worker.matches(&s.host)).collect();
        if all.is_empty() {
            return Err(format!("no host is a worker (`{}`)", rule.worker));
        }
        let able = |(_, s): &&(&HostId, &Seen)| {
            s.spoken && !s.silent && !s.busy && s.host.quarantined.is_none()
        };
        if let Some((id, seen)) = all.iter().find(able) {
            return Ok((*id, *seen));
        }
        let why = |s: &Seen| match (s.silent || !s.spoken, s.host.quarantined.is_some()) {
            (true, _) => "is silent",
            (_, true) => "is quarantined",
            _ => "is at work",
        };
        let said: Vec<String> =
            all.iter().take(3).map(|(_, s)| format!("{} {}", s.host.name, why(s))).collect();
        Err(format!("waits for a worker: {}", said.join(", ")))
    }
}

/// Asks for the tests that a plan lacks. `again`: also for those that ended otherwise than well.
pub(crate) fn ask(app: &App, tx: &mut Tx<'_>, plan: &Plan, again: bool) -> Result<(), Problem> {
    let tests = tests_of(app, tx, plan)?;
    for (work, host) in testbed::due(plan, &rule_of(plan), &tests, again, tx.now()) {
        let like = plan.hosts.get(host).map_or("", |h| h.name.as_str());
        stored::ask(tx, plan.number, &work, host, like)?;
    }
    Ok(())
}

/// An operator asks for the tests of a plan.
pub(crate) fn run(app: &App, actor: &str, number: u64, again: bool) -> Result<PlanTests, Problem> {
    app.store.write::<_, Problem>(actor, now(), |tx| {
        let plan = plans::get(tx, number)?;
        ask(app, tx, &plan, again)
    })?;
    app.test.notify_one();
    app.events.tell("plan", &number.to_string());
    app.store.read(|view| plan_tests(app, view, number))
}

/// An operator asks for a test of what the policy means for one host now. Gives the test of it: one that stands already, or
/// one that was asked for by this.
pub(crate) fn run_host(
    app: &App,
    (actor, principal): (&str, &str),
    named: &str,
    again: bool,
) -> Result<TestRow, Problem> {
    let host = app.store.read(|view| hosts::find(view, named))?.host;
    let policies = app.policies();
    let policy = policies.of(&host).ok_or_else(|| {
        let message =
            format!("no policy governs host {}, so nothing is to be tested for it", host.name);
        let hint = format!("`fettle policy explain {}` says why", host.name);
        Problem::new(ProblemKind::Refused, "no-policy", message, hint)
    })?;
    let wanted = MakePlan { policy: policy.name.clone(), hosts: vec![host.id.to_string()] };
    for _ in 0..ATTEMPTS {
        let plan = app.store.read(|view| plan_now(app, view, &wanted))?;
        let planned = plan.hosts.get(&host.id).ok_or_else(|| nothing_to_test(&host, &plan))?;
        let work = Work::of(planned);
        let asked = app.store.write::<_, Problem>(actor, now(), |tx| {
            let tests = tests_of(app, tx, &plan)?;
            if testbed::due(&plan, &rule_of(&plan), &tests, again, tx.now()).is_empty() {
                return Ok(());
            }
            // Where a plan for all that is owed means the same for the host, the test is of that one.
            let newest = plans::newest_of(tx, &plan.policy)?;
            let newest = newest.map(|number| plans::get(tx, number)).transpose()?;
            let same = |newest: &Plan| newest.hosts.get(&host.id).map(Work::of) == Some(work);
            let number = match newest.filter(same) {
                Some(newest) => newest.number,
                None => {
                    plans::insert(tx, &plan, principal)?;
                    plan.number
                }
            };
            Ok(stored::ask(tx, number, &work, &host.id, &host.name)?)
        });
        match asked {
            Err(problem) if problem.kind == ProblemKind::Conflict => continue,
            asked => asked?,
        }
        app.test.notify_one();
        app.events.tell("plan", &plan.number.to_string());
        return app.store.read(|view| {
            let record = stored::of_work(view, &work)?
                .ok_or(StoreError::Missing { what: "test", name: work.cohort.to_string() })?;
            row(view, &record, &Workers::look(app, view)?, &rule_of(&plan))
        });
    }
    Err(StoreError::Conflict("plans are made faster than this one could be kept".into()).into())
}

/// Why there is nothing to test for a host: what its plan says.
fn nothing_to_test(host: &Host, plan: &Plan) -> Problem {
    let whys: BTreeSet<String> = plan
        .held
        .iter()
        .flat_map(|it| &it.what)
        .flat_map(|it| &it.reasons)
        .map(Hold::to_string)
        .collect();
    let whys: Vec<String> = whys.into_iter().take(WHYS).collect();
    let message = format!("nothing would be changed on host {}: {}", host.name, whys.join("; "));
    let hint = format!("`fettle plan make {} --host {}` says all of it", plan.policy, host.name);
    Problem::new(ProblemKind::Refused, "nothing-to-do", message, hint)
}

/// What is known of a plan's tests.
pub(crate) fn plan_tests(app: &App, view: &View<'_>, number: u64) -> Result<PlanTests, Problem> {
    tests_of_plan(app, view, &plans::get(view, number)?)
}

/// The same of a plan that was read.
pub(crate) fn tests_of_plan(app: &App, view: &View<'_>, plan: &Plan) -> Result<PlanTests, Problem> {
    let coverage = coverage_of(app, view, plan)?;
    let ((cohorts, tested), (hosts, covered)) = (coverage.works(), coverage.hosts());
    let workers = Workers::look(app, view)?;
    let mut tests = Vec::new();
    for covered in &coverage.works {
        if let Some(record) = stored::of_work(view, &covered.work)? {
            tests.push(row(view, &record, &workers, &rule_of(plan))?);
        }
    }
    Ok(PlanTests {
        plan: plan.number,
        required: plan.testbed.as_ref().is_some_and(|rule| rule.required),
        cohorts,
        cohorts_tested: tested,
        hosts,
        hosts_covered: covered,
        percent: coverage.percent(),
        hold: coverage.hold(),
        works: coverage.works,
        tests,
    })
}

/// The newest tests.
pub(crate) fn rows(
    app: &App,
    view: &View<'_>,
    plan: Option<u64>,
    limit: u64,
) -> Result<Vec<TestRow>, Problem> {
    let workers = Workers::look(app, view)?;
    let records = stored::latest(view, plan, limit)?;
    records.iter().map(|r| row(view, r, &workers, &TestbedRule::default())).collect()
}

/// One test, by its number.
pub(crate) fn one(app: &App, view: &View<'_>, number: u64) -> Result<TestRow, Problem> {
    let record = stored::get(view, number)?;
    row(view, &record, &Workers::look(app, view)?, &TestbedRule::default())
}

fn row(
    view: &View<'_>,
    record: &TestRecord,
    workers: &Workers,
    rule: &TestbedRule,
) -> Result<TestRow, Problem> {
    Ok(TestRow {
        number: record.number,
        work: record.work,
        plan: record.plan,
        like: record.like.clone(),
        asked_at: record.asked_at,
        asked_by: record.asked_by.clone(),
        worker: record.worker.as_ref().map(|id| {
            workers.hosts.get(id).map_or_else(|| id.to_string(), |w| w.host.name.clone())
        }),
        state: state(view, record, Some(workers), rule)?,
    })
}

/// Asks for what rollouts wait for, takes back what no worker answers for, and gives the rest to those that are free.
pub(crate) fn drive(app: &App) -> Result<(), Problem> {
    let waiting = app.store.read::<_, Problem>(|view| {
        let mut waiting = Vec::new();
        for line in rollouts::unfinished(view)? {
            let state = crate::rollouts::load(app, view, &line.id)?;
            let due = |state: &fettle_core::rollout::Rollout| -> Result<bool, Problem> {
                let tests = tests_of(app, view, &state.plan)?;
                Ok(!testbed::due(&state.plan, &rule_of(&state.plan), &tests, false, now())
                    .is_empty())
            };
            if state.ended_at.is_none() && state.awaits_tests() && due(&state)? {
                waiting.push(state);
            }
        }
        Ok((waiting, stored::open(view)?))
    })?;
    let (rollouts, open) = waiting;
    for state in rollouts {
        app.store.write::<_, Problem>("server", now(), |tx| ask(app, tx, &state.plan, false))?;
    }
    if open.is_empty() && app.store.read::<_, Problem>(|v| Ok(stored::open(v)?))?.is_empty() {
        return Ok(());
    }
    // One look at the fleet, whatever waits.
    app.store.write::<_, Problem>("server", now(), |tx| {
        let mut workers = Workers::look(app, tx)?;
        for record in stored::open(tx)? {
            take_back(tx, &mut workers, &record)?;
        }
        let mut plans = BTreeMap::new();
        for record in stored::open(tx)?.iter().filter(|it| it.assignment.is_none()) {
            let plan = match plans.entry(record.plan) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(free) => free.insert(plans::get(tx, record.plan)?),
            };
            give(app, tx, &mut workers, plan, record)?;
        }
        Ok(())
    })
}

/// The worker is silent, or its assignment no longer stands: the test waits again.
fn take_back(tx: &mut Tx<'_>, workers: &mut Workers, record: &TestRecord) -> Result<(), Problem> {
    let (Some(worker), Some(assignment)) = (&record.worker, &record.assignment) else {
        return Ok(());
    };
    let current = assignments::current(tx, worker)?;
    let stands = current.is_some_and(|(id, _)| id == *assignment);
    let silent = workers.hosts.get(worker).is_none_or(|w| w.silent);
    let expired = record.ordered_at.is_some_and(|at| tx.now().duration_since(at) >= ORDER_STANDS);
    if stands && !silent && !expired {
        return Ok(());
    }
    if stands {
        assignments::withdraw(tx, assignment)?;
        if let Some(free) = workers.hosts.get_mut(worker) {
            free.busy = false;
        }
    }
    let why = if silent { "the worker is silent" } else { "the worker's order no longer stands" };
    Ok(stored::wait_again(tx, record.number, why)?)
}

/// Gives a test to a worker that is free; else it goes on waiting.
fn give(
    app: &App,
    tx: &mut Tx<'_>,
    workers: &mut Workers,
    plan: &Plan,
    record: &TestRecord,
) -> Result<(), Problem> {
    let number = record.number;
    let Some(order) = order_of(tx, plan, record)? else {
        let report = TestReport::not_tested(
            "hosts-changed",
            "no host of the cohort is as it was when the plan was made",
            "make a new plan",
        );
        stored::end(tx, number, &report)?;
        return Ok(());
    };
    let Ok((worker, seen)) = workers.free(&rule_of(plan)) else { return Ok(()) };
    let worker = worker.clone();
    let generation = seen.generation + 1;
    let at = tx.now();
    let assignment = Assignment {
        schema: 1,
        id: AssignmentId(format!("{TESTBED}/{worker}/{generation}")),
        host: worker.clone(),
        generation,
        rollout: RolloutId(TESTBED.to_owned()),
        plan: plan.digest(),
        issued_at: at,
        not_before: at,
        expires_at: at.checked_add(ORDER_STANDS).unwrap_or(Timestamp::MAX),
        order: Order::Test(Box::new(order)),
    };
    let signed = app.trust.signer.sign(&assignment);
    assignments::insert(tx, &assignment, &signed)?;
    if let Some(told) = workers.hosts.get_mut(&worker) {
        (told.busy, told.generation) = (true, generation);
    }
    Ok(stored::order(tx, number, &worker, &assignment.id)?)
}

/// What the worker is told: after the host that was named, or another one of the same work that is still what it was.
fn order_of(
    view: &View<'_>,
    plan: &Plan,
    record: &TestRecord,
) -> Result<Option<TestOrder>, Problem> {
    let first = plan.hosts.get_key_value(&record.host);
    let others = plan.hosts.iter().filter(|(id, _)| **id != record.host);
    for (id, planned) in first.into_iter().chain(others) {
        if Work::of(planned) != record.work {
            continue;
        }
        let inventory = hosts::inventory(view, id)?;
        if let Some(order) = inventory.and_then(|i| TestOrder::of(planned, &i)) {
            return Ok(Some(order));
        }
    }
    Ok(None)
}

/// A worker reports. What is kept is acknowledged; said again, it changes nothing.
pub(crate) fn tested(app: &App, host: &HostId, told: &Told) -> Result<TestedReply, Problem> {
    let length = serde_json::to_vec(&told.report).map_or(usize::MAX, |text| text.len());
    if length > LARGEST_REPORT {
        return Err(Problem::new(
            ProblemKind::BadInput,
            "odd-report",
            format!("a report of {length} bytes is not taken"),
            "upgrade the worker's agent",
        ));
    }
    let plan = app.store.write::<_, Problem>(&format!("host:{host}"), now(), |tx| {
        match assignments::owner(tx, &told.assignment)? {
            Some((owner, _)) if owner != *host => {
                return Err(Problem::new(
                    ProblemKind::Forbidden,
                    "not-yours",
                    format!("assignment {} is another host's", told.assignment),
                    "this agent has a state directory that was copied from another host: enrol it anew",
                ));
            }
            // A change ends by its journal, and nothing else frees the host of it.
            Some((_, of)) if of.as_str() != TESTBED => {
                return Err(Problem::new(
                    ProblemKind::BadInput,
                    "no-test",
                    format!("assignment {} orders no test", told.assignment),
                    "upgrade the worker's agent",
                ));
            }
            Some(_) => {}
            None => return Ok(None),
        }
        assignments::end(tx, &told.assignment)?;
        // One that was taken back from this worker is another's now.
        let Some(record) = stored::of_assignment(tx, &told.assignment)? else { return Ok(None) };
        if !stored::end(tx, record.number, &told.report)? {
            return Ok(None);
        }
        let (interrupted, _) = stored::interruptions(tx, &record.work, record.number)?;
        if told.report.is_asked_again(interrupted) {
            stored::ask(tx, record.plan, &record.work, &record.host, &record.like)?;
        }
        let plan = plans::get(tx, record.plan)?;
        if let Verdict::Failed { phase, reason } = &told.report.verdict {
            let host = plan.hosts.values().find(|h| record.work.is_or_was_of(h));
            let versions: Vec<(String, String)> = host
                .into_iter()
                .flat_map(|h| h.order.changes.iter().map(|c| (c.name.clone(), c.to.clone())))
                .collect();
            let why = format!("the twin of {}: {}: {reason}", record.like, phase.word());
            let by = RolloutId(TESTBED.to_owned());
            barred::bar(tx, &by, &versions, &[record.work.cohort], &why)?;
        }
        Ok(Some(record.plan))
    })?;
    if let Some(plan) = plan {
        app.events.tell("plan", &plan.to_string());
        tracing::info!(plan, verdict = told.report.verdict.word(), "a twin was tested");
    }
    // The worker is free for the next one.
    app.test.notify_one();
    app.drive.notify_one();
    Ok(TestedReply { kept: true })
}
