//! ELF files: what they need, what they offer (System V ABI, "Dynamic Section"; LSB, "Symbol Versioning").

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;

/// Tables larger than this are not those of a sound file.
const LARGEST: u64 = 64 << 20;

/// The parts of an ELF file that decide what it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elf {
    /// `e_machine`.
    pub machine: u16,
    /// `DT_NEEDED`.
    pub needed: Vec<String>,
    /// `DT_SONAME`.
    pub soname: Option<String>,
    /// `DT_RUNPATH` or `DT_RPATH`, as it stands there.
    pub runpath: Option<String>,
    /// `PT_INTERP`: the loader of a program; a library has none.
    pub interpreter: Option<String>,
}

/// What a file wants of others, and what it offers them.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// Versions it wants, each with the library that must have it.
    pub(super) wanted_versions: Vec<(String, String)>,
    /// Symbols it cannot do without.
    pub(super) undefined: Vec<Wanted>,
    /// Versions it has. Empty: it has none at all, and then none is asked for.
    pub(super) versions: HashSet<String>,
    /// Hashes of the symbols it has, with their version and without.
    exports: HashSet<u64, BuildHasherDefault<AsItIs>>,
    strings: Vec<u8>,
}

/// A symbol that a file cannot do without: hashes of its name without and with the version it was linked to.
#[derive(Debug)]
pub(super) struct Wanted {
    bare: u64,
    full: u64,
    at: u32,
    version: Option<Rc<str>>,
}

impl Symbols {
    /// Does it have this symbol? A library without versions has every version of what it has.
    pub(super) fn has(&self, wanted: &Wanted) -> bool {
        let bare = wanted.version.is_none() || self.versions.is_empty();
        self.exports.contains(if bare { &wanted.bare } else { &wanted.full })
    }

    /// `name@version`, for people.
    pub(super) fn name(&self, wanted: &Wanted) -> String {
        let name = text(&self.strings, wanted.at as usize).unwrap_or_default();
        match &wanted.version {
            Some(version) => format!("{name}@{version}"),
            None => name.to_owned(),
        }
    }
}

