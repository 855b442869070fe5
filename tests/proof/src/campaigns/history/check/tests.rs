//! For each kind of violation a history that shows it, and one beside it that may have been right.
