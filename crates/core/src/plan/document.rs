//! How a plan is written down.
//!
//! In schema 2 whatever hosts have in common stands once, in a table, and is referred to by its place there: package
//! changes, reasons for a package, rules of an order, works, things not done. The tables are in an order that follows
//! from the plan alone, so that equal plans give equal bytes. Schema 1 had all of it beside each host.

use super::alike::Works;
use super::{Budget, HeldHosts, HostPlan, NotDone, Plan, Pools, Reasons, Wave, Work};
use crate::assignment::{ApplyOrder, PackageChange};
use crate::testbed::TestbedRule;
use crate::{Digest, Hold, HostId, Shared, Timestamp};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How plans are written down now.
pub const SCHEMA: u32 = 2;

/// Schema 1: fields, and their order, as they always were.
#[derive(Serialize)]
struct First<'a> {
    number: u64,
    parent: Option<Digest>,
    policy: &'a str,
    policy_digest: Digest,
    made_at: Timestamp,
    seed: u64,
    hosts: BTreeMap<&'a HostId, FirstHost<'a>>,
    waves: &'a [Wave],
    budgets: &'a [Budget],
    #[serde(skip_serializing_if = "Option::is_none")]
    pools: Option<&'a Pools>,
    #[serde(skip_serializing_if = "Option::is_none")]
    testbed: Option<&'a TestbedRule>,
    approvals_needed: u32,
    held: Vec<FirstHeld<'a>>,
}

#[derive(Serialize)]
struct FirstHost<'a> {
    name: &'a str,
    cohort: Digest,
    ring: &'a str,
    wave: u32,
    order: &'a ApplyOrder,
    why: &'a Reasons,
    restarts: &'a [String],
    reboot_likely: bool,
    due: Option<Timestamp>,
    ignore_windows: bool,
}

#[derive(Serialize)]
struct FirstHeld<'a> {
    host: &'a HostId,
    name: &'a str,
    package: &'a str,
    findings: &'a [String],
    reasons: &'a [Hold],
}

/// Schema 2.
#[derive(Serialize)]
struct Second<'a> {
    schema: u32,
    number: u64,
    parent: Option<Digest>,
    policy: &'a str,
    policy_digest: Digest,
    made_at: Timestamp,
    seed: u64,
    changes: Vec<&'a Shared<PackageChange>>,
    reasons: Vec<Because<'a>>,
    rules: Vec<ApplyOrder>,
    works: Vec<SecondWork<'a>>,
    hosts: BTreeMap<&'a HostId, SecondHost<'a>>,
    waves: &'a [Wave],
    budgets: &'a [Budget],
    #[serde(skip_serializing_if = "Option::is_none")]
    pools: Option<&'a Pools>,
    #[serde(skip_serializing_if = "Option::is_none")]
    testbed: Option<&'a TestbedRule>,
    approvals_needed: u32,
    not_done: Vec<&'a NotDone>,
    held: Vec<SecondHeld<'a>>,
}

/// Package → vulnerabilities it fixes.
type Because<'a> = (&'a Shared<String>, &'a Shared<Vec<String>>);

#[derive(Serialize)]
struct SecondWork<'a> {
    rules: usize,
    changes: Vec<usize>,
    reasons: Vec<usize>,
    fixes: &'a [String],
    restarts: &'a [String],
    reboot_likely: bool,
    due: Option<Timestamp>,
    ignore_windows: bool,
}

#[derive(Serialize)]
struct SecondHost<'a> {
    name: &'a str,
    cohort: Digest,
    ring: &'a str,
    wave: u32,
    work: usize,
}

#[derive(Serialize)]
struct SecondHeld<'a> {
    hosts: &'a BTreeMap<HostId, String>,
    what: Vec<usize>,
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.schema == 1 {
            self.first().serialize(serializer)
        } else {
            self.second().serialize(serializer)
        }
    }
}

/// Each once, sorted.
fn table<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut out: Vec<T> = all.collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// Its place in a table that was made with it.
fn place<T: Ord>(table: &[T], it: &T) -> usize {
    table.binary_search(it).unwrap_or_else(|next| next)
}

impl HostPlan {
    fn first(&self) -> FirstHost<'_> {
        let Self { name, cohort, ring, wave, work } = self;
        let Work { order, why, restarts, reboot_likely, due, ignore_windows } = &**work;
        FirstHost {
            name,
            cohort: *cohort,
            ring,
            wave: *wave,
            order,
            why,
            restarts,
            reboot_likely: *reboot_likely,
            due: *due,
            ignore_windows: *ignore_windows,
        }
    }
}

