//! Which tests apply to a host: a function of the files below its root.

use super::executables;
use super::table::{ROWS, Row, When};
use crate::command;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A test that applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// What people call it.
    pub(super) name: String,
    /// What to do.
    pub(super) what: What,
}

/// What a test does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Runs a program of the host.
    Run {
        /// By path, as seen from inside the host's root.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
        /// User and group that run it; `None`: root.
        user: Option<(u32, u32)>,
    },
    /// Runs a program of the operator's, where nobody but root can have a hand in it.
    Own(PathBuf),
    /// The agent reads the system's cron tables itself: Debian's cron has no program that checks those.
    CronTables,
}

fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Every test that applies to the host below `root`, and the operator's own.
pub(super) fn choose(root: &Path, operators: &Path) -> Vec<Chosen> {
    let mut out: Vec<Chosen> = ROWS.iter().filter_map(|row| applies(root, row)).collect();
    out.extend(haproxy(root));
    out.extend(postgresql(root));
    // Debian names each version: php-fpm8.2.
    for (name, program) in executables(&inside(root, "/usr/sbin")) {
        if name.starts_with("php-fpm") {
            let program = Path::new("/").join(program.strip_prefix(root).unwrap_or(&program));
            let what = What::Run { program, arguments: vec!["-t".into()], user: None };
            out.push(Chosen { name, what });
        }
    }
    if inside(root, "/etc/crontab").exists() || inside(root, "/etc/cron.d").is_dir() {
        out.push(Chosen { name: "cron tables".into(), what: What::CronTables });
    }
    for (name, program) in executables(operators) {
        out.push(Chosen { name: format!("tests.d/{name}"), what: What::Own(program) });
    }
    out
}

fn program(root: &Path, name: &str) -> Option<PathBuf> {
    if name.starts_with('/') {
        return inside(root, name).is_file().then(|| PathBuf::from(name));
    }
    command::find(root, name)
}

fn applies(root: &Path, row: &Row) -> Option<Chosen> {
    let there = |path: &str| inside(root, path).exists();
    let when = match row.when {
        When::There(path) => there(path),
        When::Without(path, other) => there(path) && !there(other),
        When::Says(directory, words) => {
            fs::read_dir(inside(root, directory)).into_iter().flatten().flatten().any(|entry| {
                fs::read_to_string(entry.path())
                    .is_ok_and(|text| words.iter().any(|word| text.contains(word)))
            })
        }
    };
    if !when {
        return None;
    }
    let user = match row.user {
        // Without its user the service cannot run at all.
        Some(name) => Some(user(root, name)?),
        None => None,
    };
    let arguments = row.arguments.iter().map(|a| (*a).to_owned()).collect();
    let what = What::Run { program: program(root, row.program)?, arguments, user };
    Some(Chosen { name: row.name.to_owned(), what })
}

/// User and group of a name, by `/etc/passwd` of that root.
pub(super) fn user(root: &Path, name: &str) -> Option<(u32, u32)> {
    let text = fs::read_to_string(inside(root, "/etc/passwd")).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        found.then_some((user, group))
    })
}

/// One test a unit: the configurations that it names together (`-f A -f B`) are one configuration.
fn haproxy(root: &Path) -> Vec<Chosen> {
    let Some(program) = program(root, "haproxy") else { return Vec::new() };
    let (mut units, mut drop_ins) = (BTreeMap::new(), Vec::new());
    // The administrator's copy of a unit hides the vendor's: read later, kept.
    for directory in ["/lib/systemd/system", "/usr/lib/systemd/system", "/etc/systemd/system"] {
        for entry in fs::read_dir(inside(root, directory)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let unit = name.strip_suffix(".d").unwrap_or(&name).to_owned();
            if !unit.starts_with("haproxy") || !unit.ends_with(".service") || unit.contains('@') {
                continue;
            }
            if name == unit {
                units.insert(unit, fs::read_to_string(entry.path()).unwrap_or_default());
            } else {
                drop_ins.push((unit, entry.path()));
            }
        }
    }
    for (unit, directory) in drop_ins {
        if let Some(text) = units.get_mut(&unit) {
            for (_, path) in super::files(&directory) {
                text.push('\n');
                text.push_str(&fs::read_to_string(path).unwrap_or_default());
            }
        }
    }
    let mut out = Vec::new();
    for (unit, text) in &units {
        let configurations = haproxy_configurations(root, text);
        if configurations.is_empty() {
            continue;
        }
        let mut arguments = vec!["-c".to_owned(), "-q".to_owned()];
        arguments.extend(configurations.into_iter().flat_map(|c| ["-f".to_owned(), c]));
        let name = match unit.as_str() {
            "haproxy.service" => "haproxy".to_owned(),
            other => format!("haproxy ({other})"),
        };
        let what = What::Run { program: program.clone(), arguments, user: None };
        out.push(Chosen { name, what });
    }
    let usual = "/etc/haproxy/haproxy.cfg";
    if out.is_empty() && inside(root, usual).exists() {
        let arguments = ["-c", "-q", "-f", usual].map(str::to_owned).to_vec();
        out.push(Chosen {
            name: "haproxy".into(),
            what: What::Run { program, arguments, user: None },
        });
    }
    out
}

