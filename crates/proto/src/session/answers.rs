//! The requests of the peer.
//!
//! Invariants:
//! - An entry lives from the request to the reply; if the peer wants the answer kept, from the
//!   request until the peer finishes it, which it may do after the reply only.
//! - A finished answer stays for the readers of payloads that came before it was finished, in
//!   `departing`; a later request may have its number meanwhile.

use std::collections::{HashMap, VecDeque};

use crate::error::{Error, Limit, Misuse, PeerMisbehaved};
use crate::{AnswerId, Outcome, Ticket};

/// What has become of a request whose answer is kept.
#[derive(Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a request is running or it is not")]
pub enum AnswerValue<'a, O> {
    /// There is no reply so far.
    Running(AnswerId),
    /// The reply was sent.
    Done {
        /// How the request ended.
        outcome: Outcome,
        /// What [`crate::Session::keep`] was given.
        value: Option<&'a O>,
    },
}

#[derive(Debug)]
struct Entry<O> {
    serial: u64,
    keep: bool,
    /// How it ended, if it has.
    outcome: Option<Outcome>,
    value: Option<O>,
}

#[derive(Debug)]
struct Departing<O> {
    bound: Ticket,
    question: u32,
    entry: Entry<O>,
}

#[derive(Debug)]
pub(super) struct Answers<O> {
    entries: HashMap<u32, Entry<O>>,
    departing: VecDeque<Departing<O>>,
    running: usize,
    next_serial: u64,
    max_running: usize,
    max_entries: usize,
}

impl<O> Answers<O> {
    pub(super) fn new(max_running: usize, max_entries: usize) -> Self {
        Self {
            entries: HashMap::new(),
            departing: VecDeque::new(),
            running: 0,
            next_serial: 0,
            max_running,
            max_entries,
        }
    }

