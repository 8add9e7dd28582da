//! S1: SIGKILL for the server, before parts of its commits are written, before they are on the disk, and at any instant.

use super::super::Extent;
use super::Hall;
use super::hall::PATIENCE;
use crate::LabError;
use crate::repo::AcmeWeb;
use fettle_wire::api::RolloutDetail;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;
/// A server that has not come to the call it was to die at is killed after so long.
const LONGEST: Duration = Duration::from_millis(3500);
const PAUSE: Duration = Duration::from_millis(150);

/// How a life ends: before the so-manieth of these calls that one of its threads makes, or after some time.
struct Death {
    call: Option<(&'static str, u32)>,
    after: Duration,
}

/// Spread over writes and time by a fixed seed, so that a run can be had again.
struct Deaths(u64);

impl Deaths {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    fn next(&mut self) -> Death {
        let call = match self.below(5) {
            0 | 1 => Some(("pwrite64", 4 + self.below(24) as u32)),
            2 | 3 => Some(("fdatasync,fsync", 2 + self.below(5) as u32)),
            _ => None,
        };
        let after = Duration::from_millis(300 + self.below(2200));
        Death { call, after: if call.is_some() { LONGEST } else { after } }
    }
}

/// Patched, taken back, and the same again, until enough deaths have been died.
pub(super) fn killed(hall: &mut Hall, extent: Extent) -> Result<(), LabError> {
    let enough = if extent == Extent::Short { 30 } else { 120 };
    let mut deaths = Deaths(0x005e_ed0f_fe77_1e01);
    let mut where_hit = BTreeMap::new();
    while hall.report.fired < enough {
        let (id, version) = hall.roll_out(AcmeWeb::Good)?;
        let done = until(hall, &id, &mut deaths, &mut where_hit, |r| r.row.ended_at.is_some())?;
        let patched = done.hosts.iter().all(|h| h.run.state.word() == "patched");
        let mut wrong = (!patched).then(|| format!("{id} ended as {:?}", done.row));
        for host in hall.hosts.clone() {
            let has = Hall::version(&host)?;
            if has != version {
                wrong = Some(format!("{id}: {} has {has}, not {version}", host.name()));
            }
        }
        hall.ended(wrong);
        hall.fleet.run(&["rollout", "undo", &id, "--reason", "test"])?.ok()?;
        let all_undone = |r: &RolloutDetail| r.hosts.iter().all(|h| h.run.state.word() == "undone");
        until(hall, &id, &mut deaths, &mut where_hit, all_undone)?;
        let mut wrong = None;
        for host in hall.hosts.clone() {
            let has = Hall::version(&host)?;
            if has != "1.0" {
                wrong = Some(format!("{id}: {} has {has} after its undo", host.name()));
            }
        }
        hall.ended(wrong);
    }
    hall.report.details.push(format!("killed at: {where_hit:?}"));
    Ok(())
}

/// Lets one server after the other die until the rollout is as `is` says; then one that lives is there.
fn until(
    hall: &mut Hall,
    id: &str,
    deaths: &mut Deaths,
    where_hit: &mut BTreeMap<String, u32>,
    is: impl Fn(&RolloutDetail) -> bool,
) -> Result<RolloutDetail, LabError> {
    let deadline = Instant::now() + 2 * PATIENCE;
    // The one that is there has answered an operator; it dies first.
    let mut death = Death { call: None, after: Duration::from_millis(200 + deaths.below(1500)) };
    let mut begun = Instant::now();
    loop {
        let shown = hall.look(id)?;
        if let Some(detail) = shown.filter(&is) {
            hall.fleet.kill_server();
            hall.fleet.start_server()?;
            return Ok(detail);
        }
        let ended = hall.fleet.server_ended()?;
        let by_itself = ended.is_some();
        if ended.is_none() && begun.elapsed() < death.after {
            std::thread::sleep(PAUSE);
            continue;
        }
        if ended.is_none() {
            hall.fleet.kill_server();
        }
        let by_kill = ended.is_none_or(|status| status.signal() == Some(SIGKILL));
        let what = match (&death.call, by_itself) {
            (Some((call, _)), true) => (*call).to_owned(),
            _ => "any instant".to_owned(),
        };
        hall.count(by_kill, &what);
        *where_hit.entry(what).or_insert(0) += 1;
        if Instant::now() > deadline {
            hall.fleet.start_server()?;
            return Err(LabError::Fleet { what: format!("{id} does not end under {where_hit:?}") });
        }
        death = deaths.next();
        begun = Instant::now();
        match &death.call {
            Some((call, when)) => {
                let inject = format!("inject={call}:signal=SIGKILL:when={when}");
                let trace = format!("trace={call}");
                // `-D`: the server stays our own child, so its end is seen as it was.
                hall.fleet.begin_server(&[
                    "strace",
                    "-D",
                    "-f",
                    "-qq",
                    "-o",
                    "/dev/null",
                    "-e",
                    &trace,
                    "-e",
                    &inject,
                ])?;
            }
            None => hall.fleet.begin_server(&[])?,
        }
    }
}
