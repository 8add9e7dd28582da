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
        ],
        listeners: vec![listener("tcp6", "::", 443), listener("tcp", "127.0.0.1", 5432)],
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
        inventory_digest: None,
        quarantined: None,
    }
}

fn parse(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

#[test]
fn a_selector_asks_for_what_a_host_runs() {
    let host = host();
    let cohort = host.inventory.as_ref().unwrap().cohort().hex();
    let by_cohort = format!("host.cohort={}*", &cohort[..12]);
    let as_printed = format!("host.cohort=sha256:{cohort}");
    for yes in [
        "os.kernel=6.1.*",
        &by_cohort,
        &as_printed,
        "host.package=nginx",
        "host.package=nginx/1.22.*",
        "host.package in (apache2, 'libssl?')",
        "has host.package",
        "host.service=nginx.service",
        "host.service=nginx",
        "host.service=postgresql@*",
        "host.service=redis-server/failed",
        "host.service=redis-server.service/*",
        "host.listens=443",
        "host.listens=443/tcp",
        "host.tag=web-server",
        "host.tag in (mail-server, database) and role=web",
    ] {
        // `@` is no part of a word: it goes in quotes.
        let text = yes.replace("postgresql@*", "'postgresql@*'");
        assert!(parse(&text).matches(&host), "{text}");
    }
    for no in [
        "os.kernel=6.1",
        "host.cohort=00000000*",
        "host.package=ngin",
        "host.package=nginx/1.23*",
        "host.package=nginx/1.22.1",
        "host.package=apache2",
        "host.service=redis-server",
        "host.service=nginx/failed",
        "host.service=postgresql",
        "host.listens=5432",
        "host.listens=443/udp",
        "host.tag=cache",
        "host.tag=web",
    ] {
        assert!(!parse(no).matches(&host), "{no}");
    }
}

#[test]
fn a_host_that_has_not_reported_has_a_name_and_labels_and_no_other_fact() {
    let host = Host { inventory: None, ..host() };
    assert!(parse("host.name=web-1 and host.id=h-1 and role=web").matches(&host));
    for fact in FACTS.iter().filter(|fact| !["host.name", "host.id"].contains(fact)) {
        assert!(!parse(&format!("has {fact}")).matches(&host), "{fact}");
    }
}

#[test]
fn what_was_found_is_told_and_not_all_of_seven_hundred_packages() {
    let host = host();
    let found = |text: &str| parse(text).found(&host);
    assert_eq!(found("role=db").as_deref(), Some("web"));
    assert_eq!(found("env=prod"), None);
    assert_eq!(found("host.package=lib*").as_deref(), Some("libssl3/3.0.15-1~deb12u1"));
    assert_eq!(found("host.package=apache2"), None);
    assert_eq!(found("host.tag=cache").as_deref(), Some("web-server, database"));
    assert_eq!(found("host.service='*'").as_deref().map(|t| t.contains("redis")), Some(false));
    let many = (0..9).map(|n| format!("p{n}")).collect::<Vec<_>>();
    let mut inventory = Inventory::clone(host.inventory.as_ref().unwrap());
    let first = (*inventory.packages[0]).clone();
    inventory.packages =
        many.iter().map(|name| Package { name: name.clone(), ..first.clone() }.into()).collect();
    let host = Host { inventory: Some(Arc::new(inventory)), ..host };
    let told = parse("host.package=p?").found(&host).unwrap();
    assert_eq!(told.matches("/1.22").count(), 5, "{told}");
    assert!(told.ends_with(", …"), "{told}");
}

#[test]
fn every_tag_is_a_word_that_a_selector_reads_and_stands_once() {
    let all: Vec<&str> = tags::all().collect();
    for tag in &all {
        assert_eq!(all.iter().filter(|other| other == &tag).count(), 1, "{tag}");
        assert_eq!(parse(&format!("host.tag={tag}")).to_string(), format!("host.tag={tag}"));
    }
}
