//! Probes that are asked again and again because a gate compares what they find before and after a patch. The last
//! answers are kept, a bounded number, over restarts and reboots; they are told when the server wants them.

use crate::settings::Settings;
use crate::{durable, probe};
use fettle_core::assignment::Probe;
use fettle_wire::agent::{MOST_WATCHES, MeasuredReport, Watch};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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

/// Its number; when, in milliseconds since 1970 by this host's clock; after how many microseconds it was answered well.
type Sample = (u64, i64, Option<u32>);

/// The answers of one probe, in the order in which they came: the clock may be set back between two of them.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Ring {
    /// The number of the next.
    next: u64,
    samples: Vec<Sample>,
}

impl Ring {
    fn push(&mut self, at: i64, took: Option<u32>, mark: Option<i64>) {
        self.samples.push((self.next, at, took));
        self.next += 1;
        let is_before = |(_, at, _): &Sample| mark.is_some_and(|mark| *at < mark);
        let before = self.samples.iter().filter(|sample| is_before(sample)).count();
        let mut spare_before = before.saturating_sub(BEFORE);
        let mut spare_after = (self.samples.len() - before).saturating_sub(AFTER);
        self.samples.retain(|sample| {
            let spare = if is_before(sample) { &mut spare_before } else { &mut spare_after };
            let stays = *spare == 0;
            *spare = spare.saturating_sub(1);
            stays
        });
    }

    /// What came after the sample with that number; all, where the numbers have begun anew since.
    fn since(&self, after: Option<u64>) -> Vec<Sample> {
        let after = after.filter(|after| *after < self.next);
        let lacks = |(number, ..): &&Sample| after.is_none_or(|after| *number > after);
        self.samples.iter().filter(lacks).copied().collect()
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

    /// Is something being measured?
    pub(super) fn is_busy(&self) -> bool {
        self.shared.busy.load(Ordering::Acquire)
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
            let samples = ring.since(watch.after);
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
    let (addresses, programs) = (Addresses::now(), settings.config_dir.join("probes.d"));
    for watch in &watches {
        let Some(own) = Own::of(&watch.probe, &addresses) else { continue };
        let at = clock();
        let answer = match own {
            Own::Program => probe::ask(&watch.probe, &programs),
            Own::Address(address) => probe::ask_at(&watch.probe, address, &programs),
        };
        let took = u32::try_from(answer.microseconds).unwrap_or(u32::MAX);
        let took = answer.wrong.is_none().then_some(took);
        let mark = watch.mark.map(|mark| mark.as_millisecond());
        lock(&shared.rings).entry(watch.id.clone()).or_default().push(at, took, mark);
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

/// What may be asked, whatever the server says: the host itself and nobody else.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Own {
    /// A program of the host's own list.
    Program,
    /// An address that the host has.
    Address(SocketAddr),
}

impl Own {
    /// `None`: it would be asked of somebody else, or it is not plain of whom.
    fn of(probe: &Probe, addresses: &Addresses) -> Option<Self> {
        if matches!(probe, Probe::Command { .. }) {
            return Some(Self::Program);
        }
        let address = probe::address_of(probe)?;
        addresses.has(address.ip()).then_some(Self::Address(address))
    }
}

/// The addresses of this host's interfaces, as the kernel lists them. That a socket may be bound to an address says
/// less: `ip_nonlocal_bind` lets it have any.
#[derive(Debug, Default)]
struct Addresses(BTreeSet<IpAddr>);

impl Addresses {
    fn now() -> Self {
        // What cannot be read is no address of this host; loopback is without it.
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::of(&read("/proc/net/fib_trie"), &read("/proc/net/if_inet6"))
    }

    fn of(fib_trie: &str, if_inet6: &str) -> Self {
        let mut out = BTreeSet::new();
        // `|-- 192.0.2.7` and, in the lines below it, `/32 host LOCAL`.
        let mut last = None;
        for line in fib_trie.lines().map(str::trim) {
            if let Some(address) = line.strip_prefix("|-- ") {
                last = address.trim().parse::<Ipv4Addr>().ok();
            } else if line == "/32 host LOCAL" {
                out.extend(last.map(IpAddr::V4));
            }
        }
        // Address without colons, then the interface's number, length of prefix, scope, flags and name.
        let words = if_inet6.lines().filter_map(|line| line.split_whitespace().next());
        let digits = words.filter(|word| word.len() == 32);
        let addresses = digits.filter_map(|word| u128::from_str_radix(word, 16).ok());
        out.extend(addresses.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))));
        Self(out)
    }

