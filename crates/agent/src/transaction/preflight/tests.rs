use super::*;
use crate::packages::Apt;
use crate::settings::Settings;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

/// A process that holds dpkg's lock below `root` as dpkg does (`fcntl`), until its standard input closes.
/// `None`: there is nothing here to make one with.
fn holder(root: &Path) -> Option<std::process::Child> {
    let python =
        ["/usr/bin/python3", "/usr/bin/python3.11"].into_iter().find(|p| Path::new(p).exists())?;
    let script = "import fcntl, sys\nf = open(sys.argv[1], 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX)\n\
                  print('held', flush=True)\nsys.stdin.read()";
    let mut child = Command::new(python)
        .args(["-I", "-c", script])
        .arg(root.join("var/lib/dpkg/lock-frontend"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    Some(child)
}

#[test]
fn a_lock_is_waited_for_then_its_holder_is_named_and_it_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("var/lib/dpkg/lock-frontend");
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    std::fs::write(&lock, "").unwrap();
    let apt = Apt::new(&Settings { root: dir.path().to_owned(), ..Settings::default() });
    assert_eq!(wait_for_lock(&apt, Duration::from_secs(60)), Ok(None));
    let Some(mut child) = holder(dir.path()) else {
        eprintln!("skipped: nothing here to hold a lock with");
        return;
    };
    let refused = wait_for_lock(&apt, Duration::ZERO).unwrap_err();
    assert_eq!(refused.code, "lock-held");
    let who = format!("is held by python3 (process {})", child.id());
    let who_too = format!("is held by python3.11 (process {})", child.id());
    assert!(
        refused.message.contains(&who) || refused.message.contains(&who_too),
        "{}",
        refused.message
    );
    assert!(refused.hint.contains("never remove"));
    // Given back while it is waited for.
    let mut input = child.stdin.take().unwrap();
    let waiting = std::thread::spawn(move || wait_for_lock(&apt, Duration::from_secs(60)));
    input.write_all(b"x").unwrap();
    drop(input);
    child.wait().unwrap();
    assert!(matches!(waiting.join().unwrap(), Ok(None | Some(_))));
    assert!(lock.exists());
}

#[test]
fn a_kernel_needs_room_in_boot_and_nothing_else_does() {
    let change = |name: &str| -> fettle_core::Shared<PackageChange> {
        PackageChange {
            name: name.into(),
            architecture: "amd64".into(),
            from: "1".into(),
            to: "2".into(),
            sha256: fettle_core::Digest::of(b""),
            size: 1000,
        }
        .into()
    };
    let state = Path::new("/srv/state");
    let needs = estimate(&[change("nginx")], state);
    assert!(needs.iter().any(|n| n.path == state && n.bytes >= 7000 && n.inodes > 0));
    assert!(!needs.iter().any(|n| n.path == Path::new("/boot")));
    let needs = estimate(&[change("nginx"), change("linux-image-6.1.0-40-amd64")], state);
    assert!(
        needs.iter().any(|n| n.path == Path::new("/boot") && n.bytes >= 100 << 20 && n.inodes > 0)
    );
}
