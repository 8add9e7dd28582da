//! Operators.

use crate::output::{ago, hint, line, now, print, state, table};
use fettle_core::operator::listed;
use fettle_wire::api::{OperatorRow, Page};

/// All operators, with what they may do.
pub(crate) fn list(page: &Page<OperatorRow>) {
    if page.items.is_empty() {
        line("there is only the server's own token, and its holder may do everything");
        hint("fettle operator add NAME --role viewer|operator|approver|admin");
        return;
    }
    let mut out = table(&["OPERATOR", "ROLES", "STATE", "EXPIRES", "ADDED", "BY"]);
    for row in &page.items {
        out.add_row(vec![
            row.name.clone().into(),
            listed(&row.roles).into(),
            state(&row.state),
            row.expires_at.map_or_else(|| "never".into(), |at| ago(at, now())).into(),
            ago(row.created_at, now()).into(),
            comfy_table::Cell::new(&row.created_by),
        ]);
    }
    print(&out);
}
