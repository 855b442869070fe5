//! What the real program does under abuse: clients that are slow, wrong, too many or gone; signals;
//! a full disk. Each test starts a server of its own, and nothing is slept for.

mod disk;
mod life;
mod load;
mod malformed;
mod protocols;
mod slow;
