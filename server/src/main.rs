//! The program `marconi-server`: all of it is in the library, so that `marconi serve` is the same.

fn main() -> std::process::ExitCode {
    marconi_server::program::run(std::env::args_os(), std::env::vars_os())
}
