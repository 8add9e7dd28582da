//! What many hosts have in common, kept once.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A value that others may hold as well. It reads, compares and is written down as the value itself; whoever changes it
/// changes a copy of their own.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Do both hold the very same, and not only an equal one?
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Does anybody beside the one who asks hold it?
    pub fn is_held_elsewhere(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Where it is kept: the same for the very same, as long as somebody holds it.
    pub fn place(&self) -> *const T {
        Arc::as_ptr(&self.0)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Default> Default for Shared<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Looked up by what it reads as: it compares as the text itself.
impl Borrow<str> for Shared<String> {
    fn borrow(&self) -> &str {
        self
    }
}

impl<T> FromIterator<T> for Shared<Vec<T>> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        Vec::from_iter(all).into()
    }
}

impl<'a, T> IntoIterator for &'a Shared<Vec<T>> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_changes_a_shared_value_changes_a_copy_of_their_own() {
        let one: Shared<String> = "openssl".to_owned().into();
        let mut other = one.clone();
        assert!(one.is(&other));
        other.push_str("-3");
        assert_eq!((one.as_str(), other.as_str()), ("openssl", "openssl-3"));
        assert!(!one.is(&other) && one < other);
    }

    #[test]
    fn a_shared_value_is_written_and_read_as_the_value_itself() {
        let one: Shared<Vec<u8>> = vec![1, 2].into();
        assert_eq!(serde_json::to_string(&one).unwrap(), "[1,2]");
        assert_eq!(serde_json::from_str::<Shared<Vec<u8>>>("[1,2]").unwrap(), one);
    }
}
