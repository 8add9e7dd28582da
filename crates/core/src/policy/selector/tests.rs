use super::*;
use crate::host::Host;
use crate::inventory::{Inventory, Kernel, Os};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn host(labels: &[(&str, &str)]) -> Host {
    let os = Os {
        id: "debian".into(),
        version: "12".into(),
        codename: "bookworm".into(),
        pretty: String::new(),
    };
    Host {
        id: "h-1".into(),
        name: "web-1.example.org".into(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        enrolled_at: crate::Timestamp::UNIX_EPOCH,
        last_seen: None,
        agent_version: String::new(),
        inventory: Some(std::sync::Arc::new(Inventory {
            schema: 1,
            os,
            architecture: "amd64".into(),
            kernel: Kernel::default(),
            boot_id: String::new(),
            packages: vec![].into(),
            languages: vec![],
            upgrades: vec![],
            services: vec![],
            listeners: vec![],
            stale: vec![],
            in_use: vec![],
            exposed: vec![],
            reboot_needed: vec![],
            configuration: BTreeMap::new(),
            held: vec![],
            ..Inventory::default()
        })),
        cohort: None,
        inventory_digest: None,
        quarantined: None,
        listed: None,
    }
}

fn holds(selector: &str) -> bool {
    Selector::parse(selector).unwrap().matches(&host(&[
        ("env", "prod"),
        ("role", "web"),
        ("empty", ""),
    ]))
}

#[test]
fn selectors_mean_what_they_say() {
    for yes in [
        "all",
        "env=prod",
        "env == prod",
        "env != test",
        "env=prod and role in (web, api)",
        "env in (test) or role=web",
        "env=test and role=db or role=web",
        "not (env=test or role=db)",
        "role not in (db, api)",
        "not not env=prod",
        "has role",
        "not has rack",
        "rack != b4",
        "env=p*d",
        "role=?eb",
        "empty=''",
        "os.id=debian and os.codename=bookworm and os.version=12",
        "host.name='web-*' and host.arch=amd64 and host.id=h-1",
        "'env'=\"prod\"",
        "  env  =  prod  ",
    ] {
        assert!(holds(yes), "{yes}");
    }
    for no in [
        "env=test",
        "rack=b4",
        "has rack",
        "not all",
        "env=prod and role=db",
        "env=PROD",
        "empty=x",
        "rack='*'",
    ] {
        assert!(!holds(no), "{no}");
    }
}

#[test]
fn and_binds_closer_than_or() {
    let grouped = Selector::parse("a=1 or b=2 and c=3").unwrap();
    assert_eq!(grouped, Selector::parse("a=1 or (b=2 and c=3)").unwrap());
    assert_ne!(grouped, Selector::parse("(a=1 or b=2) and c=3").unwrap());
}

#[test]
fn a_host_that_has_not_reported_has_no_facts() {
    let mut host = host(&[]);
    host.inventory = None;
    assert!(!Selector::parse("os.id=debian").unwrap().matches(&host));
    assert!(!Selector::parse("has os.id").unwrap().matches(&host));
    assert!(Selector::parse("host.name=web-1.example.org").unwrap().matches(&host));
}

#[test]
fn errors_say_where_and_what_to_write_instead() {
    let deep = format!("{}a=1{}", "(".repeat(30), ")".repeat(30));
    let errors: Vec<String> = [
        "",
        "env",
        "env prod",
        "env=",
        "env=prod role=web",
        "env=prod AND role=web",
        "env=prod && role=web",
        "env=prod and",
        "env=prod and or x=1",
        "role=web,api",
        "role in web",
        "role in (web api)",
        "role in (web,",
        "role in ()",
        "(env=prod",
        "env=prod)",
        "env='prod",
        "env='a\\n'",
        "role not web",
        "os.codname=bookworm",
        "host.rack=b4",
        "not",
        "host.package nginx < 1.22",
        "package nginx",
        "host.package=nginx < 1.22",
        "host.package < 1.22",
        "os.version >= 12",
        "host.package.=1",
        "host.package.nginx <",
        "host.package.nginx << 1.22",
        "host.package.nginx < 1.*",
        "host.packages=nginx",
        "ärger=1",
        &deep,
    ]
    .iter()
    .map(|text| format!("{}: {}", &text[..text.len().min(24)], Selector::parse(text).unwrap_err()))
    .collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
: character 1: the selector is empty; write `all` for every host
env: character 4: `env` is compared with nothing: the end follows; write `env=value`, `env in (one, other)` or `has env`
env prod: character 5: `env` is compared with nothing: `prod` follows; write `env=value`, `env in (one, other)` or `has env`
env=: character 5: a value is missing before the end; write one such as `web`, or '' for an empty one
env=prod role=web: character 10: `role` does not fit here; join conditions with `and` or `or`
env=prod AND role=web: character 10: `AND` does not fit here; write `and`
env=prod && role=web: character 10: '&' does not belong in a selector; write `and`
env=prod and: character 13: a condition is missing before the end; write one such as `role=web`, or `all`
env=prod and or x=1: character 14: a condition is missing before `or`; write one such as `role=web` (a label of that name goes in quotes)
role=web,api: character 9: `,` does not fit here; several values are written `role in (web, api)`
role in web: character 9: a list is missing before `web`; write one such as `(web, api)`
role in (web api): character 14: `api` does not fit in a list; write `,` between values and `)` after the last
role in (web,: character 14: a value is missing before the end; write one such as `web`, or '' for an empty one
role in (): character 10: a value is missing before `)`; write one such as `web`, or '' for an empty one
(env=prod: character 1: this `(` is never closed; add `)`
env=prod): character 9: `)` closes nothing; take it away, or open it with `(` before
env='prod: character 5: the quote is not closed; end it with '
env='a\n': character 8: nothing else can follow a backslash; write `\\` for a backslash, or `\` before a quote
role not web: character 10: `web` does not fit here; write `role not in (…)`
os.codname=bookworm: character 1: `os.codname` is no fact; did you mean `os.codename`?
host.rack=b4: character 1: `host.rack` is no fact; did you mean `host.arch`?
not: character 4: a condition is missing before the end; write one such as `role=web`, or `all`
host.package nginx < 1.2: character 14: `host.package` is compared with nothing: `nginx` follows; write `host.package=nginx`, or `host.package.nginx < VERSION`
package nginx: character 9: `package` is compared with nothing: `nginx` follows; write `host.package=nginx`, or `host.package.nginx < VERSION`
host.package=nginx < 1.2: character 20: `<` does not fit here; a version is compared so: `host.package.nginx < 1.22.1-9`
host.package < 1.22: character 14: `host.package` has no order, only versions of packages have one; write such as `host.package.nginx < 1.22.1-9`
os.version >= 12: character 12: `os.version` has no order, only versions of packages have one; write such as `host.package.nginx < 1.22.1-9`
host.package.=1: character 1: the name of the package is missing; write one such as `host.package.nginx`
host.package.nginx <: character 21: a version is missing before the end; write one such as `1.22.1-9`
host.package.nginx << 1.: character 21: a version is missing before `<`; write one such as `1.22.1-9`
host.package.nginx < 1.*: character 22: nothing is `<` "1.*": it is not one version; write one such as `1.22.1-9`
host.packages=nginx: character 1: `host.packages` is no fact; did you mean `host.package`?
ärger=1: character 1: 'ä' does not belong in a selector; put values with odd characters in quotes: 'like this'
((((((((((((((((((((((((: character 26: more than 24 brackets and `not`s are nested here; give the hosts a label of their own and select that
"#);
}

#[test]
fn a_selector_too_long_to_be_meant_is_refused() {
    let text = vec!["role=web"; 1000].join(" or ");
    assert_eq!(Selector::parse(&text).unwrap_err().offset, 0);
    let flat = vec!["a=1"; 500].join(" or ");
    assert!(Selector::parse(&flat).is_ok());
}

/// Selectors of the shapes that texts have.
fn selectors() -> impl Strategy<Value = Selector> {
    let key = "[a-z0-9._/-]{1,6}|all|and|not|x y|os\\.id".prop_filter("facts", |k| {
        !(k.starts_with("os.") || k.starts_with("host.")) || FACTS.contains(&k.as_str())
    });
    let value = "[A-Za-z0-9*?._-]{0,5}|in|or|a'b|c\\\\d|é \"q\"|\\PC{0,4}";
    let leaf = prop_oneof![
        Just(Selector::All),
        (key.clone(), prop::collection::vec(value, 1..4))
            .prop_map(|(key, values)| Selector::In { key, values }),
        key.prop_map(|key| Selector::Has { key }),
        (
            "[a-z0-9.*+-]{1,6}",
            prop::sample::select(vec![Order::Less, Order::AtMost, Order::Greater, Order::AtLeast]),
            "[a-z0-9.:~+-]{1,8}|a b|or",
        )
            .prop_map(|(name, order, value)| {
                Selector::Version { key: format!("{PACKAGE_VERSION}{name}"), order, value }
            }),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|of| Selector::Not { of: Box::new(of) }),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|of| Selector::And { of }),
            prop::collection::vec(inner, 2..4).prop_map(|of| Selector::Or { of }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(selector in selectors()) {
        prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
    }

    #[test]
    fn any_text_is_parsed_or_refused_at_a_place_in_it(text in "\\PC{0,60}") {
        check(&text)?;
    }

    #[test]
    fn any_order_of_tokens_is_parsed_or_refused_at_a_place_in_it(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "and", "or", "not", "in", "has", "all", "(", ")", ",", "=", "!=", "role", "'a b'", "\"", "\\", "os.id", "*",
            "<", "<=", ">", ">=", "host.package.nginx",
        ]), 0..40),
    ) {
        check(&tokens.join(" "))?;
    }

    #[test]
    fn json_keeps_a_selector(selector in selectors()) {
        let json = serde_json::to_string(&selector).unwrap();
        prop_assert_eq!(serde_json::from_str::<Selector>(&json).unwrap(), selector);
    }
}

fn check(text: &str) -> Result<(), TestCaseError> {
    match Selector::parse(text) {
        Ok(selector) => {
            prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector.clone()));
            selector.matches(&host(&[("role", "web")]));
        }
        Err(error) => {
            prop_assert!(text.is_char_boundary(error.offset) && error.offset <= text.len());
            prop_assert_eq!(text[..error.offset].chars().count() + 1, error.position);
            prop_assert!(!error.message.is_empty() && !error.hint.is_empty());
        }
    }
    Ok(())
}
