//! Faults that end a program, or the machine: at journal records, at system calls, with the power.

use super::{Extent, Stand, spread};
use crate::repo::AcmeWeb;
use crate::{LabError, LabHost, Output};
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

/// Between two looks at a transaction that runs.
const PAUSE: Duration = Duration::from_millis(100);

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

/// Stops dpkg, or what it starts, at one system call of the real transaction.
struct AtCall {
    /// `unpack` or `configure`.
    phase: &'static str,
    call: &'static str,
    /// The how-manieth of this call in each process.
    when: u32,
}

impl AtCall {
    /// How often some call is made is not known beforehand: the first few of each process are tried.
    fn all(whens: &[u32]) -> Vec<Self> {
        let mut all = Vec::new();
        for phase in ["unpack", "configure"] {
            for call in CALLS {
                all.extend(whens.iter().map(|&when| Self { phase, call, when }));
            }
        }
        all
    }

    /// Has apt start dpkg through a wrapper that does what [`AtCall::arm`] says, once.
    fn prepare(host: &LabHost) -> Result<(), LabError> {
        const WRAPPER: &str = "#!/bin/sh
# Sends dpkg, or what it starts, a signal at one system call of the real transaction.
if [ -e /run/fault-at ] && [ ! -e /run/fettle-rehearsal ]; then
    read signal phase call when < /run/fault-at
    case \" $* \" in *\" --$phase \"*)
        rm /run/fault-at
        exec strace -f -o /run/fault.log -e trace=$call -e inject=$call:signal=$signal:when=$when /usr/bin/dpkg \"$@\" ;;
    esac
fi
exec /usr/bin/dpkg \"$@\"
";
        host.sh("apt-get install -y -qq strace")?.ok()?;
        host.write_file("/usr/local/sbin/dpkg-faulty", WRAPPER)?;
        host.sh("chmod 755 /usr/local/sbin/dpkg-faulty; echo 'Dir::Bin::dpkg \"/usr/local/sbin/dpkg-faulty\";' > /etc/apt/apt.conf.d/99faulty; sync")?.ok().map(drop)
    }

    /// Below `/run`, so that a power cut takes it away.
    fn arm(&self, host: &LabHost, signal: &str) -> Result<(), LabError> {
        let Self { phase, call, when } = self;
        let line =
            format!("rm -f /run/fault.log; echo {signal} {phase} {call} {when} > /run/fault-at");
        host.sh(&line)?.ok().map(drop)
    }

    fn fired(host: &LabHost, words: &str) -> Result<bool, LabError> {
        let log = host.sh(&format!("grep -c '{words}' /run/fault.log"))?.stdout;
        Ok(log.trim().parse::<u32>().is_ok_and(|n| n > 0))
    }
}

impl std::fmt::Display for AtCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.phase, self.call, self.when)
    }
}

/// dpkg and what it starts, at their system calls.
pub(super) fn dpkg_at_calls(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    AtCall::prepare(stand.host())?;
    let to = stand.offer(AcmeWeb::Good)?;
    let points = match extent {
        Extent::Short => vec![
            AtCall { phase: "unpack", call: "rename", when: 2 },
            AtCall { phase: "configure", call: "rename", when: 1 },
        ],
        Extent::Full => AtCall::all(&[1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 21, 34]),
    };
    for point in points {
        // A point that this transaction does not reach is none: it is not counted as a run.
        stand.run_if(&to, &point.to_string(), |s| {
            point.arm(s.host(), "SIGKILL")?;
            s.patch(&[], &[])?;
            AtCall::fired(s.host(), "killed by SIGKILL")
        })?;
    }
    Ok(())
}

/// The power, with what was not synchronised lost: at each step and journal record, and in the middle of dpkg.
pub(super) fn power(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    const BOOT: Duration = Duration::from_secs(90);
    let steps = STEPS.iter().flat_map(|s| [format!("{s}:before"), format!("{s}:after")]);
    let records = (1..RECORDS).flat_map(|n| [format!("{n}:before"), format!("{n}:after")]);
    let (points, calls) = match extent {
        Extent::Short => (vec!["apply:after".to_owned()], Vec::new()),
        Extent::Full => (steps.chain(records).collect(), AtCall::all(&[2])),
    };
    let again = |host: &LabHost| {
        host.power_cut()?;
        host.boot()?;
        host.wait_booted(BOOT).map(drop)
    };
    let to = stand.offer(AcmeWeb::Good)?;
    for point in points {
        stand.run(&to, &point, |s| s.patch_with_fault_at(&point, again))?;
    }
    for point in calls {
        AtCall::prepare(stand.host())?;
        stand.touched();
        stand.run_if(&to, &format!("dpkg, {point}"), |s| {
            point.arm(s.host(), "SIGSTOP")?;
            let mut running = s.start_patch(&[])?;
            while running.is_running() {
                if AtCall::fired(s.host(), "stopped by SIGSTOP")? {
                    again(s.host())?;
                    return Ok(true);
                }
                std::thread::sleep(PAUSE);
            }
            Ok(false)
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
