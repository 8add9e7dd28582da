//! Round trips on a directory that stands for a host's root, judged by a comparison that shares no code with
//! the preimage: `find` and `sha256sum` of the machine.

use super::*;
use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

/// Everything below `root`, by other means: kind, mode, owner, times, link target, device, link count, content,
/// extended attributes.
fn independent(root: &Path) -> String {
    let script = "cd \"$1\" && find . -printf '%p %y %m %U %G %l %n %s %T@\\n' | sort \
        && find . -type f -print0 | sort -z | xargs -0r sha256sum \
        && find . \\( -type b -o -type c \\) -print0 | sort -z | xargs -0r stat -c '%n %t %T' \
        && (command -v getfattr >/dev/null && getfattr -R -h -d -m - . || true) \
        && find . -type f -links +1 -printf '%i %p\\n' | sort | awk '{n[$1]=n[$1]\" \"$2} END{for(i in n)print n[i]}' | sort";
    let output = Command::new("bash").args(["-c", script, "x"]).arg(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The root's own line holds the time of the test's making; directories' sizes are the file system's business.
    String::from_utf8(output.stdout).unwrap()
}

struct Host {
    _dir: tempfile::TempDir,
    root: PathBuf,
    store: PathBuf,
}

const TREES: [&str; 1] = ["/etc"];

fn host() -> Host {
    let dir = tempfile::tempdir().unwrap();
    let (root, store) = (dir.path().join("root"), dir.path().join("preimage"));
    for d in ["etc/app", "usr/bin", "usr/lib/app/old", "var/odd"] {
        fs::create_dir_all(root.join(d)).unwrap();
    }
    let write = |path: &str, bytes: &[u8], mode: u32| {
        fs::write(root.join(path), bytes).unwrap();
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    write("etc/app/app.conf", b"port = 80\n", 0o640);
    write("etc/passwd", b"root:x:0:0::/root:/bin/sh\n", 0o644);
    write("usr/bin/app", &vec![7; 300_000], 0o4755);
    write("usr/bin/small", b"#!/bin/sh\n", 0o755);
    write("usr/lib/app/empty", b"", 0o600);
    write("usr/lib/app/old/a", b"a", 0o444);
    write("usr/lib/app/old/b", b"b", 0o444);
    fs::hard_link(root.join("usr/bin/app"), root.join("usr/bin/app-2")).unwrap();
    symlink("app", root.join("usr/bin/link")).unwrap();
    symlink("/nowhere/\u{e9}", root.join("usr/lib/app/dangling")).unwrap();
    let sparse = fs::File::create(root.join("var/odd/sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (8 << 20) - 3).unwrap();
    fs::set_permissions(root.join("var/odd"), fs::Permissions::from_mode(0o1777)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("var/odd/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    rustix::fs::lsetxattr(
        root.join("usr/bin/small"),
        "user.note",
        b"\xff\x00x",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    if rustix::process::geteuid().is_root() {
        let device = rustix::fs::makedev(1, 3);
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("var/odd/null"),
            kind,
            rustix::fs::Mode::RUSR,
            device,
        )
        .unwrap();
        std::os::unix::fs::lchown(root.join("etc/app/app.conf"), Some(12), Some(34)).unwrap();
        std::os::unix::fs::lchown(root.join("usr/bin/link"), Some(12), Some(34)).unwrap();
    }
    let old = fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567, 89));
    fs::File::options()
        .write(true)
        .open(root.join("usr/bin/small"))
        .unwrap()
        .set_times(old)
        .unwrap();
    Host { _dir: dir, root, store }
}

/// Every path that `change` touches, as a delta would name it.
fn delta() -> BTreeSet<HostPath> {
    [
        "/usr/bin/app",
        "/usr/bin/app-2",
        "/usr/bin/small",
        "/usr/bin/link",
        "/usr/bin/new",
        "/usr/lib/app/empty",
        "/usr/lib/app/dangling",
        "/usr/lib/app/old",
        "/usr/lib/app/old/a",
        "/usr/lib/app/old/b",
        "/usr/lib/new",
        "/usr/lib/new/deep",
        "/usr/lib/new/deep/file",
        "/var/odd",
        "/var/odd/sparse",
        "/var/odd/fifo",
        "/var/odd/null",
        "/usr/lib/app/empty/inside",
    ]
    .into_iter()
    .map(HostPath::from)
    .collect()
}

fn change(root: &Path) {
    let at = |p: &str| root.join(p);
    // As dpkg does: a new file beside, renamed over.
    fs::write(at("usr/bin/app.dpkg-new"), vec![8; 310_000]).unwrap();
    fs::rename(at("usr/bin/app.dpkg-new"), at("usr/bin/app")).unwrap();
    fs::remove_file(at("usr/bin/app-2")).unwrap();
    fs::write(at("usr/bin/small"), b"#!/bin/bash\n").unwrap();
    fs::set_permissions(at("usr/bin/small"), fs::Permissions::from_mode(0o700)).unwrap();
    rustix::fs::lremovexattr(at("usr/bin/small"), "user.note").unwrap();
    fs::remove_file(at("usr/bin/link")).unwrap();
    fs::write(at("usr/bin/link"), b"a file now").unwrap();
    fs::write(at("usr/bin/new"), b"new").unwrap();
    // File to directory, directory to file.
    fs::remove_file(at("usr/lib/app/empty")).unwrap();
    fs::create_dir(at("usr/lib/app/empty")).unwrap();
    fs::write(at("usr/lib/app/empty/inside"), b"x").unwrap();
    fs::remove_dir_all(at("usr/lib/app/old")).unwrap();
    fs::write(at("usr/lib/app/old"), b"a file now").unwrap();
    fs::remove_file(at("usr/lib/app/dangling")).unwrap();
    fs::create_dir_all(at("usr/lib/new/deep")).unwrap();
    fs::write(at("usr/lib/new/deep/file"), b"x").unwrap();
    fs::write(at("var/odd/sparse"), b"dense").unwrap();
    fs::remove_file(at("var/odd/fifo")).unwrap();
    let _ = fs::remove_file(at("var/odd/null"));
    fs::set_permissions(at("var/odd"), fs::Permissions::from_mode(0o700)).unwrap();
    // Not in the delta, but in a tree that is kept whole.
    fs::write(at("etc/passwd"), b"root:x:0:0::/root:/bin/sh\napp:x:999:999::/:/bin/false\n")
        .unwrap();
    fs::write(at("etc/app/unforeseen"), b"x").unwrap();
    fs::remove_file(at("etc/app/app.conf")).unwrap();
}

#[test]
fn every_kind_of_file_comes_back_byte_for_byte_and_a_second_undo_changes_nothing() {
    let host = host();
    let before = independent(&host.root);
    let captured = capture(&host.root, &host.store, &delta(), &TREES).unwrap();
    assert!(captured.bytes > 300_000);
    assert_eq!(independent(&host.root), before, "taking a preimage changes nothing");
    change(&host.root);
    assert_ne!(independent(&host.root), before);
    let restored = restore(&host.root, &host.store, &TREES, Known::default()).unwrap();
    assert_eq!((restored.differing, restored.kept), (vec![], vec![]));
    assert!(restored.files > 15);
    assert_eq!(independent(&host.root), before);
    assert_eq!(
        restore(&host.root, &host.store, &TREES, Known::default()).unwrap(),
        Restored::default()
    );
    let blocks = std::os::unix::fs::MetadataExt::blocks(
        &fs::metadata(host.root.join("var/odd/sparse")).unwrap(),
    );
    assert!(blocks < 256, "a sparse file stays sparse: {blocks} blocks");
}

#[test]
fn an_undo_killed_at_any_file_and_run_again_ends_the_same() {
    // A killed undo is one that has put back some files and left its temporary behind.
    let host = host();
    let before = independent(&host.root);
    capture(&host.root, &host.store, &delta(), &TREES).unwrap();
    let manifest = read_manifest(&host.store.join("manifest")).unwrap();
    let all: Vec<HostPath> = manifest.keys().cloned().collect();
    for part in 0..all.len() {
        change(&host.root);
        fs::write(host.root.join("usr/bin/.fettle-undo.0"), b"half").unwrap();
        fs::write(host.root.join("usr/lib/app/.fettle-undo.0"), b"half").unwrap();
        let some: Manifest = all[..part].iter().map(|p| (p.clone(), manifest[p].clone())).collect();
        write_manifest(&host.store.join("manifest"), &some).unwrap();
        // What cannot be done yet because the rest is missing is told, not done by halves.
        restore(&host.root, &host.store, &[], Known::default()).unwrap();
        write_manifest(&host.store.join("manifest"), &manifest).unwrap();
        let restored = restore(&host.root, &host.store, &TREES, Known::default()).unwrap();
        assert_eq!(restored.differing, Vec::<String>::new(), "killed after {part}");
        let _ = fs::remove_file(host.root.join("usr/bin/.fettle-undo.0"));
        let _ = fs::remove_file(host.root.join("usr/lib/app/.fettle-undo.0"));
        // Directories' times were put back before the test removed its own litter.
        restore(&host.root, &host.store, &TREES, Known::default()).unwrap();
        assert_eq!(independent(&host.root), before, "killed after {part}");
    }
}

#[test]
fn what_somebody_else_changed_since_is_kept_and_told() {
    let host = host();
    capture(&host.root, &host.store, &delta(), &TREES).unwrap();
    change(&host.root);
    let paths = read_manifest(&host.store.join("manifest")).unwrap().into_keys().collect();
    let after = observe_all(&host.root, &paths, &TREES).unwrap();
    fs::write(host.root.join("etc/passwd"), b"edited by the administrator\n").unwrap();
    fs::write(host.root.join("etc/app/mine"), b"made by the administrator\n").unwrap();
    fs::write(host.root.join("usr/bin/new"), b"edited\n").unwrap();
    let restored =
        restore(&host.root, &host.store, &TREES, Known { after: Some(&after), made: None })
            .unwrap();
    assert_eq!(restored.kept, ["/etc/passwd", "/usr/bin/new"]);
    assert_eq!(restored.differing, Vec::<String>::new());
    assert_eq!(fs::read(host.root.join("etc/passwd")).unwrap(), b"edited by the administrator\n");
    assert!(host.root.join("etc/app/mine").exists());
    assert!(!host.root.join("etc/app/unforeseen").exists());
    assert_eq!(restored.set_aside, ["/etc/app/unforeseen"]);
    assert_eq!(fs::read(host.store.join("set-aside/etc/app/unforeseen")).unwrap(), b"x");
}

#[test]
fn what_is_neither_as_before_nor_as_the_rehearsal_made_it_is_set_aside_before_it_is_put_back() {
    let host = host();
    let before = independent(&host.root);
    capture(&host.root, &host.store, &delta(), &TREES).unwrap();
    let at = |path: &str| host.root.join(path);
    let made: Made = [
        ("/usr/bin/small", Some(Digest::of(b"#!/bin/bash\n"))),
        ("/usr/bin/new", Some(Digest::of(b"new"))),
        ("/usr/bin/link", Some(Digest::of(b"small"))),
        // Noted by an agent that did not note contents.
        ("/usr/lib/app/empty", None),
    ]
    .map(|(path, content)| (HostPath::from(path), content))
    .into();
    // The change came half-way, and somebody edits meanwhile.
    fs::write(at("usr/bin/small"), "#!/bin/bash\n").unwrap();
    fs::write(at("usr/bin/new"), "mine").unwrap();
    fs::write(at("usr/lib/app/empty"), "the change's").unwrap();
    fs::remove_file(at("usr/bin/link")).unwrap();
    symlink("mine", at("usr/bin/link")).unwrap();
    fs::write(at("etc/passwd"), "root:x:0:0::/root:/bin/sh\nme:x:1:1::/:/bin/sh\n").unwrap();
    fs::set_permissions(at("etc/app/app.conf"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(at("etc/mine"), "mine").unwrap();
    let known = Known { after: None, made: Some(&made) };
    let restored = restore(&host.root, &host.store, &TREES, known).unwrap();
    assert_eq!((restored.differing, restored.kept), (vec![], vec![]));
    let aside = ["/etc/mine", "/etc/passwd", "/usr/bin/link", "/usr/bin/new"];
    assert_eq!(restored.set_aside, aside);
    assert_eq!(set_aside::all(&host.store), aside.map(HostPath::from));
    let copy = |path: &str| fs::read(host.store.join("set-aside").join(path)).unwrap();
    assert!(copy("etc/passwd").ends_with(b"me:x:1:1::/:/bin/sh\n"));
    assert_eq!(copy("usr/bin/new"), b"mine");
    assert_eq!(
        fs::read_link(host.store.join("set-aside/usr/bin/link")).unwrap(),
        Path::new("mine")
    );
    assert_eq!(independent(&host.root), before);
    // Once more, as after a kill, with another edit: none of the copies is lost.
    fs::write(at("etc/passwd"), "another\n").unwrap();
    restore(&host.root, &host.store, &TREES, known).unwrap();
    restore(&host.root, &host.store, &TREES, known).unwrap();
    assert!(copy("etc/passwd").ends_with(b"me:x:1:1::/:/bin/sh\n"));
    assert_eq!(copy("etc/passwd.~1~"), b"another\n");
    assert_eq!(set_aside::all(&host.store).len(), 5);
}

#[test]
fn what_no_copy_can_be_kept_of_is_left_and_told() {
    let host = host();
    capture(&host.root, &host.store, &delta(), &TREES).unwrap();
    fs::write(host.root.join("etc/passwd"), "mine\n").unwrap();
    fs::write(host.root.join("etc/app/app.conf"), "mine\n").unwrap();
    fs::create_dir(host.store.join("set-aside")).unwrap();
    fs::write(host.store.join("set-aside/etc"), "in the way").unwrap();
    let made = Made::new();
    let known = Known { after: None, made: Some(&made) };
    let restored = restore(&host.root, &host.store, &TREES, known).unwrap();
    assert_eq!(restored.differing.len(), 2, "{:?}", restored.differing);
    assert!(restored.differing[1].starts_with("/etc/passwd: no copy"), "{:?}", restored.differing);
    assert_eq!(fs::read(host.root.join("etc/passwd")).unwrap(), b"mine\n");
}

#[test]
fn what_a_killed_dpkg_leaves_beside_a_file_is_removed() {
    let host = host();
    let before = independent(&host.root);
    capture(&host.root, &host.store, &delta(), &TREES).unwrap();
    fs::write(host.root.join("usr/bin/app.dpkg-new"), b"half").unwrap();
    fs::hard_link(host.root.join("usr/bin/small"), host.root.join("usr/bin/small.dpkg-tmp"))
        .unwrap();
    let restored = restore(&host.root, &host.store, &TREES, Known::default()).unwrap();
    assert_eq!((restored.files, restored.differing), (2, vec![]));
    assert_eq!(independent(&host.root), before);
}

#[test]
fn a_manifest_reads_back_as_it_was_written_whatever_stands_there_and_tells_of_one_path_as_well() {
    let host = host();
    let file = host.store.join("written");
    fs::create_dir_all(&host.store).unwrap();
    let paths = ["/etc/app", "/usr/bin/link", "/var/odd/fifo", "/var/odd/sparse", "/gone"];
    let paths = paths.map(HostPath::from).into_iter().collect();
    let mut all = observe_all(&host.root, &paths, &TREES).unwrap();
    let device = Kind::Device { character: true, number: 259 };
    for (n, kind) in [device, Kind::Socket].into_iter().enumerate() {
        let path = HostPath::from(format!("/dev/{n}").as_str());
        let attributes = all[&"/etc/passwd".into()].was.clone().unwrap().attributes;
        let was = Some(State { kind, attributes });
        all.insert(path.clone(), Record { path, was, content: None });
    }
    write_manifest(&file, &all).unwrap();
    assert_eq!(read_manifest(&file).unwrap(), all);
    for (path, record) in &all {
        assert_eq!(read_record(&file, path).unwrap().as_ref(), Some(record));
    }
    assert_eq!(read_record(&file, &"/etc".into()).unwrap(), all.get(&"/etc".into()).cloned());
    assert_eq!(read_record(&file, &"/etc/app/app".into()).unwrap(), None);
    // A kind that lacks what belongs to it is no kind.
    let text = fs::read_to_string(&file).unwrap().replace("\"size\"", "\"length\"");
    let body = &text[..text.rfind("end ").unwrap()];
    let end = format!("end {} {}\n", body.lines().count(), Digest::of(body.as_bytes()).hex());
    fs::write(&file, format!("{body}{end}")).unwrap();
    let told = read_manifest(&file).unwrap_err().to_string();
    assert!(told.contains("`size` is missing"), "{told}");
}

#[test]
fn whoever_waits_for_the_files_is_called_once_all_of_them_are_back_and_not_where_one_is_missing() {
    let host = host();
    let before = independent(&host.root);
    capture(&host.root, &host.store, &delta(), &TREES).unwrap();
    let put_back = || {
        change(&host.root);
        let mut seen = None;
        let placed = || seen = Some(independent(&host.root));
        restore_and(&host.root, &host.store, &TREES, Known::default(), placed).unwrap();
        seen
    };
    assert_eq!(put_back(), Some(before));
    let large = host.store.join("0");
    fs::write(&large, vec![1; fs::read(&large).unwrap().len()]).unwrap();
    assert_eq!(put_back(), None);
}

#[test]
fn a_preimage_damaged_on_disk_is_told_and_never_put_back() {
    let host = host();
    capture(&host.root, &host.store, &delta(), &TREES).unwrap();
    change(&host.root);
    let large = host.store.join("0");
    let mut bytes = fs::read(&large).unwrap();
    bytes[1000] ^= 1;
    fs::write(&large, &bytes).unwrap();
    let restored = restore(&host.root, &host.store, &TREES, Known::default()).unwrap();
    assert!(
        restored
            .differing
            .iter()
            .any(|d| d == "/usr/bin/app: the preimage of this file is damaged"),
        "{restored:?}"
    );
    assert_eq!(fs::read(host.root.join("usr/bin/app")).unwrap(), vec![8; 310_000]);
    // And a damaged manifest is no manifest.
    let manifest = host.store.join("manifest");
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[100] ^= 1;
    fs::write(&manifest, &bytes).unwrap();
    assert!(matches!(
        restore(&host.root, &host.store, &TREES, Known::default()),
        Err(PreimageError::Damaged { .. })
    ));
}

#[test]
fn what_is_excluded_is_neither_taken_nor_put_back() {
    let host = host();
    for dir in ["var/log", "var/lib/apt/lists"] {
        fs::create_dir_all(host.root.join(dir)).unwrap();
    }
    fs::write(host.root.join("var/log/app.log"), b"one\n").unwrap();
    let paths =
        ["/var/log/app.log", "/var/lib/apt/lists/x", "/usr/bin/small"].map(HostPath::from).into();
    capture(&host.root, &host.store, &paths, &TREES).unwrap();
    fs::write(host.root.join("var/log/app.log"), b"one\ntwo\n").unwrap();
    fs::write(host.root.join("usr/bin/small"), b"x").unwrap();
    assert_eq!(restore(&host.root, &host.store, &TREES, Known::default()).unwrap().files, 1);
    assert_eq!(fs::read(host.root.join("var/log/app.log")).unwrap(), b"one\ntwo\n");
}

#[test]
fn too_little_room_is_refused_before_anything_is_written() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    let host = host();
    fs::create_dir(&host.store).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "none"])
        .arg(&host.store)
        .status()
        .unwrap();
    assert!(mounted.success());
    let result = capture(&host.root, &host.store.join("preimage"), &delta(), &TREES);
    let left: Vec<_> = fs::read_dir(host.store.join("preimage")).unwrap().collect();
    Command::new("umount").arg(&host.store).status().unwrap();
    assert!(
        matches!(result, Err(PreimageError::NoSpace { free, .. }) if free <= 64 << 10),
        "{result:?}"
    );
    assert!(left.is_empty());
}

#[test]
fn a_socket_that_somebody_listens_on_is_left_alone_whatever_was_there_before() {
    let host = host();
    let socket = host.root.join("var/odd/socket");
    let paths = BTreeSet::from([HostPath::from("/var/odd/socket"), HostPath::from("/var/odd")]);
    let first = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    capture(&host.root, &host.store, &paths, &[]).unwrap();
    // Its service has come back and made it anew, as it likes.
    drop(first);
    fs::remove_file(&socket).unwrap();
    let _second = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o700)).unwrap();
    let restored = restore(&host.root, &host.store, &[], Known::default()).unwrap();
    assert_eq!(restored, Restored::default());
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    // Nobody listens: nobody misses it. A file in its place is the change's.
    fs::remove_file(&socket).unwrap();
    assert_eq!(
        restore(&host.root, &host.store, &[], Known::default()).unwrap().differing,
        Vec::<String>::new()
    );
    fs::write(&socket, b"a file now").unwrap();
    assert_eq!(
        restore(&host.root, &host.store, &[], Known::default()).unwrap().differing,
        Vec::<String>::new()
    );
    assert!(!socket.exists());
}

