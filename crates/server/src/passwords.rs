//! Passwords, hashed with argon2id (RFC 9106). The parameters stand in the string that is kept, so they can be raised: who
//! logs in next is hashed anew.

use crate::trust::random;
use argon2::{
    ARGON2ID_IDENT, Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _,
    PasswordVerifier as _, Version,
};
use fettle_core::login::check_password;
use fettle_core::{Problem, ProblemKind};

/// What OWASP asks for at least: 19 MiB, two passes, one lane. It takes a server about 20 ms.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Bytes of a salt.
const SALT: usize = 16;

/// The hash of no password, with the parameters above: what is verified where there is no account, so that the answer takes
/// as long.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LW5vLXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn hasher() -> Result<Argon2<'static>, Problem> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None);
    params
        .map(|params| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
        .map_err(|e| broken(&e))
}

fn broken(why: &dyn std::fmt::Display) -> Problem {
    let hint = "this is a defect of Fettle: please report it with the server's log";
    let message = format!("a password could not be hashed: {why}");
    Problem::new(ProblemKind::Internal, "internal", message, hint)
}

/// May `name` have this password?
pub(crate) fn allowed(name: &str, password: &str) -> Result<(), Problem> {
    check_password(name, password).map_err(|why| {
        let hint = "take 12 to 256 characters without the name in them: a few words that have nothing to do with each other, or what a password manager makes";
        Problem::new(ProblemKind::BadInput, "bad-password", why, hint)
    })
}

/// Hashes a password. Takes its time: on a blocking thread only.
pub(crate) fn hash(password: &str) -> Result<String, Problem> {
    let salt = random::<SALT>()?;
    let hashed = hasher()?.hash_password_with_salt(password.as_bytes(), &salt);
    Ok(hashed.map_err(|e| broken(&e))?.to_string())
}

/// Is this the password? Takes its time, whether there is an account (`phc`) or not.
pub(crate) fn verify(phc: Option<&str>, password: &str) -> Result<bool, Problem> {
    let Ok(kept) = PasswordHash::new(phc.unwrap_or(NOBODY)) else {
        return Err(broken(&"what is kept of it cannot be read"));
    };
    let same = hasher()?.verify_password(password.as_bytes(), &kept).is_ok();
    Ok(same && phc.is_some())
}

/// Was it hashed with other parameters than are in force?
pub(crate) fn is_outdated(phc: &str) -> bool {
    let Ok(kept) = PasswordHash::new(phc) else { return true };
    let params = Params::try_from(&kept);
    kept.algorithm != ARGON2ID_IDENT
        || kept.version != Some(Version::V0x13.into())
        || params
            .map_or(true, |p| (p.m_cost(), p.t_cost(), p.p_cost()) != (MEMORY_KIB, PASSES, LANES))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "a quiet river at dawn";

    fn with(memory: u32, passes: u32) -> String {
        let params = Params::new(memory, passes, 1, None).unwrap();
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        hasher.hash_password_with_salt(OLD.as_bytes(), &[7; 16]).unwrap().to_string()
    }

    #[test]
    fn a_password_is_verified_by_what_is_kept_of_it_and_two_of_the_same_are_kept_differently() {
        let (one, two) = (hash(OLD).unwrap(), hash(OLD).unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert!(one != two && !one.contains("river"));
        assert!(verify(Some(&one), OLD).unwrap() && verify(Some(&two), OLD).unwrap());
        for wrong in
            ["a quiet river at dusk", "", "A quiet river at dawn", "a quiet river at dawn "]
        {
            assert!(!verify(Some(&one), wrong).unwrap(), "{wrong}");
        }
        assert!(verify(Some("no such thing"), OLD).is_err());
    }

    #[test]
    fn nobody_has_the_same_parameters_as_everybody_and_no_password() {
        assert!(!is_outdated(NOBODY), "else an unknown name would be told by the time it takes");
        assert!(!verify(None, OLD).unwrap() && !verify(None, "").unwrap());
    }

    #[test]
    fn other_parameters_verify_and_are_outdated() {
        assert!(!is_outdated(&hash(OLD).unwrap()));
        for phc in [with(8 * 1024, 2), with(MEMORY_KIB, 3)] {
            assert!(verify(Some(&phc), OLD).unwrap() && is_outdated(&phc), "{phc}");
        }
        assert!(is_outdated("nonsense"));
    }
}
