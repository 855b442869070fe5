//! The word that it is time to stop, given once and heard by everyone who waits for it.
//! Knows neither signals nor what stopping takes.

use tokio::sync::watch;

/// Gives the word. Dropping it gives the word too, so that nothing outlives its owner.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

/// Hears the word. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// A trigger and its listener.
pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    /// Gives the word. Doing it again changes nothing.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Resolves once the word was given, at once when it was given before. Safe to drop half-way.
    pub async fn requested(&mut self) {
        // An error means that the trigger is gone, which is the word as well.
        let _ = self.0.wait_for(|requested| *requested).await;
    }

    /// Whether the word was given.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}
