//! What two well-behaved sessions do.

use super::support::{Object, Pair, call, only, payload, value};
use objspace_proto::{
    AnswerValue, CallFlags, CloseCode, Error, Event, FetchKind, Import, ImportId, IncomingTarget,
    Kind, Misuse, Op, Outcome, OutgoingTarget, Payload, QuestionId, Stats, Token, Value,
};

const ROOT: OutgoingTarget = OutgoingTarget::Root;

fn ask(pair: &mut Pair, target: OutgoingTarget, flags: CallFlags, payload: Payload) -> QuestionId {
    pair.here
        .session
        .call(1, None, target, Op::CALL, flags, payload)
        .unwrap()
}

/// `there` gives `here` its object `key`, as the result of a call; the import is bound to `handle`.
fn give(pair: &mut Pair, key: u64, handle: u64) -> ImportId {
    let question = ask(pair, ROOT, CallFlags::NONE, Payload::new());
    let call = call(only(pair.deliver_there().unwrap()));
    assert!(
        pair.there
            .session
            .finish_reading(call.payload.ticket())
            .is_empty()
    );
    let id = pair.there.export(key);
    let result = payload(|out| out.mine(id, Kind::LIST));
    pair.there
        .session
        .reply(call.answer, Outcome::Value, result)
        .unwrap();
    let Event::Reply {
        question: replied,
        payload,
        ..
    } = only(pair.deliver_here().unwrap())
    else {
        panic!("expected a reply");
    };
    assert_eq!(replied, question);
    let limits = *pair.here.session.limits();
    let Token::Mine { id, .. } = payload.decoder(&limits).token().unwrap() else {
        panic!("expected an object");
    };
    if pair.here.session.import(id, |_| true).unwrap() == Import::New {
        pair.here.session.bind(id, handle).unwrap();
    }
    assert!(
        pair.here
            .session
            .finish_reading(payload.ticket())
            .is_empty()
    );
    id
}

fn tables(stats: Stats) -> [usize; 4] {
    [stats.exports, stats.imports, stats.questions, stats.answers]
}

#[test]
fn a_call_and_its_reply() {
    let mut pair = Pair::new();
    let arguments = payload(|out| {
        out.arguments(1, 0);
        out.int(20);
    });
    let question = pair
        .here
        .session
        .call(42, None, ROOT, Op::CALL_METHOD, CallFlags::NONE, arguments)
        .unwrap();
    let call = call(only(pair.deliver_there().unwrap()));
    assert_eq!(
        (call.thread, call.op, call.keep),
        (42, Op::CALL_METHOD, false)
    );
    assert_eq!(call.target, IncomingTarget::Root);
    let result = payload(|out| out.int(21));
    pair.there
        .session
        .reply(call.answer, Outcome::Value, result)
        .unwrap();
    match only(pair.deliver_here().unwrap()) {
        Event::Reply {
            question: replied,
            outcome,
            payload,
        } => {
            assert_eq!((replied, outcome), (question, Outcome::Value));
            assert_eq!(value(&payload), Value::Int(21));
        }
        other => panic!("{other:?}"),
    }
    let stats = pair.here.session.stats();
    assert_eq!(tables(stats), [0; 4]);
    // With the Hello of each side.
    assert_eq!((stats.messages_sent, stats.messages_received), (2, 2));
    assert_eq!(stats.bytes_received, pair.there.session.stats().bytes_sent);
}

#[test]
fn a_small_call_takes_few_bytes() {
    let mut pair = Pair::new();
    let id = give(&mut pair, 1, 1);
    let before = pair.here.session.stats().bytes_sent;
    let arguments = payload(|out| {
        out.arguments(1, 0);
        out.int(3);
    });
    ask(
        &mut pair,
        OutgoingTarget::Import(id),
        CallFlags::NONE,
        arguments,
    );
    assert_eq!(pair.here.session.stats().bytes_sent - before, 17);
}

