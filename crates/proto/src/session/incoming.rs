//! What comes in: one frame, one event.

use super::event::{Event, IncomingCall, IncomingFetch, IncomingTarget, PeerHello};
use super::questions::Replied;
use super::{Peer, Session};
use crate::error::{Error, PeerIncompatible, PeerMisbehaved};
use crate::message::{Message, ReleaseEntry, Target, VERSION};
use crate::{ExportId, Frame, ImportId, Payload, QuestionId, Received};

impl<O> Session<O> {
    /// Takes in one frame.
    ///
    /// # Errors
    /// The peer is at fault, or a limit is exceeded: the session cannot go on. Tell the peer with
    /// [`close`](Session::close) and the [code of the error](Error::close_code), then take what
    /// is left with [`lost`](Session::lost).
    pub fn handle_frame(&mut self, frame: Frame) -> Result<Event<O>, Error> {
        self.stats.messages_received += 1;
        self.stats.bytes_received += u64::try_from(frame.size()).unwrap_or(0);
        let Frame { body, attachments } = frame;
        let message = Message::decode(&body)?;
        match (self.peer, &message) {
            (Peer::Talking, Message::Hello { .. }) => {
                return Err(PeerMisbehaved::DuplicateHello.into());
            }
            (Peer::Talking, _)
            | (Peer::ExpectHello, Message::Hello { .. } | Message::Close { .. }) => {}
            (Peer::ExpectHello, _) => return Err(PeerMisbehaved::MessageBeforeHello.into()),
            (Peer::Lost, _) => return Err(Error::Closed),
            (Peer::Closed, _) => return Err(PeerMisbehaved::MessageAfterClose.into()),
        }
        let deadline = self.incoming_deadline(&message);
        match message {
            Message::Hello {
                version,
                agent,
                nonce,
            } => {
                if version != VERSION {
                    return Err(PeerIncompatible::Version {
                        theirs: version,
                        ours: VERSION,
                    }
                    .into());
                }
                self.peer = Peer::Talking;
                Ok(Event::Hello(PeerHello {
                    version,
                    agent: agent.to_owned(),
                    nonce,
                }))
            }
            Message::Call {
                question,
                thread,
                parent,
                target,
                op,
                flags,
                payload,
            } => {
                let start = body.len() - payload.len();
                let parent = self.incoming_parent(parent)?;
                let target = self.incoming_target(target)?;
                let answer = self.answers.start(question, flags.keep())?;
                let ticket = self.readings.start();
                Ok(Event::Call(IncomingCall {
                    answer,
                    thread,
                    parent,
                    target,
                    op,
                    keep: flags.keep(),
                    deadline,
                    payload: Received::new(body, start, attachments, ticket),
                }))
            }
            Message::Fetch {
                question,
                thread,
                parent,
                target,
                what,
                payload,
            } => {
                let start = body.len() - payload.len();
                let parent = self.incoming_parent(parent)?;
                let target = self.incoming_target(target)?;
                let answer = self.answers.start(question, false)?;
                let ticket = self.readings.start();
                Ok(Event::Fetch(IncomingFetch {
                    answer,
                    thread,
                    parent,
                    target,
                    what,
                    deadline,
                    payload: Received::new(body, start, attachments, ticket),
                }))
            }
            Message::Reply {
                question,
                outcome,
                payload,
            } => {
                let start = body.len() - payload.len();
                let question = QuestionId(question);
                if self.questions.replied(question)? == Replied::Finish {
                    self.releases.finish(question);
                }
                let ticket = self.readings.start();
                Ok(Event::Reply {
                    question,
                    outcome,
                    payload: Received::new(body, start, attachments, ticket),
                })
            }
            // The reply may have crossed the cancel: then there is nothing to cancel.
            Message::Cancel { question } => Ok(self
                .answers
                .running(question)
                .map_or(Event::None, Event::Cancelled)),
            Message::Release { entries, finished } => self.handle_release(&entries, &finished),
            Message::Shape {
                slot,
                generation,
                payload,
            } => {
                let start = body.len() - payload.len();
                let ticket = self.readings.start();
                Ok(Event::Shape {
                    class: ImportId::new(slot, generation),
                    payload: Received::new(body, start, attachments, ticket),
                })
            }
            Message::Ping { token, pong: false } => {
                if self.output.is_empty() {
                    self.pongs = 0;
                }
                self.pongs += 1;
                if self.pongs > self.limits.requests {
                    return Err(PeerMisbehaved::TooManyPings.into());
                }
                // A side that has closed has nothing more to say.
                if !self.closed {
                    self.send(&Message::Ping { token, pong: true }, Payload::new())?;
                }
                Ok(Event::None)
            }
            Message::Ping { token, pong: true } => {
                // Pongs come in the order of the pings.
                if self.pings.pop_front() != Some(token) {
                    return Err(PeerMisbehaved::UnexpectedPong.into());
                }
                Ok(Event::Ponged { token })
            }
            Message::Deadline {
                question,
                milliseconds,
            } => {
                self.announced = Some((question, milliseconds));
                Ok(Event::None)
            }
            Message::Close { code, reason } => {
                self.peer = Peer::Closed;
                Ok(Event::Closed {
                    code,
                    reason: reason.to_owned(),
                })
            }
        }
    }

    fn handle_release(
        &mut self,
        entries: &[ReleaseEntry],
        finished: &[u32],
    ) -> Result<Event<O>, Error> {
        let reading = self.readings.bound();
        let mut dropped = Vec::new();
        let mut apply = || -> Result<(), Error> {
            for entry in entries {
                let id = ExportId::new(entry.slot, entry.generation);
                dropped.extend(self.exports.release(id, entry.count, reading)?);
            }
            for question in finished {
                dropped.extend(self.answers.finish(*question, reading)?);
            }
            Ok(())
        };
        let result = apply();
        if let Err(error) = result {
            self.orphans.append(&mut dropped);
            return Err(error);
        }
        Ok(if dropped.is_empty() {
            Event::None
        } else {
            Event::Released(dropped)
        })
    }

    /// The deadline that came just before this request. One that was about another is forgotten:
    /// that request could not be sent.
    fn incoming_deadline(&mut self, message: &Message<'_>) -> Option<u64> {
        let (number, milliseconds) = self.announced.take()?;
        match message {
            Message::Call { question, .. } | Message::Fetch { question, .. } => {
                (*question == number).then_some(milliseconds)
            }
            _ => None,
        }
    }

    fn incoming_parent(&self, parent: Option<u32>) -> Result<Option<QuestionId>, PeerMisbehaved> {
        match parent {
            None => Ok(None),
            Some(number) if self.questions.is_waiting(QuestionId(number)) => {
                Ok(Some(QuestionId(number)))
            }
            Some(number) => Err(PeerMisbehaved::UnknownParent(number)),
        }
    }

    fn incoming_target(&self, target: Target) -> Result<IncomingTarget, PeerMisbehaved> {
        match target {
            Target::Root => Ok(IncomingTarget::Root),
            Target::Export { slot, generation } => {
                let id = ExportId::new(slot, generation);
                self.exports.get(id)?;
                Ok(IncomingTarget::Export(id))
            }
            Target::Answer { question } => {
                // Every payload of before this message has an earlier ticket than any that comes.
                let now = self.readings.next();
                self.answers.get(question, now)?;
                Ok(IncomingTarget::Answer(question))
            }
        }
    }
}
