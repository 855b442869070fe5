//! An asynchronous client of the Marconi v1 queue API.
