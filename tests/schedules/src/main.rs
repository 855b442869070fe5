//! The engine's threads under shuttle, which runs one at a time and chooses at every lock, atomic, wait and file
//! operation which one goes on. `schedules SEED COUNT` tries schedules of the scenario that the seed names;
//! `schedules replay SCENARIO SCHEDULE` tries again what a failure printed. Knows nothing of how many are wanted.

#[cfg(shuttle)]
mod alone;
#[cfg(shuttle)]
mod marks;
#[cfg(shuttle)]
mod run;
#[cfg(shuttle)]
mod whole;
#[cfg(shuttle)]
mod witness;
#[cfg(shuttle)]
mod worker;

#[cfg(shuttle)]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(shuttle))]
fn main() -> std::process::ExitCode {
    use std::io::Write;
    let how =
        "RUSTFLAGS='--cfg shuttle' cargo run -p marconi-schedules --target-dir target/shuttle";
    let _ = writeln!(std::io::stderr(), "built without a scheduler; build it so: {how}");
    std::process::ExitCode::FAILURE
}
