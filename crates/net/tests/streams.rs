//! Streams, wakers and listeners against the real system.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use objspace_net::{Endpoint, Interest, Listener, Stream, Waker};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

/// A bound on waits that must end by themselves.
const LONG: Option<Duration> = Some(Duration::from_secs(20));

fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8 ^ seed).collect()
}

/// Two streams with the smallest buffers the system gives.
fn tiny_pair() -> (Stream, Stream) {
    let (a, b) = UnixStream::pair().expect("pair");
    for end in [&a, &b] {
        set_socket_send_buffer_size(end, 1).expect("send buffer");
        set_socket_recv_buffer_size(end, 1).expect("receive buffer");
    }
    let split = |end: UnixStream| {
        let other: OwnedFd = end.try_clone().expect("clone").into();
        Stream::from_fds(end.into(), other).expect("stream")
    };
    (split(a), split(b))
}

fn pipes() -> (Stream, Stream) {
    let (read_a, write_b) = rustix::pipe::pipe().expect("pipe");
    let (read_b, write_a) = rustix::pipe::pipe().expect("pipe");
    (
        Stream::from_fds(read_a, write_a).expect("stream"),
        Stream::from_fds(read_b, write_b).expect("stream"),
    )
}

fn tcp_pair() -> (Stream, Stream) {
    let listener = Listener::bind(&url("tcp://127.0.0.1:0")).expect("bind");
    let here = Stream::connect(&listener.local(), LONG).expect("connect");
    let there = listener.accept(None).expect("accept").expect("stream");
    (here, there)
}

fn url(text: &str) -> Endpoint {
    Endpoint::parse(text).expect(text)
}

/// Sends all of `output` and receives `expected` bytes, reading whenever it cannot write.
fn exchange(stream: &Stream, output: &[u8], expected: usize) -> io::Result<Vec<u8>> {
    let (mut sent, mut input, mut buffer) = (0, Vec::new(), vec![0; 64 * 1024]);
    while sent < output.len() || input.len() < expected {
        let mut idle = true;
        if sent < output.len() {
            // Two slices that meet in the middle of what is left.
            let (first, second) = output[sent..].split_at((output.len() - sent) / 2);
            if let Some(count) =
                stream.try_write_vectored(&[IoSlice::new(first), IoSlice::new(second)])?
            {
                sent += count;
                idle = false;
            }
        }
        if input.len() < expected
            && let Some(count) = stream.try_read(&mut buffer)?
        {
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            input.extend_from_slice(&buffer[..count]);
            idle = false;
        }
        if idle {
            let interest = Interest {
                read: input.len() < expected,
                write: sent < output.len(),
            };
            let readiness = stream.wait(interest, None, LONG)?;
            assert!(!readiness.timed_out, "both sides are stuck");
        }
    }
    Ok(input)
}

fn both_write_at_once((a, b): (Stream, Stream), length: usize) {
    let (from_a, from_b) = (bytes(length, 1), bytes(length, 2));
    thread::scope(|scope| {
        let other = scope.spawn(|| exchange(&b, &from_b, length));
        assert!(exchange(&a, &from_a, length).expect("a") == from_b);
        assert!(other.join().expect("thread").expect("b") == from_a);
    });
}

#[test]
fn both_sides_write_at_once() {
    both_write_at_once(Stream::pair().expect("pair"), 8 << 20);
    both_write_at_once(tcp_pair(), 8 << 20);
    both_write_at_once(pipes(), 8 << 20);
}

#[test]
fn tiny_buffers_split_reads_and_writes() {
    let (a, b) = tiny_pair();
    let big = bytes(1 << 20, 0);
    let first = a
        .try_write_vectored(&[IoSlice::new(&big)])
        .expect("write")
        .expect("room");
    assert!(first < big.len());
    while a
        .try_write_vectored(&[IoSlice::new(&big)])
        .expect("write")
        .is_some()
    {}
    assert!(
        a.wait(Interest::READ_WRITE, None, Some(Duration::ZERO))
            .expect("wait")
            .timed_out
    );
    drop((a, b));
    both_write_at_once(tiny_pair(), 256 << 10);
}

