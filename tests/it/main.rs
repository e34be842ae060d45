//! The layers, the stacks and the bridges: over channels and scripted transports, poll by poll, on the paused clock.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Also in what the tests share.

use support::{proxy, serve};

mod byte_stream;
mod channel;
mod codec;
mod composition;
mod drive;
mod extremes;
mod foreign;
mod layer;
mod locks;
mod mixed;
mod resume;
mod service;
mod stack;
mod test_util;
mod topic;
