//! The Debian security tracker's own text: `data/CVE/list`, `data/DSA/list`, `data/DLA/list`, as people edit it. Format:
//! <https://security-team.debian.org/security_tracker.html>, "Summary of tracker syntax".
//!
//! ```text
//! CVE-2024-21096 (Vulnerability in the MySQL Server product ...)
//!     {DLA-3891-1}
//!     - mariadb 1:10.11.8-1 (low; bug #1069189)
//!     [bookworm] - mariadb 1:10.11.11-0+deb12u1
//!     - mariadb-10.5 <removed>
//!     [bullseye] - mariadb-10.5 <no-dsa> (Minor issue)
//!     NOTE: Fixed in 11.2.4
//! [18 Sep 2024] DLA-3891-1 mariadb-10.5 - security update
//!     {CVE-2024-21096}
//!     [bullseye] - mariadb-10.5 1:10.5.26-0+deb11u2
//! ```
//!
//! An entry is a line at the margin with the indented lines below it. [`parse`] reads one file; [`resolve()`] makes statements
//! of the three together: a line without a release speaks of unstable, and of every release without a line of its own.

use super::document::Document;
use super::{Feed, FeedError, MAX_VERSION, Parsed, check_package, check_vulnerability, clean_text};
use fettle_core::version::deb;
use jiff::civil::Date;

mod resolve;
mod temporary;

pub use resolve::{EVIDENCE, Lists, RELEASES, Resolved, resolve};

/// At most that many indented lines of one entry are read. The longest in use has about 200.
const MAX_LINES: usize = 20_000;

/// Which of the three files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    /// `data/CVE/list`: one entry for each vulnerability.
    Cve,
    /// `data/DSA/list`: one entry for each advisory of the security team. Testing's old ones (DTSA) read alike.
    Dsa,
    /// `data/DLA/list`: one entry for each advisory for releases in long-term support.
    Dla,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// `CVE-2024-21096`, `DLA-3891-1`; for a vulnerability without a number yet (`CVE-2023-XXXX`) the tracker's own name for
    /// it, `TEMP-0000000-A2EB44`.
    pub id: String,
    /// Day of an advisory.
    pub date: Option<Date>,
    /// What stands behind the name: a description in brackets, or package and kind of an advisory.
    pub title: &'a str,
    /// What is said of the entry as a whole.
    pub fate: Fate<'a>,
    /// `{DLA-3891-1}`: entries of the other files that are about the same.
    pub references: Vec<&'a str>,
    /// Lines about packages.
    pub notes: Vec<Note<'a>>,
    /// `NOTE:` lines.
    pub remarks: Vec<&'a str>,
    /// `TODO:` lines: what nobody has looked into yet.
    pub todo: Vec<&'a str>,
}

/// What is said of a vulnerability as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate<'a> {
    /// Nothing: its lines speak.
    Tracked,
    /// `RESERVED`: the number is given out, what it is for is not public.
    Reserved,
    /// `REJECTED`: the number is void.
    Rejected,
    /// `NOT-FOR-US: Safari`: no package of Debian.
    NotForUs(&'a str),
}

/// One line about one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'a> {
    /// `[bookworm]`; `None` speaks of unstable.
    pub release: Option<&'a str>,
    /// Source package.
    pub package: &'a str,
    /// What it says.
    pub mark: Mark<'a>,
    /// `unimportant`, `low`, `medium`, `high`, or empty.
    pub urgency: &'a str,
    /// Numbers in Debian's bug tracker.
    pub bugs: Vec<u32>,
    /// The rest of what stands in parentheses.
    pub why: String,
}

/// What a line says of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark<'a> {
    /// Fixed from this version on.
    Fixed(&'a str),
    /// `<unfixed>`.
    Unfixed,
    /// `<removed>`: not in unstable any more, and affected where it still is.
    Removed,
    /// `<not-affected>`.
    NotAffected,
    /// `<undetermined>`.
    Undetermined,
    /// `<no-dsa>`: affected, and no advisory is planned.
    NoDsa,
    /// `<postponed>`: affected, a later advisory will bring it.
    Postponed,
    /// `<ignored>`: affected, and left so.
    Ignored,
    /// `<end-of-life>`: affected, and not supported any more.
    EndOfLife,
    /// `<itp>`: not in Debian yet.
    Itp,
}

