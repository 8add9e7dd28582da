//! As much of SQLite's file format (<https://www.sqlite.org/fileformat2.html>) as one table takes: its b-tree, long values, and
//! the write-ahead log with what was written last.

use super::{Bytes, MAX_HEADER, RpmError, Take};
use std::collections::BTreeMap;

pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";
/// The table of packages.
const TABLE: &[u8] = b"Packages";
/// Deeper trees are none: each level has many times the pages of the one above.
const DEEPEST: usize = 20;

const INTERIOR: u8 = 0x05;
const LEAF: u8 = 0x0d;

struct Database<'a, B: ?Sized> {
    file: &'a B,
    page_size: usize,
    /// Bytes of a page that are used: some may be kept for extensions.
    usable: usize,
    log: Log<'a>,
    /// So many pages may still be looked at. No page belongs to two places of a tree: more, and there is a circle.
    left: u64,
}

/// Pages that were written last: number → the page.
struct Log<'a>(BTreeMap<u32, &'a [u8]>);

pub(super) fn each(
    file: &(impl Bytes + ?Sized),
    log: Option<&[u8]>,
    take: Take<'_>,
) -> Result<(), RpmError> {
    let mut head = [0; 100];
    file.read_at(0, &mut head)?;
    let page_size = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65536,
        size => usize::from(size),
    };
    let usable = page_size.saturating_sub(usize::from(head[20]));
    if !page_size.is_power_of_two() || page_size < 512 || usable < 480 {
        return Err(RpmError::Damaged("its pages have no size that they can have"));
    }
    let log = Log::read(log.unwrap_or_default(), page_size);
    let pages = file.length() / page_size as u64 + log.0.len() as u64;
    let mut database = Database { file, page_size, usable, log, left: pages };
    let mut root = None;
    database.rows(1, &mut |record| {
        // type, name, tbl_name, rootpage, sql
        let values = columns(record)?;
        if let [b"table", name, _, page, ..] = values[..]
            && name == TABLE
        {
            let number = page.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
            root = u32::try_from(number).ok();
        }
        Ok(())
    })?;
    let root = root.ok_or(RpmError::Damaged("it has no table of packages"))?;
    database.left = pages;
    database.rows(root, &mut |record| match columns(record)?[..] {
        // hnum, blob
        [_, header, ..] => take(header),
        _ => Err(RpmError::Damaged("a row has no header")),
    })
}

impl<B: Bytes + ?Sized> Database<'_, B> {
    fn page(&mut self, number: u32) -> Result<Vec<u8>, RpmError> {
        self.left =
            self.left.checked_sub(1).ok_or(RpmError::Damaged("its pages go round in a circle"))?;
        if let Some(page) = self.log.0.get(&number) {
            return Ok(page.to_vec());
        }
        let before = number.checked_sub(1).ok_or(RpmError::Damaged("there is no page 0"))?;
        let mut page = vec![0; self.page_size];
        self.file.read_at(u64::from(before) * self.page_size as u64, &mut page)?;
        Ok(page)
    }

    /// Hands over each row of a table, in order.
    fn rows(
        &mut self,
        root: u32,
        take: &mut dyn FnMut(&[u8]) -> Result<(), RpmError>,
    ) -> Result<(), RpmError> {
        let mut stack = vec![(root, 0_usize)];
        while let Some((number, depth)) = stack.pop() {
            let page = self.page(number)?;
            let head = if number == 1 { 100 } else { 0 };
            let cells = usize::from(short(&page, head + 3)?);
            let kind = page.get(head).copied().unwrap_or_default();
            let places = head + if kind == INTERIOR { 12 } else { 8 };
            let place = |cell: usize| short(&page, places + 2 * cell).map(usize::from);
            match kind {
                INTERIOR if depth < DEEPEST => {
                    // The last goes first onto the stack.
                    stack.push((long(&page, head + 8)?, depth + 1));
                    for cell in (0..cells).rev() {
                        stack.push((long(&page, place(cell)?)?, depth + 1));
                    }
                }
                LEAF => {
                    for cell in 0..cells {
                        let record = self.record(&page, place(cell)?)?;
                        take(&record)?;
                    }
                }
                _ => return Err(RpmError::Damaged("a page of its tables is of another kind")),
            }
        }
        Ok(())
    }

    /// The record of a cell of a leaf, with what of it stands on other pages.
    fn record(&mut self, page: &[u8], at: usize) -> Result<Vec<u8>, RpmError> {
        let mut rest = page.get(at..).ok_or(RpmError::Damaged("a row is outside of its page"))?;
        let length = usize::try_from(varint(&mut rest)?).unwrap_or(usize::MAX);
        let _row = varint(&mut rest)?;
        if length > MAX_HEADER || length as u64 > self.pages_size() {
            return Err(RpmError::Damaged("a header is longer than any, or than the file"));
        }
        let most = self.usable - 35;
        if length <= most {
            let whole = rest.get(..length).ok_or(RpmError::Damaged("a row is cut off"))?;
            return Ok(whole.to_vec());
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let fits = least + (length - least) % (self.usable - 4);
        let here = if fits <= most { fits } else { least };
        let (local, after) =
            rest.split_at_checked(here).ok_or(RpmError::Damaged("a row is cut off"))?;
        let mut record = Vec::with_capacity(length);
        record.extend_from_slice(local);
        let mut next = long(after, 0)?;
        while record.len() < length {
            let page = self.page(next)?;
            let part = &page[4..self.usable];
            record.extend_from_slice(&part[..part.len().min(length - record.len())]);
            next = long(&page, 0)?;
        }
        Ok(record)
    }

    fn pages_size(&self) -> u64 {
        self.file.length() + (self.log.0.len() * self.page_size) as u64
    }
}

