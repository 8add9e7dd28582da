//! A connection to a host, directly or through a proxy. What a vendor's redirect leads to must be out there.

use super::proxy::Proxy;
use super::{FeedFetching, FetchError};
use fettle_core::feed::is_public;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Which addresses of a host may be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    /// Any: the administrator named it.
    Any,
    /// Those it was found at before, and no others: its name may lead elsewhere by now.
    Same(Vec<IpAddr>),
    /// Those out there.
    Public,
}

/// The host that is connected to.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) tls: bool,
    pub(super) host: &'a str,
    pub(super) port: u16,
}

/// Connects. Gives the stream, and at which addresses the host was found (none where a proxy does the looking up).
pub(super) async fn connect(
    limits: &FeedFetching,
    place: &Place<'_>,
    reach: &Reach,
    proxy: Option<&Proxy>,
    tls: &Arc<ClientConfig>,
) -> Result<(Box<dyn Stream>, Vec<IpAddr>), FetchError> {
    let connecting = async {
        let (socket, found) = match proxy {
            Some(proxy) => (through(proxy, place, reach).await?, Vec::new()),
            None => directly(place, reach).await?,
        };
        if !place.tls {
            return Ok((Box::new(socket) as Box<dyn Stream>, found));
        }
        let name = ServerName::try_from(place.host.to_owned())
            .map_err(|e| FetchError::Tls(e.to_string()))?;
        let stream = TlsConnector::from(tls.clone())
            .connect(name, socket)
            .await
            .map_err(|e| FetchError::Tls(e.to_string()))?;
        Ok((Box::new(stream) as Box<dyn Stream>, found))
    };
    match tokio::time::timeout(limits.connect, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(FetchError::ConnectLate(limits.connect.as_secs())),
    }
}

async fn directly(
    place: &Place<'_>,
    reach: &Reach,
) -> Result<(TcpStream, Vec<IpAddr>), FetchError> {
    let found: Vec<IpAddr> = match reach {
        Reach::Same(addresses) => addresses.clone(),
        Reach::Any | Reach::Public => tokio::net::lookup_host((place.host, place.port))
            .await
            .map_err(|e| FetchError::Unreachable(e.to_string()))?
            .map(|address| address.ip())
            .collect(),
    };
    let mut last = FetchError::Unreachable("its name has no address".to_owned());
    for address in &found {
        // The address that is connected to is the one that was looked at: a name cannot change in between.
        if *reach == Reach::Public && !is_public(*address) {
            last = FetchError::Private(format!("{} ({address})", place.host));
            continue;
        }
        match TcpStream::connect(SocketAddr::new(*address, place.port)).await {
            Ok(socket) => return Ok((socket, found)),
            Err(e) => last = FetchError::Unreachable(e.to_string()),
        }
    }
    Err(last)
}

/// Longest answer of a proxy to CONNECT, in bytes.
const MAX_HEAD: usize = 8 << 10;

/// Through a proxy: with TLS by a tunnel (`CONNECT`, RFC 9110, section 9.3.6), without by asking it.
async fn through(proxy: &Proxy, place: &Place<'_>, reach: &Reach) -> Result<TcpStream, FetchError> {
    let failed =
        |why: String| FetchError::Proxy { proxy: format!("{}:{}", proxy.host, proxy.port), why };
    // The proxy looks names up; what is an address already can be judged here.
    if *reach == Reach::Public && place.host.parse().is_ok_and(|ip| !is_public(ip)) {
        return Err(FetchError::Private(place.host.to_owned()));
    }
    let mut socket = TcpStream::connect((proxy.host.as_str(), proxy.port))
        .await
        .map_err(|e| failed(e.to_string()))?;
    if !place.tls {
        return Ok(socket);
    }
    let host =
        if place.host.contains(':') { format!("[{}]", place.host) } else { place.host.to_owned() };
    let authority = format!("{host}:{}", place.port);
    let mut ask = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(authorization) = &proxy.authorization {
        ask.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    ask.push_str("\r\n");
    socket.write_all(ask.as_bytes()).await.map_err(|e| failed(e.to_string()))?;
    // Byte by byte: what follows the head belongs to TLS.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD {
            return Err(failed("its answer does not end".to_owned()));
        }
        head.push(socket.read_u8().await.map_err(|e| failed(e.to_string()))?);
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') || status.len() != 3 {
        let line: String = head.lines().next().unwrap_or_default().chars().take(100).collect();
        return Err(failed(format!("it answered `{line}`")));
    }
    Ok(socket)
}
