//! Which assignments the agent obeys, and its ledger of the highest one it ever accepted.

use crate::durable;
use crate::plan_keys::Pinned;
use crate::settings::Settings;
use fettle_core::assignment::{Assignment, MAX_LEAP, Order};
use fettle_core::{Digest, HostId, Timestamp};
use fettle_wire::plan_key::{self, KeySet, NotSigned, PlanProof};
use fettle_wire::sign::{NotBelieved, SignedAssignment};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::io;

/// The only layout this agent knows.
const SCHEMA: u32 = 1;
/// The host's clock and the signer's may differ by so much.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(5);

/// What the agent remembers of the last assignment it accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// Highest generation ever accepted; 0 before the first.
    pub generation: u64,
    /// Digest of that assignment's content.
    pub content: Option<Digest>,
}

/// Why an assignment is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disobeyed {
    /// The signature does not hold.
    #[error("not believed: {0}")]
    NotBelieved(#[from] NotBelieved),
    /// A layout this agent does not know.
    #[error("schema {0} is not known: upgrade the agent")]
    Schema(u32),
    /// For another host.
    #[error("it is for host {0}, not for this one")]
    OtherHost(HostId),
    /// Older than one already accepted.
    #[error(
        "generation {given} is older than {seen}, already accepted: a replay, or a server restored from a backup"
    )]
    Old {
        /// Its generation.
        given: u64,
        /// The highest accepted.
        seen: u64,
    },
    /// The same generation with other content: somebody broke the protocol.
    #[error("generation {0} was accepted before with other content")]
    Conflict(u64),
    /// Too far ahead.
    #[error("generation {given} leaps too far beyond {seen}")]
    Leap {
        /// Its generation.
        given: u64,
        /// The highest accepted.
        seen: u64,
    },
    /// Not yet.
    #[error("not to be started before {0}")]
    Early(Timestamp),
    /// No more.
    #[error("it expired at {0}")]
    Expired(Timestamp),
    /// Root on the host has said so.
    #[error("there is a file STOP in /etc/fettle: nothing is started here while it is there")]
    Stopped,
    /// Operators have not signed the plan that it carries out.
    #[error("{0}")]
    NotSigned(#[from] NotSigned),
    /// Signed in the future by this host's clock.
    #[error("it was signed at {issued}, {now} by this host's clock: set the clock right")]
    Clock {
        /// When it says it was signed.
        issued: Timestamp,
        /// The host's clock.
        now: Timestamp,
    },
}

/// An assignment to be obeyed.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The order.
    pub assignment: Assignment,
    /// The very same was accepted before: start it only if it was never begun.
    pub again: bool,
    /// The ledger as it has to be kept before anything is done.
    pub ledger: Ledger,
}

/// Who is believed beside the server, and what came for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signed<'a> {
    /// Whose signatures an order to apply needs. `None`: the server's alone.
    pub keys: Option<&'a KeySet>,
    /// What came with the order.
    pub proof: Option<&'a PlanProof>,
    /// Root on the host has said stop.
    pub stopped: bool,
}

impl<'a> Signed<'a> {
    /// As it stands on this host now.
    pub fn here(
        settings: &Settings,
        pinned: Option<&'a Pinned>,
        proof: Option<&'a PlanProof>,
    ) -> Self {
        let keys = pinned.map(|it| &it.keys);
        Self { keys, proof, stopped: settings.stop_path().exists() }
    }
}

/// Judges an assignment. Pure: the ledger, the clock and who we are, are handed in.
///
/// An order to apply starts something, so it needs operators' signatures where keys are pinned. To take back, to have
/// less of the traffic, or to try something on a twin needs none: stopping must stay cheap.
///
/// # Errors
/// [`Disobeyed`].
pub fn judge(
    signed: &SignedAssignment,
    host: &HostId,
    key: &str,
    by: Signed<'_>,
    ledger: Ledger,
    now: Timestamp,
) -> Result<Accepted, Disobeyed> {
    let assignment = signed.open(key)?;
    if assignment.schema != SCHEMA {
        return Err(Disobeyed::Schema(assignment.schema));
    }
    if assignment.host != *host {
        return Err(Disobeyed::OtherHost(assignment.host));
    }
    let (given, seen) = (assignment.generation, ledger.generation);
    let content = Digest::of_json(&assignment);
    if given < seen || given == 0 {
        return Err(Disobeyed::Old { given, seen });
    }
    let again = given == seen;
    if again && ledger.content != Some(content) {
        return Err(Disobeyed::Conflict(given));
    }
    if given - seen > MAX_LEAP {
        return Err(Disobeyed::Leap { given, seen });
    }
    if assignment.issued_at > now + CLOCK_SLACK {
        return Err(Disobeyed::Clock { issued: assignment.issued_at, now });
    }
    if assignment.not_before > now {
        return Err(Disobeyed::Early(assignment.not_before));
    }
    // An undo is the way out of trouble: it may come late, but it is bound to host and generation like any order.
    let is_undo = matches!(assignment.order, Order::Undo { .. });
    if assignment.expires_at <= now && !is_undo {
        return Err(Disobeyed::Expired(assignment.expires_at));
    }
    if by.stopped && matches!(assignment.order, Order::Apply(_) | Order::Test(_)) {
        return Err(Disobeyed::Stopped);
    }
    if let (Order::Apply(_), Some(keys)) = (&assignment.order, by.keys) {
        plan_key::judge(keys, &assignment, signed.order_digest()?, by.proof, now)?;
    }
    Ok(Accepted { assignment, again, ledger: Ledger { generation: given, content: Some(content) } })
}

