//! Vendors' OVAL definitions: small ones in each vendor's layout, real ones, and whole hosts against other judges.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_core::advisory::{Advisory, AdvisoryStatus};
use fettle_core::inventory::Inventory;
use fettle_vuln::exposure::{Catalogue, CatalogueInput, Coverage};
use fettle_vuln::feed::osv::OsvRecord;
use fettle_vuln::feed::oval::{self, OvalVendor};
use fettle_vuln::feed::{FeedError, Parsed};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::*;

/// A file of the fuzz targets' corpus, which is made by hand in the vendor's layout.
fn corpus(vendor: OvalVendor, file: &str) -> Parsed<OsvRecord> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/oval").join(file);
    oval::parse(vendor, &std::fs::read(path).unwrap()).unwrap()
}

/// A statement in one line: what of which release, and how it stands.
fn line(said: &Advisory) -> String {
    let status = match &said.status {
        AdvisoryStatus::Fixed { version } => format!("< {version}"),
        AdvisoryStatus::Open { reason, elsewhere: None } => format!("open {reason:?}"),
        AdvisoryStatus::Open { reason, elsewhere: Some(version) } => {
            format!("open {reason:?}, elsewhere {version}")
        }
        AdvisoryStatus::NotAffected => "not affected".to_owned(),
        other => format!("{other:?}"),
    };
    format!("{} {} {}: {status}", said.release, said.source, said.id)
}

fn lines(records: &[OsvRecord]) -> Vec<String> {
    let mut lines: Vec<String> = records.iter().flat_map(|r| &r.statements).map(line).collect();
    lines.sort();
    lines.dedup();
    lines
}

fn told(parsed: &Parsed<OsvRecord>) -> Vec<String> {
    parsed.errors.iter().map(|e| format!("{}: {}", e.place, e.what)).collect()
}

#[test]
fn red_hats_definitions_say_what_is_fixed_what_stays_open_and_what_is_not_affected() {
    let parsed = corpus(OvalVendor::RedHat, "redhat.xml");
    assert_eq!(told(&parsed), Vec::<String>::new());
    assert_eq!(
        lines(&parsed.records),
        [
            "rhel:9 firefox CVE-2022-1529: < 91.9.1-1.el9_0",
            "rhel:9 firefox CVE-2022-1802: < 91.9.1-1.el9_0",
            "rhel:9 nodejs:18/nodejs CVE-2023-32002: < 1:18.17.1-1.module+el9.2.0+1",
            "rhel:9 tar CVE-2005-2541: open \"Will not fix\"",
            "rhel:9 zlib CVE-2002-0059: not affected",
        ]
    );
    let firefox = &parsed.records[0];
    assert_eq!(
        (firefox.id.as_str(), firefox.published),
        ("RHSA-2022:4765", "2022-05-27".parse().ok())
    );
    assert_eq!(firefox.statements[0].urgency, "critical");
    assert_eq!(firefox.statements[0].evidence, "OVAL RHSA-2022:4765");
    assert_eq!((firefox.scores[0].score, firefox.scores[0].issuer.as_str()), (8.8, "Red Hat"));
}

#[test]
fn what_no_statement_can_say_is_left_out_and_named_with_its_definition() {
    let parsed = corpus(OvalVendor::RedHat, "refused.xml");
    // Which kernel runs is judged by what the host says of it.
    assert_eq!(lines(&parsed.records), ["rhel:9 kernel CVE-2024-1000: < 5.14.0-70.el9"]);
    let told = told(&parsed);
    for part in [
        "def:100 RHSA-2024:100: there is no test t:gone",
        "def:101 RHSA-2024:101: it asks for several packages at once",
        "def:102 RHSA-2024:102: a of rhel:9: it is fixed in 1-1.el9 or 2-1.el9, by architecture",
        "def:103 RHSA-2024:103: b is of a module, and no test names its stream",
        "def:104 RHSA-2024:104: \"is permissive\" (t:selinux): a `selinuxboolean_test` is not read",
        "(t:dangling): there is no object o:nowhere",
        "def:106 RHSA-2024:106: a question that is turned around",
        "(t:equals): `evr` equals \"0:5.14.0-70.el9\" is not read",
        "def:108 RHSA-2024:108: the operator XOR is not read",
        "def:109 RHSA-2024:109: it asks for no package",
        "def:110: it is of \"cpe:/a:redhat:jboss_enterprise_web_server:5.7::el9\", which has versions of its own",
    ] {
        assert!(told.iter().any(|t| t.contains(part)), "{part}: {told:#?}");
    }
    assert_eq!(told.len(), 11, "{told:#?}");
    let first = &parsed.errors[0];
    assert!(first.line > 3, "{first}");
}

