//! One test, as the question that it asks of a host.

use super::OvalVendor;
use super::parts::{Described, Entity, Parts, Test};
use super::release::{self, Product};
use std::collections::BTreeSet;

/// What a host must answer with yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// Every host that is judged by these data does.
    Always,
    /// None does.
    Never,
    /// Does it run this release ([`crate::exposure::release_name`])?
    Release(String),
    /// Has it a product that no host here is of?
    OtherProduct,
    /// Is one of these packages installed, in a version like this?
    Package(PackageTest),
    /// Is none of these installed?
    Missing(Vec<String>),
    /// Is it of one of these architectures?
    Arch(BTreeSet<String>),
    /// Is this stream of a module enabled: `nodejs:18`?
    Module(String),
    /// Are these packages the vendor's own, by their signature? It goes without saying: what a host has of another
    /// vendor under the same name is not told apart anywhere here.
    Signed,
    /// Which kernel runs, or will after a reboot? That is judged by what the host says of its kernel, not by this.
    Kernel,
    /// Something that cannot be asked here, and why.
    Unknown(String),
}

/// A test of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackageTest {
    /// Installed packages, by any of these names.
    pub(super) names: Vec<String>,
    pub(super) condition: Condition,
    /// Only of these architectures.
    pub(super) archs: Option<BTreeSet<String>>,
    /// The source package that they are built from, where the document names it.
    pub(super) source: Option<String>,
    /// Id of the test.
    pub(super) id: String,
    /// The criterion's own words.
    pub(super) comment: String,
}

/// What is asked of an installed package's version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    /// Something that no version is.
    Never,
    /// Lower than this one.
    Below(String),
    /// Nothing.
    Installed,
}

impl Question {
    /// The question whose answer is the opposite.
    pub(super) fn negated(self) -> Self {
        match self {
            Self::Always => Self::Never,
            Self::Never => Self::Always,
            Self::Missing(names) => Self::Package(PackageTest {
                names,
                condition: Condition::Installed,
                archs: None,
                source: None,
                id: String::new(),
                comment: String::new(),
            }),
            Self::Package(PackageTest {
                names,
                condition: Condition::Installed,
                archs: None,
                ..
            }) => Self::Missing(names),
            Self::Unknown(what) => Self::Unknown(what),
            _ => Self::Unknown("a question that is turned around".to_owned()),
        }
    }
}

/// What a test asks.
pub(super) fn question(vendor: OvalVendor, parts: &Parts, id: &str, comment: &str) -> Question {
    let Some(test) = parts.tests.get(id) else {
        return Question::Unknown(format!("there is no test {id}"));
    };
    let asker = Asker { vendor, parts, test, id, comment };
    asker.ask().unwrap_or_else(|what| {
        let shown = if comment.is_empty() { &test.comment } else { comment };
        Question::Unknown(format!("{shown:?} ({id}): {what}"))
    })
}

struct Asker<'p> {
    vendor: OvalVendor,
    parts: &'p Parts,
    test: &'p Test,
    id: &'p str,
    comment: &'p str,
}

