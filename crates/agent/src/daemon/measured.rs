//! Probes that are asked again and again because a gate compares what they find before and after a patch. The last
//! answers are kept, a bounded number, over restarts and reboots; they are told when the server wants them.

use crate::settings::Settings;
use crate::{durable, probe};
use fettle_core::assignment::Probe;
use fettle_wire::agent::{MOST_WATCHES, MeasuredReport, Watch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Each probe is asked so often.
const EVERY: Duration = Duration::from_secs(10);
/// The answers are written down so often.
const KEEP_EVERY: Duration = Duration::from_secs(60);
/// So many answers are kept of before the host was last changed, and of after.
const BEFORE: usize = 120;
const AFTER: usize = 240;

/// When, in milliseconds since 1970 by this host's clock, and after how many microseconds it was answered well.
type Sample = (i64, Option<u32>);

/// The answers of one probe, oldest first.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Ring {
    samples: Vec<Sample>,
}

impl Ring {
    fn push(&mut self, sample: Sample, mark: Option<i64>) {
        self.samples.push(sample);
        // Where the clock was set back, the newest is not the last.
        self.samples.sort_by_key(|(at, _)| *at);
        let split = mark.map_or(0, |mark| self.samples.partition_point(|(at, _)| *at < mark));
        let after = self.samples.split_off(split);
        let first = self.samples.len().saturating_sub(BEFORE);
        self.samples.drain(..first);
        self.samples.extend_from_slice(&after[after.len().saturating_sub(AFTER)..]);
    }
}

/// What the server wants measured, and what was: shared with the thread that asks.
#[derive(Default)]
struct Shared {
    watches: Mutex<Vec<Watch>>,
    rings: Mutex<BTreeMap<String, Ring>>,
    busy: AtomicBool,
}

/// Measures beside the agent's loop.
pub(super) struct Measured {
    settings: Settings,
    shared: Arc<Shared>,
}

impl Measured {
    pub(super) fn new(settings: &Settings) -> Self {
        let shared = Shared::default();
        // What cannot be read is measured anew.
        let kept = std::fs::read(file(settings)).ok();
        if let Some(rings) = kept.and_then(|text| serde_json::from_slice(&text).ok()) {
            *lock(&shared.rings) = rings;
        }
        Self { settings: settings.clone(), shared: Arc::new(shared) }
    }

    /// The server wants this measured and no more.
    pub(super) fn take(&self, watches: &[Watch]) {
        let watches: Vec<Watch> = watches.iter().take(MOST_WATCHES).cloned().collect();
        lock(&self.shared.rings).retain(|id, _| watches.iter().any(|watch| watch.id == *id));
        *lock(&self.shared.watches) = watches;
        self.start();
    }

    /// Starts the thread that asks, where there is something to ask and none is at it.
    fn start(&self) {
        if lock(&self.shared.watches).is_empty() || self.shared.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (settings, shared) = (self.settings.clone(), self.shared.clone());
        let work = move || {
            let _free = Free(shared.clone());
            let mut kept = Instant::now();
            while measure(&settings, &shared) {
                if kept.elapsed() >= KEEP_EVERY {
                    kept = Instant::now();
                    keep(&settings, &shared);
                }
                std::thread::sleep(EVERY);
            }
            keep(&settings, &shared);
        };
        if let Err(error) = std::thread::Builder::new().name("measured".into()).spawn(work) {
            self.shared.busy.store(false, Ordering::Release);
            eprintln!("<3>no thread to measure with, it is tried again: {error}");
        }
    }

    /// The answers that the server wants and lacks.
    pub(super) fn reports(&self) -> Vec<MeasuredReport> {
        let (watches, rings) = (lock(&self.shared.watches), lock(&self.shared.rings));
        let report = |watch: &Watch| {
            let ring = rings.get(&watch.id).filter(|_| watch.send)?;
            let lacks = |(at, _): &&Sample| watch.after.is_none_or(|after| *at > after);
            let samples: Vec<Sample> = ring.samples.iter().filter(lacks).copied().collect();
            (!samples.is_empty()).then(|| MeasuredReport { id: watch.id.clone(), samples })
        };
        watches.iter().filter_map(report).collect()
    }
}

/// This host's clock, in milliseconds since 1970.
pub(super) fn clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Ends the work whatever happens in it.
struct Free(Arc<Shared>);

