//! What goes wrong around a change: its archives, its network, its memory, its file systems, its agent.

use super::rows::eventually_within;
use super::stand::PATIENCE;
use super::{Extent, Stand};
use crate::repo::AcmeWeb;
use crate::{LabError, LabHost};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Shell: the directory of the newest transaction.
const LAST: &str = "$(ls -td /var/lib/fettle-agent/transactions/*/ | head -n 1)";

/// What the package manager said in the newest transaction.
fn last_log(host: &LabHost) -> Result<String, LabError> {
    host.sh(&format!("cat {LAST}apply.log"))?.ok()
}

/// Bytes of an archive are not what the signed index says.
pub(super) fn archive_damaged(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    archive(stand, "one byte is another", "printf '\\377' | dd bs=1 seek=3000 conv=notrunc of=")
}

/// The index still names a version that the archive no longer has.
pub(super) fn archive_gone(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    archive(stand, "before it is fetched", "rm ")
}

/// Nobody has the archive of the version that is installed: it is made from what is installed, and must go back on the
/// clone.
pub(super) fn installed_gone(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const AWAY: &str = "v=$(dpkg-query -W -f '${Version}' acme-web); rm -f /var/cache/apt/archives/acme-web*; mv /srv/vendor-acme/pool/acme-web_${v}_all.deb /root/";
    const BACK: &str = "mv /root/acme-web_*_all.deb /srv/vendor-acme/pool/";
    for behaviour in [AcmeWeb::Good, AcmeWeb::PostinstFailsLive] {
        let to = stand.offer(behaviour)?;
        stand.run(&to, &format!("{behaviour:?}"), |s| {
            s.host().sh(AWAY)?.ok()?;
            let said = s.patch(&[], &[])?.stdout;
            s.host().sh(BACK)?.ok()?;
            Ok(said.contains("rebuilt from what is installed: acme-web")
                && said.contains("the old archives go back on the clone"))
        })?;
    }
    Ok(())
}

fn archive(stand: &mut Stand<'_>, what: &str, harm: &str) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::Good)?;
    stand.run(&to, what, |s| {
        let archive = format!("/srv/vendor-acme/pool/acme-web_{to}_all.deb");
        s.host()
            .sh(&format!("cp -p {archive} /root/kept.deb && {harm}{archive} 2>/dev/null"))?
            .ok()?;
        let said = s.patch(&[], &[])?;
        // The archive is no part of what is compared.
        s.host().sh(&format!("cp -p /root/kept.deb {archive}"))?.ok()?;
        Ok(!said.success())
    })
}

/// dpkg is told not to write safely, which some images made for containers do. It is said, with the file.
pub(super) fn unsafe_io(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const FILE: &str = "/etc/dpkg/dpkg.cfg.d/speed";
    stand.host().write_file(FILE, "force-unsafe-io\n")?;
    let to = stand.offer(AcmeWeb::Good)?;
    stand.run(&to, "by dpkg's configuration", |s| {
        Ok(s.patch(&[], &[])?.stdout.contains(&format!("{FILE} sets force-unsafe-io")))
    })?;
    stand.touched();
    stand.host().sh(&format!("rm {FILE}"))?.ok().map(drop)
}

/// The administrator pins another version than the plan's: before it is made, and after.
pub(super) fn pinned(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const FILE: &str = "/etc/apt/preferences.d/acme";
    const PIN: &str = "Package: acme-web\nPin: version 1.0\nPin-Priority: 1001\n";
    let to = stand.offer(AcmeWeb::Good)?;
    stand.run(&to, "before it is planned", |s| {
        s.host().write_file(FILE, PIN)?;
        let said = s.patch(&[], &[])?;
        s.host().sh(&format!("rm {FILE}"))?.ok()?;
        Ok(!said.success() && format!("{}{}", said.stdout, said.stderr).contains("pinned"))
    })?;
    stand.run(&to, "after it was planned", |s| {
        let fired = s.patch_with_fault_at("preflight:before", |host| host.write_file(FILE, PIN))?;
        s.host().sh(&format!("rm {FILE}"))?.ok()?;
        let said = s.status()?["last"].to_string();
        Ok(fired && said.contains("pinned to another version on this host: acme-web"))
    })
}

/// A script asks a person, who is not there.
pub(super) fn question(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::AsksPerson)?;
    stand.run(&to, "by standard input and by the terminal", |s| {
        let said = s.patch(&[], &[])?;
        Ok(said.success() && last_log(s.host())?.contains("nobody answered"))
    })
}

