//! A server and its hosts, and who judges what became of them.

use super::{ServerReport, ServerRow};
use crate::repo::{ACME_PORT, AcmeWeb, Deb, Serve, Vendor, acme_web};
use crate::{Fleet, HostSpec, Lab, LabError, LabHost, Say};
use fettle_core::assignment::Order;
use fettle_core::host::Labels;
use fettle_core::rollout::RolloutEvent;
use fettle_core::transaction::{Entry, Progress, Step, TxEvent};
use fettle_wire::api::{HostDetail, LedgerVerified, PlanDetail, RolloutDetail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Something that does not come in so long does not come.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
const POLICY: &str = r#"
[policy]
name = "hall"
select = "all"
take = "all"
inventory-max-age = "2h"
DEADMAN

[[source]]
origin = "Acme"
label = "Acme-Security"

[[ring]]
name = "canary"
select = "ring=canary"

[[ring]]
name = "broad"
"#;

/// A server, booted hosts with agents and `acme-web`, and a vendor that offers other versions.
#[derive(Debug)]
pub struct Hall {
    pub(super) fleet: Fleet,
    pub(super) hosts: Vec<LabHost>,
    vendor: Vendor,
    number: u32,
    pub(super) report: ServerReport,
    /// Rollouts that were started.
    pub(super) started: Vec<String>,
    /// Events as they were first shown, by rollout.
    shown: BTreeMap<String, Vec<String>>,
    /// Its dead-man's time.
    deadman: Option<&'static str>,
}

impl Hall {
    pub(super) fn new(
        lab: &Lab,
        programs: &Path,
        row: &ServerRow,
        say: Say<'_>,
    ) -> Result<Self, LabError> {
        let names: Vec<String> = (1..=row.hosts).map(|n| format!("hall{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let hosts = lab.up(&names, &HostSpec::default(), say)?;
        let mut vendor = Vendor::new(lab, "acme", Serve::Files)?;
        vendor.publish(&[acme_web("1.0", AcmeWeb::Good)])?;
        let mut fleet = Fleet::start(lab, programs)?;
        for (n, host) in hosts.iter().enumerate() {
            vendor.install_on(host)?;
            host.sh("apt-get update -qq && apt-get install -y -qq acme-web")?.ok()?;
            // So that a transaction is small and quick.
            let hold = "apt-mark hold $(dpkg-query -W -f '${Package}\\n' | grep -vx acme-web)";
            host.sh(&format!("{hold} > /dev/null"))?.ok()?;
            let ring = if n == 0 { "canary" } else { "broad" };
            let labels: Labels = [("ring".to_owned(), ring.to_owned())].into();
            fleet.enroll(host, &labels)?;
        }
        fleet.wait_inventories(PATIENCE)?;
        let report =
            ServerReport { row: format!("{} {}", row.id, row.what), ..ServerReport::default() };
        let (started, shown, deadman) = (Vec::new(), BTreeMap::new(), row.deadman);
        let hall = Self { fleet, hosts, vendor, number: 0, report, started, shown, deadman };
        hall.govern(row.policy)?;
        Ok(hall)
    }

    /// From now on the policy says this beside what it always says.
    pub(super) fn govern(&self, more: &str) -> Result<(), LabError> {
        let file = self.fleet.data().join("hall.toml");
        let probe = format!("[[probe]]\nhttp = \"http://127.0.0.1:{ACME_PORT}/\"\n");
        let deadman = self.deadman.map(|time| format!("deadman = \"{time}\"\n"));
        let policy = POLICY.replace("DEADMAN\n", &deadman.unwrap_or_default());
        fs::write(&file, format!("{policy}\n{more}\n{probe}"))
            .map_err(LabError::io("write", &file))?;
        self.fleet.run(&["policy", "apply", &file.to_string_lossy()])?.ok().map(drop)
    }

    /// A fault was to be done, and was or was not.
    pub(super) fn count(&mut self, fired: bool, what: &str) {
        self.report.runs += 1;
        self.report.fired += u32::from(fired);
        if !fired {
            self.report.details.push(format!("did not fire: {what}"));
        }
    }

    pub(super) fn broken(&mut self, what: String) {
        self.report.broken += 1;
        self.report.details.push(what);
    }

    /// A rollout or an undo has ended; `wrong`: not as it should.
    pub(super) fn ended(&mut self, wrong: Option<String>) {
        self.report.rollouts += 1;
        match wrong {
            None => self.report.ended_well += 1,
            Some(what) => self.report.details.push(what),
        }
    }

    /// Publishes a new version, waits until the server knows that every host is offered it, and starts a rollout of it.
    /// Gives the rollout and the version.
    pub(super) fn roll_out(&mut self, behaviour: AcmeWeb) -> Result<(String, String), LabError> {
        self.roll_out_with(behaviour, &[])
    }

    /// The same, and other packages with it.
    pub(super) fn roll_out_with(
        &mut self,
        behaviour: AcmeWeb,
        more: &[Deb],
    ) -> Result<(String, String), LabError> {
        self.number += 1;
        let version = format!("1.1.{}", self.number);
        self.publish(more)?;
        self.publish(&[acme_web(&version, behaviour)])?;
        for host in &self.hosts {
            host.sh("apt-get update -qq")?.ok()?;
        }
        let offered = || {
            let mut all = true;
            for host in &self.hosts {
                let detail: HostDetail = self.fleet.json(&["host", "show", host.name()])?;
                let upgrades = detail.inventory.map(|i| i.upgrades).unwrap_or_default();
                all &= upgrades.iter().any(|u| u.name == "acme-web" && u.to == version);
            }
            Ok(all.then_some(()))
        };
        self.fleet.wait("the update to be offered everywhere", PATIENCE, offered)?;
        let plan: PlanDetail = self.fleet.json(&["plan", "make", "hall"])?;
        let rollout: RolloutDetail =
            self.fleet.json(&["rollout", "start", &plan.number.to_string()])?;
        let id = rollout.row.id.to_string();
        self.started.push(id.clone());
        self.promised(&rollout);
        Ok((id, version))
    }

    /// Adds packages to what the vendor offers.
    pub(super) fn publish(&mut self, debs: &[Deb]) -> Result<(), LabError> {
        match debs.is_empty() {
            true => Ok(()),
            false => self.vendor.publish(debs),
        }
    }

    /// The rollout as it is now. `None`: the server does not answer.
    pub(super) fn look(&mut self, id: &str) -> Result<Option<RolloutDetail>, LabError> {
        let said = self.fleet.run(&["-o", "json", "rollout", "show", id])?;
        let shown = serde_json::from_str::<RolloutDetail>(&said.stdout).ok();
        let shown = shown.filter(|_| said.code == 0);
        if let Some(detail) = &shown {
            self.promised(detail);
        }
        Ok(shown)
    }

    /// Every event that was ever shown is there for ever.
    fn promised(&mut self, detail: &RolloutDetail) {
        let id = detail.row.id.to_string();
        let now: Vec<String> =
            detail.events.iter().filter_map(|e| serde_json::to_string(e).ok()).collect();
        let shown = self.shown.entry(id.clone()).or_default();
        let common = shown.len().min(now.len());
        if now.len() < shown.len() || shown[..common] != now[..common] {
            self.report.lost += 1;
            self.report.details.push(format!("{id}: what had happened is another thing now"));
        } else {
            *shown = now;
        }
    }

    pub(super) fn version(host: &LabHost) -> Result<String, LabError> {
        host.exec(&["dpkg-query", "-W", "-f", "${Version}", "acme-web"])?.ok()
    }

    /// Every host's journals, whatever the agent says of itself.
    fn journals(host: &LabHost) -> Result<Vec<Vec<Entry>>, LabError> {
        let listed = host.sh("ls /var/lib/fettle-agent/transactions 2>/dev/null || true")?.ok()?;
        let mut all = Vec::new();
        for name in listed.lines() {
            let path = format!("/var/lib/fettle-agent/transactions/{name}/journal");
            let bytes = host.read_file(&path)?;
            let text = String::from_utf8_lossy(&bytes);
            // The head, then lines of a checksum and a record; room that was taken in advance is empty.
            let records = text.lines().skip(1).filter_map(|line| line.get(17..));
            all.push(records.filter_map(|record| serde_json::from_str(record).ok()).collect());
        }
        Ok(all)
    }

    /// Holds what the hosts' journals say against what the server shows, and takes it down.
    pub(super) fn end(mut self) -> Result<ServerReport, LabError> {
        let ledger: LedgerVerified = self.fleet.json(&["audit", "verify"])?;
        if let Some(at) = ledger.broken {
            self.broken(format!("the ledger does not hold: {at:?}"));
        }
        for id in self.started.clone() {
            match self.look(&id)? {
                Some(detail) => self.judge(&detail),
                None => self.broken(format!("{id} is not shown")),
            }
        }
        for host in self.hosts.clone() {
            self.judge_host(&host)?;
        }
        Ok(self.report)
    }

    fn judge(&mut self, detail: &RolloutDetail) {
        let id = detail.row.id.to_string();
        let counted: u64 = detail.row.hosts_by_state.values().sum();
        if counted as usize != detail.hosts.len() {
            self.broken(format!("{id}: {counted} of {} hosts are counted", detail.hosts.len()));
        }
        let (mut redeemed, mut ended) = (BTreeSet::new(), BTreeMap::new());
        for (version, record) in (1..).zip(&detail.events) {
            if record.version != version {
                self.broken(format!("{id}: event {version} is missing"));
            }
            match &record.event {
                RolloutEvent::Redeemed { host } if !redeemed.insert(host.clone()) => {
                    self.broken(format!("{id}: {host} redeemed twice"));
                }
                RolloutEvent::Ended { host, .. } => *ended.entry(host.clone()).or_insert(0) += 1,
                _ => {}
            }
        }
        for host in &detail.hosts {
            // Once by the change, once by the undo that was asked for.
            let most = 1 + u32::from(host.run.undo_asked.is_some());
            let times = ended.get(&host.id).copied().unwrap_or(0);
            if times > most {
                self.broken(format!("{id}: {} ended {times} times", host.name));
            }
        }
    }

    fn judge_host(&mut self, host: &LabHost) -> Result<(), LabError> {
        let name = host.name();
        // What it did last may not have been told yet.
        let mut behind = Vec::new();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        let journals = loop {
            let journals = Self::journals(host)?;
            let shown: HostDetail = self.fleet.json(&["host", "show", name])?;
            behind.clear();
            for journal in &journals {
                let Ok(Some(own)) = Progress::fold(journal) else {
                    behind.push(format!("{name}: a journal does not hold together"));
                    continue;
                };
                if !shown.transactions.contains(&own) {
                    behind.push(format!("{name}: the server has not all of {}", own.id));
                }
            }
            if behind.is_empty() || std::time::Instant::now() > deadline {
                break journals;
            }
            std::thread::sleep(Duration::from_millis(500));
        };
        self.report.lost += u32::try_from(behind.len()).unwrap_or(u32::MAX);
        self.report.details.append(&mut behind);
        let mut changed = BTreeSet::new();
        for journal in &journals {
            let Ok(Some(own)) = Progress::fold(journal) else { continue };
            let applied =
                |entry: &&Entry| matches!(entry.event, TxEvent::Started { step: Step::Apply });
            let undo = matches!(own.assignment.order, Order::Undo { .. });
            let times = journal.iter().filter(applied).count();
            if times > 1 || !changed.insert((own.assignment.rollout.clone(), undo)) {
                self.report.applied_twice += 1;
                self.report.details.push(format!("{name}: {} was done twice", own.assignment.id));
            }
        }
        let audit = host.sh("dpkg --audit")?.stdout;
        if !audit.is_empty() {
            self.broken(format!("{name}: dpkg --audit: {audit}"));
        }
        Ok(())
    }
}
