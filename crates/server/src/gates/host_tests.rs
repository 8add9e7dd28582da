//! Tests that gates make hosts run: asked in the answer to a check-in, answered with the next ones. A host answers for
//! itself alone, with the certificate that it checks in with; what it was not asked is not listened to.

use crate::app::App;
use fettle_core::rollout::{Answer, Came, GateEvidence, HostAsk, HostRan, Rollout};
use fettle_core::{HostId, Timestamp};
use fettle_wire::agent::{MOST_ASKS, RanReport};
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// As many characters of what a host says are kept.
const LONGEST: usize = 300;

/// What each host said last of what it is asked now, by [`HostAsk::ask`]. In memory only: hosts say it with every
/// check-in.
#[derive(Default)]
pub(crate) struct Ran(Mutex<BTreeMap<HostId, BTreeMap<String, HostRan>>>);

impl Ran {
    /// A host says all that it has to say about what it is asked, in place of what it said before.
    pub(crate) fn heard(
        &self,
        host: &HostId,
        asks: &[HostAsk],
        said: Vec<RanReport>,
        now: Timestamp,
    ) {
        let asked = |report: &RanReport| asks.iter().any(|ask| ask.ask == report.ask);
        let said: BTreeMap<String, HostRan> =
            said.into_iter().filter(asked).filter_map(|report| read(report, now)).collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.is_empty() {
            true => all.remove(host),
            false => all.insert(host.clone(), said),
        };
    }

    /// Forgets hosts that no gate can ask.
    pub(super) fn only(&self, hosts: &BTreeSet<&HostId>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|host, _| hosts.contains(host));
    }

    fn of(&self, host: &HostId, ask: &str) -> Option<HostRan> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(host)?.get(ask).cloned()
    }
}

/// By the server's clock, whatever the host's says. `None`: no time that can be.
fn read(report: RanReport, now: Timestamp) -> Option<(String, HostRan)> {
    let ago = |ms: u64| now.checked_sub(SignedDuration::from_millis(i64::try_from(ms).ok()?)).ok();
    let short = |text: String| text.chars().take(LONGEST).collect();
    let came = match report.came {
        Came::Well => Came::Well,
        Came::Badly { said } => Came::Badly { said: short(said) },
        Came::Lacks { why } => Came::Lacks { why: short(why) },
    };
    let (began_at, ended_at) = (ago(report.began_ms_ago)?, ago(report.ended_ms_ago)?);
    Some((report.ask, HostRan { began_at, ended_at, came }))
}

/// What the gates of these rollouts ask of a host now.
pub(crate) fn asks(rollouts: &[Arc<Rollout>], host: &HostId, now: Timestamp) -> Vec<HostAsk> {
    let asks = rollouts.iter().flat_map(|rollout| rollout.asks_of(host, now));
    asks.take(MOST_ASKS).collect()
}

/// What the wave's hosts have said, for each check that has them run something.
pub(crate) fn evidence(
    app: &App,
    state: &Rollout,
    now: Timestamp,
) -> impl Iterator<Item = GateEvidence> {
    state.asks_of_hosts(now).into_iter().map(move |(check, ask, hosts)| {
        let said = |id: &HostId| Some((id.clone(), app.gates.ran.of(id, &ask.ask)?));
        let hosts = hosts.into_iter().filter_map(said).collect();
        GateEvidence { check, wave: state.wave, asked_at: now, answer: Answer::Ran { hosts } }
    })
}
