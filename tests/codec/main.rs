//! What the codecs promise, on any bytes that a peer may send.
#![cfg(feature = "hybrid")]

mod hybrid;
mod json;
mod rkyv;
mod seeds;
mod value;
