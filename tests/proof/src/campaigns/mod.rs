//! All campaigns, each in a file of its own that says what it tries and what it cannot see.

use crate::campaign::Campaign;

mod clock;
mod crash;
mod damage;
mod full_disk;
mod fuzz;
mod history;
mod io_faults;
mod kill;
mod model;
mod nested;
mod overload;
mod planted;
mod power;
mod raw;
mod schedules;
pub mod soak;
mod syncs;
mod tenants;

/// Every campaign, in the order the page has them.
pub const ALL: &[&Campaign] = &[
    &model::CAMPAIGN,
    &crash::CAMPAIGN,
    &nested::CAMPAIGN,
    &io_faults::CAMPAIGN,
    &full_disk::CAMPAIGN,
    &damage::CAMPAIGN,
    &kill::CAMPAIGN,
    &power::CAMPAIGN,
    &history::CAMPAIGN,
    &schedules::CAMPAIGN,
    &syncs::CAMPAIGN,
    &planted::CAMPAIGN,
    &clock::CAMPAIGN,
    &tenants::CAMPAIGN,
    &overload::CAMPAIGN,
    &raw::CAMPAIGN,
    &soak::CAMPAIGN,
    &fuzz::CAMPAIGN,
];

/// A campaign by its name.
pub fn find(name: &str) -> Option<&'static Campaign> {
    ALL.iter().copied().find(|campaign| campaign.name == name)
}
