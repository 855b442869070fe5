//! Measures what each durability mode costs, and compares the measurements.
