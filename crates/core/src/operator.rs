//! Who may do what: operators, their roles, and the one question that every door asks.

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Whom the server's own token file speaks for. Its holder may give any name for the ledger, and stays this one
/// principal: one token is never two approvers.
pub const BOOTSTRAP: &str = "admin";

/// Names that no operator can have: they would be taken for something else in the ledger.
const RESERVED: [&str; 3] = [BOOTSTRAP, "operator", "server"];

/// What an operator may do. A person can have several; what no role allows is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Looks at the fleet, and changes nothing.
    Viewer,
    /// Looks at everything, the ledger and evidence included, and changes nothing.
    Auditor,
    /// Makes plans, starts and stops rollouts, looks after hosts and feeds.
    Operator,
    /// Approves plans that somebody else made.
    Approver,
    /// Everything, operators and policies included.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Viewer, Self::Auditor, Self::Operator, Self::Approver, Self::Admin];

    /// The word, as CLI, API and pages print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// Do these roles allow what needs this one? Whoever has any role may look; whoever decides may read what was
    /// decided; an admin may do everything; nothing else follows from another role.
    pub fn is_given_by(self, roles: &BTreeSet<Self>) -> bool {
        let decides = roles.contains(&Self::Operator) || roles.contains(&Self::Approver);
        roles.contains(&Self::Admin)
            || roles.contains(&self)
            || (self == Self::Viewer && !roles.is_empty())
            || (self == Self::Auditor && decides)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role: there are viewer, auditor, operator, approver and admin")]
pub struct BadRole(String);

impl FromStr for Role {
    type Err = BadRole;
    fn from_str(text: &str) -> Result<Self, BadRole> {
        let found = Self::ALL.into_iter().find(|role| role.word() == text);
        found.ok_or_else(|| BadRole(text.chars().take(40).collect()))
    }
}

/// The roles as people read them: `operator, approver`.
pub fn listed(roles: &BTreeSet<Role>) -> String {
    roles.iter().map(|role| role.word()).collect::<Vec<_>>().join(", ")
}

/// Why a name cannot be an operator's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Empty or too long.
    #[error("an operator's name has 1 to 64 characters")]
    Length,
    /// Another character than is allowed.
    #[error(
        "an operator's name holds {0:?}: it begins with a-z or 0-9, and a-z, 0-9, `.`, `_`, `@` and `-` may follow"
    )]
    Character(char),
    /// Taken for something else.
    #[error("`{0}` is a name that Fettle uses itself")]
    Reserved(String),
}

/// Is this a name that an operator can have? Lower case only: `Alice` and `alice` must not be two people.
///
/// # Errors
/// [`BadName`] says what is wrong with it.
pub fn check_name(name: &str) -> Result<(), BadName> {
    if !(1..=64).contains(&name.len()) {
        return Err(BadName::Length);
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let odd = name.char_indices().find(|(at, c)| !(plain(*c) || (*at > 0 && "._@-".contains(*c))));
    if let Some((_, odd)) = odd {
        return Err(BadName::Character(odd));
    }
    if RESERVED.contains(&name) {
        return Err(BadName::Reserved(name.to_owned()));
    }
    Ok(())
}

/// Someone who may do something here. The token's hash stays in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Unique for ever: the name of one who was revoked is not given again.
    pub name: String,
    /// What they may do.
    pub roles: BTreeSet<Role>,
    /// When they were added.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// From when on their token is worth nothing. `None`: it does not expire.
    pub expires_at: Option<Timestamp>,
    /// Since when they may do nothing any more.
    pub revoked_at: Option<Timestamp>,
    /// Who revoked them.
    pub revoked_by: Option<String>,
    /// Since when they may do nothing until somebody lets them again.
    #[serde(default)]
    pub disabled_at: Option<Timestamp>,
    /// Who disabled them.
    #[serde(default)]
    pub disabled_by: Option<String>,
}

/// How an operator stands at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The token is good.
    Good,
    /// It is past its time.
    Expired {
        /// Since when.
        since: Timestamp,
    },
    /// Somebody revoked it.
    Revoked {
        /// Since when.
        since: Timestamp,
    },
}

impl Operator {
    /// The holder of the server's own token file.
    pub fn bootstrap() -> Self {
        Self {
            name: BOOTSTRAP.to_owned(),
            roles: BTreeSet::from([Role::Admin]),
            created_at: Timestamp::UNIX_EPOCH,
            created_by: "server".to_owned(),
            expires_at: None,
            revoked_at: None,
            revoked_by: None,
            disabled_at: None,
            disabled_by: None,
        }
    }

    /// Since when they are disabled, if they are at this time.
    pub fn disabled_since(&self, at: Timestamp) -> Option<Timestamp> {
        self.disabled_at.filter(|since| *since <= at)
    }

    /// How they stand at this time, whether they are disabled or not. Revoked counts before expired: it was somebody's word.
    pub fn standing(&self, at: Timestamp) -> Standing {
        match (self.revoked_at, self.expires_at) {
            (Some(since), _) if since <= at => Standing::Revoked { since },
            (_, Some(since)) if since <= at => Standing::Expired { since },
            _ => Standing::Good,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_gives_itself_looking_and_nothing_else_and_an_admin_everything() {
        for held in Role::ALL {
            for needed in Role::ALL {
                let given = needed.is_given_by(&BTreeSet::from([held]));
                let decides = matches!(held, Role::Operator | Role::Approver);
                let expected = held == Role::Admin
                    || held == needed
                    || needed == Role::Viewer
                    || (needed == Role::Auditor && decides);
                assert_eq!(given, expected, "{held} where {needed} is needed");
            }
        }
        for needed in Role::ALL {
            assert!(!needed.is_given_by(&BTreeSet::new()), "no role, no {needed}");
        }
    }

    #[test]
    fn a_role_prints_and_parses_to_itself() {
        for role in Role::ALL {
            assert_eq!(role.word().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.word());
        }
        assert!("root".parse::<Role>().is_err() && "Admin".parse::<Role>().is_err());
    }

    #[test]
    fn odd_names_and_names_with_a_meaning_are_refused() {
        for good in ["alice", "a", "0", "alice.b@example-1", &"x".repeat(64)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "Alice", "-a", ".a", "a b", "a/b", "é", "a\u{202e}", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for reserved in RESERVED {
            assert_eq!(check_name(reserved), Err(BadName::Reserved(reserved.into())));
        }
    }

    #[test]
    fn a_token_is_good_until_the_very_second_it_expires_or_was_revoked() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut it = Operator { expires_at: Some(at(100)), ..Operator::bootstrap() };
        assert_eq!(it.standing(at(99)), Standing::Good);
        assert_eq!(it.standing(at(100)), Standing::Expired { since: at(100) });
        it.revoked_at = Some(at(50));
        assert_eq!(it.standing(at(49)), Standing::Good);
        assert_eq!(it.standing(at(200)), Standing::Revoked { since: at(50) });
    }
}
