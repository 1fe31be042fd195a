//! The thread that writes a log.
//!
//! A recorder hands over full buffers; a bounded number of them may wait. If the writer is behind,
//! handing over waits: the program is slowed down, which the statistics and a note in the log say,
//! and nothing is lost. Buffers come back to be filled again.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::Error;
use crate::encode::{Encoded, Encoder, carried, preamble};
use crate::tables::Row;

/// The size of what is before the first block.
const PREAMBLE: usize = 16;
/// Room for the block that says that a log ends at its largest size.
const NOTE_MAX: u64 = 256;

/// How much of a recording is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// All of it.
    Everything,
    /// At least the last so many operations; in memory until [`Writer::finish`] writes them.
    Last(u64),
}

/// How to write a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where.
    pub path: PathBuf,
    /// How much.
    pub retention: Retention,
    /// The largest size of the file in bytes, if there is room for a note. What would exceed it is
    /// not written, which a note at the end says.
    pub size_max: Option<u64>,
    /// How many full buffers may wait.
    pub waiting_max: usize,
}

impl Options {
    /// A log of everything.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            retention: Retention::Everything,
            size_max: None,
            waiting_max: 8,
        }
    }
}

/// What was written so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Operations in blocks that are written (or kept).
    pub operations: u64,
    /// The size of the file.
    pub bytes: u64,
    /// How often the recorder had to wait for the writer.
    pub stalls: u64,
    /// For how long in all, in nanoseconds.
    pub stalled_ns: u64,
    /// Operations that were not written since the log had reached its largest size.
    pub dropped: u64,
}

#[derive(Default)]
struct Shared {
    operations: AtomicU64,
    bytes: AtomicU64,
    stalls: AtomicU64,
    stalled_ns: AtomicU64,
    dropped: AtomicU64,
    full: AtomicBool,
    failed: Mutex<Option<Error>>,
    has_failed: AtomicBool,
}

enum Order {
    Buffer(Vec<u64>),
    /// Write what is kept, or be done with what was sent; then answer.
    Flush(SyncSender<()>),
}

/// The recorder's end of the thread that writes a log.
pub struct Writer {
    orders: Option<SyncSender<Order>>,
    empty: Receiver<Vec<u64>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Creates the file (replacing one that is there; readable by its owner only) and starts the
    /// thread.
    ///
    /// # Errors
    /// The file cannot be created, or no thread started.
    pub fn start(options: Options) -> Result<Self, Error> {
        let (orders, inbox) = mpsc::sync_channel(options.waiting_max.max(1));
        let (outbox, empty) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let file = match options.retention {
            Retention::Everything => Some(create(&options.path)?),
            Retention::Last(_) => None,
        };
        if file.is_some() {
            shared.bytes.store(PREAMBLE as u64, Ordering::Relaxed);
        }
        let mut sink = Sink {
            file,
            encoder: Encoder::new(options.retention != Retention::Everything),
            ring: VecDeque::new(),
            ring_operations: 0,
            lost: Lost::default(),
            options,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("objspace-dump".to_owned())
            .spawn(move || {
                for order in inbox {
                    sink.handle(order, &outbox);
                }
            })?;
        Ok(Self {
            orders: Some(orders),
            empty,
            shared,
            thread: Some(thread),
        })
    }

    /// Hands over a buffer and takes an empty one. Waits if too many are under way already.
    ///
    /// # Errors
    /// The writer has failed, now or before; nothing more will be written.
    pub fn send(&self, buffer: Vec<u64>) -> Result<Vec<u64>, Error> {
        if self.shared.has_failed.load(Ordering::Acquire) {
            return Err(self.failure());
        }
        let Some(orders) = &self.orders else {
            return Err(self.failure());
        };
        let capacity = buffer.capacity();
        match orders.try_send(Order::Buffer(buffer)) {
            Ok(()) => {}
            Err(TrySendError::Full(order)) => {
                let start = Instant::now();
                orders.send(order).map_err(|_| self.failure())?;
                let waited = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.shared.stalls.fetch_add(1, Ordering::Relaxed);
                self.shared.stalled_ns.fetch_add(waited, Ordering::Relaxed);
            }
            Err(TrySendError::Disconnected(_)) => return Err(self.failure()),
        }
        Ok(self
            .empty
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(capacity)))
    }

    /// Waits until everything handed over is in the file; what a ring keeps is written to the path
    /// now, and kept further.
    ///
    /// # Errors
    /// The writer has failed.
    pub fn flush(&self) -> Result<(), Error> {
        let (answer, done) = mpsc::sync_channel(1);
        if let Some(orders) = &self.orders
            && orders.send(Order::Flush(answer)).is_ok()
        {
            let _ = done.recv();
        }
        if self.shared.has_failed.load(Ordering::Acquire) {
            return Err(self.failure());
        }
        Ok(())
    }

    /// Writes what remains and ends the thread. `keep`: whether to write what a ring holds.
    ///
    /// # Errors
    /// Something could not be written.
    pub fn finish(mut self, keep: bool) -> Result<Statistics, Error> {
        let result = if keep { self.flush() } else { Ok(()) };
        self.end();
        result?;
        if self.shared.has_failed.load(Ordering::Acquire) {
            return Err(self.failure());
        }
        Ok(self.statistics())
    }

