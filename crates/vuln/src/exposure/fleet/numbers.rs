//! Numbers that stand for what an inventory says, so that what was read once is not read again.
//!
//! An inventory that says the same as one before gives the same number, and so does what it says of one source package. Where
//! a number is known, what was read of those words stands, and nothing is read or judged. Two numbers that are equal without
//! the words being equal would go unnoticed, so they must not come about: a number has 128 bits, and how words are mixed into
//! it depends on a secret that each index draws for itself. By chance, among a thousand million different words, that happens
//! once in 10^20 fleets; and a host that lies cannot look for words with the number of another's, because it knows no numbers.

use crate::exposure::facts::is_kernel_package;
use crate::exposure::vendor::{Rules, release_name};
use fettle_core::inventory::Inventory;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

/// What the numbers of one index depend on.
#[derive(Debug, Clone)]
pub(super) struct Secret([u64; 6]);

impl Secret {
    pub(super) fn draw() -> Self {
        let random = RandomState::new();
        Self(std::array::from_fn(|n| random.hash_one(n)))
    }

    /// As it is kept with numbers that depend on it.
    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes())
    }

    /// As it was kept.
    pub(super) fn of_bytes(bytes: [u8; 48]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        Self(std::array::from_fn(|n| u64::from_le_bytes(words[n])))
    }
}

/// Takes a number that is as good as random already for its own hash.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u128(&mut self, number: u128) {
        self.0 = (number >> 64) as u64 ^ number as u64;
    }
}

/// By number. Only looked up, never walked: its order would be no order.
pub(super) type ByNumber<T> = HashMap<u128, T, BuildHasherDefault<AsItIs>>;

/// Mixes words into a number of 128 bits.
struct Mix<'k> {
    secret: &'k [u64; 6],
    one: u64,
    two: u64,
}

fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl<'k> Mix<'k> {
    fn new(Secret(secret): &'k Secret) -> Self {
        Self { secret, one: secret[4], two: secret[5] }
    }

    #[inline]
    fn pair(&mut self, key: usize, a: u64, b: u64) {
        let (one, two) = (self.one, self.two);
        self.one = folded(a ^ self.secret[key], b ^ one);
        self.two = folded(b ^ self.secret[key + 1], a ^ two);
    }

    /// A text: its blocks of 16 bytes by one key, then what is left, with its length, by another, so that where a text ends
    /// cannot be mistaken.
    #[inline]
    fn text(&mut self, text: &str) {
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let mut blocks = text.as_bytes().chunks_exact(16);
        for block in &mut blocks {
            self.pair(0, word(&block[..8]), word(&block[8..]));
        }
        let rest = blocks.remainder();
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        // Invariant: the rest of blocks of 16 is shorter than they are.
        last[15] = rest.len() as u8;
        self.pair(2, word(&last[..8]), word(&last[8..]));
    }

    fn number(&mut self, number: u128) {
        self.pair(0, number as u64, (number >> 64) as u64);
    }

    /// What the words so far come to, to be looked up by. Not mixed well enough to be added to others.
    fn so_far(&self) -> u128 {
        u128::from(self.one) << 64 | u128::from(self.two)
    }

    fn done(self) -> u128 {
        let (one, two) = (self.one, self.two);
        let key = &self.secret;
        let last = [folded(one ^ key[1], two ^ key[3]), folded(two ^ key[0], one ^ key[2])];
        u128::from(last[0]) << 64 | u128::from(last[1])
    }
}

/// What an inventory says of one source package.
pub(super) struct SourceNumber<'a> {
    pub(super) name: Cow<'a, str>,
    /// It is not known by its number alone: what is true of a kernel depends on all packages of kernels, and on what runs.
    pub(super) of_kernel: bool,
    pub(super) number: u128,
}

/// An inventory in numbers.
pub(super) struct Numbers<'a> {
    /// In the order in which packages name them.
    pub(super) sources: Vec<SourceNumber<'a>>,
    /// For each package, and each package of a language, the place of its source among these; `NONE`: it is of none.
    pub(super) packages: Vec<u32>,
    pub(super) languages: Vec<u32>,
    /// The number of everything that decides.
    pub(super) whole: u128,
}

/// No place.
pub(super) const NONE: u32 = u32::MAX;

/// What is said of a name beside the packages.
#[derive(Default)]
struct Beside {
    flags: u64,
    upgrades: u128,
    /// The source that the upgrades went to.
    source: Option<u32>,
}

