//! What GRUB keeps outside of every file system: the code in a disk's first sector, and the core image in the room
//! behind it (GRUB's manual, "BIOS installation"). Where the rehearsal has shown that a change installs GRUB on a disk,
//! these are kept beside the preimage, and an undo puts them back. The partition table is never part of them, and a disk
//! that only has the name of the one they were read from is left alone.

mod disk;

use super::{Transaction, io_fault, read_kept};
use crate::durable;
use crate::settings::Settings;
use disk::Disk;
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
/// Name of the file that says which areas an undo has begun to write, and what it found there; the bytes beside it.
const BEGUN: &str = "boot-areas-begun.json";
const FOUND: &str = "boot-areas-found";
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
    /// The disk it is on. Records of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk: Option<Disk>,
}

impl Area {
    fn place(&self) -> String {
        format!("{} at byte {}", self.device.display(), self.offset)
    }
    fn is_at(&self, other: &Self) -> bool {
        (&self.device, self.offset, self.length) == (&other.device, other.offset, other.length)
    }
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
    let begun = contents(directory, BEGUN, FOUND);
    let mut owed = Vec::new();
    for (area, was) in areas.iter().zip(split(&areas, directory, BYTES)) {
        let Some(was) = was else {
            out.differing.push(format!("{}: what was kept of it is damaged", area.place()));
            continue;
        };
        let at = |other: &&Area| other.is_at(area);
        let made = after.as_ref().and_then(|all| all.iter().find(at)).map(|made| made.sha256);
        let found = begun.iter().find(|(other, _)| other.is_at(area)).map(|(_, found)| found);
        let looked = area.disk.as_ref().map_or(Ok(()), Disk::check).and_then(|()| read(area));
        match looked.map(|now| (judge(&now, &was, made, found.map(Vec::as_slice)), now)) {
            Ok((Do::Nothing, _)) => {}
            Ok((Do::Keep, _)) => out.kept.push(area.place()),
            Ok((Do::Write, now)) => owed.push((area, was, now)),
            Err(e) => out.differing.push(format!("{}: {e}", area.place())),
        }
    }
    // Before the first byte: what is half written is then known for one's own.
    if !owed.is_empty()
        && let Err(e) = begin(directory, begun, &owed)
    {
        let place = |(area, ..): &(&Area, _, _)| {
            format!("{}: not put back, since that cannot be noted: {e}", area.place())
        };
        out.differing.extend(owed.iter().map(place));
        return out;
    }
    // The core image comes first: the code in the first sector is what leads to it.
    for (area, was, _) in owed {
        match write(area, &was) {
            Ok(()) => out.notes.push(format!("{}: {} bytes put back", area.place(), was.len())),
            Err(e) => out.differing.push(format!("{}: {e}", area.place())),
        }
    }
    out
}

/// What is to be done about an area.
#[derive(Debug, PartialEq, Eq)]
enum Do {
    /// It is as it was.
    Nothing,
    /// It is to be put back.
    Write,
    /// Somebody else has written there since.
    Keep,
}

/// `now`: what stands there; `was`: what is to stand there; `made`: what the change made of it, where that was noted;
/// `found`: what an undo found that has begun to write.
fn judge(now: &[u8], was: &[u8], made: Option<Digest>, found: Option<&[u8]>) -> Do {
    if now == was {
        return Do::Nothing;
    }
    match (found, made) {
        (Some(found), _) if is_half_written(now, was, found) => Do::Write,
        (_, Some(made)) if Digest::of(now) == made => Do::Write,
        (None, None) => Do::Write, // a change that was cut short has noted nothing: nobody else had the time
        _ => Do::Keep,
    }
}

/// Is it what a write of `was` over `found` leaves that is cut short anywhere?
fn is_half_written(now: &[u8], was: &[u8], found: &[u8]) -> bool {
    found.len() == now.len()
        && now.iter().zip(was).zip(found).all(|((now, was), found)| now == was || now == found)
}

