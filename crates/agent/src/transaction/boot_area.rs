//! What GRUB keeps outside of every file system: the code in a disk's first sector, and the core image in the room
//! behind it (GRUB's manual, "BIOS installation"). Where the rehearsal has shown that a change installs GRUB on a disk,
//! these are kept beside the preimage, and an undo puts them back. The partition table is never part of them.

use super::{Transaction, io_fault, read_kept};
use crate::durable;
use crate::settings::Settings;
use fettle_core::Digest;
use fettle_core::transaction::Fault;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Name of the file that says which areas are kept; their bytes lie beside it.
const FILE: &str = "boot-areas.json";
const BYTES: &str = "boot-areas";
/// Name of the file that says what the change has made of them.
const AFTER: &str = "boot-areas-after.json";
/// Code in the first sector; behind it come the disk's signature and the partition table.
const CODE: u64 = 440;
/// More than that no core image takes, in bytes.
const MOST: u64 = 4 << 20;
/// Type of a BIOS boot partition, as it stands on the disk (UEFI specification, 5.3.3; GRUB's manual).
const BIOS_BOOT: [u8; 16] = *b"Hah!IdontNeedEFI";

/// A run of bytes on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Area {
    device: PathBuf,
    offset: u64,
    length: u64,
    sha256: Digest,
}

/// What an undo has done about them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PutBack {
    /// For people.
    pub(super) notes: Vec<String>,
    /// What somebody else changed since.
    pub(super) kept: Vec<String>,
    /// What is not as it was.
    pub(super) differing: Vec<String>,
}

/// Keeps the areas of these disks, durably. Gives lines for people: what is kept, and what cannot be.
///
/// # Errors
/// When what was read cannot be kept.
pub(super) fn keep(tx: &Transaction<'_>, devices: &[String]) -> Result<Vec<String>, Fault> {
    let (mut areas, mut bytes, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for device in devices {
        match look(tx.settings, Path::new(device)) {
            Ok(found) => {
                let size: u64 = found.iter().map(|(area, _)| area.length).sum();
                notes.push(format!("GRUB is written to {device}: {size} bytes outside of file systems are kept for an undo"));
                for (area, content) in found {
                    bytes.extend_from_slice(&content);
                    areas.push(area);
                }
            }
            Err(e) => notes.push(format!(
                "GRUB is written to {device}, and an undo cannot take that back: {e}"
            )),
        }
    }
    if !areas.is_empty() {
        durable::replace(&tx.directory.join(BYTES), &bytes).map_err(io_fault("keep boot areas"))?;
        tx.keep(FILE, &areas)?;
    }
    Ok(notes)
}

/// Notes what the change has made of the areas, so that an undo can tell it from what somebody else does later.
///
/// # Errors
/// When it cannot be noted.
pub(super) fn note_after(tx: &Transaction<'_>) -> Result<(), Fault> {
    let Some(areas) = tx.kept::<Vec<Area>>(FILE) else { return Ok(()) };
    let now: Vec<Area> = areas
        .into_iter()
        .filter_map(|area| {
            let sha256 = Digest::of(&read(&area).ok()?);
            Some(Area { sha256, ..area })
        })
        .collect();
    tx.keep(AFTER, &now)
}

/// Puts back the areas kept in a transaction's `directory`. May be killed at any point and run again.
pub(super) fn put_back(directory: &Path) -> PutBack {
    let mut out = PutBack::default();
    let Some(areas) = read_kept::<Vec<Area>>(directory, FILE) else { return out };
    let after: Option<Vec<Area>> = read_kept(directory, AFTER);
    let bytes = fs::read(directory.join(BYTES)).unwrap_or_default();
    let mut at = 0;
    for area in &areas {
        let end = at + usize::try_from(area.length).unwrap_or(usize::MAX);
        let was = bytes.get(at..end).filter(|was| Digest::of(was) == area.sha256);
        at = end;
        let place = format!("{} at byte {}", area.device.display(), area.offset);
        let Some(was) = was else {
            out.differing.push(format!("{place}: what was kept of it is damaged"));
            continue;
        };
        match one(area, was, after.as_deref()) {
            Ok(Done::AsItWas) => {}
            Ok(Done::Written) => out.notes.push(format!("{place}: {} bytes put back", was.len())),
            Ok(Done::Kept) => out.kept.push(place),
            Err(e) => out.differing.push(format!("{place}: {e}")),
        }
    }
    out
}

enum Done {
    AsItWas,
    Written,
    Kept,
}

fn one(area: &Area, was: &[u8], after: Option<&[Area]>) -> io::Result<Done> {
    let now = read(area)?;
    if now == was {
        return Ok(Done::AsItWas);
    }
    let made = after
        .and_then(|all| all.iter().find(|a| (&a.device, a.offset) == (&area.device, area.offset)));
    // A change that was cut short has noted nothing: then nobody else had the time.
    if made.is_some_and(|made| Digest::of(&now) != made.sha256) {
        return Ok(Done::Kept);
    }
    let disk = File::options().write(true).open(&area.device)?;
    // The core image first: the code in the first sector is what leads to it.
    disk.write_all_at(was, area.offset)?;
    disk.sync_all()?;
    match read(area)? == was {
        true => Ok(Done::Written),
        false => Err(io::Error::other("it does not read back as it was written")),
    }
}

fn read(area: &Area) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(area.length).map_err(io::Error::other)?];
    File::open(&area.device)?.read_exact_at(&mut bytes, area.offset)?;
    Ok(bytes)
}

