//! The objects of this side that the peer may refer to.
//!
//! Invariants:
//! - `count` of an entry is the number of references sent and not yet released; it is never
//!   negative, and an entry whose count is 0 is gone unless it is pinned or in limbo.
//! - One object (one `key`) has one entry. The lowest free slot is used first, with a generation
//!   that this slot never had.
//! - An entry in limbo has been released while payloads that came before the release are still
//!   being read; it goes when they are, unless it has been exported again by then.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use crate::error::{Error, Limit, Misuse, PeerMisbehaved};
use crate::{ExportId, Ticket};

#[derive(Debug)]
struct Slot<O> {
    /// Of the entry if there is one, else of the next.
    generation: u32,
    entry: Option<Entry<O>>,
}

#[derive(Debug)]
struct Entry<O> {
    object: O,
    key: u64,
    count: u64,
    pinned: bool,
    shape_sent: bool,
    /// The last ticket bound that it waits for, if it is in limbo.
    limbo: Option<Ticket>,
}

#[derive(Debug)]
pub(super) struct Exports<O> {
    slots: Vec<Slot<O>>,
    free: BinaryHeap<Reverse<u32>>,
    by_key: HashMap<u64, u32>,
    limbo: VecDeque<(Ticket, u32)>,
    limit: usize,
}

