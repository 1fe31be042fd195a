//! A stream of bytes into frames, however the bytes are split.
//!
//! Small frames are read many at a time into one buffer and copied out of it. A part (a body or
//! an attachment) that is larger than what is buffered gets a buffer of its own, which the stream
//! is read into directly and which grows with the bytes that really came.

use super::HAS_ATTACHMENTS;
use crate::Limits;
use crate::error::{Error, Limit};

/// The size of the buffer for small frames.
const INPUT: usize = 64 << 10;
/// A part with at least so much missing is read into a buffer of its own.
const DIRECT: usize = 16 << 10;
/// How much the table of attachments may take; more attachments are refused.
const MAX_TABLE: usize = INPUT / 8 - 2;

/// One message as it came: its body and its attachments.
#[derive(Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the two parts of a frame")]
pub struct Frame {
    /// The message.
    pub body: Vec<u8>,
    /// The bytes that travelled beside it.
    pub attachments: Vec<Vec<u8>>,
}

impl Frame {
    /// The size on the wire.
    #[must_use]
    pub fn size(&self) -> usize {
        let table = if self.attachments.is_empty() {
            0
        } else {
            4 + 8 * self.attachments.len()
        };
        let attached: usize = self.attachments.iter().map(Vec::len).sum();
        4 + table + self.body.len() + attached
    }
}

/// The frame whose parts are coming in.
#[derive(Debug)]
struct Partial {
    frame: Frame,
    body_done: bool,
    /// The lengths of the attachments, last first, without those that are done.
    lengths: Vec<usize>,
    /// The part that is coming in; initialised up to its length, received up to `filled`.
    part: Vec<u8>,
    filled: usize,
    target: usize,
}

/// Finds the frames in a stream.
///
/// Read into [`space`](Self::space), tell how much with [`advance`](Self::advance), then take
/// frames with [`next_frame`](Self::next_frame) until there is none.
#[derive(Debug)]
pub struct Deframer {
    message_size: usize,
    max_attachments: usize,
    /// Initialised throughout; what came and is not used yet is `start..end`.
    input: Vec<u8>,
    start: usize,
    end: usize,
    partial: Option<Partial>,
    /// Buffers for bodies, used again.
    spare: Vec<u8>,
}

