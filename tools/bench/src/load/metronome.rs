//! Waits for a moment to within some microseconds: tokio's own timer counts milliseconds.

use anyhow::Context as _;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

/// A timer of the system.
pub(super) struct Metronome {
    timer: AsyncFd<OwnedFd>,
}

/// Nearer moments are not worth a call of the system.
const NEAR: Duration = Duration::from_micros(5);

impl Metronome {
    pub(super) fn new() -> anyhow::Result<Metronome> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("no timer")?;
        #[expect(
            deprecated,
            reason = "sound for an `OwnedFd`, which stays open as long; the new name is `unsafe`"
        )]
        let timer = AsyncFd::new(timer).context("no timer")?;
        Ok(Metronome { timer })
    }

    /// Waits until `moment`; lets others run even if it is over.
    pub(super) async fn until(&self, moment: Instant) -> anyhow::Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left <= NEAR {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let time = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()) as _,
            },
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &time)
            .context("cannot set a timer")?;
        loop {
            let mut ready = self.timer.readable().await.context("cannot wait for a timer")?;
            let mut count = [0u8; 8];
            let read = rustix::io::read(self.timer.get_ref(), &mut count);
            ready.clear_ready();
            match read {
                Err(rustix::io::Errno::AGAIN) => {}
                other => return other.map(|_| ()).context("cannot read a timer"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_comes_early() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let metronome = Metronome::new().expect("a timer");
            for us in [0, 3, 200, 1500] {
                let moment = Instant::now() + Duration::from_micros(us);
                metronome.until(moment).await.expect("it rings");
                assert!(Instant::now() + NEAR >= moment, "{us}");
            }
        });
    }
}
