//! TO BE WRITTEN: batch.