#[test]
fn a_definition_that_can_be_true_in_too_many_ways_is_refused() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/oval/too-many-ways.xml");
    let error = oval::parse(OvalVendor::RedHat, &std::fs::read(path).unwrap()).unwrap_err();
    let FeedError::NothingUsable { first, .. } = error else { panic!("{error}") };
    assert!(first.contains("can be true in more than 50000 ways"), "{first}");
}

#[test]
fn debians_definitions_are_about_the_source_that_they_name_and_version_0_is_not_affected() {
    let parsed = corpus(OvalVendor::Debian, "debian.xml");
    assert_eq!(told(&parsed), Vec::<String>::new());
    assert_eq!(
        lines(&parsed.records),
        [
            "bookworm 389-ds-base CVE-2016-5405: < 1.3.5.15-1",
            "bookworm 389-ds-base CVE-2016-5416: not affected",
            "bookworm php8.2 CVE-2022-31625: < 8.2.7-1+deb12u1",
            "bookworm php8.2 CVE-2022-31626: < 8.2.7-1+deb12u1",
            "bookworm php8.2 TEMP-0000000-A2EB44: open \"\"",
        ]
    );
    let dsa = parsed.records.iter().find(|r| r.id == "DSA-5179-1").unwrap();
    assert_eq!(dsa.publication().unwrap().date.to_string(), "2022-07-08");
}

#[test]
fn ubuntus_definitions_tell_the_source_in_comments_and_what_is_for_subscribers() {
    let parsed = corpus(OvalVendor::Ubuntu, "ubuntu.xml");
    assert_eq!(
        lines(&parsed.records),
        [
            "ubuntu-pro-fips:22.04 openssh CVE-2024-0001: < 1:8.9p1-3ubuntu0.5",
            "ubuntu:22.04 curl CVE-2024-0002: < 7.81.0-1ubuntu1.15",
            "ubuntu:22.04 dropbear CVE-2023-48795: open \"<postponed>\"",
            "ubuntu:22.04 libssh CVE-2023-1667: < 0.9.6-2ubuntu0.22.04.1",
            "ubuntu:22.04 libssh CVE-2023-48795: < 0.9.6-2ubuntu0.22.04.2",
            "ubuntu:22.04 openssh CVE-2023-48795: < 1:8.9p1-3ubuntu0.5",
            "ubuntu:22.04 python-asyncssh CVE-2023-48795: open \"<pro>\", elsewhere 2.5.0-1ubuntu0.1~esm1",
        ]
    );
    // The notices name binaries alone.
    let told = told(&parsed);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].ends_with("USN-6561-1: libssh-4 is a binary package, and its source is not named")
    );
}

#[test]
fn suses_definitions_are_about_installed_packages_on_hosts_that_are_judged_by_sources_otherwise() {
    let parsed = corpus(OvalVendor::Suse, "suse.xml");
    assert_eq!(told(&parsed), Vec::<String>::new());
    let releases = ["opensuse-tumbleweed", "sles:15.4", "sles:15.5"];
    let expected = releases.iter().flat_map(|release| {
        let said = |package, status| format!("{release} binary/{package} CVE-2002-2443: {status}");
        [
            said("krb5", "< 1.12.2-3.1"),
            said("krb5-client", "< 1.12.2-3.1"),
            said("tar", "not affected"),
        ]
    });
    assert_eq!(lines(&parsed.records), expected.collect::<Vec<_>>());

    let mut input = CatalogueInput::default();
    input.add_oval(parsed.records);
    let catalogue = Catalogue::build(input);
    let mut host = with(&[
        built("krb5-client", "1.12.1-9.1", "krb5", "1.12.1-9.1"),
        built("krb5", "1.12.2-3.1", "krb5", "1.12.2-3.1"),
    ]);
    host.os = os("sles", "15.5", "");
    let judgement = judge(&catalogue, &host);
    let [finding] = &judgement.findings[..] else { panic!("{:?}", judgement.findings) };
    assert_eq!(
        (finding.source.as_str(), finding.installed.as_str(), &finding.binaries[..]),
        ("binary/krb5-client", "1.12.1-9.1", &["krb5-client".to_owned()][..])
    );
    let told = format!("{:?}", catalogue.explain(finding, &host));
    assert!(told.contains("the vendor's statement is about this very package"), "{told}");
}

