//! A catalogue as one file that is read, not parsed: what `fettle-agent scan` judges by.
//!
//! ```text
//! magic 8 · layout u32 · length of the head u32 · checksum of the rest of the head u64
//! head:    stamp · days of the feeds · releases (name, place, length, checksum) · own statements (likewise)
//! release: counts · sources · statements · vulnerabilities · scores · publications · texts
//! ```
//!
//! Packages of languages have releases of their own, by their ecosystem's word, beside those of systems.
//!
//! All numbers are little-endian, all records of one table have one length, and every text is a place and a length in the
//! texts of its release. A release stands by itself, so that a host reads its own and no other; of that, [`judge`]
//! looks up the sources that are installed and makes statements of those alone that say something of an installed version.
//! Version keys are in the file: nothing is compared by a package manager's rules that was not before.
//!
//! Checksums are XXH64: they find what a disk or a killed process broke. Whoever can write the file can write its checksums;
//! it belongs to root, as the feeds do.

use crate::exposure::Catalogue;
use crate::feed::Feed;
use jiff::civil::Date;
use std::collections::BTreeMap;

pub(crate) mod checksum;
mod read;
mod write;

pub use read::{Section, judge, releases};
pub use write::write;

/// First bytes of the file.
pub const MAGIC: [u8; 8] = *b"fettleVD";
/// The layout that this program writes and reads.
pub const LAYOUT: u32 = 2;
/// Length of what stands before the head.
pub const PREFIX: usize = 24;
/// A longer head is refused: 1 MiB. With every release of every vendor it has about 50 kB.
const MAX_HEAD: usize = 1 << 20;

/// Why a file cannot be used. Whoever gets one parses the feeds instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not such a file.
    #[error("it is no file of compiled feeds")]
    Magic,
    /// Written by another version of this program.
    #[error("its layout is {0}, this program reads {LAYOUT}")]
    Layout(u32),
    /// Its bytes are not those that were written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// Where a part of the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// XXH64 of them.
    checksum: u64,
}

impl Extent {
    /// Are these the bytes that were written?
    ///
    /// # Errors
    /// [`Unusable::Damaged`].
    pub fn verify(&self, bytes: &[u8]) -> Result<(), Unusable> {
        if bytes.len() as u64 == self.length && checksum::xxh64(bytes) == self.checksum {
            return Ok(());
        }
        Err(Unusable::Damaged("a part of it does not have its checksum"))
    }
}

/// The beginning of the file: what it holds, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Whatever the writer gave: what the file was made of.
    pub stamp: String,
    /// Day of each feed.
    pub as_of: BTreeMap<Feed, Date>,
    /// By release.
    pub releases: BTreeMap<String, Extent>,
    /// One's own statements, as JSON.
    pub own: Extent,
}

impl Head {
    /// How long the head is, from the first [`PREFIX`] bytes of the file.
    ///
    /// # Errors
    /// [`Unusable`] where it is no such file, or of another layout.
    pub fn length(prefix: &[u8]) -> Result<usize, Unusable> {
        let mut at = read::Cursor::new(prefix);
        if at.take(8)? != MAGIC {
            return Err(Unusable::Magic);
        }
        match at.u32()? {
            LAYOUT => {}
            other => return Err(Unusable::Layout(other)),
        }
        let length = at.u32()? as usize;
        if !(PREFIX..=MAX_HEAD).contains(&length) {
            return Err(Unusable::Damaged("the length of its head is none"));
        }
        Ok(length)
    }

    /// Reads the head from the beginning of the file, at least [`Head::length`] bytes.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Unusable> {
        let length = Self::length(bytes)?;
        let head = bytes.get(..length).ok_or(Unusable::Damaged("it is cut off"))?;
        let mut at = read::Cursor::new(&head[16..]);
        if at.u64()? != checksum::xxh64(&head[PREFIX..]) {
            return Err(Unusable::Damaged("its head does not have its checksum"));
        }
        let stamp = at.text()?.to_owned();
        let mut as_of = BTreeMap::new();
        for _ in 0..at.u32()? {
            let feed = at.text()?;
            let day = at.text()?;
            if let (Some(feed), Ok(day)) = (Feed::from_word(feed), day.parse()) {
                as_of.insert(feed, day);
            }
        }
        let mut releases = BTreeMap::new();
        for _ in 0..at.u32()? {
            let release = at.text()?.to_owned();
            releases.insert(release, at.extent()?);
        }
        Ok(Self { stamp, as_of, releases, own: at.extent()? })
    }
}

impl Catalogue {
    /// The whole file that stands for this catalogue. `stamp`: what it was made of, for whoever reads it.
    pub fn compact(&self, stamp: &str) -> Vec<u8> {
        write(self, stamp)
    }
}
