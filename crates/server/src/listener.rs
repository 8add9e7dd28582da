//! Taking connections: a cap on their number, a time for the handshake, a time for the headers.

use crate::trust::Peer;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use fettle_core::HostId;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::{debug, warn};

/// How much a listener lets others ask of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub(crate) connections: usize,
    /// Of these, such that have not proved yet who they are: of more, whoever takes longest has to go.
    pub(crate) unproved: usize,
    /// Of these, such that have no certificate.
    pub(crate) strangers: usize,
    /// Of these, such of one host.
    pub(crate) of_one_host: usize,
    /// For the TLS handshake.
    pub(crate) handshake: Duration,
    /// For the head of each request, idle time between requests included.
    pub(crate) headers: Duration,
    /// The same for whoever has no certificate.
    pub(crate) headers_of_strangers: Duration,
    /// For connections to end after stop.
    pub(crate) farewell: Duration,
}

/// Who is at the other end of a request's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller(pub(crate) SocketAddr);

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 12_000,
            unproved: 2000,
            strangers: 500,
            of_one_host: 16,
            // Two round trips of a second each, and what is lost is sent again after a second or more.
            handshake: Duration::from_secs(30),
            headers: Duration::from_secs(90),
            headers_of_strangers: Duration::from_secs(10),
            farewell: Duration::from_secs(3),
        }
    }
}

/// The operators' port: a proxy on this machine, or this machine itself. Whoever says nothing for so long keeps no place.
pub(crate) const OF_OPERATORS: Limits = Limits {
    connections: 1024,
    unproved: 1024,
    strangers: 1024,
    of_one_host: 1024,
    handshake: Duration::from_secs(10),
    headers: Duration::from_secs(10),
    headers_of_strangers: Duration::from_secs(10),
    farewell: Duration::from_secs(3),
};

/// Serves until `stop` says so, then lets running requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut unproved = Unproved { most: limits.unproved, waiting: VecDeque::new() };
    let shares = Shares::new(limits);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = said(&mut stop) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, address, place)) = accepted else { continue };
        let (router, tls, stop) = (router.clone(), tls.clone(), stop.clone());
        let (shares, sent_away) = (shares.clone(), tls.as_ref().map(|_| unproved.enter()));
        connections.spawn(async move {
            let _place = place;
            let caller = Caller(address);
            match tls {
                None => converse(stream, (Peer::default(), caller), router, limits, stop).await,
                Some(tls) => match proved(tls.accept(stream), limits.handshake, sent_away).await {
                    Ok(stream) => {
                        let peer = Peer::of(stream.get_ref().1.peer_certificates());
                        let Some(_share) = shares.take(peer.host.as_ref()) else {
                            debug!(%address, "no place is left for such a connection");
                            return;
                        };
                        let headers = match peer.host {
                            Some(_) => limits.headers,
                            None => limits.headers_of_strangers,
                        };
                        let limits = Limits { headers, ..limits };
                        converse(stream, (peer, caller), router, limits, stop).await;
                    }
                    Err(why) => debug!(%address, "TLS handshake: {why}"),
                },
            }
        });
    }
    let ended =
        timeout(limits.farewell, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        connections.shutdown().await;
    }
}

