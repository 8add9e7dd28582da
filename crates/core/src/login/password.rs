//! What a password has to be. Length is what counts; beyond it only what everybody tries first is refused. Characters are
//! taken as they are given: nothing is normalised, so `é` typed as one character and as two are two passwords.

/// So many characters (code points) at least.
pub const PASSWORD_SHORTEST: usize = 12;
/// So many at most: what is hashed has an end.
pub const PASSWORD_LONGEST: usize = 256;

/// Names shorter than this may be part of a password.
const NAME: usize = 3;
/// Fewer different characters than this are one key held down, or two in turn.
const DIFFERENT: usize = 4;

/// Passwords of at least twelve characters that stand high in published lists of leaked ones, in lower case.
#[rustfmt::skip] // one on each line would be pages
const COMMON: &[&str] = &[
    "0123456789ab", "0987654321qwerty", "112233445566", "11223344556677", "1234567812345678",
    "123456789012", "1234567890123", "12345678901234", "123456789012345", "1234567890123456",
    "12345678901234567890", "1234567890abc", "1234567890qwerty", "1234567891011", "123456789123",
    "123456789123456789", "123456789abc", "123456789qwe", "123456qwerty", "123qweasdzxc",
    "12qwaszx12qwaszx", "147258369147", "147852369147852", "159753159753", "1q2w3e4r5t6y",
    "1q2w3e4r5t6y7u", "1q2w3e4r5t6y7u8i", "1q2w3e4r5t6y7u8i9o0p", "1qaz2wsx3edc",
    "1qaz2wsx3edc4rfv", "1qazxsw23edc", "741852963741", "789456123789", "9876543210123",
    "987654321987", "a1b2c3d4e5f6", "a1s2d3f4g5h6", "aa123456789aa", "abc123456789", "abc123abc123",
    "abcd12345678", "abcd1234abcd", "abcdefghijkl", "abcdefghijklm", "abcdefghijklmnop",
    "abcdefghijklmnopqrstuvwxyz", "admin1234567", "admin12345678", "admin123456789",
    "adminadminadmin", "administrador", "administrator", "administrator1", "administrator123",
    "asdfasdfasdf", "asdfghjkl123", "asdfghjklzxcvbnm", "azertyuiop123", "azertyuiopqsdfghjklm",
    "bismillah123", "changeme1234", "changeme12345", "changemenow1", "changemeplease",
    "chocolate123", "computer1234", "correct horse battery staple", "correcthorsebatterystaple",
    "deadbeefdeadbeef", "defaultpassword", "dragon123456", "fettlefettle", "football1234",
    "fuckyou12345", "gfhjkm123456", "iloveyou1234", "iloveyou12345", "iloveyouforever",
    "iloveyousomuch", "internet1234", "letmein12345", "letmein123456", "letmeinplease",
    "liverpool123", "lovelovelove", "loveloveloveloveme", "manchesterunited", "michael12345",
    "monkey123456", "mypassword12", "mypassword123", "mypassword1234", "newpassword1",
    "newpassword123", "nopassword123", "p4ssw0rd1234", "p@ssw0rd1234", "p@ssw0rd12345",
    "p@ssw0rd123456", "p@ssword1234", "pa$$word1234", "pass1234pass", "passphrase123",
    "passw0rd1234", "passw0rd12345", "passwd123456", "password0000", "password1111", "password1212",
    "password1234", "password12345", "password123456", "password1234567", "password12345678",
    "password123456789", "password1234567890", "password2020", "password2021", "password2022",
    "password2023", "password2024", "password2025", "password2026", "password2027", "password@123",
    "passwordpassword", "passwordpassword1", "princess1234", "q1w2e3r4t5y6", "q1w2e3r4t5y6u7i8o9p0",
    "qazwsx123456", "qazwsxedc123", "qazwsxedcrfv", "qazwsxedcrfvtgb", "qwe123qwe123",
    "qweasdzxc123", "qwer12345678", "qwer1234qwer", "qwert1234567", "qwerty123456", "qwerty1234567",
    "qwerty12345678", "qwerty123456789", "qwertyqwerty", "qwertyuiop12", "qwertyuiop123",
    "qwertyuiop1234567890", "qwertyuiop[]", "qwertyuiopas", "qwertyuiopasdf", "qwertyuiopasdfghjkl",
    "qwertyuiopasdfghjklzxcvbnm", "root12345678", "samsung12345", "secret123456", "secretpassword",
    "spiderman123", "starwars1234", "summer2024!!", "summer2025!!", "sunshine1234", "superman1234",
    "supersecret1", "temppassword", "temppassword1", "test12345678", "testpassword",
    "testpassword1", "thisismypassword", "trustno1trustno1", "unbelievable", "unknown12345",
    "welcome12345", "welcome123456", "welcome2024!", "welcome2025!", "winter2024!!", "winter2025!!",
    "yourpassword", "zaq12wsxcde3", "zaq1xsw2cde3", "zxcvbnm12345", "zxcvbnm123456",
    "zxcvbnmasdfghjkl", "zxcvbnmasdfghjklqwertyuiop",
];

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPassword {
    /// Fewer characters than [`PASSWORD_SHORTEST`].
    #[error("the password has {0} characters, and needs at least {PASSWORD_SHORTEST}")]
    Short(usize),
    /// More characters than [`PASSWORD_LONGEST`].
    #[error("the password has more than {PASSWORD_LONGEST} characters")]
    Long,
    /// The name, or the part of it before an `@`, is in it.
    #[error("the password holds the name")]
    HoldsName,
    /// Everybody tries it first.
    #[error("the password is one of those that are tried first")]
    Common,
}

