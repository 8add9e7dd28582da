//! A plain HTTP/1.1 client over TCP or TLS: small enough to misbehave on purpose.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| {
            panic!("{e}: {} {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|l| l.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned()).next()
    }
}

/// A client certificate with its key, PEM and PKCS#8.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: Vec<u8>,
}

pub(crate) fn der(pem: &str) -> CertificateDer<'static> {
    use base64::Engine as _;
    let text: String = pem.lines().filter(|l| !l.starts_with("-----")).collect();
    CertificateDer::from(base64::engine::general_purpose::STANDARD.decode(text).unwrap())
}

/// TLS towards the agents' port, believing `ca`.
pub(crate) fn tls(
    address: SocketAddr,
    ca: &str,
    identity: Option<&Identity>,
) -> std::io::Result<impl Read + Write> {
    let mut roots = RootCertStore::empty();
    roots.add(der(ca)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        Some(identity) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.clone()));
            builder.with_client_auth_cert(vec![der(&identity.certificate)], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap())
            .unwrap();
    Ok(StreamOwned::new(connection, tcp(address)?))
}

pub(crate) fn tcp(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// One request on a connection of its own.
pub(crate) fn ask(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    // A server that has refused the head may close while the body is still being sent: read what it said.
    let sent = stream.write_all(body).and_then(|()| stream.flush());
    match read_answer(stream) {
        Ok(answer) => Ok(answer),
        Err(error) => sent.and(Err(error)),
    }
}

pub(crate) fn read_answer(mut stream: impl Read) -> std::io::Result<Answer> {
    let mut all = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let done = find(&all, b"\r\n\r\n").is_some_and(|at| {
            let head = String::from_utf8_lossy(&all[..at]).to_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|l| l.lines().next()?.trim().parse().ok());
            length.is_some_and(|length: usize| all.len() >= at + 4 + length)
        });
        if done {
            break;
        }
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&piece[..n]),
            // No close_notify at the end of a connection is fine for a test that has the whole answer.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof && !all.is_empty() => break,
            Err(e) => return Err(e),
        }
    }
    let at = find(&all, b"\r\n\r\n").ok_or_else(|| std::io::Error::other("no answer"))?;
    let head = String::from_utf8_lossy(&all[..at]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut body = all[at + 4..].to_vec();
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        body = unchunk(&body);
    }
    Ok(Answer { status, head, body })
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(at) = find(rest, b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&rest[..at]), 16).unwrap_or(0);
        if size == 0 || rest.len() < at + 2 + size {
            break;
        }
        out.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = &rest[(at + 4 + size).min(rest.len())..];
    }
    out
}

pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}
