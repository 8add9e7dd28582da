//! What the lists and the search would say of the fleet that never was.

use super::*;
use fettle_server::web::pages::{HostPackage, HostPackages};

pub(crate) fn hosts_by_state() -> BTreeMap<String, u64> {
    let mut out: BTreeMap<String, u64> = BTreeMap::new();
    for row in hosts().items {
        *out.entry(row.state).or_default() += 1;
    }
    out
}

pub(crate) fn cve_row(n: usize) -> CveRow {
    let (id, source, _, _, cvss, epss, kev, exposed) = KNOWN[n % KNOWN.len()];
    let n = n as u64;
    CveRow {
        id: id.into(),
        severity: finding(n as usize, "web-2", FindingState::Open).severity,
        kev,
        epss: Some(epss),
        cvss: Some(cvss),
        sources: vec![source.into()],
        classes: vec![if kev { "critical" } else { "standard" }.into()],
        hosts: 9 - n.min(8),
        reachable: if exposed { 3 } else { 0 },
        open: 7 - n.min(7),
        no_fix: u64::from(n == 8) * 2,
        pending: u64::from(n < 2),
        accepted: 0,
        fixed: n * 3,
        overdue: u64::from(n < 3) * 2,
    }
}

pub(crate) fn cves() -> Page<CveRow> {
    Page { total: 74, items: (0..KNOWN.len()).map(cve_row).collect() }
}

pub(crate) fn packages() -> Page<PackageRow> {
    let row = |n: usize, name: &str, source: &str| PackageRow {
        name: name.into(),
        source: source.into(),
        hosts: 10 - n as u64 % 4,
        versions: 1 + n as u64 % 3,
        exposed: n as u64 % 3,
        upgradable: n as u64 % 4,
    };
    let names = [
        ("libc6", "glibc"),
        ("libgnutls30", "gnutls28"),
        ("libssl3", "openssl"),
        ("linux-image-6.1.0-28-amd64", "linux-signed-amd64"),
        ("nginx", "nginx"),
        ("openssh-server", "openssh"),
        ("openssl", "openssl"),
        (HOSTILE, HOSTILE_ATTRIBUTE),
    ];
    let rows = names.iter().enumerate().map(|(n, (name, source))| row(n, name, source));
    Page { total: 8, items: rows.collect() }
}

pub(crate) fn package() -> PackageDetail {
    let version = |version: &str, hosts, upgradable, offered| PackageVersion {
        version: version.into(),
        hosts,
        upgradable,
        offered,
    };
    PackageDetail {
        row: PackageRow {
            name: "libssl3".into(),
            source: "openssl".into(),
            hosts: 10,
            versions: 3,
            exposed: 4,
            upgradable: 5,
        },
        versions: vec![
            version("3.0.16-1~deb12u1", 0, 0, 5),
            version("3.0.15-1~deb12u1", 5, 0, 0),
            version("3.0.14-1~deb12u2", 4, 4, 0),
            version("3.0.11-1~deb12u2", 1, 1, 0),
        ],
        cves: vec![cve_row(2)],
    }
}

pub(crate) fn host_packages() -> HostPackages {
    let one = |name: &str, version: &str, from: &str, offered: Option<&str>| HostPackage {
        name: name.into(),
        version: version.into(),
        from: from.into(),
        offered: offered.map(str::to_owned),
        held: name == "libperl5.36",
        healthy: name != "libnghttp2-14",
    };
    let items = vec![
        one("libnghttp2-14", "1.52.0-1", "nghttp2", Some("1.52.0-1+deb12u2")),
        one("libperl5.36", "5.36.0-7", "perl", None),
        one(HOSTILE, HOSTILE, HOSTILE_ATTRIBUTE, Some(HOSTILE)),
    ];
    HostPackages { host: "web-2".into(), all: 1_568, total: 412, items }
}

fn hit(kind: &str, name: &str, about: &str, path: &str) -> Hit {
    Hit { kind: kind.into(), name: name.into(), about: about.into(), path: path.into() }
}

pub(crate) fn found() -> Found {
    Found {
        q: "open".into(),
        exact: None,
        hits: vec![
            hit("host", "open-1", "exposed, Debian GNU/Linux 12 (bookworm)", "/hosts/open-1"),
            hit(
                "package",
                "openssh-server",
                "on 9 hosts in 2 versions",
                "/packages/openssh-server",
            ),
            hit("package", "openssl", "on 10 hosts in 3 versions", "/packages/openssl"),
            hit(
                "cve",
                "CVE-2024-5535",
                "critical, openssl: 7 hosts not fixed",
                "/cves/CVE-2024-5535",
            ),
            hit("policy", HOSTILE, HOSTILE_ATTRIBUTE, "/policies/x"),
        ],
        totals: counts(&[("host", 1), ("package", 12), ("cve", 1), ("policy", 1)]),
    }
}

pub(crate) fn found_nothing() -> Found {
    Found { q: "zzz".into(), exact: None, hits: vec![], totals: BTreeMap::new() }
}

pub(crate) fn late() -> Vec<LateRow> {
    let row = |ring: &str, overdue, due_soon| LateRow {
        policy: "production".into(),
        ring: ring.into(),
        overdue,
        due_soon,
    };
    vec![row("broad", 4, 7), row("early", 0, 4)]
}

pub(crate) fn windows() -> Vec<WindowRow> {
    let at = |seconds: i64| Some(ago(-seconds));
    vec![
        WindowRow {
            policy: "staging".into(),
            hosts: 1,
            hold: None,
            opens_at: None,
            closes_at: at(7_000),
        },
        WindowRow {
            policy: "production".into(),
            hosts: 9,
            hold: Some(Hold::WindowClosed { opens_at: at(40_000) }),
            opens_at: at(40_000),
            closes_at: at(54_400),
        },
    ]
}
