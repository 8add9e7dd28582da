//! Somebody's word that the next ring may begin: from a person with the role approver who did not start the rollout, and
//! who can have seen how the wave before it did.

use crate::rollout::{Phase, Rollout, RolloutEvent};
use crate::{Hold, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who let a wave begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveApproval {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// The one whom their token speaks for.
    pub principal: String,
    /// In their words; may be empty.
    pub comment: String,
}

/// Why nobody's word is taken, or not theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoWord {
    /// They started the rollout.
    OwnRollout,
    /// The rollout is not going on.
    Stands(&'static str),
    /// The wave before it has not ended: nobody can know how it did.
    TooEarly {
        /// Which wave is at work, counted from 0.
        at_work: u32,
    },
    /// It has begun, or another one comes next.
    NotNext {
        /// Which comes next, counted from 0.
        next: u32,
    },
    /// It begins without.
    NotNeeded,
    /// Somebody has said so.
    Given {
        /// Who.
        by: String,
    },
}

impl fmt::Display for NoWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnRollout => {
                write!(f, "whoever started the rollout cannot let its next ring begin")
            }
            Self::Stands(phase) => write!(f, "the rollout is {phase}"),
            Self::TooEarly { at_work } => {
                write!(f, "wave {} has not ended: nobody can know yet how it did", at_work + 1)
            }
            Self::NotNext { next } => write!(f, "wave {} is the one that comes next", next + 1),
            Self::NotNeeded => write!(f, "it begins without anybody's word"),
            Self::Given { by } => write!(f, "{by} has let it begin"),
        }
    }
}

impl Rollout {
    /// Somebody with the role approver lets a wave begin. Whether they have the role is the caller's to know.
    ///
    /// # Errors
    /// [`NoWord`], when their word is not taken.
    pub fn approve_wave(
        &self,
        wave: u32,
        by: &str,
        principal: &str,
        comment: &str,
    ) -> Result<RolloutEvent, NoWord> {
        self.takes_word(wave, by, principal)?;
        Ok(RolloutEvent::WaveApproved {
            wave,
            by: by.to_owned(),
            principal: principal.to_owned(),
            comment: comment.to_owned(),
        })
    }

    /// The one table: asked before the event is made, and again when it is folded.
    pub(in crate::rollout) fn takes_word(
        &self,
        wave: u32,
        by: &str,
        principal: &str,
    ) -> Result<(), NoWord> {
        // An older rollout knows its starter by the name only.
        let starter = if self.started_by.is_empty() { &self.created_by } else { &self.started_by };
        if principal == starter || by == self.created_by {
            return Err(NoWord::OwnRollout);
        }
        if !matches!(self.phase, Phase::Running | Phase::Paused { .. }) {
            return Err(NoWord::Stands(self.phase.word()));
        }
        if let Some(word) = self.approved.get(&wave) {
            return Err(NoWord::Given { by: word.by.clone() });
        }
        // No gate stands before the first wave: it waits for its word itself.
        let next = if self.lacks_word(self.wave) { self.wave } else { self.wave + 1 };
        if wave != next {
            return Err(NoWord::NotNext { next });
        }
        if !self.asks_for_word(wave) {
            return Err(NoWord::NotNeeded);
        }
        if wave > self.wave && self.wave_ended_at.is_none() {
            return Err(NoWord::TooEarly { at_work: self.wave });
        }
        Ok(())
    }

    /// Does this wave begin by somebody's word only? The first step of the traffic begins nothing: it makes sure of what
    /// was there.
    pub(super) fn asks_for_word(&self, wave: u32) -> bool {
        let at = |n: u32| self.plan.waves.get(n as usize);
        let Some(next) = at(wave).filter(|next| next.traffic != Some(0)) else { return false };
        match wave.checked_sub(1).and_then(at) {
            Some(after) => after.gate.waits_for_approval(&after.ring, &next.ring),
            None => next.gate.waits_at_first(&next.ring),
        }
    }

    /// It does, and nobody has said it.
    pub(in crate::rollout) fn lacks_word(&self, wave: u32) -> bool {
        self.asks_for_word(wave) && !self.approved.contains_key(&wave)
    }

    /// The hold of this wave, while it waits for it.
    pub(in crate::rollout) fn approval_needed(&self, wave: u32) -> Hold {
        let ring = self.plan.waves.get(wave as usize).map(|w| w.ring.clone());
        Hold::WaveNotApproved {
            rollout: self.id.clone(),
            wave,
            ring: ring.unwrap_or_default(),
            not: self.created_by.clone(),
        }
    }
}
