//! Where the operations end that do not end in the block in which they begin.
//!
//! Read once per log, from the part of each block that says what was open when it began: a few
//! bytes per block. Not here: with what they end, which the block of their end says.

use std::collections::HashMap;

use crate::{Error, Log};

/// Operations and the blocks in which they end, by number.
pub(crate) struct Spans {
    ends: Vec<(u64, usize)>,
}

impl Spans {
    pub(crate) fn read(log: &Log) -> Result<Self, Error> {
        let mut ends = Vec::new();
        let mut stacks: HashMap<u32, Vec<u64>> = HashMap::new();
        let blocks = log.blocks().len();
        for index in 0..blocks {
            for (thread, _, open) in log.open_at(index)? {
                let stack = stacks.entry(thread).or_default();
                let same = stack
                    .iter()
                    .zip(&open)
                    .take_while(|(was, (is, _))| *was == is)
                    .count();
                let ended = stack.drain(same..);
                ends.extend(ended.map(|number| (number, index.saturating_sub(1))));
                stack.extend(open[same..].iter().map(|(number, _)| number));
            }
        }
        // The rest ends in the last block, if at all.
        let last = blocks.saturating_sub(1);
        ends.extend(stacks.into_values().flatten().map(|number| (number, last)));
        ends.sort_unstable();
        ends.dedup_by_key(|(number, _)| *number);
        Ok(Self { ends })
    }

    /// The block in which an operation ends, if it ends and not in its own.
    pub(crate) fn end(&self, number: u64) -> Option<usize> {
        let at = self
            .ends
            .binary_search_by_key(&number, |(number, _)| *number);
        at.ok().map(|at| self.ends[at].1)
    }

    /// The blocks in which operations of a range end.
    pub(crate) fn ends(&self, first: u64, count: u64) -> impl Iterator<Item = usize> + '_ {
        let from = self.ends.partition_point(|(number, _)| *number < first);
        let behind = first.saturating_add(count);
        self.ends[from..]
            .iter()
            .take_while(move |(number, _)| *number < behind)
            .map(|(_, block)| *block)
    }
}
