//! TO BE WRITTEN: rate_limit.
