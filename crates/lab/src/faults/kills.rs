//! Faults that end a program, or the machine: at journal records, at system calls, with the power.

use super::{Extent, Stand, spread};
use crate::LabError;
use crate::Output;
use crate::repo::AcmeWeb;
use std::os::unix::process::ExitStatusExt as _;

/// Steps of a transaction, in their order.
const STEPS: [&str; 9] = [
    "preflight",
    "stage",
    "rehearse",
    "snapshot",
    "drain",
    "apply",
    "activate",
    "verify",
    "commit",
];
/// Records of a transaction that goes well: begun, started and finished for each step, ended.
const RECORDS: u32 = 2 + 2 * STEPS.len() as u32;
/// System calls that change something.
const CALLS: [&str; 9] =
    ["openat", "write", "rename", "unlink", "link", "fsync", "mkdir", "symlink", "chmod"];

/// The agent, at each step and before and after each record.
pub(super) fn agent_at_records(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    let steps = STEPS.iter().flat_map(|s| [format!("{s}:before"), format!("{s}:after")]);
    let records = (1..RECORDS).flat_map(|n| [format!("{n}:before"), format!("{n}:after")]);
    let points: Vec<String> = match extent {
        // The ones where something is half done.
        Extent::Short => {
            ["rehearse:after", "apply:before", "apply:after"].map(str::to_owned).to_vec()
        }
        Extent::Full => steps.chain(records).collect(),
    };
    let to = stand.offer(AcmeWeb::Good)?;
    for point in points {
        stand
            .run(&to, &point, |s| Ok(was_killed(&s.patch(&[], &[("FETTLE_CRASH_AT", &point)])?)))?;
    }
    Ok(())
}

/// The agent, at its own system calls.
pub(super) fn agent_at_calls(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::Good)?;
    stand.host().sh("apt-get install -y -qq strace")?.ok()?;
    let counts = "/root/agent.log";
    let mut points = Vec::new();
    stand.run(&to, "counting", |s| {
        let traced = format!(
            "strace -f -e trace={} -o {counts} fettle-agent patch acme-web",
            CALLS.join(",")
        );
        s.host().sh(&traced)?.ok()?;
        points = calls_of_first(&String::from_utf8_lossy(&s.host().read_file(counts)?));
        Ok(true)
    })?;
    for (call, when) in spread(&points, 120) {
        let script = format!(
            "strace -o /root/kill.log -e trace={call} -e inject={call}:signal=SIGKILL:when={when} fettle-agent patch acme-web; \
             grep -c 'killed by SIGKILL' /root/kill.log"
        );
        stand.run(&to, &format!("{call} {when}"), |s| {
            Ok(s.host().sh(&script)?.stdout.trim_end().ends_with('1'))
        })?;
    }
    Ok(())
}

/// dpkg and what it starts, at their system calls.
pub(super) fn dpkg_at_calls(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    const WRAPPER: &str = "#!/bin/sh
# Ends dpkg, or what it starts, at one system call of the real transaction.
if [ -e /root/kill-at ] && [ ! -e /run/fettle-rehearsal ]; then
    read phase call when < /root/kill-at
    case \" $* \" in *\" --$phase \"*)
        rm /root/kill-at
        exec strace -f -o /root/kill.log -e trace=$call -e inject=$call:signal=SIGKILL:when=$when /usr/bin/dpkg \"$@\" ;;
    esac
fi
exec /usr/bin/dpkg \"$@\"
";
    let host = stand.host();
    host.sh("apt-get install -y -qq strace")?.ok()?;
    host.write_file("/usr/local/sbin/dpkg-faulty", WRAPPER)?;
    host.sh("chmod 755 /usr/local/sbin/dpkg-faulty; echo 'Dir::Bin::dpkg \"/usr/local/sbin/dpkg-faulty\";' > /etc/apt/apt.conf.d/99faulty")?.ok()?;
    let to = stand.offer(AcmeWeb::Good)?;
    let mut points = Vec::new();
    for phase in ["unpack", "configure"] {
        for call in CALLS {
            // How many there are is not known beforehand; a few of each, the first ones of each process.
            points.extend([1, 2, 3, 5, 8, 13, 21].map(|when| (phase, call, when)));
        }
    }
    let points = match extent {
        Extent::Short => {
            vec![("unpack", "rename", 2), ("configure", "rename", 1)]
        }
        Extent::Full => points,
    };
    for (phase, call, when) in points {
        let what = format!("{phase} {call} {when}");
        // A point that this transaction does not reach is none: it is not counted as a run.
        stand.run_if(&to, &what, |s| {
            s.host().write_file("/root/kill-at", format!("{phase} {call} {when}\n"))?;
            s.host().sh("rm -f /root/kill.log")?;
            s.patch(&[], &[])?;
            let log = s.host().sh("grep -c 'killed by SIGKILL' /root/kill.log")?.stdout;
            Ok(log.trim().parse::<u32>().is_ok_and(|n| n > 0))
        })?;
    }
    Ok(())
}

