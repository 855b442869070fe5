//! The program `marconi` as people and scripts run it: the real binary, real folders, real servers.

mod log;
mod run;
