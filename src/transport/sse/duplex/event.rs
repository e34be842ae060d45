//! Messages as events, the form in which they are sent down. Pure; `docs/wire.md` has the format.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr;

use crate::{
    CloseCode, CloseFrame, Error, Message, Text,
    transport::sse::{Event, encode},
};

/// The first event of a session, whose data is the token.
pub(super) const SESSION: &str = "session";

const TEXT64: &str = "text64";
const BINARY: &str = "binary";
const PING: &str = "ping";
const PONG: &str = "pong";
const CLOSE: &str = "close";
const CLOSE64: &str = "close64";

/// The maximum payload of a control message, in bytes, as in WebSocket (RFC 6455, section 5.5).
const MAX_CONTROL: usize = 125;

/// Returns the maximum data size of an event that carries a message of `limit` bytes.
pub(super) const fn max_data(limit: usize) -> usize {
    // Base64 encodes 3 bytes as 4; a close also has its code.
    let limit = if limit < MAX_CONTROL { MAX_CONTROL } else { limit };
    (limit / 3 + 1).saturating_mul(4).saturating_add(8)
}

/// Appends `message` as one event.
pub(super) fn encode(message: &Message, into: &mut BytesMut) {
    match message {
        Message::Text(text) if is_lines(text) => encode::event(None, None, None, text, into),
        Message::Text(text) => base64(TEXT64, "", text.as_bytes(), into),
        Message::Binary(payload) => base64(BINARY, "", payload, into),
        Message::Ping(payload) => base64(PING, "", payload, into),
        Message::Pong(payload) => base64(PONG, "", payload, into),
        Message::Close(None) => encode::event(Some(CLOSE), None, None, "", into),
        Message::Close(Some(frame)) if is_lines(frame.reason()) => {
            encode::event(Some(CLOSE), None, None, &format!("{} {}", frame.code(), frame.reason()), into);
        }
        Message::Close(Some(frame)) => {
            base64(CLOSE64, &format!("{} ", frame.code()), frame.reason().as_bytes(), into);
        }
    }
}

/// Returns whether all line ends are LF, the only one that passes through an event unchanged.
fn is_lines(text: &str) -> bool {
    memchr(b'\r', text.as_bytes()).is_none()
}

/// `name` and `before` are on one line. The payload is encoded in place, so a binary message allocates only the
/// buffer's memory.
fn base64(name: &str, before: &str, payload: &[u8], into: &mut BytesMut) {
    let length = payload.len().div_ceil(3).saturating_mul(4);
    into.reserve(length + name.len() + before.len() + 32);
    into.put_slice(b"event: ");
    into.put_slice(name.as_bytes());
    into.put_slice(b"\ndata: ");
    into.put_slice(before.as_bytes());
    let start = into.len();
    into.resize(start + length, 0);
    let room = into.get_mut(start..).unwrap_or_default();
    let written = STANDARD.encode_slice(payload, room).unwrap_or_default();
    into.truncate(start + written);
    into.put_slice(b"\n\n");
}

/// Decodes the message in an event.
///
/// # Errors
///
/// Returns an error for a message over `limit`, an unknown event type, and data that does not match its type.
pub(super) fn decode(event: Event, limit: usize) -> Result<Message, Error> {
    let message = match event.event_type() {
        "message" => Message::Text(event.into_data()),
        TEXT64 => Message::Text(text(unbase64(event.data())?)?),
        BINARY => Message::Binary(unbase64(event.data())?),
        PING => Message::Ping(control(unbase64(event.data())?)?),
        PONG => Message::Pong(control(unbase64(event.data())?)?),
        CLOSE => Message::Close(close(event.data(), |reason| Ok(reason.into()))?),
        CLOSE64 => Message::Close(close(event.data(), |reason| text(unbase64(reason)?))?),
        other => {
            return Err(Error::protocol(format!(
                "an event of the type `{}`, which is not part of this protocol",
                other.chars().take(40).collect::<String>().escape_debug()
            )));
        }
    };
    // The event's own limit is that of base64, so a message that was sent as plain text may still be too large.
    if message.is_data() && message.len() > limit {
        return Err(Error::too_large(format!(
            "an incoming message of {} bytes is over the limit of {limit} (Limits::message)",
            message.len()
        )));
    }
    Ok(message)
}

fn unbase64(data: &str) -> Result<Bytes, Error> {
    let payload = STANDARD.decode(data).map_err(|error| {
        Error::protocol("the data of an event is not base64, as its type requires").with_source(error)
    })?;
    Ok(payload.into())
}

fn text(payload: Bytes) -> Result<Text, Error> {
    Text::try_from(payload).map_err(|error| Error::protocol("a text message is not UTF-8").with_source(error))
}

fn control(payload: Bytes) -> Result<Bytes, Error> {
    if payload.len() > MAX_CONTROL {
        return Err(Error::protocol(format!("a control message of {} bytes is over {MAX_CONTROL}", payload.len())));
    }
    Ok(payload)
}

