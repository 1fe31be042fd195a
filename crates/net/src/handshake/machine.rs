//! The handshake as a state machine: bytes in, bytes out; no socket and no clock.
//!
//! Messages have fixed lengths, so that nothing is read that belongs to the session after them:
//!
//! | who | bytes |
//! | --- | --- |
//! | client | 8 `OBJSPACE`, `u8` version of the handshake, `u8` 1 if it has a key, `u16` version of the protocol, 32 random |
//! | server | 8 `OBJSPACE`, `u8` version of the handshake, `u8` verdict, `u16` version of the protocol, 32 random |
//! | client, if the verdict was 1 | 32: HMAC-SHA256(key, `objspace client 1` 0, both messages above, binding) |
//! | server, after that | `u8` verdict; 32: the same with `objspace server 1` 0 |
//!
//! The binding is what TLS exports for the connection under it, or empty: so a proof is worth
//! nothing on another connection. The client proves first: who only connects learns nothing that a
//! key could be guessed from.

use objspace_proto::VERSION;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::failure::Failure;
use super::key::{Key, PROOF};

const MAGIC: &[u8; 8] = b"OBJSPACE";
/// The version of this handshake.
const HANDSHAKE: u8 = 1;
const HELLO: usize = 44;
const NONCE: usize = 12;

const CLIENT: &[u8] = b"objspace client 1\0";
const SERVER: &[u8] = b"objspace server 1\0";

// Verdicts.
const WELCOME: u8 = 0;
const PROVE: u8 = 1;
const WRONG_VERSION: u8 = 16;
const KEY_NEEDED: u8 = 17;
const NO_KEY: u8 = 18;
const WRONG_KEY: u8 = 19;
const BUSY: u8 = 20;
const GOING_AWAY: u8 = 21;

/// Whether a server takes another client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a door is open or has a reason")]
pub enum Admission {
    /// It does.
    #[default]
    Open,
    /// It has too many.
    Busy,
    /// It is about to end.
    GoingAway,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    ClientHello,
    ServerHello,
    ClientProof,
    ServerProof,
    /// The host says whether there is room.
    Admission,
    Nothing,
}

/// One end of the handshake.
///
/// Write what [`output`](Self::output) holds; read exactly [`wanted`](Self::wanted) bytes, in any
/// pieces, into [`receive`](Self::receive); until [`is_done`](Self::is_done). After an error the
/// output may hold a refusal that the peer should still get.
#[derive(Debug)]
pub struct Handshake {
    expect: Expect,
    key: Option<Key>,
    binding: Vec<u8>,
    input: Vec<u8>,
    output: Vec<u8>,
    client_hello: Vec<u8>,
    server_hello: Vec<u8>,
}

impl Handshake {
    /// The end that connected. `binding` is the same on both ends, and differs between connections
    /// if the channel can say so.
    #[must_use]
    pub fn client(key: Option<Key>, binding: Vec<u8>) -> Self {
        let mut this = Self::new(Expect::ServerHello, key, binding);
        this.client_hello = hello(u8::from(this.key.is_some()));
        this.output.extend_from_slice(&this.client_hello);
        this
    }

    /// The end that listened. Once the client has shown who it is, it
    /// [waits](Self::awaits_admission) to be told whether to let it in.
    #[must_use]
    pub const fn server(key: Option<Key>, binding: Vec<u8>) -> Self {
        Self::new(Expect::ClientHello, key, binding)
    }

    const fn new(expect: Expect, key: Option<Key>, binding: Vec<u8>) -> Self {
        Self {
            expect,
            key,
            binding,
            input: Vec::new(),
            output: Vec::new(),
            client_hello: Vec::new(),
            server_hello: Vec::new(),
        }
    }

