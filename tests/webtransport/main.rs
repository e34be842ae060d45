//! WebTransport, both ends, over real UDP sockets.

mod contract;
mod streams;
mod support;
