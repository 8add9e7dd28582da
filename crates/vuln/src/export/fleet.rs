//! CycloneDX 1.6 of many hosts at once: each component once, with how many hosts have it, and each statement once, with how many
//! hosts it holds for.
//!
//! Who has what is a graph of `dependencies`: the fleet has its hosts (`host:ID`), a host has its cohort (`cohort:DIGEST`, the hosts
//! whose packages are the same), packages of languages and containers of its own, and a cohort has packages. So what the
//! hosts of a cohort share is written once, and the hosts of a component can be counted and named from the document alone.
//!
//! A vulnerability has an entry for each source package and each state that it is in somewhere; `affects` has the
//! components that it is about there.

use super::cyclonedx::{SCHEMA, affected, analysis, property, rating, serial};
use super::{moment, sentence};
use crate::exposure::Rules;
use crate::feed::purl::Purl;
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::{Inventory, Package};
use fettle_core::language::LanguagePackage;
use fettle_core::{Digest, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// A host with what it has and what was found on it.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Stands for it in the document.
    pub id: &'a str,
    /// What people call it.
    pub name: &'a str,
    /// What it has. `None`: it has not told.
    pub inventory: Option<&'a Inventory>,
    /// What was found there.
    pub findings: &'a [Finding],
}

/// What many hosts have, and what was found there. Its size goes with what is different between hosts, not with their
/// number.
#[derive(Debug, Default)]
pub struct FleetBill {
    /// By package URL.
    components: BTreeMap<String, Component>,
    /// By reference: containers, and cohorts with their packages.
    groups: BTreeMap<String, Group>,
    hosts: BTreeMap<String, Host>,
    said: BTreeMap<(String, String, FindingState), Said>,
}

#[derive(Debug)]
struct Component {
    group: String,
    name: String,
    version: String,
    source: Option<(String, String)>,
    hosts: u64,
}

/// What has components of its own.
#[derive(Debug)]
struct Group {
    it: Value,
    has: BTreeSet<String>,
    hosts: u64,
    /// What findings call its packages (source, and name or place) → package URLs.
    called: BTreeMap<(String, String), Vec<String>>,
}

#[derive(Debug)]
struct Host {
    name: String,
    told: bool,
    has: BTreeSet<String>,
}

/// A statement, and for how many hosts it holds.
#[derive(Debug)]
struct Said {
    /// On the first of them.
    finding: Finding,
    hosts: Counter,
    offered: Counter,
    in_use: Counter,
    exposed: Counter,
    /// Package URLs.
    affects: BTreeSet<String>,
}

/// Hosts, counted one after the other: of one with several findings of a kind (its own, and those of its containers) once.
#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    hosts: u64,
    last: usize,
}

impl Counter {
    fn count(&mut self, host: usize) {
        self.hosts += u64::from(self.last != host);
        self.last = host;
    }
}

impl FleetBill {
    /// Adds a host. Each is added once.
    pub fn add(&mut self, member: &Member<'_>) {
        let Member { id, name, inventory, findings } = *member;
        let mut host =
            Host { name: name.to_owned(), told: inventory.is_some(), has: BTreeSet::new() };
        if let Some(inventory) = inventory {
            let mut all = BTreeSet::new();
            let cohort = format!("cohort:{}", inventory.cohort().short());
            self.group(&cohort, inventory, || cohort_of(&cohort, inventory));
            host.has.insert(cohort.clone());
            for root in &inventory.roots {
                let reference = format!("host:{id}/{}", root.id());
                self.group(&reference, &root.inventory(), || {
                    let mut it = json!({
                        "type": "container", "bom-ref": reference, "name": root.name,
                        "description": root.called(), "properties": [property("root", root.kind.word())],
                    });
                    if !root.image.is_empty() {
                        it["version"] = json!(root.image);
                    }
                    it
                });
                host.has.insert(reference);
            }
            for group in host.has.iter().filter_map(|it| self.groups.get(it)) {
                all.extend(group.has.iter().cloned());
            }
            for package in &inventory.languages {
                let purl = self.language(package);
                host.has.insert(purl.clone());
                all.insert(purl);
            }
            for purl in &all {
                if let Some(component) = self.components.get_mut(purl) {
                    component.hosts += 1;
                }
            }
            for finding in findings {
                self.say(id, &cohort, inventory, finding);
            }
        }
        self.hosts.insert(format!("host:{id}"), host);
    }