/// Waits for a handshake, until its time is over or its place is needed.
async fn proved<S>(
    handshake: impl Future<Output = io::Result<S>>,
    time: Duration,
    sent_away: Option<oneshot::Receiver<()>>,
) -> Result<S, String> {
    let away = async {
        match sent_away {
            Some(it) => drop(it.await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        shaken = timeout(time, handshake) => match shaken {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(format!("refused: {error}")),
            Err(_) => Err("it took too long".to_owned()),
        },
        () = away => Err("others came meanwhile".to_owned()),
    }
}

/// Connections that have not proved yet who they are, the oldest first.
struct Unproved {
    most: usize,
    waiting: VecDeque<oneshot::Sender<()>>,
}

impl Unproved {
    /// One more has come; gives what ends when its place is needed. Whoever proves who they are drops it.
    fn enter(&mut self) -> oneshot::Receiver<()> {
        if self.waiting.len() >= self.most {
            self.waiting.retain(|it| !it.is_closed());
        }
        while self.waiting.len() >= self.most {
            // Dropped, it ends what waits for it.
            self.waiting.pop_front();
        }
        let (away, sent_away) = oneshot::channel();
        self.waiting.push_back(away);
        sent_away
    }
}

/// How many connections whom have: strangers together, and each host.
#[derive(Clone)]
struct Shares {
    strangers: usize,
    of_one_host: usize,
    taken: Arc<Mutex<HashMap<Option<HostId>, usize>>>,
}

impl Shares {
    fn new(limits: Limits) -> Self {
        let Limits { strangers, of_one_host, .. } = limits;
        Self { strangers, of_one_host, taken: Arc::default() }
    }

    /// A connection of this host, or of a stranger; `None`: there are as many already as there may be.
    fn take(&self, host: Option<&HostId>) -> Option<Share> {
        let most = if host.is_some() { self.of_one_host } else { self.strangers };
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(host.cloned()).or_default();
        if *taken >= most {
            return None;
        }
        *taken += 1;
        Some(Share { host: host.cloned(), taken: self.taken.clone() })
    }
}

/// Given back when it is dropped.
struct Share {
    host: Option<HostId>,
    taken: Arc<Mutex<HashMap<Option<HostId>, usize>>>,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = all.get(&self.host).map_or(0, |taken| taken.saturating_sub(1));
        match left {
            0 => drop(all.remove(&self.host)),
            left => drop(all.insert(self.host.clone(), left)),
        }
    }
}

/// Waits until the server is told to stop (or is gone).
async fn said(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopped| *stopped).await;
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    // Invariant: the semaphore is never closed.
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, address, place))
        }
        Err(error) => {
            // Out of file descriptors, mostly: wait for connections to end instead of spinning.
            warn!(%error, "a connection could not be taken");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn converse<S>(
    stream: S,
    from: (Peer, Caller),
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        answer(router.clone(), from.clone(), request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = said(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}

fn answer(
    router: Router,
    (peer, caller): (Peer, Caller),
    request: hyper::Request<Incoming>,
) -> impl Future<Output = Result<axum::response::Response, std::convert::Infallible>> {
    let mut request: Request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(caller);
    router.oneshot(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn of_too_many_that_do_not_say_who_they_are_the_oldest_goes() {
        let mut unproved = Unproved { most: 2, waiting: VecDeque::new() };
        let (first, second) = (unproved.enter(), unproved.enter());
        // One that has proved who it is takes no place any more.
        drop(second);
        let mut third = unproved.enter();
        let mut first = first;
        assert!(first.try_recv().is_err_and(|it| it == oneshot::error::TryRecvError::Empty));
        let _fourth = unproved.enter();
        let away = proved(std::future::pending::<io::Result<()>>(), Duration::MAX, Some(first));
        assert_eq!(away.await, Err("others came meanwhile".to_owned()));
        assert!(third.try_recv().is_err_and(|it| it == oneshot::error::TryRecvError::Empty));
    }

    #[test]
    fn strangers_and_each_host_have_a_share_and_nobody_takes_anothers() {
        let shares = Shares::new(Limits { strangers: 3, of_one_host: 2, ..Limits::default() });
        let strangers: Vec<_> = (0..5).filter_map(|_| shares.take(None)).collect();
        assert_eq!(strangers.len(), 3);
        let (one, other) = (HostId::from("h-1"), HostId::from("h-2"));
        let held: Vec<_> = (0..5).filter_map(|_| shares.take(Some(&one))).collect();
        assert_eq!(held.len(), 2);
        assert!(shares.take(Some(&other)).is_some());
        drop((strangers, held));
        assert!(shares.take(None).is_some() && shares.take(Some(&one)).is_some());
        assert!(shares.taken.lock().unwrap().is_empty(), "what is given back takes no room");
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_on_the_operators_port_keeps_no_place() {
        for said in ["", "POST /login HTTP/1.1\r\nhost: x\r\n"] {
            let (mut theirs, ours) = tokio::io::duplex(1024);
            let caller = Caller(SocketAddr::from(([127, 0, 0, 1], 1)));
            let (_go_on, stop) = watch::channel(false);
            let begun = tokio::time::Instant::now();
            let from = (Peer::default(), caller);
            let ended = tokio::spawn(converse(ours, from, Router::new(), OF_OPERATORS, stop));
            theirs.write_all(said.as_bytes()).await.unwrap();
            ended.await.unwrap();
            assert!(begun.elapsed() <= Duration::from_secs(11), "{:?}", begun.elapsed());
            let mut rest = Vec::new();
            theirs.read_to_end(&mut rest).await.unwrap();
        }
    }
}
