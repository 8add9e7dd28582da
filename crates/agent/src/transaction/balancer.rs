//! Load balancers that this host stands behind. HAProxy is spoken to by itself ([`haproxy`]); any other by a program of this
//! host ([`hook`]).
//!
//! What is known of them is the administrator's word, in files of this host: nobody can order it from elsewhere.
//!
//! ```text
//! # /etc/fettle/balancers.d/web
//! haproxy 10.0.0.5:9999 web/host1
//! haproxy /run/haproxy/admin.sock local/host1
//! hook nginx web/host1
//! ```

mod haproxy;
mod hook;

use haproxy::Haproxy;
use hook::Hook;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fmt, fs, io};

/// Requests under way have so long to end once no new ones come.
const DRAINED: Duration = Duration::from_secs(60);
/// The balancer's own check has so long to find the host well again.
const WELL: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// What a balancer is told about one of its servers. Each is a state, so telling it again changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// No new requests.
    Out,
    /// Requests, as many as its share says.
    In,
    /// So many percent of the weight that its configuration gives it.
    Share(u32),
}

/// One server of one balancer, whatever kind that is.
trait Balancer: fmt::Debug + fmt::Display {
    /// How the balancer sees it now.
    ///
    /// # Errors
    /// When the balancer does not answer, or does not know this server.
    fn look(&self) -> io::Result<Seen>;

    /// Brings it into a state.
    ///
    /// # Errors
    /// When the balancer does not do it: HAProxy cannot change weights with some ways to balance (`source`, `static-rr`),
    /// and a configured weight too small to be divided so would be rounded to nothing.
    fn tell(&self, what: Told) -> io::Result<()>;
}

/// This host, as one balancer knows it.
#[derive(Debug)]
pub(super) struct Place(Box<dyn Balancer>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Every place that the files in `balancers.d` below this directory name, in the order of the files' names.
///
/// # Errors
/// When one cannot be read, or a line says nothing that is known: file, line, and what to write.
pub(super) fn places(config: &Path) -> io::Result<Vec<Place>> {
    let mut files: Vec<_> = match fs::read_dir(config.join("balancers.d")) {
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
                        "{}, line {}: `{line}` should be `haproxy ADDRESS:PORT BACKEND/SERVER`, or with the path of its socket, or `hook PROGRAM BACKEND/SERVER`",
                        path.display(),
                        n + 1
                    ))
                };
                places.push(parse(line, &config.join("hooks.d")).ok_or_else(wrong)?);
            }
        }
    }
    Ok(places)
}

fn parse(line: &str, hooks: &Path) -> Option<Place> {
    let mut words = line.split_ascii_whitespace();
    let (kind, by, server) = (words.next()?, words.next()?, words.next()?);
    let (backend, name) = server.split_once('/')?;
    // They become part of a command: nothing that could begin another one, or be an option.
    let plain = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        !text.is_empty() && !text.starts_with(['-', '.']) && text.chars().all(allowed)
    };
    if !plain(backend) || !plain(name) || words.next().is_some() {
        return None;
    }
    let server = server.to_owned();
    let balancer: Box<dyn Balancer> = match kind {
        "haproxy" if by.starts_with('/') || by.contains(':') => {
            Box::new(Haproxy { socket: by.to_owned(), server })
        }
        "hook" if plain(by) => Box::new(Hook { program: hooks.join(by), server }),
        _ => return None,
    };
    Some(Place(balancer))
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
    /// Another server of the same backend gets requests.
    pub(super) others: bool,
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
        self.0.look()
    }

    /// No new requests; waits until those under way have ended. Gives how many had not when patience ended.
    ///
    /// # Errors
    /// When the balancer does not do it.
    pub(super) fn drain(&self) -> io::Result<u64> {
        self.0.tell(Told::Out)?;
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
        self.0.tell(Told::In)?;
        let begun = Instant::now();
        loop {
            let seen = self.look()?;
            if seen.is_in() {
                return Ok(());
            }
            if begun.elapsed() > WELL {
                return Err(io::Error::other(format!(
                    "after {} s {self} is `{}`",
                    WELL.as_secs(),
                    seen.status
                )));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// So many percent of the weight that the balancer's configuration gives this server.
    ///
    /// # Errors
    /// When the balancer does not do it, or cannot divide the weight so.
    pub(super) fn weigh(&self, percent: u32) -> io::Result<()> {
        self.0.tell(Told::Share(percent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_balancer_and_server_and_nothing_that_could_be_another_command() {
        let shown = |line: &str| parse(line, Path::new("/hooks")).map(|place| place.to_string());
        for (line, place) in [
            ("haproxy 10.0.0.5:9999 web/host1", "web/host1 at 10.0.0.5:9999"),
            ("haproxy  /run/haproxy/admin.sock  b_1/s.2 ", "b_1/s.2 at /run/haproxy/admin.sock"),
            ("hook nginx web/host1", "web/host1 by /hooks/nginx"),
        ] {
            assert_eq!(shown(line).as_deref(), Some(place));
        }
        for bad in [
            "haproxy 10.0.0.5:9999",
            "haproxy 10.0.0.5 web/host1",
            "nginx 10.0.0.5:9999 web/host1",
            "haproxy 10.0.0.5:9999 web",
            "haproxy 10.0.0.5:9999 web/host1;shutdown",
            "haproxy 10.0.0.5:9999 /host1",
            "haproxy 10.0.0.5:9999 web/host1 more",
            "hook ../../bin/sh web/host1",
            "hook .. web/host1",
            "hook /bin/sh web/host1",
            "hook nginx -web/host1",
            "hook nginx web/-host1",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }

    #[test]
    fn files_are_read_in_order_and_a_bad_line_is_told_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        assert!(places(directory.path()).unwrap().is_empty());
        let lines = directory.path().join("balancers.d");
        fs::create_dir(&lines).unwrap();
        let write = |name: &str, text: &str| fs::write(lines.join(name), text).unwrap();
        write("b", "haproxy 10.0.0.5:9999 web/b # the second\n");
        write("a", "\n# ours\nhaproxy 10.0.0.5:9999 web/a\n");
        let shown: Vec<String> =
            places(directory.path()).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["web/a at 10.0.0.5:9999", "web/b at 10.0.0.5:9999"]);
        write("c", "\nhaproxy nowhere\n");
        let error = places(directory.path()).unwrap_err().to_string();
        assert!(error.contains("c, line 2: `haproxy nowhere` should be"), "{error}");
    }
}
