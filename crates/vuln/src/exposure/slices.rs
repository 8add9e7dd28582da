//! What a catalogue says of one source package of one release, and a mark by which it is known again in another catalogue.

use super::catalogue::{Catalogue, Statement};
use fettle_core::Digest;
use fettle_core::advisory::AdvisoryStatus;
use std::ops::Range;

/// The statements about one source package of one release.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// Their places in the catalogue.
    pub(crate) places: Range<usize>,
    /// [`Catalogue::mark_of`] them, where it was made when the catalogue was built.
    pub(crate) mark: Option<Digest>,
}

impl Slice {
    /// An empty one that begins here.
    pub(crate) fn at(place: usize) -> Self {
        Self { places: place..place, mark: None }
    }
}

impl Catalogue {
    /// A digest of all that decides which findings these statements make, in which state, and how much each of them counts:
    /// where it is the same in another catalogue, nothing is to be judged anew. It is a cryptographic one, because that a
    /// statement changed must not go unnoticed. What is only told along with a finding (the vendor's words, scores, days) is
    /// read when it is asked for, and is not in it.
    pub(super) fn mark_of(&self, places: Range<usize>) -> Digest {
        let mut bytes = Vec::with_capacity(places.len() * 64);
        for statement in self.slice(places) {
            self.write(statement, &mut bytes);
        }
        Digest::of(&bytes)
    }

    /// The mark of a slice.
    pub(super) fn mark(&self, slice: &Slice) -> Digest {
        slice.mark.unwrap_or_else(|| self.mark_of(slice.places.clone()))
    }

    fn write(&self, statement: &Statement, bytes: &mut Vec<u8>) {
        // Each text with its length in front, so that no two lists of texts give the same bytes.
        let mut text = |text: &str| {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        text(&statement.id);
        match &statement.status {
            AdvisoryStatus::NotAffected => text("not affected"),
            AdvisoryStatus::Undetermined => text("undetermined"),
            AdvisoryStatus::Fixed { version } => {
                text("fixed");
                text(version);
            }
            AdvisoryStatus::Open { elsewhere: None, .. } => text("open"),
            AdvisoryStatus::Open { elsewhere: Some(version), .. } => {
                text("fixed elsewhere");
                text(version);
            }
            AdvisoryStatus::Ranges { ranges } => {
                text("ranges");
                for range in ranges {
                    text(&range.introduced);
                    for end in [&range.fixed, &range.last] {
                        text(if end.is_some() { "to" } else { "on" });
                        text(end.as_deref().unwrap_or_default());
                    }
                }
                text("so far");
            }
        }
        bytes.push(statement.severity as u8);
        bytes.push(u8::from(self.is_exploited(statement)));
    }
}
