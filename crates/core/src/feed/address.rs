//! Addresses of feeds: `http`, `https` and `file`, as far as RFC 3986 is needed for them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest address, in bytes.
const MAX_ADDRESS: usize = 2000;

/// Where something can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedAddress {
    /// By HTTP.
    Http {
        /// Over TLS.
        tls: bool,
        /// Name or address of the host, in lower case, without brackets.
        host: String,
        /// Port.
        port: u16,
        /// Path and query, as they are asked for.
        target: String,
    },
    /// A file or a directory of the server.
    File {
        /// Absolute.
        path: String,
    },
}

/// Why a text is no address of a feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("`{0}` is no address that a feed is fetched from")]
    Scheme(String),
    /// No host in it.
    #[error("`{0}` names no host")]
    Host(String),
    /// A port that is none.
    #[error("`{0}` has a port that is none")]
    Port(String),
    /// User or password in it.
    #[error("the address of {0} holds a user's name or password, which lists and logs would show")]
    Credentials(String),
    /// Spaces, control characters, not ASCII, or too long.
    #[error("`{0}` holds characters that no address has, or is too long")]
    Characters(String),
    /// A `file:` that is not absolute.
    #[error("`{0}` is no absolute path")]
    Relative(String),
}

impl AddressError {
    /// What to write instead.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Credentials(_) => {
                "write them into a file on the server, and name it: --credentials-file FILE"
            }
            Self::Relative(_) => "write file:///path/to/the/feed",
            Self::Characters(_) => "encode them in percent, as %20 for a space",
            _ => "write https://HOST/PATH, http://HOST/PATH or file:///PATH",
        }
    }
}

fn cut(text: &str) -> String {
    let before_query = text.split(['?', '#']).next().unwrap_or_default();
    before_query.chars().take(100).collect()
}

impl FeedAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// [`AddressError`]. None of them repeats a query, which may be a secret.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_ADDRESS || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(AddressError::Characters(cut(text)));
        }
        let (scheme, rest) = text.split_once(':').ok_or_else(|| AddressError::Scheme(cut(text)))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            "file" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                let path = path.strip_prefix("localhost").unwrap_or(path);
                if !path.starts_with('/') {
                    return Err(AddressError::Relative(cut(text)));
                }
                let path = unescaped(path).ok_or_else(|| AddressError::Characters(cut(text)))?;
                return Ok(Self::File { path });
            }
            _ => return Err(AddressError::Scheme(cut(text))),
        };
        let rest = rest.strip_prefix("//").ok_or_else(|| AddressError::Host(cut(text)))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if let Some((_, host)) = authority.rsplit_once('@') {
            return Err(AddressError::Credentials(cut(host)));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, after) =
                    v6.split_once(']').ok_or_else(|| AddressError::Host(cut(text)))?;
                host.parse::<Ipv6Addr>().map_err(|_| AddressError::Host(cut(text)))?;
                (host, after.strip_prefix(':').or(after.is_empty().then_some("")))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, Some("")),
            },
        };
        let name = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if host.is_empty() || host.len() > 253 || !host.chars().all(name) {
            return Err(AddressError::Host(cut(text)));
        }
        let port = match port {
            Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => {
                port.parse().ok().filter(|p| *p > 0).ok_or_else(|| AddressError::Port(cut(text)))?
            }
            None => return Err(AddressError::Port(cut(text))),
        };
        let target = target.split('#').next().unwrap_or_default();
        let target = match target.as_bytes().first() {
            Some(b'/') => target.to_owned(),
            _ => format!("/{target}"),
        };
        Ok(Self::Http { tls, host: host.to_ascii_lowercase(), port, target })
    }

    /// Where a redirect from here leads: `Location` as RFC 9110 has it, absolute or relative.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn join(&self, location: &str) -> Result<Self, AddressError> {
        let Self::Http { tls, target, .. } = self else { return Self::parse(location) };
        let scheme = if *tls { "https" } else { "http" };
        let has_scheme = location.split_once(':').is_some_and(|(scheme, _)| {
            !scheme.is_empty()
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        });
        if has_scheme {
            return Self::parse(location);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let path = target.split('?').next().unwrap_or("/");
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let target = match location.as_bytes().first() {
            Some(b'/') => location.to_owned(),
            Some(b'?') => format!("{path}{location}"),
            None => path.to_owned(),
            _ => format!("{directory}/{location}"),
        };
        Self::parse(&format!("{scheme}://{}{target}", self.authority()))
    }

    /// Host and port as they are written in an address. Empty for a file.
    pub fn authority(&self) -> String {
        let Self::Http { tls, host, port, .. } = self else { return String::new() };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if *port == if *tls { 443 } else { 80 } { host } else { format!("{host}:{port}") }
    }

    /// The address with `suffix` behind its path.
    pub fn beside(&self, suffix: &str) -> Self {
        match self {
            Self::File { path } => Self::File { path: format!("{path}{suffix}") },
            Self::Http { tls, host, port, target } => {
                let (path, query) = match target.split_once('?') {
                    Some((path, query)) => (path, format!("?{query}")),
                    None => (target.as_str(), String::new()),
                };
                let target = format!("{path}{suffix}{query}");
                Self::Http { tls: *tls, host: host.clone(), port: *port, target }
            }
        }
    }
}

/// For people: without the query, which may be a secret.
impl fmt::Display for FeedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path } => write!(f, "file://{path}"),
            Self::Http { tls, target, .. } => {
                let scheme = if *tls { "https" } else { "http" };
                let (path, query) = match target.split_once('?') {
                    Some((path, _)) => (path, "?…"),
                    None => (target.as_str(), ""),
                };
                write!(f, "{scheme}://{}{path}{query}", self.authority())
            }
        }
    }
}

/// The text with its percent-encoded bytes decoded. `None`: it is not well-formed.
fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            out.push(byte);
            rest = after;
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        out.push(u8::from_str_radix(digits, 16).ok().filter(|b| *b != 0)?);
        rest = &after[2..];
    }
    String::from_utf8(out).ok()
}

/// Is it an address that anybody on the internet could have? What is not is this machine or its neighbours, and a
/// vendor's redirect has no business there (IANA's special-purpose address registries, RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => {
            if let Some(v4) = embedded(v6) {
                return is_public_v4(v4);
            }
            // Global unicast is 2000::/3, and of that not Teredo, ORCHID and the like (2001::/23), documentation
            // (2001:db8::/32, 3fff::/20) and discard-only.
            let [a, b, ..] = v6.segments();
            (a & 0xe000) == 0x2000
                && !(a == 0x2001 && b < 0x200)
                && !(a == 0x2001 && b == 0xdb8)
                && !(a == 0x3fff && b < 0x1000)
        }
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped (`::ffff:a.b.c.d`), NAT64 (`64:ff9b::/96`), 6to4 (`2002::/16`).
pub fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff | 0) if v6 != Ipv6Addr::LOCALHOST => Some(from(g, h)),
        (0x64, 0xff9b, 0, 0, 0, 0) => Some(from(g, h)),
        (0x2002, ..) => Some(from(b, c)),
        _ => None,
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    !(v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}
