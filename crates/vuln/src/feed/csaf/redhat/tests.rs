//! Products, one by one.

use super::*;

#[test]
fn platforms_of_hosts_are_releases_and_others_say_nothing() {
    for (cpe, expected) in [
        ("cpe:/o:redhat:enterprise_linux:9::baseos", Some("rhel:9")),
        ("cpe:/a:redhat:enterprise_linux:8::appstream", Some("rhel:8")),
        ("cpe:/o:redhat:enterprise_linux:7", Some("rhel:7")),
        ("cpe:/o:redhat:enterprise_linux:10.0", Some("rhel:10")),
        ("cpe:/a:redhat:enterprise_linux:10.1::appstream", Some("rhel:10")),
        ("cpe:/a:redhat:rhel_eus:10.0::appstream", Some("rhel-eus:10.0")),
        ("cpe:/a:redhat:rhel_eus:9.2::appstream", Some("rhel-eus:9.2")),
        ("cpe:/a:redhat:rhel_aus:8.2::appstream", Some("rhel-aus:8.2")),
        ("cpe:/a:redhat:satellite:6", None),
        ("cpe:/a:redhat:openshift:4.15::el9", None),
        ("cpe:/o:redhat:enterprise_linux", None),
        ("cpe:/o:redhat:enterprise_linux:", None),
        ("cpe:2.3:o:redhat:enterprise_linux:9", None),
    ] {
        assert_eq!(release(cpe).as_deref(), expected, "{cpe}");
    }
}

#[test]
fn a_package_is_read_from_its_url_or_its_name_with_its_modules_stream() {
    let package = |name: &str, version: &str, is_source| {
        Ok(Some(Package { name: name.to_owned(), version: version.to_owned(), is_source }))
    };
    let found = |name: &str, version: &str| package(name, version, false);
    let source = |name: &str, version: &str| package(name, version, true);
    for (purl, product, expected) in [
        ("pkg:rpm/redhat/c-ares@1.13.0-9.el8?arch=x86_64", "", found("c-ares", "1.13.0-9.el8")),
        (
            "pkg:rpm/redhat/openssl@3.0.7-25.el9?arch=x86_64&epoch=1",
            "",
            found("openssl", "1:3.0.7-25.el9"),
        ),
        ("pkg:rpm/redhat/libxml2", "", found("libxml2", "")),
        ("pkg:rpm/redhat/libxml2?arch=src", "", source("libxml2", "")),
        ("pkg:rpm/redhat/libxml2", "libxml2.src", source("libxml2", "")),
        (
            "pkg:rpm/redhat/python36?arch=src&rpmmod=python36:3.6",
            "python36.src::python36:3.6",
            source("python36:3.6/python36", ""),
        ),
        ("pkg:gem/nokogiri", "", Ok(None)),
        ("pkg:rpm/redhat/p-debuginfo@1-1", "", Ok(None)),
        (
            "pkg:rpm/redhat/redis@6.2.17-1.module%2Bel8.10.0?arch=x86_64&rpmmod=redis:6:8100:489",
            "",
            found("redis:6/redis", "6.2.17-1.module+el8.10.0"),
        ),
        (
            "pkg:rpm/redhat/redis@6.2.17-1.module%2Bel8.10.0?arch=x86_64",
            "redis-0:6.2.17-1.module+el8.10.0.x86_64::redis:6",
            found("redis:6/redis", "6.2.17-1.module+el8.10.0"),
        ),
    ] {
        assert_eq!(by_purl(purl, product, None), expected, "{purl}");
    }
    let told = by_purl("pkg:rpm/redhat/redis@6.2.17-1.module%2Bel8.10.0?arch=x86_64", "", None)
        .unwrap_err();
    assert!(told.contains("nothing names its stream"), "{told}");
    for (product, expected) in [
        ("libxml2-0:2.9.7-13.el8_6.4.x86_64", found("libxml2", "2.9.7-13.el8_6.4")),
        ("openssl-1:1.1.1k-6.el8_5.i686", found("openssl", "1:1.1.1k-6.el8_5")),
        ("libxml2", found("libxml2", "")),
        ("python3.11", found("python3.11", "")),
        ("redis:6/redis", found("redis:6/redis", "")),
        (
            "redis-0:6.2.17-1.module+el8.10.0.x86_64::redis:6",
            found("redis:6/redis", "6.2.17-1.module+el8.10.0"),
        ),
        ("libxml2.src", source("libxml2", "")),
        ("python36.src::python36:3.6", source("python36:3.6/python36", "")),
        ("libxml2-0:2.9.7-13.el8_6.4.src", source("libxml2", "2.9.7-13.el8_6.4")),
        ("rhacm2/search-api-rhel8", Ok(None)),
        ("redis-6-container", Ok(None)),
    ] {
        assert_eq!(by_name(product, None), expected, "{product}");
    }
}

