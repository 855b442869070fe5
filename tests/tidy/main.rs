//! The tree in order: house rules, arrows between modules, and pages that say what the code does.

mod arrows;
mod format;
mod page;
mod pages;
mod rules;
mod tree;
