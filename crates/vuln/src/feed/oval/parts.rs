//! What the definitions of one document refer to: tests, objects, states, variables, and the definitions of what is
//! installed.

use super::super::xml::{BadXml, Element, Next, Xml};
use std::collections::BTreeMap;

/// More are not read of one document. The largest in use, Red Hat's of a whole release, has about 600,000.
const MAX_PARTS: usize = 3_000_000;

/// One child of an object or a state: what is compared, how, with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entity {
    /// `name`, `evr`, `version`, `arch`, …
    pub(super) name: String,
    /// `equals` where the document says nothing.
    pub(super) operation: String,
    pub(super) text: String,
    /// The variable its values stand in, where they are not in the text.
    pub(super) variable: String,
}

/// A test. What it is called by stands in [`Parts::tests`].
#[derive(Debug, Clone, Default)]
pub(super) struct Test {
    /// `rpminfo_test`, `dpkginfo_test`, …
    pub(super) kind: String,
    pub(super) comment: String,
    /// `at least one`, `all`, `none satisfy`, …
    pub(super) check: String,
    /// `at_least_one_exists` where the document says nothing.
    pub(super) existence: String,
    /// `AND` where the document says nothing.
    pub(super) operator: String,
    pub(super) object: String,
    pub(super) states: Vec<String>,
}

/// An object or a state.
#[derive(Debug, Clone, Default)]
pub(super) struct Described {
    pub(super) comment: String,
    pub(super) operator: String,
    pub(super) entities: Vec<Entity>,
}

impl Described {
    /// The entity of a name.
    pub(super) fn entity(&self, name: &str) -> Option<&Entity> {
        self.entities.iter().find(|e| e.name == name)
    }

    /// The text of the entity of a name; empty where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.entity(name).map_or("", |e| &e.text)
    }
}

/// What the definitions of a document refer to, by id.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) tests: BTreeMap<String, Test>,
    pub(super) objects: BTreeMap<String, Described>,
    pub(super) states: BTreeMap<String, Described>,
    /// Values of constant variables. Others are not known before a host is looked at.
    pub(super) variables: BTreeMap<String, Vec<String>>,
    /// Criteria of the definitions of class `inventory`, which others extend: "Ubuntu 22.04 is installed".
    pub(super) inventories: BTreeMap<String, Element>,
}

impl Parts {
    /// Reads on behind the start of a document's outermost element, to its end.
    pub(super) fn read(xml: &mut Xml<'_>) -> Result<Self, BadXml> {
        let mut parts = Self::default();
        let mut count = 0;
        while let Next::Start(section) = xml.next()? {
            let section = section.name;
            while let Next::Start(start) = xml.next()? {
                count += 1;
                if count > MAX_PARTS {
                    let what = format!("more than {MAX_PARTS} definitions, tests and other parts");
                    return Err(BadXml { at: xml.at(), what, cut: false });
                }
                match section.as_str() {
                    "definitions" if start.attribute("class") == "inventory" => {
                        let id = start.attribute("id").to_owned();
                        let whole = xml.whole(start)?;
                        if let Some(criteria) = whole.child("criteria") {
                            parts.inventories.insert(id, criteria.clone());
                        }
                    }
                    "tests" => {
                        let whole = xml.whole(start)?;
                        parts.tests.insert(whole.attribute("id").to_owned(), test(&whole));
                    }
                    "objects" => {
                        let whole = xml.whole(start)?;
                        parts.objects.insert(whole.attribute("id").to_owned(), described(whole));
                    }
                    "states" => {
                        let whole = xml.whole(start)?;
                        parts.states.insert(whole.attribute("id").to_owned(), described(whole));
                    }
                    "variables" => {
                        let whole = xml.whole(start)?;
                        if whole.name == "constant_variable" {
                            let values = whole.children("value").map(|v| v.text.clone()).collect();
                            parts.variables.insert(whole.attribute("id").to_owned(), values);
                        }
                    }
                    _ => xml.pass()?,
                }
            }
        }
        Ok(parts)
    }
}

fn or(text: &str, default: &str) -> String {
    if text.is_empty() { default } else { text }.to_owned()
}

fn test(element: &Element) -> Test {
    let states = element.children("state").map(|s| s.attribute("state_ref").to_owned());
    Test {
        kind: element.name.clone(),
        comment: element.attribute("comment").to_owned(),
        check: or(element.attribute("check"), "all"),
        existence: or(element.attribute("check_existence"), "at_least_one_exists"),
        operator: or(element.attribute("state_operator"), "AND"),
        object: element.attribute_of("object", "object_ref").to_owned(),
        states: states.collect(),
    }
}

fn described(element: Element) -> Described {
    let entity = |e: &Element| Entity {
        name: e.name.clone(),
        operation: or(e.attribute("operation"), "equals"),
        text: e.text.clone(),
        variable: e.attribute("var_ref").to_owned(),
    };
    Described {
        comment: element.attribute("comment").to_owned(),
        operator: or(element.attribute("operator"), "AND"),
        // How a file is looked at makes no difference to what is asked of it.
        entities: element.children.iter().filter(|e| e.name != "behaviors").map(entity).collect(),
    }
}
