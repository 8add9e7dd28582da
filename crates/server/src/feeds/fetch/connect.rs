//! A connection to a host, directly or through a proxy. What a vendor's redirect leads to must be out there.

use super::proxy::Proxy;
use super::{FeedFetching, FetchError};
use fettle_core::feed::is_public;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
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
    /// The one that was connected to before, and no other: its name may lead elsewhere by now.
    Same(IpAddr),
    /// Those out there.
    Public,
}

impl Reach {
    /// What a redirect within the same host may reach, after a hop that was allowed `self` and ended at `address`. Through
    /// a proxy there is none, and what was not allowed before is not allowed now: the next hop may go there directly.
    pub(super) fn within_host(&self, address: Option<IpAddr>) -> Self {
        address.map_or_else(|| self.clone(), Self::Same)
    }
}

/// The host that is connected to.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) tls: bool,
    pub(super) host: &'a str,
    pub(super) port: u16,
}

/// All addresses of a host, its name and TLS together are given so many times what one of them is.
const ALL: u32 = 3;

/// Connects. Gives the stream, and the address that it was connected to (none where a proxy does the looking up).
pub(super) async fn connect(
    limits: &FeedFetching,
    place: &Place<'_>,
    reach: &Reach,
    proxy: Option<&Proxy>,
    tls: &Arc<ClientConfig>,
) -> Result<(Box<dyn Stream>, Option<IpAddr>), FetchError> {
    let connecting = async {
        let (socket, address) = match proxy {
            Some(proxy) => (in_time(limits.connect, through(proxy, place, reach)).await?, None),
            None => {
                let (socket, address) = directly(limits.connect, place, reach).await?;
                (socket, Some(address))
            }
        };
        if !place.tls {
            return Ok((Box::new(socket) as Box<dyn Stream>, address));
        }
        let name = ServerName::try_from(place.host.to_owned())
            .map_err(|e| FetchError::Tls(e.to_string()))?;
        let secured = TlsConnector::from(tls.clone()).connect(name, socket);
        let secured = async { secured.await.map_err(|e| FetchError::Tls(e.to_string())) };
        let stream = in_time(limits.connect, secured).await?;
        Ok((Box::new(stream) as Box<dyn Stream>, address))
    };
    in_time(limits.connect * ALL, connecting).await
}

async fn in_time<T>(
    most: Duration,
    work: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    let late = |_| Err(FetchError::ConnectLate(most.as_secs()));
    tokio::time::timeout(most, work).await.unwrap_or_else(late)
}

async fn directly(
    each: Duration,
    place: &Place<'_>,
    reach: &Reach,
) -> Result<(TcpStream, IpAddr), FetchError> {
    let found: Vec<IpAddr> = match reach {
        Reach::Same(address) => vec![*address],
        Reach::Any | Reach::Public => {
            let found = tokio::net::lookup_host((place.host, place.port));
            let found = async { found.await.map_err(|e| FetchError::Unreachable(e.to_string())) };
            in_time(each, found).await?.map(|address| address.ip()).collect()
        }
    };
    first_of(each, place, reach, &found).await
}

/// The first of a host's addresses that may be connected to and answers, each in its own time: one that swallows what is
/// sent to it must not use up the others'. Gives the one address that was looked at and connected to, never its
/// neighbours: whoever goes back to the host goes there.
async fn first_of(
    each: Duration,
    place: &Place<'_>,
    reach: &Reach,
    found: &[IpAddr],
) -> Result<(TcpStream, IpAddr), FetchError> {
    let mut last = FetchError::Unreachable("its name has no address".to_owned());
    for address in found {
        // The address that is connected to is the one that was looked at: a name cannot change in between.
        if *reach == Reach::Public && !is_public(*address) {
            last = FetchError::Private(format!("{} ({address})", place.host));
            continue;
        }
        let socket = TcpStream::connect(SocketAddr::new(*address, place.port));
        let socket = async { socket.await.map_err(|e| FetchError::Unreachable(e.to_string())) };
        match in_time(each, socket).await {
            Ok(socket) => return Ok((socket, *address)),
            Err(error) => last = error,
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    const EACH: Duration = Duration::from_millis(300);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Somebody listens at the first address, and nobody at the second, on the same port.
    async fn listening() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn who_is_sent_back_to_a_host_goes_to_the_address_it_was_connected_to_and_to_no_other() {
        let (_listener, port) = listening().await;
        let place = Place { tls: false, host: "vendor.example", port };
        let found = [ip("127.0.0.2"), ip("127.0.0.1"), ip("169.254.169.254")];
        let (_, address) = first_of(EACH, &place, &Reach::Any, &found).await.unwrap();
        assert_eq!(address, found[1]);
        // The one that was connected to has gone, and the others are not tried in its place.
        let gone = Place { port: 1, ..place };
        let again = Reach::Any.within_host(Some(address));
        assert_eq!(again, Reach::Same(found[1]));
        let error = directly(EACH, &gone, &again).await.unwrap_err();
        assert!(matches!(error, FetchError::Unreachable(_)), "{error}");
    }

    #[tokio::test]
    async fn no_address_of_this_network_is_connected_to_where_only_public_ones_may_be() {
        let (_listener, port) = listening().await;
        let place = Place { tls: false, host: "vendor.example", port };
        for near in ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"] {
            let error = first_of(EACH, &place, &Reach::Public, &[ip(near)]).await.unwrap_err();
            assert!(matches!(error, FetchError::Private(_)), "{near}: {error}");
        }
    }

    #[test]
    fn a_hop_through_a_proxy_allows_the_next_one_no_more_than_it_was_allowed_itself() {
        for before in [Reach::Any, Reach::Public, Reach::Same(ip("192.0.2.1"))] {
            assert_eq!(before.within_host(None), before);
        }
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_leaves_the_next_one_its_time() {
        let (_listener, port) = listening().await;
        let place = Place { tls: false, host: "vendor.example", port };
        // Its queue is full, so that Linux lets further attempts wait.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(ip("127.0.0.3"), port)).unwrap();
        let full = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(socket)) =
            tokio::time::timeout(EACH, TcpStream::connect(full.local_addr().unwrap())).await
        {
            waiting.push(socket);
            assert!(waiting.len() < 100, "its queue has no end");
        }
        let found = [ip("127.0.0.3"), ip("127.0.0.1")];
        let (_, address) = first_of(EACH, &place, &Reach::Any, &found).await.unwrap();
        assert_eq!(address, found[1]);
        let error = first_of(EACH, &place, &Reach::Any, &found[..1]).await.unwrap_err();
        assert_eq!(error, FetchError::ConnectLate(0));
    }
}
