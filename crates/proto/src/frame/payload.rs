//! Payloads: the one being built, and the one received.

use crate::{Decoder, Limits, PeerMisbehaved};

/// Bytes that are sent from where they lie, without a copy.
pub type Attachment = Box<dyn AsRef<[u8]> + Send + Sync>;

/// What a message carries, being built: write the body with [`crate::Encoder`].
#[derive(Default)]
#[allow(clippy::exhaustive_structs, reason = "the two parts of a payload")]
pub struct Payload {
    /// The tokens.
    pub body: Vec<u8>,
    /// What [`crate::Encoder::attachment`] refers to, in order.
    pub attachments: Vec<Attachment>,
}

impl Payload {
    /// A payload without bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            body: Vec::new(),
            attachments: Vec::new(),
        }
    }

    /// Writes an attachment: the bytes and the token that refers to them.
    pub fn attach(&mut self, bytes: Attachment) {
        let index = u32::try_from(self.attachments.len()).unwrap_or(u32::MAX);
        crate::Encoder::new(&mut self.body).attachment(index);
        self.attachments.push(bytes);
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload")
            .field("body", &self.body)
            .field("attachments", &self.attachments.len())
            .finish()
    }
}

impl From<Vec<u8>> for Payload {
    fn from(body: Vec<u8>) -> Self {
        Self {
            body,
            attachments: Vec::new(),
        }
    }
}

/// Says of a received payload that it is being read: what it refers to stays alive until
/// [`crate::Session::finish_reading`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub(crate) u64);

/// A payload that came from the peer: the body of the message, unchanged, and where it starts.
#[derive(Debug)]
pub struct Received {
    body: Vec<u8>,
    start: usize,
    attachments: Vec<Vec<u8>>,
    ticket: Ticket,
}

impl Received {
    pub(crate) const fn new(
        body: Vec<u8>,
        start: usize,
        attachments: Vec<Vec<u8>>,
        ticket: Ticket,
    ) -> Self {
        Self {
            body,
            start,
            attachments,
            ticket,
        }
    }

    /// The tokens.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.body.get(self.start..).unwrap_or_default()
    }

    /// How many bytes it keeps in memory, with its attachments.
    #[must_use]
    pub fn size(&self) -> usize {
        let attached: usize = self.attachments.iter().map(Vec::len).sum();
        self.bytes().len() + attached
    }

    /// Reads the tokens.
    #[must_use]
    pub fn decoder(&self, limits: &Limits) -> Decoder<'_> {
        Decoder::new(self.bytes(), limits)
    }

    /// The bytes that [`crate::Token::Attachment`] refers to.
    ///
    /// # Errors
    /// The message has no such attachment.
    pub fn attachment(&self, index: u32) -> Result<&[u8], PeerMisbehaved> {
        usize::try_from(index)
            .ok()
            .and_then(|at| self.attachments.get(at))
            .map(Vec::as_slice)
            .ok_or(PeerMisbehaved::UnknownAttachment(index))
    }

    /// The tokens, and the attachments for who wants to keep them without a copy.
    #[must_use]
    pub fn split(&mut self) -> (&[u8], &mut [Vec<u8>]) {
        (
            self.body.get(self.start..).unwrap_or_default(),
            &mut self.attachments,
        )
    }

    /// Every attachment, in order.
    #[must_use]
    pub fn attachments(&self) -> &[Vec<u8>] {
        &self.attachments
    }

    /// What to hand to [`crate::Session::finish_reading`].
    #[must_use]
    pub const fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The buffer of the body, for use again (see [`crate::Session::recycle`]).
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.body
    }
}
