//! Machines and chroots, where the host is told to keep them.

use super::Candidate;
use super::engines::names;
use crate::settings::Settings;
use fettle_core::root::{ROOTS_GAP, RootKind};
use std::path::{Path, PathBuf};

/// Where systemd-nspawn(1) looks for a machine by its name.
const MACHINES: &str = "var/lib/machines";

/// Directories below `/var/lib/machines`.
pub(super) fn machines(settings: &Settings, gaps: &mut Vec<String>) -> Vec<Candidate> {
    let directory = settings.host(MACHINES);
    let mut found = Vec::new();
    for name in names(&directory, "machines", gaps) {
        if let Some(image) = name.strip_suffix(".raw") {
            gaps.push(format!(
                "{ROOTS_GAP}: machine {image} is an image file, which is not opened"
            ));
        } else if !name.starts_with('.') && directory.join(&name).is_dir() {
            found.push(candidate(RootKind::Nspawn, &name, directory.join(&name)));
        }
    }
    found
}

fn candidate(kind: RootKind, name: &str, place: PathBuf) -> Candidate {
    Candidate {
        kind,
        name: name.to_owned(),
        image: String::new(),
        layers: vec![place],
        id: String::new(),
        processes: None,
    }
}

/// Chroots of schroot.conf(5) that are directories.
pub(super) fn schroot(settings: &Settings) -> Vec<Candidate> {
    let mut found = Vec::new();
    let directory = settings.host("etc/schroot/chroot.d");
    let more = names(&directory, "schroot", &mut Vec::new());
    let files = more.iter().map(|name| directory.join(name));
    for file in [settings.host("etc/schroot/schroot.conf")].into_iter().chain(files) {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for (name, place) in chroots(&text) {
            let place = settings.host(&place);
            if Path::new(&place).is_dir() {
                found.push(candidate(RootKind::Chroot, &name, place));
            }
        }
    }
    found
}

/// Name and directory of each section that has one. A chroot of type `directory`, `plain` (where nothing else is said) or
/// `btrfs-snapshot` has.
fn chroots(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut section = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = Some(name.to_owned());
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let its = matches!(key.trim(), "directory" | "location" | "btrfs-source-subvolume");
        if let Some(section) = section.as_ref().filter(|_| its)
            && value.trim().starts_with('/')
        {
            found.push((section.clone(), value.trim().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_with_a_directory_are_chroots() {
        let text = "# x\n[sid]\ntype=directory\ndirectory = /srv/chroot/sid\n[old]\ntype=file\nfile=/srv/old.tgz\n\
                    [snap]\ntype=btrfs-snapshot\nbtrfs-source-subvolume=/srv/snap\ndirectory=relative\n";
        assert_eq!(
            chroots(text),
            [("sid".into(), "/srv/chroot/sid".into()), ("snap".into(), "/srv/snap".into())]
        );
    }
}
