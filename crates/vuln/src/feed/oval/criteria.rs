//! The tree of criteria of a definition, turned into the ways in which it can be true: each a list of questions that must
//! all be answered with yes.

use super::super::xml::Element;
use super::OvalVendor;
use super::parts::Parts;
use super::question::{Question, question};
use std::cell::Cell;
use std::collections::BTreeSet;

/// More ways are not made of one definition. The widest in use, a kernel of SUSE for all its products, has about 3,000.
const MAX_WAYS: usize = 50_000;
/// More questions are not asked in all ways of one definition together.
const MAX_QUESTIONS: usize = 1_000_000;
/// Deepest nesting of definitions that extend others.
const MAX_EXTENDED: usize = 4;

/// A way in which a definition can be true.
pub(super) type Way = Vec<Question>;

/// The ways in which criteria can be true; none where they never are.
///
/// # Errors
/// Where there are too many.
pub(super) fn ways(
    vendor: OvalVendor,
    parts: &Parts,
    criteria: &Element,
) -> Result<Vec<Way>, String> {
    Reader { vendor, parts, seen: Cell::new(0) }.node(criteria, false, 0)
}

/// Is one of these tests asked in this way, or something that cannot be read?
pub(super) fn asks(way: &Way, tests: &BTreeSet<String>) -> bool {
    way.iter().any(|question| match question {
        Question::Package(test) => tests.contains(&test.id),
        Question::Unknown(_) => true,
        _ => false,
    })
}

struct Reader<'p> {
    vendor: OvalVendor,
    parts: &'p Parts,
    /// Nodes so far, those of extended definitions each time anew.
    seen: Cell<usize>,
}

impl Reader<'_> {
    /// One node; `negated` where everything around it turns it around.
    fn node(&self, node: &Element, negated: bool, extended: usize) -> Result<Vec<Way>, String> {
        self.seen.set(self.seen.get() + 1);
        bounded(0, self.seen.get())?;
        let negated = negated != matches!(node.attribute("negate"), "true" | "1");
        match node.name.as_str() {
            "criterion" => {
                let (id, comment) = (node.attribute("test_ref"), node.attribute("comment"));
                let asked = question(self.vendor, self.parts, id, comment);
                Ok(one(if negated { asked.negated() } else { asked }))
            }
            "extend_definition" => {
                let id = node.attribute("definition_ref");
                match self.parts.inventories.get(id) {
                    Some(criteria) if extended < MAX_EXTENDED => {
                        self.node(criteria, negated, extended + 1)
                    }
                    _ => Ok(one(Question::Unknown(format!(
                        "it extends definition {id}, which is none of what is installed"
                    )))),
                }
            }
            "criteria" => self.criteria(node, negated, extended),
            other => Ok(one(Question::Unknown(format!("`{other}` is no criterion")))),
        }
    }

    fn criteria(&self, node: &Element, negated: bool, extended: usize) -> Result<Vec<Way>, String> {
        let operator = node.attribute("operator");
        let all = match operator {
            "" | "AND" => true,
            "OR" => false,
            // Of a single one all of them say the same.
            "ONE" | "XOR" if node.children.len() == 1 => true,
            other => {
                return Ok(one(Question::Unknown(format!("the operator {other} is not read"))));
            }
        };
        if node.children.is_empty() {
            return Ok(one(Question::Unknown("criteria without any criterion".to_owned())));
        }
        // De Morgan: not all of them is one of them not.
        if all != negated {
            self.all(node, negated, extended)
        } else {
            self.any(node, negated, extended)
        }
    }

    fn any(&self, node: &Element, negated: bool, extended: usize) -> Result<Vec<Way>, String> {
        let mut ways: Vec<Way> = Vec::new();
        let mut asked = 0;
        for child in &node.children {
            let more = self.node(child, negated, extended)?;
            asked += questions(&more);
            ways.extend(more);
            bounded(ways.len(), asked)?;
        }
        // True whatever the rest is.
        Ok(if ways.iter().any(Vec::is_empty) { vec![Way::new()] } else { ways })
    }

    fn all(&self, node: &Element, negated: bool, extended: usize) -> Result<Vec<Way>, String> {
        let mut ways = vec![Way::new()];
        let mut asked = 0_usize;
        for child in &node.children {
            let more = self.node(child, negated, extended)?;
            asked = asked.saturating_mul(more.len());
            asked = asked.saturating_add(ways.len().saturating_mul(questions(&more)));
            bounded(ways.len().saturating_mul(more.len()), asked)?;
            ways = match &more[..] {
                // Most often: nothing is copied.
                [only] => {
                    ways.iter_mut().for_each(|way| way.extend(only.iter().cloned()));
                    ways
                }
                several => {
                    let with = |way: &Way| {
                        let longer = |end: &Way| way.iter().chain(end).cloned().collect::<Way>();
                        several.iter().map(longer).collect::<Vec<_>>()
                    };
                    ways.iter().flat_map(with).collect()
                }
            };
        }
        Ok(ways)
    }
}

fn questions(ways: &[Way]) -> usize {
    ways.iter().map(Vec::len).sum()
}

fn bounded(ways: usize, questions: usize) -> Result<(), String> {
    if ways > MAX_WAYS || questions > MAX_QUESTIONS {
        return Err(format!(
            "its criteria can be true in more than {MAX_WAYS} ways, or of {MAX_QUESTIONS} questions"
        ));
    }
    Ok(())
}

/// The ways in which one question is answered with yes.
fn one(question: Question) -> Vec<Way> {
    match question {
        Question::Always => vec![Way::new()],
        Question::Never => Vec::new(),
        question => vec![vec![question]],
    }
}
