//! Do programs and libraries still find their libraries, in them every version they name, and every symbol?
//!
//! Read from the files themselves (`libraries/elf.rs`), for every ELF file of the system that needs a changed
//! library; and asked of the dynamic loader, which maps and binds but runs nothing, for what running services
//! execute: `ld.so(8)`, `LD_TRACE_LOADED_OBJECTS`, `LD_WARN`, `LD_BIND_NOW`: what `ldd -r` does, without its
//! shell. What is complained of before the change as well is not the change's fault.

mod elf;

use crate::command::{self, command};
use crate::host_path::HostPath;
pub use elf::{Elf, read_elf};
use elf::{Reader, Symbols};
use fettle_core::assignment::MissingSymbol;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Directory entries looked at, at most: ten times what a full desktop has. The bound is there for trees that somebody
/// made to be endless; what lies beyond it is not called sound.
const ENTRIES: usize = 5_000_000;
/// All looking ends after so long: it takes some seconds. What was not looked at by then is not called sound.
const PATIENCE: Duration = Duration::from_secs(300);
/// One loader may take so long.
const LOADS: Duration = Duration::from_secs(20);
/// Where programs and libraries lie.
const PLACES: [&str; 6] = ["/usr", "/opt", "/bin", "/sbin", "/lib", "/lib64"];
/// No programs of this system lie here.
const SKIPPED: [&str; 8] = [
    "/usr/share",
    "/usr/include",
    "/usr/src",
    "/usr/lib/debug",
    "/usr/lib/modules",
    "/usr/lib/firmware",
    "/usr/games",
    "/usr/local/share",
];

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolution {
    /// Names of the libraries of the changed packages.
    pub sonames: BTreeSet<String>,
    /// Files that do not resolve: path → what is missing.
    pub unresolved: BTreeMap<String, Missing>,
    /// ELF files met.
    pub met: usize,
    /// Those looked at: they need one of the libraries, or are the packages' own.
    pub looked_at: usize,
    /// Files and directories that a bound kept from being looked at, and which: nobody knows whether they resolve.
    pub unseen: BTreeMap<String, String>,
    /// Those that could not be read, or whose loader gave no answer, and why.
    pub closed: BTreeMap<String, String>,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

/// What a file lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Missing {
    /// A library, or a version of one. Empty: none.
    pub library: String,
    /// Symbols that none of its libraries has, or what the loader complains of. A plug-in gets its symbols from the
    /// program that loads it, and lacks them whenever it is looked at alone.
    pub symbols: BTreeSet<String>,
    /// Those of them that no file of the changed packages has either, nor a library that one of those needs.
    pub nowhere: BTreeSet<String>,
}

impl Missing {
    fn library(said: String) -> Self {
        Self { library: said, ..Self::default() }
    }
    fn complaint(lines: BTreeSet<String>) -> Self {
        Self { library: String::new(), nowhere: lines.clone(), symbols: lines }
    }
}

/// What is missing after a change and was not before, in words, by file. A file that lacked symbols before is a
/// plug-in, and so may one be that `is_new`: then a symbol that the changed packages' programs have, or bring with
/// their libraries, is not missing. Nor is what the order accepts; those are given second, as `FILE: SYMBOL`.
pub fn newly_missing(
    before: &BTreeMap<String, Missing>,
    after: &BTreeMap<String, Missing>,
    is_new: impl Fn(&str) -> bool,
    accepted: &[MissingSymbol],
) -> (BTreeMap<String, String>, Vec<String>) {
    let mut let_pass = Vec::new();
    let none = Missing::default();
    let mut said = |path: &String, now: &Missing| {
        let was = before.get(path).unwrap_or(&none);
        if !now.library.is_empty() && now.library != was.library {
            return Some(now.library.clone());
        }
        let plug_in = !was.symbols.is_empty() || is_new(path);
        let lacks = if plug_in { &now.nowhere } else { &now.symbols };
        let (accepted, lost): (Vec<_>, Vec<_>) = lacks
            .difference(&was.symbols)
            .partition(|symbol| accepted.iter().any(|a| a.covers(path, symbol)));
        let_pass.extend(accepted.into_iter().map(|symbol| format!("{path}: {symbol}")));
        words(lost.into_iter())
    };
    let lost =
        after.iter().filter_map(|(path, now)| Some((path.clone(), said(path, now)?))).collect();
    (lost, let_pass)
}