#[test]
fn nothing_to_read_is_none_and_the_end_is_zero() {
    for (a, b) in [Stream::pair().expect("pair"), tcp_pair(), pipes()] {
        let mut buffer = [0; 16];
        assert_eq!(a.try_read(&mut buffer).expect("read"), None);
        assert_eq!(
            b.try_write_vectored(&[IoSlice::new(b"he"), IoSlice::new(b"llo")])
                .expect("write"),
            Some(5)
        );
        drop(b);
        let readiness = a.wait(Interest::READ, None, LONG).expect("wait");
        assert!(readiness.readable && !readiness.writable);
        assert_eq!(a.try_read(&mut buffer).expect("read"), Some(5));
        assert_eq!(&buffer[..5], b"hello");
        assert!(a.wait(Interest::READ, None, LONG).expect("wait").readable);
        assert_eq!(a.try_read(&mut buffer).expect("read"), Some(0));
        assert_eq!(a.try_read(&mut buffer).expect("read"), Some(0));
    }
}

#[test]
fn reading_soon_returns_with_and_without_bytes_on_every_channel() {
    for (a, b) in [
        Stream::pair().expect("pair"),
        tcp_pair(),
        pipes(),
        tiny_pair(),
    ] {
        let mut buffer = [0; 8];
        // It comes back by itself, also where nothing ever comes.
        assert_eq!(a.read_soon(&mut buffer).expect("read"), None);
        let sent = b.try_write_vectored(&[IoSlice::new(b"hi")]);
        assert_eq!(sent.expect("write"), Some(2));
        let received = loop {
            if let Some(count) = a.read_soon(&mut buffer).expect("read") {
                break count;
            }
        };
        assert_eq!(&buffer[..received], b"hi");
        b.shutdown();
        while a.read_soon(&mut buffer).expect("read") != Some(0) {}
    }
}

#[test]
fn writing_to_one_who_left_is_an_error_and_no_signal() {
    for (a, b) in [Stream::pair().expect("pair"), pipes()] {
        drop(b);
        let error = a
            .try_write_vectored(&[IoSlice::new(b"x")])
            .expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn shutdown_ends_both_sides_and_a_waiting_thread() {
    for (a, b) in [Stream::pair().expect("pair"), tcp_pair(), pipes()] {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                assert!(a.wait(Interest::READ, None, LONG).expect("wait").readable);
                a.try_read(&mut [0; 8]).expect("read")
            });
            a.shutdown();
            a.shutdown();
            assert_eq!(waiting.join().expect("thread"), Some(0));
        });
        assert!(b.wait(Interest::READ, None, LONG).expect("wait").readable);
        assert_eq!(b.try_read(&mut [0; 8]).expect("read"), Some(0));
        let error = a
            .try_write_vectored(&[IoSlice::new(b"x")])
            .expect_err("it is shut");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn a_waker_wakes_a_waiting_thread() {
    let (a, _b) = Stream::pair().expect("pair");
    let waker = Arc::new(Waker::new().expect("waker"));
    for _ in 0..100 {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| a.wait(Interest::READ, Some(&waker), LONG).expect("wait"));
            waker.wake();
            let readiness = waiting.join().expect("thread");
            assert!(readiness.woken && !readiness.readable && !readiness.timed_out);
        });
        assert!(waker.drain());
        assert!(
            a.wait(Interest::READ, Some(&waker), Some(Duration::ZERO))
                .expect("wait")
                .timed_out
        );
    }
}

#[test]
fn wakes_and_drains_of_many_threads_lose_none() {
    let waker = Waker::new().expect("waker");
    let (stream, _other) = Stream::pair().expect("pair");
    let (rounds, start) = (2000, Barrier::new(2));
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let seen = std::sync::atomic::AtomicUsize::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            for round in 1..=rounds {
                asked.store(round, order);
                waker.wake();
                while seen.load(order) < round {
                    thread::yield_now();
                }
            }
        });
        start.wait();
        while seen.load(order) < rounds {
            assert!(
                stream
                    .wait(Interest::NONE, Some(&waker), LONG)
                    .expect("wait")
                    .woken,
                "a wake-up was lost"
            );
            waker.drain();
            seen.store(asked.load(order), order);
        }
    });
}

