//! TO BE WRITTEN: limit.
