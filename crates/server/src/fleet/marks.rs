//! What looks at the whole fleet go by, side by side in memory: findings, and a glance at each host. By slot.

use super::{Mark, STATES};
use fettle_core::finding::FindingState;
use fettle_store::findings::Rank;

/// What most looks want of a host, without looking at the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glance {
    /// How many of its findings are in each state.
    pub(super) counts: [u32; STATES],
    /// The rank of the worst that is open.
    pub(super) worst: Rank,
    /// Number of its policy and ring; [`Glance::NOBODY`]: no host is in this slot.
    pub(super) stage: u32,
    /// Number of its kind.
    pub(super) kind: u32,
    /// Number of the list of its packages; [`Glance::NOTHING`]: it has said of none.
    pub(super) list: u32,
    /// A policy governs it.
    pub(super) governed: bool,
    pub(super) quarantined: bool,
    /// It said what is installed there.
    pub(super) reported: bool,
    /// There is vulnerability data for what it runs.
    pub(super) judged: bool,
}

impl Glance {
    pub(super) const NOBODY: u32 = u32::MAX;
    pub(super) const NOTHING: u32 = u32::MAX;
}

impl Default for Glance {
    fn default() -> Self {
        Self {
            counts: [0; STATES],
            worst: Rank::default(),
            stage: Self::NOBODY,
            kind: Self::NOTHING,
            list: Self::NOTHING,
            governed: false,
            quarantined: false,
            reported: false,
            judged: false,
        }
    }
}

/// Where the findings of one host lie, and how many there is room for.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: usize,
    length: usize,
    /// How many of them are owed by a deadline.
    owed: usize,
    room: usize,
}

/// The findings of all hosts, one host after the other.
#[derive(Debug, Default)]
pub(super) struct Marks {
    all: Vec<Mark>,
    /// Where a host's findings lie in `all`, here are the deadlines of those that it owes, the earliest first.
    due: Vec<u32>,
    spans: Vec<Span>,
    /// Places that nobody's findings can come to lie in any more.
    lost: usize,
}

/// So many lost places are not worth a move.
const LITTLE: usize = 4096;

impl Marks {
    /// The findings of the host in a slot, in the order in which they were set.
    pub(super) fn of(&self, at: u32) -> &[Mark] {
        let span = self.spans.get(at as usize).copied().unwrap_or_default();
        &self.all[span.start..span.start + span.length]
    }

    /// Those of one vulnerability, of findings that were set in the order of these.
    pub(super) fn about(&self, at: u32, id: u32) -> &[Mark] {
        let marks = self.of(at);
        let from = marks.partition_point(|m| m.id < id);
        let length = marks[from..].partition_point(|m| m.id == id);
        &marks[from..from + length]
    }

    /// How many findings the host in a slot owes whose deadline is before this second.
    pub(super) fn overdue(&self, at: u32, now: u32) -> u64 {
        let span = self.spans.get(at as usize).copied().unwrap_or_default();
        let due = &self.due[span.start..span.start + span.owed];
        due.partition_point(|deadline| *deadline < now) as u64
    }

    /// Sets the findings of the host in a slot.
    pub(super) fn set(&mut self, at: u32, marks: &[Mark]) {
        let at = at as usize;
        if at >= self.spans.len() {
            self.spans.resize(at + 1, Span::default());
        }
        let is_owed = |m: &&Mark| m.state == FindingState::Open && m.deadline > 0;
        let mut due: Vec<u32> = marks.iter().filter(is_owed).map(|m| m.deadline).collect();
        due.sort_unstable();
        let (length, owed) = (marks.len(), due.len());
        let span = &mut self.spans[at];
        if length <= span.room {
            (span.length, span.owed) = (length, owed);
            self.all[span.start..span.start + length].copy_from_slice(marks);
            self.due[span.start..span.start + owed].copy_from_slice(&due);
            return;
        }
        self.lost += span.room;
        *span = Span { start: self.all.len(), length, owed, room: length };
        self.all.extend_from_slice(marks);
        self.due.append(&mut due);
        self.due.resize(self.all.len(), 0);
        if self.lost > LITTLE.max(self.all.len() / 2) {
            self.close_up();
        }
    }

    /// Lets all lie side by side again, in the order of the slots.
    pub(super) fn close_up(&mut self) {
        let together = self.spans.iter().map(|span| span.length).sum();
        let (mut all, mut due) = (Vec::with_capacity(together), Vec::with_capacity(together));
        for span in &mut self.spans {
            let (from, start) = (span.start, all.len());
            all.extend_from_slice(&self.all[from..from + span.length]);
            due.extend_from_slice(&self.due[from..from + span.owed]);
            due.resize(all.len(), 0);
            *span = Span { start, room: span.length, ..*span };
        }
        (self.all, self.due, self.lost) = (all, due, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::finding::Severity;

    fn marks(ids: &[u32]) -> Vec<Mark> {
        let mark = |id: &u32| Mark {
            rank: Default::default(),
            id: *id,
            source: 0,
            // Some are owed by a deadline, some without, some are owed no more.
            deadline: id.wrapping_mul(7) % 50,
            fixed_at: 0,
            class: 0,
            state: [FindingState::Open, FindingState::Open, FindingState::Fixed][*id as usize % 3],
            severity: Severity::High,
        };
        ids.iter().map(mark).collect()
    }

    fn ids(marks: &[Mark]) -> Vec<u32> {
        marks.iter().map(|mark| mark.id).collect()
    }

    #[test]
    fn however_often_they_are_set_each_slot_has_what_it_was_given_last() {
        let mut all = Marks::default();
        let mut given: Vec<Vec<u32>> = vec![Vec::new(); 50];
        // More and fewer in turns: in place, at the end, and closed up many times over.
        for turn in 0..4000_u32 {
            let at = turn.wrapping_mul(2_654_435_761) >> 16;
            let (at, many) = (at % 50, at % 37);
            given[at as usize] = (0..many).map(|n| turn + n).collect();
            all.set(at, &marks(&given[at as usize]));
        }
        let check = |all: &Marks| {
            for (at, given) in (0..).zip(&given) {
                assert_eq!(ids(all.of(at)), *given);
                for now in [0, 1, 20, 49, 50] {
                    let late = all.of(at).iter().filter(|m| {
                        m.state == FindingState::Open && m.deadline > 0 && m.deadline < now
                    });
                    assert_eq!(all.overdue(at, now), late.count() as u64, "{at} {now}");
                }
            }
        };
        check(&all);
        let held: usize = given.iter().map(Vec::len).sum();
        all.close_up();
        assert_eq!((all.all.len(), all.due.len(), all.lost), (held, held, 0));
        check(&all);
        assert_eq!(ids(all.of(1000)), [0; 0], "nobody is there");
    }

    #[test]
    fn of_one_vulnerability_a_host_may_have_several_findings_or_none() {
        let mut all = Marks::default();
        all.set(3, &marks(&[1, 4, 4, 9]));
        assert_eq!([1, 2, 4, 9, 10].map(|id| all.about(3, id).len()), [1, 0, 2, 1, 0]);
        assert_eq!(all.about(2, 4).len(), 0);
    }
}