/// What was not looked at after a change, by file, with why: nobody may call that sound. What could not be read or asked
/// before either is not the change's fault; a bound is no excuse. Nor is told what the order accepts, which is a file
/// that may lack every symbol (`*`); those are given second.
pub fn unchecked(
    before: &Resolution,
    after: &Resolution,
    accepted: &[MissingSymbol],
) -> (BTreeMap<String, String>, Vec<String>) {
    let new = after.closed.iter().filter(|(path, _)| !before.closed.contains_key(*path));
    let all = after.unseen.iter().chain(new);
    let covers = |path: &str| accepted.iter().any(|a| a.symbol == "*" && a.covers(path, "*"));
    let (let_pass, lost): (BTreeMap<_, _>, BTreeMap<_, _>) =
        all.map(|(path, why)| (path.clone(), why.clone())).partition(|(path, _)| covers(path));
    let let_pass = let_pass.into_iter().map(|(path, why)| format!("{path}: {why}"));
    (lost, let_pass.collect())
}

fn words<'a>(mut symbols: impl Iterator<Item = &'a String>) -> Option<String> {
    let first = symbols.next()?;
    // The loader's complaints are sentences already.
    let sentence = first.contains(' ');
    Some(match symbols.count() {
        0 if sentence => first.clone(),
        more if sentence => format!("{first}; and {more} more"),
        0 => format!("symbol {first} is not there"),
        more => format!("symbol {first} and {more} more are not there"),
    })
}

impl Resolution {
    /// For people.
    pub fn note(&self) -> String {
        let mut note = format!(
            "libraries: {} of {} programs and libraries use what changes, looked at in {} ms",
            self.looked_at, self.met, self.milliseconds
        );
        let not = self.unseen.len() + self.closed.len();
        if not > 0 {
            note.push_str(&format!("; {not} could not be looked at"));
        }
        note
    }
}

/// Looks at every ELF file that needs a library of `packages` or one of `watched`, at the packages' own files, and
/// at the running `programs`.
pub fn check(programs: &[HostPath], packages: &[String], watched: &BTreeSet<String>) -> Resolution {
    let begun = Instant::now();
    let mut system = System::of_host();
    let own: BTreeSet<PathBuf> =
        package_files(Path::new("/var/lib/dpkg/info"), packages).into_iter().collect();
    let places: Vec<&Path> = PLACES.iter().map(Path::new).collect();
    let (walked, deadline) = (walk(&places, ENTRIES), begun + PATIENCE);
    let mut found = system.check(&walked.files, &own, watched, deadline);
    found.unseen.extend(walked.unseen);
    found.closed.extend(walked.closed);
    for program in programs {
        let path = program.0.to_string_lossy().into_owned();
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            found.unseen.insert(path, NO_TIME.into());
            continue;
        }
        match complaint(program.as_path(), left.min(LOADS)) {
            Ok(None) => {}
            Ok(Some(said)) => {
                found.unresolved.entry(path).or_insert_with(|| Missing::complaint(said));
            }
            Err(why) => drop(found.closed.insert(path, why)),
        }
    }
    found.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    found
}

/// Every path that dpkg knows of these packages.
fn package_files(info: &Path, packages: &[String]) -> Vec<PathBuf> {
    let mut paths = BTreeSet::new();
    for name in packages {
        // Multi-Arch: same packages carry their architecture in the file's name.
        let own = name.split(':').next().unwrap_or(name);
        for list in [format!("{name}.list"), format!("{own}.list")] {
            if let Ok(text) = fs::read_to_string(info.join(list)) {
                // The same file may be known by its place before /lib became a link to /usr/lib.
                paths.extend(text.lines().filter_map(|l| fs::canonicalize(l).ok()));
            }
        }
    }
    paths.into_iter().filter(|p| p.is_file()).collect()
}

/// Why something was not looked at.
const NO_TIME: &str = "no time was left to look at it";

/// What was found below some directories.
#[derive(Debug, Default)]
struct Walked {
    /// Files that may be programs or libraries.
    files: Vec<PathBuf>,
    /// Directories that were not walked to their end, since there are too many entries.
    unseen: BTreeMap<String, String>,
    /// Directories that cannot be read.
    closed: BTreeMap<String, String>,
}

