//! WebTransport, both ends, over real UDP sockets.

use crate::raw_webtransport as raw;

mod close;
mod connect;
mod contract;
mod frames;
mod migration;
mod peers;
mod progress;
mod server;
mod stacks;
mod stats;
mod streams;
pub(crate) mod support;
mod uni;
mod wire;
