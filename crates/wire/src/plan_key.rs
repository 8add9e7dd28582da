//! Plan keys: what operators sign, with keys that the server does not have, and what hosts ask for before they obey.
//!
//! A key set says whose signatures count and how many a plan needs. Hosts hold on to the set they know; another one
//! takes its place when enough of its keys have signed that, one version after another, as roots do in The Update
//! Framework (specification 1.0.33, section 5.3). What is signed of a plan is its digest and the root of its orders
//! ([`OrderTree`](fettle_core::plan::OrderTree)), with the moments before and after which no host begins.

use crate::sign::{NotBelieved, Signature, Signer, encoded, opened_by};
use fettle_core::assignment::Assignment;
use fettle_core::plan::{OrderProof, leaf};
use fettle_core::{Digest, Timestamp};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Payload type of a key set.
pub const KEY_SET_TYPE: &str = "application/vnd.fettle.plan-keys+json;version=1";
/// Payload type of what is signed of a plan.
pub const PLAN_TYPE: &str = "application/vnd.fettle.plan-signature+json;version=1";
/// A set has at most so many keys.
pub const MOST_KEYS: usize = 32;
/// A plan's signatures are good for at most so long.
pub const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The layout that is written and read here, of both.
const SCHEMA: u32 = 1;
/// More envelopes than keys are not looked at.
const MOST_ENVELOPES: usize = 2 * MOST_KEYS;

/// An operator's public key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlanKey {
    /// Whose it is.
    pub name: String,
    /// Ed25519 (RFC 8032), 32 bytes in base64.
    pub key: String,
}

/// Whose signatures under plans count, and how many a plan needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    /// Layout version, 1.
    pub schema: u32,
    /// 1, 2, 3, ... without gaps.
    pub version: u64,
    /// So many of the keys must have signed.
    pub threshold: u32,
    /// The keys.
    pub keys: Vec<PlanKey>,
}

/// Why a key set is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKeySet {
    /// Another layout.
    #[error("schema {0} is not known here: upgrade the older side")]
    Schema(u32),
    /// Versions are counted from 1.
    #[error("versions are counted from 1")]
    Version,
    /// None, or more than are looked at.
    #[error("it has {0} keys: 1 to {MOST_KEYS} can be in a set")]
    Count(usize),
    /// Nobody could reach it, or everybody.
    #[error("{threshold} of {keys} keys cannot be asked for")]
    Threshold {
        /// Asked for.
        threshold: u32,
        /// There are.
        keys: usize,
    },
    /// One key or name is there twice.
    #[error("`{0}` is in it twice: one key is one signature")]
    Twice(String),
    /// Not 32 bytes in base64.
    #[error("the key of `{0}` is no Ed25519 public key: 32 bytes in base64")]
    Key(String),
    /// Not one line of up to 100 characters.
    #[error("a name is one line of 1 to 100 characters")]
    Name,
}

impl KeySet {
    /// A set of these keys.
    ///
    /// # Errors
    /// [`BadKeySet`].
    pub fn new(version: u64, threshold: u32, keys: Vec<PlanKey>) -> Result<Self, BadKeySet> {
        let set = Self { schema: SCHEMA, version, threshold, keys };
        set.check().map(|()| set)
    }

    fn check(&self) -> Result<(), BadKeySet> {
        use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
        if self.schema != SCHEMA {
            return Err(BadKeySet::Schema(self.schema));
        }
        if self.version == 0 {
            return Err(BadKeySet::Version);
        }
        let keys = self.keys.len();
        if !(1..=MOST_KEYS).contains(&keys) {
            return Err(BadKeySet::Count(keys));
        }
        if self.threshold == 0 || self.threshold as usize > keys {
            return Err(BadKeySet::Threshold { threshold: self.threshold, keys });
        }
        let (mut names, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for PlanKey { name, key } in &self.keys {
            let length = name.chars().count();
            if !(1..=100).contains(&length) || name.chars().any(char::is_control) {
                return Err(BadKeySet::Name);
            }
            // By its bytes: the same key must not count twice because it is written otherwise.
            let bytes = BASE64.decode(key).ok().filter(|bytes| bytes.len() == 32);
            let bytes = bytes.ok_or_else(|| BadKeySet::Key(name.clone()))?;
            if !names.insert(name) || !seen.insert(bytes) {
                return Err(BadKeySet::Twice(name.clone()));
            }
        }
        Ok(())
    }

    /// One person alone can sign whatever they like, and so can who steals that one key.
    pub fn is_weak(&self) -> bool {
        self.threshold < 2
    }

    /// `2 of 3`; `1 of 1 (weaker: ...)`.
    pub fn label(&self) -> String {
        let weaker = if self.is_weak() { " (weaker: one key is enough)" } else { "" };
        format!("{} of {}{weaker}", self.threshold, self.keys.len())
    }

    /// Whose key it is.
    pub fn name_of(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|known| known.key == key).map(|known| known.name.as_str())
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|known| known.key.as_str())
    }
}