/// A script is killed as the kernel kills for want of memory: with SIGKILL, and without a word.
pub(super) fn script_killed(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::PostinstKilledLive)?;
    stand.run(&to, "the script after unpacking", |s| {
        s.patch(&[], &[])?;
        Ok(last_log(s.host())?.contains("killed by signal"))
    })
}

/// The script starts a process and ends; the process goes on, in the background, with everything it was given open.
/// Nobody may wait for it, and nobody may end it.
pub(super) fn daemonises(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const LIVES: &str = "pgrep -f '[s]leep 1717'";
    let to = stand.offer(AcmeWeb::PostinstDaemonises)?;
    stand.run(&to, "it lives on", |s| {
        let begun = Instant::now();
        let said = s.patch(&[], &[])?;
        let in_time = begun.elapsed() < Duration::from_secs(120);
        let lives = s.host().sh(LIVES)?.success();
        s.host().sh("pkill -f '[s]leep 1717'")?.ok()?;
        Ok(said.success() && in_time && lives)
    })
}

/// `/boot` is a small file system, and the update does not fit.
pub(super) fn boot_full(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::Boots(20))?;
    stand.run(&to, "20 MiB into 8", |s| {
        s.host().sh("mount -t tmpfs -o size=8m,mode=755 small /boot")?.ok()?;
        let said = s.patch(&[], &[])?;
        s.host().sh("umount /boot")?.ok()?;
        Ok(!said.success() && said.stderr.contains("/boot"))
    })
}

/// Somebody edits `/etc` while it is changed: a file of no package, one of the package, and a new one. The change fails in
/// the middle, or after it. Everything is as before, and of each edit there is a copy, told by name.
pub(super) fn edited_meanwhile(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const EDIT: &str = "echo '192.0.2.7 mine' >> /etc/hosts; sed -i s/Hello/Moin/ /etc/acme-web/acme-web.conf; echo mine > /etc/acme-web/mine";
    const COPIES: [(&str, &str); 3] = [
        ("/etc/acme-web/acme-web.conf", "Moin"),
        ("/etc/acme-web/mine", "mine"),
        ("/etc/hosts", "mine"),
    ];
    for behaviour in [AcmeWeb::PostinstFailsLive, AcmeWeb::ServiceDies] {
        let to = stand.offer(behaviour)?;
        stand.run(&to, &format!("{behaviour:?}"), |s| {
            let fired =
                s.patch_with_fault_at("apply:before", |host| host.sh(EDIT)?.ok().map(drop))?;
            let told = s.status()?["last"]["undo"][1]["set_aside"].clone();
            let mut kept = told == serde_json::json!(COPIES.map(|(path, _)| path));
            for (path, words) in COPIES {
                let copy = s.host().sh(&format!("cat {LAST}preimage/set-aside{path}"))?.stdout;
                kept &= copy.contains(words);
            }
            Ok(fired && kept)
        })?;
    }
    Ok(())
}

/// A file system turns read-only when dpkg is about to write to it, as after an error of its disk.
pub(super) fn read_only(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::Good)?;
    stand.run(&to, "/usr, when apply begins", |s| {
        let fired = s.patch_with_fault_at("apply:before", |host| remount(host, "ro"))?;
        remount(s.host(), "rw")?;
        Ok(fired)
    })
}

fn remount(host: &LabHost, how: &str) -> Result<(), LabError> {
    host.sh(&format!("mount -o remount,bind,{how} /usr"))?.ok().map(drop)
}

/// The vendor's index expires, and the mirror has no other: whoever holds it back could keep the host at old versions.
/// When there is a new one, the agent asks for it by itself.
pub(super) fn index_expired(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const GOOD: u32 = 20;
    let to = stand.offer(AcmeWeb::Good)?;
    stand.good_for(Some(GOOD))?;
    stand.run(&to, "its mirror is behind", |s| {
        let until = "date -ud \"$(sed -n 's/^Valid-Until: //p' /var/lib/apt/lists/*srv_vendor*Release)\" +%s";
        s.host().sh(&format!("while [ $(date +%s) -le $({until}) ]; do sleep 1; done"))?.ok()?;
        let said = s.patch(&[], &[])?;
        Ok(!said.success() && said.stderr.contains("has expired"))
    })?;
    stand.renew_index()?;
    stand.run(&to, "its mirror has caught up", |s| Ok(s.patch(&[], &[])?.success()))
}

