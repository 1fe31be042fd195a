//! From the words of a recorder to blocks of the file. `docs/dump-format.md` describes the bytes.

use std::collections::BTreeMap;

use crate::Error;
use crate::block::{self, HEADER, Header, SECTIONS, Section, Status, row};
use crate::bytes::{put, put_bytes, zigzag};
use crate::raw::{self, Words};

/// A block, ready to be appended.
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) first_operation: u64,
    pub(crate) operations: u32,
    /// What a later block may refer to, should this one be dropped.
    pub(crate) tables: Vec<u8>,
}

/// What one thread is doing.
#[derive(Default)]
struct Thread {
    task: u64,
    /// Operations that have begun and not ended: number and site.
    open: Vec<(u64, u32)>,
}

/// An operation whose row is not written yet: it may end at once.
#[derive(Clone, Copy)]
struct Pending<'a> {
    number: u64,
    site: u32,
    count: usize,
    operands: &'a [u64],
}

/// The objects that a block mentions.
struct Mentioned {
    serials: Vec<u64>,
    /// What is already known to be among them.
    recent: Box<[u64; RECENT]>,
}

impl Mentioned {
    /// Serials begin with one; zero is no object.
    #[inline]
    fn add(&mut self, serial: u64) {
        let recent = &mut self.recent[serial as usize % RECENT];
        if *recent != serial {
            *recent = serial;
            self.serials.push(serial);
        }
    }
}

/// Turns words into blocks.
pub(crate) struct Encoder {
    /// All threads but the one that runs, while a block is being made.
    threads: BTreeMap<u32, Thread>,
    thread: u32,
    running: Thread,
    operations: u64,
    /// How many operations there were before this block.
    block_start: u64,
    time: u64,
    payload: Vec<u8>,
    mentioned: Mentioned,
    /// The block each site was last mentioned in.
    site_blocks: Vec<u32>,
    sites: Vec<u32>,
    block: u32,
    /// Objects defined in this block, for those who keep them longer.
    pub(crate) definitions: Vec<(u64, Vec<u8>)>,
    pub(crate) deaths: Vec<u64>,
    /// Whether to fill those two.
    pub(crate) keep: bool,
    last_site: u32,
    sections: [Vec<u8>; SECTIONS],
    object_last: u64,
    object_first: u64,
    object_operations: u64,
}

const RECENT: usize = 1 << 13;

impl Encoder {
    pub(crate) fn new(keep: bool) -> Self {
        Self {
            threads: BTreeMap::new(),
            thread: 0,
            running: Thread::default(),
            operations: 0,
            block_start: 0,
            time: 0,
            payload: Vec::new(),
            mentioned: Mentioned {
                serials: Vec::new(),
                recent: Box::new([0; RECENT]),
            },
            site_blocks: Vec::new(),
            sites: Vec::new(),
            block: 0,
            definitions: Vec::new(),
            deaths: Vec::new(),
            keep,
            last_site: 0,
            sections: Default::default(),
            object_last: 0,
            object_first: 0,
            object_operations: 0,
        }
    }

    pub(crate) const fn operations(&self) -> u64 {
        self.operations
    }

    /// Turns the words of one buffer into one block.
    pub(crate) fn encode(&mut self, words: &[u64]) -> Result<Encoded, Error> {
        self.begin();
        let (first_operation, thread, start) = (self.operations + 1, self.thread, self.time);
        self.running = self.threads.remove(&self.thread).unwrap_or_default();
        let mut words = Words::new(words);
        let mut pending = None;
        while let Some(head) = words.next() {
            self.record(head, &mut words, &mut pending)
                .ok_or(Error::Record(head & 0xff))?;
        }
        self.flush(&mut pending)
            .ok_or(Error::Record(raw::OPERATION))?;
        self.threads
            .insert(self.thread, std::mem::take(&mut self.running));
        self.summarise();
        let operations = u32::try_from(self.operations + 1 - first_operation).unwrap_or(u32::MAX);
        let header = Header {
            first_operation,
            operations,
            thread,
            start,
            end: self.time,
            first_object: self.object_first,
            last_object: self.object_last,
        };
        let bytes = block::assemble(&header, &self.sections)?;
        Ok(Encoded {
            bytes,
            first_operation,
            operations,
            tables: std::mem::take(&mut self.sections[Section::Tables as usize]),
        })
    }

