//! Written events are read unchanged.

use std::time::Duration;

use bytes::BytesMut;
use proptest::{collection::vec, option, prelude::*};
use tower_transport::transport::sse::{Event, Parser, encode_comment};

use crate::sse::streams::{parse, parse_cut_anywhere};

const ONE_LINE: &str = "[^\r\n\0]{0,8}";
/// Line ends are likely.
const LINES: &str = "([^\r\n]{0,4}|[\r\n]|\r\n){0,8}";

fn event() -> impl Strategy<Value = Event> {
    (LINES, option::of(ONE_LINE), option::of(ONE_LINE), option::of(0..1_000_000_u64)).prop_map(
        |(data, name, id, retry)| {
            let mut event = Event::new(data);
            if let Some(name) = name {
                event = event.event(&name).unwrap();
            }
            if let Some(id) = id {
                event = event.id(&id).unwrap();
            }
            match retry {
                Some(retry) => event.retry(Duration::from_millis(retry)),
                None => event,
            }
        },
    )
}

fn with_line_feeds(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

proptest! {
    #[test]
    fn events_are_read_as_they_were_written(events in vec((event(), option::of(LINES)), 0..6)) {
        let mut bytes = BytesMut::new();
        for (event, comment) in &events {
            if let Some(comment) = comment {
                encode_comment(comment, &mut bytes);
            }
            event.encode(&mut bytes);
        }
        let parsed = parse_cut_anywhere("written", Parser::new, &bytes);
        prop_assert_eq!(parsed.error, None);
        prop_assert_eq!(parsed.events.len(), events.len());
        for (read, (written, _)) in parsed.events.iter().zip(&events) {
            prop_assert_eq!(read.data().as_str(), with_line_feeds(written.data()));
            prop_assert_eq!(read.event_type(), written.event_type());
        }
        // Written again, the sticky ids stand in every event; nothing changes for the reader.
        let mut again = BytesMut::new();
        for event in &parsed.events {
            event.encode(&mut again);
        }
        prop_assert_eq!(parse(Parser::new(), [&again[..]]).events, parsed.events);
    }

    #[test]
    fn any_bytes_come_to_the_same_wherever_they_are_cut(
        tokens in vec(prop_oneof![
            prop::sample::select(vec![&b"\n"[..], b"\r", b"data: ", b"id: ", b"event:", b"retry:9", b":", b"\0", b"\xef\xbb\xbf", b"\xe6\xbc"]).prop_map(<[u8]>::to_vec),
            vec(any::<u8>(), 0..8),
        ], 0..12),
        limit in 0_usize..32,
    ) {
        let stream = tokens.concat();
        parse_cut_anywhere("any bytes", Parser::new, &stream);
        parse_cut_anywhere("with limits", || Parser::new().max_line(limit).max_event(limit), &stream);
    }
}

#[test]
fn the_time_to_reconnect_arrives() {
    let mut bytes = BytesMut::new();
    Event::new("").retry(Duration::from_millis(1500)).encode(&mut bytes);
    assert_eq!(parse(Parser::new(), [&bytes[..]]).retry, Some(Duration::from_millis(1500)));
}
