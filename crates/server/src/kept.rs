//! What takes long to find out and many ask for: found out by one for all who ask at the same time, and anew when anything has
//! happened.

use fettle_core::Problem;
use fettle_store::{View, ledger};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was found out of each, and kept. It counts for whoever sees a ledger no longer than it was then (what is newer than what
/// they see serves them too), and for a while: the clock goes on also where nothing happens.
pub(crate) struct Kept<K, V> {
    places: Mutex<BTreeMap<K, Place<V>>>,
    most: usize,
    lasts: Duration,
    /// What took [`COSTLY`] stands for so many times as long.
    stands: u32,
}

/// What is found out in less is found out anew whenever anything has happened.
const COSTLY: Duration = Duration::from_secs(1);

/// Held by whoever finds out: all others who ask for the same wait for it.
type Place<V> = Arc<Mutex<Option<Found<V>>>>;

struct Found<V> {
    /// Length of the ledger then: whatever happens is an entry.
    ledger: u64,
    at: Instant,
    took: Duration,
    value: Arc<V>,
}

impl<K: Ord + Clone, V> Kept<K, V> {
    /// Keeps at most so many, each for so long.
    pub(crate) fn new(most: usize, lasts: Duration) -> Self {
        Self { places: Mutex::default(), most, lasts, stands: 0 }
    }

    /// The same, where what took long to find out stands for so many times as long, whatever happens meanwhile: in a large
    /// fleet something always does, and finding out would never end.
    pub(crate) fn standing(self, times: u32) -> Self {
        Self { stands: times, ..self }
    }

    /// What there is to know of `key`, as the view has it.
    pub(crate) fn look(
        &self,
        view: &View<'_>,
        key: &K,
        find_out: impl FnOnce() -> Result<V, Problem>,
    ) -> Result<Arc<V>, Problem> {
        let ledger = ledger::len(view)?;
        let place = self.place(key);
        let mut found = place.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = |it: &Found<V>| it.took >= COSTLY && it.at.elapsed() < it.took * self.stands;
        let counts =
            |it: &&Found<V>| it.at.elapsed() < self.lasts && (it.ledger >= ledger || stands(it));
        if let Some(it) = found.as_ref().filter(counts) {
            return Ok(it.value.clone());
        }
        // From before it is found out: nobody is told what is older than that.
        let at = Instant::now();
        let value = Arc::new(find_out()?);
        *found = Some(Found { ledger, at, took: at.elapsed(), value: value.clone() });
        Ok(value)
    }

    fn place(&self, key: &K) -> Place<V> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if !places.contains_key(key) && places.len() >= self.most {
            // Whoever waits for one of these has it in hand.
            places.clear();
        }
        places.entry(key.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::Timestamp;
    use fettle_store::Store;
    use std::cell::Cell;

    #[test]
    fn it_is_found_out_once_until_something_happens_or_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("fettle.db")).unwrap();
        let times = Cell::new(0);
        let look = |kept: &Kept<u8, u32>, key: u8| {
            let find_out = || {
                times.set(times.get() + 1);
                Ok(times.get())
            };
            let found = store.read::<_, Problem>(|view| kept.look(view, &key, find_out));
            *found.unwrap()
        };
        let kept = Kept::new(2, Duration::from_secs(600));
        assert_eq!([look(&kept, 1), look(&kept, 1), look(&kept, 2), look(&kept, 1)], [1, 1, 2, 1]);
        let happens = || {
            store.write::<_, Problem>("test", Timestamp::UNIX_EPOCH, |tx| {
                tx.record("something.happened", "here", serde_json::json!({}));
                Ok(())
            })
        };
        happens().unwrap();
        assert_eq!([look(&kept, 1), look(&kept, 1)], [3, 3]);
        // One more than are kept: the others are found out again.
        assert_eq!([look(&kept, 3), look(&kept, 1)], [4, 5]);
        let of_the_moment = Kept::new(2, Duration::ZERO);
        assert_eq!([look(&of_the_moment, 1), look(&of_the_moment, 1)], [6, 7]);
        // What took long stands for a while all the same.
        let long = Kept::new(2, Duration::from_secs(600)).standing(100);
        let slowly = || {
            std::thread::sleep(COSTLY);
            Ok(7)
        };
        let first = store.read::<_, Problem>(|view| long.look(view, &1, slowly));
        happens().unwrap();
        let again = store.read::<_, Problem>(|view| long.look(view, &1, || Ok(8)));
        assert_eq!((*first.unwrap(), *again.unwrap()), (7, 7));
        // What was not found out is asked for again.
        let missing = || Problem::new(fettle_core::ProblemKind::NotFound, "not-found", "no", "no");
        let failed = store.read::<_, Problem>(|view| kept.look(view, &9, || Err(missing())));
        assert!(failed.is_err());
        assert_eq!(look(&kept, 9), 8);
    }
}
