//! Taking connections: a cap on their number, a time for the handshake, a time for the headers.

use crate::trust::Peer;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
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
    /// For the TLS handshake.
    pub(crate) handshake: Duration,
    /// For the head of each request, idle time between requests included.
    pub(crate) headers: Duration,
    /// For connections to end after stop.
    pub(crate) farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 12_000,
            // Two round trips of a second each, and what is lost is sent again after a second or more.
            handshake: Duration::from_secs(30),
            headers: Duration::from_secs(90),
            farewell: Duration::from_secs(3),
        }
    }
}

/// Serves until `stop` says so, then lets running requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = said(&mut stop) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, address, place)) = accepted else { continue };
        let (router, tls, stop) = (router.clone(), tls.clone(), stop.clone());
        connections.spawn(async move {
            let _place = place;
            match tls {
                None => converse(stream, Peer::default(), router, limits, stop).await,
                Some(tls) => match timeout(limits.handshake, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let peer = Peer::of(stream.get_ref().1.peer_certificates());
                        converse(stream, peer, router, limits, stop).await;
                    }
                    Ok(Err(error)) => debug!(%address, %error, "TLS handshake refused"),
                    Err(_) => debug!(%address, "TLS handshake took too long"),
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
    peer: Peer,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        answer(router.clone(), peer.clone(), request)
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
    peer: Peer,
    request: hyper::Request<Incoming>,
) -> impl Future<Output = Result<axum::response::Response, std::convert::Infallible>> {
    let mut request: Request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    router.oneshot(request)
}
