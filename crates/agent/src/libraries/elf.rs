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
    /// `e_machine`, and above it whether addresses have 64 bits: what can be loaded together is equal in both.
    pub machine: u32,
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

/// How a file writes its numbers (System V ABI, "ELF Identification": `EI_CLASS`, `EI_DATA`), and where its structures have
/// what: the fields of 32 bit lie elsewhere than those of 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Format {
    /// Addresses have 64 bits, else 32.
    wide: bool,
    /// The most significant byte comes first: s390x.
    big: bool,
}

impl Format {
    fn of(head: &[u8; 64]) -> Option<Self> {
        let one_or_two = |byte: u8| (1..=2).contains(&byte).then_some(byte == 2);
        let is_elf = head.starts_with(b"\x7fELF");
        Some(Self { wide: one_or_two(head[4])?, big: one_or_two(head[5])? }).filter(|_| is_elf)
    }
    /// One or the other, by the width of addresses.
    fn either<T>(self, narrow: T, wide: T) -> T {
        if self.wide { wide } else { narrow }
    }
    fn half(self, bytes: &[u8], at: usize) -> Option<u16> {
        let two = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
    }
    fn word(self, bytes: &[u8], at: usize) -> Option<u32> {
        let four = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }
    /// An address, an offset or a size.
    fn long(self, bytes: &[u8], at: usize) -> Option<u64> {
        if !self.wide {
            return self.word(bytes, at).map(u64::from);
        }
        let eight = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
        Some(if self.big { u64::from_be_bytes(eight) } else { u64::from_le_bytes(eight) })
    }
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
    format: Format,
    machine: u32,
    loads: Vec<(u64, u64, u64)>,
    dynamic: Vec<(u64, u64)>,
    interpreter: Option<String>,
    sections: (u64, u16, u16),
}

impl Reader {
    /// `None`: it is no ELF file, or is not dynamic, or is damaged.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let mut head = [0u8; 64];
        file.read_exact_at(&mut head, 0).ok()?;
        let format = Format::of(&head)?;
        let long = |at: (usize, usize)| format.long(&head, format.either(at.0, at.1));
        let half = |at: (usize, usize)| format.half(&head, format.either(at.0, at.1));
        let sections = (long((32, 40))?, half((46, 58))?, half((48, 60))?);
        let (table, size, count) = (long((28, 32))?, half((42, 54))?, half((44, 56))?);
        let mut reader = Self {
            file,
            format,
            machine: u32::from(half((18, 18))?) | u32::from(format.wide) << 16,
            loads: Vec::new(),
            dynamic: Vec::new(),
            interpreter: None,
            sections,
        };
        let headers = reader.read(table, u64::from(size) * u64::from(count))?;
        let mut dynamic = None;
        for header in headers.chunks_exact(usize::from(size).max(format.either(32, 56))) {
            let long = |at: (usize, usize)| format.long(header, format.either(at.0, at.1));
            let (offset, address, length) = (long((4, 8))?, long((8, 16))?, long((16, 32))?);
            match format.word(header, 0)? {
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
        for entry in reader.read(offset, length)?.chunks_exact(format.either(8, 16)) {
            match format.long(entry, 0)? {
                0 => break,
                tag => reader.dynamic.push((tag, format.long(entry, format.either(4, 8))?)),
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
        let (format, (table, size, count)) = (self.format, self.sections);
        let symbol = self.symbol_size() as u64;
        if let Some(headers) = self
            .read(table, u64::from(size) * u64::from(count))
            .filter(|_| size >= format.either(40, 64))
        {
            let section = headers
                .chunks_exact(usize::from(size))
                .find(|h| format.word(h, 4) == Some(11))
                .and_then(|h| format.long(h, format.either(20, 32)));
            if let Some(length) = section {
                return Some(length / symbol);
            }
        }
        strings.checked_sub(symbols).map(|length| length / symbol)
    }

    fn symbol_size(&self) -> usize {
        self.format.either(16, 24)
    }

    pub(super) fn symbols(&self) -> Option<Symbols> {
        let format = self.format;
        let (info_at, section_at) = format.either((12, 14), (4, 6));
        let (strings_at, symbols_at) = (self.offset(self.tag(5)?)?, self.offset(self.tag(6)?)?);
        let strings = self.read(strings_at, self.tag(10)?)?;
        let count = self.symbol_count(symbols_at, strings_at)?;
        let table = self.read(symbols_at, count.checked_mul(self.symbol_size() as u64)?)?;
        let indices = match self.tag(0x6fff_fff0) {
            Some(address) => self.read(self.offset(address)?, count * 2)?,
            None => Vec::new(),
        };
        let mut out = Symbols::default();
        let mut names: HashMap<u16, Rc<str>> = HashMap::new();
        self.wanted_versions(&strings, &mut out, &mut names)?;
        self.offered_versions(&strings, &mut out, &mut names)?;
        for (n, symbol) in table.chunks_exact(self.symbol_size()).enumerate().skip(1) {
            let at = format.word(symbol, 0)?;
            let Some(name) = bytes(&strings, at as usize).filter(|n| !n.is_empty()) else {
                continue;
            };
            let (bind, wanted) = (symbol[info_at] >> 4, format.half(symbol, section_at)? == 0);
            // Local symbols are nobody else's; a weak one is wanted only if somebody has it.
            if !(bind == 1 || !wanted && [2, 10].contains(&bind)) {
                continue;
            }
            let index = format.half(&indices, n * 2).unwrap_or(1) & 0x7fff;
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
            let file = text(strings, self.format.word(&need, 4)? as usize)?;
            let mut inner = at + u64::from(self.format.word(&need, 8)?);
            for _ in 0..self.format.half(&need, 2)? {
                let entry = self.read(inner, 16)?;
                let version = text(strings, self.format.word(&entry, 8)? as usize)?;
                names.insert(self.format.half(&entry, 6)?, version.into());
                // The second flag: weak, the loader goes on without it.
                if self.format.half(&entry, 4)? & 2 == 0 {
                    out.wanted_versions.push((file.to_owned(), version.to_owned()));
                }
                inner += u64::from(self.format.word(&entry, 12)?);
            }
            at += u64::from(self.format.word(&need, 12)?);
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
            let first = self.read(at + u64::from(self.format.word(&definition, 12)?), 8)?;
            let version = text(strings, self.format.word(&first, 0)? as usize)?;
            names.insert(self.format.half(&definition, 4)?, version.into());
            out.versions.insert(version.to_owned());
            at += u64::from(self.format.word(&definition, 16)?);
        }
        Some(())
    }
}

/// Reads an ELF file's needs. `None`: see `Reader::open`.
pub fn read_elf(path: &Path) -> Option<Elf> {
    Reader::open(path)?.elf()
}
