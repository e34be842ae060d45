//! The contract of `Transport`.

use std::time::Duration;

use tower::Layer;
use tower_transport::{
    Channel, Message, channel, contract_tests,
    layer::batch::{BatchLayer, BatchPolicy, Batched},
};

fn mirrored(policy: BatchPolicy, capacity: usize) -> (Batched<Channel>, Batched<Channel>) {
    let (here, there) = channel(capacity);
    let layer = BatchLayer::new(policy);
    (layer.layer(here), layer.layer(there))
}

/// The peer knows nothing of batches.
fn bare(layer: &BatchLayer) -> (Batched<Channel>, Channel) {
    let (here, there) = channel(1);
    (layer.layer(here), there)
}

fn nth(i: usize) -> Message {
    match i % 3 {
        0 => Message::text(i.to_string()),
        1 => Message::binary(i.to_le_bytes().to_vec()),
        // Larger than a batch where that is small.
        _ => Message::binary(vec![i as u8; 40 + i % 7]),
    }
}

contract_tests!(mod by_default, pair = mirrored(BatchPolicy::default(), 1), message = nth, on = paused_tokio);
contract_tests!(mod in_threes, pair = mirrored(BatchPolicy::new(3, Duration::from_millis(2)), 4), message = nth, on = paused_tokio);
contract_tests!(
    mod by_bytes,
    pair = mirrored(BatchPolicy::new(64, Duration::from_millis(2)).max_bytes(30), 1),
    message = nth,
    on = paused_tokio
);
contract_tests!(mod without_a_delay, pair = mirrored(BatchPolicy::new(64, Duration::ZERO), 1), message = nth, on = paused_tokio);
contract_tests!(mod without_a_timer, pair = mirrored(BatchPolicy::on_flush(64), 1), message = nth);
contract_tests!(mod one_by_one_to_a_bare_end, pair = bare(&BatchLayer::new(BatchPolicy::on_flush(1))), message = nth);
contract_tests!(mod receive_only_to_a_bare_end, pair = bare(&BatchLayer::receive_only()), message = nth);
