//! The operator's probes: questions whose answers tell whether the host does its work.

use crate::command;
use crate::trusted;
use fettle_core::assignment::Probe;
use serde::{Deserialize, Serialize};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// An answer must come within this time.
const DEADLINE: Duration = Duration::from_secs(10);
/// So much of a body is looked at, in bytes.
const BODY: u64 = 1 << 20;

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The question, for people.
    pub question: String,
    /// `None`: good. Else what was wrong.
    pub wrong: Option<String>,
    /// How long the answer took, in microseconds.
    pub microseconds: u64,
}

/// A probe for each executable file of the host's own list, by name.
pub fn commands(directory: &Path) -> Vec<Probe> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    names.into_iter().map(|name| Probe::Command { name }).collect()
}

/// The one address that a probe names by number, with its port. `None`: it names none, or a host by its name, or in an
/// odd way. Whoever checks an address hands the same one to [`ask_at`]: nothing is read a second time.
pub fn address_of(probe: &Probe) -> Option<SocketAddr> {
    match probe {
        Probe::Command { .. } => None,
        Probe::Tcp { address } => address.parse().ok(),
        Probe::Http { url, .. } => {
            let (authority, _) = parts(url).ok()?;
            with_port(authority).parse().ok()
        }
    }
}

/// Asks once.
pub fn ask(probe: &Probe, commands: &Path) -> Answer {
    answer(probe, None, commands)
}

/// Asks once, at this address and at no other.
pub fn ask_at(probe: &Probe, address: SocketAddr, commands: &Path) -> Answer {
    answer(probe, Some(address), commands)
}

fn answer(probe: &Probe, at: Option<SocketAddr>, commands: &Path) -> Answer {
    let begun = Instant::now();
    let (question, result) = match probe {
        Probe::Http { url, status, contains } => {
            (format!("GET {url}"), http(url, at, *status, contains))
        }
        Probe::Tcp { address } => (format!("connect to {address}"), connect(address, at).map(drop)),
        Probe::Command { name } => (format!("run {name}"), program(name, commands)),
    };
    let microseconds = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    Answer { question, wrong: result.err().map(|e| e.to_string()), microseconds }
}

fn connect(address: &str, at: Option<SocketAddr>) -> io::Result<TcpStream> {
    let found = match at {
        Some(at) => at,
        None => address
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::other(format!("`{address}` names no address")))?,
    };
    let stream = TcpStream::connect_timeout(&found, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Authority and path of an address, read in one way by everybody.
fn parts(url: &str) -> io::Result<(&str, &str)> {
    let wrong = |text: String| Err(io::Error::other(text));
    let Some(rest) = url.strip_prefix("http://") else {
        return wrong(format!("`{url}` is no http:// address"));
    };
    if !url.bytes().all(|b| b.is_ascii_graphic()) {
        return wrong(format!("`{url}` holds a character that may not stand in an address"));
    }
    let (authority, path) = rest.find('/').map_or((rest, "/"), |i| rest.split_at(i));
    if authority.is_empty() || authority.contains(['?', '#', '@', '\\', '%']) {
        return wrong(format!("`{url}` names no plain host: write `http://127.0.0.1:80/path`"));
    }
    Ok((authority, path))
}

fn with_port(authority: &str) -> String {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    // What is in brackets is an IPv6 address, and its last group is no port.
    if has_port && !authority.ends_with(']') {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    }
}

/// RFC 9112, the little that a question to one's own host needs: one request, `Connection: close`, status line,
/// body to the end.
fn http(url: &str, at: Option<SocketAddr>, status: u16, contains: &str) -> io::Result<()> {
    let wrong = |text: String| Err(io::Error::other(text));
    let (host, path) = parts(url)?;
    let mut stream = connect(&with_port(host), at)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: fettle-agent\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(BODY).read_to_end(&mut answer)?;
    let found = answer
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| answer.strip_prefix(b"HTTP/1.0 "))
        .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse::<u16>().ok());
    match found {
        Some(found) if found == status => {}
        Some(found) => return wrong(format!("status {found}, expected {status}")),
        None => return wrong("the answer is not HTTP/1.1".to_owned()),
    }
    let body = memchr::memmem::find(&answer, b"\r\n\r\n").map_or(&[][..], |i| &answer[i + 4..]);
    if !contains.is_empty() && memchr::memmem::find(body, contains.as_bytes()).is_none() {
        return wrong(format!("the body does not hold `{contains}`"));
    }
    Ok(())
}

