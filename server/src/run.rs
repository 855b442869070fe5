//! A run of the server, from a checked configuration to its end: store, app, listeners, drain.
//! Knows the order, and no detail of any part.

use crate::admin::{Admin, Care};
use crate::app::App;
use crate::config::{Config, Request, Settings};
use crate::http::listen::{self, Drained, ListenOptions, ListenStats};
use crate::http::outbox;
#[cfg(feature = "tls")]
use crate::http::tls::Tls;
use crate::metrics::process::{Process, ProcessMetrics};
use crate::metrics::requests::RequestMetrics;
use crate::reload::Reload;
use crate::shutdown::{ShutdownTrigger, shutdown};
use crate::signals;
use crate::store::EngineStore;
use crate::telemetry::LogLevel;
use crate::workers::{Duty, Workers};
use marconi_engine::env::Environment;
use marconi_engine::{
    CompactionMetrics, Engine, EngineMetrics, Error, QueueGlance, RecoveryReport, Rest,
    SegmentMetrics,
};
use std::convert::Infallible;
use std::sync::{Arc, RwLock};
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// How long the admin API may take to finish its last answers once the store is closed.
const ADMIN_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Opens the store, serves until a signal or the admin API says stop, drains, and closes the store.
///
/// # Errors
/// In a line for the one who started the program.
pub async fn run(
    request: Request,
    settings: Settings,
    config: Config,
    log_level: LogLevel,
) -> Result<(), String> {
    let Config { engine, limits, .. } = config.clone();
    let store = blocking(move || EngineStore::open(engine, Environment::system())).await?;
    let recovered = summary(store.engine().recovery());

    let stats = Arc::new(ListenStats::default());
    let requests = Arc::new(RequestMetrics::default());
    let observer = Arc::clone(&requests);
    let app = Arc::new(App::new(store, limits, observer));
    let (stop, stopping) = shutdown();
    let stop = Arc::new(stop);
    let process = Process::new(Arc::clone(&stats));
    let care = Arc::new(EngineCare { app: Arc::clone(&app), process, stop: Arc::clone(&stop) });

    let mut options = listen_options(&config, stats)?;
    let count = config.worker_threads.or_else(|| available_parallelism().ok().map(usize::from));
    let duty = Arc::new(EngineDuty(Arc::clone(&app)));
    let workers = Workers::start(count.unwrap_or(1), config.busy_poll, &duty);
    let workers = Arc::new(workers.map_err(|cause| format!("cannot start threads: {cause}"))?);
    options.workers = Some(Arc::clone(&workers));
    let listener = bind("listen", &config.listen).await?;
    let admin_listener = match &config.admin_listen {
        Some(address) => Some(bind("admin_listen", address).await?),
        None => None,
    };

    let settings = Arc::new(RwLock::new(settings));
    let reload = Reload {
        request,
        settings: Arc::clone(&settings),
        log_level: Some(log_level),
        set_limits: {
            let app = Arc::clone(&app);
            Box::new(move |limits| app.set_limits(limits))
        },
        #[cfg(feature = "tls")]
        tls: options.tls.clone(),
    };
    signals::listen(stop, move || reload.reload())
        .map_err(|cause| format!("cannot listen for signals: {cause}"))?;
    println!("{}", start_line(&config, &listener, admin_listener.as_ref(), &recovered));

    // The admin API outlives the public one, to tell of its draining.
    let (admin_stop, admin_stopping) = shutdown();
    let admin = admin_listener.map(|listener| {
        let admin = Arc::new(Admin::new(Arc::clone(&care), requests, settings, stopping.clone()));
        let options = ListenOptions { connections_max: 64, ..ListenOptions::default() };
        tokio::spawn(listen::serve(admin, listener, options, admin_stopping))
    });

    let drained = listen::serve(Arc::clone(&app), listener, options, stopping).await;
    if let Drained::Cut(count) = drained {
        tracing::warn!(count, "the time for draining is over; connections were cut");
    }
    // No connection is left. Joining threads blocks, if not for long.
    let _ = tokio::task::spawn_blocking(move || drop(workers)).await;
    // The store closes while admin connections end: neither waits for the other.
    drop(admin_stop);
    let closed = blocking(move || app.store().engine().close()).await;
    if let Some(mut admin) = admin
        && timeout(ADMIN_DRAIN_TIMEOUT, &mut admin).await.is_err()
    {
        admin.abort();
    }
    closed.map_err(|cause| format!("closing the store: {cause}; nothing acknowledged is lost"))?;
    tracing::info!("stopped in good order");
    Ok(())
}

