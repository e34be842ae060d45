//! The atomics and mutexes of the hand-written synchronization between tasks: std's, or loom's in model checking.
//!
//! `tests/run loom` builds the library with `--cfg model` and explores every interleaving of each protocol. The cfg is
//! not called `loom`, because tokio would then leave out its sockets.

#[cfg(all(model, feature = "service"))]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(all(not(model), feature = "service"))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(model)]
pub(crate) use loom::sync::atomic;
#[cfg(not(model))]
pub(crate) use std::sync::atomic;
