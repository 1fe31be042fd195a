//! The requests of this side.
//!
//! Invariants:
//! - A question is open from the request to its reply; one whose answer the peer keeps, from the
//!   request until it is finished *and* replied to.
//! - The number of a question that is not open may be used again, the lowest first. The peer sees
//!   the end of the old question first, because messages arrive in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::QuestionId;
use crate::error::{Error, Limit, Misuse, PeerMisbehaved};

#[derive(Clone, Copy, Debug)]
struct Question {
    /// The peer keeps the answer.
    keep: bool,
    replied: bool,
    /// This side wants the answer dropped, as soon as it is there.
    finished: bool,
}

/// What a reply means for its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replied {
    /// Nothing more is to be done.
    Done,
    /// The peer is to be told that the answer is no longer needed.
    Finish,
}

#[derive(Debug)]
pub(super) struct Questions {
    slots: Vec<Option<Question>>,
    free: BinaryHeap<Reverse<u32>>,
    live: usize,
    waiting: usize,
    limit: usize,
}

impl Questions {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: BinaryHeap::new(),
            live: 0,
            waiting: 0,
            limit,
        }
    }

    /// How many are open.
    pub(super) const fn len(&self) -> usize {
        self.live
    }

    pub(super) fn ask(&mut self, keep: bool) -> Result<QuestionId, Error> {
        if self.waiting >= self.limit {
            return Err(Error::LimitExceeded {
                what: Limit::Requests,
                limit: self.limit,
            });
        }
        let number = match self.free.pop() {
            Some(Reverse(number)) => number,
            None => {
                let number = u32::try_from(self.slots.len())
                    .map_err(|_| Error::Internal("too many questions"))?;
                self.slots.push(None);
                number
            }
        };
        let id = QuestionId(number);
        if let Some(slot) = self.slot_mut(id) {
            *slot = Some(Question {
                keep,
                replied: false,
                finished: false,
            });
        }
        self.live += 1;
        self.waiting += 1;
        Ok(id)
    }

    /// The request could not be sent.
    pub(super) fn withdraw(&mut self, id: QuestionId) {
        self.waiting -= 1;
        self.close(id);
    }

    /// Whether a reply is still to come.
    pub(super) fn is_waiting(&self, id: QuestionId) -> bool {
        self.get(id).is_some_and(|question| !question.replied)
    }

    /// Whether its answer may be referred to.
    pub(super) fn is_kept(&self, id: QuestionId) -> bool {
        self.get(id)
            .is_some_and(|question| question.keep && !question.finished)
    }

    pub(super) fn replied(&mut self, id: QuestionId) -> Result<Replied, PeerMisbehaved> {
        let question = self
            .slot_mut(id)
            .and_then(Option::as_mut)
            .ok_or(PeerMisbehaved::UnknownQuestion(id.0))?;
        if question.replied {
            return Err(PeerMisbehaved::DuplicateReply(id.0));
        }
        question.replied = true;
        let Question { keep, finished, .. } = *question;
        self.waiting -= 1;
        if !keep || finished {
            self.close(id);
        }
        Ok(if keep && finished {
            Replied::Finish
        } else {
            Replied::Done
        })
    }

    /// The kept answer is no longer needed; says whether to tell the peer now.
    pub(super) fn finish(&mut self, id: QuestionId) -> Result<bool, Misuse> {
        let question = self
            .slot_mut(id)
            .and_then(Option::as_mut)
            .filter(|question| question.keep && !question.finished)
            .ok_or(Misuse::UnknownQuestion(id))?;
        question.finished = true;
        let now = question.replied;
        if now {
            self.close(id);
        }
        Ok(now)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    fn close(&mut self, id: QuestionId) {
        if let Some(slot) = self.slot_mut(id)
            && slot.take().is_some()
        {
            self.live -= 1;
            self.free.push(Reverse(id.0));
        }
    }

    fn get(&self, id: QuestionId) -> Option<&Question> {
        self.slots.get(usize::try_from(id.0).ok()?)?.as_ref()
    }

    fn slot_mut(&mut self, id: QuestionId) -> Option<&mut Option<Question>> {
        self.slots.get_mut(usize::try_from(id.0).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_reused_lowest_first() {
        let mut table = Questions::new(9);
        let ids: Vec<_> = (0..3).map(|_| table.ask(false).unwrap()).collect();
        table.replied(ids[2]).unwrap();
        table.replied(ids[0]).unwrap();
        assert_eq!(table.ask(false).unwrap(), ids[0]);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_kept_question_stays_open_until_it_is_finished() {
        let mut table = Questions::new(9);
        let id = table.ask(true).unwrap();
        assert_eq!(table.replied(id), Ok(Replied::Done));
        assert_eq!(table.replied(id), Err(PeerMisbehaved::DuplicateReply(0)));
        assert!(table.is_kept(id));
        assert_ne!(table.ask(false).unwrap(), id);
        assert_eq!(table.finish(id), Ok(true));
        assert_eq!(table.finish(id), Err(Misuse::UnknownQuestion(id)));
        assert_eq!(table.ask(false).unwrap(), id);
    }

    #[test]
    fn finishing_before_the_reply_waits_for_it() {
        let mut table = Questions::new(9);
        let id = table.ask(true).unwrap();
        assert_eq!(table.finish(id), Ok(false));
        assert!(!table.is_kept(id));
        assert_eq!(table.replied(id), Ok(Replied::Finish));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_reply_to_nothing_is_refused() {
        let mut table = Questions::new(9);
        assert_eq!(
            table.replied(QuestionId(7)),
            Err(PeerMisbehaved::UnknownQuestion(7))
        );
    }

    #[test]
    fn the_limit_of_requests_holds_at_n_and_n_plus_1() {
        let mut table = Questions::new(2);
        let first = table.ask(false).unwrap();
        table.ask(false).unwrap();
        assert!(table.ask(false).is_err());
        table.replied(first).unwrap();
        assert!(table.ask(false).is_ok());
    }
}
