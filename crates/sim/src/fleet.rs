//! What a seed says about how bad the vendor is today, and how often things go wrong around it.

use crate::packages::{Health, Installed, Offered, PACKAGES};
use crate::random::Random;
use fettle_core::Timestamp;
use jiff::SignedDuration;

/// What the packages of a run do, in permille of the hosts they land on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vendor {
    pub(crate) refused: u64,
    pub(crate) apply_fails: u64,
    pub(crate) verify_fails: u64,
    pub(crate) undo_fails: u64,
    /// The host goes down after it was patched.
    pub(crate) dies_later: u64,
}

/// How often things go wrong around it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) lose: u64,
    pub(crate) double: u64,
    pub(crate) delay: u64,
    pub(crate) agent_crash: u64,
    pub(crate) server_crash: u64,
    pub(crate) host_down: u64,
    pub(crate) stale_executor: u64,
    pub(crate) operator: u64,
    pub(crate) drift: u64,
    pub(crate) leave: u64,
    /// A service stops, or comes back, by itself.
    pub(crate) service: u64,
    /// The vendor has news.
    pub(crate) news: u64,
    /// A host joins, or one that left comes back.
    pub(crate) join: u64,
    /// Somebody edits a policy.
    pub(crate) edit: u64,
    /// A host's clock steps.
    pub(crate) clock: u64,
}

/// The unit that some budgets ask for.
pub(crate) const SERVICE: &str = "web.service";

pub(crate) fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(crate) fn after(at: Timestamp, seconds: u64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds as i64)).unwrap_or(Timestamp::MAX)
}

pub(crate) fn vendor(random: &mut Random) -> Vendor {
    let mut vendor =
        Vendor { refused: 10, apply_fails: 5, verify_fails: 5, undo_fails: 20, dies_later: 2 };
    match random.between(0, 9) {
        0 => vendor.apply_fails = random.between(50, 1000),
        1 => vendor.verify_fails = random.between(50, 1000),
        2 => {
            vendor.verify_fails = random.between(100, 800);
            vendor.undo_fails = random.between(100, 700);
        }
        3 => vendor.dies_later = random.between(50, 500),
        4 => vendor.refused = random.between(50, 500),
        5 => vendor = Vendor::default(),
        _ => {}
    }
    vendor
}

pub(crate) fn faults(random: &mut Random) -> Faults {
    if random.permille(100) {
        return Faults::default();
    }
    let mut some = |most: u64| if random.permille(300) { 0 } else { random.between(1, most) };
    Faults {
        lose: some(200),
        double: some(200),
        delay: some(200),
        agent_crash: some(30),
        server_crash: some(4),
        host_down: some(8),
        stale_executor: some(250),
        operator: some(60),
        drift: some(10),
        leave: some(2),
        service: some(20),
        news: some(20),
        join: some(6),
        edit: some(10),
        clock: some(6),
    }
}

/// What hosts are set up from: the role, and what is installed at first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Image {
    pub(crate) role: &'static str,
    pub(crate) installed: Installed,
}

/// Two to four images of different age.
pub(crate) fn images(random: &mut Random, newest: Offered) -> Vec<Image> {
    let mut one = |n: u64| {
        let role = if n.is_multiple_of(2) { "web" } else { "db" };
        let has = |name: &str| match name {
            "nginx" | "php-fpm" => role == "web",
            "nginx-common" => role == "web" && n == 0,
            _ => true,
        };
        // All of a source is of the same age.
        let mut of_source = newest;
        of_source
            .iter_mut()
            .for_each(|version| *version = random.between(1, u64::from(*version)) as u16);
        let mut versions = [0; PACKAGES.len()];
        for (version, (name, source)) in versions.iter_mut().zip(PACKAGES) {
            *version = if has(name) { of_source[source] } else { 0 };
        }
        Image { role, installed: Installed { versions, health: Health::Whole } }
    };
    let count = 2 + newest.iter().map(|n| u64::from(*n)).sum::<u64>() % 3;
    (0..count).map(&mut one).collect()
}
