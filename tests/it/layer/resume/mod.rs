//! Sessions that outlive connections: see each file for what it shows.

mod attacks;
mod client;
mod contract;
mod cut;
mod flow;
mod refused;
mod server;
mod support;
