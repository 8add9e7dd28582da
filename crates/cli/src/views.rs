//! Lists of hosts under a name.

use crate::args::Views;
use crate::client::escape;
use crate::commands::Ask;
use crate::output::{ago, hint, line, now, print, table};
use crate::show;
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::{HostRow, Page, SaveView, SavedViewRow};

/// Runs one of them.
pub(crate) fn run(ask: &Ask<'_>, it: &Views) -> Result<(), Problem> {
    match it {
        Views::List => ask.get("/views", list),
        Views::Save { name, query, shared } => {
            let body = SaveView { query: query.clone(), shared: *shared };
            let path = format!("/views/{}", escape(name));
            let row: SavedViewRow = ask.client()?.put(&path, &body)?;
            ask.print(&row, |row| {
                line(&format!("{}: {}", row.name, row.query));
                hint(&format!("fettle host list --view '{}'", row.name));
            })
        }
        Views::Remove { name, owner } => {
            let of = owner.as_deref().map(|owner| format!("?owner={}", escape(owner)));
            let path = format!("/views/{}{}", escape(name), of.unwrap_or_default());
            ask.client()?.delete(&path)?;
            ask.print(&serde_json::json!({ "removed": name }), |_| line(&format!("{name} is gone")))
        }
    }
}

/// The hosts of a view.
pub(crate) fn hosts(ask: &Ask<'_>, name: &str, limit: u32) -> Result<(), Problem> {
    let page: Page<SavedViewRow> = ask.client()?.get("/views")?;
    // One's own come first.
    let found = page.items.iter().find(|row| row.name == name);
    let view = found.ok_or_else(|| {
        let message = format!("you see no saved view `{name}`");
        Problem::new(ProblemKind::NotFound, "not-found", message, "fettle view list")
    })?;
    let path = format!("/hosts?{}&limit={limit}", view.query);
    ask.get(&path, |page: &Page<HostRow>| show::host::list(page, true))
}

fn list(page: &Page<SavedViewRow>) {
    if page.items.is_empty() {
        line("no view is saved");
        hint("fettle view save exposed --query state=exposed");
        return;
    }
    let mut out = table(&["NAME", "WHOSE", "FOR", "SAVED", "QUERY"]);
    for row in &page.items {
        out.add_row([
            row.name.clone(),
            row.owner.clone(),
            if row.shared { "everybody" } else { "oneself" }.to_owned(),
            ago(row.saved_at, now()),
            row.query.clone(),
        ]);
    }
    print(&out);
}
