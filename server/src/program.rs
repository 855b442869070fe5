//! The server program: configuration, log, runtime, run; and what it says when one of them fails.
//! Anything in detail is elsewhere. The log and its panic hook are one for the process, so a process
//! runs this once.

use crate::config::{Config, ConfigError, Origin, Request, page};
use crate::{run, telemetry};
use std::ffi::OsString;
use std::io::Write;
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

/// Runs the server until a signal, or the admin API, tells it to stop. Takes the command line, whose
/// first word is the program's name, and the environment. What failed is told in one line on standard
/// error; the code is 0, 1, or 2 when the command line is at fault.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    match serve(arguments, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn serve(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Failure> {
    let request = Request::new(arguments, environment)?;
    let mut settings = request.gather()?;
    let config = Config::new(&mut settings)?;
    if request.print_config {
        let text = page::print(&settings);
        let printed = std::io::stdout().write_all(text.as_bytes());
        return printed
            .map_err(|cause| Failure::Run(format!("cannot print the configuration: {cause}")));
    }
    let log_level = telemetry::start(&config.log_level, config.log_format).map_err(Failure::Run)?;

    // This thread accepts, one more answers operators; connections have threads of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name("marconi-admin")
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
