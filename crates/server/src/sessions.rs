//! One identity, one machine. A machine that was copied with its identity speaks beside the other one, with the same
//! key: only that an agent which had been followed by another one speaks again tells them apart.

use fettle_core::HostId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Agents of a host that were followed by another one and are still known.
const REMEMBERED: usize = 16;
/// How often a followed one must speak again. Once may be a message that was long under way when its agent ended.
const RETURNS: u32 = 2;

/// Which agents speak with which identity, since this server started.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<HostId, Known>>);

#[derive(Debug, Default)]
struct Known {
    current: String,
    followed: VecDeque<String>,
    returns: u32,
}

impl Known {
    /// An agent spoke. Gives whether by now two machines must be speaking.
    fn heard(&mut self, session: &str) -> bool {
        if session != self.current {
            if self.followed.iter().any(|old| old == session) {
                self.returns += 1;
            } else {
                let old = std::mem::replace(&mut self.current, session.to_owned());
                if !old.is_empty() {
                    self.followed.push_back(old);
                }
                if self.followed.len() > REMEMBERED {
                    self.followed.pop_front();
                }
            }
        }
        self.is_shared()
    }

    fn is_shared(&self) -> bool {
        self.returns >= RETURNS
    }
}

impl Sessions {
    /// An agent of the host spoke, in this session. Gives whether two machines speak as this host.
    pub(crate) fn heard(&self, host: &HostId, session: &str) -> bool {
        self.known().entry(host.clone()).or_default().heard(session)
    }

    /// Do two machines speak as this host?
    pub(crate) fn is_shared(&self, host: &HostId) -> bool {
        self.known().get(host).is_some_and(Known::is_shared)
    }

    /// A person says that it is one machine again, or the host left.
    pub(crate) fn forget(&self, host: &HostId) {
        self.known().remove(host);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<HostId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_starts_anew_is_none_and_two_that_take_turns_are_two() {
        let first_shared = |sessions: &str| {
            let mut known = Known::default();
            sessions.chars().map(|c| known.heard(&c.to_string())).position(|shared| shared)
        };
        for (sessions, expected) in [
            ("aaaa", None),
            ("abcdefg", None),
            // The last word of an agent that was killed arrives late.
            ("aaabab", None),
            ("aabaab", Some(4)),
            ("abbbabbb", None),
            ("ababab", Some(4)),
            ("abcacb", Some(5)),
        ] {
            assert_eq!(first_shared(sessions), expected, "{sessions}");
        }
    }

    #[test]
    fn a_host_that_was_released_begins_anew() {
        let sessions = Sessions::default();
        let host = HostId::new("h1");
        for session in ["a", "b", "a", "b", "a"] {
            sessions.heard(&host, session);
        }
        assert!(sessions.is_shared(&host) && !sessions.is_shared(&HostId::new("h2")));
        sessions.forget(&host);
        assert!(!sessions.is_shared(&host) && !sessions.heard(&host, "b"));
    }
}