    /// How many bytes are to be read next, at most; 0 when nothing more is.
    #[must_use]
    pub const fn wanted(&self) -> usize {
        let whole = match self.expect {
            Expect::ClientHello | Expect::ServerHello => HELLO,
            Expect::ClientProof => PROOF,
            Expect::ServerProof => 1 + PROOF,
            Expect::Admission | Expect::Nothing => return 0,
        };
        whole - self.input.len()
    }

    /// Whether both ends have said all.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.expect == Expect::Nothing && self.output.is_empty()
    }

    /// What is to be written; take away what was.
    pub const fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Takes what was read, at most [`wanted`](Self::wanted) bytes.
    ///
    /// # Errors
    /// The two ends do not come together.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let bytes = bytes.get(..self.wanted()).unwrap_or(bytes);
        self.input.extend_from_slice(bytes);
        if matches!(self.expect, Expect::ClientHello | Expect::ServerHello) {
            self.check_magic()?;
        }
        if self.wanted() > 0 || matches!(self.expect, Expect::Admission | Expect::Nothing) {
            return Ok(());
        }
        let message = std::mem::take(&mut self.input);
        match self.expect {
            Expect::ClientHello => self.client_said(message),
            Expect::ServerHello => self.server_said(message),
            Expect::ClientProof => self.client_proved(&message),
            Expect::ServerProof => self.server_proved(&message),
            Expect::Admission | Expect::Nothing => Ok(()),
        }
    }

    /// Whether [`admit`](Self::admit) is to be called.
    #[must_use]
    pub fn awaits_admission(&self) -> bool {
        self.expect == Expect::Admission
    }

    /// Says whether the client is let in.
    ///
    /// # Errors
    /// It is not; the output holds the refusal.
    pub fn admit(&mut self, admission: Admission) -> Result<(), Failure> {
        if self.expect != Expect::Admission {
            return Ok(());
        }
        self.expect = Expect::Nothing;
        let (verdict, failure) = match admission {
            Admission::Open => (WELCOME, None),
            Admission::Busy => (BUSY, Some(Failure::Busy)),
            Admission::GoingAway => (GOING_AWAY, Some(Failure::GoingAway)),
        };
        match &self.key {
            None => self.say_hello(verdict),
            Some(key) => {
                let proof = key.sign(&self.parts(SERVER));
                self.output.push(verdict);
                self.output.extend_from_slice(&proof);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn say_hello(&mut self, verdict: u8) {
        self.server_hello = hello(verdict);
        self.output.extend_from_slice(&self.server_hello);
    }

    /// Looks at each piece as it comes: something else than objspace may never send a whole hello.
    fn check_magic(&mut self) -> Result<(), Failure> {
        if self.input.iter().zip(MAGIC).all(|(is, must)| is == must) {
            return Ok(());
        }
        if self.input.len() == 1 && matches!(self.input.as_slice(), [20..=23]) {
            return Ok(());
        }
        // A TLS record begins with its kind and the major version 3.
        if matches!(self.input.as_slice(), [20..=23, 3, ..]) {
            if self.expect == Expect::ClientHello {
                // No TLS that anybody knows: the client will say so.
                self.output.extend_from_slice(MAGIC);
            }
            return Err(Failure::SpeaksTls);
        }
        let text = String::from_utf8_lossy(&self.input);
        let line = text.lines().next().unwrap_or_default();
        Err(Failure::NotObjspace(line.chars().take(40).collect()))
    }

    fn client_said(&mut self, message: Vec<u8>) -> Result<(), Failure> {
        let has_key = message.get(9).is_some_and(|flags| flags & 1 != 0);
        let wrong_version = check_version(&message).err();
        self.client_hello = message;
        let (verdict, failure) = match (wrong_version, &self.key, has_key) {
            (None, Some(_), true) => {
                self.say_hello(PROVE);
                self.expect = Expect::ClientProof;
                return Ok(());
            }
            (None, None, false) => {
                self.expect = Expect::Admission;
                return Ok(());
            }
            (Some(failure), ..) => (WRONG_VERSION, failure),
            (None, Some(_), false) => (KEY_NEEDED, Failure::KeyNeeded),
            (None, None, true) => (NO_KEY, Failure::NoKeyThere),
        };
        self.say_hello(verdict);
        self.expect = Expect::Nothing;
        Err(failure)
    }

    fn server_said(&mut self, message: Vec<u8>) -> Result<(), Failure> {
        let verdict = message.get(9).copied().unwrap_or_default();
        check_version(&message)?;
        self.server_hello = message;
        self.expect = Expect::Nothing;
        match (verdict, &self.key) {
            (PROVE, Some(key)) => {
                self.output
                    .extend_from_slice(&key.sign(&self.parts(CLIENT)));
                self.expect = Expect::ServerProof;
                Ok(())
            }
            (WELCOME, None) => Ok(()),
            // It may have a key or not: it has not shown it.
            (WELCOME, Some(_)) => Err(Failure::NoKeyThere),
            (PROVE, None) => Err(Failure::KeyNeeded),
            (code, _) => Err(refusal(code)),
        }
    }

    fn client_proved(&mut self, proof: &[u8]) -> Result<(), Failure> {
        let proved = self
            .key
            .as_ref()
            .is_some_and(|key| key.verify(&self.parts(CLIENT), proof));
        if !proved {
            self.expect = Expect::Nothing;
            self.output.push(WRONG_KEY);
            self.output.extend_from_slice(&[0; PROOF]);
            return Err(Failure::WrongKey);
        }
        self.expect = Expect::Admission;
        Ok(())
    }

    fn server_proved(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.expect = Expect::Nothing;
        match (message.split_first(), &self.key) {
            (Some((&WELCOME, proof)), Some(key)) => {
                if key.verify(&self.parts(SERVER), proof) {
                    Ok(())
                } else {
                    Err(Failure::Unproven)
                }
            }
            (Some((&code, _)), _) => Err(refusal(code)),
            (None, _) => Err(Failure::Ended),
        }
    }

    /// What a proof is about. The hellos have a fixed length.
    fn parts<'a>(&'a self, role: &'a [u8]) -> [&'a [u8]; 4] {
        [role, &self.client_hello, &self.server_hello, &self.binding]
    }
}

fn hello(code: u8) -> Vec<u8> {
    let mut message = Vec::with_capacity(HELLO);
    message.extend_from_slice(MAGIC);
    message.extend_from_slice(&[HANDSHAKE, code]);
    message.extend_from_slice(&VERSION.to_le_bytes());
    let mut nonce = [0; HELLO - NONCE];
    // The system's random numbers do not fail once it is up; without them there is no security.
    let random = SystemRandom::new().fill(&mut nonce);
    assert!(random.is_ok(), "the system has no random numbers");
    message.extend_from_slice(&nonce);
    message
}

fn check_version(hello: &[u8]) -> Result<(), Failure> {
    let (handshake, protocol) = match hello {
        [_, _, _, _, _, _, _, _, handshake, _, low, high, ..] => {
            (*handshake, u16::from_le_bytes([*low, *high]))
        }
        _ => return Err(Failure::Ended),
    };
    if handshake != HANDSHAKE {
        return Err(Failure::Version {
            what: "the handshake",
            theirs: u16::from(handshake),
            ours: u16::from(HANDSHAKE),
        });
    }
    if protocol != VERSION {
        return Err(Failure::Version {
            what: "the protocol",
            theirs: protocol,
            ours: VERSION,
        });
    }
    Ok(())
}

fn refusal(code: u8) -> Failure {
    match code {
        KEY_NEEDED => Failure::KeyNeeded,
        NO_KEY => Failure::NoKeyThere,
        WRONG_KEY => Failure::WrongKey,
        BUSY => Failure::Busy,
        GOING_AWAY => Failure::GoingAway,
        code => Failure::Malformed(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<Key> {
        Key::new(text.as_bytes())
    }

    /// Moves bytes until both ends are done or one fails; returns what each end has come to.
    fn run(
        client: &mut Handshake,
        server: &mut Handshake,
        piece: usize,
    ) -> (Result<(), Failure>, Result<(), Failure>) {
        let (mut here, mut there) = (Ok(()), Ok(()));
        for _ in 0..4 {
            move_bytes(client, server, piece, &mut there);
            move_bytes(server, client, piece, &mut here);
        }
        (here, there)
    }

    fn move_bytes(
        from: &mut Handshake,
        to: &mut Handshake,
        piece: usize,
        result: &mut Result<(), Failure>,
    ) {
        let bytes = std::mem::take(from.output());
        for part in bytes.chunks(piece) {
            if result.is_ok() {
                *result = to.receive(part);
            }
            if result.is_ok() && to.awaits_admission() {
                *result = to.admit(Admission::Open);
            }
        }
    }

    fn meet(
        client: Option<Key>,
        server: Option<Key>,
        binding: (&[u8], &[u8]),
    ) -> (Result<(), Failure>, Result<(), Failure>) {
        let mut client = Handshake::client(client, binding.0.to_vec());
        let mut server = Handshake::server(server, binding.1.to_vec());
        let result = run(&mut client, &mut server, 7);
        assert_eq!(result.0.is_ok() && result.1.is_ok(), {
            client.is_done() && server.is_done() && result.0.is_ok() && result.1.is_ok()
        });
        result
    }

    #[test]
    fn ends_that_agree_come_together() {
        for (one, other) in [(None, None), (key("k"), key("k"))] {
            let (here, there) = meet(one, other, (b"x", b"x"));
            assert!(here.is_ok() && there.is_ok(), "{here:?} {there:?}");
        }
    }

    #[test]
    fn each_disagreement_has_its_name_on_both_ends() {
        let (here, there) = meet(key("one"), key("other"), (b"", b""));
        assert!(matches!(here, Err(Failure::WrongKey)), "{here:?}");
        assert!(matches!(there, Err(Failure::WrongKey)), "{there:?}");
        let (here, there) = meet(None, key("k"), (b"", b""));
        assert!(matches!(here, Err(Failure::KeyNeeded)), "{here:?}");
        assert!(matches!(there, Err(Failure::KeyNeeded)), "{there:?}");
        let (here, there) = meet(key("k"), None, (b"", b""));
        assert!(matches!(here, Err(Failure::NoKeyThere)), "{here:?}");
        assert!(matches!(there, Err(Failure::NoKeyThere)), "{there:?}");
    }

    #[test]
    fn the_same_key_on_another_connection_proves_nothing() {
        let (here, there) = meet(key("k"), key("k"), (b"one connection", b"another"));
        assert!(here.is_err() && matches!(there, Err(Failure::WrongKey)));
    }

    #[test]
    fn a_server_that_says_welcome_without_a_proof_is_not_believed() {
        let mut client = Handshake::client(key("k"), Vec::new());
        let result = client.receive(&hello(WELCOME));
        assert!(matches!(result, Err(Failure::NoKeyThere)), "{result:?}");
        let mut client = Handshake::client(key("k"), Vec::new());
        client.receive(&hello(PROVE)).expect("it is to prove");
        let mut answer = vec![WELCOME];
        answer.extend_from_slice(&[0; PROOF]);
        let result = client.receive(&answer);
        assert!(matches!(result, Err(Failure::Unproven)), "{result:?}");
    }

    #[test]
    fn a_proof_reflected_or_replayed_proves_nothing() {
        // The client's own proof sent back as the server's.
        let mut client = Handshake::client(key("k"), Vec::new());
        client.receive(&hello(PROVE)).expect("it is to prove");
        let output = std::mem::take(client.output());
        let mut answer = vec![WELCOME];
        answer.extend_from_slice(&output[output.len() - PROOF..]);
        let result = client.receive(&answer);
        assert!(matches!(result, Err(Failure::Unproven)), "{result:?}");
        // A recorded client on a new connection of the same server.
        let mut client = Handshake::client(key("k"), Vec::new());
        let mut server = Handshake::server(key("k"), Vec::new());
        let mut record = Vec::new();
        for _ in 0..2 {
            record.extend_from_slice(client.output());
            let said = std::mem::take(client.output());
            for part in said.chunks(server.wanted().max(1)) {
                server.receive(part).expect("the true client");
            }
            if server.awaits_admission() {
                server.admit(Admission::Open).expect("room");
            }
            let said = std::mem::take(server.output());
            client.receive(&said).expect("the true server");
        }
        let mut again = Handshake::server(key("k"), Vec::new());
        again.receive(&record[..HELLO]).expect("a hello");
        let result = again.receive(&record[HELLO..]);
        assert!(matches!(result, Err(Failure::WrongKey)), "{result:?}");
    }

    #[test]
    fn versions_are_compared_before_anything_else() {
        let mut other = hello(1);
        other[10] = 200;
        let mut server = Handshake::server(key("k"), Vec::new());
        let result = server.receive(&other);
        let wanted = "speaks version 200 of the protocol and this side version 1";
        assert!(result.expect_err("version").to_string().contains(wanted));
        let mut client = Handshake::client(None, Vec::new());
        let mut other = hello(WRONG_VERSION);
        other[8] = 9;
        let result = client.receive(&other).expect_err("version").to_string();
        assert!(result.contains("version 9 of the handshake"), "{result}");
    }

    #[test]
    fn something_else_is_recognised_by_its_first_bytes() {
        for (said, wanted) in [
            (
                &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
                "it said \"SSH-2.0-OpenSSH_9.2\"",
            ),
            (
                b"HTTP/1.1 400 Bad Request\r\n\r\n",
                "HTTP/1.1 400 Bad Request",
            ),
            (&[21, 3, 3, 0, 2, 2, 50], "write tls://"),
            (&[0; 60], "no objspace server"),
        ] {
            let mut client = Handshake::client(None, Vec::new());
            let text = client.receive(said).expect_err("foreign").to_string();
            assert!(text.contains(wanted) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn a_closed_door_says_why() {
        for (admission, wanted) in [
            (Admission::Busy, "max_clients"),
            (Admission::GoingAway, "shutting down"),
        ] {
            for key in [None, key("k")] {
                let mut client = Handshake::client(key.clone(), Vec::new());
                let mut server = Handshake::server(key, Vec::new());
                let there = loop {
                    let said = std::mem::take(client.output());
                    server.receive(&said).expect("an honest client");
                    if server.awaits_admission() {
                        break server.admit(admission);
                    }
                    let said = std::mem::take(server.output());
                    client.receive(&said).expect("not yet");
                };
                assert!(there.is_err());
                let said = std::mem::take(server.output());
                let text = client.receive(&said).expect_err("door").to_string();
                assert!(text.contains(wanted), "{text}");
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic() {
        let mut seed = 1u32;
        for length in 0..200 {
            let mut bytes = Vec::new();
            for _ in 0..length {
                seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                bytes.push((seed >> 16) as u8);
            }
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend_from_slice(&bytes);
            for bytes in [bytes, with_magic] {
                let _ = Handshake::client(key("k"), Vec::new()).receive(&bytes);
                let _ = Handshake::server(key("k"), Vec::new()).receive(&bytes);
            }
        }
    }

    #[test]
    fn a_key_is_never_printed() {
        let handshake = Handshake::client(key("a secret"), Vec::new());
        assert!(!format!("{handshake:?}").contains("secret"));
        assert_eq!(format!("{:?}", key("a secret")), "Some(Key(..))");
        assert!(Key::new(b"").is_none());
    }
}
