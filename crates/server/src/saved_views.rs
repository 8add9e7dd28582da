//! Lists of hosts under a name: everybody keeps their own, whoever has the role operator may share one with all.

use crate::access::Who;
use crate::api::HostQuery;
use crate::app::{App, now};
use axum::extract::Query;
use axum::http::Uri;
use fettle_core::operator::Role;
use fettle_core::{Problem, ProblemKind};
use fettle_store::saved_views::{self as stored, SavedView};
use fettle_store::{StoreError, View};
use fettle_wire::api::{SaveView, SavedViewRow};

/// What a query of the list of hosts can hold, and is kept of it.
const KEYS: [&str; 9] =
    ["q", "state", "label", "select", "policy", "ring", "package", "cve", "sort"];
/// What says which part of the list is shown: not part of a view.
const PLACE: [&str; 2] = ["limit", "offset"];
const MAX_QUERY: usize = 1000;
const MAX_NAME: usize = 60;

fn bad(message: String, hint: &str) -> Problem {
    Problem::new(ProblemKind::BadInput, "bad-view", message, hint)
}

fn checked_name(name: &str) -> Result<&str, Problem> {
    let name = name.trim();
    let long = name.chars().count();
    if (1..=MAX_NAME).contains(&long) && !name.chars().any(char::is_control) {
        return Ok(name);
    }
    let shown: String = name.chars().take(MAX_NAME).collect();
    Err(bad(format!("`{shown}` cannot be the name of a view"), "write 1 to 60 characters"))
}

/// The query as it is kept: understood by the list of hosts, without where in the list somebody was.
fn checked_query(query: &str) -> Result<String, Problem> {
    const HINT: &str = "copy what follows `?` in the address of a list of hosts, as in state=exposed&label=env%3Dprod";
    let query = query.trim().trim_start_matches('?');
    let plain = |c: char| c.is_ascii_graphic();
    if query.len() > MAX_QUERY || !query.chars().all(plain) {
        return Err(bad(
            "the query is too long, or not as it stands in an address".to_owned(),
            HINT,
        ));
    }
    let mut parts = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if PLACE.contains(&key) || (KEYS.contains(&key) && value.is_empty()) {
            continue;
        }
        if !KEYS.contains(&key) {
            let shown: String = key.chars().take(40).collect();
            return Err(bad(format!("`{shown}` is nothing that hosts are listed by"), HINT));
        }
        parts.push(part);
    }
    if parts.is_empty() {
        return Err(bad("the query says nothing: it is the list of all hosts".to_owned(), HINT));
    }
    let kept = parts.join("&");
    let address: Result<Uri, _> = format!("/hosts?{kept}").parse();
    let asked = address.ok().and_then(|uri| Query::<HostQuery>::try_from_uri(&uri).ok());
    let Some(Query(asked)) = asked else {
        return Err(bad("the query cannot be read".to_owned(), HINT));
    };
    // It must mean something today.
    asked.filter()?;
    asked.sort()?;
    Ok(kept)
}

/// What this account sees.
pub(crate) fn rows(view: &View<'_>, account: &str) -> Result<Vec<SavedViewRow>, Problem> {
    let all = stored::seen_by(view, account)?;
    Ok(all.into_iter().map(|it| row(it, account)).collect())
}

fn row(it: SavedView, account: &str) -> SavedViewRow {
    let mine = it.owner == account;
    let SavedView { owner, name, query, shared, saved_at } = it;
    SavedViewRow { name, owner, mine, query, shared, saved_at }
}

/// Saves one.
pub(crate) fn save(
    app: &App,
    who: &Who,
    name: &str,
    asked: &SaveView,
) -> Result<SavedViewRow, Problem> {
    if asked.shared {
        who.may(Role::Operator)?;
    }
    let at = now();
    let it = SavedView {
        owner: who.principal.clone(),
        name: checked_name(name)?.to_owned(),
        query: checked_query(&asked.query)?,
        shared: asked.shared,
        saved_at: at,
    };
    app.store.write::<_, Problem>(&who.actor(), at, |tx| {
        // What others see is changed by whoever may share.
        let before = stored::seen_by(tx, &who.principal)?;
        if before.iter().any(|b| b.owner == it.owner && b.name == it.name && b.shared) {
            who.may(Role::Operator)?;
        }
        Ok(stored::save(tx, &it)?)
    })?;
    Ok(row(it, &who.principal))
}

/// Takes one away: one's own, or, for an admin, somebody else's that is shared.
pub(crate) fn remove(app: &App, who: &Who, name: &str, owner: Option<&str>) -> Result<(), Problem> {
    let owner = owner.unwrap_or(&who.principal);
    if owner != who.principal {
        who.may(Role::Admin)?;
    }
    app.store.write::<_, Problem>(&who.actor(), now(), |tx| {
        let seen = stored::seen_by(tx, &who.principal)?;
        if !seen.iter().any(|it| it.owner == owner && it.name == name) {
            let name = name.to_owned();
            return Err(StoreError::Missing { what: "saved view", name }.into());
        }
        Ok(stored::remove(tx, owner, name)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_kept_without_where_in_the_list_somebody_was() {
        let kept = |query: &str| checked_query(query);
        assert_eq!(
            kept("?state=exposed&q=&offset=200&label=env%3Dprod&limit=50").unwrap(),
            "state=exposed&label=env%3Dprod"
        );
        for bad in ["", "offset=3", "colour=red", "state=exposed#x y", &"q=".repeat(600)] {
            assert_eq!(kept(bad).unwrap_err().code, "bad-view", "{bad}");
        }
        assert_eq!(kept("sort=colour").unwrap_err().code, "bad-query");
        assert!(kept("select=env%3D").is_err());
    }

    #[test]
    fn a_name_is_what_fits_in_a_line() {
        assert_eq!(checked_name(" Production, exposed ").unwrap(), "Production, exposed");
        for bad in ["", "  ", "a\nb", &"x".repeat(61)] {
            assert_eq!(checked_name(bad).unwrap_err().code, "bad-view", "{bad:?}");
        }
    }
}
