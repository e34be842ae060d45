//! TO BE WRITTEN: trace.