#[test]
fn a_fetch_and_its_error() {
    let mut pair = Pair::new();
    let question = pair
        .here
        .session
        .fetch(1, None, ROOT, FetchKind::EXPORTED_NAMES, Payload::new())
        .unwrap();
    let Event::Fetch(fetch) = only(pair.deliver_there().unwrap()) else {
        panic!("expected a fetch");
    };
    assert_eq!(fetch.what, FetchKind::EXPORTED_NAMES);
    let error = payload(|out| out.str("no"));
    pair.there
        .session
        .reply(fetch.answer, Outcome::Error, error)
        .unwrap();
    let event = only(pair.deliver_here().unwrap());
    assert!(matches!(
        event,
        Event::Reply { question: replied, outcome: Outcome::Error, .. } if replied == question
    ));
}

#[test]
fn a_callback_names_the_question_it_is_nested_in() {
    let mut pair = Pair::new();
    let question = ask(&mut pair, ROOT, CallFlags::NONE, Payload::new());
    let outer = call(only(pair.deliver_there().unwrap()));
    let back = |pair: &mut Pair| {
        pair.there
            .session
            .call(
                1,
                Some(outer.answer),
                ROOT,
                Op::CALL,
                CallFlags::NONE,
                Payload::new(),
            )
            .unwrap();
        call(only(pair.deliver_here().unwrap()))
    };
    let inner = back(&mut pair);
    assert_eq!(inner.parent, Some(question));
    // Once the outer call is answered, nobody waits for it.
    pair.there
        .session
        .reply(outer.answer, Outcome::Value, Payload::new())
        .unwrap();
    pair.deliver_here().unwrap();
    assert_eq!(back(&mut pair).parent, None);
}

#[test]
fn cancel_reaches_the_other_side_and_the_reply_comes_nevertheless() {
    let mut pair = Pair::new();
    let question = ask(&mut pair, ROOT, CallFlags::NONE, Payload::new());
    let running = call(only(pair.deliver_there().unwrap()));
    pair.here.session.cancel(question).unwrap();
    let event = only(pair.deliver_there().unwrap());
    assert!(matches!(event, Event::Cancelled(answer) if answer == running.answer));
    pair.there
        .session
        .reply(running.answer, Outcome::Error, Payload::new())
        .unwrap();
    assert!(matches!(
        only(pair.deliver_here().unwrap()),
        Event::Reply { .. }
    ));
    assert!(pair.here.session.cancel(question).is_err());
}

#[test]
fn a_cancel_that_crosses_the_reply_means_nothing() {
    let mut pair = Pair::new();
    let question = ask(&mut pair, ROOT, CallFlags::NONE, Payload::new());
    let running = call(only(pair.deliver_there().unwrap()));
    pair.there
        .session
        .reply(running.answer, Outcome::Value, Payload::new())
        .unwrap();
    pair.here.session.cancel(question).unwrap();
    assert!(matches!(only(pair.deliver_there().unwrap()), Event::None));
}

#[test]
fn release_rides_on_the_next_message() {
    let mut pair = Pair::new();
    let id = give(&mut pair, 5, 50);
    pair.here.session.unbind(id, 50);
    assert_eq!(pair.here.session.releases_pending(), 1);
    assert!(pair.here.written().is_empty());
    ask(&mut pair, ROOT, CallFlags::NONE, Payload::new());
    let events = pair.deliver_there().unwrap();
    match &events[..] {
        [Event::Released(objects), Event::Call(_)] => assert_eq!(objects[..], [Object(5)]),
        other => panic!("{other:?}"),
    }
    assert_eq!(pair.there.session.stats().exports, 0);
}

