//! Statements, one by one.

use super::*;

/// One statement of an OpenVEX document, with this inside.
fn openvex(inside: &str) -> Parsed<VexStatement> {
    parse(document(inside).as_bytes()).unwrap()
}

/// What was wrong with the only statement.
fn wrong(inside: &str) -> String {
    match parse(document(inside).as_bytes()) {
        Err(FeedError::NothingUsable { first, .. }) => first,
        other => panic!("{inside}: {other:?}"),
    }
}

fn document(inside: &str) -> String {
    format!(
        "{{\"@id\":\"urn:own:1\",\"author\":\"Ops\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"statements\":[{{{inside}}}]}}"
    )
}

const WHOLE: &str = r#""vulnerability":{"name":"CVE-2024-1"},"products":[{"@id":"pkg:deb/debian/zlib"}],"status":"not_affected","justification":"component_not_present""#;

#[test]
fn an_openvex_statement_is_read_with_author_day_justification_and_expiry() {
    let said = &openvex(&format!(
        "{WHOLE},\"impact_statement\":\"Never called.\",\"expires\":\"2026-06-01\""
    ))
    .records[0];
    assert_eq!((said.id.as_str(), said.author.as_str()), ("CVE-2024-1", "Ops"));
    assert_eq!((said.document.as_str(), said.status), ("urn:own:1", VexStatus::NotAffected));
    assert_eq!(said.justification, "component_not_present");
    assert_eq!(said.words, "Never called.");
    assert_eq!(said.issued.to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(said.expires.unwrap().to_string(), "2026-06-01T00:00:00Z");
    assert_eq!(
        said.products,
        [Selector {
            host: None,
            package: Some(PackageSelector::Purl(Purl::parse("pkg:deb/debian/zlib").unwrap()))
        }]
    );
}

#[test]
fn each_status_has_its_word_and_what_it_asks_for() {
    for (status, expected) in [
        ("affected", VexStatus::Affected),
        ("fixed", VexStatus::Fixed),
        ("under_investigation", VexStatus::UnderInvestigation),
    ] {
        let inside = WHOLE.replace("not_affected", status);
        let said = &openvex(&inside).records[0];
        assert_eq!((said.status, said.status.word()), (expected, status));
    }
    let bare = WHOLE.replace(",\"justification\":\"component_not_present\"", "");
    assert!(wrong(&bare).contains("needs a `justification` or an `impact_statement`"));
    assert!(openvex(&format!("{bare},\"impact_statement\":\"x\"")).errors.is_empty());
    for (from, to, what) in [
        ("not_affected", "perhaps", "unknown status"),
        ("component_not_present", "because", "unknown justification"),
        ("pkg:deb/debian/zlib", "pkg:deb", "package URL"),
        ("pkg:deb/debian/zlib", "a b", "package name holds"),
        ("pkg:deb/debian/zlib", "fettle:host/", "names no host"),
        ("CVE-2024-1", "CVE 1", "holds ' '"),
        ("[{\"@id\":\"pkg:deb/debian/zlib\"}]", "[]", "names no product"),
        ("\"products\"", "\"timestamp\":\"yesterday\",\"products\"", "is no moment"),
        ("\"products\"", "\"expires\":\"2025-01-01\",\"products\"", "expires before it is made"),
        ("}],\"status", ",\"subcomponents\":[{\"@id\":\"x\"}]}],\"status", "only a host's"),
    ] {
        let broken = WHOLE.replacen(from, to, 1);
        assert_ne!(broken, WHOLE);
        assert!(wrong(&broken).contains(what), "{to}: {}", wrong(&broken));
    }
}

#[test]
fn hosts_are_selected_by_name_and_packages_of_them_by_subcomponents() {
    let inside = WHOLE.replace(
        "[{\"@id\":\"pkg:deb/debian/zlib\"}]",
        "[\"fettle:host/db-1\",{\"@id\":\"fettle:host/web-*\",\"subcomponents\":[{\"@id\":\"zlib\"},\"curl\"]}]",
    );
    let said = &openvex(&inside).records[0];
    let shown: Vec<String> = said
        .products
        .iter()
        .map(|s| {
            let package = match &s.package {
                Some(PackageSelector::Name { name, .. }) => name.as_str(),
                _ => "-",
            };
            format!("{} {package}", s.host.as_deref().unwrap_or("-"))
        })
        .collect();
    assert_eq!(shown, ["db-1 -", "web-* zlib", "web-* curl"]);
}

#[test]
fn several_documents_stand_one_after_the_other_and_a_bad_one_costs_only_itself() {
    let text =
        format!("{}\n\n{{\"statements\":[]}}\n{{\"x\":1}} {}", document(WHOLE), document(WHOLE));
    let parsed = parse(text.as_bytes()).unwrap();
    assert_eq!(parsed.records.len(), 2);
    let told: Vec<String> = parsed.errors.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("line 3, document 2") && told[0].contains("`author` is missing"),
        "{told:?}"
    );
    assert!(told[1].contains("document 3") && told[1].contains("neither OpenVEX"), "{told:?}");
}
