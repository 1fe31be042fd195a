//! The state machine of one session: four tables, what comes in and what goes out.
//!
//! It holds no lock and does no I/O: the host feeds it frames, acts on the events, and writes
//! what waits in the output. Objects that leave a table are returned, never dropped here,
//! because dropping them may run code that needs the session.

mod answers;
mod event;
mod exports;
mod imports;
mod incoming;
mod questions;
mod release;
mod stats;

use std::collections::VecDeque;

pub use answers::AnswerValue;
pub use event::{Event, IncomingCall, IncomingFetch, IncomingTarget, PeerHello};
pub use imports::Import;
pub use stats::Stats;

use crate::codec::References;
use crate::error::{Error, Misuse};
use crate::message::{CallFlags, Message, Outcome, Target, VERSION};
use crate::{
    AnswerId, CloseCode, ExportId, FetchKind, ImportId, Limits, Op, Output, Payload, QuestionId,
    Received, Ticket,
};
use answers::Answers;
use exports::Exports;
use imports::Imports;
use questions::Questions;
use release::{Readings, Releases};

/// Buffers larger than this are not kept for use again.
const SPARE_SIZE: usize = 64 << 10;
/// So many are kept.
const SPARES: usize = 8;

/// How a session starts.
#[derive(Clone, Debug, Default)]
#[allow(
    clippy::exhaustive_structs,
    reason = "built by the host with ..Default::default()"
)]
pub struct Config {
    /// What it bears from its peer.
    pub limits: Limits,
    /// Program and version, for the people on the other side; at most 255 bytes of it are sent.
    pub agent: String,
    /// A random number, by which a session that talks to itself is found out.
    pub nonce: u64,
}

/// What a request is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "as Target")]
pub enum OutgoingTarget {
    /// The names that the peer exports.
    Root,
    /// An object of the peer.
    Import(ImportId),
    /// The result of an earlier question, asked with [`CallFlags::KEEP`].
    Answer(QuestionId),
}

/// How far the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    ExpectHello,
    Talking,
    Closed,
    /// The host has given it up.
    Lost,
}

/// One session. `O` is what the host holds an exported object by.
///
/// Order of use: feed frames to [`handle_frame`](Self::handle_frame); read each payload and say so
/// with [`finish_reading`](Self::finish_reading); write what [`poll_output`](Self::poll_output)
/// holds, after every event too (a ping is answered without the host); when the stream ends or an
/// error comes, [`close`](Self::close) if possible, then [`lost`](Self::lost).
#[derive(Debug)]
pub struct Session<O> {
    limits: Limits,
    peer: Peer,
    /// Nothing more can be sent.
    closed: bool,
    output: Output,
    exports: Exports<O>,
    imports: Imports,
    questions: Questions,
    answers: Answers<O>,
    releases: Releases,
    readings: Readings,
    /// The deadline of the next request of this side, in milliseconds.
    deadline: Option<u64>,
    /// The deadline that the peer gave for its next message.
    announced: Option<(u32, u64)>,
    /// Pings without their pongs.
    pings: VecDeque<u64>,
    /// Pongs queued since the output was last empty.
    pongs: usize,
    stats: Stats,
    /// Objects of a message that turned out to be wrong: dropped with the session.
    orphans: Vec<O>,
    spares: Vec<Vec<u8>>,
}

