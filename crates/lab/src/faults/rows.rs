//! All rows.

use super::End::{Patched, Quarantined, Refused, Undone};
use super::around;
use super::boot_loader;
use super::clocks;
use super::configurations;
use super::errors;
use super::journal;
use super::kernels;
use super::kills::{self, was_killed};
use super::lines;
use super::memory;
use super::room;
use super::{Extent, Row, Stand};
use crate::repo::{AcmeWeb, SURPRISES};
use crate::{LabError, RootFs};
use std::time::Duration;

/// Something that must come may take so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// The battery.
pub fn battery() -> Vec<Row> {
    let on = |root| move |id, what, short, good, run| Row { id, what, short, good, root, run };
    // A file system of its own can be filled, and lose its power; making one takes a while, so these rows stand
    // together.
    let ext4 = on(RootFs::Ext4 { mib: 2048 });
    let row = on(RootFs::default());
    let separate = on(RootFs::Separate);
    vec![
        ext4(
            "H1",
            "power cut, unsynchronised data lost",
            true,
            &[Patched, Undone, Refused],
            kills::power,
        ),
        on(RootFs::Xfs { mib: 2048 })(
            "H1x",
            "power cut, on xfs",
            false,
            &[Patched, Undone, Refused],
            kills::power,
        ),
        ext4("H5", "disk full from a step on", true, &[Refused, Undone], room::disk_full),
        ext4(
            "H5a",
            "disk full once the host was changed",
            false,
            &[Patched, Undone],
            room::disk_full_later,
        ),
        ext4(
            "H5b",
            "agent killed on a full disk",
            false,
            &[Refused, Undone],
            room::killed_without_room,
        ),
        ext4(
            "H7",
            "inodes used up from a step on",
            false,
            &[Refused, Undone],
            room::inodes_used_up,
        ),
        row("H1u", "dpkg is told not to synchronise", false, &[Patched], around::unsafe_io),
        row(
            "H2",
            "agent killed at steps and journal records",
            true,
            &[Patched, Undone, Refused],
            kills::agent_at_records,
        ),
        row(
            "H2a",
            "agent killed at system calls",
            false,
            &[Patched, Undone, Refused],
            kills::agent_at_calls,
        ),
        row("H3", "dpkg killed at system calls", true, &[Patched, Undone], kills::dpkg_at_calls),
        row(
            "H3a",
            "dpkg killed, then the agent while it repairs that",
            false,
            &[Patched],
            kills::agent_on_the_ladder,
        ),
        row(
            "H4",
            "a script is killed, as for want of memory",
            false,
            &[Undone],
            around::script_killed,
        ),
        row(
            "H4a",
            "the kernel kills a script for want of memory",
            false,
            &[Patched, Undone],
            memory::wanting,
        ),
        row("H6", "/boot too small for the update", true, &[Refused], around::boot_full),
        separate(
            "H8",
            "a file system turns read-only in the middle",
            false,
            &[Undone, Quarantined],
            around::read_only,
        ),
        row(
            "H8a",
            "the disk fails the agent: EIO at its system calls",
            false,
            &[Patched, Undone, Refused, Quarantined],
            errors::of_agent,
        ),
        row(
            "H8b",
            "the disk fails dpkg: EIO at its system calls",
            false,
            &[Patched, Undone, Quarantined],
            errors::of_dpkg,
        ),
        row("H9", "dpkg's lock held by somebody else", false, &[Refused, Patched], lock_held),
        row(
            "H10",
            "a half-configured package before the start",
            false,
            &[Refused],
            half_configured,
        ),
        row(
            "H10a",
            "a half-configured package, to be repaired",
            false,
            &[Patched],
            half_configured_repaired,
        ),
        row("H11", "postinst fails on the host only", true, &[Undone], postinst_fails),
        row(
            "H11a",
            "somebody edits /etc while it is changed, and it fails",
            true,
            &[Undone],
            around::edited_meanwhile,
        ),
        row("H12", "postinst hangs on the clone", false, &[Refused], postinst_hangs),
        row("H12a", "postinst hangs on the host only", true, &[Undone], postinst_hangs_live),
        row(
            "H12b",
            "postinst hangs, no time is set, and somebody looks",
            false,
            &[Undone],
            around::hangs_in_silence,
        ),
        row(
            "H12c",
            "postinst leaves a process of its own behind",
            false,
            &[Patched],
            around::daemonises,
        ),
        row("H13", "conffile changed by both sides", true, &[Patched], conffile),
        row("H14", "a script asks a person", false, &[Patched], around::question),
        row("H15", "an archive is not what was signed", true, &[Refused], around::archive_damaged),
        row("H16", "the index has expired", false, &[Refused, Patched], around::index_expired),
        row("H17", "the planned version is gone", false, &[Refused], around::archive_gone),
        row(
            "H17a",
            "the archive no longer has the version that is installed",
            false,
            &[Patched, Undone],
            around::installed_gone,
        ),
        row("H18", "the solver wants to remove a package, or needs one", false, &[Refused], solver),
        row("H19", "package held by the administrator", false, &[Refused], held),
        row("H19a", "package pinned by the administrator", false, &[Refused], around::pinned),
        row("H20", "the clock is wrong, or steps", false, &[Patched, Refused], clocks::wrong),
        row(
            "H21",
            "the line is cut while an archive is fetched",
            false,
            &[Patched, Refused],
            lines::cut_while_fetched,
        ),
        row("H22", "no network while it changes", false, &[Patched], around::network_gone),
        row(
            "H23",
            "a bad line: 1 s there and back, 5 % lost, 64 kbit/s",
            false,
            &[Patched],
            lines::bad,
        ),
        row("H24", "service does not come back", true, &[Undone], service_dies),
        row("H25", "service comes back sick", false, &[Undone], service_sick),
        row("H25a", "service comes back slower than allowed", false, &[Undone], service_slow),
        row(
            "H26",
            "agent killed after the change, nobody at the terminal",
            false,
            &[Patched, Undone],
            left_alone,
        ),
        row(
            "H26a",
            "the change cuts the network, and nobody confirms it",
            false,
            &[Patched, Undone],
            unconfirmed,
        ),
        row(
            "H26b",
            "the change cuts the network, and the host looks for its peer",
            false,
            &[Patched, Undone, Refused],
            around::peer_lost,
        ),
        row(
            "H27a",
            "a new kernel is rebooted into, and taken back",
            false,
            &[Patched],
            kernels::rebooted,
        ),
        row("H27", "a new kernel hangs at boot", false, &[Undone], kernels::hangs),
        row("H28", "a new kernel panics at boot", false, &[Undone], kernels::panics),
        ext4("H29", "no room for the way back", false, &[Refused], room::way_back_has_no_room),
        ext4(
            "H30",
            "the disk fills while the way back is written",
            false,
            &[Refused, Undone],
            room::way_back_fills,
        ),
        row(
            "H31",
            "the preimage is damaged when it is needed",
            false,
            &[Quarantined, Undone],
            around::undo_fails,
        ),
        row("H32a", "undo twice", false, &[Undone], around::undo_twice),
        row("H32", "undo killed and taken up again", true, &[Undone], kills::undo),
        ext4(
            "H32b",
            "power cut in an undo, unsynchronised data lost",
            false,
            // Before it was written down that it is to be undone, nobody has begun.
            &[Undone, Patched],
            kills::power_in_undo,
        ),
        row("H33", "data written while the change is made", false, &[Undone], data_written),
        row(
            "H34",
            "the agent is upgraded in the middle",
            false,
            &[Patched, Undone],
            around::agent_upgraded,
        ),
        row(
            "H35",
            "journal damaged in the middle of a change",
            true,
            &[Patched, Undone, Refused, Quarantined],
            journal::damaged,
        ),
        row(
            "H33a",
            "files changed that no rehearsal could foresee, on btrfs",
            true,
            &[Patched, Undone],
            surprises,
        ),
        separate(
            "H2b",
            "/usr, /var, /boot, /home on file systems of their own",
            true,
            &[Patched, Undone],
            file_systems,
        ),
        row(
            "H38",
            "GRUB is written to the disk anew, and taken back",
            false,
            &[Patched],
            boot_loader::there_and_back,
        ),
        row(
            "H39",
            "somebody else's configuration is spoilt",
            false,
            &[Refused],
            configurations::spoilt,
        ),
        row("H36", "administrator changes packages meanwhile", true, &[Refused], administrator),
    ]
}

