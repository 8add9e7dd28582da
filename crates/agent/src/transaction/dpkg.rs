//! The package database, asked by its own tools: `dpkg-query(1)`, `dpkg(1)`. Never judged by an exit code alone.

use crate::command::{self, Output, command};
use fettle_core::assignment::ConffileRule;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A dpkg that changes packages: asks nothing, restarts nothing, and follows the order's rule for configuration files.
/// What it is to do is for the caller to add.
pub(crate) fn changing(rule: ConffileRule) -> Command {
    let conffiles = match rule {
        ConffileRule::Keep => "--force-confold",
        ConffileRule::Replace => "--force-confnew",
    };
    let mut dpkg = command("dpkg");
    dpkg.args(["--force-confdef", conffiles]);
    dpkg.env("DEBIAN_FRONTEND", "noninteractive").env("NEEDRESTART_MODE", "l");
    dpkg
}

/// So often archives are installed that were not at their versions before.
const TURNS: usize = 4;

/// Has `dpkg` (with its options, without an action) install archives, as often as it brings more of them to their
/// versions: dpkg unpacks them in the order in which they are named, and refuses one that needs another of them
/// configured first (`Pre-Depends`; libpam-modules and libpam-modules-bin do). `run` runs it. Gives how the last turn
/// ended.
///
/// # Errors
/// When dpkg cannot be run.
pub(crate) fn install<E>(
    dpkg: impl Fn() -> Command,
    archives: &[PathBuf],
    mut run: impl FnMut(&mut Command) -> Result<Output, E>,
    unanswered: impl FnOnce(io::Error) -> E + Copy,
) -> Result<Output, E> {
    let mut left: Vec<&PathBuf> = archives.iter().collect();
    let mut turn = 0;
    loop {
        turn += 1;
        let output = run(dpkg().arg("--install").args(&left))?;
        let named: Vec<_> = left.iter().filter_map(|path| of_archive(path)).collect();
        let names: Vec<_> = named.iter().map(|(name, _)| name.clone()).collect();
        let now = versions(&names).map_err(unanswered)?;
        let is_missing = |path: &&PathBuf| {
            of_archive(path).is_some_and(|(name, version)| now.get(&name) != Some(&version))
        };
        let missing: Vec<&PathBuf> = left.iter().copied().filter(is_missing).collect();
        let in_vain = missing.len() == left.len() || turn == TURNS || output.timed_out;
        if missing.is_empty() || in_vain {
            return Ok(output);
        }
        left = missing;
    }
}

/// `name:architecture` and version of an archive, by the name of its file.
fn of_archive(path: &Path) -> Option<(String, String)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".deb")?;
    let (rest, architecture) = name.rsplit_once('_')?;
    let (name, version) = rest.split_once('_')?;
    Some((format!("{name}:{architecture}"), version.replace("%3a", ":")))
}

/// Installed versions of these packages (`name` or `name:architecture`); those not wholly installed are left out.
///
/// # Errors
/// When `dpkg-query` cannot be run.
pub fn versions(names: &[String]) -> io::Result<BTreeMap<String, String>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let format = "${binary:Package} ${Architecture} ${db:Status-Abbrev}\t${Version}\n";
    let mut query = command("dpkg-query");
    let output = command::run(query.args(["-W", "-f", format, "--"]).args(names), None)?;
    let mut found = BTreeMap::new();
    for line in output.text.lines() {
        let Some((left, version)) = line.split_once('\t') else { continue };
        let mut words = left.split(' ');
        let (Some(package), Some(architecture), Some(status)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // Second letter: `i` installed; third: a fault.
        if status.chars().nth(1) == Some('i') && status.chars().nth(2).is_none_or(|c| c == ' ') {
            let bare = package.split(':').next().unwrap_or(package);
            found.insert(format!("{bare}:{architecture}"), version.to_owned());
        }
    }
    // As they were asked for.
    Ok(names
        .iter()
        .filter_map(|name| {
            let version = match name.split_once(':') {
                Some(_) => found.get(name),
                None => {
                    found.iter().find(|(k, _)| k.split(':').next() == Some(name)).map(|(_, v)| v)
                }
            };
            Some((name.clone(), version?.clone()))
        })
        .collect())
}

