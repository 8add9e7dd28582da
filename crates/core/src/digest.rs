//! SHA-256 digests over bytes and over canonical JSON.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// A SHA-256 digest (FIPS 180-4). Written as `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a value's JSON text.
    ///
    /// Canonical because this crate's types have fields in a fixed order and ordered maps only
    /// (`clippy.toml` bans the unordered ones).
    pub fn of_json<T: Serialize>(value: &T) -> Self {
        // JSON is written in bits of a few bytes, and the hash is quick with many at once.
        struct Sink(Sha256, Vec<u8>);
        const ENOUGH: usize = 4096;
        impl std::io::Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.1.extend_from_slice(bytes);
                if self.1.len() >= ENOUGH {
                    self.flush()?;
                }
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                self.0.update(&self.1);
                self.1.clear();
                Ok(())
            }
        }
        let mut sink = Sink(Sha256::new(), Vec::with_capacity(ENOUGH));
        // Invariant: our types serialise to JSON (no maps with non-string keys), and the sink cannot fail.
        #[allow(clippy::expect_used)]
        serde_json::to_writer(&mut sink, value).expect("core types serialise to JSON");
        let Sink(mut hash, rest) = sink;
        hash.update(&rest);
        Self(hash.finalize().into())
    }

    /// 64 lower-case hexadecimal digits, without the `sha256:` in front.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |four: u8| char::from(DIGITS[usize::from(four & 15)]);
        let mut out = String::with_capacity(64);
        for byte in self.0 {
            out.push(digit(byte >> 4));
            out.push(digit(byte));
        }
        out
    }

    /// The first 12 digits: enough for a person to tell plans apart, never for a program.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a SHA-256 digest: expected 64 hexadecimal digits, with or without `sha256:` in front"
)]
pub struct BadDigest(String);

impl FromStr for Digest {
    type Err = BadDigest;
    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let bad = || BadDigest(text.chars().take(80).collect());
        let hex = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        if hex.len() != 64 {
            return Err(bad());
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
            *byte = digit(pair[0]).zip(digit(pair[1])).map(|(h, l)| h << 4 | l).ok_or_else(bad)?;
        }
        Ok(Self(out))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_prints_and_parses_to_itself() {
        let d = Digest::of(b"abc");
        // FIPS 180-4 example B.1.
        assert_eq!(d.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(d.to_string().parse::<Digest>(), Ok(d));
        assert_eq!(d.hex().parse::<Digest>(), Ok(d));
    }

    #[test]
    fn a_text_that_is_no_digest_is_refused() {
        for bad in
            ["", "sha256:", "sha256:zz", &"g".repeat(64), &"a".repeat(63), "é".repeat(32).as_str()]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
