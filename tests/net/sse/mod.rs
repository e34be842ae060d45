//! Server-sent events: the parser and the writer, and what speaks HTTP with them.

mod browser;
mod client;
mod differential;
mod duplex;
mod round_trip;
mod server;
mod streams;