/// Reads the ledger; a host that never accepted anything has an empty one.
///
/// # Errors
/// When it is there and cannot be read: then nothing is obeyed, for old orders could not be told from new ones.
pub fn read_ledger(settings: &Settings) -> io::Result<Ledger> {
    match std::fs::read(settings.ledger_path()) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ledger::default()),
        Err(error) => Err(error),
    }
}

/// Keeps the ledger, durably.
///
/// # Errors
/// When it cannot be written: then nothing may be started.
pub fn write_ledger(settings: &Settings, ledger: Ledger) -> io::Result<()> {
    let bytes = serde_json::to_vec(&ledger).map_err(io::Error::from)?;
    durable::replace(&settings.ledger_path(), &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::assignment::ApplyOrder;
    use fettle_wire::sign::Signer;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }
    fn signer() -> Signer {
        Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap()
    }
    fn order(generation: u64) -> Assignment {
        Assignment {
            schema: 1,
            id: "ro-1/h-1/3".into(),
            host: "h-1".into(),
            generation,
            rollout: "ro-1".into(),
            plan: Digest::of(b"plan"),
            issued_at: at(0),
            not_before: at(0),
            expires_at: at(3600),
            order: Order::Apply(ApplyOrder::default()),
        }
    }
    fn ledger(generation: u64, content: Option<&Assignment>) -> Ledger {
        Ledger { generation, content: content.map(Digest::of_json) }
    }

    #[test]
    fn an_assignment_is_obeyed_only_if_everything_about_it_holds() {
        let signer = signer();
        let key = signer.public_key();
        let host = HostId::new("h-1");
        let judge = |a: &Assignment, l: Ledger, now: Timestamp| {
            judge(&signer.sign(a), &host, &key, Signed::default(), l, now)
        };
        let good = order(3);
        assert!(!judge(&good, ledger(2, None), at(10)).unwrap().again);
        assert!(judge(&good, ledger(3, Some(&good)), at(10)).unwrap().again);
        let refused = |a: Assignment, l: Ledger, now: Timestamp| judge(&a, l, now).unwrap_err();
        assert_eq!(
            refused(order(2), ledger(3, None), at(10)),
            Disobeyed::Old { given: 2, seen: 3 }
        );
        assert_eq!(
            refused(order(0), ledger(0, None), at(10)),
            Disobeyed::Old { given: 0, seen: 0 }
        );
        let other = Assignment { rollout: "ro-2".into(), ..order(3) };
        assert_eq!(refused(other, ledger(3, Some(&good)), at(10)), Disobeyed::Conflict(3));
        let leap = order(u64::MAX);
        assert_eq!(
            refused(leap, ledger(3, None), at(10)),
            Disobeyed::Leap { given: u64::MAX, seen: 3 }
        );
        let elsewhere = Assignment { host: "h-2".into(), ..order(3) };
        assert_eq!(refused(elsewhere, ledger(0, None), at(10)), Disobeyed::OtherHost("h-2".into()));
        let schema = Assignment { schema: 2, ..order(3) };
        assert_eq!(refused(schema, ledger(0, None), at(10)), Disobeyed::Schema(2));
        assert_eq!(refused(order(3), ledger(0, None), at(3600)), Disobeyed::Expired(at(3600)));
        let early = Assignment { not_before: at(20), ..order(3) };
        assert_eq!(refused(early, ledger(0, None), at(10)), Disobeyed::Early(at(20)));
        let future =
            Assignment { issued_at: at(4000), not_before: at(0), expires_at: at(9000), ..order(3) };
        assert_eq!(
            refused(future, ledger(0, None), at(10)),
            Disobeyed::Clock { issued: at(4000), now: at(10) }
        );
    }

    #[test]
    fn an_undo_may_come_after_its_window_but_never_for_another_host() {
        let signer = signer();
        let undo = Order::Undo { assignment: "ro-1/h-1/2".into(), reason: "test".into() };
        let signed = signer.sign(&Assignment { order: undo, ..order(3) });
        let key = signer.public_key();
        assert!(
            judge(&signed, &"h-1".into(), &key, Signed::default(), ledger(2, None), at(9999))
                .is_ok()
        );
        assert!(
            judge(&signed, &"h-2".into(), &key, Signed::default(), ledger(2, None), at(9999))
                .is_err()
        );
    }

    #[test]
    fn an_assignment_signed_by_another_key_is_not_believed() {
        let signed = signer().sign(&order(3));
        let judged = judge(
            &signed,
            &"h-1".into(),
            &signer().public_key(),
            Signed::default(),
            ledger(0, None),
            at(10),
        );
        assert_eq!(judged, Err(Disobeyed::NotBelieved(NotBelieved::Signature)));
    }
}
