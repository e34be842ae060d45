//! The contract of `Transport`: mirrored in both modes, and against a peer that knows nothing of compression.

use tower_transport::{Channel, Message, channel, contract_tests, layer::compression::Compressed};

use super::{Deflate, Layer, chat, pair};

fn nth(i: usize) -> Message {
    match i % 3 {
        0 => Message::text(chat(i, 400 + i % 7)),
        1 => Message::binary(chat(i, 1000).into_bytes()),
        _ => Message::text(i.to_string()),
    }
}

fn tight(deflate: Deflate) -> (Compressed<Channel>, Compressed<Channel>) {
    let (here, there) = channel::<Message, Message>(1);
    let layer = super::CompressionLayer::new(deflate);
    (layer.layer(here), layer.layer(there))
}

fn over_a_plain_end() -> (Compressed<Channel>, Channel) {
    let (here, there) = channel::<Message, Message>(1);
    (super::CompressionLayer::new(Deflate::new().receive_only()).layer(here), there)
}

contract_tests!(mod mirrored, pair = tight(Deflate::new()), message = nth);
contract_tests!(mod mirrored_with_kept_context, pair = tight(Deflate::new().keep_context()), message = nth);
contract_tests!(mod with_room, pair = pair(Deflate::new(), Deflate::new().receive_only()), message = nth);
contract_tests!(mod against_a_plain_end, pair = over_a_plain_end(), message = nth);
