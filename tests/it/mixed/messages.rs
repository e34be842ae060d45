//! The messages that are sent: of all kinds, some of which end like a mark of a layer.

use std::fmt;

use proptest::{collection::vec, prelude::*};
use tower_transport::Message;

const MAGIC: [u8; 6] = [0xf8, b't', b't', b'x', 1, 0xff];

/// Bytes that a layer might take for its own.
fn marked() -> impl Strategy<Value = Vec<u8>> {
    let mark = (0..6u8, 0..9u8).prop_map(|(kind, layer)| [&[kind, layer][..], &MAGIC].concat());
    let body = prop_oneof![
        vec(any::<u8>(), 0..40),
        // The bytes before the marks of a batch, a compressed message and a ping of the application.
        Just(b"ab\x09\x05\x02\x02\0\0\0".to_vec()),
        Just(b"\x4b\x04\0\x01\0\0\0".to_vec()),
        Just(b"ttxh\0\0\0\x07".to_vec()),
        Just(b"ttxh\0\0\0\x01".to_vec()),
    ];
    (body, vec(mark, 1..4)).prop_map(|(body, marks)| [body, marks.concat()].concat())
}

/// Compressible, and of no round size.
fn repeated(length: usize) -> String {
    "so it goes, {\"price\":101.25} ".chars().cycle().take(length).collect()
}

/// Does not shrink.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = seed | 1;
    let next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A message that a failed case can be printed with.
#[derive(Clone, PartialEq)]
pub(crate) struct Said(pub(crate) Message);

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            message if message.len() > 60 => {
                write!(f, "{} bytes, text: {}", message.len(), message.as_text().is_some())
            }
            message => write!(f, "{message:?}"),
        }
    }
}

pub(crate) fn message() -> impl Strategy<Value = Said> {
    let message = prop_oneof![
        4 => "\\PC{0,24}".prop_map(Message::text),
        3 => vec(any::<u8>(), 0..40).prop_map(Message::binary),
        1 => any::<bool>().prop_map(|text| if text { Message::text("") } else { Message::binary(&b""[..]) }),
        3 => marked().prop_map(Message::binary),
        2 => (0..4_000usize).prop_map(|length| Message::text(repeated(length))),
        1 => (0..70_000usize, any::<bool>(), any::<u64>()).prop_map(|(length, shrinks, seed)| {
            if shrinks { Message::text(repeated(length)) } else { Message::binary(noise(length, seed)) }
        }),
    ];
    message.prop_map(Said)
}
