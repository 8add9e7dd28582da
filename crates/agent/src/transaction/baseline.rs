//! The host's own baseline: what ran, listened and answered before the change. Verify and undo are judged by
//! it, never by what somebody thinks a host should look like.

use super::turns::{self, Relations};
use super::units::{self, UnitState};
use super::{Transaction, fault, io_fault};
use crate::probe::{self, Answer};
use fettle_core::assignment::Probe;
use fettle_core::inventory::{Listener, Service};
use fettle_core::transaction::Fault;
use fettle_core::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Name of the file it is kept in.
pub const FILE: &str = "baseline.json";
/// Each probe is asked so often; the middle answer counts for latency.
pub const ROUNDS: usize = 3;
/// A probe may be slower by so much whatever the margin says, in microseconds: below it, it is noise.
const NOISE: u64 = 20_000;

/// What a host looks like at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sight {
    /// Services.
    pub services: Vec<Service>,
    /// Listening sockets.
    pub listeners: Vec<Listener>,
    /// Probes: the middle of [`ROUNDS`] answers; wrong when one was wrong.
    pub answers: Vec<Answer>,
    /// In which boot; empty: not known.
    #[serde(default)]
    pub boot: String,
    /// Services that do not run as well, and sockets, timers, paths. Empty: an agent before did not look.
    #[serde(default)]
    pub units: Vec<UnitState>,
}

impl Sight {
    /// Is this another boot than that one, as far as is known?
    pub(super) fn rebooted(&self) -> bool {
        let now = crate::inventory::kernel::boot_id().unwrap_or_default();
        self.boot != now && !self.boot.is_empty() && !now.is_empty()
    }
}

/// What is recorded before the change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// When.
    pub at: Timestamp,
    /// What it looked like.
    pub sight: Sight,
    /// What `dpkg --verify` complained of already.
    pub verify: Vec<String>,
    /// Changed packages that are marked as installed automatically.
    pub automatic: Vec<String>,
    /// How units hang together: an undo brings this back, and need not ask for it while services are down. Empty: not known.
    #[serde(default)]
    pub relations: Relations,
    /// Digest of the package database: nobody else may have changed it between rehearsal and apply.
    pub database: Digest,
}

/// Digest of the package database's status file.
///
/// # Errors
/// When it cannot be read.
pub fn database() -> Result<Digest, Fault> {
    Ok(Digest::of(
        &std::fs::read("/var/lib/dpkg/status").map_err(io_fault("read the package database"))?,
    ))
}

/// Looks at the host now.
///
/// # Errors
/// When services or sockets cannot be listed: no data is never a pass.
pub fn look(probes: &[Probe], commands: &Path) -> Result<Sight, Fault> {
    let (units, services) = units::look_with_services().map_err(io_fault("list the units"))?;
    let listeners =
        crate::inventory::sockets::listeners().map_err(io_fault("list the listening sockets"))?;
    let answers = probes
        .iter()
        .map(|p| middle((0..ROUNDS).map(|_| probe::ask(p, commands)).collect()))
        .collect();
    let boot = crate::inventory::kernel::boot_id().unwrap_or_default();
    Ok(Sight { services, listeners, answers, boot, units })
}

fn middle(mut rounds: Vec<Answer>) -> Answer {
    rounds.sort_by_key(|a| (a.wrong.is_none(), a.microseconds));
    let wrong = rounds.first().is_some_and(|a| a.wrong.is_some());
    rounds.swap_remove(if wrong { 0 } else { rounds.len() / 2 })
}

/// Takes the baseline and keeps it.
///
/// # Errors
/// When the host cannot be looked at, or the finding not be kept.
pub fn take(tx: &Transaction<'_>) -> Result<Baseline, Fault> {
    let baseline = Baseline {
        at: Timestamp::now(),
        sight: look(&tx.order.probes, &tx.settings.config_dir.join("probes.d"))?,
        verify: super::dpkg::verify(&tx.package_names()).map_err(io_fault("run dpkg --verify"))?,
        automatic: super::dpkg::automatic(&tx.package_names())
            .map_err(io_fault("read apt's marks"))?,
        relations: turns::relations().unwrap_or_default(),
        database: database()?,
    };
    tx.keep(FILE, &baseline)?;
    Ok(baseline)
}

/// The baseline that was kept.
///
/// # Errors
/// When it is gone.
pub fn read(directory: &Path) -> Result<Baseline, Fault> {
    super::read_kept(directory, FILE).ok_or_else(|| {
        fault(
            "baseline-lost",
            format!("{} is missing or damaged", directory.join(FILE).display()),
            "without it nobody can say whether the host is as it was: look at it by hand",
        )
    })
}

/// Is it a unit in which the agent itself works at a change? One that takes up a transaction after a boot may be what takes
/// the baseline, and is gone when that is asked for again.
pub(super) fn is_ours(unit: &str) -> bool {
    ["fettle-agent-resume", "fettle-apply-", "fettle-configure-", "fettle-unpack-"]
        .iter()
        .any(|p| unit.starts_with(p))
}

