//! A clock that costs a few nanoseconds to read.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
/// A number that grows at a constant rate, which [`Rate`] knows.
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 has the instruction, and the systems that objspace runs on let programs
    // use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
/// A number that grows at a constant rate, which [`Rate`] knows.
#[inline]
pub fn ticks() -> u64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    u64::try_from(
        START
            .get_or_init(std::time::Instant::now)
            .elapsed()
            .as_nanos(),
    )
    .unwrap_or(u64::MAX)
}

/// From ticks to nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    start: u64,
    /// Nanoseconds for a tick, times 2³².
    scale: u64,
}

impl Rate {
    /// Measures the rate, for two milliseconds if it was not measured before; time begins now.
    pub fn measure() -> Self {
        static SCALE: OnceLock<u64> = OnceLock::new();
        let scale = *SCALE.get_or_init(Self::measure_scale);
        Self {
            start: ticks(),
            scale,
        }
    }

    fn measure_scale() -> u64 {
        let (clock, first) = (std::time::Instant::now(), ticks());
        let (elapsed, last) = loop {
            std::thread::sleep(std::time::Duration::from_millis(2));
            let (elapsed, last) = (clock.elapsed().as_nanos(), ticks());
            if last > first {
                break (elapsed, last);
            }
        };
        let scale = (elapsed << 32) / u128::from(last - first);
        u64::try_from(scale).unwrap_or(1 << 32)
    }

    /// Nanoseconds since the beginning.
    #[inline]
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        let ticks = ticks.saturating_sub(self.start);
        ((u128::from(ticks) * u128::from(self.scale)) >> 32) as u64
    }
}
