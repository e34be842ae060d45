//! One stack over whichever transport there is: over real sockets, with a network between that gets worse.

mod checker;
mod contract;
mod drill;
mod fallback;
mod network;
mod secure;
mod server;
mod world;

use support::within;
