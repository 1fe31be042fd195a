//! Values and messages as bytes.

use objspace_proto::message::ReleaseEntry;
use objspace_proto::{
    CallFlags, CloseCode, DecodeErrorKind, Decoder, Encoder, FetchKind, Kind, Limit, Limits,
    Message, Op, Outcome, OwnedClass, StructKind, Target, Token, Value,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..80).prop_map(String::from_iter)
}

fn class() -> impl Strategy<Value = OwnedClass> {
    prop_oneof![
        any::<(u32, u32)>().prop_map(|(slot, generation)| OwnedClass::Mine { slot, generation }),
        any::<(u32, u32)>().prop_map(|(slot, generation)| OwnedClass::Yours { slot, generation }),
        (text(), text()).prop_map(|(module, qualname)| OwnedClass::Named { module, qualname }),
    ]
}

fn mine() -> impl Strategy<Value = Value> {
    (any::<(u32, u32, u8)>(), class(), text(), text()).prop_map(
        |((slot, generation, kind), class, module, qualname)| {
            let kind = Kind(kind);
            let class = if kind.has_class() {
                Some(class)
            } else if kind.has_name() {
                Some(OwnedClass::Named { module, qualname })
            } else {
                None
            };
            Value::Mine {
                slot,
                generation,
                kind,
                class,
            }
        },
    )
}

pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    let number = -1e300f64..1e300;
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Ellipsis),
        Just(Value::NotImplemented),
        any::<i64>().prop_map(Value::Int),
        (-70i64..70).prop_map(Value::Int),
        (any::<bool>(), vec(any::<u8>(), 0..40)).prop_map(|(negative, magnitude)| Value::BigInt {
            negative,
            magnitude
        }),
        number.clone().prop_map(Value::Float),
        (number.clone(), number).prop_map(|(real, imaginary)| Value::Complex(real, imaginary)),
        text().prop_map(Value::Str),
        vec(any::<u8>(), 0..20).prop_map(Value::SurrogateStr),
        vec(any::<u8>(), 0..200).prop_map(Value::Bytes),
        any::<u32>().prop_map(Value::Attachment),
        (text(), text()).prop_map(|(module, qualname)| Value::Named { module, qualname }),
        vec(any::<u8>(), 0..20).prop_map(Value::Bytearray),
        mine(),
        any::<(u32, u32)>().prop_map(|(slot, generation)| Value::Yours { slot, generation }),
        any::<u32>().prop_map(Value::Answer),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let three = (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| [a, b, c]);
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Tuple),
            vec(inner.clone(), 0..6).prop_map(Value::FrozenSet),
            vec(inner.clone(), 0..6).prop_map(Value::List),
            vec(inner.clone(), 0..6).prop_map(Value::Set),
            vec((inner.clone(), inner.clone()), 0..4).prop_map(Value::Dict),
            (any::<u8>(), vec(inner, 0..4))
                .prop_map(|(kind, values)| Value::Struct(StructKind(kind), values)),
            three
                .clone()
                .prop_map(|three| Value::Slice(Box::new(three))),
            three.prop_map(|three| Value::Range(Box::new(three))),
        ]
    })
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out).unwrap();
    out
}

fn check_message(message: &Message<'_>) {
    let mut body = Vec::new();
    message.encode(&mut body);
    assert_eq!(Message::decode(&body).as_ref(), Ok(message));
    for end in 0..body.len() {
        // A message cut short is an error or another message, never a panic.
        let _ = Message::decode(&body[..end]);
    }
}

fn target(choice: u8, a: u32, b: u32) -> Target {
    match choice % 3 {
        0 => Target::Root,
        1 => Target::Export {
            slot: a,
            generation: b,
        },
        _ => Target::Answer { question: a },
    }
}

