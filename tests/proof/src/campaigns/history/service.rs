//! The server that a trial is hard on: in this process, where its clock is set and a kill is the engine's own crash;
//! or the real program, which gets signals. Knows no calls.

use super::clock::{Clock, Step};
use super::operation::Moment;
use super::plan::Plan;
use anyhow::{Context, bail};
use marconi_engine::env::{Clock as _, Environment, ManualClock};
use marconi_engine::{Config, Engine, Error};
use marconi_server::api::limits::Limits;
use marconi_server::app::{App, NoObserver};
use marconi_server::http::listen::{Drained, ListenOptions, serve};
use marconi_server::run::EngineDuty;
use marconi_server::shutdown::{ShutdownTrigger, shutdown};
use marconi_server::store::EngineStore;
use marconi_server::workers::Workers;
use marconi_tests::binary::{Binary, DEADLINE, Signal, wait_for};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// The largest page and claim: a queue of a trial fits into one.
pub(crate) const PAGE_SIZE_MAX: usize = 20_000;
const MIB: u64 = 1 << 20;
/// Where a manual clock begins.
const START_MS: u64 = 1_700_000_000_000;
/// Between two looks at whether a folder is free.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// Threads that serve, where the server is in this process.
const THREADS: usize = 2;

/// Where clients find the server, and the clock of the trial.
#[derive(Debug)]
pub(crate) struct Site {
    started: Instant,
    /// How often it came up or went down, and where it is when it is up.
    place: Mutex<(u64, Option<SocketAddr>)>,
    changed: Condvar,
}

impl Site {
    fn new() -> Site {
        Site { started: Instant::now(), place: Mutex::default(), changed: Condvar::new() }
    }

    pub(crate) fn now(&self) -> Moment {
        u64::try_from(self.started.elapsed().as_nanos()).expect("trials are short")
    }

    /// How often it came up or went down.
    pub(crate) fn epoch(&self) -> u64 {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until it is up; the epoch, and where.
    pub(crate) fn find(&self) -> anyhow::Result<(u64, SocketAddr)> {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let is_down = |place: &mut (u64, Option<SocketAddr>)| place.1.is_none();
        let found = self.changed.wait_timeout_while(place, DEADLINE, is_down);
        let (epoch, address) = *found.unwrap_or_else(PoisonError::into_inner).0;
        Ok((epoch, address.context("the server does not come back")?))
    }

    fn set(&self, address: Option<SocketAddr>) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        *place = (place.0 + 1, address);
        self.changed.notify_all();
    }
}

/// How a server is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As `kill -9` does.
    Killed,
    Stopped,
}

/// The server of a trial.
pub(crate) struct Service {
    pub(crate) site: Arc<Site>,
    /// From when to when it was being ended: requests in between may go unanswered, and none that was begun before
    /// can happen later.
    pub(crate) outages: Vec<(Moment, Moment)>,
    life: Life,
    steps: Vec<Step>,
    from_ms: u64,
    _folder: TempDir,
}

enum Life {
    Inside {
        config: Config,
        clock: Arc<ManualClock>,
        /// The clock is so far behind the engine's time.
        behind_ms: u64,
        has_workers: bool,
        running: Option<Running>,
    },
    Program {
        options: Vec<String>,
        folder: std::path::PathBuf,
        running: Option<Binary>,
    },
}

/// A server in this process.
struct Running {
    app: Arc<App<EngineStore>>,
    workers: Option<Arc<Workers>>,
    stop: ShutdownTrigger,
    served: JoinHandle<Drained>,
    runtime: Runtime,
}

