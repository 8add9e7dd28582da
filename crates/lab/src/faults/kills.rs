//! Faults that end a program, or the machine: at journal records, at system calls, with the power.

use super::rows::eventually;
use super::stand::PATIENCE;
use super::{Extent, Stand, spread};
use crate::repo::AcmeWeb;
use crate::{LabError, LabHost, Output, Running};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

const PATCH: &str = "fettle-agent patch acme-web";
const UNDO: &str = "fettle-agent undo";
/// A host that lost its power may take so long to be there again.
const BOOT: Duration = Duration::from_secs(90);
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

/// Faults in the words of `strace(1)`: what a call is injected.
const KILL: &str = "signal=SIGKILL";
const STOP: &str = "signal=SIGSTOP";

/// So many faults a row of all points promises.
const PROMISED_KILLS: u32 = 200;
const PROMISED_CUTS: u32 = 60;

/// Before and after each step, and each record, the first included.
fn boundaries() -> Vec<String> {
    let steps = STEPS.iter().flat_map(|s| [format!("{s}:before"), format!("{s}:after")]);
    let records = (0..RECORDS).flat_map(|n| [format!("{n}:before"), format!("{n}:after")]);
    steps.chain(records).collect()
}

/// Is the host, at this boundary, about to be changed, or changed? From then on it takes up by itself what is interrupted.
fn is_guarded(point: &str) -> bool {
    // Begun; started and finished for each step.
    const FIRST: usize = 3;
    let place = point.split(':').next().unwrap_or_default();
    let step = STEPS.iter().position(|step| *step == place);
    let record = place.parse::<usize>().ok().map(|n| n > 2 * FIRST);
    step.map(|n| n >= FIRST).or(record).unwrap_or(true)
}

/// The agent, at each step and before and after each record.
pub(super) fn agent_at_records(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    let points: Vec<String> = match extent {
        // The ones where something is half done.
        Extent::Short => {
            ["rehearse:after", "apply:before", "apply:after"].map(str::to_owned).to_vec()
        }
        Extent::Full => boundaries(),
    };
    let to = stand.offer(AcmeWeb::Good)?;
    for point in points {
        stand
            .run(&to, &point, |s| Ok(was_killed(&s.patch(&[], &[("FETTLE_CRASH_AT", &point)])?)))?;
    }
    Ok(())
}

/// The agent, at its own system calls: of a change, and of an undo.
pub(super) fn agent_at_calls(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    let (of_patch, of_undo) = match extent {
        Extent::Short => (24, 8),
        Extent::Full => (190, 60),
    };
    if extent == Extent::Full {
        stand.promise(PROMISED_KILLS);
    }
    at_own_calls(stand, of_patch, of_undo, killed_at)
}

/// Does the agent a fault at so many of its own system calls, of a change and of an undo. `fault` runs a command of the agent
/// and does it at the how-manieth call of a kind; `false`: the command ended before.
pub(super) fn at_own_calls(
    stand: &mut Stand<'_>,
    of_patch: usize,
    of_undo: usize,
    fault: impl Fn(&LabHost, &str, &str, u32) -> Result<bool, LabError>,
) -> Result<(), LabError> {
    let to = stand.offer(AcmeWeb::Good)?;
    let (patch, undo) = (calls_of_patch(stand, &to)?, calls_of_undo(stand, &to)?);
    // How often a call is made is not the same each time: one near the end may not be reached.
    for (call, when) in spread(&patch, of_patch) {
        stand.run_if(&to, &format!("{call} {when}"), |s| fault(s.host(), PATCH, &call, when))?;
    }
    for (call, when) in spread(&undo, of_undo) {
        stand.run_if(&to, &format!("undo {call} {when}"), |s| {
            s.patch(&[], &[])?.ok()?;
            fault(s.host(), UNDO, &call, when)
        })?;
    }
    Ok(())
}

/// System calls of the agent itself in a change, which is gone through once, to its end.
fn calls_of_patch(stand: &mut Stand<'_>, to: &str) -> Result<Calls, LabError> {
    counting(stand, to, "counting", |s| counted(s.host(), PATCH))
}

/// The same, in an undo.
fn calls_of_undo(stand: &mut Stand<'_>, to: &str) -> Result<Calls, LabError> {
    counting(stand, to, "counting an undo", |s| {
        s.patch(&[], &[])?.ok()?;
        counted(s.host(), UNDO)
    })
}

