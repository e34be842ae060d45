//! The atomics and mutexes of the hand-made protocols between tasks: std's, and loom's where they are model-checked.
//!
//! `tests/run loom` builds the library with `--cfg model` and runs each protocol through every order of its steps. The cfg is not called
//! `loom`, since tokio would then leave out its sockets.

#[cfg(model)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(model))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
