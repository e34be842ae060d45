//! Server-sent events: the parser and the writer, and what speaks HTTP with them.

mod duplex;
