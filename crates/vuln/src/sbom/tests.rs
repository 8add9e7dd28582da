use super::*;
use serde_json::json;

fn read(document: &serde_json::Value) -> Sbom {
    parse(document.to_string().as_bytes()).unwrap()
}

fn cyclonedx(components: serde_json::Value) -> serde_json::Value {
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "components": components,
        "metadata": {"component": {"type": "container", "name": "shop:1.2"}},
    })
}

fn told(package: &Package) -> String {
    let Package { name, version, source, source_version, .. } = package;
    format!("{name} {version} {source} {source_version}")
}

#[test]
fn what_syft_trivy_and_fettle_write_is_read_with_its_sources() {
    let sbom = read(&cyclonedx(json!([
        {"type": "library", "purl": "pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&upstream=openssl&distro=debian-12"},
        {"type": "library", "purl": "pkg:deb/debian/libc6@2.36-9%2Bdeb12u3?upstream=glibc%402.36-9"},
        {"type": "library", "purl": "pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64"},
        {"type": "library", "purl": "pkg:deb/debian/libpam0g@1.5.2-6?distro=debian-12.4", "properties": [
            {"name": "aquasecurity:trivy:SrcName", "value": "pam"}, {"name": "aquasecurity:trivy:SrcVersion", "value": "1.5.2"},
            {"name": "aquasecurity:trivy:SrcRelease", "value": "6"}, {"name": "aquasecurity:trivy:SrcEpoch", "value": "1"}]},
        {"type": "library", "purl": "pkg:deb/debian/perl-base@5.36.0-7", "properties": [
            {"name": "fettle:source", "value": "perl"}, {"name": "fettle:source-version", "value": "5.36.0-7"}]},
        {"type": "library", "name": "own"},
        {"type": "library", "purl": "pkg:golang/example.org/x@v1.0"},
        {"type": "operating-system", "name": "debian", "version": "12.4"},
        {"type": "application", "name": "app", "components": [
            {"type": "library", "purl": "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1",
             "evidence": {"occurrences": [{"location": "/app/a.jar"}]}},
            {"type": "library", "purl": "pkg:npm/%40babel/core@7.0.0"}]},
    ])));
    assert_eq!(sbom.name, "shop:1.2");
    assert_eq!((sbom.os.id.as_str(), sbom.os.codename.as_str()), ("debian", "bookworm"));
    assert_eq!(
        sbom.packages.iter().map(told).collect::<Vec<_>>(),
        [
            "bash 5.2.15-2+b2 bash 5.2.15-2",
            "libc6 2.36-9+deb12u3 glibc 2.36-9",
            "libpam0g 1.5.2-6 pam 1:1.5.2-6",
            "libssl3 3.0.11-1~deb12u2 openssl 3.0.11-1~deb12u2",
            "perl-base 5.36.0-7 perl 5.36.0-7",
        ]
    );
    let languages: Vec<String> = sbom
        .languages
        .iter()
        .map(|p| format!("{} {} {}", p.subject(), p.version, p.location))
        .collect();
    assert_eq!(
        languages,
        [
            "maven/org.apache.logging.log4j:log4j-core 2.14.1 /app/a.jar",
            "npm/@babel/core 7.0.0 pkg:npm/%40babel/core@7.0.0",
        ]
    );
    assert_eq!(sbom.left_out, 3, "one without a URL, one of Go, and the application");
}

#[test]
fn spdx_is_read_by_its_external_references_and_rpm_keeps_its_epoch() {
    let sbom = read(&json!({
        "spdxVersion": "SPDX-2.3", "name": "alma",
        "packages": [
            {"name": "openssl-libs", "externalRefs": [
                {"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": "cpe:2.3:a:x"},
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                 "referenceLocator": "pkg:rpm/almalinux/openssl-libs@3.0.7-25.el9?arch=x86_64&epoch=1&distro=almalinux-9.3"}]},
            {"name": "the image itself"},
        ],
    }));
    assert_eq!(
        (sbom.os.id.as_str(), sbom.os.version.as_str(), sbom.left_out),
        ("almalinux", "9.3", 1)
    );
    assert_eq!(told(&sbom.packages[0]), "openssl-libs 1:3.0.7-25.el9 openssl-libs 1:3.0.7-25.el9");
}

#[test]
fn sources_of_rpm_packages_are_read_from_their_files_each_with_its_own_epoch() {
    let rpm = |name: &str, version: &str, epoch: &str, source: &str| {
        let purl = format!(
            "pkg:rpm/rocky/{name}@{version}?arch=x86_64{epoch}&upstream={source}&distro=rocky-9.3"
        );
        json!({"type": "library", "purl": purl})
    };
    let perl = "perl-5.32.1-481.el9.src.rpm";
    let sbom = read(&cyclonedx(json!([
        rpm("openssl-libs", "3.0.7-25.el9", "&epoch=1", "openssl-3.0.7-25.el9.src.rpm"),
        rpm("perl-Errno", "1.30-481.el9", "", perl),
        rpm("perl-libs", "5.32.1-481.el9", "&epoch=4", perl),
    ])));
    assert_eq!(
        sbom.packages.iter().map(told).collect::<Vec<_>>(),
        [
            "openssl-libs 1:3.0.7-25.el9 openssl 1:3.0.7-25.el9",
            "perl-Errno 1.30-481.el9 perl 4:5.32.1-481.el9",
            "perl-libs 4:5.32.1-481.el9 perl 4:5.32.1-481.el9",
        ]
    );
}