impl Deframer {
    /// Nothing received yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            message_size: limits.message_size,
            max_attachments: limits.attachments.min(MAX_TABLE),
            input: vec![0; INPUT],
            start: 0,
            end: 0,
            partial: None,
            spare: Vec::new(),
        }
    }

    /// Where to read into: at least one byte, and at least `at_least` unless that is more than
    /// 64 KiB or beyond the end of a large part.
    pub fn space(&mut self, at_least: usize) -> &mut [u8] {
        if self.reads_directly()
            && let Some(partial) = &mut self.partial
        {
            return partial.space();
        }
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        if self.start > 0 && self.input.len() - self.end < at_least.max(INPUT / 4) {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.input.len() {
            // Only if the host does not take the frames that are there.
            self.input.resize(self.input.len() + INPUT, 0);
        }
        self.input.get_mut(self.end..).unwrap_or_default()
    }

    /// Says that `count` bytes came into the last [`space`](Self::space).
    pub fn advance(&mut self, count: usize) {
        if self.reads_directly()
            && let Some(partial) = &mut self.partial
        {
            partial.filled = (partial.filled + count).min(partial.part.len());
            return;
        }
        self.end = (self.end + count).min(self.input.len());
    }

    /// Takes bytes that the host read elsewhere. Take the frames afterwards, each time.
    ///
    /// # Errors
    /// As of [`next_frame`](Self::next_frame).
    pub fn extend(&mut self, mut bytes: &[u8], mut frame: impl FnMut(Frame)) -> Result<(), Error> {
        while !bytes.is_empty() {
            let space = self.space(1);
            let count = space.len().min(bytes.len());
            let (now, later) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
            if let Some(space) = space.get_mut(..count) {
                space.copy_from_slice(now);
            }
            self.advance(count);
            bytes = later;
            while let Some(found) = self.next_frame()? {
                frame(found);
            }
        }
        Ok(())
    }

    /// Whether the stream may end here: no frame is incomplete.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end && self.partial.is_none()
    }

    /// Gives a buffer back for use again.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > self.spare.capacity() && buffer.capacity() <= DIRECT {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// The next frame that is complete.
    ///
    /// # Errors
    /// The next frame is larger than the limits allow; the stream cannot be used any more.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        if self.partial.is_none() && !self.read_head()? {
            return Ok(None);
        }
        loop {
            let Some(partial) = &mut self.partial else {
                return Ok(None);
            };
            // Move what is buffered into the part.
            let missing = partial.target - partial.filled;
            let count = missing.min(self.end - self.start);
            if count > 0 {
                let from = self
                    .input
                    .get(self.start..self.start + count)
                    .unwrap_or_default();
                partial.part.truncate(partial.filled);
                partial.part.extend_from_slice(from);
                partial.filled += count;
                self.start += count;
            }
            if partial.filled < partial.target {
                return Ok(None);
            }
            let part = std::mem::take(&mut partial.part);
            partial.filled = 0;
            if partial.body_done {
                partial.frame.attachments.push(part);
            } else {
                partial.frame.body = part;
                partial.body_done = true;
            }
            match partial.lengths.pop() {
                Some(length) => partial.target = length,
                None => return Ok(self.partial.take().map(|partial| partial.frame)),
            }
        }
    }

    fn reads_directly(&self) -> bool {
        self.start == self.end
            && self
                .partial
                .as_ref()
                .is_some_and(|partial| partial.target - partial.filled >= DIRECT)
    }

    /// Starts a frame if its head is there.
    fn read_head(&mut self) -> Result<bool, Error> {
        let buffered = self.input.get(self.start..self.end).unwrap_or_default();
        let Some((field, rest)) = buffered.split_first_chunk::<4>() else {
            return Ok(false);
        };
        let field = u32::from_le_bytes(*field);
        let body = usize::try_from(field & !HAS_ATTACHMENTS).unwrap_or(usize::MAX);
        let mut size = body;
        let mut head = 4;
        let mut lengths = Vec::new();
        self.check_size(size)?;
        if field & HAS_ATTACHMENTS != 0 {
            let Some((count, rest)) = rest.split_first_chunk::<4>() else {
                return Ok(false);
            };
            let count = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(usize::MAX);
            if count > self.max_attachments {
                return Err(Error::LimitExceeded {
                    what: Limit::Attachments,
                    limit: self.max_attachments,
                });
            }
            let Some(table) = rest.get(..count * 8) else {
                return Ok(false);
            };
            head += 4 + table.len();
            let (entries, _) = table.as_chunks::<8>();
            for entry in entries {
                let length = usize::try_from(u64::from_le_bytes(*entry)).unwrap_or(usize::MAX);
                size = size.saturating_add(length);
                self.check_size(size)?;
                lengths.push(length);
            }
            lengths.reverse();
        }
        self.start += head;
        self.partial = Some(Partial {
            frame: Frame::default(),
            body_done: false,
            lengths,
            part: std::mem::take(&mut self.spare),
            filled: 0,
            target: body,
        });
        Ok(true)
    }

    const fn check_size(&self, size: usize) -> Result<(), Error> {
        if size > self.message_size {
            return Err(Error::LimitExceeded {
                what: Limit::MessageSize,
                limit: self.message_size,
            });
        }
        Ok(())
    }
}

impl Partial {
    /// At most as much again as has come.
    fn space(&mut self) -> &mut [u8] {
        let len = self.target.min(self.filled.saturating_mul(2).max(INPUT));
        if self.part.len() < len {
            self.part.resize(len, 0);
        }
        self.part.get_mut(self.filled..).unwrap_or_default()
    }
}