/// The areas of a disk or partition, with what stands in them, the room behind the first sector first.
fn look(settings: &Settings, device: &Path) -> io::Result<Vec<(Area, Vec<u8>)>> {
    let device = fs::canonicalize(device)?;
    let name = device.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let block = settings.host("/sys/class/block").join(name);
    let number = |path: &str| -> Option<u64> {
        fs::read_to_string(block.join(path)).ok()?.trim().parse().ok()
    };
    let disk = File::open(&device)?;
    let mut first = [0; 512];
    disk.read_exact_at(&mut first, 0)?;
    let whole = |offset, length| -> io::Result<(Area, Vec<u8>)> {
        let area = Area { device: device.clone(), offset, length, sha256: Digest([0; 32]) };
        let bytes = read(&area)?;
        Ok((Area { sha256: Digest::of(&bytes), ..area }, bytes))
    };
    if block.join("partition").exists() {
        return Ok(vec![whole(0, 512)?]);
    }
    let sector = number("queue/logical_block_size").filter(|s| *s >= 512).unwrap_or(512);
    let mut header = [0; 92];
    disk.read_exact_at(&mut header, sector)?;
    let (offset, length) = match header.starts_with(b"EFI PART") {
        true => bios_boot(&disk, &header, sector)?,
        false => {
            let starts =
                fs::read_dir(&block)?.flatten().filter(|e| e.path().join("partition").exists());
            let start = starts.filter_map(|e| {
                fs::read_to_string(e.path().join("start")).ok()?.trim().parse::<u64>().ok()
            });
            let Some(start) = start.min() else {
                return Err(io::Error::other("it has no partitions"));
            };
            // `start` counts in sectors of 512 bytes, whatever the disk has.
            (512, start.saturating_mul(512).saturating_sub(512))
        }
    };
    if length == 0 || length > MOST {
        return Err(io::Error::other(format!(
            "{length} bytes is no room that GRUB embeds itself in"
        )));
    }
    Ok(vec![whole(offset, length)?, whole(0, CODE)?])
}

