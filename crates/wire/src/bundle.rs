//! What a signed bundle of feeds says of itself: a DSSE envelope with Ed25519, as for assignments, by the key of the server
//! that made it.

use crate::sign::{NotBelieved, Signature, Signer, opened};
use fettle_core::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

/// Payload type of a bundle's manifest.
pub const BUNDLE_TYPE: &str = "application/vnd.fettle.feed-bundle+json;version=1";

/// What is in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleManifest {
    /// When it was made.
    pub made_at: Timestamp,
    /// Its feeds, by name.
    pub feeds: Vec<BundledFeed>,
}

/// A feed of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledFeed {
    /// `debian-tracker`; also the name of its file in the bundle, behind `feeds/`.
    pub name: String,
    /// Of its bytes, as they were given to the server that made the bundle.
    pub sha256: Digest,
    /// How many.
    pub bytes: u64,
    /// Day the vendor gives it.
    pub date: String,
    /// Where that server had it from.
    pub origin: String,
    /// As of when it was known there to be the vendor's word.
    pub confirmed_at: Timestamp,
}

/// A DSSE envelope around a [`BundleManifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedManifest {
    /// Always [`BUNDLE_TYPE`].
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// The manifest's JSON, base64.
    pub payload: String,
    /// One signature at least.
    pub signatures: Vec<Signature>,
}

impl SignedManifest {
    /// Signs a manifest.
    pub fn seal(signer: &Signer, manifest: &BundleManifest) -> Self {
        let (payload, signatures) = signer.seal(BUNDLE_TYPE, manifest);
        Self { payload_type: BUNDLE_TYPE.to_owned(), payload, signatures }
    }

    /// Gives the manifest if a signature by `public_key` (base64) holds.
    ///
    /// # Errors
    /// [`NotBelieved`].
    pub fn open(&self, public_key: &str) -> Result<BundleManifest, NotBelieved> {
        opened(BUNDLE_TYPE, (&self.payload_type, &self.payload), &self.signatures, public_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::ASSIGNMENT_TYPE;
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

    fn signer() -> Signer {
        Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap()
    }

    #[test]
    fn a_manifest_opens_with_the_key_that_sealed_it_and_with_no_other() {
        let (mine, other) = (signer(), signer());
        let feed = BundledFeed {
            name: "kev".into(),
            sha256: Digest::of(b"x"),
            bytes: 1,
            date: "2026-11-20".into(),
            origin: "https://vendor.example/".into(),
            confirmed_at: Timestamp::UNIX_EPOCH,
        };
        let manifest = BundleManifest { made_at: Timestamp::UNIX_EPOCH, feeds: vec![feed] };
        let sealed = SignedManifest::seal(&mine, &manifest);
        assert_eq!(sealed.open(&mine.public_key()), Ok(manifest.clone()));
        assert_eq!(sealed.open(&other.public_key()), Err(NotBelieved::Signature));
        let mut changed = manifest;
        changed.made_at = Timestamp::MAX;
        let payload = BASE64.encode(serde_json::to_vec(&changed).unwrap());
        let forged = SignedManifest { payload, ..sealed.clone() };
        assert_eq!(forged.open(&mine.public_key()), Err(NotBelieved::Signature));
        let other_type = SignedManifest { payload_type: ASSIGNMENT_TYPE.into(), ..sealed.clone() };
        assert!(matches!(other_type.open(&mine.public_key()), Err(NotBelieved::Type(_))));
        let unsigned = SignedManifest { signatures: vec![], ..sealed };
        assert_eq!(unsigned.open(&mine.public_key()), Err(NotBelieved::Signature));
    }
}
