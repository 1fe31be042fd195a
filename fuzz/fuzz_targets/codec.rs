//! Any bytes as a value, as a message and as a stream of frames: no panic, and what is accepted
//! survives another round.
#![no_main]

use libfuzzer_sys::fuzz_target;
use objspace_proto::{Deframer, Limits, Message, Value};

fuzz_target!(|bytes: &[u8]| {
    let mut limits = Limits::default();
    limits.message_size = 1 << 20;
    if let Ok(value) = Value::decode(bytes, &limits) {
        let mut once = Vec::new();
        value
            .encode(&mut once)
            .expect("a decoded value can be encoded");
        let again = Value::decode(&once, &limits).expect("an encoded value can be decoded");
        let mut twice = Vec::new();
        again
            .encode(&mut twice)
            .expect("a decoded value can be encoded");
        // Compared as bytes: a NaN is not equal to itself.
        assert_eq!(once, twice);
    }
    if let Ok(message) = Message::decode(bytes) {
        let mut once = Vec::new();
        message.encode(&mut once);
        assert_eq!(Message::decode(&once), Ok(message));
    }
    let split = bytes.first().map_or(1, |first| usize::from(*first) + 1);
    let mut deframer = Deframer::new(&limits);
    for piece in bytes.chunks(split) {
        if deframer.extend(piece, |_| {}).is_err() {
            break;
        }
    }
});
