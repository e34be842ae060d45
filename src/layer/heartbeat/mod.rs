//! TO BE WRITTEN: heartbeat.
