//! bzip2, unpacked: as vendors publish their OVAL definitions. Blocks are independent of each other, and each is checked by
//! its CRC before anything of it is given on.
//!
//! The format is described by its only implementation; what stands here follows bzip2 1.0.8, without randomised blocks, which
//! nothing has written since 0.9.5.

use std::io::{self, ErrorKind, Read};

/// Begins a block: the digits of pi.
const BLOCK: u64 = 0x3141_5926_5359;
/// Ends a stream: those of its square root.
const END: u64 = 0x1772_4538_5090;
/// Longest code, in bits.
const MAX_CODE: usize = 20;
/// Symbols that are read by one table, before the next one is chosen.
const GROUP: usize = 50;

/// Unpacks one stream after another.
pub(super) struct Bunzip<'a> {
    bits: Bits<'a>,
    /// Bytes in a block at most, before runs are written out; 0 between streams.
    block_size: usize,
    /// Over all blocks of the stream.
    crc: u32,
    /// Of the block before, from `given` on still to be given.
    block: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<'a> Bunzip<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let bits = Bits { bytes, at: 0, held: 0, count: 0 };
        Self { bits, block_size: 0, crc: 0, block: Vec::new(), given: 0, ended: false }
    }

    /// Reads what comes next: the head of a stream, a block, the end.
    fn next(&mut self) -> io::Result<()> {
        if self.block_size == 0 {
            let (magic, level) = (self.bits.take(24)?, self.bits.take(8)?);
            if magic != 0x42_5a68 || !(0x31..=0x39).contains(&level) {
                return Err(damaged("no stream begins where one should"));
            }
            self.block_size = 100_000 * (level as usize - 0x30);
            self.crc = 0;
            return Ok(());
        }
        let magic = u64::from(self.bits.take(24)?) << 24 | u64::from(self.bits.take(24)?);
        let crc = self.bits.take(32)?;
        match magic {
            BLOCK => {
                self.block.clear();
                self.given = 0;
                block(&mut self.bits, self.block_size, &mut self.block)?;
                if crc_of(&self.block) != crc {
                    return Err(damaged("a block does not have its checksum"));
                }
                self.crc = self.crc.rotate_left(1) ^ crc;
                Ok(())
            }
            END if crc == self.crc => {
                self.block_size = 0;
                self.ended = self.bits.align();
                Ok(())
            }
            END => Err(damaged("the stream does not have its checksum")),
            _ => Err(damaged("no block begins where one should")),
        }
    }
}

impl Read for Bunzip<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given == self.block.len() && !self.ended {
            self.next()?;
        }
        let left = &self.block[self.given..];
        let n = left.len().min(into.len());
        into[..n].copy_from_slice(&left[..n]);
        self.given += n;
        Ok(n)
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// Bits, highest first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
}

impl Bits<'_> {
    /// The next bits, at most 32, which are not taken yet.
    fn peek(&mut self, n: u32) -> io::Result<u32> {
        while self.count < n {
            let byte = self.bytes.get(self.at);
            let byte = byte.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
            self.held = self.held << 8 | u64::from(*byte);
            self.at += 1;
            self.count += 8;
        }
        Ok((self.held >> (self.count - n) & ((1 << n) - 1)) as u32)
    }

    fn take(&mut self, n: u32) -> io::Result<u32> {
        let bits = self.peek(n)?;
        self.count -= n;
        Ok(bits)
    }

    fn flag(&mut self) -> io::Result<bool> {
        Ok(self.take(1)? == 1)
    }

    /// Goes on with the next byte. Is there none?
    fn align(&mut self) -> bool {
        self.count -= self.count % 8;
        self.count == 0 && self.at == self.bytes.len()
    }
}

/// One table of codes: those of a length follow each other.
struct Table {
    /// Of each length: the first code that is longer, the place of its first symbol less its first code.
    lengths: [(u32, i32); MAX_CODE + 1],
    /// Symbols by code.
    symbols: Vec<u16>,
}

