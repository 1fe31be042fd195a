//! A block: a number of records that can be read without any other. Its bytes, and what they mean.

use std::collections::HashMap;
use std::ops::Range;

use crate::bytes::{Malformed, Reader};
use crate::{Error, Value};

/// The size of a block's header.
pub(crate) const HEADER: usize = 112;
const BLOCK_MAGIC: [u8; 4] = *b"OBLK";
/// A section is never larger, uncompressed.
const SECTION_MAX: u32 = 64 << 20;
/// Of these sections, which are held in memory as something larger. A recorder's buffer makes a
/// tenth of it.
const PARSED_MAX: u32 = 16 << 20;
/// A block never has more operations.
const OPERATIONS_MAX: u32 = 1 << 20;
/// LZ4 cannot do better than this; a header that claims it is wrong.
const RATIO_MAX: u64 = 256;

pub(crate) const SECTIONS: usize = 5;

/// What a block consists of.
#[derive(Clone, Copy)]
pub(crate) enum Section {
    /// Rows of the tables.
    Tables = 0,
    /// Definitions of objects.
    Objects = 1,
    /// Which operations were open when the block began.
    Open = 2,
    /// The operations.
    Rows = 3,
    /// Which objects and sites they mention.
    Summary = 4,
}

/// The kinds of rows: the low four bits of the first byte.
pub(crate) mod row {
    /// An operation that goes on.
    pub(crate) const OPERATION: u8 = 0;
    /// An operation that ends at once; plus the status.
    pub(crate) const ENDED: u8 = 1;
    pub(crate) const ENDED_LAST: u8 = ENDED + 4;
    /// The innermost open operation ends.
    pub(crate) const END: u8 = 8;
    pub(crate) const DEATH: u8 = 9;
    pub(crate) const THREAD: u8 = 10;
    pub(crate) const TASK: u8 = 11;
    pub(crate) const TIME: u8 = 12;
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// With a result.
    Result = 0,
    /// Well, and it has no result.
    Done = 1,
    /// With an exception.
    Raised = 2,
    /// The iterator had nothing more.
    Exhausted = 3,
    /// It was left, and how is not known.
    Lost = 4,
}

impl Status {
    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Result,
            1 => Self::Done,
            2 => Self::Raised,
            3 => Self::Exhausted,
            4 => Self::Lost,
            _ => return None,
        })
    }

    /// Whether a value goes with it.
    pub const fn has_value(self) -> bool {
        matches!(self, Self::Result | Self::Raised)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Done => "done",
            Self::Raised => "raised",
            Self::Exhausted => "exhausted",
            Self::Lost => "lost",
        }
    }
}

/// What a header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) first_operation: u64,
    pub(crate) operations: u32,
    pub(crate) thread: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) first_object: u64,
    pub(crate) last_object: u64,
}

impl Header {
    /// The number of the operation behind its last one.
    pub(crate) fn behind(&self) -> u64 {
        self.first_operation + u64::from(self.operations)
    }
}

/// A header as it is in the file: also where the sections are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsed {
    pub(crate) header: Header,
    pub(crate) payload: u32,
    checksum: u32,
    sections: [(u32, u32); SECTIONS],
}

/// The largest size of a section, uncompressed.
const fn section_max(index: usize) -> u32 {
    if index == Section::Tables as usize {
        SECTION_MAX
    } else {
        PARSED_MAX
    }
}

