//! A real browser against our servers: Chromium, headless, runs the scripts of `pages/` on pages that the tests serve.
//!
//! `tests/install` installs it with apt-get. Without it, or with `TOWER_TRANSPORT_NO_PEERS`, the tests are skipped,
//! with a line that says so.

use support::feed;

mod browser;
mod event_source;
mod http2;
mod site;
mod sse_duplex;
mod websocket;
mod webtransport;