/// Where the BIOS boot partition lies (UEFI specification, 5.3.2 and 5.3.3), in bytes.
fn bios_boot(disk: &File, header: &[u8; 92], sector: u64) -> io::Result<(u64, u64)> {
    let u64_at = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    let u32_at = |at: usize| {
        header.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
    };
    let (entries, count, size) = (u64_at(header, 72), u32_at(80), u32_at(84));
    if !(128..=4096).contains(&size) || count > 1024 {
        return Err(io::Error::other("its partition table is not one that is known here"));
    }
    for n in 0..u64::from(count) {
        let mut entry = [0; 128];
        disk.read_exact_at(&mut entry, entries * sector + n * u64::from(size))?;
        if entry.starts_with(&BIOS_BOOT) {
            let (first, last) = (u64_at(&entry, 32), u64_at(&entry, 40));
            let sectors = last.saturating_sub(first).saturating_add(1);
            return Ok((first.saturating_mul(sector), sectors.saturating_mul(sector)));
        }
    }
    Err(io::Error::other("it has no BIOS boot partition"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host {
        dir: tempfile::TempDir,
        settings: Settings,
    }

    /// A disk that is a file, as the kernel would describe it.
    fn host(partition_start: Option<u64>) -> Host {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..(2 << 20)).map(|n: u32| (n / 7) as u8).collect();
        fs::write(dir.path().join("vda"), bytes).unwrap();
        let block = dir.path().join("sys/class/block/vda");
        fs::create_dir_all(block.join("queue")).unwrap();
        fs::write(block.join("queue/logical_block_size"), "512\n").unwrap();
        if let Some(start) = partition_start {
            fs::create_dir_all(block.join("vda1")).unwrap();
            fs::write(block.join("vda1/partition"), "1\n").unwrap();
            fs::write(block.join("vda1/start"), format!("{start}\n")).unwrap();
        }
        let settings = Settings { root: dir.path().to_owned(), ..Settings::default() };
        Host { dir, settings }
    }

    impl Host {
        fn disk(&self) -> PathBuf {
            self.dir.path().join("vda")
        }
        fn places(&self) -> io::Result<Vec<(u64, u64)>> {
            let found = look(&self.settings, &self.disk())?;
            Ok(found.into_iter().map(|(area, _)| (area.offset, area.length)).collect())
        }
        fn write(&self, offset: u64, bytes: &[u8]) {
            let disk = File::options().write(true).open(self.disk()).unwrap();
            disk.write_all_at(bytes, offset).unwrap();
        }
        /// Keeps the areas as the snapshot step does.
        fn keep(&self) -> Vec<Area> {
            let found = look(&self.settings, &self.disk()).unwrap();
            let bytes: Vec<u8> = found.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            let areas: Vec<Area> = found.into_iter().map(|(area, _)| area).collect();
            fs::write(self.dir.path().join(BYTES), bytes).unwrap();
            fs::write(self.dir.path().join(FILE), serde_json::to_vec(&areas).unwrap()).unwrap();
            areas
        }
        fn after(&self, areas: &[Area]) {
            let now: Vec<Area> = areas
                .iter()
                .map(|a| Area { sha256: Digest::of(&read(a).unwrap()), ..a.clone() })
                .collect();
            fs::write(self.dir.path().join(AFTER), serde_json::to_vec(&now).unwrap()).unwrap();
        }
    }

    #[test]
    fn the_areas_are_the_code_and_the_room_before_the_first_partition() {
        assert_eq!(host(Some(2048)).places().unwrap(), [(512, (1 << 20) - 512), (0, 440)]);
        let none = host(None).places().unwrap_err().to_string();
        assert!(none.contains("no partitions"), "{none}");
        let far = host(Some(1 << 20)).places().unwrap_err().to_string();
        assert!(far.contains("no room"), "{far}");
    }

    #[test]
    fn with_a_gpt_the_room_is_the_bios_boot_partition() {
        let host = host(Some(4096));
        let mut header = [0; 92];
        header[..8].copy_from_slice(b"EFI PART");
        header[72] = 2;
        header[80] = 128;
        header[84] = 128;
        host.write(512, &header);
        host.write(1024, &[0; 128 * 128]);
        let without = host.places().unwrap_err().to_string();
        assert!(without.contains("no BIOS boot partition"), "{without}");
        let mut entry = [0; 128];
        entry[..16].copy_from_slice(&BIOS_BOOT);
        entry[32] = 40;
        entry[40] = 49;
        host.write(1024 + 128, &entry);
        assert_eq!(host.places().unwrap(), [(40 * 512, 10 * 512), (0, 440)]);
    }

    #[test]
    fn what_the_change_has_written_is_put_back_and_the_partition_table_is_never_touched() {
        let host = host(Some(2048));
        let before = fs::read(host.disk()).unwrap();
        let areas = host.keep();
        host.write(0, &[1; 440]);
        host.write(446, b"a new partition table");
        host.write(512, &[2; 30_000]);
        host.after(&areas);
        let done = put_back(host.dir.path());
        assert_eq!(
            (done.notes.len(), done.kept.len(), done.differing.len()),
            (2, 0, 0),
            "{done:?}"
        );
        let mut wanted = before;
        wanted[446..446 + 21].copy_from_slice(b"a new partition table");
        assert!(fs::read(host.disk()).unwrap() == wanted);
        assert_eq!(put_back(host.dir.path()), PutBack::default(), "twice does no harm");
    }

    #[test]
    fn what_somebody_else_has_written_since_is_kept_and_what_was_kept_badly_is_told() {
        let host = host(Some(2048));
        let areas = host.keep();
        host.write(512, &[2; 30_000]);
        host.after(&areas);
        host.write(600, b"another boot loader");
        let now = fs::read(host.disk()).unwrap();
        let done = put_back(host.dir.path());
        assert_eq!((done.kept.len(), done.differing.len()), (1, 0), "{done:?}");
        assert!(fs::read(host.disk()).unwrap() == now);
        fs::remove_file(host.dir.path().join(AFTER)).unwrap();
        let mut bytes = fs::read(host.dir.path().join(BYTES)).unwrap();
        bytes[0] ^= 1;
        fs::write(host.dir.path().join(BYTES), bytes).unwrap();
        assert!(put_back(host.dir.path()).differing[0].contains("damaged"));
        assert!(fs::read(host.disk()).unwrap() == now);
    }
}
