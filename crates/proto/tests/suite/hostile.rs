//! What a session answers to a peer that breaks the rules.

use super::support::{Object, Pair, Side, call, frame, only};
use objspace_proto::message::ReleaseEntry;
use objspace_proto::{
    CallFlags, CloseCode, Error, Event, Frame, Limit, Limits, Message, Op, Outcome, OutgoingTarget,
    Payload, PeerIncompatible, PeerMisbehaved, Target, VERSION,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn call_message(question: u32, target: Target) -> Message<'static> {
    Message::Call {
        question,
        thread: 1,
        parent: None,
        target,
        op: Op::CALL,
        flags: CallFlags::NONE,
        payload: &[],
    }
}

/// A session that has seen a Hello.
fn victim() -> Side {
    Pair::new().here
}

fn misbehaviour(side: &mut Side, message: &Message<'_>) -> PeerMisbehaved {
    match side.session.handle_frame(frame(message)) {
        Err(error @ Error::PeerMisbehaved(what)) => {
            assert_eq!(error.close_code(), Some(CloseCode::MISBEHAVED));
            what
        }
        other => panic!("expected misbehaviour, got {other:?}"),
    }
}

const HELLO: Message<'_> = Message::Hello {
    version: VERSION,
    agent: "x",
    nonce: 1,
};

#[test]
fn a_message_before_the_hello() {
    let mut side = Side::new(Limits::default());
    assert_eq!(
        misbehaviour(&mut side, &call_message(0, Target::Root)),
        PeerMisbehaved::MessageBeforeHello
    );
}

#[test]
fn a_second_hello() {
    assert_eq!(
        misbehaviour(&mut victim(), &HELLO),
        PeerMisbehaved::DuplicateHello
    );
}

#[test]
fn another_version() {
    let mut side = Side::new(Limits::default());
    let hello = Message::Hello {
        version: 9,
        agent: "",
        nonce: 0,
    };
    let error = side.session.handle_frame(frame(&hello)).unwrap_err();
    let expected = PeerIncompatible::Version {
        theirs: 9,
        ours: VERSION,
    };
    assert_eq!(error, Error::PeerIncompatible(expected));
    assert_eq!(error.close_code(), Some(CloseCode::INCOMPATIBLE));
}

#[test]
fn a_message_after_the_close() {
    let mut side = victim();
    let close = Message::Close {
        code: CloseCode::NORMAL,
        reason: "",
    };
    let event = side.session.handle_frame(frame(&close)).unwrap();
    assert!(matches!(event, Event::Closed { .. }));
    assert_eq!(
        misbehaviour(&mut side, &close),
        PeerMisbehaved::MessageAfterClose
    );
}

#[test]
fn a_reply_to_nothing_and_a_second_reply() {
    let mut side = victim();
    let reply = |question| Message::Reply {
        question,
        outcome: Outcome::Value,
        payload: &[],
    };
    assert_eq!(
        misbehaviour(&mut side, &reply(3)),
        PeerMisbehaved::UnknownQuestion(3)
    );
    let session = &mut side.session;
    let question = session
        .call(
            1,
            None,
            OutgoingTarget::Root,
            Op::CALL,
            CallFlags::KEEP,
            Payload::new(),
        )
        .unwrap();
    session
        .handle_frame(frame(&reply(question.number())))
        .unwrap();
    assert_eq!(
        misbehaviour(&mut side, &reply(question.number())),
        PeerMisbehaved::DuplicateReply(question.number())
    );
}

#[test]
fn a_question_with_a_number_in_use() {
    let mut side = victim();
    let message = call_message(4, Target::Root);
    side.session.handle_frame(frame(&message)).unwrap();
    assert_eq!(
        misbehaviour(&mut side, &message),
        PeerMisbehaved::DuplicateQuestion(4)
    );
}

#[test]
fn a_target_that_does_not_exist() {
    let mut side = victim();
    let id = side.export(1);
    let target = |slot, generation| Target::Export { slot, generation };
    for (slot, generation) in [(id.slot() + 1, 0), (id.slot(), id.generation() + 1)] {
        assert!(matches!(
            misbehaviour(&mut side, &call_message(0, target(slot, generation))),
            PeerMisbehaved::UnknownExport(_)
        ));
    }
    side.session.unexport(id).unwrap();
    assert_eq!(
        misbehaviour(
            &mut side,
            &call_message(0, target(id.slot(), id.generation()))
        ),
        PeerMisbehaved::StaleExport(id)
    );
    assert_eq!(
        misbehaviour(&mut side, &call_message(0, Target::Answer { question: 8 })),
        PeerMisbehaved::UnknownAnswer(8)
    );
}

#[test]
fn a_parent_that_does_not_exist() {
    let message = Message::Call {
        question: 0,
        thread: 1,
        parent: Some(6),
        target: Target::Root,
        op: Op::CALL,
        flags: CallFlags::NONE,
        payload: &[],
    };
    assert_eq!(
        misbehaviour(&mut victim(), &message),
        PeerMisbehaved::UnknownParent(6)
    );
}

