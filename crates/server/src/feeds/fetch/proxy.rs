//! Proxies, as the environment names them: `https_proxy`, `http_proxy`, `all_proxy`, `no_proxy`, in the manner of curl(1).

use super::FetchError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::collections::BTreeMap;

const NAMES: [&str; 4] = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];

/// What the environment of this process says. `HTTP_PROXY` in capitals is not read: a CGI program gets it from whoever
/// calls it.
pub(super) fn environment() -> BTreeMap<String, String> {
    let of = |name: &str| {
        let upper = (name != "http_proxy").then(|| std::env::var(name.to_ascii_uppercase()).ok());
        std::env::var(name).ok().or(upper.flatten()).filter(|value| !value.is_empty())
    };
    NAMES.into_iter().filter_map(|name| Some((name.to_owned(), of(name)?))).collect()
}

/// A proxy to go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// `Proxy-Authorization`.
    pub(super) authorization: Option<String>,
}

/// The proxy for a host. `None`: go there directly.
pub(super) fn for_host(
    variables: &BTreeMap<String, String>,
    tls: bool,
    host: &str,
) -> Result<Option<Proxy>, FetchError> {
    let own = if tls { "https_proxy" } else { "http_proxy" };
    let Some(text) = variables.get(own).or_else(|| variables.get("all_proxy")) else {
        return Ok(None);
    };
    if variables.get("no_proxy").is_some_and(|list| is_listed(list, host)) {
        return Ok(None);
    }
    let wrong = |why: &str| FetchError::Proxy { proxy: own.to_owned(), why: why.to_owned() };
    let rest = match text.split_once("://") {
        None => text.as_str(),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return Err(wrong("only http:// proxies are spoken to")),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let (host, port) = match place.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((host, port)) => (host, port.parse().map_err(|_| wrong("its port is none"))?),
        None => (place, 1080),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return Err(wrong("it names no host"));
    }
    let authorization = user.map(|user| format!("Basic {}", BASE64.encode(user)));
    Ok(Some(Proxy { host, port, authorization }))
}

/// Is the host one that no proxy is asked for: `*`, its name, or a domain it is in?
fn is_listed(list: &str, host: &str) -> bool {
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        let domain = entry.trim_start_matches('.');
        entry == "*"
            || !domain.is_empty()
                && (host == domain
                    || host.strip_suffix(domain).is_some_and(|before| before.ends_with('.')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn each_scheme_has_its_proxy_and_listed_hosts_have_none() {
        let set = variables(&[
            ("https_proxy", "http://me:secret@proxy.example:3128/"),
            ("no_proxy", "localhost, .inside.example,10.0.0.1"),
        ]);
        let proxy = for_host(&set, true, "vendor.example").unwrap().unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 3128));
        assert_eq!(proxy.authorization.as_deref(), Some("Basic bWU6c2VjcmV0"));
        assert_eq!(for_host(&set, false, "vendor.example").unwrap(), None);
        for direct in ["localhost", "a.inside.example", "inside.example", "10.0.0.1"] {
            assert_eq!(for_host(&set, true, direct).unwrap(), None, "{direct}");
        }
        assert!(for_host(&set, true, "notinside.example").unwrap().is_some());
        let all = variables(&[("all_proxy", "proxy.example"), ("no_proxy", "*")]);
        assert_eq!(for_host(&all, true, "x").unwrap(), None);
        for wrong in ["socks5://p:1", "http://p:port", "http://:3128"] {
            let error = for_host(&variables(&[("all_proxy", wrong)]), true, "x").unwrap_err();
            assert!(matches!(error, FetchError::Proxy { .. }), "{wrong}: {error}");
        }
    }
}
