//! `fettle testbed`: tests on twins.

use crate::args::{Output, Testbed};
use crate::client::escape;
use crate::commands::Ask;
use crate::output::hint;
use crate::show;
use fettle_core::testbed::{TestState, Verdict};
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::{Page, PlanTests, RunTests, TestRow};
use std::time::Duration;

/// How often whoever waits looks.
const LOOK: Duration = Duration::from_secs(2);
/// Tests among which one is looked for by its cohort.
const KNOWN: u64 = 10_000;

/// Runs the command.
pub(crate) fn run(ask: &Ask<'_>, it: &Testbed) -> Result<(), Problem> {
    match it {
        Testbed::List { plan, limit } => {
            let plan = plan.map(|plan| format!("&plan={plan}")).unwrap_or_default();
            let path = format!("/tests?limit={limit}{plan}");
            ask.get(&path, |page: &Page<TestRow>| show::testbed::list(page))
        }
        Testbed::Show { test } => {
            let row = find(ask, test)?;
            ask.print(&row, show::testbed::one)
        }
        Testbed::Coverage { plan } => ask
            .get(&format!("/plans/{plan}/tests"), |tests: &PlanTests| {
                show::testbed::coverage(tests)
            }),
        Testbed::Run { host: Some(host), again, wait, .. } => run_host(ask, host, *again, *wait),
        // Invariant: one of both is there, by what the command's arguments require.
        Testbed::Run { plan: None, .. } => Ok(()),
        Testbed::Run { plan: Some(plan), again, wait, .. } => {
            let path = format!("/plans/{plan}/tests");
            let mut tests: PlanTests = ask.client()?.post(&path, &RunTests { again: *again })?;
            while *wait && tests.tests.iter().any(|test| test.state.is_open()) {
                std::thread::sleep(LOOK);
                tests = ask.client()?.get(&path)?;
            }
            ask.print(&tests, show::testbed::coverage)?;
            if !wait {
                if matches!(ask.output(), Output::Table) {
                    hint(&format!("fettle testbed coverage {plan}"));
                }
                return Ok(());
            }
            match tests.hold {
                None => Ok(()),
                Some(hold) => Err(Problem::new(
                    ProblemKind::Refused,
                    hold.code(),
                    hold.to_string(),
                    format!("fettle testbed list --plan {plan}"),
                )),
            }
        }
    }
}

/// The test of what one host's policy means for it.
fn run_host(ask: &Ask<'_>, host: &str, again: bool, wait: bool) -> Result<(), Problem> {
    let client = ask.client()?;
    let path = format!("/hosts/{}/tests", escape(host));
    let mut row: TestRow = client.post(&path, &RunTests { again })?;
    while wait && row.state.is_open() {
        std::thread::sleep(LOOK);
        row = client.get(&format!("/tests/{}", row.number))?;
        if let TestState::Ended { report, .. } = &row.state
            && report.interruption().is_some()
        {
            // It was asked for again by itself, under another number.
            let path = format!("/tests?plan={}&limit={KNOWN}", row.plan);
            let page: Page<TestRow> = client.get(&path)?;
            let next = |it: &TestRow| it.work == row.work && it.number > row.number;
            row = page.items.into_iter().find(next).unwrap_or(row);
        }
    }
    ask.print(&row, show::testbed::one)?;
    let hint = format!("fettle testbed show {}", row.number);
    match &row.state {
        TestState::Ended { report, .. } if wait => {
            let (code, why) = match &report.verdict {
                Verdict::Passed => return Ok(()),
                Verdict::Failed { phase, reason } => {
                    ("test-failed", format!("{}: {reason}", phase.word()))
                }
                Verdict::NotTested { message, .. } => ("not-tested", message.clone()),
            };
            let message = format!("test {} of {}: {why}", row.number, row.like);
            Err(Problem::new(ProblemKind::Refused, code, message, hint))
        }
        state => {
            if state.is_open() && matches!(ask.output(), Output::Table) {
                crate::output::hint(&hint);
            }
            Ok(())
        }
    }
}

/// By number, or the newest of a cohort.
fn find(ask: &Ask<'_>, test: &str) -> Result<TestRow, Problem> {
    let client = ask.client()?;
    // A digest may be all digits, but is never so short.
    if test.len() < 8
        && let Ok(number) = test.parse::<u64>()
    {
        return client.get(&format!("/tests/{number}"));
    }
    let page: Page<TestRow> = client.get(&format!("/tests?limit={KNOWN}"))?;
    let cohort = test.trim_start_matches("sha256:");
    let of = |row: &TestRow| row.work.cohort.hex().starts_with(cohort);
    page.items.into_iter().find(of).ok_or_else(|| {
        Problem::new(
            ProblemKind::NotFound,
            "no-such-test",
            format!("no test has the number or cohort `{test}`"),
            "fettle testbed list",
        )
    })
}