impl<'a> Numbers<'a> {
    pub(super) fn of(secret: &Secret, inventory: &'a Inventory) -> Self {
        let named = |name: &str| {
            let mut mix = Mix::new(secret);
            mix.text(name);
            mix
        };
        let mut beside: ByNumber<Beside> = ByNumber::default();
        let stale = inventory.stale.iter().flat_map(|process| &process.packages);
        let lists = inventory.in_use.iter().map(|n| (n, 1));
        let lists = lists.chain(inventory.exposed.iter().map(|n| (n, 2)));
        for (name, flag) in lists.chain(stale.map(|n| (n, 4))) {
            beside.entry(named(name).so_far()).or_default().flags |= flag;
        }
        for upgrade in &inventory.upgrades {
            let mut mix = Mix::new(secret);
            mix.text(&upgrade.to);
            mix.text(&upgrade.source_version);
            let known = beside.entry(named(&upgrade.name).so_far()).or_default();
            known.upgrades = known.upgrades.wrapping_add(mix.done());
        }

        let rules = Rules::of(&inventory.os);
        let mut of_system = Mix::new(secret);
        of_system.text(&inventory.os.id);
        of_system.text(&release_name(&inventory.os));
        let of_system = of_system.done();
        let mut read = Self {
            sources: Vec::with_capacity(inventory.packages.len()),
            packages: Vec::with_capacity(inventory.packages.len()),
            languages: Vec::with_capacity(inventory.languages.len()),
            whole: 0,
        };
        let mut places: ByNumber<u32> =
            ByNumber::with_capacity_and_hasher(inventory.packages.len(), Default::default());
        let mut unknown_streams = 0_u128;
        for package in &inventory.packages {
            if rules.is_of_unknown_stream(package) {
                let mut mix = Mix::new(secret);
                mix.text(&package.name);
                mix.text(&package.version);
                unknown_streams = unknown_streams.wrapping_add(mix.done());
                read.packages.push(NONE);
                continue;
            }
            let (source, version) = rules.subject(package);
            // A running kernel without an image is taken for one of `linux`.
            let of_kernel = is_kernel_package(package, &source) || source == "linux";
            // What a package counts under beside its subject has no number of its own: it is read anew each time.
            let of_kernel = of_kernel || rules.has_beside();
            let mut mix = named(&package.name);
            let last = read.packages.last().copied();
            let at = read.source(&mut places, secret, source, last);
            let (mut flags, mut upgrades) = (0, 0);
            if let Some(said) = beside.get_mut(&mix.so_far()) {
                (flags, upgrades) = (said.flags, said.upgrades);
                // Which of two sources of packages of one name an upgrade is for depends on their order.
                let other = said.source.replace(at).filter(|other| *other != at && upgrades != 0);
                for place in other.into_iter().flat_map(|other| [other, at]) {
                    read.sources[place as usize].of_kernel = true;
                }
            }
            mix.text(&version);
            if let Some((subject, version)) = rules.beside(package) {
                mix.text(&subject);
                mix.text(version);
            }
            // Whether more follows is among the flags.
            let flags = flags << 2 | u64::from(upgrades != 0) << 1 | u64::from(package.healthy);
            mix.pair(2, flags, 0);
            if upgrades != 0 {
                mix.number(upgrades);
            }
            let source = &mut read.sources[at as usize];
            source.of_kernel |= of_kernel;
            source.number = source.number.wrapping_add(mix.done());
            read.packages.push(at);
        }
        for package in &inventory.languages {
            let last = read.languages.last().copied();
            let at = read.source(&mut places, secret, package.subject().into(), last);
            let mut mix = named(&package.location);
            let said = beside.get(&mix.so_far());
            mix.text(&package.version);
            // What is stale is looked up by the names of packages.
            mix.pair(0, said.map_or(0, |said| said.flags & 3), 0);
            let source = &mut read.sources[at as usize];
            source.number = source.number.wrapping_add(mix.done());
            read.languages.push(at);
        }
        let mut whole = 0_u128;
        for source in &mut read.sources {
            let mut mix = Mix::new(secret);
            mix.number(of_system);
            mix.text(&source.name);
            mix.number(source.number);
            source.number = mix.done();
            whole = whole.wrapping_add(source.number);
        }
        let mut rest = Mix::new(secret);
        rest.number(whole);
        rest.number(unknown_streams);
        let (os, kernel) = (&inventory.os, &inventory.kernel);
        for word in [&os.id, &os.version, &os.codename, &os.pretty] {
            rest.text(word);
        }
        rest.text(&kernel.running);
        rest.text(&kernel.running_version);
        rest.pair(2, u64::from(kernel.from_package), inventory.packages.len() as u64);
        for gap in &inventory.gaps {
            rest.text(gap);
        }
        rest.pair(0, inventory.gaps.len() as u64, 0);
        for name in inventory.stale.iter().flat_map(|process| &process.packages) {
            rest.text(name);
        }
        rest.pair(2, 0, 0);
        read.whole = rest.done();
        read
    }

    /// The place of a source, which is most often that of the package before.
    fn source(
        &mut self,
        places: &mut ByNumber<u32>,
        secret: &Secret,
        name: Cow<'a, str>,
        last: Option<u32>,
    ) -> u32 {
        let is = |last: &u32| self.sources.get(*last as usize).is_some_and(|s| s.name == name);
        if let Some(last) = last.filter(is) {
            return last;
        }
        let mut mix = Mix::new(secret);
        mix.text(&name);
        *places.entry(mix.done()).or_insert_with(|| {
            self.sources.push(SourceNumber { name, of_kernel: false, number: 0 });
            self.sources.len() as u32 - 1
        })
    }
}

/// The number of a system that says nothing, but is known to have been this.
pub(super) fn number_of_gone(secret: &Secret, os: &fettle_core::inventory::Os) -> u128 {
    let mut mix = Mix::new(secret);
    mix.text("gone");
    for word in [&os.id, &os.version, &os.codename, &os.pretty] {
        mix.text(word);
    }
    mix.done()
}