#[test]
fn a_wait_without_events_times_out() {
    let (a, _b) = pipes();
    let start = Instant::now();
    let readiness = a
        .wait(Interest::READ, None, Some(Duration::from_millis(20)))
        .expect("wait");
    assert!(readiness.timed_out && !readiness.readable);
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn tcp_streams_name_their_peers() {
    let listener = Listener::bind(&url("tcp://127.0.0.1:0")).expect("bind");
    assert!(listener.local().is_local());
    let client = TcpStream::connect(listener.local().to_string().trim_start_matches("tcp://"));
    let client = client.expect("connect");
    let there = listener.accept(None).expect("accept").expect("stream");
    assert_eq!(
        there.peer(),
        format!("tcp://{}", client.local_addr().expect("address"))
    );
    let here = Stream::connect(&listener.local(), LONG).expect("connect");
    assert_eq!(here.peer(), listener.local().to_string());
}

#[test]
fn a_refused_connection_names_the_endpoint() {
    let unused = Listener::bind(&url("tcp://127.0.0.1:0"))
        .expect("bind")
        .local();
    let error = Stream::connect(&unused, LONG).expect_err("nobody listens");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(error.raw_os_error().is_some());
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot connect to {unused}: Connection refused")),
        "{text}"
    );
    let missing =
        Stream::connect(&url("unix:///nonexistent/app.sock"), LONG).expect_err("no such file");
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_taken_port_is_in_use() {
    let listener = Listener::bind(&url("tcp://127.0.0.1:0")).expect("bind");
    let error = Listener::bind(&listener.local()).expect_err("taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(
        error.to_string().contains(&listener.local().to_string()),
        "{error}"
    );
}

#[test]
fn a_waker_ends_accept() {
    for endpoint in ["tcp://127.0.0.1:0", "tcp://[::1]:0"] {
        // Some machines have no IPv6.
        let Ok(listener) = Listener::bind(&url(endpoint)) else {
            continue;
        };
        let waker = Waker::new().expect("waker");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| listener.accept(Some(&waker)).expect("accept").is_none());
            waker.wake();
            assert!(waiting.join().expect("thread"));
        });
        waker.drain();
        let client = Stream::connect(&listener.local(), LONG).expect("connect");
        let server = listener
            .accept(Some(&waker))
            .expect("accept")
            .expect("stream");
        both_write_at_once((client, server), 1000);
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("objspace-net-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("folder");
        Self(path)
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Unix { path: self.file() }
    }

    fn file(&self) -> PathBuf {
        self.0.join("app.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_unix_listener_owns_its_file() {
    let folder = Folder::new("own");
    let listener = Listener::bind(&folder.endpoint()).expect("bind");
    assert_eq!(listener.local(), folder.endpoint());
    assert_eq!(
        std::fs::metadata(folder.file())
            .expect("file")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let error = Listener::bind(&folder.endpoint()).expect_err("alive");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let client = Stream::connect(&folder.endpoint(), LONG).expect("connect");
    // The second `bind` tried a connection and left at once; it is accepted first.
    drop(listener.accept(None).expect("accept"));
    let server = listener.accept(None).expect("accept").expect("stream");
    assert_eq!(server.peer(), folder.endpoint().to_string());
    both_write_at_once((client, server), 100_000);
    drop(listener);
    assert!(!folder.file().exists());
}

#[test]
fn the_file_of_a_dead_listener_is_replaced() {
    let folder = Folder::new("stale");
    drop(UnixListener::bind(folder.file()).expect("bind"));
    assert!(folder.file().exists());
    let listener = Listener::bind(&folder.endpoint()).expect("replaced");
    let _client = Stream::connect(&folder.endpoint(), LONG).expect("connect");
    assert!(listener.accept(None).expect("accept").is_some());
}

#[test]
fn other_files_are_left_alone() {
    let folder = Folder::new("other");
    std::fs::write(folder.file(), "precious").expect("write");
    let error = Listener::bind(&folder.endpoint()).expect_err("a file");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(
        std::fs::read_to_string(folder.file()).expect("read"),
        "precious"
    );
    // A file that came after the listener is not the listener's to remove.
    std::fs::remove_file(folder.file()).expect("remove");
    let listener = Listener::bind(&folder.endpoint()).expect("bind");
    std::fs::remove_file(folder.file()).expect("remove");
    let second = Listener::bind(&folder.endpoint()).expect("bind");
    drop(listener);
    assert!(folder.file().exists());
    drop(second);
    assert!(!folder.file().exists());
}
