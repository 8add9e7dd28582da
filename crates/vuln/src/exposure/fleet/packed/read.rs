//! Reading. The checksum has shown that the bytes are those that were written; that they say what can be is looked at all the
//! same, so that nothing that is read can end the program.

use super::{MAGIC, PREFIX, Unusable, statements_of};
use crate::compact::checksum::xxh64;
use crate::exposure::carry::Carried;
use crate::exposure::catalogue::Catalogue;
use crate::exposure::facts::{Group, Keyed, RunningKernel, SourceFacts, SystemFacts};
use crate::exposure::fleet::books::Hit;
use crate::exposure::fleet::numbers::Secret;
use crate::exposure::fleet::shapes::Shape;
use crate::exposure::fleet::{FleetIndex, HostRecord, Presence, Risk};
use crate::exposure::vendor::{scheme_for, scheme_of};
use crate::exposure::{Exception, KernelCoverage};
use fettle_core::HostId;
use fettle_core::finding::{FindingState, Severity};
use fettle_core::inventory::Os;
use fettle_core::version::Scheme;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;

/// More free places one after the other than any fleet leaves behind.
const MOST_HOLES: usize = 1 << 24;

type Read<T> = Result<T, Unusable>;

/// What is left to be read.
struct In<'b> {
    bytes: &'b [u8],
    texts: Vec<Arc<str>>,
    /// Only looked up: its order would be no order.
    keys: HashMap<(Scheme, u32), Box<[u8]>>,
}

