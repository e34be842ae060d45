//! The lowest bit of the first byte chooses MessagePack or CBOR, the rest is the payload: a value that survives a round
//! trip, or an error.
#![no_main]

mod value;

use libfuzzer_sys::fuzz_target;
use tower_transport::{
    Message,
    codec::{CborCodec, Codec, MessagePackCodec},
};
use value::Order;

fn check(mut codec: impl Codec<Out = Order, In = Order>, payload: &[u8]) {
    match codec.decode(Message::binary(payload.to_vec())) {
        Ok(order) => {
            let again = codec.encode(&order).expect("an order has both forms");
            assert_eq!(codec.decode(again).expect("what was encoded is valid"), order);
        }
        Err(error) => assert!(error.is_codec()),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, payload)) = input.split_first() else { return };
    match kind & 1 {
        0 => check(MessagePackCodec::new(), payload),
        _ => check(CborCodec::new(), payload),
    }
});
