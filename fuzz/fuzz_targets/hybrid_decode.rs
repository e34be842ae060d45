//! The lowest bit of the first byte chooses text or binary, the rest is the payload: a value that survives a round trip
//! in both formats, or an error.
#![no_main]

mod value;

use libfuzzer_sys::fuzz_target;
use tower_transport::{
    Message,
    codec::{Codec, Format, HybridCodec},
};
use value::Order;

fuzz_target!(|input: &[u8]| {
    let Some((kind, payload)) = input.split_first() else { return };
    let message = if kind & 1 == 0 {
        Message::binary(payload.to_vec())
    } else {
        let Ok(text) = std::str::from_utf8(payload) else { return };
        Message::text(text)
    };
    match HybridCodec::<Order>::mirror(Format::Rkyv).decode(message) {
        Ok(order) => {
            for format in [Format::Json, Format::Rkyv] {
                let mut codec = HybridCodec::<Order>::always(format);
                let again = codec.encode(&order).expect("an order has both forms");
                assert_eq!(codec.decode(again).expect("what was encoded is valid"), order);
            }
        }
        Err(error) => assert!(error.is_codec()),
    }
});