impl Asker<'_> {
    fn ask(&self) -> Result<Question, String> {
        match self.test.kind.as_str() {
            // `unix`, which every host is.
            "family_test" => Ok(Question::Always),
            "rpminfo_test" | "dpkginfo_test" => self.package(),
            "rpmverifyfile_test" => self.verified(),
            "textfilecontent54_test" => self.file(),
            "uname_test" => self.uname(),
            other => Err(format!("a `{other}` is not read")),
        }
    }

    fn object(&self) -> Result<&Described, String> {
        let id = &self.test.object;
        self.parts.objects.get(id).ok_or_else(|| format!("there is no object {id}"))
    }

    /// What the state asks; nothing where there is none.
    fn entities(&self) -> Result<Vec<&Entity>, String> {
        let mut all = Vec::new();
        for id in &self.test.states {
            let state =
                self.parts.states.get(id).ok_or_else(|| format!("there is no state {id}"))?;
            all.extend(&state.entities);
            if state.operator != "AND" && state.entities.len() > 1 {
                return Err(format!("its state has the operator {}", state.operator));
            }
        }
        if self.test.operator != "AND" && self.test.states.len() > 1 {
            return Err(format!("its states have the operator {}", self.test.operator));
        }
        if let Some(by) = all.iter().find(|e| !e.variable.is_empty()) {
            return Err(format!("its `{}` stands in variable {}", by.name, by.variable));
        }
        Ok(all)
    }

    /// Must something be there that is so?
    fn is_positive(&self) -> Result<(), String> {
        let (check, existence) = (self.test.check.as_str(), self.test.existence.as_str());
        // Of one package there is one version, but for rpm's kernels, of which none says `all`.
        if !["at least one", "all", "only one"].contains(&check) {
            return Err(format!("check {check:?} is not read"));
        }
        if !["at_least_one_exists", "all_exist", "only_one_exists"].contains(&existence) {
            return Err(format!("check_existence {existence:?} is not read"));
        }
        Ok(())
    }

    fn package(&self) -> Result<Question, String> {
        let object = self.object()?;
        let names = self.names(object)?;
        if self.test.existence == "none_exist" && self.test.states.is_empty() {
            return Ok(Question::Missing(names));
        }
        self.is_positive()?;
        let entities = self.entities()?;
        if let [name] = &names[..]
            && let Some(product) = release::of_package(self.vendor, name)
        {
            return self.of_product(product, &entities);
        }
        let (mut condition, mut archs, mut signed) = (Condition::Installed, None, false);
        for entity in &entities {
            match (entity.name.as_str(), entity.operation.as_str()) {
                ("evr", "less than") => condition = below(&entity.text),
                // How SUSE writes that a package is not affected.
                ("version", "equals") if entity.text == "0" => condition = Condition::Never,
                ("arch", "equals" | "pattern match") => archs = Some(alternatives(&entity.text)?),
                ("signature_keyid", _) => signed = true,
                (name, operation) => {
                    return Err(format!("`{name}` {operation} {:?} is not read", entity.text));
                }
            }
        }
        if signed && condition == Condition::Installed && archs.is_none() {
            return Ok(Question::Signed);
        }
        Ok(Question::Package(PackageTest {
            names,
            condition,
            archs,
            source: self.source(object),
            id: self.id.to_owned(),
            comment: self.comment.to_owned(),
        }))
    }

    /// A test of the package that a release is told by.
    fn of_product(&self, product: Product, entities: &[&Entity]) -> Result<Question, String> {
        let version = entities.iter().find(|e| ["version", "evr"].contains(&e.name.as_str()));
        if let (None, [arch]) = (version, entities)
            && arch.name == "arch"
        {
            return Ok(Question::Arch(alternatives(&arch.text)?));
        }
        let Product::Of(product) = product else { return Ok(Question::OtherProduct) };
        let version = version.ok_or("it tells no release")?;
        product.release(&version.operation, &version.text).map(Question::Release)
    }

    /// Whose package `/etc/redhat-release` is, or its like.
    fn verified(&self) -> Result<Question, String> {
        let path = self.object()?.text("filepath");
        if !path.starts_with("/etc/") || !path.ends_with("-release") {
            return Err(format!("the package of {path:?} tells no release"));
        }
        let entities = self.entities()?;
        let of = |name: &str| entities.iter().find(|e| e.name == name);
        let name = of("name").ok_or("it names no package")?.text.trim_start_matches('^');
        let product = release::of_package(self.vendor, name);
        if self.test.check == "none satisfy" {
            // "Red Hat Enterprise Linux must be installed": true where it is not, and it always is on these hosts.
            return match (product, of("version")) {
                (Some(Product::Of(_)), None) => Ok(Question::Never),
                _ => Err("it asks for what is not installed".to_owned()),
            };
        }
        self.is_positive()?;
        let Some(Product::Of(product)) = product else { return Ok(Question::OtherProduct) };
        let version = of("version").ok_or("it tells no release")?;
        product.release(&version.operation, &version.text).map(Question::Release)
    }

    fn uname(&self) -> Result<Question, String> {
        self.is_positive()?;
        match &self.entities()?[..] {
            [] => Ok(Question::Always),
            [entity] if entity.name == "machine" => Ok(Question::Arch(alternatives(&entity.text)?)),
            [entity] if entity.name == "os_release" => Ok(Question::Kernel),
            _ => Err("it asks more than one thing of `uname`".to_owned()),
        }
    }

    fn file(&self) -> Result<Question, String> {
        self.is_positive()?;
        let object = self.object()?;
        let path = match object.text("filepath") {
            "" => format!("{}/{}", object.text("path"), object.text("filename")),
            path => path.to_owned(),
        };
        if let Some(module) = path.strip_prefix("/etc/dnf/modules.d/") {
            let name = module.strip_suffix(".module").ok_or("it names no module")?;
            return self.module(name);
        }
        let entities = self.entities()?;
        match (path.as_str(), &entities[..]) {
            ("/etc/debian_version", [number]) if number.operation == "equals" => {
                release::of_debian(&number.text).map(Question::Release)
            }
            ("/etc/lsb-release", [codename]) if codename.operation == "equals" => {
                release::of_ubuntu_codename(&codename.text).map(Question::Release)
            }
            ("./manifest", entities) => self.manifest(object, entities),
            (path, _) if path.starts_with("/boot/grub2/") => Ok(Question::Kernel),
            _ => Err(format!("what stands in {path} is not read")),
        }
    }

    /// `\nstream\s*=\s*18\b[\w\W]*\nstate\s*=\s*(enabled|1|true)|…`
    fn module(&self, name: &str) -> Result<Question, String> {
        const BEFORE: &str = r"stream\s*=\s*";
        let entities = self.entities()?;
        let unread = || "it names no stream".to_owned();
        let [pattern] = &entities[..] else { return Err(unread()) };
        let (_, rest) = pattern.text.split_once(BEFORE).ok_or_else(unread)?;
        let (stream, _) = rest.split_once(r"\b").ok_or_else(unread)?;
        let stream = literal(stream).ok_or_else(unread)?;
        super::super::check_package("module", name)?;
        super::super::check_package("stream", &stream)?;
        // Each way to write it names the same one.
        let named = pattern.text.split(BEFORE).skip(1);
        let mut named = named.map(|rest| rest.split(r"\b").next().and_then(literal));
        if named.any(|other| other.as_ref() != Some(&stream)) {
            return Err("it names several streams".to_owned());
        }
        Ok(Question::Module(format!("{name}:{stream}")))
    }

    /// Ubuntu's data for images, whose packages stand in a file beside them: `^libssh-4(?::\w+|)\s+(.*)$`.
    fn manifest(&self, object: &Described, entities: &[&Entity]) -> Result<Question, String> {
        let pattern = object.entity("pattern").ok_or("it has no pattern")?;
        let values = self.parts.variables.get(&pattern.variable);
        let values = values.ok_or_else(|| format!("there is no variable {}", pattern.variable))?;
        let name = |value: &String| {
            let stem = value.strip_prefix('^')?.strip_suffix(r"(?::\w+|)\s+(.*)$")?;
            literal(stem)
        };
        let names = values.iter().map(|v| name(v).ok_or_else(|| format!("{v:?} names no package")));
        let names = checked(names.collect::<Result<_, _>>()?)?;
        let condition = match entities {
            [] => Condition::Installed,
            [version] if version.name == "subexpression" && version.operation == "less than" => {
                below(&version.text)
            }
            _ => return Err("its state is not read".to_owned()),
        };
        Ok(Question::Package(PackageTest {
            names,
            condition,
            archs: None,
            source: self.source(object),
            id: self.id.to_owned(),
            comment: self.comment.to_owned(),
        }))
    }

    /// The source package, where Ubuntu's comments name it: `The 'libssh' package binaries`.
    fn source(&self, object: &Described) -> Option<String> {
        if self.vendor != OvalVendor::Ubuntu {
            return None;
        }
        let (_, rest) = object.comment.split_once("The '")?;
        let (source, rest) = rest.split_once('\'')?;
        rest.starts_with(" package").then(|| source.to_owned())
    }

    /// The packages that an object is about.
    fn names(&self, object: &Described) -> Result<Vec<String>, String> {
        let [name] = &object.entities[..] else {
            return Err("its object is more than a name".to_owned());
        };
        if name.name != "name" {
            return Err(format!("its object is no name, but `{}`", name.name));
        }
        if !name.variable.is_empty() {
            let values = self.parts.variables.get(&name.variable);
            let values = values.ok_or_else(|| format!("there is no variable {}", name.variable))?;
            return checked(values.clone());
        }
        match name.operation.as_str() {
            "equals" => checked(vec![name.text.clone()]),
            "pattern match" => {
                let whole = name.text.strip_prefix('^').and_then(|rest| rest.strip_suffix('$'));
                let whole = whole.ok_or_else(|| format!("{:?} names no packages", name.text))?;
                checked(alternatives(whole)?.into_iter().collect())
            }
            other => Err(format!("names are not looked up by `{other}`")),
        }
    }
}

