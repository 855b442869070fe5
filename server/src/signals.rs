//! The signals of the system: SIGTERM and SIGINT stop, SIGHUP reloads. Knows what stopping and
//! reloading are called, and not what they take.

use crate::shutdown::ShutdownTrigger;
use std::io;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

/// Listens for signals from now on: the first that stops gives the word by `stop`, a second ends the
/// process at once with code 1; each that reloads calls `reload`, which may block.
///
/// # Errors
/// When the system does not let us listen.
pub fn listen(
    stop: Arc<ShutdownTrigger>,
    reload: impl Fn() + Send + Sync + 'static,
) -> io::Result<JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let reload = Arc::new(reload);
    Ok(tokio::spawn(async move {
        let mut is_stopping = false;
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hang_up.recv() => {
                    tracing::info!("SIGHUP: reloading");
                    let reload = Arc::clone(&reload);
                    // A panic in there was logged, and costs this reload only.
                    let _ = tokio::task::spawn_blocking(move || reload()).await;
                    continue;
                }
            };
            if is_stopping {
                tracing::warn!("{name} again: ending at once");
                std::process::exit(1);
            }
            tracing::info!("{name}: finishing what is in flight; once more ends at once");
            is_stopping = true;
            stop.trigger();
        }
    }))
}