/// Services that come and go by themselves: logins, idle helpers of the desktop bus, and our own.
pub(super) fn comes_and_goes(unit: &str) -> bool {
    const IDLE: [&str; 8] = [
        "systemd-hostnamed.service",
        "systemd-timedated.service",
        "systemd-localed.service",
        "packagekit.service",
        "fwupd.service",
        "apt-news.service",
        "esm-cache.service",
        "systemd-machined.service",
    ];
    IDLE.contains(&unit)
        || is_ours(unit)
        || ["user@", "user-runtime-dir@", "run-", "apt-daily", "fstrim", "getty@", "serial-getty@"]
            .iter()
            .any(|p| unit.starts_with(p))
}

/// What is worse now than before, in words. `margin` in percent of the latency before. Empty: nothing.
pub fn worse(before: &Sight, now: &Sight, margin: Option<u32>) -> Vec<String> {
    let mut out = Vec::new();
    let states: BTreeMap<&str, &Service> =
        now.services.iter().map(|s| (s.unit.as_str(), s)).collect();
    let failed_before: BTreeSet<&str> =
        before.services.iter().filter(|s| s.active == "failed").map(|s| s.unit.as_str()).collect();
    let rebooted = before.boot != now.boot && !before.boot.is_empty() && !now.boot.is_empty();
    for was in before.services.iter().filter(|s| s.active == "active" && !comes_and_goes(&s.unit)) {
        let is = states.get(was.unit.as_str()).map_or("gone", |s| s.active.as_str());
        // What does its work once and is not enabled is done in the boots that need it (`systemd-fsck-root.service`).
        if rebooted && is == "inactive" && was.sub == "exited" && was.enabled != "enabled" {
            continue;
        }
        if !matches!(is, "active" | "reloading") {
            out.push(format!("{} was active and is {is}", was.unit));
        }
    }
    for is in now
        .services
        .iter()
        .filter(|s| s.active == "failed" && !failed_before.contains(s.unit.as_str()))
    {
        let text = format!("{} was active and is failed", is.unit);
        if !out.contains(&text) {
            out.push(format!("{} has failed", is.unit));
        }
    }
    // What is not there any more went with its package, as the plan says.
    for (unit, is) in units::stopped(&before.units, &now.units, rebooted, false) {
        out.push(format!("{unit} was active and is {is}"));
    }
    let open: BTreeSet<(&str, &str, u16)> = now.listeners.iter().map(key).collect();
    for was in before.listeners.iter().filter(|l| stays(l)) {
        let elsewhere = || now.listeners.iter().any(|is| stands_for(is, was));
        if !open.contains(&key(was)) && !elsewhere() {
            let who = if was.unit.is_empty() { &was.process } else { &was.unit };
            out.push(format!(
                "nobody listens on {} {}:{} any more ({who} did)",
                was.protocol, was.address, was.port
            ));
        }
    }
    for (was, is) in before.answers.iter().zip(&now.answers) {
        match (&was.wrong, &is.wrong) {
            (None, Some(wrong)) => {
                out.push(format!("probe `{}` answered before, now: {wrong}", is.question))
            }
            (None, None) => {
                let limit = margin
                    .map(|m| was.microseconds.saturating_mul(100 + u64::from(m)) / 100 + NOISE);
                if limit.is_some_and(|l| is.microseconds > l) {
                    out.push(format!(
                        "probe `{}` took {} ms before and takes {} ms now",
                        is.question,
                        was.microseconds / 1000,
                        is.microseconds / 1000
                    ));
                }
            }
            (Some(_), _) => {}
        }
    }
    out
}

fn key(l: &Listener) -> (&str, &str, u16) {
    (&l.protocol, &l.address, l.port)
}

/// Ports that the kernel gives to whoever asks for none in particular: another one after each start (`ip(7)`,
/// `ip_local_port_range`, its default).
const CHOSEN_BY_KERNEL: std::ops::RangeInclusive<u16> = 32768..=60999;

/// Is this the same service's socket, on another port that the kernel chose?
fn stands_for(is: &Listener, was: &Listener) -> bool {
    let chosen = |l: &Listener| CHOSEN_BY_KERNEL.contains(&l.port);
    let who = |l: &Listener| (l.protocol.clone(), l.address.clone(), l.unit.clone());
    chosen(is) && chosen(was) && who(is) == who(was) && is.process == was.process
}

