//! Hosts that come back late: switched off over the holidays, they find that their certificate has ended.
//!
//! Such a host is still known by it, as long as it has not ended for too long: the handshake goes through, and every call but
//! `renew` is refused (see [`Peer::is_late`](super::Peer::is_late)). What guards against a certificate that fell into wrong
//! hands is not its end but that its host is retired, which `renew` looks at.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;

/// Verifies certificates as the verifier within, and takes those that have ended lately.
#[derive(Debug)]
pub(super) struct TakesLate {
    within: Arc<dyn ClientCertVerifier>,
    /// As long as a certificate may have ended.
    grace: Duration,
}

impl TakesLate {
    pub(super) fn new(within: Arc<dyn ClientCertVerifier>, grace: Duration) -> Self {
        Self { within, grace }
    }
}

impl ClientCertVerifier for TakesLate {
    fn offer_client_auth(&self) -> bool {
        self.within.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.within.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.within.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.within.verify_client_cert(end_entity, intermediates, now);
        let ended = match &verified {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => *not_after,
            _ => return verified,
        };
        let late = Duration::from_secs(now.as_secs().saturating_sub(ended.as_secs()));
        if late > self.grace {
            return verified;
        }
        // All else about it must hold, as it did in its last second.
        self.within.verify_client_cert(end_entity, intermediates, ended)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.within.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.within.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.within.supported_verify_schemes()
    }
}
