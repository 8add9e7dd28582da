use super::*;
use serde_json::{Value, json};

/// A record about one package.
fn record(id: &str, ecosystem: &str, name: &str, events: Value) -> Value {
    json!({
        "id": id, "schema_version": "1.7.3", "modified": "2026-01-01T00:00:00Z", "published": "2025-12-31T23:30:00-02:00",
        "affected": [{
            "package": {"ecosystem": ecosystem, "name": name},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
            "versions": ["1.0-1"],
        }],
    })
}

fn until(fixed: &str) -> Value {
    json!([{"introduced": "0"}, {"fixed": fixed}])
}

fn with(mut record: Value, fields: Value) -> Value {
    for (key, value) in fields.as_object().unwrap() {
        record[key] = value.clone();
    }
    record
}

/// Records of all publishers in one document.
fn parse_all(bytes: &[u8]) -> Result<Parsed<OsvRecord>, FeedError> {
    let all: Vec<&str> = Publisher::ALL.iter().flat_map(|p| p.ecosystems()).copied().collect();
    read_document(Publisher::Alpine, &all, bytes)
}

fn parsed(records: &[Value]) -> Parsed<OsvRecord> {
    let text: String = records.iter().map(|r| format!("{r}\n")).collect();
    parse_all(text.as_bytes()).unwrap()
}

/// `id release source status urgency` of each statement.
fn said(records: &[Value]) -> Vec<String> {
    let parsed = parsed(records);
    assert_eq!(parsed.errors, []);
    let line = |s: &Advisory| {
        let status = match &s.status {
            AdvisoryStatus::Fixed { version } => version.clone(),
            AdvisoryStatus::Open { reason, .. } => format!("open{reason}"),
            AdvisoryStatus::NotAffected => "never".to_owned(),
            AdvisoryStatus::Undetermined => "?".to_owned(),
            AdvisoryStatus::Ranges { .. } => "ranges".to_owned(),
        };
        format!("{} {} {} {status} {}", s.id, s.release, s.source, s.urgency).trim().to_owned()
    };
    parsed.records.iter().flat_map(|r| &r.statements).map(line).collect()
}

/// What a record is refused for.
fn refused(record: Value) -> String {
    let good = record_of_alpine();
    let parsed = parsed(&[record, good]);
    assert_eq!((parsed.records.len(), parsed.errors.len()), (1, 1), "{:?}", parsed.errors);
    parsed.errors[0].to_string()
}

fn record_of_alpine() -> Value {
    record("ALPINE-CVE-2024-1", "Alpine:v3.19", "openssl", until("3.1.4-r5"))
}

#[test]
fn each_vendors_way_of_writing_is_read_as_that_vendor_means_it() {
    let debian = |fields: Value, events: Value| {
        let mut made = with(
            record("DEBIAN-CVE-2024-1", "Debian:12", "curl", events),
            json!({"upstream": ["CVE-2024-1"], "related": ["CVE-2024-9"]}),
        );
        made["affected"][0]["ecosystem_specific"] = fields;
        made
    };
    let open = json!([{"introduced": "0"}]);
    assert_eq!(
        said(&[
            debian(json!({"urgency": "unimportant"}), until("8.6.0-1")),
            debian(json!({"urgency": "end-of-life"}), open.clone()),
            debian(json!({"urgency": "not yet assigned"}), open),
            debian(json!({}), until("0")),
        ]),
        [
            "CVE-2024-1 bookworm curl 8.6.0-1 unimportant",
            "CVE-2024-1 bookworm curl open<end-of-life> end-of-life",
            "CVE-2024-1 bookworm curl open not yet assigned",
            "CVE-2024-1 bookworm curl never",
        ]
    );
    let alma = json!({"related": ["CVE-2024-1", "CVE-2024-2"], "summary": "Important: curl security update"});
    let rocky = json!({"upstream": ["CVE-2024-1"], "summary": "Moderate: curl security update"});
    let wolfi = json!({"related": ["CGA-1-2", "CVE-2024-1", "GHSA-x"]});
    assert_eq!(
        said(&[
            with(record("ALSA-2024:1", "AlmaLinux:9", "libcurl", until("0:7.76.1-29.el9_4")), alma),
            with(record("RLSA-2024:1", "Rocky Linux:9", "curl", until("0:7.76.1-29.el9_4")), rocky),
            with(
                record(
                    "RHBA-2024:1",
                    "Red Hat:enterprise_linux:9::baseos",
                    "libcurl",
                    until("0:7-1.el9")
                ),
                json!({"related": ["CVE-2024-1"], "summary": "Red Hat Bug Fix Advisory: curl"}),
            ),
            with(record("CGA-1-2", "Wolfi", "libcurl-openssl4", until("8.9.1-r0")), wolfi),
            record_of_alpine(),
            record("DSA-1234-1", "Debian:12", "curl", until("7.88.1-10+deb12u5")),
        ]),
        [
            "CVE-2024-1 almalinux:9 libcurl 0:7.76.1-29.el9_4 important",
            "CVE-2024-2 almalinux:9 libcurl 0:7.76.1-29.el9_4 important",
            "CVE-2024-1 rocky:9 curl 0:7.76.1-29.el9_4 moderate",
            "CVE-2024-1 rhel:9 libcurl 0:7-1.el9",
            "CVE-2024-1 wolfi libcurl-openssl4 8.9.1-r0",
            "CVE-2024-1 alpine:3.19 openssl 3.1.4-r5",
            "DSA-1234-1 bookworm curl 7.88.1-10+deb12u5",
        ]
    );
}

