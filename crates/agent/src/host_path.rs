//! Paths of the host as text, whatever bytes they hold.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// An absolute path. As text, `%` and bytes that are no printable UTF-8 are written `%xx`, so that every
/// path has exactly one text and comes back from it byte for byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPath(pub PathBuf);

impl HostPath {
    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
    /// The same path below another root: `/etc/passwd` below `/mnt` is `/mnt/etc/passwd`.
    pub fn below(&self, root: &Path) -> PathBuf {
        root.join(self.0.strip_prefix("/").unwrap_or(&self.0))
    }
}

impl From<&Path> for HostPath {
    fn from(path: &Path) -> Self {
        Self(path.to_owned())
    }
}
impl From<PathBuf> for HostPath {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}
impl From<&str> for HostPath {
    fn from(path: &str) -> Self {
        Self(PathBuf::from(path))
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == '%' || c.is_control() {
                    let mut bytes = [0; 4];
                    c.encode_utf8(&mut bytes).bytes().try_for_each(|b| write!(f, "%{b:02x}"))?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            chunk.invalid().iter().try_for_each(|b| write!(f, "%{b:02x}"))?;
        }
        Ok(())
    }
}
impl fmt::Debug for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for HostPath {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for HostPath {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            if byte == b'%' {
                let digit = |i: usize| tail.get(i).and_then(|&c| (c as char).to_digit(16));
                let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                    return Err(D::Error::custom(format!(
                        "`{text}` has a `%` without two hexadecimal digits"
                    )));
                };
                bytes.push((high << 4 | low) as u8);
                rest = &tail[2..];
            } else {
                bytes.push(byte);
                rest = tail;
            }
        }
        Ok(Self(PathBuf::from(OsString::from_vec(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_comes_back_from_its_text_byte_for_byte(bytes in proptest::collection::vec(1u8.., 0..40)) {
            let path = HostPath(PathBuf::from(OsString::from_vec(bytes)));
            let text = serde_json::to_string(&path).unwrap();
            prop_assert!(!text.contains('\n'));
            prop_assert_eq!(serde_json::from_str::<HostPath>(&text).unwrap(), path);
        }
    }
}