/// A change that ends well and is taken back, one that is bad, and one whose agent dies in the middle.
fn file_systems(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    let mounts = stand.host().sh("findmnt -rno TARGET")?.stdout;
    if !["/usr", "/var", "/boot", "/home"].iter().all(|m| mounts.lines().any(|line| line == *m)) {
        return Err(LabError::Fleet { what: format!("not all are mounted: {mounts}") });
    }
    let to = stand.offer(AcmeWeb::Good)?;
    stand.run(&to, "a good change", |s| Ok(s.patch(&[], &[])?.success()))?;
    if extent == Extent::Full {
        stand.run(&to, "the agent killed after it", |s| {
            Ok(kills::was_killed(&s.patch(&[], &[("FETTLE_CRASH_AT", "apply:after")])?))
        })?;
    }
    let bad = stand.offer(AcmeWeb::ServiceDies)?;
    stand.run(&bad, "a bad change", |s| Ok(!s.patch(&[], &[])?.success()))
}

/// Where the root is a btrfs subvolume, its snapshot has what the preimage lacks. After the run in which the script
/// does not fail, the host is taken back by hand, and compared as after every run.
fn surprises(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let [changed, removed] = SURPRISES;
    stand
        .host()
        .sh(&format!(
            "apt-get install -y -qq btrfs-progs; mkdir -p /opt/vendor {removed}/below; echo old > {changed}; echo old > {removed}/below/old; chmod 640 {removed}/below/old"
        ))?
        .ok()?;
    for fails in [true, false] {
        let to = stand.offer(AcmeWeb::SurprisesLive { fails })?;
        let what = if fails { "its script fails" } else { "its script ends well" };
        stand.run(&to, what, |s| {
            let said = s.patch(&[], &[])?;
            let snapshot = said.stdout.contains("snapshot: the root's subvolume");
            Ok(snapshot && said.success() != fails)
        })?;
    }
    // No snapshot is left that would hold space.
    let left = stand.host().sh("ls -d /var/lib/fettle-agent/transactions/*/snapshot || true")?;
    match left.stdout.trim() {
        "" => Ok(()),
        left => Err(LabError::Fleet { what: format!("a snapshot was left behind: {left}") }),
    }
}