impl<'b> In<'b> {
    fn take(&mut self, length: usize) -> Read<&'b [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Unusable::Damaged)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Unusable::Damaged)
    }

    fn byte(&mut self) -> Read<u8> {
        let [byte] = self.fixed()?;
        Ok(byte)
    }

    fn number(&mut self) -> Read<u32> {
        let mut number = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(number).map_err(|_| Unusable::Damaged);
            }
        }
        Err(Unusable::Damaged)
    }

    fn long(&mut self) -> Read<u128> {
        Ok(u128::from_le_bytes(self.fixed()?))
    }

    fn raw(&mut self) -> Read<&'b [u8]> {
        let length = self.number()?;
        self.take(length as usize)
    }

    fn text(&mut self) -> Read<Arc<str>> {
        let place = self.number()?;
        self.texts.get(place as usize).cloned().ok_or(Unusable::Damaged)
    }

    fn word(&mut self) -> Read<String> {
        Ok(self.text()?.to_string())
    }

    fn set(&mut self) -> Read<RoaringBitmap> {
        RoaringBitmap::deserialize_from(self.raw()?).map_err(|_| Unusable::Damaged)
    }

    fn flags<const N: usize>(&mut self) -> Read<[bool; N]> {
        let bits = self.byte()?;
        Ok(std::array::from_fn(|n| bits >> n & 1 == 1))
    }

    fn state(&mut self) -> Read<FindingState> {
        let byte = self.byte()?;
        let mut all = FindingState::ALL.into_iter();
        all.find(|state| *state as u8 == byte).ok_or(Unusable::Damaged)
    }

    fn some<T>(&mut self, get: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        let [is_there] = self.flags()?;
        is_there.then(|| get(self)).transpose()
    }

    fn all<T>(&mut self, mut get: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.number()? as usize;
        // Each takes a byte at least: a number that lies reserves no more than there is.
        let mut list = Vec::with_capacity(count.min(self.bytes.len()));
        for _ in 0..count {
            list.push(get(self)?);
        }
        Ok(list)
    }

    /// Versions of one text have one key.
    fn version(&mut self, scheme: Scheme) -> Read<Keyed> {
        let place = self.number()?;
        let text = self.texts.get(place as usize).cloned().ok_or(Unusable::Damaged)?;
        let key = self.keys.entry((scheme, place)).or_insert_with(|| scheme.key(&text).into());
        Ok(Keyed { key: key.clone(), text })
    }

    fn facts(&mut self, source: Arc<str>, release: &str) -> Read<SourceFacts> {
        let scheme = scheme_for(scheme_of(release), &source);
        let [stale, has_kernel, is_offered] = self.flags()?;
        let groups = self.all(|this| {
            let version = this.version(scheme)?;
            let [in_use, exposed] = this.flags()?;
            Ok(Group { version, binaries: this.all(Self::text)?, in_use, exposed })
        })?;
        let kernel = has_kernel.then(|| {
            let version = self.version(scheme)?;
            let binary = self.text()?;
            let newest = self.some(|this| this.version(scheme))?;
            Ok(Box::new(RunningKernel { version, binary, newest }))
        });
        let kernel = kernel.transpose()?;
        let offered = is_offered.then(|| self.version(scheme)).transpose()?;
        let odd = self.all(Self::text)?;
        Ok(SourceFacts { source, groups, kernel, offered, stale, odd })
    }

    fn hit(&mut self) -> Read<Hit> {
        let (rank, state) = (self.number()?, self.state()?);
        Ok(Hit::of_parts(rank, state, self.byte()?))
    }

    fn shape(&mut self) -> Read<Shape> {
        let number = self.long()?;
        let (id, version) = (self.word()?, self.word()?);
        let os = Os { id, version, codename: self.word()?, pretty: self.word()? };
        let system = Arc::new(self.system()?);
        let subjects = self.all(Self::number)?.into();
        Ok(Shape::of_parts(number, os, system, subjects))
    }

    fn system(&mut self) -> Read<SystemFacts> {
        let scheme = self.text()?;
        let mut schemes = Scheme::ALL.into_iter();
        let scheme = schemes.find(|s| s.word() == &*scheme).ok_or(Unusable::Damaged)?;
        let kernel = match self.byte()? {
            0 => KernelCoverage::NotThisHosts,
            1 => KernelCoverage::Unknown { running: self.word()? },
            2 => KernelCoverage::Running { source: self.word()?, version: self.word()? },
            _ => return Err(Unusable::Damaged),
        };
        let [memory_known, packages_known, languages_known] = self.flags()?;
        let odd_versions = self.all(Self::word)?;
        let gaps = self.all(Self::word)?;
        let stale_packages = self.all(Self::text)?.into_iter().collect();
        Ok(SystemFacts {
            scheme,
            kernel,
            odd_versions,
            stale_packages,
            memory_known,
            packages_known,
            languages_known,
            gaps,
        })
    }

    fn carried(&mut self) -> Read<Carried> {
        let (source, id, installed) = (self.text()?, self.text()?, self.text()?);
        let state = self.state()?;
        let [in_use, exposed, has_fix] = self.flags()?;
        let fixed_version = has_fix.then(|| self.text()).transpose()?;
        let binaries = self.all(Self::text)?;
        Ok(Carried { source, id, state, installed, fixed_version, binaries, in_use, exposed })
    }

    fn host(&mut self) -> Read<HostRecord> {
        let id = HostId::new(&*self.text()?);
        let root = self.some(Self::text)?;
        let owner = self.number()?;
        let presence = match self.byte()? {
            0 => Presence::Here,
            1 => Presence::Unseen,
            2 => Presence::Gone,
            _ => return Err(Unusable::Damaged),
        };
        let shape = self.number()?;
        let accepted: Vec<Exception> = match self.raw()? {
            [] => Vec::new(),
            json => serde_json::from_slice(json).map_err(|_| Unusable::Damaged)?,
        };
        Ok(HostRecord { id, root, owner, presence, shape, carried: Vec::new(), accepted })
    }

    fn risk(&mut self) -> Read<Risk> {
        let mut next = || self.number();
        let (exploited, exposed) = (next()?, next()?);
        let (critical, high, medium, low) = (next()?, next()?, next()?, next()?);
        Ok(Risk { exploited, exposed, critical, high, medium, low })
    }

    fn severity(&mut self) -> Read<Severity> {
        let byte = self.byte()?;
        let mut all = Severity::ALL.into_iter();
        all.find(|severity| *severity as u8 == byte).ok_or(Unusable::Damaged)
    }

    /// A list with holes.
    fn places<T>(&mut self, mut get: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<Option<T>>> {
        let length = self.number()? as usize;
        let mut list = Vec::with_capacity(length.min(self.bytes.len()));
        loop {
            let distance = self.number()? as usize;
            let hole = if distance == 0 { length - list.len() } else { distance - 1 };
            if list.len() + hole > length || hole > MOST_HOLES {
                return Err(Unusable::Damaged);
            }
            list.resize_with(list.len() + hole, || None);
            if distance == 0 {
                return Ok(list);
            }
            if list.len() == length {
                return Err(Unusable::Damaged);
            }
            list.push(Some(get(self)?));
        }
    }
}

