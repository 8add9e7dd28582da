//! What a host is for, as far as its inventory shows it: a word for each kind of service that is on duty there.
//!
//! A tag is no label: nobody sets it, it comes and goes with the service, and it says only what is plain to see. Where
//! more is meant than `database`, a label says it. A service is on duty while it runs, has failed, or is to run at the next
//! boot: a database that is down is a database, and what counts it must not lose sight of it then.

use super::glob;
use crate::inventory::{Inventory, Service};

/// Tags, and the units that show them; `*` and `?` are globs. Names as Debian, Ubuntu, Red Hat, SUSE and Alpine have them.
const TAGS: [(&str, &[&str]); 16] = [
    (
        "web-server",
        &["nginx.service", "apache2.service", "httpd.service", "lighttpd.service", "caddy.service"],
    ),
    (
        "application-server",
        &["php*-fpm.service", "tomcat*.service", "uwsgi.service", "puma*.service"],
    ),
    (
        "load-balancer",
        &["haproxy.service", "envoy.service", "traefik.service", "keepalived.service"],
    ),
    (
        "database",
        &[
            "postgresql@*.service",
            "postgresql-1*.service",
            "postgresql.service",
            "mariadb.service",
            "mysql.service",
            "mysqld.service",
            "mongod.service",
            "clickhouse-server.service",
            "cassandra.service",
        ],
    ),
    (
        "cache",
        &[
            "redis*.service",
            "valkey*.service",
            "memcached.service",
            "varnish.service",
            "squid.service",
        ],
    ),
    (
        "message-broker",
        &["rabbitmq-server.service", "mosquitto.service", "kafka.service", "nats*.service"],
    ),
    ("search", &["opensearch.service", "elasticsearch.service", "solr.service"]),
    (
        "mail-server",
        &[
            "postfix.service",
            "postfix@*.service",
            "exim4.service",
            "exim.service",
            "dovecot.service",
            "sendmail.service",
            "opensmtpd.service",
        ],
    ),
    (
        "dns-server",
        &[
            "named.service",
            "bind9.service",
            "unbound.service",
            "knot.service",
            "nsd.service",
            "pdns*.service",
        ],
    ),
    ("directory", &["slapd.service", "samba-ad-dc.service", "krb5-kdc.service", "ipa.service"]),
    ("file-server", &["smbd.service", "nfs-server.service", "vsftpd.service", "proftpd.service"]),
    ("container-host", &["docker.service", "containerd.service", "crio.service", "podman.service"]),
    ("kubernetes-node", &["kubelet.service", "k3s*.service", "rke2-*.service"]),
    (
        "virtualization-host",
        &["libvirtd.service", "virtqemud.service", "pvedaemon.service", "xend.service"],
    ),
    (
        "monitoring",
        &[
            "prometheus.service",
            "grafana-server.service",
            "zabbix-server.service",
            "icinga2.service",
        ],
    ),
    ("desktop", &["gdm*.service", "sddm.service", "lightdm.service"]),
];

/// Every tag there is.
pub fn all() -> impl Iterator<Item = &'static str> {
    TAGS.iter().map(|(tag, _)| *tag)
}

/// The tags of a host with this inventory, in the order of [`all`].
pub fn of(inventory: &Inventory) -> Vec<&'static str> {
    among(inventory, |_| true).collect()
}

/// Those of the tags that are `asked` for which a host with this inventory has: the services are looked at for no others.
pub fn among<'i>(
    inventory: &'i Inventory,
    asked: impl Fn(&str) -> bool + 'i,
) -> impl Iterator<Item = &'static str> + 'i {
    let shown =
        move |units: &[&str]| inventory.services.iter().any(|service| shows(units, service));
    TAGS.iter().filter(move |(tag, units)| asked(tag) && shown(units)).map(|(tag, _)| *tag)
}

/// The services that show a tag: with them alone the tags are the same.
pub fn shown_by(inventory: &Inventory) -> impl Iterator<Item = &Service> {
    let shows_one = |service: &&Service| TAGS.iter().any(|(_, units)| shows(units, service));
    inventory.services.iter().filter(shows_one)
}

fn shows(units: &[&str], service: &Service) -> bool {
    units.iter().any(|unit| glob::matches(unit, &service.unit))
}
