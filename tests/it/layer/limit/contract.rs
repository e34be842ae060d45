//! The layer over one end, and the bare channel at the other: it adds nothing to the wire.

use std::num::NonZeroUsize;

use super::*;
use tower_transport::contract_tests;

fn text(number: usize) -> Message {
    Message::text(number.to_string())
}

fn timed() -> LimitLayer {
    LimitLayer::new().idle_timeout(seconds(3600)).lifetime(seconds(86_400)).max_in_flight(NonZeroUsize::new(3).unwrap())
}

contract_tests!(mod sizes, pair = pair(LimitLayer::new(), 1), message = text);
contract_tests!(mod times, pair = pair(timed(), 1), message = text, on = paused_tokio);
