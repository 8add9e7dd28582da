//! Is a plan approved? By how many, by whom, and why an approval does not count. Pure: who may approve, what was
//! given and *now* are handed in.
//!
//! The rules: as many distinct principals as the policy asks for; none of them the one who made the plan; each
//! approval is for the exact digest, and is worth nothing a day later unless the rollout has begun; who has been
//! revoked, has expired or lacks the role does not count; a plan that another one has overtaken is past approving.

use super::Plan;
use crate::operator::{Operator, Role, Standing};
use crate::{Digest, Hold, Timestamp};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// For how long an approval stands while the rollout has not begun.
pub const APPROVAL_STANDS: SignedDuration = SignedDuration::from_hours(24);

/// An approval as it was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Approval {
    /// When.
    pub at: Timestamp,
    /// By whom: the principal, that is the one whom the token speaks for.
    pub by: String,
    /// Of exactly this plan.
    pub digest: Digest,
    /// In their words; may be empty.
    pub comment: String,
}

impl Approval {
    /// From when on it is worth nothing, unless the rollout has begun.
    pub fn until(&self) -> Timestamp {
        self.at.checked_add(APPROVAL_STANDS).unwrap_or(Timestamp::MAX)
    }
}

/// Where a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum Stage {
    /// It may be approved and started.
    Open,
    /// Its rollout has begun: who had approved it by then is settled.
    Started {
        /// When.
        at: Timestamp,
    },
    /// Another plan of the policy took effect since it was made: it is past approving and starting.
    Superseded,
}

impl Stage {
    /// Where the plan stands, by the digest of the policy's plan in force and by when its own rollout was started.
    pub fn of(plan: &Plan, in_force: Option<Digest>, started: Option<Timestamp>) -> Self {
        match started {
            Some(at) => Self::Started { at },
            None if in_force == plan.parent => Self::Open,
            None => Self::Superseded,
        }
    }
}

/// Everything that the verdict is a function of.
#[derive(Debug, Clone, Copy)]
pub struct ApprovalInput<'a> {
    /// The plan's exact digest.
    pub digest: Digest,
    /// Who made it: the principal.
    pub made_by: &'a str,
    /// How many approvals it needs.
    pub needed: u32,
    /// Where it stands.
    pub stage: Stage,
    /// What was given, in any order.
    pub approvals: &'a [Approval],
    /// Who is known here, by name.
    pub operators: &'a BTreeMap<String, Operator>,
    /// Now.
    pub now: Timestamp,
}

/// Why an approval does not count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Discount {
    /// They made the plan.
    OwnPlan,
    /// It is for other content under the same number.
    OtherDigest,
    /// It is older than a day, and the rollout has not begun.
    TooOld {
        /// Since when it is worth nothing.
        since: Timestamp,
    },
    /// Nobody of that name is known here.
    Unknown,
    /// They have been revoked.
    Revoked {
        /// Since when.
        since: Timestamp,
    },
    /// Their token has expired.
    Expired {
        /// Since when.
        since: Timestamp,
    },
    /// They are disabled.
    Disabled {
        /// Since when.
        since: Timestamp,
    },
    /// They do not have the role.
    NotApprover,
    /// They count already: one principal is one approval.
    Again,
}

impl fmt::Display for Discount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnPlan => write!(f, "made the plan"),
            Self::OtherDigest => write!(f, "approved other content"),
            Self::TooOld { since } => {
                write!(f, "given more than 24 h before a start (worth nothing since {since})")
            }
            Self::Unknown => write!(f, "nobody of that name is known here"),
            Self::Revoked { since } => write!(f, "revoked at {since}"),
            Self::Expired { since } => write!(f, "the token expired at {since}"),
            Self::Disabled { since } => write!(f, "disabled since {since}"),
            Self::NotApprover => write!(f, "does not have the role approver"),
            Self::Again => write!(f, "counts already"),
        }
    }
}

/// An approval that does not count, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discounted {
    /// As it was given.
    #[serde(flatten)]
    pub approval: Approval,
    /// Why it does not count.
    pub discount: Discount,
}

