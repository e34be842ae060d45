//! A byte stream with LSP's framing, whole and in pieces. Both ways give the same messages and the same verdict, and a
//! message that was read is written and read again unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokio_util::{
    bytes::BytesMut,
    codec::{Decoder, Encoder},
};
use tower_transport::{Message, service::peer::json_rpc::ContentLength};

fn codec() -> ContentLength {
    ContentLength::new().max_message(1000)
}

/// Returns the messages in `input`, which comes in pieces of `size` bytes, and whether an error ends it.
fn read(input: &[u8], size: usize) -> (Vec<Message>, bool) {
    let (mut codec, mut bytes, mut messages) = (codec(), BytesMut::new(), Vec::new());
    for piece in input.chunks(size) {
        bytes.extend_from_slice(piece);
        loop {
            match codec.decode(&mut bytes) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, false)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, input) = (usize::from(input.0).max(1), input.1);
    let whole = read(input, input.len().max(1));
    assert_eq!(read(input, size), whole);
    let mut written = BytesMut::new();
    for message in &whole.0 {
        codec().encode(message.clone(), &mut written).expect("it is within the limit");
    }
    assert_eq!(read(&written, size), (whole.0, false));
});