/// May `name` have this password?
///
/// # Errors
/// [`BadPassword`] says why not, and never what it is.
pub fn check_password(name: &str, password: &str) -> Result<(), BadPassword> {
    let length = password.chars().take(PASSWORD_LONGEST + 1).count();
    if length < PASSWORD_SHORTEST {
        return Err(BadPassword::Short(length));
    }
    if length > PASSWORD_LONGEST {
        return Err(BadPassword::Long);
    }
    let (name, lower) = (name.to_lowercase(), password.to_lowercase());
    let person = name.split('@').next().unwrap_or_default();
    if person.chars().count() >= NAME && lower.contains(person) {
        return Err(BadPassword::HoldsName);
    }
    let different: std::collections::BTreeSet<char> = lower.chars().collect();
    if different.len() < DIFFERENT || COMMON.contains(&lower.as_str()) {
        return Err(BadPassword::Common);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_long_enough_not_the_name_and_not_what_everybody_tries() {
        for (name, password, expected) in [
            ("alice", "a quiet river at dawn", Ok(())),
            ("alice", "éééèèèàààùùù", Ok(())),
            ("alice", "eleven char", Err(BadPassword::Short(11))),
            ("alice", "éééèèèàààùù", Err(BadPassword::Short(11))),
            ("alice", "", Err(BadPassword::Short(0))),
            ("alice", "my name is Alice!", Err(BadPassword::HoldsName)),
            ("alice@example.net", "my name is ALICE!", Err(BadPassword::HoldsName)),
            // Of a name of two letters nearly every sentence has some.
            ("al", "also all is well there", Ok(())),
            ("alice", "Password1234", Err(BadPassword::Common)),
            ("alice", "qwertyuiop123", Err(BadPassword::Common)),
            ("alice", "abababababab", Err(BadPassword::Common)),
            ("alice", "aaaaaaaaaaaaaaaaaaa", Err(BadPassword::Common)),
        ] {
            assert_eq!(check_password(name, password), expected, "{password}");
        }
        assert_eq!(check_password("x", &"éabc".repeat(64)), Ok(()));
        assert_eq!(check_password("x", &format!("{}d", "éabc".repeat(64))), Err(BadPassword::Long));
    }

    #[test]
    fn the_list_holds_only_what_would_pass_otherwise() {
        for word in COMMON {
            assert_eq!(*word, word.to_lowercase(), "it is compared in lower case");
            let different: std::collections::BTreeSet<char> = word.chars().collect();
            assert!(
                word.chars().count() >= PASSWORD_SHORTEST && different.len() >= DIFFERENT,
                "{word}"
            );
            assert_eq!(check_password("x", word), Err(BadPassword::Common));
        }
        assert!(COMMON.is_sorted_by(|a, b| a < b) && COMMON.len() > 100);
    }
}
