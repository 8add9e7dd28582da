//! The fleet's certificate authority: ECDSA P-256, made at the first start.

use super::files::read_or_make;
use super::{broken_key, random};
use fettle_core::{Digest, HostId, Problem, ProblemKind, Timestamp};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SerialNumber, date_time_ymd,
};
use std::path::Path;
use std::time::Duration;

/// Certificates begin that much earlier, for hosts whose clock is a little behind.
pub(crate) const CLOCK_SLACK_SECONDS: u64 = 3600;
/// The authority lives that long: to change it means to enrol every host again.
const AUTHORITY_SECONDS: u64 = 20 * 365 * 86_400;
/// The server's own certificate lives that long, and is made afresh at every start.
pub(crate) const SERVER_CERTIFICATE_SECONDS: u64 = 366 * 86_400;

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: Vec<u8>,
}

impl Authority {
    pub(super) fn open(keys: &Path) -> Result<Self, Problem> {
        let (key_path, cert_path) = (keys.join("ca.key"), keys.join("ca.pem"));
        if cert_path.exists() && !key_path.exists() {
            return Err(broken_key(
                &key_path,
                "it is missing, but the certificate made with it is there",
            ));
        }
        // The key first: killed between the two, the next start makes the certificate for this key.
        let key = read_or_make(&key_path, || {
            Ok(KeyPair::generate().map_err(defect)?.serialize_pem().into_bytes())
        })?;
        let key = String::from_utf8_lossy(&key);
        let key = KeyPair::from_pem(&key).map_err(|e| broken_key(&key_path, &e.to_string()))?;
        let pem = read_or_make(&cert_path, || {
            Ok(authority_params()?.self_signed(&key).map_err(defect)?.pem().into_bytes())
        })?;
        let pem = String::from_utf8_lossy(&pem).into_owned();
        let der =
            pem_to_der(&pem).ok_or_else(|| broken_key(&cert_path, "it is no PEM certificate"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der)
            .map_err(|e| broken_key(&cert_path, &format!("it is no certificate ({e})")))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
            return Err(broken_key(&key_path, "it is not the key of ca.pem beside it"));
        }
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .map_err(|e| broken_key(&cert_path, &e.to_string()))?;
        Ok(Self { issuer, pem, der })
    }

    pub(super) fn pin(&self) -> Digest {
        Digest::of(&self.der)
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    pub(super) fn certify(
        &self,
        csr: &str,
        host: &HostId,
        now: Timestamp,
        seconds: u64,
    ) -> Result<String, Problem> {
        let mut request = CertificateSigningRequestParams::from_pem(csr).map_err(|e| {
            Problem::new(
                ProblemKind::BadInput,
                "bad-csr",
                format!("the certificate request cannot be used: {e}"),
                "send a PKCS#10 request in PEM, signed by its own key: `fettle-agent enroll` makes one",
            )
        })?;
        // Only the key is taken from the request: a host cannot ask for a name, a use or a life.
        request.params = leaf_params(
            host.as_str(),
            Vec::new(),
            ExtendedKeyUsagePurpose::ClientAuth,
            now,
            seconds,
        )?;
        Ok(request.signed_by(&self.issuer).map_err(defect)?.pem())
    }

    /// The server's own certificate, made afresh at every start.
    pub(super) fn server_certificate(
        &self,
        names: Vec<String>,
        now: Timestamp,
    ) -> Result<(Certificate, KeyPair), Problem> {
        let key = KeyPair::generate().map_err(defect)?;
        let use_ = ExtendedKeyUsagePurpose::ServerAuth;
        let params = leaf_params("fettle-server", names, use_, now, SERVER_CERTIFICATE_SECONDS)?;
        Ok((params.signed_by(&key, &self.issuer).map_err(defect)?, key))
    }
}

/// When the authority whose certificate is below `data` ends.
pub(crate) fn authority_end(data: &Path) -> Result<Timestamp, String> {
    let path = data.join("keys/ca.pem");
    let shown = path.display();
    let pem = std::fs::read_to_string(&path).map_err(|e| format!("{shown}: {e}"))?;
    let der = pem_to_der(&pem).ok_or_else(|| format!("{shown} is no PEM certificate"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der)
        .map_err(|e| format!("{shown} is no certificate ({e})"))?;
    let end = parsed.validity().not_after.timestamp();
    Timestamp::from_second(end).map_err(|e| format!("{shown}: {e}"))
}

fn authority_params() -> Result<CertificateParams, Problem> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.distinguished_name = name("Fettle fleet authority");
    life(&mut params, Timestamp::now(), AUTHORITY_SECONDS)?;
    Ok(params)
}

fn leaf_params(
    common_name: &str,
    names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
    now: Timestamp,
    seconds: u64,
) -> Result<CertificateParams, Problem> {
    let mut params = CertificateParams::new(names).map_err(|e| {
        Problem::new(
            ProblemKind::Usage,
            "bad-server-name",
            format!("a name of the server cannot stand in a certificate: {e}"),
            "give DNS names or IP addresses",
        )
    })?;
    params.distinguished_name = name(common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    life(&mut params, now, seconds)?;
    Ok(params)
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn life(params: &mut CertificateParams, now: Timestamp, seconds: u64) -> Result<(), Problem> {
    let now = Duration::from_secs(now.as_second().max(0) as u64);
    let slack = Duration::from_secs(CLOCK_SLACK_SECONDS);
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(slack);
    params.not_after = epoch + now + Duration::from_secs(seconds);
    let mut serial = random::<16>()?;
    // RFC 5280 section 4.1.2.2: positive, at most 20 octets.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}

fn pem_to_der(pem: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let body = pem
        .split("-----BEGIN CERTIFICATE-----")
        .nth(1)?
        .split("-----END CERTIFICATE-----")
        .next()?;
    let text: String = body.split_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn defect(error: rcgen::Error) -> Problem {
    Problem::new(
        ProblemKind::Internal,
        "certificate",
        format!("a certificate could not be made: {error}"),
        "this is a defect of Fettle: please report it",
    )
}