/// Walks directories, at most so many entries of them. Links are not followed.
fn walk(places: &[&Path], most: usize) -> Walked {
    let mut open: Vec<PathBuf> = places
        .iter()
        .filter(|p| fs::symlink_metadata(p).is_ok_and(|m| m.is_dir()))
        .map(|p| p.to_path_buf())
        .collect();
    let name = |path: &Path| path.to_string_lossy().into_owned();
    let (mut out, mut entries) = (Walked::default(), 0);
    while let Some(directory) = open.pop() {
        let listed = match fs::read_dir(&directory) {
            Ok(listed) => listed,
            // It went meanwhile.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => {
                out.closed.insert(name(&directory), e.to_string());
                continue;
            }
        };
        for entry in listed.flatten() {
            entries += 1;
            if entries > most {
                let why = || format!("there are more than {most} files and directories");
                open.push(directory);
                out.unseen = open.iter().map(|d| (name(d), why())).collect();
                return out;
            }
            let (Ok(kind), path) = (entry.file_type(), entry.path()) else { continue };
            if kind.is_dir() {
                let skipped = SKIPPED.iter().any(|s| path == Path::new(s));
                if !skipped && !path.ends_with("node_modules") {
                    open.push(path);
                }
            } else if kind.is_file() {
                let library = entry.file_name().to_string_lossy().contains(".so");
                let runs = || entry.metadata().is_ok_and(|m| m.permissions().mode() & 0o111 != 0);
                if library || runs() {
                    out.files.push(path);
                }
            }
        }
    }
    out.files.sort();
    out
}

/// A system's libraries, each read once.
struct System {
    /// Where the loader looks besides what a file names.
    directories: Vec<PathBuf>,
    listings: HashMap<PathBuf, HashSet<OsString>>,
    heads: HashMap<PathBuf, Option<Rc<Elf>>>,
    symbols: HashMap<PathBuf, Option<Rc<Symbols>>>,
    /// Where a name was found that no file's own path led to.
    found: HashMap<(String, u32), Option<PathBuf>>,
    /// Files that need others and whose symbols cannot be read.
    unreadable: BTreeSet<PathBuf>,
}

impl System {
    fn new(directories: Vec<PathBuf>) -> Self {
        let (listings, heads, symbols) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (found, unreadable) = (HashMap::new(), BTreeSet::new());
        Self { directories, listings, heads, symbols, found, unreadable }
    }