/// The values of a record, as bytes: a header of types, then one after the other.
fn columns(record: &[u8]) -> Result<Vec<&[u8]>, RpmError> {
    let damaged = RpmError::Damaged("a row is none");
    let mut rest = record;
    let head = usize::try_from(varint(&mut rest)?).unwrap_or(usize::MAX);
    let used = record.len() - rest.len();
    if head < used || head > record.len() {
        return Err(damaged);
    }
    let (mut types, mut data) = (&record[used..head], &record[head..]);
    let mut values = Vec::new();
    while !types.is_empty() {
        let length = match varint(&mut types)? {
            0 | 8 | 9 => 0,
            n @ 1..=4 => n,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err(damaged),
            n => (n - 12) / 2,
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (value, more) =
            data.split_at_checked(length).ok_or(RpmError::Damaged("a row is cut off"))?;
        values.push(value);
        data = more;
    }
    Ok(values)
}

impl<'a> Log<'a> {
    /// Reads the write-ahead log up to its last whole transaction. One that is none, or of another file, has nothing in it:
    /// so does SQLite take it.
    fn read(bytes: &'a [u8], page_size: usize) -> Self {
        let mut pages = BTreeMap::new();
        let Some((head, mut frames)) = bytes.split_at_checked(32) else { return Self(pages) };
        let number = |part: &[u8], at: usize| long(part, at).unwrap_or_default();
        let big = match number(head, 0) {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return Self(pages),
        };
        let mut sums = checksum(big, (0, 0), &head[..24]);
        if number(head, 8) as usize != page_size || sums != (number(head, 24), number(head, 28)) {
            return Self(pages);
        }
        let mut begun = Vec::new();
        while let Some((frame, rest)) = frames.split_at_checked(24 + page_size) {
            let (of, page) = frame.split_at(24);
            sums = checksum(big, checksum(big, sums, &of[..8]), page);
            let salted = of[8..16] == head[16..24];
            if !salted || sums != (number(of, 16), number(of, 20)) {
                break;
            }
            begun.push((number(of, 0), page));
            // How many pages the file has after a commit; 0 where it goes on.
            if number(of, 4) != 0 {
                pages.extend(begun.drain(..));
            }
            frames = rest;
        }
        Self(pages)
    }
}

fn checksum(big: bool, (mut a, mut b): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let word = |at: usize| {
            let part = [pair[at], pair[at + 1], pair[at + 2], pair[at + 3]];
            if big { u32::from_be_bytes(part) } else { u32::from_le_bytes(part) }
        };
        a = a.wrapping_add(word(0)).wrapping_add(b);
        b = b.wrapping_add(word(4)).wrapping_add(a);
    }
    (a, b)
}

/// A number of one to nine bytes, of which each but the ninth says by its highest bit whether another follows.
fn varint(rest: &mut &[u8]) -> Result<u64, RpmError> {
    let mut value = 0;
    for i in 0..9 {
        let (byte, more) = rest.split_first().ok_or(RpmError::Damaged("a number is cut off"))?;
        *rest = more;
        if i == 8 {
            return Ok(value << 8 | u64::from(*byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(value)
}

fn short(bytes: &[u8], at: usize) -> Result<u16, RpmError> {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk());
    part.map(|b| u16::from_be_bytes(*b)).ok_or(RpmError::Damaged("a number is cut off"))
}

fn long(bytes: &[u8], at: usize) -> Result<u32, RpmError> {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk());
    part.map(|b| u32::from_be_bytes(*b)).ok_or(RpmError::Damaged("a number is cut off"))
}
