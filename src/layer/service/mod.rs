//! TO BE WRITTEN: service.
