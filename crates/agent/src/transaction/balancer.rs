//! Load balancers that this host stands behind, spoken to by themselves: HAProxy by its Runtime API (HAProxy
//! Management Guide, section 9.3, "Unix Socket commands"; a `stats socket` with `level admin`).
//!
//! What is known of them is the administrator's word, in files of this host: nobody can order it from elsewhere.
//!
//! ```text
//! # /etc/fettle/balancers.d/web
//! haproxy 10.0.0.5:9999 web/host1
//! haproxy /run/haproxy/admin.sock local/host1
//! ```

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A balancer that does not answer for so long is not there.
const ANSWER: Duration = Duration::from_secs(10);
/// Requests under way have so long to end once no new ones come.
const DRAINED: Duration = Duration::from_secs(60);
/// The balancer's own check has so long to find the host well again.
const WELL: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// An answer longer than this is none: 10,000 servers need less.
const LONGEST: u64 = 16 << 20;

/// This host, as one balancer knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Address and port, or the path of a socket.
    pub(super) socket: String,
    /// `BACKEND/SERVER`.
    pub(super) server: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.server, self.socket)
    }
}

/// Every place that the files of a directory name, in the order of the files' names.
///
/// # Errors
/// When one cannot be read, or a line says nothing that is known: file, line, and what to write.
pub(super) fn places(directory: &Path) -> io::Result<Vec<Place>> {
    let mut files: Vec<_> = match fs::read_dir(directory) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    files.sort_by_key(fs::DirEntry::file_name);
    let mut places = Vec::new();
    for file in files {
        let path = file.path();
        for (n, line) in fs::read_to_string(&path)?.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                let wrong = || {
                    io::Error::other(format!(
                        "{}, line {}: `{line}` should be `haproxy ADDRESS:PORT BACKEND/SERVER`, or with the path of its socket",
                        path.display(),
                        n + 1
                    ))
                };
                places.push(parse(line).ok_or_else(wrong)?);
            }
        }
    }
    Ok(places)
}

fn parse(line: &str) -> Option<Place> {
    let mut words = line.split_ascii_whitespace();
    let (kind, socket, server) = (words.next()?, words.next()?, words.next()?);
    let (backend, name) = server.split_once('/')?;
    // It becomes part of a command: nothing that could begin another one.
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
    };
    let known = kind == "haproxy" && plain(backend) && plain(name) && words.next().is_none();
    let reachable = socket.starts_with('/') || socket.contains(':');
    (known && reachable).then(|| Place { socket: socket.to_owned(), server: server.to_owned() })
}

/// How a balancer sees this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// `UP`, `DRAIN`, `MAINT`, `DOWN 1/2`, `no check`, ...
    pub(super) status: String,
    /// Requests and connections under way.
    pub(super) sessions: u64,
    /// Its part of the requests; 0: none, whatever its status. `None`: the balancer does not say.
    weight: Option<u64>,
}

impl Seen {
    /// Did somebody take it out?
    pub(super) fn is_out(&self) -> bool {
        self.status.starts_with("DRAIN") || self.status.starts_with("MAINT")
    }
    fn is_in(&self) -> bool {
        // `UP 1/2` is going down, and still gets requests.
        let up = self.status.starts_with("UP") || self.status == "no check";
        up && self.weight != Some(0)
    }
}

impl Place {
    /// How the balancer sees this host now.
    ///
    /// # Errors
    /// When it does not answer, or does not know this server.
    pub(super) fn look(&self) -> io::Result<Seen> {
        let said = self.ask("show stat")?;
        seen(&said, &self.server).ok_or_else(|| {
            io::Error::other(format!("{} knows no server {}", self.socket, self.server))
        })
    }

    /// Is there another server of the same backend that gets requests?
    ///
    /// # Errors
    /// When the balancer does not answer.
    pub(super) fn has_another(&self) -> io::Result<bool> {
        Ok(another_is_in(&self.ask("show stat")?, &self.server))
    }

    /// No new requests; waits until those under way have ended. Gives how many had not when patience ended.
    ///
    /// # Errors
    /// When the balancer does not do it.
    pub(super) fn drain(&self) -> io::Result<u64> {
        self.set("drain")?;
        let begun = Instant::now();
        loop {
            let sessions = self.look()?.sessions;
            if sessions == 0 || begun.elapsed() > DRAINED {
                return Ok(sessions);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Requests again; waits until the balancer's own check finds the host well.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn ready(&self) -> io::Result<()> {
        self.set("ready")?;
        let begun = Instant::now();
        loop {
            let seen = self.look()?;
            if seen.is_in() {
                return Ok(());
            }
            if begun.elapsed() > WELL {
                return Err(io::Error::other(format!(
                    "after {} s {} is `{}`",
                    WELL.as_secs(),
                    self.server,
                    seen.status
                )));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// So many percent of the weight that the balancer's configuration gives this server (Management Guide, `get weight`
    /// and `set server … weight`).
    ///
    /// # Errors
    /// When the balancer does not do it: with some ways to balance (`source`, `static-rr`), weights cannot change. When
    /// the configured weight is too small to be divided so: HAProxy would round it to nothing, and send no requests.
    pub(super) fn weigh(&self, percent: u32) -> io::Result<()> {
        let said = self.ask(&format!("get weight {}", self.server))?;
        let weight = part_of(&said, percent)
            .map_err(|why| io::Error::other(format!("{}: {why}", self.server)))?;
        self.tell(&format!("weight {weight}"))
    }

    fn set(&self, state: &str) -> io::Result<()> {
        self.tell(&format!("state {state}"))
    }

    fn tell(&self, what: &str) -> io::Result<()> {
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
        rows.push((*proxy, *server, Seen { status, sessions, weight }));
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
    fn a_line_names_balancer_and_server_and_nothing_that_could_be_another_command() {
        let place = |socket: &str, server: &str| {
            Some(Place { socket: socket.into(), server: server.into() })
        };
        assert_eq!(parse("haproxy 10.0.0.5:9999 web/host1"), place("10.0.0.5:9999", "web/host1"));
        assert_eq!(
            parse("haproxy  /run/haproxy/admin.sock  b_1/s.2 "),
            place("/run/haproxy/admin.sock", "b_1/s.2")
        );
        for bad in [
            "haproxy 10.0.0.5:9999",
            "haproxy 10.0.0.5 web/host1",
            "nginx 10.0.0.5:9999 web/host1",
            "haproxy 10.0.0.5:9999 web",
            "haproxy 10.0.0.5:9999 web/host1;shutdown",
            "haproxy 10.0.0.5:9999 /host1",
            "haproxy 10.0.0.5:9999 web/host1 more",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn files_are_read_in_order_and_a_bad_line_is_told_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        assert!(places(&directory.path().join("none")).unwrap().is_empty());
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("b", "haproxy 10.0.0.5:9999 web/b # the second\n");
        write("a", "\n# ours\nhaproxy 10.0.0.5:9999 web/a\n");
        let servers: Vec<String> =
            places(directory.path()).unwrap().into_iter().map(|p| p.server).collect();
        assert_eq!(servers, ["web/a", "web/b"]);
        write("c", "\nhaproxy nowhere\n");
        let error = places(directory.path()).unwrap_err().to_string();
        assert!(error.contains("c, line 2: `haproxy nowhere` should be"), "{error}");
    }

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
        let at = |status: &str| Seen { status: status.into(), sessions: 0, weight: Some(1) };
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