#[test]
fn a_directory_that_becomes_a_link_and_the_reverse_come_back_and_the_links_target_is_untouched() {
    // As dpkg-maintscript-helper does: dir_to_symlink, symlink_to_dir.
    let host = host();
    let at = |p: &str| host.root.join(p);
    for d in ["usr/share/doc/was-dir", "usr/share/doc/target"] {
        fs::create_dir_all(at(d)).unwrap();
        fs::write(at(d).join("copyright"), d).unwrap();
    }
    symlink("target", at("usr/share/doc/was-link")).unwrap();
    let before = independent(&host.root);
    let paths = ["was-dir", "was-dir/copyright", "was-link", "was-link/copyright"]
        .map(|p| HostPath(Path::new("/usr/share/doc").join(p)))
        .into();
    capture(&host.root, &host.store, &paths, &[]).unwrap();
    let manifest = read_manifest(&host.store.join("manifest")).unwrap();
    assert_eq!(manifest[&HostPath::from("/usr/share/doc/was-link/copyright")].was, None);
    fs::remove_dir_all(at("usr/share/doc/was-dir")).unwrap();
    symlink("target", at("usr/share/doc/was-dir")).unwrap();
    fs::remove_file(at("usr/share/doc/was-link")).unwrap();
    fs::create_dir(at("usr/share/doc/was-link")).unwrap();
    fs::write(at("usr/share/doc/was-link/copyright"), b"new").unwrap();
    let restored = restore(&host.root, &host.store, &[], Known::default()).unwrap();
    assert_eq!(restored.differing, Vec::<String>::new());
    assert_eq!(independent(&host.root), before);
}

