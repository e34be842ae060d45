//! The writer (section 9.2.5).

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use memchr::memchr2;

/// The approximate size of an event's lines without its text, in bytes.
const OVERHEAD: usize = 32;

/// Appends one event. `name` and `id` are on one line each; see [`Event`](super::Event).
pub(super) fn event(name: Option<&str>, id: Option<&str>, retry: Option<Duration>, data: &str, into: &mut BytesMut) {
    into.reserve(data.len() + name.map_or(0, str::len) + id.map_or(0, str::len) + OVERHEAD);
    if let Some(name) = name {
        line(b"event", name.as_bytes(), into);
    }
    if let Some(id) = id {
        line(b"id", id.as_bytes(), into);
    }
    if let Some(retry) = retry {
        let milliseconds = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
        line(b"retry", milliseconds.to_string().as_bytes(), into);
    }
    lines(b"data", data, into);
    into.put_u8(b'\n');
}

/// Appends a comment, which every client skips. It keeps intermediaries from closing an idle stream, or carries a note
/// for people.
///
/// There is one comment line for each line of `text`, and at least one, so no text escapes from the comment.
///
/// ```
/// use bytes::BytesMut;
/// use tower_transport::transport::sse::encode_comment;
///
/// let mut bytes = BytesMut::new();
/// encode_comment("", &mut bytes);
/// encode_comment("still\ndata: here", &mut bytes);
/// assert_eq!(&bytes[..], b":\n\n: still\n: data: here\n\n");
/// ```
pub fn encode_comment(text: &str, into: &mut BytesMut) {
    into.reserve(text.len() + OVERHEAD);
    lines(b"", text, into);
    into.put_u8(b'\n');
}

/// Appends one line of `field` for each line of `text`. LF, CR and CRLF end a line, and the text after the last of them
/// is one more line.
fn lines(field: &[u8], text: &str, into: &mut BytesMut) {
    let mut rest = text.as_bytes();
    while let Some(end) = memchr2(b'\n', b'\r', rest) {
        let (piece, tail) = rest.split_at(end);
        line(field, piece, into);
        rest = tail.strip_prefix(b"\r\n").or_else(|| tail.get(1..)).unwrap_or_default();
    }
    line(field, rest, into);
}

fn line(field: &[u8], value: &[u8], into: &mut BytesMut) {
    into.put_slice(field);
    into.put_u8(b':');
    if !value.is_empty() {
        // The reader removes one space, so this keeps one of the value's own.
        into.put_u8(b' ');
        into.put_slice(value);
    }
    into.put_u8(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, transport::sse::Event};

    fn written(event: &Event) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        event.encode(&mut bytes);
        bytes.to_vec()
    }

    #[test]
    fn an_event_without_data_still_has_a_data_line() {
        assert_eq!(written(&Event::new("")), b"data:\n\n");
    }

    #[test]
    fn every_kind_of_line_end_in_the_data_begins_another_data_line() {
        assert_eq!(written(&Event::new("a\rb\r\nc\n")), b"data: a\ndata: b\ndata: c\ndata:\n\n");
        assert_eq!(written(&Event::new("\n\r")), b"data:\ndata:\ndata:\n\n");
    }

    #[test]
    fn all_fields_stand_before_the_data() -> Result<(), Error> {
        let event = Event::new(" x").event("t")?.id("")?.retry(Duration::from_micros(1500));
        assert_eq!(written(&event), b"event: t\nid:\nretry: 1\ndata:  x\n\n");
        assert_eq!(written(&Event::new("").retry(Duration::MAX)), b"retry: 18446744073709551615\ndata:\n\n");
        Ok(())
    }

    #[test]
    fn a_comment_cannot_become_an_event() {
        let mut bytes = BytesMut::new();
        encode_comment("a\rdata: x\r\n\r\nid: 1\n", &mut bytes);
        assert_eq!(&bytes[..], b": a\n: data: x\n:\n: id: 1\n:\n\n");
    }
}
