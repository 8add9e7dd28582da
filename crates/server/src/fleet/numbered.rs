//! Numbers for what hosts share, and how many have it.

use std::collections::HashMap;
use std::hash::Hash;

/// What hosts share, each once, by number. The number of what no host has any more is given again.
#[derive(Debug)]
pub(super) struct Numbered<K, V> {
    numbers: HashMap<K, u32>,
    all: Vec<Option<One<K, V>>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct One<K, V> {
    key: K,
    value: V,
    hosts: u64,
}

impl<K, V> Default for Numbered<K, V> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), all: Vec::new(), free: Vec::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Numbered<K, V> {
    /// The number of what has this key, which has one host more; `value` has it where no host had it until now.
    pub(super) fn take(&mut self, key: K, value: impl FnOnce() -> V) -> u32 {
        if let Some(&number) = self.numbers.get(&key) {
            if let Some(one) = &mut self.all[number as usize] {
                one.hosts += 1;
            }
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            // There is no more of it than hosts, and memory ends before those do.
            u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
        });
        self.numbers.insert(key.clone(), number);
        self.all[number as usize] = Some(One { key, value: value(), hosts: 1 });
        number
    }

    /// What has this number has one host less.
    pub(super) fn give_back(&mut self, number: u32) {
        let Some(place) = self.all.get_mut(number as usize) else { return };
        let Some(one) = place else { return };
        one.hosts -= 1;
        if one.hosts == 0 {
            self.numbers.remove(&one.key);
            *place = None;
            self.free.push(number);
        }
    }

    /// What has this number.
    pub(super) fn get(&self, number: u32) -> Option<&V> {
        self.all.get(number as usize)?.as_ref().map(|one| &one.value)
    }

    /// What hosts have, and how many hosts that are.
    pub(super) fn each(&self) -> impl Iterator<Item = (&V, u64)> {
        self.all.iter().flatten().map(|one| (&one.value, one.hosts))
    }

    /// By number: does this hold for it? It holds for nothing that no host has.
    pub(super) fn hold(&self, test: impl Fn(&V) -> bool) -> Vec<bool> {
        self.all.iter().map(|one| one.as_ref().is_some_and(|one| test(&one.value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hosts_share_has_one_number_until_the_last_of_them_has_left() {
        let mut words: Numbered<&str, usize> = Numbered::default();
        let take = |words: &mut Numbered<&'static str, usize>, word: &'static str| {
            words.take(word, || word.len())
        };
        let (canary, broad) = (take(&mut words, "canary"), take(&mut words, "broad"));
        assert_eq!(take(&mut words, "canary"), canary);
        assert_ne!(canary, broad);
        let long = |words: &Numbered<&str, usize>| words.hold(|length| *length > 5);
        words.give_back(canary);
        assert_eq!(long(&words), [true, false], "one has it still");
        words.give_back(canary);
        assert_eq!(long(&words), [false, false], "nobody has");
        assert_eq!(words.each().collect::<Vec<_>>(), [(&5, 1)]);
        assert_eq!((words.get(canary), words.get(broad)), (None, Some(&5)));
        // The number is given to the next, and what it was before is forgotten.
        assert_eq!(take(&mut words, "earliest"), canary);
        assert_eq!(long(&words), [true, false]);
        assert_eq!(take(&mut words, "canary"), 2);
        words.give_back(7);
    }
}
