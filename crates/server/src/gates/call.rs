//! One HTTP call to a place that a policy or a schedule of reports names: bounded in time and size, to that place and nowhere else.
//!
//! What they say is reviewed, what a name resolves to is not. So a name that leads to this machine itself or to its link is
//! refused, unless the address itself says so in so many words; no redirect is followed, no proxy used.

use crate::feeds::roots;
use fettle_core::feed::embedded;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// From the look-up of the name to the last byte.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// An answer: status and body.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Asks; with a body, posts it as JSON.
///
/// # Errors
/// In words, what did not work.
pub(crate) fn call(
    url: &str,
    headers: &[(&str, String)],
    body: Option<&[u8]>,
) -> Result<Reply, String> {
    call_within(url, headers, body, PATIENCE)
}

/// The same, where it may take so long.
///
/// # Errors
/// As [`call`].
pub(crate) fn call_within(
    url: &str,
    headers: &[(&str, String)],
    body: Option<&[u8]>,
    patience: Duration,
) -> Result<Reply, String> {
    let agent = agent(url, patience)?;
    let answer = match body {
        None => {
            let request = headers.iter().fold(agent.get(url), |r, (name, v)| r.header(*name, v));
            request.call()
        }
        Some(body) => {
            let request = headers.iter().fold(agent.post(url), |r, (name, v)| r.header(*name, v));
            request.header("content-type", "application/json").send(body)
        }
    };
    let mut answer = answer.map_err(|e| in_words(&e))?;
    let status = answer.status().as_u16();
    if (300..400).contains(&status) {
        let to = answer.headers().get("location").and_then(|v| v.to_str().ok()).unwrap_or("?");
        let to: String = to.chars().take(200).collect();
        return Err(format!("it leads elsewhere ({status} to {to}), and is not followed"));
    }
    let read = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
    Ok(Reply { status, body: read.map_err(|e| in_words(&e))? })
}

fn agent(url: &str, patience: Duration) -> Result<ureq::Agent, String> {
    let uri: Uri = url.parse().map_err(|e| format!("`{url}` is no address: {e}"))?;
    agent_to(&uri, uri.host().is_some_and(says_where), patience)
}

/// `literal`: the address itself says which machine it means.
fn agent_to(uri: &Uri, literal: bool, patience: Duration) -> Result<ureq::Agent, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    if uri.scheme_str() == Some("https") {
        tls = tls.root_certs(RootCerts::Specific(authorities()?));
    }
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(patience))
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent("fettle-server")
        .tls_config(tls.build())
        .build();
    Ok(ureq::Agent::with_parts(config, DefaultConnector::default(), Careful { literal }))
}

/// Read once: a machine that trusts others needs a restart of the server.
fn authorities() -> Result<Arc<Vec<Certificate<'static>>>, String> {
    static READ: OnceLock<Arc<Vec<Certificate<'static>>>> = OnceLock::new();
    if let Some(read) = READ.get() {
        return Ok(read.clone());
    }
    let (path, found) = roots::authorities(None)?;
    let all: Vec<_> =
        found.iter().map(|one| Certificate::from_der(one.as_ref()).to_owned()).collect();
    if all.is_empty() {
        return Err(format!("{} holds no certificate in PEM", path.display()));
    }
    Ok(READ.get_or_init(|| Arc::new(all)).clone())
}

fn in_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "it did not answer in time".to_owned(),
        ureq::Error::BodyExceedsLimit(_) => {
            format!("the answer is larger than {} MiB", MAX_ANSWER >> 20)
        }
        ureq::Error::HostNotFound => "the name leads to no address".to_owned(),
        other => other.to_string(),
    }
}

