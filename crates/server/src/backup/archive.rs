//! The archives: tar, compressed with gzip, readable with the tools of any system.

use fettle_core::{Digest, Problem, ProblemKind};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// No file of an archive is larger, in bytes: a terabyte.
const MOST: u64 = 1 << 40;

/// An archive that is being written: under another name until it is whole.
pub(super) struct Writer {
    to: PathBuf,
    part: PathBuf,
    tar: tar::Builder<GzEncoder<BufWriter<File>>>,
}

impl Writer {
    /// Only its owner may read it.
    ///
    /// # Errors
    /// `to` exists, or cannot be written.
    pub(super) fn create(to: &Path) -> Result<Self, Problem> {
        if to.exists() {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "file-exists",
                format!("{} is there already", to.display()),
                "name another file: no backup is written over",
            ));
        }
        let mut part = to.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&part);
        let file = BufWriter::new(file.map_err(|e| unwritable(&part, &e))?);
        let tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { to: to.to_owned(), part, tar })
    }

    /// Fills it, makes it durable, and gives it its name. When that fails nothing is left.
    ///
    /// # Errors
    /// What `fill` says, or that it cannot be written.
    pub(super) fn finish(
        mut self,
        fill: impl FnOnce(&mut Self) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let filled = fill(&mut self);
        let Self { to, part, tar } = self;
        let written = filled.and_then(|()| {
            let durable = || -> io::Result<()> {
                let file = tar.into_inner()?.finish()?.into_inner().map_err(|e| e.into_error())?;
                file.sync_all()?;
                fs::rename(&part, &to)
            };
            durable().map_err(|e| unwritable(&to, &e))?;
            sync(to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
        });
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }

    pub(super) fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        let mut header = header(bytes.len() as u64);
        let added = self.tar.append_data(&mut header, name, bytes);
        added.map_err(|e| unwritable(&self.part, &e))
    }

    pub(super) fn file(&mut self, name: &str, path: &Path) -> Result<(), Problem> {
        let mut add = || -> io::Result<()> {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            self.tar.append_data(&mut header(length), name, BufReader::new(file).take(length))
        };
        add().map_err(|e| unwritable(path, &e))
    }
}

fn header(length: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o600);
    header
}

/// An archive that is being read. It may come from anywhere.
pub(super) struct Reader {
    from: PathBuf,
    file: File,
}

impl Reader {
    pub(super) fn open(from: &Path) -> Result<Self, Problem> {
        let file = File::open(from).map_err(|e| {
            Problem::new(
                ProblemKind::NotFound,
                "no-backup",
                format!("{} cannot be read: {e}", from.display()),
                "name the file that `fettle backup` wrote",
            )
        })?;
        Ok(Self { from: from.to_owned(), file })
    }

    /// Unpacks plain files with these names, and refuses an archive that holds anything else.
    ///
    /// # Errors
    /// The archive is damaged or not ours, or `to` cannot be written.
    pub(super) fn unpack(
        &mut self,
        to: &Path,
        known: impl Fn(&str) -> bool,
    ) -> Result<(), Problem> {
        let file = self.file.try_clone().map_err(|e| unwritable(&self.from, &e))?;
        let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
        let broken = |e: io::Error| self.damaged(&e.to_string());
        for entry in tar.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let plain = entry.header().entry_type().is_file() && entry.size() <= MOST;
            if !plain || !known(&name) {
                return Err(self.damaged(&format!("it holds `{}`", name.escape_default())));
            }
            let path = to.join(&name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|e| unwritable(parent, &e))?;
            }
            let mut options = OpenOptions::new();
            let out = options.write(true).create_new(true).mode(0o600).open(&path);
            let mut out = out.map_err(|e| unwritable(&path, &e))?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                let read = entry.read(&mut buffer).map_err(broken)?;
                if read == 0 {
                    break;
                }
                out.write_all(&buffer[..read]).map_err(|e| unwritable(&path, &e))?;
            }
            out.sync_all().map_err(|e| unwritable(&path, &e))?;
        }
        Ok(())
    }

    pub(super) fn damaged(&self, why: &str) -> Problem {
        Problem::new(
            ProblemKind::BadInput,
            "backup-damaged",
            format!("{} cannot be used: {why}", self.from.display()),
            "take another backup; `fettle backup verify FILE` says whether one is good",
        )
    }
}

/// SHA-256 and length of a file.
pub(super) fn measure(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let (mut buffer, mut length) = (vec![0; 256 << 10], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        context.update(&buffer[..read]);
        length += read as u64;
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok((Digest(digest), length))
}

/// Makes the names in a directory durable.
pub(super) fn sync(directory: &Path) -> Result<(), Problem> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(|e| unwritable(directory, &e))
}

pub(super) fn unwritable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(
        ProblemKind::Environment,
        "backup-io",
        format!("{}: {error}", path.display()),
        "see that there is room, and that this user may read and write there",
    )
}