impl<O> Session<O> {
    /// A session whose Hello waits to be written.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let limits = config.limits;
        let mut session = Self {
            limits,
            peer: Peer::ExpectHello,
            closed: false,
            output: Output::new(),
            exports: Exports::new(limits.references),
            imports: Imports::new(limits.references),
            questions: Questions::new(limits.requests),
            answers: Answers::new(limits.requests, limits.references),
            releases: Releases::default(),
            readings: Readings::default(),
            deadline: None,
            announced: None,
            pings: VecDeque::new(),
            pongs: 0,
            stats: Stats::default(),
            orphans: Vec::new(),
            spares: Vec::new(),
        };
        let end = config.agent.floor_char_boundary(255);
        let hello = Message::Hello {
            version: VERSION,
            agent: config.agent.get(..end).unwrap_or_default(),
            nonce: config.nonce,
        };
        // A Hello is small: it fails under no limit but its own.
        if let Ok((size, _)) = session
            .output
            .frame(&hello, Payload::new(), &Limits::default())
        {
            session.count_sent(size);
        }
        session
    }

    /// What the session bears.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What waits to be written.
    pub const fn poll_output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Whether nothing more can be sent.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Counters and sizes of the tables.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            exports: self.exports.len(),
            imports: self.imports.len(),
            questions: self.questions.len(),
            answers: self.answers.len(),
            ..self.stats
        }
    }

    // --- exports

    /// Counts one more reference sent to the object of this identity; `make` gives the handle if
    /// the peer does not have the object yet. Write the id with [`crate::Encoder::mine`] once.
    ///
    /// # Errors
    /// The table is full.
    pub fn export(&mut self, key: u64, make: impl FnOnce() -> O) -> Result<ExportId, Error> {
        self.exports.export(key, make)
    }

    /// Undoes one [`export`](Self::export) whose message was not sent. Drop what it returns
    /// outside the lock.
    ///
    /// # Errors
    /// There is no such export.
    pub fn unexport(&mut self, id: ExportId) -> Result<Option<O>, Error> {
        self.exports.unexport(id)
    }

    /// The object that the peer means by `id`.
    ///
    /// # Errors
    /// The peer was never given it, or has released it.
    pub fn exported(&self, id: ExportId) -> Result<&O, Error> {
        Ok(self.exports.get(id)?)
    }

    /// Every object that the peer may refer to, and the references that it counts.
    pub fn exports(&self) -> impl Iterator<Item = (&O, u64)> {
        self.exports.iter()
    }

    /// Keeps an export until the session ends, as the classes of instances must be.
    ///
    /// # Errors
    /// There is no such export.
    pub fn pin(&mut self, id: ExportId) -> Result<(), Error> {
        self.exports.pin(id)
    }

    /// Whether the shape of this class was sent.
    #[must_use]
    pub fn shape_sent(&self, class: ExportId) -> bool {
        self.exports.shape_sent(class)
    }

    /// Says that the peer has the shape of this class by other means than
    /// [`shape`](Self::shape), as the reply to a fetch that is queued already. Never say so
    /// earlier: another thread would mention the class before its shape is queued.
    ///
    /// # Errors
    /// There is no such export.
    pub fn mark_shape_sent(&mut self, class: ExportId) -> Result<(), Error> {
        self.exports.mark_shape_sent(class)
    }

    // --- imports

    /// Counts one reference received, for each [`crate::Token::Mine`]. If the object is known,
    /// `revive` is asked whether its proxy is usable (and may take a reference to it): if not, it
    /// is forgotten, and a new one is to be made.
    ///
    /// # Errors
    /// The table is full.
    pub fn import(
        &mut self,
        id: ImportId,
        revive: impl FnOnce(u64) -> bool,
    ) -> Result<Import, Error> {
        self.imports.import(id, revive)
    }

    /// The proxy that stands for an object now, if any.
    #[must_use]
    pub fn bound(&self, id: ImportId) -> Option<u64> {
        self.imports.bound(id)
    }

    /// Says which proxy stands for an object from now on; returns the one that did.
    ///
    /// # Errors
    /// The object is not imported.
    pub fn bind(&mut self, id: ImportId, handle: u64) -> Result<Option<u64>, Error> {
        self.imports.bind(id, handle)
    }

    /// A proxy died. Sends nothing: the references go back with the next message. If another
    /// proxy stands for the object by now, nothing happens.
    pub fn unbind(&mut self, id: ImportId, handle: u64) {
        if let Some(count) = self.imports.unbind(id, handle) {
            self.releases.release(id, count);
        }
    }

    /// Undoes one [`import`](Self::import) of which no proxy came: that reference goes back with
    /// the next message.
    ///
    /// # Errors
    /// The object is not imported, or a proxy needs this last reference.
    pub fn unimport(&mut self, id: ImportId) -> Result<(), Error> {
        self.imports.unimport(id)?;
        self.releases.release(id, 1);
        Ok(())
    }

    /// Gives back every reference in the payload from byte `from` on (see
    /// [`crate::Decoder::offset`]), because the host will not import them.
    ///
    /// # Errors
    /// The payload is malformed.
    pub fn discard(&mut self, payload: &Received, from: usize) -> Result<(), Error> {
        let rest = payload.bytes().get(from..).unwrap_or_default();
        for id in References::new(rest, &self.limits) {
            self.releases.release(id?, 1);
        }
        Ok(())
    }

    /// Queues what is to be given back, without waiting for another message.
    ///
    /// # Errors
    /// The session is closed.
    pub fn flush_releases(&mut self) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        while let Some((entries, finished)) = self.releases.batch() {
            let message = Message::Release { entries, finished };
            let (size, _) = self.output.frame(&message, Payload::new(), &self.limits)?;
            self.count_sent(size);
        }
        Ok(())
    }

    /// How many entries wait to be given back.
    #[must_use]
    pub const fn releases_pending(&self) -> usize {
        self.releases.len()
    }

    // --- requests

    /// The next [`call`](Self::call) or [`fetch`](Self::fetch) is one that this side waits for no
    /// longer than that, if there is a limit. The peer is told just before it.
    pub const fn set_deadline(&mut self, milliseconds: Option<u64>) {
        self.deadline = milliseconds;
    }

    /// Queues a call. `parent` is the request of the peer in whose execution it is made, if any.
    ///
    /// # Errors
    /// The session is closed, too many requests are under way, the message is too large, or the
    /// target is not a kept answer. Nothing is queued then; references in the payload are the
    /// host's to [`unexport`](Self::unexport).
    pub fn call(
        &mut self,
        thread: u64,
        parent: Option<AnswerId>,
        target: OutgoingTarget,
        op: Op,
        flags: CallFlags,
        payload: Payload,
    ) -> Result<QuestionId, Error> {
        let target = self.target(target)?;
        let parent = self.parent(parent);
        let question = self.questions.ask(flags.keep())?;
        let message = Message::Call {
            question: question.number(),
            thread,
            parent,
            target,
            op,
            flags,
            payload: &[],
        };
        self.ask(question, &message, payload)
    }

    /// Queues a fetch, as [`call`](Self::call).
    ///
    /// # Errors
    /// As of [`call`](Self::call).
    pub fn fetch(
        &mut self,
        thread: u64,
        parent: Option<AnswerId>,
        target: OutgoingTarget,
        what: FetchKind,
        payload: Payload,
    ) -> Result<QuestionId, Error> {
        let target = self.target(target)?;
        let parent = self.parent(parent);
        let question = self.questions.ask(false)?;
        let message = Message::Fetch {
            question: question.number(),
            thread,
            parent,
            target,
            what,
            payload: &[],
        };
        self.ask(question, &message, payload)
    }

    /// Tells the peer that nobody waits for the reply, which comes nevertheless.
    ///
    /// # Errors
    /// The session is closed, or the reply is here.
    pub fn cancel(&mut self, question: QuestionId) -> Result<(), Error> {
        if !self.questions.is_waiting(question) {
            return Err(Misuse::UnknownQuestion(question).into());
        }
        let message = Message::Cancel {
            question: question.number(),
        };
        self.send(&message, Payload::new())
    }

    /// Says that the kept answer of a question is no longer needed. Sends nothing: the peer hears
    /// of it with the next message after the reply.
    ///
    /// # Errors
    /// The answer is not kept.
    pub fn finish(&mut self, question: QuestionId) -> Result<(), Error> {
        if self.questions.finish(question)? {
            self.releases.finish(question);
        }
        Ok(())
    }

    /// Queues the reply to a request of the peer.
    ///
    /// # Errors
    /// The session is closed, the reply was sent before, or the message is too large (then another
    /// reply may be tried).
    pub fn reply(
        &mut self,
        answer: AnswerId,
        outcome: Outcome,
        payload: Payload,
    ) -> Result<(), Error> {
        if !self.answers.is_running(answer) {
            return Err(Misuse::UnknownAnswer(answer.question()).into());
        }
        let message = Message::Reply {
            question: answer.question(),
            outcome,
            payload: &[],
        };
        self.send(&message, payload)?;
        self.answers.reply(answer, outcome)?;
        Ok(())
    }

    /// Keeps the result (or the error) of a request that asked for it, before or right after its
    /// reply. What comes back is not kept: drop it outside the lock.
    pub fn keep(&mut self, answer: AnswerId, value: O) -> Option<O> {
        self.answers.keep(answer, value)
    }

    /// What the payload of this ticket means by the answer of `question`.
    ///
    /// # Errors
    /// The answer is not kept.
    pub fn answer_value(&self, question: u32, ticket: Ticket) -> Result<AnswerValue<'_, O>, Error> {
        Ok(self.answers.get(question, ticket)?)
    }

    /// Says that a payload was read: every reference in it was looked up with
    /// [`exported`](Self::exported), [`answer_value`](Self::answer_value) or
    /// [`import`](Self::import), or [discarded](Self::discard). Only then are objects let go that
    /// the peer released after it sent the payload. Drop what it returns outside the lock.
    #[must_use]
    pub fn finish_reading(&mut self, ticket: Ticket) -> Vec<O> {
        let mut dropped = Vec::new();
        if let Some(bound) = self.readings.finish(ticket) {
            self.exports.settle(bound, &mut dropped);
            self.answers.settle(bound, &mut dropped);
        }
        dropped
    }

    // --- the rest

    /// Queues the shape of a class of this side, which is pinned from now on.
    ///
    /// # Errors
    /// The session is closed, there is no such export, or the message is too large.
    pub fn shape(&mut self, class: ExportId, payload: Payload) -> Result<(), Error> {
        self.exports.pin(class)?;
        let message = Message::Shape {
            slot: class.slot(),
            generation: class.generation(),
            payload: &[],
        };
        self.send(&message, payload)?;
        self.exports.mark_shape_sent(class)
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// The session is closed.
    pub fn ping(&mut self, token: u64) -> Result<(), Error> {
        self.send(&Message::Ping { token, pong: false }, Payload::new())?;
        self.pings.push_back(token);
        Ok(())
    }

    /// Queues the last message of this side.
    ///
    /// # Errors
    /// The session is closed.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        let end = reason.floor_char_boundary(1024);
        let reason = reason.get(..end).unwrap_or_default();
        self.send(&Message::Close { code, reason }, Payload::new())?;
        self.closed = true;
        Ok(())
    }

    /// The peer is gone: empties every table and the output. Drop what it returns outside the
    /// lock. Nothing can be sent any more, and the destructors of proxies have no effect.
    #[must_use]
    pub fn lost(&mut self) -> Vec<O> {
        self.peer = Peer::Lost;
        self.closed = true;
        self.output.clear();
        let mut dropped = std::mem::take(&mut self.orphans);
        self.exports.clear(&mut dropped);
        self.answers.clear(&mut dropped);
        self.imports.clear();
        self.questions.clear();
        self.releases.clear();
        self.readings = Readings::default();
        self.pings.clear();
        dropped
    }

    /// An empty payload whose buffer may have been used before.
    #[must_use]
    pub fn payload(&mut self) -> Payload {
        self.spares.pop().unwrap_or_default().into()
    }

    /// Gives a buffer back for use again, see [`Received::into_buffer`].
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spares.len() < SPARES && (1..=SPARE_SIZE).contains(&buffer.capacity()) {
            buffer.clear();
            self.spares.push(buffer);
        }
    }

    fn ask(
        &mut self,
        question: QuestionId,
        message: &Message<'_>,
        payload: Payload,
    ) -> Result<QuestionId, Error> {
        let asked = match self.deadline.take() {
            Some(milliseconds) => self
                .send(
                    &Message::Deadline {
                        question: question.number(),
                        milliseconds,
                    },
                    Payload::new(),
                )
                .and_then(|()| self.send(message, payload)),
            None => self.send(message, payload),
        };
        match asked {
            Ok(()) => Ok(question),
            Err(error) => {
                self.questions.withdraw(question);
                Err(error)
            }
        }
    }

    fn target(&self, target: OutgoingTarget) -> Result<Target, Error> {
        Ok(match target {
            OutgoingTarget::Root => Target::Root,
            OutgoingTarget::Import(id) => Target::Export {
                slot: id.slot(),
                generation: id.generation(),
            },
            OutgoingTarget::Answer(question) => {
                if !self.questions.is_kept(question) {
                    return Err(Misuse::UnknownQuestion(question).into());
                }
                Target::Answer {
                    question: question.number(),
                }
            }
        })
    }

    /// A request that has been answered is nobody's parent: its caller no longer waits.
    fn parent(&self, parent: Option<AnswerId>) -> Option<u32> {
        parent
            .filter(|answer| self.answers.is_running(*answer))
            .map(AnswerId::question)
    }

    /// Queues a message, after what is to be given back.
    fn send(&mut self, message: &Message<'_>, payload: Payload) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        if self.releases.len() > 0 {
            self.flush_releases()?;
        }
        let (size, buffer) = self.output.frame(message, payload, &self.limits)?;
        self.recycle(buffer);
        self.count_sent(size);
        Ok(())
    }

    fn count_sent(&mut self, size: usize) {
        self.stats.messages_sent += 1;
        self.stats.bytes_sent += u64::try_from(size).unwrap_or(0);
    }
}
