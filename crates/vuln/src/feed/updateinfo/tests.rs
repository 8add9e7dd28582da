//! Updates, one by one.

use super::*;

/// One update with these packages.
fn document(kind: &str, release: &str, collection: &str) -> String {
    format!(
        "<updates><update type=\"{kind}\"><id>X-2023:1</id><issued date=\"2023-11-28 10:00\"/><release>{release}</release>\
         <severity>Moderate</severity><references><reference id=\"CVE-2023-44487\" type=\"cve\"/>\
         <reference id=\"7\" type=\"bugzilla\" title=\"TRIAGE CVE-2024-24989 nginx: NULL [fedora-all]\"/></references>\
         <pkglist><collection short=\"s\">{collection}</collection></pkglist></update></updates>"
    )
}

fn package(name: &str, release: &str, extra: &str) -> String {
    format!("<package name=\"{name}\" version=\"1.2\" release=\"{release}\" {extra}/>")
}

/// `release package version` of each statement about one of the CVEs, and what was left out.
fn told(vendor: RpmVendor, text: &str) -> (Vec<String>, Vec<String>) {
    match parse(vendor, text.as_bytes()) {
        Ok(parsed) => {
            let said = parsed.records.iter().flat_map(|r| &r.statements);
            let said = said.filter(|s| s.id == "CVE-2023-44487").map(|s| match &s.status {
                AdvisoryStatus::Fixed { version } => {
                    format!("{} {} {version}", s.release, s.source)
                }
                AdvisoryStatus::Ranges { ranges } => {
                    let range = &ranges[0];
                    let fixed = range.fixed.as_deref().unwrap();
                    format!("{} {} {} to {fixed}", s.release, s.source, range.introduced)
                }
                other => panic!("{other:?}"),
            });
            (said.collect(), parsed.errors.iter().map(|e| e.what.clone()).collect())
        }
        Err(FeedError::NothingUsable { first, .. }) => (vec![], vec![first]),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn each_vendors_release_is_told_by_its_own_mark() {
    for (vendor, told_release, release, expected) in [
        (RpmVendor::AlmaLinux, "0", "6.el9_2", "almalinux:9"),
        (RpmVendor::Rocky, "Rocky Linux 8", "6.el8_5", "rocky:8"),
        (RpmVendor::RedHat, "", "1.el10", "rhel:10"),
        (RpmVendor::Oracle, "", "10.0.1.el7", "ol:7"),
        (RpmVendor::Amazon, "", "3.amzn2023.0.2", "amzn:2023"),
        (RpmVendor::Amazon, "", "3.amzn2", "amzn:2"),
        (RpmVendor::Amazon, "", "3.42.amzn1", "amzn:2018"),
        (RpmVendor::Fedora, "Fedora 43", "1.fc43", "fedora:43"),
    ] {
        let source = format!("src=\"p-source-1.2-{release}.src.rpm\" epoch=\"0\"");
        let text = document("security", told_release, &package("p", release, &source))
            .replace(" short=\"s\"", "");
        let name = if vendor == RpmVendor::Rocky { "p-source" } else { "p" };
        let expected = format!("{expected} {name} 1.2-{release}");
        assert_eq!(told(vendor, &text), (vec![expected], vec![]));
    }
    for (vendor, release) in [
        (RpmVendor::AlmaLinux, "6.fc38"),
        (RpmVendor::AlmaLinux, "6.model"),
        (RpmVendor::Amazon, "6.el9"),
        (RpmVendor::Fedora, "6.fc38"),
    ] {
        let (said, left_out) = told(vendor, &document("security", "0", &package("p", release, "")));
        assert!(
            said.is_empty() && left_out[0].contains("no release of")
                || left_out[0].contains("repository"),
            "{left_out:?}"
        );
    }
}

#[test]
fn only_security_updates_speak_and_their_epochs_and_sources_count() {
    let of = |kind: &str, extra: &str| {
        told(RpmVendor::AlmaLinux, &document(kind, "", &package("p", "1.el9", extra)))
    };
    assert_eq!(of("security", "epoch=\"1\"").0, ["almalinux:9 p 1:1.2-1.el9"]);
    assert_eq!(of("bugfix", "").0, [""; 0]);
    assert_eq!(of("security", "arch=\"src\"").0, [""; 0]);
    let both = format!(
        "{}{}",
        package("p", "1.el9", "arch=\"x86_64\""),
        package("p", "1.el9", "arch=\"i686\"")
    );
    assert_eq!(
        told(RpmVendor::AlmaLinux, &document("security", "", &both)).0.len(),
        1,
        "one package"
    );
    let (said, left_out) =
        told(RpmVendor::Rocky, &document("security", "", &package("p", "1.el9", "src=\"x\"")));
    assert!(
        said.is_empty() && left_out[0].contains("is no NAME-VERSION-RELEASE.src.rpm"),
        "{left_out:?}"
    );
}

#[test]
fn packages_of_a_module_stand_in_its_stream_and_without_one_are_refused() {
    let modular = package("nodejs", "1.module_el9.1.0+16+91bc168f", "");
    let module = "<module name=\"nodejs\" stream=\"18\" version=\"1\" context=\"c\"/>";
    let (said, _) =
        told(RpmVendor::AlmaLinux, &document("security", "", &format!("{module}{modular}")));
    assert_eq!(said, ["almalinux:9 nodejs:18/nodejs 1.2-1.module_el9.1.0+16+91bc168f"]);
    let (said, left_out) = told(RpmVendor::AlmaLinux, &document("security", "", &modular));
    assert!(said.is_empty() && left_out[0].contains("does not name the stream"), "{left_out:?}");
}

#[test]
fn repositories_beside_the_distributions_own_are_refused_by_name() {
    let kernel = package("kernel", "1.amzn2", "");
    let of = |repository: &str| {
        let text = document("security", "", &kernel)
            .replace("short=\"s\"", &format!("short=\"{repository}\""));
        told(RpmVendor::Amazon, &text)
    };
    assert_eq!(of("amazon-linux-2").0, ["amzn:2 kernel 1.2-1.amzn2"]);
    for repository in ["amazon-linux-2---livepatch", "amazon-linux-2---kernel-5.15"] {
        let (said, left_out) = of(repository);
        assert!(said.is_empty() && left_out[0].contains("has versions of its own"), "{left_out:?}");
    }
    // Its kernels beside each other are told apart by their versions.
    assert_eq!(of("amazon-linux-2---kernel-1.2").0, [""; 0], "1.2 is not of the line 1.2.x");
    let text = document("security", "", &kernel)
        .replace("short=\"s\"", "short=\"amazon-linux-2---kernel-5.15\"")
        .replace("version=\"1.2\"", "version=\"5.15.43\"");
    assert_eq!(told(RpmVendor::Amazon, &text).0, ["amzn:2 kernel 5.15-0 to 5.15.43-1.amzn2"]);
}

#[test]
fn an_update_that_names_no_cve_counts_under_its_own_name_and_is_dated() {
    let text = document("security", "", &package("p", "1.el9", "")).replace("CVE-", "RHBZ-");
    let parsed = parse(RpmVendor::AlmaLinux, text.as_bytes()).unwrap();
    let record = &parsed.records[0];
    assert_eq!(
        (record.statements[0].id.as_str(), record.statements[0].urgency.as_str()),
        ("X-2023:1", "moderate")
    );
    assert_eq!(record.published.unwrap().to_string(), "2023-11-28");
}
