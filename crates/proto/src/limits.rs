//! What a session bears from its peer. Every limit is checked before memory is allocated for it.

/// The bounds of a session; [`Limits::default`] suits a peer that is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Containers inside containers. At most [`Limits::MAX_DEPTH`] is honoured.
    pub depth: usize,
    /// Bytes of one message: its body and its attachments together.
    pub message_size: usize,
    /// Elements of one container.
    pub container_len: usize,
    /// Attachments of one message.
    pub attachments: usize,
    /// Requests under way, in each direction.
    pub requests: usize,
    /// Entries in the table of exports and in the table of imports, each.
    pub references: usize,
}

impl Limits {
    /// Decoders may recurse: no limit of depth goes beyond this.
    pub const MAX_DEPTH: usize = 500;

    /// The largest body that the length field of a frame can express.
    pub const MAX_BODY: usize = 0x7fff_ffff;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 200,
            message_size: 256 << 20,
            container_len: 16 << 20,
            attachments: 1024,
            requests: 4096,
            references: 1 << 20,
        }
    }
}
