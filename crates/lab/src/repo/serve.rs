//! A small HTTP server for package archives: GET and HEAD of files, nothing else.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::LabError;

/// Serves a directory until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(root: &Path, address: Ipv4Addr) -> Result<Self, LabError> {
        let listener = TcpListener::bind((address, 0)).map_err(LabError::io("serve", root))?;
        let address = listener.local_addr().map_err(LabError::io("serve", root))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (root, stopped) = (root.to_path_buf(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let root = root.clone();
                // A host that goes away in the middle is no concern of ours.
                std::thread::spawn(move || serve(&root, stream).ok());
            }
        });
        Ok(Self { address, stop, thread: Some(thread) })
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
fn serve(root: &Path, stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if lines.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut header = String::new();
        while lines.read_line(&mut header)? > 0 && !header.trim().is_empty() {
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
        write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
        )?;
        if method == "GET" {
            io::copy(&mut file, &mut out)?;
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
    use std::io::Read as _;

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