#[test]
fn a_system_is_known_by_the_word_that_others_have_for_it() {
    for (name, version, id, its) in [
        ("redhat", "9.4", "rhel", "9.4"),
        ("alma", "9.3", "almalinux", "9.3"),
        ("oracle", "8.9", "ol", "8.9"),
        ("amazon", "2 (Karoo)", "amzn", "2"),
        ("opensuse.leap", "15.5", "opensuse-leap", "15.5"),
        ("suse linux enterprise server", "15.5", "sles", "15.5"),
        ("alpine", "3.19.0", "alpine", "3.19.0"),
    ] {
        let sbom = read(&cyclonedx(json!([
            {"type": "operating-system", "name": name, "version": version}
        ])));
        assert_eq!((sbom.os.id.as_str(), sbom.os.version.as_str()), (id, its));
    }
    let by_url = read(&cyclonedx(json!([
        {"type": "library", "purl": "pkg:rpm/alma/curl@7-1.el9?distro=alma-9.3"}
    ])));
    assert_eq!((by_url.os.id.as_str(), by_url.os.version.as_str()), ("almalinux", "9.3"));
}

#[test]
fn what_is_no_bill_of_materials_is_refused_and_says_why() {
    for (bytes, expected) in [
        (&b""[..], "it is malformed at line 1, column 0"),
        (b"{", "it is malformed at line 1, column 1"),
        (b"{}", "it is neither CycloneDX"),
        (br#"{"spdxVersion":"SPDX-3.0"}"#, "it is neither CycloneDX"),
        (
            br#"{"bomFormat":"CycloneDX","components":[{"purl":1}]}"#,
            "it is malformed at line 1, column 48",
        ),
    ] {
        let error = parse(bytes).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    // As deep as it likes: refused, and nothing falls over.
    let deep = format!(
        "{}{}",
        "{\"bomFormat\":\"CycloneDX\",\"components\":[".repeat(100_000),
        "]}".repeat(100_000)
    );
    assert!(matches!(parse(deep.as_bytes()), Err(SbomError::Malformed { .. })));
}

#[test]
fn what_could_be_taken_for_something_else_is_left_out() {
    let with = |purl: &str, source: &str| {
        let document = format!(
            r#"{{"bomFormat":"CycloneDX","components":[{{"purl":"{purl}","properties":[{{"name":"fettle:source","value":"{source}"}}]}}]}}"#
        );
        let read = parse(document.as_bytes()).unwrap();
        (read.packages.len() + read.languages.len(), read.left_out)
    };
    assert_eq!(with("pkg:deb/debian/libssl3@1?distro=debian-12", "openssl"), (1, 0));
    // Another root's, by its source.
    assert_eq!(with("pkg:deb/debian/libssl3@1?distro=debian-12", "docker:web//openssl"), (0, 1));
    assert_eq!(with("pkg:deb/debian/libssl3@1?distro=debian-12", "open ssl"), (0, 1));
    assert_eq!(with("pkg:npm/%40babel/core@1", "x"), (1, 0));
    assert_eq!(with("pkg:npm/%20a/core@1", "x"), (0, 1));
}

#[test]
fn packages_without_a_source_are_counted_and_a_release_is_known_by_number_and_by_name() {
    let purl = |text: &str| json!({"type": "library", "name": "x", "purl": text});
    let document = cyclonedx(json!([
        purl("pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12"),
        purl("pkg:deb/debian/libcrypto3@3.0.11-1?arch=amd64&upstream=openssl"),
    ]));
    let sbom = read(&document);
    assert_eq!(sbom.guessed_sources, 1);
    let gaps = sbom.gaps();
    assert!(
        gaps.iter().any(|g| g.starts_with("the source of 1 packages: it tells none")),
        "{gaps:?}"
    );
    for typed in ["12", "bookworm", "debian:12", "debian:bookworm"] {
        let os = system(typed);
        assert_eq!(
            (os.id.as_str(), os.version.as_str(), os.codename.as_str()),
            ("debian", "12", "bookworm")
        );
    }
    assert_eq!(system("sid").codename, "sid");
    let alma = system("almalinux:9");
    assert_eq!(
        (alma.id.as_str(), alma.version.as_str(), alma.codename.as_str()),
        ("almalinux", "9", "")
    );
}
