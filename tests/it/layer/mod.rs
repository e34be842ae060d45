//! What each layer promises, poll by poll.
mod auth;
mod batch;
mod cache;
mod codec;
mod compression;
mod contract;
mod custom_heartbeat;
mod heartbeat;
mod limit;
mod per_connection;
mod progress;
mod queue;
mod rate_limit;
mod reconnect;
mod resume;
mod service;
mod trace;