/// What `dpkg --audit` says: empty when every package is whole.
///
/// # Errors
/// When `dpkg` cannot be run.
pub fn audit() -> io::Result<String> {
    let output = command::run(command("dpkg").arg("--audit"), None)?;
    let text = output.text.trim().to_owned();
    Ok(match (text.is_empty(), output.success()) {
        (true, false) => format!("dpkg --audit ended with {}", output.ending()),
        _ => text,
    })
}

/// What `dpkg --verify` complains of: one line a file, changed configuration files (`c`) left out, sorted.
///
/// # Errors
/// When `dpkg` cannot be run.
pub fn verify(names: &[String]) -> io::Result<Vec<String>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let output = command::run(command("dpkg").args(["--verify", "--"]).args(names), None)?;
    let conffile =
        |line: &str| line.get(9..).is_some_and(|rest| rest.trim_start().starts_with("c "));
    let mut lines: Vec<String> = output
        .text
        .lines()
        .map(|l| l.trim_end().to_owned())
        .filter(|l| !l.is_empty() && !conffile(l))
        .collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// Those of these packages that are marked as installed automatically: apt's `extended_states`, read rather
/// than asked for, since asking makes apt write its caches anew.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn automatic(names: &[String]) -> io::Result<Vec<String>> {
    let text = match std::fs::read_to_string("/var/lib/apt/extended_states") {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let marked = marked_automatic(&text);
    // apt notes packages of architecture `all` under the host's own.
    let is = |name: &&String| {
        let (bare, architecture) = name.split_once(':').unwrap_or((name, "all"));
        marked.iter().any(|(n, a)| *n == bare && (architecture == "all" || *a == architecture))
    };
    Ok(names.iter().filter(is).cloned().collect())
}

/// (name, architecture) of the stanzas with `Auto-Installed: 1`.
fn marked_automatic(text: &str) -> Vec<(&str, &str)> {
    text.split("\n\n")
        .filter_map(|stanza| {
            let field =
                |name: &str| stanza.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
            (field("Auto-Installed:") == Some("1"))
                .then(|| Some((field("Package:")?, field("Architecture:")?)))?
        })
        .collect()
}

/// Those of these packages that the administrator holds (`apt-mark hold`, kept by dpkg as a selection).
///
/// # Errors
/// When `dpkg-query` cannot be run.
pub fn held(names: &[String]) -> io::Result<Vec<String>> {
    let format = "${db:Status-Want} ${binary:Package} ${Architecture}\n";
    let output =
        command::run(command("dpkg-query").args(["-W", "-f", format, "--"]).args(names), None)?;
    let held = |line: &str| {
        let mut words = line.strip_prefix("hold ")?.split(' ');
        let bare = words.next()?.split(':').next()?;
        Some(format!("{bare}:{}", words.next()?))
    };
    Ok(output.text.lines().filter_map(held).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_s_name_says_what_is_in_it() {
        let of = |name: &str| of_archive(&Path::new("/a").join(name));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(
            of("bind9_1%3a9.18-1~deb12u1_amd64.deb"),
            pair("bind9:amd64", "1:9.18-1~deb12u1")
        );
        assert_eq!(of("acme-web_1.0_all.deb"), pair("acme-web:all", "1.0"));
        assert_eq!(of("partial"), None);
        assert_eq!(of("lock.deb"), None);
    }

    #[test]
    fn only_stanzas_marked_automatic_count() {
        let text = "Package: a\nArchitecture: amd64\nAuto-Installed: 1\n\nPackage: b\nArchitecture: amd64\n\
            Auto-Installed: 0\n\nArchitecture: i386\nPackage: c\nAuto-Installed: 1\n";
        assert_eq!(marked_automatic(text), [("a", "amd64"), ("c", "i386")]);
    }
}
