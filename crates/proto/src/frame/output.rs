//! What waits to be written: a queue of chunks.
//!
//! Small frames are gathered in one chunk, so that one system call writes them; large bodies and
//! attachments are chunks of their own, written from where they lie.

use std::collections::VecDeque;

use super::{Attachment, HAS_ATTACHMENTS, Payload};
use crate::error::{Error, Limit};
use crate::{Limits, Message};

/// From this size on, bytes become a chunk of their own instead of being copied.
const OWN_CHUNK: usize = 8 << 10;
/// A chunk of this size is not appended to.
const FULL_CHUNK: usize = 64 << 10;

/// Bytes to write.
#[non_exhaustive]
pub enum Chunk {
    /// Frames, or parts of them.
    Bytes(Vec<u8>),
    /// An attachment.
    Shared(Attachment),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Shared(shared) => (**shared).as_ref(),
        }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => f.debug_tuple("Bytes").field(&bytes.len()).finish(),
            Self::Shared(shared) => f
                .debug_tuple("Shared")
                .field(&(**shared).as_ref().len())
                .finish(),
        }
    }
}

/// A queue of bytes to write, in order.
///
/// A host that writes outside its lock swaps this with one of its own (`std::mem::swap`): each
/// keeps a buffer for use again.
#[derive(Debug, Default)]
pub struct Output {
    chunks: VecDeque<Chunk>,
    /// How much of the first chunk is written.
    written: usize,
    /// An empty buffer with capacity.
    spare: Vec<u8>,
}

impl Output {
    /// Nothing to write.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many bytes there are to write.
    #[must_use]
    pub fn len(&self) -> usize {
        let all: usize = self.chunks.iter().map(|chunk| chunk.bytes().len()).sum();
        all - self.written
    }

    /// The bytes to write, in order; none of the slices is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.written;
        self.chunks.iter().map(move |chunk| {
            let bytes = chunk.bytes();
            bytes.get(std::mem::take(&mut skip)..).unwrap_or_default()
        })
    }

    /// The first bytes to write, or none.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        self.chunks().next().unwrap_or_default()
    }

    /// Says that the first `count` bytes are written. Attachments that are done with are dropped.
    pub fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.chunks.front() {
            let left = front.bytes().len() - self.written;
            if count < left {
                self.written += count;
                return;
            }
            count -= left;
            self.written = 0;
            if let Some(Chunk::Bytes(buffer)) = self.chunks.pop_front() {
                self.keep(buffer);
            }
        }
    }

    /// Takes the first chunk whole, unless a part of it is written.
    pub fn pop(&mut self) -> Option<Chunk> {
        if self.written == 0 {
            self.chunks.pop_front()
        } else {
            None
        }
    }

    /// Moves everything of `other` to the end of this queue. Nothing of `other` may be half written.
    pub fn append(&mut self, other: &mut Self) {
        debug_assert_eq!(other.written, 0, "half written output cannot be moved");
        self.chunks.append(&mut other.chunks);
    }

    /// Drops everything, as when the peer is lost.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.written = 0;
    }

    /// Queues a frame; returns its size on the wire.
    ///
    /// `message` must have no payload of its own: `payload` is appended to it.
    pub(crate) fn frame(
        &mut self,
        message: &Message<'_>,
        payload: Payload,
        limits: &Limits,
    ) -> Result<(usize, Vec<u8>), Error> {
        let Payload {
            mut body,
            attachments,
        } = payload;
        let attached = check(&body, &attachments, limits)?;
        let tail = self.tail();
        let start = tail.len();
        tail.extend_from_slice(&[0; 4]);
        if !attachments.is_empty() {
            let count = u32::try_from(attachments.len())
                .map_err(|_| too_large(Limit::Attachments, limits.attachments))?;
            tail.extend_from_slice(&count.to_le_bytes());
            for attachment in &attachments {
                let len = u64::try_from((**attachment).as_ref().len()).unwrap_or(u64::MAX);
                tail.extend_from_slice(&len.to_le_bytes());
            }
        }
        let head = tail.len();
        message.encode(tail);
        let body_len = tail.len() - head + body.len();
        if body_len.saturating_add(attached) > limits.message_size || body_len > Limits::MAX_BODY {
            tail.truncate(start);
            self.drop_empty_tail();
            return Err(too_large(Limit::MessageSize, limits.message_size));
        }
        let mut field = u32::try_from(body_len).unwrap_or(u32::MAX);
        if !attachments.is_empty() {
            field |= HAS_ATTACHMENTS;
        }
        if let Some(place) = tail.get_mut(start..start + 4) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let size = head - start + body_len + attached;
        if body.len() < OWN_CHUNK {
            tail.extend_from_slice(&body);
            body.clear();
        } else {
            self.chunks
                .push_back(Chunk::Bytes(std::mem::take(&mut body)));
        }
        for attachment in attachments {
            let bytes = (*attachment).as_ref();
            if bytes.len() < OWN_CHUNK {
                self.tail().extend_from_slice(bytes);
                self.drop_empty_tail();
            } else {
                self.chunks.push_back(Chunk::Shared(attachment));
            }
        }
        Ok((size, body))
    }

    /// The chunk at the end that may be appended to.
    fn tail(&mut self) -> &mut Vec<u8> {
        let room = matches!(
            self.chunks.back(),
            Some(Chunk::Bytes(bytes)) if bytes.len() < FULL_CHUNK
        );
        if !room {
            self.chunks
                .push_back(Chunk::Bytes(std::mem::take(&mut self.spare)));
        }
        match self.chunks.back_mut() {
            Some(Chunk::Bytes(bytes)) => bytes,
            // Unreachable: a chunk of bytes was just seen or pushed.
            _ => &mut self.spare,
        }
    }

    fn drop_empty_tail(&mut self) {
        if matches!(self.chunks.back(), Some(Chunk::Bytes(bytes)) if bytes.is_empty())
            && let Some(Chunk::Bytes(buffer)) = self.chunks.pop_back()
        {
            self.keep(buffer);
        }
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= 2 * FULL_CHUNK && buffer.capacity() > self.spare.capacity() {
            buffer.clear();
            self.spare = buffer;
        }
    }
}

const fn too_large(what: Limit, limit: usize) -> Error {
    Error::LimitExceeded { what, limit }
}

/// The bytes of all attachments together.
fn check(body: &[u8], attachments: &[Attachment], limits: &Limits) -> Result<usize, Error> {
    if attachments.len() > limits.attachments {
        return Err(too_large(Limit::Attachments, limits.attachments));
    }
    let mut all = 0usize;
    for attachment in attachments {
        all = all.saturating_add((**attachment).as_ref().len());
    }
    if all.saturating_add(body.len()) > limits.message_size {
        return Err(too_large(Limit::MessageSize, limits.message_size));
    }
    Ok(all)
}
