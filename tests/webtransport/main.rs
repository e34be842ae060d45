//! WebTransport, both ends, over real UDP sockets.

mod contract;
mod frames;
mod migration;
mod peers;
mod streams;
mod support;