impl<O> Exports<O> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: BinaryHeap::new(),
            by_key: HashMap::new(),
            limbo: VecDeque::new(),
            limit,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Counts one more reference to the object of `key`.
    pub(super) fn export(&mut self, key: u64, make: impl FnOnce() -> O) -> Result<ExportId, Error> {
        if let Some(&number) = self.by_key.get(&key) {
            let slot = self.slot_mut(number)?;
            let generation = slot.generation;
            let entry = slot.entry.as_mut().ok_or(BROKEN)?;
            entry.count += 1;
            return Ok(ExportId::new(number, generation));
        }
        if self.by_key.len() >= self.limit {
            return Err(Error::LimitExceeded {
                what: Limit::References,
                limit: self.limit,
            });
        }
        let number = match self.free.pop() {
            Some(Reverse(number)) => number,
            None => {
                let number = u32::try_from(self.slots.len()).map_err(|_| BROKEN)?;
                self.slots.push(Slot {
                    generation: 0,
                    entry: None,
                });
                number
            }
        };
        self.by_key.insert(key, number);
        let slot = self.slot_mut(number)?;
        slot.entry = Some(Entry {
            object: make(),
            key,
            count: 1,
            pinned: false,
            shape_sent: false,
            limbo: None,
        });
        Ok(ExportId::new(number, slot.generation))
    }

    /// Takes back one reference that was not sent after all.
    pub(super) fn unexport(&mut self, id: ExportId) -> Result<Option<O>, Error> {
        let entry = self.entry_mut(id).map_err(|_| Misuse::UnknownExport(id))?;
        entry.count = entry
            .count
            .checked_sub(1)
            .ok_or(Misuse::UnknownExport(id))?;
        if entry.count > 0 || entry.pinned || entry.limbo.is_some() {
            return Ok(None);
        }
        Ok(self.remove(id.slot()))
    }

    /// Every live entry: its object and how often it was sent.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&O, u64)> {
        self.slots
            .iter()
            .filter_map(|slot| slot.entry.as_ref())
            .map(|entry| (&entry.object, entry.count))
    }

    pub(super) fn get(&self, id: ExportId) -> Result<&O, PeerMisbehaved> {
        let slot = usize::try_from(id.slot())
            .ok()
            .and_then(|at| self.slots.get(at));
        match slot {
            Some(Slot {
                generation,
                entry: Some(entry),
            }) if *generation == id.generation() => Ok(&entry.object),
            Some(slot) if id.generation() < slot.generation => Err(PeerMisbehaved::StaleExport(id)),
            _ => Err(PeerMisbehaved::UnknownExport(id)),
        }
    }

    /// Keeps the entry until the session ends.
    pub(super) fn pin(&mut self, id: ExportId) -> Result<(), Error> {
        self.entry_mut(id)
            .map_err(|_| Misuse::UnknownExport(id))?
            .pinned = true;
        Ok(())
    }

    pub(super) fn shape_sent(&self, id: ExportId) -> bool {
        self.get(id).is_ok()
            && usize::try_from(id.slot())
                .ok()
                .and_then(|at| self.slots.get(at))
                .and_then(|slot| slot.entry.as_ref())
                .is_some_and(|entry| entry.shape_sent)
    }

    pub(super) fn mark_shape_sent(&mut self, id: ExportId) -> Result<(), Error> {
        self.entry_mut(id)
            .map_err(|_| Misuse::UnknownExport(id))?
            .shape_sent = true;
        Ok(())
    }

    /// The peer gave back `count` references. With `reading`, payloads of before that ticket are
    /// still being read: the object stays until they are done.
    pub(super) fn release(
        &mut self,
        id: ExportId,
        count: u64,
        reading: Option<Ticket>,
    ) -> Result<Option<O>, PeerMisbehaved> {
        if count == 0 {
            return Err(PeerMisbehaved::EmptyRelease(id));
        }
        let entry = self.entry_mut(id)?;
        entry.count = entry
            .count
            .checked_sub(count)
            .ok_or(PeerMisbehaved::ReleasedTooOften(id))?;
        if entry.count > 0 || entry.pinned {
            return Ok(None);
        }
        match reading {
            None => Ok(self.remove(id.slot())),
            Some(bound) => {
                if entry.limbo.replace(bound).is_none() {
                    self.limbo.push_back((bound, id.slot()));
                }
                Ok(None)
            }
        }
    }

    /// Every payload of before `bound` has been read: removes what waited for that.
    pub(super) fn settle(&mut self, bound: Ticket, dropped: &mut Vec<O>) {
        while let Some(&(first, number)) = self.limbo.front() {
            if first > bound {
                return;
            }
            self.limbo.pop_front();
            let Ok(slot) = self.slot_mut(number) else {
                continue;
            };
            let Some(entry) = &mut slot.entry else {
                continue;
            };
            let wait = entry.limbo.take();
            if entry.count > 0 || entry.pinned {
                continue;
            }
            match wait {
                // It was exported and released again while it waited.
                Some(later) if later > bound => {
                    entry.limbo = Some(later);
                    // Later bounds were given later: the queue stays nearly ordered, and an
                    // entry that stands too far back only waits a little longer.
                    self.limbo.push_back((later, number));
                }
                _ => dropped.extend(self.remove(number)),
            }
        }
    }

    /// Empties the table.
    pub(super) fn clear(&mut self, dropped: &mut Vec<O>) {
        self.free.clear();
        self.by_key.clear();
        self.limbo.clear();
        let slots = std::mem::take(&mut self.slots);
        dropped.extend(
            slots
                .into_iter()
                .filter_map(|slot| Some(slot.entry?.object)),
        );
    }

    fn remove(&mut self, number: u32) -> Option<O> {
        let slot = self.slot_mut(number).ok()?;
        let entry = slot.entry.take()?;
        // A slot that has had every generation is not used again.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(Reverse(number));
        }
        self.by_key.remove(&entry.key);
        Some(entry.object)
    }

    fn slot_mut(&mut self, number: u32) -> Result<&mut Slot<O>, Error> {
        usize::try_from(number)
            .ok()
            .and_then(|at| self.slots.get_mut(at))
            .ok_or(BROKEN)
    }

    fn entry_mut(&mut self, id: ExportId) -> Result<&mut Entry<O>, PeerMisbehaved> {
        self.get(id)?;
        self.slot_mut(id.slot())
            .ok()
            .and_then(|slot| slot.entry.as_mut())
            .ok_or(PeerMisbehaved::UnknownExport(id))
    }
}