#[test]
fn an_object_that_is_sent_again_while_it_is_released_stays() {
    let mut pair = Pair::new();
    let id = give(&mut pair, 5, 50);
    // The proxy dies here; the release waits while the object is on its way again.
    let question = ask(&mut pair, ROOT, CallFlags::NONE, Payload::new());
    pair.here.session.unbind(id, 50);
    pair.here.session.flush_releases().unwrap();
    let release = pair.here.written();
    // The other side has not seen the release when it sends the object for the second time.
    let events = pair.there.take(&release, 1).unwrap();
    let [Event::Call(incoming), Event::None] = &events[..] else {
        panic!("{events:?}");
    };
    // (The object is in limbo: the call is still being read.)
    let again = pair.there.export(5);
    assert_eq!(
        (again.slot(), again.generation()),
        (id.slot(), id.generation())
    );
    let dropped = pair.there.session.finish_reading(incoming.payload.ticket());
    assert!(dropped.is_empty());
    let result = payload(|out| out.mine(again, Kind::LIST));
    pair.there
        .session
        .reply(incoming.answer, Outcome::Value, result)
        .unwrap();
    let event = only(pair.deliver_here().unwrap());
    assert!(matches!(event, Event::Reply { question: replied, .. } if replied == question));
    assert_eq!(pair.here.session.import(id, |_| true), Ok(Import::New));
    pair.here.session.bind(id, 51).unwrap();
    pair.here.session.unbind(id, 51);
    pair.here.session.flush_releases().unwrap();
    let event = only(pair.deliver_there().unwrap());
    assert!(matches!(event, Event::Released(objects) if objects == [Object(5)]));
}

#[test]
fn counts_not_flags_decide_when_messages_cross() {
    let mut pair = Pair::new();
    let id = give(&mut pair, 5, 50);
    // In flight to here: the object again. In flight to there: its release.
    ask(&mut pair, ROOT, CallFlags::NONE, Payload::new());
    let incoming = call(only(pair.deliver_there().unwrap()));
    let _ = pair.there.session.finish_reading(incoming.payload.ticket());
    let again = pair.there.export(5);
    pair.there
        .session
        .reply(
            incoming.answer,
            Outcome::Value,
            payload(|out| out.mine(again, Kind::LIST)),
        )
        .unwrap();
    pair.here.session.unbind(id, 50);
    pair.here.session.flush_releases().unwrap();
    assert!(matches!(only(pair.deliver_there().unwrap()), Event::None));
    assert_eq!(pair.there.session.stats().exports, 1);
    pair.deliver_here().unwrap();
    assert_eq!(pair.here.session.import(id, |_| true), Ok(Import::New));
    assert_eq!(pair.there.session.exported(again), Ok(&Object(5)));
}

#[test]
fn an_object_comes_home() {
    let mut pair = Pair::new();
    let id = give(&mut pair, 5, 50);
    let arguments = payload(|out| {
        out.arguments(1, 0);
        out.yours(id);
    });
    ask(
        &mut pair,
        OutgoingTarget::Import(id),
        CallFlags::NONE,
        arguments,
    );
    let call = call(only(pair.deliver_there().unwrap()));
    let limits = *pair.there.session.limits();
    let mut decoder = call.payload.decoder(&limits);
    decoder.arguments().unwrap();
    let Token::Yours(home) = decoder.token().unwrap() else {
        panic!("expected its own object");
    };
    assert_eq!(pair.there.session.exported(home), Ok(&Object(5)));
    assert_eq!(call.target, IncomingTarget::Export(home));
}

#[test]
fn what_a_message_refers_to_lives_until_it_is_read() {
    let mut pair = Pair::new();
    let id = give(&mut pair, 5, 50);
    let arguments = payload(|out| {
        out.arguments(1, 0);
        out.yours(id);
    });
    ask(&mut pair, ROOT, CallFlags::NONE, arguments);
    pair.here.session.unbind(id, 50);
    pair.here.session.flush_releases().unwrap();
    // Both arrive before anyone has looked at the arguments.
    let mut events = pair.deliver_there().unwrap();
    assert!(matches!(events.pop(), Some(Event::None)));
    let call = call(only(events));
    let limits = *pair.there.session.limits();
    let mut decoder = call.payload.decoder(&limits);
    decoder.arguments().unwrap();
    let Token::Yours(home) = decoder.token().unwrap() else {
        panic!("expected its own object");
    };
    assert_eq!(pair.there.session.exported(home), Ok(&Object(5)));
    let dropped = pair.there.session.finish_reading(call.payload.ticket());
    assert_eq!(dropped, [Object(5)]);
    assert!(pair.there.session.exported(home).is_err());
}

