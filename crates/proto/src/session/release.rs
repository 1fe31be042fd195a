//! What is to be given back to the peer: references and kept answers, gathered until the next
//! message, which they precede.

use std::collections::VecDeque;

use crate::message::ReleaseEntry;
use crate::{ImportId, QuestionId, Ticket};

/// So many entries go in one message.
const BATCH: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Releases {
    entries: Vec<ReleaseEntry>,
    finished: Vec<u32>,
}

impl Releases {
    pub(super) fn release(&mut self, id: ImportId, count: u64) {
        match self.entries.last_mut() {
            Some(last) if (last.slot, last.generation) == (id.slot(), id.generation()) => {
                last.count = last.count.saturating_add(count);
            }
            _ => self.entries.push(ReleaseEntry {
                slot: id.slot(),
                generation: id.generation(),
                count,
            }),
        }
    }

    pub(super) fn finish(&mut self, id: QuestionId) {
        self.finished.push(id.number());
    }

    pub(super) const fn len(&self) -> usize {
        self.entries.len() + self.finished.len()
    }

    /// The next message, or none if there is nothing to give back.
    pub(super) fn batch(&mut self) -> Option<(Vec<ReleaseEntry>, Vec<u32>)> {
        if self.len() == 0 {
            return None;
        }
        if self.entries.len() > 1 {
            self.entries
                .sort_unstable_by_key(|entry| (entry.slot, entry.generation));
            self.entries.dedup_by(|later, first| {
                let same = (later.slot, later.generation) == (first.slot, first.generation);
                if same {
                    first.count = first.count.saturating_add(later.count);
                }
                same
            });
        }
        Some((tail(&mut self.entries), tail(&mut self.finished)))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn tail<T>(all: &mut Vec<T>) -> Vec<T> {
    if all.len() <= BATCH {
        std::mem::take(all)
    } else {
        all.split_off(all.len() - BATCH)
    }
}

/// Which received payloads are still being read. A ticket is the number of a payload.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// Every payload of before this is done.
    first: u64,
    /// Of the payloads from `first` on: whether it is being read.
    open: VecDeque<bool>,
}

impl Readings {
    pub(super) fn start(&mut self) -> Ticket {
        let ticket = self.next();
        self.open.push_back(true);
        ticket
    }

    /// If payloads are being read: the ticket before which all of them are.
    pub(super) fn bound(&self) -> Option<Ticket> {
        (!self.open.is_empty()).then(|| self.next())
    }

    /// One payload is read; returns the ticket before which all are, if that has changed.
    pub(super) fn finish(&mut self, ticket: Ticket) -> Option<Ticket> {
        let at = usize::try_from(ticket.0.checked_sub(self.first)?).ok()?;
        *self.open.get_mut(at)? = false;
        if at > 0 {
            return None;
        }
        while self.open.front() == Some(&false) {
            self.open.pop_front();
            self.first += 1;
        }
        Some(Ticket(self.first))
    }

    pub(super) fn next(&self) -> Ticket {
        Ticket(
            self.first
                .saturating_add(u64::try_from(self.open.len()).unwrap_or(u64::MAX)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_one_object_are_merged() {
        let mut releases = Releases::default();
        for (slot, count) in [(1, 1), (2, 1), (1, 4)] {
            releases.release(ImportId::new(slot, 0), count);
        }
        let (entries, finished) = releases.batch().unwrap();
        let counts: Vec<_> = entries
            .iter()
            .map(|entry| (entry.slot, entry.count))
            .collect();
        assert_eq!(counts, [(1, 5), (2, 1)]);
        assert!(finished.is_empty());
        assert_eq!(releases.batch(), None);
    }

    #[test]
    fn many_releases_go_in_several_messages() {
        let mut releases = Releases::default();
        for slot in 0..2500 {
            releases.release(ImportId::new(slot, 0), 1);
        }
        let mut seen = 0;
        while let Some((entries, _)) = releases.batch() {
            assert!(entries.len() <= BATCH);
            seen += entries.len();
        }
        assert_eq!(seen, 2500);
    }

    #[test]
    fn readings_settle_in_the_order_of_their_tickets() {
        let mut readings = Readings::default();
        assert_eq!(readings.bound(), None);
        let (a, b) = (readings.start(), readings.start());
        assert_eq!(readings.bound(), Some(Ticket(2)));
        assert_eq!(readings.finish(b), None);
        assert_eq!(readings.finish(a), Some(Ticket(2)));
        assert_eq!(readings.finish(a), None);
        assert_eq!(readings.bound(), None);
    }
}
