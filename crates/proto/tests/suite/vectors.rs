//! The golden byte vectors in `tests/vectors`, which implementations in other languages read too.

use objspace_proto::message::ReleaseEntry;
use objspace_proto::{
    Decoder, Deframer, Encoder, Frame, Limits, Message, Outcome, OwnedClass, Target, Value,
};
use serde_json::{Value as Json, json};

fn load(name: &str) -> Vec<Json> {
    let path = format!(
        "{}/../../tests/vectors/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let Json::Array(cases) = serde_json::from_str(&text).unwrap() else {
        panic!("{path} is not a list");
    };
    assert!(!cases.is_empty());
    cases
}

fn unhex(text: &Json) -> Vec<u8> {
    let digits = text.as_str().unwrap().replace(' ', "");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn values(values: &[Value]) -> Json {
    values.iter().map(meaning).collect()
}

/// A value in the words of the vectors.
fn meaning(value: &Value) -> Json {
    match value {
        Value::None => json!("None"),
        Value::Bool(true) => json!("True"),
        Value::Bool(false) => json!("False"),
        Value::Ellipsis => json!("Ellipsis"),
        Value::NotImplemented => json!("NotImplemented"),
        Value::Int(value) => json!({"int": value.to_string()}),
        Value::BigInt {
            negative,
            magnitude,
        } => json!({"bigint": {"negative": negative, "magnitude": hex(magnitude)}}),
        Value::Float(value) => json!({"float": hex(&value.to_be_bytes())}),
        Value::Complex(real, imaginary) => {
            json!({"complex": [hex(&real.to_be_bytes()), hex(&imaginary.to_be_bytes())]})
        }
        Value::Str(value) => json!({"str": value}),
        Value::SurrogateStr(value) => json!({"surrogate_str": hex(value)}),
        Value::Bytes(value) => json!({"bytes": hex(value)}),
        Value::Attachment(index) => json!({"attachment": index}),
        Value::Tuple(all) => json!({"tuple": values(all)}),
        Value::FrozenSet(all) => json!({"frozenset": values(all)}),
        Value::Slice(all) => json!({"slice": values(all.as_slice())}),
        Value::Range(all) => json!({"range": values(all.as_slice())}),
        Value::Named { module, qualname } => json!({"named": [module, qualname]}),
        Value::Struct(kind, all) => json!({"struct": {"kind": kind.0, "arguments": values(all)}}),
        Value::List(all) => json!({"list": values(all)}),
        Value::Set(all) => json!({"set": values(all)}),
        Value::Dict(pairs) => {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(key, value)| json!([meaning(key), meaning(value)]))
                .collect();
            json!({"dict": pairs})
        }
        Value::Bytearray(value) => json!({"bytearray": hex(value)}),
        Value::Mine {
            slot,
            generation,
            kind,
            class,
        } => {
            let class = class.as_ref().map(|class| match class {
                OwnedClass::Mine { slot, generation } => json!({"mine": [slot, generation]}),
                OwnedClass::Yours { slot, generation } => json!({"yours": [slot, generation]}),
                OwnedClass::Named { module, qualname } => json!({"named": [module, qualname]}),
            });
            json!({"mine": {"slot": slot, "generation": generation, "kind": kind.0, "class": class}})
        }
        Value::Yours { slot, generation } => json!({"yours": [slot, generation]}),
        Value::Answer(question) => json!({"answer": question}),
        other => panic!("{other:?} has no words"),
    }
}

fn request(target: &Target, parent: Option<u32>) -> (Json, Json) {
    let target = match target {
        Target::Root => json!("root"),
        Target::Export { slot, generation } => json!({"export": [slot, generation]}),
        Target::Answer { question } => json!({"answer": question}),
    };
    (target, json!(parent))
}