/// Puts a block together.
///
/// # Errors
/// It would be larger than a reader takes.
pub(crate) fn assemble(header: &Header, sections: &[Vec<u8>; SECTIONS]) -> Result<Vec<u8>, Error> {
    let fits = |(index, section): (usize, &Vec<u8>)| section.len() <= section_max(index) as usize;
    if header.operations > OPERATIONS_MAX || !sections.iter().enumerate().all(fits) {
        return Err(Error::TooLarge);
    }
    let mut bytes = vec![0; HEADER];
    let mut lengths = [(0, 0); SECTIONS];
    for (section, length) in sections.iter().zip(&mut lengths) {
        let start = bytes.len();
        let packed = lz4_flex::block::compress(section);
        bytes.extend_from_slice(if packed.len() < section.len() {
            &packed
        } else {
            section
        });
        *length = ((bytes.len() - start) as u32, section.len() as u32);
    }
    let payload = &bytes[HEADER..];
    let mut fields = Vec::with_capacity(HEADER);
    fields.extend((payload.len() as u32).to_le_bytes());
    fields.extend(crc32fast::hash(payload).to_le_bytes());
    fields.extend(header.first_operation.to_le_bytes());
    fields.extend(header.operations.to_le_bytes());
    fields.extend(header.thread.to_le_bytes());
    for number in [
        header.start,
        header.end,
        header.first_object,
        header.last_object,
    ] {
        fields.extend(number.to_le_bytes());
    }
    for (packed, length) in lengths {
        fields.extend(packed.to_le_bytes());
        fields.extend(length.to_le_bytes());
    }
    bytes[..4].copy_from_slice(&BLOCK_MAGIC);
    bytes[8..8 + fields.len()].copy_from_slice(&fields);
    let checksum = crc32fast::hash(&bytes[8..HEADER]);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

impl Parsed {
    /// Reads a header. `None`: these bytes are none.
    pub(crate) fn new(bytes: &[u8; HEADER]) -> Option<Self> {
        let word = |at: usize| bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        let long = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        if bytes[..4] != BLOCK_MAGIC || word(4) != crc32fast::hash(&bytes[8..]) {
            return None;
        }
        let mut sections = [(0, 0); SECTIONS];
        let mut total: u64 = 0;
        for (index, section) in sections.iter_mut().enumerate() {
            *section = (word(64 + 8 * index), word(68 + 8 * index));
            let (packed, length) = *section;
            total += u64::from(packed);
            if packed > length
                || length > section_max(index)
                || u64::from(length) > u64::from(packed) * RATIO_MAX + 64
            {
                return None;
            }
        }
        let header = Header {
            first_operation: long(16),
            operations: word(24),
            thread: word(28),
            start: long(32),
            end: long(40),
            first_object: long(48),
            last_object: long(56),
        };
        let makes_sense = total == u64::from(word(8))
            && (1..=u64::MAX / 2).contains(&header.first_operation)
            && header.operations <= OPERATIONS_MAX
            && header.start <= header.end
            && header.first_object <= header.last_object;
        makes_sense.then_some(Self {
            header,
            payload: word(8),
            checksum: word(12),
            sections,
        })
    }

    /// Where a section is, behind the header.
    pub(crate) fn place(&self, section: Section) -> Range<usize> {
        let index = section as usize;
        let start: usize = self.sections[..index]
            .iter()
            .map(|(packed, _)| *packed as usize)
            .sum();
        start..start + self.sections[index].0 as usize
    }

    /// Uncompresses a section.
    pub(crate) fn unpack(&self, section: Section, packed: &[u8]) -> Result<Vec<u8>, Malformed> {
        let (stored, length) = self.sections[section as usize];
        if stored as usize != packed.len() {
            return Err(Malformed);
        }
        if stored == length {
            return Ok(packed.to_vec());
        }
        let bytes = lz4_flex::block::decompress(packed, length as usize).map_err(|_| Malformed)?;
        if bytes.len() == length as usize {
            Ok(bytes)
        } else {
            Err(Malformed)
        }
    }

    /// Whether the bytes behind the header are those that were written.
    pub(crate) fn is_intact(&self, payload: &[u8]) -> bool {
        crc32fast::hash(payload) == self.checksum
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub struct OperationRow {
    /// Its number in the log, from one.
    pub number: u64,
    /// Where it is in the source, and what it does.
    pub site: u32,
    /// The index of its thread.
    pub thread: u32,
    /// The serial of its asyncio task, or zero.
    pub task: u64,
    /// When it began, in nanoseconds since the recording began: the last reading of the clock
    /// before it.
    pub time: u64,
    /// The operation that it is part of, or zero.
    pub parent: u64,
    /// How many operations it is part of.
    pub depth: u32,
    /// Its operands: a range of [`Block::values`].
    pub operands: Range<usize>,
    /// How it ended and when, if it ended in the same block.
    pub outcome: Option<(Status, Option<Value>, u64)>,
}

/// The end of an operation that began in an earlier block.
#[derive(Clone, Copy, Debug)]
pub struct LateEnd {
    /// The operation.
    pub number: u64,
    /// How many operations of this block began before it ended.
    pub after: u32,
    /// How.
    pub status: Status,
    /// With what.
    pub value: Option<Value>,
    /// When.
    pub time: u64,
}

/// An object is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// Its serial.
    pub serial: u64,
    /// The last operation that had begun, of any thread.
    pub after: u64,
    /// The thread that dropped the last reference.
    pub thread: u32,
}

/// What is known of an object beyond its type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Payload {
    /// Nothing.
    None,
    /// What it looked like when it was first seen.
    Text(String),
    /// It is this string; `whole` is false if this is only its beginning.
    Str {
        /// The beginning.
        text: String,
        /// Whether that is all.
        whole: bool,
    },
    /// It is these bytes; `whole` is false if this is only the beginning.
    Bytes {
        /// The beginning.
        bytes: Vec<u8>,
        /// Whether that is all.
        whole: bool,
    },
    /// It is a class of this name.
    Class(String),
    /// It is this `int`, in hexadecimal; `whole` is false if this is only its beginning.
    Int {
        /// The beginning.
        text: String,
        /// Whether that is all.
        whole: bool,
    },
}

impl Payload {
    /// The number of nothing.
    pub const NONE: u8 = 0;
    /// The number of a text.
    pub const TEXT: u8 = 1;
    /// The number of a string.
    pub const STR: u8 = 2;
    /// The number of bytes.
    pub const BYTES: u8 = 3;
    /// The number of the name of a class.
    pub const CLASS: u8 = 4;
    /// The number of a large `int`.
    pub const INT: u8 = 5;

    fn parse(kind: u8, whole: bool, bytes: &[u8]) -> Result<Self, Malformed> {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        Ok(match kind {
            Self::NONE => Self::None,
            Self::TEXT => Self::Text(text()),
            Self::STR => Self::Str {
                text: text(),
                whole,
            },
            Self::BYTES => Self::Bytes {
                bytes: bytes.to_vec(),
                whole,
            },
            Self::CLASS => Self::Class(text()),
            Self::INT => Self::Int {
                text: text(),
                whole,
            },
            _ => return Err(Malformed),
        })
    }
}

/// An object, as it was when it was first seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its serial.
    pub serial: u64,
    /// The serial of its type; its own for `type`.
    pub class: u64,
    /// The last operation that had begun when it was first seen.
    pub seen: u64,
    /// What is known of it.
    pub payload: Payload,
}

