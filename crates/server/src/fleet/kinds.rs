//! Kinds of hosts: those of one kind have the same labels and facts, so that a selector means all of them or none. A fleet has
//! far fewer kinds than hosts, and each is asked once.

use super::numbered::Numbered;
use fettle_core::Digest;
use fettle_core::host::Host;
use fettle_core::policy::facts;

/// The kinds of a fleet, by number: of each one host that was of it, as what holds for this one holds for all of them.
#[derive(Debug, Default)]
pub(super) struct Kinds(Numbered<Digest, Host>);

impl Kinds {
    /// The number of the host's kind, which has one host more.
    pub(super) fn take(&mut self, host: &Host) -> u32 {
        self.0.take(facts::kind(host), || host.clone())
    }

    /// A kind has one host less.
    pub(super) fn give_back(&mut self, number: u32) {
        self.0.give_back(number);
    }

    /// A host like those of each kind.
    pub(super) fn all(&self) -> impl Iterator<Item = &Host> {
        self.0.each().map(|(host, _)| host)
    }

    /// Of each kind, by number: does this hold for its hosts? It must ask for nothing but labels and facts.
    pub(super) fn hold(&self, test: impl Fn(&Host) -> bool) -> Vec<bool> {
        self.0.hold(test)
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
    fn a_selector_is_asked_of_one_host_of_each_kind_for_all_of_them() {
        let mut kinds = Kinds::default();
        let canary = kinds.take(&host("a", "canary"));
        assert_ne!(kinds.take(&host("c", "broad")), canary);
        assert_eq!(kinds.take(&host("b", "canary")), canary);
        let meant = |kinds: &Kinds, text: &str| {
            let selector = Selector::parse(text).unwrap();
            kinds.hold(|host| selector.matches(host))
        };
        assert_eq!(meant(&kinds, "ring=canary"), [true, false]);
        kinds.give_back(canary);
        assert_eq!(meant(&kinds, "ring=canary"), [true, false], "b is of it still");
        kinds.give_back(canary);
        assert_eq!(meant(&kinds, "all"), [false, true], "nobody is");
        assert_eq!(kinds.all().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["c"]);
    }
}