/// The values of `-f` in `ExecStart=`, with the variables that `Environment=` and `EnvironmentFile=` set
/// (`systemd.exec(5)`, `systemd.service(5)`, "command lines").
fn haproxy_configurations(root: &Path, unit: &str) -> Vec<String> {
    let unit = unit.replace("\\\n", " ");
    let (mut set, mut from_files) = (BTreeMap::new(), BTreeMap::new());
    let mut note = |into_file: bool, word: &str| {
        if let Some((name, value)) = word.split_once('=') {
            let value = value.trim_matches(['"', '\'']).to_owned();
            let into = if into_file { &mut from_files } else { &mut set };
            into.insert(name.trim().trim_start_matches(['"', '\'']).to_owned(), value);
        }
    };
    let mut start = "";
    for line in unit.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("EnvironmentFile=") {
            let path = rest.trim_start_matches('-');
            let text = fs::read_to_string(inside(root, path)).unwrap_or_default();
            text.lines()
                .filter(|l| !l.trim_start().starts_with('#'))
                .for_each(|l| note(true, l.trim()));
        } else if let Some(rest) = line.strip_prefix("Environment=") {
            rest.split_whitespace().for_each(|word| note(false, word));
        } else if let Some(rest) = line.strip_prefix("ExecStart=") {
            start = rest;
        }
    }
    set.extend(from_files);
    let mut words = Vec::new();
    for word in start.split_whitespace() {
        match word.strip_prefix('$') {
            // `$NAME` as a word of its own is split into words, `${NAME}` is one.
            Some(name) if !name.starts_with('{') => {
                let value = set.get(name).cloned().unwrap_or_default();
                words.extend(value.split_whitespace().map(str::to_owned));
            }
            _ => {
                let mut word = word.to_owned();
                for (name, value) in &set {
                    word = word.replace(&format!("${{{name}}}"), value);
                }
                words.push(word);
            }
        }
    }
    words
        .windows(2)
        .filter(|pair| pair[0] == "-f")
        .map(|pair| pair[1].trim_matches(['"', '\'']).to_owned())
        .collect()
}

/// One test a cluster of Debian's layout: `/etc/postgresql/15/main`.
fn postgresql(root: &Path) -> Vec<Chosen> {
    let Some(user) = user(root, "postgres") else { return Vec::new() };
    let names = |path: &Path| {
        let mut names: Vec<String> = fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| e.path().is_dir())
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let base = inside(root, "/etc/postgresql");
    let mut out = Vec::new();
    for version in names(&base) {
        let program = PathBuf::from(format!("/usr/lib/postgresql/{version}/bin/postgres"));
        if !inside(root, &program.to_string_lossy()).is_file() {
            continue;
        }
        for cluster in names(&base.join(&version)) {
            let file = format!("/etc/postgresql/{version}/{cluster}/postgresql.conf");
            let Ok(text) = fs::read_to_string(inside(root, &file)) else { continue };
            let named = text.lines().find_map(|line| {
                let value = line.trim().strip_prefix("data_directory")?.trim_start();
                let value = value.strip_prefix('=').unwrap_or(value).trim_start();
                Some(value.strip_prefix('\'')?.split('\'').next()?.to_owned())
            });
            let data = named.unwrap_or_else(|| format!("/var/lib/postgresql/{version}/{cluster}"));
            out.push(Chosen {
                name: format!("postgresql {version}/{cluster}"),
                what: What::Run {
                    program: program.clone(),
                    // Reads the whole configuration, prints one value of it and ends.
                    arguments: vec![
                        "-C".into(),
                        "data_directory".into(),
                        "-D".into(),
                        data,
                        "-c".into(),
                        format!("config_file={file}"),
                    ],
                    user: Some(user),
                },
            });
        }
    }
    out
}
