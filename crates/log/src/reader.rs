//! Reading a log: its blocks, its tables, its objects.
//!
//! Opening reads the headers and the tables of all blocks; everything else is read when it is asked
//! for. A log whose last block is incomplete (its process was killed, or is still writing) is read
//! up to the block before, and [`Log::incomplete`] says so.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::block::{self, HEADER, Open, Parsed, Section};
use crate::bytes::Malformed;
use crate::spans::Spans;
use crate::{Block, Error, Object, Tables};

/// How many blocks stay in memory, and how many sets of definitions.
const CACHED: usize = 8;
const CACHED_OBJECTS: usize = 64;

/// A log.
pub struct Log {
    file: File,
    blocks: Vec<(u64, Parsed)>,
    tables: Tables,
    incomplete: Option<u64>,
    cache: Mutex<Cache>,
    spans: OnceLock<Spans>,
}

#[derive(Default)]
struct Cache {
    blocks: VecDeque<(usize, Arc<Block>)>,
    objects: VecDeque<(usize, Arc<Vec<Object>>)>,
}

/// What the header of a block says.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockInfo {
    /// The number of its first operation.
    pub first_operation: u64,
    /// How many operations begin in it.
    pub operations: u32,
    /// When it begins and ends, in nanoseconds since the recording began.
    pub time: (u64, u64),
    /// Its size in the file.
    pub bytes: u64,
    /// The first and the last serial defined in it; zero if there is none.
    pub objects: (u64, u64),
}

