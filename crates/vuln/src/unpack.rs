//! Feeds as they travel: plain, gzip, Zstandard, bzip2, or a ZIP archive of single records, unpacked within bounds.

mod zip;

use bzip2::bufread::MultiBzDecoder;
use std::borrow::Cow;
use std::io::Read;

/// Nothing is unpacked beyond this, in bytes.
const MAX_UNPACKED: u64 = 384 << 20;
/// Beyond this many bytes, what unpacks to more than [`MAX_RATIO`] times its size is taken for a bomb.
const RATIO_FROM: u64 = 32 << 20;
const MAX_RATIO: u64 = 300;

/// What is at the end of the name of a packed file. `xz` is told apart, and not read.
pub const ENDINGS: [&str; 5] = ["gz", "zst", "bz2", "zip", "xz"];

/// Unpacks gzip, Zstandard, bzip2 or ZIP by their magic numbers; anything else stays as it is.
///
/// # Errors
/// In words: what is cut off, damaged, or more than any feed has.
pub fn unpack(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let bounds = Bounds { packed: bytes.len() };
    match bytes {
        [0x1f, 0x8b, ..] => bounds.drain(flate2::read::MultiGzDecoder::new(bytes)).map(Cow::Owned),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(bytes)
                .map_err(|e| format!("not Zstandard: {e}"))?;
            bounds.drain(decoder).map(Cow::Owned)
        }
        [b'P', b'K', 3 | 5, 4 | 6, ..] => zip::lines(bytes, &bounds).map(Cow::Owned),
        [b'B', b'Z', b'h', ..] => bounds.drain(MultiBzDecoder::new(bytes)).map(Cow::Owned),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            Err("xz is not read: give it plain, gzip, Zstandard, bzip2 or ZIP".into())
        }
        plain => Ok(Cow::Borrowed(plain)),
    }
}

/// How much may come out of what went in.
struct Bounds {
    /// Bytes that went in.
    packed: usize,
}

impl Bounds {
    /// Everything that can be read.
    fn drain(&self, from: impl Read) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        self.append(from, &mut out)?;
        Ok(out)
    }

    /// Everything that can be read, behind what came out before.
    fn append(&self, mut from: impl Read, out: &mut Vec<u8>) -> Result<(), String> {
        let mut piece = vec![0; 64 << 10];
        loop {
            let n = from
                .read(&mut piece)
                .map_err(|e| format!("it is cut off or damaged after {} bytes: {e}", out.len()))?;
            if n == 0 {
                return Ok(());
            }
            out.extend_from_slice(&piece[..n]);
            let size = out.len() as u64;
            if size > MAX_UNPACKED {
                return Err(format!("it unpacks to more than {MAX_UNPACKED} bytes"));
            }
            if size > RATIO_FROM && size / self.packed.max(1) as u64 > MAX_RATIO {
                return Err(format!(
                    "it unpacks to more than {MAX_RATIO} times its size: that is no feed"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    }

    fn bz(bytes: &[u8]) -> Vec<u8> {
        let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        bz.write_all(bytes).unwrap();
        bz.finish().unwrap()
    }

    #[test]
    fn bzip2_is_unpacked_stream_after_stream_and_what_is_cut_off_or_changed_is_an_error() {
        let data = b"feed feed feed, and feed again ".repeat(20);
        let packed = bz(&data);
        assert!(*unpack(&packed).unwrap() == *data);
        assert!(*unpack(&[packed.clone(), packed.clone()].concat()).unwrap() == *data.repeat(2));
        for end in 4..packed.len() {
            assert!(unpack(&packed[..end]).is_err(), "cut off at {end}");
        }
        let mut changed = packed.clone();
        for at in 4..packed.len() {
            for bit in 0..8 {
                changed[at] ^= 1 << bit;
                // The bits behind the last checksum say nothing.
                let read = unpack(&changed);
                assert!(read.is_err() || *read.unwrap() == *data, "byte {at}, bit {bit}");
                changed[at] ^= 1 << bit;
            }
        }
        let bomb = bz(&vec![0; (RATIO_FROM + 1) as usize]);
        let said = unpack(&bomb).unwrap_err();
        assert!(!said.contains("damaged"), "{said}");
    }

    const KEV: &[u8] = include_bytes!("../../../data/kev.json.zst");

    #[test]
    fn gzip_zstandard_and_plain_are_told_apart_by_their_bytes() {
        assert_eq!(unpack(b"{}").unwrap().as_ref(), b"{}");
        assert_eq!(unpack(&gz(b"{}")).unwrap().as_ref(), b"{}");
        assert_eq!(unpack(KEV).unwrap()[0], b'{');
        assert!(unpack(b"\xfd7zXZ").unwrap_err().contains("xz"));
    }

    #[test]
    fn a_packed_feed_that_is_cut_off_is_told_so() {
        let whole = gz(&vec![b'x'; 100_000]);
        assert!(unpack(&whole[..whole.len() / 2]).unwrap_err().contains("cut off"));
        assert!(unpack(&KEV[..5000]).unwrap_err().contains("cut off"));
        assert!(unpack(b"BZh9").unwrap_err().contains("cut off"));
    }

    #[test]
    fn a_bomb_is_not_unpacked_to_its_end() {
        let bomb = gz(&vec![0; (RATIO_FROM + (1 << 20)) as usize]);
        assert!(bomb.len() < 64 << 10, "the bomb is small: {}", bomb.len());
        assert!(unpack(&bomb).unwrap_err().contains("times its size"));
    }
}