impl Plan {
    fn first(&self) -> First<'_> {
        let held = self.held.iter().flat_map(|group| {
            let each = group.hosts.iter();
            each.flat_map(|(host, name)| {
                group.what.iter().map(move |it| {
                    let NotDone { package, reasons, findings } = &**it;
                    FirstHeld { host, name, package, findings, reasons }
                })
            })
        });
        First {
            number: self.number,
            parent: self.parent,
            policy: &self.policy,
            policy_digest: self.policy_digest,
            made_at: self.made_at,
            seed: self.seed,
            hosts: self.hosts.iter().map(|(id, it)| (id, it.first())).collect(),
            waves: &self.waves,
            budgets: &self.budgets,
            pools: self.pools.as_ref(),
            testbed: self.testbed.as_ref(),
            approvals_needed: self.approvals_needed,
            held: held.collect(),
        }
    }

    fn second(&self) -> Second<'_> {
        let mut works = Works::default();
        let mut known: BTreeMap<*const Work, usize> = BTreeMap::new();
        let mut hosts = BTreeMap::new();
        for (id, it) in &self.hosts {
            let HostPlan { name, cohort, ring, wave, work } = it;
            let work = *known.entry(Arc::as_ptr(work)).or_insert_with(|| works.place(work));
            hosts.insert(id, SecondHost { name, cohort: *cohort, ring, wave: *wave, work });
        }
        // The plan's own, so that the tables can borrow from it.
        let mut own: Vec<Option<&Work>> = vec![None; works.len()];
        for (it, host) in self.hosts.values().zip(hosts.values()) {
            own[host.work].get_or_insert(&it.work);
        }
        let own: Vec<&Work> = own.into_iter().flatten().collect();
        let changes = table(own.iter().flat_map(|work| &work.order.changes));
        let reasons: Vec<Because<'_>> = table(own.iter().flat_map(|work| &work.why));
        let mut rules: Vec<ApplyOrder> = Vec::new();
        let mut rule = |order: &ApplyOrder| {
            let rest = ApplyOrder { changes: Vec::new(), fixes: Vec::new(), ..order.clone() };
            rules.iter().position(|known| *known == rest).unwrap_or_else(|| {
                rules.push(rest);
                rules.len() - 1
            })
        };
        let works = own
            .iter()
            .map(|work| SecondWork {
                rules: rule(&work.order),
                changes: work.order.changes.iter().map(|it| place(&changes, &it)).collect(),
                reasons: work.why.iter().map(|it| place(&reasons, &it)).collect(),
                fixes: &work.order.fixes,
                restarts: &work.restarts,
                reboot_likely: work.reboot_likely,
                due: work.due,
                ignore_windows: work.ignore_windows,
            })
            .collect();
        let not_done: Vec<&NotDone> =
            table(self.held.iter().flat_map(|group| &group.what).map(|it| &**it));
        let held = self.held.iter().map(|group| SecondHeld {
            hosts: &group.hosts,
            what: group.what.iter().map(|it| place(&not_done, &&**it)).collect(),
        });
        let held = held.collect();
        Second {
            schema: self.schema,
            number: self.number,
            parent: self.parent,
            policy: &self.policy,
            policy_digest: self.policy_digest,
            made_at: self.made_at,
            seed: self.seed,
            changes,
            reasons,
            rules,
            works,
            hosts,
            waves: &self.waves,
            budgets: &self.budgets,
            pools: self.pools.as_ref(),
            testbed: self.testbed.as_ref(),
            approvals_needed: self.approvals_needed,
            not_done,
            held,
        }
    }
}

/// A plan of either schema, as it stands.
#[derive(Deserialize)]
struct Written {
    #[serde(default = "one")]
    schema: u32,
    number: u64,
    parent: Option<Digest>,
    policy: String,
    policy_digest: Digest,
    made_at: Timestamp,
    seed: u64,
    #[serde(default)]
    changes: Vec<Shared<PackageChange>>,
    #[serde(default)]
    reasons: Vec<(Shared<String>, Shared<Vec<String>>)>,
    #[serde(default)]
    rules: Vec<ApplyOrder>,
    #[serde(default)]
    works: Vec<WrittenWork>,
    hosts: BTreeMap<HostId, WrittenHost>,
    waves: Vec<Wave>,
    budgets: Vec<Budget>,
    #[serde(default)]
    pools: Option<Pools>,
    #[serde(default)]
    testbed: Option<TestbedRule>,
    approvals_needed: u32,
    #[serde(default)]
    not_done: Vec<NotDone>,
    held: Vec<WrittenHeld>,
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
struct WrittenWork {
    rules: usize,
    changes: Vec<usize>,
    reasons: Vec<usize>,
    fixes: Vec<String>,
    restarts: Vec<String>,
    reboot_likely: bool,
    due: Option<Timestamp>,
    ignore_windows: bool,
}

/// A host: its work, or the place of it.
#[derive(Deserialize)]
struct WrittenHost {
    name: String,
    cohort: Digest,
    ring: String,
    wave: u32,
    work: Option<usize>,
    order: Option<ApplyOrder>,
    #[serde(default)]
    why: Reasons,
    #[serde(default)]
    restarts: Vec<String>,
    #[serde(default)]
    reboot_likely: bool,
    #[serde(default)]
    due: Option<Timestamp>,
    #[serde(default)]
    ignore_windows: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenHeld {
    Group { hosts: BTreeMap<HostId, String>, what: Vec<usize> },
    One { host: HostId, name: String, package: String, findings: Vec<String>, reasons: Vec<Hold> },
}

impl<'de> Deserialize<'de> for Plan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Written::deserialize(deserializer)?.into_plan().map_err(D::Error::custom)
    }
}

