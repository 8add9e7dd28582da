//! File systems without room: for a file, for a name, for the way back.

use super::{Extent, Stand};
use crate::repo::AcmeWeb;
use crate::{LabError, LabHost};

/// From a step on nothing is left of the root file system.
pub(super) fn disk_full(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    let steps = match extent {
        // Where it hurts most: the host is being changed.
        Extent::Short => vec!["apply"],
        Extent::Full => vec!["preflight", "stage", "rehearse", "snapshot", "apply"],
    };
    let to = stand.offer(AcmeWeb::Huge(8))?;
    for step in steps {
        stand.run(&to, step, |s| fill(s, &format!("{step}:before"), 0))?;
    }
    Ok(())
}

/// What the change itself writes is written; what is left to be done has no room.
pub(super) fn disk_full_later(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    for behaviour in [AcmeWeb::Good, AcmeWeb::ServiceDies] {
        let to = stand.offer(behaviour)?;
        for step in ["activate", "verify", "commit"] {
            // A change that is bad is not committed.
            if (behaviour, step) != (AcmeWeb::ServiceDies, "commit") {
                stand.run(&to, &format!("{step}, {behaviour:?}"), |s| {
                    fill(s, &format!("{step}:before"), 0)
                })?;
            }
        }
    }
    Ok(())
}

/// The rehearsal tells how much is to be kept, and there is less: nothing is begun.
pub(super) fn way_back_has_no_room(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let large = stand.offer(AcmeWeb::Huge(8))?;
    stand.host().sh(&format!("apt-get install -y -qq acme-web={large} && sync"))?.ok()?;
    stand.goes_on_from(&large);
    let to = stand.offer(AcmeWeb::Good)?;
    stand.run(&to, "4 MiB are left for 8", |s| {
        let fired = fill(s, "rehearse:after", 4 << 10)?;
        let status = s.status()?;
        let why = status["last"].to_string();
        Ok(fired && why.contains("no-space") && status["last"]["finished"]["apply"].is_null())
    })?;
    stand.renew()
}

/// What is to be kept for the way back is larger than what is left, by much and by little.
pub(super) fn way_back_fills(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    // The version that runs holds 8 MiB which cannot be compressed.
    let large = stand.offer(AcmeWeb::Huge(8))?;
    stand.host().sh(&format!("apt-get install -y -qq acme-web={large} && sync"))?.ok()?;
    stand.goes_on_from(&large);
    let to = stand.offer(AcmeWeb::Good)?;
    for left in [256, 4 << 10, 7 << 10] {
        stand.run(&to, &format!("{left} KiB are left"), |s| fill(s, "snapshot:before", left))?;
    }
    stand.renew()
}

/// Nothing is left, somebody takes at once what anybody gives back, and the agent is killed: whoever takes the change up
/// has no more room than the journal took in advance.
pub(super) fn killed_without_room(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const HUNGRY: &str = r#"systemd-run -q --unit=hungry perl -e 'open(my $f, ">>", "/var/log/filler-more"); while (1) { syswrite($f, "x" x 4096) }'"#;
    let to = stand.offer(AcmeWeb::Huge(8))?;
    for place in ["snapshot:after", "apply:before"] {
        stand.run(&to, place, |s| {
            let mut full = false;
            let fired = s.patch_with_fault_at(place, |host| {
                full = fill_up(host, 0)?;
                host.sh(HUNGRY)?.ok()?;
                host.sh("pkill -KILL -f '[f]ettle-agent patch'")?.ok().map(drop)
            })?;
            s.resume()?;
            let ended = !s.is_stuck()?;
            s.host().sh("systemctl stop hungry; rm -f /var/log/filler*")?.ok()?;
            Ok(fired && full && ended)
        })?;
    }
    Ok(())
}

/// A patch; at `place` all of the root file system but so many KiB is used up by somebody else.
fn fill(stand: &Stand<'_>, place: &str, kib: u64) -> Result<bool, LabError> {
    let mut full = false;
    let fired = stand.patch_with_fault_at(place, |host| {
        full = fill_up(host, kib)?;
        Ok(())
    })?;
    stand.host().sh("rm -f /var/log/filler*")?.ok()?;
    Ok(fired && full)
}

/// Uses up all of the root file system but so many KiB. Gives whether it is.
fn fill_up(host: &LabHost, kib: u64) -> Result<bool, LabError> {
    // Most of it is only taken and never written: what lies beneath the lab need not have it.
    host.sh(&format!(
        "cd /var/log; dd if=/dev/zero of=spare bs=1k count={kib} 2>/dev/null; fallocate -l 64G filler 2>/dev/null; for size in 1M 1k; do dd if=/dev/zero of=filler-$size bs=$size 2>/dev/null; done; sync; rm -f spare; sync"
    ))?;
    Ok(left(host, "avail")? < kib + 64)
}

/// From a step on no file can be made.
pub(super) fn inodes_used_up(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const FILL: &str = "mkdir -p /var/log/inodes && perl -e 'my $n = 0; while (open(my $f, \">\", \"/var/log/inodes/$n\")) { $n++ }'";
    let to = stand.offer(AcmeWeb::Good)?;
    for step in ["preflight", "stage", "rehearse", "snapshot", "apply"] {
        stand.run(&to, step, |s| {
            let mut full = false;
            let fired = s.patch_with_fault_at(&format!("{step}:before"), |host| {
                host.sh(FILL)?;
                full = left(host, "iavail")? == 0;
                Ok(())
            })?;
            s.host().sh("rm -rf /var/log/inodes")?.ok()?;
            Ok(fired && full)
        })?;
    }
    Ok(())
}

/// What `df` says is left on the root file system: kibibytes (`avail`) or inodes (`iavail`).
fn left(host: &LabHost, what: &str) -> Result<u64, LabError> {
    let said = host.sh(&format!("df -k --output={what} / | tail -n 1"))?.ok()?;
    Ok(said.trim().parse().unwrap_or(u64::MAX))
}
