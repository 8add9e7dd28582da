//! The tests that come with the agent: one row each.
//!
//! There is none for openvpn, redis and sysctl: their programs cannot read a configuration without acting on it.

/// When a row applies, besides that its program is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    /// This file or directory is there.
    There(&'static str),
    /// A file directly in this directory holds one of these words.
    Says(&'static str, &'static [&'static str]),
    /// The first is there, and the second is not.
    Without(&'static str, &'static str),
}

/// A test that comes with the agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// What people call it.
    pub(super) name: &'static str,
    /// Program: by path, or by name on the path.
    pub(super) program: &'static str,
    /// Its arguments.
    pub(super) arguments: &'static [&'static str],
    /// When it applies.
    pub(super) when: When,
    /// Who runs it, where the program refuses to be root or would leave root's files behind.
    pub(super) user: Option<&'static str>,
}

const fn row(
    name: &'static str,
    needs: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
) -> Row {
    Row { name, program, arguments, when: When::There(needs), user: None }
}

/// Every row. What needs more than a row (one run a cluster, a unit, a version) is in `choose`.
pub(super) const ROWS: [Row; 32] = [
    row("nginx", "/etc/nginx/nginx.conf", "nginx", &["-t", "-q"]),
    row("sshd", "/etc/ssh/sshd_config", "/usr/sbin/sshd", &["-t"]),
    row("apache2", "/etc/apache2/apache2.conf", "apache2ctl", &["configtest"]),
    row("bind9", "/etc/bind/named.conf", "named-checkconf", &[]),
    Row {
        when: When::Says("/etc/bind", &["type master", "type primary"]),
        ..row("bind9 zones", "", "named-checkconf", &["-z"])
    },
    row("sudoers", "/etc/sudoers", "visudo", &["-c", "-q"]),
    row("postfix", "/etc/postfix/main.cf", "postfix", &["check"]),
    row("exim4", "/etc/exim4", "exim4", &["-bV"]),
    // Debian's exim4 reads what is made of its own files whenever it starts: what is made already says nothing of what would
    // be. Made elsewhere, looked at, and removed again (update-exim4.conf(8)); where there is an exim4.conf, that is read.
    Row {
        when: When::Without("/etc/exim4/update-exim4.conf.conf", "/etc/exim4/exim4.conf"),
        ..row(
            "exim4 as generated",
            "",
            "update-exim4.conf",
            &["--check", "-o", "/tmp/fettle-exim4"],
        )
    },
    row("dovecot", "/etc/dovecot/dovecot.conf", "doveconf", &["-n"]),
    row("unbound", "/etc/unbound/unbound.conf", "unbound-checkconf", &[]),
    // With the directory that Debian's unit gives it: by itself it reads the one file only.
    row(
        "dnsmasq",
        "/etc/dnsmasq.d",
        "dnsmasq",
        &["--test", "-7", "/etc/dnsmasq.d,.dpkg-dist,.dpkg-old,.dpkg-new"],
    ),
    row("squid", "/etc/squid/squid.conf", "squid", &["-k", "parse"]),
    row("rsyslog", "/etc/rsyslog.conf", "rsyslogd", &["-N1"]),
    // Reads its configuration, prints it and ends: since chrony 4.0.
    row("chrony", "/etc/chrony/chrony.conf", "chronyd", &["-p"]),
    // MariaDB has no option that only looks; with `--help` it reads every option file and ends.
    Row {
        user: Some("mysql"),
        ..row("mariadb", "/etc/mysql", "/usr/sbin/mariadbd", &["--verbose", "--help"])
    },
    Row {
        when: When::Without("/etc/mysql", "/usr/sbin/mariadbd"),
        user: Some("mysql"),
        ..row("mysql", "", "/usr/sbin/mysqld", &["--validate-config"])
    },
    row(
        "lighttpd",
        "/etc/lighttpd/lighttpd.conf",
        "lighttpd",
        &["-tt", "-f", "/etc/lighttpd/lighttpd.conf"],
    ),
    Row {
        user: Some("openldap"),
        ..row("slapd", "/etc/ldap/slapd.d", "slaptest", &["-u", "-F", "/etc/ldap/slapd.d"])
    },
    Row {
        when: When::Without("/etc/ldap/slapd.conf", "/etc/ldap/slapd.d"),
        user: Some("openldap"),
        ..row("slapd", "", "slaptest", &["-u", "-f", "/etc/ldap/slapd.conf"])
    },
    row("nftables", "/etc/nftables.conf", "nft", &["-c", "-f", "/etc/nftables.conf"]),
    row("samba", "/etc/samba/smb.conf", "testparm", &["-s"]),
    row(
        "prometheus",
        "/etc/prometheus/prometheus.yml",
        "promtool",
        &["check", "config", "/etc/prometheus/prometheus.yml"],
    ),
    row("keepalived", "/etc/keepalived/keepalived.conf", "keepalived", &["-t"]),
    row(
        "varnish",
        "/etc/varnish/default.vcl",
        "varnishd",
        &["-C", "-f", "/etc/varnish/default.vcl"],
    ),
    row("dhcpd", "/etc/dhcp/dhcpd.conf", "dhcpd", &["-t", "-q", "-cf", "/etc/dhcp/dhcpd.conf"]),
    row("logrotate", "/etc/logrotate.conf", "logrotate", &["-d", "/etc/logrotate.conf"]),
    // With an address: it asks for that of the host's name otherwise, and the clone has nobody to ask.
    row("proftpd", "/etc/proftpd/proftpd.conf", "proftpd", &["-t", "-S", "127.0.0.1"]),
    row("dockerd", "/etc/docker/daemon.json", "dockerd", &["--validate"]),
    row("freeradius", "/etc/freeradius", "freeradius", &["-C", "-X"]),
    row("kea", "/etc/kea/kea-dhcp4.conf", "kea-dhcp4", &["-t", "/etc/kea/kea-dhcp4.conf"]),
    row("bash", "/usr/bin/bash", "bash", &["-c", "true"]),
];
