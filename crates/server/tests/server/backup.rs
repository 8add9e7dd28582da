//! Backups, and servers that come from one.

use crate::fleet::{Lab, OLD, finished, inventory, quick, rollout, start, until};
use fettle_core::rollout::{HostState, Phase};
use fettle_core::transaction::Outcome;
use fettle_core::{Hold, Problem, TransactionId};
use fettle_server::backup::{Manifest, backup, backup_keys, restore, verify};
use fettle_wire::api::{Because, HostDetail, LedgerVerified, RolloutDetail};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A server with a backup and its keys beside it.
struct Drill {
    lab: Lab,
    out: tempfile::TempDir,
    made: Manifest,
}

impl Drill {
    fn of(lab: Lab) -> Self {
        let out = tempfile::tempdir().unwrap();
        let made = backup(&lab.data(), &out.path().join("backup.tar.gz")).unwrap();
        backup_keys(&lab.data(), &out.path().join("keys.tar.gz")).unwrap();
        Self { lab, out, made }
    }

    fn files(&self) -> (PathBuf, PathBuf) {
        (self.out.path().join("backup.tar.gz"), self.out.path().join("keys.tar.gz"))
    }

    /// The old server's machine is lost; a new one is made from the backup.
    fn restore(mut self) -> Lab {
        let (backup, keys) = self.files();
        let fresh = tempfile::tempdir().unwrap();
        self.lab.kill();
        assert_eq!(restore(&backup, &keys, fresh.path()).unwrap(), self.made);
        self.lab.move_to(fresh);
        self.lab
    }
}

/// What the server knows to have ended well on a host.
fn patched(lab: &Lab, host: &str) -> BTreeSet<TransactionId> {
    let detail: HostDetail = lab.get(&format!("/hosts/{host}"));
    let ended = detail.transactions.iter().filter(|t| t.outcome == Some(Outcome::Patched));
    ended.map(|t| t.assignment.transaction()).collect()
}

#[test]
fn a_server_restored_in_the_middle_of_a_rollout_hears_again_what_it_has_forgotten() {
    let lab = Lab::furnished();
    let mut agents = vec![
        lab.host("canary-1", "canary"),
        lab.host("web-1", "broad"),
        lab.host("web-2", "broad"),
    ];
    start(&lab);
    until("an order for the canary", || {
        agents[0].checkin(&lab);
        agents[0].at_work()
    });
    // Here the backup is made, beside the server that goes on.
    let drill = Drill::of(lab);
    finished(&drill.lab, &mut agents);
    let names = ["canary-1", "web-1", "web-2"];
    let acknowledged = names.map(|name| patched(&drill.lab, name));
    assert!(acknowledged.iter().all(|all| all.len() == 1), "{acknowledged:?}");
    let generations: Vec<u64> = agents.iter().map(|a| a.generation).collect();

    let lab = drill.restore();
    let detail = rollout(&lab);
    let Phase::Paused { by, reason } = &detail.row.phase else {
        panic!("a restored rollout goes on by itself: {:?}", detail.row.phase)
    };
    assert!(by == "restore" && reason.contains("backup"), "{by}: {reason}");
    assert!(names.iter().all(|name| patched(&lab, name).is_empty()), "the backup knows the future");
    for agent in &mut agents {
        agent.checkin(&lab); // hears of the new time
        agent.checkin(&lab); // sends everything again
    }
    assert_eq!(names.map(|name| patched(&lab, name)), acknowledged, "acknowledged, and lost");

    // Nobody is given the same change twice: the hosts are not what the plan was made for.
    let resume = Because { reason: "all have reported".into(), hosts: vec![], wave: None };
    let _: RolloutDetail = lab.post("/rollouts/ro-1/resume", &resume);
    for host in finished(&lab, &mut agents).hosts {
        let cancelled = HostState::Cancelled { hold: Hold::HostChanged };
        assert_eq!(host.run.state, cancelled, "{}", host.name);
    }
    // What is ordered next is newer to a host than anything it was ever ordered.
    let web = &mut agents[1];
    web.inventory = inventory(OLD);
    web.checkin(&lab);
    start(&lab);
    until("a new order", || {
        web.checkin(&lab);
        web.at_work()
    });
    assert!(web.generation > generations[1], "{} after {}", web.generation, generations[1]);
    let verified: LedgerVerified = lab.get("/ledger/verify");
    assert!(verified.broken.is_none(), "{verified:?}");
}