/// The network is gone while the packages change.
pub(super) fn network_gone(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::Good)?;
    stand.run(&to, "from apply on", |s| {
        let mut gone = false;
        let fired = s.patch_with_fault_at("apply:before", |host| {
            host.sh("ip link set host0 down")?.ok()?;
            gone = !s.is_reached();
            Ok(())
        })?;
        s.host().sh("ip link set host0 up && networkctl reconfigure host0")?.ok()?;
        Ok(fired && gone)
    })
}

/// The preimage is damaged when it is needed.
pub(super) fn undo_fails(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::ServiceDies)?;
    stand.run(&to, "the preimage's content is lost", |s| {
        s.patch_with_fault_at("undo:before", |host| {
            let overwrite =
                format!("p={LAST}preimage/pack; n=$(stat -c %s $p); head -c $n /dev/urandom > $p");
            host.sh(&overwrite)?.ok().map(drop)
        })
    })
}

/// The agent's program is replaced and its process ends, as an upgrade of it does.
pub(super) fn agent_upgraded(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    const UPGRADE: &str = "cp /usr/bin/fettle-agent /usr/bin/fettle-agent.new && mv /usr/bin/fettle-agent.new /usr/bin/fettle-agent && pkill -KILL -f '[f]ettle-agent patch'";
    for point in extent.of(&["apply:before", "apply:after", "rehearse:after", "verify:before"], 2) {
        let to = stand.offer(AcmeWeb::Good)?;
        stand.run(&to, point, |s| {
            s.patch_with_fault_at(point, |host| host.sh(UPGRADE)?.ok().map(drop))
        })?;
    }
    Ok(())
}

/// What was taken back is taken back once more.
pub(super) fn undo_twice(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::Good)?;
    stand.run(&to, "the second has nothing to do", |s| {
        s.patch(&[], &[])?.ok()?;
        s.host().exec(&["fettle-agent", "undo"])?.ok()?;
        let second = s.host().exec(&["fettle-agent", "undo"])?;
        Ok(!second.success() && second.stderr.contains("nothing to take back"))
    })
}

/// A script hangs, and the order names no time after which it counts as hung. The host says so, to whoever looks and on
/// the terminal; then a person ends the script.
pub(super) fn hangs_in_silence(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::PostinstHangsLive)?;
    stand.run(&to, "until it is told of", |s| {
        let running = s.start_patch(&[])?;
        let told = eventually_within(PATIENCE, || {
            let now = s.status()?["now"].clone();
            let runs = now["runs"].as_str().unwrap_or_default().to_owned();
            Ok(now["quiet_minutes"].as_u64().is_some() && runs.contains("acme-web.postinst"))
        })?;
        // What repairs the change runs the script once more, and it hangs again: whoever looks ends that one, too.
        const ENDS_IT: &str = "while sleep 1; do pkill -KILL -f '[a]cme-web.postinst'; done";
        s.host()
            .exec(&["systemd-run", "--quiet", "--unit=run-ends-it", "sh", "-c", ENDS_IT])?
            .ok()?;
        let said = running.wait(PATIENCE)?;
        s.host().sh("systemctl stop run-ends-it")?.ok()?;
        Ok(told && said.stdout.contains("no progress for 5 min"))
    })
}

/// The change cuts the network of a host without a server, which is to reach a peer afterwards; and one that does not.
pub(super) fn peer_lost(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const FILE: &str = "/etc/fettle/peer";
    let gateway = stand.lab().gateway_ip();
    let listener =
        TcpListener::bind((gateway, 0)).map_err(LabError::io("listen", FILE.as_ref()))?;
    let peer = listener.local_addr().map_err(LabError::io("listen", FILE.as_ref()))?;
    let bad = stand.offer(AcmeWeb::CutsNetwork)?;
    stand.host().write_file(FILE, format!("{peer}\n"))?;
    stand.run(&bad, "it is cut", |s| {
        let said = s.patch(&["--deadman", "5"], &[])?;
        let cut = said.stdout.contains("nothing answered this host for 5 s after the change");
        Ok(cut && !said.success() && super::rows::eventually(|| Ok(s.is_reached()))?)
    })?;
    let good = stand.offer(AcmeWeb::Good)?;
    stand.run(&good, "it is not", |s| {
        let said = s.patch(&["--deadman", "60"], &[])?;
        Ok(said.success() && said.stdout.contains("peer was reached after"))
    })?;
    drop(listener);
    stand.run(&good, "the peer was gone before", |s| {
        let said = s.patch(&["--deadman", "60"], &[])?;
        Ok(!said.success() && said.stderr.contains("does not answer before the change"))
    })?;
    stand.touched();
    stand.host().sh(&format!("rm {FILE}"))?.ok().map(drop)
}
