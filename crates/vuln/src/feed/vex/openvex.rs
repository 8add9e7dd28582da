//! OpenVEX, v0.2.0.

use super::{Outcome, Selector, VexStatement, VexStatus, checked, host, moment, package};
use crate::feed::clean_text;
use crate::feed::document::record_error;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

type Text<'a> = Cow<'a, str>;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, rename = "@id", default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    author: Text<'a>,
    #[serde(borrow)]
    timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    expires: Option<Text<'a>>,
    /// As Ubuntu publishes it, the head stands one level deeper.
    #[serde(borrow)]
    metadata: Option<Box<Head<'a>>>,
    #[serde(borrow)]
    statements: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "@id", default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    author: Text<'a>,
    #[serde(borrow)]
    timestamp: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Statement<'a> {
    #[serde(borrow)]
    vulnerability: Vulnerability<'a>,
    #[serde(borrow)]
    timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    expires: Option<Text<'a>>,
    #[serde(borrow, default)]
    products: Vec<Product<'a>>,
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow, default)]
    justification: Text<'a>,
    #[serde(borrow, default)]
    impact_statement: Text<'a>,
    #[serde(borrow, default)]
    action_statement: Text<'a>,
    #[serde(borrow, default)]
    status_notes: Text<'a>,
}

/// v0.0.x wrote the bare name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Vulnerability<'a> {
    Name(#[serde(borrow)] Text<'a>),
    Whole {
        #[serde(borrow)]
        name: Text<'a>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Product<'a> {
    Name(#[serde(borrow)] Text<'a>),
    Whole {
        #[serde(borrow, rename = "@id", default)]
        id: Text<'a>,
        #[serde(borrow)]
        identifiers: Option<Identifiers<'a>>,
        #[serde(borrow, default)]
        subcomponents: Vec<Component<'a>>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Component<'a> {
    Name(#[serde(borrow)] Text<'a>),
    Whole {
        #[serde(borrow, rename = "@id", default)]
        id: Text<'a>,
        #[serde(borrow)]
        identifiers: Option<Identifiers<'a>>,
    },
}

#[derive(Deserialize)]
struct Identifiers<'a> {
    #[serde(borrow)]
    purl: Option<Text<'a>>,
}

/// The standard's justifications.
const JUSTIFICATIONS: [&str; 5] = [
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
];

/// Reads one document.
pub(super) fn read(raw: &str) -> Result<Vec<Outcome>, String> {
    let mut document: Document<'_> = serde_json::from_str(raw).map_err(|e| record_error(&e))?;
    if let Some(head) = document.metadata.take() {
        (document.id, document.author, document.timestamp) = (head.id, head.author, head.timestamp);
    }
    if document.author.trim().is_empty() {
        return Err("`author` is missing: a statement is somebody's".to_owned());
    }
    let statement = |(number, raw): (usize, &&RawValue)| {
        let place = || format!("statement {}", number + 1);
        let parsed = serde_json::from_str::<Statement<'_>>(raw.get());
        let read = parsed.map_err(|e| record_error(&e)).and_then(|s| statement(&document, s));
        read.map_err(|what| (place(), what)).and_then(checked)
    };
    Ok(document.statements.iter().enumerate().map(statement).collect())
}

fn statement(document: &Document<'_>, statement: Statement<'_>) -> Result<VexStatement, String> {
    let id = match statement.vulnerability {
        Vulnerability::Name(name) | Vulnerability::Whole { name } => name,
    };
    let status = match statement.status.as_ref() {
        "not_affected" => VexStatus::NotAffected,
        "affected" => VexStatus::Affected,
        "fixed" => VexStatus::Fixed,
        "under_investigation" => VexStatus::UnderInvestigation,
        other => {
            return Err(format!(
                "unknown status {:?}: expected not_affected, affected, fixed or under_investigation",
                clean_text(other)
            ));
        }
    };
    let justification = statement.justification.as_ref();
    if !justification.is_empty() && !JUSTIFICATIONS.contains(&justification) {
        let known = JUSTIFICATIONS.join(", ");
        return Err(format!(
            "unknown justification {:?}: one of {known}",
            clean_text(justification)
        ));
    }
    // OpenVEX, "Status Justifications".
    if status == VexStatus::NotAffected
        && justification.is_empty()
        && statement.impact_statement.trim().is_empty()
    {
        return Err("not_affected needs a `justification` or an `impact_statement`".to_owned());
    }
    let issued = statement.timestamp.as_ref().or(document.timestamp.as_ref());
    let issued = moment(issued.ok_or("`timestamp` is missing, here and in the document")?)?;
    let expires = statement.expires.as_ref().or(document.expires.as_ref());
    let mut products = Vec::new();
    for product in &statement.products {
        select(product, &mut products)?;
    }
    let words = [statement.impact_statement, statement.action_statement, statement.status_notes];
    let words: Vec<&str> = words.iter().map(|w| w.trim()).filter(|w| !w.is_empty()).collect();
    Ok(VexStatement {
        id: id.into_owned(),
        issued,
        status,
        justification: justification.to_owned(),
        words: clean_text(&words.join(" ")),
        author: clean_text(&document.author),
        document: clean_text(&document.id),
        expires: expires.map(|e| moment(e)).transpose()?,
        products,
    })
}

fn select(product: &Product<'_>, selectors: &mut Vec<Selector>) -> Result<(), String> {
    let (id, components) = match product {
        Product::Name(name) => (name.as_ref(), &[][..]),
        Product::Whole { id, identifiers, subcomponents } => {
            (own_name(id, identifiers.as_ref()), &subcomponents[..])
        }
    };
    let host = host(id)?;
    let name = |c: &'_ Component<'_>| match c {
        Component::Name(name) => name.to_string(),
        Component::Whole { id, identifiers } => own_name(id, identifiers.as_ref()).to_owned(),
    };
    let components: Vec<String> = components.iter().map(name).collect();
    match host {
        Some(host) => {
            let packages = components.iter().map(|c| package(c)).collect::<Result<Vec<_>, _>>()?;
            let host = Some(host);
            if packages.is_empty() {
                selectors.push(Selector { host, package: None });
            } else {
                let of = |package| Selector { host: host.clone(), package: Some(package) };
                selectors.extend(packages.into_iter().map(of));
            }
        }
        // Of a package's parts nothing is known here: the statement is about less than the package.
        None if !components.is_empty() => {
            return Err(format!(
                "{:?} has `subcomponents`: only a host's ({}NAME) are told apart",
                clean_text(id),
                super::HOST
            ));
        }
        None => selectors.push(Selector { host: None, package: Some(package(id)?) }),
    }
    Ok(())
}

fn own_name<'t>(id: &'t str, identifiers: Option<&'t Identifiers<'_>>) -> &'t str {
    identifiers
        .and_then(|i| i.purl.as_deref())
        .filter(|_| !id.starts_with(super::HOST))
        .unwrap_or(id)
}
