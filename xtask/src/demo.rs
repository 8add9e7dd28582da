//! `cargo xtask demo`: a real fleet, patched in front of your eyes; then a vendor that misbehaves.

mod report;

use crate::build::{programs, root};
use crate::lab::{down, names, say};
use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use fettle_core::Shared;
use fettle_core::assignment::{Order, PackageChange};
use fettle_core::finding::FindingState;
use fettle_core::hold::Hold;
use fettle_core::host::Labels;
use fettle_core::rollout::{HostState, Phase};
use fettle_lab::repo::{AcmeWeb, Serve, Vendor, acme_web};
use fettle_lab::{Fleet, HostSpec, Lab, LabConfig, LabHost, tree};
use fettle_wire::api::{FindingRow, HostDetail, Page, PlanDetail, RolloutDetail, RolloutRow};
use report::{BadPatch, DemoReport, HostReport};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Patch a real fleet on this machine.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How many hosts: one canary, one early, the rest broad.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(3..=16))]
    hosts: u32,
    /// How the vendor misbehaves at the end.
    #[arg(long, value_enum, default_value_t = Bad::Service)]
    bad: Bad,
    /// Leave everything up to look around.
    #[arg(long)]
    keep: bool,
    /// Write what happened as JSON.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// What is wrong with the bad patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bad {
    /// It installs well; its service does not come back.
    Service,
    /// Its postinst fails.
    Postinst,
}

