//! What SIGHUP does: reads the configuration again, puts in force what can change while the server
//! runs, and logs what changed and what has to wait for a restart. Knows no signals.

use crate::api::limits::Limits;
use crate::config::{Change, Config, ConfigError, Request, Settings, changes};
#[cfg(feature = "tls")]
use crate::http::tls::Tls;
use crate::telemetry::LogLevel;
use std::sync::{Arc, PoisonError, RwLock};

/// Reads the configuration again, on demand.
pub struct Reload {
    /// What the command line and the environment said.
    pub request: Request,
    /// The settings in force.
    pub settings: Arc<RwLock<Settings>>,
    /// The log's level, when it is ours to change.
    pub log_level: Option<LogLevel>,
    /// Puts other limits in force.
    pub set_limits: Box<dyn Fn(Limits) + Send + Sync>,
    /// The certificate, when there is one.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<Tls>>,
}

impl Reload {
    /// Reloads, and logs how that went. An error leaves all as it was. Reads files: may block.
    pub fn reload(&self) {
        match self.try_reload() {
            Ok(changes) => log(&changes),
            Err(cause) => {
                tracing::error!(%cause, "reload: the configuration was refused; nothing changed");
            }
        }
    }

    /// Reloads, and tells what differs from what was in force.
    ///
    /// # Errors
    /// When the configuration is refused; all stays as it was then.
    pub fn try_reload(&self) -> Result<Vec<Change>, ConfigError> {
        let mut new = self.request.gather()?;
        let config = Config::new(&mut new)?;
        let changes = {
            let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
            let changes = changes(&settings, &new);
            settings.adopt(&new);
            changes
        };
        if let Some(log_level) = &self.log_level
            && let Err(cause) = log_level.set(&config.log_level)
        {
            tracing::error!(cause, "reload: the log's level stays as it was");
        }
        self.reload_certificate(&config);
        (self.set_limits)(config.limits);
        Ok(changes)
    }

    #[cfg(feature = "tls")]
    fn reload_certificate(&self, config: &Config) {
        match (&self.tls, &config.tls) {
            (Some(tls), Some(files)) => match tls.reload(files) {
                Ok(()) => tracing::info!("reload: the certificate was read again"),
                Err(cause) => {
                    tracing::error!(%cause, "reload: the certificate stays as it was");
                }
            },
            (None, None) => {}
            _ => tracing::warn!("reload: turning TLS on or off needs a restart"),
        }
    }

    #[cfg(not(feature = "tls"))]
    fn reload_certificate(&self, _: &Config) {}
}

fn log(changes: &[Change]) {
    for Change { name, old, new, reloads } in changes {
        if *reloads {
            tracing::info!(option = name, old, new, "reload: changed");
        } else {
            tracing::warn!(option = name, old, new, "reload: changed, but needs a restart");
        }
    }
    let in_force_count = changes.iter().filter(|change| change.reloads).count();
    let waiting_count = changes.len() - in_force_count;
    tracing::info!(in_force_count, waiting_count, "reload: done");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::sync::Mutex;

    #[test]
    fn what_can_change_does_and_a_refusal_changes_nothing() {
        let file = tempfile::NamedTempFile::new().expect("the temporary folder takes a file");
        let write = |text: &str| std::fs::write(file.path(), text).expect("it can be written");
        write("[transport]\nmax_message_ttl = \"1d\"\n[storage]\nfolder = \"a\"");
        let arguments = [OsString::from("x"), "--config".into(), file.path().into()];
        let request = Request::new(arguments, []).expect("in order");
        let settings = request.gather().expect("in order");
        let limits: Arc<Mutex<Option<Limits>>> = Arc::default();
        let reload = Reload {
            request,
            settings: Arc::new(RwLock::new(settings)),
            log_level: None,
            set_limits: {
                let limits = Arc::clone(&limits);
                Box::new(move |new| *limits.lock().expect("no panic") = Some(new))
            },
            #[cfg(feature = "tls")]
            tls: None,
        };

        write("[transport]\nmax_message_ttl = 5");
        reload.try_reload().expect_err("below the least");
        assert!(limits.lock().expect("no panic").is_none());

        write("[transport]\nmax_message_ttl = \"2d\"\n[storage]\nfolder = \"b\"");
        let changes = reload.try_reload().expect("in order");
        let names: Vec<_> = changes.iter().map(|change| (change.name, change.reloads)).collect();
        assert_eq!(names, [("folder", false), ("max_message_ttl", true)]);
        let limits = limits.lock().expect("no panic").take().expect("they were set");
        assert_eq!(limits.max_message_ttl, 2 * 86_400);
        let settings = reload.settings.read().expect("no panic");
        assert_eq!(settings.text("folder"), "a", "in force until a restart");
        assert_eq!(settings.number("max_message_ttl"), 2 * 86_400);
    }
}