/// How a plan stands with its approvals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalVerdict {
    /// How many count.
    pub given: u32,
    /// How many the plan needs.
    pub needed: u32,
    /// Where the plan stands.
    pub stage: Stage,
    /// Those that count, oldest first.
    pub counted: Vec<Approval>,
    /// Those that do not, and why.
    pub discounted: Vec<Discounted>,
}

/// Judges a plan's approvals. Once its rollout has begun, as of that moment: what was enough stays so.
pub fn judge(input: &ApprovalInput<'_>) -> ApprovalVerdict {
    let at = match input.stage {
        Stage::Started { at } => at,
        Stage::Open | Stage::Superseded => input.now,
    };
    let mut given = input.approvals.to_vec();
    given.sort();
    let mut principals = BTreeSet::new();
    let (mut counted, mut discounted) = (Vec::new(), Vec::new());
    for approval in given {
        let discount = discount(input, &approval, at)
            .or_else(|| (!principals.insert(approval.by.clone())).then_some(Discount::Again));
        match discount {
            None => counted.push(approval),
            Some(discount) => discounted.push(Discounted { approval, discount }),
        }
    }
    ApprovalVerdict {
        given: u32::try_from(counted.len()).unwrap_or(u32::MAX),
        needed: input.needed,
        stage: input.stage,
        counted,
        discounted,
    }
}

fn discount(input: &ApprovalInput<'_>, approval: &Approval, at: Timestamp) -> Option<Discount> {
    // What holds for ever comes before what time or a person can still change.
    if approval.by == input.made_by {
        return Some(Discount::OwnPlan);
    }
    if approval.digest != input.digest {
        return Some(Discount::OtherDigest);
    }
    let Some(operator) = input.operators.get(&approval.by) else {
        return Some(Discount::Unknown);
    };
    match operator.standing(at) {
        Standing::Revoked { since } => return Some(Discount::Revoked { since }),
        Standing::Expired { since } => return Some(Discount::Expired { since }),
        Standing::Good => {}
    }
    if let Some(since) = operator.disabled_since(at) {
        return Some(Discount::Disabled { since });
    }
    if !Role::Approver.is_given_by(&operator.roles) {
        return Some(Discount::NotApprover);
    }
    (approval.until() <= at).then(|| Discount::TooOld { since: approval.until() })
}

/// Why a plan takes no approval from somebody, or gives none back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// They made it.
    #[error("whoever made a plan cannot approve it")]
    OwnPlan,
    /// It was overtaken.
    #[error("another plan of the policy took effect since this one was made")]
    Superseded,
    /// Its rollout has begun.
    #[error("its rollout has begun: who approved it is settled")]
    Started,
    /// It needs none.
    #[error("it needs no approval")]
    NoneNeeded,
}

impl ApprovalVerdict {
    /// May it start, as far as approvals go?
    pub fn is_enough(&self) -> bool {
        self.given >= self.needed
    }

    /// What keeps it from starting.
    pub fn hold(&self) -> Option<Hold> {
        let hold = Hold::NotApproved { given: self.given, needed: self.needed };
        (!self.is_enough()).then_some(hold)
    }

    /// May `who` approve a plan that `made_by` made? Whether they have the role, and which digest they saw, is asked
    /// elsewhere.
    ///
    /// # Errors
    /// [`NotTaken`] says why not.
    pub fn takes(&self, made_by: &str, who: &str) -> Result<(), NotTaken> {
        self.is_open()?;
        if self.needed == 0 {
            return Err(NotTaken::NoneNeeded);
        }
        if who == made_by { Err(NotTaken::OwnPlan) } else { Ok(()) }
    }

    /// May anything still be approved or withdrawn?
    ///
    /// # Errors
    /// [`NotTaken`] says why not.
    pub fn is_open(&self) -> Result<(), NotTaken> {
        match self.stage {
            Stage::Open => Ok(()),
            Stage::Started { .. } => Err(NotTaken::Started),
            Stage::Superseded => Err(NotTaken::Superseded),
        }
    }
}
