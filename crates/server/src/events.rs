//! News for whoever watches: which host or rollout changed. Only that it did; what it is now, they ask.

use fettle_core::Timestamp;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::broadcast;

/// Kept for those who come back after a broken connection.
const KEPT: usize = 512;

/// What news are about. Pages listen for each of them by name.
pub(crate) const KINDS: [&str; 11] = [
    "host",
    "rollout",
    "policy",
    "plan",
    "feed",
    "cycle",
    "emergency",
    "operator",
    "recall",
    "report",
    "delivery",
];

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct News {
    /// Grows, also over restarts of the server.
    pub(crate) id: u64,
    /// One of [`KINDS`].
    pub(crate) kind: &'static str,
    /// Its id or name.
    pub(crate) subject: String,
}

/// Hands news to all who listen.
pub(crate) struct Hub {
    sender: broadcast::Sender<News>,
    kept: Mutex<(u64, VecDeque<News>)>,
}

impl Hub {
    pub(crate) fn new(now: Timestamp) -> Self {
        let first = now.as_microsecond().max(0) as u64;
        Self { sender: broadcast::Sender::new(KEPT), kept: Mutex::new((first, VecDeque::new())) }
    }

    pub(crate) fn tell(&self, kind: &'static str, subject: &str) {
        debug_assert!(KINDS.contains(&kind), "no page listens for news of `{kind}`");
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0 += 1;
        let news = News { id: kept.0, kind, subject: subject.to_owned() };
        kept.1.push_back(news.clone());
        if kept.1.len() > KEPT {
            kept.1.pop_front();
        }
        // Nobody listens: fine.
        let _ = self.sender.send(news);
    }

    /// The last piece of news that was told.
    pub(crate) fn last(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// What was missed since `last`, and everything from now on. `None`: too much was missed, look at everything.
    pub(crate) fn listen(
        &self,
        last: Option<u64>,
    ) -> (Option<Vec<News>>, broadcast::Receiver<News>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.sender.subscribe();
        let missed = match last {
            None => Some(Vec::new()),
            Some(last) if last >= kept.0 => Some(Vec::new()),
            Some(last) if kept.1.front().is_some_and(|oldest| oldest.id <= last + 1) => {
                Some(kept.1.iter().filter(|n| n.id > last).cloned().collect())
            }
            Some(_) => None,
        };
        (missed, receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_listen_for_each_kind_of_news_and_the_api_names_each() {
        let script = include_str!("web/assets/live.js");
        let listed =
            script.split("for (const kind of [").nth(1).unwrap().split(']').next().unwrap();
        let listens: Vec<&str> = listed.split(", ").map(|word| word.trim_matches('"')).collect();
        let api = include_str!("api/events.rs");
        assert!(listens.contains(&"reset"), "{listens:?}");
        for kind in KINDS {
            assert!(listens.contains(&kind), "{kind}: {listens:?}");
            assert!(api.contains(&format!("`{kind}`")), "{kind}");
        }
    }

    #[test]
    fn who_comes_back_gets_what_was_missed_or_is_told_that_it_is_too_much() {
        let hub = Hub::new(Timestamp::from_microsecond(100).unwrap());
        for n in 0..3 {
            hub.tell("host", &n.to_string());
        }
        let ids = |last| hub.listen(last).0.map(|m| m.iter().map(|n| n.id).collect::<Vec<_>>());
        assert_eq!(ids(None), Some(vec![]));
        assert_eq!(ids(Some(101)), Some(vec![102, 103]));
        assert_eq!(ids(Some(103)), Some(vec![]));
        assert_eq!(ids(Some(50)), None);
        for n in 0..KEPT {
            hub.tell("host", &n.to_string());
        }
        assert_eq!(ids(Some(101)), None);
    }
}