impl Service {
    /// A server over a new folder, as the plan wants it.
    pub(crate) fn start(plan: &Plan) -> anyhow::Result<Service> {
        // The kill of a process takes nothing that a file system in memory would have kept otherwise.
        let in_memory = std::path::Path::new("/dev/shm");
        let folder =
            if in_memory.is_dir() { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() };
        let folder = folder.context("make a folder")?;
        let life = if plan.is_program {
            let page = PAGE_SIZE_MAX;
            let options = [
                format!("--durability={}", plan.durability),
                format!("--max-messages-per-page={page}"),
                format!("--max-messages-per-claim-or-pop={page}"),
                "--min-message-ttl=1".to_owned(),
                "--min-claim-ttl=1".to_owned(),
                "--min-claim-grace=1".to_owned(),
                "--disk-reserve-bytes=0".to_owned(),
                "--checkpoint-interval-bytes=1MiB".to_owned(),
            ];
            let folder = folder.path().to_owned();
            Life::Program { options: options.to_vec(), folder, running: None }
        } else {
            let config = Config {
                durability: plan.durability,
                segment_size_bytes: MIB,
                checkpoint_interval_bytes: MIB,
                disk_reserve_bytes: 0,
                upkeep_interval_ms: plan.upkeep_interval_ms,
                sync_interval_ms: 2,
                ..Config::new(folder.path().join("data"))
            };
            let clock = Arc::new(ManualClock::new(START_MS));
            Life::Inside {
                config,
                clock,
                behind_ms: 0,
                has_workers: plan.has_workers,
                running: None,
            }
        };
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).context("the time")?;
        let from_ms = u64::try_from(since_epoch.as_millis())?;
        let mut service = Service {
            site: Arc::new(Site::new()),
            outages: Vec::new(),
            life,
            steps: Vec::new(),
            from_ms,
            _folder: folder,
        };
        service.open()?;
        Ok(service)
    }

    fn open(&mut self) -> anyhow::Result<()> {
        let begun = self.site.now();
        let address = match &mut self.life {
            Life::Inside { config, clock, behind_ms, has_workers, running } => {
                let (address, server) = Running::start(config, clock, *has_workers)?;
                // Where the clock was put back, time goes on from the latest in the folder.
                let to_ms = server.app.store().engine().recovery().opened_ms;
                *behind_ms = to_ms - clock.now_ms();
                self.steps.push(Step { begun, ended: self.site.now(), to_ms });
                *running = Some(server);
                address
            }
            Life::Program { options, folder, running } => {
                let options: Vec<&str> = options.iter().map(String::as_str).collect();
                let binary = Binary::start(folder, &options);
                let address = binary.address;
                *running = Some(binary);
                address
            }
        };
        self.site.set(Some(address));
        Ok(())
    }

    /// Ends the server and starts it again on its folder; a manual clock is put to `clock_ms` in between.
    pub(crate) fn restart(&mut self, end: End, clock_ms: Option<u64>) -> anyhow::Result<()> {
        let begun = self.site.now();
        self.site.set(None);
        match &mut self.life {
            Life::Inside { running, .. } => {
                running.take().context("it runs")?.end(end)?;
            }
            Life::Program { running, .. } => {
                let mut binary = running.take().context("it runs")?;
                if end == End::Killed {
                    binary.signal(Signal::KILL);
                    binary.ended();
                } else {
                    binary.stop();
                }
            }
        }
        self.outages.push((begun, self.site.now()));
        if let (Some(clock_ms), Life::Inside { clock, behind_ms, .. }) = (clock_ms, &self.life) {
            clock.set_ms(clock_ms.saturating_sub(*behind_ms));
        }
        self.open()
    }

    /// Ends it for good.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
        match &mut self.life {
            Life::Inside { running, .. } => running.take().context("it runs")?.end(End::Stopped),
            Life::Program { running, .. } => {
                running.take().context("it runs")?.stop();
                Ok(())
            }
        }
    }

    /// The engine's time by a manual clock; a running one is left alone.
    pub(crate) fn clock_ms(&self) -> u64 {
        self.steps.last().map_or(START_MS, |step| step.to_ms)
    }

    /// Moves a manual clock on until it is this time for the engine; nothing where the clock is the system's.
    pub(crate) fn set_clock(&mut self, to_ms: u64) {
        let Life::Inside { clock, behind_ms, .. } = &self.life else { return };
        let begun = self.site.now();
        clock.set_ms(to_ms - behind_ms);
        self.steps.push(Step { begun, ended: self.site.now(), to_ms });
    }

    /// The clock through the trial.
    pub(crate) fn clock(&self) -> Clock {
        match &self.life {
            Life::Inside { .. } => Clock::Manual(self.steps.clone()),
            Life::Program { .. } => Clock::Runs { from_ms: self.from_ms },
        }
    }

    /// Holds the program for a while; nothing where the server is in this process.
    pub(crate) fn pause(&self, time: Duration) {
        if let Life::Program { running: Some(binary), .. } = &self.life {
            binary.signal(Signal::STOP);
            let until = Instant::now() + time;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                thread::park_timeout(left);
            }
            binary.signal(Signal::CONT);
        }
    }

    /// The engine, where the server is in this process.
    pub(crate) fn engine(&self) -> Option<&Engine> {
        match &self.life {
            Life::Inside { running, .. } => {
                running.as_ref().map(|running| running.app.store().engine())
            }
            Life::Program { .. } => None,
        }
    }
}

