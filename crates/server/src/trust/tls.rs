//! TLS towards agents, and who is at the other end.

use super::Trust;
use super::authority::CLOCK_SLACK_SECONDS;
use super::late::TakesLate;
use fettle_core::{HostId, Problem, ProblemKind, Timestamp};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;
use std::time::Duration;

/// Who speaks on a connection, as TLS proved it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer {
    /// The host its certificate names; `None` without a certificate.
    pub(crate) host: Option<HostId>,
    /// When the certificate was made, and when it ends.
    pub(crate) life: Option<(Timestamp, Timestamp)>,
}

impl Peer {
    /// Reads the certificate that rustls has verified against the fleet's authority.
    pub(crate) fn of(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let Some(first) = certificates.and_then(<[_]>::first) else { return Self::default() };
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(first) else {
            return Self::default();
        };
        let mut names = parsed.subject().iter_common_name();
        let host = match (names.next().and_then(|n| n.as_str().ok()), names.next()) {
            (Some(only), None) if !only.is_empty() => Some(HostId::new(only)),
            _ => None,
        };
        let at = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).unwrap_or_default()
        };
        let slack = jiff::SignedDuration::from_secs(CLOCK_SLACK_SECONDS as i64);
        let made = at(parsed.validity().not_before).checked_add(slack).unwrap_or_default();
        let life = (made, at(parsed.validity().not_after));
        Self { host, life: Some(life) }
    }

    /// Its certificate has ended: it may have a new one, and nothing else.
    pub(crate) fn is_late(&self, now: Timestamp) -> bool {
        self.life.is_some_and(|(_, ends)| ends < now)
    }
}

/// The server's side of the agents' port. Clients without a certificate get through the handshake (one that
/// enrols has none yet) and are turned away by every call but `enroll`.
pub(crate) fn agent_tls(
    trust: &Trust,
    names: &[String],
    now: Timestamp,
    renewal_grace: Duration,
) -> Result<Arc<ServerConfig>, Problem> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let ca = CertificateDer::from(trust.authority.der().to_vec());
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(|e| defect(&e))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| defect(&e))?;
    let verifier = Arc::new(TakesLate::new(verifier, renewal_grace));
    let mut san = vec![
        "fettle-server".to_owned(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    san.extend(names.iter().cloned());
    san.sort();
    san.dedup();
    let (leaf, key) = trust.authority.server_certificate(san, now)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| defect(&e))?
        .with_client_cert_verifier(verifier)
        // The authority goes along: a host that has only the pin of a token checks it by that.
        .with_single_cert(vec![leaf.der().clone(), ca], key)
        .map_err(|e| defect(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn defect(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(
        ProblemKind::Internal,
        "tls",
        format!("TLS could not be set up: {error}"),
        "this is a defect of Fettle: please report it",
    )
}
