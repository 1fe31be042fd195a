//! Counters of a session.

/// What a session has done and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages queued to be sent, each kind counted (a release that precedes a call is one).
    pub messages_sent: u64,
    /// Messages that came.
    pub messages_received: u64,
    /// Bytes queued to be sent, with the heads of their frames.
    pub bytes_sent: u64,
    /// Bytes that came as complete frames.
    pub bytes_received: u64,
    /// Live entries of the table of exports.
    pub exports: usize,
    /// Live entries of the table of imports.
    pub imports: usize,
    /// Own requests that are open.
    pub questions: usize,
    /// Requests of the peer that are running or kept.
    pub answers: usize,
}
