//! The index as bytes: what a server keeps beside its store, so that its next start need not read every host again.
//!
//! Nothing in it is truth. It says by which statements it was judged, and of which layout it is; whoever finds it other than
//! expected, or damaged, drops it and takes the hosts in again from the store. Texts stand there once, and what follows
//! from the rest (counts, carriers, keys of versions) is made again.

mod read;
mod write;

use super::FleetIndex;
use crate::exposure::catalogue::Catalogue;
use fettle_core::Digest;

/// Before everything else: what it is, and its layout.
const MAGIC: &[u8; 8] = b"FTLINDX\x01";
/// The magic, and the checksum of all that follows.
const PREFIX: usize = 16;

/// Why bytes are no index to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Of another layout, or something else.
    #[error("it was written by another version of this program")]
    Layout,
    /// Cut off, or changed.
    #[error("it is damaged")]
    Damaged,
    /// The statements it was judged by are not those of the catalogue.
    #[error("it was judged by other vulnerability data")]
    OtherStatements,
}

impl FleetIndex {
    /// The index as bytes, with what else is to come back with it.
    pub fn pack(&self, beside: &[u8]) -> Vec<u8> {
        write::whole(self, beside)
    }

    /// The index as it was packed, and what was beside it.
    ///
    /// # Errors
    /// [`Unusable`] where it does not go on from there: nothing of it is used then.
    pub fn unpack(
        bytes: &[u8],
        catalogue: std::sync::Arc<Catalogue>,
    ) -> Result<(Self, Vec<u8>), Unusable> {
        read::whole(bytes, catalogue)
    }
}

/// What all statements of a catalogue come to, as far as they decide.
fn statements_of(catalogue: &Catalogue) -> Digest {
    let mut all = Vec::new();
    for release in catalogue.releases() {
        for (source, slice) in catalogue.slices(release).into_iter().flatten() {
            let mark = match slice.mark {
                Some(mark) => mark,
                None => catalogue.mark_of(slice.places.clone()),
            };
            for word in [release, source] {
                all.extend((word.len() as u32).to_le_bytes());
                all.extend(word.as_bytes());
            }
            all.extend(mark.to_string().as_bytes());
        }
    }
    Digest::of(&all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposure::HostView;
    use crate::exposure::input::CatalogueInput;
    use fettle_core::HostId;
    use fettle_core::advisory::{Advisory, AdvisoryStatus};
    use fettle_core::inventory::{Inventory, Os, Package};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn catalogue(fixed: &str) -> Arc<Catalogue> {
        let said = |id: &str| Advisory {
            id: id.into(),
            source: "nginx".into(),
            release: "bookworm".into(),
            status: AdvisoryStatus::Fixed { version: fixed.into() },
            urgency: "high".into(),
            evidence: "made up".into(),
        };
        let advisories = vec![said("CVE-2026-1"), said("CVE-2026-2")];
        Arc::new(Catalogue::build(CatalogueInput { advisories, ..CatalogueInput::default() }))
    }

    fn index() -> FleetIndex {
        let mut index = FleetIndex::new(catalogue("2-1"));
        let package = Package {
            name: "nginx".into(),
            architecture: "amd64".into(),
            version: "1-1".into(),
            source: "nginx".into(),
            source_version: "1-1".into(),
            healthy: true,
            module: String::new(),
        };
        let os = Os { id: "debian".into(), codename: "bookworm".into(), ..Os::default() };
        let packages = [package.into()].into_iter().collect();
        let inventory = Inventory { os, packages, ..Inventory::default() };
        for host in ["a", "b"] {
            index.set_host(&HostView {
                host: &HostId::new(host),
                inventory: &inventory,
                previous: &[],
                ran_before: &BTreeMap::new(),
                accepted: &[],
            });
        }
        index
    }

    #[test]
    fn an_index_comes_back_with_what_was_beside_it() {
        let index = index();
        let (back, beside) = FleetIndex::unpack(&index.pack(b"beside"), catalogue("2-1")).unwrap();
        assert_eq!(beside, b"beside");
        assert_eq!(back.totals(), index.totals());
        let host = HostId::new("b");
        assert_eq!(back.findings_of(&host), index.findings_of(&host));
        assert_eq!(back.findings_of(&host).unwrap().len(), 2);
    }

    #[test]
    fn an_index_judged_by_other_statements_is_not_gone_on_with() {
        let packed = index().pack(b"");
        let other = FleetIndex::unpack(&packed, catalogue("3-1"));
        assert_eq!(other.err(), Some(Unusable::OtherStatements));
    }

    #[test]
    fn an_index_that_is_damaged_anywhere_or_cut_off_anywhere_is_not_gone_on_with() {
        let packed = index().pack(b"beside");
        for at in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x20;
            assert!(FleetIndex::unpack(&damaged, catalogue("2-1")).is_err(), "byte {at}");
            assert!(FleetIndex::unpack(&packed[..at], catalogue("2-1")).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn whatever_is_written_under_a_right_checksum_is_refused_and_never_a_panic() {
        let packed = index().pack(b"");
        for at in PREFIX..packed.len() {
            for to in [0, 1, 0x7f, 0xff] {
                let mut forged = packed.clone();
                forged[at] = to;
                let sum = crate::compact::checksum::xxh64(&forged[PREFIX..]);
                forged[8..PREFIX].copy_from_slice(&sum.to_le_bytes());
                // Some say something else that could be: they may be read. None may do harm.
                if let Ok((index, _)) = FleetIndex::unpack(&forged, catalogue("2-1")) {
                    drop(index.findings_of(&HostId::new("a")));
                    drop(index.worst(10));
                }
            }
        }
    }
}
