//! Peers that break the rules, on a real socket: each gets a clear error and an end, and costs bounded memory.

use support::serve;

mod allocator;
mod attack;
mod auth;
mod batch;
mod broadcast;
mod compression;
mod deflate;
mod endings;
mod flood;
mod frames;
mod heads;
mod heartbeat;
mod http2;
mod keys;
mod memory;
mod peer;
mod proxies;
mod queue;
mod requests;
mod responses;
mod resume;
mod slow;
mod sse;
mod sse_duplex;
mod sse_server;
mod unfinished;
mod webtransport;
mod wire;

use support::within;
