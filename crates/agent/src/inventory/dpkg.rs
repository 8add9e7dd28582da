//! dpkg's files on this host: its database, and the lists of what packages own.

use crate::settings::Settings;
use memchr::memchr_iter;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;

pub use fettle_dpkg::{Database, Paragraph, Status, paragraphs, parse_status};

/// What is installed, a killed dpkg's journal included.
///
/// # Errors
/// When one of dpkg's files cannot be read.
pub fn database(settings: &Settings) -> io::Result<Database> {
    Database::read(&settings.host("var/lib/dpkg"))
}

/// The file that lists what a package owns: `info/NAME:ARCH.list` for co-installable ones, else `info/NAME.list`.
pub fn info_file(
    settings: &Settings,
    name: &str,
    architecture: &str,
    suffix: &str,
) -> Option<PathBuf> {
    let info = settings.host("var/lib/dpkg/info");
    [format!("{name}:{architecture}.{suffix}"), format!("{name}.{suffix}")]
        .into_iter()
        .map(|file| info.join(file))
        .find(|path| path.exists())
}

/// Which packages own some paths.
///
/// One pass over dpkg's file lists with the paths wanted in hand, since a map of every path of a host would
/// take tens of megabytes.
#[derive(Debug, Default)]
pub struct Owners {
    /// [`unmerged`] path → binary names, sorted.
    owners: HashMap<Vec<u8>, Vec<String>>,
}

impl Owners {
    /// Finds the owners of `wanted`.
    ///
    /// # Errors
    /// When dpkg's `info` directory cannot be read.
    pub fn find<'p>(
        settings: &Settings,
        wanted: impl IntoIterator<Item = &'p [u8]>,
    ) -> io::Result<Self> {
        let mut owners: HashMap<Vec<u8>, Vec<String>> =
            wanted.into_iter().map(|path| (unmerged(path).to_vec(), Vec::new())).collect();
        if owners.is_empty() {
            return Ok(Self { owners });
        }
        let mut buffer = Vec::new();
        for entry in fs::read_dir(settings.host("var/lib/dpkg/info"))? {
            let entry = entry?;
            let file = entry.file_name();
            let Some(package) = file.to_str().and_then(|f| f.strip_suffix(".list")) else {
                continue;
            };
            let name = package.split(':').next().unwrap_or(package);
            buffer.clear();
            // A package that is removed at this very moment is not worth failing for.
            let Ok(mut list) = fs::File::open(entry.path()) else { continue };
            list.read_to_end(&mut buffer)?;
            let mut begin = 0;
            for end in memchr_iter(b'\n', &buffer).chain([buffer.len()]) {
                let line = &buffer[begin.min(end)..end];
                begin = end + 1;
                if let Some(found) = owners.get_mut(unmerged(line))
                    && !found.iter().any(|f| f == name)
                {
                    found.push(name.to_owned());
                }
            }
        }
        owners.values_mut().for_each(|names| names.sort());
        Ok(Self { owners })
    }

    /// Binary names of the packages that own a path; more than one for diverted and shared files.
    pub fn of(&self, path: &[u8]) -> &[String] {
        self.owners.get(unmerged(path)).map_or(&[], Vec::as_slice)
    }
}

/// One name for a file that has two where `/lib` is a link to `/usr/lib` (merged `/usr`): the kernel says
/// `/usr/lib/x`, the package's list may still say `/lib/x`.
fn unmerged(path: &[u8]) -> &[u8] {
    let short = path.strip_prefix(b"/usr".as_slice()).unwrap_or(path);
    let merged = [b"/lib".as_slice(), b"/bin/", b"/sbin/"].iter().any(|d| short.starts_with(d));
    if merged { short } else { path }
}
