//! `SessionServer`: one handler for the sessions of all three transports.

use crate::raw_webtransport as raw;

mod closing;
mod guards;
mod house;
mod limits;
mod sessions;

use tower_transport::stack::TransportKind;

use TransportKind::{Sse, WebSocket, WebTransport};
use support::within;
