//! Pings and pongs as messages. Pure: no I/O.

use bytes::Bytes;

use crate::{
    Message,
    message::trailer::{self, Layer, Opened},
};

/// The payload of a ping: four bytes that identify its pong, and a number.
pub(super) type Payload = [u8; 8];

const OURS: [u8; 4] = *b"ttxh";

/// The kinds of mark.
const PING: u8 = 1;
const PONG: u8 = 2;

/// Returns the payload of the ping of this number.
pub(super) fn payload(number: u32) -> Payload {
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&OURS);
    payload[4..].copy_from_slice(&number.to_be_bytes());
    payload
}

/// The form of pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As [`Message::Ping`].
    Control,
    /// As a marked binary message.
    Binary,
}

/// Returns a ping with this payload.
pub(super) fn ping(form: Form, payload: Payload) -> Message {
    match form {
        Form::Control => Message::Ping(Bytes::copy_from_slice(&payload)),
        Form::Binary => Message::Binary(trailer::append(&payload, Layer::Heartbeat, PING)),
    }
}

/// Returns the answer to a marked ping.
pub(super) fn pong(payload: Payload) -> Message {
    Message::Binary(trailer::append(&payload, Layer::Heartbeat, PONG))
}

/// Returns false if a message, of either direction, only passes. Takes a reference, because moving a message costs as
/// much as the rest of the layer. Without `has_marks`, every binary message passes.
#[inline]
pub(super) fn concerns(message: &Message, has_marks: bool) -> bool {
    match message {
        Message::Text(_) => false,
        Message::Binary(payload) => has_marks && trailer::kind(Layer::Heartbeat, payload).is_some(),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => true,
    }
}

/// Escapes a message of the user, so that the peer does not take it for a ping or pong.
pub(super) fn close(message: Message) -> Message {
    trailer::close(Layer::Heartbeat, message)
}

/// The classification of an incoming message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A message for the user, as the peer's user sent it.
    Message(Message),
    /// A marked ping, to be answered.
    Ping(Payload),
    /// The answer to a ping of this payload.
    Pong(Payload),
    /// A message with an unknown kind of mark, or with an invalid body.
    Malformed(u8),
}

pub(super) fn open(message: Message) -> Received {
    match message {
        Message::Pong(payload) => match <Payload>::try_from(&payload[..]) {
            Ok(payload) if payload.starts_with(&OURS) => Received::Pong(payload),
            _ => Received::Message(Message::Pong(payload)),
        },
        Message::Binary(_) => match trailer::open(Layer::Heartbeat, message) {
            Opened::Plain(message) => Received::Message(message),
            Opened::Marked(kind, body) => match (kind, <Payload>::try_from(&body[..])) {
                (PING, Ok(payload)) => Received::Ping(payload),
                (PONG, Ok(payload)) => Received::Pong(payload),
                _ => Received::Malformed(kind),
            },
        },
        message => Received::Message(message),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_documentation() {
        let bytes = ping(Form::Binary, payload(258)).into_bytes();
        assert_eq!(&bytes[..], b"ttxh\0\0\x01\x02\x01\x04\xf8ttx\x01\xff");
        let bytes = pong(payload(258)).into_bytes();
        assert_eq!(&bytes[..], b"ttxh\0\0\x01\x02\x02\x04\xf8ttx\x01\xff");
        assert_eq!(ping(Form::Control, payload(1)), Message::Ping("ttxh\0\0\0\x01".into()));
    }

    #[test]
    fn pongs_of_others_are_the_users() {
        for theirs in ["", "ttx", "ttxh\0\0\0", "ttxh\0\0\0\0\0", "ping0001"] {
            let pong = Message::Pong(theirs.into());
            assert_eq!(open(pong.clone()), Received::Message(pong));
        }
    }

    proptest! {
        #[test]
        fn what_was_closed_opens_as_it_was(bytes: Vec<u8>, mark in 0..4u8, text: String) {
            // Some that end like messages of ours.
            let bytes = match mark {
                0 => bytes.into(),
                kind => trailer::append(&bytes, Layer::Heartbeat, kind - 1),
            };
            for message in [Message::Binary(bytes), Message::text(text)] {
                prop_assert_eq!(open(close(message.clone())), Received::Message(message));
            }
        }

        #[test]
        fn a_ping_of_any_payload_is_known(payload: Payload) {
            prop_assert_eq!(open(ping(Form::Binary, payload)), Received::Ping(payload));
            prop_assert_eq!(open(pong(payload)), Received::Pong(payload));
        }

        #[test]
        fn a_mark_with_another_body_or_kind_is_malformed(body: Vec<u8>, kind in 1..=255u8) {
            prop_assume!(body.len() != 8 || kind > PONG);
            let marked = Message::Binary(trailer::append(&body, Layer::Heartbeat, kind));
            prop_assert_eq!(open(marked), Received::Malformed(kind));
        }
    }
}
