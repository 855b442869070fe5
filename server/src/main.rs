//! The server program: configuration, log, runtime, run. Anything in detail is elsewhere.

use marconi_server::config::{Config, ConfigError, Origin, Request, page};
use marconi_server::{run, telemetry};
use std::process::ExitCode;
use std::time::Duration;

/// How long work that nobody waits for may hold up the end of the process.
const LEFTOVERS_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the program ends before its time.
enum Failure {
    /// There is no configuration to run with.
    Config(ConfigError),
    /// The start or the end failed.
    Run(String),
}

impl From<ConfigError> for Failure {
    fn from(cause: ConfigError) -> Failure {
        Failure::Config(cause)
    }
}

fn main() -> ExitCode {
    match program() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn program() -> Result<(), Failure> {
    let request = Request::new(std::env::args_os(), std::env::vars_os())?;
    let mut settings = request.gather()?;
    let config = Config::new(&mut settings)?;
    if request.print_config {
        print!("{}", page::print(&settings));
        return Ok(());
    }
    let log_level = telemetry::start(&config.log_level, config.log_format).map_err(Failure::Run)?;

    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(count) = config.worker_threads {
        runtime.worker_threads(count);
    }
    let runtime = runtime
        .enable_all()
        .thread_name("marconi-serve")
        .build()
        .map_err(|cause| Failure::Run(format!("cannot start threads: {cause}")))?;
    let ended = runtime.block_on(run::run(request, settings, config, log_level));
    runtime.shutdown_timeout(LEFTOVERS_TIMEOUT);
    ended.map_err(Failure::Run)
}

/// One line on standard error, and the code to end with: 2 when the command line is at fault.
fn report(failure: &Failure) -> ExitCode {
    let text = match failure {
        Failure::Config(ConfigError::Usage(usage)) => {
            // Help and version come this way, too. Where nobody reads them, so be it.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
        Failure::Config(cause) => cause.to_string(),
        Failure::Run(text) => text.clone(),
    };
    eprintln!("marconi-server: {text}");
    match failure {
        Failure::Config(ConfigError::Refused { origin: Origin::Flag(_), .. }) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}
