//! Timeouts that cost nothing where there is nothing to wait for. Knows nothing of what is waited for.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::error::Elapsed;

/// The outcome of `work`, or `Elapsed` once it has taken longer than `most`. No timer is made for work that
/// is done when it is first looked at. It comes pinned, since here it would be kept twice: as it was given,
/// and as it is polled.
pub(crate) async fn within<F>(most: Duration, mut work: F) -> Result<F::Output, Elapsed>
where
    F: Future + Unpin,
{
    match poll_fn(|context| Poll::Ready(Pin::new(&mut work).poll(context))).await {
        Poll::Ready(outcome) => Ok(outcome),
        Poll::Pending => tokio::time::timeout(most, work).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[tokio::test(start_paused = true)]
    async fn work_is_done_in_time_or_given_up() {
        let second = Duration::from_secs(1);
        assert_eq!(within(second, pin!(async { 1 })).await.ok(), Some(1));
        assert!(within(second, std::future::pending::<()>()).await.is_err());
        let slow = pin!(async { tokio::time::sleep(second / 2).await });
        assert!(within(second, slow).await.is_ok());
    }
}
