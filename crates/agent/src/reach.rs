//! What a host must still be able to reach after a change: its server; or, on a host without one, a peer that its
//! administrator names in `/etc/fettle/peer`.

use crate::identity;
use crate::link::Link;
use crate::settings::Settings;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Where a dead-man's switch looks.
#[derive(Clone)]
pub enum Reach {
    /// The server of an enrolled host.
    Server(Link),
    /// A host without a server: one of these must take a TCP connection.
    Peers(Vec<SocketAddr>),
    /// What is configured cannot be used: why. It counts as not reached, never as nothing to reach.
    Unusable(String),
    /// No server, and no peer was named.
    Nothing,
}

impl Reach {
    /// What this host is to reach.
    pub fn of(settings: &Settings) -> Self {
        match identity::load(settings) {
            Ok(Some(identity)) => match Link::enrolled(&identity) {
                Ok(link) => Self::Server(link),
                Err(error) => Self::Unusable(error.to_string()),
            },
            Ok(None) => peers(settings),
            Err(problem) => Self::Unusable(problem.message),
        }
    }

    /// Is there anything to reach?
    pub fn is_anything(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// Asks now, for at most `patience` (each, where there are several). `None`: there is nothing to reach. `Err`:
    /// nothing answered, and why.
    pub fn ask(&self, patience: Duration) -> Option<Result<(), String>> {
        match self {
            Self::Nothing => None,
            Self::Unusable(why) => Some(Err(why.clone())),
            Self::Server(link) => Some(ask_server(link, patience)),
            Self::Peers(peers) => {
                let mut why = Vec::new();
                for peer in peers {
                    match TcpStream::connect_timeout(peer, patience) {
                        Ok(_) => return Some(Ok(())),
                        Err(error) => why.push(format!("{peer}: {error}")),
                    }
                }
                Some(Err(why.join("; ")))
            }
        }
    }
}

fn ask_server(link: &Link, patience: Duration) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let said = runtime.block_on(link.is_answered(patience));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    said.map_err(|e| e.to_string())
}

/// The file's addresses, one a line; `#` begins a comment.
fn peers(settings: &Settings) -> Reach {
    let path = settings.peer_path();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Reach::Nothing,
        Err(error) => {
            return Reach::Unusable(format!("{} cannot be read: {error}", path.display()));
        }
    };
    let mut peers = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |why: &str| {
            Reach::Unusable(format!("{} line {number}: `{line}` {why}", path.display()))
        };
        match line.parse::<SocketAddr>() {
            // It would answer whatever became of the network.
            Ok(peer) if peer.ip().is_loopback() => return wrong("is this host itself"),
            Ok(peer) => peers.push(peer),
            Err(_) => {
                return wrong(
                    "is no address with a port: write one such as 192.0.2.1:22 or [2001:db8::1]:22",
                );
            }
        }
    }
    match peers.is_empty() {
        true => Reach::Nothing,
        false => Reach::Peers(peers),
    }
}

#[cfg(test)]
mod tests;
