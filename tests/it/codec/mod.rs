//! The promises of the codecs, on any bytes that a peer may send.

mod hybrid;
mod json;
mod rkyv;
mod seeds;
mod value;
