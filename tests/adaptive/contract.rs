//! The contract of `Transport`, over each of the three that it may be.

use tower::ServiceExt;
use tower_transport::{
    Message, contract_tests,
    stack::adaptive::{AdaptiveTransport, TransportKind},
};

use super::drill::World;

fn large(i: usize) -> Message {
    Message::binary(vec![i as u8; 64 * 1024])
}
