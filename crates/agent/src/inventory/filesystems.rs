//! Room on the file systems that package changes write to.

use crate::overlay::{Mount, holding, mounts};
use crate::settings::Settings;
use fettle_core::inventory::Filesystem;
use fettle_core::plan::space;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Each file system once, by mount point. What cannot be looked at is left out: nobody can say how full it is.
pub(super) fn read(settings: &Settings) -> Vec<Filesystem> {
    let places = space::PLACES.iter().map(|place| settings.host(place));
    let mounts = mounts().unwrap_or_default();
    let mut found: BTreeMap<String, Filesystem> = BTreeMap::new();
    for place in places.chain([settings.state_dir.clone()]) {
        let near = place.ancestors().find_map(|path| path.canonicalize().ok());
        let Some((path, (device, mount))) = near.and_then(|near| {
            let on = on(&mounts, &near)?;
            Some((near, on))
        }) else {
            continue;
        };
        let Ok(it) = rustix::fs::statvfs(&path) else { continue };
        if found.contains_key(&device) {
            continue;
        }
        let mount =
            mount.strip_prefix(&settings.root).map_or(mount.clone(), |p| Path::new("/").join(p));
        found.insert(
            device,
            Filesystem {
                mount: mount.display().to_string(),
                size: it.f_blocks.saturating_mul(it.f_frsize),
                free: Filesystem::rounded(it.f_bavail.saturating_mul(it.f_frsize)),
                inodes_free: (it.f_files > 0).then(|| Filesystem::rounded(it.f_favail)),
            },
        );
    }
    let mut out: Vec<Filesystem> = found.into_values().collect();
    out.sort();
    out
}

/// What tells the file system of a path from others, and where it is mounted. Subvolumes of one share its room, and are one.
fn on(mounts: &[Mount], path: &Path) -> Option<(String, PathBuf)> {
    if let Some(mount) = holding(mounts, path) {
        return Some((mount.device.clone(), mount.point.clone()));
    }
    // Nobody says what is mounted: the highest directory above that is still on the same device.
    let device = path.metadata().ok()?.dev();
    let same = |path: &&Path| path.metadata().is_ok_and(|found| found.dev() == device);
    let point = path.ancestors().take_while(same).last().unwrap_or(path).to_owned();
    Some((device.to_string(), point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_among_the_file_systems_and_none_stands_twice() {
        let found = read(&Settings::default());
        let root = found.iter().find(|it| it.mount == "/").expect("there is a root");
        let now = rustix::fs::statvfs("/").unwrap();
        assert_eq!(root.size, now.f_blocks * now.f_frsize);
        assert!(root.free <= root.size);
        let mut mounts: Vec<&str> = found.iter().map(|it| it.mount.as_str()).collect();
        mounts.dedup();
        assert_eq!(mounts.len(), found.len());
    }
}
