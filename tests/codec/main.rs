//! What the codecs promise, on any bytes that a peer may send.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(feature = "hybrid")]

mod hybrid;
mod json;
mod rkyv;
mod seeds;
mod value;
