//! Makes a plan from the store that `big_fleet` filled: `planned_fleet DIR [each]`. With `each`, from the inventory and the
//! findings of each host, as they are kept; without, from what is read once where it is alike. Says what took how long, and
//! the plan's digest, which is the same both ways.

use fettle_core::HostId;
use fettle_core::host::Host;
use fettle_core::plan::{Alike, PlanInput, make};
use fettle_core::policy::Policy;
use fettle_store::{Store, StoreError, findings, hosts, planning};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::time::Instant;

const POLICY: &str = r#"
[policy]
name = "production"
select = "env=prod"
[[class]]
name = "all"
deadline = "7d"
[[ring]]
name = "canary"
select = "ring=canary"
[[ring]]
name = "early"
select = "ring=early"
[[ring]]
name = "broad"
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (dir, each) = match arguments.as_slice() {
        [dir] => (dir, false),
        [dir, each] if each == "each" => (dir, true),
        _ => return Err("planned_fleet DIR [each]".into()),
    };
    let store = Store::open(&Path::new(dir).join("fettle.db"))?;
    let policy = Policy::parse(POLICY).map_err(|errors| format!("{errors:?}"))?;
    let mut began = Instant::now();
    let mut say = |what: &str| {
        println!("{what}\t{:.3}\ts", began.elapsed().as_secs_f64());
        began = Instant::now();
    };
    let (fleet, found) = store.read::<_, StoreError>(|view| {
        let mut alike = Alike::default();
        if !each {
            let fleet = planning::fleet(view, &mut alike)?;
            say("inventories");
            let asked = fleet.iter().filter(|host| policy.select.matches(host));
            let asked: BTreeSet<&HostId> = asked.map(|host| &host.id).collect();
            let found = planning::findings(view, &asked, |_, _| true)?;
            say("findings");
            return Ok((fleet, found));
        }
        let mut fleet: Vec<Host> = hosts::all(view)?.into_iter().map(|it| it.host).collect();
        say("summaries");
        for host in &mut fleet {
            let inventory = hosts::inventory(view, &host.id)?;
            host.inventory = inventory.map(|it| alike.inventory(it));
        }
        say("inventories");
        let mut found = BTreeMap::new();
        for host in &fleet {
            let all = findings::of_host(view, &host.id)?.into_values().map(|it| it.finding);
            let open = all.filter(|finding| finding.state.is_vulnerable());
            found.insert(host.id.clone(), alike.findings(open.collect()));
        }
        say("findings");
        Ok((fleet, found))
    })?;
    // As if every host had just been heard, whenever the store was filled.
    let heard = fleet.iter().filter_map(|host| host.last_seen).max();
    let plan = make(PlanInput {
        number: 1,
        parent: None,
        policy: &policy,
        policies: std::slice::from_ref(&policy),
        fleet: &fleet,
        only: None,
        findings: &found,
        barred: &[],
        recalls: &[],
        busy: &BTreeMap::new(),
        serving: None,
        silent_after_seconds: 3600,
        now: heard.ok_or("nobody was heard")?,
        seed: 1,
    });
    say("make");
    let digest = plan.digest();
    say("digest");
    eprintln!("{digest} changes {} of {} hosts", plan.hosts.len(), fleet.len());
    Ok(())
}