#[test]
fn an_answer_is_a_target_before_it_arrives() {
    let mut pair = Pair::new();
    let first = ask(&mut pair, ROOT, CallFlags::KEEP, Payload::new());
    let arguments = payload(|out| {
        out.arguments(1, 0);
        out.answer(first);
    });
    ask(
        &mut pair,
        OutgoingTarget::Answer(first),
        CallFlags::NONE,
        arguments,
    );
    let mut events = pair.deliver_there().unwrap();
    let second = call(events.pop().unwrap());
    let first_call = call(only(events));
    let there = &mut pair.there.session;
    assert!(first_call.keep);
    let IncomingTarget::Answer(number) = second.target else {
        panic!("{:?}", second.target);
    };
    let running = AnswerValue::Running(first_call.answer);
    assert_eq!(
        there.answer_value(number, second.payload.ticket()),
        Ok(running)
    );
    there
        .reply(first_call.answer, Outcome::Value, Payload::new())
        .unwrap();
    assert_eq!(there.keep(first_call.answer, Object(9)), None);
    let done = AnswerValue::Done {
        outcome: Outcome::Value,
        value: Some(&Object(9)),
    };
    assert_eq!(
        there.answer_value(number, second.payload.ticket()),
        Ok(done)
    );
    assert!(there.finish_reading(first_call.payload.ticket()).is_empty());
    assert!(there.finish_reading(second.payload.ticket()).is_empty());
    pair.deliver_here().unwrap();
    pair.here.session.finish(first).unwrap();
    pair.here.session.flush_releases().unwrap();
    let event = only(pair.deliver_there().unwrap());
    assert!(matches!(event, Event::Released(objects) if objects == [Object(9)]));
}

#[test]
fn an_answer_that_is_not_kept_is_no_target() {
    let mut pair = Pair::new();
    let question = ask(&mut pair, ROOT, CallFlags::NONE, Payload::new());
    let result = pair.here.session.call(
        1,
        None,
        OutgoingTarget::Answer(question),
        Op::CALL,
        CallFlags::NONE,
        Payload::new(),
    );
    assert_eq!(result, Err(Misuse::UnknownQuestion(question).into()));
}

#[test]
fn a_shape_precedes_what_needs_it_and_pins_the_class() {
    let mut pair = Pair::new();
    let class = pair.there.export(70);
    assert!(!pair.there.session.shape_sent(class));
    pair.there
        .session
        .shape(class, payload(|out| out.str("shape")))
        .unwrap();
    assert!(pair.there.session.shape_sent(class));
    let Event::Shape { class: id, payload } = only(pair.deliver_here().unwrap()) else {
        panic!("expected a shape");
    };
    assert_eq!(
        (id.slot(), id.generation()),
        (class.slot(), class.generation())
    );
    assert_eq!(value(&payload), Value::Str("shape".to_owned()));
    // A release of every reference leaves it in place.
    pair.here.session.import(id, |_| true).unwrap();
    pair.here.session.unimport(id).unwrap();
    pair.here.session.flush_releases().unwrap();
    assert!(matches!(only(pair.deliver_there().unwrap()), Event::None));
    assert_eq!(pair.there.session.exported(class), Ok(&Object(70)));
}

#[test]
fn references_that_nobody_reads_are_given_back() {
    let mut pair = Pair::new();
    let (a, b) = (pair.there.export(1), pair.there.export(2));
    let twice = pair.there.export(2);
    assert_eq!(twice, b);
    ask(&mut pair, ROOT, CallFlags::NONE, Payload::new());
    let incoming = call(only(pair.deliver_there().unwrap()));
    let _ = pair.there.session.finish_reading(incoming.payload.ticket());
    let result = payload(|out| {
        out.tuple(3);
        out.mine(a, Kind::LIST);
        out.mine(b, Kind::DICT);
        out.mine(b, Kind::DICT);
    });
    pair.there
        .session
        .reply(incoming.answer, Outcome::Value, result)
        .unwrap();
    let Event::Reply { payload, .. } = only(pair.deliver_here().unwrap()) else {
        panic!("expected a reply");
    };
    // It reads the first, then fails.
    let limits = *pair.here.session.limits();
    let mut decoder = payload.decoder(&limits);
    decoder.token().unwrap();
    let Token::Mine { id, .. } = decoder.token().unwrap() else {
        panic!("expected an object");
    };
    pair.here.session.import(id, |_| true).unwrap();
    pair.here
        .session
        .discard(&payload, decoder.offset())
        .unwrap();
    pair.here.session.unimport(id).unwrap();
    pair.here.session.flush_releases().unwrap();
    let event = only(pair.deliver_there().unwrap());
    assert!(matches!(event, Event::Released(objects) if objects.len() == 2));
}