impl Log {
    /// Opens a log.
    ///
    /// # Errors
    /// It cannot be read, or is no log of this version, or damaged (other than cut off at its end).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut preamble = [0; 16];
        if length < 16 {
            return Err(Error::NotALog);
        }
        file.read_exact_at(&mut preamble, 0)?;
        if preamble[..8] != crate::MAGIC {
            return Err(Error::NotALog);
        }
        let version = preamble[8..12].try_into().map_or(0, u32::from_le_bytes);
        if version != crate::VERSION {
            return Err(Error::Version(version));
        }
        let mut this = Self {
            file,
            blocks: Vec::new(),
            tables: Tables::default(),
            incomplete: None,
            cache: Mutex::default(),
            spans: OnceLock::new(),
        };
        this.scan(length)?;
        Ok(this)
    }

    fn scan(&mut self, length: u64) -> Result<(), Error> {
        let mut position = 16;
        while position < length {
            let mut header = [0; HEADER];
            if length - position < HEADER as u64 {
                self.incomplete = Some(length - position);
                break;
            }
            self.file.read_exact_at(&mut header, position)?;
            let index = self.blocks.len();
            let parsed = Parsed::new(&header).ok_or(Error::Damaged {
                block: index,
                what: "its header is not what was written",
            })?;
            let follows = self
                .blocks
                .last()
                .is_none_or(|(_, last)| parsed.header.first_operation == last.header.behind());
            if !follows {
                return Err(Error::Damaged {
                    block: index,
                    what: "it does not follow the one before it",
                });
            }
            let end = position + HEADER as u64 + u64::from(parsed.payload);
            if end > length {
                self.incomplete = Some(length - position);
                break;
            }
            // After a crash of the machine, not only of the process, the last block can have the
            // right size without the right contents.
            if end == length {
                let mut payload = vec![0; parsed.payload as usize];
                self.file
                    .read_exact_at(&mut payload, position + HEADER as u64)?;
                if !parsed.is_intact(&payload) {
                    self.incomplete = Some(length - position);
                    break;
                }
            }
            self.blocks.push((position + HEADER as u64, parsed));
            let tables = self.section(index, Section::Tables)?;
            self.tables
                .extend(&tables)
                .map_err(damaged(index, "its tables make no sense"))?;
            position = end;
        }
        Ok(())
    }

    /// The strings, code objects, sites, threads and notes.
    pub const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The number of bytes at the end that are no whole block.
    pub const fn incomplete(&self) -> Option<u64> {
        self.incomplete
    }

    /// The number of the first operation (after one if a ring dropped some) and of the last one.
    pub fn range(&self) -> (u64, u64) {
        let first = self
            .blocks
            .iter()
            .find(|(_, parsed)| parsed.header.operations > 0);
        let last = self.blocks.last();
        match (first, last) {
            (Some((_, first)), Some((_, last))) => {
                (first.header.first_operation, last.header.behind() - 1)
            }
            _ => (1, 0),
        }
    }

    /// How many operations there are.
    pub fn operations(&self) -> u64 {
        let (first, last) = self.range();
        (last + 1).saturating_sub(first)
    }

    /// What the headers of the blocks say.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = BlockInfo> + '_ {
        self.blocks.iter().map(|(_, parsed)| BlockInfo {
            first_operation: parsed.header.first_operation,
            operations: parsed.header.operations,
            time: (parsed.header.start, parsed.header.end),
            bytes: HEADER as u64 + u64::from(parsed.payload),
            objects: (parsed.header.first_object, parsed.header.last_object),
        })
    }

    /// The block in which an operation begins.
    pub fn block_of(&self, operation: u64) -> Option<usize> {
        let after = self
            .blocks
            .partition_point(|(_, parsed)| parsed.header.first_operation <= operation);
        // Blocks without operations begin where the next one does.
        (0..after).rev().find(|&index| {
            let header = &self.blocks[index].1.header;
            header.operations > 0
                && operation - header.first_operation < u64::from(header.operations)
        })
    }

    /// Reads a block whole, and checks it.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn block(&self, index: usize) -> Result<Arc<Block>, Error> {
        {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = cache.blocks.iter().position(|(number, _)| *number == index)
                && let Some(entry) = cache.blocks.remove(at)
            {
                let block = Arc::clone(&entry.1);
                cache.blocks.push_back(entry);
                return Ok(block);
            }
        }
        let (position, parsed) = self.parsed(index)?;
        let mut payload = vec![0; parsed.payload as usize];
        self.file.read_exact_at(&mut payload, position)?;
        if !parsed.is_intact(&payload) {
            return Err(Error::Damaged {
                block: index,
                what: "its checksum is wrong",
            });
        }
        let unpack = |section| {
            payload
                .get(parsed.place(section))
                .ok_or(Malformed)
                .and_then(|bytes| parsed.unpack(section, bytes))
                .map_err(damaged(index, "a part of it cannot be uncompressed"))
        };
        let block = Arc::new(Block::parse(
            &parsed.header,
            &unpack(Section::Open)?,
            &unpack(Section::Rows)?,
            index,
        )?);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.blocks.len() >= CACHED {
            cache.blocks.pop_front();
        }
        cache.blocks.push_back((index, Arc::clone(&block)));
        Ok(block)
    }

    /// The objects and the sites that a block mentions, each in order.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn summary(&self, index: usize) -> Result<(Vec<u64>, Vec<u32>), Error> {
        block::parse_summary(&self.section(index, Section::Summary)?)
            .map_err(damaged(index, "its summary makes no sense"))
    }

    /// What was open when a block began: of each thread its index, task, and operations.
    pub(crate) fn open_at(&self, index: usize) -> Result<Open, Error> {
        let (_, parsed) = self.parsed(index)?;
        block::parse_open(&parsed.header, &self.section(index, Section::Open)?)
            .map_err(damaged(index, "its stacks make no sense"))
    }

    /// Where operations end that end in another block than their own; read at the first question.
    pub(crate) fn spans(&self) -> Result<&Spans, Error> {
        if let Some(known) = self.spans.get() {
            return Ok(known);
        }
        let read = Spans::read(self)?;
        Ok(self.spans.get_or_init(|| read))
    }

    /// The objects that were first seen in a block, in order.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn objects_of(&self, index: usize) -> Result<Arc<Vec<Object>>, Error> {
        {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = cache
                .objects
                .iter()
                .position(|(number, _)| *number == index)
                && let Some(entry) = cache.objects.remove(at)
            {
                let objects = Arc::clone(&entry.1);
                cache.objects.push_back(entry);
                return Ok(objects);
            }
        }
        let (_, parsed) = self.parsed(index)?;
        let objects = Arc::new(
            block::parse_objects(&parsed.header, &self.section(index, Section::Objects)?)
                .map_err(damaged(index, "its objects make no sense"))?,
        );
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.objects.len() >= CACHED_OBJECTS {
            cache.objects.pop_front();
        }
        cache.objects.push_back((index, Arc::clone(&objects)));
        Ok(objects)
    }

    /// An object, as it was when it was first seen.
    ///
    /// # Errors
    /// The log has none of this serial, cannot be read, or is damaged.
    pub fn object(&self, serial: u64) -> Result<Object, Error> {
        let missing = || Error::Missing {
            what: "object",
            number: serial,
        };
        // Serials are given in order, so the blocks that define any are in the order of serials.
        // A block without objects says zero; none of those is looked at.
        let mut low = 0;
        let mut high = self.blocks.len();
        while low < high {
            let middle = usize::midpoint(low, high);
            let Some(index) = (middle..high).find(|&i| self.blocks[i].1.header.first_object > 0)
            else {
                high = middle;
                continue;
            };
            let header = &self.blocks[index].1.header;
            if serial < header.first_object {
                high = middle;
            } else if serial > header.last_object {
                low = index + 1;
            } else {
                let objects = self.objects_of(index)?;
                let at = objects
                    .binary_search_by_key(&serial, |object| object.serial)
                    .map_err(|_| missing())?;
                return Ok(objects[at].clone());
            }
        }
        Err(missing())
    }

    fn parsed(&self, index: usize) -> Result<(u64, Parsed), Error> {
        self.blocks.get(index).copied().ok_or(Error::Missing {
            what: "block",
            number: index as u64,
        })
    }

    fn section(&self, index: usize, section: Section) -> Result<Vec<u8>, Error> {
        let (position, parsed) = self.parsed(index)?;
        let place = parsed.place(section);
        let mut packed = vec![0; place.len()];
        self.file
            .read_exact_at(&mut packed, position + place.start as u64)?;
        parsed
            .unpack(section, &packed)
            .map_err(damaged(index, "a part of it cannot be uncompressed"))
    }
}

fn damaged(block: usize, what: &'static str) -> impl Fn(Malformed) -> Error {
    move |Malformed| Error::Damaged { block, what }
}
