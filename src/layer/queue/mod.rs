//! TO BE WRITTEN: queue.