#[test]
fn an_ubuntu_notice_counts_only_for_the_vulnerabilities_its_map_gives_the_release() {
    let mut notice = with(
        record("USN-6429-1", "Ubuntu:20.04:LTS", "curl", until("7.68.0-1ubuntu2.20")),
        json!({"upstream": ["CVE-2023-38545", "CVE-2023-38546", "UBUNTU-CVE-2023-38545"]}),
    );
    notice["affected"][0]["database_specific"] = json!({"cves_map": {"cves": [
        {"id": "CVE-2023-38546", "severity": [{"type": "CVSS_V3", "score": "x"}, {"type": "Ubuntu", "score": "low"}]}
    ]}});
    let page = with(
        record("UBUNTU-CVE-2023-1", "Ubuntu:Pro:20.04:LTS", "curl", json!([{"introduced": "0"}])),
        json!({"upstream": ["CVE-2023-1"], "severity": [{"type": "Ubuntu", "score": "medium"}]}),
    );
    assert_eq!(
        said(&[notice, page]),
        [
            "CVE-2023-38546 ubuntu:20.04 curl 7.68.0-1ubuntu2.20 low",
            "CVE-2023-1 ubuntu-pro:20.04 curl open medium"
        ]
    );
}

#[test]
fn packages_of_a_module_stand_under_their_stream_and_are_refused_where_none_is_named() {
    let module = |summary: &str| {
        with(
            record(
                "ALSA-2022:8832",
                "AlmaLinux:9",
                "nodejs",
                until("1:18.12.1-1.module_el9.1.0+16+91bc168f"),
            ),
            json!({"summary": summary, "related": ["CVE-2022-1"]}),
        )
    };
    let fixed = "1:18.12.1-1.module_el9.1.0+16+91bc168f";
    assert_eq!(
        said(&[
            module("Moderate: nodejs:18 security, bug fix, and enhancement update"),
            module("Moderate: virt:rhel and virt-devel:rhel security update"),
        ]),
        [
            format!("CVE-2022-1 almalinux:9 nodejs:18/nodejs {fixed} moderate"),
            format!("CVE-2022-1 almalinux:9 virt:rhel/nodejs {fixed} moderate"),
            format!("CVE-2022-1 almalinux:9 virt-devel:rhel/nodejs {fixed} moderate"),
        ]
    );
    assert!(
        refused(module("Moderate: nodejs security update")).contains("does not name its stream")
    );
}

#[test]
fn what_is_no_statement_about_a_packages_security_gives_none() {
    let others = ["ALBA-2024:1", "ALEA-2024:1", "RLBA-2024:1", "LSN-0099-1"]
        .map(|id| record(id, "AlmaLinux:9", "curl", until("1-1")));
    let withdrawn = with(record_of_alpine(), json!({"withdrawn": "2026-01-01T00:00:00Z"}));
    let mut all = others.to_vec();
    all.extend([withdrawn, record_of_alpine()]);
    let parsed = parsed(&all);
    assert_eq!((parsed.records.len(), parsed.rejected()), (1, 0));
    let only = format!("{}\n", all[0]);
    assert!(matches!(
        parse_all(only.as_bytes()),
        Err(FeedError::NothingUsable { rejected: 0, .. })
    ));
}