/// A host is judged anew when it has reported what it has now; the last wave's hosts have that still before them.
fn wait_for_proof(fleet: &Fleet, rollout: &RolloutDetail) -> Result<()> {
    fleet.wait("every host's inventory after the change", Duration::from_secs(120), || {
        for host in &rollout.hosts {
            let order = host.transaction.as_ref().map(|t| &t.assignment.order);
            let Some(Order::Apply(order)) = order else { continue };
            let detail: HostDetail = fleet.json(&["host", "show", &host.name])?;
            let upgrades = detail.inventory.map(|i| i.upgrades).unwrap_or_default();
            let stale = |c: &Shared<PackageChange>| {
                upgrades.iter().any(|u| u.name == c.name && u.to == c.to)
            };
            if order.changes.iter().any(stale) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    Ok(())
}

/// The policy that the demo applies.
const POLICY: &str = "examples/policies/demo.toml";

impl Demo {
    pub(crate) fn run(self) -> Result<()> {
        if let Some(reason) = fettle_lab::why_not() {
            bail!(
                "the demo boots real hosts, and cannot here: {reason}\nnext: run it as root: sudo cargo xtask demo"
            );
        }
        let lab = Lab::open(LabConfig::from_env()?)?;
        on_interrupt(&lab)?;
        chapter(1, "Get what is missing, and build");
        let left = down(&lab)?;
        if !left.is_empty() {
            bail!("an earlier run left things that will not go: {}", left.join(", "));
        }
        lab.ensure_requirements(&say)?;
        let programs = programs("demo")?;
        let result = self.story(&lab, &programs);
        let report = match result {
            Ok(Told { report, fleet }) if self.keep => {
                println!(
                    "\nEverything stays up. The web page: {}   (log in: fettle web)",
                    fleet.url()
                );
                println!(
                    "  FETTLE_SERVER={} FETTLE_TOKEN_FILE={}/operator.token",
                    fleet.url(),
                    fleet.data().display()
                );
                println!("Take it down with: cargo xtask lab down");
                fleet.keep();
                report
            }
            Ok(Told { mut report, fleet }) => {
                drop(fleet);
                report.leftovers = down(&lab)?;
                println!("\nTaken down; left behind: {}", report.leftovers.len());
                report
            }
            Err(error) => {
                if !self.keep {
                    down(&lab)?;
                }
                return Err(error);
            }
        };
        crate::figures::write_json(&report, self.report.as_deref())?;
        if !report.leftovers.is_empty() {
            bail!("left behind: {}", report.leftovers.join(", "));
        }
        Ok(())
    }

    fn story(&self, lab: &Lab, programs: &std::path::Path) -> Result<Told> {
        let started = Instant::now();
        chapter(2, "Boot real Debian hosts with real pending updates");
        let names = names(self.hosts as usize);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let hosts = lab.up(&names, &HostSpec::default(), &say)?;
        let mut vendor = Vendor::new(lab, "acme", Serve::Files)?;
        vendor.publish(&[acme_web("1.0", AcmeWeb::Good)])?;
        for host in &hosts {
            vendor.install_on(host)?;
            host.sh("apt-get update -qq && apt-get install -y -qq acme-web")?.ok()?;
            println!("  {}  {}  nginx, sshd, acme-web", host.name(), host.ip());
        }

        chapter(3, "Start the server, enrol the agents");
        let mut fleet = Fleet::start(lab, programs)?;
        for (n, host) in hosts.iter().enumerate() {
            let ring = ["canary", "early"].get(n).copied().unwrap_or("broad");
            fleet.enroll(host, &labels(ring))?;
        }
        fleet.wait_inventories(Duration::from_secs(90))?;
        show(&fleet, &["host", "list"])?;

        chapter(4, "Real vulnerability data: where are we exposed?");
        show(&fleet, &["feed", "import", "--bundled"])?;
        let before = findings(&fleet)?;
        show(&fleet, &["finding", "list", "--state", "open", "--limit", "10"])?;
        if let Some(worst) = before.iter().find(|f| f.finding.state == FindingState::Open) {
            show(&fleet, &["finding", "explain", &worst.host_name, &worst.finding.id])?;
        }

        chapter(5, "Policy, plan, rollout: a canary first");
        let policy = root().join(POLICY);
        show(&fleet, &["policy", "check", &policy.to_string_lossy()])?;
        show(&fleet, &["policy", "apply", &policy.to_string_lossy()])?;
        let plan = make_plan(&fleet)?;
        let rollout = roll(&fleet, plan.number)?;
        if rollout.row.phase != Phase::Done {
            bail!(
                "the rollout of real updates did not finish: {:?}\n{}",
                rollout.row.phase,
                fleet.server_log()
            );
        }

        chapter(7, "Proved gone, or no fix yet?");
        wait_for_proof(&fleet, &rollout)?;
        let after = findings(&fleet)?;
        show(&fleet, &["host", "list"])?;
        let reports =
            rollout.hosts.iter().map(|h| HostReport::of(h, &rollout, &before, &after)).collect();

        chapter(8, "The vendor misbehaves");
        let bad_patch = self.misbehave(&fleet, &mut vendor, &hosts)?;

        chapter(9, "What happened");
        let report = DemoReport {
            hosts: reports,
            bad_patch,
            seconds: started.elapsed().as_secs_f64(),
            leftovers: Vec::new(),
        };
        report.print(&before, &after);
        Ok(Told { report, fleet })
    }

    /// Publishes the bad update, rolls it out, and looks at the canary file by file.
    fn misbehave(&self, fleet: &Fleet, vendor: &mut Vendor, hosts: &[LabHost]) -> Result<BadPatch> {
        let (kind, version) = match self.bad {
            Bad::Service => (AcmeWeb::ServiceDies, "1.2"),
            Bad::Postinst => (AcmeWeb::PostinstFails, "1.3"),
        };
        vendor.publish(&[acme_web(version, kind)])?;
        for host in hosts {
            host.sh("apt-get update -qq")?.ok()?;
        }
        println!(
            "  acme-web {version} is out: {}",
            match self.bad {
                Bad::Service => "it installs well, and its service does not come back",
                Bad::Postinst => "its postinst fails",
            }
        );
        fleet.wait("the bad update to be seen by every host", Duration::from_secs(60), || {
            let mut seen = true;
            for host in hosts {
                let detail: HostDetail = fleet.json(&["host", "show", host.name()])?;
                let upgrades = detail.inventory.map(|i| i.upgrades).unwrap_or_default();
                seen &= upgrades.iter().any(|u| u.name == "acme-web" && u.to == version);
            }
            Ok(seen.then_some(()))
        })?;
        let canary = hosts.first().context("the demo has hosts")?;
        let before = tree::snapshot(&canary.root(), EXCLUDED)?;
        let plan = make_plan(fleet)?;
        let rollout = roll(fleet, plan.number)?;
        let after = tree::snapshot(&canary.root(), EXCLUDED)?;
        let differing: Vec<String> =
            tree::diff(&before, &after).iter().map(ToString::to_string).collect();
        let touched = rollout.hosts.iter().filter(|h| h.run.generation.is_some()).count();
        let outcome = rollout
            .hosts
            .iter()
            .find(|h| h.name == canary.name())
            .map_or_else(|| "missing".to_owned(), |h| h.run.state.word().to_owned());
        let Phase::Halted { hold } = &rollout.row.phase else {
            bail!("the rollout of the bad update was not halted: {:?}", rollout.row.phase);
        };
        println!("  halted: {hold}");
        // The undo has restored the versions, so the plan of the next cycle would take the update again.
        let next = make_plan(fleet)?;
        let barred = next.plan.held().flat_map(|h| h.what.reasons.iter()).any(
            |r| matches!(r, Hold::VersionBarred { package, version: v, .. } if package == "acme-web" && v == version),
        );
        Ok(BadPatch {
            package: "acme-web".into(),
            version: version.into(),
            halted_at_wave: rollout.row.wave + 1,
            hosts_touched: touched,
            outcome,
            files_differing_after_undo: differing,
            version_barred: barred,
            reason: hold.to_string(),
            undone_because: rollout.hosts.iter().find_map(|h| match &h.run.state {
                HostState::Undone { reason } | HostState::Refused { reason, .. } => {
                    Some(reason.clone())
                }
                _ => None,
            }),
        })
    }
}

/// Not compared after an undo: logs, the agent's own journal, and what the package manager caches.
const EXCLUDED: &[&str] =
    &["/var/log", "/var/lib/fettle-agent", "/var/cache/apt", "/var/lib/apt/lists"];

struct Told {
    report: DemoReport,
    fleet: Fleet,
}

fn labels(ring: &str) -> Labels {
    [("env", "demo"), ("role", "web"), ("ring", ring)]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
}

fn chapter(number: u32, title: &str) {
    println!("\n\x1b[1m{number}  {title}\x1b[0m");
}

/// Runs `fettle` and shows what was typed and what came.
fn show(fleet: &Fleet, args: &[&str]) -> Result<()> {
    println!("\x1b[2m$ fettle {}\x1b[0m", args.join(" "));
    let status = fleet.command(args).status()?;
    if !status.success() {
        bail!("fettle {} ended with {status}", args.join(" "));
    }
    Ok(())
}

fn findings(fleet: &Fleet) -> Result<Vec<FindingRow>> {
    let page: Page<FindingRow> = fleet.json(&["finding", "list", "--limit", "1000000"])?;
    Ok(page.items)
}

fn make_plan(fleet: &Fleet) -> Result<PlanDetail> {
    let plan: PlanDetail = fleet.json(&["plan", "make", "demo"])?;
    show(fleet, &["plan", "show", &plan.number.to_string()])?;
    Ok(plan)
}

fn roll(fleet: &Fleet, plan: u64) -> Result<RolloutDetail> {
    let row: RolloutDetail = fleet.json(&["rollout", "start", &plan.to_string()])?;
    let RolloutRow { id, .. } = row.row;
    // A halted rollout is an exit code other than 0; what it came to is read afterwards.
    println!("\x1b[2m$ fettle rollout watch {id}\x1b[0m");
    fleet.command(&["rollout", "watch", id.as_str()]).status()?;
    Ok(fleet.wait_rollout(id.as_str(), Duration::from_secs(300))?)
}

/// Ctrl-C takes everything down before it ends the demo.
fn on_interrupt(lab: &Lab) -> Result<()> {
    let lab = lab.clone();
    ctrlc::set_handler(move || {
        eprintln!("\ninterrupted: taking the lab down");
        let _ = down(&lab);
        std::process::exit(130);
    })
    .context("watching for Ctrl-C")
}
