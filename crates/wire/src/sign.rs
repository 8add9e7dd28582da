//! Signed assignments: a DSSE envelope (Dead Simple Signing Envelope, v1.0.0) with Ed25519 (RFC 8032).
//!
//! The signature covers the payload's very bytes and its type, so nothing has to be re-serialised to verify it.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use fettle_core::Digest;
use fettle_core::assignment::Assignment;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// Payload type of an assignment.
pub const ASSIGNMENT_TYPE: &str = "application/vnd.fettle.assignment+json;version=1";

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// A DSSE envelope around an [`Assignment`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAssignment {
    /// Always [`ASSIGNMENT_TYPE`].
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// The assignment's JSON, base64.
    pub payload: String,
    /// One signature at least.
    pub signatures: Vec<Signature>,
}

/// A signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Base64 of the public key that made it: a hint, never trusted.
    pub keyid: String,
    /// Base64 of the 64 bytes.
    pub sig: String,
}

/// Why an envelope is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// Another payload type.
    #[error("the envelope holds `{0}`, which is not what is read here: upgrade the older side")]
    Type(String),
    /// Not base64.
    #[error("the envelope's {0} is not base64")]
    Encoding(&'static str),
    /// No signature by the key that is trusted.
    #[error("no valid signature by the key that is trusted here")]
    Signature,
    /// The signed bytes are not what their type says.
    #[error("the signed payload is not what its type says: {0}")]
    Payload(String),
}

/// Signs assignments.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// A new key, as PKCS#8 (DER) to be kept.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Vec<u8>, ring::error::Unspecified> {
        Ok(Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new())?.as_ref().to_vec())
    }
    /// From what [`Signer::generate`] gave.
    ///
    /// # Errors
    /// When the bytes are no Ed25519 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, ring::error::KeyRejected> {
        Ed25519KeyPair::from_pkcs8(der).map(Self)
    }
    /// The same as text, to be kept in a file: PEM (RFC 7468) around PKCS#8.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate_pem() -> Result<String, ring::error::Unspecified> {
        let text = BASE64.encode(Self::generate()?);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|l| str::from_utf8(l).ok()).collect();
        Ok(format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", lines.join("\n")))
    }
    /// From what [`Signer::generate_pem`] gave. `None`: that is no such key.
    pub fn from_pem(text: &str) -> Option<Self> {
        let inner = text.trim().strip_prefix(PEM_BEGIN)?.strip_suffix(PEM_END)?;
        let inner: String = inner.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        Self::from_pkcs8(&BASE64.decode(inner).ok()?).ok()
    }
    /// The public key, base64.
    pub fn public_key(&self) -> String {
        BASE64.encode(self.0.public_key().as_ref())
    }
    /// Signs an assignment.
    pub fn sign(&self, assignment: &Assignment) -> SignedAssignment {
        let (payload, signatures) = self.seal(ASSIGNMENT_TYPE, assignment);
        SignedAssignment { payload_type: ASSIGNMENT_TYPE.to_owned(), payload, signatures }
    }
    /// What an envelope of that type holds: the value's JSON in base64, and the signature over it and its type.
    pub(crate) fn seal(
        &self,
        payload_type: &str,
        value: &impl Serialize,
    ) -> (String, Vec<Signature>) {
        let payload = bytes_of(value);
        let sig = self.0.sign(&pre_authentication_encoding(payload_type, &payload));
        let signature = Signature { keyid: self.public_key(), sig: BASE64.encode(sig.as_ref()) };
        (BASE64.encode(&payload), vec![signature])
    }
}

fn bytes_of(value: &impl Serialize) -> Vec<u8> {
    // Invariant: what is signed has no map with keys that are not text, so it serialises.
    #[allow(clippy::expect_used)]
    serde_json::to_vec(value).expect("what is signed serialises to JSON")
}

/// The value as the payload of an envelope.
pub(crate) fn encoded(value: &impl Serialize) -> String {
    BASE64.encode(bytes_of(value))
}

impl SignedAssignment {
    /// The digest of its order, over the very bytes that were sent. Says nothing about who signed them.
    ///
    /// # Errors
    /// [`NotBelieved`] where the payload is no assignment.
    pub fn order_digest(&self) -> Result<Digest, NotBelieved> {
        #[derive(Deserialize)]
        struct Part<'a> {
            #[serde(borrow)]
            order: &'a RawValue,
        }
        let payload = BASE64.decode(&self.payload).map_err(|_| NotBelieved::Encoding("payload"))?;
        let part: Part<'_> =
            serde_json::from_slice(&payload).map_err(|e| NotBelieved::Payload(e.to_string()))?;
        Ok(Digest::of(part.order.get().as_bytes()))
    }
    /// Gives the assignment if a signature by `public_key` (base64) holds. Nothing else about the assignment
    /// is checked here: host, generation, window and expiry are the agent's to judge.
    ///
    /// # Errors
    /// [`NotBelieved`].
    pub fn open(&self, public_key: &str) -> Result<Assignment, NotBelieved> {
        opened(ASSIGNMENT_TYPE, (&self.payload_type, &self.payload), &self.signatures, public_key)
    }
}

/// The value in an envelope, type and payload, if it is of the type that is expected and a signature by `public_key`
/// (base64) holds.
pub(crate) fn opened<T: DeserializeOwned>(
    expected: &str,
    (payload_type, payload): (&str, &str),
    signatures: &[Signature],
    public_key: &str,
) -> Result<T, NotBelieved> {
    if payload_type != expected {
        return Err(NotBelieved::Type(payload_type.chars().take(100).collect()));
    }
    let payload = BASE64.decode(payload).map_err(|_| NotBelieved::Encoding("payload"))?;
    let key = BASE64.decode(public_key).map_err(|_| NotBelieved::Encoding("key"))?;
    let message = pre_authentication_encoding(expected, &payload);
    if !holds(signatures, &message, &key) {
        return Err(NotBelieved::Signature);
    }
    serde_json::from_slice(&payload).map_err(|e| NotBelieved::Payload(e.to_string()))
}

/// The value in an envelope, and by which of the `keys` (base64) a signature of it holds.
pub(crate) fn opened_by<'k, T: DeserializeOwned>(
    expected: &str,
    (payload_type, payload): (&str, &str),
    signatures: &[Signature],
    keys: impl Iterator<Item = &'k str>,
) -> Result<(T, BTreeSet<&'k str>), NotBelieved> {
    if payload_type != expected {
        return Err(NotBelieved::Type(payload_type.chars().take(100).collect()));
    }
    let payload = BASE64.decode(payload).map_err(|_| NotBelieved::Encoding("payload"))?;
    let message = pre_authentication_encoding(expected, &payload);
    let by = |key: &&str| BASE64.decode(key).is_ok_and(|key| holds(signatures, &message, &key));
    let by = keys.filter(by).collect();
    let value =
        serde_json::from_slice(&payload).map_err(|e| NotBelieved::Payload(e.to_string()))?;
    Ok((value, by))
}

/// Does one of the signatures hold, by this key?
fn holds(signatures: &[Signature], message: &[u8], key: &[u8]) -> bool {
    let key = UnparsedPublicKey::new(&ED25519, key);
    let one =
        |s: &Signature| BASE64.decode(&s.sig).is_ok_and(|sig| key.verify(message, &sig).is_ok());
    signatures.iter().any(one)
}

/// DSSE v1.0.0, "PAE": `DSSEv1 LEN(type) type LEN(body) body`, lengths in decimal bytes.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pre_authentication_encoding_is_that_of_the_specification() {
        // The example of the DSSE v1.0.0 protocol document.
        assert_eq!(
            pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }
}
