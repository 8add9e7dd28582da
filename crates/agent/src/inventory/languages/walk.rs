//! Where to look, and how far.

use super::{Candidate, Limits, archive, metadata};
use crate::inventory::distant;
use crate::settings::Settings;
use fettle_core::language::{Ecosystem, LanguagePackage};
use fettle_vuln::exposure::LANGUAGES_GAP;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where `cargo install` puts what root installs.
pub(super) const CARGO: &str = "root/.cargo";

/// Directories, and how many levels of directories below them are looked into. A last part `NAME*` stands for all that begin so.
const ROOTS: &[(&str, usize)] = &[
    ("usr/lib/python*", 1),
    ("usr/lib/node_modules", 14),
    ("usr/lib/ruby/gems", 3),
    ("var/lib/gems", 3),
    ("usr/share/java", 2),
    ("usr/share/tomcat*", 3),
    ("var/lib/tomcat*", 6),
    (CARGO, 0),
    ("root/.local/lib", 2),
    ("usr/local", 16),
    ("opt", 16),
    ("srv", 10),
];

/// Directories with many names and nothing wanted.
const SKIPPED: [&str; 4] = ["__pycache__", ".git", "doc", "man"];

/// A walk under way.
struct Walk<'a> {
    settings: &'a Settings,
    limits: Limits,
    until: Instant,
    entries: usize,
    found: Vec<Candidate>,
    gaps: Vec<String>,
    /// A bound was met: nothing more is looked at.
    over: bool,
}

/// All that there is, whoever owns it; and what was not looked at.
pub(super) fn all(settings: &Settings, limits: Limits) -> (Vec<Candidate>, Vec<String>) {
    let mut walk = Walk {
        settings,
        limits,
        until: Instant::now() + limits.time,
        entries: 0,
        found: Vec::new(),
        gaps: Vec::new(),
        over: false,
    };
    for (pattern, depth) in ROOTS {
        for root in roots(settings, pattern) {
            let Ok(meta) = fs::symlink_metadata(settings.host(&root)) else { continue };
            if !meta.is_dir() {
                continue;
            }
            let place = rustix::fs::statfs(settings.host(&root));
            if place.is_ok_and(|it| distant::is_type(&it)) {
                let gap = format!("{LANGUAGES_GAP}: /{root} is on a distant file system");
                walk.gaps.push(gap);
                continue;
            }
            walk.directory(Path::new(&format!("/{root}")), *depth, meta.dev());
        }
    }
    (walk.found, walk.gaps)
}

fn roots(settings: &Settings, pattern: &str) -> Vec<String> {
    let Some(beginning) = pattern.strip_suffix('*') else { return vec![pattern.to_owned()] };
    let (parent, beginning) = beginning.rsplit_once('/').unwrap_or(("", beginning));
    let Ok(entries) = fs::read_dir(settings.host(parent)) else { return Vec::new() };
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    names.into_iter().map(|name| format!("{parent}/{name}")).collect()
}

