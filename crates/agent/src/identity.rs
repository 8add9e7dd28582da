//! Who this host is to the server: key, certificate, authority, address. Made at enrolment, kept under
//! `identity/`, mode 0600, replaced as one file so that a crash leaves the old identity or the new one.

use crate::durable;
use crate::settings::Settings;
use fettle_core::{HostId, Problem, ProblemKind};
use serde::{Deserialize, Serialize};

/// An enrolled host's identity.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Given by the server.
    pub host: HostId,
    /// `https://fettle.example.net:8441`.
    pub server: String,
    /// Private key (ECDSA P-256), PKCS#8 PEM. Made here, never sent.
    pub key: String,
    /// Client certificate, PEM.
    pub certificate: String,
    /// The fleet's certificate authority, PEM: the only root this agent believes.
    pub ca: String,
    /// Ed25519 public key (base64) that signs assignments: the only one this agent obeys.
    pub assignment_key: String,
}

impl std::fmt::Debug for Identity {
    /// The private key stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({} at {})", self.host, self.server)
    }
}

/// A new key and the request for its certificate (PKCS#10, PEM). The server ignores the names in it.
///
/// # Errors
/// When the system gives no random bytes.
pub fn key_and_request(name: &str) -> Result<(String, String), rcgen::Error> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    let request = parameters.serialize_request(&key)?.pem()?;
    Ok((key.serialize_pem(), request))
}

fn file(settings: &Settings) -> std::path::PathBuf {
    settings.identity_dir().join("identity.json")
}

/// Reads the identity; `None` when the host is not enrolled.
///
/// # Errors
/// When there is one that cannot be read.
pub fn load(settings: &Settings) -> Result<Option<Identity>, Problem> {
    let path = file(settings);
    let broken = |error: &dyn std::fmt::Display| {
        Problem::new(
            ProblemKind::Environment,
            "identity-unreadable",
            format!("{} cannot be read: {error}", path.display()),
            "run as root; where the file is damaged, enrol again with --force and a new token",
        )
    };
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| broken(&e)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(broken(&error)),
    }
}

/// Keeps the identity, durably.
///
/// # Errors
/// When it cannot be written.
pub fn save(settings: &Settings, identity: &Identity) -> Result<(), Problem> {
    let path = file(settings);
    let bytes = serde_json::to_vec(identity).unwrap_or_default();
    durable::create_directory(&settings.identity_dir())
        .and_then(|()| durable::replace(&path, &bytes))
        .map_err(|error| {
            Problem::new(
                ProblemKind::Environment,
                "identity-unwritable",
                format!("{} cannot be written: {error}", path.display()),
                "run as root, with space on that file system",
            )
        })
}
