//! Talking to the server: HTTP/1.1 with JSON over TLS. The agent always calls, never listens.

mod trust;
mod watched;

use self::watched::{Moved, Stop, Watched};
use crate::identity::Identity;
use fettle_core::{Digest, Problem, ProblemKind};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// The name in the server's certificate, whatever address it is reached at: the pinned authority, not the
/// address, says that it is the right one.
const SERVER_NAME: &str = "fettle-server";
/// A line over which nothing moves for so long is dead.
const STALL: Duration = Duration::from_secs(60);
/// However slowly it moves, a call takes no longer: 32 kbit/s are enough for 3 MB.
const PATIENCE: Duration = Duration::from_secs(900);
/// Asks whether the server is there, and nothing else. A server that does not know it says so, which is as good.
const HERE: &str = "/agent/v1/here";
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 8 << 20;

/// Why a call did not give an answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address is not one.
    #[error("`{0}` is not a server address: write https://NAME:PORT")]
    Address(String),
    /// Key or certificates cannot be used.
    #[error("the identity cannot be used: {0}")]
    Identity(String),
    /// Nothing answers, or the connection broke.
    #[error("no answer from {server}: {why}")]
    Unreachable {
        /// Where.
        server: String,
        /// What the system or TLS says.
        why: String,
    },
    /// The server answered with a problem.
    #[error("{}", .0.message)]
    Refused(Problem),
    /// The server answered with something else.
    #[error("{server} answered {path} with something that is not Fettle's: {why}")]
    Nonsense {
        /// Where.
        server: String,
        /// Which call.
        path: String,
        /// What.
        why: String,
    },
}

impl LinkError {
    /// At the boundary, with what to do next.
    pub fn problem(self) -> Problem {
        let (kind, code, hint) = match &self {
            Self::Refused(problem) => return problem.clone(),
            Self::Address(_) => (
                ProblemKind::Usage,
                "server-address",
                "for example https://fettle.example.net:8441",
            ),
            Self::Identity(_) => (
                ProblemKind::Environment,
                "identity-unusable",
                "enrol again with --force and a new token",
            ),
            Self::Unreachable { .. } => (
                ProblemKind::Unavailable,
                "server-unreachable",
                "is the server up, its agents' port open, and the token from this very server?",
            ),
            Self::Nonsense { .. } => (
                ProblemKind::Unavailable,
                "not-a-fettle-server",
                "is that the agents' port of a Fettle server?",
            ),
        };
        Problem::new(kind, code, &self, hint)
    }
}

/// `NAME:PORT` of `https://NAME[:PORT]`; agents' port is 8441 where none is given. `None`: that is no server's address.
pub(crate) fn address_of(server: &str) -> Option<String> {
    let address = server.trim_end_matches('/').strip_prefix("https://")?;
    if address.is_empty() || address.contains('/') {
        return None;
    }
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { address.to_owned() } else { format!("{address}:8441") })
}

/// A way to one server.
#[derive(Clone)]
pub struct Link {
    server: String,
    address: String,
    tls: TlsConnector,
}

impl Link {
    /// As an enrolled host: mTLS, and only the fleet's authority is believed.
    ///
    /// # Errors
    /// [`LinkError::Address`], [`LinkError::Identity`].
    pub fn enrolled(identity: &Identity) -> Result<Self, LinkError> {
        Self::new(&identity.server, trust::mutual(identity).map_err(LinkError::Identity)?)
    }

    /// Before enrolment: no certificate of one's own, and only the authority with this pin is believed.
    ///
    /// # Errors
    /// [`LinkError::Address`].
    pub fn pinned(server: &str, pin: Digest) -> Result<Self, LinkError> {
        Self::new(server, trust::pinned(pin).map_err(LinkError::Identity)?)
    }

    fn new(server: &str, tls: rustls::ClientConfig) -> Result<Self, LinkError> {
        let server = server.trim_end_matches('/');
        let address = address_of(server).ok_or_else(|| LinkError::Address(server.to_owned()))?;
        Ok(Self { server: server.to_owned(), address, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, LinkError> {
        self.send(path, serde_json::to_vec(body).map_err(|e| self.nonsense(path, e))?, false).await
    }

    /// The same, the body compressed (gzip, RFC 1952). For servers that say that they take it.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn post_packed<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, LinkError> {
        let packed = GzEncoder::new(Vec::new(), Compression::default());
        let mut packed = std::io::BufWriter::with_capacity(16 << 10, packed);
        serde_json::to_writer(&mut packed, body).map_err(|e| self.nonsense(path, e))?;
        let packed = packed.into_inner().map_err(|e| self.nonsense(path, e))?;
        self.send(path, packed.finish().map_err(|e| self.nonsense(path, e))?, true).await
    }

    /// Does the server answer, within `patience`? Whatever it says: a refusal is an answer as well.
    ///
    /// # Errors
    /// [`LinkError`], when no answer comes.
    pub async fn is_answered(&self, patience: Duration) -> Result<(), LinkError> {
        let nothing = serde_json::json!({});
        let asked = self.post::<serde::de::IgnoredAny>(HERE, &nothing);
        match tokio::time::timeout(patience, asked).await {
            // That it is the server is known before a word is said.
            Ok(Ok(_) | Err(LinkError::Refused(_) | LinkError::Nonsense { .. })) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", patience.as_secs()))),
        }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
        packed: bool,
    ) -> Result<T, LinkError> {
        let moved = Moved::default();
        let (status, answer) = tokio::select! {
            answered = self.call(path, body, packed, &moved) => answered?,
            stop = moved.stops(STALL, PATIENCE) => {
                return Err(self.unreachable(match stop {
                    Stop::Dead => format!("nothing has moved for {} s", STALL.as_secs()),
                    Stop::TooSlow => format!("no whole answer within {} s", PATIENCE.as_secs()),
                }));
            }
        };
        if status < 300 {
            return serde_json::from_slice(&answer).map_err(|e| self.nonsense(path, e));
        }
        match serde_json::from_slice::<Problem>(&answer) {
            Ok(problem) => Err(LinkError::Refused(problem)),
            Err(_) => Err(self.nonsense(path, format!("HTTP status {status}"))),
        }
    }

    async fn call(
        &self,
        path: &str,
        body: Vec<u8>,
        packed: bool,
        moved: &Moved,
    ) -> Result<(u16, Bytes), LinkError> {
        let lost = |e: &dyn std::fmt::Display| self.unreachable(e.to_string());
        let socket = TcpStream::connect(&self.address).await.map_err(|e| lost(&e))?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|e| lost(&e))?;
        let stream = self
            .tls
            .connect(name, Watched::new(socket, moved.clone()))
            .await
            .map_err(|e| lost(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| lost(&e))?;
        // It ends with this call, also when that is given up.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = hyper::Request::post(path)
            .header("host", SERVER_NAME)
            .header("content-type", "application/json")
            .header("connection", "close")
            .header("content-encoding", if packed { "gzip" } else { "identity" })
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| self.nonsense(path, e))?;
        let answer = sender.send_request(request).await.map_err(|e| lost(&e))?;
        let status = answer.status().as_u16();
        let bytes = Limited::new(answer.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|e| lost(&e))?
            .to_bytes();
        Ok((status, bytes))
    }

    fn unreachable(&self, why: String) -> LinkError {
        LinkError::Unreachable { server: self.server.clone(), why }
    }

    fn nonsense(&self, path: &str, why: impl ToString) -> LinkError {
        LinkError::Nonsense {
            server: self.server.clone(),
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}