#[test]
fn a_tree_that_is_reached_through_a_link_is_kept_where_it_really_is() {
    let host = host();
    fs::create_dir_all(host.root.join("data/etc")).unwrap();
    fs::write(host.root.join("data/etc/own"), b"own").unwrap();
    symlink("data", host.root.join("link")).unwrap();
    capture(&host.root, &host.store, &BTreeSet::new(), &["/link/etc"]).unwrap();
    fs::write(host.root.join("data/etc/own"), b"changed").unwrap();
    fs::write(host.root.join("data/etc/new"), b"new").unwrap();
    let restored = restore(&host.root, &host.store, &["/link/etc"], Known::default()).unwrap();
    assert_eq!(
        (restored.differing, restored.set_aside),
        (vec![], vec!["/data/etc/new".to_owned()])
    );
    assert_eq!(fs::read(host.root.join("data/etc/own")).unwrap(), b"own");
    assert!(!host.root.join("data/etc/new").exists());
}

#[test]
fn what_nobody_foresaw_comes_back_from_a_snapshot_of_the_root() {
    let host = host();
    let before = independent(&host.root);
    let paths = BTreeSet::from(["/usr/bin/small".into()]);
    capture(&host.root, &host.store, &paths, &TREES).unwrap();
    let snapshot = host.root.with_file_name("snapshot");
    let copied = Command::new("cp").arg("-a").args([&host.root, &snapshot]).status().unwrap();
    assert!(copied.success());
    // The change does what it said, and more than it said.
    let at = |path: &str| host.root.join(path);
    fs::write(at("usr/bin/small"), "#!/bin/bash\n").unwrap();
    fs::write(at("usr/lib/app/old/b"), "other").unwrap_or_else(|_| {
        fs::remove_file(at("usr/lib/app/old/b")).unwrap();
        fs::write(at("usr/lib/app/old/b"), "other").unwrap();
    });
    fs::remove_file(at("var/odd/sparse")).unwrap();
    fs::create_dir_all(at("usr/lib/app/new/empty")).unwrap();
    fs::write(at("usr/lib/app/new/file"), "new").unwrap();
    let surprises: BTreeSet<HostPath> = [
        "/usr/lib/app",
        "/usr/lib/app/old",
        "/usr/lib/app/old/b",
        "/var/odd",
        "/var/odd/sparse",
        "/usr/lib/app/new",
        "/usr/lib/app/new/empty",
        "/usr/lib/app/new/file",
        "/usr/bin/small",
    ]
    .map(HostPath::from)
    .into();
    // Of those, what the preimage has already stays as it is.
    let known = read_manifest(&host.store.join("manifest")).unwrap();
    let fresh = surprises.iter().filter(|p| !known.contains_key(*p)).count() as u64;
    assert_eq!(extend(&snapshot, &host.store, &surprises).unwrap(), fresh);
    assert_eq!(extend(&snapshot, &host.store, &surprises).unwrap(), 0);
    let restored = restore(&host.root, &host.store, &TREES, Known::default()).unwrap();
    assert_eq!(restored.differing, Vec::<String>::new());
    assert_eq!(independent(&host.root), before);
}

mod vast;
