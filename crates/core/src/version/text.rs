//! What a parsed version of every scheme is and does, said once.

/// At most the first 100 characters of a version, for an error.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Without the white space around it.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace())
}

/// The functions every scheme offers, and its parsed `Version`. The scheme has a `Parts` with `strict`, `lenient`,
/// `cmp` and `key`, and a `BadVersion`.
macro_rules! scheme {
    ($(#[$about:meta])*) => {
        /// Compares two well-formed versions.
        ///
        /// # Errors
        /// [`BadVersion`] of the first of the two that is not well-formed.
        pub fn compare(a: &str, b: &str) -> Result<std::cmp::Ordering, BadVersion> {
            Ok(Parts::strict(a)?.cmp(&Parts::strict(b)?))
        }

        /// Compares any two texts by the same rules: equal to [`compare`] where both are well-formed, and a total
        /// order for all others.
        pub fn compare_lenient(a: &str, b: &str) -> std::cmp::Ordering {
            Parts::lenient(a).cmp(&Parts::lenient(b))
        }

        $(#[$about])*
        #[derive(Clone)]
        pub struct Version {
            text: String,
        }

        impl Version {
            /// Parses a well-formed version (white space around it is dropped).
            ///
            /// # Errors
            /// [`BadVersion`] names the rule that is broken.
            pub fn parse(text: &str) -> Result<Self, BadVersion> {
                Parts::strict(text)?;
                Ok(Self { text: crate::version::text::trimmed(text).to_owned() })
            }

            /// The text as written.
            pub fn as_str(&self) -> &str {
                &self.text
            }

            /// A byte string whose plain comparison is the version order. See [`key_lenient`].
            pub fn key(&self) -> Vec<u8> {
                self.parts().key()
            }

            fn parts(&self) -> Parts<'_> {
                Parts::lenient(&self.text)
            }
        }

        impl Ord for Version {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.parts().cmp(&other.parts())
            }
        }
        impl PartialOrd for Version {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl PartialEq for Version {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other).is_eq()
            }
        }
        impl Eq for Version {}
        impl std::hash::Hash for Version {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                std::hash::Hash::hash(&self.key(), state);
            }
        }
        impl std::str::FromStr for Version {
            type Err = BadVersion;
            fn from_str(text: &str) -> Result<Self, BadVersion> {
                Self::parse(text)
            }
        }
        impl std::fmt::Display for Version {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.text)
            }
        }
        impl std::fmt::Debug for Version {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "Version({})", self.text)
            }
        }
        impl serde::Serialize for Version {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.text)
            }
        }
        impl<'de> serde::Deserialize<'de> for Version {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(d)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(super) use scheme;

/// Splits as rpm's and libalpm's `parseEVR` do: digits (or nothing) before the first colon are the epoch, what follows
/// the last hyphen is the release.
pub(super) fn epoch_version_release(text: &str) -> (&str, &str, Option<&str>) {
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|b| b.is_ascii_digit()) => (epoch, rest),
        _ => ("", text),
    };
    match rest.rsplit_once('-') {
        Some((version, release)) => (epoch, version, Some(release)),
        None => (epoch, rest, None),
    }
}
