//! A vendor's machine that does whatever a test wants of it, and says afterwards what it did.

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One thing it does.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing, until the other side goes away.
    Hang,
    /// The same byte again and again, this long apart, until the other side goes away.
    Drip(Duration),
    /// As many bytes as anybody takes.
    Endless,
    /// A tunnel to that place: it is a proxy.
    Tunnel(SocketAddr),
}

/// What became of one request.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    /// Method, target and headers as they came.
    pub(crate) head: String,
    /// Bytes sent.
    pub(crate) sent: u64,
    /// It would have gone on, and the other side went away.
    pub(crate) left: bool,
}

impl Done {
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|l| l.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned()).next()
    }
}

type Script = Arc<Mutex<Box<dyn FnMut(&Done) -> Vec<Act> + Send>>>;

/// It runs until the test's process ends.
pub(crate) struct Vendor {
    pub(crate) address: SocketAddr,
    /// Certificate authority to believe, PEM, where it speaks TLS.
    pub(crate) ca: String,
    done: Arc<Mutex<Vec<Done>>>,
    script: Script,
    begun: Arc<AtomicU64>,
}

impl Vendor {
    /// One that answers each request by the script.
    pub(crate) fn new(script: impl FnMut(&Done) -> Vec<Act> + Send + 'static) -> Self {
        Self::start(None, String::new(), script)
    }

    /// The same over TLS, with a certificate of its own authority for `localhost` and `127.0.0.1`.
    pub(crate) fn over_tls(script: impl FnMut(&Done) -> Vec<Act> + Send + 'static) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let leaf_key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&leaf_key, &ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der())),
            )
            .unwrap();
        Self::start(Some(Arc::new(config)), ca.pem(), script)
    }

    fn start(
        tls: Option<Arc<ServerConfig>>,
        ca: String,
        script: impl FnMut(&Done) -> Vec<Act> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let done: Arc<Mutex<Vec<Done>>> = Arc::default();
        let script: Script = Arc::new(Mutex::new(Box::new(script)));
        let begun: Arc<AtomicU64> = Arc::default();
        let (all, acts, count) = (done.clone(), script.clone(), begun.clone());
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (all, acts, tls) = (all.clone(), acts.clone(), tls.clone());
                let count = count.clone();
                std::thread::spawn(move || {
                    let ended = match tls {
                        None => serve(socket, &acts, &count),
                        Some(config) => {
                            let connection = ServerConnection::new(config).unwrap();
                            serve(StreamOwned::new(connection, socket), &acts, &count)
                        }
                    };
                    all.lock().unwrap().extend(ended);
                });
            }
        });
        Self { address, ca, done, script, begun }
    }

    /// From now on it answers by another script.
    pub(crate) fn now(&self, script: impl FnMut(&Done) -> Vec<Act> + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.ca.is_empty() { "http" } else { "https" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// Requests that were begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// The requests that have ended.
    pub(crate) fn done(&self) -> Vec<Done> {
        self.done.lock().unwrap().clone()
    }
}

fn serve(mut stream: impl Duplex, script: &Script, begun: &AtomicU64) -> Option<Done> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut done = Done { head, sent: 0, left: false };
    let acts = (script.lock().unwrap())(&done);
    begun.fetch_add(1, Ordering::SeqCst);
    for act in acts {
        let left = match act {
            Act::Bytes(bytes) => put(&mut stream, &bytes, &mut done.sent),
            Act::Hang => is_gone(&mut stream),
            Act::Drip(pause) => loop {
                if put(&mut stream, b"x", &mut done.sent) {
                    break true;
                }
                std::thread::sleep(pause);
            },
            Act::Endless => loop {
                if put(&mut stream, &[b'x'; 64 << 10], &mut done.sent) {
                    break true;
                }
            },
            Act::Tunnel(to) => {
                stream.tunnel(to);
                false
            }
        };
        if left {
            done.left = true;
            break;
        }
    }
    Some(done)
}

/// Has the other side gone?
fn put(stream: &mut impl Write, bytes: &[u8], sent: &mut u64) -> bool {
    let gone = stream.write_all(bytes).and_then(|()| stream.flush()).is_err();
    if !gone {
        *sent += bytes.len() as u64;
    }
    gone
}

/// Waits until the other side goes away.
fn is_gone(stream: &mut impl Read) -> bool {
    let mut rest = [0; 64];
    while let Ok(1..) = stream.read(&mut rest) {}
    true
}

trait Duplex: Read + Write {
    fn tunnel(&mut self, to: SocketAddr);
}

impl Duplex for TcpStream {
    fn tunnel(&mut self, to: SocketAddr) {
        let mut up = TcpStream::connect(to).unwrap();
        let (mut from, mut back) = (self.try_clone().unwrap(), up.try_clone().unwrap());
        let mut down = self.try_clone().unwrap();
        let upwards = std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut up);
            let _ = up.shutdown(std::net::Shutdown::Write);
        });
        let _ = std::io::copy(&mut back, &mut down);
        let _ = down.shutdown(std::net::Shutdown::Both);
        let _ = upwards.join();
    }
}

impl Duplex for StreamOwned<ServerConnection, TcpStream> {
    fn tunnel(&mut self, _: SocketAddr) {
        unreachable!("a proxy is spoken to without TLS here");
    }
}

/// A whole answer with its length.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<Act> {
    let mut bytes = head(status, headers, Some(body.len()));
    bytes.extend_from_slice(body);
    vec![Act::Bytes(bytes)]
}

pub(crate) fn head(status: &str, headers: &[(&str, &str)], length: Option<usize>) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(length) = length {
        text.push_str(&format!("content-length: {length}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}