/// Calls what blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(call).await {
        Ok(outcome) => outcome.map_err(|cause| cause.to_string()),
        Err(_) => Err("a fault of this program; the log says more".to_owned()),
    }
}

async fn bind(option: &str, address: &str) -> Result<TcpListener, String> {
    listen::bind(address)
        .await
        .map_err(|cause| format!("cannot listen on {address} ({option}): {cause}"))
}

fn listen_options(config: &Config, stats: Arc<ListenStats>) -> Result<ListenOptions, String> {
    let connections = config.connections;
    #[cfg(feature = "tls")]
    let tls = match &config.tls {
        Some(files) => {
            let tls = Tls::load(files).map_err(|cause| format!("cannot use TLS: {cause}"))?;
            Some(Arc::new(tls))
        }
        None => None,
    };
    Ok(ListenOptions {
        connections_max: connections.connections_max,
        header_timeout: connections.header_timeout,
        idle_timeout: connections.idle_timeout,
        header_size_max_bytes: connections.header_size_max_bytes,
        http2_streams_max: connections.http2_streams_max,
        drain_timeout: connections.drain_timeout,
        #[cfg(feature = "tls")]
        tls,
        stats,
        workers: None,
    })
}

/// What is printed once the server serves.
fn start_line(
    config: &Config,
    listener: &TcpListener,
    admin: Option<&TcpListener>,
    recovered: &str,
) -> String {
    // The address in force: a port of 0 was replaced by a free one.
    let address = |listener: &TcpListener| {
        listener.local_addr().map_or_else(|cause| cause.to_string(), |address| address.to_string())
    };
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let admin = admin.map_or("off".to_owned(), |admin| format!("http://{}", address(admin)));
    format!(
        "marconi-server {} serves {scheme}://{} (admin: {admin}) from {}: {recovered}",
        env!("CARGO_PKG_VERSION"),
        address(listener),
        config.engine.folder.display(),
    )
}

/// What opening the folder found, in half a line.
fn summary(report: &RecoveryReport) -> String {
    if report.is_new {
        return "a new folder".to_owned();
    }
    let last = if report.was_clean { "a stop in good order" } else { "a crash" };
    let mut text = format!(
        "{} queues after {last}, {} bytes of log read again, {} ms",
        report.queues, report.replayed_bytes, report.duration_ms
    );
    if report.torn_bytes > 0 {
        text.push_str(&format!(", {} bytes of an unfinished write cut off", report.torn_bytes));
    }
    if report.clock_behind_ms >= 1000 {
        let behind_s = report.clock_behind_ms / 1000;
        text.push_str(&format!(
            ", the clock is {behind_s} s behind the latest time there, from which time goes on"
        ));
    }
    if let Some(why) = &report.fell_back {
        text.push_str(&format!(", from an older checkpoint: {why}"));
    }
    text
}

/// What the workers do between tasks: they send the answers that are there, and do the log's work, which spares
/// waking its thread.
pub struct EngineDuty(pub Arc<App<EngineStore>>);

impl Duty for EngineDuty {
    async fn attend(&self) -> Infallible {
        self.0.store().engine().attend().await
    }

    fn before_sleep(&self) {
        outbox::send_all();
        self.0.store().engine().before_sleep();
    }

    fn before_rest(&self) -> bool {
        outbox::send_all();
        self.0.store().engine().before_rest() == Rest::Look
    }
}

/// The service as an operator cares for it.
pub(crate) struct EngineCare {
    pub(crate) app: Arc<App<EngineStore>>,
    pub(crate) process: Process,
    pub(crate) stop: Arc<ShutdownTrigger>,
}

impl EngineCare {
    fn engine(&self) -> &Engine {
        self.app.store().engine()
    }
}

impl Care for EngineCare {
    fn health(&self) -> Result<(), Error> {
        self.engine().health()
    }

    fn checkpoint(&self) -> Result<(), Error> {
        self.engine().checkpoint()
    }

    fn compact(&self) -> Result<u64, Error> {
        self.engine().compact()
    }

    fn compaction(&self) -> CompactionMetrics {
        self.engine().compaction()
    }

    fn store(&self) -> EngineMetrics {
        self.engine().metrics()
    }

    fn segments(&self) -> Vec<SegmentMetrics> {
        self.engine().segments()
    }

    fn visit_queues(&self, visit: &mut dyn FnMut(QueueGlance<'_>)) -> Result<(), Error> {
        self.engine().visit_queues(visit)
    }

    fn process(&self) -> ProcessMetrics {
        self.process.measure(self.app.in_flight().get())
    }

    fn drain(&self) {
        self.stop.trigger();
    }
}
