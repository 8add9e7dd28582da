//! Which disk it is: names such as `/dev/sda` go to whichever disk the kernel finds first.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Where the signature of a partition table begins, between the code and the table (UEFI specification, table 5.1).
const SIGNATURE: u64 = 440;
/// Where the disk's GUID stands in the header of a GPT (UEFI specification, table 5.5).
const GUID: std::ops::Range<usize> = 56..72;

/// What a disk says of itself, whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Disk {
    device: PathBuf,
    /// Length of its sectors: its GPT begins behind the first.
    sector: u64,
    signature: [u8; 6],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guid: Option<[u8; 16]>,
}

impl Disk {
    /// Looks at a whole disk.
    pub(super) fn of(device: &Path, sector: u64) -> io::Result<Self> {
        let disk = File::open(device)?;
        let (mut signature, mut header) = ([0; 6], [0; 92]);
        disk.read_exact_at(&mut signature, SIGNATURE)?;
        disk.read_exact_at(&mut header, sector)?;
        let guid = header.starts_with(b"EFI PART").then(|| header.get(GUID)).flatten();
        let guid = guid.and_then(|guid| guid.try_into().ok());
        Ok(Self { device: device.to_owned(), sector, signature, guid })
    }

    /// # Errors
    /// When the name is another disk's now, or nobody's.
    pub(super) fn check(&self) -> io::Result<()> {
        if Self::of(&self.device, self.sector)? == *self {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{} is another disk than it was, or has another partition table, and was not written to; on the right one: \
             grub-install",
            self.device.display()
        )))
    }
}
