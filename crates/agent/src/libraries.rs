//! Do programs still find their libraries, and in them every symbol they bind?
//!
//! Asked of the dynamic loader itself, which maps and binds but runs nothing: `ld.so(8)`,
//! `LD_TRACE_LOADED_OBJECTS`, `LD_WARN`, `LD_BIND_NOW`: what `ldd -r` does, without its shell.

use crate::command::{self, command};
use crate::host_path::HostPath;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Programs looked at, at most: running services' come first.
const MOST: usize = 300;

/// The parts of an ELF file that decide what it needs (System V ABI, "Dynamic Section").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elf {
    /// `DT_NEEDED`.
    pub needed: Vec<String>,
    /// `DT_SONAME`.
    pub soname: Option<String>,
    /// `PT_INTERP`: the loader of a program; a library has none.
    pub interpreter: Option<String>,
}

/// Reads an ELF file's needs. `None`: it is none, or is not dynamic, or is damaged.
pub fn read_elf(path: &Path) -> Option<Elf> {
    let file = File::open(path).ok()?;
    let mut head = [0u8; 64];
    file.read_exact_at(&mut head, 0).ok()?;
    // 64 bit, little endian: what every architecture of Debian with servers has, but s390x, armhf and i386.
    if head[..4] != *b"\x7fELF" || head[4] != 2 || head[5] != 1 {
        return None;
    }
    let half =
        |bytes: &[u8], at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let word =
        |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let long =
        |bytes: &[u8], at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let read = |offset: u64, length: u64| {
        let mut bytes = vec![0; usize::try_from(length.min(1 << 20)).ok()?];
        file.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
    };
    let (table, size, count) = (long(&head, 32)?, half(&head, 54)?, half(&head, 56)?);
    let headers = read(table, u64::from(size) * u64::from(count))?;
    let (mut loads, mut dynamic, mut elf) = (Vec::new(), None, Elf::default());
    for header in headers.chunks_exact(usize::from(size).max(56)) {
        let (offset, address, length) = (long(header, 8)?, long(header, 16)?, long(header, 32)?);
        match word(header, 0)? {
            1 => loads.push((address, offset, length)),
            2 => dynamic = Some((offset, length)),
            3 => {
                let mut text = read(offset, length.min(4096))?;
                text.truncate(text.iter().position(|b| *b == 0).unwrap_or(text.len()));
                elf.interpreter = String::from_utf8(text).ok();
            }
            _ => {}
        }
    }
    let (offset, length) = dynamic?;
    let entries = read(offset, length)?;
    let (mut strings, mut names) = (None, Vec::new());
    for entry in entries.chunks_exact(16) {
        match (long(entry, 0)?, long(entry, 8)?) {
            (0, _) => break,
            (5, address) => strings = Some(address),
            (tag @ (1 | 14), at) => names.push((tag, at)),
            _ => {}
        }
    }
    let strings = strings?;
    let (address, offset, _) =
        loads.iter().find(|(a, _, l)| (*a..a.saturating_add(*l)).contains(&strings))?;
    let table = strings - address + offset;
    for (tag, at) in names {
        let mut text = vec![0; 256];
        let n = file.read_at(&mut text, table.checked_add(at)?).ok()?;
        text.truncate(text[..n].iter().position(|b| *b == 0)?);
        let text = String::from_utf8(text).ok()?;
        if tag == 1 { elf.needed.push(text) } else { elf.soname = Some(text) }
    }
    Some(elf)
}

/// The files of these packages (`dpkg -L`) that are ELF files with a need or a name.
pub fn changed_packages(packages: &[String]) -> Vec<(PathBuf, Elf)> {
    let mut paths = BTreeSet::new();
    for name in packages {
        let base = Path::new("/var/lib/dpkg/info");
        // Multi-Arch: same packages carry their architecture in the file's name.
        let own = name.split(':').next().unwrap_or(name);
        for list in [format!("{name}.list"), format!("{own}.list")] {
            if let Ok(text) = fs::read_to_string(base.join(list)) {
                paths.extend(text.lines().map(PathBuf::from));
            }
        }
    }
    let regular = |p: &PathBuf| fs::symlink_metadata(p).is_ok_and(|m| m.is_file());
    paths.into_iter().filter(regular).filter_map(|p| read_elf(&p).map(|elf| (p, elf))).collect()
}