    fn has(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.0.contains(&ip)
    }
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
            ring.push(at, Some(1), None);
        }
        let kept = |ring: &Ring| {
            let times = || ring.samples.iter().map(|(_, at, _)| *at);
            (ring.samples.len(), times().min().unwrap(), times().max().unwrap())
        };
        assert_eq!(kept(&ring), (AFTER, 760, 999));
        for at in 1000..3000 {
            ring.push(at, None, Some(1000));
        }
        let usual = ring.samples.iter().filter(|(_, at, took)| *at < 1000 && took.is_some());
        assert_eq!(usual.count(), BEFORE, "what was usual stays however long it is watched");
        assert_eq!(kept(&ring), (BEFORE + AFTER, 880, 2999));
        // The next change: what was after the one before is before this.
        ring.push(3000, None, Some(3000));
        assert_eq!(kept(&ring), (BEFORE + 1, 2880, 3000));
    }

    #[test]
    fn a_clock_that_is_set_back_silences_no_host_and_pushes_out_nothing_new() {
        let mut ring = Ring::default();
        let hour = 3_600_000;
        // After the reboot the clock is an hour ahead, for longer than the ring is.
        for n in 0..2 * AFTER as i64 {
            ring.push(hour + n, Some(1), Some(0));
        }
        let known = ring.samples.last().map(|(number, ..)| *number);
        assert_eq!(ring.since(known), []);
        ring.push(7, Some(2), Some(0));
        ring.push(8, None, Some(0));
        let told: Vec<_> = ring.since(known).iter().map(|(_, at, took)| (*at, *took)).collect();
        assert_eq!(told, [(7, Some(2)), (8, None)], "told by number, whatever the clock says");
        assert_eq!(ring.samples.len(), AFTER);
        // The host that has lost what it kept counts anew: the server knows a number that it has not come to.
        let mut anew = Ring::default();
        anew.push(9, Some(3), None);
        assert_eq!(anew.since(known), [(0, 9, Some(3))]);
    }

    #[test]
    fn nobody_but_the_host_itself_is_asked() {
        for (probe, own) in [
            (tcp("127.0.0.1:22"), true),
            (tcp("[::1]:22"), true),
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
            (
                Probe::Http {
                    url: "http://127.0.0.1?x.evil:80/".into(),
                    status: 200,
                    contains: String::new(),
                },
                false,
            ),
            (tcp("0.0.0.0:22"), false),
            (tcp("[::]:22"), false),
            (tcp("[::ffff:192.0.2.7]:22"), false),
            (Probe::Command { name: "shop".into() }, true),
        ] {
            assert_eq!(Own::of(&probe, &Addresses::now()).is_some(), own, "{probe:?}");
        }
    }

    #[test]
    fn the_kernels_lists_say_which_addresses_a_host_has() {
        // Of a host that is 192.0.2.7 in 192.0.2.0/24, with 198.51.100.9 as a route that leads elsewhere.
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
             \x20    |-- 198.51.100.9\n        /32 universe UNICAST\nLocal:\n\
             \x20          |-- 127.0.0.0\n              /8 host LOCAL\n\
             \x20          |-- 127.0.0.1\n              /32 host LOCAL\n\
             \x20          |-- 192.0.2.0\n              /24 link UNICAST\n\
             \x20          |-- 192.0.2.7\n              /32 host LOCAL\n\
             \x20          |-- 192.0.2.255\n              /32 link BROADCAST\n";
        let six = "00000000000000000000000000000001 01 80 10 80       lo\n\
                   20010db8000000000000000000000007 02 40 00 80     eth0\nnonsense\n";
        let addresses = Addresses::of(trie, six);
        for (ip, has) in [
            ("127.0.0.1", true),
            ("127.8.9.1", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("192.0.2.0", false),
            ("192.0.2.255", false),
            ("198.51.100.9", false),
            ("0.0.0.0", false),
            ("::1", true),
            ("2001:db8::7", true),
            ("2001:db8::8", false),
            ("::ffff:192.0.2.7", false),
        ] {
            assert_eq!(addresses.has(ip.parse().unwrap()), has, "{ip}");
        }
        assert!(!Addresses::of("", "").has("192.0.2.7".parse().unwrap()), "nothing is known");
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
        let took: Vec<bool> = told[0].samples.iter().map(|(.., took)| took.is_some()).collect();
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
