//! Bad lines: to the package sources, and to the server.

use super::machines::{Judged, SHORT, Was, on_machine};
use super::{End, Extent, Stand};
use crate::repo::{AcmeWeb, Serve, Vendor, acme_web};
use crate::{Fleet, LabError, LabHost, Machine};
use fettle_core::rollout::Phase;
use fettle_wire::api::{HostRow, Page, PlanDetail, RolloutDetail, TokenMade};
use std::time::Duration;

/// Size of what is fetched, in MiB.
const SIZE: u32 = 8;
/// So many bytes a second: the whole takes some seconds, in which the line can be cut.
const RATE: u64 = 1_500_000;
/// The line is cut when so much of it is there.
const PART: u64 = 3 << 20;
/// What was on its way when the line was cut is sent again, and the lists of packages count too.
const SLACK: u64 = 1 << 20;
const WHOLE: u64 = (SIZE as u64) << 20;

/// The line to the package sources is cut while an archive is fetched: for a moment, for longer than the package
/// manager waits, and for good; after that another transaction goes on where this one stopped.
pub(super) fn cut_while_fetched(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let mut vendor = Vendor::new(stand.lab(), "acmenet", Serve::Http)?;
    let down_for = |seconds| {
        move |host: &LabHost| {
            std::thread::sleep(Duration::from_secs(seconds));
            up(host)
        }
    };
    let to = publish(stand, &mut vendor)?;
    stand
        .run(&to, "for 5 s", |s| fetch(s, &vendor, down_for(5)).map(|sent| sent < WHOLE + SLACK))?;
    let to = publish(stand, &mut vendor)?;
    stand.run(&to, "for 45 s", |s| {
        let sent = fetch(s, &vendor, down_for(45))?;
        // It comes back while the agent is still there: nobody has to plan anything anew.
        Ok(sent < WHOLE + SLACK && !s.status()?["last"]["outcome"]["outcome"].eq("refused"))
    })?;
    let to = publish(stand, &mut vendor)?;
    stand.run(&to, "until the agent gives up", |s| {
        let sent = fetch(s, &vendor, |_| Ok(()));
        up(s.host())?;
        Ok(sent? < WHOLE)
    })?;
    stand.run(&to, "the next transaction", |s| {
        let before = vendor.bytes_sent();
        let said = s.patch(&[], &[])?;
        Ok(said.success() && vendor.bytes_sent() - before < WHOLE - PART + SLACK)
    })?;
    vendor.remove_from(stand.host())?;
    stand.host().sh("apt-get update -qq")?.ok().map(drop)
}

/// A new version over the network.
fn publish(stand: &mut Stand<'_>, vendor: &mut Vendor) -> Result<String, LabError> {
    let to = stand.next_version();
    vendor.limit_rate(None);
    vendor.publish(&[acme_web(&to, AcmeWeb::Huge(SIZE))])?;
    vendor.install_on(stand.host())?;
    stand.host().sh("apt-get update -qq && sync")?.ok()?;
    Ok(to)
}

/// A patch during which the line is cut; `then` says what happens to it. Gives how many bytes were sent in all.
fn fetch(
    stand: &Stand<'_>,
    vendor: &Vendor,
    then: impl FnOnce(&LabHost) -> Result<(), LabError>,
) -> Result<u64, LabError> {
    vendor.limit_rate(Some(RATE));
    let before = vendor.bytes_sent();
    let mut running = stand.start_patch(&[])?;
    while vendor.bytes_sent() - before < PART {
        if !running.is_running() {
            return Ok(u64::MAX);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    stand.host().sh("ip link set host0 down")?.ok()?;
    then(stand.host())?;
    running.wait(super::stand::PATIENCE)?;
    vendor.limit_rate(None);
    Ok(vendor.bytes_sent() - before)
}

fn up(host: &LabHost) -> Result<(), LabError> {
    host.sh("ip link set host0 up && networkctl reconfigure host0")?.ok().map(drop)
}

/// Small, and nobody runs it.
const PACKAGE: &str = "unzip";
/// A line from the edge of the world. Both directions, by the machine's own kernel (`tc-netem(8)`); what the lab itself
/// says to the machine goes around it.
const BAD: &str = r#"
set -e
modprobe -a ifb sch_netem act_mirred cls_u32 cls_matchall sch_prio
ip link add ifb0 type ifb 2>/dev/null || true
ip link set ifb0 up
tc qdisc add dev eth0 ingress
tc filter add dev eth0 parent ffff: protocol ip prio 1 u32 match ip dport 22 0xffff action ok
tc filter add dev eth0 parent ffff: protocol ip prio 2 u32 match u32 0 0 action mirred egress redirect dev ifb0
tc qdisc add dev ifb0 root netem delay 500ms loss 5% rate 64kbit limit 200
tc qdisc add dev eth0 root handle 1: prio priomap 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2
tc qdisc add dev eth0 parent 1:3 netem delay 500ms loss 5% rate 64kbit limit 200
tc filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip sport 22 0xffff flowid 1:1
"#;
/// For each of the things that are waited for.
const PATIENCE: Duration = Duration::from_secs(1800);
const POLICY: &str = r#"
[policy]
name = "line"
select = "all"
take = "all"
inventory-max-age = "2h"

[[source]]
origin = "Debian"

[[ring]]
name = "all"

[gate]
bake = "5s"
silent-after = "30m"
"#;

/// A host at the end of a bad line is enrolled, tells what it is, obeys an order and reports.
pub(super) fn bad(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let programs = stand.agent().parent().map(std::path::Path::to_path_buf).unwrap_or_default();
    let fleet = Fleet::start(stand.lab(), &programs)?;
    let hold = format!(
        "apt-mark hold $(dpkg-query -W -f '${{Package}}\\n' | grep -vx {PACKAGE}) > /dev/null;"
    );
    on_machine(stand, PACKAGE, "enrolled and patched over it", &hold, |m, was| {
        m.sh(BAD, SHORT)?;
        over_it(&fleet, m, was)
    })
}

fn over_it(fleet: &Fleet, machine: &Machine, was: &Was) -> Result<Judged, LabError> {
    let made: TokenMade = fleet.json(&["token", "create", "--ttl", "30m"])?;
    let server = fleet.agents_url();
    machine.sh(
        &format!("fettle-agent enroll --server {server} --token {}", made.token),
        Duration::from_secs(300),
    )?;
    machine.sh("systemd-run --quiet --unit=agent fettle-agent run", SHORT)?;
    fleet.wait("the inventory over a bad line", PATIENCE, || {
        let page: Page<HostRow> = fleet.json(&["host", "list"])?;
        Ok(page.items.iter().any(|h| h.state != "no-inventory").then_some(()))
    })?;
    let file = fleet.data().join("line.toml");
    std::fs::write(&file, POLICY).map_err(LabError::io("write", &file))?;
    fleet.run(&["policy", "apply", &file.to_string_lossy()])?.ok()?;
    let plan: PlanDetail = fleet.json(&["plan", "make", "line"])?;
    let rollout: RolloutDetail = fleet.json(&["rollout", "start", &plan.number.to_string()])?;
    let ended = fleet.wait_rollout(rollout.row.id.as_str(), PATIENCE)?;
    let counters = machine.sh("tc -s qdisc show dev ifb0; tc -s qdisc show dev eth0", SHORT)?;
    let lost = counters.split("dropped ").skip(1).any(|rest| !rest.starts_with("0,"));
    if ended.row.phase != Phase::Done {
        return Ok((lost, Err(format!("the rollout ended as {:?}", ended.row.phase))));
    }
    Ok((lost, was.judge(machine, End::Patched)?))
}