impl Drop for Free {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// Asks everything once; is there anything to ask?
fn measure(settings: &Settings, shared: &Shared) -> bool {
    let watches = lock(&shared.watches).clone();
    for watch in watches.iter().filter(|watch| is_own(&watch.probe)) {
        let at = clock();
        let answer = probe::ask(&watch.probe, &settings.config_dir.join("probes.d"));
        let took = u32::try_from(answer.microseconds).unwrap_or(u32::MAX);
        let sample = (at, answer.wrong.is_none().then_some(took));
        let mark = watch.mark.map(|mark| mark.as_millisecond());
        lock(&shared.rings).entry(watch.id.clone()).or_default().push(sample, mark);
    }
    !watches.is_empty()
}

fn keep(settings: &Settings, shared: &Shared) {
    let text = serde_json::to_vec(&*lock(&shared.rings));
    let kept =
        text.map_err(std::io::Error::from).and_then(|t| durable::replace(&file(settings), &t));
    if let Err(error) = kept {
        eprintln!("<4>what was measured cannot be kept: {error}");
    }
}

fn file(settings: &Settings) -> PathBuf {
    settings.state_dir.join("measured.json")
}

/// Nobody but the host itself is asked, whatever the server says: its own programs, and addresses that it has.
fn is_own(probe: &Probe) -> bool {
    let address: Option<IpAddr> = match probe {
        Probe::Command { .. } => return true,
        Probe::Tcp { address } => address.parse::<SocketAddr>().ok().map(|a| a.ip()),
        Probe::Http { url, .. } => {
            let rest = url.strip_prefix("http://").unwrap_or_default();
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let bare = authority.trim_start_matches('[').trim_end_matches(']');
            let with_port = authority.parse::<SocketAddr>().ok().map(|a| a.ip());
            with_port.or_else(|| bare.parse().ok())
        }
    };
    // The kernel lets a socket have an address of the host and no other.
    address.is_some_and(|ip| UdpSocket::bind((ip, 0)).is_ok())
}

/// A thread that died in the middle leaves what was there: each sample is whole.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn watch(probe: Probe) -> Watch {
        Watch { id: "w".into(), probe, mark: None, send: true, after: None }
    }

    fn tcp(address: &str) -> Probe {
        Probe::Tcp { address: address.into() }
    }

    #[test]
    fn the_newest_answers_of_before_and_after_the_change_are_kept_and_no_more() {
        let mut ring = Ring::default();
        for at in 0..1000 {
            ring.push((at, Some(1)), None);
        }
        let kept = |ring: &Ring| {
            let times = || ring.samples.iter().map(|(at, _)| *at);
            (ring.samples.len(), times().min().unwrap(), times().max().unwrap())
        };
        assert_eq!(kept(&ring), (AFTER, 760, 999));
        for at in 1000..3000 {
            ring.push((at, None), Some(1000));
        }
        let usual = ring.samples.iter().filter(|(at, took)| *at < 1000 && took.is_some());
        assert_eq!(usual.count(), BEFORE, "what was usual stays however long it is watched");
        assert_eq!(kept(&ring), (BEFORE + AFTER, 880, 2999));
        // The next change: what was after the one before is before this.
        ring.push((3000, None), Some(3000));
        assert_eq!(kept(&ring), (BEFORE + 1, 2880, 3000));
        // Its clock was set back.
        ring.push((2990, None), Some(3000));
        assert!(ring.samples.is_sorted());
    }

    #[test]
    fn nobody_but_the_host_itself_is_asked() {
        for (probe, own) in [
            (tcp("127.0.0.1:22"), true),
            (tcp("[::1]:22"), UdpSocket::bind("[::1]:0").is_ok()),
            (tcp("192.0.2.7:22"), false),
            (tcp("localhost:22"), false),
            (
                Probe::Http {
                    url: "http://127.0.0.1:80/h".into(),
                    status: 200,
                    contains: String::new(),
                },
                true,
            ),
            (
                Probe::Http {
                    url: "http://127.0.0.2/h".into(),
                    status: 200,
                    contains: String::new(),
                },
                true,
            ),
            (
                Probe::Http {
                    url: "http://192.0.2.7/h".into(),
                    status: 200,
                    contains: String::new(),
                },
                false,
            ),
            (
                Probe::Http {
                    url: "http://127.0.0.1@192.0.2.7/".into(),
                    status: 200,
                    contains: String::new(),
                },
                false,
            ),
            (
                Probe::Http {
                    url: "http://metadata.internal/".into(),
                    status: 200,
                    contains: String::new(),
                },
                false,
            ),
            (Probe::Command { name: "shop".into() }, true),
        ] {
            assert_eq!(is_own(&probe), own, "{probe:?}");
        }
    }

    #[test]
    fn answers_are_told_once_good_and_bad_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { state_dir: dir.path().into(), ..Settings::default() };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let measured = Measured::new(&settings);
        *lock(&measured.shared.watches) = vec![watch(tcp(&address))];
        assert!(measure(&settings, &measured.shared));
        drop(listener);
        let first = clock();
        while clock() == first {
            std::thread::yield_now();
        }
        assert!(measure(&settings, &measured.shared));
        let told = measured.reports();
        let took: Vec<bool> = told[0].samples.iter().map(|(_, took)| took.is_some()).collect();
        assert_eq!(took, [true, false]);
        keep(&settings, &measured.shared);
        let again = Measured::new(&settings);
        let after = Some(told[0].samples[0].0);
        *lock(&again.shared.watches) = vec![Watch { after, ..watch(tcp(&address)) }];
        assert_eq!(again.reports()[0].samples, told[0].samples[1..], "what the server lacks");
        *lock(&again.shared.watches) = vec![Watch { send: false, ..watch(tcp(&address)) }];
        assert!(again.reports().is_empty(), "nobody wants it");
        again.take(&[]);
        assert!(lock(&again.shared.rings).is_empty());
    }
}
