//! The engine whole in a simulated world: disk and clock are simulated, the background is the caller, and one thread
//! is all there is, so that one seed decides everything. Knows what a client may expect of what it asked for, and
//! nothing of how the engine keeps it.

pub mod life;
pub mod plan;
pub mod record;
pub mod world;