impl Written {
    fn into_plan(self) -> Result<Plan, String> {
        if !(1..=SCHEMA).contains(&self.schema) {
            return Err(format!(
                "the plan is written in schema {}, and this program reads up to {SCHEMA}: use the newer one",
                self.schema
            ));
        }
        let works = self.works.iter().map(|work| self.work(work).map(Arc::new));
        let works: Vec<Arc<Work>> = works.collect::<Result<_, String>>()?;
        let mut beside = Works::default();
        let mut hosts = BTreeMap::new();
        for (id, it) in self.hosts {
            let work = match (it.work, it.order) {
                (Some(place), _) => {
                    works.get(place).cloned().ok_or_else(|| lacks("work", place))?
                }
                (None, Some(order)) => beside.keep(Work {
                    order,
                    why: it.why,
                    restarts: it.restarts,
                    reboot_likely: it.reboot_likely,
                    due: it.due,
                    ignore_windows: it.ignore_windows,
                }),
                (None, None) => return Err(format!("host {id} has neither a work nor an order")),
            };
            let WrittenHost { name, cohort, ring, wave, .. } = it;
            hosts.insert(id, HostPlan { name, cohort, ring, wave, work });
        }
        let not_done: Vec<Arc<NotDone>> = self.not_done.into_iter().map(Arc::new).collect();
        let mut held: Vec<HeldHosts> = Vec::new();
        for it in self.held {
            match it {
                WrittenHeld::Group { hosts, what } => {
                    let what = what.into_iter().map(|place| {
                        not_done.get(place).cloned().ok_or_else(|| lacks("thing not done", place))
                    });
                    held.push(HeldHosts { hosts, what: what.collect::<Result<_, String>>()? });
                }
                // In their order, so that they can be written back as they were.
                WrittenHeld::One { host, name, package, findings, reasons } => {
                    let what = Arc::new(NotDone { package, reasons, findings });
                    match held.last_mut() {
                        Some(last) if last.hosts.get(&host) == Some(&name) => last.what.push(what),
                        _ => held.push(HeldHosts {
                            hosts: BTreeMap::from([(host, name)]),
                            what: vec![what],
                        }),
                    }
                }
            }
        }
        Ok(Plan {
            schema: self.schema,
            number: self.number,
            parent: self.parent,
            policy: self.policy,
            policy_digest: self.policy_digest,
            made_at: self.made_at,
            seed: self.seed,
            hosts,
            waves: self.waves,
            budgets: self.budgets,
            pools: self.pools,
            testbed: self.testbed,
            approvals_needed: self.approvals_needed,
            held,
        })
    }

    fn work(&self, work: &WrittenWork) -> Result<Work, String> {
        let rules = self.rules.get(work.rules).ok_or_else(|| lacks("rule", work.rules))?;
        let change =
            |&place: &usize| self.changes.get(place).cloned().ok_or_else(|| lacks("change", place));
        let reason =
            |&place: &usize| self.reasons.get(place).cloned().ok_or_else(|| lacks("reason", place));
        Ok(Work {
            order: ApplyOrder {
                changes: work.changes.iter().map(change).collect::<Result<_, String>>()?,
                fixes: work.fixes.clone(),
                ..rules.clone()
            },
            why: work.reasons.iter().map(reason).collect::<Result<_, String>>()?,
            restarts: work.restarts.clone(),
            reboot_likely: work.reboot_likely,
            due: work.due,
            ignore_windows: work.ignore_windows,
        })
    }
}

fn lacks(what: &str, place: usize) -> String {
    format!("the plan refers to {what} {place}, which it lacks")
}
