//! Peers of a WebTransport endpoint that make it hold memory, or wait for them. QUIC itself is quinn's: these tests
//! show that its bounds are set, and that this crate adds nothing unbounded. Each test is alone on its thread, whose
//! memory is measured.
//!
//! quinn has to withstand everything that a correct client cannot send: gaps in streams (its assembler keeps no more
//! than the window, and copies chunks that pin too much memory), forged acknowledgements, packets of other versions.

mod datagrams;
mod handshakes;
mod peer;
mod streams;
