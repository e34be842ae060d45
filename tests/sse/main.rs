//! Server-sent events: the parser and the writer, and what speaks HTTP with them.

mod browser;
mod differential;
mod round_trip;
mod streams;
mod server;