#[test]
fn a_restored_server_settles_once_and_then_is_one_like_any_other() {
    let mut lab = Drill::of(Lab::furnished()).restore();
    let mut agent = lab.host("web-1", "broad");
    agent.checkin(&lab);
    let epoch = agent.epoch.clone().unwrap();
    lab.restart();
    agent.checkin(&lab);
    assert_eq!(agent.epoch, Some(epoch));
}

fn code(result: Result<Manifest, Problem>) -> String {
    result.map(|m| panic!("it was taken: {m:?}")).unwrap_or_else(|problem| problem.code)
}

#[test]
fn a_damaged_backup_or_other_keys_are_refused_and_leave_nothing() {
    let drill = Drill::of(Lab::furnished());
    drill.lab.host("web-1", "broad");
    let (good, keys) = drill.files();
    assert_eq!(verify(&good).unwrap(), drill.made);
    let bytes = std::fs::read(&good).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    let evil = {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
            Vec::new(),
            flate2::Compression::default(),
        ));
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        // `append_data` refuses such a path: it is written as an attacker would.
        header.as_gnu_mut().unwrap().name[..11].copy_from_slice(b"../evil.txt");
        header.set_cksum();
        tar.append(&header, &b"evil"[..]).unwrap();
        tar.into_inner().unwrap().finish().unwrap()
    };
    let bad = drill.out.path().join("bad");
    for (what, bytes) in [
        ("cut off", &bytes[..bytes.len() / 2]),
        ("empty", b""),
        ("a bit flipped", &flipped),
        ("leads out of its directory", &evil),
        ("no archive", b"<html>not found</html>"),
    ] {
        std::fs::write(&bad, bytes).unwrap();
        let to = tempfile::tempdir().unwrap();
        assert_eq!(code(restore(&bad, &keys, to.path())), "backup-damaged", "{what}");
        assert_eq!(code(verify(&bad)), "backup-damaged", "{what}");
        let left: Vec<_> = std::fs::read_dir(to.path()).unwrap().flatten().collect();
        let names: Vec<_> = left.iter().map(|e| e.file_name()).collect();
        assert_eq!(names, ["server.lock"], "{what}");
    }
    // Keys of another fleet.
    let lab = Lab::furnished();
    lab.host("web-1", "broad");
    let other = Drill::of(lab);
    let to = tempfile::tempdir().unwrap();
    let second = Drill::of(drill.lab);
    assert_eq!(code(restore(&second.files().0, &other.files().1, to.path())), "other-keys");
}

#[test]
fn what_root_restores_belongs_to_the_owner_of_the_directory_it_is_restored_into() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let drill = Drill::of(Lab::furnished());
    let (backup, keys) = drill.files();
    let to = tempfile::tempdir().unwrap();
    let nobody = 65534;
    if chown(to.path(), Some(nobody), Some(nobody)).is_err() {
        eprintln!("skipped: only root restores for others");
        return;
    }
    restore(&backup, &keys, to.path()).unwrap();
    let (mut left, mut seen) = (vec![to.path().to_owned()], 0);
    while let Some(path) = left.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (nobody, nobody), "{}", path.display());
        seen += 1;
        if meta.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert!(seen > 5, "database, keys, token and lock: {seen}");
}

#[test]
fn nothing_is_written_over() {
    let drill = Drill::of(Lab::furnished());
    let (file, keys) = drill.files();
    assert_eq!(code(backup(&drill.lab.data(), &file)), "file-exists");
    let mut lab = drill.lab;
    assert_eq!(code(restore(&file, &keys, &lab.data())), "data-dir-in-use");
    lab.kill();
    until("the lock to be let go", || {
        (code(restore(&file, &keys, &lab.data())) == "data-in-use").then_some(())
    });
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(code(backup(nothing.path(), &nothing.path().join("b"))), "no-data");
    // It can be begun anew after a crash in its middle.
    let fresh = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(fresh.path().join(".restoring/keys")).unwrap();
    std::fs::write(fresh.path().join(".fettle.db.restored"), "half").unwrap();
    restore(&file, &keys, fresh.path()).unwrap();
    assert!(fettle_server::Server::start(quick(fresh.path())).is_ok());
}
