//! The objects of the peer that this side refers to.
//!
//! Invariants:
//! - `count` of an entry is the number of references received and not yet given back, at least 1.
//! - `handle` names the proxy that stands for the object, if the host has made one. An entry
//!   without a handle is being made by someone.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;

use crate::ImportId;
use crate::error::{Error, Limit, Misuse};

/// What [`crate::Session::import`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there is a proxy or there is none")]
pub enum Import {
    /// This proxy stands for the object.
    Known(u64),
    /// Make a proxy and [`crate::Session::bind`] it.
    New,
}

#[derive(Debug)]
struct Entry {
    count: u64,
    handle: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Imports {
    entries: HashMap<ImportId, Entry>,
    limit: usize,
}

impl Imports {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            limit,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Counts one more reference. `revive` says whether the proxy of a handle is still usable; if
    /// not, the entry forgets it, and its late [`unbind`](Self::unbind) does nothing.
    pub(super) fn import(
        &mut self,
        id: ImportId,
        revive: impl FnOnce(u64) -> bool,
    ) -> Result<Import, Error> {
        let full = self.entries.len() >= self.limit;
        match self.entries.entry(id) {
            Place::Occupied(place) => {
                let entry = place.into_mut();
                entry.count += 1;
                match entry.handle {
                    Some(handle) if revive(handle) => Ok(Import::Known(handle)),
                    _ => {
                        entry.handle = None;
                        Ok(Import::New)
                    }
                }
            }
            Place::Vacant(_) if full => Err(Error::LimitExceeded {
                what: Limit::References,
                limit: self.limit,
            }),
            Place::Vacant(place) => {
                place.insert(Entry {
                    count: 1,
                    handle: None,
                });
                Ok(Import::New)
            }
        }
    }

    pub(super) fn bound(&self, id: ImportId) -> Option<u64> {
        self.entries.get(&id)?.handle
    }

    /// Says which proxy stands for the object from now on; returns the one that did.
    pub(super) fn bind(&mut self, id: ImportId, handle: u64) -> Result<Option<u64>, Error> {
        let entry = self.entries.get_mut(&id).ok_or(Misuse::UnknownImport(id))?;
        Ok(entry.handle.replace(handle))
    }

    /// The proxy died: removes the entry and returns how many references to give back, unless
    /// another proxy stands for the object by now (or is being made).
    pub(super) fn unbind(&mut self, id: ImportId, handle: u64) -> Option<u64> {
        if self.entries.get(&id)?.handle != Some(handle) {
            return None;
        }
        self.entries.remove(&id).map(|entry| entry.count)
    }

    /// Undoes one [`import`](Self::import): one reference is to be given back.
    pub(super) fn unimport(&mut self, id: ImportId) -> Result<(), Error> {
        let entry = self.entries.get_mut(&id).ok_or(Misuse::UnknownImport(id))?;
        if entry.count > 1 {
            entry.count -= 1;
        } else if entry.handle.is_none() {
            self.entries.remove(&id);
        } else {
            // The last reference belongs to the proxy.
            return Err(Misuse::UnknownImport(id).into());
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ImportId = ImportId::new(4, 2);

    #[test]
    fn the_same_object_twice_is_the_same_proxy() {
        let mut table = Imports::new(9);
        assert_eq!(table.import(ID, |_| true), Ok(Import::New));
        assert_eq!(table.bind(ID, 77), Ok(None));
        assert_eq!(table.import(ID, |_| true), Ok(Import::Known(77)));
        assert_eq!(table.unbind(ID, 77), Some(2));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_proxy_that_died_while_its_object_came_again_gives_nothing_back() {
        let mut table = Imports::new(9);
        table.import(ID, |_| true).unwrap();
        table.bind(ID, 1).unwrap();
        // It is dying, and its destructor has not come so far.
        assert_eq!(table.import(ID, |_| false), Ok(Import::New));
        assert_eq!(table.unbind(ID, 1), None);
        table.bind(ID, 2).unwrap();
        assert_eq!(table.unbind(ID, 1), None);
        assert_eq!(table.unbind(ID, 2), Some(2));
    }

    #[test]
    fn unimport_gives_one_back_and_leaves_the_proxy_its_own() {
        let mut table = Imports::new(9);
        table.import(ID, |_| true).unwrap();
        assert_eq!(table.unimport(ID), Ok(()));
        assert_eq!(table.len(), 0);
        table.import(ID, |_| true).unwrap();
        table.bind(ID, 1).unwrap();
        assert!(table.unimport(ID).is_err());
    }

    #[test]
    fn the_limit_of_references_holds_at_n_and_n_plus_1() {
        let mut table = Imports::new(2);
        table.import(ImportId::new(0, 0), |_| true).unwrap();
        table.import(ImportId::new(1, 0), |_| true).unwrap();
        assert!(table.import(ImportId::new(1, 0), |_| true).is_ok());
        assert!(table.import(ImportId::new(2, 0), |_| true).is_err());
    }

    #[test]
    fn binding_what_is_not_imported_is_refused() {
        assert_eq!(
            Imports::new(1).bind(ID, 1),
            Err(Misuse::UnknownImport(ID).into())
        );
    }
}
