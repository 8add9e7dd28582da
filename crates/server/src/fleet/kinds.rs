//! Kinds of hosts: those of one kind have the same labels and facts, so that a selector means all of them or none. A fleet has
//! far fewer kinds than hosts, and each is asked once.

use fettle_core::Digest;
use fettle_core::host::Host;
use fettle_core::policy::facts;
use std::collections::HashMap;

/// The kinds of a fleet, by number. The number of one that has no host any more is given again.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    numbers: HashMap<Digest, u32>,
    all: Vec<Kind>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Kind {
    by: Digest,
    /// One that was of it: what holds for this one holds for all of them.
    like: Host,
    hosts: u32,
}

impl Kinds {
    /// The number of the host's kind, which has one host more.
    pub(super) fn take(&mut self, host: &Host) -> u32 {
        let by = facts::kind(host);
        if let Some(&number) = self.numbers.get(&by) {
            self.all[number as usize].hosts += 1;
            return number;
        }
        let kind = Kind { by, like: host.clone(), hosts: 1 };
        let number = match self.free.pop() {
            Some(number) => {
                self.all[number as usize] = kind;
                number
            }
            None => {
                self.all.push(kind);
                // There are no more kinds than hosts, and memory ends before those do.
                u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(by, number);
        number
    }

    /// A kind has one host less.
    pub(super) fn give_back(&mut self, number: u32) {
        let Some(kind) = self.all.get_mut(number as usize) else { return };
        kind.hosts -= 1;
        if kind.hosts == 0 {
            self.numbers.remove(&kind.by);
            self.free.push(number);
        }
    }

    /// A host like those of each kind.
    pub(super) fn all(&self) -> impl Iterator<Item = &Host> {
        self.all.iter().filter(|kind| kind.hosts > 0).map(|kind| &kind.like)
    }

    /// Of each kind, by number: does this hold for its hosts? It must ask for nothing but labels and facts.
    pub(super) fn hold(&self, test: impl Fn(&Host) -> bool) -> Vec<bool> {
        self.all.iter().map(|kind| kind.hosts > 0 && test(&kind.like)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::policy::Selector;
    use fettle_core::{HostId, Timestamp};

    fn host(name: &str, ring: &str) -> Host {
        Host {
            id: HostId::new(name),
            name: name.into(),
            labels: [("ring".to_owned(), ring.to_owned())].into(),
            enrolled_at: Timestamp::UNIX_EPOCH,
            last_seen: None,
            agent_version: String::new(),
            inventory: None,
            cohort: None,
            inventory_digest: None,
            quarantined: None,
            listed: None,
        }
    }

    #[test]
    fn hosts_of_one_kind_share_a_number_until_the_last_of_them_has_left() {
        let mut kinds = Kinds::default();
        let (a, b) = (host("a", "canary"), host("b", "canary"));
        let (canary, broad) = (kinds.take(&a), kinds.take(&host("c", "broad")));
        assert_eq!(kinds.take(&b), canary);
        assert_ne!(canary, broad);
        let meant = |kinds: &Kinds, text: &str| {
            let selector = Selector::parse(text).unwrap();
            kinds.hold(|host| selector.matches(host))
        };
        assert_eq!(meant(&kinds, "ring=canary"), [true, false]);
        kinds.give_back(canary);
        assert_eq!(meant(&kinds, "ring=canary"), [true, false], "b is of it still");
        kinds.give_back(canary);
        assert_eq!(meant(&kinds, "all"), [false, true], "nobody is");
        // The place is taken by the next, and what it was before is forgotten.
        assert_eq!(kinds.take(&host("d", "early")), canary);
        assert_eq!(meant(&kinds, "ring=early"), [true, false]);
        assert_eq!(kinds.take(&a), 2);
    }
}