/// The power, with what was not synchronised lost.
pub(super) fn power(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    let steps = STEPS.iter().flat_map(|s| [format!("{s}:before"), format!("{s}:after")]);
    let records = (1..RECORDS).flat_map(|n| [format!("{n}:before"), format!("{n}:after")]);
    let points: Vec<String> = match extent {
        Extent::Short => vec!["apply:after".to_owned()],
        Extent::Full => steps.chain(records).collect(),
    };
    let to = stand.offer(AcmeWeb::Good)?;
    for point in points {
        stand.run(&to, &point, |s| {
            s.patch_with_fault_at(&point, |host| {
                host.power_cut()?;
                host.boot()?;
                host.wait_booted(std::time::Duration::from_secs(90)).map(drop)
            })
        })?;
    }
    Ok(())
}

/// An undo, killed at each of its boundaries.
pub(super) fn undo(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    let points: &[&str] = match extent {
        Extent::Short => &["undo:after"],
        Extent::Full => &[
            "1:before",
            "1:after",
            "undo:before",
            "undo:after",
            "2:before",
            "2:after",
            "3:before",
            "3:after",
        ],
    };
    let to = stand.offer(AcmeWeb::Good)?;
    for point in points {
        stand.run(&to, point, |s| {
            s.patch(&[], &[])?.ok()?;
            let killed =
                s.host().command("fettle-agent").arg("undo").env("FETTLE_CRASH_AT", point).run()?;
            Ok(was_killed(&killed))
        })?;
    }
    Ok(())
}

/// Did it end by SIGKILL, and not by a refusal of its own?
pub(super) fn was_killed(output: &Output) -> bool {
    output.status.signal() == Some(9) || output.status.code() == Some(128 + 9)
}

/// `(call, when)` of the first process of a trace made with `strace -f`.
fn calls_of_first(log: &str) -> Vec<(String, u32)> {
    let Some(first) = log.split_whitespace().next() else { return Vec::new() };
    let mut counts = std::collections::BTreeMap::new();
    let mut points = Vec::new();
    for line in log.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some(first) {
            continue;
        }
        let Some((call, _)) = words.next().and_then(|w| w.split_once('(')) else { continue };
        let count = counts.entry(call.to_owned()).or_insert(0);
        *count += 1;
        points.push((call.to_owned(), *count));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_kind_and_only_those_of_the_first_process() {
        let log = "7 openat(AT_FDCWD, \"a\") = 3\n8 openat(AT_FDCWD, \"b\") = 3\n7 write(3, \"x\", 1) = 1\n\
                   7 openat(AT_FDCWD, \"c\" <unfinished ...>\n7 <... openat resumed>) = 4\n";
        let found = calls_of_first(log);
        let short: Vec<(&str, u32)> = found.iter().map(|(c, n)| (c.as_str(), *n)).collect();
        assert_eq!(short, [("openat", 1), ("write", 1), ("openat", 2)]);
    }
}
