//! Two sessions and a naive model of who holds what, driven in random order: messages are
//! delivered late and in pieces, payloads are read late and out of order, proxies die in two steps.

use std::collections::HashMap;

use super::support::{Object, Pair, Side, payload};
use objspace_proto::{
    AnswerId, AnswerValue, CallFlags, Error, Event, Import, ImportId, Kind, Op, Outcome,
    OutgoingTarget, Payload, QuestionId, Received, Token,
};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// Call with objects of one's own, with objects that come home, and with promises.
    Call {
        keys: Vec<u8>,
        home: Vec<usize>,
        promise: Option<usize>,
        keep: bool,
    },
    Deliver {
        split: usize,
    },
    /// Read some received payload, or give up on it after so many tokens.
    Read {
        which: usize,
        give_up: Option<usize>,
        answer: Vec<u8>,
    },
    /// Nobody refers to the proxy any more.
    Kill(usize),
    /// Its destructor runs.
    Bury(usize),
    Finish(usize),
    Flush,
}

fn step() -> impl Strategy<Value = (bool, Step)> {
    let keys = || vec(0u8..5, 0..4);
    let index = || 0usize..8;
    let step = prop_oneof![
        3 => (keys(), vec(index(), 0..3), proptest::option::of(index()), any::<bool>())
            .prop_map(|(keys, home, promise, keep)| Step::Call { keys, home, promise, keep }),
        3 => (1usize..40).prop_map(|split| Step::Deliver { split }),
        4 => (index(), proptest::option::weighted(0.2, 0usize..6), keys())
            .prop_map(|(which, give_up, answer)| Step::Read { which, give_up, answer }),
        2 => index().prop_map(Step::Kill),
        2 => index().prop_map(Step::Bury),
        1 => index().prop_map(Step::Finish),
        1 => Just(Step::Flush),
    ];
    (any::<bool>(), step)
}

struct Proxy {
    id: ImportId,
    /// The key of the object that it stands for.
    key: u64,
    alive: bool,
}

/// A payload that came and is not read so far.
struct Unread {
    payload: Received,
    answer: Option<AnswerId>,
    keep: bool,
}

#[derive(Default)]
struct Host {
    proxies: HashMap<u64, Proxy>,
    next: u64,
    unread: Vec<Unread>,
    /// Kept questions and what their answer is to be.
    promises: Vec<(QuestionId, u64)>,
    replied: Vec<QuestionId>,
    made: usize,
    dropped: usize,
}

struct World {
    pair: Pair,
    hosts: [Host; 2],
    next_promise: u64,
}

fn pick(len: usize, index: usize) -> Option<usize> {
    (len > 0).then(|| index % len)
}

impl World {
    fn side(&mut self, there: bool) -> (&mut Side, &mut Host) {
        let [here_host, there_host] = &mut self.hosts;
        if there {
            (&mut self.pair.there, there_host)
        } else {
            (&mut self.pair.here, here_host)
        }
    }

    /// Encodes objects of this side, each with its key after it.
    fn mine(side: &mut Side, host: &mut Host, keys: &[u8]) -> Payload {
        let ids: Vec<_> = keys
            .iter()
            .map(|key| {
                let key = u64::from(*key);
                let made = &mut host.made;
                let id = side.session.export(key, || {
                    *made += 1;
                    Object(key)
                });
                (id.unwrap(), i64::try_from(key).unwrap())
            })
            .collect();
        payload(|out| {
            for (id, key) in ids {
                out.mine(id, Kind::LIST);
                out.int(key);
            }
        })
    }

