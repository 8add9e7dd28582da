//! Hosts that join, leave, come back; and a vendor that has news.

use super::{Happening, World};
use crate::agent::Agent;
use crate::packages::Installed;
use crate::policies;
use crate::server::HostRow;
use crate::upstream::Feed;
use fettle_core::HostId;
use fettle_core::transaction::Next;

impl World {
    /// A new machine.
    pub(super) fn enrol(&mut self) {
        let image = self.random.pick(&self.images).copied();
        if let Some(image) = image {
            self.enrol_with(image.role, image.installed);
        }
    }

    /// A machine gets an id of its own, whatever it was called before.
    fn enrol_with(&mut self, role: &str, installed: Installed) -> HostId {
        let id = HostId(format!("h{}", self.enrolled));
        let labels = policies::labels(&mut self.random, self.enrolled, role);
        self.enrolled += 1;
        let mut agent = Agent::new(id.clone(), installed);
        agent.lags = self.random.permille(150);
        if self.random.permille(100) {
            agent.held = 1 << self.random.between(0, 6);
        }
        let row = HostRow {
            labels,
            enrolled_at: self.now,
            last_seen: None,
            holding: None,
            inventory: None,
            cohort: None,
            generation: 0,
            quarantined: false,
            unwell: false,
        };
        self.store.hosts.insert(id.clone(), row);
        self.agents.insert(id.clone(), agent);
        let first = self.random.between(0, 120);
        self.due(first, Happening::CheckIn { host: id.clone() });
        id
    }

    /// A host joins: new, or one that had left.
    pub(super) fn join(&mut self) -> bool {
        let gone = |(id, agent): (&HostId, &Agent)| {
            let is_gone = !self.store.hosts.contains_key(id) && agent.next() == Next::Nothing;
            is_gone.then(|| (id.clone(), agent.installed, agent.share))
        };
        match self.agents.iter().find_map(gone) {
            Some((old, installed, share)) if self.random.permille(700) => {
                // It is enrolled anew: another id, and a ledger of its own.
                self.agents.remove(&old);
                let id = self.enrol_with("web", installed);
                if let Some(agent) = self.agents.get_mut(&id) {
                    agent.share = share;
                }
                self.tell(|_| format!("{old} comes back as {id}"));
                self.checker.sometimes("host came back");
            }
            _ if self.random.permille(300) => {
                // The disk of a host is copied, and enrols under a name of its own.
                let Some(like) = self.some_host() else { return false };
                let Some(agent) = self.agents.get(&like) else { return false };
                let (installed, held) = (agent.installed, agent.held);
                let id = self.enrol_with("web", installed);
                if let Some(agent) = self.agents.get_mut(&id) {
                    agent.held = held;
                }
                self.tell(|_| format!("{id} is a clone of {like}"));
                self.checker.sometimes("host cloned");
            }
            _ => {
                self.enrol();
                self.tell(|w| format!("h{} joins", w.enrolled - 1));
                self.checker.sometimes("host joined");
            }
        }
        true
    }

    /// The vendor has news; mostly the server reads them soon, and sometimes its feed is broken.
    pub(super) fn news(&mut self) {
        let what = self.upstream.news(&mut self.random);
        self.tell(|w| format!("{what}: {:?}", w.upstream.newest));
        if self.random.permille(150) {
            self.tell(|_| "the feed cannot be read: the last good one stays".to_owned());
            self.checker.sometimes("feed refused");
            return;
        }
        self.store.import(Feed::of(&self.upstream.words));
        self.checker.sometimes("feed changed");
        // Somebody reads the news as well.
        let names: Vec<String> =
            self.store.laws.iter().map(|law| law.policy.name.clone()).collect();
        for policy in names {
            if self.random.permille(600) {
                let later = self.random.between(300, 5400);
                self.due(later, Happening::MakePlan { policy });
            }
        }
    }
}