    /// The directories of `/etc/ld.so.conf`, then those that the loader knows by itself.
    fn of_host() -> Self {
        let mut files = vec![PathBuf::from("/etc/ld.so.conf")];
        let mut more: Vec<PathBuf> = fs::read_dir("/etc/ld.so.conf.d")
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "conf"))
            .collect();
        more.sort();
        files.extend(more);
        let mut directories: Vec<PathBuf> = Vec::new();
        for file in files {
            let text = fs::read_to_string(file).unwrap_or_default();
            let lines = text.lines().map(|l| l.split('#').next().unwrap_or("").trim());
            directories.extend(lines.filter(|l| l.starts_with('/')).map(PathBuf::from));
        }
        for triplet in ["x86_64", "aarch64", "riscv64", "powerpc64le", "loongarch64", "mips64el"] {
            for base in ["/lib", "/usr/lib"] {
                directories.push(Path::new(base).join(format!("{triplet}-linux-gnu")));
            }
        }
        directories.extend(["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(PathBuf::from));
        directories.retain(|d| d.is_dir());
        let mut seen = HashSet::new();
        directories.retain(|d| fs::metadata(d).is_ok_and(|m| seen.insert((m.dev(), m.ino()))));
        Self::new(directories)
    }

    fn head(&mut self, path: &Path) -> Option<Rc<Elf>> {
        if let Some(known) = self.heads.get(path) {
            return known.clone();
        }
        let head = read_elf(path).map(Rc::new);
        self.heads.insert(path.to_owned(), head.clone());
        head
    }

    fn symbols(&mut self, path: &Path) -> Option<Rc<Symbols>> {
        if let Some(known) = self.symbols.get(path) {
            return known.clone();
        }
        let symbols = Reader::open(path).and_then(|r| r.symbols()).map(Rc::new);
        self.symbols.insert(path.to_owned(), symbols.clone());
        symbols
    }

    /// The file that the loader takes for a needed name.
    fn find(&mut self, name: &str, machine: u32, before: &[PathBuf]) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|p| p.exists());
        }
        for directory in before {
            if let Some(path) = self.in_directory(directory, name, machine) {
                return Some(path);
            }
        }
        let key = (name.to_owned(), machine);
        if let Some(known) = self.found.get(&key) {
            return known.clone();
        }
        let own = self.directories.clone();
        let found = own.iter().find_map(|d| self.in_directory(d, name, machine));
        self.found.insert(key, found.clone());
        found
    }

    fn in_directory(&mut self, directory: &Path, name: &str, machine: u32) -> Option<PathBuf> {
        if !self.listings.contains_key(directory) {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let names = entries.map(|e| e.file_name()).collect();
            self.listings.insert(directory.to_owned(), names);
        }
        let listed = self.listings.get(directory)?.contains(std::ffi::OsStr::new(name));
        let path = directory.join(name);
        // A library of another architecture may have the same name.
        (listed && self.head(&path).is_some_and(|elf| elf.machine == machine)).then_some(path)
    }

    /// What is missing for this file, if anything. `others`: files of the changed packages, with their
    /// libraries.
    fn missing(&mut self, path: &Path, elf: &Elf, others: &[PathBuf]) -> Option<Missing> {
        let mut places = runpath(path, elf);
        let (mut closure, mut open) = (Vec::new(), vec![]);
        let mut seen = HashSet::new();
        open.extend(elf.needed.iter().cloned());
        let mut by_name = HashMap::new();
        let mut at = 0;
        while let Some(name) = open.get(at).cloned() {
            at += 1;
            if !seen.insert(name.clone()) {
                continue;
            }
            let Some(found) = self.find(&name, elf.machine, &places) else {
                return Some(Missing::library(format!("{name} is not there")));
            };
            if let Some(head) = self.head(&found) {
                // A program's own path counts for the libraries of its libraries, where it is DT_RPATH.
                places.extend(runpath(&found, &head));
                open.extend(head.needed.iter().cloned());
            }
            if let Some(symbols) = self.symbols(&found) {
                by_name.insert(name, symbols.clone());
                closure.push(symbols);
            }
        }
        // Not kept: most of what is looked at is nobody's library.
        let own = match self.symbols.get(path) {
            Some(known) => known.clone(),
            None => Reader::open(path).and_then(|r| r.symbols()).map(Rc::new),
        };
        let Some(own) = own else {
            if !elf.needed.is_empty() {
                self.unreadable.insert(path.to_owned());
            }
            return None;
        };
        for (file, version) in &own.wanted_versions {
            if by_name
                .get(file)
                .is_some_and(|l| !l.versions.is_empty() && !l.versions.contains(version))
            {
                return Some(Missing::library(format!("{file} has no version {version}")));
            }
        }
        let lost: Vec<_> = own
            .undefined
            .iter()
            .filter(|symbol| !own.has(symbol) && !closure.iter().any(|library| library.has(symbol)))
            .collect();
        if lost.is_empty() {
            return None;
        }
        let others: Vec<Rc<Symbols>> = others.iter().filter_map(|p| self.symbols(p)).collect();
        let elsewhere = |symbol: &&&_| others.iter().any(|other| other.has(symbol));
        let nowhere = lost.iter().filter(|s| !elsewhere(s)).map(|s| own.name(s)).collect();
        let symbols = lost.iter().map(|s| own.name(s)).collect();
        Some(Missing { library: String::new(), symbols, nowhere })
    }

    /// Files, and every library that they need, and that those need.
    fn with_libraries<'p>(&mut self, files: impl Iterator<Item = &'p PathBuf>) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = files.cloned().collect();
        let mut seen: HashSet<PathBuf> = all.iter().cloned().collect();
        let mut at = 0;
        while let Some(path) = all.get(at).cloned() {
            at += 1;
            let Some(elf) = self.head(&path) else { continue };
            let places = runpath(&path, &elf);
            for name in &elf.needed {
                if let Some(found) = self.find(name, elf.machine, &places)
                    && seen.insert(found.clone())
                {
                    all.push(found);
                }
            }
        }
        all
    }

    fn check(
        &mut self,
        files: &[PathBuf],
        own: &BTreeSet<PathBuf>,
        watched: &BTreeSet<String>,
        deadline: Instant,
    ) -> Resolution {
        let mut out = Resolution::default();
        let mut all: BTreeMap<PathBuf, Rc<Elf>> = BTreeMap::new();
        for path in files.iter().chain(own) {
            if let Some(elf) = self.head(path) {
                all.insert(path.clone(), elf);
            }
        }
        out.met = all.len();
        out.sonames = own.iter().filter_map(|p| all.get(p)?.soname.clone()).collect();
        let uses =
            |elf: &Elf| elf.needed.iter().any(|n| out.sonames.contains(n) || watched.contains(n));
        let others = self.with_libraries(own.iter().filter(|p| all.contains_key(*p)));
        let look: Vec<(PathBuf, Rc<Elf>)> =
            all.into_iter().filter(|(path, elf)| own.contains(path) || uses(elf)).collect();
        for (path, elf) in look {
            let name = path.to_string_lossy().into_owned();
            if Instant::now() > deadline {
                out.unseen.insert(name, NO_TIME.into());
                continue;
            }
            out.looked_at += 1;
            if let Some(missing) = self.missing(&path, &elf, &others) {
                out.unresolved.insert(name, missing);
            }
        }
        let unreadable = self.unreadable.iter().map(|path| path.to_string_lossy().into_owned());
        out.closed = unreadable.map(|path| (path, "its symbols cannot be read".into())).collect();
        out
    }
}

