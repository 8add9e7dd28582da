//! Changes after which somebody else's configuration is not understood any more: the rehearsal has to see it.

use super::stand::PATIENCE;
use super::{Extent, Stand};
use crate::LabError;
use crate::repo::AcmeWeb;

/// What is spoilt of one service.
struct Service {
    /// What the agent calls its test.
    test: &'static str,
    /// Packages it is in; none: every host of the lab has it.
    packages: &'static str,
    file: &'static str,
    line: &'static str,
    /// A unit that has to have run once: it makes what its own test asks for.
    once: &'static str,
}

impl Service {
    const fn started_once(mut self, unit: &'static str) -> Self {
        self.once = unit;
        self
    }
}

const fn of(
    test: &'static str,
    packages: &'static str,
    file: &'static str,
    line: &'static str,
) -> Service {
    Service { test, packages, file, line, once: "" }
}

/// Those that one host can have beside each other.
const TOGETHER: [Service; 31] = [
    of("nginx", "", "/etc/nginx/conf.d/spoilt.conf", "listen nowhere;"),
    of("sshd", "", "/etc/ssh/sshd_config.d/spoilt.conf", "NoSuchKeyword yes"),
    of("sudoers", "", "/etc/sudoers", "root ALL=(ALL"),
    of("cron tables", "", "/etc/cron.d/spoilt", "* * * root true"),
    of("logrotate", "", "/etc/logrotate.d/spoilt", "/var/log/x {\\n no-such-word\\n}"),
    of("rsyslog", "", "/etc/rsyslog.d/spoilt.conf", "module(load=\"nosuch\")"),
    of(
        "unit acme-spoilt.service",
        "",
        "/lib/systemd/system/acme-spoilt.service",
        "[Service]\\nExecStart=/no/such/program",
    ),
    of("python3", "", "/usr/lib/python3.11/json/__init__.py", "def ("),
    of("apache2", "apache2", "/etc/apache2/apache2.conf", "NoSuchDirective on"),
    of("bind9", "bind9", "/etc/bind/named.conf.local", "zone {"),
    of("bind9 zones", "bind9", "/etc/bind/db.local", "no such record at all"),
    of("postfix", "postfix", "/etc/postfix/main.cf", "no equals sign"),
    of("dovecot", "dovecot-core", "/etc/dovecot/dovecot.conf", "no_such_setting = yes"),
    of("dnsmasq", "dnsmasq", "/etc/dnsmasq.d/spoilt", "no-such-option"),
    of("squid", "squid", "/etc/squid/conf.d/spoilt.conf", "http_port nowhere:none"),
    of("chrony", "chrony", "/etc/chrony/conf.d/spoilt.conf", "no-such-directive"),
    of(
        "mariadb",
        "mariadb-server",
        "/etc/mysql/mariadb.conf.d/99-spoilt.cnf",
        "[mysqld]\\nno-such-variable=1",
    ),
    of(
        "postgresql 15/main",
        "postgresql",
        "/etc/postgresql/15/main/conf.d/spoilt.conf",
        "no_such_setting = 1",
    ),
    of("lighttpd", "lighttpd", "/etc/lighttpd/conf-enabled/99-spoilt.conf", "server.port = ("),
    of("nftables", "nftables", "/etc/nftables.conf", "table inet {"),
    of("samba", "samba", "/etc/samba/smb.conf", "[spoilt"),
    of("prometheus", "prometheus", "/etc/prometheus/prometheus.yml", "no_such_section: ["),
    of("keepalived", "keepalived", "/etc/keepalived/keepalived.conf", "no_such_block { }"),
    of("varnish", "varnish", "/etc/varnish/default.vcl", "sub vcl_recv { no_such_word; }"),
    of("dhcpd", "isc-dhcp-server", "/etc/dhcp/dhcpd.conf", "no-such-word {"),
    of("freeradius", "freeradius", "/etc/freeradius/3.0/radiusd.conf", "no_such_section {"),
    of("haproxy", "haproxy", "/etc/haproxy/haproxy.cfg", "no-such-section"),
    of("php-fpm8.2", "php-fpm", "/etc/php/8.2/fpm/pool.d/spoilt.conf", "[spoilt]"),
    // The key that its configuration names comes with its first start.
    of(
        "unbound",
        "unbound dns-root-data",
        "/etc/unbound/unbound.conf.d/spoilt.conf",
        "no-such-word: yes",
    )
    .started_once("unbound.service"),
    // It writes its process number while it tests, where its first start has made room for that. An attribute that it does
    // not know it takes as it is, and starts.
    of("slapd", "slapd", "/etc/ldap/slapd.d/cn=config.ldif", "olcThreads: many")
        .started_once("slapd.service"),
    // A file that is included and cannot be read is left out when it starts, and when it tests.
    of("proftpd", "proftpd-core", "/etc/proftpd/proftpd.conf", "NoSuchDirective on"),
];
/// Those that are in the way of one of them, or of one another.
const ELSEWHERE: [Service; 3] = [
    // A template: what is generated of it, and read, is spoilt with the next start only.
    of(
        "exim4 as generated",
        "exim4-daemon-light",
        "/etc/exim4/exim4.conf.template",
        "no_such_option = 1",
    ),
    of("kea", "kea-dhcp4-server", "/etc/kea/kea-dhcp4.conf", "{"),
    of("dockerd", "docker.io", "/etc/docker/daemon.json", "{"),
];

/// Each is refused for the test of the very service that would not start any more, and nothing was touched.
pub(super) fn spoilt(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    let mut unseen = Vec::new();
    for services in [&TOGETHER[..], &ELSEWHERE] {
        let tried: Vec<_> = services.iter().filter(|s| stand.is_tried(s.test)).collect();
        if tried.is_empty() {
            continue;
        }
        install(stand, &tried)?;
        for service in &tried {
            let to = stand.offer(AcmeWeb::Spoils { file: service.file, line: service.line })?;
            let seen_before = unseen.len();
            stand.run(&to, service.test, |s| {
                s.patch(&[], &[])?;
                let fault = &s.status()?["last"]["outcome"]["fault"];
                let told = fault["message"].as_str().unwrap_or_default();
                if fault["code"] != "configuration-test-failed" || !told.contains(service.test) {
                    unseen.push(format!("{}: {fault}", service.test));
                }
                Ok(true)
            })?;
            if unseen.len() > seen_before {
                // What ended as it may not was done on a host that is no more.
                install(stand, &tried)?;
            }
        }
        stand.renew()?;
    }
    if unseen.is_empty() {
        return Ok(());
    }
    Err(LabError::Fleet { what: format!("not seen in the rehearsal: {}", unseen.join("; ")) })
}

/// Services that are installed and not started, or stopped again: what is tested is what they would read.
fn install(stand: &Stand<'_>, services: &[&Service]) -> Result<(), LabError> {
    let packages: Vec<&str> =
        services.iter().map(|s| s.packages).filter(|p| !p.is_empty()).collect();
    let once: Vec<&str> = services.iter().map(|s| s.once).filter(|u| !u.is_empty()).collect();
    let script = format!(
        "set -e; export DEBIAN_FRONTEND=noninteractive; cd /usr/sbin; printf '#!/bin/sh\nexit 101\n' > policy-rc.d; \
         chmod 755 policy-rc.d; apt-get install -y -qq --no-install-recommends {}; rm policy-rc.d; \
         for unit in {}; do systemctl start $unit; systemctl stop $unit; done; sync",
        packages.join(" "),
        once.join(" ")
    );
    stand.host().command("sh").args(["-c", &script]).timeout(PATIENCE).run()?.ok().map(drop)
}
