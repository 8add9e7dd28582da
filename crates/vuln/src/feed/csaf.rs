//! The Common Security Advisory Framework, version 2.0 (<https://docs.oasis-open.org/csaf/csaf/v2.0/>): the parts of a
//! document that say which product is affected by what, and the standard's own tests (section 6.1) of these parts.

use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

mod check;
pub mod redhat;

pub use check::{Broken, check};

/// Deepest nesting of branches that is read. The standard's own examples have 4.
const MAX_DEPTH: usize = 32;

/// A text of the document.
pub type Text<'a> = Cow<'a, str>;

/// A document.
#[derive(Debug, Clone, Deserialize)]
pub struct Document<'a> {
    /// What the document is.
    #[serde(borrow)]
    pub document: Head<'a>,
    /// The products it speaks of.
    #[serde(borrow, default)]
    pub product_tree: ProductTree<'a>,
    /// What it says of them.
    #[serde(borrow, default)]
    pub vulnerabilities: Vec<Vulnerability<'a>>,
}

/// What a document is, and whose.
#[derive(Debug, Clone, Deserialize)]
pub struct Head<'a> {
    /// The profile: `csaf_vex`, `csaf_security_advisory`.
    #[serde(borrow)]
    pub category: Text<'a>,
    /// Who publishes it.
    #[serde(borrow)]
    pub publisher: Publisher<'a>,
    /// Name and days.
    #[serde(borrow)]
    pub tracking: Tracking<'a>,
    /// The vendor's word for how bad it is.
    #[serde(borrow)]
    pub aggregate_severity: Option<AggregateSeverity<'a>>,
}

/// Who publishes a document.
#[derive(Debug, Clone, Deserialize)]
pub struct Publisher<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Text<'a>,
}

/// The vendor's word for how bad a document's matter is.
#[derive(Debug, Clone, Deserialize)]
pub struct AggregateSeverity<'a> {
    /// `Important`.
    #[serde(borrow)]
    pub text: Text<'a>,
}

/// Name and days of a document.
#[derive(Debug, Clone, Deserialize)]
pub struct Tracking<'a> {
    /// `RHSA-2023:0016`.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// Last change.
    #[serde(borrow)]
    pub current_release_date: Text<'a>,
    /// First publication.
    #[serde(borrow)]
    pub initial_release_date: Text<'a>,
}

/// The products of a document.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ProductTree<'a> {
    /// By vendor, family, name, version.
    #[serde(borrow, default)]
    pub branches: Vec<Branch<'a>>,
    /// Without any order.
    #[serde(borrow, default)]
    pub full_product_names: Vec<Product<'a>>,
    /// Several under one name.
    #[serde(borrow, default)]
    pub product_groups: Vec<Group<'a>>,
    /// One as part of another.
    #[serde(borrow, default)]
    pub relationships: Vec<Relationship<'a>>,
}

/// One level of the product tree.
#[derive(Debug, Clone, Deserialize)]
pub struct Branch<'a> {
    /// `vendor`, `product_name`, `product_version`, `architecture`, …
    #[serde(borrow)]
    pub category: Text<'a>,
    /// Its name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// The product that stands here.
    #[serde(borrow)]
    pub product: Option<Product<'a>>,
    /// What is below.
    #[serde(borrow, default)]
    pub branches: Vec<Branch<'a>>,
}

/// A product.
#[derive(Debug, Clone, Deserialize)]
pub struct Product<'a> {
    /// How the document calls it.
    #[serde(borrow)]
    pub product_id: Text<'a>,
    /// How people call it.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// How programs call it.
    #[serde(borrow)]
    pub product_identification_helper: Option<Helper<'a>>,
}

/// Names of a product for programs.
#[derive(Debug, Clone, Deserialize)]
pub struct Helper<'a> {
    /// Package URL.
    #[serde(borrow)]
    pub purl: Option<Text<'a>>,
    /// Common Platform Enumeration.
    #[serde(borrow)]
    pub cpe: Option<Text<'a>>,
}

/// Products under one name.
#[derive(Debug, Clone, Deserialize)]
pub struct Group<'a> {
    /// Its name.
    #[serde(borrow)]
    pub group_id: Text<'a>,
    /// Its products.
    #[serde(borrow, default)]
    pub product_ids: Vec<Text<'a>>,
}

/// A product as part of another: a product of its own.
#[derive(Debug, Clone, Deserialize)]
pub struct Relationship<'a> {
    /// The product that both make.
    #[serde(borrow)]
    pub full_product_name: Product<'a>,
    /// The part.
    #[serde(borrow)]
    pub product_reference: Text<'a>,
    /// The whole.
    #[serde(borrow)]
    pub relates_to_product_reference: Text<'a>,
}

