//! ndb (rpm's lib/backend/ndb/rpmpkg.c): a table of slots, each with the place of a header in blocks of 16 bytes.

use super::{Bytes, MAX_HEADER, RpmError, Take, little};

pub(super) const MAGIC: &[u8] = b"RpmP";
const PAGE: u64 = 4096;
/// The file's own head takes the room of two slots.
const HEAD: u64 = 32;
const SLOT: usize = 16;
const BLOCK: u64 = 16;

pub(super) fn each(file: &(impl Bytes + ?Sized), take: Take<'_>) -> Result<(), RpmError> {
    let mut head = [0; HEAD as usize];
    file.read_at(0, &mut head)?;
    let end = u64::from(little(&head, 12)?) * PAGE;
    if end > file.length() {
        return Err(RpmError::Damaged("its table of slots is longer than the file"));
    }
    let mut at = HEAD;
    let mut slots = [0; PAGE as usize];
    while at < end {
        let length = (PAGE - at % PAGE) as usize;
        file.read_at(at, &mut slots[..length])?;
        for slot in slots[..length].chunks_exact(SLOT) {
            let (package, block) = (little(slot, 4)?, little(slot, 8)?);
            if slot.starts_with(b"Slot") && package != 0 {
                take(&header(file, package, block)?)?;
            }
        }
        at += length as u64;
    }
    Ok(())
}

fn header(file: &(impl Bytes + ?Sized), package: u32, block: u32) -> Result<Vec<u8>, RpmError> {
    let place = u64::from(block) * BLOCK;
    let mut head = [0; 16];
    file.read_at(place, &mut head)?;
    let length = little(&head, 12)? as usize;
    if !head.starts_with(b"BlbS") || little(&head, 4)? != package {
        return Err(RpmError::Damaged("a slot points to another package's header"));
    }
    if length > MAX_HEADER || place + length as u64 > file.length() {
        return Err(RpmError::Damaged("a header is longer than any, or than the file"));
    }
    let mut header = vec![0; length];
    file.read_at(place + 16, &mut header)?;
    Ok(header)
}
