//! A hostile peer: bodies of its choice, between the acts of an ordinary host. No panic, and at
//! the end no object is left behind.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use objspace_proto::{
    CallFlags, CloseCode, Config, Encoder, Event, FetchKind, Frame, Import, Kind, Message, Op,
    Outcome, OutgoingTarget, Payload, Received, Session, Token, VERSION,
};

#[derive(Arbitrary, Debug)]
enum Act {
    /// The peer sends this.
    Body(Vec<u8>),
    /// The host calls, with an object of its own.
    Call {
        key: u8,
        keep: bool,
    },
    Fetch,
    Cancel(u8),
    Finish(u8),
    /// The host answers what it was asked first.
    Reply {
        keep: bool,
    },
    /// The proxy made first dies.
    Drop,
    /// The host reads the payload that came first, or gives it up.
    Read {
        give_up: bool,
    },
    Flush,
    Ping(u64),
    Close,
}

struct Counted<'a>(&'a std::cell::Cell<i64>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fuzz_target!(|acts: Vec<Act>| {
    let living = std::cell::Cell::new(0);
    let make = || {
        living.set(living.get() + 1);
        Counted(&living)
    };
    let mut config = Config::default();
    config.limits.references = 50;
    config.limits.requests = 20;
    let limits = config.limits;
    let mut session = Session::new(&config);
    let mut hello = Vec::new();
    Message::Hello {
        version: VERSION,
        agent: "",
        nonce: 0,
    }
    .encode(&mut hello);
    let hello = Frame {
        body: hello,
        attachments: Vec::new(),
    };
    assert!(session.handle_frame(hello).is_ok());

    let mut questions = Vec::new();
    let mut answers = Vec::new();
    let mut payloads: Vec<Received> = Vec::new();
    let mut proxies = Vec::new();
    let mut handle = 0;
    let mut failed = false;
    for act in acts {
        match act {
            Act::Body(body) => {
                let frame = Frame {
                    body,
                    attachments: Vec::new(),
                };
                match session.handle_frame(frame) {
                    Ok(Event::Call(call)) => {
                        answers.push(call.answer);
                        payloads.push(call.payload);
                    }
                    Ok(Event::Fetch(fetch)) => {
                        answers.push(fetch.answer);
                        payloads.push(fetch.payload);
                    }
                    Ok(Event::Reply { payload, .. } | Event::Shape { payload, .. }) => {
                        payloads.push(payload);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        assert!(error.close_code().is_some() || session.is_closed());
                        failed = true;
                    }
                }
            }
            Act::Call { key, keep } => {
                let mut payload = Payload::new();
                let Ok(id) = session.export(u64::from(key), make) else {
                    continue;
                };
                Encoder::new(&mut payload.body).mine(id, Kind::LIST);
                let flags = if keep {
                    CallFlags::KEEP
                } else {
                    CallFlags::NONE
                };
                let root = OutgoingTarget::Root;
                match session.call(1, answers.last().copied(), root, Op::CALL, flags, payload) {
                    Ok(question) => questions.push(question),
                    Err(_) => drop(session.unexport(id)),
                }
            }
            Act::Fetch => {
                let root = OutgoingTarget::Root;
                let _ = session.fetch(1, None, root, FetchKind::CONTENTS, Payload::new());
            }
            Act::Cancel(at) => {
                if let Some(question) = questions.get(usize::from(at)) {
                    let _ = session.cancel(*question);
                }
            }
            Act::Finish(at) => {
                if let Some(question) = questions.get(usize::from(at)) {
                    let _ = session.finish(*question);
                }
            }
            Act::Reply { keep } => {
                if !answers.is_empty() {
                    let answer = answers.remove(0);
                    let _ = session.reply(answer, Outcome::Value, Payload::new());
                    if keep {
                        drop(session.keep(answer, make()));
                    }
                }
            }
            Act::Drop => {
                if !proxies.is_empty() {
                    let (id, handle) = proxies.remove(0);
                    session.unbind(id, handle);
                }
            }
            Act::Read { give_up } => {
                if payloads.is_empty() {
                    continue;
                }
                let payload = payloads.remove(0);
                let mut decoder = payload.decoder(&limits);
                while !give_up && !decoder.is_empty() {
                    match decoder.token() {
                        Ok(Token::Mine { id, .. }) => match session.import(id, |_| true) {
                            Ok(Import::New) => {
                                handle += 1;
                                session.bind(id, handle).expect("it was just imported");
                                proxies.push((id, handle));
                            }
                            Ok(Import::Known(_)) | Err(_) => {}
                        },
                        Ok(Token::Yours(id)) => drop(session.exported(id).map(|_| ())),
                        Ok(Token::Answer(question)) => {
                            let _ = session.answer_value(question, payload.ticket());
                        }
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
                if give_up {
                    let _ = session.discard(&payload, 0);
                }
                drop(session.finish_reading(payload.ticket()));
            }
            Act::Flush => drop(session.flush_releases()),
            Act::Ping(token) => drop(session.ping(token)),
            Act::Close => drop(session.close(CloseCode::NORMAL, "")),
        }
        let output = session.poll_output();
        output.advance(output.len());
        if failed {
            break;
        }
    }
    drop(session.lost());
    let stats = session.stats();
    assert_eq!(
        (stats.exports, stats.imports, stats.questions, stats.answers),
        (0, 0, 0, 0)
    );
    assert_eq!(living.get(), 0);
});
