//! A balancer that is spoken to by a program of this host: `/etc/fettle/hooks.d/NAME`, which its administrator has put
//! there. Nobody from elsewhere can put one there, change it, or say with which words it is called.
//!
//! ```text
//! NAME look  BACKEND/SERVER          prints `status=up|out|down sessions=N others=N`
//! NAME out   BACKEND/SERVER          no new requests
//! NAME in    BACKEND/SERVER          requests, as many as its share says
//! NAME share BACKEND/SERVER PERCENT  so much of its own weight, from 1 to 100
//! ```
//!
//! `sessions`: requests under way; `others`: servers of the backend, beside this one, that get requests. The last three are
//! states, and may be asked for twice. Whatever ends with another exit code than 0 has not been done.

use super::{Balancer, Seen, Told};
use crate::command::{self, command};
use crate::trusted;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

/// A program that has not ended after so long has not done it.
const DEADLINE: Duration = Duration::from_secs(60);

/// A server of one balancer, by a program.
#[derive(Debug)]
pub(super) struct Hook {
    /// The program.
    pub(super) program: PathBuf,
    /// `BACKEND/SERVER`.
    pub(super) server: String,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.server, self.program.display())
    }
}

impl Balancer for Hook {
    fn look(&self) -> io::Result<Seen> {
        let said = self.call("look", None)?;
        seen(&said).ok_or_else(|| {
            io::Error::other(format!(
                "{} look printed `{}`, not `status=up|out|down sessions=N others=N`",
                self.program.display(),
                said.trim()
            ))
        })
    }

    fn tell(&self, what: Told) -> io::Result<()> {
        match what {
            Told::Out => self.call("out", None),
            Told::In => self.call("in", None),
            Told::Share(percent) => self.call("share", Some(percent)),
        }
        .map(drop)
    }
}

impl Hook {
    fn call(&self, what: &str, percent: Option<u32>) -> io::Result<String> {
        trusted::program(&self.program).map_err(io::Error::other)?;
        let mut program = command(&self.program.to_string_lossy());
        program.arg(what).arg(&self.server).args(percent.map(|percent| percent.to_string()));
        let output = command::run(&mut program, Some(DEADLINE))?;
        if output.success() {
            return Ok(output.text);
        }
        Err(io::Error::other(format!(
            "{} {what} {} ({}): {}",
            self.program.display(),
            self.server,
            output.ending(),
            output.tail(3)
        )))
    }
}

/// What `look` printed, on its last line.
fn seen(said: &str) -> Option<Seen> {
    let line = said.lines().rev().find(|line| !line.trim().is_empty())?;
    let value = |name: &str| {
        let mut words = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        words.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let status = match value("status")? {
        "up" => "UP",
        "out" => "DRAIN",
        "down" => "DOWN",
        _ => return None,
    };
    let others: u64 = value("others")?.parse().ok()?;
    Some(Seen {
        status: status.to_owned(),
        sessions: value("sessions")?.parse().ok()?,
        weight: None,
        others: others > 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_a_program_prints_of_a_server_is_read_or_refused() {
        let good = seen("reading web.conf\nstatus=out sessions=3 others=1\n").unwrap();
        assert_eq!((good.sessions, good.others, good.is_out()), (3, true, true));
        assert!(seen("status=up others=0 sessions=0 share=50").unwrap().is_in());
        assert!(!seen("status=down sessions=0 others=2").unwrap().is_in());
        for bad in [
            "",
            "up",
            "status=up",
            "status=odd sessions=0 others=1",
            "status=up sessions=-1 others=1",
        ] {
            assert_eq!(seen(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_program_is_told_the_server_and_one_that_others_can_write_is_not_run() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("lb");
        let log = directory.path().join("log");
        let text = format!(
            "#!/bin/sh\necho \"$*\" >> {}\ncase $1 in look) echo status=up sessions=0 others=1;; share) [ $3 -le 50 ] || {{ echo too much; exit 3; }};; esac\n",
            log.display()
        );
        fs::write(&program, text).unwrap();
        let mode = |mode| fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        let hook = Hook { program: program.clone(), server: "web/host1".into() };
        mode(0o644);
        assert!(hook.look().unwrap_err().to_string().contains("is no program"));
        mode(0o775);
        assert!(hook.look().unwrap_err().to_string().contains("can be written by others"));
        mode(0o755);
        assert!(hook.look().unwrap().is_in());
        for told in [Told::Out, Told::In, Told::Share(50)] {
            hook.tell(told).unwrap();
        }
        let error = hook.tell(Told::Share(90)).unwrap_err().to_string();
        assert!(error.contains("too much"), "{error}");
        let said = fs::read_to_string(&log).unwrap();
        assert_eq!(
            said.lines().collect::<Vec<_>>(),
            [
                "look web/host1",
                "out web/host1",
                "in web/host1",
                "share web/host1 50",
                "share web/host1 90"
            ]
        );
        fs::remove_file(&program).unwrap();
        assert!(hook.look().is_err());
    }
}
