//! TO BE WRITTEN: reconnect.