    fn run(&mut self, there: bool, step: Step) -> Result<(), Error> {
        match step {
            Step::Call {
                keys,
                home,
                promise,
                keep,
            } => {
                let uid = self.next_promise;
                self.next_promise += 1;
                let (side, host) = self.side(there);
                let mut payload = Self::mine(side, host, &keys);
                let mut out = objspace_proto::Encoder::new(&mut payload.body);
                let mut handles: Vec<_> = host.proxies.keys().copied().collect();
                handles.sort_unstable();
                for index in home {
                    if let Some(at) = pick(handles.len(), index) {
                        let proxy = &host.proxies[&handles[at]];
                        if proxy.alive {
                            out.yours(proxy.id);
                            out.int(i64::try_from(proxy.key).unwrap());
                        }
                    }
                }
                let mut target = OutgoingTarget::Root;
                if let Some(at) = promise.and_then(|index| pick(host.promises.len(), index)) {
                    let (question, uid) = host.promises[at];
                    out.answer(question);
                    out.int(i64::try_from(uid).unwrap());
                    target = OutgoingTarget::Answer(question);
                }
                // A string: what a kept answer is to be.
                out.str(&uid.to_string());
                let flags = if keep {
                    CallFlags::KEEP
                } else {
                    CallFlags::NONE
                };
                let question = side
                    .session
                    .call(1, None, target, Op::CALL, flags, payload)?;
                if keep {
                    host.promises.push((question, uid));
                }
            }
            Step::Deliver { split } => {
                let bytes = self.side(!there).0.written();
                let (side, host) = self.side(there);
                for event in side.take(&bytes, split)? {
                    match event {
                        Event::Call(call) => host.unread.push(Unread {
                            payload: call.payload,
                            answer: Some(call.answer),
                            keep: call.keep,
                        }),
                        Event::Reply {
                            question, payload, ..
                        } => {
                            host.replied.push(question);
                            host.unread.push(Unread {
                                payload,
                                answer: None,
                                keep: false,
                            });
                        }
                        Event::Released(objects) => host.dropped += objects.len(),
                        Event::None | Event::Hello(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            Step::Read {
                which,
                give_up,
                answer,
            } => self.read(there, which, give_up, &answer)?,
            Step::Kill(index) => {
                let (_, host) = self.side(there);
                let mut handles: Vec<_> = host.proxies.keys().copied().collect();
                handles.sort_unstable();
                if let Some(at) = pick(handles.len(), index) {
                    host.proxies.get_mut(&handles[at]).unwrap().alive = false;
                }
            }
            Step::Bury(index) => {
                let (side, host) = self.side(there);
                let mut dead: Vec<_> = host
                    .proxies
                    .iter()
                    .filter(|(_, proxy)| !proxy.alive)
                    .map(|(handle, _)| *handle)
                    .collect();
                dead.sort_unstable();
                if let Some(at) = pick(dead.len(), index) {
                    let proxy = host.proxies.remove(&dead[at]).unwrap();
                    side.session.unbind(proxy.id, dead[at]);
                }
            }
            Step::Finish(index) => {
                let (side, host) = self.side(there);
                if let Some(at) = pick(host.promises.len(), index) {
                    let (question, _) = host.promises.swap_remove(at);
                    side.session.finish(question)?;
                }
            }
            Step::Flush => self.side(there).0.session.flush_releases()?,
        }
        Ok(())
    }

    fn read(
        &mut self,
        there: bool,
        which: usize,
        give_up: Option<usize>,
        answer: &[u8],
    ) -> Result<(), Error> {
        let (side, host) = self.side(there);
        let Some(at) = pick(host.unread.len(), which) else {
            return Ok(());
        };
        let Unread {
            payload,
            answer: asked,
            keep,
        } = host.unread.remove(at);
        let ticket = payload.ticket();
        let limits = *side.session.limits();
        let mut decoder = payload.decoder(&limits);
        let mut uid = 0;
        let mut left = give_up.unwrap_or(usize::MAX);
        while !decoder.is_empty() {
            if left == 0 {
                side.session.discard(&payload, decoder.offset())?;
                break;
            }
            left -= 1;
            match decoder.token()? {
                Token::Mine { id, .. } => {
                    let key = number(decoder.token()?);
                    let proxies = &host.proxies;
                    match side.session.import(id, |handle| proxies[&handle].alive)? {
                        Import::Known(handle) => assert_eq!(host.proxies[&handle].key, key),
                        Import::New => {
                            host.next += 1;
                            side.session.bind(id, host.next)?;
                            host.proxies.insert(
                                host.next,
                                Proxy {
                                    id,
                                    key,
                                    alive: true,
                                },
                            );
                        }
                    }
                }
                Token::Yours(id) => {
                    let key = number(decoder.token()?);
                    assert_eq!(side.session.exported(id)?, &Object(key));
                }
                Token::Answer(question) => {
                    let expected = number(decoder.token()?);
                    match side.session.answer_value(question, ticket)? {
                        AnswerValue::Running(_) => {}
                        AnswerValue::Done { value, .. } => {
                            assert_eq!(value, Some(&Object(expected)));
                        }
                    }
                }
                Token::Str(text) => uid = text.parse().unwrap(),
                Token::Int(_) => {}
                other => panic!("{other:?}"),
            }
        }
        // A kept answer must be known for what it is, also if its arguments were given up.
        let mut again = payload.decoder(&limits);
        while !again.is_empty() {
            if let Token::Str(text) = again.token()? {
                uid = text.parse().unwrap();
            }
        }
        if let Some(asked) = asked {
            let payload = Self::mine(side, host, answer);
            side.session.reply(asked, Outcome::Value, payload)?;
            let object = Object(uid);
            if keep {
                host.made += 1;
                assert_eq!(side.session.keep(asked, object), None);
            } else {
                assert_eq!(side.session.keep(asked, object), Some(Object(uid)));
            }
        }
        host.dropped += side.session.finish_reading(ticket).len();
        Ok(())
    }

    /// Delivers and reads everything, drops everything.
    fn end(&mut self) -> Result<(), Error> {
        for _ in 0..6 {
            for there in [false, true] {
                self.run(there, Step::Deliver { split: 1000 })?;
                while !self.side(there).1.unread.is_empty() {
                    self.read(there, 0, None, &[])?;
                }
                while !self.side(there).1.promises.is_empty() {
                    self.run(there, Step::Finish(0))?;
                }
                while !self.side(there).1.proxies.is_empty() {
                    self.run(there, Step::Kill(0))?;
                    self.run(there, Step::Bury(0))?;
                }
                self.run(there, Step::Flush)?;
            }
        }
        Ok(())
    }
}

fn number(token: Token<'_>) -> u64 {
    match token {
        Token::Int(value) => u64::try_from(value).unwrap(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn both_sides_agree_and_end_with_empty_tables(steps in vec(step(), 0..120)) {
        let mut world = World {
            pair: Pair::new(),
            hosts: [Host::default(), Host::default()],
            next_promise: 100,
        };
        for (there, step) in steps {
            world.run(there, step).unwrap();
        }
        world.end().unwrap();
        for there in [false, true] {
            let (side, host) = world.side(there);
            let stats = side.session.stats();
            let tables = [stats.exports, stats.imports, stats.questions, stats.answers];
            prop_assert_eq!(tables, [0; 4]);
            prop_assert_eq!(host.made, host.dropped);
            prop_assert_eq!(side.session.lost(), []);
        }
    }
}
