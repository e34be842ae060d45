//! The transports, over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Also in what the tests share.

use support::{proxy, raw_webtransport, serve};

mod adaptive;
mod byte_stream;
mod calls;
mod contract;
mod dial;
mod doors;
mod extremes;
mod handshake;
mod http_layers;
mod idle;
mod peer;
mod peer_under_fire;
mod proxies;
mod resume;
mod sse;
#[path = "../suite/mod.rs"]
mod suite;
mod transports;
mod websocket;
mod webtransport;
