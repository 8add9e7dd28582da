//! Recalls: a version that nobody is to get, and who has it.

use crate::args::Recall;
use crate::client::escape;
use crate::commands::Ask;
use crate::show;
use fettle_core::recall::{self, BadRecall};
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::{MakeRecall, Page, RecallDetail, RecallRow};

/// Runs one of them.
pub(crate) fn run(ask: &Ask<'_>, it: &Recall) -> Result<(), Problem> {
    match it {
        Recall::Add { what, reason, undo } => {
            let (package, version) = named(what)?;
            let body = MakeRecall { package, version, reason: reason.clone(), undo: *undo };
            let detail: RecallDetail = ask.client()?.post("/recalls", &body)?;
            ask.print(&detail, show::recall::one)
        }
        Recall::List => ask.get("/recalls", |page: &Page<RecallRow>| show::recall::list(page)),
        Recall::Show { what } => ask.get(&path(what)?, show::recall::one),
        Recall::Lift { what, reason } => {
            let path = format!("{}?reason={}", path(what)?, escape(reason));
            ask.client()?.delete(&path)?;
            ask.print(&serde_json::json!({ "lifted": what }), |_| show::recall::lifted(what))
        }
    }
}

fn path(what: &str) -> Result<String, Problem> {
    let (package, version) = named(what)?;
    Ok(format!("/recalls/{}/{}", escape(&package), escape(&version)))
}

fn named(what: &str) -> Result<(String, String), Problem> {
    recall::parse_version(what).map_err(|error: BadRecall| {
        let hint = "write PACKAGE=VERSION: `fettle package show PACKAGE` lists its versions";
        Problem::new(ProblemKind::Usage, "bad-recall", error, hint)
    })
}
