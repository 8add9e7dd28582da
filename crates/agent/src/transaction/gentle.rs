//! Gentle restarts: programs that can put a successor in their place while their sockets stay open, so that no
//! client is refused. Whatever still maps replaced files afterwards is restarted as any other.

use crate::unit;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::io;
use std::time::{Duration, Instant};

/// A successor has so long to come up, and the old processes so long to finish.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// How a program comes to run the new files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Its reload executes the program anew, with the same sockets: HAProxy's master (management guide, 4),
    /// PHP-FPM's master (SIGUSR2).
    Reload,
    /// SIGUSR2 starts a successor beside it, SIGQUIT lets it finish: nginx ("Upgrading Executable on the Fly").
    Successor,
}

fn way(unit: &str) -> Option<Way> {
    let name = unit.strip_suffix(".service")?;
    match name {
        "nginx" => Some(Way::Successor),
        "haproxy" => Some(Way::Reload),
        _ if name.starts_with("php") && name.ends_with("-fpm") => Some(Way::Reload),
        _ => None,
    }
}

/// Can this unit be renewed so?
pub(super) fn knows(unit: &str) -> bool {
    way(unit).is_some()
}

/// Renews the units that can be; gives those for which that worked. `said` gets why it did not for others.
///
/// # Errors
/// When processes cannot be looked at. A unit that cannot be renewed is none: it is restarted afterwards.
pub(super) fn renew(units: &[String], said: &mut Vec<String>) -> io::Result<Vec<String>> {
    let mut renewed = Vec::new();
    for name in units {
        let result = match way(name) {
            Some(Way::Reload) => unit::systemctl(&["reload", "--", name]).map(drop),
            Some(Way::Successor) => successor(name),
            None => continue,
        };
        match result {
            Ok(()) => renewed.push(name.clone()),
            Err(e) => said.push(format!("{name} could not be renewed with open sockets: {e}")),
        }
    }
    // Old processes answer what they were asked, and end.
    let begun = Instant::now();
    while !renewed.is_empty() && begun.elapsed() < PATIENCE {
        let stale = crate::inventory::processes::stale()?;
        if !stale.iter().any(|p| renewed.contains(&p.unit)) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(renewed)
}

/// Starts a successor that takes over the sockets, then lets the old program finish.
fn successor(name: &str) -> io::Result<()> {
    let shown = unit::systemctl(&["show", "--property=MainPID,PIDFile", "--", name])?;
    let value = |key: &str| shown.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    let number = |text: &str| text.trim().parse().ok().and_then(Pid::from_raw);
    let old = value("MainPID").and_then(number);
    let file = value("PIDFile").filter(|file| !file.is_empty());
    let (Some(old), Some(file)) = (old, file) else {
        return Err(io::Error::other("it has no main process, or no PID file"));
    };
    kill_process(old, Signal::USR2)?;
    let begun = Instant::now();
    loop {
        let now = std::fs::read_to_string(file).ok().and_then(|text| number(&text));
        if now.is_some_and(|now| now != old && test_kill_process(now).is_ok()) {
            break;
        }
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::other("no successor came up"));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(kill_process(old, Signal::QUIT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_that_keep_their_sockets_are_renewed() {
        for (unit, known) in [
            ("nginx.service", Some(Way::Successor)),
            ("haproxy.service", Some(Way::Reload)),
            ("php8.2-fpm.service", Some(Way::Reload)),
            ("php-fpm.service", Some(Way::Reload)),
            ("apache2.service", None),
            ("nginx.socket", None),
            ("nginx-extras.service", None),
        ] {
            assert_eq!(way(unit), known, "{unit}");
        }
    }
}
