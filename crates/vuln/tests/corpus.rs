//! The fuzz targets' corpus, replayed: what was ever found stays found.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

#[test]
fn every_file_of_the_corpus_holds_what_must_hold_for_any_bytes() {
    for target in fuzz::TARGETS {
        let mut files = 0;
        for entry in std::fs::read_dir(corpus().join(target)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            println!("{}", path.display());
            fuzz::try_target(target, &bytes);
            // Cut off anywhere, too: what a line fewer or half a record does.
            for end in (0..bytes.len()).step_by(bytes.len() / 64 + 1) {
                fuzz::try_target(target, &bytes[..end]);
            }
            files += 1;
        }
        assert!(files >= 2, "{target} has {files} seeds");
    }
}

#[test]
fn every_target_has_its_corpus_and_its_program_and_there_are_no_others() {
    let mut expected: Vec<String> = fuzz::TARGETS.map(str::to_owned).to_vec();
    expected.sort();
    let names = |directory: PathBuf| {
        let entries = std::fs::read_dir(directory).unwrap();
        let stem = |p: PathBuf| p.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<String> = entries.map(|e| stem(e.unwrap().path())).collect();
        names.sort();
        names
    };
    assert_eq!(names(corpus()), expected);
    assert_eq!(names(corpus().join("../fuzz_targets")), expected);
}