/// FNV-1a, of one text after another.
fn hash(seed: u64, text: &[u8]) -> u64 {
    let mut hash = seed;
    for byte in text {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}
const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// What is hashed already needs no hashing.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(self.0, bytes);
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
fn bytes(table: &[u8], at: usize) -> Option<&[u8]> {
    let rest = table.get(at..)?;
    Some(&rest[..memchr::memchr(0, rest)?])
}
fn text(table: &[u8], at: usize) -> Option<&str> {
    std::str::from_utf8(bytes(table, at)?).ok()
}

/// An ELF file that is open.
pub(super) struct Reader {
    file: File,
    machine: u16,
    loads: Vec<(u64, u64, u64)>,
    dynamic: Vec<(u64, u64)>,
    interpreter: Option<String>,
    sections: (u64, u16, u16),
}

impl Reader {
    /// `None`: it is no ELF file, or is not dynamic, or is damaged, or is not of the kind that is understood:
    /// 64 bit, little endian: what every architecture of Debian with servers has, but s390x, armhf and i386.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let mut head = [0u8; 64];
        file.read_exact_at(&mut head, 0).ok()?;
        if head[..4] != *b"\x7fELF" || head[4] != 2 || head[5] != 1 {
            return None;
        }
        let mut reader = Self {
            file,
            machine: half(&head, 18)?,
            loads: Vec::new(),
            dynamic: Vec::new(),
            interpreter: None,
            sections: (long(&head, 40)?, half(&head, 58)?, half(&head, 60)?),
        };
        let (table, size, count) = (long(&head, 32)?, half(&head, 54)?, half(&head, 56)?);
        let headers = reader.read(table, u64::from(size) * u64::from(count))?;
        let mut dynamic = None;
        for header in headers.chunks_exact(usize::from(size).max(56)) {
            let (offset, address, length) =
                (long(header, 8)?, long(header, 16)?, long(header, 32)?);
            match word(header, 0)? {
                1 => reader.loads.push((address, offset, length)),
                2 => dynamic = Some((offset, length)),
                3 => {
                    let bytes = reader.read(offset, length.min(4096))?;
                    reader.interpreter = text(&bytes, 0).map(str::to_owned);
                }
                _ => {}
            }
        }
        let (offset, length) = dynamic?;
        for entry in reader.read(offset, length)?.chunks_exact(16) {
            match long(entry, 0)? {
                0 => break,
                tag => reader.dynamic.push((tag, long(entry, 8)?)),
            }
        }
        Some(reader)
    }

    fn read(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).ok().filter(|_| length <= LARGEST)?];
        self.file.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
    }

    fn tag(&self, tag: u64) -> Option<u64> {
        self.dynamic.iter().find(|(t, _)| *t == tag).map(|(_, value)| *value)
    }

    /// Where in the file an address lies.
    fn offset(&self, address: u64) -> Option<u64> {
        let (start, offset, _) =
            self.loads.iter().find(|(a, _, l)| (*a..a.saturating_add(*l)).contains(&address))?;
        (address - start).checked_add(*offset)
    }

    pub(super) fn elf(&self) -> Option<Elf> {
        let mut elf =
            Elf { machine: self.machine, interpreter: self.interpreter.clone(), ..Elf::default() };
        let strings = self.offset(self.tag(5)?)?;
        for (tag, at) in &self.dynamic {
            if ![1, 14, 15, 29].contains(tag) {
                continue;
            }
            let mut bytes = vec![0; 4096];
            let n = self.file.read_at(&mut bytes, strings.checked_add(*at)?).ok()?;
            let value = text(&bytes[..n], 0)?.to_owned();
            match tag {
                1 => elf.needed.push(value),
                14 => elf.soname = Some(value),
                // DT_RUNPATH hides DT_RPATH.
                29 => elf.runpath = Some(value),
                _ => {
                    elf.runpath.get_or_insert(value);
                }
            }
        }
        Some(elf)
    }

    /// How many entries the table of dynamic symbols has: by its section, else by what follows it.
    fn symbol_count(&self, symbols: u64, strings: u64) -> Option<u64> {
        let (table, size, count) = self.sections;
        if let Some(headers) =
            self.read(table, u64::from(size) * u64::from(count)).filter(|_| size >= 64)
        {
            let section = headers
                .chunks_exact(usize::from(size))
                .find(|h| word(h, 4) == Some(11))
                .and_then(|h| long(h, 32));
            if let Some(length) = section {
                return Some(length / 24);
            }
        }
        strings.checked_sub(symbols).map(|length| length / 24)
    }

    pub(super) fn symbols(&self) -> Option<Symbols> {
        let (strings_at, symbols_at) = (self.offset(self.tag(5)?)?, self.offset(self.tag(6)?)?);
        let strings = self.read(strings_at, self.tag(10)?)?;
        let count = self.symbol_count(symbols_at, strings_at)?;
        let table = self.read(symbols_at, count.checked_mul(24)?)?;
        let indices = match self.tag(0x6fff_fff0) {
            Some(address) => self.read(self.offset(address)?, count * 2)?,
            None => Vec::new(),
        };
        let mut out = Symbols::default();
        let mut names: HashMap<u16, Rc<str>> = HashMap::new();
        self.wanted_versions(&strings, &mut out, &mut names)?;
        self.offered_versions(&strings, &mut out, &mut names)?;
        for (n, symbol) in table.chunks_exact(24).enumerate().skip(1) {
            let at = word(symbol, 0)?;
            let Some(name) = bytes(&strings, at as usize).filter(|n| !n.is_empty()) else {
                continue;
            };
            let (bind, wanted) = (symbol[4] >> 4, half(symbol, 6)? == 0);
            // Local symbols are nobody else's; a weak one is wanted only if somebody has it.
            if !(bind == 1 || !wanted && [2, 10].contains(&bind)) {
                continue;
            }
            let index = half(&indices, n * 2).unwrap_or(1) & 0x7fff;
            let version = names.get(&index).filter(|_| index > 1);
            let bare = hash(SEED, name);
            let full = version.map_or(bare, |v| hash(hash(bare, b"@"), v.as_bytes()));
            if wanted {
                out.undefined.push(Wanted { bare, full, at, version: version.cloned() });
            } else {
                out.exports.insert(bare);
                out.exports.insert(full);
            }
        }
        out.strings = strings;
        Some(out)
    }

    /// `DT_VERNEED`.
    fn wanted_versions(
        &self,
        strings: &[u8],
        out: &mut Symbols,
        names: &mut HashMap<u16, Rc<str>>,
    ) -> Option<()> {
        let Some(address) = self.tag(0x6fff_fffe) else { return Some(()) };
        let mut at = self.offset(address)?;
        for _ in 0..self.tag(0x6fff_ffff).unwrap_or(0).min(10_000) {
            let need = self.read(at, 16)?;
            let file = text(strings, word(&need, 4)? as usize)?;
            let mut inner = at + u64::from(word(&need, 8)?);
            for _ in 0..half(&need, 2)? {
                let entry = self.read(inner, 16)?;
                let version = text(strings, word(&entry, 8)? as usize)?;
                names.insert(half(&entry, 6)?, version.into());
                // The second flag: weak, the loader goes on without it.
                if half(&entry, 4)? & 2 == 0 {
                    out.wanted_versions.push((file.to_owned(), version.to_owned()));
                }
                inner += u64::from(word(&entry, 12)?);
            }
            at += u64::from(word(&need, 12)?);
        }
        Some(())
    }

    /// `DT_VERDEF`.
    fn offered_versions(
        &self,
        strings: &[u8],
        out: &mut Symbols,
        names: &mut HashMap<u16, Rc<str>>,
    ) -> Option<()> {
        let Some(address) = self.tag(0x6fff_fffc) else { return Some(()) };
        let mut at = self.offset(address)?;
        for _ in 0..self.tag(0x6fff_fffd).unwrap_or(0).min(10_000) {
            let definition = self.read(at, 20)?;
            let first = self.read(at + u64::from(word(&definition, 12)?), 8)?;
            let version = text(strings, word(&first, 0)? as usize)?;
            names.insert(half(&definition, 4)?, version.into());
            out.versions.insert(version.to_owned());
            at += u64::from(word(&definition, 16)?);
        }
        Some(())
    }
}

/// Reads an ELF file's needs. `None`: see `Reader::open`.
pub fn read_elf(path: &Path) -> Option<Elf> {
    Reader::open(path)?.elf()
}