#[test]
fn what_any_range_holds_is_affected() {
    let ranges = |list: Value| {
        let mut made = record_of_alpine();
        made["affected"][0]["ranges"] = list;
        made
    };
    let range = |events: Value| json!({"type": "ECOSYSTEM", "events": events});
    let git = json!({"type": "GIT", "repo": "x", "events": [{"introduced": "0"}]});
    assert_eq!(
        said(&[
            ranges(json!([
                range(until("3.1.9-r0")),
                range(until("3.1.10-r0")),
                range(until("0")),
                git
            ])),
            ranges(json!([range(until("3.1.9-r0")), range(json!([{"introduced": "0"}]))])),
        ]),
        ["CVE-2024-1 alpine:3.19 openssl 3.1.10-r0", "CVE-2024-1 alpine:3.19 openssl open"]
    );
}

#[test]
fn ranges_that_begin_later_or_end_with_the_last_affected_version_are_read_as_they_are() {
    let ranges_of = |record: Value| {
        let parsed = parsed(&[record]);
        assert_eq!(parsed.errors, []);
        parsed.records[0].statements[0].status.clone()
    };
    let alpine =
        |events: Value| ranges_of(record("ALPINE-CVE-2024-2", "Alpine:v3.19", "openssl", events));
    let range = |introduced: &str, fixed: Option<&str>, last: Option<&str>| VersionRange {
        introduced: introduced.to_owned(),
        fixed: fixed.map(str::to_owned),
        last: last.map(str::to_owned),
    };
    for (events, expected) in [
        (json!([{"introduced": "1.0"}, {"fixed": "2.0"}]), vec![range("1.0", Some("2.0"), None)]),
        (
            json!([{"introduced": "0"}, {"last_affected": "2.0"}]),
            vec![range("0", None, Some("2.0"))],
        ),
        (
            json!([{"introduced": "0"}, {"fixed": "1"}, {"introduced": "2"}]),
            vec![range("0", Some("1"), None), range("2", None, None)],
        ),
    ] {
        assert_eq!(alpine(events), AdvisoryStatus::Ranges { ranges: expected });
    }
    // The order of events says nothing, and the first fix after a beginning is the one.
    let fixed = |version: &str| AdvisoryStatus::Fixed { version: version.to_owned() };
    assert_eq!(alpine(json!([{"fixed": "2.0"}, {"introduced": "0"}])), fixed("2.0"));
    assert_eq!(alpine(json!([{"fixed": "0"}, {"introduced": "0"}])), AdvisoryStatus::NotAffected);
    assert_eq!(
        alpine(json!([{"introduced": "0"}, {"fixed": "2.0"}, {"fixed": "1.0"}])),
        fixed("1.0")
    );
}

#[test]
fn every_record_and_package_that_cannot_be_understood_is_named_with_its_reason() {
    let alpine = |events: Value| record("ALPINE-CVE-2024-2", "Alpine:v3.19", "openssl", events);
    for (record, reason) in [
        (alpine(json!([])), "a range without `introduced`"),
        (alpine(json!([{"fixed": "2.0"}])), "a range without `introduced`"),
        (alpine(json!([{"introduced": "0", "fixed": "2.0"}])), "an event that is not one of"),
        (alpine(json!([{"introduced": "0"}, {"limit": "2.0"}])), "an event that is not one of"),
        (alpine(json!([{"introduced": "x"}])), "`introduced`: version `x` does not start with"),
        (alpine(until("1..0")), "`fixed`: version `1..0` cannot be read from `..0` on"),
        (alpine(until(&"1".repeat(300))), "`fixed` has 300 bytes, more than 256"),
        (alpine(json!("x")), "invalid type"),
        (record("ALPINE-CVE-2024-2", "npm", "openssl", until("1")), "ecosystem \"npm\" is none"),
        (
            record("ALPINE-CVE-2024-2", "Alpine:v3.19", "a b", until("1")),
            "the package name holds ' '",
        ),
        (record("ALPINE CVE", "Alpine:v3.19", "a", until("1")), "the vulnerability name holds ' '"),
        (with(alpine(until("1")), json!({"affected": [{"ranges": []}]})), "`package` is missing"),
        (
            with(alpine(until("1")), json!({"upstream": ["CVE-2024-1 "]})),
            "vulnerability name holds",
        ),
        (with(alpine(until("1")), json!({"published": "yesterday"})), "record: "),
        (json!({"affected": []}), "missing field `id`"),
    ] {
        let told = refused(record.clone());
        assert!(told.contains(reason), "{record}: {told}");
        assert!(told.starts_with("line 1, "), "{told}");
    }
    let mut none = alpine(until("1"));
    none["affected"][0]["ranges"] = json!([]);
    assert!(refused(none).contains("no range of versions"));
}

