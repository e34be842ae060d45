//! The ready-made stacks, over channels on a paused clock and over real sockets.

mod pool;