/// Everything in one block.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// The number of its first operation.
    pub first_operation: u64,
    /// Its operations, in the order in which they began.
    pub operations: Vec<OperationRow>,
    /// All operands.
    pub values: Vec<Value>,
    /// Ends of operations of earlier blocks, by their numbers.
    pub late: Vec<LateEnd>,
    /// Objects that are gone.
    pub deaths: Vec<Death>,
    /// Operations that were open when it began: of each thread, outermost first, with their sites.
    pub open: Vec<(u32, Vec<(u64, u32)>)>,
}

impl Block {
    /// The operands of an operation of this block.
    pub fn operands(&self, operation: &OperationRow) -> &[Value] {
        &self.values[operation.operands.clone()]
    }

    /// An operation of this block.
    pub fn operation(&self, number: u64) -> Option<&OperationRow> {
        let index = usize::try_from(number.checked_sub(self.first_operation)?).ok()?;
        self.operations.get(index)
    }

    /// The end of an operation of an earlier block, if it ends in this one.
    pub fn late_end(&self, number: u64) -> Option<&LateEnd> {
        let at = self.late.binary_search_by_key(&number, |late| late.number);
        at.ok().map(|at| &self.late[at])
    }

    pub(crate) fn parse(
        header: &Header,
        open: &[u8],
        rows: &[u8],
        index: usize,
    ) -> Result<Self, Error> {
        Rows::new(header, open)
            .and_then(|parser| parser.parse(rows))
            .map_err(|Malformed| Error::Damaged {
                block: index,
                what: "its operations make no sense",
            })
    }
}