/// The directories that a file names for its libraries (`ld.so(8)`, "dynamic string tokens").
fn runpath(path: &Path, elf: &Elf) -> Vec<PathBuf> {
    let origin = path.canonicalize().ok().and_then(|p| p.parent().map(Path::to_owned));
    let origin = origin.unwrap_or_default().to_string_lossy().into_owned();
    let words = elf.runpath.iter().flat_map(|r| r.split(':'));
    words
        .map(|w| w.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin))
        .filter(|w| w.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// What the loader complains of, if anything, line by line. `Err`: it gave no answer, and how it ended.
fn complaint(path: &Path, limit: Duration) -> Result<Option<BTreeSet<String>>, String> {
    let loader = read_elf(path).and_then(|elf| elf.interpreter).filter(|l| is_system_loader(l));
    let Some(loader) = loader else { return Ok(None) };
    let mut loader = command(&loader);
    // Not `--list`: it binds nothing, and so misses symbols.
    loader
        .arg(path)
        .env("LD_WARN", "1")
        .env("LD_BIND_NOW", "1")
        .env("LD_TRACE_LOADED_OBJECTS", "1");
    let output = command::run(&mut loader, Some(limit))
        .map_err(|e| format!("its loader cannot be run: {e}"))?;
    if output.timed_out || output.status.code().is_none() {
        return Err(format!("its loader: {}", output.ending()));
    }
    let wrong = |line: &&str| {
        line.contains("not found")
            || line.contains("not defined in file")
            || line.starts_with("Inconsistency detected")
            || line.contains("undefined symbol")
            || line.contains("cannot open shared object")
    };
    let lines = output.text.lines().filter(wrong).map(|line| line.trim().to_owned());
    Ok(Some(lines.collect()).filter(|lines: &BTreeSet<String>| !lines.is_empty()))
}

/// A program names its loader itself: only the C library's own is ever run, which knows the variables above.
fn is_system_loader(path: &str) -> bool {
    path.strip_prefix("/lib64/").or_else(|| path.strip_prefix("/lib/")).is_some_and(|name| {
        !name.contains('/') && (name.starts_with("ld-linux") || name.starts_with("ld64.so"))
    })
}

/// The programs that running services execute. Binding runs code of the file (`IFUNC`), so one that anybody
/// but root can write is not among them.
pub fn running_programs() -> Vec<HostPath> {
    let mut out = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())
            && let Ok(program) = fs::read_link(entry.path().join("exe"))
            && program.is_absolute()
            && roots_alone(&program)
        {
            out.insert(HostPath(program));
        }
    }
    out.into_iter().collect()
}

/// Do file and all directories above it belong to root, and can nobody else write them?
fn roots_alone(path: &Path) -> bool {
    path.ancestors().all(|p| {
        fs::symlink_metadata(p).is_ok_and(|m| {
            let writable = !m.is_symlink() && m.mode() & 0o022 != 0;
            m.uid() == 0 && !writable
        })
    })
}

#[cfg(test)]
mod tests;
