//! Somebody who owns a directory of the host puts links in the place of what root looks at and writes in it, over and over,
//! while root takes a preimage and puts it back. What the links lead to is theirs neither to read nor to change.

use super::*;
use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

/// So often the two race; without care, root loses within a few dozen.
const ROUNDS: u32 = 400;
const TREES: [&str; 1] = ["/etc"];
const SECRET: &[u8] = b"root's own, and nobody else's";

struct Host {
    _dir: tempfile::TempDir,
    root: PathBuf,
    store: PathBuf,
}

/// A service's configuration below `etc/app`, and what is none of the service's business in `victim`.
fn host() -> Host {
    // Where there is one, in memory: each round waits for the disk otherwise.
    let memory = Path::new("/dev/shm");
    let dir = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let (root, store) = (dir.path().join("root"), dir.path().join("preimage"));
    fs::create_dir_all(root.join("etc/app/conf.d")).unwrap();
    fs::create_dir_all(root.join("victim")).unwrap();
    fs::write(root.join("etc/app/conf.d/app.conf"), b"port = 80\n").unwrap();
    mode(&root.join("etc/app/conf.d/app.conf"), 0o666);
    fs::write(root.join("victim/app.conf"), SECRET).unwrap();
    mode(&root.join("victim/app.conf"), 0o600);
    Host { _dir: dir, root, store }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

impl Host {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn is_victim_untouched(&self) -> bool {
        let path = self.at("victim/app.conf");
        let names = fs::read_dir(self.at("victim")).unwrap().count();
        let is_same = fs::read(&path).unwrap() == SECRET;
        names == 1 && is_same && fs::metadata(&path).unwrap().permissions().mode() & 0o7777 == 0o600
    }

    /// Rounds of `root`, while somebody does `swap` without a pause. `root` says whether it has seen no harm done.
    fn race(&self, swap: impl Fn() + Sync, root: impl Fn() -> bool) {
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    swap();
                }
            });
            let lost = (0..ROUNDS).find(|_| !root());
            done.store(true, Ordering::Relaxed);
            assert_eq!(lost, None, "root lost in this round");
        });
    }

    fn undo(&self) -> bool {
        // It may well say that somebody is at the files; that is no harm.
        let _ = restore(&self.root, &self.store, &TREES, Known::default());
        self.is_victim_untouched()
    }
}

#[test]
fn a_directory_swapped_for_a_link_leads_an_undo_nowhere_else() {
    let host = host();
    capture(&host.root, &host.store, &BTreeSet::new(), &TREES).unwrap();
    // Outside of what is kept, or the undo would take it away as what nobody foresaw.
    let (own, aside) = (host.at("etc/app/conf.d"), host.at("aside"));
    let swap = || {
        if fs::rename(&own, &aside).is_ok() {
            let _ = symlink("../../victim", &own);
            let _ = fs::remove_file(&own);
            // Root may have made one anew meanwhile.
            let _ = fs::remove_dir_all(&own);
            let _ = fs::rename(&aside, &own);
        }
        let _ = fs::remove_dir_all(&aside);
        let _ = fs::write(own.join("app.conf"), b"changed\n");
    };
    host.race(swap, || host.undo());
}

#[test]
fn a_file_on_its_way_back_swapped_for_a_link_gives_its_mode_to_nothing_else() {
    let host = host();
    capture(&host.root, &host.store, &BTreeSet::new(), &TREES).unwrap();
    let directory = host.at("etc/app/conf.d");
    let swap = || {
        for thread in 0..2 {
            let half = directory.join(format!(".fettle-undo.{thread}"));
            if fs::symlink_metadata(&half).is_ok_and(|m| m.is_file()) {
                let _ = fs::remove_file(&half);
                let _ = symlink("../../../victim/app.conf", &half);
            }
        }
    };
    host.race(swap, || {
        let _ = fs::remove_file(directory.join("app.conf"));
        fs::write(directory.join("app.conf"), b"changed\n").unwrap();
        host.undo()
    });
}

#[test]
fn a_file_swapped_for_a_link_puts_nothing_else_into_a_preimage() {
    let host = host();
    let (own, aside) = (host.at("etc/app/conf.d/app.conf"), host.at("etc/app/aside"));
    let swap = || {
        fs::rename(&own, &aside).unwrap();
        symlink("../../../victim/app.conf", &own).unwrap();
        fs::rename(&aside, &own).unwrap();
    };
    host.race(swap, || {
        // A name that is there at one moment and not at the next is no harm either.
        let _ = capture(&host.root, &host.store, &BTreeSet::new(), &TREES);
        let pack = fs::read(host.store.join("pack")).unwrap_or_default();
        memchr::memmem::find(&pack, SECRET).is_none()
    });
}
