//! Two sessions joined by byte streams that split as the test wants.

use objspace_proto::{
    Config, Deframer, Encoder, Error, Event, Frame, Limits, Message, Payload, Received, Session,
    Value,
};

/// What a session of these tests holds an object by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Object(pub(crate) u64);

pub(crate) struct Side {
    pub(crate) session: Session<Object>,
    pub(crate) deframer: Deframer,
}

impl Side {
    pub(crate) fn new(limits: Limits) -> Self {
        let config = Config {
            limits,
            agent: "test".to_owned(),
            nonce: 7,
        };
        Self {
            session: Session::new(&config),
            deframer: Deframer::new(&limits),
        }
    }

    /// Everything that waits to be written.
    pub(crate) fn written(&mut self) -> Vec<u8> {
        let output = self.session.poll_output();
        let bytes = output.chunks().flatten().copied().collect::<Vec<_>>();
        assert_eq!(bytes.len(), output.len());
        output.advance(bytes.len());
        assert!(output.is_empty());
        bytes
    }

    /// Takes bytes in pieces of `split`, and returns what they mean.
    pub(crate) fn take(&mut self, bytes: &[u8], split: usize) -> Result<Vec<Event<Object>>, Error> {
        let mut events = Vec::new();
        for piece in bytes.chunks(split.max(1)) {
            let mut frames = Vec::new();
            self.deframer.extend(piece, |frame| frames.push(frame))?;
            for frame in frames {
                events.push(self.session.handle_frame(frame)?);
            }
        }
        Ok(events)
    }

    pub(crate) fn export(&mut self, key: u64) -> objspace_proto::ExportId {
        self.session.export(key, || Object(key)).unwrap()
    }
}

pub(crate) struct Pair {
    pub(crate) here: Side,
    pub(crate) there: Side,
    split: usize,
}

impl Pair {
    /// Two sides that know each other.
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), usize::MAX)
    }

    pub(crate) fn with(limits: Limits, split: usize) -> Self {
        let mut pair = Self {
            here: Side::new(limits),
            there: Side::new(limits),
            split,
        };
        let (hello, other) = (pair.deliver_there().unwrap(), pair.deliver_here().unwrap());
        assert!(matches!(hello[..], [Event::Hello(_)]));
        assert!(matches!(other[..], [Event::Hello(_)]));
        pair
    }

    pub(crate) fn deliver_there(&mut self) -> Result<Vec<Event<Object>>, Error> {
        let bytes = self.here.written();
        self.there.take(&bytes, self.split)
    }

    pub(crate) fn deliver_here(&mut self) -> Result<Vec<Event<Object>>, Error> {
        let bytes = self.there.written();
        self.here.take(&bytes, self.split)
    }
}

/// The only event of a list.
pub(crate) fn only(mut events: Vec<Event<Object>>) -> Event<Object> {
    assert_eq!(events.len(), 1, "{events:?}");
    events.pop().unwrap()
}

pub(crate) fn call(event: Event<Object>) -> objspace_proto::IncomingCall {
    match event {
        Event::Call(call) => call,
        other => panic!("expected a call, got {other:?}"),
    }
}

pub(crate) fn payload(write: impl FnOnce(&mut Encoder<'_>)) -> Payload {
    let mut payload = Payload::new();
    write(&mut Encoder::new(&mut payload.body));
    payload
}

pub(crate) fn value(received: &Received) -> Value {
    Value::decode(received.bytes(), &Limits::default()).unwrap()
}

/// A frame that a peer of any manners might send.
pub(crate) fn frame(message: &Message<'_>) -> Frame {
    let mut body = Vec::new();
    message.encode(&mut body);
    Frame {
        body,
        attachments: Vec::new(),
    }
}
