//! `testbed on | off | status`: whether this host builds twins and tests changes on them.

use super::{Words, need_root, usage};
use crate::settings::Settings;
use crate::testbed;
use fettle_core::{Problem, ProblemKind};
use std::io;
use std::path::Path;

/// Runs the command.
pub(super) fn run(settings: &Settings, mut words: Words) -> Result<(), Problem> {
    let wish = match words.words.is_empty() {
        true => "status".to_owned(),
        false => words.words.remove(0),
    };
    let json = words.json;
    words.nothing_more()?;
    let directory = settings.testbed_config();
    let mut already = false;
    let unusable = |error: io::Error| {
        let message = format!("{} cannot be changed: {error}", directory.display());
        Problem::new(ProblemKind::Environment, "config-unusable", message, "run as root")
    };
    match wish.as_str() {
        "on" => {
            need_root("testbed on")?;
            already = !on(&directory).map_err(unusable)?;
        }
        "off" => {
            need_root("testbed off")?;
            already = !off(&directory).map_err(unusable)?;
            testbed::clear(settings);
        }
        "status" => {}
        other => return Err(usage(format!("testbed takes on, off or status, not `{other}`"))),
    }
    let lacks = testbed::lacks(settings);
    let on = testbed::is_worker(settings);
    if json {
        out!("{:#}", serde_json::json!({ "worker": on, "lacks": lacks }));
        return Ok(());
    }
    if already {
        out!("testbed was {wish} already: nothing was changed");
    }
    match (on, lacks.as_slice()) {
        (false, _) => out!("this host builds no twins\n→ fettle-agent testbed on"),
        (true, []) => out!(
            "this host builds twins and tests changes on them, where it has the label a policy asks for"
        ),
        (true, lacks) => {
            out!("this host is to build twins, and lacks {}", lacks.join(", "));
            let message = format!("the worker lacks {}", lacks.join(", "));
            let hint = "apt-get install mmdebstrap systemd-container";
            return Err(Problem::new(ProblemKind::Environment, "no-worker", message, hint));
        }
    }
    Ok(())
}

/// Makes the host a worker, by what its administrator had put there before, if anything. `false`: it is one already.
fn on(directory: &Path) -> io::Result<bool> {
    let is_new = !directory.is_dir();
    if is_new {
        match std::fs::rename(directory.with_extension("off"), directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    std::fs::create_dir_all(directory.join("files"))?;
    Ok(is_new)
}

/// Makes the host no worker. What the administrator put there stays, where it is not in the way. `false`: it is none
/// already.
fn off(directory: &Path) -> io::Result<bool> {
    let names = (1..).map(|n| match n {
        1 => directory.with_extension("off"),
        n => directory.with_extension(format!("off.{n}")),
    });
    let free = names.into_iter().find(|name| name.symlink_metadata().is_err());
    // Invariant: there is no end of names.
    let Some(free) = free else { return Err(io::ErrorKind::AlreadyExists.into()) };
    match std::fs::rename(directory, free) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_and_off_may_be_said_as_often_as_one_likes_and_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let testbed = dir.path().join("testbed");
        assert!(!off(&testbed).unwrap(), "it never was on");
        assert!(on(&testbed).unwrap());
        std::fs::write(testbed.join("files/x"), "kept").unwrap();
        for _ in 0..3 {
            assert!(!on(&testbed).unwrap());
            assert!(off(&testbed).unwrap());
            assert!(!testbed.exists());
            assert!(!off(&testbed).unwrap());
            assert!(on(&testbed).unwrap());
            assert_eq!(std::fs::read(testbed.join("files/x")).unwrap(), b"kept");
        }
        // Somebody has made one beside.
        std::fs::create_dir_all(dir.path().join("testbed.off/files")).unwrap();
        assert!(off(&testbed).unwrap());
        assert!(dir.path().join("testbed.off.2/files/x").exists());
    }
}
