//! Random trees, random changes to named paths, on each file system that can be made here. Judged by a walk that
//! shares no code with the preimage. Mounts are made in a mount namespace of the test's own, so that the kernel
//! takes them away whatever becomes of the test.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

/// Names that a careless program trips over.
const NAMES: [&[u8]; 8] =
    [b"a", b"b", b"line\nbreak", b"\xff\xfe", b" blank ", b"100%", b"-rf", b"x.dpkg-old"];
const DIRECTORIES: [&[u8]; 4] = [b"usr", b"usr/deep", b"etc/in\ntree", b"srv"];
const ATTRIBUTES: u8 = 8;

#[derive(Debug, Clone)]
enum Node {
    Nothing,
    File(usize, u8),
    Sparse(u32),
    Link(u8),
    Directory,
    DirectoryWith(u8),
    Fifo,
    Device,
    Socket,
    HardLinkTo(usize),
}

/// What is done to a path: which node it becomes, and which attributes it gets.
#[derive(Debug, Clone)]
struct Thing {
    place: usize,
    node: Node,
    mode: u32,
    attributes: u8,
}

fn thing() -> impl Strategy<Value = Thing> {
    let node = prop_oneof![
        2 => Just(Node::Nothing),
        // No zeros: a dense file of zeros comes back with holes, which nobody can tell by reading it.
        6 => (prop_oneof![Just(0usize), Just(1), Just(4096), Just(5000), Just(300_000)], 1u8..)
            .prop_map(|(n, b)| Node::File(n, b)),
        1 => (1u32..1_000_000).prop_map(Node::Sparse),
        3 => any::<u8>().prop_map(Node::Link),
        2 => Just(Node::Directory),
        2 => any::<u8>().prop_map(Node::DirectoryWith),
        1 => Just(Node::Fifo),
        1 => Just(Node::Device),
        1 => Just(Node::Socket),
        3 => (0..places().len()).prop_map(Node::HardLinkTo),
    ];
    let mode = prop_oneof![
        Just(0o644u32),
        Just(0o755),
        Just(0o4755),
        Just(0o2775),
        Just(0o1777),
        Just(0o000)
    ];
    (0..places().len(), node, mode, 0..ATTRIBUTES * 4)
        .prop_map(|(place, node, mode, attributes)| Thing { place, node, mode, attributes })
}

fn places() -> Vec<PathBuf> {
    let join = |d: &[u8], n: &[u8]| Path::new(OsStr::from_bytes(d)).join(OsStr::from_bytes(n));
    DIRECTORIES.iter().flat_map(|d| NAMES.iter().map(move |n| join(d, n))).collect()
}

/// Every path that a change can touch, as a delta would name it: also what a directory of `place` holds.
fn named() -> BTreeSet<HostPath> {
    let absolute = |p: PathBuf| HostPath(Path::new("/").join(p));
    let inner = places().into_iter().map(|p| p.join("inner"));
    places().into_iter().chain(inner).map(absolute).collect()
}

fn chattr(path: &Path, how: &str) {
    // Where the file system has no such flags nothing is set, and nothing to be kept.
    let _ = Command::new("chattr").arg(how).arg("--").arg(path).output();
}

fn permit(path: &Path) {
    if let Ok(Some(held)) = Held::of(path) {
        let _ = state::permit(&held);
    }
}