fn message_meaning(message: &Message<'_>) -> Json {
    match message {
        Message::Hello {
            version,
            agent,
            nonce,
        } => {
            json!({"type": "hello", "version": version, "agent": agent, "nonce": nonce.to_string()})
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
            let (target, parent) = request(target, *parent);
            json!({"type": "call", "question": question, "thread": thread.to_string(),
                "parent": parent, "target": target, "op": op.0, "flags": flags.0,
                "payload": hex(payload)})
        }
        Message::Reply {
            question,
            outcome,
            payload,
        } => {
            let outcome = match outcome {
                Outcome::Value => "value",
                Outcome::Error => "error",
            };
            json!({"type": "reply", "question": question, "outcome": outcome, "payload": hex(payload)})
        }
        Message::Cancel { question } => json!({"type": "cancel", "question": question}),
        Message::Release { entries, finished } => {
            let entries: Vec<_> = entries
                .iter()
                .map(
                    |ReleaseEntry {
                         slot,
                         generation,
                         count,
                     }| json!([slot, generation, count.to_string()]),
                )
                .collect();
            json!({"type": "release", "entries": entries, "finished": finished})
        }
        Message::Shape {
            slot,
            generation,
            payload,
        } => json!({"type": "shape", "class": [slot, generation], "payload": hex(payload)}),
        Message::Fetch {
            question,
            thread,
            parent,
            target,
            what,
            payload,
        } => {
            let (target, parent) = request(target, *parent);
            json!({"type": "fetch", "question": question, "thread": thread.to_string(),
                "parent": parent, "target": target, "what": what.0, "payload": hex(payload)})
        }
        Message::Ping { token, pong } => {
            json!({"type": "ping", "token": token.to_string(), "pong": pong})
        }
        Message::Close { code, reason } => {
            json!({"type": "close", "code": code.0, "reason": reason})
        }
        Message::Deadline {
            question,
            milliseconds,
        } => {
            json!({"type": "deadline", "question": question, "milliseconds": milliseconds.to_string()})
        }
        other => panic!("{other:?} has no words"),
    }
}

#[test]
fn values_mean_what_the_vectors_say() {
    for case in load("values") {
        let bytes = unhex(&case["hex"]);
        let value = Value::decode(&bytes, &Limits::default())
            .unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
        assert_eq!(meaning(&value), case["value"], "{}", case["name"]);
        let mut again = Vec::new();
        value.encode(&mut again).unwrap();
        assert_eq!(hex(&again), hex(&bytes), "{}", case["name"]);
    }
}

#[test]
fn other_forms_of_values_are_read_too() {
    for case in load("values_accepted") {
        let bytes = unhex(&case["hex"]);
        let value = Value::decode(&bytes, &Limits::default())
            .unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
        assert_eq!(meaning(&value), case["value"], "{}", case["name"]);
    }
}

#[test]
fn arguments_mean_what_the_vectors_say() {
    for case in load("arguments") {
        let bytes = unhex(&case["hex"]);
        let limits = Limits::default();
        let mut decoder = Decoder::new(&bytes, &limits);
        let (positional, keywords) = decoder.arguments().unwrap();
        let mut again = Vec::new();
        Encoder::new(&mut again).arguments(positional, keywords);
        let mut read = || {
            let value = Value::read(&mut decoder).unwrap();
            value.encode(&mut again).unwrap();
            meaning(&value)
        };
        let positional: Vec<_> = (0..positional).map(|_| read()).collect();
        let keywords: Vec<_> = (0..keywords).map(|_| json!([read(), read()])).collect();
        assert_eq!(json!(positional), case["positional"], "{}", case["name"]);
        assert_eq!(json!(keywords), case["keywords"], "{}", case["name"]);
        assert_eq!(decoder.finish(), Ok(()));
        assert_eq!(hex(&again), hex(&bytes), "{}", case["name"]);
    }
}

#[test]
fn messages_mean_what_the_vectors_say() {
    for case in load("messages") {
        let body = unhex(&case["hex"]);
        let message =
            Message::decode(&body).unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
        assert_eq!(
            message_meaning(&message),
            case["message"],
            "{}",
            case["name"]
        );
        let mut again = Vec::new();
        message.encode(&mut again);
        assert_eq!(hex(&again), hex(&body), "{}", case["name"]);
    }
}

#[test]
fn frames_mean_what_the_vectors_say() {
    for case in load("frames") {
        let mut frames = Vec::new();
        Deframer::new(&Limits::default())
            .extend(&unhex(&case["hex"]), |frame| frames.push(frame))
            .unwrap();
        let frames: Vec<_> = frames
            .iter()
            .map(|Frame { body, attachments }| {
                let attachments: Vec<_> = attachments.iter().map(|bytes| hex(bytes)).collect();
                json!({"body": hex(body), "attachments": attachments})
            })
            .collect();
        assert_eq!(json!(frames), case["frames"], "{}", case["name"]);
    }
}

#[test]
fn what_the_vectors_refuse_is_refused() {
    for case in load("refused") {
        let bytes = unhex(&case["hex"]);
        let refused = match case["what"].as_str().unwrap() {
            "value" => Value::decode(&bytes, &Limits::default()).is_err(),
            "message" => Message::decode(&bytes).is_err(),
            "frame" => Deframer::new(&Limits::default())
                .extend(&bytes, |_| {})
                .is_err(),
            other => panic!("unknown kind of vector {other}"),
        };
        assert!(refused, "{}", case["name"]);
    }
}
