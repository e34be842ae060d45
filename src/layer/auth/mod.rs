//! TO BE WRITTEN: auth.
