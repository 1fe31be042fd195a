//! Signs of life, by one thread of this process that never needs Python: a program that is busy in C
//! code and holds the GIL is not dead, and must be able to say so.
//!
//! The thread looks at each session a few times per heartbeat. A peer that has been silent for a
//! quarter of the time is asked for a sign of life (twice); one that stays silent, or takes nothing
//! of what is to be written, is lost before the time is over. A stream that nobody reads, because
//! whoever has the right to is waiting for the GIL, is read here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use objspace_net::Interest;

use super::{Channel, End, Link, Reader, Seen, State};

/// What the monitor knows of one session.
struct Patient {
    link: Weak<Link>,
    /// No heartbeat: only read where nobody else does.
    limit: Option<Duration>,
    reads: u64,
    writes: u64,
    heard: Instant,
    wrote: Instant,
    asked: u32,
}

#[derive(Default)]
struct Monitor {
    patients: Vec<Patient>,
    /// The process whose thread looks after them; a forked child has no such thread.
    running: Option<u32>,
}

/// How often all are looked at, at least: a peer with a shorter heartbeat than ours asks more often.
const TICK: Duration = Duration::from_millis(200);
/// How many reads are done for whoever does not come to it, each time.
const READS: usize = 64;

fn monitor() -> MutexGuard<'static, Monitor> {
    static MONITOR: Mutex<Monitor> = Mutex::new(Monitor {
        patients: Vec::new(),
        running: None,
    });
    MONITOR.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Looks after this session from now on; `limit` is the time within which a dead peer is noticed.
    pub(crate) fn watch(self: &Arc<Self>, limit: Option<Duration>) {
        let now = Instant::now();
        let mut monitor = monitor();
        let process = std::process::id();
        if monitor.running != Some(process) {
            // Those of the parent are not this process's business.
            monitor.patients.clear();
            let spawned = std::thread::Builder::new()
                .name("objspace-heartbeat".into())
                .stack_size(256 << 10)
                .spawn(look_after_all);
            monitor.running = spawned.is_ok().then_some(process);
        }
        monitor.patients.push(Patient {
            link: Arc::downgrade(self),
            limit,
            reads: 0,
            writes: 0,
            heard: now,
            wrote: now,
            asked: 0,
        });
    }

    /// Reads what is there, in place of whoever has the right to and does not come to it.
    fn read_for_others(&self) {
        let Channel::Stream(stream) = &self.channel else {
            return;
        };
        let readable = stream
            .wait(Interest::READ, None, Some(Duration::ZERO))
            .is_ok_and(|ready| ready.readable);
        if !readable {
            return;
        }
        let epoch = {
            let mut state = self.state();
            if state.end.is_some() {
                return;
            }
            if let Some(waker) = state.idle_waker.take() {
                waker.wake();
            }
            state.epoch += 1;
            state.reader = Reader::Busy(state.epoch);
            state.epoch
        };
        for _ in 0..READS {
            let reads = self.state().reads;
            match self.read_once(stream, epoch, None) {
                None | Some(Seen::Work | Seen::Mine) if self.state().reads != reads => {}
                _ => break,
            }
        }
        self.leave_reading(Some(epoch));
        self.call_workers();
        self.write_some(stream);
    }
}

fn look_after_all() {
    let mut pause = Duration::ZERO;
    loop {
        let asleep = Instant::now();
        std::thread::sleep(pause);
        let now = Instant::now();
        // This process was stopped, or had no processor, or the machine slept: the time beyond the
        // pause counts against nobody, and whoever was not asked is asked first.
        let late = now.duration_since(asleep).saturating_sub(pause);
        let mut patients = std::mem::take(&mut monitor().patients);
        pause = TICK;
        patients.retain_mut(|patient| {
            let Some(link) = patient.link.upgrade() else {
                return false;
            };
            patient.heard = (patient.heard + late).min(now);
            patient.wrote = (patient.wrote + late).min(now);
            let alive = patient.look(&link, now);
            if let Some(limit) = patient.limit {
                pause = pause.min(limit / 8);
            }
            alive
        });
        let mut monitor = monitor();
        patients.append(&mut monitor.patients);
        if patients.is_empty() {
            monitor.running = None;
            return;
        }
        monitor.patients = patients;
    }
}

impl Patient {
    /// One look; false when the session has ended.
    fn look(&mut self, link: &Link, now: Instant) -> bool {
        if !self.take_pulse(&link.state(), now) {
            return false;
        }
        if self.heard != now {
            link.read_for_others();
            if !self.take_pulse(&link.state(), now) {
                return false;
            }
        }
        let Some(limit) = self.limit else {
            return true;
        };
        let (silent, stuck) = (now - self.heard, now - self.wrote);
        // A look may come an eighth late, and have seen the last sign of life an eighth late.
        let patience = limit / 4 * 3;
        if silent >= patience {
            link.end(End::Lost(format!(
                "no sign of life for {limit:?} (the heartbeat)"
            )));
            return false;
        }
        if stuck >= patience.max(Duration::from_secs(2)) {
            link.end(End::Lost(format!(
                "it takes nothing of what is sent to it, for {limit:?} (the heartbeat)"
            )));
            return false;
        }
        if silent >= limit / 4 * (self.asked + 1) && self.asked < 2 {
            self.asked += 1;
            // A session that is closed already asks nothing.
            if link.state().engine.ping(u64::from(self.asked)).is_ok()
                && let Channel::Stream(stream) = &link.channel
            {
                link.write_some(stream);
            }
        }
        true
    }

    /// Notes what has happened since the last look; false when the session has ended.
    fn take_pulse(&mut self, state: &State, now: Instant) -> bool {
        if self.reads != state.reads {
            self.reads = state.reads;
            self.heard = now;
            self.asked = 0;
        }
        if self.writes != state.writes || !state.blocked {
            self.writes = state.writes;
            self.wrote = now;
        }
        state.end.is_none()
    }
}