/// Names of packages, at least one.
fn checked(names: Vec<String>) -> Result<Vec<String>, String> {
    if names.is_empty() {
        return Err("it names no package".to_owned());
    }
    for name in &names {
        super::super::check_package("package", name)?;
    }
    Ok(names)
}

fn below(version: &str) -> Condition {
    match version.strip_prefix("0:").unwrap_or(version) {
        // How Debian writes that no version is affected.
        "0" => Condition::Never,
        version => Condition::Below(version.to_owned()),
    }
}

/// `x86_64|aarch64`, `(?:a|b)`, one word.
fn alternatives(pattern: &str) -> Result<BTreeSet<String>, String> {
    let inner = pattern
        .strip_prefix("(?:")
        .or_else(|| pattern.strip_prefix('('))
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or(pattern);
    let words = inner.split('|').map(literal).collect::<Option<BTreeSet<_>>>();
    words
        .filter(|words| words.iter().all(|w| !w.is_empty()))
        .ok_or_else(|| format!("the pattern {pattern:?} is not read"))
}

/// The one text that a regular expression matches; `None` where it is more than that. A point is taken for a point: nobody
/// escapes them in the names of packages.
fn literal(pattern: &str) -> Option<String> {
    let mut text = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next().filter(char::is_ascii_punctuation)?),
            // `libstdc++6` is written as it is, too.
            c if c.is_ascii_alphanumeric() || "-_.:+~".contains(c) => text.push(c),
            _ => return None,
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_read_where_it_is_a_list_of_words() {
        let of = |pattern| alternatives(pattern).map(|w| w.into_iter().collect::<Vec<_>>()).ok();
        assert_eq!(of("x86_64|aarch64"), Some(vec!["aarch64".to_owned(), "x86_64".to_owned()]));
        assert_eq!(of("(?:a|b\\.c)"), Some(vec!["a".to_owned(), "b.c".to_owned()]));
        assert_eq!(of("i.86"), Some(vec!["i.86".to_owned()]));
        for odd in ["", "a|", "lib.*", "[ab]", "a\\d", "(a|b)c", "a?", "\\"] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }

    #[test]
    fn turned_around_twice_is_as_before_and_what_has_no_opposite_here_is_unknown() {
        let missing = Question::Missing(vec!["a".to_owned()]);
        assert_eq!(missing.clone().negated().negated(), missing);
        assert_eq!(Question::Always.negated(), Question::Never);
        for none in [Question::Release("rhel:9".into()), Question::Signed, Question::Kernel] {
            assert!(matches!(none.negated(), Question::Unknown(_)));
        }
    }
}
