//! Reports: on the terminal, as CSV, as a document.

use crate::args::report::ReportArgs;
use crate::client::escape;
use crate::commands::Ask;
use crate::output::{json, line};
use crate::{args::Output, show};
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::Report;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What Chromium is called.
const CHROMIUM: [&str; 4] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

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

/// Has Chromium print a document. It reads a file of its own and no network.
fn print_to_pdf(document: &[u8], file: &Path) -> Result<(), Problem> {
    let missing = || {
        Problem::new(
            ProblemKind::Environment,
            "no-chromium",
            "no Chromium is installed here, and it is what makes the PDF",
            "install the package `chromium`, or write --html FILE and print that to PDF in a browser",
        )
    };
    let dir = tempfile::tempdir().map_err(|e| unwritten(file, e))?;
    let page = dir.path().join("report.html");
    write(&page, document)?;
    let file = std::path::absolute(file).map_err(|e| unwritten(file, e))?;
    let before = std::fs::metadata(&file).and_then(|m| m.modified()).ok();
    for name in CHROMIUM {
        let ran = Command::new(name)
            .args(["--headless", "--disable-gpu", "--no-pdf-header-footer"])
            // The page has no script and comes from this program; root has no sandbox of Chromium's.
            .args(if is_root() { &["--no-sandbox"][..] } else { &[] })
            .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
            .arg(format!("--print-to-pdf={}", file.display()))
            .arg(format!("file://{}", page.display()))
            .stdin(Stdio::null())
            .output();
        let out = match ran {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(|e| unwritten(&file, e))?,
        };
        let after = std::fs::metadata(&file).and_then(|m| m.modified()).ok();
        if out.status.success() && after.is_some() && after != before {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&out.stderr);
        let said = said.lines().last().unwrap_or("it said nothing").to_owned();
        return Err(unwritten(&file, format!("{name} made no PDF: {said}")));
    }
    Err(missing())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}