impl Mark<'_> {
    /// The tag, as the file writes it; empty for a version.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fixed(_) => "",
            Self::Unfixed => "<unfixed>",
            Self::Removed => "<removed>",
            Self::NotAffected => "<not-affected>",
            Self::Undetermined => "<undetermined>",
            Self::NoDsa => "<no-dsa>",
            Self::Postponed => "<postponed>",
            Self::Ignored => "<ignored>",
            Self::EndOfLife => "<end-of-life>",
            Self::Itp => "<itp>",
        }
    }

    fn read(text: &str) -> Result<Mark<'_>, String> {
        if !text.starts_with('<') {
            if text.len() > MAX_VERSION {
                return Err(format!(
                    "the version has {} bytes, more than {MAX_VERSION}",
                    text.len()
                ));
            }
            deb::Version::parse(text).map_err(|e| e.to_string())?;
            return Ok(Mark::Fixed(text));
        }
        let tags = [
            Mark::Unfixed,
            Mark::Removed,
            Mark::NotAffected,
            Mark::Undetermined,
            Mark::NoDsa,
            Mark::Postponed,
            Mark::Ignored,
            Mark::EndOfLife,
            Mark::Itp,
        ];
        tags.into_iter().find(|tag| tag.word() == text).ok_or_else(|| {
            let known = tags.map(Mark::word).join(", ");
            format!("unknown tag {}: expected a version, or one of {known}", clean_text(text))
        })
    }
}

/// Parses one of the files. A record is an entry; an indented line that cannot be read is named and left out, the rest of
/// its entry counts.
///
/// # Errors
/// [`FeedError`] where the document is empty, not text, cut off, or holds nothing usable.
pub fn parse(list: List, bytes: &[u8]) -> Result<Parsed<Entry<'_>>, FeedError> {
    let mut document = Document::open(Feed::DebianList(list), bytes)?;
    let mut current: Option<Entry<'_>> = None;
    let mut lines = 0;
    for line in document.lines()? {
        if line.trim().is_empty() || line.starts_with('#') || is_claim(line) {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            lines += 1;
            let Some(entry) = &mut current else {
                document.reject(line, || line.trim().to_owned(), "it stands below no entry");
                continue;
            };
            let read = if lines > MAX_LINES {
                Err(format!("the entry has more than {MAX_LINES} lines"))
            } else {
                entry.take(line.trim())
            };
            if let Err(what) = read {
                let id = entry.id.clone();
                document.reject(line, || format!("{id} {}", line.trim()), what);
            }
            continue;
        }
        if let Some(entry) = current.take() {
            document.keep(entry.named());
        }
        lines = 0;
        match header(list, line) {
            Ok(entry) => current = Some(entry),
            Err(what) => document.reject(line, || line.chars().take(60).collect(), what),
        }
    }
    if let Some(entry) = current {
        document.keep(entry.named());
    }
    document.close()
}

/// Lines by which the tracker's editors tell each other who works on what.
fn is_claim(line: &str) -> bool {
    line.starts_with("begin claimed by") || line.starts_with("end claimed by")
}

/// What stands for a number that is not given out yet.
const NO_NUMBER: &str = "-XXXX";

fn header(list: List, line: &str) -> Result<Entry<'_>, String> {
    let (id, title, date) = match list {
        List::Cve => {
            let (id, title) = line.split_once(' ').unwrap_or((line, ""));
            check_vulnerability(id)?;
            if !id.starts_with("CVE-") {
                return Err("an entry of this list begins with `CVE-`".to_owned());
            }
            (id, title.trim(), None)
        }
        List::Dsa | List::Dla => {
            let (date, rest) = line
                .strip_prefix('[')
                .and_then(|l| l.split_once("] "))
                .ok_or("an entry of this list begins with its day in brackets")?;
            let (id, title) = rest.split_once(' ').unwrap_or((rest, ""));
            check_vulnerability(id)?;
            if !["DSA-", "DLA-", "DTSA-"].iter().any(|kind| id.starts_with(kind)) {
                return Err("an entry of this list is named DSA-, DLA- or DTSA-".to_owned());
            }
            (id, title.trim(), Some(day(date)?))
        }
    };
    Ok(Entry {
        id: id.to_owned(),
        date,
        title,
        fate: Fate::Tracked,
        references: Vec::new(),
        notes: Vec::new(),
        remarks: Vec::new(),
        todo: Vec::new(),
    })
}