fn lock_held(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const HOLD: &str = "$| = 1; use Fcntl; open(my $f, '>>', '/var/lib/dpkg/lock-frontend') or die; \
        my $l = pack('s s x4 q q l x4', F_WRLCK, 0, 0, 0, 0); fcntl($f, F_SETLK, $l) or die; print qq(held\\n); sleep $ARGV[0]";
    let to = stand.offer(AcmeWeb::Good)?;
    // The second one lets go before patience ends: then it is gone on with.
    for (what, seconds, succeeds) in [("for ever", "600", false), ("for 25 s", "25", true)] {
        stand.run(&to, what, |s| {
            let mut holder = s.host().spawn(&["perl", "-e", HOLD, seconds])?;
            while !holder.stdout_so_far().contains("held") && holder.is_running() {
                std::thread::sleep(Duration::from_millis(50));
            }
            let fired = holder.is_running();
            let said = s.patch(&[], &[])?;
            let text = format!("{}{}", said.stdout, said.stderr);
            if holder.is_running() {
                holder.kill()?;
            }
            Ok(fired && said.success() == succeeds && text.contains("perl"))
        })?;
    }
    Ok(())
}

const STATUS: &str = "/var/lib/dpkg/status";
/// Leaves a package as a configuration that was cut short does.
const HALF_CONFIGURE: &str = "sed -i '/^Package: nginx$/,/^Status:/s/^Status: install ok installed/Status: install ok half-configured/' /var/lib/dpkg/status";

