//! The first byte chooses the alignment, the rest is an archive from a peer: a view that can be read in full, or an
//! error.
#![no_main]

mod value;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tower_transport::{
    Message,
    codec::{Codec, RkyvCodec},
};
use value::Order;

fuzz_target!(|input: &[u8]| {
    let Some((offset, payload)) = input.split_first() else { return };
    let mut room = vec![0; payload.len() + 32];
    let start = room.as_ptr().addr().wrapping_neg() % 16 + usize::from(offset % 16);
    room[start..start + payload.len()].copy_from_slice(payload);
    let bytes = Bytes::from(room).slice(start..start + payload.len());

    match RkyvCodec::<Order>::views().decode(Message::Binary(bytes)) {
        Ok(view) => {
            let order = view.to_owned().expect("a valid archive gives a value");
            assert!(*view == order);
            assert!(!format!("{view:?}").is_empty());
        }
        Err(error) => assert!(error.is_codec()),
    }
});