/// Notes durably which areas are written from now on, and what stands in them. What an earlier run noted of the others
/// stays.
fn begin(
    directory: &Path,
    earlier: Vec<(Area, Vec<u8>)>,
    owed: &[(&Area, Vec<u8>, Vec<u8>)],
) -> io::Result<()> {
    let mut all = earlier;
    for (area, was, now) in owed {
        let noted = (Area { sha256: Digest::of(now), ..(*area).clone() }, now.clone());
        match all.iter_mut().find(|(other, _)| other.is_at(area)) {
            Some((_, found)) if is_half_written(now, was, found) => {}
            // In its old place, so that a kill between the two files spoils no other area's note.
            Some(earlier) => *earlier = noted,
            None => all.push(noted),
        }
    }
    let (areas, bytes): (Vec<Area>, Vec<Vec<u8>>) = all.into_iter().unzip();
    durable::replace(&directory.join(FOUND), &bytes.concat())?;
    durable::replace(&directory.join(BEGUN), &serde_json::to_vec(&areas)?)
}

/// The areas that a file names, with the bytes that lie beside it, where those are whole.
fn contents(directory: &Path, file: &str, bytes: &str) -> Vec<(Area, Vec<u8>)> {
    let areas: Vec<Area> = read_kept(directory, file).unwrap_or_default();
    let parts = split(&areas, directory, bytes);
    areas.into_iter().zip(parts).filter_map(|(area, bytes)| Some((area, bytes?))).collect()
}

/// The bytes of each area, where they are what they were.
fn split(areas: &[Area], directory: &Path, bytes: &str) -> Vec<Option<Vec<u8>>> {
    let bytes = fs::read(directory.join(bytes)).unwrap_or_default();
    let mut at = 0_usize;
    let one = |area: &Area| {
        let end = at.saturating_add(usize::try_from(area.length).unwrap_or(usize::MAX));
        let part = bytes.get(at..end).filter(|part| Digest::of(part) == area.sha256);
        at = end;
        part.map(<[u8]>::to_vec)
    };
    areas.iter().map(one).collect()
}

