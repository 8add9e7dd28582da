//! Is the host's clock sane, and is it time?

use crate::transaction::fault;
use fettle_core::Timestamp;
use fettle_core::assignment::Assignment;
use fettle_core::transaction::Fault;

/// The host's clock may be behind the signer's by so much, in seconds.
const SLACK: i64 = 300;
/// It may be behind the newest list of packages by so much: mirrors' clocks differ.
const BEHIND: i64 = 24 * 3600;
/// Ahead of it by more is told and not refused: the archives of a release that has ended are never made anew.
const AHEAD: i64 = 366 * 24 * 3600;

/// Refuses when the clock cannot be right, or the order's window is not open. `newest`: when the newest list of
/// packages on this host was made. Gives what is odd and no reason to refuse.
pub(super) fn judge(
    order: &Assignment,
    newest: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<String>, Fault> {
    let set = "set the clock (timedatectl), then try again";
    if now.as_second() < order.issued_at.as_second() - SLACK {
        return Err(fault(
            "clock",
            format!("the order was signed at {}, this host's clock says {now}", order.issued_at),
            set,
        ));
    }
    let mut odd = None;
    if let Some(newest) = newest {
        let message = format!(
            "the newest package list on this host was made at {newest}, its clock says {now}"
        );
        let ahead = now.as_second() - newest.as_second();
        if ahead < -BEHIND {
            return Err(fault("clock", message, set));
        }
        if ahead > AHEAD {
            odd = Some(format!("{message}: the lists are stale, or the clock is wrong"));
        }
    }
    if now < order.not_before {
        return Err(fault(
            "too-early",
            format!("not to be started before {}", order.not_before),
            "wait for the window",
        ));
    }
    if now > order.expires_at {
        return Err(fault(
            "expired",
            format!("not to be started after {}", order.expires_at),
            "plan it again",
        ));
    }
    Ok(odd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::Digest;
    use fettle_core::assignment::{ApplyOrder, Order};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn order() -> Assignment {
        Assignment {
            schema: 1,
            id: "ro-1/h-1/1".into(),
            host: "h-1".into(),
            generation: 1,
            rollout: "ro-1".into(),
            plan: Digest::of(b"plan"),
            issued_at: at("2026-11-20T10:00:00Z"),
            not_before: at("2026-11-20T12:00:00Z"),
            expires_at: at("2026-11-20T14:00:00Z"),
            order: Order::Apply(ApplyOrder::default()),
        }
    }

    #[test]
    fn a_clock_that_cannot_be_right_is_refused_and_the_window_holds() {
        let newest = Some(at("2026-11-20T06:00:00Z"));
        for (now, newest, code) in [
            ("2026-11-20T13:00:00Z", newest, None),
            ("2026-11-20T13:00:00Z", None, None),
            ("2026-11-20T09:00:00Z", newest, Some("clock")),
            ("2025-11-20T13:00:00Z", newest, Some("clock")),
            ("2026-11-20T09:58:00Z", newest, Some("too-early")),
            ("2026-11-20T14:00:01Z", newest, Some("expired")),
            ("2027-11-30T13:00:00Z", newest, Some("expired")),
            // Lists made a day and more after now.
            ("2026-11-20T13:00:00Z", Some(at("2026-11-21T14:00:00Z")), Some("clock")),
            ("2026-11-20T13:00:00Z", Some(at("2026-11-21T12:00:00Z")), None),
        ] {
            let refused = judge(&order(), newest, at(now)).map_err(|f| f.code).err();
            assert_eq!(refused.as_deref(), code, "{now} {newest:?}");
        }
        // Lists of more than a year ago are told, and no reason to refuse.
        let now = at("2026-11-20T13:00:00Z");
        let odd = |made: &str| judge(&order(), Some(at(made)), now).unwrap();
        assert!(odd("2025-11-10T12:00:00Z").is_some_and(|o| o.contains("stale")));
        assert_eq!(odd("2025-12-01T12:00:00Z"), None);
        let fault = judge(&order(), newest, at("2025-11-20T13:00:00Z")).unwrap_err();
        assert!(
            fault.message.contains("2026-11-20T10:00:00Z") && fault.hint.contains("timedatectl")
        );
    }
}