    fn begin(&mut self) {
        for section in &mut self.sections {
            section.clear();
        }
        self.block += 1;
        self.block_start = self.operations;
        self.mentioned.serials.clear();
        self.mentioned.recent.fill(0);
        self.sites.clear();
        self.definitions.clear();
        self.deaths.clear();
        self.last_site = 0;
        (self.object_first, self.object_last, self.object_operations) = (0, 0, 0);
        let open = &mut self.sections[Section::Open as usize];
        put(open, self.threads.len() as u64);
        for (&index, thread) in &self.threads {
            put(open, index.into());
            put(open, thread.task);
            put(open, thread.open.len() as u64);
            let mut last = 0;
            for &(number, site) in &thread.open {
                put(open, number - last);
                put(open, site.into());
                last = number;
            }
        }
    }

    fn record<'a>(
        &mut self,
        head: u64,
        words: &mut Words<'a>,
        pending: &mut Option<Pending<'a>>,
    ) -> Option<()> {
        match head & 0xff {
            raw::OPERATION => {
                self.flush(pending)?;
                self.operations += 1;
                let count = (head >> 8) as usize & 0xff_ffff;
                *pending = Some(Pending {
                    number: self.operations,
                    site: (head >> 32) as u32,
                    count,
                    operands: words.values(count)?,
                });
            }
            raw::END => {
                let status = Status::from_number((head >> 8) as u8)?;
                let value = words.values(usize::from(status.has_value()))?;
                match pending.take() {
                    Some(operation) => self.operation_row(row::ENDED + status as u8, operation)?,
                    None => {
                        self.running.open.pop()?;
                        self.rows().push(row::END | (status as u8) << 4);
                    }
                }
                self.put_values(value)?;
            }
            raw::OBJECT => self.object(head, words)?,
            raw::DEATH => {
                self.flush(pending)?;
                let serial = head >> 8;
                self.mentioned.add(serial);
                self.rows().push(row::DEATH);
                put(self.rows(), serial);
                if self.keep {
                    self.deaths.push(serial);
                }
            }
            raw::THREAD => {
                self.flush(pending)?;
                let thread = (head >> 8) as u32;
                let left = std::mem::take(&mut self.running);
                self.threads.insert(self.thread, left);
                self.running = self.threads.remove(&thread).unwrap_or_default();
                self.thread = thread;
                self.rows().push(row::THREAD);
                put(self.rows(), thread.into());
            }
            raw::TASK => {
                self.flush(pending)?;
                let task = head >> 8;
                self.running.task = task;
                self.rows().push(row::TASK);
                put(self.rows(), task);
            }
            raw::TIME => {
                self.flush(pending)?;
                let time = (head >> 8).max(self.time);
                let delta = time - self.time;
                self.time = time;
                self.rows().push(row::TIME);
                put(self.rows(), delta);
            }
            raw::TABLE => {
                let length = (head >> 32) as usize;
                let mut payload = std::mem::take(&mut self.payload);
                words.bytes(length, &mut payload)?;
                self.sections[Section::Tables as usize].extend_from_slice(&payload);
                self.payload = payload;
            }
            _ => return None,
        }
        Some(())
    }

    fn object(&mut self, head: u64, words: &mut Words<'_>) -> Option<()> {
        let (serial, class) = (words.next()?, words.next()?);
        let mut payload = std::mem::take(&mut self.payload);
        words.bytes((head >> 32) as usize, &mut payload)?;
        if self.object_first == 0 {
            (self.object_first, self.object_last) = (serial, serial);
        }
        let operations = self.operations - self.block_start;
        let out = &mut self.sections[Section::Objects as usize];
        put(out, serial.checked_sub(self.object_last)?);
        put(out, operations - self.object_operations);
        let rest = out.len();
        out.extend([(head >> 8) as u8, (head >> 16) as u8]);
        put(out, class);
        put_bytes(out, &payload);
        if self.keep {
            let definition = out[rest..].to_vec();
            self.definitions.push((serial, definition));
        }
        (self.object_last, self.object_operations) = (serial, operations);
        self.payload = payload;
        Some(())
    }

    fn rows(&mut self) -> &mut Vec<u8> {
        &mut self.sections[Section::Rows as usize]
    }

    /// Writes the row of an operation that did not end at once.
    #[inline]
    fn flush(&mut self, pending: &mut Option<Pending<'_>>) -> Option<()> {
        if let Some(operation) = pending.take() {
            self.running.open.push((operation.number, operation.site));
            self.operation_row(row::OPERATION, operation)?;
        }
        Some(())
    }

    #[inline]
    fn operation_row(&mut self, kind: u8, operation: Pending<'_>) -> Option<()> {
        let Pending {
            site,
            count,
            operands,
            ..
        } = operation;
        self.mention_site(site);
        let difference = zigzag(i64::from(site) - i64::from(self.last_site));
        self.last_site = site;
        let out = self.rows();
        if count < 15 {
            out.push(kind | (count as u8) << 4);
        } else {
            out.push(kind | 15 << 4);
            put(out, count as u64 - 15);
        }
        put(out, difference);
        self.put_values(operands)
    }

    /// Appends values to the rows. `None`: these words are none.
    #[inline]
    fn put_values(&mut self, words: &[u64]) -> Option<()> {
        let out = &mut self.sections[Section::Rows as usize];
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let (number, serial, float) = raw::logged(word)?;
            self.mentioned.add(serial);
            put(out, number);
            if float {
                out.extend_from_slice(&words.next()?.to_le_bytes());
            }
        }
        Some(())
    }

    #[inline]
    fn mention_site(&mut self, site: u32) {
        let index = site as usize;
        if index >= self.site_blocks.len() {
            self.site_blocks.resize(index + 1, 0);
        }
        if self.site_blocks[index] != self.block {
            self.site_blocks[index] = self.block;
            self.sites.push(site);
        }
    }

    fn summarise(&mut self) {
        let serials = &mut self.mentioned.serials;
        serials.sort_unstable();
        serials.dedup();
        if serials.first() == Some(&0) {
            serials.remove(0);
        }
        self.sites.sort_unstable();
        let out = &mut self.sections[Section::Summary as usize];
        put(out, serials.len() as u64);
        let mut last = 0;
        for &serial in &*serials {
            put(out, serial - last);
            last = serial;
        }
        put(out, self.sites.len() as u64);
        let mut last = 0;
        for &site in &self.sites {
            put(out, u64::from(site - last));
            last = site;
        }
    }
}

