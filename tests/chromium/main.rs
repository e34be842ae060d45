//! A real browser against our servers: Chromium, headless, runs the scripts of `pages/` on pages that the tests serve.
//!
//! `tests/install` brings it where apt-get has it; where there is none, or `TOWER_TRANSPORT_NO_PEERS` is set, the tests
//! are passed over, with a line that says so.

use support::feed;

mod browser;
mod event_source;
mod site;
mod sse_duplex;
mod websocket;
mod webtransport;