/// What is said of one vulnerability.
#[derive(Debug, Clone, Deserialize)]
pub struct Vulnerability<'a> {
    /// Its number.
    #[serde(borrow)]
    pub cve: Option<Text<'a>>,
    /// Other names.
    #[serde(borrow, default)]
    pub ids: Vec<Id<'a>>,
    /// Which products are affected, and which are not.
    #[serde(borrow)]
    pub product_status: Option<BTreeMap<Text<'a>, Vec<Text<'a>>>>,
    /// Why products are not affected, in the standard's words.
    #[serde(borrow, default)]
    pub flags: Vec<About<'a>>,
    /// Why products are (not) affected, how bad it is, and what is known of exploits.
    #[serde(borrow, default)]
    pub threats: Vec<About<'a>>,
    /// What to do.
    #[serde(borrow, default)]
    pub remediations: Vec<About<'a>>,
    /// Scores.
    #[serde(borrow, default)]
    pub scores: Vec<Score<'a>>,
    /// Free text.
    #[serde(borrow, default)]
    pub notes: Vec<Note<'a>>,
}

/// Another name of a vulnerability.
#[derive(Debug, Clone, Deserialize)]
pub struct Id<'a> {
    /// The name.
    #[serde(borrow)]
    pub text: Text<'a>,
}

/// Free text.
#[derive(Debug, Clone, Deserialize)]
pub struct Note<'a> {
    /// Its title.
    #[serde(borrow)]
    pub title: Option<Text<'a>>,
    /// The text.
    #[serde(borrow)]
    pub text: Text<'a>,
}

/// A flag, a threat or a remediation, and the products it is about.
#[derive(Debug, Clone, Deserialize)]
pub struct About<'a> {
    /// Of a flag: `component_not_present`.
    #[serde(borrow)]
    pub label: Option<Text<'a>>,
    /// Of a threat or remediation: `impact`, `vendor_fix`.
    #[serde(borrow)]
    pub category: Option<Text<'a>>,
    /// In words.
    #[serde(borrow)]
    pub details: Option<Text<'a>>,
    /// Products.
    #[serde(borrow, default)]
    pub product_ids: Vec<Text<'a>>,
    /// Groups of products.
    #[serde(borrow, default)]
    pub group_ids: Vec<Text<'a>>,
}

/// A score and the products it is about.
#[derive(Debug, Clone, Deserialize)]
pub struct Score<'a> {
    /// CVSS version 3.
    #[serde(borrow)]
    pub cvss_v3: Option<Cvss<'a>>,
    /// Products.
    #[serde(borrow, default)]
    pub products: Vec<Text<'a>>,
}

/// A CVSS score.
#[derive(Debug, Clone, Deserialize)]
pub struct Cvss<'a> {
    /// The vector.
    #[serde(borrow, rename = "vectorString")]
    pub vector: Text<'a>,
    /// The base score.
    #[serde(rename = "baseScore")]
    pub score: f32,
}

/// A product with its place in the tree.
#[derive(Debug, Clone)]
pub struct Placed<'d, 'a> {
    /// The product.
    pub product: &'d Product<'a>,
    /// Category and name of each branch above it, outermost first.
    pub path: Vec<(&'d str, &'d str)>,
}

impl Placed<'_, '_> {
    /// Name of the nearest branch of a category.
    pub fn branch(&self, category: &str) -> Option<&str> {
        self.path.iter().rev().find(|(c, _)| *c == category).map(|(_, name)| *name)
    }
}

impl<'a> Document<'a> {
    /// All products of branches and lists, those made by relationships not among them.
    ///
    /// # Errors
    /// Where branches nest too deep.
    pub fn products(&self) -> Result<Vec<Placed<'_, 'a>>, String> {
        fn walk<'d, 'a>(
            branch: &'d Branch<'a>,
            above: &[(&'d str, &'d str)],
            found: &mut Vec<Placed<'d, 'a>>,
        ) -> Result<(), String> {
            if above.len() >= MAX_DEPTH {
                return Err(format!("branches nest deeper than {MAX_DEPTH}"));
            }
            let mut path = above.to_vec();
            path.push((&branch.category, &branch.name));
            if let Some(product) = &branch.product {
                found.push(Placed { product, path: path.clone() });
            }
            branch.branches.iter().try_for_each(|b| walk(b, &path, found))
        }
        let mut found = Vec::new();
        for branch in &self.product_tree.branches {
            walk(branch, &[], &mut found)?;
        }
        let plain = self.product_tree.full_product_names.iter();
        found.extend(plain.map(|product| Placed { product, path: Vec::new() }));
        Ok(found)
    }

    /// The products that a flag, threat or remediation is about, groups taken apart.
    pub fn about<'d>(&'d self, about: &'d About<'a>) -> impl Iterator<Item = &'d str> {
        let groups = about.group_ids.iter().flat_map(move |id| {
            let groups = self.product_tree.product_groups.iter().filter(move |g| g.group_id == *id);
            groups.flat_map(|g| &g.product_ids)
        });
        about.product_ids.iter().chain(groups).map(AsRef::as_ref)
    }
}
