//! Files that are long and hold little, and files that hold more than what stands beside them.

use super::*;

/// Ends the test where the work has not ended by then: it would last for hours.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (told, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || told.send(work()));
    hears.recv_timeout(std::time::Duration::from_secs(60)).expect("it reads what is not there")
}

#[test]
fn a_file_of_a_terabyte_that_holds_a_word_is_kept_seen_and_put_back_at_once() {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};
    const LENGTH: u64 = 1 << 40;
    let host = host();
    let path = host.root.join("etc/app/huge");
    let make = |word: &[u8]| {
        let file = fs::File::create(&path).unwrap();
        if file.set_len(LENGTH).is_err() {
            eprintln!("skipped: no file of that length here");
            return false;
        }
        file.write_all_at(word, LENGTH / 3).unwrap();
        true
    };
    if !make(b"word") {
        return;
    }
    let holds = |word: &[u8]| {
        let mut there = vec![0; word.len()];
        let file = fs::File::open(&path).unwrap();
        file.read_exact_at(&mut there, LENGTH / 3).unwrap();
        let found = file.metadata().unwrap();
        there == word && found.len() == LENGTH && found.blocks() < 1024
    };
    let (root, store) = (host.root.clone(), host.store.clone());
    let captured = in_time(move || capture(&root, &store, &BTreeSet::new(), &TREES)).unwrap();
    assert!(captured.bytes < 1 << 20, "{captured:?}");
    assert!(holds(b"word"));
    assert!(make(b"ward"));
    fs::rename(&path, host.root.join("etc/app/aside")).unwrap();
    assert!(make(b"wood"));
    let (root, store) = (host.root.clone(), host.store.clone());
    let restored = in_time(move || restore(&root, &store, &TREES, Known::default())).unwrap();
    assert_eq!((restored.differing, restored.kept), (vec![], vec![]));
    assert!(holds(b"word"), "word, length and holes are as they were");
    assert_eq!(restored.set_aside, ["/etc/app/aside"], "nobody foresaw it");
    let aside = fs::metadata(host.store.join("set-aside/etc/app/aside")).unwrap();
    assert!(aside.len() == LENGTH && aside.blocks() < 1024);
}

#[test]
fn more_data_than_configuration_has_is_told_and_not_kept_unless_it_is_declared_or_changed() {
    use super::capture::{all_paths, measure};
    let host = host();
    let most = 1 << 20;
    let long = fs::File::create(host.root.join("etc/app/long")).unwrap();
    long.set_len(5 << 30).unwrap();
    let asked = |paths: &[&str], data: &[&str]| {
        let paths: BTreeSet<HostPath> = paths.iter().map(|p| HostPath::from(*p)).collect();
        let data: Vec<PathBuf> = data.iter().map(PathBuf::from).collect();
        let scope = Scope { trees: &TREES, data: &data };
        let all = all_paths(&host.root, &paths, scope).unwrap();
        measure(&host.root, &paths, &all, most)
    };
    assert!(asked(&[], &[]).is_ok(), "it is long, and holds nothing");
    fs::write(host.root.join("etc/app/dump"), vec![1; 2 << 20]).unwrap();
    let told = asked(&[], &[]).unwrap_err();
    assert!(matches!(&told, PreimageError::Vast { path, .. } if *path == "/etc/app/dump".into()));
    assert!(asked(&["/etc/app/dump"], &[]).is_ok(), "the change touches it: it must be kept");
    assert!(asked(&[], &["/etc/app/dump"]).is_ok(), "declared, it is data");
    let told = PreimageError::Vast { path: "/etc/x".into(), most: 4 << 30 }.to_string();
    assert!(told.starts_with("/etc/x holds more than 4 GiB"), "{told}");
}