    /// Lets go of a writer whose thread does not exist, as in a child process after `fork`.
    pub fn abandon(mut self) {
        std::mem::forget(self.thread.take());
        std::mem::forget(self);
    }

    /// What was written so far.
    pub fn statistics(&self) -> Statistics {
        let shared = &self.shared;
        Statistics {
            operations: shared.operations.load(Ordering::Relaxed),
            bytes: shared.bytes.load(Ordering::Relaxed),
            stalls: shared.stalls.load(Ordering::Relaxed),
            stalled_ns: shared.stalled_ns.load(Ordering::Relaxed),
            dropped: shared.dropped.load(Ordering::Relaxed),
        }
    }

    /// Whether the log has reached its largest size, so that recording more is in vain.
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.shared.has_failed.store(true, Ordering::Release);
        }
    }

    fn failure(&self) -> Error {
        self.shared
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .unwrap_or_else(|| Error::Io(std::io::Error::other("the log is closed")))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn create(path: &Path) -> Result<File, Error> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&preamble())?;
    Ok(file)
}

/// What is left of blocks that a ring has dropped.
#[derive(Default)]
struct Lost {
    /// Rows of the tables, in pieces that were parts of blocks.
    tables: Vec<Vec<u8>>,
    objects: BTreeMap<u64, Vec<u8>>,
}

struct Kept {
    block: Encoded,
    definitions: Vec<(u64, Vec<u8>)>,
    deaths: Vec<u64>,
}

/// The thread's own.
struct Sink {
    file: Option<File>,
    encoder: Encoder,
    ring: VecDeque<Kept>,
    ring_operations: u64,
    lost: Lost,
    options: Options,
    shared: Arc<Shared>,
}

impl Sink {
    fn handle(&mut self, order: Order, outbox: &mpsc::Sender<Vec<u64>>) {
        let result = match order {
            Order::Buffer(mut buffer) => {
                let result = self.buffer(&buffer);
                buffer.clear();
                // Nobody takes it back any more at the end.
                let _ = outbox.send(buffer);
                result
            }
            Order::Flush(answer) => {
                let result = self.write_ring();
                let _ = answer.send(());
                result
            }
        };
        if let Err(error) = result {
            let mut failed = self
                .shared
                .failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
            self.shared.has_failed.store(true, Ordering::Release);
        }
    }

    fn buffer(&mut self, words: &[u64]) -> Result<(), Error> {
        if self.shared.has_failed.load(Ordering::Relaxed) || words.is_empty() {
            return Ok(());
        }
        let block = self.encoder.encode(words)?;
        match self.options.retention {
            Retention::Everything => self.append(&block)?,
            Retention::Last(count) => self.keep(block, count),
        }
        self.shared
            .operations
            .store(self.encoder.operations(), Ordering::Relaxed);
        Ok(())
    }

    fn append(&mut self, block: &Encoded) -> Result<(), Error> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let bytes = self.shared.bytes.load(Ordering::Relaxed);
        // Once a block was left out, a smaller one must not come after it.
        if let Some(max) = self.options.size_max
            && (self.shared.full.load(Ordering::Relaxed)
                || bytes + block.bytes.len() as u64 + NOTE_MAX > max)
        {
            let dropped = &self.shared.dropped;
            if dropped.fetch_add(block.operations.into(), Ordering::Relaxed) == 0
                && !self.shared.full.swap(true, Ordering::Relaxed)
            {
                let note = format!("the log reached its largest size, {max} bytes, and ends here");
                let tables = Row::Note {
                    operation: block.first_operation - 1,
                    text: &note,
                }
                .to_bytes();
                let end = carried(&[tables], &BTreeMap::new(), block.first_operation)?;
                file.write_all(&end)?;
                self.shared
                    .bytes
                    .fetch_add(end.len() as u64, Ordering::Relaxed);
            }
            return Ok(());
        }
        file.write_all(&block.bytes)?;
        self.shared
            .bytes
            .store(bytes + block.bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn keep(&mut self, block: Encoded, count: u64) {
        self.ring_operations += u64::from(block.operations);
        self.ring.push_back(Kept {
            block,
            definitions: std::mem::take(&mut self.encoder.definitions),
            deaths: std::mem::take(&mut self.encoder.deaths),
        });
        while let Some(first) = self.ring.front()
            && self.ring_operations - u64::from(first.block.operations) >= count
            && let Some(dropped) = self.ring.pop_front()
        {
            self.ring_operations -= u64::from(dropped.block.operations);
            if !dropped.block.tables.is_empty() {
                self.lost.tables.push(dropped.block.tables);
            }
            self.lost.objects.extend(dropped.definitions);
            for serial in dropped.deaths {
                self.lost.objects.remove(&serial);
            }
        }
    }

    fn write_ring(&mut self) -> Result<(), Error> {
        if self.options.retention == Retention::Everything {
            return Ok(());
        }
        let mut file = create(&self.options.path)?;
        let first = self
            .ring
            .front()
            .map_or(1, |kept| kept.block.first_operation);
        let bytes = carried(&self.lost.tables, &self.lost.objects, first)?;
        file.write_all(&bytes)?;
        let mut total = PREAMBLE + bytes.len();
        for kept in &self.ring {
            file.write_all(&kept.block.bytes)?;
            total += kept.block.bytes.len();
        }
        self.shared.bytes.store(total as u64, Ordering::Relaxed);
        Ok(())
    }
}
