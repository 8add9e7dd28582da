//! Products, one by one.

use super::*;

#[test]
fn platforms_of_hosts_are_releases_and_others_say_nothing() {
    for (cpe, expected) in [
        ("cpe:/o:redhat:enterprise_linux:9::baseos", Some("rhel:9")),
        ("cpe:/a:redhat:enterprise_linux:8::appstream", Some("rhel:8")),
        ("cpe:/o:redhat:enterprise_linux:7", Some("rhel:7")),
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
    let found = |name: &str, version: &str| Ok(Some((name.to_owned(), version.to_owned())));
    for (purl, product, expected) in [
        ("pkg:rpm/redhat/c-ares@1.13.0-9.el8?arch=x86_64", "", found("c-ares", "1.13.0-9.el8")),
        (
            "pkg:rpm/redhat/openssl@3.0.7-25.el9?arch=x86_64&epoch=1",
            "",
            found("openssl", "1:3.0.7-25.el9"),
        ),
        ("pkg:rpm/redhat/libxml2", "", found("libxml2", "")),
        ("pkg:rpm/redhat/libxml2?arch=src", "", Ok(None)),
        ("pkg:rpm/redhat/libxml2", "libxml2.src", Ok(None)),
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
        assert_eq!(by_purl(purl, product), expected, "{purl}");
    }
    let told =
        by_purl("pkg:rpm/redhat/redis@6.2.17-1.module%2Bel8.10.0?arch=x86_64", "").unwrap_err();
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
        ("libxml2.src", Ok(None)),
        ("rhacm2/search-api-rhel8", Ok(None)),
        ("redis-6-container", Ok(None)),
    ] {
        assert_eq!(by_name(product), expected, "{product}");
    }
}
