//! One handler, one client, three transports.

mod server;