/// A page of a vulnerability about these products of RHEL 9: (package, architecture, state).
fn page(products: &[(&str, &str, &str)]) -> String {
    let product = |(name, arch, _): &(&str, &str, &str)| {
        serde_json::json!({
            "category": "product_version", "name": name,
            "product": { "product_id": format!("{name}.{arch}"), "name": name, "product_identification_helper": {
                "purl": format!("pkg:rpm/redhat/{name}?arch={arch}")
            } }
        })
    };
    let mut branches: Vec<_> = products.iter().map(product).collect();
    branches.push(serde_json::json!({
        "category": "product_name", "name": "9", "product": { "product_id": "E", "name": "E",
        "product_identification_helper": { "cpe": "cpe:/o:redhat:enterprise_linux:9" } }
    }));
    let of = |(name, arch, _): &(&str, &str, &str)| {
        serde_json::json!({
            "category": "default_component_of", "relates_to_product_reference": "E",
            "product_reference": format!("{name}.{arch}"),
            "full_product_name": { "product_id": format!("E:{name}.{arch}"), "name": name }
        })
    };
    let relationships: Vec<_> = products.iter().map(of).collect();
    let mut status: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, arch, state) in products {
        status.entry(state).or_default().push(format!("E:{name}.{arch}"));
    }
    serde_json::json!({
        "document": { "category": "csaf_vex", "publisher": { "name": "Red Hat" }, "tracking": {
            "id": "CVE-2024-1", "current_release_date": "2024-01-01", "initial_release_date": "2024-01-01"
        } },
        "product_tree": { "branches": branches, "relationships": relationships },
        "vulnerabilities": [{ "cve": "CVE-2024-1", "product_status": status }]
    })
    .to_string()
}

#[test]
fn what_is_affected_and_named_by_its_source_alone_is_no_silence() {
    let open = || AdvisoryStatus::Open { reason: String::new(), elsewhere: None };
    for (products, expected) in [
        (&[("openssl", "src", "known_affected")][..], &[("source/openssl", open())][..]),
        (
            &[("bash", "src", "under_investigation")],
            &[("source/bash", AdvisoryStatus::Undetermined)],
        ),
        // Where the document names packages, another source stands for the one of its name.
        (
            &[("openssl", "src", "known_affected"), ("bash", "x86_64", "known_affected")],
            &[("bash", open()), ("openssl", open())],
        ),
        // The document says it of the package itself.
        (
            &[
                ("openssl", "src", "known_affected"),
                ("openssl", "x86_64", "known_not_affected"),
                ("openssl-libs", "x86_64", "known_affected"),
            ],
            &[("openssl", AdvisoryStatus::NotAffected), ("openssl-libs", open())],
        ),
        (
            &[("openssl", "src", "known_affected"), ("openssl", "x86_64", "known_affected")],
            &[("openssl", open())],
        ),
    ] {
        let parsed = parse(page(products).as_bytes()).unwrap();
        let mut found: Vec<(&str, AdvisoryStatus)> = parsed.records[0]
            .statements
            .iter()
            .map(|s| (s.source.as_str(), s.status.clone()))
            .collect();
        found.sort_by_key(|(name, _)| *name);
        assert_eq!(found, expected, "{products:?}");
        assert!(parsed.records[0].statements.iter().all(|s| s.release == "rhel:9"));
    }
    // That a source is not affected says nothing that is not said of its packages.
    assert!(parse(page(&[("openssl", "src", "known_not_affected")]).as_bytes()).is_err());
}

#[test]
fn packages_of_a_module_that_stands_on_the_platform_itself_are_those_of_its_stream() {
    let product = |id: &str, helper: serde_json::Value| {
        serde_json::json!({"category": "product_version", "name": id, "product": {
            "product_id": id, "name": id, "product_identification_helper": helper}})
    };
    let on = |id: &str, part: &str, whole: &str| {
        serde_json::json!({"category": "default_component_of", "product_reference": part,
            "relates_to_product_reference": whole, "full_product_name": {"product_id": id, "name": id}})
    };
    let module = "nodejs:18:8080020230718160101:63b34585";
    let npm = "npm-1:9.5.1-1.18.16.1.1.module+el8.8.0+19438+94e84959.x86_64";
    for (of_module, of_package) in [
        (
            serde_json::json!({"purl": "pkg:rpmmod/redhat/nodejs@18:8080020230718160101:63b34585"}),
            serde_json::json!({"purl": "pkg:rpm/redhat/npm@9.5.1-1.18.16.1.1.module%2Bel8.8.0%2B19438%2B94e84959?arch=x86_64&epoch=1"}),
        ),
        (serde_json::json!({}), serde_json::json!({})),
    ] {
        let document = serde_json::json!({
            "document": {"category": "csaf_security_advisory", "publisher": {"name": "Red Hat"}, "tracking": {
                "id": "RHSA-2023:4536", "current_release_date": "2023-08-08", "initial_release_date": "2023-08-08"}},
            "product_tree": {
                "branches": [
                    product("A", serde_json::json!({"cpe": "cpe:/a:redhat:enterprise_linux:8::appstream"})),
                    product(module, of_module), product(npm, of_package)],
                "relationships": [on("A:M", module, "A"), on("A:M:npm", npm, "A:M")]},
            "vulnerabilities": [{"cve": "CVE-2023-1", "product_status": {"fixed": ["A:M:npm"]}}]
        });
        let parsed = parse(document.to_string().as_bytes()).unwrap();
        assert_eq!(parsed.errors, []);
        let said: Vec<_> = parsed.records[0]
            .statements
            .iter()
            .map(|s| (&s.release[..], &s.source[..], s.status.clone()))
            .collect();
        let version = "1:9.5.1-1.18.16.1.1.module+el8.8.0+19438+94e84959".to_owned();
        let fixed = AdvisoryStatus::Fixed { version };
        assert_eq!(said, [("rhel:8", "nodejs:18/npm", fixed)]);
    }
}

#[test]
fn more_documents_than_are_read_are_told_of() {
    let three = page(&[("openssl", "x86_64", "known_affected")]).repeat(3);
    let all = parse_at_most(3, three.as_bytes()).unwrap();
    assert_eq!((all.records.len(), all.errors.len()), (3, 0));
    let some = parse_at_most(2, three.as_bytes()).unwrap();
    assert_eq!((some.records.len(), some.errors.len()), (2, 1));
    assert!(some.errors[0].to_string().contains("more than 2 documents"), "{}", some.errors[0]);
}
