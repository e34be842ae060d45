//! The contract of `Transport`, over a stream of a session.

use tower_transport::{Message, contract_tests};

use crate::webtransport::support::streams;

fn large(i: usize) -> Message {
    Message::binary(vec![i as u8; 64 * 1024])
}

contract_tests!(mod bidirectional, pair = streams().await, message = large, room = 1_000, on = tokio);