/// Parses `CODE REASON`, `CODE`, or nothing.
fn close(data: &str, reason: impl Fn(&str) -> Result<Text, Error>) -> Result<Option<CloseFrame>, Error> {
    if data.is_empty() {
        return Ok(None);
    }
    let (code, rest) = data.split_once(' ').unwrap_or((data, ""));
    let digits = code.len() == 4 && code.bytes().all(|byte| byte.is_ascii_digit());
    let Some(number) = code.parse().ok().filter(|_| digits) else {
        return Err(Error::protocol("a close without a code of four digits"));
    };
    let Some(code) = CloseCode::new(number) else {
        return Err(Error::protocol(format!("the peer closed with code {number}, which must not be sent")));
    };
    let reason = reason(rest)?;
    if reason.len() > CloseFrame::MAX_REASON {
        return Err(Error::protocol(format!("the reason of a close is over {} bytes", CloseFrame::MAX_REASON)));
    }
    Ok(Some(CloseFrame::new(code, reason)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::sse::Parser;

    const LIMIT: usize = 1 << 20;

    fn written(messages: &[Message]) -> BytesMut {
        let mut bytes = BytesMut::new();
        messages.iter().for_each(|message| encode(message, &mut bytes));
        bytes
    }

    fn read(bytes: impl Into<Bytes>, piece: usize) -> Result<Vec<Message>, Error> {
        let mut parser = Parser::new().max_event(max_data(LIMIT));
        let mut messages = Vec::new();
        for piece in bytes.into().chunks(piece) {
            parser.push(Bytes::copy_from_slice(piece));
            while let Some(event) = parser.next_event()? {
                messages.push(decode(event, LIMIT)?);
            }
        }
        Ok(messages)
    }

    fn one(event: &str) -> Result<Message, Error> {
        Ok(read(event.to_owned(), usize::MAX)?.remove(0))
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let text = proptest::collection::vec(
            prop_oneof![Just('\r'), Just('\n'), Just('\0'), Just(' '), Just('\u{feff}'), any::<char>()],
            0..40,
        );
        let text = text.prop_map(|chars| chars.into_iter().collect::<String>());
        let code = (1000u16..5000).prop_filter_map("a code that may be sent", CloseCode::new);
        prop_oneof![
            text.clone().prop_map(Message::text),
            any::<Vec<u8>>().prop_map(Message::binary),
            proptest::collection::vec(any::<u8>(), 0..=125).prop_map(|payload| Message::Ping(payload.into())),
            proptest::collection::vec(any::<u8>(), 0..=125).prop_map(|payload| Message::Pong(payload.into())),
            (code, text).prop_map(|(code, reason)| Message::Close(Some(CloseFrame::new(code, reason)))),
            Just(Message::Close(None)),
        ]
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_the_stream_is_cut(
            messages in proptest::collection::vec(any_message(), 0..6),
            piece in 1usize..50,
        ) {
            prop_assert_eq!(read(written(&messages), piece).unwrap(), messages);
        }

        #[test]
        fn any_stream_gives_messages_or_an_error(bytes in any::<Vec<u8>>(), piece in 1usize..50) {
            let _ = read(bytes, piece);
        }

        #[test]
        fn any_event_gives_a_message_or_an_error(
            name in "[a-z0-9]{0,8}|text64|binary|ping|pong|close|close64",
            data in ".*",
        ) {
            let _ = decode(Event::new(data).event(&name).unwrap(), LIMIT);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_wire_page() {
        let close = CloseFrame::new(CloseCode::AWAY, "until tomorrow");
        let messages = [
            Message::text("two\nlines"),
            Message::text("a\rb"),
            Message::binary(&b"\x00\xff"[..]),
            Message::Ping(Bytes::from_static(b"ab")),
            Message::Close(Some(close)),
        ];
        let expected = "data: two\ndata: lines\n\nevent: text64\ndata: YQ1i\n\nevent: binary\ndata: AP8=\n\n\
                        event: ping\ndata: YWI=\n\nevent: close\ndata: 1001 until tomorrow\n\n";
        assert_eq!(std::str::from_utf8(&written(&messages)).unwrap(), expected);
    }

    #[test]
    fn what_an_event_may_not_be_is_a_broken_protocol() {
        for event in [
            "event: blob\ndata: a\n\n",
            "event: binary\ndata: a\n\n",
            "event: binary\ndata: AA\n\n",
            "event: text64\ndata: /w==\n\n",
            "event: close\ndata: 1005\n\n",
            "event: close\ndata: +100\n\n",
            "event: close\ndata: why\n\n",
            &format!("event: ping\ndata: {}\n\n", STANDARD.encode([0; 126])),
            &format!("event: close\ndata: 1000 {}\n\n", "x".repeat(124)),
        ] {
            assert!(one(event).unwrap_err().is_protocol(), "{event}");
        }
    }

    #[test]
    fn a_close_code_that_may_not_be_sent_is_named() {
        for code in ["1004", "1005", "1006", "1015", "1016", "2999", "5000"] {
            let error = one(&format!("event: close\ndata: {code} bye\n\n")).unwrap_err();
            assert!(error.is_protocol() && error.to_string().contains(code), "{error}");
        }
        let error = one(&format!("event: close\ndata: {}\n\n", "9".repeat(1000))).unwrap_err();
        assert!(error.to_string().len() < 100, "{error}");
    }

    #[test]
    fn the_limit_is_that_of_the_payload_not_of_its_base64() {
        let fits = Message::binary(vec![7; LIMIT]);
        assert_eq!(read(written(std::slice::from_ref(&fits)), 16 << 10).unwrap(), [fits]);
        let over = Message::binary(vec![7; LIMIT + 1]);
        assert!(read(written(&[over]), 16 << 10).unwrap_err().is_too_large());
        assert!(read(written(&[Message::text("x".repeat(LIMIT + 1))]), 16 << 10).unwrap_err().is_too_large());
    }
}