#[test]
fn releases_of_too_much_and_of_nothing() {
    let mut side = victim();
    let id = side.export(1);
    let release = |count| Message::Release {
        entries: vec![ReleaseEntry {
            slot: id.slot(),
            generation: id.generation(),
            count,
        }],
        finished: Vec::new(),
    };
    assert_eq!(
        misbehaviour(&mut side, &release(0)),
        PeerMisbehaved::EmptyRelease(id)
    );
    assert_eq!(
        misbehaviour(&mut side, &release(2)),
        PeerMisbehaved::ReleasedTooOften(id)
    );
}

#[test]
fn what_a_half_good_release_removed_is_not_dropped_in_the_session() {
    let mut side = victim();
    let id = side.export(1);
    let release = Message::Release {
        entries: vec![ReleaseEntry {
            slot: id.slot(),
            generation: id.generation(),
            count: 1,
        }],
        finished: vec![3],
    };
    assert_eq!(
        misbehaviour(&mut side, &release),
        PeerMisbehaved::UnknownFinished(3)
    );
    assert_eq!(side.session.lost(), [Object(1)]);
}

#[test]
fn finishing_what_is_running() {
    let mut side = victim();
    let keep = Message::Call {
        question: 2,
        thread: 1,
        parent: None,
        target: Target::Root,
        op: Op::CALL,
        flags: CallFlags::KEEP,
        payload: &[],
    };
    side.session.handle_frame(frame(&keep)).unwrap();
    let finish = Message::Release {
        entries: Vec::new(),
        finished: vec![2],
    };
    assert_eq!(
        misbehaviour(&mut side, &finish),
        PeerMisbehaved::FinishedEarly(2)
    );
}

#[test]
fn a_pong_that_nobody_asked_for() {
    let pong = Message::Ping {
        token: 1,
        pong: true,
    };
    assert_eq!(
        misbehaviour(&mut victim(), &pong),
        PeerMisbehaved::UnexpectedPong
    );
}

#[test]
fn pings_without_end() {
    let mut limits = Limits::default();
    limits.requests = 3;
    let mut side = Pair::with(limits, usize::MAX).here;
    let ping = Message::Ping {
        token: 1,
        pong: false,
    };
    for _ in 0..3 {
        side.session.handle_frame(frame(&ping)).unwrap();
    }
    assert!(!side.written().is_empty());
    for _ in 0..3 {
        side.session.handle_frame(frame(&ping)).unwrap();
    }
    assert_eq!(misbehaviour(&mut side, &ping), PeerMisbehaved::TooManyPings);
}

#[test]
fn a_message_to_a_session_that_is_given_up() {
    let mut side = victim();
    assert!(side.session.lost().is_empty());
    let message = call_message(0, Target::Root);
    let error = side.session.handle_frame(frame(&message)).unwrap_err();
    assert_eq!(error, Error::Closed);
}

#[test]
fn too_many_requests_at_n_and_n_plus_1() {
    let mut limits = Limits::default();
    limits.requests = 3;
    let mut side = Pair::with(limits, usize::MAX).here;
    for question in 0..3 {
        let message = call_message(question, Target::Root);
        call(side.session.handle_frame(frame(&message)).unwrap());
    }
    let message = call_message(3, Target::Root);
    let error = side.session.handle_frame(frame(&message)).unwrap_err();
    let expected = Error::LimitExceeded {
        what: Limit::Requests,
        limit: 3,
    };
    assert_eq!(error, expected);
    assert_eq!(error.close_code(), Some(CloseCode::LIMIT_EXCEEDED));
}

#[test]
fn bytes_that_are_no_message() {
    let mut side = victim();
    for body in [vec![], vec![0], vec![200, 1], vec![2, 0]] {
        let frame = Frame {
            body,
            attachments: Vec::new(),
        };
        let error = side.session.handle_frame(frame).unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{error:?}");
    }
}

#[test]
fn every_error_is_told_in_words() {
    let mut pair = Pair::new();
    let bytes = [5, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff];
    let error = pair.here.take(&bytes, 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "malformed message from the peer: unexpected end of input at byte 1"
    );
    pair.here
        .session
        .close(error.close_code().unwrap(), &error.to_string())
        .unwrap();
    let event = only(pair.deliver_there().unwrap());
    assert!(matches!(
        event,
        Event::Closed {
            code: CloseCode::MALFORMED,
            ..
        }
    ));
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(
        bodies in vec((1u8..10, vec(prop_oneof![0u8..4, any::<u8>()], 0..30)), 1..20),
    ) {
        let mut side = victim();
        side.export(1);
        for (first, mut body) in bodies {
            body.insert(0, first);
            let frame = Frame { body, attachments: Vec::new() };
            match side.session.handle_frame(frame) {
                Ok(Event::Call(call)) => {
                    let _ = side.session.discard(&call.payload, 0);
                    let _ = side.session.finish_reading(call.payload.ticket());
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let _ = side.session.lost();
        prop_assert_eq!(side.session.stats().exports, 0);
    }
}
