//! The contract of `Transport`, in both directions.

use tower_transport::{Message, contract_tests};

use super::pair;

fn large(i: usize) -> Message {
    Message::binary(vec![i as u8; 64 * 1024])
}

fn small(i: usize) -> Message {
    Message::text(format!("message {i}\n{}", "of two lines ".repeat(20)))
}

contract_tests!(mod large_messages, pair = pair().await, message = large, room = 1_000, on = tokio);
contract_tests!(mod small_messages, pair = pair().await, message = small, room = 100_000, on = tokio);
