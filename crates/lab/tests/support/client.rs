//! A client that asks all the time, and counts every request that fails.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Asks through the balancer, again and again.
pub(crate) struct Client {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(u32, Vec<String>)>,
}

impl Client {
    pub(crate) fn start(balancer: Ipv4Addr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut good, mut failed) = (0, Vec::new());
            while !told.load(Ordering::Acquire) {
                match ask(balancer) {
                    Ok(answer) if answer.starts_with("HTTP/1.1 200") => good += 1,
                    Ok(answer) => failed.push(answer.lines().next().unwrap_or("").to_owned()),
                    Err(error) => failed.push(error.to_string()),
                }
            }
            (good, failed)
        });
        Self { stop, thread }
    }

    /// Requests answered, and those that were not.
    pub(crate) fn end(self) -> (u32, Vec<String>) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

fn ask(balancer: Ipv4Addr) -> std::io::Result<String> {
    let limit = Duration::from_secs(15);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((balancer, 80)), limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: acme\r\nConnection: close\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}