impl Table {
    /// `lengths`: of each symbol's code.
    fn new(lengths: &[u8]) -> Self {
        let mut symbols = Vec::with_capacity(lengths.len());
        let mut table = [(0, 0); MAX_CODE + 1];
        let mut code = 0_u32;
        for (length, entry) in table.iter_mut().enumerate().skip(1) {
            code <<= 1;
            let first = symbols.len() as i32 - code as i32;
            let of_length = lengths.iter().enumerate().filter(|(_, l)| usize::from(**l) == length);
            symbols.extend(of_length.map(|(symbol, _)| symbol as u16));
            code = (symbols.len() as i32 - first) as u32;
            *entry = (code, first);
        }
        Self { lengths: table, symbols }
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> io::Result<usize> {
        let ahead = bits.peek(MAX_CODE as u32)?;
        for (length, (end, first)) in self.lengths.iter().enumerate().skip(1) {
            let code = ahead >> (MAX_CODE - length);
            if code < *end {
                bits.take(length as u32)?;
                let symbol = usize::try_from(code as i32 + first).ok();
                let symbol = symbol.and_then(|place| self.symbols.get(place));
                return symbol.map(|s| usize::from(*s)).ok_or_else(|| damaged("no such code"));
            }
        }
        Err(damaged("no such code"))
    }
}

/// Reads a block behind its checksum, and writes what it stands for.
fn block(bits: &mut Bits<'_>, size: usize, out: &mut Vec<u8>) -> io::Result<()> {
    if bits.flag()? {
        return Err(damaged("a randomised block, which no bzip2 has written since 1999"));
    }
    let origin = bits.take(24)? as usize;
    let mut sorted = symbols(bits, size)?;
    if origin >= sorted.len() {
        return Err(damaged("a block begins beyond its end"));
    }
    // Burrows and Wheeler's transform, undone: beside each byte the place of the one behind it.
    let mut places = [0_usize; 256];
    for byte in &sorted {
        places[(*byte & 0xff) as usize] += 1;
    }
    let mut before = 0;
    for place in &mut places {
        before += std::mem::replace(place, before);
    }
    for at in 0..sorted.len() {
        let place = &mut places[(sorted[at] & 0xff) as usize];
        sorted[*place] |= (at as u32) << 8;
        *place += 1;
    }
    // Behind four equal bytes stands how many more there are.
    let (mut at, mut equal, mut last) = (sorted[origin] >> 8, 0, None);
    for _ in 0..sorted.len() {
        let entry = sorted[at as usize];
        let byte = (entry & 0xff) as u8;
        at = entry >> 8;
        if equal == 4 {
            // Invariant: something was written before there were four of it.
            let again = last.unwrap_or_default();
            out.resize(out.len() + usize::from(byte), again);
            (equal, last) = (0, None);
            continue;
        }
        equal = if last == Some(byte) { equal + 1 } else { 1 };
        last = Some(byte);
        out.push(byte);
    }
    Ok(())
}

/// The last column of the sorted rotations, byte by byte.
fn symbols(bits: &mut Bits<'_>, size: usize) -> io::Result<Vec<u32>> {
    let mut used = Vec::with_capacity(256);
    let ranges = bits.take(16)?;
    for range in (0..16).filter(|range| ranges >> (15 - range) & 1 == 1) {
        let bytes = bits.take(16)?;
        used.extend((0..16).filter(|b| bytes >> (15 - b) & 1 == 1).map(|b| (range * 16 + b) as u8));
    }
    if used.is_empty() {
        return Err(damaged("a block without a byte"));
    }
    let tables = bits.take(3)? as usize;
    let chosen = bits.take(15)? as usize;
    if !(2..=6).contains(&tables) || chosen == 0 {
        return Err(damaged("a block without codes"));
    }
    let mut order: Vec<usize> = (0..tables).collect();
    let mut selectors = Vec::with_capacity(chosen);
    for _ in 0..chosen {
        let mut back = 0;
        while bits.flag()? {
            back += 1;
            if back >= tables {
                return Err(damaged("no such table"));
            }
        }
        order[..=back].rotate_right(1);
        selectors.push(order[0]);
    }
    let end = used.len() + 1;
    let mut codes = Vec::with_capacity(tables);
    for _ in 0..tables {
        let mut length = bits.take(5)? as u8;
        let mut lengths = vec![0; end + 1];
        for its in &mut lengths {
            while bits.flag()? {
                length = if bits.flag()? { length.wrapping_sub(1) } else { length + 1 };
                if !(1..=MAX_CODE as u8).contains(&length) {
                    return Err(damaged("a code of no length, or too long"));
                }
            }
            if !(1..=MAX_CODE as u8).contains(&length) {
                return Err(damaged("a code of no length, or too long"));
            }
            *its = length;
        }
        codes.push(Table::new(&lengths));
    }
    let mut out: Vec<u32> = Vec::new();
    let (mut run, mut weight) = (0_usize, 1_usize);
    for table in selectors {
        for _ in 0..GROUP {
            let symbol = codes[table].symbol(bits)?;
            if symbol <= 1 {
                // A number in digits of 1 and 2, lowest first: how often the byte at the front comes again.
                run += weight << symbol;
                weight <<= 1;
                if run > size {
                    return Err(damaged("a block longer than its stream says"));
                }
                continue;
            }
            out.resize(out.len() + run, u32::from(used[0]));
            (run, weight) = (0, 1);
            if out.len() > size {
                return Err(damaged("a block longer than its stream says"));
            }
            if symbol == end {
                return Ok(out);
            }
            used[..symbol].rotate_right(1);
            out.push(u32::from(used[0]));
        }
    }
    Err(damaged("a block without an end"))
}

/// The CRC-32 of bzip2: highest bit first.
fn crc_of(bytes: &[u8]) -> u32 {
    static TABLE: [u32; 256] = table();
    !bytes
        .iter()
        .fold(u32::MAX, |crc, byte| crc << 8 ^ TABLE[(crc >> 24) as usize ^ usize::from(*byte)])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Bunzip::new(bytes).read_to_end(&mut out)?;
        Ok(out)
    }

