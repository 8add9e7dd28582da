//! What the agent's command line answers where it cannot do what was asked: a message, a next step, an exit code.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

/// The agent as somebody who is not root, whoever runs the tests.
fn as_nobody(arguments: &[&str]) -> Output {
    let agent = env!("CARGO_BIN_EXE_fettle-agent");
    let root = rustix::process::geteuid().is_root();
    let mut command = Command::new(if root { "setpriv" } else { agent });
    if root {
        // The build directory may be closed to others: the program is handed over by a path that is not.
        let copy = std::env::temp_dir().join(format!("fettle-agent-{}", std::process::id()));
        if !copy.exists() {
            std::fs::copy(agent, &copy).unwrap();
        }
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(copy);
    }
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.output().unwrap()
}

#[test]
fn what_needs_root_says_so_with_the_command_to_type_and_touches_nothing() {
    for (arguments, hint) in [
        (&["patch"][..], "sudo fettle-agent patch"),
        (&["rehearse"], "sudo fettle-agent rehearse"),
        (&["undo"], "sudo fettle-agent undo"),
        (&["confirm"], "sudo fettle-agent confirm"),
        (&["resume"], "sudo fettle-agent resume"),
        (
            &["enroll", "--server", "https://127.0.0.1:1", "--token", "x"],
            "sudo fettle-agent enroll",
        ),
    ] {
        let said = as_nobody(arguments);
        let text = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(9), "{arguments:?}: {text}");
        assert!(text.contains("needs root"), "{arguments:?}: {text}");
        assert!(
            text.trim_end().ends_with(hint),
            "{arguments:?}: the last line says what to do: {text}"
        );
    }
    let copy = std::env::temp_dir().join(format!("fettle-agent-{}", std::process::id()));
    let _ = std::fs::remove_file(copy);
}

#[test]
fn a_command_that_nobody_knows_is_a_usage_error_that_names_it() {
    for (arguments, named) in [
        (&["pach"][..], "pach"),
        (&["patch", "--hung-after", "soon"], "soon"),
        (&["patch", "--confirm-within", "soon"], "soon"),
        (&["patch", "--latency-margin", "slow"], "percent"),
        (&["plan", "--only", "dreams"], "dreams"),
        (&["show"], "transaction"),
        (&["inventory", "--only", "dreams"], "dreams"),
        (&["patch", "--accept-missing", "symbol"], "SYMBOL@FILE"),
        (&["undo", "a", "b"], "transaction"),
    ] {
        let said =
            Command::new(env!("CARGO_BIN_EXE_fettle-agent")).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(named), "{arguments:?}: {text}");
    }
}

#[test]
fn a_reader_that_went_away_is_no_fault_and_help_is_had_by_every_name() {
    let agent = env!("CARGO_BIN_EXE_fettle-agent");
    for arguments in [&["help"][..], &["--help"], &["patch", "--help"], &["-h"], &["version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(agent);
        let status = command.args(arguments).stdout(writer).status().unwrap();
        assert_eq!(status.code(), Some(0), "{arguments:?}");
        let said = Command::new(agent).args(arguments).output().unwrap();
        assert!(said.status.success() && said.stdout.starts_with(b"fettle-agent"), "{arguments:?}");
    }
}
