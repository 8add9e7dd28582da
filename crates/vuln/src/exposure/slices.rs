//! What a catalogue says of one source package of one release, and a mark by which it is known again in another catalogue.

use super::catalogue::{Catalogue, Statement};
use fettle_core::Digest;
use fettle_core::advisory::AdvisoryStatus;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

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

/// What a catalogue says differently of the source packages of a release than the one before it, and where it says what.
#[derive(Debug, Default)]
pub(super) struct Differences<'c> {
    /// Source packages of which it says something else, by name.
    pub(super) changed: Vec<&'c Arc<str>>,
    /// From this source package on, statements lie so much further than before, up to the next of these.
    pub(super) moved: Vec<(&'c Arc<str>, i64)>,
}

impl Catalogue {
    /// How the slices of a release differ from those of the catalogue before. Both lie in order, and the marks of what is
    /// the same are enough to see that it is: names are read only where something is not.
    pub(super) fn differences<'c>(
        &'c self,
        before: &'c Catalogue,
        release: &str,
    ) -> Differences<'c> {
        let mut found = Differences::default();
        let mut was = before.slices(release).into_iter().flatten().peekable();
        let mut is = self.slices(release).into_iter().flatten().peekable();
        let mut further = 0;
        loop {
            let (old, new) = match (was.peek(), is.peek()) {
                (None, None) => return found,
                (Some((source, _)), None) => {
                    found.changed.push(*source);
                    was.next();
                    continue;
                }
                (None, Some((source, _))) => {
                    found.changed.push(*source);
                    is.next();
                    continue;
                }
                (Some(old), Some(new)) => (*old, *new),
            };
            let marked = old.1.mark.is_some() && old.1.mark == new.1.mark;
            let order = if marked { Ordering::Equal } else { old.0.cmp(new.0) };
            if order == Ordering::Equal {
                if marked || before.mark(old.1) == self.mark(new.1) {
                    let by = new.1.places.start as i64 - old.1.places.start as i64;
                    if by != further {
                        found.moved.push((new.0, by));
                        further = by;
                    }
                } else {
                    found.changed.push(new.0);
                }
            } else {
                found.changed.push(if order == Ordering::Less { old.0 } else { new.0 });
            }
            was.next_if(|_| order != Ordering::Greater);
            is.next_if(|_| order != Ordering::Less);
        }
    }

    /// A digest of the source package and of all that decides which findings these statements make, in which state, and how
    /// much each of them counts: where it is the same in another catalogue, nothing is to be judged anew. It is a cryptographic one, because that a
    /// statement changed must not go unnoticed. What is only told along with a finding (the vendor's words, scores, days) is
    /// read when it is asked for, and is not in it.
    pub(super) fn mark_of(&self, places: Range<usize>) -> Digest {
        let mut bytes = Vec::with_capacity(places.len() * 64);
        let statements = self.slice(places);
        if let Some(first) = statements.first() {
            write_text(&first.source, &mut bytes);
        }
        for statement in statements {
            self.write(statement, &mut bytes);
        }
        Digest::of(&bytes)
    }

    /// The mark of a slice.
    pub(super) fn mark(&self, slice: &Slice) -> Digest {
        slice.mark.unwrap_or_else(|| self.mark_of(slice.places.clone()))
    }

    fn write(&self, statement: &Statement, bytes: &mut Vec<u8>) {
        let mut text = |text: &str| write_text(text, bytes);
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

/// A text with its length in front, so that no two lists of texts give the same bytes.
fn write_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
