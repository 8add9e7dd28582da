//! What a reason says to people: one sentence, with what to do about it where somebody can.

use super::Hold;
use crate::root;
use std::fmt;

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => write!(f, "no policy selects this host"),
            Self::PolicyAmbiguous { policies } => {
                write!(
                    f,
                    "policies {} select this host with equal priority",
                    policies.join(" and ")
                )
            }
            Self::NoRing => write!(f, "the host is in no ring of its policy"),
            Self::NoPool => write!(f, "the host is in neither pool of its policy, or in both"),
            Self::NoAgent { listed_at } => write!(
                f,
                "it has no agent: what it holds was told by a bill of materials on {listed_at}; make it anew and hand in its new one"
            ),
            Self::NoInventory => write!(f, "the host has not reported what it runs"),
            Self::InventoryStale { last_seen } => {
                write!(f, "the last report is too old to plan on ({last_seen})")
            }
            Self::Quarantined { reason } => write!(f, "the host is quarantined: {reason}"),
            Self::WindowClosed { opens_at: Some(at) } => {
                write!(f, "the maintenance window is closed until {at}")
            }
            Self::WindowClosed { opens_at: None } => {
                write!(f, "the maintenance window does not open within a year")
            }
            Self::WindowTooShort { closes_at, needs_seconds } => {
                write!(
                    f,
                    "the window closes at {closes_at}, the change with its way back needs {needs_seconds} s"
                )
            }
            Self::Blackout { reason, until } => write!(f, "blackout until {until}: {reason}"),
            Self::Excluded { package, reason, until } => {
                write!(f, "{package} is excluded by policy: {reason}")?;
                until.map_or(Ok(()), |u| write!(f, " (until {u})"))
            }
            Self::Pinned { package, version, to, reason, until } => {
                write!(
                    f,
                    "{package} {version} is not {to}, to which policy pins it until {until}: {reason}"
                )
            }
            Self::PackageHeld { package } => {
                write!(f, "{package} is held on the host (apt-mark hold)")
            }
            Self::PackagePinned { package, pin } => {
                write!(f, "{package} is pinned on the host ({pin})")
            }
            Self::SourceNotAllowed { package, origin } => {
                write!(f, "{package} comes from {origin}, a source the policy does not allow")
            }
            Self::NotSecurity { package, origin } => {
                write!(
                    f,
                    "{package} comes from {origin} and fixes no vulnerability that is known here"
                )
            }
            Self::VersionBarred { package, version, reason } => {
                write!(f, "{package} {version} is barred: {reason}")
            }
            Self::Recalled { package, version, by, reason } => {
                write!(f, "{package} {version} is recalled by {by}: {reason}")
            }
            Self::WouldRemove { package, removes } => {
                write!(f, "{package} would remove {}", removes.join(", "))
            }
            Self::WouldBring { package, brings } => {
                write!(
                    f,
                    "{package} would bring in {}, which no source of the host offers",
                    brings.join(", ")
                )
            }
            Self::KeptInStep { package, with } => {
                write!(f, "{package} is kept in step with {with}, which is held")
            }
            Self::NoFix { finding } => {
                write!(f, "{finding}: the vendor has no fix for this release")
            }
            Self::FixNotOffered { finding, fixed_version } => {
                write!(f, "{finding}: fixed in {fixed_version}, which no source of the host offers")
            }
            Self::InRoot { finding, root, image, fixed_version } => write!(
                f,
                "{finding}: in {}, fixed in {fixed_version}: {}",
                root::called(root, image),
                root::remedy(root)
            ),
            Self::NoSpace { mount, needs, free } => {
                write!(f, "{mount} has {free} bytes free, the change needs {needs}")
            }
            Self::BudgetUsed { budget, limit, disrupted } => {
                write!(
                    f,
                    "budget `{budget}` is used up: {} of {limit} hosts are disrupted",
                    disrupted.len()
                )
            }
            Self::RingNotYet { ring, until } => {
                write!(f, "ring `{ring}` begins {until}, counted from the rollout's start")
            }
            Self::Soak { ring, until } => write!(f, "ring `{ring}` soaks until {until}"),
            Self::Bake { wave, until } => write!(f, "wave {} is watched until {until}", wave + 1),
            Self::WaveRunning { wave, unfinished } => {
                write!(f, "wave {} has {unfinished} hosts still at work", wave + 1)
            }
            Self::NoData { what } => write!(f, "no data: {what}"),
            Self::CheckWaits { wave, check, why, since } => {
                write!(
                    f,
                    "the gate after wave {} waits for check `{check}` since {since}: {why}",
                    wave + 1
                )
            }
            Self::WaveNotApproved { rollout, wave, ring, not } => {
                write!(
                    f,
                    "wave {} (ring `{ring}`) begins when somebody with the role approver, not {not}, says so: \
                     fettle rollout approve {rollout} --wave {}",
                    wave + 1,
                    wave + 1
                )
            }
            Self::GateFailed { wave, reason } => {
                write!(f, "the gate after wave {} failed: {reason}", wave + 1)
            }
            Self::TooManyFailures { failed, allowed } => {
                write!(f, "{failed} hosts failed or fell silent, {allowed} are allowed")
            }
            Self::NotApproved { given, needed } => write!(f, "{given} of {needed} approvals given"),
            Self::NotSigned { given, needed } => {
                write!(f, "{given} of {needed} operators' signatures given")
            }
            Self::OrderRefused { why } => write!(f, "the host refuses the order: {why}"),
            Self::NotTested { cohorts, of, first } => {
                write!(f, "{cohorts} of {of} cohorts have no good test on a twin: {first}")
            }
            Self::TestFailed { like, reason } => {
                write!(f, "the twin of {like} did not take the change: {reason}")
            }
            Self::Paused { by, reason } => write!(f, "paused by {by}: {reason}"),
            Self::Aborted { by, reason } => write!(f, "aborted by {by}: {reason}"),
            Self::Busy { rollout } => write!(
                f,
                "rollout {rollout} is at work on this host, or has yet to be: `fettle rollout show {rollout}`; \
                 `fettle rollout abort {rollout} --reason WHY` ends it"
            ),
            Self::TrafficLed { rollout, phase } => {
                write!(f, "rollout {rollout} leads the traffic of these hosts and is {phase}")?;
                match phase.as_str() {
                    "halted" | "paused" => write!(
                        f,
                        ": end it with `fettle rollout abort {rollout} --reason WHY`, or let it go on with `fettle rollout resume {rollout} --reason WHY`"
                    ),
                    "aborted" => write!(
                        f,
                        ": this one begins when that one has given the requests back (`fettle rollout show {rollout}` says what it waits for)"
                    ),
                    _ => write!(f, ": this one begins when that one has ended"),
                }
            }
            Self::HostSilent { last_seen: Some(at) } => write!(f, "the host is silent since {at}"),
            Self::HostSilent { last_seen: None } => {
                write!(f, "the host has left the fleet, or has never spoken")
            }
            Self::HostChanged => {
                write!(f, "the host's packages are no longer what the plan was made for")
            }
            Self::GrantGone { grants } => {
                write!(
                    f,
                    "the grant expired or was withdrawn before the host redeemed it (grant {grants})"
                )
            }
            Self::Traffic { share: 0 } => write!(f, "the host is being taken out of its balancers"),
            Self::Traffic { share } => {
                write!(f, "the host is being given requests: {share} % of its weight")
            }
            Self::OnlyRehearsed => write!(f, "only a rehearsal was asked for"),
            Self::FeedsStale { feeds } => {
                write!(f, "vulnerability data are stale: {}", feeds.join(", "))
            }
            Self::PolicyBusy { rollout } => {
                write!(f, "rollout {rollout} of this policy is under way")
            }
            Self::CycleFailed { rollout, reason } => {
                write!(f, "rollout {rollout} went wrong, and nobody has said go on: {reason}")
            }
            Self::Restored { from } => {
                write!(
                    f,
                    "the server comes from a backup of {from} and starts nothing by itself until somebody lets it: `fettle cycle release --reason WHY`"
                )
            }
            Self::NotStarted { plan } => write!(f, "plan {plan} waits for somebody to start it"),
            Self::NotDue { at: Some(at) } => write!(f, "the next one is due at {at}"),
            Self::NotDue { at: None } => write!(f, "none is due within a year"),
            Self::ReportNotMade { why, tries, again_at } => {
                write!(
                    f,
                    "the report could not be made ({tries} tried), again at {again_at}: {why}"
                )
            }
            Self::FormatNotMade { format, why } => write!(f, "made without {format}: {why}"),
            Self::NotDelivered { delivery, to, tries, why, again_at } => {
                write!(f, "{delivery} has not arrived at {to} ({tries} tried)")?;
                match again_at {
                    Some(at) => write!(f, ", again at {at}")?,
                    None => {
                        write!(f, ", and is not tried again: `fettle webhook resend {delivery}`")?
                    }
                }
                if why.is_empty() { Ok(()) } else { write!(f, ": {why}") }
            }
            Self::NothingToDo => write!(f, "nothing is owed"),
        }
    }
}
