//! Who comes to the fleet that never was, and how.

use super::*;
use fettle_core::login::Way;
use fettle_core::operator::Role;
use fettle_wire::api::{AccountRow, OwnAccount, SessionRow};

fn account(name: &str, roles: &[Role]) -> AccountRow {
    AccountRow {
        name: name.into(),
        roles: roles.iter().copied().collect(),
        state: "good".into(),
        state_since: None,
        state_by: None,
        password_set_at: Some(ago(86_400 * 12)),
        has_token: false,
        token_expires_at: None,
        last_log_in_at: Some(ago(1_200)),
        sessions: 1,
        created_at: ago(86_400 * 40),
        created_by: "operator:alice".into(),
    }
}

pub(crate) fn accounts() -> Vec<AccountRow> {
    vec![
        AccountRow { sessions: 2, ..own_account().account.unwrap() },
        account("bob", &[Role::Approver]),
        AccountRow {
            state: "disabled".into(),
            state_since: Some(ago(7_200)),
            state_by: Some("operator:alice".into()),
            sessions: 0,
            last_log_in_at: Some(ago(86_400 * 3)),
            ..account("carol", &[Role::Operator])
        },
        AccountRow {
            password_set_at: None,
            has_token: true,
            last_log_in_at: None,
            sessions: 0,
            ..account("prometheus", &[Role::Viewer])
        },
    ]
}

fn session(way: Way, began: i64, this: bool) -> SessionRow {
    SessionRow {
        way,
        began_at: ago(began),
        seen_at: ago(began / 4),
        ends_at: ago(began / 4 - 7_200),
        address: "192.0.2.7".into(),
        browser: format!("Mozilla/5.0 (X11; Linux x86_64) {HOSTILE}"),
        this,
    }
}

pub(crate) fn own_account() -> OwnAccount {
    let row = AccountRow {
        has_token: true,
        token_expires_at: Some(ago(-86_400 * 60)),
        ..account("alice", &[Role::Operator, Role::Approver])
    };
    OwnAccount {
        name: "alice".into(),
        roles: row.roles.clone(),
        account: Some(row),
        sessions: vec![session(Way::Password, 1_200, true), session(Way::Token, 9_000, false)],
    }
}

/// The holder of the server's own token.
pub(crate) fn nobodys_account() -> OwnAccount {
    OwnAccount {
        name: "admin".into(),
        roles: [Role::Admin].into(),
        account: None,
        sessions: vec![session(Way::ServerToken, 600, true)],
    }
}
