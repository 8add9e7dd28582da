//! HAProxy by its Runtime API (HAProxy Management Guide, section 9.3, "Unix Socket commands"; a `stats socket` with `level
//! admin`).

use super::{Balancer, Seen, Told};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A balancer that does not answer for so long is not there.
const ANSWER: Duration = Duration::from_secs(10);
/// An answer longer than this is none: 10,000 servers need less.
const LONGEST: u64 = 16 << 20;

/// A server of one HAProxy.
#[derive(Debug)]
pub(super) struct Haproxy {
    /// Address and port, or the path of a socket.
    pub(super) socket: String,
    /// `BACKEND/SERVER`.
    pub(super) server: String,
}

impl fmt::Display for Haproxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.server, self.socket)
    }
}

impl Balancer for Haproxy {
    fn look(&self) -> io::Result<Seen> {
        let said = self.ask("show stat")?;
        let mut seen = seen(&said, &self.server).ok_or_else(|| {
            io::Error::other(format!("{} knows no server {}", self.socket, self.server))
        })?;
        seen.others = another_is_in(&said, &self.server);
        Ok(seen)
    }

    fn tell(&self, what: Told) -> io::Result<()> {
        match what {
            Told::Out => self.set("state drain"),
            Told::In => self.set("state ready"),
            Told::Share(percent) => {
                // Management Guide, `get weight` and `set server … weight`.
                let said = self.ask(&format!("get weight {}", self.server))?;
                let weight = part_of(&said, percent)
                    .map_err(|why| io::Error::other(format!("{}: {why}", self.server)))?;
                self.set(&format!("weight {weight}"))
            }
        }
    }
}

impl Haproxy {
    fn set(&self, what: &str) -> io::Result<()> {
        let said = self.ask(&format!("set server {} {what}", self.server))?;
        // HAProxy says nothing when it has done what it was told.
        match said.trim() {
            "" => Ok(()),
            said => Err(io::Error::other(format!("{}: {said}", self.socket))),
        }
    }

    fn ask(&self, command: &str) -> io::Result<String> {
        if self.socket.starts_with('/') {
            let stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(ANSWER))?;
            stream.set_write_timeout(Some(ANSWER))?;
            return talk(stream, command);
        }
        let none = || io::Error::other(format!("{} is no address", self.socket));
        let address = self.socket.to_socket_addrs()?.next().ok_or_else(none)?;
        let stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        talk(stream, command)
    }
}

fn talk(mut stream: impl Read + Write, command: &str) -> io::Result<String> {
    stream.write_all(command.as_bytes())?;
    stream.write_all(b"\n")?;
    let mut said = String::new();
    stream.take(LONGEST).read_to_string(&mut said)?;
    Ok(said)
}

/// So many percent of the configured weight, in whole units, by what `get weight` says: `50 (initial 100)`.
fn part_of(said: &str, percent: u32) -> Result<u32, String> {
    let initial = said.split_once("(initial ").and_then(|(_, rest)| rest.trim().strip_suffix(')'));
    let initial: u32 =
        initial.and_then(|n| n.parse().ok()).ok_or_else(|| said.trim().to_owned())?;
    match initial.saturating_mul(percent) / 100 {
        0 if percent > 0 => Err(format!(
            "its weight is {initial}, and {percent} % of that is nothing: write `default-server weight 100` into the backend"
        )),
        weight => Ok(weight),
    }
}

/// The lines of `show stat`, as (`BACKEND`, `SERVER`, how it is seen): CSV whose first line names the columns.
fn table(said: &str) -> Option<Vec<(&str, &str, Seen)>> {
    let mut lines = said.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next()?;
    let column = |name: &str| names.iter().position(|n| n.trim_start_matches("# ") == name);
    let (proxy, server, sessions, status) =
        (column("pxname")?, column("svname")?, column("scur")?, column("status")?);
    let weight = column("weight");
    let mut rows = Vec::new();
    for line in lines {
        // The last line is empty.
        let (Some(proxy), Some(server)) = (line.get(proxy), line.get(server)) else { continue };
        let sessions = line.get(sessions).and_then(|n| n.parse().ok()).unwrap_or(0);
        let status = line.get(status).copied().unwrap_or_default().to_owned();
        let weight = weight.and_then(|at| line.get(at)?.parse().ok());
        rows.push((*proxy, *server, Seen { status, sessions, weight, others: false }));
    }
    Some(rows)
}

fn seen(said: &str, server: &str) -> Option<Seen> {
    let (backend, name) = server.split_once('/')?;
    let found = table(said)?.into_iter().find(|(b, s, _)| (*b, *s) == (backend, name));
    found.map(|(.., seen)| seen)
}

fn another_is_in(said: &str, server: &str) -> bool {
    let Some((backend, name)) = server.split_once('/') else { return false };
    let other = |(b, s, seen): &(&str, &str, Seen)| {
        *b == backend && *s != name && *s != "BACKEND" && *s != "FRONTEND" && seen.is_in()
    };
    table(said).is_some_and(|rows| rows.iter().any(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_line_is_found_by_the_names_of_the_columns() {
        let said = "# pxname,svname,qcur,scur,status,weight\n\
                    front,FRONTEND,,7,OPEN,\nweb,host1,0,3,DRAIN,1\nweb,host2,0,0,no check,1\n\
                    web,BACKEND,0,3,UP,2\n";
        let host1 = seen(said, "web/host1").unwrap();
        assert_eq!((host1.sessions, host1.is_out(), host1.is_in()), (3, true, false));
        assert!(seen(said, "web/host2").unwrap().is_in());
        assert!(another_is_in(said, "web/host1") && !another_is_in(said, "web/host2"));
        assert_eq!(seen(said, "web/host3"), None);
        assert_eq!(seen("", "web/host1"), None);
        assert_eq!(seen("Unknown command", "web/host1"), None);
        let at = |status: &str| Seen {
            status: status.into(),
            sessions: 0,
            weight: Some(1),
            others: false,
        };
        let idle =
            "# pxname,svname,qcur,scur,status,weight\nweb,host1,0,3,UP,1\nweb,host2,0,0,UP,0\n";
        assert!(!seen(idle, "web/host2").unwrap().is_in() && !another_is_in(idle, "web/host1"));
        assert!(at("MAINT (via a/b)").is_out() && !at("DOWN 1/2").is_in() && at("UP 1/3").is_in());
    }

    #[test]
    fn a_weight_that_cannot_be_divided_so_is_refused_and_never_rounded_to_nothing() {
        for (said, percent, weight) in [
            ("100 (initial 100)\n", 50, Some(50)),
            ("0 (initial 100)\n", 100, Some(100)),
            ("1 (initial 1)\n", 100, Some(1)),
            ("3 (initial 3)\n", 50, Some(1)),
            ("1 (initial 1)\n", 50, None),
            ("20 (initial 20)\n", 4, None),
            ("No such server.\n", 50, None),
            ("", 50, None),
        ] {
            assert_eq!(part_of(said, percent).ok(), weight, "{said}");
        }
        let why = part_of("1 (initial 1)\n", 50).unwrap_err();
        assert!(why.contains("default-server weight 100"), "{why}");
    }
}
