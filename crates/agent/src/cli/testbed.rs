//! `testbed on | off | status`: whether this host builds twins and tests changes on them.

use super::{Words, need_root, usage};
use crate::settings::Settings;
use crate::testbed;
use fettle_core::{Problem, ProblemKind};
use std::io;

/// Runs the command.
pub(super) fn run(settings: &Settings, mut words: Words) -> Result<(), Problem> {
    let wish = match words.words.is_empty() {
        true => "status".to_owned(),
        false => words.words.remove(0),
    };
    let json = words.json;
    words.nothing_more()?;
    let directory = settings.testbed_config();
    let unusable = |error: io::Error| {
        let message = format!("{} cannot be changed: {error}", directory.display());
        Problem::new(ProblemKind::Environment, "config-unusable", message, "run as root")
    };
    match wish.as_str() {
        "on" => {
            need_root("testbed on")?;
            std::fs::create_dir_all(directory.join("files")).map_err(unusable)?;
        }
        "off" => {
            need_root("testbed off")?;
            testbed::clear(settings);
            // What the administrator put there stays where it is not in the way.
            let off = directory.with_extension("off");
            match std::fs::rename(&directory, &off) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(unusable(e)),
                _ => {}
            }
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