fn half_configured_repaired(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    // Once before, so that what dpkg itself writes down of it is the same afterwards.
    stand.host().sh(&format!("{HALF_CONFIGURE} && dpkg --configure -a"))?.ok()?;
    let to = stand.offer(AcmeWeb::Good)?;
    stand.run(&to, "before the start", |s| {
        s.host().sh(HALF_CONFIGURE)?.ok()?;
        let audit = s.host().sh("dpkg --audit")?.stdout;
        let said = s.patch(&["--repair"], &[])?.ok()?;
        Ok(audit.contains("nginx") && said.contains("repaired by dpkg --configure -a"))
    })
}

fn half_configured(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::Good)?;
    stand.run(&to, "before the start", |s| {
        s.host().sh(&format!("cp -p {STATUS} /root/status && {HALF_CONFIGURE}"))?.ok()?;
        let audit = s.host().sh("dpkg --audit")?.stdout;
        let said = s.patch(&[], &[])?;
        s.host().sh(&format!("cp -p /root/status {STATUS}"))?.ok()?;
        Ok(audit.contains("nginx") && !said.success() && said.stderr.contains("nginx"))
    })
}

/// Runs one patch of `behaviour`. It has fired when the agent did not call it good, for the reason in `words`.
fn bad_patch(
    stand: &mut Stand<'_>,
    behaviour: AcmeWeb,
    more: &[&str],
    words: &str,
) -> Result<(), LabError> {
    let to = stand.offer(behaviour)?;
    stand.run(&to, &format!("{behaviour:?}"), |s| {
        let said = s.patch(more, &[])?;
        let text = format!("{}{}", said.stdout, said.stderr);
        Ok(!said.success() && text.contains(words))
    })
}

fn postinst_fails(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    bad_patch(stand, AcmeWeb::PostinstFailsLive, &[], "acme-web: cannot stop the old workers")
}

fn postinst_hangs(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    bad_patch(stand, AcmeWeb::PostinstHangs, &["--hung-after", "12"], "no answer in time")
}

fn postinst_hangs_live(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    bad_patch(
        stand,
        AcmeWeb::PostinstHangsLive,
        &["--hung-after", "12"],
        "had not ended after 12 s",
    )
}

fn conffile(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const CONF: &str = "/etc/acme-web/acme-web.conf";
    stand.host().sh(&format!("sed -i s/Hello/Moin/ {CONF}; systemctl restart acme-web"))?.ok()?;
    let to = stand.offer(AcmeWeb::AsksAboutConffile)?;
    stand.run(&to, "both changed it", |s| {
        s.patch(&[], &[])?;
        let kept = s.host().sh(&format!("cat {CONF}"))?.stdout;
        let theirs = s.host().exec(&["test", "-e", &format!("{CONF}.dpkg-dist")])?.success();
        Ok(kept.contains("Moin") && theirs)
    })?;
    stand
        .host()
        .sh(&format!("sed -i s/Moin/Hello/ {CONF}; systemctl restart acme-web"))?
        .ok()
        .map(drop)
}

fn solver(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    bad_patch(stand, AcmeWeb::Removes("nginx"), &[], "nginx")?;
    bad_patch(stand, AcmeWeb::NeedsMissing, &[], "acme-runtime")
}

fn held(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::Good)?;
    stand.host().sh("apt-mark hold acme-web")?.ok()?;
    stand.run(&to, "apt-mark hold", |s| {
        let said = s.patch(&[], &[])?;
        Ok(!said.success() && said.stderr.contains("held"))
    })?;
    stand.host().sh("apt-mark unhold acme-web")?.ok().map(drop)
}

fn service_dies(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    for behaviour in extent.of(&[AcmeWeb::ServiceDies, AcmeWeb::ServiceFlaps], 1) {
        bad_patch(stand, behaviour, &[], "acme-web.service")?;
    }
    Ok(())
}

fn service_sick(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    probed(stand, |stand| bad_patch(stand, AcmeWeb::AnswersWrong, &[], "probe"))
}

/// Every answer is right, and takes half a second where it took a few milliseconds.
fn service_slow(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const MARGIN: [&str; 2] = ["--latency-margin", "50"];
    probed(stand, |stand| bad_patch(stand, AcmeWeb::AnswersSlowly(500), &MARGIN, "ms now"))
}

