//! Which objects a pickle has written, and as which entries of the reader's memo.
//!
//! An open hash table of addresses: no more is needed, and this is asked for each object. All objects in
//! it are kept alive, so that no address stands for two of them, also if a lookup of a name has run
//! code that let go of them.

use pyo3::prelude::*;

const EMPTY: usize = 0;

pub(super) struct Memo<'py> {
    /// Key and number; a power of two of them, at most half of them in use.
    table: Vec<(usize, u32)>,
    used: usize,
    /// The number of the next entry.
    next: u32,
    held: Vec<Bound<'py, PyAny>>,
}

impl<'py> Memo<'py> {
    pub(super) fn new() -> Self {
        Self {
            table: vec![(EMPTY, 0); 64],
            used: 0,
            next: 0,
            held: Vec::with_capacity(16),
        }
    }

    /// Where a key is, or could be put.
    fn place(table: &[(usize, u32)], key: usize) -> usize {
        // Addresses of objects are multiples of 16; the lowest bit is free for another kind of key.
        let hash = (key >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let mask = table.len() - 1;
        let mut place = hash & mask;
        while table[place].0 != EMPTY && table[place].0 != key {
            place = (place + 1) & mask;
        }
        place
    }

    /// The entry of a key.
    pub(super) fn get(&self, key: usize) -> Option<u32> {
        let (known, number) = self.table[Self::place(&self.table, key)];
        (known == key).then_some(number)
    }

    /// The next entry is that of this key; `object` is kept alive.
    pub(super) fn add(&mut self, key: usize, object: &Bound<'py, PyAny>) {
        self.held.push(object.clone());
        let number = self.add_unnamed();
        if 2 * self.used >= self.table.len() {
            let mut table = vec![(EMPTY, 0); 2 * self.table.len()];
            for &(key, number) in self.table.iter().filter(|(key, _)| *key != EMPTY) {
                let place = Self::place(&table, key);
                table[place] = (key, number);
            }
            self.table = table;
        }
        let place = Self::place(&self.table, key);
        self.used += 1;
        self.table[place] = (key, number);
    }

    /// The next entry is of no object that could be met again.
    pub(super) fn add_unnamed(&mut self) -> u32 {
        let number = self.next;
        self.next += 1;
        number
    }
}
