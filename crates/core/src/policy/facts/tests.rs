use super::*;
use crate::inventory::{Inventory, Kernel, Listener, Os, Package, Service};
use std::sync::Arc;

fn host() -> Host {
    let package = |name: &str, version: &str| Package {
        name: name.into(),
        architecture: "amd64".into(),
        version: version.into(),
        source: name.into(),
        source_version: version.into(),
        healthy: true,
        module: String::new(),
    };
    let service = |unit: &str, active: &str| Service {
        unit: unit.into(),
        active: active.into(),
        sub: String::new(),
        enabled: String::new(),
    };
    let listener = |protocol: &str, address: &str, port| Listener {
        protocol: protocol.into(),
        address: address.into(),
        port,
        process: String::new(),
        unit: String::new(),
    };
    let inventory = Inventory {
        os: Os { id: "debian".into(), ..Os::default() },
        kernel: Kernel { running: "6.1.0-28-amd64".into(), ..Kernel::default() },
        packages: vec![
            package("nginx", "1.22.1-9+deb12u1").into(),
            package("libssl3", "3.0.15-1~deb12u1").into(),
        ],
        services: vec![
            service("nginx.service", "active"),
            service("postgresql@15-main.service", "active"),
            service("redis-server.service", "failed"),
            service("cron.service", "active"),
        ],
        listeners: vec![
            listener("tcp", "0.0.0.0", 443),
            listener("tcp6", "::", 443),
            listener("tcp", "127.0.0.1", 5432),
        ],
        ..Inventory::default()
    };
    Host {
        id: "h-1".into(),
        name: "web-1".into(),
        labels: [("role".to_owned(), "web".to_owned())].into(),
        enrolled_at: crate::Timestamp::UNIX_EPOCH,
        last_seen: None,
        agent_version: String::new(),
        inventory: Some(Arc::new(inventory)),
        cohort: Some(crate::Digest::of(b"cohort")),
        inventory_digest: None,
        listed: None,
        quarantined: None,
    }
}

fn parse(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

#[test]
fn a_selector_asks_for_what_a_host_runs() {
    let host = host();
    let cohort = host.cohort.unwrap().hex();
    let by_cohort = format!("host.cohort={}*", &cohort[..12]);
    let as_printed = format!("host.cohort=sha256:{cohort}");
    for yes in [
        "os.kernel=6.1.*",
        &by_cohort,
        &as_printed,
        "host.listens=443",
        "host.listens=443/tcp",
        "host.tag=web-server",
        // It has failed, and is a cache all the same.
        "host.tag in (mail-server, cache) and role=web",
    ] {
        assert!(parse(yes).matches(&host), "{yes}");
    }
    for no in [
        "os.kernel=6.1",
        "host.cohort=00000000*",
        "host.listens=5432",
        "host.listens=443/udp",
        "host.tag=mail-server",
        "host.tag=web",
    ] {
        assert!(!parse(no).matches(&host), "{no}");
    }
}

#[test]
fn the_summary_of_an_inventory_answers_as_the_whole_does() {
    let whole = host();
    let inventory = whole.inventory.as_deref().unwrap();
    let summary = Inventory {
        os: inventory.os.clone(),
        kernel: inventory.kernel.clone(),
        services: tags::shown_by(inventory).cloned().collect(),
        listeners: reachable(inventory),
        ..Inventory::default()
    };
    assert_eq!(summary.services.len(), 3, "cron shows nothing");
    assert_eq!(summary.listeners.len(), 1, "the same port of either kind of address once");
    let host = Host { inventory: Some(Arc::new(summary)), ..whole.clone() };
    for fact in FACTS {
        let asked = parse(&format!("has {fact}"));
        assert_eq!(asked.found(&host), asked.found(&whole), "{fact}");
    }
}

#[test]
fn a_host_that_has_not_reported_has_a_name_and_labels_and_no_other_fact() {
    let host = Host { inventory: None, cohort: None, ..host() };
    assert!(parse("host.name=web-1 and host.id=h-1 and role=web").matches(&host));
    for fact in FACTS.iter().filter(|fact| !["host.name", "host.id"].contains(fact)) {
        assert!(!parse(&format!("has {fact}")).matches(&host), "{fact}");
    }
}

#[test]
fn what_was_found_is_told() {
    let host = host();
    let found = |text: &str| parse(text).found(&host);
    assert_eq!(found("role=db").as_deref(), Some("web"));
    assert_eq!(found("env=prod"), None);
    assert_eq!(found("host.tag=mail-server").as_deref(), Some("cache, database, web-server"));
    assert_eq!(found("has host.listens").as_deref(), Some("443/tcp"));
}

#[test]
fn every_tag_is_a_word_that_a_selector_reads_and_stands_once() {
    let all: Vec<&str> = tags::all().collect();
    for tag in &all {
        assert_eq!(all.iter().filter(|other| other == &tag).count(), 1, "{tag}");
        assert_eq!(parse(&format!("host.tag={tag}")).to_string(), format!("host.tag={tag}"));
    }
}