pub(super) fn whole(bytes: &[u8], catalogue: Arc<Catalogue>) -> Read<(FleetIndex, Vec<u8>)> {
    let (prefix, rest) = bytes.split_at_checked(PREFIX).ok_or(Unusable::Damaged)?;
    if prefix[..8] != *MAGIC {
        return Err(Unusable::Layout);
    }
    if prefix[8..] != xxh64(rest).to_le_bytes() {
        return Err(Unusable::Damaged);
    }
    let mut from = In { bytes: rest, texts: Vec::new(), keys: HashMap::new() };
    let statements = statements_of(&catalogue).to_string();
    if from.take(statements.len())? != statements.as_bytes() {
        return Err(Unusable::OtherStatements);
    }
    let beside = from.raw()?.to_vec();
    from.texts = from.all(|this| {
        let text = std::str::from_utf8(this.raw()?).map_err(|_| Unusable::Damaged)?;
        Ok(text.into())
    })?;

    let mut index = FleetIndex::new(catalogue);
    index.secret = Secret::of_bytes(from.fixed()?);
    let names = from.places(|this| Ok((this.text()?, this.text()?)))?;
    index.books.restore(&index.catalogue, names.clone());
    let subjects = from.places(|this| {
        let book = this.number()?;
        let name = names.get(book as usize).and_then(Option::as_ref).ok_or(Unusable::Damaged)?;
        let facts = this.facts(name.1.clone(), &name.0)?;
        Ok((book, facts, this.all(In::hit)?, this.set()?))
    })?;
    index.subjects.restore(&mut index.books, subjects).ok_or(Unusable::Damaged)?;
    for (number, place) in from.all(|this| Ok((this.long()?, this.number()?)))? {
        index.subjects.remember(number, place);
    }
    index.shapes.restore(from.places(In::shape)?);
    let hosts = from.places(|this| Ok((this.host()?, this.risk()?)))?;
    let carrying = from.all(|this| Ok((this.carried()?, this.set()?)))?;
    for (severity, state, count) in
        from.all(|this| Ok((this.severity()?, this.state()?, this.number()?)))?
    {
        index.totals.add(severity, state, i64::from(count));
    }
    index.settle(hosts, carrying)?;
    Ok((index, beside))
}

impl FleetIndex {
    /// Puts hosts, and what they carry, where they were.
    fn settle(
        &mut self,
        hosts: Vec<Option<(HostRecord, Risk)>>,
        carrying: Vec<(Carried, RoaringBitmap)>,
    ) -> Read<()> {
        let slots = hosts.len();
        let fits = |set: &RoaringBitmap| set.max().is_none_or(|last| (last as usize) < slots);
        if !self.subjects.all().1.all(|(_, subject)| fits(&subject.hosts)) {
            return Err(Unusable::Damaged);
        }
        for (_, shape) in self.shapes.all().1 {
            let places = &shape.subjects;
            if !places.iter().all(|place| self.subjects.get(*place).is_some())
                || !places.is_sorted_by_key(|place| self.subjects.book(*place))
            {
                return Err(Unusable::Damaged);
            }
        }
        for (slot, kept) in (0..).zip(hosts) {
            let Some((record, risk)) = kept else {
                self.free.push(slot);
                self.hosts.push(None);
                self.risks.push(Risk::default());
                continue;
            };
            let shape = self.shapes.taken(record.shape).ok_or(Unusable::Damaged)?;
            if record.presence == Presence::Here && !shape.system.packages_known {
                self.packages_unknown.insert(slot);
            }
            match &record.root {
                None => {
                    self.slots.insert(record.id.clone(), slot);
                }
                Some(root) => {
                    self.root_slots.insert((record.id.clone(), root.clone()), slot);
                    self.roots.insert(slot);
                }
            }
            for exception in &record.accepted {
                self.excepted.entry(exception.id.clone()).or_default().insert(slot);
            }
            if record.owner as usize >= slots {
                return Err(Unusable::Damaged);
            }
            self.hosts.push(Some(record));
            self.risks.push(risk);
        }
        for (carried, slots) in carrying {
            let shared = self.carrying.add_all(&slots, carried);
            for slot in &slots {
                let Some(Some(record)) = self.hosts.get_mut(slot as usize) else {
                    return Err(Unusable::Damaged);
                };
                record.carried.push(shared.clone());
                let release = self.shapes.get(record.shape).map_or("", |shape| &shape.release);
                let found = self.books.find(release, &shared.source).map(|(place, _)| place);
                if let Some(book) = found.and_then(|place| self.books.get_mut(place)) {
                    book.carriers.insert(slot);
                }
            }
        }
        self.hosts.iter_mut().flatten().for_each(|record| record.carried.sort());
        self.books.recount(&self.subjects);
        Ok(())
    }
}