    /// By the program; `None` (with a message) where there is none.
    fn packed(bytes: &[u8], level: &str) -> Option<Vec<u8>> {
        let child = Command::new("bzip2")
            .args(["-c", level])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            println!("skipped: no bzip2 here");
            return None;
        };
        let mut input = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&bytes).unwrap());
        let mut out = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
        writer.join().unwrap();
        assert!(child.wait().unwrap().success());
        Some(out)
    }

    /// Bytes that are the same each time, of an alphabet of so many.
    fn made(length: usize, alphabet: u64) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..length).map(|_| (next() % alphabet) as u8).collect()
    }

    #[test]
    fn what_bzip2_packed_is_unpacked_to_the_same_bytes() {
        let mut repeated = b"feed ".repeat(40_000);
        repeated.extend(vec![0; 700_000]);
        let runs: Vec<u8> = (0..=255_u8).flat_map(|n| vec![n; usize::from(n) % 9 + 1]).collect();
        for data in [
            b"".to_vec(),
            b"x".to_vec(),
            b"xxxx".to_vec(),
            vec![7; 259],
            vec![7; 260],
            (0..=255).collect(),
            runs,
            repeated,
            made(250_000, 256),
            made(1_200_000, 3),
        ] {
            for level in ["-1", "-9"] {
                let Some(packed) = packed(&data, level) else { return };
                assert!(unpacked(&packed).unwrap() == data, "{} bytes, {level}", data.len());
                // Several streams, as bzip2 itself takes them.
                let twice = [packed.clone(), packed].concat();
                assert_eq!(unpacked(&twice).unwrap().len(), 2 * data.len());
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_changed_is_an_error_and_never_more_than_that() {
        let data = b"feed feed feed, and feed again ".repeat(20);
        let Some(packed) = packed(&data, "-9") else { return };
        for end in 0..packed.len() {
            assert!(unpacked(&packed[..end]).is_err(), "cut off at {end}");
        }
        let mut changed = packed.clone();
        for at in 0..packed.len() {
            for bit in 0..8 {
                changed[at] ^= 1 << bit;
                let read = unpacked(&changed);
                // The level may be another; the bits behind the last checksum say nothing.
                assert!(read.is_err() || read.unwrap() == data, "byte {at}, bit {bit}");
                changed[at] ^= 1 << bit;
            }
        }
        for noise in 0..200_u64 {
            let mut bytes = b"BZh91AY&SY".to_vec();
            bytes.extend(made(400, noise + 2));
            assert!(unpacked(&bytes).is_err());
        }
    }
}