/// The operator's probe asks the service, during `faults`.
fn probed(
    stand: &mut Stand<'_>,
    faults: impl FnOnce(&mut Stand<'_>) -> Result<(), LabError>,
) -> Result<(), LabError> {
    const PROBE: &str = "/etc/fettle/probes.d/acme-web";
    let host = stand.host();
    host.sh("mkdir -p /etc/fettle/probes.d")?.ok()?;
    host.write_file(
        PROBE,
        "#!/bin/sh\nexec curl -sf --max-time 5 http://127.0.0.1:8080/ >/dev/null\n",
    )?;
    host.sh(&format!("chmod 755 {PROBE}"))?.ok()?;
    faults(stand)?;
    stand.host().sh(&format!("rm -f {PROBE}"))?.ok().map(drop)
}

fn left_alone(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    for point in extent.of(&["apply:after", "activate:before", "verify:after"], 1) {
        let to = stand.offer(AcmeWeb::Good)?;
        stand.run(&to, point, |s| {
            let killed = s.patch(&[], &[("FETTLE_CRASH_AT", point)])?;
            eventually(|| Ok(!s.is_stuck()?))?;
            let timers = s.host().sh("systemctl list-timers --all | grep -c fettle")?.stdout;
            Ok(was_killed(&killed) && !s.is_stuck()? && timers.trim() == "0")
        })?;
    }
    Ok(())
}

fn unconfirmed(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let bad = stand.offer(AcmeWeb::CutsNetwork)?;
    stand.run(&bad, "nobody can", |s| {
        let mut running = s.start_patch_with(&["--confirm-within", "5"])?;
        let mut cut = false;
        while running.is_running() {
            cut |= !s.is_reached();
        }
        // It is undone, and the host is there again.
        let back = eventually(|| Ok(s.is_reached()))?;
        Ok(cut && back)
    })?;
    let good = stand.offer(AcmeWeb::Good)?;
    stand.run(&good, "somebody does", |s| {
        let mut running = s.start_patch_with(&["--confirm-within", "120"])?;
        while running.is_running() {
            let said = s.host().exec(&["fettle-agent", "confirm"])?;
            if said.success() {
                return Ok(running.wait(PATIENCE)?.success());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(false)
    })
}

/// Asks again and again; `false` when patience ends.
pub(super) fn eventually(ask: impl FnMut() -> Result<bool, LabError>) -> Result<bool, LabError> {
    eventually_within(PATIENCE, ask)
}

/// The same, with another patience.
pub(super) fn eventually_within(
    patience: Duration,
    mut ask: impl FnMut() -> Result<bool, LabError>,
) -> Result<bool, LabError> {
    let deadline = std::time::Instant::now() + patience;
    while std::time::Instant::now() < deadline {
        if ask()? {
            return Ok(true);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(false)
}

fn data_written(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const DATA: &str = "/var/lib/acme-data";
    let to = stand.offer(AcmeWeb::ServiceDies)?;
    stand.run(&to, "below /var/lib", |s| {
        let fired = s.patch_with_fault_at("activate:before", |host| {
            host.sh(&format!("mkdir {DATA} && echo precious > {DATA}/kept"))?.ok().map(drop)
        })?;
        let kept = s.host().sh(&format!("cat {DATA}/kept; rm -rf {DATA}"))?.stdout;
        Ok(fired && kept == "precious\n")
    })
}

fn administrator(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const ACT: &str = "apt-get install -y -qq --reinstall acme-web=1.0 && apt-mark hold nginx";
    const BACK: &str = "apt-mark unhold nginx";
    // Once before, so that dpkg's own backup of its database is the same afterwards.
    stand.host().sh(&format!("{ACT} && {BACK}"))?.ok()?;
    let to = stand.offer(AcmeWeb::Good)?;
    stand.run(&to, "between rehearsal and change", |s| {
        let fired = s.patch_with_fault_at("rehearse:after", |host| host.sh(ACT)?.ok().map(drop))?;
        s.host().sh(BACK)?.ok()?;
        Ok(fired)
    })
}