/// How large a section of what is carried over becomes before another block begins.
const CARRIED: usize = 4 << 20;

/// Blocks that only define: what is left of blocks that were dropped. `tables`: rows, in pieces that
/// were parts of blocks.
pub(crate) fn carried(
    tables: &[Vec<u8>],
    objects: &BTreeMap<u64, Vec<u8>>,
    first_operation: u64,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut sections: [Vec<u8>; SECTIONS] = Default::default();
    let mut end = |sections: &mut [Vec<u8>; SECTIONS], (first, last): (u64, u64)| {
        sections[Section::Open as usize].push(0);
        sections[Section::Summary as usize].extend([0, 0]);
        let header = Header {
            first_operation,
            operations: 0,
            thread: 0,
            start: 0,
            end: 0,
            first_object: first,
            last_object: last,
        };
        bytes.extend(block::assemble(&header, sections)?);
        *sections = Default::default();
        Ok::<_, Error>(())
    };
    for piece in tables {
        let rows = &mut sections[Section::Tables as usize];
        if !rows.is_empty() && rows.len() + piece.len() > CARRIED {
            end(&mut sections, (0, 0))?;
        }
        sections[Section::Tables as usize].extend_from_slice(piece);
    }
    let (mut first, mut last) = (0, 0);
    for (&serial, definition) in objects {
        if sections[Section::Objects as usize].len() > CARRIED {
            end(&mut sections, (first, last))?;
            first = 0;
        }
        if first == 0 {
            (first, last) = (serial, serial);
        }
        let out = &mut sections[Section::Objects as usize];
        put(out, serial - last);
        put(out, 0);
        out.extend_from_slice(definition);
        last = serial;
    }
    end(&mut sections, (first, if first == 0 { 0 } else { last }))?;
    Ok(bytes)
}

/// The bytes before the first block.
pub(crate) fn preamble() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&crate::MAGIC);
    bytes[8..12].copy_from_slice(&crate::VERSION.to_le_bytes());
    bytes[12..].copy_from_slice(&(HEADER as u32).to_le_bytes());
    bytes
}