#[test]
fn a_ping_is_answered_without_the_host() {
    let mut pair = Pair::new();
    pair.here.session.ping(77).unwrap();
    assert!(matches!(only(pair.deliver_there().unwrap()), Event::None));
    let event = only(pair.deliver_here().unwrap());
    assert!(matches!(event, Event::Ponged { token: 77 }));
}

#[test]
fn after_a_close_nothing_is_sent_but_replies_still_come() {
    let mut pair = Pair::new();
    ask(&mut pair, ROOT, CallFlags::NONE, Payload::new());
    pair.here.session.close(CloseCode::NORMAL, "bye").unwrap();
    assert_eq!(pair.here.session.ping(1), Err(Error::Closed));
    let mut events = pair.deliver_there().unwrap();
    match events.pop() {
        Some(Event::Closed { code, reason }) => {
            assert_eq!((code, &reason[..]), (CloseCode::NORMAL, "bye"));
        }
        other => panic!("{other:?}"),
    }
    let incoming = call(only(events));
    pair.there
        .session
        .reply(incoming.answer, Outcome::Value, Payload::new())
        .unwrap();
    assert!(matches!(
        only(pair.deliver_here().unwrap()),
        Event::Reply { .. }
    ));
}

#[test]
fn a_lost_peer_drops_everything_it_held() {
    let mut pair = Pair::new();
    let id = give(&mut pair, 5, 50);
    pair.there.export(6);
    assert_eq!(pair.there.session.lost(), [Object(5), Object(6)]);
    assert_eq!(tables(pair.there.session.stats()), [0; 4]);
    assert_eq!(pair.there.session.flush_releases(), Err(Error::Closed));
    assert!(pair.here.session.lost().is_empty());
    pair.here.session.unbind(id, 50);
    assert_eq!(pair.here.session.releases_pending(), 0);
}

#[test]
fn a_reply_that_is_too_large_can_be_replaced() {
    let mut limits = objspace_proto::Limits::default();
    limits.message_size = 100;
    let mut pair = Pair::with(limits, usize::MAX);
    ask(&mut pair, ROOT, CallFlags::NONE, Payload::new());
    let incoming = call(only(pair.deliver_there().unwrap()));
    let large = payload(|out| out.bytes(&[0; 100]));
    let there = &mut pair.there.session;
    assert!(matches!(
        there.reply(incoming.answer, Outcome::Value, large),
        Err(Error::LimitExceeded { .. })
    ));
    there
        .reply(incoming.answer, Outcome::Error, Payload::new())
        .unwrap();
    assert!(
        there
            .reply(incoming.answer, Outcome::Error, Payload::new())
            .is_err()
    );
    assert!(matches!(
        only(pair.deliver_here().unwrap()),
        Event::Reply { .. }
    ));
}

#[test]
fn a_call_that_is_too_large_leaves_no_question() {
    let mut limits = objspace_proto::Limits::default();
    limits.message_size = 100;
    let mut pair = Pair::with(limits, usize::MAX);
    let large = payload(|out| out.bytes(&[0; 100]));
    let here = &mut pair.here.session;
    let result = here.call(1, None, ROOT, Op::CALL, CallFlags::NONE, large);
    assert!(matches!(result, Err(Error::LimitExceeded { .. })));
    assert_eq!(here.stats().questions, 0);
    assert!(here.poll_output().is_empty());
}