/// Looks at running `programs`, the changed files themselves, and programs that need a changed library. Gives
/// those that do not resolve: path → what the loader says.
pub fn unresolved(programs: &[HostPath], changed: &[(PathBuf, Elf)]) -> BTreeMap<String, String> {
    let sonames: BTreeSet<&str> =
        changed.iter().filter_map(|(_, elf)| elf.soname.as_deref()).collect();
    let mut look: Vec<PathBuf> = programs.iter().map(|p| p.0.clone()).collect();
    look.extend(
        changed.iter().filter(|(_, elf)| elf.interpreter.is_some()).map(|(p, _)| p.clone()),
    );
    for directory in ["/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        for (_, path) in crate::configuration_tests::executables(Path::new(directory)) {
            if read_elf(&path)
                .is_some_and(|elf| elf.needed.iter().any(|n| sonames.contains(n.as_str())))
            {
                look.push(path);
            }
        }
    }
    let mut seen = BTreeSet::new();
    look.retain(|p| seen.insert(fs::canonicalize(p).unwrap_or_else(|_| p.clone())));
    look.truncate(MOST);
    look.iter()
        .filter_map(|path| Some((path.to_string_lossy().into_owned(), complaint(path)?)))
        .collect()
}

/// What the loader complains of, if anything.
fn complaint(path: &Path) -> Option<String> {
    let loader = read_elf(path)?.interpreter?;
    let mut loader = command(&loader);
    loader
        .arg("--list")
        .arg(path)
        .env("LD_WARN", "1")
        .env("LD_BIND_NOW", "1")
        .env("LD_TRACE_LOADED_OBJECTS", "1");
    let output = command::run(&mut loader, Some(Duration::from_secs(20))).ok()?;
    let wrong = |line: &&str| {
        line.contains("not found")
            || line.contains("undefined symbol")
            || line.contains("cannot open shared object")
    };
    let lines: Vec<&str> = output.text.lines().filter(wrong).map(str::trim).take(3).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// The programs that running services execute.
pub fn running_programs() -> Vec<HostPath> {
    let mut out = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())
            && let Ok(program) = fs::read_link(entry.path().join("exe"))
            && program.is_absolute()
            && program.exists()
        {
            out.insert(HostPath(program));
        }
    }
    out.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_and_loader_of_a_program_are_read_from_its_dynamic_section() {
        let elf = read_elf(&std::env::current_exe().unwrap()).unwrap();
        assert!(elf.needed.iter().any(|n| n.starts_with("libc.so")), "{elf:?}");
        assert!(elf.interpreter.as_ref().is_some_and(|i| i.contains("ld-linux")), "{elf:?}");
        assert_eq!(elf.soname, None);
    }

    #[test]
    fn what_is_cut_off_or_no_program_is_no_elf_file() {
        let dir = tempfile::tempdir().unwrap();
        let whole = fs::read(std::env::current_exe().unwrap()).unwrap();
        let path = dir.path().join("cut");
        for length in [0, 3, 63, 64, 100, 500] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read_elf(&path), None, "{length} bytes");
        }
    }

    #[test]
    fn a_program_whose_library_is_missing_is_found_and_a_sound_one_is_not() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(complaint(&own), None);
        // The same program, needing a library that nobody has.
        let mut bytes = fs::read(&own).unwrap();
        let at = memchr::memmem::find(&bytes, b"libc.so.6\0").unwrap();
        bytes[at..at + 4].copy_from_slice(b"libz");
        bytes[at + 4] = b'_';
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broken");
        fs::write(&path, bytes).unwrap();
        let said = complaint(&path).unwrap();
        assert!(said.contains("libz_so.6"), "{said}");
    }
}
