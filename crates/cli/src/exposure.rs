//! What is open in the fleet, as a question with an answer that a pipeline can act on.

use crate::args::Exposure;
use crate::client::escape;
use crate::commands::Ask;
use crate::output::{line, print, severity, table};
use fettle_core::feed::FeedStanding;
use fettle_core::finding::Severity;
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::{CveRow, FeedRow, Overview, Page};

/// Lines that a terminal is shown.
const SHOWN: usize = 20;

/// Prints what is open; ends with an error when that is more than is allowed.
pub(crate) fn run(ask: &Ask<'_>, it: &Exposure) -> Result<(), Problem> {
    let mut path = "/cves?limit=100000&fixable=true".to_owned();
    let kev = it.kev.then(|| "true".to_owned());
    for (key, value) in [("class", &it.class), ("due", &it.due), ("kev", &kev)] {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", escape(value)));
        }
    }
    let least = it.severity.as_deref().map(least).transpose()?;
    let client = ask.client()?;
    grounds(&client.get("/overview")?, it)?;
    let mut page: Page<CveRow> = client.get(&path)?;
    // What the server has beyond one answer is not known to be harmless.
    let unseen = page.total.saturating_sub(page.items.len() as u64);
    page.items.retain(|row| least.is_none_or(|least| row.severity >= least));
    page.total = page.items.len() as u64 + unseen;
    ask.print(&page, show)?;
    if page.total <= it.allow {
        return Ok(());
    }
    let first = page.items.first().map_or("", |row| row.id.as_str());
    Err(Problem::new(
        ProblemKind::Refused,
        "exposed",
        format!("{} open in the fleet, and {} allowed", page.total, it.allow),
        format!("fettle cve {first}"),
    ))
}

/// Is anything known at all? Where it is not, nothing found is no answer.
fn grounds(it: &Overview, asked: &Exposure) -> Result<(), Problem> {
    let mut missing = it
        .no_data
        .clone()
        .unwrap_or_else(|| vec!["the server is too old to tell whether it has data".to_owned()]);
    let is_known =
        |feed: &FeedRow| matches!(feed.standing, FeedStanding::Fresh | FeedStanding::Failed);
    if asked.kev && !it.feeds.iter().any(|feed| feed.name == "kev" && is_known(feed)) {
        missing.push(
            "the list of what is known to be exploited (kev) is missing or too old".to_owned(),
        );
    }
    let governed = |(state, hosts): (&String, &u64)| state != "no-policy" && *hosts > 0;
    if (asked.class.is_some() || asked.due.is_some()) && !it.hosts_by_state.iter().any(governed) {
        missing.push("no policy governs a host, so nothing is owed by a date".to_owned());
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::NoData,
        "no-data",
        format!("nothing can be said of the fleet's exposure: {}", missing.join("; ")),
        "fettle doctor",
    ))
}

fn least(word: &str) -> Result<Severity, Problem> {
    let found = Severity::ALL.into_iter().find(|severity| severity.word() == word);
    found.ok_or_else(|| {
        let words = Severity::ALL.map(Severity::word).join(", ");
        let message = format!("`{word}` is no severity");
        Problem::new(ProblemKind::Usage, "severity", message, format!("write one of {words}"))
    })
}

fn show(page: &Page<CveRow>) {
    if page.items.is_empty() {
        line("nothing of that kind is open in the fleet");
        return;
    }
    let mut out =
        table(&["VULNERABILITY", "SEVERITY", "EXPLOITED", "OPEN ON", "OVERDUE", "REACHABLE", "IN"]);
    for row in page.items.iter().take(SHOWN) {
        out.add_row(vec![
            row.id.clone().into(),
            severity(row.severity),
            if row.kev { "yes" } else { "" }.into(),
            row.open.to_string().into(),
            row.overdue.to_string().into(),
            row.reachable.to_string().into(),
            row.sources.join(", ").into(),
        ]);
    }
    print(&out);
    if page.items.len() > SHOWN {
        line(&format!("and {} more", page.items.len() - SHOWN));
    }
}
