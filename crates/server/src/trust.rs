//! Keys and certificates of the fleet. All are files below `DATA/keys/`, readable by the server's user only,
//! and never in the database: a copy of the database gives nobody a key.

mod authority;
mod files;
mod late;
mod tls;

pub(crate) use authority::{SERVER_CERTIFICATE_SECONDS, authority_end};
pub(crate) use files::{claim_data_dir, read_or_make, write_private};
pub(crate) use tls::{Peer, agent_tls};

use authority::Authority;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use fettle_core::{Digest, HostId, Problem, ProblemKind, Timestamp};
use fettle_wire::sign::Signer;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::path::Path;

/// Everything secret the server holds.
pub(crate) struct Trust {
    authority: Authority,
    /// Signs assignments.
    pub(crate) signer: Signer,
    /// Signs bundles of feeds.
    pub(crate) feed_signer: Signer,
    /// Signs what marks a browser that somebody has logged in with.
    pub(crate) session_key: hmac::Key,
    /// Signs what gates ask of webhooks.
    pub(crate) webhook_secret: Vec<u8>,
    /// The operator's bearer token.
    pub(crate) operator_token: String,
}

impl Trust {
    /// Reads the keys, or makes them on the first start.
    pub(crate) fn open(data: &Path) -> Result<Self, Problem> {
        let keys = data.join("keys");
        files::private_dir(&keys)?;
        let authority = Authority::open(&keys)?;
        let signer = signing_key(&keys.join("assignment.key"))?;
        let feed_signer = signing_key(&keys.join("feeds.key"))?;
        let session =
            read_or_make(&keys.join("session.key"), || random::<32>().map(|b| b.to_vec()))?;
        let webhook = read_or_make(&keys.join("webhook.secret"), || {
            Ok(format!("{WEBHOOK_PREFIX}{}\n", BASE64.encode(random::<32>()?)).into_bytes())
        })?;
        let webhook_secret = webhook_secret(&webhook).ok_or_else(|| {
            broken_key(
                &keys.join("webhook.secret"),
                "it is not `whsec_` and at least 24 bytes in base64",
            )
        })?;
        let token = read_or_make(&data.join("operator.token"), || {
            Ok(format!("{}\n", hex(&random::<32>()?)).into_bytes())
        })?;
        let operator_token = String::from_utf8_lossy(&token).trim().to_owned();
        if operator_token.len() < 32 {
            return Err(broken_key(
                &data.join("operator.token"),
                "it is shorter than 32 characters",
            ));
        }
        Ok(Self {
            authority,
            signer,
            feed_signer,
            session_key: hmac::Key::new(hmac::HMAC_SHA256, &session),
            webhook_secret,
            operator_token,
        })
    }

    /// SHA-256 of the authority's certificate: what enrolment tokens carry.
    pub(crate) fn pin(&self) -> Digest {
        self.authority.pin()
    }

    /// The authority's certificate, PEM.
    pub(crate) fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// A client certificate for `host` over the key of `csr`. Names in the request are ignored.
    pub(crate) fn certify(
        &self,
        csr: &str,
        host: &HostId,
        now: Timestamp,
        seconds: u64,
    ) -> Result<String, Problem> {
        self.authority.certify(csr, host, now, seconds)
    }
}

/// An Ed25519 key in a file, made where there is none.
fn signing_key(path: &Path) -> Result<Signer, Problem> {
    let bytes = read_or_make(path, || Signer::generate().map_err(|_| no_random()))?;
    Signer::from_pkcs8(&bytes)
        .map_err(|e| broken_key(path, &format!("it holds no Ed25519 key in PKCS#8 ({e})")))
}

/// How Standard Webhooks writes a secret.
const WEBHOOK_PREFIX: &str = "whsec_";

/// The bytes of a secret as it is written. The specification asks for 24 bytes at least.
fn webhook_secret(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?.trim().strip_prefix(WEBHOOK_PREFIX)?;
    BASE64.decode(text).ok().filter(|bytes| bytes.len() >= 24)
}

/// Fresh random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| no_random())?;
    Ok(bytes)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Are two secrets the same? Takes the same time wherever they differ.
pub(crate) fn same_secret(a: &[u8], b: &[u8]) -> bool {
    // Comparing digests hides the length, too.
    let (a, b) = (Digest::of(a).0, Digest::of(b).0);
    a.iter().zip(b.iter()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

fn no_random() -> Problem {
    Problem::new(
        ProblemKind::Environment,
        "no-randomness",
        "the system gives no random bytes",
        "check that getrandom(2) works: old kernels in early boot block it",
    )
}

fn broken_key(path: &Path, why: &str) -> Problem {
    Problem::new(
        ProblemKind::Environment,
        "key-unusable",
        format!("{} cannot be used: {why}", path.display()),
        "put the file back from a backup: hosts trust this very key, a new one would mean to enrol them all again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_the_same_only_when_every_byte_is() {
        assert!(same_secret(b"abc", b"abc"));
        for other in [&b"abd"[..], b"ab", b"abcd", b""] {
            assert!(!same_secret(b"abc", other));
        }
    }
}