proptest! {
    #[test]
    fn every_value_comes_back(value in any_value()) {
        let bytes = encoded(&value);
        prop_assert_eq!(Value::decode(&bytes, &Limits::default()), Ok(value));
    }

    #[test]
    fn a_value_cut_short_is_refused(value in any_value(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&value);
        let end = cut.index(bytes.len());
        prop_assert!(Value::decode(&bytes[..end], &Limits::default()).is_err());
    }

    #[test]
    fn a_value_is_skipped_whole(value in any_value()) {
        let mut bytes = encoded(&value);
        let end = bytes.len();
        bytes.push(objspace_proto::tag::NONE);
        let limits = Limits::default();
        let mut decoder = Decoder::new(&bytes, &limits);
        prop_assert_eq!(decoder.skip(), Ok(()));
        prop_assert_eq!(decoder.offset(), end);
        prop_assert_eq!(decoder.token(), Ok(Token::None));
        prop_assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let limits = Limits::default();
        let _ = Value::decode(&bytes, &limits);
        let _ = Message::decode(&bytes);
        let mut decoder = Decoder::new(&bytes, &limits);
        while decoder.token().is_ok() {}
    }

    #[test]
    fn what_decodes_encodes_to_something_equal(bytes in vec(prop_oneof![
        any::<u8>(), 0x20u8..0x34, Just(0x80u8), Just(0x81u8),
    ], 0..60)) {
        let limits = Limits::default();
        if let Ok(value) = Value::decode(&bytes, &limits) {
            let again = encoded(&value);
            // Compared as bytes: a NaN is not equal to itself.
            prop_assert_eq!(encoded(&Value::decode(&again, &limits).unwrap()), again);
        }
    }

    #[test]
    fn every_message_comes_back(
        question: u32, thread: u64, parent in proptest::option::of(any::<u32>()),
        (choice, a, b) in any::<(u8, u32, u32)>(), code: u8, flags: u8,
        bytes in vec(any::<u8>(), 0..50), text in text(), ok: bool,
    ) {
        let target = target(choice, a, b);
        let payload = &bytes[..];
        check_message(&Message::Hello { version: 1, agent: &text, nonce: thread });
        check_message(&Message::Call {
            question, thread, parent, target, op: Op(code), flags: CallFlags(flags), payload,
        });
        check_message(&Message::Fetch {
            question, thread, parent, target, what: FetchKind(code), payload,
        });
        let outcome = if ok { Outcome::Value } else { Outcome::Error };
        check_message(&Message::Reply { question, outcome, payload });
        check_message(&Message::Cancel { question });
        check_message(&Message::Release {
            entries: vec![ReleaseEntry { slot: a, generation: b, count: thread }],
            finished: vec![question, a],
        });
        check_message(&Message::Shape { slot: a, generation: b, payload });
        check_message(&Message::Ping { token: thread, pong: ok });
        check_message(&Message::Close { code: CloseCode(code), reason: &text });
    }
}

fn nested(depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out);
    for _ in 0..depth {
        encoder.tuple(1);
    }
    encoder.none();
    out
}

fn error_of(bytes: &[u8], limits: &Limits) -> DecodeErrorKind {
    Value::decode(bytes, limits).unwrap_err().kind
}

#[test]
fn the_limit_of_depth_holds_at_n_and_n_plus_1() {
    let limits = Limits::default();
    assert!(Value::decode(&nested(200), &limits).is_ok());
    let exceeded = DecodeErrorKind::LimitExceeded {
        what: Limit::Depth,
        limit: 200,
    };
    assert_eq!(error_of(&nested(201), &limits), exceeded);
}

#[test]
fn no_limit_of_depth_goes_beyond_the_maximum() {
    let mut limits = Limits::default();
    limits.depth = usize::MAX;
    assert!(Value::decode(&nested(Limits::MAX_DEPTH), &limits).is_ok());
    assert!(Value::decode(&nested(Limits::MAX_DEPTH + 1), &limits).is_err());
}

