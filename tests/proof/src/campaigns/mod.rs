//! All campaigns, each in a file of its own that says what it tries and what it cannot see.

use crate::campaign::Campaign;

mod kill;
mod model;
mod power;

/// Every campaign, in the order the page has them.
pub const ALL: &[&Campaign] = &[&model::CAMPAIGN, &kill::CAMPAIGN, &power::CAMPAIGN];

/// A campaign by its name.
pub fn find(name: &str) -> Option<&'static Campaign> {
    ALL.iter().copied().find(|campaign| campaign.name == name)
}
