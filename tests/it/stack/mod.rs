//! The ready-made stacks, over channels on a paused clock and over real sockets.

mod context;
mod drain;
mod metrics;
mod optimized;
mod pool;
mod sessions;
mod settings;
mod strangers;
