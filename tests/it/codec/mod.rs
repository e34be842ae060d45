//! The promises of the codecs, on any bytes that a peer may send.

mod binary;
mod hybrid;
mod json;
mod rkyv;
mod seeds;
mod value;