#[test]
fn oracles_definitions_of_both_architectures_are_one_statement_and_other_repositories_are_refused()
{
    let parsed = corpus(OvalVendor::Oracle, "oracle.xml");
    assert_eq!(
        lines(&parsed.records),
        [
            "ol:8 bind CVE-2007-0493: < 30:9.3.3-8.el8",
            "ol:8 virt:kvm_utils/hivex CVE-2007-0493: < 1.3.18-21.module+el8.7.0+1",
        ]
    );
    let told = told(&parsed);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].contains("openssl of ol:8: 1:1.1.1k-7.ksplice1.el8 is of a repository"));
    assert!(told[1].contains("it is of \"com.oracle.ovmsa\""));
}

#[test]
fn what_a_vendors_other_feed_says_of_a_release_by_its_sources_stays_the_only_word() {
    let mut known = advisory("bookworm", ("curl", "CVE-1", "8-1", ""));
    known.evidence = "OSV DEBIAN-CVE-1".into();
    let mut input = CatalogueInput { advisories: vec![known], ..CatalogueInput::default() };
    input.add_oval(corpus(OvalVendor::Debian, "debian.xml").records);
    input.add_oval(corpus(OvalVendor::RedHat, "redhat.xml").records);
    let catalogue = Catalogue::build(input);
    assert!(catalogue.statement("bookworm", "php8.2", "CVE-2022-31625").is_none());
    assert!(catalogue.statement("rhel:9", "tar", "CVE-2005-2541").is_some());
}

#[test]
fn what_is_no_such_document_is_refused_as_a_whole() {
    let parse = |text: &str| oval::parse(OvalVendor::Debian, text.as_bytes()).unwrap_err();
    assert!(matches!(parse(" "), FeedError::Empty { .. }));
    assert!(matches!(parse("<updates/>"), FeedError::Malformed { line: 1, .. }));
    assert!(matches!(parse("<oval_definitions><definitions>"), FeedError::Truncated { .. }));
    assert!(matches!(parse("<oval_definitions/>"), FeedError::NothingUsable { .. }));
    let deep = format!("<oval_definitions>{}", "<a>".repeat(100));
    assert!(matches!(parse(&deep), FeedError::Malformed { .. }));
}

#[test]
fn real_definitions_of_every_vendor_are_read_or_refused_by_name() {
    let Some(archive) = shared("golden/vuls-data-update-testdata.tar.zst") else { return };
    let archive = unzstd(&archive);
    let mut told_of = BTreeMap::new();
    for (name, bytes) in tar(&archive) {
        let vendor = match () {
            () if !name.contains("/fixtures/") => continue,
            () if name.contains("fetch/alma/oval/") => OvalVendor::AlmaLinux,
            () if name.contains("fetch/debian/oval/") => OvalVendor::Debian,
            () if name.contains("fetch/oracle/") => OvalVendor::Oracle,
            () if name.contains("fetch/redhat/oval/") => OvalVendor::RedHat,
            () if name.contains("fetch/suse/oval/") => OvalVendor::Suse,
            () if name.contains("fetch/ubuntu/oval/") => OvalVendor::Ubuntu,
            () => continue,
        };
        let file = name.rsplit('/').next().unwrap().to_owned();
        let text = match file.rsplit('.').next().unwrap() {
            "bz2" => unpacked("bzip2", bytes),
            "gz" => unpacked("gzip", bytes),
            "xml" => bytes.to_vec(),
            _ => continue,
        };
        if file.ends_with(".tar.gz") {
            for (name, bytes) in tar(&text).into_iter().filter(|(name, _)| name.ends_with(".xml")) {
                told_of.insert(name, outcome(vendor, bytes));
            }
            continue;
        }
        told_of.insert(file, outcome(vendor, &text));
    }
    insta::assert_json_snapshot!(told_of);
}

/// Statements and refusals of a document, each once, the first of many.
fn outcome(vendor: OvalVendor, bytes: &[u8]) -> Vec<String> {
    let parsed = match oval::parse(vendor, bytes) {
        Ok(parsed) => parsed,
        Err(error) => return vec![error.to_string()],
    };
    let mut all = lines(&parsed.records);
    let more = all.len().saturating_sub(12);
    all.truncate(12);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all.extend(told(&parsed).into_iter().take(4).map(|e| format!("refused {e}")));
    all
}

/// The golden host, with OVAL definitions made of the tracker's data, as `oscap` reads them.
struct Made {
    directory: tempfile::TempDir,
    definitions: PathBuf,
    host: Inventory,
}

/// What the tool beside the shared data makes of the tracker; `None` where something is missing here.
fn made() -> Option<Made> {
    let (tool, tracker) =
        (shared("tools/mk-oval.py")?, shared("debian-tracker/tracker-assembled.json.zst")?);
    let status = unzstd(&shared("golden/debian_12.dpkg-status.zst")?);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("tracker.json"), unzstd(&tracker)).unwrap();
    std::fs::write(at("status"), &status).unwrap();
    let definitions = at("oval.xml");
    let ran = Command::new("python3")
        .arg(tool)
        .args([at("tracker.json"), at("status"), definitions.clone()])
        .stdout(Stdio::null())
        .status();
    if !ran.is_ok_and(|status| status.success()) {
        println!("skipped: python3 made no definitions");
        return None;
    }
    let host = with(&dpkg_status(std::str::from_utf8(&status).unwrap()));
    Some(Made { directory, definitions, host })
}

