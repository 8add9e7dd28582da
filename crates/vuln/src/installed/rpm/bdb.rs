//! A hash of Berkeley DB (its dbinc/db_page.h): pages of pairs, of which each value that is a header stands on pages of its own.

use super::{Bytes, MAX_HEADER, RpmError, Take, little};

/// Byte 12 of the first page, on machines whose numbers begin with their low byte.
pub(super) const MAGIC: [u8; 4] = 0x0006_1561_u32.to_le_bytes();
/// Bytes before the pairs of a page, or before the part of a value that it holds.
const HEAD: usize = 26;
const HASH: [u8; 2] = [13, 2];
const OVERFLOW: u8 = 7;
/// A value that stands on pages of its own.
const OFF_PAGE: u8 = 3;

pub(super) fn each(
    file: &(impl Bytes + ?Sized),
    start: &[u8],
    take: Take<'_>,
) -> Result<(), RpmError> {
    let size = little(start, 20)? as usize;
    if !size.is_power_of_two() || !(512..=65536).contains(&size) {
        return Err(RpmError::Damaged("its pages have no size that they can have"));
    }
    let last = u64::from(little(start, 32)?);
    if last >= file.length().div_ceil(size as u64) {
        return Err(RpmError::Damaged("it says to have more pages than it has"));
    }
    // No page belongs to two values: so many pages, and there is a circle.
    let mut left = last + 1;
    let mut page = vec![0; size];
    for number in 1..=last {
        file.read_at(number * size as u64, &mut page)?;
        if !HASH.contains(&page[25]) {
            continue;
        }
        let entries = usize::from(short(&page, 20)?);
        // Key, value, key, value.
        for value in (1..entries).step_by(2) {
            let at = usize::from(short(&page, HEAD + 2 * value)?);
            if page.get(at) == Some(&OFF_PAGE) {
                let (first, length) = (little(&page, at + 4)?, little(&page, at + 8)? as usize);
                take(&value_from(file, size, first, length, &mut left)?)?;
            }
        }
    }
    Ok(())
}

fn value_from(
    file: &(impl Bytes + ?Sized),
    size: usize,
    first: u32,
    length: usize,
    left: &mut u64,
) -> Result<Vec<u8>, RpmError> {
    if length > MAX_HEADER || length as u64 > file.length() {
        return Err(RpmError::Damaged("a header is longer than any, or than the file"));
    }
    let mut value = Vec::with_capacity(length);
    let mut page = vec![0; size];
    let mut next = first;
    while next != 0 && value.len() < length {
        *left = left.checked_sub(1).ok_or(RpmError::Damaged("its pages go round in a circle"))?;
        file.read_at(u64::from(next) * size as u64, &mut page)?;
        if page[25] != OVERFLOW {
            return Err(RpmError::Damaged("a value goes on where no value is"));
        }
        let part = &page[HEAD..];
        value.extend_from_slice(&part[..part.len().min(length - value.len())]);
        next = little(&page, 16)?;
    }
    match value.len() == length {
        true => Ok(value),
        false => Err(RpmError::Damaged("a header is cut off")),
    }
}

fn short(bytes: &[u8], at: usize) -> Result<u16, RpmError> {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk());
    part.map(|b| u16::from_le_bytes(*b)).ok_or(RpmError::Damaged("a number is cut off"))
}