#[test]
fn a_feed_that_speaks_of_another_publishers_release_is_not_believed_there() {
    let mut both = record_of_alpine();
    let foreign = record("x", "Debian:12", "openssl", until("0"))["affected"][0].clone();
    both["affected"].as_array_mut().unwrap().push(foreign);
    let parsed = parse(Publisher::Alpine, format!("{both}\n").as_bytes()).unwrap();
    assert_eq!((parsed.records.len(), parsed.records[0].statements.len()), (1, 1));
    let told = parsed.errors[0].to_string();
    assert!(told.contains("does not speak for Debian: it does for Alpine"), "{told}");
    let other = parse(Publisher::Ubuntu, format!("{}\n", record_of_alpine()).as_bytes());
    assert!(matches!(other, Err(FeedError::NothingUsable { rejected: 1, .. })), "{other:?}");
}

#[test]
fn a_record_that_would_make_too_much_is_refused_unread() {
    let cves: Vec<String> = (0..1000).map(|n| format!("CVE-2024-{n}")).collect();
    let mut huge = with(record_of_alpine(), json!({"upstream": cves}));
    huge["affected"] = Value::Array(vec![huge["affected"][0].clone(); 201]);
    assert!(refused(huge).contains("201 packages and 1000 vulnerabilities make more than 200000"));
}

#[test]
fn a_document_that_is_cut_off_or_not_text_is_refused_as_a_whole() {
    let text = record_of_alpine().to_string();
    let fails = |bytes: &[u8]| parse_all(bytes).unwrap_err().to_string();
    assert!(fails(text.as_bytes()).starts_with("the Alpine OSV feed is cut off at line 1"));
    assert!(fails(b" \n").starts_with("the Alpine OSV feed is empty"));
    assert!(fails(b"\xff\n").contains("not UTF-8"));
    assert!(fails(b"{}\n").contains("no usable record (1 rejected, the first at line 1, record"));
}

#[test]
fn an_advisory_dates_its_fixes_and_the_page_of_a_vulnerability_does_not() {
    let alma = with(
        record("ALSA-2024:1", "AlmaLinux:9", "libcurl", until("1-1")),
        json!({"related": ["CVE-2024-1", "CVE-2024-2"]}),
    );
    let found = parsed(&[alma, record_of_alpine()]);
    let publication = found.records[0].publication().unwrap();
    assert_eq!(publication.date.to_string(), "2026-01-01", "in UTC");
    assert_eq!(publication.cves, ["CVE-2024-1", "CVE-2024-2"]);
    assert_eq!(publication.releases.len(), 1);
    assert_eq!(publication.releases[0].fixed_version.as_deref(), Some("1-1"));
    assert_eq!(found.records[1].publication(), None);
}

proptest::proptest! {
    #[test]
    fn no_damage_to_a_document_makes_it_panic(
        at in 0usize..2000,
        byte: u8,
        cut in 0usize..2000,
        noise in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
    ) {
        let module = with(
            record("ALSA-2022:1", "AlmaLinux:9", "nodejs", until("1:18-1.module_el9+1")),
            json!({"summary": "Moderate: nodejs:18 update", "related": ["CVE-2022-1"]}),
        );
        let mut bytes = format!("{module}\n{}\n", record_of_alpine()).into_bytes();
        let place = at % bytes.len();
        bytes[place] = byte;
        let _ = parse_all(&bytes);
        bytes.truncate(cut);
        bytes.extend(noise);
        let _ = parse_all(&bytes);
    }
}
