//! What an evidence pack says of itself: a DSSE envelope with Ed25519 around the list of its files, by the key of the
//! server that made it.

use crate::sign::{NotBelieved, Signature, Signer, opened};
use fettle_core::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

/// Payload type of an evidence pack's manifest.
pub const EVIDENCE_TYPE: &str = "application/vnd.fettle.evidence+json;version=1";

/// What is in an evidence pack, and where its part of the ledger stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceManifest {
    /// When it was made.
    pub made_at: Timestamp,
    /// First moment of the period.
    pub from: Timestamp,
    /// The moment after its last.
    pub to: Timestamp,
    /// The part of the ledger.
    pub ledger: LedgerPart,
    /// The public key that orders to hosts are signed with, base64.
    pub order_key: String,
    /// Its files, by name.
    pub files: Vec<EvidenceFile>,
}

/// A part of the ledger without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerPart {
    /// Index of the entry before its first; 0: it begins with the ledger.
    pub after: u64,
    /// Hash of that entry.
    pub previous: Digest,
    /// Index of its last entry.
    pub last: u64,
    /// Hash of its last entry.
    pub head: Digest,
}

/// A file of an evidence pack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EvidenceFile {
    /// Its path in the archive.
    pub name: String,
    /// Of its bytes.
    pub sha256: Digest,
    /// How many.
    pub bytes: u64,
}

/// A DSSE envelope around an [`EvidenceManifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedEvidence {
    /// Always [`EVIDENCE_TYPE`].
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// The manifest's JSON, base64.
    pub payload: String,
    /// One signature at least.
    pub signatures: Vec<Signature>,
}

impl SignedEvidence {
    /// Signs a manifest.
    pub fn seal(signer: &Signer, manifest: &EvidenceManifest) -> Self {
        let (payload, signatures) = signer.seal(EVIDENCE_TYPE, manifest);
        Self { payload_type: EVIDENCE_TYPE.to_owned(), payload, signatures }
    }

    /// Gives the manifest if a signature by `public_key` (base64) holds.
    ///
    /// # Errors
    /// [`NotBelieved`].
    pub fn open(&self, public_key: &str) -> Result<EvidenceManifest, NotBelieved> {
        opened(EVIDENCE_TYPE, (&self.payload_type, &self.payload), &self.signatures, public_key)
    }
}
