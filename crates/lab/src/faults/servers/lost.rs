//! L1: a host that is switched off for good in the middle of its change, and comes back when all is over.

use super::super::Extent;
use super::Hall;
use super::hall::PATIENCE;
use crate::LabError;
use crate::repo::AcmeWeb;
use fettle_core::rollout::{Phase, RolloutEvent};
use fettle_wire::api::RolloutDetail;
use std::time::{Duration, Instant};

/// One failure is borne, and one host at a time is out: the lost one holds that place for good.
pub(super) const POLICY: &str = r#"
[[budget]]
name = "all"
select = "all"
max-unavailable = 2

[gate]
bake = "1s"
max-failures = 1
min-success-percent = 50
silent-after = "15s"
"#;
const BOOT: Duration = Duration::from_secs(120);

fn state<'d>(detail: &'d RolloutDetail, name: &str) -> &'d str {
    detail.hosts.iter().find(|h| h.name == name).map_or("missing", |h| h.run.state.word())
}

/// Twice: at the first loss the rollout bears one failure and goes on; at the second, of two hosts at once, it halts.
/// Each time the hosts come back after the end.
pub(super) fn lost(hall: &mut Hall, _: Extent) -> Result<(), LabError> {
    // The others go on; the lost one is quarantined, and what it did in the end is taken when it is back.
    let (id, version) = hall.roll_out(AcmeWeb::PostinstSlow(8))?;
    let victim = hall.hosts[1].clone();
    switch_off_at_work(hall, &id, &[1])?;
    let over = wait(hall, &id, "the rollout to end without it", |r| {
        r.row.ended_at.is_some() || matches!(r.row.phase, Phase::Halted { .. })
    })?;
    let silent = over.events.iter().any(|e| matches!(e.event, RolloutEvent::Silent { .. }));
    let as_it_should = over.row.phase == Phase::Done
        && silent
        && [state(&over, "hall1"), state(&over, "hall2"), state(&over, "hall3")]
            == ["patched", "quarantined", "patched"];
    hall.ended((!as_it_should).then(|| format!("{id}: {:?}, {:?}", over.row, over.waiting)));
    victim.boot()?;
    victim.wait_booted(BOOT)?;
    let back = wait(hall, &id, "the end of the host that is back", |r| {
        matches!(state(r, "hall2"), "patched" | "undone")
    })?;
    // What it says replaces the quarantine for its silence, once; and it is as it says.
    let expected = if state(&back, "hall2") == "patched" { version.as_str() } else { "1.0" };
    let has = Hall::version(&victim)?;
    hall.ended((has != expected).then(|| format!("{id}: hall2 has {has}, not {expected}")));

    // Two at once are more than the gate allows: nobody else is started, and a person must say so.
    hall.fleet.run(&["rollout", "undo", &id, "--reason", "test"])?.ok()?;
    wait(hall, &id, "everything to be taken back", |r| {
        r.hosts.iter().all(|h| h.run.state.word() == "undone")
    })?;
    let (id, _) = hall.roll_out(AcmeWeb::PostinstSlow(8))?;
    switch_off_at_work(hall, &id, &[1, 2])?;
    let halted = wait(hall, &id, "the rollout to halt", |r| {
        r.row.ended_at.is_some() || matches!(r.row.phase, Phase::Halted { .. })
    })?;
    let as_it_should = matches!(halted.row.phase, Phase::Halted { .. });
    hall.ended((!as_it_should).then(|| format!("{id}: {:?} after two were lost", halted.row)));
    for at in [1, 2] {
        hall.hosts[at].boot()?;
        hall.hosts[at].wait_booted(BOOT)?;
    }
    let back = wait(hall, &id, "the ends of the hosts that are back", |r| {
        ["hall2", "hall3"].iter().all(|name| matches!(state(r, name), "patched" | "undone"))
    })?;
    // A halt clears only by an operator, whatever comes to light.
    let stays = matches!(back.row.phase, Phase::Halted { .. });
    hall.ended((!stays).then(|| format!("{id}: the halt has gone by itself: {:?}", back.row)));
    hall.fleet.run(&["rollout", "abort", &id, "--reason", "test"])?.ok()?;
    wait(hall, &id, "its end", |r| r.row.ended_at.is_some()).map(drop)
}

/// Each of these hosts is let go until its packages change; then it is gone, all at once.
fn switch_off_at_work(hall: &mut Hall, id: &str, which: &[usize]) -> Result<(), LabError> {
    let deadline = Instant::now() + PATIENCE;
    let mut left: Vec<usize> = which.to_vec();
    while !left.is_empty() && Instant::now() < deadline {
        let mut still = Vec::new();
        for at in left {
            let host = hall.hosts[at].clone();
            let working = "pgrep -f '[d]pkg.*--configure|[a]cme-web.postinst' > /dev/null";
            if host.sh(working)?.success() {
                host.kill()?;
                hall.count(!host.is_running(), &format!("{} switched off", host.name()));
            } else {
                still.push(at);
            }
        }
        left = still;
        std::thread::sleep(Duration::from_millis(100));
    }
    for at in left {
        hall.count(false, &format!("{id}: {} was never at work", hall.hosts[at].name()));
    }
    Ok(())
}

fn wait(
    hall: &mut Hall,
    id: &str,
    what: &str,
    is: impl Fn(&RolloutDetail) -> bool,
) -> Result<RolloutDetail, LabError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(detail) = hall.look(id)?.filter(&is) {
            return Ok(detail);
        }
        if Instant::now() > deadline {
            let shown = hall.look(id)?.map(|r| (r.row, r.waiting));
            return Err(LabError::Fleet { what: format!("waited for {what}: {shown:?}") });
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}
