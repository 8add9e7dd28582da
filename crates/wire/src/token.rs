//! Enrolment tokens: `fettle1.<secret>.<pin>`.

use fettle_core::Digest;
use std::fmt;
use std::str::FromStr;

/// A one-time token. The pin is the SHA-256 of the fleet CA's certificate (DER), so that a host can tell the
/// right server from a wrong one before it has any certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolToken {
    /// 32 lower-case hexadecimal digits (128 bits). The server keeps only its SHA-256.
    pub secret: String,
    /// Pin of the fleet's certificate authority.
    pub ca_pin: Digest,
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no enrolment token: it has the form fettle1.SECRET.PIN; make one with `fettle token create`"
)]
pub struct BadToken;

impl fmt::Display for EnrolToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fettle1.{}.{}", self.secret, self.ca_pin.hex())
    }
}
impl fmt::Debug for EnrolToken {
    /// The secret stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrolToken(pin {})", self.ca_pin.short())
    }
}
impl FromStr for EnrolToken {
    type Err = BadToken;
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let mut parts = text.trim().split('.');
        let (Some("fettle1"), Some(secret), Some(pin), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadToken);
        };
        if secret.len() != 32 || !secret.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BadToken);
        }
        Ok(Self { secret: secret.to_owned(), ca_pin: pin.parse().map_err(|_| BadToken)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_prints_and_parses_to_itself_and_hides_its_secret_in_logs() {
        let token = EnrolToken {
            secret: "0123456789abcdef0123456789abcdef".into(),
            ca_pin: Digest::of(b"ca"),
        };
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("0123456789abcdef"));
        for bad in ["", "fettle1", "fettle1.x.y", "fettle2.0123456789abcdef0123456789abcdef.aa"] {
            assert_eq!(bad.parse::<EnrolToken>(), Err(BadToken));
        }
    }
}