/// A DSSE envelope around a [`KeySet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedKeySet {
    /// Always [`KEY_SET_TYPE`].
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// The set's JSON, base64.
    pub payload: String,
    /// Of its own keys, and of those of the set before it.
    pub signatures: Vec<Signature>,
}

/// Why a key set does not take the place of another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFollowed {
    /// The envelope is not one.
    #[error("not believed: {0}")]
    NotBelieved(#[from] NotBelieved),
    /// The set is not one.
    #[error("the key set cannot be used: {0}")]
    Bad(#[from] BadKeySet),
    /// Versions follow one another.
    #[error("it is version {given}, and version {wanted} would follow")]
    Version {
        /// Its version.
        given: u64,
        /// The one that would follow.
        wanted: u64,
    },
    /// Too few of those who decide have signed.
    #[error("{given} of the {needed} signatures it needs from {of}")]
    TooFew {
        /// So many hold.
        given: usize,
        /// So many must.
        needed: u32,
        /// Whose.
        of: &'static str,
    },
}

impl SignedKeySet {
    /// A set that nobody has signed yet.
    pub fn unsigned(set: &KeySet) -> Self {
        Self {
            payload_type: KEY_SET_TYPE.to_owned(),
            payload: encoded(set),
            signatures: Vec::new(),
        }
    }

    /// Adds a signature. By the same key again, it takes the place of the first.
    ///
    /// # Errors
    /// [`NotFollowed`] where there is no key set to sign.
    pub fn sign(&mut self, signer: &Signer) -> Result<KeySet, NotFollowed> {
        let (set, _) = self.look(std::iter::empty())?;
        let (payload, signatures) = signer.seal(KEY_SET_TYPE, &set);
        // What was read is signed: where that is written otherwise, signatures that are there are of other bytes.
        if payload != self.payload {
            (self.payload, self.signatures) = (payload, Vec::new());
        }
        let mine = signer.public_key();
        self.signatures.retain(|known| known.keyid != mine);
        self.signatures.extend(signatures);
        Ok(set)
    }

    fn look<'k>(
        &self,
        keys: impl Iterator<Item = &'k str>,
    ) -> Result<(KeySet, BTreeSet<&'k str>), NotFollowed> {
        let signatures = &self.signatures[..self.signatures.len().min(MOST_ENVELOPES)];
        let parts = (self.payload_type.as_str(), self.payload.as_str());
        let (set, by) = opened_by::<KeySet>(KEY_SET_TYPE, parts, signatures, keys)?;
        set.check()?;
        Ok((set, by))
    }

    /// The set, if enough of its own keys have signed it: whoever is in it has the key to it.
    ///
    /// # Errors
    /// [`NotFollowed`].
    pub fn open(&self) -> Result<KeySet, NotFollowed> {
        let (set, _) = self.look(std::iter::empty())?;
        let given = self.look(set.keys())?.1.len();
        if given < set.threshold as usize {
            return Err(NotFollowed::TooFew { given, needed: set.threshold, of: "its own keys" });
        }
        Ok(set)
    }

    /// The set, if it may take the place of `before`: its version is the next one, and enough keys of both have signed
    /// it. Before the first there is none: it stands by its own keys.
    ///
    /// # Errors
    /// [`NotFollowed`].
    pub fn follow(&self, before: Option<&KeySet>) -> Result<KeySet, NotFollowed> {
        let set = self.open()?;
        let wanted = before.map_or(1, |set| set.version.saturating_add(1));
        if set.version != wanted {
            return Err(NotFollowed::Version { given: set.version, wanted });
        }
        if let Some(before) = before {
            let given = self.look(before.keys())?.1.len();
            if given < before.threshold as usize {
                let of = "the keys of the set before it";
                return Err(NotFollowed::TooFew { given, needed: before.threshold, of });
            }
        }
        Ok(set)
    }
}

/// What is signed of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStatement {
    /// Layout version, 1.
    pub schema: u32,
    /// The plan's number.
    pub plan: u64,
    /// The plan's digest.
    pub digest: Digest,
    /// Root of its orders.
    pub orders: Digest,
    /// On so many hosts.
    pub hosts: u64,
    /// No host of wave n begins before the n-th of these.
    pub waves: Vec<Timestamp>,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// No host begins after.
    pub expires_at: Timestamp,
}

/// A DSSE envelope around a [`PlanStatement`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedPlan {
    /// Always [`PLAN_TYPE`].
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// The statement's JSON, base64.
    pub payload: String,
    /// By one operator.
    pub signatures: Vec<Signature>,
}

/// What an order to apply carries beside it, so that the host can see that operators signed the plan it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanProof {
    /// The host's wave in the plan, counted from 0.
    pub wave: u32,
    /// Shows that the order hangs from what was signed.
    pub proof: OrderProof,
    /// What operators signed, one envelope each.
    pub signatures: Vec<SignedPlan>,
}