impl Walk<'_> {
    fn is_over(&mut self) -> bool {
        let what = if self.entries > self.limits.entries {
            format!("more than {} files to look at", self.limits.entries)
        } else if Instant::now() >= self.until {
            format!("looking took more than {} s", self.limits.time.as_secs())
        } else {
            return self.over;
        };
        if !self.over {
            self.gaps.push(format!("{LANGUAGES_GAP}: {what}; the rest is not listed"));
            self.over = true;
        }
        true
    }

    /// Looks at a directory and those below it on the same file system, in the order of their names. Links are not
    /// followed: what they lead to is found where it is.
    fn directory(&mut self, path: &Path, depth: usize, device: u64) {
        let Ok(entries) = fs::read_dir(self.settings.host(&path.to_string_lossy())) else { return };
        let mut names: Vec<(String, fs::FileType)> = Vec::new();
        for entry in entries.flatten() {
            self.entries += 1;
            if self.entries.is_multiple_of(256) && self.is_over() {
                return;
            }
            if let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) {
                names.push((name, kind));
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        let own = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        for (name, kind) in names {
            if self.is_over() {
                return;
            }
            let below = path.join(&name);
            if kind.is_file() {
                self.file(&below, own, &name);
            } else if kind.is_dir() {
                self.subdirectory(&below, own, &name);
                let meta = fs::symlink_metadata(self.settings.host(&below.to_string_lossy()));
                let here = meta.is_ok_and(|m| m.is_dir() && m.dev() == device);
                let wanted = !SKIPPED.contains(&name.as_str())
                    && !name.ends_with(".dist-info")
                    && !name.ends_with(".egg-info");
                if here && depth > 0 && wanted {
                    self.directory(&below, depth - 1, device);
                }
            }
        }
    }

    /// `own`: name of the directory it is in.
    fn subdirectory(&mut self, path: &Path, own: &str, name: &str) {
        if name.ends_with(".dist-info") {
            self.read(&path.join("METADATA"), path, Ecosystem::Pypi, metadata::python);
        } else if name.ends_with(".egg-info") {
            self.read(&path.join("PKG-INFO"), path, Ecosystem::Pypi, metadata::python);
        } else if own == "node_modules" && !name.starts_with(['@', '.'])
            || own.starts_with('@') && is_in(path, "node_modules")
        {
            self.read(&path.join("package.json"), path, Ecosystem::Npm, metadata::npm);
        }
    }

    fn file(&mut self, path: &Path, own: &str, name: &str) {
        let specification =
            own == "specifications" || own == "default" && is_in(path, "specifications");
        if name.ends_with(".egg-info") {
            self.read(path, path, Ecosystem::Pypi, metadata::python);
        } else if specification && name.ends_with(".gemspec") {
            self.read(path, path, Ecosystem::Gem, metadata::gem);
        } else if name == ".crates2.json" {
            let Some(bytes) = self.bytes(path) else { return };
            for package in metadata::cargo(&bytes) {
                self.keep(Ecosystem::Cargo, package, path, path.to_string_lossy().into_owned());
            }
        } else if [".jar", ".war", ".ear"].iter().any(|ending| name.ends_with(ending)) {
            self.archive(path);
        }
    }

    fn archive(&mut self, path: &Path) {
        let Ok(file) = open(&self.settings.host(&path.to_string_lossy())) else { return };
        let limits = archive::Limits {
            metadata: self.limits.metadata,
            inner: self.limits.inner_archive,
            until: self.until,
        };
        // What is no archive, or a broken one, no program loads either.
        for (inside, name, version) in archive::packages(file, limits).unwrap_or_default() {
            let location = format!("{}{inside}", path.display());
            self.keep(Ecosystem::Maven, (name, version), path, location);
        }
    }

    fn read(
        &mut self,
        file: &Path,
        place: &Path,
        ecosystem: Ecosystem,
        parse: fn(&[u8]) -> Option<(String, String)>,
    ) {
        let Some(bytes) = self.bytes(file) else { return };
        if let Some(package) = parse(&bytes) {
            self.keep(ecosystem, package, file, place.to_string_lossy().into_owned());
        }
    }

    /// A file of metadata; `None` where there is none, or one beyond reason.
    fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let file = open(&self.settings.host(&path.to_string_lossy())).ok()?;
        let mut bytes = Vec::new();
        file.take(self.limits.metadata + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= self.limits.metadata).then_some(bytes)
    }

    /// What is named beyond reason is no package that an advisory could name.
    fn keep(
        &mut self,
        ecosystem: Ecosystem,
        (name, version): (String, String),
        file: &Path,
        location: String,
    ) {
        let plain = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
        };
        if plain(&name, 214) && plain(&version, 128) && location.len() <= 1024 {
            let package = LanguagePackage { ecosystem, name, version, location };
            self.found.push(Candidate { package, file: file.to_owned() });
        }
    }
}

/// Is the directory that `path` is in itself in one of this name?
fn is_in(path: &Path, name: &str) -> bool {
    path.ancestors().nth(2).and_then(Path::file_name).is_some_and(|n| n == name)
}

/// Opens a plain file: no link, and no pipe that nobody writes to.
fn open(path: &PathBuf) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, how, Mode::empty())?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::from(io::ErrorKind::InvalidInput))
}
