//! Any bytes at either end of the handshake, in any pieces: no panic, no more read than is wanted,
//! no memory beyond one message, and nobody is let in who does not know the key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use objspace_net::handshake::{Admission, Handshake, Key};

fuzz_target!(|input: (bool, bool, u8, Vec<u8>)| {
    let (server, with_key, piece, bytes) = input;
    let key = || with_key.then(|| Key::new(b"the key").expect("not empty"));
    let mut end = if server {
        Handshake::server(key(), b"binding".to_vec())
    } else {
        Handshake::client(key(), b"binding".to_vec())
    };
    let mut rest = bytes.as_slice();
    let mut failed = false;
    while !rest.is_empty() && !failed {
        assert!(end.wanted() <= 44);
        let take = rest.len().min(usize::from(piece) + 1).min(end.wanted().max(1));
        let (now, later) = rest.split_at(take);
        rest = later;
        failed = end.receive(now).is_err();
        if end.awaits_admission() {
            // Nobody gets so far who had to prove something and could not.
            assert!(!with_key);
            failed |= end.admit(Admission::Open).is_err();
        }
        assert!(end.output().len() <= 128);
        end.output().clear();
    }
    if with_key {
        assert!(!end.is_done() || failed);
    }
});
