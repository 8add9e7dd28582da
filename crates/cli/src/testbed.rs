//! `fettle testbed`: tests on twins.

use crate::args::{Output, Testbed};
use crate::commands::Ask;
use crate::output::hint;
use crate::show;
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
        Testbed::Run { plan, again, wait } => {
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