#[test]
fn siblings_do_not_add_depth() {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out);
    encoder.tuple(500);
    for _ in 0..500 {
        encoder.tuple(1);
        encoder.int(1);
    }
    let mut limits = Limits::default();
    limits.depth = 2;
    assert!(Value::decode(&out, &limits).is_ok());
    limits.depth = 1;
    assert!(Value::decode(&out, &limits).is_err());
}

#[test]
fn a_deep_tree_is_not_encoded() {
    let mut value = Value::None;
    for _ in 0..Limits::MAX_DEPTH {
        value = Value::Tuple(vec![value]);
    }
    let mut out = vec![1];
    assert!(value.encode(&mut out).is_ok());
    out.truncate(1);
    assert!(Value::Tuple(vec![value]).encode(&mut out).is_err());
    assert_eq!(out, [1], "nothing is left of the attempt");
}

#[test]
fn the_limit_of_elements_holds_at_n_and_n_plus_1() {
    let mut limits = Limits::default();
    limits.container_len = 3;
    let bytes = |len| encoded(&Value::List(vec![Value::None; len]));
    assert!(Value::decode(&bytes(3), &limits).is_ok());
    let exceeded = DecodeErrorKind::LimitExceeded {
        what: Limit::ContainerLen,
        limit: 3,
    };
    assert_eq!(error_of(&bytes(4), &limits), exceeded);
}

#[test]
fn a_count_beyond_the_input_is_refused_before_anything_is_allocated() {
    let mut out = Vec::new();
    Encoder::new(&mut out).list(1 << 20);
    out.extend_from_slice(&[1; 100]);
    assert_eq!(
        error_of(&out, &Limits::default()),
        DecodeErrorKind::CountExceedsInput
    );
    // Each pair takes two bytes at least.
    assert_eq!(
        error_of(&[0x32, 2, 1, 1, 1], &Limits::default()),
        DecodeErrorKind::CountExceedsInput
    );
}

#[test]
fn arguments_stand_alone() {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out);
    encoder.arguments(1, 1);
    encoder.int(5);
    encoder.str("name");
    encoder.none();
    let limits = Limits::default();
    let mut decoder = Decoder::new(&out, &limits);
    assert_eq!(decoder.arguments(), Ok((1, 1)));
    assert_eq!(Value::read(&mut decoder), Ok(Value::Int(5)));
    assert_eq!(decoder.str(), Ok("name"));
    assert_eq!(Value::read(&mut decoder), Ok(Value::None));
    assert_eq!(decoder.finish(), Ok(()));
    assert!(Value::decode(&out, &limits).is_err());
    assert!(Value::decode(&[0x20, 1, 0x26, 0, 0], &limits).is_err());
}

#[test]
fn a_container_that_lacks_elements_is_not_finished() {
    let limits = Limits::default();
    let mut decoder = Decoder::new(&[0x20, 1, 0x20, 1, 1], &limits);
    decoder.token().unwrap();
    decoder.token().unwrap();
    decoder.token().unwrap();
    assert_eq!(decoder.finish(), Ok(()));
    let mut decoder = Decoder::new(&[0x22, 1], &limits);
    decoder.token().unwrap();
    decoder.token().unwrap();
    assert!(decoder.finish().is_err());
}

#[test]
fn small_things_are_small() {
    assert_eq!(encoded(&Value::Int(63)).len(), 1);
    assert_eq!(encoded(&Value::Int(64)).len(), 3);
    assert_eq!(encoded(&Value::Str("x".repeat(63))).len(), 64);
    assert_eq!(encoded(&Value::Str("x".repeat(64))).len(), 66);
}

#[test]
fn an_error_says_where() {
    let error = Value::decode(&[0x20, 2, 0x01, 0x7f], &Limits::default()).unwrap_err();
    assert_eq!(error.offset, 3);
    assert_eq!(error.kind, DecodeErrorKind::UnknownTag(0x7f));
    assert_eq!(error.to_string(), "unknown tag 0x7f at byte 3");
}