    /// One host more has the packages of this inventory, by a group of this reference.
    fn group(&mut self, reference: &str, of: &Inventory, new: impl FnOnce() -> Value) {
        if let Some(group) = self.groups.get_mut(reference) {
            group.hosts += 1;
            return;
        }
        let rules = Rules::of(&of.os);
        let (mut has, mut called) = (BTreeSet::new(), BTreeMap::<_, Vec<String>>::new());
        for package in &of.packages {
            let purl = Purl::of_package(&of.os, package).to_string();
            let source = rules.subject(package).0.into_owned();
            for subject in
                std::iter::once(source).chain(rules.beside(package).map(|(subject, _)| subject))
            {
                called.entry((subject, package.name.clone())).or_default().push(purl.clone());
            }
            self.components.entry(purl.clone()).or_insert_with(|| Component::of(package));
            has.insert(purl);
        }
        self.groups.insert(reference.to_owned(), Group { it: new(), has, hosts: 1, called });
    }

    fn language(&mut self, package: &LanguagePackage) -> String {
        let purl = Purl::of_language(package).to_string();
        self.components.entry(purl.clone()).or_insert_with(|| {
            let (group, name) = match package.name.split_once([':', '/']) {
                Some((group, name)) => (group, name),
                None => ("", package.name.as_str()),
            };
            Component {
                group: group.to_owned(),
                name: name.to_owned(),
                version: package.version.clone(),
                source: None,
                hosts: 0,
            }
        });
        purl
    }

    /// What is said of one host holds for one more.
    fn say(&mut self, id: &str, cohort: &str, inventory: &Inventory, finding: &Finding) {
        let of_root = finding.root().map(|root| format!("host:{id}/{root}"));
        let source = finding.package();
        let called =
            self.groups.get(of_root.as_deref().unwrap_or(cohort)).map(|group| &group.called);
        let mut affects: BTreeSet<String> = BTreeSet::new();
        for binary in &finding.binaries {
            let its = (source.to_owned(), binary.clone());
            affects
                .extend(called.and_then(|called| called.get(&its)).into_iter().flatten().cloned());
            let of_language = inventory.languages.iter();
            let of_language =
                of_language.filter(|p| p.location == *binary && p.subject() == source);
            affects.extend(of_language.map(|p| Purl::of_language(p).to_string()));
        }
        let key = (finding.id.clone(), source.to_owned(), finding.state);
        let said = self.said.entry(key).or_insert_with(|| Said {
            finding: finding.clone(),
            hosts: Counter::default(),
            offered: Counter::default(),
            in_use: Counter::default(),
            exposed: Counter::default(),
            affects: BTreeSet::new(),
        });
        // Counted from 1.
        let host = self.hosts.len() + 1;
        for (holds, counter) in [
            (true, &mut said.hosts),
            (finding.offered, &mut said.offered),
            (finding.in_use, &mut said.in_use),
            (finding.exposed, &mut said.exposed),
        ] {
            if holds {
                counter.count(host);
            }
        }
        said.affects.append(&mut affects);
    }

