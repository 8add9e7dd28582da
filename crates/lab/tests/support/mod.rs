//! A lab for one test.

use fettle_lab::{Lab, LabConfig};
use std::path::{Path, PathBuf};

pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Runs `test` with a lab of its own and the programs in `FETTLE_BIN_DIR`, and checks that nothing is left behind,
/// also when the test fails. Without root or programs it says so and does nothing.
pub(crate) fn in_a_lab(test: impl FnOnce(&Lab, &Path)) {
    let bins = std::env::var_os("FETTLE_BIN_DIR").map(PathBuf::from);
    let (None, Some(bins)) = (fettle_lab::why_not(), bins) else {
        println!(
            "skipped: {}",
            fettle_lab::why_not().unwrap_or_else(|| "FETTLE_BIN_DIR is not set".into())
        );
        return;
    };
    let lab = Lab::open(LabConfig::for_tests().unwrap()).unwrap();
    fettle_lab::fleet::sweep(&lab).unwrap();
    lab.down(&say).unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&lab, &bins)));
    fettle_lab::fleet::sweep(&lab).unwrap();
    lab.down(&say).unwrap();
    let left: Vec<String> = lab.leftovers().unwrap().iter().map(ToString::to_string).collect();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    assert_eq!(left, Vec::<String>::new(), "left behind");
}