const BROKEN: Error = Error::Internal("the table of exports is inconsistent");

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Exports<&'static str> {
        Exports::new(3)
    }

    #[test]
    fn one_object_has_one_entry_and_a_count() {
        let mut table = table();
        let a = table.export(10, || "a").unwrap();
        assert_eq!(table.export(10, || unreachable!()).unwrap(), a);
        assert_eq!(table.release(a, 1, None), Ok(None));
        assert_eq!(table.release(a, 1, None), Ok(Some("a")));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn the_lowest_free_slot_is_reused_with_a_new_generation() {
        let mut table = table();
        let ids: Vec<_> = (0..3)
            .map(|key| table.export(key, || "x").unwrap())
            .collect();
        table.release(ids[2], 1, None).unwrap();
        table.release(ids[0], 1, None).unwrap();
        let again = table.export(9, || "y").unwrap();
        assert_eq!((again.slot(), again.generation()), (0, 1));
        assert_eq!(table.get(ids[0]), Err(PeerMisbehaved::StaleExport(ids[0])));
        let never = ExportId::new(0, 2);
        assert_eq!(table.get(never), Err(PeerMisbehaved::UnknownExport(never)));
    }

    #[test]
    fn the_limit_of_references_holds_at_n_and_n_plus_1() {
        let mut table = table();
        for key in 0..3 {
            table.export(key, || "x").unwrap();
        }
        assert!(table.export(2, || "x").is_ok());
        assert_eq!(
            table.export(3, || "x"),
            Err(Error::LimitExceeded {
                what: Limit::References,
                limit: 3
            })
        );
    }

    #[test]
    fn releasing_too_often_or_not_at_all_is_refused() {
        let mut table = table();
        let id = table.export(1, || "x").unwrap();
        assert_eq!(
            table.release(id, 2, None),
            Err(PeerMisbehaved::ReleasedTooOften(id))
        );
        assert_eq!(
            table.release(id, 0, None),
            Err(PeerMisbehaved::EmptyRelease(id))
        );
    }

    #[test]
    fn a_pinned_entry_outlives_its_references() {
        let mut table = table();
        let id = table.export(1, || "class").unwrap();
        table.pin(id).unwrap();
        assert!(!table.shape_sent(id));
        table.mark_shape_sent(id).unwrap();
        assert_eq!(table.release(id, 1, None), Ok(None));
        assert_eq!(table.get(id), Ok(&"class"));
        assert!(table.shape_sent(id));
    }

    #[test]
    fn what_is_being_read_about_stays_until_it_is_read() {
        let mut table = table();
        let mut dropped = Vec::new();
        let id = table.export(1, || "x").unwrap();
        assert_eq!(table.release(id, 1, Some(Ticket(5))), Ok(None));
        assert_eq!(table.get(id), Ok(&"x"));
        table.settle(Ticket(4), &mut dropped);
        assert!(dropped.is_empty());
        table.settle(Ticket(5), &mut dropped);
        assert_eq!(dropped, ["x"]);
    }

    #[test]
    fn an_export_out_of_limbo_lives_on() {
        let mut table = table();
        let mut dropped = Vec::new();
        let id = table.export(1, || "x").unwrap();
        table.release(id, 1, Some(Ticket(5))).unwrap();
        assert_eq!(table.export(1, || "new").unwrap(), id);
        table.settle(Ticket(5), &mut dropped);
        assert_eq!(table.get(id), Ok(&"x"));
        // And again, with the first wait still standing.
        table.release(id, 1, Some(Ticket(6))).unwrap();
        table.export(1, || "new").unwrap();
        table.release(id, 1, Some(Ticket(8))).unwrap();
        table.settle(Ticket(7), &mut dropped);
        assert_eq!(table.get(id), Ok(&"x"));
        table.settle(Ticket(8), &mut dropped);
        assert_eq!(dropped, ["x"]);
    }

    #[test]
    fn unexport_undoes_one_reference() {
        let mut table = table();
        let id = table.export(1, || "x").unwrap();
        table.export(1, || "x").unwrap();
        assert_eq!(table.unexport(id), Ok(None));
        assert_eq!(table.unexport(id), Ok(Some("x")));
        assert_eq!(table.unexport(id), Err(Misuse::UnknownExport(id).into()));
    }
}
