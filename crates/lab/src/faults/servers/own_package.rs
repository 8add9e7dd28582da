//! S3: the agent's own package is part of the change. Its script restarts the agent, which is carrying the change out.

use super::super::Extent;
use super::Hall;
use super::hall::PATIENCE;
use crate::repo::{AcmeWeb, Deb};
use crate::{LabError, LabHost};
use fettle_wire::api::RolloutDetail;

const UNIT: &str = include_str!("../../../../../deploy/fettle-agent.service");
/// Does a host's agent run the program that is installed now?
const RUNS_IT: &str = "pid=$(systemctl show --property=MainPID --value fettle-agent.service); \
    [ $(stat -Lc %i /proc/$pid/exe) = $(stat -c %i /usr/bin/fettle-agent) ]";

/// The agent as a package: its program and its service, which is restarted with each new version.
fn package(program: &[u8], version: &str) -> Deb {
    Deb::new("fettle-agent", version)
        .file("/usr/bin/fettle-agent", 0o755, program)
        .file("/usr/share/doc/fettle-agent/README", 0o644, format!("fettle-agent {version}\n"))
        .service("fettle-agent.service", UNIT)
}

/// It is upgraded with another package, and both are taken back.
pub(super) fn upgraded(hall: &mut Hall, extent: Extent) -> Result<(), LabError> {
    let program = hall.hosts[0].read_file("/usr/bin/fettle-agent")?;
    hall.publish(&[package(&program, "1.0")])?;
    for host in hall.hosts.clone() {
        host.sh("apt-get update -qq && apt-get install -y -qq fettle-agent=1.0")?.ok()?;
        // The one that was put there by hand stands before the package's.
        host.sh("rm /etc/systemd/system/fettle-agent.service && systemctl daemon-reload && systemctl enable --now fettle-agent.service && systemctl restart fettle-agent.service")?
            .ok()?;
    }
    let times = if extent == Extent::Short { 1 } else { 3 };
    for time in 1..=times {
        let next = format!("1.{time}");
        let more = [package(&program, &next)];
        let started = |host: &LabHost| {
            host.sh("systemctl show --property=MainPID --value fettle-agent.service")?.ok()
        };
        let before = started(&hall.hosts[0])?;
        let (id, version) = hall.roll_out_with(AcmeWeb::Good, &more)?;
        let done = hall.fleet.wait_rollout(&id, PATIENCE)?;
        let is_another = started(&hall.hosts[0])? != before;
        hall.count(is_another, "the agent was not restarted by its package");
        let wrong = judge(hall, &done, "patched", &[&version, &next])?;
        hall.ended(wrong);
        hall.fleet.run(&["rollout", "undo", &id, "--reason", "test"])?.ok()?;
        let all = |r: &RolloutDetail| r.hosts.iter().all(|h| h.run.state.word() == "undone");
        let done = hall.fleet.wait("the undo", PATIENCE, || {
            let detail: RolloutDetail = hall.fleet.json(&["rollout", "show", &id])?;
            Ok(all(&detail).then_some(detail))
        })?;
        let wrong = judge(hall, &done, "undone", &["1.0", "1.0"])?;
        hall.ended(wrong);
    }
    Ok(())
}

/// What is not as it should be: the hosts' words, the versions of `acme-web` and the agent, and which program each agent
/// runs in the end.
fn judge(
    hall: &Hall,
    done: &RolloutDetail,
    word: &str,
    versions: &[&str; 2],
) -> Result<Option<String>, LabError> {
    if let Some(odd) = done.hosts.iter().find(|h| h.run.state.word() != word) {
        return Ok(Some(format!("{} ended as {:?}", odd.name, odd.run.state)));
    }
    for host in &hall.hosts {
        let has =
            host.exec(&["dpkg-query", "-W", "-f", "${Version} ", "acme-web", "fettle-agent"])?;
        if has.stdout.trim_end() != versions.join(" ") {
            return Ok(Some(format!("{} has {}, not {versions:?}", host.name(), has.stdout)));
        }
        let runs = hall.fleet.wait("the agent to run what is installed", PATIENCE, || {
            Ok(host.sh(RUNS_IT)?.success().then_some(()))
        });
        if let Err(error) = runs {
            return Ok(Some(error.to_string()));
        }
    }
    Ok(None)
}