/// Away with what is there, flags and all.
fn remove(path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    if found.is_dir() || found.is_file() {
        permit(path);
    }
    if found.is_dir() {
        remove(&path.join("inner"));
        fs::remove_dir(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

fn make(root: &Path, things: &[Thing]) {
    let places = places();
    for thing in things {
        let path = root.join(&places[thing.place]);
        let node = match &thing.node {
            Node::HardLinkTo(to) => {
                let to = root.join(&places[*to]);
                let file = fs::symlink_metadata(&to).is_ok_and(|m| m.is_file());
                if !file || to == path {
                    continue;
                }
                remove(&path);
                permit(&to);
                fs::hard_link(&to, &path).unwrap();
                continue;
            }
            node => node,
        };
        // Half of all files are written in place, half replaced, as dpkg does.
        let in_place = thing.attributes % 2 == 1
            && matches!(node, Node::File(..))
            && fs::symlink_metadata(&path).is_ok_and(|m| m.is_file());
        if in_place {
            permit(&path);
        } else {
            remove(&path);
        }
        let node_at = |kind, number| {
            let mode = rustix::fs::Mode::RUSR;
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, number).unwrap();
        };
        match node {
            Node::Nothing | Node::HardLinkTo(_) => continue,
            Node::File(length, byte) => fs::write(&path, vec![*byte; *length]).unwrap(),
            Node::Sparse(at) => {
                let file = fs::File::create(&path).unwrap();
                file.set_len(u64::from(*at) + 100_000).unwrap();
                file.write_all_at(b"x", u64::from(*at)).unwrap();
            }
            // To a neighbour, to itself, in a circle, to nowhere, to a directory.
            Node::Link(to) => {
                let target = match to % 4 {
                    0 => {
                        PathBuf::from(OsStr::from_bytes(NAMES[usize::from(*to / 4) % NAMES.len()]))
                    }
                    1 => PathBuf::from("/nowhere/at\nall"),
                    2 => PathBuf::from("../srv"),
                    _ => PathBuf::from("."),
                };
                symlink(target, &path).unwrap();
            }
            Node::Directory => fs::create_dir(&path).unwrap(),
            Node::DirectoryWith(byte) => {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("inner"), [*byte]).unwrap();
            }
            Node::Fifo => node_at(rustix::fs::FileType::Fifo, 0),
            Node::Device => {
                node_at(rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3));
            }
            // In place of `bind`, whose paths may be no longer than 108 bytes.
            Node::Socket => node_at(rustix::fs::FileType::Socket, 0),
        }
        attributes(&path, thing);
    }
}

fn attributes(path: &Path, thing: &Thing) {
    let which = thing.attributes / 4;
    let owner = u32::from(which);
    std::os::unix::fs::lchown(path, Some(owner), Some(owner + 1)).unwrap();
    let found = fs::symlink_metadata(path).unwrap();
    if found.is_symlink() {
        return;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(thing.mode)).unwrap();
    if !found.is_file() && !found.is_dir() {
        return;
    }
    let set = |name: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::lsetxattr(path, name, value, flags) {
            // Not on every file system.
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(e) => panic!("{name}: {e}"),
        }
    };
    match which {
        1 => set("user.note", b"\xff\x00"),
        // user::rw-, user:12:r--, group::r--, mask::r--, other::---
        2 => set(
            "system.posix_acl_access",
            b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x0c\0\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff",
        ),
        // cap_net_bind_service=ep
        3 if found.is_file() => {
            set("security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        }
        3 => set(
            "system.posix_acl_default",
            b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x04\0\x0c\0\0\0\x04\0\x05\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\x05\0\xff\xff\xff\xff",
        ),
        4 => chattr(path, "+i"),
        5 => chattr(path, "+a"),
        6 => chattr(path, "+d"),
        _ => {}
    }
}

/// Everything below the root, by other means: one line a path. Sockets are nobody's business.
fn independent(root: &Path) -> Vec<String> {
    let script = "cd \"$1\" && find . ! -type s ! -type d -printf '%p|%y|%m|%U|%G|%l|%n|%s|%T@\\0' \
        && find . -type d -printf '%p|%y|%m|%U|%G|%T@\\0'";
    let output = Command::new("bash").args(["-c", script, "x"]).arg(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Sizes of directories are the file system's business.
    let mut lines: Vec<String> =
        output.stdout.split(|b| *b == 0).map(|l| format!("{:?}", OsStr::from_bytes(l))).collect();
    let mut open = vec![root.to_owned()];
    let mut inodes: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let (path, found) = (entry.path(), entry.metadata().unwrap());
            if found.is_dir() {
                open.push(path.clone());
            }
            if !found.is_file() && !found.is_dir() {
                continue;
            }
            let mut line = format!("{path:?}");
            if found.is_file() {
                inodes.entry(found.ino()).or_default().push(path.clone());
                line += &format!(" {}", Digest::of(&fs::read(&path).unwrap()).hex());
                // A file that had holes has them again.
                line += if found.blocks() * 512 + 65_536 < found.len() { " sparse" } else { "" };
            }
            let mut names = vec![0u8; 4096];
            let length = rustix::fs::llistxattr(&path, names.as_mut_slice()).unwrap_or(0);
            let mut names: Vec<&[u8]> =
                names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
            names.sort();
            for name in names {
                let mut value = vec![0u8; 4096];
                let n = rustix::fs::lgetxattr(&path, name, value.as_mut_slice()).unwrap();
                line += &format!(" {:?}={:?}", OsStr::from_bytes(name), &value[..n]);
            }
            lines.push(line);
        }
    }
    for (_, mut paths) in inodes {
        paths.sort();
        lines.push(format!("linked {paths:?}"));
    }
    let flags = Command::new("lsattr").args(["-R", "-a"]).arg(root).output();
    // The last letters are the layout of the file, which may be another.
    let text = flags.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    for line in text.lines().filter(|l| l.contains(&*root.to_string_lossy())) {
        if let Some((flags, path)) = line.split_once(' ') {
            let kept: String = flags.chars().filter(|c| "iadASD".contains(*c)).collect();
            if !kept.is_empty() {
                lines.push(format!("{path} flags {kept}"));
            }
        }
    }
    lines.sort();
    lines
}