/// A socket that a service holds for good: no client's port, none of a login.
fn stays(l: &Listener) -> bool {
    !(l.unit.ends_with(".scope")
        || comes_and_goes(&l.unit)
        || (l.protocol.starts_with("udp") && CHOSEN_BY_KERNEL.contains(&l.port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(unit: &str, active: &str) -> Service {
        Service {
            unit: unit.into(),
            active: active.into(),
            sub: String::new(),
            enabled: String::new(),
        }
    }
    fn listener(port: u16) -> Listener {
        Listener {
            protocol: "tcp".into(),
            address: "0.0.0.0".into(),
            port,
            process: "nginx".into(),
            unit: "nginx.service".into(),
        }
    }
    fn answer(wrong: Option<&str>, microseconds: u64) -> Answer {
        Answer { question: "GET /".into(), wrong: wrong.map(Into::into), microseconds }
    }

    #[test]
    fn what_does_its_work_once_may_not_be_needed_in_another_boot() {
        let sight = |boot: &str, active: &str, sub: &str, enabled: &str| Sight {
            services: vec![Service {
                sub: sub.into(),
                enabled: enabled.into(),
                ..service("systemd-fsck-root.service", active)
            }],
            boot: boot.into(),
            ..Sight::default()
        };
        for (boot, sub, enabled, active, is_worse) in [
            ("b", "exited", "static", "inactive", false),
            ("b", "exited", "static", "failed", true),
            // Somebody wants it: a firewall, say.
            ("b", "exited", "enabled", "inactive", true),
            ("b", "running", "static", "inactive", true),
            ("a", "exited", "static", "inactive", true),
            ("", "exited", "static", "inactive", true),
        ] {
            let before = sight("a", "active", sub, enabled);
            let found = worse(&before, &sight(boot, active, "dead", enabled), None);
            assert_eq!(!found.is_empty(), is_worse, "{boot} {sub} {enabled} {active}: {found:?}");
        }
    }

    #[test]
    fn what_ran_listened_and_answered_before_must_do_so_afterwards() {
        let before = Sight {
            services: vec![
                service("nginx.service", "active"),
                service("old.service", "failed"),
                service("user@0.service", "active"),
            ],
            listeners: vec![listener(80), listener(443)],
            answers: vec![answer(None, 10_000)],
            ..Sight::default()
        };
        assert_eq!(worse(&before, &before, Some(0)), Vec::<String>::new());
        let now = Sight {
            services: vec![
                service("nginx.service", "failed"),
                service("old.service", "failed"),
                service("new.service", "failed"),
            ],
            listeners: vec![listener(80)],
            answers: vec![answer(Some("status 500, expected 200"), 1)],
            ..Sight::default()
        };
        assert_eq!(
            worse(&before, &now, None),
            [
                "nginx.service was active and is failed",
                "new.service has failed",
                "nobody listens on tcp 0.0.0.0:443 any more (nginx.service did)",
                "probe `GET /` answered before, now: status 500, expected 200",
            ]
        );
    }

    #[test]
    fn what_took_the_transaction_up_need_not_run_when_it_has_ended() {
        let all = ["fettle-agent-resume-at-boot.service", "fettle-configure-tx-1.service"];
        let services = all.map(|unit| service(unit, "active")).to_vec();
        let before = Sight { services, ..Sight::default() };
        assert_eq!(worse(&before, &Sight::default(), None), Vec::<String>::new());
        let agent = vec![service("fettle-agent.service", "active")];
        let before = Sight { services: agent, ..Sight::default() };
        assert_eq!(worse(&before, &Sight::default(), None).len(), 1, "the agent itself must run");
    }

    #[test]
    fn a_port_that_the_kernel_chose_may_be_another_one_of_the_same_service_only() {
        let sight = |listeners: Vec<Listener>| Sight { listeners, ..Sight::default() };
        let before = sight(vec![listener(41107)]);
        assert!(worse(&before, &sight(vec![listener(35551)]), None).is_empty());
        let other = Listener { unit: "other.service".into(), ..listener(35551) };
        assert_eq!(worse(&before, &sight(vec![other]), None).len(), 1);
        assert_eq!(worse(&before, &sight(vec![listener(8080)]), None).len(), 1);
        assert_eq!(worse(&sight(vec![listener(8080)]), &before, None).len(), 1);
        assert_eq!(worse(&before, &sight(vec![]), None).len(), 1);
    }

    #[test]
    fn a_probe_may_be_slower_by_the_margin_and_not_more() {
        let sight = |us| Sight { answers: vec![answer(None, us)], ..Sight::default() };
        assert!(worse(&sight(100_000), &sight(170_000), Some(50)).is_empty());
        assert_eq!(worse(&sight(100_000), &sight(171_000), Some(50)).len(), 1);
        assert!(worse(&sight(100_000), &sight(9_000_000), None).is_empty());
        assert!(worse(&sight(100), &sight(19_000), Some(10)).is_empty(), "noise is not judged");
    }

    #[test]
    fn one_wrong_answer_of_three_is_a_wrong_answer_and_the_middle_latency_counts() {
        assert_eq!(
            middle(vec![answer(None, 5), answer(Some("x"), 1), answer(None, 9)]).wrong,
            Some("x".into())
        );
        assert_eq!(middle(vec![answer(None, 5), answer(None, 1), answer(None, 9)]).microseconds, 5);
    }
}
