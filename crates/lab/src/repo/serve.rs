//! A small HTTP server for package archives: GET and HEAD of files, nothing else.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::LabError;

/// Serves a directory until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    gauge: Arc<Gauge>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(root: &Path, address: Ipv4Addr) -> Result<Self, LabError> {
        let listener = TcpListener::bind((address, 0)).map_err(LabError::io("serve", root))?;
        let address = listener.local_addr().map_err(LabError::io("serve", root))?;
        let stop = Arc::new(AtomicBool::new(false));
        let gauge = Arc::new(Gauge::default());
        let (root, stopped, counted) = (root.to_path_buf(), Arc::clone(&stop), Arc::clone(&gauge));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (root, gauge) = (root.clone(), Arc::clone(&counted));
                // A host that goes away in the middle is no concern of ours.
                std::thread::spawn(move || serve(&root, stream, &gauge).ok());
            }
        });
        Ok(Self { address, gauge, stop, thread: Some(thread) })
    }

    pub(super) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the thread; it looks at `stop` before anything else.
        let woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(2));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

/// Answers the requests of one connection, one after the other.
fn serve(root: &Path, stream: TcpStream, gauge: &Gauge) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if lines.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let (mut header, mut from) = (String::new(), None);
        while lines.read_line(&mut header)? > 0 && !header.trim().is_empty() {
            from = from.or_else(|| first_byte(&header));
            header.clear();
        }
        let mut words = request.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let file = find(root, target).and_then(|path| File::open(path).ok());
        let Some(mut file) = file.filter(|_| matches!(method, "GET" | "HEAD")) else {
            out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        let size = file.metadata()?.len();
        let from = from.filter(|from| *from < size);
        let (status, first) = match from {
            Some(from) => {
                let last = size - 1;
                ("206 Partial Content", format!("Content-Range: bytes {from}-{last}/{size}\r\n"))
            }
            None => ("200 OK", "Accept-Ranges: bytes\r\n".to_owned()),
        };
        let from = from.unwrap_or(0);
        let length = size - from;
        write!(
            out,
            "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\n{first}Content-Length: {length}\r\n\r\n"
        )?;
        if method == "GET" {
            file.seek(SeekFrom::Start(from))?;
            gauge.copy(&mut file, &mut out)?;
        }
    }
}

/// `Range: bytes=N-`, the one form that package managers use to go on with what they have (RFC 9110, section 14.2).
fn first_byte(header: &str) -> Option<u64> {
    let (name, value) = header.split_once(':')?;
    let range = value.trim().strip_prefix("bytes=")?.strip_suffix('-')?;
    name.eq_ignore_ascii_case("range").then(|| range.parse().ok()).flatten()
}

/// How fast contents are sent, and how many bytes of them were.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Bytes a second; 0: as fast as it goes.
    pub(super) rate: AtomicU64,
    /// Bytes that the kernel took from us.
    pub(super) sent: AtomicU64,
}

impl Gauge {
    fn copy(&self, file: &mut File, out: &mut TcpStream) -> io::Result<()> {
        /// So often a second a piece is sent, where there is a rate.
        const PIECES: u64 = 20;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let rate = self.rate.load(Ordering::Relaxed);
            let piece = match rate {
                0 => buffer.len(),
                rate => usize::try_from(rate / PIECES).unwrap_or(usize::MAX).clamp(1, buffer.len()),
            };
            let read = file.read(&mut buffer[..piece])?;
            if read == 0 {
                return Ok(());
            }
            out.write_all(&buffer[..read])?;
            self.sent.fetch_add(read as u64, Ordering::Relaxed);
            if rate > 0 {
                std::thread::sleep(Duration::from_millis(1000 / PIECES));
            }
        }
    }
}

/// The file a request is for, if it is below `root`.
fn find(root: &Path, target: &str) -> Option<PathBuf> {
    let path = Path::new(target.split('?').next()?).strip_prefix("/").ok()?;
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let name = path.to_str()?.replace("%2b", "+").replace("%7e", "~").replace("%3a", ":");
    plain.then(|| root.join(name)).filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn files_are_served_and_nothing_above_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pool")).unwrap();
        std::fs::write(dir.path().join("pool/a+b_1.0~x.deb"), "content").unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        let server = Server::start(&dir.path().join("pool"), Ipv4Addr::LOCALHOST).unwrap();
        let address = server.address();
        let both = "GET /a%2bb_1.0%7ex.deb HTTP/1.1\r\n\r\nHEAD /a+b_1.0~x.deb HTTP/1.1\r\nHost: x\r\n\r\n";
        let answer = ask(address, both);
        assert_eq!(answer.matches("200 OK").count(), 2, "{answer}");
        assert_eq!(answer.matches("content").count(), 1, "{answer}");
        assert_eq!(server.gauge().sent.load(Ordering::Relaxed), 7);
        let rest = ask(address, "GET /a+b_1.0~x.deb HTTP/1.1\r\nRange: bytes=4-\r\n\r\n");
        assert!(rest.starts_with("HTTP/1.1 206 ") && rest.ends_with("\r\n\r\nent"), "{rest}");
        assert!(rest.contains("Content-Range: bytes 4-6/7\r\n"), "{rest}");
        for bad in
            ["GET /../secret", "GET //etc/passwd", "GET /", "GET /none", "PUT /a+b_1.0~x.deb", ""]
        {
            assert!(
                ask(address, &format!("{bad} HTTP/1.1\r\n\r\n")).starts_with("HTTP/1.1 404"),
                "{bad}"
            );
        }
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }
}
