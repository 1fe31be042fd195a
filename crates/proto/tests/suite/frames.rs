//! Frames in streams of bytes.

use std::sync::Arc;

use super::support::{Pair, only, payload, value};
use objspace_proto::{
    CallFlags, Deframer, Error, Event, Frame, Limit, Limits, Op, OutgoingTarget, Value,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// The bytes of a frame, by the letter of the specification.
fn bytes_of(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    let mut length = u32::try_from(frame.body.len()).unwrap();
    if !frame.attachments.is_empty() {
        length |= 1 << 31;
    }
    out.extend_from_slice(&length.to_le_bytes());
    if !frame.attachments.is_empty() {
        let count = u32::try_from(frame.attachments.len()).unwrap();
        out.extend_from_slice(&count.to_le_bytes());
        for attachment in &frame.attachments {
            out.extend_from_slice(&(attachment.len() as u64).to_le_bytes());
        }
    }
    out.extend_from_slice(&frame.body);
    for attachment in &frame.attachments {
        out.extend_from_slice(attachment);
    }
    out
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let sized = |max: usize| (any::<u8>(), 0..max).prop_map(|(byte, len)| vec![byte; len]);
    let body = prop_oneof![4 => sized(60), 1 => sized(200_000)];
    let attachment = prop_oneof![2 => sized(60), 1 => sized(100_000)];
    (body, vec(attachment, 0..3)).prop_map(|(body, attachments)| Frame { body, attachments })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_come_out_of_any_split(
        frames in vec(any_frame(), 1..6),
        splits in vec(prop_oneof![1usize..20, 1000usize..70_000], 1..8),
    ) {
        let stream: Vec<u8> = frames.iter().flat_map(bytes_of).collect();
        let mut deframer = Deframer::new(&Limits::default());
        let mut found = Vec::new();
        let mut rest = &stream[..];
        let mut at = 0;
        // Tiny splits for the start only: a large frame in pieces of one byte takes too long.
        while !rest.is_empty() {
            let wanted = if at < 200 { splits[at % splits.len()] } else { 30_000 };
            at += 1;
            let space = deframer.space(1);
            let count = wanted.min(space.len()).min(rest.len());
            prop_assert!(count > 0);
            space[..count].copy_from_slice(&rest[..count]);
            deframer.advance(count);
            rest = &rest[count..];
            while let Some(frame) = deframer.next_frame().unwrap() {
                found.push(frame);
            }
        }
        prop_assert!(deframer.is_empty());
        let size: usize = found.iter().map(Frame::size).sum();
        prop_assert_eq!(size, stream.len());
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn arbitrary_streams_never_panic(bytes in vec(any::<u8>(), 0..200), split in 1usize..50) {
        let mut limits = Limits::default();
        limits.message_size = 1000;
        let mut deframer = Deframer::new(&limits);
        for piece in bytes.chunks(split) {
            if deframer.extend(piece, |_| {}).is_err() {
                break;
            }
        }
    }
}

#[test]
fn the_limit_of_message_size_holds_at_n_and_n_plus_1() {
    let mut limits = Limits::default();
    limits.message_size = 100;
    let exceeded = Err(Error::LimitExceeded {
        what: Limit::MessageSize,
        limit: 100,
    });
    for attached in [0, 40] {
        let attachments = if attached > 0 {
            vec![vec![2; attached]]
        } else {
            Vec::new()
        };
        let mut frame = Frame {
            body: vec![1; 100 - attached],
            attachments,
        };
        let mut found = Vec::new();
        let take = |frame: &Frame, found: &mut Vec<Frame>| {
            Deframer::new(&limits).extend(&bytes_of(frame), |frame| found.push(frame))
        };
        assert_eq!(take(&frame, &mut found), Ok(()));
        assert_eq!(found.len(), 1);
        frame.body.push(1);
        assert_eq!(take(&frame, &mut found), exceeded);
    }
}

#[test]
fn a_frame_too_large_is_refused_by_its_head_alone() {
    let mut deframer = Deframer::new(&Limits::default());
    let head = 0x7fff_ffffu32.to_le_bytes();
    assert!(deframer.extend(&head, |_| {}).is_err());
}

#[test]
fn memory_grows_with_what_came_not_with_what_was_announced() {
    let mut deframer = Deframer::new(&Limits::default());
    let mut head = (200u32 << 20).to_le_bytes().to_vec();
    head.extend_from_slice(&[0; 100]);
    deframer.extend(&head, |_| {}).unwrap();
    assert!(deframer.space(1).len() <= 128 << 10);
}

#[test]
fn the_limit_of_attachments_holds_at_n_and_n_plus_1() {
    let mut limits = Limits::default();
    limits.attachments = 2;
    for (count, good) in [(2, true), (3, false)] {
        let frame = Frame {
            body: vec![9],
            attachments: vec![Vec::new(); count],
        };
        let result = Deframer::new(&limits).extend(&bytes_of(&frame), |_| {});
        assert_eq!(result.is_ok(), good);
    }
}

#[test]
fn small_messages_leave_in_one_chunk() {
    let mut pair = Pair::new();
    for _ in 0..10 {
        let payload = payload(|out| out.arguments(0, 0));
        pair.here
            .session
            .call(
                1,
                None,
                OutgoingTarget::Root,
                Op::CALL,
                CallFlags::NONE,
                payload,
            )
            .unwrap();
    }
    assert_eq!(pair.here.session.poll_output().chunks().count(), 1);
    assert_eq!(pair.deliver_there().unwrap().len(), 10);
}

#[test]
fn attachments_arrive_without_having_been_copied_on_the_way_out() {
    struct Watched(Vec<u8>, #[expect(dead_code, reason = "counts")] Arc<()>);
    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let alive = Arc::new(());
    let mut pair = Pair::new();
    let mut payload = payload(|out| out.tuple(2));
    payload.attach(Box::new(Watched(vec![5; 100_000], Arc::clone(&alive))));
    payload.attach(Box::new(vec![6u8; 3]));
    pair.here
        .session
        .call(
            1,
            None,
            OutgoingTarget::Root,
            Op::CALL,
            CallFlags::NONE,
            payload,
        )
        .unwrap();
    assert_eq!(pair.here.session.poll_output().chunks().count(), 3);
    assert_eq!(Arc::strong_count(&alive), 2);
    let call = super::support::call(only(pair.deliver_there().unwrap()));
    assert_eq!(Arc::strong_count(&alive), 1, "dropped when it was written");
    assert_eq!(
        value(&call.payload),
        Value::Tuple(vec![Value::Attachment(0), Value::Attachment(1)])
    );
    assert_eq!(call.payload.attachment(0).unwrap(), vec![5; 100_000]);
    assert_eq!(call.payload.attachment(1).unwrap(), [6; 3]);
    assert!(call.payload.attachment(2).is_err());
}

#[test]
fn output_is_written_in_any_pieces() {
    let mut pair = Pair::new();
    for len in [10, 50_000, 20, 9000] {
        let payload = payload(|out| out.bytes(&vec![1; len]));
        pair.here
            .session
            .call(
                1,
                None,
                OutgoingTarget::Root,
                Op::CALL,
                CallFlags::NONE,
                payload,
            )
            .unwrap();
    }
    let output = pair.here.session.poll_output();
    let all: Vec<u8> = output.chunks().flatten().copied().collect();
    let mut pieces = Vec::new();
    while !output.is_empty() {
        let count = output.front().len().min(777);
        pieces.extend_from_slice(&output.front()[..count]);
        output.advance(count);
    }
    assert_eq!(pieces, all);
    let events = pair.there.take(&pieces, 1000).unwrap();
    assert!(events.iter().all(|event| matches!(event, Event::Call(_))));
    assert_eq!(events.len(), 4);
}
