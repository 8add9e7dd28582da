//! How plans are written down, and read again.

use super::fleet::*;
use super::properties::world;
use crate::plan::{HeldHosts, HostPlan, Plan, SCHEMA, Work};
use crate::{Digest, HostId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// As a server of the first schema kept it; its digest is what that server told people, and what they approved.
const FIRST: &str = include_str!("schema-1.json");
const FIRST_DIGEST: &str =
    "sha256:3fcd3c2c964ae24e6a75ac801e3f4ea3088a912140ae61c2408fbed3e8cc102d";

#[test]
fn a_plan_of_the_first_schema_is_read_and_written_back_byte_for_byte() {
    let plan: Plan = serde_json::from_str(FIRST).unwrap();
    assert_eq!(plan.schema, 1);
    assert_eq!(serde_json::to_string(&plan).unwrap(), FIRST);
    assert_eq!(plan.digest(), FIRST_DIGEST.parse().unwrap());
    // It says what it said: six hosts with three kinds of work, one that is silent, and what is held on them.
    assert_eq!((plan.hosts.len(), plan.works().len(), plan.waves.len()), (6, 3, 5));
    assert_eq!(plan.held_count(), 27);
    assert!(plan.held().any(|h| h.package.is_empty() && h.name == "web-5"));
}

#[test]
fn hosts_that_are_alike_share_one_work_in_the_document() {
    let fleet = ["a", "b", "c"].map(|id| host(id, &[])).to_vec();
    let plan = World::new(policy(""), fleet).plan();
    assert!(Arc::ptr_eq(&plan.hosts[&"a".into()].work, &plan.hosts[&"c".into()].work));
    let text = serde_json::to_value(&plan).unwrap();
    assert_eq!(text["schema"], 2);
    assert_eq!(text["works"].as_array().unwrap().len(), 1);
    assert_eq!(text["changes"].as_array().unwrap().len(), 3);
    assert_eq!(text["hosts"]["b"]["work"], 0);
}

#[test]
fn a_plan_that_refers_to_what_it_lacks_or_is_newer_is_refused_and_says_so() {
    let plan = World::new(policy(""), vec![host("a", &[])]).plan();
    let good = serde_json::to_value(&plan).unwrap();
    let spoilt = |spoil: &dyn Fn(&mut serde_json::Value)| {
        let mut text = good.clone();
        spoil(&mut text);
        serde_json::from_value::<Plan>(text).unwrap_err().to_string()
    };
    assert!(spoilt(&|t| t["hosts"]["a"]["work"] = 1.into()).contains("work 1, which it lacks"));
    assert!(spoilt(&|t| t["works"][0]["rules"] = 9.into()).contains("rule 9"));
    assert!(spoilt(&|t| t["works"][0]["changes"] = vec![7].into()).contains("change 7"));
    assert!(spoilt(&|t| t["works"][0]["reasons"] = vec![7].into()).contains("reason 7"));
    assert!(spoilt(&|t| t["schema"] = 3.into()).contains("schema 3"));
    assert!(spoilt(&|t| t["schema"] = 0.into()).contains("schema 0"));
    let no_work = |t: &mut serde_json::Value| {
        t["hosts"]["a"].as_object_mut().unwrap().remove("work");
    };
    assert!(spoilt(&no_work).contains("neither a work nor an order"));
}

/// The same plan, as the first schema would have it: everything beside its host.
fn apart(plan: &Plan) -> Plan {
    let own = |it: &HostPlan| HostPlan { work: Arc::new(Work::clone(&it.work)), ..it.clone() };
    let mut on: BTreeMap<&HostId, HeldHosts> = BTreeMap::new();
    for it in plan.held() {
        let hosts = BTreeMap::from([(it.host.clone(), it.name.to_owned())]);
        let group = on.entry(it.host).or_insert(HeldHosts { hosts, what: Vec::new() });
        group.what.push(it.what.clone());
    }
    Plan {
        schema: 1,
        hosts: plan.hosts.iter().map(|(id, it)| (id.clone(), own(it))).collect(),
        held: on.into_values().collect(),
        ..plan.clone()
    }
}

/// What a plan means, whatever it is written in.
fn meaning(plan: &Plan) -> (Vec<String>, BTreeMap<HostId, HostPlan>, Plan) {
    let mut held: Vec<String> = plan.held().map(|it| format!("{:?}", it.to_held())).collect();
    held.sort();
    let rest = Plan { schema: 0, hosts: BTreeMap::new(), held: Vec::new(), ..plan.clone() };
    (held, plan.hosts.clone(), rest)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn both_schemas_say_the_same(world in world()) {
        let plan = world.plan();
        prop_assert_eq!(plan.schema, SCHEMA);
        let first = apart(&plan);
        let read: Plan = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
        prop_assert_eq!(read.schema, 1);
        prop_assert_eq!(read.digest(), first.digest());
        prop_assert_eq!(meaning(&read), meaning(&plan));
        // Written in the second again, works that are equal are one again.
        let works = |plan: &Plan| plan.works().len();
        prop_assert_eq!(works(&read), works(&plan));
        let second = Plan { held: plan.held.clone(), schema: SCHEMA, ..first };
        prop_assert_eq!(second.digest(), plan.digest());
    }

    #[test]
    fn what_hosts_share_in_memory_changes_no_plan(world in world()) {
        // Each host with its own copy, and one for all that are alike.
        let mut alike = crate::plan::Alike::default();
        let mut shared = world.clone();
        for host in &mut shared.fleet {
            let own = host.inventory.take().map(|it| alike.inventory(Arc::unwrap_or_clone(it)));
            host.inventory = own;
        }
        prop_assert_eq!(shared.plan().digest(), world.plan().digest());
    }
}

#[test]
fn a_digest_is_over_everything_in_the_plan() {
    let plan = World::new(policy(""), vec![host("a", &[]), host("b", &[])]).plan();
    let mut digests = vec![plan.digest()];
    let mut work = Work::clone(&plan.hosts[&"a".into()].work);
    work.order.changes[0].sha256 = Digest::of(b"another archive");
    let mut other = plan.clone();
    other.hosts.get_mut(&"a".into()).unwrap().work = Arc::new(work);
    digests.push(other.digest());
    let mut other = plan.clone();
    other.held.push(HeldHosts { hosts: BTreeMap::new(), what: vec![] });
    digests.push(other.digest());
    digests.push(Plan { seed: 1, ..plan.clone() }.digest());
    digests.push(Plan { schema: 1, ..plan }.digest());
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 5);
}