fn counting(
    stand: &mut Stand<'_>,
    to: &str,
    what: &str,
    count: impl FnOnce(&Stand<'_>) -> Result<Calls, LabError>,
) -> Result<Calls, LabError> {
    stand.host().sh("apt-get install -y -qq strace")?.ok()?;
    stand.touched();
    let mut calls = Calls::new();
    stand.run(to, what, |s| {
        calls = count(s)?;
        Ok(true)
    })?;
    Ok(calls)
}

/// A call, and the how-manieth of its kind.
type Calls = Vec<(String, u32)>;

/// Runs a command of the agent to its end, and gives the calls that its first process makes.
fn counted(host: &LabHost, command: &str) -> Result<Calls, LabError> {
    const LOG: &str = "/root/agent.log";
    let calls = CALLS.join(",");
    host.sh(&format!("strace -f -e trace={calls} -o {LOG} {command}"))?.ok()?;
    Ok(calls_of_first(&String::from_utf8_lossy(&host.read_file(LOG)?)))
}

/// Kills a command of the agent at one of its calls. `false`: it ended before.
fn killed_at(host: &LabHost, command: &str, call: &str, when: u32) -> Result<bool, LabError> {
    let script = format!(
        "strace -o /root/kill.log -e trace={call} -e inject={call}:signal=SIGKILL:when={when} {command}; \
         grep -c 'killed by SIGKILL' /root/kill.log"
    );
    Ok(host.sh(&script)?.stdout.trim_end().ends_with('1'))
}

/// Does dpkg, or what it starts, a fault at one system call of the real transaction.
#[derive(Clone)]
pub(super) struct AtCall {
    /// `unpack` or `configure`.
    phase: &'static str,
    call: &'static str,
    /// The how-manieth of this call in each process.
    when: u32,
}

impl AtCall {
    /// At most so many, spread over all calls that a change to `to` makes dpkg and what it starts make: one is watched
    /// through from its beginning to its end.
    pub(super) fn all(stand: &mut Stand<'_>, to: &str, most: usize) -> Result<Vec<Self>, LabError> {
        let mut points = Vec::new();
        let calls = CALLS.join(",");
        stand.run(to, "counting", |s| {
            let host = s.host();
            host.sh(&format!("rm -f /root/dpkg-*.log; echo {calls} > /run/fault-trace"))?.ok()?;
            let said = s.patch(&[], &[])?;
            host.sh("rm -f /run/fault-trace")?.ok()?;
            for phase in ["unpack", "configure"] {
                let log = host.read_file(format!("/root/dpkg-{phase}.log"))?;
                let most = most_of_any(&String::from_utf8_lossy(&log));
                for call in CALLS {
                    let count = most.get(call).copied().unwrap_or(0);
                    points.extend((1..=count).map(|when| Self { phase, call, when }));
                }
            }
            Ok(said.success())
        })?;
        Ok(spread(&points, most))
    }

    /// Has apt start dpkg through a wrapper that does what [`AtCall::arm`] says, once.
    pub(super) fn prepare(host: &LabHost) -> Result<(), LabError> {
        const WRAPPER: &str = "#!/bin/sh
# Does dpkg, or what it starts, a fault at one system call of the real transaction: `signal=SIGKILL`, `error=EIO`.
phase=none
case \" $* \" in *\" --unpack \"*) phase=unpack ;; *\" --configure \"*) phase=configure ;; esac
if [ -e /run/fault-trace ] && [ ! -e /run/fettle-rehearsal ] && [ $phase != none ]; then
    exec strace -f -A -o /root/dpkg-$phase.log -e trace=$(cat /run/fault-trace) /usr/bin/dpkg \"$@\"
fi
if [ -e /run/fault-at ] && [ ! -e /run/fettle-rehearsal ]; then
    read fault phase call when < /run/fault-at
    case \" $* \" in *\" --$phase \"*)
        rm /run/fault-at
        exec strace -f -o /run/fault.log -e trace=$call -e inject=$call:$fault:when=$when /usr/bin/dpkg \"$@\" ;;
    esac
fi
exec /usr/bin/dpkg \"$@\"
";
        host.sh("apt-get install -y -qq strace")?.ok()?;
        host.write_file("/usr/local/sbin/dpkg-faulty", WRAPPER)?;
        host.sh("chmod 755 /usr/local/sbin/dpkg-faulty; echo 'Dir::Bin::dpkg \"/usr/local/sbin/dpkg-faulty\";' > /etc/apt/apt.conf.d/99faulty; sync")?.ok().map(drop)
    }

    /// Below `/run`, so that a power cut takes it away.
    pub(super) fn arm(&self, host: &LabHost, fault: &str) -> Result<(), LabError> {
        let Self { phase, call, when } = self;
        let line =
            format!("rm -f /run/fault.log; echo {fault} {phase} {call} {when} > /run/fault-at");
        host.sh(&line)?.ok().map(drop)
    }

    pub(super) fn fired(host: &LabHost, words: &str) -> Result<bool, LabError> {
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
        Extent::Full => {
            stand.promise(PROMISED_KILLS);
            AtCall::all(stand, &to, 240)?
        }
    };
    for point in points {
        // A point that this transaction does not reach is none: it is not counted as a run.
        stand.run_if(&to, &point.to_string(), |s| {
            point.arm(s.host(), KILL)?;
            s.patch(&[], &[])?;
            AtCall::fired(s.host(), "killed by SIGKILL")
        })?;
    }
    Ok(())
}

/// dpkg dies in the middle, and the agent while what repairs that is at work: this goes on in its own unit, and whoever
/// takes the transaction up waits for it.
pub(super) fn agent_on_the_ladder(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const REPAIRS: &str = "systemctl is-active --quiet 'fettle-configure-*.service'";
    AtCall::prepare(stand.host())?;
    let to = stand.offer(AcmeWeb::PostinstSlow(8))?;
    stand.run(&to, "while it configures", |s| {
        AtCall { phase: "configure", call: "rename", when: 1 }.arm(s.host(), KILL)?;
        let running = s.start_patch(&[])?;
        let repairs = eventually(|| Ok(s.host().sh(REPAIRS)?.success()))?;
        s.host().sh("pkill -KILL -f '[f]ettle-agent patch'")?;
        let goes_on = s.host().sh(REPAIRS)?.success();
        running.wait(PATIENCE)?;
        Ok(repairs && goes_on)
    })
}

/// The power, with what was not synchronised lost: at each step and journal record, and in the middle of dpkg. Once the
/// host was about to be changed, nobody but the host itself takes up what was interrupted.
pub(super) fn power(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    let points = match extent {
        Extent::Short => vec!["apply:after".to_owned()],
        Extent::Full => {
            stand.promise(PROMISED_CUTS);
            boundaries()
        }
    };
    let to = stand.offer(AcmeWeb::Good)?;
    for point in points {
        stand.leave_alone(is_guarded(&point));
        stand.run(&to, &point, |s| s.patch_with_fault_at(&point, again))?;
    }
    stand.leave_alone(true);
    if extent == Extent::Short {
        return Ok(());
    }
    AtCall::prepare(stand.host())?;
    stand.touched();
    for point in AtCall::all(stand, &to, 18)? {
        AtCall::prepare(stand.host())?;
        stand.touched();
        stand.run_if(&to, &format!("dpkg, {point}"), |s| {
            point.arm(s.host(), STOP)?;
            cut_where_stopped(s.host(), s.start_patch(&[])?, |_| Ok(()))
        })?;
    }
    Ok(())
}

/// The power is gone, with what was not synchronised; and comes back.
fn again(host: &LabHost) -> Result<(), LabError> {
    host.power_cut()?;
    host.boot()?;
    host.wait_booted(BOOT).map(drop)
}

/// Waits until a traced program stands still; then looks, and cuts the power. `false`: it came to its end.
fn cut_where_stopped(
    host: &LabHost,
    mut running: Running,
    look: impl FnOnce(&LabHost) -> Result<(), LabError>,
) -> Result<bool, LabError> {
    while running.is_running() {
        if AtCall::fired(host, "stopped by SIGSTOP")? {
            look(host)?;
            again(host)?;
            return Ok(true);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(false)
}

/// Boundaries of an undo: its step, and its records.
const UNDO_POINTS: [&str; 8] = [
    "1:before",
    "1:after",
    "undo:before",
    "undo:after",
    "2:before",
    "2:after",
    "3:before",
    "3:after",
];

/// The power, while an undo is under way: at each of its boundaries, and in the middle of what it puts back. The host
/// itself carries it on.
pub(super) fn power_in_undo(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    const CALLS_OF_UNDO: usize = 16;
    let to = stand.offer(AcmeWeb::Good)?;
    stand.leave_alone(true);
    for point in UNDO_POINTS {
        stand.run(&to, point, |s| {
            s.patch(&[], &[])?.ok()?;
            let undo = s.host().command("fettle-agent").arg("undo");
            s.run_with_fault_at(undo, point, again)
        })?;
    }
    for (call, when) in spread(&calls_of_undo(stand, &to)?, CALLS_OF_UNDO) {
        stand.run_if(&to, &format!("{call} {when}"), |s| {
            s.patch(&[], &[])?.ok()?;
            let inject = format!("{call}:{STOP}:when={when}");
            let line = ["-o", "/run/fault.log", "-e", &format!("trace={call}"), "-e"];
            let traced = s.host().command("strace").args(line).arg(format!("inject={inject}"));
            let running = traced.args(["fettle-agent", "undo"]).timeout(PATIENCE).spawn()?;
            cut_where_stopped(s.host(), running, |host| {
                s.leave_alone(is_ready(host)?);
                Ok(())
            })
        })?;
    }
    Ok(())
}

/// Is the host, in the middle of an undo that stands still, ready to take it up at its next boot: is there the link by which
/// it will, and durable? Before that nothing of the host was changed, and whoever looks is told to resume it.
fn is_ready(host: &LabHost) -> Result<bool, LabError> {
    const READY: &str = "test -e /etc/systemd/system/multi-user.target.wants/fettle-agent-resume-at-boot.service \
        && ! grep 'stopped by SIGSTOP' -B 2 /run/fault.log | grep -q multi-user.target.wants";
    Ok(host.sh(READY)?.success())
}

/// An undo, killed at each of its boundaries.
pub(super) fn undo(stand: &mut Stand<'_>, extent: Extent) -> Result<(), LabError> {
    let points: &[&str] = match extent {
        Extent::Short => &["undo:after"],
        Extent::Full => &UNDO_POINTS,
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
    let mut counts = BTreeMap::new();
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

/// How often, at most, a single process of a trace made with `strace -f` makes each call.
fn most_of_any(log: &str) -> BTreeMap<String, u32> {
    let (mut counts, mut most) = (BTreeMap::new(), BTreeMap::new());
    for line in log.lines() {
        let mut words = line.split_whitespace();
        let (Some(process), Some(said)) = (words.next(), words.next()) else { continue };
        let Some((call, _)) = said.split_once('(') else { continue };
        let count = counts.entry((process, call)).or_insert(0);
        *count += 1;
        let most = most.entry(call.to_owned()).or_insert(0);
        *most = (*most).max(*count);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_process_can_be_stopped_at_is_what_the_busiest_one_does() {
        let log = "7 openat(AT_FDCWD, \"a\") = 3\n8 openat(AT_FDCWD, \"b\") = 3\n7 write(3, \"x\", 1) = 1\n\
                   7 openat(AT_FDCWD, \"c\") = 4\n8 +++ exited with 0 +++\n";
        let most = most_of_any(log);
        assert_eq!((most["openat"], most["write"], most.len()), (2, 1, 2));
    }

    #[test]
    fn a_host_is_guarded_from_the_moment_that_it_is_about_to_be_changed() {
        for (point, is) in [
            ("0:before", false),
            ("6:after", false),
            ("7:before", true),
            ("19:after", true),
            ("rehearse:after", false),
            ("snapshot:before", true),
            ("commit:after", true),
        ] {
            assert_eq!(is_guarded(point), is, "{point}");
        }
        assert_eq!(boundaries().len(), 58);
    }

    #[test]
    fn calls_are_counted_by_kind_and_only_those_of_the_first_process() {
        let log = "7 openat(AT_FDCWD, \"a\") = 3\n8 openat(AT_FDCWD, \"b\") = 3\n7 write(3, \"x\", 1) = 1\n\
                   7 openat(AT_FDCWD, \"c\" <unfinished ...>\n7 <... openat resumed>) = 4\n";
        let found = calls_of_first(log);
        let short: Vec<(&str, u32)> = found.iter().map(|(c, n)| (c.as_str(), *n)).collect();
        assert_eq!(short, [("openat", 1), ("write", 1), ("openat", 2)]);
    }
}
