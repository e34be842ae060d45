//! TO BE WRITTEN: cache.
