//! Writing.

use super::{MAGIC, PREFIX, statements_of};
use crate::compact::checksum::xxh64;
use crate::exposure::KernelCoverage;
use crate::exposure::carry::Carried;
use crate::exposure::facts::{Keyed, SourceFacts, SystemFacts};
use crate::exposure::fleet::books::Hit;
use crate::exposure::fleet::shapes::Shape;
use crate::exposure::fleet::{FleetIndex, HostRecord, Presence, Risk};
use fettle_core::finding::FindingState;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;

/// Numbers, texts by their places, and sets.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    /// Only looked up: its order would be no order.
    places: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

impl Out {
    /// LEB128: seven bits a byte, the lowest first.
    fn number(&mut self, number: impl Into<u64>) {
        let mut number = number.into();
        while number > 0x7f {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    fn long(&mut self, number: u128) {
        self.bytes.extend(number.to_le_bytes());
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.bytes.extend(bytes);
    }

    fn text(&mut self, text: &Arc<str>) {
        let place = match self.places.get(text) {
            Some(place) => *place,
            None => {
                let place = self.texts.len() as u32;
                self.texts.push(text.clone());
                self.places.insert(text.clone(), place);
                place
            }
        };
        self.number(place);
    }

    fn word(&mut self, text: &str) {
        match self.places.get(text) {
            Some(place) => self.number(*place),
            None => self.text(&text.into()),
        }
    }

    fn set(&mut self, set: &RoaringBitmap) {
        self.count(set.serialized_size());
        // Writing to memory cannot fail.
        let _ = set.serialize_into(&mut self.bytes);
    }

    /// Flags, the first the lowest.
    fn flags<const N: usize>(&mut self, flags: [bool; N]) {
        let bits = flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag));
        self.bytes.push(bits);
    }

    fn state(&mut self, state: FindingState) {
        self.bytes.push(state as u8);
    }

    fn version(&mut self, version: &Keyed) {
        self.text(&version.text);
    }

