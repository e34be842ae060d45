//! Peers that others wrote, in both roles: Node.js `ws` over HTTP/1.1 and HTTP/2, Python `websockets`, axum's own WebSocket, tokio-tungstenite;
//! our server is hyper with our upgrade. Of event streams: Node.js `eventsource` and `undici`, Python `httpx-sse`, and
//! a server of Node.js `http`. And proxies in between: nginx, HAProxy and Envoy, and on the way out microsocks and
//! tinyproxy; and tonic, rumqttc and mosquitto, which know byte streams only, over a session. Of JSON-RPC: those that
//! `json_rpc` names.
//!
//! `tests/install` brings the peers that are not Rust; `TOWER_TRANSPORT_NO_PEERS=1` passes over them.

use support::{feed, serve};

mod axum_server;
mod deflate;
mod event_source;
mod event_stream;
mod foreign;
mod http2;
mod json_rpc;
mod our_client;
mod our_server;
mod process;
mod proxies;
mod sse_duplex;
mod tungstenite_client;
mod tunnel;
mod way_out;

use support::within;

/// The largest message that both ends accept, in bytes.
const LIMIT: usize = 256 * 1024;