/// The property, below a directory on the file system to be tried.
fn property(base: &Path, cases: u32) {
    // More of them by night.
    let wished = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    let cases = wished.unwrap_or(cases);
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let strategy =
        (proptest::collection::vec(thing(), 5..50), proptest::collection::vec(thing(), 1..50));
    let count = std::cell::Cell::new(0);
    let result = TestRunner::new(config).run(&strategy, |(first, second)| {
        count.set(count.get() + 1);
        let number = count.get();
        let own = base.join(number.to_string());
        let (root, store) = (own.join("root"), own.join("preimage"));
        for directory in DIRECTORIES {
            fs::create_dir_all(root.join(OsStr::from_bytes(directory))).unwrap();
        }
        make(&root, &first);
        let before = independent(&root);
        capture(&root, &store, &named(), &["/etc"]).unwrap();
        prop_assert_eq!(&independent(&root), &before, "taking it changed something");
        make(&root, &second);
        let restored = restore(&root, &store, &["/etc"], Known::default()).unwrap();
        let after = independent(&root);
        let _ = Command::new("chattr").args(["-R", "-ia", "--"]).arg(&own).output();
        fs::remove_dir_all(&own).unwrap();
        prop_assert_eq!(restored.differing, Vec::<String>::new());
        for (a, b) in before.iter().zip(&after) {
            prop_assert_eq!(a, b);
        }
        prop_assert_eq!(before.len(), after.len());
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e}");
    }
}

/// Runs this test once more in a mount namespace of its own, which ends with it. `true`: we are that second run.
fn inside(test: &str) -> bool {
    const MARK: &str = "FETTLE_TEST_NAMESPACE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return false;
    }
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg(format!("preimage::random_trees::{test}"))
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|t| String::from_utf8_lossy(&t).into_owned());
    eprintln!("{}{}", said[0], said[1]);
    assert!(output.status.success(), "the run in a namespace of its own failed");
    assert!(said[0].contains("1 passed"), "nothing was run");
    false
}

fn on(kind: &str, test: &str, cases: u32) {
    if !inside(test) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, point) = (dir.path().join("image"), dir.path().join("point"));
    fs::create_dir(&point).unwrap();
    let mounted = if kind == "tmpfs" {
        Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&point).status()
    } else {
        let mkfs = format!("mkfs.{kind}");
        let Some(mkfs) = crate::command::find(Path::new("/"), &mkfs) else {
            eprintln!("skipped: no {mkfs} here");
            return;
        };
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let made = Command::new(mkfs).arg("-q").arg(&image).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point).status()
    };
    assert!(mounted.unwrap().success(), "{kind} cannot be mounted");
    let result = std::panic::catch_unwind(|| property(&point, cases));
    let _ = Command::new("umount").arg("-l").arg(&point).status();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn any_tree_comes_back_as_it_was_on_ext4() {
    on("ext4", "any_tree_comes_back_as_it_was_on_ext4", 12);
}

#[test]
fn any_tree_comes_back_as_it_was_on_btrfs() {
    on("btrfs", "any_tree_comes_back_as_it_was_on_btrfs", 12);
}

#[test]
fn any_tree_comes_back_as_it_was_on_xfs() {
    on("xfs", "any_tree_comes_back_as_it_was_on_xfs", 12);
}

#[test]
fn any_tree_comes_back_as_it_was_on_tmpfs() {
    on("tmpfs", "any_tree_comes_back_as_it_was_on_tmpfs", 12);
}