impl Running {
    fn start(
        config: &Config,
        clock: &Arc<ManualClock>,
        has_workers: bool,
    ) -> anyhow::Result<(SocketAddr, Running)> {
        let environment =
            Environment { clock: Arc::<ManualClock>::clone(clock), ..Environment::system() };
        let store = open_store(config, &environment)?;
        let limits = Limits {
            max_messages_per_page: PAGE_SIZE_MAX,
            max_messages_per_claim_or_pop: PAGE_SIZE_MAX,
            min_message_ttl: 1,
            min_claim_ttl: 1,
            min_claim_grace: 1,
            ..Limits::default()
        };
        let app = Arc::new(App::new(store, limits, Arc::new(NoObserver)));
        let threads = if has_workers { 1 } else { THREADS };
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).context("a port")?;
        let address = listener.local_addr()?;
        let workers = if has_workers {
            let duty = Arc::new(EngineDuty(Arc::clone(&app)));
            Some(Arc::new(Workers::start(THREADS, Duration::from_micros(20), &duty)?))
        } else {
            None
        };
        let options = ListenOptions { workers: workers.clone(), ..ListenOptions::default() };
        let (stop, stopping) = shutdown();
        let served = runtime.spawn(serve(Arc::clone(&app), listener, options, stopping));
        Ok((address, Running { app, workers, stop, served, runtime }))
    }

    fn end(self, end: End) -> anyhow::Result<()> {
        let Running { app, workers, stop, served, runtime } = self;
        match end {
            End::Killed => app.store().engine().crash(),
            End::Stopped => {
                drop(stop);
                let drained = runtime.block_on(served).context("the listener")?;
                if drained != Drained::Whole {
                    bail!("a stop in good order cut connections: {drained:?}");
                }
            }
        }
        drop(runtime);
        if let Some(workers) = workers {
            // Whoever drops them last joins their threads, which must not be one of these.
            wait_for("the connections' end", || (Arc::strong_count(&workers) == 1).then_some(()));
            drop(workers);
        }
        if end == End::Stopped {
            app.store().engine().close().context("close the store")?;
        }
        wait_for("nobody to use the server any more", || {
            (Arc::strong_count(&app) == 1).then_some(())
        });
        Ok(())
    }
}

/// Opens the store of a folder that nobody uses. A program that another trial is starting holds this process's locks as
/// well until it is itself, which is waited for.
fn open_store(config: &Config, environment: &Environment) -> anyhow::Result<EngineStore> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match EngineStore::open(config.clone(), environment.clone()) {
            Err(Error::Folder { what, .. })
                if what.contains("another process") && Instant::now() < deadline =>
            {
                thread::park_timeout(LOOK_INTERVAL);
            }
            opened => return opened.context("open the store"),
        }
    }
}