/// Why an order is not carried out though the server signed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// Nothing came with it.
    #[error("operators' signatures are wanted here ({needed}), and none came with the order")]
    Nothing {
        /// How many, of how many.
        needed: String,
    },
    /// No path leads from this order to a root.
    #[error("nothing shows that the order belongs to the plan")]
    NoPath,
    /// Too few of those that came count.
    #[error("{given} of {needed} signatures of operators hold for this order{}", because(.not))]
    TooFew {
        /// So many hold.
        given: usize,
        /// So many must.
        needed: u32,
        /// Why the others do not.
        not: Vec<String>,
    },
    /// It was signed for later.
    #[error("operators signed it for wave {wave} not to begin before {until}")]
    Early {
        /// The host's wave, counted from 1.
        wave: u32,
        /// From then on.
        until: Timestamp,
    },
}

fn because(not: &[String]) -> String {
    if not.is_empty() { String::new() } else { format!(": {}", not.join("; ")) }
}

impl SignedPlan {
    /// Signs a statement.
    pub fn seal(signer: &Signer, statement: &PlanStatement) -> Self {
        let (payload, signatures) = signer.seal(PLAN_TYPE, statement);
        Self { payload_type: PLAN_TYPE.to_owned(), payload, signatures }
    }

    /// The statement, and which key of the set signed it.
    ///
    /// # Errors
    /// [`NotBelieved`].
    pub fn open(&self, keys: &KeySet) -> Result<(PlanStatement, String), NotBelieved> {
        let parts = (self.payload_type.as_str(), self.payload.as_str());
        // One operator each; who signs in the same envelope as well does not count by that.
        let signatures = &self.signatures[..self.signatures.len().min(1)];
        let (statement, by) =
            opened_by::<PlanStatement>(PLAN_TYPE, parts, signatures, keys.keys())?;
        let by = by.into_iter().next().ok_or(NotBelieved::Signature)?;
        if statement.schema != SCHEMA {
            let why = format!("schema {} is not known here", statement.schema);
            return Err(NotBelieved::Payload(why));
        }
        Ok((statement, by.to_owned()))
    }
}

/// Have enough operators signed the plan that an order to apply belongs to? Pure: the set, the order as it was sent
/// (`order` is the digest of its bytes) and the clock are handed in. Gives who signed.
///
/// # Errors
/// [`NotSigned`].
pub fn judge(
    keys: &KeySet,
    assignment: &Assignment,
    order: Digest,
    proof: Option<&PlanProof>,
    now: Timestamp,
) -> Result<Vec<String>, NotSigned> {
    let proof = proof.ok_or_else(|| NotSigned::Nothing { needed: keys.label() })?;
    let hangs_from = proof.proof.root_of(leaf(&assignment.host, proof.wave, order));
    let root = hangs_from.ok_or(NotSigned::NoPath)?;
    let mut counted: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut not = Vec::new();
    for envelope in proof.signatures.iter().take(MOST_ENVELOPES) {
        let (statement, key) = match envelope.open(keys) {
            Ok(opened) => opened,
            Err(error) => {
                not.push(error.to_string());
                continue;
            }
        };
        let name = keys.name_of(&key).unwrap_or_default().to_owned();
        match holds(&statement, assignment, root, proof, now) {
            Ok(from) => {
                // Signed twice, the kinder one counts; it counts once.
                let known = counted.entry(name).or_insert(from);
                *known = from.min(*known);
            }
            Err(why) => not.push(format!("{name}: {why}")),
        }
    }
    let mut from: Vec<Timestamp> = counted.values().copied().collect();
    from.sort_unstable();
    let needed = keys.threshold;
    let last = from.get((needed as usize).saturating_sub(1));
    let until = *last.ok_or(NotSigned::TooFew { given: from.len(), needed, not })?;
    if now < until {
        return Err(NotSigned::Early { wave: proof.wave + 1, until });
    }
    Ok(counted.into_keys().collect())
}

/// From when on the statement lets the host begin, if it is about this order at all.
fn holds(
    statement: &PlanStatement,
    assignment: &Assignment,
    root: Digest,
    proof: &PlanProof,
    now: Timestamp,
) -> Result<Timestamp, String> {
    if statement.digest != assignment.plan {
        let (signed, ordered) = (statement.digest.short(), assignment.plan.short());
        return Err(format!("signed plan {signed}, and the order is of plan {ordered}"));
    }
    if statement.orders != root || statement.hosts != proof.proof.size {
        return Err("signed other orders than this one".to_owned());
    }
    if statement.expires_at <= now {
        return Err(format!("signed it until {}", statement.expires_at));
    }
    // Nobody's signature is good for ever, whatever it says.
    let longest = statement.signed_at.checked_add(LONGEST_LIFE).unwrap_or(Timestamp::MAX);
    if longest <= now {
        return Err(format!("signed it at {}, too long ago", statement.signed_at));
    }
    let from = usize::try_from(proof.wave).ok().and_then(|wave| statement.waves.get(wave));
    from.copied().ok_or_else(|| format!("signed no wave {}", proof.wave + 1))
}
