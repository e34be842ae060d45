//! Peers of a WebTransport endpoint that want it to hold memory, or to wait for them. QUIC itself is quinn's: what is
//! shown here is that its bounds are set, and that nothing unbounded of ours stands beside them. Each test is alone on
//! its thread, which is what is measured.
//!
//! What no well-built client can send is quinn's to withstand: gaps in streams (its assembler keeps no more than the
//! window, and copies what pins too much memory), forged acknowledgements, packets of other versions.

mod datagrams;
mod handshakes;
mod peer;
mod streams;
