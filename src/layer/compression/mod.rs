//! TO BE WRITTEN: compression.
