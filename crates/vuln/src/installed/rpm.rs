//! rpm's database, in each of the forms it has had: `rpmdb.sqlite` (from rpm 4.16), `Packages.db` (ndb, SUSE), `Packages` (a hash
//! of Berkeley DB, before). All of them hold one header a package, as `rpm(8)` packages do.

use super::{Installed, MAX_PACKAGES};
use fettle_core::inventory::Package;
use std::collections::BTreeMap;
use std::io;

mod bdb;
mod ndb;
mod sqlite;

/// A larger header is no package's: 64 MiB. That of a kernel has some hundreds of kilobytes.
const MAX_HEADER: usize = 64 << 20;

/// Bytes that are read where they lie: a database may be larger than the memory that looking at it is worth.
pub trait Bytes {
    /// How many there are.
    fn length(&self) -> u64;

    /// Fills `into` with those from `offset` on.
    ///
    /// # Errors
    /// Where there are not so many, or they cannot be read.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

impl Bytes for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = self.get(start..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RpmError {
    /// None of the known forms.
    #[error("it is no database of rpm in a form that is known")]
    Unknown,
    /// It points to where nothing is, or to itself.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// The bytes cannot be had.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// More than that is not looked at.
    #[error("it goes on beyond what is looked at")]
    TooMuch,
}

/// Reads the database. `log`: the write-ahead log beside one of SQLite (`rpmdb.sqlite-wal`), where there is one. `go_on` is
/// asked now and then whether there is time for more.
///
/// # Errors
/// [`RpmError`] where it cannot be read as a whole; what was damaged after the first packages is an error too, because half
/// a list would be taken for all.
pub fn parse(
    file: &(impl Bytes + ?Sized),
    log: Option<&[u8]>,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Installed, RpmError> {
    let mut start = [0; 512];
    let length = usize::try_from(file.length()).unwrap_or(usize::MAX).min(start.len());
    file.read_at(0, &mut start[..length])?;
    let mut installed = Installed::default();
    let mut take = |header: &[u8]| -> Result<(), RpmError> {
        if installed.packages.len() >= MAX_PACKAGES || !go_on() {
            return Err(RpmError::TooMuch);
        }
        match package(header) {
            Some(package) => installed.take(package),
            // The keys of vendors stand among the packages.
            None if text_of(header, NAME).is_some_and(|name| name == "gpg-pubkey") => {}
            None => installed.left_out += 1,
        }
        Ok(())
    };
    if start.starts_with(sqlite::MAGIC) {
        sqlite::each(file, log, &mut take)?;
    } else if start.starts_with(ndb::MAGIC) {
        ndb::each(file, &mut take)?;
    } else if start[12..16] == bdb::MAGIC {
        bdb::each(file, &start, &mut take)?;
    } else {
        return Err(RpmError::Unknown);
    }
    epochs_of_sources(&mut installed.packages);
    Ok(installed.sorted())
}

/// Gives each source its own epoch, which is written in none of what is built from it. What has the version of its source
/// has its epoch, too; what has a version of its own (`perl-Errno` `1.30-481.el9`, built from `perl` `4:5.32.1-481.el9`) says
/// nothing of it where another of the same source does.
pub(crate) fn epochs_of_sources(packages: &mut [Package]) {
    let mut known: BTreeMap<(String, String), String> = BTreeMap::new();
    for package in packages.iter().filter(|p| p.version == p.source_version) {
        if let Some((_, plain)) = package.source_version.split_once(':') {
            let source = (package.source.clone(), plain.to_owned());
            known.insert(source, package.source_version.clone());
        }
    }
    for package in packages.iter_mut().filter(|p| p.version != p.source_version) {
        let plain = package.source_version.split_once(':').map(|(_, plain)| plain);
        let plain = plain.unwrap_or(&package.source_version).to_owned();
        if let Some(version) = known.get(&(package.source.clone(), plain)) {
            package.source_version.clone_from(version);
        }
    }
}

/// Handed each header.
type Take<'t> = &'t mut dyn FnMut(&[u8]) -> Result<(), RpmError>;

// rpmtag.h
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCH: u32 = 1022;
const SOURCERPM: u32 = 1044;
const MODULARITYLABEL: u32 = 5096;

/// A header's package; `None` where it names none.
fn package(header: &[u8]) -> Option<Package> {
    let text = |tag| text_of(header, tag);
    let (name, version, release) = (text(NAME)?, text(VERSION)?, text(RELEASE)?);
    let architecture = text(ARCH)?;
    let epoch = match number_of(header, EPOCH) {
        None | Some(0) => String::new(),
        Some(epoch) => format!("{epoch}:"),
    };
    let version = format!("{epoch}{version}-{release}");
    let source = text(SOURCERPM).and_then(|file| {
        let (name, version) = source_of_file(&file)?;
        Some((name.to_owned(), format!("{epoch}{version}")))
    });
    let (source, source_version) = source.unwrap_or_else(|| (name.clone(), version.clone()));
    // `nodejs:18:9020230301:rhel9`: of it the module and the stream count.
    let module = text(MODULARITYLABEL).unwrap_or_default();
    let module = module.splitn(3, ':').take(2).collect::<Vec<_>>().join(":");
    Some(Package { name, architecture, version, source, source_version, healthy: true, module })
}

/// Name and version of a source by the file it comes in, which tells no epoch: `openssl-3.0.7-24.el9.src.rpm`.
pub(crate) fn source_of_file(file: &str) -> Option<(&str, &str)> {
    let (stem, _architecture) = file.strip_suffix(".rpm")?.rsplit_once('.')?;
    let (at, _) = stem.rmatch_indices('-').nth(1)?;
    Some((&stem[..at], &stem[at + 1..])).filter(|(name, _)| !name.is_empty())
}

/// Where a tag's value begins in a header, and its type: an index of entries of 16 bytes (tag, type, offset, count), then what
/// they point into.
fn value_of(header: &[u8], tag: u32) -> Option<(u32, &[u8])> {
    let number = |at: usize| {
        let bytes = header.get(at..at.checked_add(4)?)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let (entries, length) = (number(0)? as usize, number(4)? as usize);
    let data = header.get(8 + entries.checked_mul(16)?..)?;
    let data = data.get(..length).unwrap_or(data);
    // Of an index that says to be longer than it can be nothing is believed.
    (0..entries).map(|i| 8 + 16 * i).find_map(|at| {
        let its = (number(at)? == tag).then(|| (number(at + 4), number(at + 8)))?;
        Some((its.0?, data.get(its.1? as usize..)?))
    })
}

fn text_of(header: &[u8], tag: u32) -> Option<String> {
    // STRING, or I18NSTRING of which the first counts.
    let (_, value) = value_of(header, tag).filter(|(kind, _)| matches!(kind, 6 | 9))?;
    let end = value.iter().take(4096).position(|b| *b == 0)?;
    Some(String::from_utf8_lossy(&value[..end]).into_owned())
}

fn number_of(header: &[u8], tag: u32) -> Option<u32> {
    let (_, value) = value_of(header, tag).filter(|(kind, _)| *kind == 4)?;
    Some(u32::from_be_bytes(*value.first_chunk()?))
}

/// A number at a place, in the byte order that most machines have.
fn little(bytes: &[u8], at: usize) -> Result<u32, RpmError> {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk());
    part.map(|b| u32::from_le_bytes(*b)).ok_or(RpmError::Damaged("a number is cut off"))
}

#[cfg(test)]
mod tests;