    fn some<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.flags([value.is_some()]);
        if let Some(value) = value {
            put(self, value);
        }
    }

    fn all<T>(&mut self, list: &[T], mut put: impl FnMut(&mut Self, &T)) {
        self.count(list.len());
        list.iter().for_each(|one| put(self, one));
    }

    fn facts(&mut self, facts: &SourceFacts) {
        let SourceFacts { source: _, groups, kernel, offered, stale, odd } = facts;
        self.flags([*stale, kernel.is_some(), offered.is_some()]);
        self.all(groups, |out, group| {
            out.version(&group.version);
            out.flags([group.in_use, group.exposed]);
            out.all(&group.binaries, Self::text);
        });
        if let Some(kernel) = kernel {
            self.version(&kernel.version);
            self.text(&kernel.binary);
            self.some(kernel.newest.as_ref(), Self::version);
        }
        if let Some(offered) = offered {
            self.version(offered);
        }
        self.all(odd, Self::text);
    }

    fn hit(&mut self, hit: &Hit) {
        self.number(hit.rank);
        self.state(hit.state);
        self.bytes.push(hit.flags());
    }

    fn shape(&mut self, shape: &Shape) {
        self.long(shape.number);
        let os = &shape.os;
        for word in [&os.id, &os.version, &os.codename, &os.pretty] {
            self.word(word);
        }
        self.system(&shape.system);
        self.all(&shape.subjects, |out, place| out.number(*place));
    }

    fn system(&mut self, system: &SystemFacts) {
        let SystemFacts {
            scheme,
            kernel,
            odd_versions,
            stale_packages,
            memory_known,
            packages_known,
            languages_known,
            gaps,
        } = system;
        self.word(scheme.word());
        match kernel {
            KernelCoverage::NotThisHosts => self.bytes.push(0),
            KernelCoverage::Unknown { running } => {
                self.bytes.push(1);
                self.word(running);
            }
            KernelCoverage::Running { source, version } => {
                self.bytes.push(2);
                self.word(source);
                self.word(version);
            }
        }
        self.flags([*memory_known, *packages_known, *languages_known]);
        for list in [odd_versions, gaps] {
            self.all(list, |out, word| out.word(word));
        }
        self.count(stale_packages.len());
        stale_packages.iter().for_each(|name| self.text(name));
    }

    fn carried(&mut self, carried: &Carried) {
        let Carried { source, id, state, installed, fixed_version, binaries, in_use, exposed } =
            carried;
        for word in [source, id, installed] {
            self.text(word);
        }
        self.state(*state);
        self.flags([*in_use, *exposed, fixed_version.is_some()]);
        if let Some(version) = fixed_version {
            self.text(version);
        }
        self.all(binaries, Self::text);
    }

    fn host(&mut self, record: &HostRecord) {
        self.word(record.id.as_str());
        self.some(record.root.as_ref(), Self::text);
        self.number(record.owner);
        self.bytes.push(match record.presence {
            Presence::Here => 0,
            Presence::Unseen => 1,
            Presence::Gone => 2,
        });
        self.number(record.shape);
        // Few, and words of people.
        let accepted = match record.accepted.is_empty() {
            true => Vec::new(),
            // What cannot be written as JSON there is none of: texts and moments.
            false => serde_json::to_vec(&record.accepted).unwrap_or_default(),
        };
        self.raw(&accepted);
    }

    fn risk(&mut self, risk: Risk) {
        let Risk { exploited, exposed, critical, high, medium, low } = risk;
        for number in [exploited, exposed, critical, high, medium, low] {
            self.number(number);
        }
    }

    /// A list with holes: how long it is, then each that is there after its distance from the one before.
    fn places<'t, T: 't>(
        &mut self,
        (length, list): (usize, impl Iterator<Item = (u32, &'t T)>),
        mut put: impl FnMut(&mut Self, &T),
    ) {
        self.count(length);
        let mut next = 0;
        for (place, one) in list {
            self.number(place - next + 1);
            put(self, one);
            next = place + 1;
        }
        self.number(0_u32);
    }
}

pub(super) fn whole(index: &FleetIndex, beside: &[u8]) -> Vec<u8> {
    let mut out = Out::default();
    out.bytes.extend(index.secret.bytes());
    out.places(index.books.all(), |out, book| {
        out.text(&book.release);
        out.text(&book.source);
    });
    out.places(index.subjects.all(), |out, subject| {
        out.number(subject.book);
        out.facts(&subject.facts);
        out.all(&subject.hits, Out::hit);
        out.set(&subject.hosts);
    });
    out.all(&index.subjects.all_told(), |out, (number, place)| {
        out.long(*number);
        out.number(*place);
    });
    out.places(index.shapes.all(), Out::shape);
    let hosts = (0..).zip(index.hosts.iter().zip(&index.risks));
    let hosts: Vec<(u32, (&HostRecord, &Risk))> =
        hosts.filter_map(|(slot, (host, risk))| Some((slot, (host.as_ref()?, risk)))).collect();
    let there = hosts.iter().map(|(slot, host)| (*slot, host));
    out.places((index.hosts.len(), there), |out, (record, risk)| {
        out.host(record);
        out.risk(**risk);
    });
    let mut carrying: Vec<_> = index.carrying.all().collect();
    // In an order, so that the same index gives the same bytes.
    carrying.sort_by_key(|(carried, _)| carried);
    out.all(&carrying, |out, (carried, slots)| {
        out.carried(carried);
        out.set(slots);
    });
    let totals: Vec<_> = index.totals.iter().collect();
    out.all(&totals, |out, (severity, state, count)| {
        out.bytes.push(*severity as u8);
        out.state(*state);
        out.number(*count);
    });

    let mut whole = Out::default();
    whole.bytes.extend([0; PREFIX]);
    whole.bytes.extend(statements_of(&index.catalogue).to_string().as_bytes());
    whole.raw(beside);
    whole.all(&out.texts, |whole, text| whole.raw(text.as_bytes()));
    whole.bytes.append(&mut out.bytes);
    let mut whole = whole.bytes;
    let sum = xxh64(&whole[PREFIX..]);
    whole[..8].copy_from_slice(MAGIC);
    whole[8..PREFIX].copy_from_slice(&sum.to_le_bytes());
    whole
}
