//! Timeouts that cost nothing where there is nothing to wait for. Knows nothing of what is waited for.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::error::Elapsed;

/// The outcome of `work`, or `Elapsed` once it has taken longer than `most`. No timer is made for work that
/// is done when it is first looked at.
pub(crate) async fn within<F: Future>(most: Duration, work: F) -> Result<F::Output, Elapsed> {
    let mut work = pin!(work);
    match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
        Poll::Ready(outcome) => Ok(outcome),
        Poll::Pending => tokio::time::timeout(most, work).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_done_in_time_or_given_up() {
        let second = Duration::from_secs(1);
        assert_eq!(within(second, async { 1 }).await.ok(), Some(1));
        assert!(within(second, std::future::pending::<()>()).await.is_err());
        let slow = async { tokio::time::sleep(second / 2).await };
        assert!(within(second, slow).await.is_ok());
    }
}