/// The state of reading rows.
struct Rows {
    block: Block,
    /// How many operations the header promises.
    expected: usize,
    threads: Vec<ThreadState>,
    /// Where each thread is among them, by its index.
    places: HashMap<u32, usize>,
    current: usize,
    time: u64,
    site: i64,
}

struct ThreadState {
    index: u32,
    task: u64,
    open: Vec<u64>,
}

pub(crate) type Open = Vec<(u32, u64, Vec<(u64, u32)>)>;

/// Reads what was open when a block began: of each thread its task and stack. Every operation there
/// began after those that it is part of, and before the block.
pub(crate) fn parse_open(header: &Header, bytes: &[u8]) -> Result<Open, Malformed> {
    let mut reader = Reader::new(bytes);
    let count = reader.number()?;
    if count > reader.len() as u64 {
        return Err(Malformed);
    }
    let mut threads = Vec::new();
    for _ in 0..count {
        let (thread, task, depth) = (reader.small()?, reader.number()?, reader.number()?);
        if depth > reader.len() as u64 {
            return Err(Malformed);
        }
        let mut last: u64 = 0;
        let mut stack = Vec::with_capacity(depth as usize);
        for _ in 0..depth {
            let number = last.checked_add(reader.number()?).ok_or(Malformed)?;
            if number <= last || number >= header.first_operation {
                return Err(Malformed);
            }
            last = number;
            stack.push((number, reader.small()?));
        }
        threads.push((thread, task, stack));
    }
    Ok(threads)
}

impl Rows {
    fn new(header: &Header, open: &[u8]) -> Result<Self, Malformed> {
        let mut this = Self {
            block: Block {
                first_operation: header.first_operation,
                ..Block::default()
            },
            expected: header.operations as usize,
            threads: Vec::new(),
            places: HashMap::new(),
            current: 0,
            time: header.start,
            site: 0,
        };
        for (index, task, stack) in parse_open(header, open)? {
            this.switch(index);
            let thread = &mut this.threads[this.current];
            thread.task = task;
            thread.open = stack.iter().map(|(number, _)| *number).collect();
            this.block.open.push((index, stack));
        }
        this.switch(header.thread);
        Ok(this)
    }

    fn switch(&mut self, index: u32) {
        let threads = &mut self.threads;
        self.current = *self.places.entry(index).or_insert_with(|| {
            threads.push(ThreadState {
                index,
                task: 0,
                open: Vec::new(),
            });
            threads.len() - 1
        });
    }

    fn parse(mut self, rows: &[u8]) -> Result<Block, Malformed> {
        let mut reader = Reader::new(rows);
        while !reader.is_empty() {
            let first = reader.byte()?;
            let (kind, high) = (first & 15, first >> 4);
            match kind {
                row::OPERATION..=row::ENDED_LAST => {
                    let status = match kind {
                        row::OPERATION => None,
                        _ => Some(Status::from_number(kind - row::ENDED).ok_or(Malformed)?),
                    };
                    self.operation(high, status, &mut reader)?;
                }
                row::END => {
                    let status = Status::from_number(high).ok_or(Malformed)?;
                    self.end(status, &mut reader)?;
                }
                row::DEATH => {
                    let serial = reader.number()?;
                    self.block.deaths.push(Death {
                        serial,
                        after: self.last(),
                        thread: self.threads[self.current].index,
                    });
                }
                row::THREAD => {
                    let index = reader.small()?;
                    self.switch(index);
                }
                row::TASK => self.threads[self.current].task = reader.number()?,
                row::TIME => {
                    self.time = self.time.checked_add(reader.number()?).ok_or(Malformed)?;
                }
                _ => return Err(Malformed),
            }
        }
        if self.block.operations.len() != self.expected {
            return Err(Malformed);
        }
        self.block.late.sort_unstable_by_key(|late| late.number);
        Ok(self.block)
    }

    /// The number of the last operation that began.
    fn last(&self) -> u64 {
        (self.block.first_operation + self.block.operations.len() as u64).saturating_sub(1)
    }

