//! The ready-made stacks, over channels on a paused clock and over real sockets.

mod context;
mod optimized;
mod pool;
#[path = "../serve/mod.rs"]
mod serve;
mod settings;
mod strangers;
