//! Reports: on the terminal, as CSV, as a document.

use crate::args::report::ReportArgs;
use crate::client::escape;
use crate::commands::Ask;
use crate::output::{json, line};
use crate::{args::Output, show};
use fettle_core::{Problem, ProblemKind};
use fettle_server::pdf::{self, NoPdf};
use fettle_wire::api::Report;
use std::io::Write as _;
use std::path::Path;

/// Makes one.
pub(crate) fn run(ask: &Ask<'_>, it: &ReportArgs) -> Result<(), Problem> {
    let client = ask.client()?;
    if let Some(table) = &it.csv {
        let bytes = client.get_bytes(&path("/report.csv", it, Some(table)))?;
        // Whoever reads may stop reading.
        let _ = std::io::stdout().lock().write_all(&bytes);
        return Ok(());
    }
    if it.html.is_none() && it.pdf.is_none() {
        return ask.get(&path("/report", it, None), |report: &Report| show::report::one(report));
    }
    let document = client.get_bytes(&path("/report.html", it, None))?;
    let mut written = Vec::new();
    if let Some(file) = &it.html {
        write(file, &document)?;
        written.push(file.display().to_string());
    }
    if let Some(file) = &it.pdf {
        print_to_pdf(&document, file)?;
        written.push(file.display().to_string());
    }
    match ask.output() {
        Output::Json => json(&serde_json::json!({ "written": written })),
        Output::Table => {
            line(&format!("written: {}", written.join(", ")));
            Ok(())
        }
    }
}

fn path(base: &str, it: &ReportArgs, table: Option<&str>) -> String {
    let from = ("from", it.from.as_deref());
    let to = ("to", it.to.as_deref());
    let all = [from, to, ("policy", it.policy.as_deref()), ("table", table)];
    let given = all.iter().filter_map(|(key, value)| Some(format!("{key}={}", escape((*value)?))));
    let query: Vec<String> = given.collect();
    if query.is_empty() { base.to_owned() } else { format!("{base}?{}", query.join("&")) }
}

fn unwritten(file: &Path, error: impl std::fmt::Display) -> Problem {
    let message = format!("{} cannot be written: {error}", file.display());
    Problem::new(ProblemKind::Environment, "not-written", message, "name a file that you may write")
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Problem> {
    std::fs::write(file, bytes).map_err(|e| unwritten(file, e))
}

/// Has Chromium print a document.
fn print_to_pdf(document: &[u8], file: &Path) -> Result<(), Problem> {
    let dir = tempfile::tempdir().map_err(|e| unwritten(file, e))?;
    let bytes = pdf::print(document, dir.path()).map_err(|error| match error {
        NoPdf::NotInstalled => Problem::new(
            ProblemKind::Environment,
            "no-chromium",
            error,
            "install the package `chromium`, or write --html FILE and print that to PDF in a browser",
        ),
        other => unwritten(file, other),
    })?;
    write(file, &bytes)
}