    /// How many are running or kept.
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.departing.len()
    }

    pub(super) fn start(&mut self, question: u32, keep: bool) -> Result<AnswerId, Error> {
        if self.entries.contains_key(&question) {
            return Err(PeerMisbehaved::DuplicateQuestion(question).into());
        }
        if self.running >= self.max_running {
            return Err(Error::LimitExceeded {
                what: Limit::Requests,
                limit: self.max_running,
            });
        }
        if self.len() >= self.max_entries.saturating_add(self.max_running) {
            return Err(Error::LimitExceeded {
                what: Limit::References,
                limit: self.max_entries,
            });
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        self.entries.insert(
            question,
            Entry {
                serial,
                keep,
                outcome: None,
                value: None,
            },
        );
        self.running += 1;
        Ok(AnswerId { question, serial })
    }

    pub(super) fn is_running(&self, id: AnswerId) -> bool {
        self.entries
            .get(&id.question)
            .is_some_and(|entry| entry.serial == id.serial && entry.outcome.is_none())
    }

    /// The request of this number, if it is running.
    pub(super) fn running(&self, question: u32) -> Option<AnswerId> {
        let entry = self.entries.get(&question)?;
        entry.outcome.is_none().then_some(AnswerId {
            question,
            serial: entry.serial,
        })
    }

    /// The reply is sent.
    pub(super) fn reply(&mut self, id: AnswerId, outcome: Outcome) -> Result<(), Misuse> {
        let entry = self
            .entries
            .get_mut(&id.question)
            .filter(|entry| entry.serial == id.serial && entry.outcome.is_none())
            .ok_or(Misuse::UnknownAnswer(id.question))?;
        self.running -= 1;
        if entry.keep {
            entry.outcome = Some(outcome);
        } else {
            self.entries.remove(&id.question);
        }
        Ok(())
    }

    /// Keeps `value` for later requests, or gives it back if nobody may ask for it.
    pub(super) fn keep(&mut self, id: AnswerId, value: O) -> Option<O> {
        match self.entries.get_mut(&id.question) {
            Some(entry) if entry.serial == id.serial && entry.keep => entry.value.replace(value),
            _ => Some(value),
        }
    }

    /// The peer needs the answer no longer.
    pub(super) fn finish(
        &mut self,
        question: u32,
        reading: Option<Ticket>,
    ) -> Result<Option<O>, PeerMisbehaved> {
        let entry = self
            .entries
            .get(&question)
            .filter(|entry| entry.keep)
            .ok_or(PeerMisbehaved::UnknownFinished(question))?;
        if entry.outcome.is_none() {
            return Err(PeerMisbehaved::FinishedEarly(question));
        }
        let entry = self
            .entries
            .remove(&question)
            .ok_or(PeerMisbehaved::UnknownFinished(question))?;
        match reading {
            None => Ok(entry.value),
            Some(bound) => {
                self.departing.push_back(Departing {
                    bound,
                    question,
                    entry,
                });
                Ok(None)
            }
        }
    }

    /// Every payload of before `bound` has been read.
    pub(super) fn settle(&mut self, bound: Ticket, dropped: &mut Vec<O>) {
        while let Some(first) = self.departing.front() {
            if first.bound > bound {
                return;
            }
            if let Some(gone) = self.departing.pop_front() {
                dropped.extend(gone.entry.value);
            }
        }
    }

    /// The answer that the payload with `ticket` means by `question`.
    pub(super) fn get(
        &self,
        question: u32,
        ticket: Ticket,
    ) -> Result<AnswerValue<'_, O>, PeerMisbehaved> {
        let departing = self
            .departing
            .iter()
            .find(|gone| gone.question == question && ticket < gone.bound)
            .map(|gone| &gone.entry);
        let entry = departing
            .or_else(|| self.entries.get(&question))
            .filter(|entry| entry.keep)
            .ok_or(PeerMisbehaved::UnknownAnswer(question))?;
        Ok(match entry.outcome {
            None => AnswerValue::Running(AnswerId {
                question,
                serial: entry.serial,
            }),
            Some(outcome) => AnswerValue::Done {
                outcome,
                value: entry.value.as_ref(),
            },
        })
    }

    /// Empties the table.
    pub(super) fn clear(&mut self, dropped: &mut Vec<O>) {
        self.running = 0;
        dropped.extend(self.entries.drain().filter_map(|(_, entry)| entry.value));
        dropped.extend(self.departing.drain(..).filter_map(|gone| gone.entry.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Answers<&'static str> {
        Answers::new(2, 2)
    }

    #[test]
    fn an_answer_that_is_not_kept_ends_with_its_reply() {
        let mut table = table();
        let id = table.start(5, false).unwrap();
        assert!(table.is_running(id));
        table.reply(id, Outcome::Value).unwrap();
        assert_eq!(table.keep(id, "v"), Some("v"));
        assert_eq!(table.len(), 0);
        assert_eq!(
            table.reply(id, Outcome::Value),
            Err(Misuse::UnknownAnswer(5))
        );
    }

    #[test]
    fn a_kept_answer_stays_until_finished() {
        let mut table = table();
        let id = table.start(5, true).unwrap();
        assert_eq!(table.get(5, Ticket(0)), Ok(AnswerValue::Running(id)));
        assert_eq!(table.finish(5, None), Err(PeerMisbehaved::FinishedEarly(5)));
        table.reply(id, Outcome::Value).unwrap();
        assert_eq!(table.keep(id, "v"), None);
        let done = AnswerValue::Done {
            outcome: Outcome::Value,
            value: Some(&"v"),
        };
        assert_eq!(table.get(5, Ticket(0)), Ok(done));
        assert_eq!(table.finish(5, None), Ok(Some("v")));
        assert_eq!(
            table.finish(5, None),
            Err(PeerMisbehaved::UnknownFinished(5))
        );
    }

    #[test]
    fn a_reader_of_before_the_end_means_the_old_answer_of_a_reused_number() {
        let mut table = table();
        let old = table.start(5, true).unwrap();
        table.reply(old, Outcome::Value).unwrap();
        table.keep(old, "old");
        assert_eq!(table.finish(5, Some(Ticket(8))), Ok(None));
        let new = table.start(5, true).unwrap();
        let done = AnswerValue::Done {
            outcome: Outcome::Value,
            value: Some(&"old"),
        };
        assert_eq!(table.get(5, Ticket(7)), Ok(done));
        assert_eq!(table.get(5, Ticket(8)), Ok(AnswerValue::Running(new)));
        let mut dropped = Vec::new();
        table.settle(Ticket(8), &mut dropped);
        assert_eq!(dropped, ["old"]);
    }

    #[test]
    fn a_number_in_use_is_refused() {
        let mut table = table();
        table.start(5, false).unwrap();
        assert_eq!(
            table.start(5, false),
            Err(PeerMisbehaved::DuplicateQuestion(5).into())
        );
    }

    #[test]
    fn the_limit_of_requests_holds_at_n_and_n_plus_1() {
        let mut table = table();
        table.start(1, false).unwrap();
        table.start(2, false).unwrap();
        assert!(matches!(
            table.start(3, false),
            Err(Error::LimitExceeded { .. })
        ));
    }
}
