//! A set of small numbers, 64 to a word: what is looked at for every host is looked at for 64 of them at once.

/// The set. Equal sets may differ in how many words of zeros they end with, so it is not compared.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn put(&mut self, number: usize, there: bool) {
        let (word, bit) = (number / 64, 1_u64 << (number % 64));
        if word >= self.0.len() {
            if !there {
                return;
            }
            self.0.resize(word + 1, 0);
        }
        if there {
            self.0[word] |= bit;
        } else {
            self.0[word] &= !bit;
        }
    }

    pub(super) fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// In either.
    pub(super) fn or(mut self, other: &Self) -> Self {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
        self
    }

    /// In both.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.0.truncate(other.0.len());
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= b);
        self
    }

    /// In the first and not in the second.
    pub(super) fn without(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= !b);
        self
    }

    /// Ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(place, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.checked_sub(1)?;
                Some(place * 64 + bit)
            })
        })
    }
}

impl FromIterator<usize> for Bits {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut out = Self::default();
        numbers.into_iter().for_each(|number| out.put(number, true));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn bits_are_a_set(a in prop::collection::btree_set(0usize..300, 0..80), b in prop::collection::btree_set(0usize..300, 0..80)) {
            let bits = |set: &BTreeSet<usize>| set.iter().copied().collect::<Bits>();
            let list = |bits: Bits| bits.iter().collect::<BTreeSet<_>>();
            prop_assert_eq!(list(bits(&a)), a.clone());
            prop_assert_eq!(bits(&a).len(), a.len());
            prop_assert_eq!(bits(&a).is_empty(), a.is_empty());
            prop_assert_eq!(list(bits(&a).or(&bits(&b))), &a | &b);
            prop_assert_eq!(list(bits(&a).and(&bits(&b))), &a & &b);
            prop_assert_eq!(list(bits(&a).without(&bits(&b))), &a - &b);
            prop_assert!((0..310).all(|n| bits(&a).has(n) == a.contains(&n)));
            let mut less = bits(&a);
            b.iter().for_each(|n| less.put(*n, false));
            prop_assert_eq!(list(less), &a - &b);
        }
    }
}