/// Findings as source, vulnerability, installed version, fixed version.
type Found = BTreeSet<(String, String, String, Option<String>)>;

fn found(catalogue: &Catalogue, host: &Inventory) -> Found {
    let judgement = judge(catalogue, host);
    assert!(matches!(judgement.coverage, Coverage::Release { .. }), "{:?}", judgement.coverage);
    let findings = judgement.findings.into_iter();
    findings.map(|f| (f.source, f.id, f.installed, f.fixed_version)).collect()
}

fn by_oval(made: &Made) -> Catalogue {
    // The tool names no release; the platform is where Debian's own definitions do.
    let text = std::fs::read_to_string(&made.definitions).unwrap();
    let platform = "<affected family=\"unix\"><platform>Debian GNU/Linux 12</platform></affected>";
    let text = text.replace("<affected family=\"unix\"/>", platform);
    let parsed = oval::parse(OvalVendor::Debian, text.as_bytes()).unwrap();
    assert_eq!(told(&parsed), Vec::<String>::new());
    let mut input = CatalogueInput::default();
    input.add_oval(parsed.records);
    Catalogue::build(input)
}

#[test]
fn a_server_is_found_to_be_exposed_to_the_same_by_oval_as_by_the_tracker() {
    let Some(made) = made() else { return };
    let tracker = unzstd(&shared("debian-tracker/tracker-assembled.json.zst").unwrap());
    let advisories = fettle_vuln::feed::debian::parse(&tracker).unwrap().records;
    let tracker = Catalogue::build(CatalogueInput { advisories, ..CatalogueInput::default() });
    let (ours, theirs) = (found(&by_oval(&made), &made.host), found(&tracker, &made.host));
    let only_oval: Vec<_> = ours.difference(&theirs).collect();
    let only_tracker: Vec<_> = theirs.difference(&ours).collect();
    assert_eq!((only_oval, only_tracker), (Vec::new(), Vec::new()));
    assert!(ours.len() > 400, "only {}", ours.len());
}

#[test]
fn openscap_finds_the_same_definitions_to_be_true_of_a_server() {
    let Some(made) = made() else { return };
    let ours: BTreeSet<(String, String)> = found(&by_oval(&made), &made.host)
        .into_iter()
        .map(|(source, id, ..)| (source, id))
        .collect();
    // libapt is told where the packages of another machine stand.
    let at = |name: &str| made.directory.path().join(name);
    let configuration = format!(
        "Dir::State::status \"{}\";\nDir::State::Lists \"{}\";\nDir::Cache \"{}\";\nDir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"/dev/null\";\n",
        at("status").display(),
        at("lists").display(),
        at("cache").display()
    );
    std::fs::create_dir_all(at("lists/partial")).unwrap();
    std::fs::create_dir_all(at("cache")).unwrap();
    std::fs::write(at("apt.conf"), configuration).unwrap();
    let ran = Command::new("oscap")
        .args(["oval", "eval"])
        .arg(&made.definitions)
        .env("APT_CONFIG", at("apt.conf"))
        .output();
    let Ok(ran) = ran else {
        println!("skipped: no oscap here (package openscap-scanner)");
        return;
    };
    let text = std::fs::read_to_string(&made.definitions).unwrap();
    let titles: BTreeMap<&str, &str> = text
        .split("<definition id=\"")
        .skip(1)
        .map(|d| {
            let title = d.split("<title>").nth(1).unwrap().split('<').next().unwrap();
            (d.split('"').next().unwrap(), title)
        })
        .collect();
    let out = String::from_utf8(ran.stdout).unwrap();
    let mut theirs = BTreeSet::new();
    for line in out.lines() {
        let Some((id, result)) = line.strip_prefix("Definition ").and_then(|l| l.split_once(": "))
        else {
            continue;
        };
        assert!(["true", "false"].contains(&result), "{line}");
        if result == "true" {
            let (cve, source) = titles[id].split_once(' ').unwrap();
            theirs.insert((source.to_owned(), cve.to_owned()));
        }
    }
    assert!(theirs.len() > 400, "{out}");
    let differences: Vec<_> = ours.symmetric_difference(&theirs).collect();
    assert_eq!(differences, Vec::<&(String, String)>::new());
}