fn write(area: &Area, was: &[u8]) -> io::Result<()> {
    let disk = File::options().write(true).open(&area.device)?;
    disk.write_all_at(was, area.offset)?;
    disk.sync_all()?;
    match read(area)? == was {
        true => Ok(()),
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
    // A partition has it from its disk, in whose directory the kernel keeps the partition's.
    let sector =
        number("queue/logical_block_size").or_else(|| number("../queue/logical_block_size"));
    let sector = sector.filter(|s| *s >= 512).unwrap_or(512);
    let is_partition = block.join("partition").exists();
    let whole_disk = match is_partition {
        false => Some(device.clone()),
        true => fs::canonicalize(&block)?
            .parent()
            .and_then(|disk| Some(device.with_file_name(disk.file_name()?))),
    };
    let its_disk = whole_disk.map(|whole| Disk::of(&whole, sector)).transpose()?;
    let whole = |offset, length| -> io::Result<(Area, Vec<u8>)> {
        let (device, sha256) = (device.clone(), Digest([0; 32]));
        let area = Area { device, offset, length, sha256, disk: its_disk.clone() };
        let bytes = read(&area)?;
        Ok((Area { sha256: Digest::of(&bytes), ..area }, bytes))
    };
    if is_partition {
        return Ok(vec![whole(0, 512)?]);
    }
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
    fn a_partition_is_known_by_the_disk_that_it_is_on() {
        let host = host(Some(2048));
        let block = host.dir.path().join("sys/class/block");
        std::os::unix::fs::symlink(block.join("vda/vda1"), block.join("vda1")).unwrap();
        fs::write(host.dir.path().join("vda1"), [3; 4096]).unwrap();
        let found = look(&host.settings, &host.dir.path().join("vda1")).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.offset, found[0].0.length), (0, 512));
        assert_eq!(found[0].0.disk, Some(Disk::of(&host.disk(), 512).unwrap()));
    }

    #[test]
    fn an_undo_that_was_killed_in_the_middle_of_an_area_goes_on() {
        for written in [0, 1, 4096, 20_000, 29_999] {
            let host = host(Some(2048));
            let before = fs::read(host.disk()).unwrap();
            let areas = host.keep();
            host.write(0, &[1; 440]);
            host.write(512, &[2; 30_000]);
            host.after(&areas);
            let made = fs::read(host.disk()).unwrap();
            assert_eq!(put_back(host.dir.path()).notes.len(), 2);
            assert!(fs::read(host.disk()).unwrap() == before);
            // As it stands when the core image is written so far, and the first sector is not.
            host.write(0, &made);
            host.write(512, &before[512..512 + written]);
            for killed_again in [false, true] {
                if killed_again {
                    host.write(512, &made[512..512 + 30_000]);
                    host.write(512, &before[512..512 + written / 2]);
                }
                let done = put_back(host.dir.path());
                assert_eq!((done.kept.len(), done.differing.len()), (0, 0), "{written}: {done:?}");
                assert!(fs::read(host.disk()).unwrap() == before, "{written}");
            }
            // An undo that has begun is no leave to write over what somebody puts there later.
            host.write(600, b"another boot loader");
            assert_eq!(put_back(host.dir.path()).kept.len(), 1);
        }
    }

    #[test]
    fn nothing_is_written_before_it_is_noted_that_it_is_begun() {
        let host = host(Some(2048));
        let areas = host.keep();
        host.write(512, &[2; 30_000]);
        host.after(&areas);
        let now = fs::read(host.disk()).unwrap();
        // In the way of the note.
        fs::create_dir(host.dir.path().join(BEGUN)).unwrap();
        let done = put_back(host.dir.path());
        assert!(done.differing[0].contains("cannot be noted"), "{done:?}");
        assert!(fs::read(host.disk()).unwrap() == now);
    }

    #[test]
    fn another_disk_under_the_same_name_is_never_written_to() {
        type Swap = fn(&Host);
        let gpt = |host: &Host, guid: u8| {
            let mut header = [0; 92];
            header[..8].copy_from_slice(b"EFI PART");
            header[56..72].copy_from_slice(&[guid; 16]);
            header[72] = 2;
            header[80] = 1;
            header[84] = 128;
            host.write(512, &header);
            let mut entry = [0; 128];
            entry[..16].copy_from_slice(&BIOS_BOOT);
            entry[32] = 40;
            entry[40] = 49;
            host.write(1024, &entry);
        };
        let swaps: [(bool, Swap); 4] = [
            (false, |host| host.write(440, &[9])),
            (false, |host| host.write(445, &[9])),
            (true, |host| host.write(512 + 56, &[9])),
            (true, |host| host.write(512, &[0; 8])),
        ];
        for (n, (is_gpt, swap)) in swaps.into_iter().enumerate() {
            let host = host(Some(2048));
            if is_gpt {
                gpt(&host, 7);
            }
            host.keep();
            host.write(0, &[1; 440]);
            host.write(40 * 512, &[2; 512]);
            swap(&host);
            let now = fs::read(host.disk()).unwrap();
            let done = put_back(host.dir.path());
            assert_eq!((done.notes.len(), done.differing.len()), (0, 2), "{n}: {done:?}");
            assert!(done.differing[0].contains("another disk"), "{n}: {done:?}");
            assert!(fs::read(host.disk()).unwrap() == now, "{n}");
        }
    }

    #[test]
    fn what_earlier_versions_kept_is_still_put_back() {
        let host = host(Some(2048));
        let before = fs::read(host.disk()).unwrap();
        let mut areas = host.keep();
        areas.iter_mut().for_each(|area| area.disk = None);
        let text = serde_json::to_string(&areas).unwrap();
        assert!(!text.contains("disk"), "{text}");
        fs::write(host.dir.path().join(FILE), text).unwrap();
        host.write(0, &[1; 440]);
        assert_eq!(put_back(host.dir.path()).notes.len(), 1);
        assert!(fs::read(host.disk()).unwrap() == before);
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