    fn operation(
        &mut self,
        count: u8,
        status: Option<Status>,
        reader: &mut Reader<'_>,
    ) -> Result<(), Malformed> {
        let mut count = u64::from(count);
        if count == 15 {
            count = count.checked_add(reader.number()?).ok_or(Malformed)?;
        }
        self.site = self.site.checked_add(reader.signed()?).ok_or(Malformed)?;
        let site = u32::try_from(self.site).map_err(|_| Malformed)?;
        if count > reader.len() as u64 {
            return Err(Malformed);
        }
        let start = self.block.values.len();
        for _ in 0..count {
            let value = value(reader)?;
            self.block.values.push(value);
        }
        if self.block.operations.len() >= self.expected {
            return Err(Malformed);
        }
        let number = self.block.first_operation + self.block.operations.len() as u64;
        let outcome = match status {
            None => None,
            Some(status) => Some((status, ended(status, reader)?, self.time)),
        };
        let thread = &mut self.threads[self.current];
        let (parent, depth) = (
            thread.open.last().copied().unwrap_or(0),
            thread.open.len() as u32,
        );
        if outcome.is_none() {
            thread.open.push(number);
        }
        self.block.operations.push(OperationRow {
            number,
            site,
            thread: thread.index,
            task: thread.task,
            time: self.time,
            parent,
            depth,
            operands: start..self.block.values.len(),
            outcome,
        });
        Ok(())
    }

    fn end(&mut self, status: Status, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let value = ended(status, reader)?;
        let number = self.threads[self.current].open.pop().ok_or(Malformed)?;
        match number.checked_sub(self.block.first_operation) {
            Some(index) => {
                let operation = self
                    .block
                    .operations
                    .get_mut(usize::try_from(index).map_err(|_| Malformed)?)
                    .ok_or(Malformed)?;
                operation.outcome = Some((status, value, self.time));
            }
            None => self.block.late.push(LateEnd {
                number,
                after: self.block.operations.len() as u32,
                status,
                value,
                time: self.time,
            }),
        }
        Ok(())
    }
}

fn ended(status: Status, reader: &mut Reader<'_>) -> Result<Option<Value>, Malformed> {
    if status.has_value() {
        value(reader).map(Some)
    } else {
        Ok(None)
    }
}

#[inline]
fn value(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    let number = reader.number()?;
    Ok(match number & 3 {
        0 => Value::Object(number >> 2),
        1 => Value::Int(crate::bytes::unzigzag(number >> 2)),
        2 => Value::from_special(number >> 2).ok_or(Malformed)?,
        _ => {
            let bytes = reader.take(8)?.try_into().map_err(|_| Malformed)?;
            Value::Float(f64::from_bits(u64::from_le_bytes(bytes)))
        }
    })
}

/// Reads the definitions of a block.
pub(crate) fn parse_objects(header: &Header, bytes: &[u8]) -> Result<Vec<Object>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut objects = Vec::new();
    let mut serial = header.first_object;
    let mut seen = header.first_operation.saturating_sub(1);
    while !reader.is_empty() {
        serial = serial.checked_add(reader.number()?).ok_or(Malformed)?;
        seen = seen.checked_add(reader.number()?).ok_or(Malformed)?;
        let (kind, flags) = (reader.byte()?, reader.byte()?);
        let class = reader.number()?;
        objects.push(Object {
            serial,
            class,
            seen,
            payload: Payload::parse(kind, flags & 1 == 0, reader.bytes()?)?,
        });
    }
    Ok(objects)
}

/// Reads a summary: the objects and the sites that a block mentions, each in order.
pub(crate) fn parse_summary(bytes: &[u8]) -> Result<(Vec<u64>, Vec<u32>), Malformed> {
    let mut reader = Reader::new(bytes);
    let mut list = || {
        let count = reader.number()?;
        if count > reader.len() as u64 {
            return Err(Malformed);
        }
        let mut last: u64 = 0;
        (0..count)
            .map(|_| {
                last = last.checked_add(reader.number()?).ok_or(Malformed)?;
                Ok(last)
            })
            .collect::<Result<Vec<u64>, _>>()
    };
    let serials = list()?;
    let sites = list()?
        .into_iter()
        .map(|site| u32::try_from(site).map_err(|_| Malformed))
        .collect::<Result<_, _>>()?;
    Ok((serials, sites))
}