/// `21 Aug 2026`, and as it was written once: `August 26th, 2005`.
fn day(text: &str) -> Result<Date, String> {
    let bad = || format!("{:?} is no day such as `21 Aug 2026`", clean_text(text));
    let words: Vec<&str> = text.split([' ', ',']).filter(|w| !w.is_empty()).collect();
    let [first, second, year] = words[..] else { return Err(bad()) };
    let (day, month) = if first.starts_with(|c: char| c.is_ascii_digit()) {
        (first, second)
    } else {
        (second, first)
    };
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let month = month.get(..3).ok_or_else(bad)?;
    let month = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(month)).ok_or_else(bad)?;
    let day = day.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number = |text: &str| text.parse::<i16>().map_err(|_| bad());
    let day = i8::try_from(number(day)?).map_err(|_| bad())?;
    Date::new(number(year)?, month as i8 + 1, day).map_err(|_| bad())
}

impl<'a> Entry<'a> {
    /// Takes one indented line.
    fn take(&mut self, line: &'a str) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix('{') {
            let inner = rest.strip_suffix('}').ok_or("the list of references has no end")?;
            for reference in inner.split_ascii_whitespace() {
                check_vulnerability(reference)?;
                self.references.push(reference);
            }
            return Ok(());
        }
        if line == "RESERVED" {
            self.fate = Fate::Reserved;
        } else if line == "REJECTED" {
            self.fate = Fate::Rejected;
        } else if let Some(what) = line.strip_prefix("NOT-FOR-US:") {
            self.fate = Fate::NotForUs(what.trim());
        } else if let Some(remark) = line.strip_prefix("NOTE:") {
            self.remarks.push(remark.trim());
        } else if let Some(todo) = line.strip_prefix("TODO:") {
            self.todo.push(todo.trim());
        } else {
            self.notes.push(note(line)?);
        }
        Ok(())
    }

    /// With the tracker's name where it has no number.
    fn named(mut self) -> Self {
        if self.id.ends_with(NO_NUMBER) {
            let bug = self.notes.iter().find_map(|n| n.bugs.first()).copied().unwrap_or(0);
            let what = self.title.trim_start_matches(['[', '(']).trim_end_matches([']', ')']);
            self.id = temporary::name(bug, what);
        }
        self
    }
}

/// `[bookworm] - mariadb 1:10.11.11-0+deb12u1 (low; bug #1)`.
fn note(line: &str) -> Result<Note<'_>, String> {
    let expected = "expected `- PACKAGE VERSION`, `- PACKAGE <TAG>`, `[RELEASE] - ...`, `{REFERENCES}`, NOTE:, TODO:, \
                    NOT-FOR-US:, RESERVED or REJECTED";
    let (release, rest) = match line.strip_prefix('[') {
        None => (None, line),
        Some(rest) => {
            let (release, rest) = rest.split_once(']').ok_or(expected)?;
            check_package("release", release)?;
            (Some(release), rest.trim_start())
        }
    };
    let rest = rest.strip_prefix("- ").ok_or(expected)?.trim_start();
    let (package, rest) = rest.split_once([' ', '\t']).ok_or(expected)?;
    check_package("source package", package)?;
    let rest = rest.trim();
    let (mark, detail) = match rest.split_once([' ', '\t', '(']) {
        None => (rest, ""),
        Some((mark, _)) => (mark, rest[mark.len()..].trim()),
    };
    let mark = Mark::read(mark)?;
    let mut note =
        Note { release, package, mark, urgency: "", bugs: Vec::new(), why: String::new() };
    if detail.is_empty() {
        return Ok(note);
    }
    let inner = detail.strip_prefix('(').and_then(|d| d.strip_suffix(')'));
    let inner = inner.ok_or("what follows the version or tag stands in parentheses")?;
    let mut why = Vec::new();
    for part in inner.split(';').map(str::trim) {
        match part {
            "unimportant" | "low" | "medium" | "high" => note.urgency = part,
            "" | "bug filed" => {}
            _ => match part.strip_prefix("bug #").map(str::parse::<u32>) {
                Some(Ok(bug)) => note.bugs.push(bug),
                _ => why.push(part),
            },
        }
    }
    note.why = clean_text(&why.join("; "));
    Ok(note)
}

#[cfg(test)]
mod tests;
