//! ZIP archives (PKWARE's APPNOTE 6.3, with ZIP64's counts) of one JSON record a file, as OSV data is handed out:
//! turned into one record a line.

use super::Bounds;
use flate2::Crc;
use flate2::read::DeflateDecoder;

/// More files than this are not read. The largest archive in use has less than a tenth.
const MAX_FILES: u64 = 1_000_000;
/// Signatures of the parts that are read.
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const DIRECTORY: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;

/// The records of all files `*.json`, each on a line of its own, in the order of the archive's directory.
pub(super) fn lines(bytes: &[u8], bounds: &Bounds) -> Result<Vec<u8>, String> {
    let archive = Archive(bytes);
    let (files, mut at) = archive.directory().ok_or("the archive is cut off: it has no end")?;
    if files > MAX_FILES {
        return Err(format!("the archive has {files} files, more than {MAX_FILES}"));
    }
    let mut out = Vec::new();
    for n in 1..=files {
        let damaged = || format!("the archive is damaged at file {n} of {files}");
        let (entry, next) = archive.entry(at).ok_or_else(damaged)?;
        at = next;
        if !entry.name.ends_with(b".json") {
            continue;
        }
        let name = || String::from_utf8_lossy(entry.name).chars().take(60).collect::<String>();
        let packed = archive.content(&entry).ok_or_else(damaged)?;
        let start = out.len();
        match entry.method {
            _ if entry.flags & 1 != 0 => return Err(format!("{:?} is encrypted", name())),
            0 => bounds.append(packed, &mut out)?,
            8 => bounds.append(DeflateDecoder::new(packed), &mut out)?,
            other => return Err(format!("{:?} is packed by method {other}, not deflate", name())),
        }
        let mut crc = Crc::new();
        crc.update(&out[start..]);
        if crc.sum() != entry.crc {
            return Err(format!("{:?} is damaged: its checksum differs", name()));
        }
        // Between the tokens of JSON a line's end is a space like any other; inside a string there is none.
        out[start..].iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
        out.push(b'\n');
    }
    if !archive.is(at, END) && !archive.is(at, END64) {
        return Err("the archive is damaged: it has other files than it counts".to_owned());
    }
    Ok(out)
}

/// A file as the archive's directory has it.
struct Entry<'a> {
    name: &'a [u8],
    flags: u16,
    method: u16,
    crc: u32,
    packed: usize,
    /// Where its local header stands.
    header: usize,
}

struct Archive<'a>(&'a [u8]);

impl<'a> Archive<'a> {
    fn slice(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(len)?)
    }

    /// `N` bytes somewhere, as a little-endian number.
    fn number<const N: usize>(&self, at: usize) -> Option<u64> {
        let mut all = [0; 8];
        all.get_mut(..N)?.copy_from_slice(self.slice(at, N)?);
        Some(u64::from_le_bytes(all))
    }

    fn is(&self, at: usize, signature: u32) -> bool {
        self.number::<4>(at) == Some(u64::from(signature))
    }

    /// How many files there are, and where their list begins.
    fn directory(&self) -> Option<(u64, usize)> {
        // Behind the end there may be a comment of up to 64 KiB.
        let last = self.0.len().checked_sub(22)?;
        let end = (last.saturating_sub(0xffff)..=last).rev().find(|&at| self.is(at, END))?;
        let locator = end.checked_sub(20).filter(|&at| self.is(at, END64_LOCATOR));
        if let Some(locator) = locator {
            let end64 = usize::try_from(self.number::<8>(locator + 8)?).ok()?;
            if !self.is(end64, END64) {
                return None;
            }
            let files = self.number::<8>(end64.checked_add(32)?)?;
            return Some((files, usize::try_from(self.number::<8>(end64.checked_add(48)?)?).ok()?));
        }
        Some((self.number::<2>(end + 10)?, self.number::<4>(end + 16)? as usize))
    }

    /// The file listed there, and where the next one is. Sizes beyond 4 GiB are not read: no such file fits the bounds.
    fn entry(&self, at: usize) -> Option<(Entry<'a>, usize)> {
        let head = Self(self.slice(at, 46)?);
        if !head.is(0, DIRECTORY) {
            return None;
        }
        let name_len = head.number::<2>(28)? as usize;
        let behind = (head.number::<2>(30)? + head.number::<2>(32)?) as usize;
        let entry = Entry {
            name: self.slice(at + 46, name_len)?,
            flags: head.number::<2>(8)? as u16,
            method: head.number::<2>(10)? as u16,
            crc: head.number::<4>(16)? as u32,
            packed: head.number::<4>(20)? as usize,
            header: head.number::<4>(42)? as usize,
        };
        Some((entry, at + 46 + name_len + behind))
    }

    /// A file's packed bytes.
    fn content(&self, entry: &Entry<'_>) -> Option<&'a [u8]> {
        let head = Self(self.slice(entry.header, 30)?);
        if !head.is(0, LOCAL) {
            return None;
        }
        let before = (head.number::<2>(26)? + head.number::<2>(28)?) as usize;
        self.slice(entry.header + 30 + before, entry.packed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::unpack;

    /// Made by another program (Python's `zipfile`): `a.json` packed and over two lines, `b/c.json` as it is, and a
    /// `README`.
    const SMALL: &[u8] = include_bytes!("testdata/small.zip");
    /// The same with an end in ZIP64's form, as archives of 65,535 files and more have it.
    const SMALL64: &[u8] = include_bytes!("testdata/small64.zip");
    const EXPECTED: &[u8] = b"{   \"id\": \"A\" }\n{\"id\":\"B\"}\n";

    #[test]
    fn each_record_of_an_archive_is_a_line_and_other_files_are_none() {
        assert_eq!(unpack(SMALL).unwrap().as_ref(), EXPECTED);
        assert_eq!(unpack(SMALL64).unwrap().as_ref(), EXPECTED);
    }

    #[test]
    fn an_archive_cut_off_anywhere_is_refused() {
        for archive in [SMALL, SMALL64] {
            for end in 4..archive.len() {
                let told = unpack(&archive[..end]).unwrap_err();
                assert!(told.contains("cut off") || told.contains("damaged"), "{end}: {told}");
            }
        }
    }

    #[test]
    fn an_archive_with_a_byte_changed_anywhere_never_passes_for_another_record() {
        for archive in [SMALL, SMALL64] {
            for at in 0..archive.len() {
                for change in [1, 0x80, 0xff] {
                    let mut bytes = archive.to_vec();
                    bytes[at] ^= change;
                    let Ok(found) = unpack(&bytes) else { continue };
                    // What is left may lack a file whose name was hit, or be no archive to us; nothing is made up.
                    let mut rest = found.as_ref().split_inclusive(|b| *b == b'\n');
                    let known =
                        |line: &[u8]| EXPECTED.split_inclusive(|b| *b == b'\n').any(|l| l == line);
                    assert!(
                        at < 4 || rest.all(known),
                        "byte {at}: {:?}",
                        String::from_utf8_lossy(&found)
                    );
                }
            }
        }
    }

    #[test]
    fn an_encrypted_file_and_another_packing_are_named() {
        let with = |at: usize, byte: u8| {
            let mut bytes = SMALL.to_vec();
            let directory = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
            bytes[directory + at] = byte;
            unpack(&bytes).unwrap_err()
        };
        assert_eq!(with(8, 1), "\"a.json\" is encrypted");
        assert_eq!(with(10, 14), "\"a.json\" is packed by method 14, not deflate");
    }
}