fn program(name: &str, commands: &Path) -> io::Result<()> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(io::Error::other(format!(
            "`{name}` is no file name of {}",
            commands.display()
        )));
    }
    let path = commands.join(name);
    trusted::program(&path).map_err(io::Error::other)?;
    let output = command::run(&mut command::command(&path.to_string_lossy()), Some(DEADLINE))?;
    if output.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{}: {}", output.ending(), output.tail(2))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers every connection with these bytes.
    fn server(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                let n = stream.read(&mut request).unwrap();
                assert!(request[..n].starts_with(b"GET /health HTTP/1.1\r\n"));
                stream.write_all(answer).unwrap();
            }
        });
        address
    }

    fn http(address: &str, status: u16, contains: &str) -> Option<String> {
        let url = format!("http://{address}/health");
        ask(&Probe::Http { url, status, contains: contains.to_owned() }, Path::new("/nowhere"))
            .wrong
    }

    #[test]
    fn status_and_body_decide_over_an_http_probe() {
        let address = server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhappy");
        assert_eq!(http(&address, 200, "app"), None);
        assert_eq!(http(&address, 204, ""), Some("status 200, expected 204".into()));
        assert_eq!(http(&address, 200, "sad"), Some("the body does not hold `sad`".into()));
        assert_eq!(
            http(&server(b"SSH-2.0-x\r\n"), 200, ""),
            Some("the answer is not HTTP/1.1".into())
        );
    }

    #[test]
    fn an_address_is_read_in_one_way_and_asked_where_it_was_checked() {
        let http = |url: &str| Probe::Http { url: url.into(), status: 200, contains: "ok".into() };
        for (url, address) in [
            ("http://127.0.0.1/h", Some("127.0.0.1:80")),
            ("http://127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("http://[::1]/h", Some("[::1]:80")),
            ("http://[::1]:81/h?a=b", Some("[::1]:81")),
            ("http://127.0.0.1?x.evil:80/", None),
            ("http://127.0.0.1#x.evil:80/", None),
            ("http://127.0.0.1@x.evil:80/", None),
            ("http://127.0.0.1\\x.evil:80/", None),
            ("http://127.0.0.1%2f.evil:80/", None),
            ("http://127.0.0.1 x:80/", None),
            ("http://127.0.0.1:99999/", None),
            ("http://0x7f.1/", None),
            ("http:///h", None),
            ("https://127.0.0.1/", None),
        ] {
            assert_eq!(address_of(&http(url)).map(|a| a.to_string()).as_deref(), address, "{url}");
        }
        let wrong = ask(&http("http://127.0.0.1?x.evil:80/"), Path::new("/nowhere")).wrong;
        assert!(wrong.is_some_and(|w| w.contains("names no plain host")));
        // Not where its text leads, but where it was told.
        let there = server(b"HTTP/1.1 200 OK\r\n\r\nok").parse().unwrap();
        let probe = http("http://nobody.invalid/health");
        assert_eq!(ask_at(&probe, there, Path::new("/nowhere")).wrong, None);
    }

    #[test]
    fn a_port_that_nobody_serves_is_told() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let answer = ask(&Probe::Tcp { address }, Path::new("/nowhere"));
        assert!(answer.wrong.is_some_and(|w| w.contains("refused")));
    }

    #[test]
    fn a_command_probe_stays_in_its_directory() {
        for name in ["../../bin/true", "/bin/true", "", ".hidden"] {
            let answer =
                ask(&Probe::Command { name: name.into() }, Path::new("/etc/fettle/probes.d"));
            assert!(answer.wrong.is_some_and(|w| w.contains("is no file name")), "{name}");
        }
    }
}
