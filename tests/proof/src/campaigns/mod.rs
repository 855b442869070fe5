//! All campaigns, each in a file of its own that says what it tries and what it cannot see.

use crate::campaign::Campaign;

mod clock;
mod crash;
mod damage;
mod fuzz;
mod history;
mod io_faults;
mod kill;
mod model;
mod nested;
mod overload;
mod power;
mod raw;
mod schedules;
mod syncs;
mod tenants;

/// Every campaign, in the order the page has them.
pub const ALL: &[&Campaign] = &[
    &model::CAMPAIGN,
    &crash::CAMPAIGN,
    &nested::CAMPAIGN,
    &io_faults::CAMPAIGN,
    &damage::CAMPAIGN,
    &kill::CAMPAIGN,
    &power::CAMPAIGN,
    &history::CAMPAIGN,
    &schedules::CAMPAIGN,
    &syncs::CAMPAIGN,
    &clock::CAMPAIGN,
    &tenants::CAMPAIGN,
    &overload::CAMPAIGN,
    &raw::CAMPAIGN,
    &fuzz::CAMPAIGN,
];

/// A campaign by its name.
pub fn find(name: &str) -> Option<&'static Campaign> {
    ALL.iter().copied().find(|campaign| campaign.name == name)
}
