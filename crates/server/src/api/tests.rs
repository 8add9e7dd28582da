//! What the API says of itself.

use super::*;

#[test]
fn every_call_is_described_with_its_failures() {
    let api = serde_json::to_value(described().into_openapi()).unwrap();
    let paths = api["paths"].as_object().unwrap();
    // The table at the head of the API's types, in OpenAPI's words.
    for (method, path) in [
        ("get", "/overview"),
        ("get", "/hosts"),
        ("get", "/hosts/{host}"),
        ("get", "/hosts/{host}/sbom"),
        ("get", "/sbom"),
        ("post", "/hosts/{host}/sbom"),
        ("get", "/views"),
        ("put", "/views/{name}"),
        ("delete", "/views/{name}"),
        ("get", "/findings"),
        ("get", "/findings/{host}/{id}/{source}"),
        ("get", "/packages"),
        ("get", "/packages/{name}"),
        ("get", "/cves"),
        ("get", "/cves/{id}"),
        ("get", "/search"),
        ("get", "/policies"),
        ("post", "/policies"),
        ("get", "/policies/{name}"),
        ("get", "/policies/{name}/versions"),
        ("post", "/policy-diffs"),
        ("get", "/hosts/{host}/policy"),
        ("post", "/plans"),
        ("get", "/plans/{number}"),
        ("get", "/plans/{number}/tests"),
        ("post", "/plans/{number}/tests"),
        ("post", "/hosts/{host}/tests"),
        ("get", "/tests"),
        ("get", "/tests/{number}"),
        ("post", "/plans/{number}/approvals"),
        ("delete", "/plans/{number}/approvals"),
        ("get", "/operators"),
        ("post", "/operators"),
        ("delete", "/operators/{name}"),
        ("post", "/operators/{name}/token"),
        ("post", "/rollouts"),
        ("get", "/rollouts"),
        ("get", "/rollouts/{id}"),
        ("post", "/rollouts/{id}/pause"),
        ("post", "/rollouts/{id}/resume"),
        ("post", "/rollouts/{id}/abort"),
        ("post", "/rollouts/{id}/undo"),
        ("get", "/evidence"),
        ("get", "/evidence/key"),
        ("get", "/report"),
        ("get", "/report.csv"),
        ("get", "/report.html"),
        ("get", "/report-schedules"),
        ("put", "/report-schedules/{name}"),
        ("delete", "/report-schedules/{name}"),
        ("post", "/report-schedules/{name}/run"),
        ("get", "/deliveries"),
        ("post", "/deliveries/{id}/resend"),
        ("delete", "/deliveries/{id}"),
        ("get", "/recalls"),
        ("post", "/recalls"),
        ("get", "/recalls/{package}/{version}"),
        ("delete", "/recalls/{package}/{version}"),
        ("get", "/feeds"),
        ("post", "/feeds/{name}"),
        ("post", "/feeds/sync"),
        ("post", "/feeds/{name}/accept"),
        ("put", "/feeds/{name}/source"),
        ("delete", "/feeds/{name}/source"),
        ("get", "/feeds/bundle"),
        ("post", "/feeds/bundle"),
        ("get", "/feeds/bundle/key"),
        ("put", "/feeds/bundle/key"),
        ("get", "/cycles"),
        ("post", "/cycles/{name}/resume"),
        ("post", "/cycles/release"),
        ("get", "/emergencies"),
        ("post", "/emergencies"),
        ("delete", "/emergencies/{id}"),
        ("post", "/tokens"),
        ("get", "/accounts"),
        ("post", "/accounts"),
        ("put", "/accounts/{name}/password"),
        ("post", "/accounts/{name}/disable"),
        ("post", "/accounts/{name}/enable"),
        ("post", "/setup"),
        ("get", "/account"),
        ("put", "/account/password"),
        ("delete", "/account/sessions"),
        ("get", "/ledger"),
        ("get", "/ledger/verify"),
        ("get", "/events"),
    ] {
        assert!(paths.get(path).and_then(|p| p.get(method)).is_some(), "{method} {path}");
    }
    for (path, item) in paths {
        for (method, call) in item.as_object().unwrap() {
            let answers = call["responses"].as_object().unwrap();
            assert!(answers.keys().any(|s| s.starts_with('2')), "{method} {path}");
            for status in ["400", "401", "403", "404", "500"] {
                assert!(answers.contains_key(status), "{method} {path} {status}");
            }
        }
    }
}

#[test]
fn the_description_has_every_type_it_names() {
    let text = serde_json::to_string(&described().into_openapi()).unwrap();
    let api: serde_json::Value = serde_json::from_str(&text).unwrap();
    let schemas = api["components"]["schemas"].as_object().unwrap();
    let mut named = 0;
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is named and not described");
        named += 1;
    }
    assert!(named > 30, "{named}");
}
