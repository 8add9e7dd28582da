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
        ]
        .into(),
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
        packages: inventory.packages.clone(),
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
fn a_selector_asks_for_what_is_installed_and_in_which_version() {
    let host = host();
    for yes in [
        "host.package=nginx",
        "host.package in (haproxy, nginx) and role=web",
        "host.package=libssl*",
        "host.package != haproxy",
        "has host.package.nginx",
        "host.package.nginx=1.22.1-*",
        // Every fix of a release is newer than the one before, and `~` is older than nothing.
        "host.package.nginx < 1.22.1-9+deb12u3",
        "host.package.nginx <= 1.22.1-9+deb12u1",
        "host.package.nginx>1.22.1-9",
        "host.package.libssl3 < 3.0.15-1",
        "host.package.lib* >= 3.0.15-1~deb12u1 and not host.package.lib* > 3.0.15-1~deb12u1",
        // As with labels: what is not there is not older.
        "not host.package.haproxy < 99",
    ] {
        assert!(parse(yes).matches(&host), "{yes}");
    }
    for no in [
        "host.package=ngin",
        "host.package in (haproxy, varnish)",
        "has host.package.haproxy",
        "host.package.haproxy < 99",
        "host.package.haproxy >= 0",
        "host.package.nginx < 1.22.1-9+deb12u1",
        "host.package.nginx > 1.22.1-9+deb12u1",
        "host.package.nginx >= 1.22.1-10",
    ] {
        assert!(!parse(no).matches(&host), "{no}");
    }
}

#[test]
fn a_version_compares_by_the_order_of_the_hosts_own_package_manager_and_of_no_other() {
    let of = |os: &str| {
        let mut host = host();
        let inventory = Arc::make_mut(host.inventory.as_mut().unwrap());
        inventory.os.id = os.into();
        inventory.packages[0].version = "1.0^git1".into();
        host
    };
    // rpm's `^` is newer than the end, and dpkg knows no such character.
    let newer = parse("host.package.nginx > 1.0");
    assert!(newer.matches(&of("fedora")));
    let any_order = parse("host.package.nginx > 1.0 or host.package.nginx <= 1.0");
    assert!(any_order.matches(&of("alpine")));
    assert!(!any_order.matches(&of("templeos")), "an order that is not known");
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
    assert_eq!(found("host.package in (nginx, haproxy)").as_deref(), Some("nginx"));
    assert_eq!(found("host.package=haproxy"), None);
    assert_eq!(found("host.package.nginx < 1.20").as_deref(), Some("1.22.1-9+deb12u1"));
    let mut many = host.clone();
    let inventory = Arc::make_mut(many.inventory.as_mut().unwrap());
    let one = inventory.packages[0].clone();
    *inventory.packages = (10..40)
        .map(|n| {
            let mut other = one.clone();
            other.name = format!("p{n}");
            other
        })
        .collect();
    assert_eq!(
        parse("host.package=p*").found(&many).as_deref(),
        Some("p10, p11, p12, p13, p14, p15, p16, p17, p18, p19, p20, p21, 18 more")
    );
}

#[test]
fn every_tag_is_a_word_that_a_selector_reads_and_stands_once() {
    let all: Vec<&str> = tags::all().collect();
    for tag in &all {
        assert_eq!(all.iter().filter(|other| other == &tag).count(), 1, "{tag}");
        assert_eq!(parse(&format!("host.tag={tag}")).to_string(), format!("host.tag={tag}"));
    }
}

#[test]
fn hosts_of_one_kind_are_told_apart_by_name_and_id_alone() {
    let host = host();
    let with = |change: &dyn Fn(&mut Host, &mut Inventory)| {
        let mut other = host.clone();
        let mut inventory = (*host.inventory.clone().unwrap()).clone();
        change(&mut other, &mut inventory);
        Host { inventory: Some(Arc::new(inventory)), ..other }
    };
    let alike = with(&|host, inventory| {
        host.id = "h-2".into();
        host.name = "web-2".into();
        host.agent_version = "2".into();
        inventory.boot_id = "another".into();
    });
    assert_eq!(kind(&alike), kind(&host));
    // One that differs in whatever a selector can ask for is of another kind, and of one that asks for it.
    type Change = fn(&mut Host, &mut Inventory);
    let others: [(&str, &str, Change); 10] = [
        ("role", "role=db", |host, _| drop(host.labels.insert("role".into(), "db".into()))),
        ("os.id", "os.id=ubuntu", |_, it| it.os.id = "ubuntu".into()),
        ("os.version", "os.version=13", |_, it| it.os.version = "13".into()),
        ("os.codename", "os.codename=trixie", |_, it| it.os.codename = "trixie".into()),
        ("os.kernel", "os.kernel=6.12", |_, it| it.kernel.running = "6.12".into()),
        ("host.arch", "host.arch=arm64", |_, it| it.architecture = "arm64".into()),
        ("host.cohort", "not has host.cohort", |host, _| host.cohort = None),
        ("host.listens", "host.listens=8080", |_, it| it.listeners[0].port = 8080),
        ("host.package", "not host.package=nginx", |host, it| {
            drop(it.packages.remove(0));
            host.cohort = Some(it.cohort());
        }),
        ("host.tag", "not host.tag=web-server", |_, it| drop(it.services.remove(0))),
    ];
    for (fact, asks, change) in others {
        let other = with(&change);
        assert_ne!(kind(&other), kind(&host), "{fact}");
        assert!(parse(asks).matches(&other) && !parse(asks).matches(&host), "{fact}");
        assert!(!parse(asks).asks_who());
    }
    let told = others.map(|(fact, _, _)| fact);
    let left: Vec<&str> = FACTS.into_iter().filter(|fact| !told.contains(fact)).collect();
    assert_eq!(left, WHO, "whatever else there is to ask for is tried above");
    for asks in ["host.name=web-1", "not (role=db or has host.id)", "role=web and host.name=w*"] {
        assert!(parse(asks).asks_who(), "{asks}");
    }
    assert_ne!(kind(&Host { inventory: None, ..host.clone() }), kind(&host));
}