/// Does the address itself say which machine it means? Then the policy's reviewers saw it.
fn says_where(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// An address that only this machine or its neighbours on the link have, or nobody.
fn is_near(address: IpAddr) -> bool {
    let v6 = match address {
        IpAddr::V4(v4) => return is_near_v4(v4),
        IpAddr::V6(v6) => v6,
    };
    // A gateway, or this machine itself, makes the IPv4 address of it.
    embedded(v6).is_some_and(is_near_v4)
        || v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_multicast()
        || v6.is_unicast_link_local()
}

fn is_near_v4(v4: Ipv4Addr) -> bool {
    v4.is_loopback()
        || v4.is_link_local()
        || v4.is_unspecified()
        || v4.is_multicast()
        || v4.is_broadcast()
        // 0.0.0.0/8, "this network" (RFC 1122).
        || v4.octets()[0] == 0
}

/// Looks names up and gives only addresses that may be called: the very ones that are then connected to.
#[derive(Debug)]
struct Careful {
    literal: bool,
}

impl Resolver for Careful {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        match found.iter().find(|address| is_near(address.ip())) {
            Some(near) if !self.literal => Err(ureq::Error::Io(std::io::Error::other(format!(
                "the name leads to {}, this machine or its link: write the address itself in place of the name if it is meant",
                near.ip()
            )))),
            _ => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_near_this_machine_is_told_from_one_that_is_not() {
        for (address, near) in [
            ("127.0.0.1", true),
            ("127.8.9.1", true),
            ("169.254.169.254", true),
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("::1", true),
            ("::", true),
            ("fe80::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:169.254.169.254", true),
            ("::127.0.0.1", true),
            ("64:ff9b::169.254.169.254", true),
            ("64:ff9b::192.0.2.7", false),
            ("2002:7f00:1::1", true),
            ("2002:a9fe:a9fe::", true),
            ("2002:c000:207::1", false),
            ("224.0.0.1", true),
            ("ff02::1", true),
            ("10.0.0.1", false),
            ("192.0.2.7", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_near(address.parse().unwrap()), near, "{address}");
        }
    }

    /// Whoever answers each connection so.
    fn serve(answer: impl Fn(std::net::TcpStream) + Send + 'static) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap());
            }
        });
        format!("http://{address}/")
    }

    fn refused(url: &str) -> String {
        call_within(url, &[], None, Duration::from_millis(700)).err().unwrap_or_default()
    }

    #[test]
    fn a_server_that_misbehaves_costs_so_much_time_and_memory_and_no_more() {
        use std::io::{Read as _, Write as _};
        let begun = std::time::Instant::now();
        let mute = serve(std::mem::forget);
        assert_eq!(refused(&mute), "it did not answer in time");
        let drip = serve(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            std::thread::spawn(move || {
                while stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        });
        assert_eq!(refused(&drip), "it did not answer in time");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let endless = serve(|mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            std::thread::spawn(move || while stream.write_all(&[b'x'; 65536]).is_ok() {});
        });
        let wrong = call(&endless, &[], None).err().unwrap_or_default();
        assert_eq!(wrong, "the answer is larger than 4 MiB");
        let other = serve(|mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let moved =
                b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
            let _ = stream.write_all(moved);
        });
        let wrong = call(&other, &[], None).err().unwrap_or_default();
        assert!(wrong.starts_with("it leads elsewhere (302 to http://127.0.0.1:1/)"), "{wrong}");
        let garbage = serve(|mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        });
        assert!(!refused(&garbage).is_empty());
        assert!(!refused("http://127.0.0.1:1/").is_empty(), "nobody is there");
        assert!(!refused("http://no-such-name.invalid/").is_empty());
    }

    #[test]
    fn a_name_that_leads_here_is_refused_and_an_address_that_says_so_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        for host in ["127.0.0.1", "localhost"] {
            let reply = call(&format!("http://{host}:{port}/"), &[], None).unwrap();
            assert_eq!((reply.status, reply.body.as_slice()), (200, &b"ok"[..]), "{host}");
        }
        // The same name, as if the policy had written one that says nothing of where it leads.
        let url = format!("http://localhost:{port}/");
        let agent = agent_to(&url.parse().unwrap(), false, PATIENCE).unwrap();
        let wrong = agent.get(&url).call().map(drop).map_err(|e| in_words(&e));
        assert!(wrong.as_ref().is_err_and(|w| w.contains("this machine or its link")), "{wrong:?}");
    }
}