    /// Writes the document, bit by bit. `called`: what the hosts are; `tool` and `version`: the program that writes.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(
        &self,
        called: &str,
        at: Timestamp,
        (tool, version): (&str, &str),
        out: &mut impl Write,
    ) -> io::Result<()> {
        let names: Vec<&String> = self.hosts.keys().chain(self.components.keys()).collect();
        let states = self
            .said
            .iter()
            .map(|((id, source, state), said)| (id, source, state.word(), said.hosts.hosts));
        let stands_for = (moment(at), called, names, states.collect::<Vec<_>>());
        let untold = self.hosts.values().filter(|host| !host.told);
        let untold: Vec<Value> = untold
            .map(|host| property("not-known", &format!("{} has not told what it has", host.name)))
            .collect();
        let hosts = self.hosts.len().to_string();
        let metadata = json!({
            "timestamp": moment(at),
            "tools": {"components": [{"type": "application", "name": tool, "version": version}]},
            "component": {
                "type": "platform", "bom-ref": "fleet", "name": called,
                "properties": [property("hosts", &hosts)],
            },
            "properties": untold,
        });
        write!(
            out,
            "{{\"$schema\":{},\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"version\":1,\"serialNumber\":{},\"metadata\":{metadata}",
            json!(SCHEMA),
            json!(serial(&Digest::of_json(&stands_for))),
        )?;
        let hosts = self.hosts.iter().map(
            |(reference, host)| json!({"type": "device", "bom-ref": reference, "name": host.name}),
        );
        let groups = self.groups.values().map(|group| {
            let mut it = group.it.clone();
            if let Some(told) = it["properties"].as_array_mut() {
                told.push(property("hosts", &group.hosts.to_string()));
            }
            it
        });
        let components = self.components.iter().map(|(purl, it)| it.written(purl));
        list(out, "components", hosts.chain(groups).chain(components))?;
        let whole = json!({"ref": "fleet", "dependsOn": self.hosts.keys().collect::<Vec<_>>()});
        let hosts = self.hosts.iter().map(|(it, host)| json!({"ref": it, "dependsOn": host.has}));
        let groups = self.groups.iter();
        let groups = groups.map(|(it, group)| json!({"ref": it, "dependsOn": group.has}));
        list(out, "dependencies", std::iter::once(whole).chain(hosts).chain(groups))?;
        list(out, "vulnerabilities", self.said.values().map(|said| self.written(said)))?;
        out.write_all(b"}\n")
    }

    fn written(&self, said: &Said) -> Value {
        let Said { finding, hosts: Counter { hosts, .. }, .. } = said;
        let source = finding.package();
        let (id, state) = (&finding.id, finding.state);
        let like = Finding { source: source.to_owned(), ..finding.clone() };
        let on = if *hosts == 1 { "1 host".to_owned() } else { format!("{hosts} hosts") };
        let told = format!("On {on}: {}", state.word());
        let mut properties = vec![property("state", state.word()), property("source", source)];
        properties.push(property("hosts", &hosts.to_string()));
        properties.extend(finding.fixed_version.as_ref().map(|v| property("fixed-version", v)));
        for (name, Counter { hosts, .. }) in
            [("offered-on", said.offered), ("in-use-on", said.in_use), ("exposed-on", said.exposed)]
        {
            if hosts > 0 {
                properties.push(property(name, &hosts.to_string()));
            }
        }
        if finding.ranking.kev.is_some() {
            properties.push(property("known-exploited", "true"));
        }
        let mut it = json!({
            "bom-ref": format!("{id}@{source}#{}", state.word()),
            "id": id,
            "ratings": [rating(finding)],
            "description": sentence(&like),
            "analysis": analysis(state, &told),
            "properties": properties,
        });
        let version = |purl: &String| self.components.get(purl).map(|it| it.version.as_str());
        let affects =
            said.affects.iter().filter_map(|purl| Some(affected(purl, version(purl)?, state)));
        let affects: Vec<Value> = affects.collect();
        if !affects.is_empty() {
            it["affects"] = json!(affects);
        }
        if let Some(day) = finding.ranking.published {
            it["published"] = json!(format!("{day}T00:00:00Z"));
        }
        it
    }
}

/// A cohort as a component: what it runs on.
fn cohort_of(reference: &str, inventory: &Inventory) -> Value {
    let os = &inventory.os;
    json!({
        "type": "operating-system", "bom-ref": reference, "name": os.id, "version": os.version,
        "description": os.pretty, "properties": [],
    })
}

impl Component {
    fn of(package: &Package) -> Self {
        Self {
            group: String::new(),
            name: package.name.clone(),
            version: package.version.clone(),
            source: Some((package.source.clone(), package.source_version.clone())),
            hosts: 0,
        }
    }

    fn written(&self, purl: &str) -> Value {
        let mut properties = vec![property("hosts", &self.hosts.to_string())];
        if let Some((source, version)) = &self.source {
            properties.push(property("source", source));
            properties.push(property("source-version", version));
        }
        let mut it = json!({
            "type": "library", "bom-ref": purl, "name": self.name, "version": self.version,
            "purl": purl, "properties": properties,
        });
        if !self.group.is_empty() {
            it["group"] = json!(self.group);
        }
        it
    }
}

/// A field that is a list, written one by one.
fn list(out: &mut impl Write, name: &str, items: impl Iterator<Item = Value>) -> io::Result<()> {
    write!(out, ",\n\"{name}\":[")?;
    for (n, item) in items.enumerate() {
        out.write_all(if n == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *out, &item)?;
    }
    out.write_all(b"]")
}
