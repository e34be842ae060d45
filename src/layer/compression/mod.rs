//! TO BE WRITTEN: compression.

mod deflate;
mod end;
mod incoming;
mod layer;
mod level;
mod outgoing;
mod per_thread;
mod stats;
mod transport;
mod wire;

pub use self::{
    deflate::Deflate,
    layer::CompressionLayer,
    level::Level,
    stats::{Stats, Volume},
    transport::Compressed,
};
